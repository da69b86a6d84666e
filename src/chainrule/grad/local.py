"""The local gradient of a node: rows of its Jacobian, and the kind of matrix that this is.

The Jacobian dz/dx of a node has a row per output unit and a column per input element. It is never stored: the row of a unit is
the downstream gradient by the node's own rule for an upstream gradient that is 1 at that unit and 0 elsewhere.
"""

from __future__ import annotations

import enum

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import is_float
from chainrule.graph.node import Array, Node, Role, leaf
from chainrule.graph.origin import originating_from
from chainrule.ops.execution import history
from chainrule.ops.primitive import Primitive


class LocalKind(enum.Enum):
    """The structure of a node's Jacobian for one of its inputs."""

    DIAGONAL = "diagonal"  # each output element depends only on the input element at the same place (ReLU: a mask)
    ROUTING = "routing"  # each output element is one of the input elements (max pooling)
    CONSTANT = "constant"  # the same whatever the values are (sum, reshape)
    DENSE = "dense"  # an output element depends on many inputs, with weights (matmul, convolution)
    BLOCKED = "blocked"  # no gradient passes


def local_kind(node: Node, position: int) -> LocalKind:
    """The kind of ``node``'s Jacobian for its input ``position``."""
    primitive = _primitive(node, position)
    if not primitive.passes_gradient_to(position):
        return LocalKind.BLOCKED
    if not primitive.saves:
        return LocalKind.CONSTANT
    if primitive.elementwise:
        return LocalKind.DIAGONAL
    if primitive.role is Role.ROUTER:
        return LocalKind.ROUTING
    return LocalKind.CONSTANT if primitive.role is Role.MOVER else LocalKind.DENSE


def local_row(node: Node, position: int, unit: tuple[int, ...]) -> Array:
    """d node[unit] / d input, a row of the Jacobian, in the shape of input ``position``; 0 where no gradient passes.

    Raises:
        UserError: ``unit`` is no index of the node's output, or the node was only traced.
    """
    if len(unit) != node.ndim or any(not 0 <= i < size for i, size in zip(unit, node.shape, strict=True)):
        raise UserError(f"unit {list(unit)} is outside the output {node.type}: give {node.ndim} indices from 0")
    seed = np.zeros(node.shape, dtype=node.dtype)
    seed[unit] = 1
    return _passed_on(node, position, seed)


def local_diagonal(node: Node, position: int) -> Array:
    """The diagonal of the Jacobian of an elementwise node, in the shape of the input: each element's own slope.

    Raises:
        UserError: the node is not elementwise, or was only traced.
    """
    if not _primitive(node, position).elementwise:
        raise UserError(f"{node.operation.name} is not elementwise: ask for the row of one unit")
    return passed_to(node, position)


def passed_to(node: Node, position: int) -> Array:
    """The sum of all rows of the Jacobian, in the shape of the input: what arrives there if the upstream gradient is 1.

    Of a router it says to how many output units each element of the input went.
    """
    return _passed_on(node, position, np.ones(node.shape, dtype=node.dtype))


def _passed_on(node: Node, position: int, upstream: Array) -> Array:
    """The downstream gradient for input ``position`` by the node's own rule."""
    primitive = _primitive(node, position)
    input_node = node.inputs[position]
    if not is_float(node.dtype):
        return np.zeros(input_node.shape, dtype=input_node.dtype)
    with history("nothing"), originating_from(node.origin):
        downstream = primitive.downstream(node, leaf(upstream), position)
    if downstream is None:
        return np.zeros(input_node.shape, dtype=input_node.dtype)
    if downstream.value is None:
        raise UserError(f"{primitive.name} at {node.origin} was only traced: a local gradient needs the values of a run")
    return downstream.value


def _primitive(node: Node, position: int) -> Primitive:
    if not isinstance(node.operation, Primitive):
        raise UserError(f"a {node.operation.name} has no inputs, hence no local gradient")
    if not 0 <= position < len(node.inputs):
        raise UserError(f"{node.operation.name} has {len(node.inputs)} inputs, there is no input {position}")
    return node.operation
