"""Axis arguments as in NumPy: one axis or several, as whole numbers; negative numbers count back from the last axis."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.arguments import as_whole, as_whole_numbers
from chainrule.errors import UserError

Axes = int | Sequence[int] | None
"""What users pass as ``axis``; None stands for all axes."""


def as_axes(name: str, axis: Axes, ndim: int) -> tuple[int, ...]:
    """The axes that ``axis`` names in a tensor of ``ndim`` axes, in ascending order, as numbers from 0 to ndim - 1.

    ``name`` is the operation that errors name.

    Raises:
        UserError: ``axis`` is no whole number and no tuple of them, lies outside the tensor, or names an axis twice.
    """
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
    axes = tuple(sorted(i % ndim for i in given))
    if len(set(axes)) != len(axes):
        raise UserError(f"{name}: axis {axis} names an axis twice")
    return axes


def as_axis(name: str, axis: int, ndim: int) -> int:
    """The axis that ``axis`` names, as a number from 0 to ndim - 1.

    Raises:
        UserError: ``axis`` is no single whole number, or lies outside the tensor.
    """
    if as_whole(axis) is None:
        raise UserError(f"{name}: takes one axis, a whole number, got {axis!r}")
    return as_axes(name, axis, ndim)[0]
