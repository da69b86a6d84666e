"""How values lie in memory, and which operations only move the view of one.

A value that is stored lies dense in some order of its axes (outermost first). Movement operations (transpose, broadcast,
slice, flip, most reshapes) make a view of it: a start and a stride per axis, in elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chainrule import ops
from chainrule.graph import Node
from chainrule.graph.node import Operation, Role, TensorType

Order = tuple[int, ...]
Strides = tuple[int, ...]


@dataclass(frozen=True)
class Copy:
    """The operation of a node that stores its input once more, dense, with its axes in the order of the attribute."""

    name: str = "copy"
    role: Role = Role.MOVER

    @property
    def shape(self) -> object:
        """The type of the input, which a copy keeps."""
        return lambda x, *, order: x


COPY: Operation = Copy()  # type: ignore[assignment]


def copy(node: Node, order: Order) -> Node:
    """A node that copies ``node`` so that its axes lie in ``order``, outermost first."""
    return Node(COPY, (node,), node.type, {"order": order}, origin=node.origin)


def natural(ndim: int) -> Order:
    """Row-major."""
    return tuple(range(ndim))


def dense_strides(shape: Sequence[int], order: Order) -> Strides:
    """Strides of a value that lies dense with its axes in ``order``."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def same_places(shape: Sequence[int], one: Strides, other: Strides) -> bool:
    """Whether two strides lead to the same elements: those of axes of size 1 do not matter."""
    return all(a == b for size, a, b in zip(shape, one, other, strict=True) if size > 1) or math.prod(shape) == 0


MOVEMENTS: frozenset[object] = frozenset({ops.broadcast, ops.transpose, ops.slice_, ops.flip, ops.reshape})


def is_movement(node: Node) -> bool:
    """Whether a node gives the elements of its input, or some of them, at other places, and computes nothing."""
    return node.operation in MOVEMENTS


def only_unit_axes_change(node: Node) -> bool:
    """Of a reshape: axes of size 1 come or go, and nothing else."""
    return [size for size in node.shape if size != 1] == [size for size in node.inputs[0].shape if size != 1]


def moved(node: Node, start: int, strides: Strides) -> tuple[int, Strides] | None:
    """Start and strides of a movement's value in the memory of its input; None where a reshape cannot be a view."""
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
    found = reshaped_strides(x.type, strides, node.shape)
    return None if found is None else (start, found)


def reshaped_strides(type_: TensorType, strides: Strides, shape: tuple[int, ...]) -> Strides | None:
    """Strides under another shape without moving an element; None where that cannot be. As NumPy's reshape decides."""
    if type_.size == 0:
        return dense_strides(shape, natural(len(shape)))
    old = [(size, stride) for size, stride in zip(type_.shape, strides, strict=True) if size != 1]
    found: list[int] = []
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
        found.append(0 if size == 1 else next(kept))
    return tuple(found)
