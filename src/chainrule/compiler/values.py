"""How values are laid out in memory, and which operations only make views.

A stored value is dense (without gaps), with its axes in some order, outermost first. A movement (transpose, broadcast, slice,
flip and most reshapes) is a view of it: a start and a stride per axis, in elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chainrule import ops
from chainrule.graph import Node
from chainrule.graph.node import Operation, Role, TensorType

Order = tuple[int, ...]
"""The axes of a value as they are in memory, outermost first."""
Strides = tuple[int, ...]
"""For each axis of a value, the number of elements in memory from one index to the next."""


@dataclass(frozen=True)
class Copy:
    """The operation of a node that stores a dense copy of its input, with the axes in the order of its attribute ``order``."""

    name: str = "copy"
    role: Role = Role.MOVER

    @property
    def shape(self) -> object:
        """The shape rule: a copy has the type of its input."""
        return lambda x, *, order: x


COPY: Operation = Copy()  # type: ignore[assignment]


def copy(node: Node, order: Order) -> Node:
    """A node that copies ``node``, with its axes in ``order`` in memory."""
    return Node(COPY, (node,), node.type, {"order": order}, origin=node.origin)


def natural(ndim: int) -> Order:
    """The row-major order of ``ndim`` axes."""
    return tuple(range(ndim))


def dense_strides(shape: Sequence[int], order: Order) -> Strides:
    """The strides of a dense value of ``shape``, with its axes in ``order`` in memory."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def same_places(shape: Sequence[int], strides: Strides, other: Strides) -> bool:
    """Whether ``strides`` and ``other`` address the same elements. Strides of axes of size 1 do not matter."""
    return all(a == b for size, a, b in zip(shape, strides, other, strict=True) if size > 1) or math.prod(shape) == 0


MOVEMENTS: frozenset[object] = frozenset({ops.broadcast, ops.transpose, ops.slice_, ops.flip, ops.reshape})


def is_movement(node: Node) -> bool:
    """Whether a node only rearranges, repeats or selects elements of its input, and computes nothing."""
    return node.operation in MOVEMENTS


def only_unit_axes_change(node: Node) -> bool:
    """Whether a reshape only adds or removes axes of size 1."""
    return [size for size in node.shape if size != 1] == [size for size in node.inputs[0].shape if size != 1]


def moved(node: Node, start: int, strides: Strides) -> tuple[int, Strides] | None:
    """The start and strides of a movement in memory, given those of its input; None for a reshape that cannot be a view."""
    attributes, x = node.attributes, node.inputs[0]
    if node.operation is ops.broadcast:
        inner = iter(strides)
        return start, tuple(0 if axis in attributes["axes"] else next(inner) for axis in range(node.ndim))
    if node.operation is ops.transpose:
        return start, tuple(strides[axis] for axis in attributes["axes"])
    if node.operation is ops.slice_:
        begin = sum(a * stride for a, stride in zip(attributes["start"], strides, strict=True))
        return start + begin, tuple(s * stride for s, stride in zip(attributes["step"], strides, strict=True))
    if node.operation is ops.flip:
        for axis in attributes["axes"]:
            start += (x.shape[axis] - 1) * strides[axis]
        return start, tuple(-stride if axis in attributes["axes"] else stride for axis, stride in enumerate(strides))
    reshaped = reshaped_strides(x.type, strides, node.shape)
    return None if reshaped is None else (start, reshaped)


def reshaped_strides(type_: TensorType, strides: Strides, shape: tuple[int, ...]) -> Strides | None:
    """Strides with which the same memory has another ``shape``, as for NumPy's reshape; None if there are none.

    ``type_`` and ``strides`` are those of the value before the reshape.
    """
    if type_.size == 0:
        return dense_strides(shape, natural(len(shape)))
    old = [(size, stride) for size, stride in zip(type_.shape, strides, strict=True) if size != 1]
    result: list[int] = []
    place = 0
    pending = [size for size in shape if size != 1]
    new: list[int] = []
    while place < len(old):
        sizes, steps = [old[place][0]], [old[place][1]]
        place += 1
        wanted = [pending.pop(0)] if pending else []
        while math.prod(sizes) != math.prod(wanted):
            if math.prod(sizes) < math.prod(wanted):
                sizes.append(old[place][0])
                steps.append(old[place][1])
                place += 1
            else:
                wanted.append(pending.pop(0))
        for i in range(len(sizes) - 1):
            if steps[i] != steps[i + 1] * sizes[i + 1]:
                return None
        step = steps[-1]
        part: list[int] = []
        for size in reversed(wanted):
            part.insert(0, step)
            step *= size
        new += part
    kept = iter(new)
    for size in shape:
        result.append(0 if size == 1 else next(kept))
    return tuple(result)
