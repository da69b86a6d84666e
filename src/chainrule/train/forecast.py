"""What a training is going to take, before it has taken it: memory, by what its compiled programs know, and time, by its first
steps. Nothing here changes what is trained.
"""

from __future__ import annotations

import math
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from chainrule.data import Dataset
from chainrule.errors import UserError
from chainrule.tensor.backend import Program
from chainrule.tensor.engines import is_reference
from chainrule.train.optimization import OPTIMIZERS
from chainrule.train.room import cost_of, size_text

if TYPE_CHECKING:
    from chainrule.tensor.compiled import CompiledFunction
    from chainrule.train.trainer import Trainer

MEASURED = 3
"""Steps that are measured, after a first one, in which memory is used for the first time."""

_WHILE_SAVING = 3
"""How many times each number of the weights, and of what the optimizer keeps, is in memory once more while a checkpoint is
written: see ``room``."""

_PROCESS = 140_000_000
"""Bytes of Python, its libraries and the machine code: measured as the peak of trainings of an mlp, LeNet and ResNet-18, less
what their programs, weights and images take, which was 128 to 157 MB."""

_BATCHES_READY = 6  # that a loader keeps, and what a step holds of its own

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_AMOUNT = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([a-zA-Z]*)\s*", re.ASCII)


class TooMuchError(UserError):
    """A training needs more memory or time than it may."""


def read_memory(written: str) -> int:
    """Bytes as a person writes them: ``2GB``, ``500 MB``, ``1.5GiB``. A UserError if it is anything else, or nothing at all."""
    found = _AMOUNT.fullmatch(written)
    unit = _UNITS.get(found[2].lower()) if found else None
    nbytes = int(float(found[1]) * unit) if found and unit else 0
    if nbytes < 1:
        raise UserError(f"an amount of memory must be a number above 0 with its unit, such as 2GB or 500MB, got {written!r}")
    return nbytes


def read_time(written: str) -> float:
    """Seconds as a person writes them: ``30m``, ``90s``, ``1h30m``. A UserError if it is anything else, or nothing at all."""
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,9})?)([hms])", written, re.ASCII)
    units = [unit for _, unit in parts]
    whole = "".join(map("".join, parts)) == written.replace(" ", "") and units == sorted(set(units))  # h, m, s: as in a clock
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not whole or seconds <= 0:
        raise UserError(f"a time must be hours, minutes and seconds above 0, such as 2h, 30m or 1h30m, got {written!r}")
    return seconds


@dataclass(frozen=True)
class Memory:
    """Bytes that a training needs at its worst moment.

    Attributes:
        arena: what lies between the operations of a step, gradients among it: the memory of its compiled programs.
        evaluation: that of judging test images.
        weights: the weights, with what is needed besides while a checkpoint is written.
        optimizer: what the optimizer keeps, and averages of weights, in the same way.
        data: images that stay in memory, and the batches on their way.
        before: the most that this process has taken up to now, such as while images were read; 0 where that is unknown.
        exact: whether ``arena`` and ``evaluation`` are those of programs; if not, they are counted from the layers.
    """

    arena: int
    evaluation: int
    weights: int
    optimizer: int
    data: int
    before: int = 0
    exact: bool = True

    @property
    def total(self) -> int:
        """Bytes at the worst moment, that before the training included."""
        return max(self.before, self.training)

    @property
    def training(self) -> int:
        """Bytes at the worst moment of the training, with what Python and its libraries take."""
        return self.arena + self.evaluation + self.weights + self.optimizer + self.data + _PROCESS

    def sentence(self) -> str:
        """In a line, the largest parts first."""
        parts = {
            "the steps": self.arena,
            "evaluation": self.evaluation,
            "weights": self.weights,
            "the optimizer": self.optimizer,
            "images": self.data,
            "Python": _PROCESS,
        }
        named = [
            f"{size_text(size)} {name}" for name, size in sorted(parts.items(), key=lambda one: -one[1]) if size >= 500_000
        ]
        most = f"about {size_text(self.training)} ({', '.join(named)})"
        return f"memory: {most}" + (f"; reading took {size_text(self.before)}" if self.before > self.training else "")


def memory_of(trainer: Trainer, *others: Dataset) -> Memory:
    """What ``trainer`` needs, beside ``others``, images that stay in memory, too. Its step is compiled for that, if it is not
    yet, and so is its evaluation.

    Where there is no native code, what lies between operations is counted from the layers.
    """
    config, loader = trainer.config, trainer.loader
    shape, images = loader.dataset.image_shape, len(loader.dataset)
    each = 8 if config.dtype == "float64" else 4
    numbers = sum(one.size for one in trainer.model.parameters())
    learning = sum(one.size for one in trainer.training_step.learning)
    plain = config.optimizer == "sgd" and not config.momentum  # which keeps nothing
    state = 0 if plain else learning * each * OPTIMIZERS[config.optimizer].state
    averages = numbers * each if config.ema else 0
    ready = _BATCHES_READY * loader.batch_size * math.prod(shape) * 4
    kept = {id(one): one for one in (loader.dataset, trainer.test_loader.dataset, *others)}
    data = sum(map(_nbytes, kept.values())) + ready
    if is_reference():
        cost = cost_of(config, shape, len(trainer.classes), images)
        arena, evaluation, exact = cost.of_batch + numbers * each, 0, False
    else:
        size = min(config.batch_size, images)
        arena, evaluation, exact = step_bytes(trainer, size), _evaluation_bytes(trainer), True
    gradients = numbers * each if config.accumulate > 1 else 0  # which outlive the part of a batch that they are of
    saved = 1 + _WHILE_SAVING
    return Memory(arena + gradients, evaluation, saved * numbers * each, saved * (state + averages), data, _peak(), exact)


