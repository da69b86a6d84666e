"""Arrays as short text for people, and as plain data for a page."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.graph import Array
from chainrule.graph.dtypes import float64, is_float

MOST_NUMBERS = 16  # an array of more elements is described, not written out


def number(value: float, digits: int = 6) -> str:
    """A number with at most ``digits`` significant digits: ``-2.6``, ``1e-08``, ``inf``, ``nan``."""
    return f"{value + 0.0:.{digits}g}"  # + 0.0 turns -0 into 0


def text(array: Array, most: int = 60) -> str:
    """A small array as ``[3, 4]``; if that is longer than ``most``, as ``[8, 32], -1.2 to 3.4, mean |.| 0.4, 52% zeros``."""
    written = _written(array, most)
    if written:
        return written
    finite = _finite(array)
    span = f", {number(finite.min(), 3)} to {number(finite.max(), 3)}" if finite.size else ""
    return f"{list(array.shape)}{span}, {_size(array, finite)}"


def is_written(array: Array, most: int = 60) -> bool:
    """Whether ``text`` and ``brief`` give the numbers themselves."""
    return bool(_written(array, most))


def brief(array: Array, most: int = 60) -> str:
    """As ``text``, but a large array without its shape and range: ``mean |.| 0.4, 52% zeros``."""
    return _written(array, most) or _size(array, _finite(array))


def mean_size(array: Array) -> float:
    """The mean of |x| over the finite numbers; nan if there are none."""
    finite = _finite(array)
    with np.errstate(over="ignore"):
        return float(np.abs(finite).mean()) if finite.size else float("nan")


def plain(array: Array) -> dict[str, Any]:
    """An array for JSON: shape, dtype, counts, range, and the numbers if it is small (null where not finite)."""
    finite = _finite(array)
    found: dict[str, Any] = {"shape": list(array.shape), "dtype": array.dtype.name}
    if array.size <= MOST_NUMBERS:
        found["numbers"] = _nulled(array.astype(float64).tolist())
    known = finite.size > 0
    found |= {
        "mean_size": size if math.isfinite(size := mean_size(array)) else None,
        "min": float(finite.min()) if known else None,
        "max": float(finite.max()) if known else None,
        "zeros": int((array == 0).sum()),
        "nan": int(np.isnan(array.astype(float64)).sum()),
        "inf": int(np.isinf(array.astype(float64)).sum()),
    }
    return found


def all_finite(array: Array) -> bool:
    """Whether no element is infinite or nan."""
    return bool(np.isfinite(array.astype(float64)).all())


def _written(array: Array, most: int) -> str:
    """The numbers of the array; empty if they are too many or too long."""
    if array.size > MOST_NUMBERS:
        return ""
    written = _nested(array.astype(float64).tolist() if is_float(array.dtype) else array.tolist())
    return written if len(written) <= most else ""


def _nested(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_nested, value))}]"
    return number(value) if isinstance(value, float) else str(value)


def _nulled(value: Any) -> Any:
    if isinstance(value, list):
        return [_nulled(one) for one in value]
    return value if math.isfinite(value) else None


def _finite(array: Array) -> Array:
    numbers: Array = array.astype(float64)
    return numbers[np.isfinite(numbers)]


def _size(array: Array, finite: Array) -> str:
    """``mean |.| 0.4, 52% zeros, 3 not finite``."""
    facts = [f"mean |.| {number(mean_size(array), 3)}"] if finite.size else []
    zeros = int((array == 0).sum())
    if zeros:
        facts.append(f"{100 * zeros / array.size:.3g}% zeros")
    for word, test in (("nan", np.isnan), ("inf", np.isinf)):
        count = int(test(array.astype(float64)).sum())
        if count:
            facts.append(f"{count} {word}")
    return ", ".join(facts)
