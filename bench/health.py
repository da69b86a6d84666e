"""What recording a training's health costs: blocks of steps with and without it, in turn, in one process.

python -m bench.health [lenet resnet18] [--pairs 9]

A block is as many steps as lie between two samples, so units are looked at in all of them, and everything in one. Trainings of
more than 10,000 steps are sampled less often.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import chainrule as cr
from chainrule import optim
from chainrule.models import build
from chainrule.train import Config
from chainrule.train.diagnosis.recorder import Recorder
from chainrule.train.step import TrainingStep

_IMAGES = {
    "lenet": (64, 1, 28, 28),
    "resnet18": (16, 3, 224, 224),
    "resnet20": (64, 3, 32, 32),
    "mobilenet_v2": (16, 3, 96, 96),
}
"""What a batch of each network is: (N, C, H, W)."""
_STEPS = 10_000
_BLOCKS = {"lenet": 8}  # so many blocks are measured as one, where steps are short


class Side:
    """A training step, recorded or not."""

    def __init__(self, name: str, folder: Path, recorded: bool) -> None:
        cr.manual_seed(0)
        batch, channels, *size = _IMAGES[name]
        rng = np.random.default_rng(0)
        self.images = rng.standard_normal(_IMAGES[name]).astype(np.float32)
        self.labels = rng.integers(0, 10, batch)
        model = build(name, channels, 10, (size[0], size[1])).train()
        self.recorder = Recorder(folder / f"{recorded}.bin", model, 1, _STEPS, recorded)
        optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        self._step = TrainingStep(model, optimizer, Config(batch_size=batch), None, self.recorder)
        self._step.prepare(self.images, self.labels)
        self.steps = 0

    def seconds(self, steps: int) -> float:
        """The time of so many steps."""
        begin = time.perf_counter()
        for _ in range(steps):
            self.steps += 1
            self.recorder.begun(self.steps)
            outcome = self._step(self.images, self.labels, on_gradients=self.recorder.at_gradients)
            self.recorder.ended(self.steps, outcome.loss)
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["lenet", "resnet18"], help=f"of {', '.join(_IMAGES)}")
    parser.add_argument("--pairs", type=int, default=9)
    a = parser.parse_args()
    for name in a.names:
        with tempfile.TemporaryDirectory() as folder:
            plain, recorded = (Side(name, Path(folder), on) for on in (False, True))
            block = recorded.recorder.every * _BLOCKS.get(name, 1)
            for side in (plain, recorded):
                side.seconds(recorded.recorder.every)
            ratios = []
            for pair in range(a.pairs):
                order = (plain, recorded) if pair % 2 else (recorded, plain)
                seconds = {side: side.seconds(block) for side in order}
                ratios.append(seconds[recorded] / seconds[plain])
                print(
                    f"{name}, pair {pair + 1}: {1e3 * seconds[plain] / block:.2f} ms a step, recorded "
                    f"{1e3 * seconds[recorded] / block:.2f} ms: {ratios[-1]:.3f}",
                    flush=True,
                )
            print(f"{name}: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
