"""What is computed of all elements along axes and is no single primitive: products, norms, logarithms of sums of exponentials.

All functions take and give nodes. ``axes`` are ascending and not negative; they do not appear in the result.
"""

from __future__ import annotations

import math
from typing import Any

from chainrule import ops
from chainrule.errors import UserError
from chainrule.graph import Node
from chainrule.graph.dtypes import bfloat16, float32, float64, int64, is_float
from chainrule.ops import compose


def flattened_last(node: Node, axes: tuple[int, ...]) -> Node:
    """``node`` with ``axes`` made one, the last: (..., a, ..., b) -> (..., a * b)."""
    rest = tuple(axis for axis in range(node.ndim) if axis not in axes)
    order = (*rest, *axes)
    last = node if order == tuple(range(node.ndim)) else ops.transpose(node, axes=order)
    return compose.to_shape(last, (*(node.shape[axis] for axis in rest), math.prod(node.shape[axis] for axis in axes)))


def product(node: Node, axes: tuple[int, ...]) -> Node:
    """The product over ``axes``, 1 of no elements. Integers and bools are multiplied as int64, floats in float64.

    A product of n floats has n - 1 roundings, whatever the order, and parts of it may overflow although the whole does not: so
    the product of float32 and bfloat16 is rounded to the dtype once, at the end.

    The two halves of an axis are multiplied with each other until a single element is left. So the gradient of each element is
    the product of all others, computed without a division: it is right where elements are 0.
    """
    if is_float(node.dtype) and node.dtype != float64:
        return ops.cast(product(ops.cast(node, dtype=float64), axes), dtype=node.dtype)
    node = node if is_float(node.dtype) else compose.to_dtype(node, int64)
    if not axes:
        return node
    if len(axes) > 1:
        node, axes = flattened_last(node, axes), (node.ndim - len(axes),)
    axis = axes[0]
    before, after = node.shape[:axis], node.shape[axis + 1 :]
    if node.shape[axis] == 0:
        return ops.full(ops.sum_(node, axes=axes).type, 1)
    while node.shape[axis] > 1:
        size = node.shape[axis]
        if size % 2:
            nothing = (0,) * node.ndim
            high = (*nothing[:axis], 1, *nothing[axis + 1 :])
            node = ops.pad(node, low=nothing, high=high, interior=nothing, value=1.0)
        half = -(-size // 2)
        # A reshape makes the compiler store what it regroups: of slices alone, it would compute all products in one expression.
        pairs = ops.reshape(node, shape=(*before, 2, half, *after))
        node = ops.multiply(*(_at(pairs, axis, place) for place in (0, 1)))
    return compose.to_shape(node, (*before, *after))


def _at(node: Node, axis: int, place: int) -> Node:
    """The elements at index ``place`` along ``axis``, without that axis."""
    start, stop = [0] * node.ndim, list(node.shape)
    start[axis], stop[axis] = place, place + 1
    part = ops.slice_(node, start=tuple(start), stop=tuple(stop), step=(1,) * node.ndim)
    return compose.to_shape(part, (*node.shape[:axis], *node.shape[axis + 1 :]))


def root(node: Node) -> Node:
    """The square root, whose gradient at 0 is 0: of the norm of zeros, and of the deviation of equal numbers, as in PyTorch."""
    zero, one = ops.zeros_like(node), ops.full(node.type, 1.0)
    is_zero = ops.equal(node, zero)
    return ops.where(is_zero, zero, ops.sqrt(ops.where(is_zero, one, node)))


def norm(node: Node, order: Any, axes: tuple[int, ...]) -> Node:
    """The vector norm of order 1, 2 or inf over ``axes``: the sum of magnitudes, the root of the sum of squares, the largest.

    Raises:
        UserError: ``order`` is none of these, or it is inf and there is no element.
    """
    if order not in (1, 2, math.inf):
        raise UserError(
            f"norm: ord must be 1, 2 or float('inf'), got {order!r}: other norms are (abs(x) ** p).sum() ** (1 / p)"
        )
    if order == 2:
        return root(ops.sum_(ops.multiply(node, node), axes=axes))
    size = ops.abs_(node)
    if order == 1 or not axes:
        return ops.sum_(size, axes=axes)
    if node.size == 0:
        raise UserError(f"norm: {node.type} has no element, so none is the largest")
    return ops.max_(flattened_last(size, axes), axis=node.ndim - len(axes))


def log_of_sum_of_exponentials(node: Node, axes: tuple[int, ...]) -> Node:
    """ln of the sum of e^x over ``axes``, where nothing overflows, as the largest x is subtracted and added again.

    Raises:
        UserError: there is no element along ``axes``.
    """
    if node.dtype == bfloat16:
        return ops.cast(log_of_sum_of_exponentials(ops.cast(node, dtype=float32), axes), dtype=bfloat16)
    if math.prod(node.shape[axis] for axis in axes) == 0:
        raise UserError(f"logsumexp: {node.type} has no elements along {axes}")
    if not axes:
        return node
    flat = flattened_last(node, axes)
    axis = flat.ndim - 1
    largest = ops.stop_gradient(ops.max_(flat, axis=axis))  # what is subtracted and added has no gradient
    finite = ops.less(ops.abs_(largest), ops.full(largest.type, math.inf))
    largest = ops.where(finite, largest, ops.zeros_like(largest))  # inf - inf would be nan
    apart = ops.subtract(flat, ops.broadcast(largest, shape=flat.shape, axes=(axis,)))
    return ops.add(largest, ops.log(ops.sum_(ops.exp(apart), axes=(axis,))))
