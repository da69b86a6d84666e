"""Python's collector of cyclic garbage, which is held back while programs are made.

Tracing and compiling a large network makes hundreds of thousands of objects that live on or are freed by their reference
counts. The collector would go through all of them again and again, for a quarter of the time, and find nothing.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from chainrule import forks

_HELD_BACK = (2_000_000, 10, 10)
"""The thresholds meanwhile: a collection after so many new objects, so that garbage of the caller's code stays bounded."""
_lock = forks.renewed(threading.RLock())  # reentrant, as a signal handler may compile something
_inside = 0  # contexts that were entered and not left, of all threads
_before = gc.get_threshold()


@contextmanager
def rare_collections() -> Iterator[None]:
    """A context in which the collector runs far less often than usual.

    It sets the collector's thresholds, which hold for all threads, and sets them back when the last thread leaves the context,
    by an error too. A collector that is off stays off. If others set the thresholds meanwhile, theirs stay.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _before
    with _lock:
        _inside += 1
        now = gc.get_threshold()
        if _inside == 1 and 0 < now[0] < _HELD_BACK[0]:
            _before = now
            gc.set_threshold(*_HELD_BACK)


def _leave() -> None:
    global _inside
    with _lock:
        _inside = max(_inside - 1, 0)  # 0 already in a child of ``os.fork`` that was made in the context
        if _inside == 0:
            _set_back()


def _set_back() -> None:
    if gc.get_threshold() == _HELD_BACK:
        gc.set_threshold(*_before)


def _forget_threads() -> None:
    global _inside
    _inside = 0
    _set_back()


forks.in_child(_forget_threads)
