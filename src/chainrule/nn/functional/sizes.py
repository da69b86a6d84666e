"""Sizes and paddings of windows, which users give as a number for all axes or a number for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.arguments import as_whole, as_whole_numbers, size_for_axes
from chainrule.errors import UserError

Pair = tuple[int, int]
Size = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[tuple[int, int]]


def pair(name: str, size: Any, at_least: int = 1) -> Pair:
    """``size``, a number for both axes or a pair, as (height, width); a UserError names ``name`` if it is neither."""
    if type(size) is int and size >= at_least:
        return size, size
    sizes = size_for_axes(name, size, 2, at_least)
    return (sizes, sizes) if isinstance(sizes, int) else (sizes[0], sizes[1])


def single(name: str, size: Any, at_least: int) -> int:
    """A size for a single axis, given as a number or as a tuple that holds it."""
    sizes = size_for_axes(name, size, 1, at_least)
    return sizes if isinstance(sizes, int) else sizes[0]


def sides(padding: Any, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """Padding as ((top, bottom), (left, right)), given as a number, a pair, a pair of pairs, 'valid' or 'same'."""
    if type(padding) is int and padding >= 0:
        return (padding, padding), (padding, padding)
    if isinstance(padding, str) and padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, str) and padding == "same":
        height, width = _same(kernel, stride, dilation)
        return height, width
    numbers = padding_numbers("", padding, 2, by_name=True)
    if isinstance(numbers, int):
        return (numbers, numbers), (numbers, numbers)
    height, width = [(side, side) if isinstance(side, int) else side for side in numbers]
    return height, width


def _same(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[Pair]:
    """The padding (before, after) of each axis that keeps its size."""
    if any(step != 1 for step in stride):
        raise UserError(
            f"padding='same' keeps the size, which needs stride 1, got stride {tuple(stride)}: give padding as numbers"
        )
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def triple(name: str, size: Any, at_least: int = 1) -> tuple[int, int, int]:
    """``size``, a number for all axes or three, as (depth, height, width); a UserError names ``name`` if it is neither."""
    sizes = size_for_axes(name, size, 3, at_least)
    return (sizes, sizes, sizes) if isinstance(sizes, int) else (sizes[0], sizes[1], sizes[2])


def faces(padding: Any, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> tuple[Pair, Pair, Pair]:
    """Padding of a volume as (before, after) for depth, height and width: a number, three numbers, 'valid' or 'same'."""
    if isinstance(padding, str) and padding == "same":
        depth, height, width = _same(kernel, stride, dilation)
        return depth, height, width
    numbers = padding_numbers("", padding, 3, by_name=True)
    front, top, left = triple("padding", 0 if numbers == "valid" else numbers, 0)
    return (front, front), (top, top), (left, left)


def ends(padding: Any, kernel: int, stride: int, dilation: int) -> Pair:
    """Padding of a signal as (before, after), given as a number, 'valid' or 'same'."""
    border = padding if isinstance(padding, str) else single("padding", padding, 0)
    return sides(border, (1, kernel), (1, stride), (1, dilation))[1]


def padding_numbers(layer: str, padding: Any, axes: int, by_name: bool) -> Any:
    """A padding with Python integers: a number for all sides, a number per axis, or (before, after) per axis; or its name.

    Names and (before, after) are allowed only with ``by_name``.

    Raises:
        UserError: the padding is none of these; the message begins with ``layer``.
    """
    what = f"{layer}: padding" if layer else "padding"
    if isinstance(padding, str):
        if by_name and padding in ("same", "valid"):
            return padding
        names = "'same', 'valid' or " if by_name else ""
        raise UserError(f"{what} must be {names}numbers, got {padding!r}")
    if by_name and axes == 2 and as_whole(padding) is None and isinstance(padding, Sequence | np.ndarray) and len(padding) == 2:
        height, width = as_whole_numbers(padding[0]), as_whole_numbers(padding[1])
        if height is not None and width is not None and len(height) == len(width) == 2 and min(*height, *width) >= 0:
            return height, width
    return size_for_axes(what, padding, axes, 0)
