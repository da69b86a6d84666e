"""Where the time of a program goes: per kernel its seconds, and the share of what this machine can do at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.cpu.executable import Executable
from chainrule.cpu.limits import Limits, measure_limits
from chainrule.graph import Array


@dataclass(frozen=True)
class KernelRow:
    """One kernel of a run. ``share``: of the time that it took, how much the machine's limits account for: the larger of
    operations over the multiply-add peak and bytes over the copy bandwidth. Above 1 where data came from a cache, or where
    an algorithm such as Winograd's saves operations. ``flushed``: whether results were subnormal, and set to zero."""

    family: str
    origin: str
    stage: int
    seconds: float
    operations: int
    nbytes: int
    share: float
    flushed: bool


@dataclass(frozen=True)
class ProgramProfile:
    """The median of several runs. ``waiting``: seconds that the first thread stood at barriers. ``subnormals``: how many
    numbers of the inputs and cells are under the smallest normal one, and count as zero."""

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

    def __str__(self) -> str:
        lines = [
            f"{1e3 * self.seconds:.3f} ms on {self.threads} threads, {1e3 * self.waiting:.3f} ms of it waiting; limits "
            f"{self.limits.fma_gflops['float32']:.0f} Gflop/s float32, {self.limits.copy_gb_per_s:.1f} GB/s copied",
            f"{'ms':>9} {'%':>5} {'Gflop/s':>8} {'GB/s':>6} {'share':>6}  kernel",
        ]
        for row in sorted(self.kernels, key=lambda one: -one.seconds):
            seconds = max(row.seconds, 1e-12)
            part = 100 * row.seconds / max(self.seconds, 1e-12)
            lines.append(
                f"{1e3 * row.seconds:9.3f} {part:5.1f} {row.operations / seconds / 1e9:8.1f} "
                f"{row.nbytes / seconds / 1e9:6.1f} {row.share:6.2f}  {row.family} at {row.origin}"
            )
            if row.flushed:
                lines[-1] += ", subnormal results set to zero"
        if self.flushing or self.subnormals:
            lines.append(
                f"subnormal numbers, which count as zero: {self.subnormals} among inputs and cells; "
                f"among the results of {self.flushing} kernels"
            )
        return "\n".join(lines)


def profiled(
    executable: Executable, origins: Sequence[str], arrays: Sequence[Array], runs: int, limits: Limits | None
) -> ProgramProfile:
    """Run ``executable`` so often, and hold its kernels against the machine's limits (of this moment, if not given).

    ``arrays``: its inputs and cells."""
    subnormals = sum(map(_subnormals, arrays))
    found, limits = executable.profile(runs), limits or measure_limits(executable.target)
    rows = []
    for call, origin in zip(found.calls, origins, strict=True):
        kernel = call.kernel
        least = max(
            kernel.operations / (1e9 * limits.fma_gflops["float32"]), kernel.bytes / (1e9 * limits.copy_gb_per_s)
        )  # fmt: skip
        share = least / max(call.seconds, 1e-12)
        rows.append(
            KernelRow(kernel.family, origin, call.stage, call.seconds, kernel.operations, kernel.bytes, share, call.flushed)
        )  # fmt: skip
    waiting = sum(stage.waiting[0] for stage in found.stages)
    return ProgramProfile(tuple(rows), found.seconds, waiting, found.threads, limits, subnormals)


def _subnormals(array: Array) -> int:
    if array.dtype not in (np.float32, np.float64):
        return 0
    return int(np.count_nonzero((array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)))
