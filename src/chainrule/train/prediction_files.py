"""Predictions as CSV and as JSON, made piece by piece, so that what was written need not be kept in memory."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator

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
    note, error. Quotes, commas and line breaks are as RFC 4180 has them."""
    numbers = ["", *(f"_{place}" for place in range(2, top + 1))]
    yield _csv_line(["image", *(f"{name}{number}" for number in numbers for name in ("class", "probability")), "note", "error"])
    for one in predictions:
        cells = [cell for name, share in one.top for cell in (_harmless(name, "'"), f"{share:.6g}")]
        cells += [""] * (2 * top - len(cells))
        yield _csv_line([_harmless(one.path, "./"), *cells, one.note, one.error])


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([_as_text(cell) for cell in cells])  # which makes it quote both
    return line.getvalue().removesuffix("\r\n") + "\n"


def _harmless(text: str, before: str) -> str:
    """Text that no spreadsheet takes for a formula, which could run a program: ``before`` is put before it, if need be.

    A path with ./ before it names the same file. Numbers, such as the class "-1", stay.
    """
    begins_one = text[:1] in ("=", "+", "-", "@", "\t", "\r")
    return before + text if begins_one and not re.fullmatch(r"[+-]?\d+(\.\d+)?", text) else text


def _as_text(text: str) -> str:
    r"""Bytes of a file's name that are no text, written as \xNN: the whole file would be no text otherwise."""
    return re.sub(r"[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
