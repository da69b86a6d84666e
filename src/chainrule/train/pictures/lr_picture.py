"""The folder that a sweep of learning rates leaves, with its picture: losses over rates, the range, and what is proposed.

lr.json   all of it
lr.svg    the picture, and lr.png
lr.csv    the rate and the loss of each step
"""

from __future__ import annotations

import math
from pathlib import Path

from chainrule.formats import write_atomically
from chainrule.train.csv_lines import csv_line
from chainrule.train.lr_finder import RateSweep
from chainrule.train.pictures.chart import COLOURS, DASHES, Axes, Curve, draw_axes, draw_curves, ticks
from chainrule.train.pictures.drawing import FAINT, INK, Box, Drawing, Line, Words, fitting
from chainrule.train.result_folder import ResultFolder

SWEEP_FOLDER = ResultFolder("sweep", "a", "lr.json")

_WIDTH, _HEIGHT = 760.0, 420.0
_RANGE = "#dcebf5"


def lr_picture(sweep: RateSweep, what: str) -> Drawing:
    """The picture of a sweep; ``what`` names network and data."""
    title = "Learning rates: "
    title += "no proposal" if sweep.proposal is None else f"{sweep.proposal:g} proposed, {sweep.low:.2g} to {sweep.high:.2g}"
    drawing = Drawing(_WIDTH, _HEIGHT, title)
    drawing.shapes.append(Words(16, 24, title, 16, bold=True))
    drawing.shapes.append(Words(16, 46, fitting(what, 12, _WIDTH - 32), 12, fill=FAINT))
    y_ticks = ticks(0.0, float(sweep.smoothed.max()))
    rates, last = sweep.rates.tolist(), float(max(sweep.rates[-1], sweep.present))
    ends = (float(min(sweep.rates[0], sweep.present)), last)
    axes = Axes(60, 104, 540, 236, ends, (y_ticks[0], y_ticks[-1]), log=True)
    if sweep.low is not None and sweep.high is not None:
        (left, _), (right, _) = axes.at(sweep.low, 0), axes.at(sweep.high, 0)
        drawing.shapes.append(Box(left, axes.top, max(1.0, right - left), axes.height, _RANGE))
        drawing.shapes.append(Words((left + right) / 2, axes.top + axes.height - 10, "range", 11, "middle", FAINT))
    draw_axes(drawing, axes, "loss", "learning rate, which grows from step to step", y_ticks)
    losses = [loss if math.isfinite(loss) else y_ticks[-1] for loss in sweep.losses.tolist()]
    measured = Curve(list(zip(rates, losses, strict=True)), "of each step", "#9ec9e2", (), 1)
    smoothed = Curve(list(zip(rates, sweep.smoothed.tolist(), strict=True)), "averaged", COLOURS[0], DASHES[0], 2.2)
    for rate, colour, dash, words, above in (
        (sweep.proposal, INK, DASHES[1], "proposed", 4),
        (sweep.present, COLOURS[1], DASHES[2], f"of the options: {sweep.present:g}", 28),
    ):
        if rate is not None:
            x = axes.at(rate, 0)[0]
            drawing.shapes.append(Line(((x, axes.top - above + 4), (x, axes.top + axes.height)), colour, 1.6, dash))
            drawing.shapes.append(Words(x, axes.top - above - 2, words, 11, "middle", colour))
    draw_curves(drawing, axes, [measured, smoothed], 150)
    drawing.shapes.append(Words(16, _HEIGHT - 16, "losses above the chart are drawn on its edge", 11, fill=FAINT))
    return drawing


def write_sweep(folder: Path, sweep: RateSweep, what: str) -> None:
    """Write the files of a sweep into ``folder``, which is made if need be; ``what`` names network and data.

    Raises:
        UserError: the folder contains something else, or cannot be written.
    """
    SWEEP_FOLDER.begin(folder, {"what": what, **sweep.facts()})
    picture = lr_picture(sweep, what)
    write_atomically(folder / "lr.svg", picture.svg())
    write_atomically(folder / "lr.png", picture.png())
    rows = zip(sweep.rates.tolist(), sweep.losses.tolist(), sweep.smoothed.tolist(), strict=True)
    lines = [["step", "lr", "loss", "smoothed"], *([str(i), *(f"{one:.6g}" for one in row)] for i, row in enumerate(rows, 1))]
    write_atomically(folder / "lr.csv", "".join(map(csv_line, lines)))
