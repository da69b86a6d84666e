"""Lines of CSV files that any program reads, and no spreadsheet computes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable


def csv_line(cells: Iterable[str]) -> str:
    r"""A line, in which quotes, commas and line breaks are as RFC 4180 has them. Bytes of a file's name that are no text are
    written as \xNN, or the whole file would be no text."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([_as_text(cell) for cell in cells])  # which makes it quote both
    return line.getvalue().removesuffix("\r\n") + "\n"


def harmless(text: str, before: str) -> str:
    """Text that no spreadsheet takes for a formula, which could run a program: ``before`` is put before it, if need be.

    A path with ./ before it names the same file. Numbers, such as the class "-1", stay.
    """
    begins_one = text[:1] in ("=", "+", "-", "@", "\t", "\r")
    return before + text if begins_one and not re.fullmatch(r"[+-]?\d+(\.\d+)?", text) else text


def _as_text(text: str) -> str:
    return re.sub(r"[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
