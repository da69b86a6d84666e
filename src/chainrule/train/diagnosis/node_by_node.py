"""A traced step on the reference engine, node by node, with the range of numbers that each node has.

trace of the step ──> nodes in order ──> NumPy, one after the other ──> range of each; values are freed when they are used
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.errors import InternalError
from chainrule.graph import Array, Node
from chainrule.graph.dtypes import float32, is_float
from chainrule.ops import Primitive, run_reference
from chainrule.tensor.engines import is_reference


class Range(NamedTuple):
    """What numbers an array holds: the least and the largest of its finite ones (None if there are none), and how many are 0,
    nan and infinite."""

    low: float | None
    high: float | None
    zeros: int
    nan: int
    infinite: int

    @property
    def finite(self) -> bool:
        """Whether no number is nan or infinite."""
        return not self.nan and not self.infinite

    @property
    def furthest(self) -> float:
        """The largest size of a number: infinity if one is infinite or nan."""
        return max(abs(self.low or 0.0), abs(self.high or 0.0)) if self.finite else np.inf

    def __str__(self) -> str:
        """For a table: ``-2.1 to 3.4, 5 zeros, 1 nan``."""
        if self.low is None or self.high is None:
            words = []
        else:
            low, high = f"{self.low + 0.0:.4g}", f"{self.high + 0.0:.4g}"
            words = [low if low == high else f"{low} to {high}"]
        several = self.low != self.high
        for count, one, more in ((self.zeros, "zero", "zeros"), (self.nan, "nan", "nan"), (self.infinite, "inf", "inf")):
            if count and (one != "zero" or several):
                words.append(f"{count:,} {one if count == 1 else more}")
        return ", ".join(words) or "no numbers"


def range_of(array: Array) -> Range:
    """The range of an array of any dtype."""
    if not array.size:
        return Range(None, None, 0, 0, 0)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif is_float(array.dtype) and array.dtype.itemsize < 4:
        array = array.astype(float32)
    zeros = array.size - int(np.count_nonzero(array))
    low, high = float(array.min()), float(array.max())  # a nan makes both nan
    if np.isfinite(low) and np.isfinite(high):
        return Range(low, high, zeros, 0, 0)
    nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    finite = array[np.isfinite(array)]
    if not finite.size:
        return Range(None, None, zeros, nan, infinite)
    return Range(float(finite.min()), float(finite.max()), zeros, nan, infinite)


class NodeByNode:
    """Runs ``nodes``, each of which stands behind its inputs, with the numbers that ``given`` has of leaves.

    ``ranges`` has the range of each node that ran. ``checks`` are functions that get the value of a node, and may refuse it
    with a UserError.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        given: Mapping[Node, Array],
        checks: Iterable[tuple[Node, Callable[[Any], None]]] = (),
    ) -> None:
        self.nodes, self.given = nodes, given
        self.ranges: dict[Node, Range] = {}
        self._checks: dict[Node, list[Callable[[Any], None]]] = {}
        for node, check in checks:
            self._checks.setdefault(node, []).append(check)
        self._users = Counter(source for node in nodes for source in node.inputs)
        self._values: dict[Node, Array] = {}
        self._next = 0

    def run(self, count: int) -> None:
        """Go on until ``count`` nodes have run."""
        while self._next < count:
            node = self.nodes[self._next]
            self._next += 1
            value = self._values[node] = self._value(node, self._values)
            for check in self._checks.get(node, ()):
                check(value)
            self.ranges[node] = range_of(value)
            for source in node.inputs:
                self._users[source] -= 1
                if not self._users[source]:
                    self._values.pop(source, None)

    def values_of(self, wanted: Iterable[Node], order: Sequence[Node]) -> dict[Node, Array]:
        """The values of some nodes, computed again: ``order`` are they and all that they depend on."""
        kept = set(wanted)
        users = Counter(source for node in order for source in node.inputs)
        values: dict[Node, Array] = {}
        for node in order:
            values[node] = self._value(node, values)
            for source in node.inputs:
                users[source] -= 1
                if not users[source] and source not in kept:
                    values.pop(source, None)
        return {node: values[node] for node in kept}

    def _value(self, node: Node, values: Mapping[Node, Array]) -> Array:
        if node.value is not None:
            return node.value
        if node in self.given:
            return self.given[node]
        if not isinstance(node.operation, Primitive):
            raise InternalError(f"{node!r} at {node.origin} has no numbers, and nothing computes it")
        value = run_reference(node.operation, [values[source] for source in node.inputs], node.attributes, node.type)
        return value if is_reference() else _without_subnormals(value)


def _without_subnormals(value: Array) -> Array:
    """The numbers with 0 for those that native code takes for 0, or 1 / x could be infinite there and finite here."""
    if value.dtype not in (np.float32, np.float64):
        return value
    tiny = (np.abs(value) < np.finfo(value.dtype).tiny) & (value != 0)
    return np.where(tiny, value.dtype.type(0), value) if tiny.any() else value
