"""Pass: from clusters to loop nests over buffers.

Every stored value gets a buffer. A cluster of elementwise work and reductions becomes a nest; a reduction whose units of
work gather into the same places leaves one partial result per unit and is finished by a second nest, in the order of the
units: so the bits do not depend on who did which unit. A heavy operation stays as it is, with the places of its operands.
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
from chainrule.graph.dtypes import DType


class Lowering:
    """The state of the pass."""

    def __init__(self, fusion: Fusion) -> None:
        self.fusion, self.layout = fusion, fusion.layout
        self.buffers: dict[Node, Buffer] = {}
        self.tasks: list[Task] = []
        self.partial_of: dict[Node, GatheredSum] = {}

    def lowered(self) -> Lowered:
        """The tasks of all clusters, in their order."""
        for cluster in self.fusion.clusters:
            if cluster.is_heavy:
                self._heavy(cluster.roots[0])
            else:
                self._loops(cluster)
        graph = self.layout.graph
        places = {node: self.place(node) for node in (*graph.outputs, *graph.leaves)}
        return Lowered(self.tasks, self.buffers, places)

    def buffer(self, node: Node) -> Buffer:
        """The buffer of a stored value, made when it is first asked for."""
        if node not in self.buffers:
            self.buffers[node] = Buffer(node.dtype, node.size, node.label or node.operation.name, node)
        return self.buffers[node]

    def place(self, node: Node) -> Place:
        """Where a value lies that is stored, or is a view of one."""
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
        nest = compact(sizes, instructions, [Store(stores[0][0], target)], [], UNIT_BYTES)
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
                squares = self._squares(root, cluster)
                value = (
                    body.value(root.inputs[0], index) if squares is None else self._about_unit_mean(body, root, index, squares)
                )
                gathers.append((root, squares, self._gather(body, root, value, index)))
            else:
                number = body.value(root, index)
                stores.append(Store(number, body.access(self.place(root), index, root.dtype)))
        nest = compact(cluster.space or (1,), body.instructions, stores, [one for _, _, one in gathers], UNIT_BYTES)
        leaders = [squares.task for _, squares, _ in gathers if squares is not None]
        if leaders:
            nest = replace(nest, rows=leaders[0].nest.rows)
        task = LoopTask(nest, tuple(body.operands), frozenset(), str(cluster.roots[0].origin), follows=bool(leaders))
        for leader in leaders:
            leader.followers.append(task)
        self.tasks.append(task)
        self._with_partials(task, [(root, squares) for root, squares, _ in gathers], cluster)

    def _with_partials(self, task: LoopTask, gathers: list[tuple[Node, SquaredDistances | None]], cluster: Cluster) -> None:
        """Reductions over what several units share go to partial results, which tasks after this one finish."""
        nest, operands = task.nest, list(task.buffers)
        writes = {self.buffer(root) for root in cluster.roots}
        reductions: list[Reduction] = []
        for (root, squares), one in zip(gathers, nest.reductions, strict=True):
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
                *(() if squares is None else (squares.partial.buffer, self.buffer(squares.total))),
            )
            make = finish_of(one.kind, root.dtype.name, kept) if squares is None else finish_of_squares(root, kept, squares)
            finish = LoopTask(make(nest), buffers, frozenset({buffers[1]}), task.origin)
            task.partials.append(Partial(partial, kept, finish, make))
            self.partial_of[root] = GatheredSum(cluster.space, task, task.partials[-1])
        made = without_untouched(replace(nest, reductions=tuple(reductions)), operands)
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

    # ---- squared distances from a mean, without waiting for the mean

    def _squares(self, root: Node, cluster: Cluster) -> SquaredDistances | None:
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
        return SquaredDistances(x, total, share, gathered.task, gathered.partial) if gathered.space == cluster.space else None

    def _about_unit_mean(self, body: _Body, root: Node, index: IndexMap, squares: SquaredDistances) -> int:
        """The square of x less the mean of its unit: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
        computing sample variances" (1979). What the means of units lack is added when the units are brought together."""
        name = root.dtype.name
        x = body.value(squares.x, index)
        strides = self._kept_strides(squares.total, index, body.axes)
        access = Access(body.operand(squares.partial.buffer), name, 0, strides, squares.partial.kept)
        total = body.emit(Instruction("load", name, access=access))
        inner = squares.x.size // squares.total.size // squares.task.nest.sizes[0]
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


def lower(fusion: Fusion) -> Lowered:
    """Tasks over buffers for clusters of values."""
    return Lowering(fusion).lowered()
