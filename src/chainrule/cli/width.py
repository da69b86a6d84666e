"""How wide the command's output is: what COLUMNS says, else the terminal, else 80 characters."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys

ELSEWHERE = 80  # where there is no terminal
_LEAST = 20


def columns() -> int:
    """Characters in a line."""
    return max(_LEAST, shutil.get_terminal_size((ELSEWHERE, 24)).columns)


def settle() -> None:
    """Make everything that prints, libraries too, see the same width: the variable COLUMNS, where there is no terminal."""
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdecimal() and int(given) > 0:
        os.environ["COLUMNS"] = str(max(_LEAST, int(given)))
        return
    on_terminal = False
    with contextlib.suppress(AttributeError, ValueError):  # no standard output, or a closed one
        on_terminal = sys.stdout.isatty()
    if not on_terminal:
        os.environ["COLUMNS"] = str(ELSEWHERE)
    elif given:
        del os.environ["COLUMNS"]
