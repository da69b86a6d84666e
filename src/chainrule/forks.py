"""Copies of the process (``os.fork``), as the data loaders of other libraries and ``multiprocessing`` make them.

The copy has only the thread that called ``fork``. A lock that another thread held at that moment would be held for ever there,
so each lock of this package that outlives a call is renewed in the copy, and state that belongs to the original process is
dropped. Such locks and state are registered here: ``renewed`` for a lock, ``in_child`` for anything else, ``around`` for work
that must not be in progress during a fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_Lock = TypeVar("_Lock", bound=Any)  # the type of a lock has no name in Python
_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_registering = threading.Lock()


def renewed(lock: _Lock) -> _Lock:
    """Register ``lock``, a ``threading.Lock`` or ``RLock``, and return it: it will be free in every copy of the process."""
    with _registering:
        _locks.add(lock)
    return lock


def in_child(action: Callable[[], object]) -> None:
    """Call ``action`` in every copy of the process, right after the fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=action)


def around(before: Callable[[], object], in_child: Callable[[], object], in_parent: Callable[[], object]) -> None:
    """Call ``before`` ahead of each fork, and after it ``in_child`` in the copy and ``in_parent`` in the original."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_child=in_child, after_in_parent=in_parent)


def _renew_locks() -> None:
    _registering._at_fork_reinit()  # type: ignore[attr-defined]  # as the standard library renews its own locks
    for lock in list(_locks):
        lock._at_fork_reinit()


in_child(_renew_locks)
