"""A pass that divides kernels into stages: groups that run without waiting for each other.

All kernels of a stage have the same number of units. Each unit of work goes through all kernels of the stage before the next
unit begins, so the output of a kernel is still in the cache when the next kernel reads it. Between stages all threads
wait for each other. A loop nest joins the stage of the kernel that it depends on if its units can be cut so that unit u
reads only what unit u of that stage wrote.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from chainrule.compiler.nest import Access
from chainrule.compiler.tasks import Buffer, HeavyTask, LoopTask, Place, Task
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import Kernel
from chainrule.cpu.kernels.loops import loop_kernel
from chainrule.cpu.kernels.operations import steps_of
from chainrule.graph.dtypes import uint8

Operand = tuple[Buffer, int]
"""A buffer, and the byte in it at which the operand begins."""


@dataclass
class PlannedCall:
    """A kernel, which ``make`` returns once the units are final, and its operands.

    ``writes`` are the buffers among them that it writes. ``origin`` says which line of the user's program it belongs to;
    ``detail`` is that of the observed values that it computes, 0 for what the outputs need.
    """

    make: Callable[[], Kernel]
    operands: tuple[Operand, ...]
    writes: frozenset[Buffer]
    origin: str
    detail: int = 0


@dataclass
class PlannedStage:
    """Calls over the same ``units``, and the buffers that they read and write.

    ``parts`` holds the buffers that are written unit by unit in order: unit u writes the elements u * part to (u + 1) * part.
    """

    units: int
    calls: list[PlannedCall] = field(default_factory=list)
    reads: set[Buffer] = field(default_factory=set)
    writes: set[Buffer] = field(default_factory=set)
    parts: dict[Buffer, int] = field(default_factory=dict)

    @property
    def buffers(self) -> set[Buffer]:
        """The buffers that any of the calls reads or writes."""
        return self.reads | self.writes


class Staging:
    """The state of the pass.

    ``takes_over`` maps the buffer of a cell's new value to that of its old value, if the new value is written over the old one.
    ``status`` is the buffer in which kernels report an index that is out of range.

    The stages that the pass returns refer neither to this object nor in a cycle to themselves, so that a program is freed as
    soon as its last reference is gone.
    """

    def __init__(self, target: Target, takes_over: Mapping[Buffer, Buffer], status: Buffer) -> None:
        self.target, self.takes_over, self.status = target, takes_over, status
        self.stages: list[PlannedStage] = []
        self.single: list[int] = []  # the numbers of the stages of a single unit
        self.last_read: dict[Buffer, int] = {}  # the number of the last stage that reads a buffer
        self.last_written: dict[Buffer, int] = {}

    def same(self, buffer: Buffer) -> Buffer:
        """The buffer whose memory ``buffer`` uses: itself, or that of the cell's old value which it is written over."""
        return self.takes_over.get(buffer, buffer)

    def staged(self, tasks: Sequence[Task]) -> list[PlannedStage]:
        """Divide ``tasks``, which are in an order that can be run, into stages. The tasks themselves stay as they are."""
        for task in copied(tasks):
            if isinstance(task, HeavyTask):
                self._heavy(task)
            else:
                self._loops(task)
        return self.stages

    def _earliest(self, reads: set[Buffer], writes: set[Buffer]) -> int:
        """The number of the last stage that writes what is used here or reads what is written here; -1 for none.

        It is the earliest stage that the kernel or loop in question may be added to.
        """
        touched = [self.last_written.get(buffer, -1) for buffer in (*reads, *writes)]
        touched += [self.last_read.get(buffer, -1) for buffer in writes]
        return max(touched, default=-1)

    def _first_single(self, first: int) -> int | None:
        """The number of the first stage of a single unit from number ``first`` on; None if there is none."""
        place = bisect.bisect_left(self.single, first)
        return self.single[place] if place < len(self.single) else None

    def _add(self, stage: PlannedStage, number: int | None) -> None:
        """Add the calls of ``stage`` to the stage of that ``number``; if that is None, ``stage`` comes last."""
        if number is None:
            number = len(self.stages)
            self.stages.append(stage)
            if stage.units == 1:
                self.single.append(number)
        else:
            _join(self.stages[number], stage)
        for last, buffers in ((self.last_read, stage.reads), (self.last_written, stage.writes)):
            for buffer in buffers:
                last[buffer] = max(number, last.get(buffer, -1))

    # ---- heavy operations

    def _heavy(self, task: HeavyTask) -> None:
        steps, places = steps_of(task, self.target)
        temporaries = {
            name: Buffer(uint8, size, f"{name} of {task.node.operation.name}") for name, size in steps.temporaries.items()
        }
        for step in steps.steps:
            operands = tuple(self._operand(name, places, temporaries) for name in step.operands)
            buffers = {buffer for buffer, _ in operands}
            last = step is steps.steps[-1]
            written = {self.same(task.output.buffer)} if last else set()
            written |= {one for one in buffers if one in temporaries.values()}  # as one of the steps writes them
            call = PlannedCall(partial(_given, step.kernel), operands, frozenset(written), task.origin)
            stage = PlannedStage(step.kernel.units, [call])
            stage.reads, stage.writes = buffers - written, written
            if last and step.rows is not None:
                stage.parts[self.same(task.output.buffer)] = step.rows * _row_elements(task)
            single = stage.units == 1  # such kernels share a stage
            self._add(stage, self._first_single(self._earliest(stage.reads, stage.writes)) if single else None)

    def _operand(self, name: str, places: dict[str, Place], temporaries: dict[str, Buffer]) -> Operand:
        if name == "status":
            return self.status, 0
        if name in temporaries:
            return temporaries[name], 0
        place = places[name]
        return self.same(place.buffer), place.start * place.buffer.dtype.itemsize

    # ---- loops

    def _loops(self, task: LoopTask) -> None:
        reads, writes = {self.same(one) for one in task.reads}, {self.same(one) for one in task.writes}
        operands = tuple((self.same(one), 0) for one in task.buffers)
        first = self._earliest(reads, writes)
        joined = None
        if first >= 0:
            rows = self.rows_to_join(task, self.stages[first], reads, writes)
            if rows is not None:
                task.divide(rows)
                joined = first
        call = PlannedCall(partial(loop_kernel, task.nest, self.target), operands, frozenset(writes), task.origin)
        stage = PlannedStage(task.nest.units, [call], reads, writes)
        if joined is None and stage.units == 1:
            joined = self._first_single(first)
        for access in (*(one.access for one in task.nest.stores), *(one.access for one in task.nest.reductions)):
            part = _part(access, task)
            if part is not None:
                stage.parts[self.same(task.buffers[access.operand])] = part
        self._add(stage, joined)

    def rows_to_join(self, task: LoopTask, stage: PlannedStage, reads: set[Buffer], writes: set[Buffer]) -> int | None:
        """Return the rows per unit with which the task can join ``stage`` at its end; None if it cannot.

        The task can join if, in every buffer that it shares with the stage, its unit u touches only elements of unit u.
        """
        nest = task.nest
        if stage.units == 1:
            return nest.rows if nest.units == 1 else None
        if nest.units == 1 and nest.sizes[0] < stage.units:
            return None
        meets = stage.writes & (reads | writes) | stage.reads & writes
        possible: set[int] = set()
        for access in _accesses(task):
            buffer = self.same(task.buffers[access.operand])
            if buffer not in meets:
                continue
            part, stride = stage.parts.get(buffer), access.strides[0]
            if access.unit_stride:  # a partial result of each unit
                if part != access.unit_stride:
                    return None
                possible.add(nest.rows)
                continue
            if part is None or stride <= 0 or part % stride or not _within_row(access, nest.sizes):
                return None
            possible.add(part // stride)
        if len(possible) != 1:
            return None
        rows = possible.pop()
        if task.follows and rows != nest.rows:
            return None
        if -(-nest.sizes[0] // rows) != stage.units or (nest.units == 1 and nest.reductions and not task.partials):
            return None
        if any(one.access.strides[0] == 0 for one in nest.reductions) and not task.partials:
            return None
        return rows


def copied(tasks: Sequence[Task]) -> list[Task]:
    """Return copies of the tasks, so that dividing their nests into units leaves the originals as they are.

    Loop tasks are copied together with the buffers of their partial results and with the tasks that follow them.
    """
    new = {one: replace(one) for one in tasks if isinstance(one, LoopTask)}
    left = {partial.buffer: replace(partial.buffer) for one in new for partial in one.partials}
    for one in new.values():
        one.buffers = tuple(left.get(buffer, buffer) for buffer in one.buffers)
        one.writes = frozenset(left.get(buffer, buffer) for buffer in one.writes)
        one.partials = [replace(part, buffer=left[part.buffer], finish=new[part.finish]) for part in one.partials]
        one.followers = [new[follower] for follower in one.followers]
    return [new[one] if isinstance(one, LoopTask) else one for one in tasks]


def _join(stage: PlannedStage, other: PlannedStage) -> None:
    stage.calls += other.calls
    stage.reads |= other.reads
    stage.writes |= other.writes
    stage.parts |= other.parts


def _given(kernel: Kernel) -> Kernel:
    return kernel


def _accesses(task: LoopTask) -> list[Access]:
    nest = task.nest
    loads = [one.access for one in nest.body if one.access is not None]
    return [*loads, *(one.access for one in nest.stores), *(one.access for one in nest.reductions)]


def _within_row(access: Access, sizes: tuple[int, ...]) -> bool:
    """Whether all elements of an index of the first axis lie before all elements of the next index."""
    reach = sum((size - 1) * abs(stride) for size, stride in zip(sizes[1:], access.strides[1:], strict=True))
    return access.start == 0 and min(access.strides[1:], default=0) >= 0 and reach < access.strides[0]


def _part(access: Access, task: LoopTask) -> int | None:
    """Return the elements per unit, if the units write consecutive parts of the buffer; else None."""
    if access.unit_stride:
        return access.unit_stride
    return task.nest.rows * access.strides[0] if access.strides[0] > 0 and _within_row(access, task.nest.sizes) else None


def _row_elements(task: HeavyTask) -> int:
    """Return the elements in a row of the output (see ``KernelStep.rows``), as it lies in memory.

    A row is all channels of a pixel, a row of a matrix, or a whole filter of a weight gradient.
    """
    node, strides = task.node, task.output.strides
    if node.operation.name == "conv2d_weight_gradient":
        return node.size // node.shape[0]
    inner = min((axis for axis in range(node.ndim) if node.shape[axis] > 1), key=lambda axis: strides[axis], default=None)
    if inner is None:
        return 1
    return node.shape[inner] if strides[inner] == 1 else 1