def _peak() -> int:
    """The most bytes that this process has taken so far; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def step_bytes(trainer: Trainer, size: int) -> int:
    """The memory of the program of a step on ``size`` images at once, and of a last, smaller batch of an epoch."""
    loader = trainer.loader
    images = np.zeros((size, *loader.dataset.image_shape), np.float32)
    labels = np.asarray(loader.dataset.labels[:1]).repeat(size)
    nbytes = _arena(trainer.training_step.prepare(images, labels))
    rest = len(loader.dataset) % size
    return nbytes + nbytes * rest // size


def _evaluation_bytes(trainer: Trainer) -> int:
    loader = trainer.test_loader
    size = min(loader.batch_size, len(loader.dataset))
    dtype = next(trainer.model.parameters()).dtype
    images = np.zeros((size, *loader.dataset.image_shape), str(dtype))
    with trainer.model.evaluating():
        compiled = cast("CompiledFunction[Any, Any]", trainer.judge)
        return _arena(compiled.prepare(images, np.asarray(loader.dataset.labels[:1]).repeat(size)))


def _arena(program: Program | None) -> int:
    return max((row.offset + row.nbytes for row in program.plan()), default=0) if program is not None else 0


def _nbytes(dataset: Dataset) -> int:
    """Bytes of the images that a data set keeps in memory, as bytes for a pixel."""
    return len(dataset) * math.prod(dataset.image_shape) if dataset.in_memory else 0


def check_memory(trainer: Trainer, memory: Memory, most: int) -> None:
    """TooMuchError if a training needs more than ``most`` bytes, with the largest batch, by halves, that would fit."""
    if memory.total <= most:
        return
    remedies = []
    if memory.exact:
        size = min(trainer.config.batch_size, len(trainer.loader.dataset))
        others = memory.training - step_bytes(trainer, size)
        while max(others, memory.before) < most and (size := size // 2):
            if others + step_bytes(trainer, size) <= most:
                remedies.append(f"--batch-size {size} would fit")
                break
    needs = memory.sentence().removeprefix("memory: ")
    remedies.append("a smaller network, or fewer or smaller images, would need less")
    raise TooMuchError(f"the training needs {needs}, and --max-memory allows {size_text(most)}: {'; '.join(remedies)}")


@dataclass(frozen=True)
class Time:
    """How long a training takes.

    Attributes:
        images_per_second: that are trained on.
        epoch: seconds of an epoch, without its evaluation.
        evaluation: seconds of an evaluation.
        epochs: how many epochs there are.
    """

    images_per_second: float
    epoch: float
    evaluation: float
    epochs: int

    @property
    def total(self) -> float:
        """Seconds of the whole training, with an evaluation after each epoch."""
        return self.epochs * (self.epoch + self.evaluation)


def time_of(trainer: Trainer, seconds: Sequence[float]) -> Time:
    """How long the training takes, from the ``seconds`` that each of some whole batches took, and from a batch of test images
    that is judged to see how long that takes."""
    images = min(trainer.loader.batch_size, len(trainer.loader.dataset))
    speed = images / max(statistics.median(seconds), 1e-9)
    epoch = len(trainer.loader.dataset) / speed
    return Time(speed, epoch, _evaluation_seconds(trainer), trainer.config.epochs)


def _evaluation_seconds(trainer: Trainer) -> float:
    """Seconds of an evaluation, from its first batch, which is judged twice if that is quick."""
    loader = trainer.test_loader
    cursor = loader.cursor
    begin = time.perf_counter()
    images, labels = next(iter(loader))
    loader.seek(cursor)
    fetching = time.perf_counter() - begin
    images = images.astype(str(next(trainer.model.parameters()).dtype), copy=False)
    judging = math.inf
    with trainer.model.evaluating():
        for _ in range(2):
            begin = time.perf_counter()
            trainer.judge(images, labels)
            judging = min(judging, time.perf_counter() - begin)
            if judging > 1:
                break
    return (fetching + judging) * len(loader.dataset) / len(labels)


def check_time(trainer: Trainer, found: Time, most: float) -> None:
    """TooMuchError if a training takes longer than ``most`` seconds, with the number of epochs that would fit."""
    if found.total <= most:
        return
    epochs = int(most / (found.epoch + found.evaluation))
    images = int((most - found.evaluation) * found.images_per_second)
    if epochs:
        remedy = f"--epochs {epochs} would fit"
    elif images >= len(trainer.classes):
        remedy = f"not even one epoch fits, but --epochs 1 --limit {images} would"
    else:
        remedy = "not even one epoch of a few images fits: a smaller network or smaller images would take less"
    raise TooMuchError(
        f"the training takes about {_clock(found.total)} ({_clock(found.epoch + found.evaluation)} for each of "
        f"{found.epochs:,} epochs at {found.images_per_second:,.0f} images/s), and --max-time allows {_clock(most)}: {remedy}"
    )


def _clock(seconds: float) -> str:
    """Seconds as messages have them: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def sentence_of_time(found: Time) -> str:
    """What is said once the first steps are measured."""
    return (
        f"speed: {found.images_per_second:,.0f} images/s; the whole training takes about {_clock(found.total)}, evaluations "
        "included"
    )
