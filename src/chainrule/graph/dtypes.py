"""The seven dtypes, and the rule by which two of them are promoted to a common one.

Promotion follows one chain; the result of an operation on two tensors has the dtype further right:

    bool < uint8 < int32 < int64 < bfloat16 < float32 < float64

So an integer never widens a float: int64 with bfloat16 is bfloat16, as in JAX and PyTorch. Python numbers are weak: ``2 * x``
has the dtype of ``x``, unless the number does not fit the kind (``0.5 * integer`` is float32, ``2 * flag`` is int64).
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from chainrule.errors import UserError, unknown_value
from chainrule.habits import DTYPES

DType = np.dtype[Any]

bool_: DType = np.dtype(np.bool_)
uint8: DType = np.dtype(np.uint8)
int32: DType = np.dtype(np.int32)
int64: DType = np.dtype(np.int64)
bfloat16: DType = np.dtype(ml_dtypes.bfloat16)
float32: DType = np.dtype(np.float32)
float64: DType = np.dtype(np.float64)

PROMOTION_CHAIN: tuple[DType, ...] = (bool_, uint8, int32, int64, bfloat16, float32, float64)
_RANK: dict[DType, int] = {dtype: rank for rank, dtype in enumerate(PROMOTION_CHAIN)}
_BY_NAME: dict[str, DType] = {dtype.name: dtype for dtype in PROMOTION_CHAIN}
_NAMES: dict[DType, str] = {dtype: name for name, dtype in _BY_NAME.items()}
_FLOATS = frozenset((bfloat16, float32, float64))
_INTEGERS = frozenset((uint8, int32, int64))
_NORMAL: dict[DType, tuple[float, float]] = {
    bfloat16: (2.0**-126, (2 - 2.0**-7) * 2.0**127),
    float32: (2.0**-126, (2 - 2.0**-23) * 2.0**127),
    float64: (2.0**-1022, (2 - 2.0**-52) * 2.0**1023),
}
"""The smallest and the largest normal number of each float dtype; smaller ones (subnormal) have fewer digits."""


def as_dtype(dtype: object) -> DType:
    """The dtype that ``dtype`` (a name, a NumPy dtype or scalar type, a Python type) stands for; Python's float is float32.

    Raises:
        UserError: it is none of the seven.
    """
    if isinstance(dtype, np.dtype) and dtype in _RANK:
        return dtype
    if isinstance(dtype, str):
        if dtype not in _BY_NAME:
            raise _unknown(dtype)
        return _BY_NAME[dtype]
    if dtype is float:
        return float32
    try:
        if dtype is None:  # NumPy would make it float64
            raise TypeError
        converted = np.dtype(dtype).newbyteorder("=")  # type: ignore[call-overload]
    except TypeError:
        raise _unknown(dtype) from None
    if converted not in _RANK:
        raise UserError(f"dtype {converted.name} is not supported: convert to one of {', '.join(_BY_NAME)} first")
    return converted  # type: ignore[no-any-return]


def name_of(dtype: DType) -> str:
    """The name of a dtype, such as "float32": kept for the seven, as NumPy's ``dtype.name`` puts it together each time, which
    takes longer than making a node."""
    return _NAMES.get(dtype) or dtype.name


def _unknown(dtype: object) -> UserError:
    short = str(dtype).removeprefix("torch.")
    name = short if short in _BY_NAME else DTYPES.get(short)
    if name is None:
        return unknown_value("dtype", dtype, _BY_NAME)
    return UserError(f"unknown dtype {dtype!r}: it is called {name!r} here. Known: {', '.join(_BY_NAME)}")


def promote(*dtypes: DType) -> DType:
    """The dtype of an operation on tensors of these dtypes: the one furthest right in ``PROMOTION_CHAIN``."""
    first = dtypes[0]
    for dtype in dtypes:
        if dtype is not first:
            return max(dtypes, key=_RANK.__getitem__)
    return first


def promote_with_number(dtype: DType, number: bool | int | float) -> DType:
    """The dtype of an operation on a tensor of ``dtype`` and a Python number, which is weak."""
    if isinstance(number, bool):
        return dtype
    if isinstance(number, int):
        return int64 if dtype == bool_ else dtype
    return dtype if is_float(dtype) else float32


def holds(dtype: DType, number: float) -> bool:
    """Whether ``dtype`` can hold ``number``, which is so if it is in the range and, for integers and bool, whole."""
    if is_float(dtype):
        return not math.isfinite(number) or abs(number) <= _NORMAL[dtype][1]
    least, most = (0, 1) if dtype == bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return math.isfinite(number) and number == int(number) and least <= number <= most


def is_normal(dtype: DType, number: float) -> bool:
    """Whether ``number`` is in the range of normal numbers of the float ``dtype``: not 0, not subnormal, not too large."""
    smallest, largest = _NORMAL[dtype]
    return smallest <= abs(number) <= largest


def is_float(dtype: DType) -> bool:
    """Whether ``dtype`` is bfloat16, float32 or float64. Only floats have gradients."""
    return dtype in _FLOATS


def is_integer(dtype: DType) -> bool:
    """Whether ``dtype`` is uint8, int32 or int64, and not bool."""
    return dtype in _INTEGERS


def largest_number(dtype: DType) -> float:
    """The largest finite number of a float dtype."""
    return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
