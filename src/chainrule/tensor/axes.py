"""Axis arguments, NumPy's way: a number or several, counted from either end."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.arguments import as_whole, as_whole_numbers
from chainrule.errors import UserError

Axes = int | Sequence[int] | None


def as_axes(name: str, axis: Axes, ndim: int) -> tuple[int, ...]:
    """Axes as ascending non-negative numbers."""
    if axis is None:
        return tuple(range(ndim))
    single = as_whole(axis)
    given = as_whole_numbers(axis) if single is None else (single,)
    if given is None:
        raise UserError(f"{name}: axis must be a whole number, or several of them in a tuple, got {axis!r}")
    if any(not -ndim <= i < ndim for i in given):
        if ndim == 0:
            raise UserError(f"{name}: there is no axis {axis}, as this is a single number without axes: leave axis out")
        raise UserError(f"{name}: axis {axis} is outside a tensor with {ndim} axes: give {-ndim} to {ndim - 1}")
    found = tuple(sorted(i % ndim for i in given))
    if len(set(found)) != len(found):
        raise UserError(f"{name}: axis {axis} names an axis twice")
    return found


def as_axis(name: str, axis: int, ndim: int) -> int:
    """One axis as a non-negative number."""
    if as_whole(axis) is None:
        raise UserError(f"{name}: takes one axis, a whole number, got {axis!r}")
    return as_axes(name, axis, ndim)[0]
