"""Which units were above 0, and when: the sums of units in each step, kept for some steps and then looked at all at once.

    step ──> put: a row of sums for each part ──> end: the rows count ──> last: all rows ──> at which step a unit was last alive
                                           └──> begin again: a step that was left out does not

One row takes a few microseconds, which is what each step pays; the rest is shared by many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_ROWS = 64


class AliveUnits:
    """Takes down when units were last above 0.

    Args:
        sums: like those of each step: for a row of C units (C,), or (C, W) where several sums are kept of each unit.
        last: the last step at which each unit was alive before, int64; None for never.
    """

    def __init__(self, sums: Sequence[Array], last: Array | None) -> None:
        widths = np.concatenate([np.full(len(one), one.size // len(one)) for one in sums])
        self._firsts = np.cumsum(widths) - widths  # the place of each unit's first sum in a row
        dtype = np.float64 if any(one.itemsize > 4 for one in sums) else np.float32
        self._sums = np.zeros((_ROWS, sum(one.size for one in sums)), dtype)
        self._steps = np.zeros(_ROWS, np.int64)
        self._last = np.zeros(len(widths), np.int64) if last is None else last.astype(np.int64)
        self._ended = self._rows = 0  # rows of steps that ended, and all rows

    def __repr__(self) -> str:
        return f"<AliveUnits: {len(self._last)} units, {self._rows} rows of sums to look at>"

    def put(self, step: int, sums: Sequence[Array]) -> None:
        """Keep the sums of a part of the step that is being taken, each with its numbers in one axis."""
        if self._rows == len(self._sums):
            self._look()
        if self._rows == len(self._sums):  # a step of very many parts
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
            self._steps = np.concatenate([self._steps, np.zeros_like(self._steps)])
        np.concatenate(sums, out=self._sums[self._rows])
        self._steps[self._rows] = step
        self._rows += 1

    def begin(self) -> None:
        """A step begins. If the one before did not end, it was left out: what was put of it is dropped."""
        self._rows = self._ended

    def end(self) -> None:
        """The step is done: what was put of it counts."""
        self._ended = self._rows

    def last(self) -> Array:
        """The last step at which each unit was above 0 for any image, or gave no number; 0 for never."""
        self._look()
        return self._last

    def _look(self) -> None:
        """Look at the rows of steps that ended; those of the step that is being taken stay."""
        ended = self._ended
        if not ended:
            return
        alive = ~np.logical_and.reduceat(self._sums[:ended] <= 0, self._firsts, 1)  # a sum that is no number counts as alive
        latest = ended - 1 - alive[::-1].argmax(0)
        self._last[:] = np.where(alive.any(0), self._steps[latest], self._last)
        left = self._rows - ended
        self._sums[:left], self._steps[:left] = self._sums[ended : self._rows], self._steps[ended : self._rows]
        self._ended, self._rows = 0, left
