"""Memory for programs: aligned, and used again.

The system takes microseconds to provide a fresh page when it is first touched, longer than a pass over the page takes. Code
that runs node by node asks for the same sizes again and again, so ``recycled`` hands out the memory of an earlier array as soon
as that array and all its views are gone.
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
"""Bytes of a page of this system: 4 KiB on most, 16 KiB on Apple's processors, 64 KiB on some servers."""
LINE = 64
"""Bytes of a cache line on most processors. Where a line has 128, two neighbours share it, which only costs time."""
SAME_PLACE = 4096
"""The distance in bytes at which addresses agree in their last 12 bits. A processor compares just these bits to see whether a
load depends on an earlier store, and delays the load where they agree. This holds for any size of pages."""
_MAPPED_FROM = 1 << 20
"""Bytes from which on memory is mapped from the system, to be given back as soon as it is free."""


def built_in_memory() -> int | None:
    """Return the bytes of memory that this machine has; None where the system does not say."""
    if sys.platform == "win32":
        return None
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return PAGE * pages if pages > 0 else None


_MOST_IDLE_BYTES = (built_in_memory() or 4 << 30) // 4


def aligned_memory(nbytes: int, present: bool = False) -> Array:
    """Return ``nbytes`` zero bytes, whose first address is a multiple of ``SAME_PLACE``.

    From 1 MiB on, the memory is mapped on its own and begins at a page, so that the system has it back as soon as the array is
    gone.

    Args:
        nbytes: the size in bytes.
        present: whether to have all pages provided at once, where the system can do that. Else a page that is read before it
            is written is first a shared page of zeros, and to replace that while several threads run takes five times as long.

    Raises:
        MemoryError: the system does not have that much memory.
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
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared pages take half as long again
        return mmap.mmap(-1, nbytes, flags=flags | (getattr(mmap, "MAP_POPULATE", 0) if present else 0))
    except (OSError, OverflowError):  # the error that NumPy raises for smaller arrays
        raise MemoryError(f"Unable to allocate {nbytes / 1e9:,.1f} GB") from None


def whole_pages(nbytes: int) -> int:
    """Round ``nbytes`` up to whole pages of this system, so that no two threads write to the same page or cache line."""
    return -(-nbytes // PAGE) * PAGE


class _Block:
    """Memory that is used again. Its address, and the description of it that NumPy needs, are computed just once."""

    __slots__ = ("_array", "address", "interface", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self._array = aligned_memory(nbytes)
        self.nbytes = nbytes
        self.interface = self._array.__array_interface__
        self.address = int(self.interface["data"][0])


class _Idle:
    """Blocks that were given back, by size.

    When they exceed ``_MOST_IDLE_BYTES``, blocks of the size that was used longest ago are freed first.
    """

    def __init__(self) -> None:
        self._lock = forks.renewed(
            threading.RLock()
        )  # an array may be freed, and give its block back, at any moment, also within these methods
        self._blocks: dict[int, list[_Block]] = {}
        self.nbytes = 0

    def take(self, nbytes: int) -> _Block | None:
        with self._lock:
            blocks = self._blocks.get(nbytes)
            if not blocks:
                return None
            self.nbytes -= nbytes
            self._blocks[nbytes] = self._blocks.pop(nbytes)  # keeps the sizes in the order of their last use
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
    """Give the memory that ``recycled`` keeps for later use back to the system."""
    _idle.clear()


class _Lease:
    """The base object of an array: owns the array's block, and gives it back when the array and its views are gone."""

    __slots__ = ("__array_interface__", "_block")

    def __init__(self, block: _Block) -> None:
        self._block = block
        self.__array_interface__ = block.interface

    def __del__(self) -> None:
        _idle.give(self._block)


def recycled(nbytes: int) -> tuple[Array, int]:
    """Return an array of at least ``nbytes`` bytes with undefined contents, and its address, a multiple of ``SAME_PLACE``.

    The memory is used again once the array and all its views are gone.
    """
    rounded = whole_pages(nbytes) if nbytes >= _MAPPED_FROM else -(-nbytes // SAME_PLACE) * SAME_PLACE
    block = _idle.take(rounded) or _Block(rounded)
    return np.asarray(_Lease(block)), block.address


# ---- arrays that the same loop works on


def apart(number: int) -> int:
    """Return at which byte after a multiple of ``SAME_PLACE`` array ``number`` of several should begin, a multiple of ``LINE``.

    Arrays with consecutive numbers begin at different places. If the loads and stores of a loop agreed in the last 12 bits of
    their addresses, the processor would take them for the same memory and wait.
    """
    return number * 5 * LINE % SAME_PLACE


def apart_zeros(type_: TensorType, present: bool) -> Array:
    """Return an array of zeros of type ``type_`` that begins at another place (see ``apart``) than those made before.

    ``present``: see ``aligned_memory``.
    """
    raw, begin = aligned_memory(type_.nbytes + SAME_PLACE, present), apart(next(_places))
    zeros: Array = raw[begin : begin + type_.nbytes].view(type_.dtype).reshape(type_.shape)
    return zeros


_places = itertools.count()
