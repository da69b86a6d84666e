"""Predictions as CSV and as JSON, made piece by piece, so that what was written need not be kept in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from chainrule.train.csv_lines import csv_line, harmless
from chainrule.train.predict import Prediction

FORMATS = ("csv", "json")
"""Formats in which predictions are written, and the endings of such files."""


def written(predictions: Iterable[Prediction], form: str, top: int) -> Iterator[str]:
    """The text of ``predictions`` in the format ``form``, "csv" or "json"; ``top`` is how many classes each has at most."""
    return _csv(predictions, top) if form == "csv" else _json(predictions)


def _json(predictions: Iterable[Prediction]) -> Iterator[str]:
    r"""A list of objects, a line each, in ASCII: bytes of a file's name that are no text are \udc80 to \udcff, as Python has
    them."""
    start = "["
    for one in predictions:
        row = {
            "image": one.path,
            "top": [{"class": name, "probability": share} for name, share in one.top],
            "note": one.note,
            "error": one.error,
        }
        yield start + json.dumps(row)
        start = ",\n "
    yield "[]\n" if start == "[" else "]\n"


def _csv(predictions: Iterable[Prediction], top: int) -> Iterator[str]:
    """A line for each image, after one with the names of the columns: image, class, probability, class_2, probability_2, ...,
    note, error."""
    numbers = ["", *(f"_{place}" for place in range(2, top + 1))]
    yield csv_line(["image", *(f"{name}{number}" for number in numbers for name in ("class", "probability")), "note", "error"])
    for one in predictions:
        cells = [cell for name, share in one.top for cell in (harmless(name, "'"), f"{share:.6g}")]
        cells += [""] * (2 * top - len(cells))
        yield csv_line([harmless(one.path, "./"), *cells, one.note, one.error])
