"""Memory for programs: aligned, and used again.

A fresh page costs the system microseconds when it is first touched, more than a pass over it. What runs node by node asks for
the same sizes again and again, so ``recycled`` gives out what an earlier array left, as soon as nobody has that array or a view
of it any more.
"""

from __future__ import annotations

import itertools
import mmap
import os
import sys
import threading

import numpy as np

from chainrule import forks
from chainrule.graph import Array, TensorType

PAGE = mmap.PAGESIZE
"""Of this system: 4 KiB on most, 16 KiB on Apple's processors, 64 KiB on some servers."""
LINE = 64
"""Bytes that caches exchange as one, on most processors. Where it is 128, neighbours share a line, which costs only time."""
SAME_PLACE = 4096
"""Addresses that agree in their last 12 bits lie in the same place for a processor that looks whether a load follows a store to
the same memory. This is so whatever the size of a page."""
_MAPPED_FROM = 1 << 20


def built_in_memory() -> int | None:
    """Bytes of memory that this machine has; None where the system does not say."""
    if sys.platform == "win32":
        return None
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return PAGE * pages if pages > 0 else None


_MOST_IDLE_BYTES = (built_in_memory() or 4 << 30) // 4


def aligned_memory(nbytes: int, present: bool = False) -> Array:
    """Bytes, all 0, whose first address is a multiple of ``SAME_PLACE``. Much of it begins at a page, and is mapped for itself,
    so that it goes back as soon as nobody has it.

    ``present``: its pages are there at once, where the system can do that. A page that is read before it is written is a
    shared page of zeros first, and to exchange that under several threads costs five times as much as to begin with its own.
    """
    if nbytes >= _MAPPED_FROM:
        return np.frombuffer(_mapped(nbytes, present), np.uint8)
    raw = np.zeros(nbytes + SAME_PLACE, np.uint8)
    begin = -raw.ctypes.data % SAME_PLACE
    return raw[begin : begin + nbytes]


def _mapped(nbytes: int, present: bool) -> mmap.mmap:
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, nbytes)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared pages cost half as much again
        return mmap.mmap(-1, nbytes, flags=flags | (getattr(mmap, "MAP_POPULATE", 0) if present else 0))
    except (OSError, OverflowError):  # as where NumPy asks for it
        raise MemoryError(f"Unable to allocate {nbytes / 1e9:,.1f} GB") from None


def whole_pages(nbytes: int) -> int:
    """So many bytes, rounded up to pages of this system: what a thread writes there, no other has in a line or a page."""
    return -(-nbytes // PAGE) * PAGE


class _Block:
    """Memory that is used again. Its address, and what NumPy wants to know of it, are asked for once."""

    __slots__ = ("_array", "address", "interface", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self._array = aligned_memory(nbytes)
        self.nbytes = nbytes
        self.interface = self._array.__array_interface__
        self.address = int(self.interface["data"][0])


class _Idle:
    """Memory that was given back, by size; what lies here longest goes first when there is too much."""

    def __init__(self) -> None:
        self._lock = forks.renewed(threading.RLock())  # a block may be freed, and given back, at any moment, also in here
        self._blocks: dict[int, list[_Block]] = {}
        self.nbytes = 0

    def take(self, nbytes: int) -> _Block | None:
        with self._lock:
            blocks = self._blocks.get(nbytes)
            if not blocks:
                return None
            self.nbytes -= nbytes
            self._blocks[nbytes] = self._blocks.pop(nbytes)  # sizes in the order of their last use
            return blocks.pop()

    def give(self, block: _Block) -> None:
        with self._lock:
            self._blocks.setdefault(block.nbytes, []).append(block)
            self.nbytes += block.nbytes
            if self.nbytes <= _MOST_IDLE_BYTES:
                return
            for size in list(self._blocks):
                if self.nbytes <= _MOST_IDLE_BYTES:
                    break
                blocks = self._blocks[size]
                while blocks and self.nbytes > _MOST_IDLE_BYTES:
                    blocks.pop()
                    self.nbytes -= size
                if not blocks:
                    del self._blocks[size]

    def clear(self) -> None:
        with self._lock:
            self._blocks.clear()
            self.nbytes = 0


_idle = _Idle()


def return_idle() -> None:
    """Give memory that ``recycled`` keeps for later back to the system."""
    _idle.clear()


class _Lease:
    """Owns a block for as long as an array looks at it."""

    __slots__ = ("__array_interface__", "_block")

    def __init__(self, block: _Block) -> None:
        self._block = block
        self.__array_interface__ = block.interface

    def __del__(self) -> None:
        _idle.give(self._block)


def recycled(nbytes: int) -> tuple[Array, int]:
    """At least so many bytes with anything in them, and their address, a multiple of ``SAME_PLACE``; the memory is used again
    when the array and all its views are gone."""
    rounded = whole_pages(nbytes) if nbytes >= _MAPPED_FROM else -(-nbytes // SAME_PLACE) * SAME_PLACE
    block = _idle.take(rounded) or _Block(rounded)
    return np.asarray(_Lease(block)), block.address


# ---- arrays that one loop works on


def apart(number: int) -> int:
    """In which byte after a multiple of ``SAME_PLACE``, at a cache line, the array of a number begins. Neighbours begin at
    different places: where loads and stores of one loop agreed in their last 12 bits, the processor would take them for the
    same."""
    return number * 5 * LINE % SAME_PLACE


def apart_zeros(type_: TensorType, present: bool) -> Array:
    """An array of zeros, apart from the ones before. ``present``: see ``aligned_memory``."""
    raw, begin = aligned_memory(type_.nbytes + SAME_PLACE, present), apart(next(_places))
    found: Array = raw[begin : begin + type_.nbytes].view(type_.dtype).reshape(type_.shape)
    return found


_places = itertools.count()
