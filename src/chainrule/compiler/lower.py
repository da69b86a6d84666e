"""Pass: from clusters to loop nests over buffers.

Every stored value gets a buffer. A cluster of elementwise work and reductions becomes a nest; a reduction whose units of
work gather into the same places leaves one partial result per unit and is finished by a second nest, in the order of the
units: so the bits do not depend on who did which unit. A heavy operation stays as it is, with the places of its operands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.compiler.fuse import SMALL, Cluster, Fusion, IndexMap, base_of, moved_map
from chainrule.compiler.layout import is_reduction
from chainrule.compiler.nest import Access, Instruction, Nest, Reduction, Store, Strides, collapsed
from chainrule.compiler.simplify import number_in, number_of, sum_of_mean
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
    followers: list[LoopTask] = field(default_factory=list)  # tasks that read, unit by unit, what the units of this one leave
    follows: bool = False

    @property
    def reads(self) -> set[Buffer]:
        return {self.buffers[one.access.operand] for one in self.nest.body if one.access is not None}

    def divide(self, rows: int) -> None:
        """Make units of ``rows`` indices of the first axis; what is gathered per unit, and what goes by it, follows."""
        self.nest = replace(self.nest, rows=rows)
        for one in self.partials:
            one.buffer.elements = self.nest.units * one.kept
            one.finish.nest = one.make_finish(self.nest)
        for follower in self.followers:
            follower.divide(rows)


@dataclass(eq=False)
class Partial:
    """What the units of a nest leave, ``kept`` numbers each, and the task that makes one of them, for the nest as it is."""

    buffer: Buffer
    kept: int
    finish: LoopTask
    make_finish: Callable[[Nest], Nest]


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


@dataclass(frozen=True)
class _Gathered:
    """A sum that is gathered unit by unit over ``space``: the task that does it, and what its units leave."""

    space: tuple[int, ...] | None
    task: LoopTask
    partial: Partial


@dataclass(frozen=True)
class _Spread:
    """The sum of (x - mean)^2 with mean = ``share`` * ``total``, the sum of x, which ``task`` gathers into ``partial``."""

    x: Node
    total: Node
    share: float
    task: LoopTask
    partial: Partial


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
        self.partial_of: dict[Node, _Gathered] = {}

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
        number = np.asarray(attributes.get("value", 0.0), node.dtype)
        fill = Instruction("constant", node.dtype.name, attributes=(("number", number_in(number)),))
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

        def turned(strides: Strides) -> Strides:
            return tuple(strides[axis] for axis in order)

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
        body = _Body(self, cluster)
        stores, gathers = [], []
        for root in cluster.roots:
            index = cluster.maps[root]
            if is_reduction(root):
                spread = self._spread(root, cluster)
                value = (
                    body.value(root.inputs[0], index) if spread is None else self._about_unit_mean(body, root, index, spread)
                )
                gathers.append((root, spread, self._gather(body, root, value, index)))
            else:
                number = body.value(root, index)
                stores.append(Store(number, body.access(self.place(root), index, root.dtype)))
        nest = _compact(cluster.space or (1,), body.instructions, stores, [one for _, _, one in gathers], _UNIT_BYTES)
        leaders = [spread.task for _, spread, _ in gathers if spread is not None]
        if leaders:
            nest = replace(nest, rows=leaders[0].nest.rows)
        task = LoopTask(nest, tuple(body.operands), frozenset(), str(cluster.roots[0].origin), follows=bool(leaders))
        for leader in leaders:
            leader.followers.append(task)
        self.tasks.append(task)
        self._with_partials(task, [(root, spread) for root, spread, _ in gathers], cluster)

    def _with_partials(self, task: LoopTask, gathers: list[tuple[Node, _Spread | None]], cluster: Cluster) -> None:
        """Reductions over what several units share go to partial results, which tasks after this one finish."""
        nest, operands = task.nest, list(task.buffers)
        writes = {self.buffer(root) for root in cluster.roots}
        reductions: list[Reduction] = []
        for (root, spread), one in zip(gathers, nest.reductions, strict=True):
            if nest.units == 1 or one.access.strides[0] != 0:
                reductions.append(one)
                continue
            kept = max(root.size, 1)
            partial = Buffer(root.dtype, nest.units * kept, f"partial results of {root.operation.name}")
            operands.append(partial)
            reductions.append(replace(one, access=replace(one.access, operand=len(operands) - 1, unit_stride=kept)))
            writes = (writes | {partial}) - {self.buffer(root)}
            buffers = (
                partial,
                self.buffer(root),
                *(() if spread is None else (spread.partial.buffer, self.buffer(spread.total))),
            )
            make = _finish_of(one.kind, root.dtype.name, kept) if spread is None else _finish_of_spread(root, kept, spread)
            finish = LoopTask(make(nest), buffers, frozenset({buffers[1]}), task.origin)
            task.partials.append(Partial(partial, kept, finish, make))
            self.partial_of[root] = _Gathered(cluster.space, task, task.partials[-1])
        made = _compacted_operands(replace(nest, reductions=tuple(reductions)), operands)
        task.nest, task.buffers = made
        task.writes = frozenset(writes)
        self.tasks += [one.finish for one in task.partials]

    def _gather(self, body: _Body, root: Node, value: int, index: IndexMap) -> Reduction:
        """The reduction of ``root`` into its own place."""
        place = self.place(root)
        kind = {"max": "max", "min": "min"}.get(root.operation.name, "sum")
        strides = self._kept_strides(root, index, body.axes)
        return Reduction(value, kind, Access(body.operand(place.buffer), root.dtype.name, place.start, strides))

    def _kept_strides(self, root: Node, index: IndexMap, loops: int) -> Strides:
        """Strides of a reduction's result along the loops over its input: 0 along the axes that it gathers."""
        strides = [0] * loops
        gathered = root.attributes.get("axes") or (root.attributes.get("axis"),)
        kept = (axis for axis in range(root.inputs[0].ndim) if axis not in gathered)
        for stride, axis in zip(self.place(root).strides, kept, strict=True):
            loop = index[axis][0]
            if loop is not None:
                strides[loop] = stride
        return tuple(strides)

    # ---- the spread about a mean, without waiting for the mean

    def _spread(self, root: Node, cluster: Cluster) -> _Spread | None:
        """What ``root`` is if it is the sum of (x - mean(x))^2 and the sum of x is gathered by units over the same space."""
        square, axes = root.inputs[0], root.attributes.get("axes", ())
        if square.operation is not ops.multiply or square.inputs[0] is not square.inputs[1]:
            return None
        apart = square.inputs[0]
        if apart.operation is not ops.subtract or apart in self.fusion.stored:
            return None
        x, mean = apart.inputs
        found = sum_of_mean(mean, x, axes)
        if found is None or found[0] not in self.partial_of:
            return None
        total, share = found
        gathered = self.partial_of[total]
        return _Spread(x, total, share, gathered.task, gathered.partial) if gathered.space == cluster.space else None

    def _about_unit_mean(self, body: _Body, root: Node, index: IndexMap, spread: _Spread) -> int:
        """The square of x less the mean of its unit: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
        computing sample variances" (1979). What the means of units lack is added when the units are brought together."""
        name = root.dtype.name
        x = body.value(spread.x, index)
        strides = self._kept_strides(spread.total, index, body.axes)
        access = Access(body.operand(spread.partial.buffer), name, 0, strides, spread.partial.kept)
        total = body.emit(Instruction("load", name, access=access))
        inner = spread.x.size // spread.total.size // spread.task.nest.sizes[0]
        share = body.emit(Instruction("unit_share", name, attributes=(("inner", inner),)))
        mean = body.emit(Instruction("multiply", name, (total, share)))
        apart = body.emit(Instruction("subtract", name, (x, mean)))
        return body.emit(Instruction("multiply", name, (apart, apart)))

    def _empty(self, cluster: Cluster) -> None:
        """Sums over nothing are 0; there is nothing else to do in an empty space."""
        for root in cluster.roots:
            if is_reduction(root) and root.size:
                zero = Instruction("constant", root.dtype.name, attributes=(("number", 0.0),))
                self._nest(root.shape, [zero], [(0, self.place(root))], str(root.origin))


