"""Pass: computes heavy operations and sums on bfloat16 in float32, in which they have kernels.

Values of bfloat16 are stored in two bytes, but computed in float32, as by the reference engine. Heavy operations have kernels
for float32 and float64 only, and sums are added up in float32 at least. So their bfloat16 operands are cast to float32 first,
and the result is rounded to bfloat16 once.
"""

from __future__ import annotations

from chainrule import ops
from chainrule.compiler.rewrite import Rewriter
from chainrule.graph import Graph, Node, Role
from chainrule.graph.dtypes import bfloat16, float32
from chainrule.ops import Primitive


def in_supported_dtypes(graph: Graph) -> tuple[Graph, int]:
    """The graph with heavy operations and sums on bfloat16 in float32, and the number of nodes that were changed."""
    if not any(node.dtype == bfloat16 for node in graph.nodes):
        return graph, 0
    rewriter = Rewriter(_widen)
    rewritten = rewriter.graph(graph)
    return rewritten, rewriter.changed


def _widen(node: Node) -> Node | None:
    operation = node.operation
    if not isinstance(operation, Primitive) or all(source.dtype != bfloat16 for source in node.inputs):
        return None
    adds_up = operation.reduces and operation.role is Role.DISTRIBUTOR  # a maximum needs no rounding
    if not operation.heavy and not adds_up:
        return None
    wide = [ops.cast(source, dtype=float32) if source.dtype == bfloat16 else source for source in node.inputs]
    result = operation(*wide, **node.attributes)
    return ops.cast(result, dtype=bfloat16) if node.dtype == bfloat16 else result
