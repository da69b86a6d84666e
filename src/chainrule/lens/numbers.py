"""Arrays as short text for people, and as plain data for a page."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.graph import Array
from chainrule.graph.dtypes import float64, is_float

MOST_NUMBERS = 16  # an array of more is described, not written out


def number(value: float) -> str:
    """Six significant digits: ``-2.6``, ``1e-08``, ``inf``, ``nan``."""
    return f"{value + 0.0:.6g}"  # + 0.0 turns -0 into 0


def text(array: Array) -> str:
    """``[3, 4]``; a large array by its shape, range, mean size and zeros: ``[8, 32], -1.2 to 3.4, mean |.| 0.4, 52% zeros``."""
    if array.size <= MOST_NUMBERS:
        return _nested(array.tolist() if not is_float(array.dtype) else array.astype(float64).tolist())
    finite = _finite(array)
    span = f", {number(finite.min())} to {number(finite.max())}" if finite.size else ""
    return f"{list(array.shape)}{span}, {_size(array, finite)}"


def brief(array: Array, most: int = 60) -> str:
    """As ``text``, but a long one by its mean size and zeros alone: ``mean |.| 0.4, 52% zeros``."""
    full = text(array) if array.size <= MOST_NUMBERS else ""
    return full if 0 < len(full) <= most else _size(array, _finite(array))


def plain(array: Array) -> dict[str, Any]:
    """For JSON: shape, dtype, counts, range, and the numbers of a small array (null where not finite)."""
    finite = _finite(array)
    found: dict[str, Any] = {"shape": list(array.shape), "dtype": array.dtype.name}
    if array.size <= MOST_NUMBERS:
        numbers = array.astype(float64)
        found["numbers"] = np.where(np.isfinite(numbers), numbers.astype(object), None).tolist()
    known = finite.size > 0
    found |= {
        "mean_size": float(np.abs(finite).mean()) if known else None,
        "min": float(finite.min()) if known else None,
        "max": float(finite.max()) if known else None,
        "zeros": int((array == 0).sum()),
        "nan": int(np.isnan(array.astype(float64)).sum()),
        "inf": int(np.isinf(array.astype(float64)).sum()),
    }
    return found


def all_finite(array: Array) -> bool:
    return bool(np.isfinite(array.astype(float64)).all())


def _nested(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_nested, value))}]"
    return number(value) if isinstance(value, float) else str(value)


def _finite(array: Array) -> Array:
    numbers = array.astype(float64)
    return numbers[np.isfinite(numbers)]


def _size(array: Array, finite: Array) -> str:
    """``mean |.| 0.4, 52% zeros, 3 not finite``."""
    facts = [f"mean |.| {number(float(np.abs(finite).mean()))}"] if finite.size else []
    zeros = int((array == 0).sum())
    if zeros:
        facts.append(f"{100 * zeros / array.size:.3g}% zeros")
    for word, test in (("nan", np.isnan), ("inf", np.isinf)):
        count = int(test(array.astype(float64)).sum())
        if count:
            facts.append(f"{count} {word}")
    return ", ".join(facts)