class _Body:
    """The instructions of a nest in the making: each value once, inputs before what they are used in."""

    def __init__(self, lowering: Lowering, cluster: Cluster) -> None:
        self.lowering, self.cluster = lowering, cluster
        self.stored = lowering.fusion.stored - cluster.recomputed
        self.axes = max(len(cluster.space or ()), 1)
        self.instructions: list[Instruction] = []
        self.operands: list[Buffer] = []
        self.known: dict[tuple[Instruction, str], int] = {}
        self.made: dict[tuple[Node, IndexMap], int] = {}
        self.own = {root for root in cluster.roots if not is_reduction(root)}

    def operand(self, buffer: Buffer) -> int:
        if buffer not in self.operands:
            self.operands.append(buffer)
        return self.operands.index(buffer)

    def emit(self, instruction: Instruction) -> int:
        key = instruction, str(instruction.attributes)  # 0.0 equals -0.0
        if key not in self.known:
            self.known[key] = len(self.instructions)
            self.instructions.append(instruction)
        return self.known[key]

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
    maps += [one.access.strides for one in stores] + [one.access.strides for one in reductions]
    new_sizes, new_maps = collapsed(sizes, maps)
    found = dict(zip(maps, new_maps, strict=True))

    def access(one: Access) -> Access:
        return replace(one, strides=found[one.strides])

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
        tuple(Reduction(one.value, one.kind, access(one.access)) for one in reductions),
    )


