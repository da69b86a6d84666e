"""Wraps a wide drawing: what flows to the right is cut between layers into strips, one below the other, as lines of a text.

A cut lies right behind the boxes of a layer, where every edge that crosses it runs straight. There the edge ends, and it goes
on at the left of the next strip, at the same height as before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from chainrule.graph.arrangement import Layout, Point, Size

_TAIL = 26.0  # of an edge, beyond the last boxes of a strip and before the first ones of the next
_GAP = 44.0  # between two strips


@dataclass(frozen=True)
class _Strip:
    """The stretch of a drawing from ``begin`` to ``end``, and how far it is moved."""

    begin: float
    end: float
    right: float
    down: float

    def moved(self, point: Point) -> Point:
        return point[0] + self.right, point[1] + self.down


def in_strips(layout: Layout, sizes: Sequence[Size], most: float) -> tuple[Layout, list[list[list[Point]]]]:
    """A layout that is at most about ``most`` wide, and the parts of each edge; a single box may be wider.

    ``sizes`` are those of the boxes. The layout's own routes go from the first to the last part without a break.
    """
    ends = _cuts(layout, sizes, most)
    if not ends:
        return layout, [[route] for route in layout.routes]
    strips, width, down = [], 0.0, 0.0
    for begin, end in pairwise([-math.inf, *ends, math.inf]):
        low, high = _heights(layout, sizes, begin, end)
        first = begin == -math.inf
        right = 0.0 if first else 2 * _TAIL - begin
        strips.append(_Strip(begin, end, right, down - low))
        width = max(width, (layout.width if end == math.inf else end + _TAIL) + right)
        down += high - low + _GAP
    corners = [_strip_at(strips, corner[0]).moved(corner) for corner in layout.corners]
    parts = [_parts(route, strips) for route in layout.routes]
    routes = [[point for part in several for point in part] for several in parts]
    return Layout(width, down - _GAP, corners, routes), parts


def _cuts(layout: Layout, sizes: Sequence[Size], most: float) -> list[float]:
    """Where to cut: behind as many layers as fit."""
    spans = sorted((x, x + width) for (x, _), (width, _) in zip(layout.corners, sizes, strict=True))
    possible, reach = [], -math.inf
    for begin, end in spans:
        if reach > -math.inf and begin > reach + 1:
            possible.append(reach)
        reach = max(reach, end)
    cuts: list[float] = []
    begin = 0.0
    while layout.width - begin > most - 2 * _TAIL:
        room = most - _TAIL - (2 * _TAIL if cuts else 0.0)
        fitting = [cut for cut in possible if begin < cut <= begin + room] or [cut for cut in possible if cut > begin][:1]
        if not fitting:
            break
        begin = fitting[-1]
        cuts.append(begin)
    return cuts


def _heights(layout: Layout, sizes: Sequence[Size], begin: float, end: float) -> tuple[float, float]:
    """How far a strip reaches up and down."""
    heights = [
        edge for (x, y), (_, height) in zip(layout.corners, sizes, strict=True) if begin <= x < end for edge in (y, y + height)
    ]
    for route in layout.routes:
        for (x0, y0), (x1, y1) in pairwise(route):
            if x0 < end and x1 > begin:
                heights += [y0, y1]
    return min(heights, default=0.0), max(heights, default=0.0)


def _strip_at(strips: Sequence[_Strip], x: float) -> _Strip:
    return next(strip for strip in strips if strip.begin <= x < strip.end)


def _parts(route: Sequence[Point], strips: Sequence[_Strip]) -> list[list[Point]]:
    """The parts of an edge, strip by strip."""
    parts: list[list[Point]] = []
    for strip in strips:
        inside = [point for point in route if strip.begin < point[0] <= strip.end]
        enters = route[0][0] <= strip.begin < route[-1][0]
        leaves = route[0][0] <= strip.end < route[-1][0]
        part = [strip.moved(point) for point in inside]
        if enters:
            part.insert(0, strip.moved((strip.begin - _TAIL, _height_at(route, strip.begin))))
        if leaves:
            part.append(strip.moved((strip.end + _TAIL, _height_at(route, strip.end))))
        if len(part) > 1:
            parts.append(part)
    return parts


def _height_at(route: Sequence[Point], x: float) -> float:
    """The height of an edge at a cut, where it runs straight."""
    return next(y0 for (x0, y0), (x1, _) in pairwise(route) if x0 <= x < x1)
