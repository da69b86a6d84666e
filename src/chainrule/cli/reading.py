"""What is shown while files of images are read, and what is said about them before a training begins."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from chainrule.data.folder_contents import Note
from chainrule.display import displayed
from chainrule.graph.wrapping import wrapped
from chainrule.train.run_folder import NOTES

ALL_IN_FILE = f"named in {NOTES} of the run folder"
"""Where to find the entries of a note that a training does not show."""

_ALL_ON_STREAM = "named where standard error goes to a file (2> FILE)"
_QUIET, _BETWEEN_DRAWINGS, _BETWEEN_LINES = 1.0, 0.1, 10.0
"""Seconds: what takes no longer needs no words; between two drawings of a line; between two lines where none is redrawn."""


class ReadingProgress:
    """How many files are read, from the first second on: one line that is redrawn on a terminal, now and then a plain one
    elsewhere. To be called as ``chainrule.data.folder_contents.Watch`` says, and closed. ``unit`` names what is counted."""

    def __init__(self, console: Console, unit: str = "images") -> None:
        self.console, self.unit = console, unit
        self._redraws = console.is_terminal and not console.is_dumb_terminal
        self._live: Live | None = None
        self._next: float | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say how many of the images are read, once that has taken a while."""
        now = time.monotonic()
        if self._next is None:
            self._next = now + _QUIET
        if now < self._next or (done == total and not self._redraws):
            return
        line = f"{displayed(what)}: {done:,} of {total:,} {self.unit}"
        if not self._redraws:
            for part in wrapped(line, self.console.width):
                self.console.print(part, markup=False, soft_wrap=True)
            self._next = now + _BETWEEN_LINES
            return
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        self._next = now + _BETWEEN_DRAWINGS

    def __enter__(self) -> ReadingProgress:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the line from the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def beside() -> Console:
    """Standard error, where everything goes that a command says beside what it was asked for."""
    return Console(stderr=True, highlight=False)


def say_notes(notes: Sequence[Note], console: Console, rest: str = "") -> None:
    """What is to be known of what was read, broken between words. Names in it are clean already.

    On a terminal a note names the first of many files; ``rest`` says where the others are named. Without it, all are named
    where there is no terminal.
    """
    short = rest or (_ALL_ON_STREAM if console.is_terminal else "")
    for note in notes:
        title, *entries = note.text(short).split("\n")
        lines = wrapped(displayed(title), console.width, hanging="")
        for entry in entries:
            lines += wrapped(displayed(entry.strip()), console.width, indent="  ")
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)
