"""The first node of a step that has a number which is not finite, for people to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from chainrule.graph.tables import Contents
from chainrule.graph.wrapping import wrapped
from chainrule.train.diagnosis.node_by_node import Range

Phase = Literal["batch", "state", "forward", "backward", "update"]

_PASSES = {"forward": "forward pass", "backward": "backward pass", "update": "update"}
_MOST_ROWS = 5


_SMALL = "add a small number, such as 1e-5, "
_OUT_OF_DOMAIN: dict[str, tuple[Callable[[float], bool], str]] = {
    "divide": (lambda x: x == 0, f"It divides by 0: {_SMALL}to what it divides by"),
    "rsqrt": (lambda x: x <= 0, f"It divides by the root of {{0:g}}: {_SMALL}under the root"),
    "sqrt": (lambda x: x < 0, "It takes the root of {0:g}: keep what is under the root above 0"),
    "power": (lambda x: x <= 0, f"It raises {{0:g}} to a power that it has not: {_SMALL}to the base, or keep it above 0"),
}
for _name in ("log", "log2"):
    _OUT_OF_DOMAIN[_name] = (
        lambda x: x <= 0,
        f"It takes the logarithm of {{0:g}}: {_SMALL}inside, or take log_softmax or a loss that computes with logarithms",
    )
"""Numbers, read last by an operation, of which it gives none that is finite, and what to do about it."""

_STEEP = frozenset({"sqrt", "rsqrt", "power", "log", "log2", "divide"})
"""Operations that are infinitely steep at 0, or may be."""


@dataclass(frozen=True)
class Ancestor:
    """A value that led to the bad node: what it is called, the layer and the line that it comes from, and its range.

    ``there`` is its number at the bad element, where it has one at that place.
    """

    name: str
    type: str
    layer: str
    line: str
    range: Range
    there: float | None = None


@dataclass(frozen=True, repr=False)
class BadNode:
    """The first node of a step whose value is not finite though all that it is computed from is. It prints as a report.

    Attributes:
        phase: "batch" (what was passed in is not finite itself), "state" (weights or buffers are not, before the step),
            "forward", "backward" or "update".
        operation: the primitive; in the backward pass, that of the forward pass whose gradient is bad; else a name.
        layer: the path of the layer in the model, such as ``layers.0``; empty outside one.
        kind: the class of the layer.
        line: the line of the program, such as ``nets.py:12``; empty if it is not known.
        type: dtype and shape of the bad value.
        range: what numbers the bad value holds.
        element: the index of its first bad number.
        found: that number: nan, inf or -inf.
        rows: the examples of the batch, counted from 0, that have bad numbers there; empty where the value is of no example
            alone.
        batch: how many examples the batch has.
        inputs: what the bad value was computed from.
        ancestors: the last clean values on the way there, the nearest first.
        formula: in the backward pass, the local gradient as a formula.
        others: how many other nodes are bad without a bad input, in other branches.
        masked: in the backward pass, what is infinite already in the forward pass but does not reach the loss; else empty.
        updated: in the update, whose new value is bad, such as "fc.weight".
    """

    phase: Phase
    operation: str
    layer: str
    kind: str
    line: str
    type: str
    range: Range
    element: tuple[int, ...]
    found: float
    rows: tuple[int, ...]
    batch: int
    inputs: Sequence[Ancestor]
    ancestors: Sequence[Ancestor]
    formula: str = ""
    others: int = 0
    masked: str = ""
    updated: str = ""

    @property
    def row(self) -> int | None:
        """The first of ``rows``; None if there is none."""
        return self.rows[0] if self.rows else None

    @property
    def remedy(self) -> str:
        """What to do, as a sentence, where the operation is to blame and not how large the numbers became; else empty."""
        operands = self.inputs[1:-1] if self.phase == "backward" else self.inputs
        there = operands[-1].there if operands else None
        if there is None or self.phase in ("batch", "state") or self.masked:
            return ""
        if self.phase == "backward":
            steep = self.operation in _STEEP and there == 0
            return f"Its slope is infinite at 0: {_SMALL}to what it is taken of." if steep else ""
        bad, words = _OUT_OF_DOMAIN.get(self.operation, (lambda x: False, ""))
        return f"{words.format(there)}." if bad(there) else ""

    def sentence(self) -> str:
        """What is bad and where, in one sentence."""
        number = f"{self.found:g}"
        index = f" at {list(self.element)}" if self.element else ""
        if self.phase == "batch":
            return f"The batch is not finite before anything is computed: {self.operation} has {number}{index}."
        if self.phase == "state":
            return f"{self.operation} is not finite before the step: it has {number}{index}."
        what = f"the gradient of {self.operation}" if self.phase == "backward" else self.operation
        place = f" in layer {self.layer}" if self.layer else ""
        place += f" ({self.kind})" if self.layer and self.kind else ""
        place += f" at {self.line}" if self.line else ""
        only = ", while the whole forward pass is finite" if self.phase == "backward" and not self.masked else ""
        of = f" of {self.updated}" if self.updated else ""
        return f"The first cause is in the {_PASSES[self.phase]}{of}: {what}{place} gives {number}{index}{only}."

    def lines(self, width: int | None = None) -> list[str]:
        """The report, in lines of at most ``width`` characters."""
        found = wrapped(self.sentence(), width)
        if self.rows:
            shown = ", ".join(map(str, self.rows[:_MOST_ROWS])) + (", ..." if len(self.rows) > _MOST_ROWS else "")
            word = "row" if len(self.rows) == 1 else "rows"
            of = f"{len(self.rows)} of {self.batch}, counted from 0"
            found += wrapped(f"Examples: {word} {shown} of the batch ({of}).", width)
        elif self.phase in ("forward", "backward"):
            found += wrapped("It belongs to no single example: it is computed from the whole batch.", width)
        if self.phase not in ("batch", "state"):
            found += wrapped(f"Value: {self.type}, {self.range}.", width)
        if self.formula:
            found += wrapped(f"Its local gradient is {self.formula}.", width)
        if self.masked:
            found += wrapped(self.masked, width)
        if self.others:
            more = "One more node is" if self.others == 1 else f"{self.others} more nodes are"
            found += wrapped(f"{more} bad without a bad input, in other branches.", width)
        if self.remedy:
            found += wrapped(self.remedy, width)
        for title, rows in (("Computed from", self.inputs), ("Before that, the nearest first", self.ancestors)):
            if rows:
                found += ["", *_table(title, rows).text(width).splitlines()]
        return found

    def __str__(self) -> str:
        return "\n".join(self.lines(80))

    def __repr__(self) -> str:
        return f"<BadNode {self.operation} ({self.phase}): {self.found:g} at {list(self.element)}, rows {list(self.rows)}>"


def _table(title: str, rows: Sequence[Ancestor]) -> Contents:
    columns = {
        "value": [one.name for one in rows],
        "layer": [one.layer for one in rows],
        "line": [one.line for one in rows],
        "type": [one.type for one in rows],
        "there>": ["" if one.there is None else f"{one.there:.4g}" for one in rows],
        "range": [str(one.range) for one in rows],
    }
    used = {name: cells for name, cells in columns.items() if any(cells)}
    cells = list(zip(*used.values(), strict=True))
    return Contents(f"{title}:", list(used), cells, least=("type", "line"), listed=("range",))
