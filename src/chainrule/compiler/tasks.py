"""Tasks over buffers, the result of lowering a graph. A task is a heavy operation or a loop nest. Scheduling, staging, memory
planning and listing work on tasks alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from chainrule.compiler.nest import Nest, Strides
from chainrule.graph import Node
from chainrule.graph.dtypes import DType


@dataclass(eq=False)
class Buffer:
    """Memory for one stored value, or for partial results. ``label`` is its name where it is shown."""

    dtype: DType
    elements: int
    label: str
    node: Node | None = None

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True)
class Place:
    """Where a value is stored: its first element and its stride per axis, in elements of ``buffer``."""

    buffer: Buffer
    start: int
    strides: Strides


@dataclass(eq=False)
class LoopTask:
    """A loop nest, with the buffers of its operands in order.

    ``partials`` are its reductions that store partial results. ``followers`` are tasks whose units of work read what the units
    of this task store, so they must be divided into the same units; ``follows`` is set for them. ``detail`` is that of the
    observed values that the task computes, and 0 for what the outputs need.
    """

    nest: Nest
    buffers: tuple[Buffer, ...]
    writes: frozenset[Buffer]
    origin: str = ""
    partials: list[Partial] = field(default_factory=list)
    followers: list[LoopTask] = field(default_factory=list)
    follows: bool = False
    detail: int = 0

    @property
    def reads(self) -> set[Buffer]:
        """The buffers that the nest loads from."""
        return {self.buffers[each.access.operand] for each in self.nest.body if each.access is not None}

    def divide(self, rows: int) -> None:
        """Divide the nest into units of ``rows`` indices of the first axis, and adapt its partial results and followers."""
        self.nest = replace(self.nest, rows=rows)
        for partial in self.partials:
            partial.buffer.elements = self.nest.units * partial.kept
            partial.finish.nest = partial.make_finish(self.nest)
        for follower in self.followers:
            follower.divide(rows)


@dataclass(eq=False)
class Partial:
    """The partial results of a reduction: ``kept`` elements for each unit of work, in ``buffer``.

    The task ``finish`` combines them. ``make_finish`` makes its nest, given the nest that stores them.
    """

    buffer: Buffer
    kept: int
    finish: LoopTask
    make_finish: Callable[[Nest], Nest]


@dataclass(eq=False)
class HeavyTask:
    """A heavy operation, with the places of its inputs and of its output."""

    node: Node
    inputs: tuple[Place, ...]
    output: Place
    origin: str = ""

    @property
    def reads(self) -> set[Buffer]:
        """The buffers of the inputs."""
        return {place.buffer for place in self.inputs}

    @property
    def writes(self) -> frozenset[Buffer]:
        """The buffer of the output."""
        return frozenset({self.output.buffer})


Task = LoopTask | HeavyTask


@dataclass
class Lowered:
    """A lowered graph: tasks in order, the buffer of every stored value, and the places of the graph's ends and leaves.

    ``observing`` are the tasks of observed values, which read what ``tasks`` store.
    """

    tasks: list[Task]
    buffers: dict[Node, Buffer] = field(default_factory=dict)
    places: dict[Node, Place] = field(default_factory=dict)
    observing: list[LoopTask] = field(default_factory=list)
