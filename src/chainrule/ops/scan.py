"""The primitive that adds up as it goes along an axis: cumsum."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import bool_, float32, float64
from chainrule.graph.node import Array, Role, TensorType
from chainrule.ops.primitive import Primitive, Spec, rows


def _cumsum_shape(x: TensorType, *, axis: int, reverse: bool) -> TensorType:
    if x.dtype == bool_:
        raise UserError(f"cumsum: is not defined for bool, got {x}: cast to int32 first to count")
    if not 0 <= axis < len(x.shape):
        raise UserError(f"cumsum: axis {axis} is outside {x}: give one of 0 to {len(x.shape) - 1}")
    return x


def _cumsum_reference(x: Array, *, axis: int, reverse: bool) -> Any:
    """The sums in the dtype of ``x``. float32 is added up in float64, so that the error does not grow with the length."""
    wide = float64 if x.dtype == float32 else x.dtype
    if reverse:
        return np.flip(np.cumsum(np.flip(x, axis), axis, wide), axis).astype(x.dtype)
    return np.cumsum(x, axis, wide).astype(x.dtype)


cumsum: Primitive = Primitive(
    "cumsum",
    Role.DISTRIBUTOR,
    "z = the sums of x up to each place along an axis, that place included; with reverse, from each place to the end: "
    "(..., n, ...) -> (..., n, ...).",
    shape=_cumsum_shape,
    reference=_cumsum_reference,
    vjp=(lambda z, u: cumsum(u, axis=z.attributes["axis"], reverse=not z.attributes["reverse"]),),
    local=("1 at its place and after it",),
    saves=(),
    spec=rows(
        Spec(((5,),), {"axis": 0, "reverse": False}),
        Spec(((3, 5),), {"axis": 1, "reverse": True}),
        Spec(((2, 3, 4),), {"axis": 1, "reverse": False}, dtypes=("float64",)),
        Spec(((2, 3, 70),), {"axis": 1, "reverse": True}),
        Spec(((0, 3),), {"axis": 0, "reverse": False}),
        Spec(((3, 0),), {"axis": 0, "reverse": False}),
        Spec(((3, 4),), {"axis": 0, "reverse": True}, dtypes=("int64",)),
    ),
    heavy=True,
)
