"""The confusion matrix as a picture: a row for each class, a column for each that its images were taken for.

Each number stands in its field; the darker a field, the larger its share of the row. The fields of right answers have a frame.
So the picture can be read without its colours.
"""

from __future__ import annotations

from chainrule.graph.names import display_width
from chainrule.train.evaluation import Evaluation
from chainrule.train.pictures.drawing import FAINT, INK, LINE, PAPER, Box, Drawing, Words, can_be_written, fitting, length_of

_SIDES = ((12, 44), (30, 30), (100, 20))
"""Most classes, and the side of a field of their matrix; of more classes, fields are small and without words."""

_LARGEST = 1_800  # pixels of a matrix without words
_NAME = 150  # pixels of a name
_DARKEST = (8, 48, 107)  # red, green and blue of a field that has all of its row
_MARGIN = 16


def confusion_picture(evaluation: Evaluation) -> Drawing:
    """The picture of ``evaluation.confusion``."""
    count = len(evaluation.classes)
    side = next((side for most, side in _SIDES if count <= most), max(1, _LARGEST // count))
    named = count <= _SIDES[-1][0]
    letters = min(13.0, side - 6.0)
    names = [fitting(name, letters, _NAME) for name in evaluation.classes] if named else []
    room = max((length_of(name, letters) for name in [*names, f"class {count}"]), default=0) if named else 0
    left, top = _MARGIN + 22 + room + 8, _MARGIN + 62 + room
    title = f"{evaluation.correct:,} of {evaluation.images:,} images right: {100 * evaluation.accuracy:.2f}%"
    foreign = [f"class {i}" for i, name in enumerate(names) if not can_be_written(name)]
    note = "" if named else "classes in the order of classes.csv"
    if foreign:
        note = f"{foreign[0]}{', ...' if len(foreign) > 1 else ''}: no font here has the letters of the name; see classes.csv"
    wide = max(left + count * side + (64 if named else 0), _MARGIN + length_of(title, 16), _MARGIN + length_of(note, 11))
    drawing = Drawing(max(wide + _MARGIN, 400), top + count * side + 62, f"Confusion matrix: {title}")
    drawing.shapes += [
        Words(_MARGIN, _MARGIN + 8, title, 16, bold=True),
        Words(_MARGIN, _MARGIN + 30, "a row for each class, a column for each that its images were taken for", 12, fill=FAINT),
    ]
    drawing.shapes.append(Box(left - 1, top - 1, count * side + 2, count * side + 2, PAPER, LINE))
    _draw_fields(drawing, evaluation, left, top, side, named)
    for i, name in enumerate(names):
        middle = (i + 0.5) * side
        number = f"class {i}"
        drawing.shapes.append(Words(left - 8, top + middle, name, letters, "end", instead=number))
        drawing.shapes.append(Words(left + middle, top - 8, name, letters, turned=True, instead=number))
        total = int(evaluation.confusion[i].sum())
        right = f"{100 * evaluation.confusion[i, i] / total:.1f}%" if total else "no image"
        drawing.shapes.append(Words(left + count * side + 8, top + middle, right, letters, fill=FAINT))
    _draw_legend(drawing, top + count * side + 30, note)
    return drawing


def _draw_fields(drawing: Drawing, evaluation: Evaluation, left: float, top: float, side: float, named: bool) -> None:
    for i, row in enumerate(evaluation.confusion.tolist()):
        total = max(1, sum(row))
        for j, number in enumerate(row):
            if not number and not (named and i == j):
                continue
            share, x, y = number / total, left + j * side, top + i * side
            drawing.shapes.append(Box(x, y, side, side, _shade(share), INK if named and i == j else ""))
            if named and number:
                text = f"{number:,}" if number < 10_000 else f"{number / 1000:.0f}k"
                size = min(0.42 * side, 14, (side - 3) / (0.62 * display_width(text)))
                drawing.shapes.append(
                    Words(x + side / 2, y + side / 2, text, round(size, 1), "middle", PAPER if share > 0.3 else INK)
                )


def _shade(share: float) -> str:
    """From white to the darkest, faster at first, so that few of many are seen."""
    level = share**0.5
    return "#" + "".join(f"{round(255 + (dark - 255) * level):02x}" for dark in _DARKEST)


def _draw_legend(drawing: Drawing, y: float, note: str) -> None:
    drawing.shapes.append(Words(_MARGIN, y, "share of the row:", 11, fill=FAINT))
    x = _MARGIN + 98
    for percent in (1, 10, 50, 100):
        drawing.shapes.append(Box(x, y - 7, 14, 14, _shade(percent / 100), LINE))
        drawing.shapes.append(Words(x + 19, y, f"{percent}%", 11, fill=FAINT))
        x += 56
    if note:
        drawing.shapes.append(Words(_MARGIN, y + 20, note, 11, fill=FAINT))
