"""Answers as bytes: JSON, in which a number that is not finite is null, and arrays of float32 with a header about them.

Text from outside (names of files, classes and layers) is in JSON only, and written out where it would be obeyed: see
``display``.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.responses import Response

from chainrule.display import displayed
from chainrule.graph import Array

MOST_NUMBERS = 65_536
"""Numbers of an array that are sent at once; of a larger one, every so many rows and columns are."""

FEW_NUMBERS = 16
"""An array of at most so many is in its summary, number by number."""

TENSOR_HEADER = "X-Chainrule-Tensor"


def plain(value: Any) -> Any:
    """``value`` as JSON has it: NumPy's numbers and arrays as Python's, what is not finite as None, text without controls."""
    if isinstance(value, str):
        return displayed(value)
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {displayed(name): plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(_widened(value).tolist())
    if isinstance(value, np.generic):
        return plain(_widened(np.asarray(value)).item())
    return [plain(one) for one in value]


def _widened(array: Array) -> Array:
    """Floats of few bits as float64, which JSON's numbers are."""
    return array if array.dtype.kind in "biu" else array.astype(np.float64)


def json_response(value: Any, status: int = 200) -> Response:
    """``value`` as JSON."""
    body = json.dumps(plain(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Response(body.encode(), status, media_type="application/json")


def summary(array: Array) -> dict[str, Any]:
    """What an array holds, in a few numbers: extremes, mean and norm of those that are finite, and all of at most 16."""
    once, times = _as_it_lies(array)
    flat = np.ascontiguousarray(once).reshape(-1)
    if flat.dtype.kind != "f":
        flat = flat.astype(np.float64)
    extremes: Array | None = np.array([flat.min(), flat.max()]) if flat.size else None
    finite = flat
    if extremes is not None and not np.isfinite(extremes).all():  # each of them is nan if any number is
        finite = flat[np.isfinite(flat)]
        extremes = np.array([finite.min(), finite.max()]) if finite.size else None
    total, squares = _sums(finite)
    known = extremes is not None
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "size": array.size,
        "min": float(extremes[0]) if extremes is not None else None,
        "max": float(extremes[1]) if extremes is not None else None,
        "mean": total / finite.size if known else None,
        "norm": math.sqrt(squares * times) if known else None,
        "zeros": 1 - np.count_nonzero(flat) / flat.size if flat.size else 0.0,
        "nonfinite": (flat.size - finite.size) * times,
        "numbers": array.astype(np.float64).ravel().tolist() if array.size <= FEW_NUMBERS else None,
    }


def _as_it_lies(array: Array) -> tuple[Array, int]:
    """An array with its axes in the order in which they lie in memory, without the copies that a broadcast makes; and how often
    each of its numbers stands in the whole one. So a transpose need not be copied."""
    if not array.size:
        return array, 1
    repeated = [axis for axis, stride in enumerate(array.strides) if stride == 0]
    index = tuple(0 if axis in repeated else slice(None) for axis in range(array.ndim))
    once = np.asarray(array[index]).squeeze()
    order = sorted(range(once.ndim), key=lambda axis: -abs(once.strides[axis]))
    return once.transpose(order), math.prod(array.shape[axis] for axis in repeated)


_BLOCK = 8192  # numbers that stay in the cache as float64; and NumPy's dot starts no threads for so few
_BLOCKS = 8  # at once


def _sums(numbers: Array) -> tuple[float, float]:
    """The sum and the sum of squares of finite numbers, in float64."""
    total = squares = 0.0
    whole = numbers.size // _BLOCK * _BLOCK
    ends = [*range(0, whole, _BLOCK * _BLOCKS), whole, numbers.size]
    with np.errstate(over="ignore"):
        for begin, end in itertools.pairwise(ends):
            if begin < end:
                blocks = numbers[begin:end].astype(np.float64).reshape(-1, min(_BLOCK, end - begin))
                total = sum(blocks.sum(axis=1).tolist(), start=total)
                squares = sum((float(np.dot(block, block)) for block in blocks), start=squares)
    return total, squares


class Summaries:
    """Summaries of arrays of one pass: as a gradient arrives where another node passed it on, many are the same array."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], dict[str, Any]] = {}

    def __repr__(self) -> str:
        return f"<Summaries of {len(self._known)} arrays>"

    def of(self, array: Array) -> dict[str, Any]:
        """The summary of an array, which lives as long as this object and does not change."""
        key = array.__array_interface__["data"][0], array.shape, array.strides, array.dtype
        if key not in self._known:
            self._known[key] = summary(array)
        return self._known[key]


def tensor_response(array: Array, further: Mapping[str, Any] | None = None) -> Response:
    """The numbers of an array as float32, little endian, row by row, with a header that says their shape.

    Of more than 65,536 numbers only some are sent: see ``reduced``. ``further`` facts are in the header too.
    """
    shown, step = reduced(array)
    numbers = np.ascontiguousarray(shown, "<f4")
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array.astype(np.float64)
    described = {
        **(further or {}),
        "shape": list(numbers.shape),
        "of": list(array.shape),
        "step": step,
        "min": finite.min() if finite.size else None,
        "max": finite.max() if finite.size else None,
        "nonfinite": int(array.size - finite.size),
    }
    header = json.dumps(plain(described), allow_nan=False)  # in ASCII, as headers are
    return Response(numbers.tobytes(), media_type="application/octet-stream", headers={TENSOR_HEADER: header})


def reduced(array: Array) -> tuple[Array, list[int]]:
    """At most 65,536 numbers of ``array``, and the step along each axis at which they are taken: of the longer one of the last
    two axes, again and again, until they are few enough."""
    step = [1] * array.ndim
    shown = array
    while shown.size > MOST_NUMBERS:
        axes = [axis for axis in range(array.ndim)[-2:] if shown.shape[axis] > 1] or list(range(array.ndim))
        axis = max(axes, key=lambda one: shown.shape[one])
        step[axis] += 1
        shown = array[tuple(slice(None, None, one) for one in step)]
    return shown, step
