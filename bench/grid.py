"""Single convolutions, forward and both gradients, against PyTorch: where are we faster, and where not?

Each side is a process that runs the whole grid; processes take turns. A pass is timed as the fastest of several batches of
runs: ours as a compiled function, PyTorch's eagerly, contiguous and channels-last, whichever is faster.
"""

from __future__ import annotations

import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.pairs import run_json

PASSES = ("forward", "input", "weight")


@dataclass(frozen=True)
class Case:
    """A convolution of images (batch, channels, size, size)."""

    name: str
    batch: int
    channels: int
    filters: int
    size: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False


CASES = [
    Case("3x3", 16, 64, 64, 32, 3, padding=1),
    Case("3x3", 16, 128, 128, 16, 3, padding=1),
    Case("3x3", 16, 256, 256, 8, 3, padding=1),
    Case("3x3", 16, 512, 512, 7, 3, padding=1),
    Case("3x3 stride 2", 16, 128, 128, 28, 3, 2, 1),
    Case("3x3, 3 channels", 16, 3, 64, 64, 3, padding=1),
    Case("1x1", 8, 64, 256, 56, 1),
    Case("1x1", 8, 256, 64, 56, 1),
    Case("1x1", 16, 1024, 256, 14, 1),
    Case("1x1 stride 2", 16, 256, 512, 28, 1, 2),
    Case("5x5", 16, 32, 64, 28, 5, padding=2),
    Case("5x5", 64, 1, 6, 28, 5, padding=2),
    Case("5x5", 64, 6, 16, 14, 5),
    Case("7x7 stride 2", 8, 3, 64, 224, 7, 2, 3),
    Case("depthwise 3x3", 16, 96, 96, 56, 3, padding=1, groups=96),
    Case("depthwise 3x3", 16, 384, 384, 14, 3, padding=1, groups=384),
    Case("depthwise 3x3 stride 2", 16, 144, 144, 56, 3, 2, 1, groups=144),
    Case("grouped, 32 groups", 8, 256, 256, 28, 3, padding=1, groups=32),
    Case("grouped, 4 groups", 16, 128, 128, 28, 3, padding=1, groups=4),
    Case("dilated 2", 16, 64, 64, 28, 3, padding=2, dilation=2),
    Case("dilated 4", 8, 128, 128, 28, 3, padding=4, dilation=4),
    Case("transposed 4x4 stride 2", 16, 128, 64, 16, 4, 2, 1, transposed=True),
    Case("transposed 2x2 stride 2", 16, 256, 128, 14, 2, 2, transposed=True),
]


def measure(torch_python: str, pairs: int) -> str:
    """The table, slowest against PyTorch first."""
    here = Path(__file__).parent
    path = {"PYTHONPATH": os.pathsep.join([str(here.parent), os.environ.get("PYTHONPATH", "")])}
    runs = []
    for number in range(pairs):
        mine = run_json([sys.executable, "-m", "bench.grid_ours"], path)
        peer = run_json([torch_python, str(here / "grid_torch.py")], path)
        runs.append((mine, peer))
        print(f"  grid pair {number + 1} of {pairs}", file=sys.stderr, flush=True)
    rows = []
    for place, case in enumerate(CASES):
        for one in PASSES:
            key = f"{place} {one}"
            ratios = [peer[key] / mine[key] for mine, peer in runs]
            times = [statistics.median(run[key] for run in side) for side in zip(*runs, strict=True)]
            rows.append((statistics.median(ratios), case, one, min(ratios), max(ratios), *times))
    rows.sort(key=lambda row: row[0])
    lines = ["| convolution | pass | faster by | spread | ours ms | PyTorch ms |", "| --- | --- | --- | --- | --- | --- |"]
    for ratio, case, one, low, high, mine, peer in rows:
        shape = f"{case.name}: {case.batch} x {case.channels} > {case.filters}, {case.size} x {case.size}"
        lines.append(f"| {shape} | {one} | {ratio:.2f} | {low:.2f} to {high:.2f} | {1e3 * mine:.3f} | {1e3 * peer:.3f} |")
    lost = sum(row[0] < 1 for row in rows)
    below = sum(row[0] < 0.9 for row in rows)
    mean = statistics.geometric_mean(row[0] for row in rows)
    lines += ["", f"{len(rows)} passes: geometric mean {mean:.2f}; slower on {lost}, below 0.9 on {below}."]
    return "\n".join(lines) + "\n"
