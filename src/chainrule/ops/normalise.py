"""The primitive that relates the numbers along an axis to each other: log_softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import bfloat16, float32, is_float
from chainrule.graph.node import Array, Node, Role, TensorType
from chainrule.ops.broadcast import broadcast, sum_
from chainrule.ops.elementwise import add, cast, equal, exp, expm1, full, log1p, multiply, negative, subtract, where, zeros_like
from chainrule.ops.primitive import OUTPUT, Primitive, Spec, rows
from chainrule.ops.reduce import max_


def _log_softmax_shape(x: TensorType, *, axis: int) -> TensorType:
    if not is_float(x.dtype):
        raise UserError(f"log_softmax: needs a float, got {x}: cast to float32 first")
    if not 0 <= axis < len(x.shape):
        raise UserError(f"log_softmax: axis {axis} is outside {x}: give one of 0 to {len(x.shape) - 1}")
    if x.shape[axis] == 0:
        raise UserError(f"log_softmax: axis {axis} of {x} is empty: there is nothing to normalise")
    return x


def _log_softmax(x: Array, *, axis: int) -> Any:
    shifted = x - x.max(axis, keepdims=True)
    largest = shifted == 0
    rest = np.where(largest, 0, np.exp(shifted)).sum(axis, keepdims=True, dtype=x.dtype)
    return shifted - np.log1p(rest + (largest.sum(axis, keepdims=True) - 1).astype(x.dtype))


def log_softmax_composed(x: Node, axis: int) -> Node:
    """``log_softmax`` composed of other primitives, for engines: x - max - ln(1 + sum of e^(x - max) over all other x).

    The term of the largest x is exactly 1. The other terms are summed without it, so that log1p is accurate for a small sum.
    bfloat16 is rounded only once, at the end.
    """
    if x.dtype == bfloat16:
        return cast(log_softmax_composed(cast(x, dtype=float32), axis), dtype=bfloat16)
    shifted = subtract(x, broadcast(max_(x, axis=axis), shape=x.shape, axes=(axis,)))
    largest = equal(shifted, zeros_like(x))
    rest = sum_(where(largest, zeros_like(x), exp(shifted)), axes=(axis,))
    ties = sum_(where(largest, full(x.type, 1.0), zeros_like(x)), axes=(axis,))
    total = log1p(add(rest, subtract(ties, full(ties.type, 1.0))))
    return subtract(shifted, broadcast(total, shape=x.shape, axes=(axis,)))


def _log_softmax_vjp(z: Node, u: Node) -> Node:
    """u - s sum(u), where s = e^z is the softmax.

    It is computed as u (1 - s) - s (sum of all other u), which is accurate also where 1 - s is near 0.
    """
    axis = z.attributes["axis"]
    total = broadcast(sum_(u, axes=(axis,)), shape=z.shape, axes=(axis,))
    return negative(add(multiply(u, expm1(z)), multiply(exp(z), subtract(total, u))))


log_softmax: Primitive = Primitive(
    "log_softmax",
    Role.NORMALISER,
    "z = x - ln(sum of e^x) along one axis: (..., n, ...) -> (..., n, ...).",
    shape=_log_softmax_shape,
    reference=_log_softmax,
    vjp=(_log_softmax_vjp,),
    local=("1 - e^z at its own place, -e^z elsewhere",),
    saves=(OUTPUT,),
    spec=rows(
        Spec(((5,),), {"axis": 0}),
        Spec(((3, 5),), {"axis": 1}),
        Spec(((3, 5),), {"axis": 0}),
        Spec(((2, 3, 4),), {"axis": 1}, dtypes=("float64",)),
        Spec(((3, 1),), {"axis": 1}),
        Spec(((0, 3),), {"axis": 1}),
        Spec(((4, 7),), {"axis": 1}, dtypes=("bfloat16",)),
    ),
)
