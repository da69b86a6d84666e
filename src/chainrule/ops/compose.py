"""Compositions of primitives that are used in several places: bringing operands together, rounding, random numbers."""

from __future__ import annotations

import functools
import math

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import DType, bfloat16, float32, float64, is_float, largest_number, promote
from chainrule.graph.node import Node, Remembered, leaf
from chainrule.ops.broadcast import broadcast
from chainrule.ops.contract import matmul
from chainrule.ops.elementwise import (
    abs_,
    add,
    cast,
    cos,
    divide,
    full,
    less,
    log,
    multiply,
    scaled,
    sqrt,
    stop_gradient,
    subtract,
    where,
)
from chainrule.ops.move import reshape
from chainrule.ops.precision import operand
from chainrule.ops.random import blocks_for, random_bits
from chainrule.ops.rounding import round_

# ---- bringing operands together


def to_dtype(node: Node, dtype: DType) -> Node:
    """``node`` cast to ``dtype``; ``node`` itself if it has that dtype."""
    have = node.type.dtype
    return node if have is dtype or have == dtype else cast(node, dtype=dtype)


def to_shape(node: Node, shape: tuple[int, ...]) -> Node:
    """``node`` reshaped to ``shape``. Reshapes in a row become a single one, or none, so that graphs stay readable."""
    while node.shape != shape and node.operation is reshape and node.inputs:
        before = node.inputs[0]
        if node.value is not None and isinstance(before, Remembered) and before.value is None:
            before = before.held(node.value.reshape(before.shape))
        node = before
    return node if node.shape == shape else reshape(node, shape=shape)


def broadcast_to(node: Node, shape: tuple[int, ...]) -> Node:
    """NumPy's broadcasting in explicit steps: axes of size 1 that grow are dropped, then values repeated along new axes."""
    have = node.type.shape
    if have == shape:
        return node
    parts = _kept_and_grown(have, shape)
    if parts is None:
        raise UserError(f"broadcast: {node.type} does not broadcast to shape {shape}")
    kept, grown = parts
    return broadcast(node if kept == have else to_shape(node, kept), shape=shape, axes=grown)


