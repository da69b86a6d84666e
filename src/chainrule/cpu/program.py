"""A program: a compiled graph, ready to run on this processor.

    plan ──> stages of kernels ──> arena ──> executable: one native call per run

Every buffer has a fixed place: in the arena, in a cell's own memory, or, for inputs, wherever the caller's array lies. Nothing
is allocated while it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.compiler.lower import Buffer, Place
from chainrule.compiler.memory import Span, plan_memory
from chainrule.compiler.pipeline import PassReport, plan
from chainrule.cpu.executable import Call, Executable, Stage
from chainrule.cpu.limits import Limits
from chainrule.cpu.memory import aligned_memory
from chainrule.cpu.profile import ProgramProfile, profiled
from chainrule.cpu.stages import PlannedStage, Staging
from chainrule.cpu.target import Target, host_target
from chainrule.errors import UserError
from chainrule.graph import Array, Graph, Node
from chainrule.graph.dtypes import int64
from chainrule.graph.node import CONSTANT, Role


@dataclass(frozen=True)
class ArenaRow:
    """One value of the arena: what it is, its bytes, its offset, and the stages between which it is needed."""

    label: str
    nbytes: int
    offset: int
    first: int
    last: int


class Program:
    """``graph`` as native code.

    ``state`` names the cells that it assigns: the leaf of the old value and the number of the output that is the new one;
    the new value is left in the memory that was bound for the leaf. A program that is ``lent_memory`` has none of its own: the
    caller lends it an arena (``lend``), and writes the addresses of leaves and outputs where ``address_places`` says.
    """

    def __init__(
        self,
        graph: Graph,
        state: Sequence[tuple[Node, int]] = (),
        *,
        target: Target | None = None,
        max_memory: int | None = None,
        lent_memory: bool = False,
        alone_under: float = 0.0,
    ) -> None:
        self._alone_under = alone_under
        self.target = target or host_target()
        made = plan(graph, state)
        self.passes: list[PassReport] = made.reports
        self._outputs = [made.lowered.places[one] for one in made.outputs]
        self._shapes = [one.shape for one in made.outputs]
        self._old_of = made.schedule.takes_over
        self._status = Buffer(int64, 4, "status")
        stages = Staging(self.target, self._old_of, self._status).staged(made.schedule.tasks)
        self._leaves = {
            node: place.buffer
            for node, place in made.lowered.places.items()
            if node.is_leaf and node.operation.role is Role.LEAF
        }
        self._bound: dict[Buffer, Array] = {}
        outside = {self._status, *self._leaves.values()}
        if lent_memory:
            outside |= {place.buffer for place in self._outputs}
        self._spans = self._needed(stages, outside)
        self._arena = plan_memory(self._spans)
        self._refuse_more_than(max_memory)
        self._build(stages)
        self.lend(aligned_memory(self._arena.nbytes if not lent_memory else 0))
        self._bind_constants()

    def _same(self, buffer: Buffer) -> Buffer:
        return self._old_of.get(buffer, buffer)

    # ---- memory

    def _needed(self, stages: list[PlannedStage], outside: set[Buffer]) -> dict[Buffer, Span]:
        """From which stage to which each buffer of the arena is needed; outputs to the end."""
        spans: dict[Buffer, Span] = {}
        for number, stage in enumerate(stages):
            for buffer in stage.buffers - outside:
                first = spans[buffer].first if buffer in spans else number
                spans[buffer] = Span(first, number)
        for place in self._outputs:
            buffer = self._same(place.buffer)
            if buffer not in outside:
                spans[buffer] = Span(spans[buffer].first if buffer in spans else 0, len(stages))
        return spans

    def _refuse_more_than(self, limit: int | None) -> None:
        if limit is None or self._arena.nbytes <= limit:
            return
        rows = sorted(self.plan(), key=lambda one: -one.nbytes)[:10]
        table = "\n".join(f"  {row.nbytes:>14,}  {row.label}" for row in rows)
        raise UserError(
            f"compile: the program needs {self._arena.nbytes:,} bytes, max_memory allows {limit:,}: use a smaller batch. "
            f"Its largest values, in bytes:\n{table}"
        )

    def plan(self) -> list[ArenaRow]:
        """The arena, value by value, in the order of first use."""
        rows = [
            ArenaRow(buffer.label, buffer.nbytes, self._arena.offsets[buffer], span.first, span.last)
            for buffer, span in self._spans.items()
        ]
        return sorted(rows, key=lambda row: (row.first, row.offset))

    @property
    def arena_bytes(self) -> int:
        return self._arena.nbytes

    # ---- native code

    def _build(self, stages: list[PlannedStage]) -> None:
        slots: dict[tuple[Buffer, int], int] = {}
        native = []
        for stage in stages:
            calls = []
            for call in stage.calls:
                numbers = tuple(slots.setdefault(operand, len(slots)) for operand in call.operands)
                calls.append(Call(call.make(), numbers))
            native.append(Stage(tuple(calls)))
        self.stages = native
        self._origins = [call.origin for stage in stages for call in stage.calls if stage.units]
        self._slots_of: dict[Buffer, list[tuple[int, int]]] = {}
        for (buffer, offset), slot in slots.items():
            self._slots_of.setdefault(buffer, []).append((slot, offset))
        self._executable = Executable(native, len(slots), self.target, self._alone_under)
        self._status_now = np.zeros(self._status.elements, np.int64)
        self._bind(self._status, self._status_now.ctypes.data)

    def lend(self, memory: Array) -> None:
        """From now on the arena is ``memory``: bytes, at least ``arena_bytes`` of them, from the beginning of a page."""
        self._memory = memory
        base = memory.ctypes.data
        for buffer, place in self._arena.offsets.items():
            self._bind(buffer, base + place)

    def _bind(self, buffer: Buffer, address: int) -> None:
        for slot, offset in self._slots_of.get(buffer, ()):
            self._executable.bind(slot, address + offset)

    def _bind_constants(self) -> None:
        self._constants = []
        for node, buffer in self._leaves.items():
            if node.operation is CONSTANT and node.value is not None and buffer in self._slots_of:
                value = np.ascontiguousarray(node.value)
                self._constants.append(value)
                self._bind(buffer, value.ctypes.data)

    def needs(self, leaf: Node) -> bool:
        """Whether the program reads or writes the memory of a leaf at all."""
        return leaf in self._leaves and self._leaves[leaf] in self._slots_of

    def bind(self, leaf: Node, array: Array) -> None:
        """From now on the value of ``leaf`` is in the memory of ``array``, row-major, which the caller keeps alive."""
        buffer = self._leaves[leaf]
        self._bound[buffer] = array
        self._bind(buffer, array.__array_interface__["data"][0])

    def address_places(self, where: Node | int) -> list[tuple[int, int]]:
        """For a leaf, or the output of a number: where in ``addresses`` its address stands, and how many bytes to add to it."""
        buffer = self._leaves[where] if isinstance(where, Node) else self._outputs[where].buffer
        return [(place, offset) for slot, offset in self._slots_of.get(buffer, ()) for place in self._executable.places(slot)]

    @property
    def addresses(self) -> Array:
        """Of all operands of all kernels. Writing here is the quickest way to bind; the caller keeps the memory alive."""
        return self._executable.addresses

    def output_place(self, number: int) -> Place:
        """Where output ``number`` lies in its buffer."""
        return self._outputs[number]

    def run(self) -> None:
        """Run once. Outputs stay as they are until the next run."""
        self._executable.run()
        if self._status_now[0]:
            position, index = int(self._status_now[0]) - 1, int(self._status_now[1])
            self._status_now[:] = 0
            raise UserError(f"gather: index {index} at position {position} is outside its axis")

    def profile(self, runs: int = 5, limits: Limits | None = None) -> ProgramProfile:
        """Run so often for real, and tell where the time went, against the machine's limits (measured, if not given).

        Cells have their values back afterwards."""
        kept = [(array, array.copy()) for array in self._bound.values() if array.flags.writeable]
        try:
            return profiled(self._executable, self._origins, list(self._bound.values()), runs, limits)
        finally:
            for array, values in kept:
                np.copyto(array, values)

    def output(self, number: int) -> Array:
        """Output ``number`` as a view of the program's memory: read or copy it before the next run."""
        place = self._outputs[number]
        return self._view(place.buffer, place.start, self._shapes[number], place.strides)

    def _view(self, buffer: Buffer, start: int, shape: Sequence[int], strides: Sequence[int]) -> Array:
        buffer = self._same(buffer)
        if buffer in self._bound:  # the new value of a cell, in the cell's own memory
            whole = self._bound[buffer].reshape(-1)
        else:
            begin = self._arena.offsets[buffer]
            whole = self._memory[begin : begin + buffer.nbytes].view(buffer.dtype)
        itemsize = buffer.dtype.itemsize
        steps = [stride * itemsize for stride in strides]
        return np.ndarray(tuple(shape), buffer.dtype, whole, start * itemsize, steps)
