"""Charts with two axes: curves with their names at their ends, told apart by colours and by dashes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.train.pictures.drawing import FAINT, INK, LINE, Box, Drawing, Line, Words, fitting

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#000000")
"""Colours that are told apart without red or green, too. M. Okabe and K. Ito, "Color universal design" (2008); their yellow,
which is faint on white, is darker here."""

DASHES: tuple[tuple[float, ...], ...] = ((), (8, 4), (2, 3), (8, 3, 2, 3), (14, 4), (4, 2), (8, 3, 2, 3, 2, 3))
"""A dash for each colour: whoever sees no colours tells curves by them."""

_LETTERS = 11.0
_MOST_POINTS = 1_000  # of a curve: more are not seen


@dataclass(frozen=True)
class Curve:
    """A curve through ``points`` (x, y), in which those that are not finite leave a gap; ``name`` stands at its end.

    ``dots`` marks each point.
    """

    points: Sequence[tuple[float, float]]
    name: str = ""
    colour: str = COLOURS[0]
    dash: tuple[float, ...] = ()
    width: float = 1.8
    dots: bool = False


@dataclass(frozen=True)
class Axes:
    """The inside of a chart on a drawing, and what its edges stand for; with ``log``, x grows by factors."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies on the drawing; what is above or below the chart, on its edge."""
        (low, high), (bottom, top) = self.x, self.y
        share = math.log(x / low) / math.log(high / low) if self.log else (x - low) / (high - low)
        level = min(1.0, max(0.0, (y - bottom) / (top - bottom)))
        return self.left + share * self.width, self.top + (1 - level) * self.height


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from ``low`` or below it to ``high`` or above it, at most ``most`` of them, at least two."""
    span = high - low if high - low > 1e-9 * max(abs(high), 1.0) else max(abs(high), 1.0)
    size = 10.0 ** math.floor(math.log10(span))
    for factor in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0):
        step = size * factor
        first, last = math.floor(round(low / step, 9)), math.ceil(round(high / step, 9))
        if last - first < most:
            return [step * i for i in range(first, max(last, first + 1) + 1)]
    return [low, high]


def draw_axes(drawing: Drawing, axes: Axes, title: str, under: str, y_ticks: Sequence[float]) -> None:
    """Lines, numbers and titles of a chart."""
    drawing.shapes.append(Words(axes.left, axes.top - 18, title, 13, bold=True))
    for value in y_ticks:
        x, y = axes.left, axes.at(axes.x[0], value)[1]
        drawing.shapes.append(Line(((x, y), (x + axes.width, y)), "#dddddd", 1))
        drawing.shapes.append(Words(x - 6, y, f"{value:.4g}", _LETTERS, "end", FAINT))
    bottom = axes.top + axes.height
    for value in _powers(axes.x) if axes.log else _round(axes.x):
        x = axes.at(value, axes.y[0])[0]
        drawing.shapes.append(Line(((x, bottom), (x, bottom + 4)), LINE, 1))
        drawing.shapes.append(Words(x, bottom + 14, f"{value:.4g}", _LETTERS, "middle", FAINT))
    drawing.shapes.append(Words(axes.left + axes.width / 2, bottom + 32, under, _LETTERS, "middle", FAINT))


def _powers(limits: tuple[float, float]) -> list[float]:
    low, high = (round(math.log10(one), 9) for one in limits)
    found = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]
    every = max(1, -(-len(found) // 8))
    return found[::every] or list(limits)


def _round(limits: tuple[float, float]) -> list[float]:
    return [value for value in ticks(*limits) if limits[0] <= value <= limits[1]]


def draw_curves(drawing: Drawing, axes: Axes, curves: Sequence[Curve], room: float) -> None:
    """Curves, and their names in ``room`` pixels to the right of the chart, each near the end of its curve."""
    ends: list[tuple[float, Curve]] = []
    for curve in curves:
        points = list(curve.points)
        if len(points) > _MOST_POINTS:
            points = [points[round(i * (len(points) - 1) / (_MOST_POINTS - 1))] for i in range(_MOST_POINTS)]
        places: list[tuple[float, float]] = []
        last = None
        for x, y in [*points, (math.nan, math.nan)]:
            if math.isfinite(x) and math.isfinite(y):
                places.append(axes.at(x, y))
                last = places[-1]
                continue
            if len(places) > 1:
                drawing.shapes.append(Line(tuple(places), curve.colour, curve.width, curve.dash))
            places = []
        if curve.dots:
            for x, y in (axes.at(*point) for point in points if all(map(math.isfinite, point))):
                drawing.shapes.append(Box(x - 2.5, y - 2.5, 5, 5, curve.colour))
        if last is not None and curve.name:
            ends.append((last[1], curve))
    _draw_names(drawing, axes, ends, room)


def _draw_names(drawing: Drawing, axes: Axes, ends: list[tuple[float, Curve]], room: float) -> None:
    """Names beside the ends of curves, moved apart where they would lie on each other; each behind a piece of its line."""
    apart = _LETTERS + 4
    ends.sort(key=lambda end: end[0])
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + apart) if places else y)
    below = places[-1] - (axes.top + axes.height) if places else 0
    if below > 0:
        places[-1] -= below
        for i in range(len(places) - 2, -1, -1):
            places[i] = min(places[i], places[i + 1] - apart)
    x = axes.left + axes.width + 8
    for y, (_, curve) in zip(places, ends, strict=True):
        drawing.shapes.append(Line(((x, y), (x + 22, y)), curve.colour, curve.width, curve.dash))
        drawing.shapes.append(Words(x + 27, y, fitting(curve.name, _LETTERS, room - 35), _LETTERS, fill=INK))
