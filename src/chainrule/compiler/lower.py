"""Pass: turns clusters into tasks over buffers.

Every stored value gets a buffer. A heavy operation becomes a task with the places of its operands. A cluster of elementwise
values and reductions becomes a loop nest, whose work is divided into units for threads. Where several units contribute to the
same elements of a reduction, each unit stores a partial result, and a second nest combines these in the order of the units, so
that the result has the same bits whichever thread computes which unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.compiler.fuse import Cluster, Fusion, IndexMap, base_of, moved_map
from chainrule.compiler.layout import is_reduction
from chainrule.compiler.nest import Access, Instruction, Reduction, Store, Strides
from chainrule.compiler.partials import GatheredSum, SquaredDistances, finish_of, finish_of_squares
from chainrule.compiler.shaping import UNIT_BYTES, compact, without_untouched
from chainrule.compiler.simplify import number_in, number_of, sum_of_mean
from chainrule.compiler.tasks import Buffer, HeavyTask, LoopTask, Lowered, Partial, Place, Task
from chainrule.compiler.values import COPY, is_movement, only_unit_axes_change
from chainrule.graph import Node
from chainrule.graph.dtypes import DType, name_of


class Lowering:
    """The state of the pass. ``partial_of`` has the reductions that leave partial results."""

    def __init__(self, fusion: Fusion) -> None:
        self.fusion, self.layout = fusion, fusion.layout
        self.buffers: dict[Node, Buffer] = {}
        self.tasks: list[Task] = []
        self.partial_of: dict[Node, GatheredSum] = {}

    def lowered(self) -> Lowered:
        """The tasks of all clusters, in the order of the clusters."""
        for cluster in self.fusion.clusters:
            if cluster.is_heavy:
                self._heavy(cluster.roots[0])
            else:
                self._loops(cluster)
        observing: list[LoopTask] = []
        tasks, self.tasks = self.tasks, []
        for cluster in self.fusion.observing:
            self._loops(cluster)
            for task in self.tasks:
                assert isinstance(task, LoopTask), "observed values are computed by loops"
                task.detail = cluster.detail
                observing.append(task)
            self.tasks = []
        graph = self.layout.graph
        places = {node: self.place(node) for node in (*graph.ends, *graph.leaves)}
        return Lowered(tasks, self.buffers, places, observing)

    def buffer(self, node: Node) -> Buffer:
        """The buffer of a stored value, made at the first call."""
        if node not in self.buffers:
            self.buffers[node] = Buffer(node.dtype, node.size, node.label or node.operation.name, node)
        return self.buffers[node]

    def place(self, node: Node) -> Place:
        """The place of a value that is stored, or is a view of a stored one."""
        start_and_strides = self.layout.strides(node)
        assert start_and_strides is not None, f"{node} is no view of what is stored"
        return Place(self.buffer(base_of(node)), *start_and_strides)

    # ---- heavy operations

    def _heavy(self, node: Node) -> None:
        """Add the task of a heavy operation. ``concatenate`` and ``pad`` become nests that copy."""
        task = HeavyTask(node, tuple(self.place(source) for source in node.inputs), self.place(node), str(node.origin))
        if (
            node.size
            and node.operation is not ops.concatenate
            and node.operation is not ops.pad
            and not all(source.size for source in node.inputs)
        ):  # empty sums, which are 0
            zero = Instruction("constant", name_of(node.dtype), attributes=(("number", 0.0),))
            self._nest(node.shape, [zero], [(0, task.output)], task.origin)
        elif node.operation is ops.concatenate:
            self._concatenate(task)
        elif node.operation is ops.pad:
            self._pad(task)
        elif node.size:
            self.tasks.append(task)

    def _concatenate(self, task: HeavyTask) -> None:
        axis, begin = task.node.attributes["axis"], 0
        for part, source in zip(task.node.inputs, task.inputs, strict=True):
            target = Place(task.output.buffer, begin * task.output.strides[axis], task.output.strides)
            self._move(part, source, target, task.origin)
            begin += part.shape[axis]

    def _pad(self, task: HeavyTask) -> None:
        node, attributes, output = task.node, task.node.attributes, task.output
        number = np.asarray(attributes.get("value", 0.0), node.dtype)
        fill = Instruction("constant", name_of(node.dtype), attributes=(("number", number_in(number)),))
        self._nest(node.shape, [fill], [(0, output)], task.origin)
        start = sum(low * stride for low, stride in zip(attributes["low"], output.strides, strict=True))
        strides = tuple((inner + 1) * s for inner, s in zip(attributes["interior"], output.strides, strict=True))
        self._move(node.inputs[0], task.inputs[0], Place(output.buffer, start, strides), task.origin)

    def _move(self, node: Node, source: Place, target: Place, origin: str) -> None:
        """Add a nest that copies the value ``node`` from ``source`` to ``target``."""
        load = Instruction("load", name_of(node.dtype), access=Access(1, name_of(node.dtype), source.start, source.strides))
        self._nest(node.shape, [load], [(0, target)], origin, (source.buffer,))

    def _nest(
        self,
        shape: tuple[int, ...],
        body: list[Instruction],
        stores: list[tuple[int, Place]],
        origin: str,
        reads: tuple[Buffer, ...] = (),
    ) -> None:
        """Add a nest over the axes of ``shape``, in the order that they have in the memory of the first store.

        ``stores`` are numbers of body instructions and the places for their values. Operand 0 is the buffer of the first
        store; the buffers of ``reads`` follow.
        """
        if math.prod(shape) == 0:
            return
        place = stores[0][1]
        if not shape:
            shape, place = (1,), Place(place.buffer, place.start, (0,))
            body = [instruction if instruction.access is None else _flat(instruction) for instruction in body]
        order = sorted(range(len(shape)), key=lambda axis: -abs(place.strides[axis]))

        def turned(strides: Strides) -> Strides:
            return tuple(strides[axis] for axis in order)

        instructions = [
            instruction
            if instruction.access is None
            else Instruction(
                instruction.name,
                instruction.dtype,
                access=Access(
                    instruction.access.operand,
                    instruction.access.dtype,
                    instruction.access.start,
                    turned(instruction.access.strides),
                ),
            )
            for instruction in body
        ]
        target = Access(0, name_of(place.buffer.dtype), place.start, turned(place.strides))
        sizes = tuple(shape[axis] for axis in order)
        nest = compact(sizes, instructions, [Store(stores[0][0], target)], [], UNIT_BYTES)
        self.tasks.append(LoopTask(nest, (place.buffer, *reads), frozenset({place.buffer}), origin))

    # ---- loops

    def _loops(self, cluster: Cluster) -> None:
        """Add the nest of a cluster, and those that combine its partial results."""
        if cluster.points == 0:
            self._empty(cluster)
            return
        body = _Body(self, cluster)
        stores, gathers = [], []
        for root in cluster.roots:
            index = cluster.maps[root]
            if is_reduction(root):
                squares = None if cluster.detail else self._squares(root, cluster)
                value = (
                    body.value(root.inputs[0], index) if squares is None else self._about_unit_mean(body, root, index, squares)
                )
                gathers.append((root, squares, self._gather(body, root, value, index)))
            else:
                number = body.value(root, index)
                stores.append(Store(number, body.access(self.place(root), index, root.dtype)))
        nest = compact(cluster.space or (1,), body.instructions, stores, [reduction for _, _, reduction in gathers], UNIT_BYTES)
        leaders = [squares.task for _, squares, _ in gathers if squares is not None]
        if leaders:
            nest = replace(nest, rows=leaders[0].nest.rows)
        task = LoopTask(nest, tuple(body.operands), frozenset(), str(cluster.roots[0].origin), follows=bool(leaders))
        for leader in leaders:
            leader.followers.append(task)
        self.tasks.append(task)
        self._with_partials(task, [(root, squares) for root, squares, _ in gathers], cluster)

    def _with_partials(self, task: LoopTask, gathers: list[tuple[Node, SquaredDistances | None]], cluster: Cluster) -> None:
        """Finish ``task``, which is without partial results so far: give them to those reductions whose elements several units
        share, and add the tasks that combine them.

        ``gathers`` has a pair for each reduction: its node, and what ``_squares`` gave for it.
        """
        nest, operands = task.nest, list(task.buffers)
        writes = {self.buffer(root) for root in cluster.roots}
        reductions: list[Reduction] = []
        for (root, squares), reduction in zip(gathers, nest.reductions, strict=True):
            if nest.units == 1 or reduction.access.strides[0] != 0:
                reductions.append(reduction)
                continue
            kept = max(root.size, 1)
            partial = Buffer(root.dtype, nest.units * kept, f"partial results of {root.operation.name}")
            operands.append(partial)
            access = reduction.access._replace(operand=len(operands) - 1, unit_stride=kept)
            reductions.append(reduction._replace(access=access))
            writes = (writes | {partial}) - {self.buffer(root)}
            buffers = (
                partial,
                self.buffer(root),
                *(() if squares is None else (squares.partial.buffer, self.buffer(squares.total))),
            )
            make = (
                finish_of(reduction.kind, name_of(root.dtype), kept)
                if squares is None
                else finish_of_squares(root, kept, squares)
            )
            finish = LoopTask(make(nest), buffers, frozenset({buffers[1]}), task.origin)
            task.partials.append(Partial(partial, kept, finish, make))
            self.partial_of[root] = GatheredSum(cluster.space, task, task.partials[-1])
        made = without_untouched(replace(nest, reductions=tuple(reductions)), operands)
        task.nest, task.buffers = made
        task.writes = frozenset(writes)
        self.tasks += [partial.finish for partial in task.partials]

    def _gather(self, body: _Body, root: Node, value: int, index: IndexMap) -> Reduction:
        """The reduction ``root`` of body value ``value``, whose index map is ``index``, into the place of ``root`` itself."""
        place = self.place(root)
        kind = {"max": "max", "min": "min"}.get(root.operation.name, "sum")
        strides = self._kept_strides(root, index, body.axes)
        return Reduction(value, kind, Access(body.operand(place.buffer), name_of(root.dtype), place.start, strides))

    def _kept_strides(self, root: Node, index: IndexMap, loops: int) -> Strides:
        """The strides of a reduction's result along the loops over its input: 0 along the axes that are reduced."""
        strides = [0] * loops
        gathered = root.attributes.get("axes") or (root.attributes.get("axis"),)
        kept = (axis for axis in range(root.inputs[0].ndim) if axis not in gathered)
        for stride, axis in zip(self.place(root).strides, kept, strict=True):
            loop = index[axis][0]
            if loop is not None:
                strides[loop] = stride
        return tuple(strides)

    # ---- squared distances from a mean, without waiting for the mean

    def _squares(self, root: Node, cluster: Cluster) -> SquaredDistances | None:
        """``root`` as ``SquaredDistances``, if it is the sum of (x - mean(x))^2, and the sum of x is computed by units of work
        over the same space and so leaves partial results. Otherwise None.
        """
        square, axes = root.inputs[0], root.attributes.get("axes", ())
        if square.operation is not ops.multiply or square.inputs[0] is not square.inputs[1]:
            return None
        deviation = square.inputs[0]
        if deviation.operation is not ops.subtract or deviation in self.fusion.stored:
            return None
        x, mean = deviation.inputs
        total_and_share = sum_of_mean(mean, x, axes)
        if total_and_share is None or total_and_share[0] not in self.partial_of:
            return None
        total, share = total_and_share
        gathered = self.partial_of[total]
        return SquaredDistances(x, total, share, gathered.task, gathered.partial) if gathered.space == cluster.space else None

    def _about_unit_mean(self, body: _Body, root: Node, index: IndexMap, squares: SquaredDistances) -> int:
        """The body value (x - m)^2, where m is the mean of x over the unit of work: it is known before the mean of all x is.

        The distances of the means of units from the mean of all x are accounted for when the partial results are combined (see
        ``finish_of_squares``): Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances" (1979).
        """
        name = name_of(root.dtype)
        x = body.value(squares.x, index)
        strides = self._kept_strides(squares.total, index, body.axes)
        access = Access(body.operand(squares.partial.buffer), name, 0, strides, squares.partial.kept)
        total = body.emit(Instruction("load", name, access=access))
        inner = squares.x.size // squares.total.size // squares.task.nest.sizes[0]
        share = body.emit(Instruction("unit_share", name, attributes=(("inner", inner),)))
        mean = body.emit(Instruction("multiply", name, (total, share)))
        deviation = body.emit(Instruction("subtract", name, (x, mean)))
        return body.emit(Instruction("multiply", name, (deviation, deviation)))

    def _empty(self, cluster: Cluster) -> None:
        """Add the tasks of a cluster whose space has no points: its reductions are empty sums, which are 0."""
        for root in cluster.roots:
            if is_reduction(root) and root.size:
                zero = Instruction("constant", name_of(root.dtype), attributes=(("number", 0.0),))
                self._nest(root.shape, [zero], [(0, self.place(root))], str(root.origin))


