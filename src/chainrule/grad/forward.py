"""Forwards through a single node: how its output moves when an input does, the product of its Jacobian and a direction.

The rule of a node gives the product with the transpose, J^T u, and is linear in u. So J t is the gradient of <J^T u, t> with
respect to u, whatever u is: the transposed rule, by the rules of the nodes that the rule is made of.
"""

from __future__ import annotations

import numpy as np

from chainrule.errors import UserError
from chainrule.grad.backprop import backprop
from chainrule.grad.local import local_diagonal
from chainrule.graph.dtypes import is_float
from chainrule.graph.node import Array, Node, leaf
from chainrule.graph.origin import originating_from
from chainrule.ops.execution import history
from chainrule.ops.primitive import Primitive


def pushed_forward(node: Node, position: int, direction: Array) -> Array:
    """The derivative of ``node``, which ran, along a ``direction`` of its input ``position``: in the shape of the node.

    It is 0 where no gradient passes. ``direction`` has the shape of the input.

    Raises:
        UserError: the node is a leaf, has no such input, or the direction has another shape.
    """
    primitive = node.operation
    if not isinstance(primitive, Primitive) or not 0 <= position < len(node.inputs):
        raise UserError(f"{node.operation.name} has {len(node.inputs)} inputs, there is no input {position}")
    source = node.inputs[position]
    if direction.shape != source.shape:
        raise UserError(f"the direction has the shape {list(direction.shape)}, the input is {source.type}")
    if not is_float(node.dtype) or not primitive.passes_gradient_to(position):
        return np.zeros(node.shape, node.dtype)
    given = np.asarray(direction, source.dtype)
    if primitive.elementwise:
        with np.errstate(all="ignore"):
            return np.asarray(local_diagonal(node, position) * given, node.dtype)
    again = node.over([leaf(_value(one)) for one in node.inputs])
    again.value, again.requires_grad = node.value, False
    with history("everything"), originating_from(node.origin):
        upstream = leaf(np.zeros(node.shape, node.dtype), requires_grad=True)
        downstream = primitive.downstream(again, upstream, position)
        moved = None if downstream is None else backprop(downstream, [upstream], leaf(given))[0]
    return np.zeros(node.shape, node.dtype) if moved is None else _value(moved)


def _value(node: Node) -> Array:
    if node.value is None:
        raise UserError(f"{node.operation.name} at {node.origin} was only traced: its derivative needs the values of a run")
    return node.value
