"""Axis arguments, NumPy's way: a number or several, counted from either end."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from chainrule.errors import UserError

Axes = int | Sequence[int] | None


def as_axes(name: str, axis: Axes, ndim: int) -> tuple[int, ...]:
    """Axes as ascending non-negative numbers."""
    if axis is None:
        return tuple(range(ndim))
    given = tuple(axis) if isinstance(axis, Sequence) else (operator.index(axis),)
    if any(not -ndim <= i < ndim for i in given):
        raise UserError(f"{name}: axis {axis} is outside a tensor with {ndim} axes: give {-ndim} to {ndim - 1}")
    found = tuple(sorted(i % ndim for i in given))
    if len(set(found)) != len(found):
        raise UserError(f"{name}: axis {axis} names an axis twice")
    return found


def as_axis(name: str, axis: int, ndim: int) -> int:
    """One axis as a non-negative number."""
    if isinstance(axis, Sequence):
        raise UserError(f"{name}: takes one axis, got {axis}")
    return as_axes(name, axis, ndim)[0]