class _Body:
    """The instructions of a nest while it is built. Each value is computed by one instruction, after those of its inputs.

    ``made`` has the number of the instruction for each node and index map, ``known`` that for each instruction.
    """

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
        key = instruction, str(instruction.attributes)  # the text distinguishes 0.0 from -0.0, which are equal
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
        return Access(self.operand(place.buffer), name_of(dtype), start, tuple(strides))

    def value(self, node: Node, index: IndexMap) -> int:
        """The number of the instruction that gives ``node`` at a point. Without recursion, as chains of nodes can be long."""
        made = self.made
        stack: list[tuple[Node, IndexMap, list[tuple[Node, IndexMap]] | None]] = [(node, index, None)]
        while stack:
            current, at, sources = stack.pop()
            if (current, at) in made:
                continue
            if sources is not None:
                made[current, at] = self._instruction(current, at, sources)
            elif self._is_boundary(current) and not (current in self.own and at == self.cluster.maps[current]):
                made[current, at] = self._boundary(current, at)
            else:
                sources = self._sources(current, at)
                stack.append((current, at, sources))
                stack.extend([(*source, None) for source in sources])
        return made[node, index]

    def _is_boundary(self, node: Node) -> bool:
        """Whether the cluster reads ``node`` from memory."""
        return node in self.stored or (node.operation is ops.reshape and not only_unit_axes_change(node))

    def _boundary(self, node: Node, index: IndexMap) -> int:
        """The instruction that loads ``node``, or is the number that it holds everywhere."""
        number = number_of(node)
        if number is not None and node.size == 1:
            return self.emit(Instruction("constant", name_of(node.dtype), attributes=(("number", number),)))
        access = self.access(self.lowering.place(node), index, node.dtype)
        return self.emit(Instruction("load", name_of(node.dtype), access=access))

    def _sources(self, node: Node, index: IndexMap) -> list[tuple[Node, IndexMap]]:
        """The inputs that ``node`` is computed from at a point, with their index maps."""
        if is_movement(node):
            return [(node.inputs[0], moved_map(node, index))]
        if node.operation is ops.one_hot:
            return [(node.inputs[0], index[:-1])]
        return [(source, index) for source in node.inputs]

    def _instruction(self, node: Node, index: IndexMap, sources: Sequence[tuple[Node, IndexMap]]) -> int:
        inputs = tuple(self.made[source] for source in sources)
        if is_movement(node) or node.operation is COPY or node.operation is ops.stop_gradient:
            return inputs[0]
        if node.operation is ops.one_hot:
            return self._one_hot(node, index, inputs[0])
        return self.emit(Instruction(node.operation.name, name_of(node.dtype), inputs, _attributes(node)))

    def _one_hot(self, node: Node, index: IndexMap, label: int) -> int:
        axis, stride, offset = index[-1]
        strides = tuple(stride if axis == place else 0 for place in range(self.axes))
        place = self.emit(Instruction("index", "int64", attributes=(("start", offset), ("strides", strides))))
        wide = label
        if self.instructions[label].dtype != "int64":
            wide = self.emit(Instruction("cast", "int64", (label,), (("dtype", "int64"),)))
        equal = self.emit(Instruction("equal", "bool", (wide, place)))
        return self.emit(Instruction("cast", name_of(node.dtype), (equal,), (("dtype", name_of(node.dtype)),)))


def _flat(load: Instruction) -> Instruction:
    """A load without axes as a load over a single axis of size 1."""
    assert load.access is not None
    return Instruction(load.name, load.dtype, access=Access(load.access.operand, load.access.dtype, load.access.start, (0,)))


def _attributes(node: Node) -> tuple[tuple[str, Any], ...]:
    """The attributes of a node for an ``Instruction``: sorted, with a dtype as its name."""
    return tuple(
        (name, getattr(value, "name", None) or value if name == "dtype" else value)
        for name, value in sorted(node.attributes.items())
    )


def lower(fusion: Fusion) -> Lowered:
    """The tasks and buffers for the clusters of ``fusion``."""
    return Lowering(fusion).lowered()
