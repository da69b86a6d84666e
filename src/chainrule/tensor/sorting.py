"""Sorting: the numbers along an axis in order, their indices, and the first of them. All functions take and give nodes."""

from __future__ import annotations

from chainrule import ops
from chainrule.arguments import whole_number
from chainrule.errors import UserError
from chainrule.graph import Node
from chainrule.ops import compose
from chainrule.tensor.axes import as_axis
from chainrule.tensor.indexing import index, take_along_axis


def argsort(x: Node, axis: int | None, descending: bool) -> Node:
    """The indices that put ``x`` in order along ``axis``; None flattens it first."""
    if axis is None:
        x, axis = compose.to_shape(x, (x.size,)), 0
    return ops.argsort(x, axis=as_axis("argsort", axis, x.ndim), descending=descending)


def sort(x: Node, axis: int | None, descending: bool) -> Node:
    """The numbers in order along ``axis``. The gradient of each goes back to where the number was."""
    if axis is None:
        x, axis = compose.to_shape(x, (x.size,)), 0
    axis = as_axis("sort", axis, x.ndim)
    return take_along_axis(x, argsort(x, axis, descending), axis)


def topk(x: Node, k: int, axis: int, largest: bool) -> tuple[Node, Node]:
    """The ``k`` largest numbers along ``axis``, or the smallest, in order, and their indices.

    Raises:
        UserError: there are fewer than ``k`` numbers along ``axis``.
    """
    axis, k = as_axis("topk", axis, x.ndim), whole_number("topk: k", k, 0)
    if k > x.shape[axis]:
        raise UserError(f"topk: k={k} is more than the {x.shape[axis]} elements along axis {axis} of {x.type}")
    first = tuple(slice(k) if place == axis else slice(None) for place in range(x.ndim))
    places = index(argsort(x, axis, largest), first)
    return take_along_axis(x, places, axis), places
