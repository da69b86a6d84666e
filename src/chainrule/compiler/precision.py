"""Pass: heavy operations in dtypes that their kernels know.

Values of bfloat16 are stored in two bytes and computed in float32, as on the reference engine. Contractions and pooling have
kernels for float32 and float64: their bfloat16 operands are widened first, and the result is rounded once.
"""

from __future__ import annotations

from chainrule import ops
from chainrule.compiler.rewrite import Rewriter
from chainrule.graph import Graph, Node
from chainrule.graph.dtypes import bfloat16, float32
from chainrule.ops import Primitive

_WIDENED = frozenset(
    {
        ops.matmul,
        ops.conv2d,
        ops.conv2d_input_gradient,
        ops.conv2d_weight_gradient,
        ops.max_pool2d,
        ops.max_pool2d_route,
        ops.max_pool2d_pick,
        ops.sum_pool2d,
        ops.sum_pool2d_spread,
        ops.gather,
        ops.scatter_add,
        ops.argmax,
        ops.argmin,
        ops.sum_,
    }
)


def in_supported_dtypes(graph: Graph) -> tuple[Graph, int]:
    """The graph with bfloat16 contractions in float32, and how many there were."""
    if not any(node.dtype == bfloat16 for node in graph.nodes):
        return graph, 0
    rewriter = Rewriter(_widen)
    found = rewriter.graph(graph)
    return found, rewriter.changed


def _widen(node: Node) -> Node | None:
    if node.operation not in _WIDENED or all(one.dtype != bfloat16 for one in node.inputs):
        return None
    operation = node.operation
    assert isinstance(operation, Primitive)
    wide = [ops.cast(one, dtype=float32) if one.dtype == bfloat16 else one for one in node.inputs]
    found = operation(*wide, **node.attributes)
    return ops.cast(found, dtype=bfloat16) if node.dtype == bfloat16 else found
