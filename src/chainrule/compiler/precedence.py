"""Which of a number of things must run before which: the transitive relation by which passes order clusters and tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np


class Precedence:
    """The relation between things numbered from 0 to ``count`` - 1. At first, each may run at any time.

    It is kept as a table of bits, as graphs have thousands of clusters and most pairs of them are related.
    """

    def __init__(self, count: int) -> None:
        self._before = np.zeros((count, (count + 7) // 8), np.uint8)  # bit j of row i: j must run before i
        self._bytes = memoryview(self._before)  # type: ignore[arg-type]  # reads a byte in a third of the time
        self._leads = bytearray(count)  # 1 for what something must run after

    def __repr__(self) -> str:
        return f"<Precedence of {len(self._before)} things>"

    def precedes(self, earlier: int, later: int) -> bool:
        """Whether ``earlier`` must run before ``later``."""
        return bool(self._bytes[later, earlier >> 3] >> (earlier & 7) & 1)

    def put_after(self, later: int, earlier: Collection[int]) -> None:
        """Let ``later`` run after each of ``earlier``, and so after all that must run before these, and let what must run
        after ``later`` do so too. None of ``earlier`` is ``later`` itself or must run after it."""
        if not earlier:
            return
        for number in earlier:
            self._leads[number] = 1
        numbers = np.fromiter(earlier, np.intp, len(earlier))
        gained = np.bitwise_or.reduce(self._before[numbers], axis=0)
        np.bitwise_or.at(gained, numbers >> 3, (1 << (numbers & 7)).astype(np.uint8))
        self._gain(later, gained)

    def merge(self, number: int, target: int) -> None:
        """Let ``target`` run after all that must run before ``number``, besides itself: the two become one, ``target``."""
        gained = self._before[number].copy()
        gained[target >> 3] &= 0xFF ^ 1 << (target & 7)
        self._gain(target, gained)

    def _gain(self, number: int, gained: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> None:
        """Let ``number``, and what must run after it, run after the things whose bits are set in ``gained``."""
        self._before[number] |= gained
        if self._leads[number]:
            self._before[np.flatnonzero(self._before[:, number >> 3] & (1 << (number & 7)))] |= gained

    def ordered(self, numbers: Sequence[int]) -> list[int]:
        """``numbers``, each after those of them that must run before it, and otherwise in the order in which they are given."""
        left = np.zeros(self._before.shape[1], np.uint8)
        for number in numbers:
            left[number >> 3] |= 1 << (number & 7)
        order: list[int] = []
        waiting = list(numbers)
        while waiting:
            rest = []
            for number in waiting:
                if (self._before[number] & left).any():
                    rest.append(number)
                else:
                    left[number >> 3] &= 0xFF ^ 1 << (number & 7)
                    order.append(number)
            assert len(rest) < len(waiting), "they wait for each other"
            waiting = rest
        return order
