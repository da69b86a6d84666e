"""Pass: from clusters to loop nests over buffers.

Every stored value gets a buffer. A cluster of elementwise work and reductions becomes a nest; a reduction whose units of
work gather into the same places leaves one partial result per unit and is finished by a second nest, in the order of the
units: so the bits do not depend on who did which unit. A heavy operation stays as it is, with the places of its operands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chainrule import ops
from chainrule.compiler.fuse import SMALL, Cluster, Fusion, IndexMap, base_of, moved_map
from chainrule.compiler.layout import REDUCTIONS
from chainrule.compiler.nest import Access, Instruction, Nest, Reduction, Store, Strides, collapsed
from chainrule.compiler.simplify import number_of
from chainrule.compiler.values import COPY, dense_strides, is_movement, only_unit_axes_change
from chainrule.graph import Node
from chainrule.graph.dtypes import DType

_UNIT_BYTES = 128 * 1024
_MOST_UNITS = 256
_MOST_PARTIALS = 64


@dataclass(eq=False)
class Buffer:
    """Memory for one stored value, or for partial results. ``label`` says what it is to people."""

    dtype: DType
    elements: int
    label: str
    node: Node | None = None

    @property
    def nbytes(self) -> int:
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True)
class Place:
    """Where a value lies: ``start`` and ``strides`` per axis, in elements of ``buffer``."""

    buffer: Buffer
    start: int
    strides: Strides


@dataclass(eq=False)
class LoopTask:
    """A nest and the buffers of its operands, by number."""

    nest: Nest
    buffers: tuple[Buffer, ...]
    writes: frozenset[Buffer]
    origin: str = ""
    partials: list[Partial] = field(default_factory=list)

    @property
    def reads(self) -> set[Buffer]:
        return {self.buffers[one.access.operand] for one in self.nest.body if one.access is not None}

    def divide(self, rows: int) -> None:
        """Make units of ``rows`` indices of the first axis; what is gathered per unit, and how it is finished, follows."""
        self.nest = replace(self.nest, rows=rows)
        for one in self.partials:
            one.buffer.elements = self.nest.units * one.kept
            one.finish.nest = replace(
                one.finish.nest, sizes=(self.nest.units, *one.finish.nest.sizes[1:]), rows=self.nest.units
            )


@dataclass(eq=False)
class Partial:
    """What the units of a nest leave, ``kept`` numbers each, and the task that adds it up."""

    buffer: Buffer
    kept: int
    finish: LoopTask


@dataclass(eq=False)
class HeavyTask:
    """A heavy operation with the places of its inputs and of its output."""

    node: Node
    inputs: tuple[Place, ...]
    output: Place
    origin: str = ""

    @property
    def reads(self) -> set[Buffer]:
        return {one.buffer for one in self.inputs}

    @property
    def writes(self) -> frozenset[Buffer]:
        return frozenset({self.output.buffer})


Task = LoopTask | HeavyTask


@dataclass
class Lowered:
    """Tasks in order, and the buffer of every stored value."""

    tasks: list[Task]
    buffers: dict[Node, Buffer] = field(default_factory=dict)
    places: dict[Node, Place] = field(default_factory=dict)  # of the graph's outputs and inputs


class Lowering:
    """The state of the pass."""

    def __init__(self, fusion: Fusion) -> None:
        self.fusion, self.layout = fusion, fusion.layout
        self.buffers: dict[Node, Buffer] = {}
        self.tasks: list[Task] = []

    def lowered(self) -> Lowered:
        for cluster in self.fusion.clusters:
            if cluster.is_heavy:
                self._heavy(cluster.roots[0])
            else:
                self._loops(cluster)
        graph = self.layout.graph
        places = {node: self.place(node) for node in (*graph.outputs, *graph.leaves)}
        return Lowered(self.tasks, self.buffers, places)

    def buffer(self, node: Node) -> Buffer:
        if node not in self.buffers:
            self.buffers[node] = Buffer(node.dtype, node.size, node.label or node.operation.name, node)
        return self.buffers[node]

    def place(self, node: Node) -> Place:
        found = self.layout.strides(node)
        assert found is not None, f"{node} is no view of what is stored"
        return Place(self.buffer(base_of(node)), *found)

    # ---- heavy operations

    def _heavy(self, node: Node) -> None:
        task = HeavyTask(node, tuple(self.place(one) for one in node.inputs), self.place(node), str(node.origin))
        if (
            node.size
            and node.operation is not ops.concatenate
            and node.operation is not ops.pad
            and not all(one.size for one in node.inputs)
        ):  # sums over nothing
            zero = Instruction("constant", node.dtype.name, attributes=(("number", 0.0),))
            self._nest(node.shape, [zero], [(0, task.output)], task.origin)
        elif node.operation is ops.concatenate:
            self._concatenate(task)
        elif node.operation is ops.pad:
            self._pad(task)
        elif node.size:
            self.tasks.append(task)

    def _concatenate(self, task: HeavyTask) -> None:
        axis, begin = task.node.attributes["axis"], 0
        for one, source in zip(task.node.inputs, task.inputs, strict=True):
            target = Place(task.output.buffer, begin * task.output.strides[axis], task.output.strides)
            self._move(one, source, target, task.origin)
            begin += one.shape[axis]

    def _pad(self, task: HeavyTask) -> None:
        node, attributes, output = task.node, task.node.attributes, task.output
        number = attributes.get("value", 0.0)
        fill = Instruction("constant", node.dtype.name, attributes=(("number", number),))
        self._nest(node.shape, [fill], [(0, output)], task.origin)
        start = sum(low * stride for low, stride in zip(attributes["low"], output.strides, strict=True))
        strides = tuple((inner + 1) * s for inner, s in zip(attributes["interior"], output.strides, strict=True))
        self._move(node.inputs[0], task.inputs[0], Place(output.buffer, start, strides), task.origin)

    def _move(self, node: Node, source: Place, target: Place, origin: str) -> None:
        load = Instruction("load", node.dtype.name, access=Access(1, node.dtype.name, source.start, source.strides))
        self._nest(node.shape, [load], [(0, target)], origin, (source.buffer,))

    def _nest(
        self,
        shape: tuple[int, ...],
        body: list[Instruction],
        stores: list[tuple[int, Place]],
        origin: str,
        reads: tuple[Buffer, ...] = (),
    ) -> None:
        """A nest over the axes of ``shape`` in the order of the first store; operand 0 is its buffer, then ``reads``."""
        if math.prod(shape) == 0:
            return
        place = stores[0][1]
        if not shape:
            shape, place = (1,), Place(place.buffer, place.start, (0,))
            body = [one if one.access is None else _flat(one) for one in body]
        order = sorted(range(len(shape)), key=lambda axis: -abs(place.strides[axis]))
        turned = lambda strides: tuple(strides[axis] for axis in order)  # noqa: E731
        instructions = [
            one
            if one.access is None
            else Instruction(
                one.name,
                one.dtype,
                access=Access(one.access.operand, one.access.dtype, one.access.start, turned(one.access.strides)),
            )
            for one in body
        ]
        target = Access(0, place.buffer.dtype.name, place.start, turned(place.strides))
        sizes = tuple(shape[axis] for axis in order)
        nest = _compact(sizes, instructions, [Store(stores[0][0], target)], [], _UNIT_BYTES)
        self.tasks.append(LoopTask(nest, (place.buffer, *reads), frozenset({place.buffer}), origin))

    # ---- loops

    def _loops(self, cluster: Cluster) -> None:
        if cluster.points == 0:
            self._empty(cluster)
            return
        assert cluster.space is not None
        body = _Body(self, cluster)
        origin = str(cluster.roots[0].origin)
        stores, reductions = [], []
        for root in cluster.roots:
            index = cluster.maps[root]
            if root.operation in REDUCTIONS:
                reductions.append((root, body.value(root.inputs[0], index)))
            else:
                number = body.computed(root, index)
                stores.append(Store(number, body.access(self.place(root), index, root.dtype)))
        writes = {self.buffer(root) for root in cluster.roots}
        gathers = [self._gather(body, root, value, cluster) for root, value in reductions]
        nest = _compact(cluster.space or (1,), body.instructions, stores, [one for one, _ in gathers], _UNIT_BYTES)
        operands = list(body.operands)
        finishes = []
        split = nest.units > 1
        finished: list[Reduction] = []
        for (root, _), (wide, kept), narrow in zip(reductions, gathers, nest.reductions, strict=True):
            if not split or narrow.access.strides[0] != 0:
                finished.append(narrow)
                continue
            partial = Buffer(root.dtype, nest.units * max(kept, 1), f"partial sums of {root.operation.name}")
            number = len(operands)
            operands.append(partial)
            access = Access(number, narrow.access.dtype, narrow.access.start, narrow.access.strides)
            finished.append(Reduction(narrow.value, narrow.kind, access, max(kept, 1)))
            finishes.append((root, partial, nest.units, max(kept, 1), wide.kind))
            writes.add(partial)
            writes.discard(self.buffer(root))
        nest = Nest(nest.sizes, nest.rows, nest.body, nest.stores, tuple(finished))
        task = _compacted_operands(nest, operands, writes, origin)
        self.tasks.append(task)
        for root, partial, units, kept, kind in finishes:
            finish = self._finish(root, partial, units, kept, kind, origin)
            task.partials.append(Partial(partial, kept, finish))
            self.tasks.append(finish)

    def _gather(self, body: _Body, root: Node, value: int, cluster: Cluster) -> tuple[Reduction, int]:
        """The reduction of ``root`` into its own place, and how many results it has."""
        x, place = root.inputs[0], self.place(root)
        axes = root.attributes.get("axes") or (root.attributes.get("axis"),)
        steps = iter(zip(place.strides, (axis for axis in range(x.ndim) if axis not in axes), strict=True))
        strides = [0] * body.axes
        for stride, axis in steps:
            loop = cluster.maps[root][axis][0]
            if loop is not None:
                strides[loop] = stride
        kind = {ops.max_: "max", ops.min_: "min"}.get(root.operation, "sum")  # type: ignore[call-overload]
        access = Access(body.operand(place.buffer), root.dtype.name, place.start, tuple(strides))
        return Reduction(value, kind, access), root.size

    def _finish(self, root: Node, partial: Buffer, units: int, kept: int, kind: str, origin: str) -> LoopTask:
        name = root.dtype.name
        load = Instruction("load", name, access=Access(0, name, 0, (kept, 1)))
        into = Reduction(0, kind, Access(1, name, 0, (0, 1)))
        buffers = (partial, self.buffer(root))
        return LoopTask(Nest((units, kept), units, (load,), (), (into,)), buffers, frozenset({buffers[1]}), origin)

    def _empty(self, cluster: Cluster) -> None:
        """Sums over nothing are 0; there is nothing else to do in an empty space."""
        for root in cluster.roots:
            if root.operation in REDUCTIONS and root.size:
                zero = Instruction("constant", root.dtype.name, attributes=(("number", 0.0),))
                self._nest(root.shape, [zero], [(0, self.place(root))], str(root.origin))


class _Body:
    """The instructions of a nest in the making: each value once, inputs before what they are used in."""

    def __init__(self, lowering: Lowering, cluster: Cluster) -> None:
        self.lowering, self.cluster = lowering, cluster
        self.stored = lowering.fusion.stored
        self.axes = max(len(cluster.space or ()), 1)
        self.instructions: list[Instruction] = []
        self.operands: list[Buffer] = []
        self.known: dict[Instruction, int] = {}
        self.made: dict[tuple[Node, IndexMap], int] = {}
        self.own = {root for root in cluster.roots if root.operation not in REDUCTIONS}

    def operand(self, buffer: Buffer) -> int:
        if buffer not in self.operands:
            self.operands.append(buffer)
        return self.operands.index(buffer)

    def emit(self, instruction: Instruction) -> int:
        if instruction not in self.known:
            self.known[instruction] = len(self.instructions)
            self.instructions.append(instruction)
        return self.known[instruction]

    def access(self, place: Place, index: IndexMap, dtype: DType) -> Access:
        start, strides = place.start, [0] * self.axes
        for stride, (axis, step, offset) in zip(place.strides, index, strict=True):
            start += stride * offset
            if axis is not None:
                strides[axis] += stride * step
        return Access(self.operand(place.buffer), dtype.name, start, tuple(strides))

    def value(self, node: Node, index: IndexMap) -> int:
        """The number of the instruction that gives ``node`` at a point; iterative, as chains may be long."""
        stack = [(node, index, False)]
        while stack:
            one, at, ready = stack.pop()
            if (one, at) in self.made:
                continue
            if one in self.own and at == self.cluster.maps[one]:
                sources = self._sources(one, at)
            elif self._is_boundary(one):
                self.made[one, at] = self._boundary(one, at)
                continue
            else:
                sources = self._sources(one, at)
            if ready:
                self.made[one, at] = self._instruction(one, at, sources)
            else:
                stack.append((one, at, True))
                stack.extend((source, found, False) for source, found in sources)
        return self.made[node, index]

    computed = value

    def _is_boundary(self, node: Node) -> bool:
        return node in self.stored or (node.operation is ops.reshape and not only_unit_axes_change(node))

    def _boundary(self, node: Node, index: IndexMap) -> int:
        number = number_of(node)
        if number is not None and node.size == 1:
            return self.emit(Instruction("constant", node.dtype.name, attributes=(("number", number),)))
        access = self.access(self.lowering.place(node), index, node.dtype)
        return self.emit(Instruction("load", node.dtype.name, access=access))

    def _sources(self, node: Node, index: IndexMap) -> list[tuple[Node, IndexMap]]:
        if is_movement(node):
            return [(node.inputs[0], moved_map(node, index))]
        if node.operation is ops.one_hot:
            return [(node.inputs[0], index[:-1])]
        return [(one, index) for one in node.inputs]

    def _instruction(self, node: Node, index: IndexMap, sources: Sequence[tuple[Node, IndexMap]]) -> int:
        inputs = tuple(self.made[one] for one in sources)
        if is_movement(node) or node.operation is COPY or node.operation is ops.stop_gradient:
            return inputs[0]
        if node.operation is ops.one_hot:
            return self._one_hot(node, index, inputs[0])
        return self.emit(Instruction(node.operation.name, node.dtype.name, inputs, _attributes(node)))

    def _one_hot(self, node: Node, index: IndexMap, label: int) -> int:
        axis, stride, offset = index[-1]
        strides = tuple(stride if axis == place else 0 for place in range(self.axes))
        place = self.emit(Instruction("index", "int64", attributes=(("start", offset), ("strides", strides))))
        wide = label
        if self.instructions[label].dtype != "int64":
            wide = self.emit(Instruction("cast", "int64", (label,), (("dtype", "int64"),)))
        equal = self.emit(Instruction("equal", "bool", (wide, place)))
        return self.emit(Instruction("cast", node.dtype.name, (equal,), (("dtype", node.dtype.name),)))


def _flat(one: Instruction) -> Instruction:
    """The load of a single number, over one axis of size 1."""
    assert one.access is not None
    return Instruction(one.name, one.dtype, access=Access(one.access.operand, one.access.dtype, one.access.start, (0,)))


def _attributes(node: Node) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (name, getattr(value, "name", None) or value if name == "dtype" else value)
        for name, value in sorted(node.attributes.items())
    )


# ---- the shape of a nest


def _compact(
    sizes: Sequence[int],
    body: Sequence[Instruction],
    stores: Sequence[Store],
    reductions: Sequence[Reduction],
    unit_bytes: int,
) -> Nest:
    """The nest with as few axes as its index maps allow, and units of about ``unit_bytes`` of traffic."""
    maps: list[Strides] = [one.access.strides for one in body if one.access is not None]
    maps += [dict(one.attributes)["strides"] for one in body if one.name == "index"]
    maps += [one.access.strides for one in (*stores, *reductions)]
    new_sizes, new_maps = collapsed(sizes, maps)
    found = dict(zip(maps, new_maps, strict=True))

    def access(one: Access) -> Access:
        return Access(one.operand, one.dtype, one.start, found[one.strides])

    new_body = []
    for one in body:
        if one.access is not None:
            one = Instruction(one.name, one.dtype, one.inputs, one.attributes, access(one.access))
        elif one.name == "index":
            attributes = dict(one.attributes)
            attributes["strides"] = found[attributes["strides"]]
            one = Instruction(one.name, one.dtype, one.inputs, tuple(sorted(attributes.items())))
        new_body.append(one)
    return Nest(
        new_sizes,
        _rows(new_sizes, len(maps), unit_bytes, bool(reductions)),
        tuple(new_body),
        tuple(Store(one.value, access(one.access)) for one in stores),
        tuple(Reduction(one.value, one.kind, access(one.access), one.unit_stride) for one in reductions),
    )


def _rows(sizes: tuple[int, ...], streams: int, unit_bytes: int, reduces: bool) -> int:
    """Indices of the first axis in one unit of work."""
    points = math.prod(sizes)
    if points <= SMALL:
        return sizes[0]
    units = min(max(1, points * 4 * max(streams, 1) // unit_bytes), _MOST_PARTIALS if reduces else _MOST_UNITS, sizes[0])
    rows = -(-sizes[0] // units)
    return -(-rows // 64) * 64 if len(sizes) == 1 else rows


def _compacted_operands(nest: Nest, operands: list[Buffer], writes: set[Buffer], origin: str) -> LoopTask:
    """Operands that nothing touches any more (a reduction's place, once it goes by partial results) are left out."""
    touched = {one.access.operand for one in nest.body if one.access is not None}
    touched |= {one.access.operand for one in (*nest.stores, *nest.reductions)}
    renumbered = {old: new for new, old in enumerate(sorted(touched))}

    def access(one: Access) -> Access:
        return Access(renumbered[one.operand], one.dtype, one.start, one.strides)

    body = tuple(
        one if one.access is None else Instruction(one.name, one.dtype, one.inputs, one.attributes, access(one.access))
        for one in nest.body
    )
    stores = tuple(Store(one.value, access(one.access)) for one in nest.stores)
    reductions = tuple(Reduction(one.value, one.kind, access(one.access), one.unit_stride) for one in nest.reductions)
    buffers = tuple(operands[old] for old in sorted(touched))
    return LoopTask(Nest(nest.sizes, nest.rows, body, stores, reductions), buffers, frozenset(writes), origin)


def lower(fusion: Fusion) -> Lowered:
    return Lowering(fusion).lowered()


__all__ = ["Buffer", "HeavyTask", "LoopTask", "Lowered", "Place", "Task", "dense_strides", "lower"]
