"""Pass: gives each buffer a fixed offset in one block of memory, the arena. Buffers may overlap in memory if no stage of the
program needs both."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    placed: list[tuple[int, int, int, int]] = []  # begin and end in bytes, first and last stage, in this order
    offsets: dict[Buffer, int] = {}
    total = 0
    for buffer in sorted(spans, key=lambda buffer: (-buffer.nbytes, spans[buffer].first)):
        span, size = spans[buffer], -(-(buffer.nbytes + _BETWEEN) // ALIGNMENT) * ALIGNMENT
        begin = _lowest(placed, span, size)
        bisect.insort(placed, (begin, begin + size, span.first, span.last))
        offsets[buffer] = begin
        total = max(total, begin + size)
    return Arena(offsets, total)


def _lowest(placed: Sequence[tuple[int, int, int, int]], span: Span, size: int) -> int:
    """The lowest offset at which ``size`` bytes are free during ``span``, next to what is ``placed`` (see ``plan_memory``)."""
    begin = 0
    for start, end, first, last in placed:
        if start >= begin + size:
            break
        if first <= span.last and span.first <= last and end > begin:
            begin = end
    return begin
