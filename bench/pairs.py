"""Two programs in turn, A B A B, each run a process of its own: machines drift, so only ratios within a pair mean anything."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Run = dict[str, Any]


class BenchError(Exception):
    """A run that failed, in words for the person at the terminal."""


def run_json(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Run:
    """What a command prints as its last line of JSON."""
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(environment or {})}, check=False
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise BenchError(f"{' '.join(command[:4])} ... failed with status {done.returncode}:\n{tail}")
    found: Run = json.loads(lines[-1])
    return found


@dataclass
class Pairs:
    """Runs of two sides, pair by pair."""

    ours: list[Run] = field(default_factory=list)
    theirs: list[Run] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Their time over ours: above 1, we are faster."""
        return [b["median_ms"] / a["median_ms"] for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.ratios), max(self.ratios)

    def median(self, side: str, key: str) -> float:
        return statistics.median(run[key] for run in getattr(self, side))


def geometric_mean(ratios: Sequence[float]) -> float:
    return statistics.geometric_mean(ratios)
