"""``tensor[key]`` as in NumPy: numbers, slices, ..., None, and arrays of integers or bools.

Slices become ``slice`` (and ``flip`` for negative steps), integer arrays become one ``gather``.
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
from chainrule.tensor.tensor import Tensor
from chainrule.tensor.tracing import verify


@dataclass(frozen=True, slots=True)
class _Places:
    """An array of places along one axis; if it was made of an array of bools, that one's size."""

    node: Node
    mask_size: int | None = None


def index(x: Tensor, key: Any) -> Tensor:
    """``x[key]``."""
    keys = _expanded(x, key if isinstance(key, tuple) else (key,))
    node, arrays, shape, kept = x.node, {}, [], []  # type: Node, dict[int, Node], list[int], list[int]
    start, stop, step, backwards = [0] * x.ndim, list(x.shape), [1] * x.ndim, []  # type: list[int], list[int], list[int], list[int]
    axis = 0
    for one in keys:
        if one is None:
            shape.append(1)
            kept.append(-1)
            continue
        size = x.shape[axis]
        if isinstance(one, slice):
            start[axis], stop[axis], step[axis], reverse = _span(one, size)
            if reverse:
                backwards.append(axis)
            shape.append(len(range(start[axis], stop[axis], step[axis])))
            kept.append(axis)
        elif isinstance(one, _Places):
            if one.mask_size not in (None, size):
                raise UserError(
                    f"a bool index of size {one.mask_size} does not fit axis {axis} of {x.node.type}, which has {size} elements"
                )
            arrays[axis] = _from_zero(one.node, size, axis)
            shape.append(size)
            kept.append(axis)
        else:
            place = one + size if one < 0 else one
            if not 0 <= place < size:
                raise UserError(f"index {one} is outside axis {axis} of {x.node.type}, which has {size} elements")
            start[axis], stop[axis] = place, place + 1
        axis += 1
    if start != [0] * x.ndim or tuple(stop) != x.shape or step != [1] * x.ndim:
        node = ops.slice_(node, start=tuple(start), stop=tuple(stop), step=tuple(step))
    if backwards:
        node = ops.flip(node, axes=tuple(backwards))
    node = compose.to_shape(node, tuple(shape))
    if not arrays:
        return Tensor(node)
    chosen = [i for i, one in enumerate(keys) if isinstance(one, int | _Places)]
    adjacent = chosen[-1] - chosen[0] == len(chosen) - 1
    return Tensor(_gathered(node, {kept.index(axis): array for axis, array in arrays.items()}, adjacent))


def _expanded(x: Tensor, keys: tuple[Any, ...]) -> list[Any]:
    """One entry per axis (int, slice or places), and None for new axes; ``...`` filled in."""
    found: list[Any] = []
    for one in keys:
        if one is None or one is Ellipsis or isinstance(one, slice):
            found.append(one)
        elif isinstance(one, int | np.integer) and not isinstance(one, bool):
            found.append(int(one))
        else:
            found.extend(_array_keys(one))
    if sum(one is Ellipsis for one in found) > 1:
        raise UserError("an index can have only one ... (ellipsis)")
    used = sum(one is not None and one is not Ellipsis for one in found)
    if used > x.ndim:
        raise UserError(f"{used} indices for {x.node.type}, which has {x.ndim} axes")
    fill = [slice(None)] * (x.ndim - used)
    place = next((i for i, one in enumerate(found) if one is Ellipsis), None)
    return found + fill if place is None else [*found[:place], *fill, *found[place + 1 :]]


def _array_keys(key: Any) -> list[_Places]:
    if isinstance(key, Tensor):
        node = key.node
    else:
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
            raise UserError("a bool array as an index gives a size that depends on the numbers: use where() while tracing")
        return [_Places(leaf(at), size) for at, size in zip(np.nonzero(node.value), node.shape, strict=True)]
    if not is_integer(node.dtype):
        raise UserError(f"an index must be an integer, a slice, ..., None or an array of integers or bools, got {node.dtype}")
    return [_Places(node)]


def _span(key: slice, size: int) -> tuple[int, int, int, bool]:
    """start, stop, positive step, and whether the result is to be flipped."""
    parts = [None if one is None else as_whole(one) for one in (key.start, key.stop, key.step)]
    if parts[2] == 0 or any(
        have is None and one is not None for have, one in zip(parts, (key.start, key.stop, key.step), strict=True)
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
    """Negative indices counted from the end; a UserError for one outside, also once a traced function runs."""

    def check(value: Any) -> None:
        wrong = (value < -size) | (value >= size)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise UserError(f"index {value[place]} at {list(place)} is outside axis {axis}, which has {size} elements")

    verify(Tensor(indices), check)
    wide = compose.to_dtype(indices, int64)
    return ops.where(ops.less(wide, ops.zeros_like(wide)), ops.add(wide, ops.full(wide.type, size)), wide)


def _gathered(node: Node, arrays: dict[int, Node], adjacent: bool) -> Node:
    """One gather for all index arrays: their axes become one, their indices one number."""
    axes = sorted(arrays)
    rest = [axis for axis in range(node.ndim) if axis not in axes]
    place = axes[0] if adjacent else 0  # NumPy puts the result's axes first where arrays and numbers are apart
    order = [*rest[:place], *axes, *rest[place:]]
    if order != list(range(node.ndim)):
        node = ops.transpose(node, axes=tuple(order))
    sizes = node.shape[place : place + len(axes)]
    indices = compose.together("index arrays", *(arrays[axis] for axis in axes))
    flat = indices[0]
    for size, one in zip(sizes[1:], indices[1:], strict=True):
        flat = ops.add(ops.scaled(flat, size), one)
    merged = (*node.shape[:place], int(np.prod(sizes)), *node.shape[place + len(axes) :])
    return ops.gather(compose.to_shape(node, merged), flat, axis=place)
