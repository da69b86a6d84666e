"""Profiles a program: the time of each kernel, and how close it comes to the limits of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.cpu.runtime.executable import CallTime, Executable
from chainrule.cpu.runtime.limits import Limits, measure_limits
from chainrule.graph import Array
from chainrule.graph.tables import Contents, Table


@dataclass(frozen=True)
class KernelRow:
    """The measurement of a kernel in a program.

    Attributes:
        family: the kind of kernel, such as "matmul".
        origin: the line of the user's program that it belongs to.
        stage: the number of its stage.
        seconds: the time of the slowest thread, median of several runs.
        operations: its arithmetic operations, where a multiply-add counts as two.
        nbytes: the bytes of its operands, each counted once.
        share: the least possible time by the machine's limits (see ``Limits.least_seconds``) over the time that it took: from
            0 to 1, but for errors of measurement.
        saving: how many times as many operations a direct computation takes, where the algorithm is another one such as
            Winograd's; else 1.
        flushed: whether results were subnormal and set to zero.
    """

    family: str
    origin: str
    stage: int
    seconds: float
    operations: int
    nbytes: int
    share: float
    saving: float
    flushed: bool

    @property
    def remarks(self) -> str:
        """What the table says behind the kernel's origin, such as ", subnormal results set to zero"; often nothing."""
        saves = f", {self.saving:.1f} times fewer operations than directly" if self.saving > 1 else ""
        return saves + (", subnormal results set to zero" if self.flushed else "")


@dataclass(frozen=True, repr=False)
class ProgramProfile(Table):
    """The profile of a program, medians of several runs. Prints as a table.

    Attributes:
        kernels: the measurement of each kernel, in the order of the program.
        seconds: the time of a whole run.
        waiting: how many seconds of it the first thread waited for others.
        threads: the number of threads.
        limits: the limits of the machine, measured before and after.
        subnormals: how many numbers of inputs and cells are subnormal (smaller in magnitude than the smallest normal number),
            and count as zero.
    """

    kernels: tuple[KernelRow, ...]
    seconds: float
    waiting: float
    threads: int
    limits: Limits
    subnormals: int

    @property
    def flushing(self) -> int:
        """The number of kernels with subnormal results, which were set to zero."""
        return sum(row.flushed for row in self.kernels)

    def contents(self) -> Contents:
        """Return the table: a row for each kernel, the slowest first, and a note about subnormal numbers if there are any."""
        limits = self.limits
        title = (
            f"{1e3 * self.seconds:.3f} ms on {self.threads} threads, {1e3 * self.waiting:.3f} ms of it waiting; limits "
            f"{limits.fma_gflops['float32']:.0f} Gflop/s float32, {limits.memory_gb_per_s:.1f} GB/s of memory, "
            f"{limits.cache_gb_per_s:.0f} of the nearest cache"
        )
        rows = [self._cells(row) for row in sorted(self.kernels, key=lambda one: -one.seconds)]
        notes = []
        if self.flushing or self.subnormals:
            notes.append(
                f"subnormal numbers, which count as zero: {self.subnormals} among inputs and cells; "
                f"among the results of {self.flushing} kernels"
            )
        return Contents(title, ("ms>", "%>", "Gflop/s>", "GB/s>", "share>", "kernel"), rows, notes, most=60)

    def _cells(self, row: KernelRow) -> tuple[str, ...]:
        seconds = max(row.seconds, 1e-12)
        return (
            f"{1e3 * row.seconds:.3f}",
            f"{100 * row.seconds / max(self.seconds, 1e-12):.1f}",
            f"{row.operations / seconds / 1e9:.1f}",
            f"{row.nbytes / seconds / 1e9:.1f}",
            f"{row.share:.2f}",
            f"{row.family} at {row.origin}{row.remarks}",
        )


def profiled(
    executable: Executable,
    origins: Sequence[str],
    dtypes: Sequence[str],
    arrays: Sequence[Array],
    runs: int,
    limits: Limits | None,
) -> ProgramProfile:
    """Run ``executable`` and compare the time of each kernel with the limits of the machine.

    Args:
        executable: the program, with all its buffers bound.
        origins: for each call, the line of the user's program that it belongs to.
        dtypes: for each call, the dtype of its arithmetic, "float32" or "float64".
        arrays: the inputs and cells of the program, in which subnormal numbers are counted.
        runs: how many times to run it.
        limits: the limits of the machine; None to measure them before and after, and take the higher figures.

    Raises:
        UserError: ``runs`` is less than 1.
    """
    subnormals = sum(map(_subnormals, arrays))
    before = limits or measure_limits(executable.target)
    measured = executable.profile(runs)
    limits = limits or before.or_better(measure_limits(executable.target))
    rows, stage = [], -1
    for call, origin, dtype in zip(measured.calls, origins, dtypes, strict=True):
        follows, stage = call.stage == stage, call.stage
        rows.append(_row(call, origin, limits, dtype, measured.threads if follows else 0))
    waiting = sum(one.waiting[0] for one in measured.stages)
    return ProgramProfile(tuple(rows), measured.seconds, waiting, measured.threads, limits, subnormals)


def _row(call: CallTime, origin: str, limits: Limits, dtype: str, following: int) -> KernelRow:
    """Return the measurement of a call.

    ``following`` is the number of threads if the call follows another in its stage, so that each thread has just made the
    bytes of the unit that it reads; 0 for the first call of a stage.
    """
    kernel = call.kernel
    pieces = max(1, kernel.units // following) if following else 1
    least = limits.least_seconds(kernel.operations, kernel.bytes, dtype, pieces)
    saving = kernel.direct_operations / kernel.operations if kernel.direct_operations else 1.0
    share = least / max(call.seconds, 1e-12)
    return KernelRow(
        kernel.family, origin, call.stage, call.seconds, kernel.operations, kernel.bytes, share, saving, call.flushed
    )


def _subnormals(array: Array) -> int:
    """Return how many numbers of a float array are subnormal; 0 for other dtypes."""
    if array.dtype not in (np.float32, np.float64):
        return 0
    return int(np.count_nonzero((array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)))