@functools.lru_cache(maxsize=1024)
def _kept_and_grown(have: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The sizes that stay, and the axes of ``shape`` along which they are repeated; None if the shapes do not fit."""
    lead = len(shape) - len(have)
    grown, kept = list(range(lead)), []
    for axis, size in enumerate(have, lead):
        if lead < 0 or size not in (1, shape[axis]):
            return None
        if size == shape[axis]:
            kept.append(size)
        else:
            grown.append(axis)
    return tuple(kept), tuple(grown)


def together(name: str, *nodes: Node) -> list[Node]:
    """The nodes with a common dtype and shape: promoted, then broadcast as in NumPy.

    Raises:
        UserError: the shapes do not broadcast; the message begins with ``name``.
    """
    first = nodes[0].type
    if [node.type for node in nodes].count(first) == len(nodes):
        return list(nodes)
    shape = _common_shape(tuple([node.type.shape for node in nodes]))
    if shape is None:
        shapes = " and ".join(str(node.shape) for node in nodes)
        raise UserError(
            f"{name}: shapes {shapes} do not broadcast: counted from the last, axes must agree or be 1; reshape one of them"
        )
    dtype = promote(*[node.type.dtype for node in nodes])
    return [broadcast_to(to_dtype(node, dtype), shape) for node in nodes]


@functools.lru_cache(maxsize=1024)
def _common_shape(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...] | None:
    """The shape that all broadcast to; None if there is none."""
    longest = max(shapes, key=len)
    common = list(longest)
    for shape in shapes:
        for axis, size in enumerate(shape, len(longest) - len(shape)):
            if common[axis] == 1:
                common[axis] = size
            elif size not in (1, common[axis]):
                return None
    return tuple(common)


def product(left: Node, right: Node) -> Node:
    """The matrix product with NumPy's broadcasting of batch axes: (..., m, k), (..., k, n) -> (..., m, n).

    A vector is a row on the left and a column on the right; the result lacks that axis. dtypes are promoted.
    """
    dtype = promote(left.dtype, right.dtype)
    left, right = operand(to_dtype(left, dtype)), operand(to_dtype(right, dtype))
    if left.ndim < 1 or right.ndim < 1 or (left.ndim <= 2 and right.ndim <= 2):
        return matmul(left, right)
    rows = to_shape(left, (1, *left.shape)) if left.ndim == 1 else left
    columns = to_shape(right, (*right.shape, 1)) if right.ndim == 1 else right
    if columns.ndim == 2 and rows.shape[-1] == columns.shape[0]:  # one large product: the batch axes are merged with the rows
        flat = reshape(rows, shape=(math.prod(rows.shape[:-1]), rows.shape[-1]))
        result = reshape(matmul(flat, columns), shape=(*rows.shape[:-1], columns.shape[-1]))
    else:
        batch = _common_shape((rows.shape[:-2], columns.shape[:-2]))
        if batch is None:
            raise UserError(
                f"matmul: batch axes {rows.shape[:-2]} and {columns.shape[:-2]} of {left.type} and {right.type} do not "
                "broadcast: counted from the last, they must agree or be 1; reshape one of them"
            )
        result = matmul(*(broadcast_to(factor, (*batch, *factor.shape[-2:])) for factor in (rows, columns)))
    shape = result.shape if left.ndim > 1 else (*result.shape[:-2], result.shape[-1])
    return to_shape(result, shape if right.ndim > 1 else shape[:-1])


def rounded(node: Node, decimals: int) -> Node:
    """The nearest number of ``decimals`` decimals, as NumPy has it: scaled by the power of 10, rounded, scaled back. A number
    that would overflow on the way has no such decimals, and stays as it is.

    Raises:
        UserError: the power of 10 does not fit the dtype.
    """
    if not is_float(node.dtype):
        return node if decimals >= 0 else cast(rounded(cast(node, dtype=float64), decimals), dtype=node.dtype)
    if decimals == 0:
        return round_(node)
    most = int(math.log10(largest_number(node.dtype)))
    if abs(decimals) > most:
        raise UserError(f"round: decimals must be from {-most} to {most} for {node.type}, got {decimals}")
    scale = full(node.type, 10.0 ** abs(decimals))
    if decimals < 0:
        return multiply(round_(divide(node, scale)), scale)
    large = multiply(node, scale)
    return where(less(abs_(large), full(node.type, math.inf)), divide(round_(large), scale), stop_gradient(node))


# ---- random numbers on top of random bits


def advance(state: Node, shape: tuple[int, ...]) -> Node:
    """The state of the generator after a draw of ``shape`` random words."""
    return add(state, leaf(np.array([0, blocks_for(shape)], dtype=np.int64)))


def uniform(state: Node, shape: tuple[int, ...], dtype: DType) -> tuple[Node, Node]:
    """Uniform numbers in [0, 1), multiples of 2^-24 (float64 2^-53, bfloat16 2^-8), and the state after them."""
    after = advance(state, shape)
    if dtype != float64:
        width = 8 if dtype == bfloat16 else 24
        bits = random_bits(state, shape=shape, bits=width)
        return to_dtype(scaled(cast(bits, dtype=float32), 2.0**-width), dtype), after
    high, low = random_bits(state, shape=shape, bits=27), random_bits(after, shape=shape, bits=26)
    numbers = add(scaled(cast(high, dtype=float64), 2.0**-27), scaled(cast(low, dtype=float64), 2.0**-53))
    return numbers, advance(after, shape)


def normal(state: Node, shape: tuple[int, ...], dtype: DType) -> tuple[Node, Node]:
    """Standard normal numbers, and the state after them.

    They are sqrt(-2 ln u) cos(2 pi v) for uniform u and v: Box and Muller, "A note on the generation of random normal deviates"
    (1958).
    """
    wide = float64 if dtype == float64 else float32
    u, state = uniform(state, shape, wide)
    v, state = uniform(state, shape, wide)
    one_minus = subtract(full(u.type, 1.0), u)  # in (0, 1]: its logarithm is finite
    radius = sqrt(scaled(log(one_minus), -2.0))
    return to_dtype(multiply(radius, cos(scaled(v, 2 * math.pi))), dtype), state
