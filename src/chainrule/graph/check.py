"""Checks a whole graph against its rules: order, shapes and dtypes, values."""

from __future__ import annotations

from chainrule.errors import InternalError
from chainrule.graph.graph import Graph
from chainrule.graph.node import Node


def check(graph: Graph, after: str = "") -> None:
    """Check that the graph obeys its rules. ``after`` is the name of the pass that made it.

    The rules are: inputs come before the nodes that use them; the shape rule of a node's primitive gives the node's type; the
    value of a node, if it has one, has that type; a leaf has no attributes.

    Raises:
        InternalError: a rule is broken; the message names the first node that breaks one, and the pass.
    """
    blame = f"after {after}: " if after else ""
    for position, node in enumerate(graph.nodes):
        for input_node in node.inputs:
            if graph.index.get(input_node, position) >= position:
                raise InternalError(f"{blame}{_name(node, position)}: its input {input_node!r} does not stand before it")
        if node.inputs or node.attributes:
            try:
                derived = node.operation.shape(*(input_node.type for input_node in node.inputs), **node.attributes)
            except Exception as error:
                raise InternalError(f"{blame}{_name(node, position)}: its shape rule refuses: {error}") from error
            if node.type != derived:
                raise InternalError(f"{blame}{_name(node, position)}: claims {node.type}, its shape rule gives {derived}")
        if node.value is not None and (node.value.shape, node.value.dtype) != (node.shape, node.dtype):
            have = f"{node.value.dtype}{list(node.value.shape)}"
            raise InternalError(f"{blame}{_name(node, position)}: claims {node.type}, its value is {have}")


def _name(node: Node, position: int) -> str:
    return f"node {position} ({node.operation.name}, made at {node.origin})"
