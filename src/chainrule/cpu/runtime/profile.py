"""Where the time of a program goes: per kernel its seconds, and the share of what this machine can do at most."""

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
    """One kernel of a run.

    ``share``: of the time that it took, how much the machine's limits account for: the larger of operations over the
    multiply-add peak and bytes over the speed at which they can come, so from 0 to 1, but for what the measurement is off.
    ``saving``: how many times more operations a direct computation takes, where an algorithm such as Winograd's takes fewer.
    ``flushed``: whether results were subnormal, and set to zero.
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
        saves = f", {self.saving:.1f} times fewer operations than directly" if self.saving > 1 else ""
        return saves + (", subnormal results set to zero" if self.flushed else "")


@dataclass(frozen=True, repr=False)
class ProgramProfile(Table):
    """The median of several runs. ``waiting``: seconds that the first thread stood at barriers. ``subnormals``: how many
    numbers of the inputs and cells are under the smallest normal one, and count as zero. Prints as a table."""

    kernels: tuple[KernelRow, ...]
    seconds: float
    waiting: float
    threads: int
    limits: Limits
    subnormals: int

    @property
    def flushing(self) -> int:
        """Kernels with subnormal results, which were set to zero."""
        return sum(row.flushed for row in self.kernels)

    def contents(self) -> Contents:
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
    """Run ``executable`` so often, and hold its kernels against the machine's limits (of this moment, if not given).

    ``dtypes``: that of the arithmetic of each kernel; ``arrays``: its inputs and cells.
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
    """``following``: so many threads, each of which made the bytes of a unit just before; 0 if other stages did."""
    kernel = call.kernel
    pieces = max(1, kernel.units // following) if following else 1
    least = limits.least_seconds(kernel.operations, kernel.bytes, dtype, pieces)
    saving = kernel.direct_operations / kernel.operations if kernel.direct_operations else 1.0
    share = least / max(call.seconds, 1e-12)
    return KernelRow(
        kernel.family, origin, call.stage, call.seconds, kernel.operations, kernel.bytes, share, saving, call.flushed
    )


def _subnormals(array: Array) -> int:
    if array.dtype not in (np.float32, np.float64):
        return 0
    return int(np.count_nonzero((array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)))
