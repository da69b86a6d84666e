"""Who watches a training, and what is reported: progress, speed, time left."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from chainrule.train.checkpoint import Progress
from chainrule.train.diagnosis.findings import Findings
from chainrule.train.evaluation import Evaluation


@dataclass(frozen=True)
class StepReport:
    """What the last step did; loss and accuracy are means over the epoch so far.

    ``dead`` units were above 0 for no image of the last epoch, as many as ``chainrule health`` would name; otherwise it is 0.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float
    dead: int = 0


class Watcher(Protocol):
    """Who is told how it goes, and may ask to stop after the present step."""

    def on_findings(self, findings: Findings) -> None:
        """Something looks wrong, before the first step of a run or after it."""
        ...

    def on_step(self, report: StepReport) -> None:
        """A step is done."""
        ...

    def on_evaluation(self, images: int, total: int) -> None:
        """So many of the test images are judged."""
        ...

    def on_epoch(self, epoch: int, train_loss: float, train_accuracy: float, evaluation: Evaluation, seconds: float) -> None:
        """An epoch is done, evaluated and saved."""
        ...

    def on_remark(self, remark: str) -> None:
        """Something happened that a person should know: what is done about a step that is not finite."""
        ...

    def should_stop(self) -> bool:
        """Whether to stop after the present step."""
        ...


class Stopped(Exception):  # noqa: N818 - not an error
    """The watcher asked to stop; the checkpoint is written."""


class Clock:
    """Speed and time left, from the steps of this epoch in this process."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self.progress, self.steps = progress, steps
        self.begin, self.first_step, self.images = time.perf_counter(), progress.step, 0
        self.last = self.begin

    def ready(self) -> None:
        """The first step begins now: what came before was preparation, which takes time but says nothing of speed."""
        self.begin = time.perf_counter()

    def report(self, epoch: int, images: int, step_seconds: float, dead: int = 0) -> StepReport:
        """What is said after a step on so many images, which took ``step_seconds``."""
        now, progress = time.perf_counter(), self.progress
        progress.seconds += now - self.last
        self.last = now
        self.images += images
        elapsed = max(now - self.begin, step_seconds, 1e-9)
        per_step = elapsed / (progress.step - self.first_step)
        return StepReport(
            progress.step,
            self.steps,
            epoch,
            progress.epoch.mean_loss,
            progress.epoch.accuracy,
            self.images / elapsed,
            per_step * (self.steps - progress.step),
            dead,
        )
