"""The folder that a look at a training's health leaves, with its picture: maps of gradients and updates, and dead units.

    health.json   what was found, and the tables
    health.svg    the picture, and health.png

All parts of the picture have the steps from left to right in the same columns, and layers in rows, the input on top:

    loss            a line
    gradient        layers x steps      logarithmic colour
    update/weight   weights x steps     logarithmic colour, white at the usual 0.001
    dead units      ReLUs x steps       share of the units
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.display import displayed
from chainrule.formats import write_atomically
from chainrule.graph.wrapping import wrapped
from chainrule.train.diagnosis.dead_units import silences
from chainrule.train.diagnosis.flow_findings import layer_labels, number_text, update_ratios
from chainrule.train.diagnosis.health import Health
from chainrule.train.pictures.drawing import FAINT, INK, LINE, PAPER, Box, Drawing, Line, Words, fitting
from chainrule.train.result_folder import ResultFolder

Array = np.ndarray[Any, Any]

HEALTH_FOLDER = ResultFolder("health report", "a", "health.json")

_WIDTH, _LEFT, _PLOT, _RIGHT = 960.0, 196, 640, 108  # the sheet; left of the maps, their width, and right of them
_MOST_COLUMNS, _MOST_ROWS = 160, 64
_LOSS_HEIGHT, _MAP_HEIGHT = 72, 440
_LETTERS = 11.0
_LEVELS = 48  # of a colour scale

_LEAST_DECADES, _MOST_DECADES = 3, 10  # of a scale; with more, what differs tenfold has the same colour
_WIDE_LOSS = 1e3  # factor between losses from which on their axis is logarithmic

_NONE = "#d5d5d5"
"""The colour of what there is no number of."""


@dataclass(frozen=True)
class _Scale:
    """Colours of shares from ``low`` to ``high``, or, where there is a colour for ``zero``, of powers of ten with such
    exponents; ``marks`` are those whose numbers stand below the scale. ``beyond`` says whether what is shown goes on below and
    above it."""

    low: float
    high: float
    colours: Sequence[str]
    marks: Sequence[float]
    zero: str = ""
    beyond: tuple[bool, bool] = (False, False)

    def mark(self, place: float) -> str:
        """What stands below a mark."""
        number = number_text(10.0**place) if self.zero else f"{100 * place:.0f}%"
        less, more = self.beyond
        return f"{number}{' or less' * (less and place == self.low)}{' or more' * (more and place == self.high)}"

    def of(self, value: float) -> str:
        """The colour of a number."""
        if math.isnan(value):
            return _NONE
        if not self.zero:
            return self.at(value)
        return self.at(math.log10(value)) if value > 0 else self.zero

    def at(self, place: float) -> str:
        """The colour of a share or an exponent; outside of the scale, that of its end."""
        level = min(1.0, max(0.0, (place - self.low) / (self.high - self.low)))
        place = round(level * (_LEVELS - 1)) / (_LEVELS - 1) * (len(self.colours) - 1)
        first = min(int(place), len(self.colours) - 2)
        pair = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in self.colours[first : first + 2]]
        mixed = [round(one + (place - first) * (other - one)) for one, other in zip(*pair, strict=True)]
        return "#" + "".join(f"{part:02x}" for part in mixed)


VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
"""S. van der Walt and N. Smith's scale "viridis" (2015): its lightness grows evenly, so it is read without colours, too."""

AROUND_USUAL = ("#542788", "#998ec3", "#d8daeb", "#f7f7f7", "#fee0b6", "#f1a340", "#b35806")
"""C. Brewer's diverging scale "PuOr", which people who see no red or no green tell apart."""

SHARES = ("#f3f3f3", "#fdd0a2", "#f16913", "#7f2704")
"""Brighter to darker, after C. Brewer's "Oranges"."""

_UPDATES = _Scale(-6, 0, AROUND_USUAL, (-6, -3, 0), zero=INK)
_DEAD = _Scale(0, 1, SHARES, (0, 0.5, 1))


