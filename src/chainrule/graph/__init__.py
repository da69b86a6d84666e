"""The graph: nodes and their types, graphs, their order and their check, and origins."""

from chainrule.graph.check import check
from chainrule.graph.graph import Graph, Observed, topological_order
from chainrule.graph.node import BUFFER, COMPILED, CONSTANT, INPUT, PARAMETER, Array, Node, Remembered, Role, TensorType, leaf
from chainrule.graph.origin import Origin, current_module, current_origin, in_function, inside_module, originating_from

__all__ = [
    "BUFFER",
    "COMPILED",
    "CONSTANT",
    "INPUT",
    "PARAMETER",
    "Array",
    "Graph",
    "Node",
    "Observed",
    "Origin",
    "Remembered",
    "Role",
    "TensorType",
    "check",
    "current_module",
    "current_origin",
    "in_function",
    "inside_module",
    "leaf",
    "originating_from",
    "topological_order",
]
