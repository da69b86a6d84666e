"""Copies of the process (``os.fork``), as the data loaders of other libraries and ``multiprocessing`` make them.

The copy has only the thread that asked for it. A lock that another thread held at that moment would be held for ever there, so
each lock of this package that lives longer than a call is renewed in the copy, and what belongs to the original is forgotten.
All of it is told here: ``renewed`` for a lock, ``in_child`` for anything else, ``around`` for what must not be under way.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

_Lock = TypeVar("_Lock", bound=Any)  # of a type that only C knows
_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_registering = threading.Lock()


def renewed(lock: _Lock) -> _Lock:
    """``lock``, a ``threading.Lock`` or ``RLock``, which is free in every copy of the process, whoever held it here."""
    with _registering:
        _locks.add(lock)
    return lock


def in_child(action: Callable[[], object]) -> None:
    """Do ``action`` in every copy of the process, before anything else there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=action)


def around(before: Callable[[], object], in_child: Callable[[], object], in_parent: Callable[[], object]) -> None:
    """Do ``before`` ahead of each fork, and then ``in_child`` in the copy and ``in_parent`` in the original."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_child=in_child, after_in_parent=in_parent)


def _renew_locks() -> None:
    _registering._at_fork_reinit()  # type: ignore[attr-defined]  # as the standard library renews its own locks
    for lock in list(_locks):
        lock._at_fork_reinit()


in_child(_renew_locks)
