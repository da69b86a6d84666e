"""The folder that a comparison of runs leaves, with its picture: their curves over each other.

comparison.json   all of it
comparison.svg    the picture, and comparison.png
"""

from __future__ import annotations

from pathlib import Path

from chainrule.formats import write_atomically
from chainrule.train.comparison import Comparison
from chainrule.train.pictures.chart import COLOURS, DASHES, Axes, Curve, draw_axes, draw_curves, ticks
from chainrule.train.pictures.curves import Point, smoothed
from chainrule.train.pictures.drawing import FAINT, Drawing, Words
from chainrule.train.result_folder import ResultFolder
from chainrule.train.run_record import RunRecord

COMPARISON_FOLDER = ResultFolder("comparison", "a", "comparison.json")

_WIDTH, _LEFT, _ROOM = 800.0, 62.0, 210.0
_PLOT = (_WIDTH - _LEFT - _ROOM, 190.0)


def comparison_picture(comparison: Comparison) -> Drawing:
    """Training loss (averaged), test loss and test accuracy of each run over its epochs."""
    title = f"{len(comparison.runs)} runs compared"
    drawing = Drawing(_WIDTH, 900, title)
    drawing.shapes.append(Words(16, 24, title, 16, bold=True))
    note = "over epochs; the training loss is averaged over neighbouring steps"
    undrawn = sum(run.steps_per_epoch is None for run in comparison.runs)
    if undrawn:
        note += f"; not drawn: {undrawn} without a finished epoch"
    drawing.shapes.append(Words(16, 46, note, 12, fill=FAINT))
    last = max([1.0, *(row["epoch"] for run in comparison.runs for row in run.epochs)])
    for place, title in enumerate(("training loss", "test loss", "test accuracy (%)")):
        curves = [_curve(run, number, place) for number, run in enumerate(comparison.runs)]
        values = [y for curve in curves for _, y in curve.points]
        accuracy = place == 2
        y_ticks = ticks(min(values, default=0.0) if accuracy else 0.0, max(values, default=1.0))
        if accuracy:
            y_ticks = [value for value in y_ticks if 0 <= value <= 100]
        axes = Axes(_LEFT, 96 + place * 270, *_PLOT, (0.0, last), (y_ticks[0], y_ticks[-1]))
        draw_axes(drawing, axes, title, "epoch", y_ticks)
        draw_curves(drawing, axes, curves, _ROOM)
    return drawing


def _curve(run: RunRecord, number: int, place: int) -> Curve:
    points: list[tuple[float, float]] = []
    per_epoch = run.steps_per_epoch
    if place == 0 and per_epoch:
        measured = [Point(row["step"] / per_epoch, row["loss"], row["images"]) for row in run.rows]
        last = run.judged  # further steps are of an epoch that is not done
        points = [(point.step, point.value) for point in smoothed(measured) if point.step <= last] if measured else []
    elif place:
        points = [(row["epoch"], 100 * row["accuracy"] if place == 2 else row["loss"]) for row in run.epochs]
    again = number % len(COLOURS)
    return Curve(points, run.name, COLOURS[again], DASHES[again], 1.8, dots=place > 0)


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write the files of a comparison into ``folder``, which is made if need be.

    Raises:
        UserError: the folder contains something else, or cannot be written.
    """
    COMPARISON_FOLDER.begin(folder, comparison.facts())
    picture = comparison_picture(comparison)
    write_atomically(folder / "comparison.svg", picture.svg())
    write_atomically(folder / "comparison.png", picture.png())
