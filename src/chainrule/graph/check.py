"""Checks a whole graph against its rules: order, shapes and dtypes, values."""

from __future__ import annotations

from chainrule.errors import InternalError
from chainrule.graph.graph import Graph
from chainrule.graph.node import Node


def check(graph: Graph, after: str = "") -> None:
    """Raise an InternalError that names the first node that breaks a rule (and, if given, the pass that broke it).

    Rules: inputs stand before their users; the shape rule of every node's primitive gives the type that the node
    claims; a node's value, if it has one, has that type; a leaf has no attributes.
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
