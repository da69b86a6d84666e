"""The primitive that puts numbers along an axis in order: argsort."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import int64
from chainrule.graph.node import Array, Role, TensorType
from chainrule.ops.primitive import Blocked, Primitive, Spec, rows


def _argsort_shape(x: TensorType, *, axis: int, descending: bool) -> TensorType:
    if not 0 <= axis < len(x.shape):
        raise UserError(f"argsort: axis {axis} is outside {x}: give one of 0 to {len(x.shape) - 1}")
    return TensorType(x.shape, int64)


def _argsort_reference(x: Array, *, axis: int, descending: bool) -> Any:
    """Equal numbers keep their order, also in descending order: it is the ascending order of the reversed axis, reversed."""
    if not descending:
        return np.argsort(x, axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)


argsort: Primitive = Primitive(
    "argsort",
    Role.BLOCKER,
    "z = the indices that put x in order along an axis: (..., n, ...) -> (..., n, ...) int64. Equal numbers keep their order, "
    "nan counts as the largest number.",
    shape=_argsort_shape,
    reference=_argsort_reference,
    vjp=Blocked("an index has no slope"),
    local=("0",),
    saves=(),
    spec=rows(
        Spec(((5,),), {"axis": 0, "descending": False}),
        Spec(((3, 50),), {"axis": 1, "descending": True}),
        Spec(((3, 5),), {"axis": 0, "descending": False}),
        Spec(((2, 30, 4),), {"axis": 1, "descending": True}, dtypes=("float64",)),
        Spec(((0, 3),), {"axis": 0, "descending": False}),
        Spec(((3, 0),), {"axis": 0, "descending": False}),
        Spec(((3, 40),), {"axis": 1, "descending": True}, dtypes=("int64",)),
        Spec(((3, 40),), {"axis": 1, "descending": False}, dtypes=("bool",)),
    ),
    heavy=True,
)
