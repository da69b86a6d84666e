"""Pass: heavy operations in dtypes that their kernels know.

Values of bfloat16 are stored in two bytes and computed in float32, as on the reference engine. Heavy operations have
kernels for float32 and float64, and sums add up in no less: their bfloat16 operands are widened first, and the result is
rounded once.
"""

from __future__ import annotations

from chainrule import ops
from chainrule.compiler.rewrite import Rewriter
from chainrule.graph import Graph, Node, Role
from chainrule.graph.dtypes import bfloat16, float32
from chainrule.ops import Primitive


def in_supported_dtypes(graph: Graph) -> tuple[Graph, int]:
    """The graph with bfloat16 contractions in float32, and how many there were."""
    if not any(node.dtype == bfloat16 for node in graph.nodes):
        return graph, 0
    rewriter = Rewriter(_widen)
    found = rewriter.graph(graph)
    return found, rewriter.changed


def _widen(node: Node) -> Node | None:
    operation = node.operation
    if not isinstance(operation, Primitive) or all(one.dtype != bfloat16 for one in node.inputs):
        return None
    adds_up = operation.reduces and operation.role is Role.DISTRIBUTOR  # a maximum is as good in bfloat16
    if not operation.heavy and not adds_up:
        return None
    wide = [ops.cast(one, dtype=float32) if one.dtype == bfloat16 else one for one in node.inputs]
    found = operation(*wide, **node.attributes)
    return ops.cast(found, dtype=bfloat16) if node.dtype == bfloat16 else found
