"""A bounded cache, which keeps the values used most recently, such as programs and loaded code."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from chainrule import forks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A cache of at most ``most`` values by key; the least recently used are dropped first.

    Threads may share a cache: only one thread makes a value, while the others wait. ``forgotten(key, value)`` is called for
    each value that is dropped, but not by ``clear``.
    """

    def __init__(self, most: int, forgotten: Callable[[K, V], object] | None = None) -> None:
        self._most, self._forgotten = most, forgotten
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = forks.renewed(threading.RLock())

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Recent: {len(self)} of at most {self._most} values>"

    def get(self, key: K) -> V | None:
        """The value of ``key``, which becomes the most recently used; None if there is none."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def get_or_make(self, key: K, make: Callable[[], V]) -> V:
        """The value of ``key``; if there is none, ``make()`` makes it, and it is kept."""
        with self._lock:
            value = self.get(key)
            if value is None:
                value = make()
                self.keep(key, value)
            return value

    def keep(self, key: K, value: V) -> None:
        """Keep ``value`` under ``key``, as the most recently used."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                gone = self._values.popitem(last=False)
                if self._forgotten is not None:
                    self._forgotten(*gone)

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            self._values.clear()
