"""Reductions over what several units of work share: each unit leaves a partial result, and a second nest brings them together
in the order of the units, so that the bits do not depend on who did which unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chainrule.compiler.nest import Access, Instruction, Nest, Reduction, Strides
from chainrule.compiler.tasks import LoopTask, Partial
from chainrule.graph import Node


@dataclass(frozen=True)
class GatheredSum:
    """A sum that is gathered unit by unit over ``space``: the task that does it, and what its units leave."""

    space: tuple[int, ...] | None
    task: LoopTask
    partial: Partial


@dataclass(frozen=True)
class SquaredDistances:
    """The sum of (x - mean)^2 with mean = ``share`` * ``total``, the sum of x, which ``task`` gathers into ``partial``."""

    x: Node
    total: Node
    share: float
    task: LoopTask
    partial: Partial


def finish_of(kind: str, dtype: str, kept: int) -> Callable[[Nest], Nest]:
    """From the nest that leaves partial results to the one that gathers them, in the order of the units.

    Operands: the partial results (units, kept), the result (kept).
    """

    def make(nest: Nest) -> Nest:
        load = Instruction("load", dtype, access=Access(0, dtype, 0, (kept, 1)))
        return Nest((nest.units, kept), nest.units, (load,), (), (Reduction(0, kind, Access(1, dtype, 0, (0, 1))),))

    return make


def finish_of_squares(root: Node, kept: int, squares: SquaredDistances) -> Callable[[Nest], Nest]:
    """As ``finish_of`` for squares about the means of units: + (mean of the unit - mean)^2 * elements of the unit.

    Operands: the partial results, the result, the sums of the units (units, kept), the whole sum (kept).
    """
    dtype = root.dtype.name

    def make(nest: Nest) -> Nest:
        inner = squares.x.size // squares.total.size // nest.sizes[0]
        whole, last = nest.rows * inner, (nest.sizes[0] - (nest.units - 1) * nest.rows) * inner

        def load(operand: int, strides: Strides) -> Instruction:
            return Instruction("load", dtype, access=Access(operand, dtype, 0, strides))

        def constant(number: float, name: str = dtype) -> Instruction:
            return Instruction("constant", name, attributes=(("number", number),))

        body = (
            load(0, (kept, 1)),
            load(2, (kept, 1)),
            load(3, (0, 1)),
            constant(squares.share),
            Instruction("multiply", dtype, (2, 3)),  # 4: the mean
            Instruction("index", "int64", attributes=(("start", 0), ("strides", (1, 0)))),
            constant(nest.units - 1, "int64"),
            Instruction("equal", "bool", (5, 6)),
            constant(last),
            constant(whole),
            Instruction("where", dtype, (7, 8, 9)),  # 10: elements of the unit
            Instruction("divide", dtype, (1, 10)),
            Instruction("subtract", dtype, (11, 4)),
            Instruction("multiply", dtype, (12, 12)),
            Instruction("multiply", dtype, (13, 10)),
            Instruction("add", dtype, (0, 14)),
        )
        return Nest((nest.units, kept), nest.units, body, (), (Reduction(15, "sum", Access(1, dtype, 0, (0, 1))),))

    return make
