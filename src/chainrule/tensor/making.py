"""Functions that make tensors of a shape or of the data of other libraries, under NumPy's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.arguments import as_whole, explained, real_number, shape_of
from chainrule.errors import UserError
from chainrule.graph import leaf
from chainrule.graph.dtypes import as_dtype, float32
from chainrule.tensor.tensor import Tensor, as_tensor


@explained
def zeros(shape: Sequence[int] | int, dtype: Any = float32) -> Tensor:
    """A tensor of ``shape`` whose elements are all 0. The default dtype is float32, not NumPy's float64."""
    return full(shape, 0, dtype)


@explained
def ones(shape: Sequence[int] | int, dtype: Any = float32) -> Tensor:
    """A tensor of ``shape`` whose elements are all 1. The default dtype is float32, not NumPy's float64."""
    return full(shape, 1, dtype)


@explained
def full(shape: Sequence[int] | int, value: float, dtype: Any = float32) -> Tensor:
    """A tensor of ``shape`` whose elements are all ``value``. The default dtype is float32, even for a whole number."""
    sizes = shape_of("the shape of a tensor", shape)
    if as_whole(dtype) is not None:
        raise UserError(f"the dtype of a tensor cannot be {dtype}: the shape is one argument, such as zeros((2, 3))")
    if not isinstance(value, bool | np.bool_):
        real_number("full: value", value)
    try:
        return Tensor(leaf(np.full(sizes, value, dtype=as_dtype(dtype))))
    except OverflowError:
        raise UserError(f"full: {value} does not fit dtype {as_dtype(dtype)}") from None


@explained
def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """A tensor of the shape of ``x`` whose elements are all 0, of the dtype of ``x`` by default."""
    return full_like(x, 0, dtype)


@explained
def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """A tensor of the shape of ``x`` whose elements are all 1, of the dtype of ``x`` by default."""
    return full_like(x, 1, dtype)


@explained
def full_like(x: Any, value: float, dtype: Any = None) -> Tensor:
    """A tensor of the shape of ``x`` whose elements are all ``value``, of the dtype of ``x`` by default."""
    like = as_tensor(x)
    return full(like.shape, value, like.dtype if dtype is None else dtype)


@explained
def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None) -> Tensor:
    """The numbers ``start``, ``start + step``, ... before ``stop``: (n). A single argument is ``stop``, with start 0.

    Without ``dtype``, whole numbers give int64 and others float64, as in NumPy.
    """
    for name, number in (("start", start), ("stop", stop), ("step", step)):
        fits = as_whole(number) is not None or isinstance(number, float | np.floating) or (name == "stop" and number is None)
        if not fits or (name == "step" and number == 0):
            raise UserError(f"arange: {name} must be a number{' other than 0' if name == 'step' else ''}, got {number!r}")
    values = np.arange(start, step=step) if stop is None else np.arange(start, stop, step)
    return as_tensor(values, None if dtype is None else as_dtype(dtype))


@explained
def from_dlpack(source: Any) -> Tensor:
    """A tensor with a copy of any array on the CPU that supports DLPack (PyTorch, JAX, NumPy, ...).

    Raises:
        UserError: ``source`` cannot hand over its data, for example because it is on a GPU.
    """
    try:
        return as_tensor(np.array(np.from_dlpack(source)))
    except (BufferError, RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"from_dlpack: {type(source).__name__} cannot hand over its data ({error}): copy it to the CPU first"
        ) from None
