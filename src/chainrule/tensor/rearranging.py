"""What copies elements to other places and is no single primitive: repeat, tile, roll, split, triangles, and borders.

All functions take and give nodes. An ``axis`` is not negative. What can be said by slices, flips and broadcasts is, as these
become part of the loops of a compiled function; only uneven repetitions are gathered.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.arguments import as_whole, as_whole_numbers
from chainrule.errors import UserError, unknown_value
from chainrule.graph import Node, leaf
from chainrule.habits import PAD_MODES
from chainrule.ops import compose

MODES = ("constant", "edge", "reflect", "wrap")
"""What a border may consist of: one number, the outermost elements, a mirror image, or the elements at the other end."""

_MOST_PIECES = 16
"""Borders of more slices than this are gathered: it takes an axis that is much shorter than its border."""


def part(node: Node, axis: int, start: int, stop: int) -> Node:
    """The elements from ``start`` to ``stop``, excluded, along ``axis``."""
    if start == 0 and stop == node.shape[axis]:
        return node
    first, last = [0] * node.ndim, list(node.shape)
    first[axis], last[axis] = start, stop
    return ops.slice_(node, start=tuple(first), stop=tuple(last), step=(1,) * node.ndim)


def joined(nodes: Sequence[Node], axis: int) -> Node:
    """The nodes one after the other along ``axis``; a single one is itself."""
    return nodes[0] if len(nodes) == 1 else ops.concatenate(*nodes, axis=axis)


# ---- repeat, tile, roll


def repeated(node: Node, repeats: Any, axis: int) -> Node:
    """Each element along ``axis`` as often as ``repeats`` says, a number for all elements or one for each.

    Raises:
        UserError: ``repeats`` is neither, or a number is negative.
    """
    size, number = node.shape[axis], as_whole(repeats)
    numbers = as_whole_numbers(repeats) if number is None else (number,)
    if numbers is not None and len(numbers) == 1:
        numbers = numbers * size if size else ()
    if numbers is None or len(numbers) != size or any(times < 0 for times in (*numbers, number or 0)):
        raise UserError(
            f"repeat: repeats must be a whole number of at least 0, or one for each of the {size} elements along axis {axis}, "
            f"got {repeats!r}"
        )
    if len(set(numbers)) > 1:
        places = np.repeat(np.arange(size), numbers)
        return ops.gather(node, leaf(places), axis=axis)
    times = numbers[0] if numbers else 1
    before, after = node.shape[: axis + 1], node.shape[axis + 1 :]
    copies = ops.broadcast(node, shape=(*before, times, *after), axes=(axis + 1,))
    return compose.to_shape(copies, (*before[:-1], size * times, *after))


def tiled(node: Node, times: tuple[int, ...]) -> Node:
    """The whole of ``node`` side by side, as often as ``times`` says along each axis; missing axes are added in front."""
    ndim = max(node.ndim, len(times))
    shape = (*(1,) * (ndim - node.ndim), *node.shape)
    times = (*(1,) * (ndim - len(times)), *times)
    copies = tuple(itertools.chain(*zip(times, shape, strict=True)))
    whole = compose.to_shape(node, shape)
    if any(number != 1 for number in times):
        whole = ops.broadcast(whole, shape=copies, axes=tuple(range(0, 2 * ndim, 2)))
    return compose.to_shape(whole, tuple(number * size for number, size in zip(times, shape, strict=True)))


def rolled(node: Node, shift: int, axis: int) -> Node:
    """The elements ``shift`` places further along ``axis``; those that leave at the end come in at the beginning."""
    size = node.shape[axis]
    shift = shift % size if size else 0
    if shift == 0:
        return node
    return joined([part(node, axis, size - shift, size), part(node, axis, 0, size - shift)], axis)


# ---- split


def bounds_of_sizes(sizes: Any, total: int) -> list[int]:
    """Where parts of ``sizes`` begin and end along an axis of ``total`` elements: a size for all parts, or one for each.

    Raises:
        UserError: a size is no whole number, or they do not add up to ``total``.
    """
    number = as_whole(sizes)
    if number is not None:
        if number < 1:
            raise UserError(f"split: sizes must be a whole number of at least 1, or a list of sizes, got {sizes!r}")
        return [*range(0, total, number), total] if total else [0, 0]
    numbers = as_whole_numbers(sizes)
    if numbers is None or any(size < 0 for size in numbers) or sum(numbers) != total:
        raise UserError(f"split: sizes must be whole numbers that add up to {total}, the size of the axis, got {sizes!r}")
    return [0, *itertools.accumulate(numbers)]


def bounds_of_places(places: Any, total: int) -> list[int]:
    """Where parts begin and end that are cut at ``places``, ascending, counted from either end.

    Raises:
        UserError: ``places`` are no whole numbers, or descend.
    """
    numbers = as_whole_numbers(places)
    if numbers is None:
        raise UserError(f"split: places must be whole numbers, such as [1, 3], got {places!r}")
    cuts = [slice(0, place).indices(total)[1] for place in numbers]
    if cuts != sorted(cuts):
        raise UserError(f"split: places must ascend, got {places!r}")
    return [0, *cuts, total]


# ---- triangles


def triangle(node: Node, diagonal: int, lower: bool) -> Node:
    """Matrices (..., m, n) with zeros above the diagonal (``lower``) or below it; ``diagonal`` counts to the right.

    Raises:
        UserError: ``node`` has fewer than two axes.
    """
    if node.ndim < 2:
        raise UserError(f"{'tril' if lower else 'triu'}: needs a matrix or several, (..., m, n), got {node.type}")
    rows, columns = node.ndim - 2, node.ndim - 1
    row, column = (_numbered(node.shape, axis, -diagonal if axis == columns else 0) for axis in (rows, columns))
    inside = ops.less_equal(column, row) if lower else ops.less_equal(row, column)
    return ops.where(inside, node, ops.full(node.type, 0))


def _numbered(shape: tuple[int, ...], axis: int, first: int) -> Node:
    """``shape`` filled with whole numbers that count from ``first`` along ``axis``."""
    others = tuple(place for place in range(len(shape)) if place != axis)
    return ops.broadcast(leaf(np.arange(first, first + shape[axis])), shape=shape, axes=others)


# ---- borders


def bordered(node: Node, widths: Sequence[tuple[int, ...]], mode: str, value: float) -> Node:
    """``node`` with (before, after) more elements along each axis; ``value`` is that of mode "constant".

    Raises:
        UserError: there is no such mode, a width is negative, or a border is to repeat elements of an axis that has none.
    """
    if mode not in MODES:
        if mode in PAD_MODES:
            raise UserError(f"pad: mode {mode!r} is called {PAD_MODES[mode]!r} here, as in NumPy")
        raise unknown_value("mode of pad", mode, MODES)
    if mode == "constant":
        low, high = (tuple(pair[side] for pair in widths) for side in (0, 1))
        return ops.pad(node, low=low, high=high, interior=(0,) * node.ndim, value=value)
    if any(width < 0 for pair in widths for width in pair):
        raise UserError(f"pad: widths must not be negative, got {tuple(widths)}: slice to cut")
    for axis, pair in enumerate(widths):
        if any(pair):
            if node.shape[axis] == 0:
                raise UserError(f"pad: axis {axis} of {node.type} has no elements to repeat: only mode 'constant' adds some")
            places = np.pad(np.arange(node.shape[axis]), pair, mode)  # type: ignore[call-overload]
            node = _taken(node, places, axis)
    return node


def _taken(node: Node, places: np.ndarray[Any, Any], axis: int) -> Node:
    """The elements at ``places`` along ``axis``, in slices as long as they go up by 1, go down by 1 or stay."""
    pieces: list[Node] = []
    begin, total = 0, len(places)
    while begin < total and len(pieces) <= _MOST_PIECES:
        first = places[begin]
        step = places[begin + 1] - first if begin + 1 < total else 1
        step = step if step in (-1, 0, 1) else 1
        end = begin + 1
        while end < total and places[end] - places[end - 1] == step:
            end += 1
        last = places[end - 1]
        piece = part(node, axis, int(min(first, last)), int(max(first, last)) + 1)
        if step == 0:
            piece = repeated(piece, end - begin, axis)
        pieces.append(ops.flip(piece, axes=(axis,)) if step < 0 else piece)
        begin = end
    if len(pieces) > _MOST_PIECES:
        return ops.gather(node, leaf(places), axis=axis)
    return joined(pieces, axis)
