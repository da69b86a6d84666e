"""Primitives that take indices as an input: gather, its adjoint scatter_add, and one_hot."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import as_dtype, bool_, is_integer
from chainrule.graph.node import Array, Role, TensorType
from chainrule.ops.broadcast import dtype_of_sum
from chainrule.ops.primitive import Blocked, Primitive, Spec, rows


def _check_integers(name: str, indices: TensorType) -> None:
    if not is_integer(indices.dtype):
        raise UserError(f"{name}: indices must be integers, got {indices}: cast to int64 first")


def _check_range(name: str, indices: Array, size: int) -> None:
    wrong = (indices < 0) | (indices >= size)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise UserError(f"{name}: index {indices[place]} at {list(place)} is outside 0 to {size - 1}")


def _gather_shape(x: TensorType, indices: TensorType, *, axis: int) -> TensorType:
    _check_integers("gather", indices)
    if not 0 <= axis < len(x.shape):
        raise UserError(f"gather: axis {axis} is outside {x}: give one of 0 to {len(x.shape) - 1}")
    return TensorType(x.shape[:axis] + indices.shape + x.shape[axis + 1 :], x.dtype)


def _gather_reference(x: Array, indices: Array, *, axis: int) -> Array:
    _check_range("gather", indices, x.shape[axis])
    return np.take(x, indices, axis=axis)


gather: Primitive = Primitive(
    "gather",
    Role.MOVER,
    "z = the slices of x that the indices name along an axis: (a, n, b), (i, j) -> (a, i, j, b) for axis=1.",
    shape=_gather_shape,
    reference=_gather_reference,
    vjp=(
        lambda z, u: scatter_add(u, z.inputs[1], axis=z.attributes["axis"], size=z.inputs[0].shape[z.attributes["axis"]]),
        None,
    ),
    local=("1 from each place it was taken to", "0"),
    saves=(1,),
    spec=rows(
        Spec(((5,), (3,)), {"axis": 0}, dtypes=("float32", "int64")),
        Spec(((2, 5, 3), (2, 2)), {"axis": 1}, dtypes=("float64", "int32")),
        Spec(((5, 2), ()), {"axis": 0}, dtypes=("float32", "int64")),
        Spec(((5, 2), (0,)), {"axis": 0}, dtypes=("float32", "int64")),
    ),
    heavy=True,
)


def _scatter_shape(u: TensorType, indices: TensorType, *, axis: int, size: int) -> TensorType:
    _check_integers("scatter_add", indices)
    if u.dtype == bool_:
        raise UserError(f"scatter_add: is not defined for bool, got {u}: cast to int32 first to count")
    end = axis + len(indices.shape)
    if u.shape[axis:end] != indices.shape:
        raise UserError(f"scatter_add: axes {axis} to {end - 1} of {u} do not match the indices {indices}")
    return TensorType((*u.shape[:axis], size, *u.shape[end:]), u.dtype)


def _scatter_reference(u: Array, indices: Array, *, axis: int, size: int) -> Array:
    _check_range("scatter_add", indices, size)
    before, after = u.shape[:axis], u.shape[axis + indices.ndim :]
    out = np.zeros((*before, size, *after), dtype_of_sum(u.dtype, indices.size))
    flat = u.reshape(*before, indices.size, *after)
    np.add.at(np.moveaxis(out, axis, 0), indices.reshape(-1), np.moveaxis(flat, axis, 0))
    return out.astype(u.dtype, copy=False)


scatter_add: Primitive = Primitive(
    "scatter_add",
    Role.MOVER,
    "z = zeros of length size along an axis, with each slice of x added where the indices say: the adjoint of gather, "
    "(a, i, j, b), (i, j) -> (a, size, b) for axis=1.",
    shape=_scatter_shape,
    reference=_scatter_reference,
    vjp=(lambda z, u: gather(u, z.inputs[1], axis=z.attributes["axis"]), None),
    local=("1 at its new place", "0"),
    saves=(1,),
    spec=rows(
        Spec(((3,), (3,)), {"axis": 0, "size": 5}, dtypes=("float32", "int64")),
        Spec(((2, 2, 2, 3), (2, 2)), {"axis": 1, "size": 5}, dtypes=("float64", "int32")),
        Spec(((0, 2), (0,)), {"axis": 0, "size": 5}, dtypes=("float32", "int64")),
    ),
    heavy=True,
)


def _one_hot_shape(indices: TensorType, *, classes: int, dtype: Any) -> TensorType:
    _check_integers("one_hot", indices)
    return TensorType((*indices.shape, classes), as_dtype(dtype))


def _one_hot_reference(indices: Array, *, classes: int, dtype: Any) -> Array:
    return (indices[..., None] == np.arange(classes)).astype(dtype)  # type: ignore[no-any-return]


one_hot: Primitive = Primitive(
    "one_hot",
    Role.BLOCKER,
    "z = rows that are 1 at the index and 0 elsewhere (all 0 for an index outside): (...) -> (..., classes).",
    shape=_one_hot_shape,
    reference=_one_hot_reference,
    vjp=Blocked("an index has no slope"),
    local=("0",),
    saves=(),
    spec=rows(
        Spec(((4,),), {"classes": 5, "dtype": as_dtype("float32")}, dtypes=("int64",)),
        Spec(((2, 3),), {"classes": 4, "dtype": bool_}, dtypes=("int32",)),
        Spec(((0,),), {"classes": 4, "dtype": as_dtype("float64")}, dtypes=("uint8",)),
    ),
)
