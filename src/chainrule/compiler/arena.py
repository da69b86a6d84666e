"""Pass: gives each buffer a fixed offset in one block of memory, the arena. Buffers may overlap in memory if no stage of the
program needs both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from chainrule.compiler.tasks import Buffer

ALIGNMENT = 64
"""Bytes; the size of a cache line, of which all offsets are multiples."""
_BETWEEN = 64
"""Bytes left free after each buffer, so that threads that write to neighbouring buffers do not share a cache line."""


@dataclass(frozen=True)
class Span:
    """The stages of a program during which a buffer is needed: from ``first`` to ``last``, both included."""

    first: int
    last: int

    def meets(self, other: Span) -> bool:
        """Whether there is a stage that belongs to both spans."""
        return self.first <= other.last and other.first <= self.last


@dataclass
class Arena:
    """The offset of each buffer in the arena, and the size of the arena, in bytes."""

    offsets: dict[Buffer, int]
    nbytes: int


def plan_memory(spans: Mapping[Buffer, Span]) -> Arena:
    """An arena for buffers that are needed during the given spans.

    Buffers are placed greedily, the largest first, each at the lowest offset that is free during its whole span.
    """
    placed = _Placed(len(spans))
    offsets: dict[Buffer, int] = {}
    total = 0
    for buffer in sorted(spans, key=lambda buffer: (-buffer.nbytes, spans[buffer].first)):
        size = -(-(buffer.nbytes + _BETWEEN) // ALIGNMENT) * ALIGNMENT
        begin = offsets[buffer] = placed.place(spans[buffer], size)
        total = max(total, begin + size)
    return Arena(offsets, total)


class _Placed:
    """Memory that is taken during some stages: a column for each piece, in the order of the bytes at which they begin.

    The rows of ``table`` are the first byte of a piece, that after its end, its first stage and its last one.
    """

    def __init__(self, most: int) -> None:
        self.table = np.zeros((4, most), np.int64)
        self.count = 0

    def place(self, span: Span, size: int) -> int:
        """Take ``size`` bytes during ``span`` at the lowest offset at which they are free, and return that."""
        table, count = self.table, self.count
        starts, ends, first, last = table[:, :count]
        meets = (first <= span.last) & (span.first <= last)
        free_from = np.zeros(np.count_nonzero(meets) + 1, np.int64)  # the first byte behind all pieces up to one that meets
        np.maximum.accumulate(ends[meets], out=free_from[1:])
        fits = starts[meets] >= free_from[:-1] + size
        begin = int(free_from[fits.argmax() if fits.any() else -1])
        number = int(np.searchsorted(starts, begin))
        table[:, number + 1 : count + 1] = table[:, number:count]
        table[:, number] = begin, begin + size, span.first, span.last
        self.count += 1
        return begin