@dataclass(frozen=True)
class _Columns:
    """Which samples each column of the maps stands for: those from ``begins[i]`` up to ``begins[i + 1]``."""

    steps: Array
    begins: Sequence[int]

    @property
    def width(self) -> int:
        """The pixels of a column."""
        return max(1, _PLOT // (len(self.begins) - 1))

    @property
    def pixels(self) -> int:
        """Those of all of them."""
        return self.width * (len(self.begins) - 1)

    @property
    def last_steps(self) -> list[int]:
        """The last step of each column."""
        return [int(self.steps[end - 1]) for end in self.begins[1:]]

    def largest(self, values: Array) -> Array:
        """The largest number of each column (C,R), of values (S,R); NaN where there is none."""
        pairs = zip(self.begins, self.begins[1:], strict=False)
        return np.array([np.fmax.reduce(values[begin:end], 0) for begin, end in pairs])


def _columns(steps: Array, every: int) -> _Columns:
    """A column for each sample; of many samples the first few, which lie close together, have one each, the others share."""
    count = len(steps)
    alone = count if count <= _MOST_COLUMNS else int((steps < every).sum())
    each = max(1, -(-(count - alone) // (_MOST_COLUMNS - alone))) if count > alone else 1
    return _Columns(steps, [*range(alone), *range(alone, count, each), count])


def health_picture(health: Health) -> Drawing:
    """The picture of a recording that has a sample."""
    record, flow = health.record, health.record.flow
    columns = _columns(flow.steps, record.plan.every)
    title = f"Health of {displayed(health.run)}"
    drawing = Drawing(_WIDTH, 0, title)
    drawing.shapes.append(Words(16, 24, fitting(title, 16, _WIDTH - 32), 16, bold=True))
    drawing.shapes.append(Words(16, 46, fitting(_subtitle(health, columns), 12, _WIDTH - 32), 12, fill=FAINT))
    top = 64.0
    for words in _outstanding(health):
        drawing.shapes.append(Words(16, top, words, 12, fill=INK))
        top += 16
    top = _draw_loss(drawing, top + 12, flow.losses, columns)
    with np.errstate(all="ignore"):
        gradients = columns.largest(flow.gradient)
        ratios = columns.largest(np.where(np.isfinite(update_ratios(record)), update_ratios(record), np.nan))
    labels = layer_labels(record)
    kept = _kept(range(len(labels)), _with_weights(health))
    what = f"gradient: its L2 norm at the outputs of each layer, the input on top{_of(kept, labels, 'layers')}"
    top = _draw_map(drawing, top, what, [labels[i] for i in kept], gradients[:, kept], columns, _scale_of(gradients[:, kept]))
    named = [row.name.rpartition(".") for row in record.plan.parameters]
    weights = [i for i, (_, _, name) in enumerate(named) if name != "bias"]
    kept = _kept(weights, [i for i in weights if named[i][0] not in _normalisations(health)])
    if kept:
        labels = [displayed(record.plan.parameters[i].name) for i in kept]
        what = f"update/weight: norm of an update divided by that of the weights{_of(kept, weights, 'parameters')}"
        top = _draw_map(drawing, top, what, labels, ratios[:, kept], columns, _UPDATES)
    if health.units:
        top = _draw_units(drawing, top, health, columns)
    drawing.height = top
    return drawing


def write_health(folder: Path, health: Health) -> None:
    """Write the files of a look at a training's health into ``folder``, which is made if need be.

    Raises:
        UserError: the folder contains something else, or cannot be written.
    """
    HEALTH_FOLDER.begin(folder, health.facts())
    picture = health_picture(health)
    write_atomically(folder / "health.svg", picture.svg())
    write_atomically(folder / "health.png", picture.png())


# ---- what is shown


def _subtitle(health: Health, columns: _Columns) -> str:
    most = max(end - begin for begin, end in zip(columns.begins, columns.begins[1:], strict=False))
    shared = f"; a column shows the largest of up to {most}" if most > 1 else ""
    return f"{health.about()}; columns are samples{shared}"


def _outstanding(health: Health) -> list[str]:
    """The names and places of the findings, in at most two lines."""
    names = ", ".join(f"{one.name} at {one.place}" for one in health.findings)
    lines = wrapped(f"stands out: {names}" if names else "nothing stands out", 140, hanging="")
    return [*lines[:1], fitting(" ".join(lines[1:]), 12, _WIDTH - 32)] if len(lines) > 1 else lines


def _kept(rows: Sequence[int], important: Sequence[int]) -> list[int]:
    """The rows that are drawn: all, the important ones, or some of these, as there is room."""
    kept = list(rows) if len(rows) <= _MOST_ROWS else sorted(important)
    if len(kept) > _MOST_ROWS:
        kept = [kept[round(place)] for place in np.linspace(0, len(kept) - 1, _MOST_ROWS)]
    return kept


def _of(kept: Sequence[int], rows: Sequence[Any], what: str) -> str:
    return f" ({len(kept)} of {len(rows)} {what})" if len(kept) < len(rows) else ""


def _normalisations(health: Health) -> set[str]:
    """The paths of layers that normalise, whose weights only scale."""
    return {row.path for row in health.record.plan.layers if "norm" in row.operation.lower()}


def _with_weights(health: Health) -> list[int]:
    """The layers that have weights, but for normalisations; all, if there are none."""
    owners = {row.name.rpartition(".")[0] for row in health.record.plan.parameters} - _normalisations(health)
    found = [i for i, row in enumerate(health.record.plan.layers) if row.path in owners]
    return found or list(range(len(health.record.plan.layers)))


def _scale_of(norms: Array) -> _Scale:
    """Whole powers of ten around what is shown (C,R): at least three, at most ten. If that is not enough, those that hold the
    first column, as a training that diverges is healthy before, and as many of the others as they can."""
    lowest, highest = _exponents(norms)
    low, high = min(lowest, highest - _LEAST_DECADES), highest
    if high - low > _MOST_DECADES:
        first_low, first_high = _exponents(norms[:1])
        possible = range(max(lowest, first_high - _MOST_DECADES), min(first_low, highest - _MOST_DECADES) + 1)
        with np.errstate(all="ignore"):
            logs = np.log10(norms)
        held = {begin: int(((logs >= begin) & (logs <= begin + _MOST_DECADES)).sum()) for begin in possible}
        low = max(held, key=lambda begin: (held[begin], begin)) if held else max(lowest, first_high - _MOST_DECADES)
        high = low + _MOST_DECADES
    beyond = lowest < low, highest > high
    step = (high - low) // 2 if any(beyond) else -(-(high - low) // 4)  # words need room
    return _Scale(low, high, VIRIDIS, range(high, low - 1, -step), zero=PAPER, beyond=beyond)


def _exponents(norms: Array) -> tuple[int, int]:
    """Whole exponents of ten around all that are above 0 and finite."""
    with np.errstate(all="ignore"):
        exponents = np.log10(norms[(norms > 0) & np.isfinite(norms)])
    if not len(exponents):
        return 0, 0
    return math.floor(round(float(exponents.min()), 9)), math.ceil(round(float(exponents.max()), 9))


# ---- how it is drawn


def _draw_loss(drawing: Drawing, top: float, losses: Array, columns: _Columns) -> float:
    """The loss of each sample's batch, as a line over the columns; returns where the next part begins."""
    values = np.array([np.mean(losses[begin:end]) for begin, end in zip(columns.begins, columns.begins[1:], strict=False)])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    wide = low > 0 and high > _WIDE_LOSS * low
    title = "loss of the batch, on a logarithmic axis" if wide else "loss of the batch"
    drawing.shapes.append(Words(_LEFT, top, title, 13, bold=True))
    top += 16
    drawing.shapes.append(Box(_LEFT - 1, top - 1, columns.pixels + 2, _LOSS_HEIGHT + 2, PAPER, LINE))
    for value, y in ((high, top + 6), (low, top + _LOSS_HEIGHT - 6)):
        drawing.shapes.append(Words(_LEFT - 8, y, number_text(value, 4), _LETTERS, "end", FAINT))
    points: list[tuple[float, float]] = []
    for place, value in enumerate([*values.tolist(), math.nan]):
        if math.isfinite(value):
            level = 0.5
            if high > low:
                level = math.log(value / low) / math.log(high / low) if wide else (value - low) / (high - low)
            points.append((_LEFT + (place + 0.5) * columns.width, top + 6 + (1 - level) * (_LOSS_HEIGHT - 12)))
            continue
        if len(points) > 1:
            drawing.shapes.append(Line(tuple(points), "#0072b2", 1.6))
        points = []
    return _draw_steps(drawing, top + _LOSS_HEIGHT, columns)


def _draw_map(
    drawing: Drawing, top: float, what: str, labels: Sequence[str], values: Array, columns: _Columns, scale: _Scale
) -> float:
    """A map of ``values`` (C,R), R rows of them, with its title and legend; returns where the next part begins."""
    top = _draw_legend(drawing, top, what, scale)
    side = _draw_labels(drawing, top, labels, columns)
    for row in range(len(labels)):
        _draw_row(drawing, top + row * side, side, [scale.of(value) for value in values[:, row].tolist()], columns)
    return _draw_steps(drawing, top + side * len(labels), columns)


def _draw_units(drawing: Drawing, top: float, health: Health, columns: _Columns) -> float:
    """The share of dead and silent units of each row at each step; returns where the next part begins."""
    kept = _kept(range(len(health.units)), range(len(health.units)))
    shown = [health.units[i] for i in kept]
    what = f"dead units: share of units that are not above 0 for half an epoch or longer{_of(kept, health.units, 'layers')}"
    top = _draw_legend(drawing, top, what, _DEAD)
    labels = [one.label for one in shown]
    side = _draw_labels(drawing, top, labels, columns)
    steps = np.array(columns.last_steps)
    off = np.zeros((health.record.plan.channels, len(steps)), bool)
    for unit, last, end in silences(health.record).tolist():
        off[unit] |= (steps > last) & (steps <= end)
    begins = np.cumsum([0, *(row.channels for row in health.record.plan.units)])
    known = steps <= health.record.census.steps[-1]
    for row, (place, one) in enumerate(zip(kept, shown, strict=True)):
        shares = off[begins[place] : begins[place + 1]].mean(0)
        colours = [_DEAD.of(share) for share in np.where(known, shares, np.nan).tolist()]
        _draw_row(drawing, top + row * side, side, colours, columns)
        number = int((one.dead | one.silent).sum())
        if number and side >= _LETTERS:
            words = f"{number:,} of {one.row.channels:,}"
            drawing.shapes.append(Words(_LEFT + columns.pixels + 8, top + (row + 0.5) * side, words, _LETTERS, fill=FAINT))
    return _draw_steps(drawing, top + side * len(labels), columns)


def _draw_labels(drawing: Drawing, top: float, labels: Sequence[str], columns: _Columns) -> int:
    """The names of rows, as many as there is room for, and the frame around a map; returns the height of a row."""
    side = max(7, min(18, _MAP_HEIGHT // max(1, len(labels))))
    drawing.shapes.append(Box(_LEFT - 1, top - 1, columns.pixels + 2, side * len(labels) + 2, PAPER, LINE))
    letters = min(_LETTERS, max(8.5, side - 1.0))
    every = math.ceil((letters + 1) / side)
    last = len(labels) - 1
    for row in [*(row for row in range(0, last, every) if row + every <= last), *([last] if labels else [])]:
        words = fitting(labels[row], letters, _LEFT - 24)
        drawing.shapes.append(Words(_LEFT - 8, top + (row + 0.5) * side, words, letters, "end", INK))
    return side


def _draw_row(drawing: Drawing, y: float, height: float, colours: Sequence[str], columns: _Columns) -> None:
    """A row of a map; neighbours of the same colour are one rectangle."""
    begin = 0
    for place in range(1, len(colours) + 1):
        if place == len(colours) or colours[place] != colours[begin]:
            x, width = _LEFT + begin * columns.width, (place - begin) * columns.width
            drawing.shapes.append(Box(x, y, width, height, colours[begin]))
            begin = place


def _draw_steps(drawing: Drawing, bottom: float, columns: _Columns) -> float:
    """The numbers of some steps below a part; returns where the next part begins."""
    last_steps = columns.last_steps
    places = sorted({round(place) for place in np.linspace(0, len(last_steps) - 1, min(8, len(last_steps)))})
    for place in places:
        x = _LEFT + (place + 0.5) * columns.width
        drawing.shapes.append(Line(((x, bottom + 1), (x, bottom + 5)), LINE, 1))
        drawing.shapes.append(Words(x, bottom + 14, f"{last_steps[place]:,}", _LETTERS, "middle", FAINT))
    drawing.shapes.append(Words(_LEFT - 8, bottom + 14, "step", _LETTERS, "end", FAINT))
    return bottom + 46


def _draw_legend(drawing: Drawing, top: float, what: str, scale: _Scale) -> float:
    """The title of a map, the colours of its scale with numbers, and what other colours mean; returns where the map begins."""
    drawing.shapes.append(Words(_LEFT, top, what, 13, bold=True))
    left, width = float(_LEFT), 240.0
    for level in range(_LEVELS):
        place = scale.low + (scale.high - scale.low) * (level + 0.5) / _LEVELS
        drawing.shapes.append(Box(left + level * width / _LEVELS, top + 14, width / _LEVELS, 10, scale.at(place)))
    for mark in scale.marks:
        x = left + (mark - scale.low) / (scale.high - scale.low) * width
        drawing.shapes.append(Line(((x, top + 24), (x, top + 27)), LINE, 1))
        anchor = "start" if x == left else "middle"
        drawing.shapes.append(Words(x, top + 34, scale.mark(mark), _LETTERS, anchor, FAINT))
    x = left + width + 28
    for colour, words in [
        *([(scale.zero, "0")] if scale.zero else []),
        (_NONE, "no number" if scale.zero else "not known yet"),
    ]:
        drawing.shapes.append(Box(x, top + 14, 14, 10, colour, LINE))
        drawing.shapes.append(Words(x + 20, top + 19, words, _LETTERS, fill=FAINT))
        x += 48
    return top + 46
