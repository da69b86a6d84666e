"""What is to be done, once a graph is lowered: tasks over buffers. A heavy operation, or a loop nest; whoever schedules them,
stages them, plans memory or shows them needs to know no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from chainrule.compiler.nest import Nest, Strides
from chainrule.graph import Node
from chainrule.graph.dtypes import DType


@dataclass(eq=False)
class Buffer:
    """Memory for one stored value, or for partial results. ``label`` says what it is to people."""

    dtype: DType
    elements: int
    label: str
    node: Node | None = None

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
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
        """The buffers that its nest loads from."""
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
        """The buffers of its inputs."""
        return {one.buffer for one in self.inputs}

    @property
    def writes(self) -> frozenset[Buffer]:
        """The buffer of its output."""
        return frozenset({self.output.buffer})


Task = LoopTask | HeavyTask


@dataclass
class Lowered:
    """Tasks in order, and the buffer of every stored value."""

    tasks: list[Task]
    buffers: dict[Node, Buffer] = field(default_factory=dict)
    places: dict[Node, Place] = field(default_factory=dict)  # of the graph's outputs and inputs
