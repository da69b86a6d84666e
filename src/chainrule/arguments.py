"""Whole numbers among arguments, such as sizes, axes and seeds: what counts as a whole number is said here alone.

An integer of Python or NumPy, or an array or tensor that holds a single integer: whatever ``operator.index`` takes. It takes
bools too, but a bool is a flag that was passed in the wrong place, and no size.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, TypeGuard

from chainrule.errors import UserError

_INTEGERS = frozenset({int})


def as_whole(value: Any) -> int | None:
    """``value`` as an integer of Python; None if it is no whole number."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or getattr(value, "dtype", None) == "bool":
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def whole_number(what: str, value: Any, at_least: int | None = None) -> int:
    """``value`` as an integer of Python; a UserError if it is no whole number or below ``at_least``."""
    number = as_whole(value)
    if number is None or (at_least is not None and number < at_least):
        limit = "" if at_least is None else f" of at least {at_least}"
        raise UserError(f"{what} must be a whole number{limit}, got {value!r}")
    return number


def as_whole_numbers(values: Any) -> tuple[int, ...] | None:
    """Several whole numbers: of a tuple, a list, an array of integers; None if ``values`` is anything else."""
    if type(values) is tuple and _INTEGERS.issuperset(map(type, values)):
        return values
    if isinstance(values, str | bytes | dict | set | frozenset) or not _has_members(values):
        return None
    numbers = tuple([as_whole(one) for one in values])
    return numbers if _all_whole(numbers) else None


def _has_members(values: Any) -> TypeGuard[Iterable[Any]]:
    """Whether a loop over ``values`` is possible: an array without axes has ``__iter__`` too, and refuses."""
    return hasattr(values, "__iter__") and getattr(values, "ndim", 1) == 1


def _all_whole(numbers: tuple[int | None, ...]) -> TypeGuard[tuple[int, ...]]:
    return None not in numbers


def shape_of(what: str, shape: Any) -> tuple[int, ...]:
    """A shape from a whole number or several, none negative: a UserError names ``what`` otherwise."""
    single = as_whole(shape)
    sizes = as_whole_numbers(shape) if single is None else (single,)
    if sizes is None or min(sizes, default=0) < 0:
        raise UserError(f"{what} must be sizes of at least 0, as a whole number or a tuple, got {shape!r}")
    return sizes


def size_for_axes(what: str, size: Any, axes: int, at_least: int) -> int | tuple[int, ...]:
    """A size that may differ by axis: a whole number for all ``axes``, or that many. A UserError names ``what`` otherwise."""
    single = as_whole(size)
    if single is not None and single >= at_least:
        return single
    several = as_whole_numbers(size) if single is None else None
    if several is not None and len(several) == axes and min(several) >= at_least:
        return several
    pair = " or a pair (height, width)" if axes == 2 else ""
    raise UserError(f"{what} must be a whole number of at least {at_least}{pair}, got {size!r}")
