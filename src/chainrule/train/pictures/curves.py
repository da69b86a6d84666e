"""Loss and accuracy of a run as one SVG picture: two charts side by side, training as a line, test as dots.

The line is a moving average: every step counts by its images, so that a last batch of 8 among batches of 64 is no spike.
What was measured, step by step, lies faint behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _TOP = 380, 262, 56, 66
_PLOT = (300, 150)  # width and height of a chart's inside
_STYLE = """
.bg{fill:#fff}.ink{fill:#222}.faint{fill:#666}.grid{stroke:#ddd}.train{fill:none;stroke:#0072b2;stroke-width:1.6}
.raw{fill:none;stroke:#0072b2;stroke-width:1;opacity:.25}
.test{fill:none;stroke:#d55e00;stroke-width:1.6}.dot{fill:#d55e00}text{font:12px system-ui,sans-serif}
@media (prefers-color-scheme:dark){.bg{fill:#16181d}.ink{fill:#eee}.faint{fill:#aaa}.grid{stroke:#3a3d45}.train{stroke:#56b4e9}
.raw{stroke:#56b4e9}.test{stroke:#e69f00}.dot{fill:#e69f00}}
"""
_WINDOW_SHARE, _WINDOW_IMAGES, _WINDOW_MOST = 20, 512, 6
"""An average spans a 20th of the run, but at least 512 images or a 6th of the run, whichever is less."""


class Point(NamedTuple):
    """A value after a step, and how many images it is the mean of."""

    step: float
    value: float
    images: int = 1


def curves(rows: Sequence[dict[str, Any]]) -> str:
    """The picture of the rows of a metrics file."""
    train = [row for row in rows if row.get("kind") == "train"]
    test = [row for row in rows if row.get("kind") == "test"]
    last = max((row["step"] for row in [*train, *test]), default=1)
    charts = []
    for place, (title, key, factor) in enumerate((("loss", "loss", 1), ("accuracy (%)", "accuracy", 100))):
        points = [[Point(row["step"], factor * row[key], row.get("images", 1)) for row in some] for some in (train, test)]
        charts.append(_chart(place, title, points[0], points[1], last))
    width = 2 * _WIDTH
    words = f"Loss and accuracy over {last} steps"
    if test:
        words += f"; test accuracy {100 * test[-1]['accuracy']:.2f}% after epoch {test[-1]['epoch']}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" '
        f'width="{width}" height="{_HEIGHT}" role="img">'
        f"<title>{escape(words)}</title><style>{_STYLE}</style>"
        f'<rect class="bg" width="{width}" height="{_HEIGHT}"/>{"".join(charts)}</svg>\n'
    )


def smoothed(points: Sequence[Point]) -> list[Point]:
    """The mean over the images around each point, equally far to both sides, so that the curve does not lag."""
    total = sum(point.images for point in points)
    window = max(total / _WINDOW_SHARE, min(_WINDOW_IMAGES, total / _WINDOW_MOST))
    images, sums = [0.0], [0.0]
    for point in points:
        images.append(images[-1] + point.images)
        sums.append(sums[-1] + point.images * point.value)
    found = []
    for i, point in enumerate(points):
        low, high = i, i + 1
        while images[high] - images[low] < window and (low > 0 or high < len(points)):
            low, high = max(0, low - 1), min(len(points), high + 1)
        found.append(Point(point.step, (sums[high] - sums[low]) / (images[high] - images[low]), point.images))
    return found


def _ticks(largest: float) -> list[float]:
    """Round numbers from 0 to just over ``largest``, at most six."""
    size = 10.0 ** math.floor(math.log10(largest)) if largest > 0 else 1.0
    step = next(size * factor for factor in (0.2, 0.5, 1.0, 2.0) if largest <= 5 * size * factor)
    return [step * i for i in range(max(1, math.ceil(round(largest / step, 9))) + 1)]


def _chart(place: int, title: str, raw: list[Point], test: list[Point], last: int) -> str:
    train = smoothed(raw)
    ticks = _ticks(max((point.value for point in [*raw, *test]), default=1.0))
    low, high = ticks[0], ticks[-1]
    left, top = place * _WIDTH + _LEFT, _TOP

    def at(point: Point) -> tuple[float, float]:
        return left + point.step / last * _PLOT[0], top + (high - point.value) / (high - low) * _PLOT[1]

    parts = [f'<text class="ink" x="{left}" y="{top - 42}" font-weight="bold">{escape(title)}</text>']
    for value in ticks:
        y = at(Point(0, value))[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{left + _PLOT[0]}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="faint" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for share in (0, 0.5, 1):
        x = left + share * _PLOT[0]
        parts.append(
            f'<text class="faint" x="{x:.1f}" y="{top + _PLOT[1] + 18}" text-anchor="middle">{round(share * last)}</text>'
        )
    parts.append(
        f'<text class="faint" x="{left + _PLOT[0] / 2:.1f}" y="{top + _PLOT[1] + 34}" text-anchor="middle">step</text>'
    )
    for name, points in (("raw", raw), ("train", train), ("test", test)):
        if len(points) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, points))
            parts.append(f'<polyline class="{name}" points="{path}"/>')
    for point in test:
        x, y = at(point)
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>test {point.value:.4g}</title></circle>')
    for name, x, words in (("train", left, "training, averaged"), ("raw", left + 140, "measured")):
        parts.append(f'<line class="{name}" x1="{x}" x2="{x + 18}" y1="{top - 18}" y2="{top - 18}"/>')
        parts.append(f'<text class="ink" x="{x + 22}" y="{top - 14}">{words}</text>')
    parts.append(f'<circle class="dot" cx="{left + 238}" cy="{top - 18}" r="3.5"/>')
    parts.append(f'<text class="ink" x="{left + 246}" y="{top - 14}">test</text>')
    return "".join(parts)