def _rows(sizes: tuple[int, ...], streams: int, unit_bytes: int, reduces: bool) -> int:
    """Indices of the first axis in one unit of work."""
    points = math.prod(sizes)
    if points <= SMALL:
        return sizes[0]
    units = min(max(1, points * 4 * max(streams, 1) // unit_bytes), _MOST_PARTIALS if reduces else _MOST_UNITS, sizes[0])
    rows = -(-sizes[0] // units)
    return -(-rows // 64) * 64 if len(sizes) == 1 else rows


def _compacted_operands(nest: Nest, operands: list[Buffer]) -> tuple[Nest, tuple[Buffer, ...]]:
    """Operands that nothing touches any more (a reduction's place, once it goes by partial results) are left out."""
    touched = {one.access.operand for one in nest.body if one.access is not None}
    touched |= {one.access.operand for one in nest.stores} | {one.access.operand for one in nest.reductions}
    renumbered = {old: new for new, old in enumerate(sorted(touched))}

    def access(one: Access) -> Access:
        return replace(one, operand=renumbered[one.operand])

    body = tuple(one if one.access is None else replace(one, access=access(one.access)) for one in nest.body)
    stores = tuple(replace(one, access=access(one.access)) for one in nest.stores)
    reductions = tuple(replace(one, access=access(one.access)) for one in nest.reductions)
    buffers = tuple(operands[old] for old in sorted(touched))
    return replace(nest, body=body, stores=stores, reductions=reductions), buffers


# ---- bringing units together


def _finish_of(kind: str, dtype: str, kept: int) -> Callable[[Nest], Nest]:
    """From the nest that leaves partial results to the one that gathers them, in the order of the units.

    Operands: the partial results (units, kept), the result (kept).
    """

    def make(nest: Nest) -> Nest:
        load = Instruction("load", dtype, access=Access(0, dtype, 0, (kept, 1)))
        return Nest((nest.units, kept), nest.units, (load,), (), (Reduction(0, kind, Access(1, dtype, 0, (0, 1))),))

    return make


def _finish_of_spread(root: Node, kept: int, spread: _Spread) -> Callable[[Nest], Nest]:
    """As ``_finish_of`` for squares about the means of units: + (mean of the unit - mean)^2 * elements of the unit.

    Operands: the partial results, the result, the sums of the units (units, kept), the whole sum (kept).
    """
    dtype = root.dtype.name

    def make(nest: Nest) -> Nest:
        inner = spread.x.size // spread.total.size // nest.sizes[0]
        whole, last = nest.rows * inner, (nest.sizes[0] - (nest.units - 1) * nest.rows) * inner

        def load(operand: int, strides: Strides) -> Instruction:
            return Instruction("load", dtype, access=Access(operand, dtype, 0, strides))

        def constant(number: float, name: str = dtype) -> Instruction:
            return Instruction("constant", name, attributes=(("number", number),))

        body = (
            load(0, (kept, 1)),
            load(2, (kept, 1)),
            load(3, (0, 1)),
            constant(spread.share),
            Instruction("multiply", dtype, (2, 3)),  # 4: the mean
            Instruction("index", "int64", attributes=(("start", 0), ("strides", (1, 0)))),
            constant(nest.units - 1, "int64"),
            Instruction("equal", "bool", (5, 6)),
            constant(last),
            constant(whole),
            Instruction("where", dtype, (7, 8, 9)),  # 10: elements of the unit
            Instruction("divide", dtype, (1, 10)),
            Instruction("subtract", dtype, (11, 4)),
            Instruction("multiply", dtype, (12, 12)),
            Instruction("multiply", dtype, (13, 10)),
            Instruction("add", dtype, (0, 14)),
        )
        return Nest((nest.units, kept), nest.units, body, (), (Reduction(15, "sum", Access(1, dtype, 0, (0, 1))),))

    return make


def lower(fusion: Fusion) -> Lowered:
    return Lowering(fusion).lowered()


__all__ = ["Buffer", "HeavyTask", "LoopTask", "Lowered", "Place", "Task", "dense_strides", "lower"]
