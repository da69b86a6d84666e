"""How wide the command's output is: what COLUMNS says, else the terminal, else 80 characters."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys

from chainrule.arguments import written_whole

ELSEWHERE = 80  # where there is no terminal
_LEAST, _MOST = 20, 100_000


def columns() -> int:
    """The width in characters."""
    return max(_LEAST, shutil.get_terminal_size((ELSEWHERE, 24)).columns)


def settle() -> None:
    """Make everything that prints, libraries too, see the same width: the variable COLUMNS, where there is no terminal.

    What is no number is removed from these variables, as libraries would stumble over it.
    """
    for name in ("LINES", "TERMINAL_WIDTH"):
        if name in os.environ and not _size(os.environ[name]):
            del os.environ[name]
    given = os.environ.get("COLUMNS", "")
    if size := _size(given):
        os.environ["COLUMNS"] = str(max(_LEAST, size))
        return
    on_terminal = False
    with contextlib.suppress(AttributeError, ValueError):  # no standard output, or a closed one
        on_terminal = sys.stdout.isatty()
    if not on_terminal:
        os.environ["COLUMNS"] = str(ELSEWHERE)
    elif given:
        del os.environ["COLUMNS"]


def _size(text: str) -> int:
    """The width of a terminal in characters; 0 if it is none."""
    return min(_MOST, written_whole(text) or 0) if text.isascii() else 0
