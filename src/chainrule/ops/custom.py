"""The operation of a function whose gradient rule is its author's own: what ``cr.custom_gradient`` puts into the graph.

    argument 1 ─┐
    argument 2 ─┼──> custom ──> output           the value is computed before, by a graph of existing operations, in which no
    saved value ┘                                gradient passes; the way back is the author's rule

A node has a single output. Several of a function are one vector, of which each output is a slice: so the rule is asked once,
with the gradients for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chainrule.errors import InternalError
from chainrule.graph.dtypes import promote
from chainrule.graph.node import Array, Node, Role, TensorType
from chainrule.ops.compose import to_dtype, to_shape
from chainrule.ops.move import concatenate, slice_
from chainrule.ops.primitive import OUTPUT, EachInput, Primitive, remembered_inputs


@dataclass(frozen=True, eq=False, repr=False)
class Application:
    """One call of a function with a rule of its own: what its node needs to go back.

    ``outputs`` are the types of the outputs that a gradient may arrive at. The first inputs of the node are the tensors that
    the function was called with, its ``arguments`` of these names; the others are values that it saved, and in a traced graph
    the last one is the value itself. ``saved`` is for the rule. ``begins`` are the nodes, in a traced graph, at which the
    computation of the value begins: one for each argument.
    """

    outputs: tuple[TensorType, ...]
    arguments: tuple[str, ...]
    saved: tuple[Any, ...] = ()
    begins: tuple[Node, ...] = ()

    def __repr__(self) -> str:
        return f"<Application to {', '.join(self.arguments)}, gives {', '.join(map(str, self.outputs))}>"

    @property
    def type(self) -> TensorType:
        """The type of the node: that of the output, or of the vector of all outputs."""
        if len(self.outputs) == 1:
            return self.outputs[0]
        return TensorType((sum(one.size for one in self.outputs),), promote(*[one.dtype for one in self.outputs]))


@dataclass(frozen=True, eq=False, repr=False)
class Custom(Primitive):
    """The operation of one such function; not in the registry, as each function has its own.

    ``rule(node, upstream)`` gives the downstream gradient for each argument. ``exact`` is false where that is not meant to be
    the derivative.
    """

    rule: Callable[[Node, Node], Sequence[Node | None]] = field(kw_only=True)
    exact: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        """Nothing is registered."""

    @classmethod
    def named(cls, name: str, doc: str, rule: Callable[[Node, Node], Sequence[Node | None]], exact: bool = True) -> Custom:
        """The operation ``name`` that goes back by ``rule``."""
        return cls(
            name,
            Role.CUSTOM,
            doc,
            shape=lambda *types, application: application.type,
            reference=_value,
            vjp=EachInput(lambda node, upstream, place: _given(rule(node, upstream), place)),  # type: ignore[arg-type,return-value]
            local=("its own rule",),
            saves=(OUTPUT,),
            spec=(),
            rule=rule,
            exact=exact,
        )

    def apply(
        self,
        application: Application,
        inputs: tuple[Node, ...],
        value: Array | None,
        requires_grad: bool,
        reads: Sequence[int] | None,
    ) -> Node:
        """The node for one call, with its ``value``; None while tracing.

        ``reads`` are the inputs whose values the rule will read, so that others can be freed; with None all are kept.
        """
        if reads is not None:
            inputs = remembered_inputs(inputs, reads)
        return Node(self, inputs, application.type, {"application": application}, value, requires_grad)

    def pass_on(self, node: Node, upstream: Node, wanted: Sequence[bool]) -> list[Node | None]:
        """The downstream gradient for each input that is ``wanted``, from a single call of the rule."""
        downstream = self.rule(node, upstream)
        return [_given(downstream, place) if asked else None for place, asked in enumerate(wanted)]


def _given(downstream: Sequence[Node | None], place: int) -> Node | None:
    return downstream[place] if place < len(downstream) else None  # beyond are saved values, at which no gradient arrives


def _value(*arrays: Array, application: Application) -> Array:
    if not application.begins:
        raise InternalError("a custom gradient that ran keeps its value, so nobody computes it again")
    return arrays[-1]


def joined(nodes: Sequence[Node], application: Application) -> Node:
    """The outputs of a function as the value of its node: the only one as it is, several as one vector."""
    if len(nodes) == 1:
        return nodes[0]
    dtype = application.type.dtype
    return concatenate(*[to_shape(to_dtype(node, dtype), (node.size,)) for node in nodes], axis=0)


def parts(node: Node, application: Application) -> list[Node]:
    """The outputs in the value of a node, or the gradients for them in its upstream gradient: the inverse of ``joined``."""
    if len(application.outputs) == 1:
        return [node]
    found, start = [], 0
    for one in application.outputs:
        stop = start + math.prod(one.shape)
        part = slice_(node, start=(start,), stop=(stop,), step=(1,))
        found.append(to_dtype(to_shape(part, one.shape), one.dtype))
        start = stop
    return found
