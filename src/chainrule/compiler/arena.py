"""Pass: one arena with fixed places; memory is used again as soon as nobody needs what lies there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chainrule.compiler.tasks import Buffer

ALIGNMENT = 64
_BETWEEN = 64
"""Bytes between neighbours, so that two threads that write to neighbours do not share a cache line."""


@dataclass(frozen=True)
class Span:
    """A buffer is needed from stage ``first`` to stage ``last``, both included."""

    first: int
    last: int

    def meets(self, other: Span) -> bool:
        """Whether both are needed in some stage."""
        return self.first <= other.last and other.first <= self.last


@dataclass
class Arena:
    """Offset of each buffer in bytes, and the size of the whole."""

    offsets: dict[Buffer, int]
    nbytes: int


def plan_memory(spans: Mapping[Buffer, Span]) -> Arena:
    """Largest buffers first, each at the lowest place that is free for all of its span."""
    placed: list[tuple[int, int, Span]] = []  # begin, end, when
    offsets: dict[Buffer, int] = {}
    total = 0
    for buffer in sorted(spans, key=lambda one: (-one.nbytes, spans[one].first)):
        span, size = spans[buffer], -(-(buffer.nbytes + _BETWEEN) // ALIGNMENT) * ALIGNMENT
        begin = _lowest(placed, span, size)
        placed.append((begin, begin + size, span))
        offsets[buffer] = begin
        total = max(total, begin + size)
    return Arena(offsets, total)


def _lowest(placed: Sequence[tuple[int, int, Span]], span: Span, size: int) -> int:
    begin = 0
    for start, end, _ in sorted((one for one in placed if one[2].meets(span)), key=lambda one: one[0]):
        if start >= begin + size:
            break
        begin = max(begin, end)
    return begin
