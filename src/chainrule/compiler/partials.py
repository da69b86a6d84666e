"""Reductions whose elements several units of work share. Each unit stores a partial result, and a second nest combines these in
the order of the units, so that the result has the same bits whichever thread computes which unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chainrule.compiler.nest import Access, Instruction, Nest, Reduction, Strides
from chainrule.compiler.tasks import LoopTask, Partial
from chainrule.graph import Node
from chainrule.graph.dtypes import name_of


@dataclass(frozen=True)
class GatheredSum:
    """A reduction that ``task`` computes over ``space``, with a partial result for each unit of work."""

    space: tuple[int, ...] | None
    task: LoopTask
    partial: Partial


@dataclass(frozen=True)
class SquaredDistances:
    """The sum of (x - mean)^2, where mean = ``share`` * ``total``, and ``total`` is the sum of x.

    ``task`` computes the sum of x, with the partial results ``partial``.
    """

    x: Node
    total: Node
    share: float
    task: LoopTask
    partial: Partial


def finish_of(kind: str, dtype: str, kept: int) -> Callable[[Nest], Nest]:
    """A function that makes, for a nest that stores partial results, the nest that combines them in the order of the units.

    ``kind`` is that of the ``Reduction``. The operands are the partial results (units, kept) and the result (kept).
    """

    def make(nest: Nest) -> Nest:
        load = Instruction("load", dtype, access=Access(0, dtype, 0, (kept, 1)))
        return Nest((nest.units, kept), nest.units, (load,), (), (Reduction(0, kind, Access(1, dtype, 0, (0, 1))),))

    return make


def finish_of_squares(root: Node, kept: int, squares: SquaredDistances) -> Callable[[Nest], Nest]:
    """As ``finish_of``, for sums of squared distances from the mean of each unit, to which it adds
    (mean of the unit - mean of all)^2 * number of elements in the unit. See ``Lowering._about_unit_mean`` for the source.

    The operands are the partial results (units, kept), the result (kept), the sum of x in each unit (units, kept) and the
    whole sum of x (kept).
    """
    dtype = name_of(root.dtype)

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
            Instruction("multiply", dtype, (2, 3)),  # 4: the mean of all
            Instruction("index", "int64", attributes=(("start", 0), ("strides", (1, 0)))),
            constant(nest.units - 1, "int64"),
            Instruction("equal", "bool", (5, 6)),
            constant(last),
            constant(whole),
            Instruction("where", dtype, (7, 8, 9)),  # 10: the number of elements in the unit
            Instruction("divide", dtype, (1, 10)),
            Instruction("subtract", dtype, (11, 4)),
            Instruction("multiply", dtype, (12, 12)),
            Instruction("multiply", dtype, (13, 10)),
            Instruction("add", dtype, (0, 14)),
        )
        return Nest((nest.units, kept), nest.units, body, (), (Reduction(15, "sum", Access(1, dtype, 0, (0, 1))),))

    return make
