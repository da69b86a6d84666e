"""An executable: kernels in stages, with the addresses of what they work on, ready to run in one native call.

    stage ──> barrier ──> stage ──> barrier ──> ...

Each stage's units are split over the threads in contiguous slices: thread t of T begins with units [units * t / T, units *
(t+1) / T), and then helps the others. A stage of a single unit is done by thread 0.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.cpu.codegen.code_cache import load
from chainrule.cpu.codegen.target import Target, host_target
from chainrule.cpu.kernel import Kernel
from chainrule.cpu.runtime import threads
from chainrule.cpu.runtime.memory import aligned_memory, whole_pages
from chainrule.cpu.runtime.runner import Job, StageRow
from chainrule.errors import InternalError, UserError
from chainrule.graph import Array

_OPERATIONS_PER_SECOND, _BYTES_PER_SECOND = 100e9, 20e9
"""Of one thread, at best."""


@dataclass(frozen=True)
class Call:
    """One kernel applied to operands: the numbers of the buffers (slots) that it reads and writes."""

    kernel: Kernel
    operands: tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """Calls over the same number of units, done unit by unit: all calls for one unit, then all for the next.

    All threads wait for each other after a stage, not within it.
    """

    calls: tuple[Call, ...]

    @property
    def units(self) -> int:
        return self.calls[0].kernel.units if self.calls else 0


@dataclass(frozen=True)
class CallTime:
    """What one call took: seconds in each thread, and in the slowest of them. ``flushed``: whether in any run a result was
    subnormal, and set to zero."""

    kernel: Kernel
    stage: int
    thread_seconds: tuple[float, ...]
    flushed: bool

    @property
    def seconds(self) -> float:
        return max(self.thread_seconds)

    @property
    def gflops(self) -> float:
        """Operations per second, in units of 10^9."""
        return self.kernel.operations / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gb_per_s(self) -> float:
        """Compulsory bytes, read and written, per second, in units of 10^9."""
        return self.kernel.bytes / self.seconds / 1e9 if self.seconds else 0.0


@dataclass(frozen=True)
class StageTime:
    """What one stage took with its barrier: ``seconds`` by the clock, of which ``waiting`` by each thread at the barrier.

    Nobody but thread 0 waits after the last stage, so the others' waiting there is 0.
    """

    seconds: float
    waiting: tuple[float, ...]


@dataclass(frozen=True)
class Profile:
    """The median of several runs. ``calls`` and ``stages`` are in the order of the program; ``seconds`` is of a whole run."""

    calls: tuple[CallTime, ...]
    stages: tuple[StageTime, ...]
    seconds: float
    threads: int
    runs: int


class Executable:
    """``stages`` over ``slots`` buffers, whose addresses ``bind`` gives.

    Args:
        target: what the kernels are compiled for; the processor this runs on by default.
        alone_under: seconds of work under which it stays on the caller's thread: what others would do before they are awake.
    """

    def __init__(self, stages: Sequence[Stage], slots: int, target: Target | None = None, alone_under: float = 0.0) -> None:
        self.target = target or host_target()
        self._stages = [stage for stage in stages if stage.calls and stage.units]
        for stage in self._stages:
            _check(stage, slots)
        self._calls = [call for stage in self._stages for call in stage.calls]
        kernels = [call.kernel for call in self._calls]
        self._functions = load(kernels, self.target)
        scratch_bytes = max((kernel.scratch_bytes for kernel in kernels), default=0)
        self._addresses, self._places = self._operands(slots)
        self._unbound = {slot for slot, places in enumerate(self._places) if places}
        self._stage_table, self._call_table = self._tables()
        # Stages of a single unit all go to one and the same thread.
        alone = all(stage.units == 1 for stage in self._stages) or sum(map(_least_seconds, kernels)) < alone_under
        self._work = threads.Work(self._block(), scratch_bytes, alone)

    # ---- tables for the runner

    def _operands(self, slots: int) -> tuple[Array, list[list[int]]]:
        """Addresses, call by call; and where among them each slot's is."""
        places: list[list[int]] = [[] for _ in range(slots)]
        count = 0
        for call in self._calls:
            for slot in call.operands:
                places[slot].append(count)
                count += 1
        return np.zeros(max(count, 1), np.int64), places

    def _tables(self) -> tuple[Array, Array]:
        rows = np.zeros((len(self._stages), StageRow.SIZE), np.int64)
        first = 0
        for number, stage in enumerate(self._stages):
            following = self._stages[number + 1] if number + 1 < len(self._stages) else None
            waits = following is None or (stage.units, following.units) != (1, 1)
            rows[number] = stage.units, first, len(stage.calls), waits
            first += len(stage.calls)
        calls = np.zeros((len(self._calls), 2), np.int64)
        begin = self._addresses.ctypes.data
        for number, call in enumerate(self._calls):
            calls[number] = self._functions[call.kernel.name].address, begin
            begin += 8 * len(call.operands)
        return rows, calls

    def _block(self) -> Array:
        job = np.zeros(Job.SIZE, np.int64)
        job[Job.STAGES], job[Job.STAGE_TABLE] = len(self._stages), self._stage_table.ctypes.data
        job[Job.CALLS], job[Job.CALL_TABLE] = len(self._calls), self._call_table.ctypes.data
        return job

    # ---- use

    def bind(self, slot: int, address: int) -> None:
        """From now on, buffer ``slot`` lies at ``address``."""
        for place in self._places[slot]:
            self._addresses[place] = address
        self._unbound.discard(slot)

    def places(self, slot: int) -> list[int]:
        """Where the address of buffer ``slot`` stands in ``addresses``; whoever writes there himself need not ``bind``."""
        self._unbound.discard(slot)
        return self._places[slot]

    @property
    def addresses(self) -> Array:
        return self._addresses

    def run(self) -> None:
        """Run all stages once.

        Raises:
            InternalError: a slot that a kernel uses is not bound.
        """
        self._refuse_unbound()
        if self._stages:
            threads.run(self._work)

    def _refuse_unbound(self) -> None:
        if self._unbound:
            raise InternalError(f"buffers {sorted(self._unbound)[:10]} of the program are not bound to memory")

    def profile(self, runs: int = 5) -> Profile:
        """Run ``runs`` times, for real, and tell where the time went."""
        if runs < 1:
            raise UserError(f"profile: runs must be 1 or more, got {runs}")
        self._refuse_unbound()
        rows = len(self._calls) + len(self._stages)
        if not rows:
            return Profile((), (), 0.0, threads.thread_count(), runs)
        measured: list[Array] = []
        job = self._work.job

        def prepare(count: int) -> None:
            # A row per thread, in pages of its own: threads must not share a cache line that they write.
            width = whole_pages(2 * rows * 8)
            times = aligned_memory(count * width).view(np.int64).reshape(count, width // 8)
            measured.append(times[:, : 2 * rows])
            job[Job.TIMES], job[Job.TIMES_BYTES] = times.ctypes.data, width

        try:
            for _ in range(runs):
                threads.run(self._work, prepare)
        finally:
            job[Job.TIMES] = 0
        count = len(measured[-1])
        same = [times for times in measured if len(times) == count]  # set_threads may have come in between
        table = np.stack(same)
        return self._profile(table[..., :rows] / threads.runner().ticks_per_second, table[..., rows:].max(axis=(0, 1)) > 0)

    def _profile(self, times: Array, flushed: Array) -> Profile:
        """``times``: (runs, threads, calls and then stages), in seconds. ``flushed``: (calls and then stages)."""
        typical = np.median(times, axis=0)
        calls, stages, number = [], [], 0
        for stage_number, stage in enumerate(self._stages):
            inside = range(number, number + len(stage.calls))
            number = inside.stop
            barrier = len(self._calls) + stage_number
            for one, call in zip(inside, stage.calls, strict=True):
                seconds_of_threads = tuple(map(float, typical[:, one]))
                calls.append(CallTime(call.kernel, stage_number, seconds_of_threads, bool(flushed[one])))
            whole = np.median(times[:, 0, [*inside, barrier]].sum(axis=-1))
            stages.append(StageTime(float(whole), tuple(map(float, typical[:, barrier]))))
        seconds = statistics.median(times[:, 0].sum(axis=-1))
        return Profile(tuple(calls), tuple(stages), float(seconds), len(typical), len(times))


def _least_seconds(kernel: Kernel) -> float:
    """What a kernel takes on one thread, at least."""
    operations = max(kernel.operations, kernel.direct_operations)  # what an algorithm saves, its transforms cost in part
    return max(operations / _OPERATIONS_PER_SECOND, kernel.bytes / _BYTES_PER_SECOND)


def _check(stage: Stage, slots: int) -> None:
    for call in stage.calls:
        if call.kernel.units != stage.units:
            raise InternalError(f"kernels of one stage have {stage.units} and {call.kernel.units} units: {call.kernel.name}")
        if any(not 0 <= slot < slots for slot in call.operands):
            raise InternalError(f"kernel {call.kernel.name} names slots {call.operands}, of {slots}")
