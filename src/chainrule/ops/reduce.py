"""Primitives that choose a number along an axis: max, min, argmax, argmin. The sum is in ``broadcast``."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import bool_, int64
from chainrule.graph.node import Array, Node, Role, TensorType
from chainrule.ops.broadcast import broadcast
from chainrule.ops.elementwise import where, zeros_like
from chainrule.ops.index import one_hot
from chainrule.ops.move import transpose
from chainrule.ops.primitive import Blocked, Primitive, Spec, rows


def _one_axis(name: str, x: TensorType, axis: int) -> tuple[int, ...]:
    if x.dtype == bool_:
        raise UserError(f"{name}: is not defined for bool, got {x}: cast to int32 first")
    if not 0 <= axis < len(x.shape):
        raise UserError(f"{name}: axis {axis} is outside {x}: give one of 0 to {len(x.shape) - 1}")
    if x.shape[axis] == 0:
        raise UserError(f"{name}: axis {axis} of {x} is empty: there is nothing to choose from")
    return x.shape[:axis] + x.shape[axis + 1 :]


def _route_to(index: Node, z: Node, u: Node) -> Node:
    """``u`` at the places that ``index`` names along the reduced axis, 0 elsewhere."""
    x, axis = z.inputs[0], z.attributes["axis"]
    winner = one_hot(index, classes=x.shape[axis], dtype=bool_)  # the class axis is the last one
    order = list(range(x.ndim - 1))
    order.insert(axis, x.ndim - 1)
    winner = transpose(winner, axes=tuple(order))
    repeated = broadcast(u, shape=x.shape, axes=(axis,))
    return where(winner, repeated, zeros_like(repeated))


_AXIS_ROWS = rows(
    Spec(((5,),), {"axis": 0}),
    Spec(((3, 5),), {"axis": 1}),
    Spec(((3, 5),), {"axis": 0}),
    Spec(((2, 3, 4),), {"axis": 1}, dtypes=("float64",)),
    Spec(((3, 1),), {"axis": 1}),
    Spec(((0, 3),), {"axis": 1}),
    Spec(((3, 4),), {"axis": 1}, dtypes=("int32",)),
)

argmax: Primitive = Primitive(
    "argmax",
    Role.BLOCKER,
    "z = the place of the largest value along one axis, the first on a tie: (..., n, ...) -> (..., ...) int64.",
    shape=lambda x, *, axis: TensorType(_one_axis("argmax", x, axis), int64),
    reference=lambda x, *, axis: np.argmax(x, axis=axis),
    vjp=Blocked("a place has no slope"),
    local=("0",),
    saves=(),
    spec=_AXIS_ROWS,
    heavy=True,
)

argmin: Primitive = Primitive(
    "argmin",
    Role.BLOCKER,
    "z = the place of the smallest value along one axis, the first on a tie: (..., n, ...) -> (..., ...) int64.",
    shape=lambda x, *, axis: TensorType(_one_axis("argmin", x, axis), int64),
    reference=lambda x, *, axis: np.argmin(x, axis=axis),
    vjp=Blocked("a place has no slope"),
    local=("0",),
    saves=(),
    spec=_AXIS_ROWS,
    heavy=True,
)


def _extreme(name: str, reference: Any, place: Primitive, doc: str) -> Primitive:
    def largest(x: Array, *, axis: int) -> Any:
        return reference(x, axis=axis)

    return Primitive(
        name,
        Role.ROUTER,
        doc,
        shape=lambda x, *, axis: TensorType(_one_axis(name, x, axis), x.dtype),
        reference=largest,
        vjp=(lambda z, u: _route_to(place(z.inputs[0], axis=z.attributes["axis"]), z, u),),
        local=("1 at the winner, else 0",),
        saves=(0,),
        spec=_AXIS_ROWS,
        reduces=True,
    )


max_: Primitive = _extreme(
    "max",
    np.max,
    argmax,
    "z = the largest value along one axis: (..., n, ...) -> (..., ...). The gradient goes to the first largest one.",
)
min_: Primitive = _extreme(
    "min",
    np.min,
    argmin,
    "z = the smallest value along one axis: (..., n, ...) -> (..., ...). The gradient goes to the first smallest one.",
)
