"""An executable: kernels in stages with the addresses of their operands, ready to run in a single native call.

    stage ──> barrier ──> stage ──> barrier ──> ...

The units of each stage are divided among the threads in contiguous slices: thread t of T begins with the units from
units * t / T to units * (t + 1) / T (excluded), and then helps the others. A stage of a single unit is done by thread 0.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
"""Upper limits for a single thread, to estimate how long a program takes at least."""


@dataclass(frozen=True)
class Call:
    """A kernel, and the numbers of the buffers (slots) that it reads and writes, in the order of its operands.

    A call with a ``detail`` above 0 is left out of runs that do not look so closely (see ``Executable.observe``).
    """

    kernel: Kernel
    operands: tuple[int, ...]
    detail: int = 0


@dataclass(frozen=True)
class Stage:
    """Calls over the same number of units, done unit by unit: all calls for a unit, then all calls for the next unit.

    They are in the order of their detail. All threads wait for each other after a stage, not within it.
    """

    calls: tuple[Call, ...]

    @property
    def units(self) -> int:
        """The number of units of each of its calls; 0 if there are none."""
        return self.calls[0].kernel.units if self.calls else 0


@dataclass(frozen=True)
class CallTime:
    """The time that a call took: ``thread_seconds`` in each thread, medians over several runs; ``stage`` is its stage's number.

    ``flushed`` says whether in any run a result was subnormal and set to zero.
    """

    kernel: Kernel
    stage: int
    thread_seconds: tuple[float, ...]
    flushed: bool

    @property
    def seconds(self) -> float:
        """The time of the slowest thread."""
        return max(self.thread_seconds)

    @property
    def gflops(self) -> float:
        """10^9 operations per second; a multiply-add counts as two."""
        return self.kernel.operations / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gb_per_s(self) -> float:
        """10^9 bytes per second, each byte of the operands counted once (see ``Kernel.bytes``)."""
        return self.kernel.bytes / self.seconds / 1e9 if self.seconds else 0.0


@dataclass(frozen=True)
class StageTime:
    """The time that a stage took with its barrier, ``seconds``, and how long of it each thread spent ``waiting`` there.

    After the last stage only thread 0 waits, so there the other threads' waiting is 0.
    """

    seconds: float
    waiting: tuple[float, ...]


@dataclass(frozen=True)
class Profile:
    """The times of a program, medians of several runs.

    ``calls`` and ``stages`` are in the order of the program; ``seconds`` is the time of a whole run.
    """

    calls: tuple[CallTime, ...]
    stages: tuple[StageTime, ...]
    seconds: float
    threads: int
    runs: int


class Executable:
    """Stages of kernels, compiled and linked, that run as often as asked over buffers whose addresses may change.

    Args:
        stages: the kernels, in order; stages without calls or units are left out.
        slots: the number of buffers. ``bind`` says where each of them lies.
        target: the processor that the kernels are compiled for; by default the one that this runs on.
        alone_under: a program that takes less than this time, in seconds, runs on the caller's thread alone, as it would be
            over before other threads are awake.

    Raises:
        InternalError: the kernels of a stage differ in their number of units, or one of them names a slot that does not exist.
    """

    def __init__(self, stages: Sequence[Stage], slots: int, target: Target | None = None, alone_under: float = 0.0) -> None:
        self.target = target or host_target()
        self._stages = [stage for stage in stages if stage.calls and stage.units]
        for stage in self._stages:
            _check(stage, slots)
        self._calls = [replace(call, kernel=call.kernel.named(self.target)) for stage in self._stages for call in stage.calls]
        kernels = [call.kernel for call in self._calls]
        self._functions = load(kernels, self.target)
        scratch_bytes = max((kernel.scratch_bytes for kernel in kernels), default=0)
        self._addresses, self._places = self._operands(slots)
        self._unbound = {slot for slot, places in enumerate(self._places) if places}
        self._call_table = self._calls_in_order()
        self._stage_tables = [self._stage_table(detail) for detail in range(max(_details(self._stages)) + 1)]
        # Stages of a single unit all run on the same thread, so the others need not be woken for them.
        alone = all(stage.units == 1 for stage in self._stages) or sum(map(_least_seconds, kernels)) < alone_under
        self._work = threads.Work(self._block(), scratch_bytes, alone)

    # ---- tables for the runner

    def _operands(self, slots: int) -> tuple[Array, list[list[int]]]:
        """Return the table of addresses, operand by operand and call by call, and the places of each slot in it.

        The parameters of each kernel lie right before its operands, the first of them last.
        """
        places: list[list[int]] = [[] for _ in range(slots)]
        table: list[int] = []
        for call in self._calls:
            table += reversed(call.kernel.parameters)
            for slot in call.operands:
                places[slot].append(len(table))
                table.append(0)
        return np.array(table or [0], np.int64), places

    def _stage_table(self, detail: int) -> Array:
        """Return the runner's table of stages, a ``StageRow`` for each, with the calls up to ``detail`` alone."""
        rows, first = [], 0
        for stage in self._stages:
            count = sum(call.detail <= detail for call in stage.calls)
            if count:
                rows.append([stage.units, first, count, 1])
            first += len(stage.calls)
        for row, following in itertools.pairwise(rows):
            if (row[StageRow.UNITS], following[StageRow.UNITS]) == (1, 1):
                row[StageRow.BARRIER] = 0
        return np.array(rows, np.int64).reshape(len(rows), StageRow.SIZE)

    def _calls_in_order(self) -> Array:
        """Return the runner's table of calls: (function, address of its operands) for each."""
        calls = np.zeros((len(self._calls), 2), np.int64)
        begin = self._addresses.ctypes.data
        for number, call in enumerate(self._calls):
            begin += 8 * len(call.kernel.parameters)
            calls[number] = self._functions[call.kernel.name].address, begin
            begin += 8 * len(call.operands)
        return calls

    def _block(self) -> Array:
        """Return the block of numbers (see ``runner.Job``) that tells the runner what to run."""
        job = np.zeros(Job.SIZE, np.int64)
        job[Job.STAGES], job[Job.STAGE_TABLE] = len(self._stage_tables[0]), self._stage_tables[0].ctypes.data
        job[Job.CALLS], job[Job.CALL_TABLE] = len(self._calls), self._call_table.ctypes.data
        return job

    # ---- use

    def observe(self, detail: int) -> None:
        """Leave out the calls of a higher ``detail`` than this in runs from now on; at first, all above 0."""
        table = self._stage_tables[min(detail, len(self._stage_tables) - 1)]
        self._work.job[Job.STAGES], self._work.job[Job.STAGE_TABLE] = len(table), table.ctypes.data

    def bind(self, slot: int, address: int) -> None:
        """Set the address of buffer ``slot`` for all runs to come; the caller keeps the memory there alive."""
        for place in self._places[slot]:
            self._addresses[place] = address
        self._unbound.discard(slot)

    def places(self, slot: int) -> list[int]:
        """Return the indices of ``addresses`` at which the address of buffer ``slot`` stands.

        A caller that writes it there by itself need not ``bind`` the slot, which counts as bound from now on.
        """
        self._unbound.discard(slot)
        return self._places[slot]

    @property
    def addresses(self) -> Array:
        """The addresses of all operands, with the parameters between them, int64, which the native code reads in every run."""
        return self._addresses

    def run(self) -> None:
        """Run all stages once.

        Raises:
            InternalError: a slot that a kernel uses is not bound.
        """
        self._refuse_unbound()
        if self._work.job[Job.STAGES]:
            threads.run(self._work)

    def _refuse_unbound(self) -> None:
        if self._unbound:
            raise InternalError(f"buffers {sorted(self._unbound)[:10]} of the program are not bound to memory")

    def profile(self, runs: int = 5) -> Profile:
        """Run ``runs`` times, with all effects on the buffers and in full detail, and return the times of calls and stages.

        Raises:
            UserError: ``runs`` is less than 1.
            InternalError: a slot that a kernel uses is not bound.
        """
        if runs < 1:
            raise UserError(f"profile: runs must be 1 or more, got {runs}")
        self._refuse_unbound()
        rows = len(self._calls) + len(self._stages)
        if not rows:
            return Profile((), (), 0.0, threads.thread_count(), runs)
        measured: list[Array] = []
        job = self._work.job
        before = job[Job.STAGES], job[Job.STAGE_TABLE]
        self.observe(len(self._stage_tables))

        def prepare(count: int) -> None:
            # The row of each thread has pages of its own, as threads must not share a cache line that they write.
            width = whole_pages(2 * rows * 8)
            times = aligned_memory(count * width).view(np.int64).reshape(count, width // 8)
            measured.append(times[:, : 2 * rows])
            job[Job.TIMES], job[Job.TIMES_BYTES] = times.ctypes.data, width

        try:
            for _ in range(runs):
                threads.run(self._work, prepare)
        finally:
            job[Job.TIMES] = 0
            job[Job.STAGES], job[Job.STAGE_TABLE] = before
        count = len(measured[-1])
        same = [times for times in measured if len(times) == count]  # set_threads may have been called between runs
        table = np.stack(same)
        return self._profile(table[..., :rows] / threads.runner().ticks_per_second, table[..., rows:].max(axis=(0, 1)) > 0)

    def _profile(self, times: Array, flushed: Array) -> Profile:
        """Return the profile of measured times.

        Args:
            times: seconds, of shape (runs, threads, calls and then stages); for stages, the time at the barrier.
            flushed: whether results were set to zero, of shape (calls and then stages).
        """
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


def _details(stages: Sequence[Stage]) -> list[int]:
    return [call.detail for stage in stages for call in stage.calls] or [0]


def _least_seconds(kernel: Kernel) -> float:
    """Return the least time in seconds that a kernel takes on a single thread."""
    operations = max(
        kernel.operations, kernel.direct_operations
    )  # an algorithm that saves operations has transforms that cost time
    return max(operations / _OPERATIONS_PER_SECOND, kernel.bytes / _BYTES_PER_SECOND)


def _check(stage: Stage, slots: int) -> None:
    for call in stage.calls:
        if call.kernel.units != stage.units:
            raise InternalError(f"kernels of one stage have {stage.units} and {call.kernel.units} units: {call.kernel.name}")
        if any(not 0 <= slot < slots for slot in call.operands):
            raise InternalError(f"kernel {call.kernel.name} names slots {call.operands}, of {slots}")
