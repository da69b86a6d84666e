"""What recording a training's health costs: blocks of steps with and without it, in turn, in one process.

python -m bench.health [lenet resnet18] [--blocks 29]

Steps are those of a training as long as LeNet's by default, three epochs of MNIST, with a sample every 93 steps, which is a
block. The other networks get noise for images.
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
from chainrule.data.mnist_files import mnist
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
_EPOCHS, _PER_EPOCH = 3, 938


class Side:
    """A training, recorded or not."""

    def __init__(self, name: str, folder: Path, recorded: bool) -> None:
        cr.manual_seed(0)
        self.batch, channels, *size = _IMAGES[name]
        rng = np.random.default_rng(0)
        if name == "lenet":
            data = mnist()
            self.images = ((data.images(np.arange(len(data))) / 255 - 0.13) / 0.31).astype(np.float32)
            self.labels = np.asarray(data.labels, np.int64)
        else:
            self.images = rng.standard_normal(_IMAGES[name]).astype(np.float32)
            self.labels = rng.integers(0, 10, self.batch)
        model = build(name, channels, 10, (size[0], size[1])).train()
        self.recorder = Recorder(folder / f"{recorded}.bin", model, _EPOCHS, _PER_EPOCH, recorded)
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        self._step = TrainingStep(model, optimizer, Config(batch_size=self.batch), None, self.recorder)
        self._step.prepare(self.images[: self.batch], self.labels[: self.batch])
        self.steps = 0

    def seconds(self, steps: int) -> float:
        """The time of so many steps."""
        begin = time.perf_counter()
        for _ in range(steps):
            first = self.steps * self.batch % (len(self.labels) - self.batch + 1)
            images, labels = self.images[first : first + self.batch], self.labels[first : first + self.batch]
            self.steps += 1
            self.recorder.begun(self.steps)
            outcome = self._step(images, labels, on_gradients=self.recorder.at_gradients)
            self.recorder.ended(self.steps, outcome.loss)
            if self.steps % _PER_EPOCH == 0:
                self.recorder.epoch_ended(self.steps // _PER_EPOCH, self.steps)
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["lenet", "resnet18"], help=f"of {', '.join(_IMAGES)}")
    parser.add_argument("--blocks", type=int, help="by default all 29 of LeNet's after the first, and 4 of the others")
    a = parser.parse_args()
    for name in a.names:
        with tempfile.TemporaryDirectory() as folder:
            plain, recorded = (Side(name, Path(folder), on) for on in (False, True))
            steps, ratios = recorded.recorder.every, []
            for side in (plain, recorded):
                side.seconds(steps)  # the first ones, of which more are sampled
            for block in range(a.blocks or (29 if name == "lenet" else 4)):
                order = (plain, recorded) if block % 2 else (recorded, plain)
                seconds = {side: side.seconds(steps) for side in order}
                ratios.append(seconds[recorded] / seconds[plain])
                print(
                    f"{name}, block {block + 1}: {1e3 * seconds[plain] / steps:.2f} ms a step, recorded "
                    f"{1e3 * seconds[recorded] / steps:.2f} ms: {ratios[-1]:.3f}",
                    flush=True,
                )
            print(f"{name}: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
