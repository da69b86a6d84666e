"""Borders: of a number, of the edge repeated, of the image mirrored at its edge, or of its other side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.arguments import as_whole, as_whole_numbers
from chainrule.errors import UserError, unknown_value
from chainrule.nn.conversion import on_tensors
from chainrule.tensor import Tensor, functions

MODES = ("constant", "reflect", "replicate", "circular")


@on_tensors
def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """``x`` with a border. ``pad`` has two numbers per axis, the last axis first: (left, right, top, bottom) for an image.

    ``mode`` says what the border is made of: "constant" of ``value`` (0 by default), "reflect" of the image mirrored at its
    outermost elements, "replicate" of these elements, "circular" of the opposite side. Only with "constant" may a number be
    negative, which cuts off as many elements. ``x.pad(...)`` has NumPy's order, (before, after) for each axis from the first.
    """
    sides = as_whole_numbers(pad)
    if sides is None or len(sides) % 2 or len(sides) > 2 * x.ndim:
        raise UserError(
            f"pad: needs two whole numbers for each of the last axes of {x.shape}, such as (left, right, top, bottom), "
            f"got {pad!r}"
        )
    if mode not in MODES:
        raise unknown_value("mode", mode, MODES)
    borders = [(x.ndim - 1 - i, sides[2 * i], sides[2 * i + 1]) for i in range(len(sides) // 2)]
    if mode == "constant":
        return _with_constant(x, borders, 0 if value is None else value)
    if value is not None:
        raise UserError(f"pad: value belongs to mode='constant', mode={mode!r} has none: leave it out, got {value!r}")
    for axis, before, after in borders:
        _check_copies(x, axis, before, after, mode)
    for axis, before, after in borders:
        x = _with_copies(x, axis, before, after, mode)
    return x


def _with_constant(x: Tensor, borders: list[tuple[int, int, int]], value: float) -> Tensor:
    width, kept = [(0, 0)] * x.ndim, [slice(None)] * x.ndim
    for axis, before, after in borders:
        if before + after + x.shape[axis] < 0:
            raise UserError(
                f"pad: ({before}, {after}) cuts off more than the {x.shape[axis]} elements of axis {axis} of {x.shape}"
            )
        width[axis] = max(before, 0), max(after, 0)
        kept[axis] = slice(max(-before, 0), x.shape[axis] + min(after, 0))
    if any(part != slice(0, size) and part != slice(None) for part, size in zip(kept, x.shape, strict=True)):
        x = x[tuple(kept)]
    return x.pad(width, value) if any(sum(both) for both in width) else x


def _check_copies(x: Tensor, axis: int, before: int, after: int, mode: str) -> None:
    """Raise a UserError unless an axis has the elements that a border of so many is made of."""
    size = x.shape[axis]
    most = {"reflect": size - 1, "circular": size, "replicate": max(before, after) if size else 0}[mode]
    if not 0 <= min(before, after) <= max(before, after) <= most:
        limit = "" if mode == "replicate" and size else f" to {most}"
        raise UserError(
            f"pad: with mode={mode!r}, axis {axis} of {x.shape} takes numbers from 0{limit}, got ({before}, {after})"
        )


def _with_copies(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """``x`` with copies of its own elements before and after it along an axis."""
    size = x.shape[axis]

    def part(begin: int, end: int) -> Tensor:
        return x[(slice(None),) * axis + (slice(begin, end),)]

    if mode == "replicate":
        first, last = ((*x.shape[:axis], width, *x.shape[axis + 1 :]) for width in (before, after))
        parts = [part(0, 1).broadcast_to(first), x, part(size - 1, size).broadcast_to(last)]
    elif mode == "reflect":
        parts = [part(1, before + 1).flip(axis), x, part(size - 1 - after, size - 1).flip(axis)]
    else:
        parts = [part(size - before, size), x, part(0, after)]
    kept = [one for one, width in zip(parts, (before, 1, after), strict=True) if width]
    return functions.concatenate(kept, axis) if len(kept) > 1 else x


def border_of(what: str, padding: Any) -> tuple[int, int, int, int]:
    """The border of an image as (left, right, top, bottom), given so or as a single number; a UserError names ``what``."""
    sides = as_whole_numbers([padding] if as_whole(padding) is not None else padding)
    if sides is None or len(sides) not in (1, 4):
        raise UserError(f"{what} must be a whole number, or four: (left, right, top, bottom), got {padding!r}")
    left, right, top, bottom = (sides[0],) * 4 if len(sides) == 1 else sides
    return left, right, top, bottom
