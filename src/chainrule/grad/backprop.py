"""Backpropagation.

The error e is the output of a graph. For a node z with inputs x_1 ... x_n the chain rule says

    de/dx_i  =  de/dz  *  dz/dx_i          (downstream = upstream * local)

The upstream gradient de/dz is known, as the graph is walked from the error backwards. The local gradient is known, as every
primitive declares it. Where a value feeds several nodes, the gradients from all of them are added up.

Gradients are emitted as nodes of the same graph. So they run on any engine, and they can be differentiated again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from chainrule.errors import UserError
from chainrule.graph.dtypes import is_float
from chainrule.graph.graph import topological_order
from chainrule.graph.node import Node
from chainrule.graph.origin import originating_from
from chainrule.ops.elementwise import add, full
from chainrule.ops.primitive import Primitive

Visitor = Callable[[Node, Node, Sequence[Node | None]], None]
"""``visit(node, upstream, downstream)``: called at each node, from the error backwards; one downstream for each input."""


def backprop(
    output: Node, wanted: Sequence[Node], upstream: Node | None = None, visit: Visitor | None = None
) -> list[Node | None]:
    """Gradients of ``output`` with respect to each of ``wanted``; None for a node that the output does not depend on.

    ``upstream`` is the gradient of the error with respect to ``output``, of its shape and dtype; it may be left out
    where the output is the error itself, a single number: de/de = 1.
    """
    if upstream is None:
        upstream = _unit_gradient(output)
    elif upstream.type != output.type:
        raise UserError(f"backward: the upstream gradient is {upstream.type}, the output is {output.type}: they must be alike")
    places = [_places(node) for node in wanted]
    targets = {place for places_of_node in places for place in places_of_node}
    order = _between(targets, output)
    on_the_way = set(order)
    gradients: dict[Node, Node] = {output: upstream}
    reached: dict[Node, Node] = {}
    for node in reversed(order):
        upstream = gradients.pop(node, None)
        if upstream is None:  # every path from the output to it passes a blocker
            continue
        if node in targets:
            reached[node] = upstream
        downstream = _pass_on(node, upstream, on_the_way)
        if visit is not None:
            visit(node, upstream, downstream)
        for input_node, gradient in zip(node.inputs, downstream, strict=True):
            if gradient is not None:
                so_far = gradients.get(input_node)
                gradients[input_node] = gradient if so_far is None else _add_up(input_node, so_far, gradient)
    parts_of_each = [[reached[place] for place in places_of_node if place in reached] for places_of_node in places]
    return [functools.reduce(add, parts) if parts else None for parts in parts_of_each]


def _places(node: Node) -> tuple[Node, ...]:
    """The nodes at which gradients for ``node`` arrive: itself, and its remembered form, which later nodes have as input."""
    return (node,) if node.remembered is None or node.remembered is node else (node, node.remembered)


def _unit_gradient(output: Node) -> Node:
    """The gradient of the error with respect to itself, 1; a UserError if ``output`` is not a single float."""
    if output.size != 1 or not is_float(output.dtype):
        raise UserError(
            f"backward: starts at the error, one float number, but this is {output.type}: "
            "reduce it first (sum, mean, a loss) or pass the upstream gradient"
        )
    return full(output.type, 1.0)


def _between(wanted: Iterable[Node], output: Node) -> list[Node]:
    """The nodes that lie on a differentiable path from some wanted node to the output, inputs first."""
    reaches = {node for node in wanted if node.requires_grad}
    order = topological_order([output], follow=lambda node: node.requires_grad)
    between = []
    for node in order:
        if node in reaches or any(input_node in reaches for input_node in node.inputs):
            reaches.add(node)
            between.append(node)
        elif node.is_freed:
            refuse_freed(node)
    return between


def refuse_freed(node: Node, name: str = "backward", instead: str = "add up the errors and go backward once") -> NoReturn:
    """Raise a UserError: the graph that led to ``node`` was freed. ``name`` is the call, ``instead`` another remedy."""
    raise UserError(
        f"{name}: the graph that led to {node.type}, from {node.operation.name} at {node.origin}, is freed: backward() went "
        f"through it already; let that call keep it with backward(retain_graph=True), or {instead}"
    )


def _add_up(node: Node, so_far: Node, gradient: Node) -> Node:
    """The sum of two gradients that come back to ``node`` from different users."""
    with originating_from(node.origin):
        return add(so_far, gradient)


def _pass_on(node: Node, upstream: Node, on_the_way: set[Node]) -> list[Node | None]:
    """The downstream gradient for each input that lies on the way to a wanted node."""
    if not isinstance(node.operation, Primitive):
        return [None] * len(node.inputs)
    with originating_from(node.origin):
        return node.operation.pass_on(node, upstream, [input_node in on_the_way for input_node in node.inputs])
