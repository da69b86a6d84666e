"""``tensor[key]`` as in NumPy: whole numbers, slices, ``...``, None, and arrays of integers or bools.

Functions take and give nodes. Numbers and slices become one ``slice`` (with a ``flip`` for negative steps), all index arrays
together one ``gather``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.arguments import as_whole
from chainrule.errors import UserError
from chainrule.graph import Node, leaf
from chainrule.graph.dtypes import bool_, int64, is_integer
from chainrule.ops import compose
from chainrule.tensor.axes import as_axis
from chainrule.tensor.operands import node_of
from chainrule.tensor.tracing import verify


@dataclass(frozen=True, slots=True)
class _Places:
    """An array of indices along one axis. ``mask_size``: if they come from an array of bools, its size along this axis."""

    node: Node
    mask_size: int | None = None


def index(x: Node, key: Any) -> Node:
    """``x[key]``, as in NumPy.

    Raises:
        UserError: ``key`` has the wrong dtype, too many entries, or an index outside its axis.
    """
    keys = _expanded(x, key if isinstance(key, tuple) else (key,))
    node, arrays, shape, kept = x, {}, [], []  # type: Node, dict[int, Node], list[int], list[int]
    start, stop, step, backwards = [0] * x.ndim, list(x.shape), [1] * x.ndim, []  # type: list[int], list[int], list[int], list[int]
    axis = 0
    for entry in keys:
        if entry is None:
            shape.append(1)
            kept.append(-1)
            continue
        size = x.shape[axis]
        if isinstance(entry, slice):
            start[axis], stop[axis], step[axis], reverse = _span(entry, size)
            if reverse:
                backwards.append(axis)
            shape.append(len(range(start[axis], stop[axis], step[axis])))
            kept.append(axis)
        elif isinstance(entry, _Places):
            if entry.mask_size not in (None, size):
                raise UserError(
                    f"a bool index of size {entry.mask_size} does not fit axis {axis} of {x.type}, which has {size} elements"
                )
            arrays[axis] = _from_zero(entry.node, size, axis)
            shape.append(size)
            kept.append(axis)
        else:
            place = entry + size if entry < 0 else entry
            if not 0 <= place < size:
                raise UserError(f"index {entry} is outside axis {axis} of {x.type}, which has {size} elements")
            start[axis], stop[axis] = place, place + 1
        axis += 1
    if start != [0] * x.ndim or tuple(stop) != x.shape or step != [1] * x.ndim:
        node = ops.slice_(node, start=tuple(start), stop=tuple(stop), step=tuple(step))
    if backwards:
        node = ops.flip(node, axes=tuple(backwards))
    node = compose.to_shape(node, tuple(shape))
    if not arrays:
        return node
    chosen = [i for i, entry in enumerate(keys) if isinstance(entry, int | _Places)]
    adjacent = chosen[-1] - chosen[0] == len(chosen) - 1
    return _gathered(node, {kept.index(axis): array for axis, array in arrays.items()}, adjacent)


def take_along_axis(x: Node, indices: Node, axis: int | None) -> Node:
    """``z[i, j, k] = x[i, indices[i, j, k], k]`` for ``axis`` 1, as in NumPy; None flattens ``x`` first.

    Raises:
        UserError: ``indices`` are no integers, have another number of axes than ``x``, or other sizes along its other axes.
    """
    if axis is None:
        x, axis = compose.to_shape(x, (x.size,)), 0
    place = as_axis("take_along_axis", axis, x.ndim)
    fits = indices.ndim == x.ndim and all(
        size == other or 1 in (size, other)
        for i, (size, other) in enumerate(zip(x.shape, indices.shape, strict=True))
        if i != place
    )
    if not fits or not is_integer(indices.dtype):
        raise UserError(
            f"take_along_axis: indices must be integers in the shape of {x.type}, of any size along axis {place}, got "
            f"{indices.type}"
        )
    numbered = [np.arange(size).reshape([-1 if i == axis else 1 for i in range(x.ndim)]) for axis, size in enumerate(x.shape)]
    return index(x, tuple(indices if i == place else numbers for i, numbers in enumerate(numbered)))


def _expanded(x: Node, keys: tuple[Any, ...]) -> list[Any]:
    """``keys`` with ``...`` filled in: an int, slice or ``_Places`` for each axis of ``x``, and None for each new axis."""
    expanded: list[Any] = []
    for entry in keys:
        if entry is None or entry is Ellipsis or isinstance(entry, slice):
            expanded.append(entry)
        elif isinstance(entry, int | np.integer) and not isinstance(entry, bool):
            expanded.append(int(entry))
        else:
            expanded.extend(_array_keys(entry))
    if sum(entry is Ellipsis for entry in expanded) > 1:
        raise UserError("an index can have only one ... (ellipsis)")
    used = sum(entry is not None and entry is not Ellipsis for entry in expanded)
    if used > x.ndim:
        raise UserError(f"{used} indices for {x.type}, which has {x.ndim} axes")
    fill = [slice(None)] * (x.ndim - used)
    place = next((i for i, entry in enumerate(expanded) if entry is Ellipsis), None)
    return expanded + fill if place is None else [*expanded[:place], *fill, *expanded[place + 1 :]]


def _array_keys(key: Any) -> list[_Places]:
    node = node_of(key)
    if node is None:
        try:
            array = np.asarray(key)
        except ValueError:
            raise UserError(f"an index must be a regular array: rows of {key!r} have different lengths") from None
        whole = array.dtype.kind in "iu" or (array.size == 0 and isinstance(key, list))
        node = leaf(array.astype(np.int64) if whole else array)
    if node.dtype == bool_:
        if node.ndim == 0:
            raise UserError("a single bool is no index: use an integer, a slice or an array of bools")
        if node.value is None:
            raise UserError(
                "a bool array as an index gives a result whose size depends on its numbers, which a compiled function does not "
                "know: write cr.where(mask, x, 0), which keeps the shape"
            )
        return [_Places(leaf(at), size) for at, size in zip(np.nonzero(node.value), node.shape, strict=True)]
    if not is_integer(node.dtype):
        raise UserError(f"an index must be an integer, a slice, ..., None or an array of integers or bools, got {node.dtype}")
    return [_Places(node)]


def _span(key: slice, size: int) -> tuple[int, int, int, bool]:
    """The elements of a slice along an axis of ``size``: start, stop, positive step, and whether to reverse their order."""
    parts = [None if part is None else as_whole(part) for part in (key.start, key.stop, key.step)]
    if parts[2] == 0 or any(
        have is None and part is not None for have, part in zip(parts, (key.start, key.stop, key.step), strict=True)
    ):
        raise UserError(f"a slice must be of whole numbers, with a step other than 0, got {key}")
    begin, end, step = slice(*parts).indices(size)
    places = range(begin, end, step)
    if not places:
        return 0, 0, 1, False
    if step > 0:
        return begin, end, step, False
    return places[-1], places[0] + 1, -step, True


def _from_zero(indices: Node, size: int, axis: int) -> Node:
    """``indices`` with negative ones, which count from the end, replaced by places counted from 0.

    Raises:
        UserError: an index is outside the axis; for traced indices, when the program runs.
    """

    def check(value: Any) -> None:
        wrong = (value < -size) | (value >= size)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise UserError(f"index {value[place]} at {list(place)} is outside axis {axis}, which has {size} elements")

    verify(indices, check)
    wide = compose.to_dtype(indices, int64)
    return ops.where(ops.less(wide, ops.zeros_like(wide)), ops.add(wide, ops.full(wide.type, size)), wide)


def _gathered(node: Node, arrays: dict[int, Node], adjacent: bool) -> Node:
    """One gather for all index arrays, by axis: their axes are merged into one, and their indices into one number."""
    axes = sorted(arrays)
    rest = [axis for axis in range(node.ndim) if axis not in axes]
    place = axes[0] if adjacent else 0  # NumPy puts the new axes first if other entries stand between the arrays and numbers
    order = [*rest[:place], *axes, *rest[place:]]
    if order != list(range(node.ndim)):
        node = ops.transpose(node, axes=tuple(order))
    sizes = node.shape[place : place + len(axes)]
    indices = compose.together("index arrays", *(arrays[axis] for axis in axes))
    flat = indices[0]
    for size, part in zip(sizes[1:], indices[1:], strict=True):
        flat = ops.add(ops.scaled(flat, size), part)
    merged = (*node.shape[:place], int(np.prod(sizes)), *node.shape[place + len(axes) :])
    return ops.gather(compose.to_shape(node, merged), flat, axis=place)
