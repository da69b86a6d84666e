"""The training loop.

    data ──> Loader ──> step: forward, backward, update ──> metrics ──> checkpoint

A trainer is a function of its configuration alone: the same options give the same weights, whether the run went through
or was killed and resumed on the way.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from chainrule import optim
from chainrule.arguments import explained, explained_methods
from chainrule.data import ArrayDataset, Dataset, Loader, Normalize, mean_std
from chainrule.data.sampling import evenly_drawn
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import write_atomically
from chainrule.models import build
from chainrule.nn import functional as F
from chainrule.ops import precision
from chainrule.tensor import Tensor, compile, no_grad
from chainrule.tensor.engines import is_reference
from chainrule.tensor.random import manual_seed
from chainrule.train.checkpoint import Progress, Run, Sums, load_checkpoint, save_checkpoint, save_model
from chainrule.train.command_line import command_line
from chainrule.train.config import Config
from chainrule.train.curves import curves
from chainrule.train.evaluation import Evaluation, evaluate, judge
from chainrule.train.run_folder import RunFolder

_ROWS_PER_EPOCH = 50
_SECONDS_BETWEEN_CHECKPOINTS = 30.0
_EVALUATION_BATCH = 250


@dataclass(frozen=True)
class StepReport:
    """What the last step did; loss and accuracy are means over the epoch so far."""

    step: int
    steps: int
    epoch: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float


class Watcher(Protocol):
    """Who is told how it goes, and may ask to stop after the present step."""

    def on_step(self, report: StepReport) -> None:
        """A step is done."""
        ...

    def on_evaluation(self, images: int, total: int) -> None:
        """So many of the test images are judged."""
        ...

    def on_epoch(self, epoch: int, train_loss: float, train_accuracy: float, evaluation: Evaluation, seconds: float) -> None:
        """An epoch is done, evaluated and saved."""
        ...

    def should_stop(self) -> bool:
        """Whether to stop after the present step."""
        ...


class Stopped(Exception):  # noqa: N818 - not an error
    """The watcher asked to stop; the checkpoint is written."""


@explained_methods
class Trainer:
    """One run: data, model, optimizer, schedule, folder. ``train`` runs it to its end or until the watcher stops it."""

    @explained
    def __init__(self, folder: RunFolder, *, training: Dataset, test: Dataset) -> None:
        config = self.config = folder.config
        self.folder = folder
        manual_seed(config.seed)
        everything, training = training, limited(training, config.limit)
        if training.image_shape != test.image_shape:
            raise UserError(
                f"training images are {training.image_shape} (C, H, W), test images {test.image_shape}: they must be alike"
            )
        channels, height, width = training.image_shape
        self.classes = training.classes
        if list(test.classes) != list(self.classes):
            raise UserError(f"{training.name} and {test.name} have different classes: {difference(self.classes, test.classes)}")
        if not 0 < len(everything) <= config.limit:  # what was limited before it was read may lack a class
            _check_test_labels(everything, test)
        if len(self.classes) < 2:
            raise UserError(f"{training.name} has {len(self.classes)} class: a classifier needs at least 2")
        mean, std = mean_std(training)
        self.run: Run = {"options": config.decisive, "data": data_facts(training, test, mean, std)}
        self.description = describe(config, training, mean, std)
        normalise = Normalize(mean, std)
        self.loader = Loader(
            training,
            config.batch_size,
            seed=config.seed,
            transforms=[*config.augmentations(training.image_shape), normalise],
            workers=config.workers,
        )
        self.test_loader = Loader(test, _EVALUATION_BATCH, shuffle=False, transforms=[normalise], workers=config.workers)
        self.model = build(config.model, channels, len(self.classes), (height, width), config.model_digest)
        self.model = self.model.astype(config.dtype).train()
        self.optimizer = make_optimizer(config, self.model)
        self.steps = config.epochs * len(self.loader)
        self.schedule = make_schedule(config, self.optimizer, self.steps)
        self._update = compile(self._forward_backward_update)
        self._judge = judge(self.model, config.precision)
        self.progress = Progress()
        self._saved: int | None = None  # the step of the last checkpoint
        self.evaluation: Evaluation | None = None

    def __repr__(self) -> str:
        data, folder = displayed(self.config.data), displayed(self.folder.path)
        return f"<Trainer of {self.config.model} on {data} in {folder}: step {self.progress.step} of {self.steps}>"

    def resume(self) -> None:
        """Go to where the folder's checkpoint left off; to the beginning if there is none yet.

        Raises:
            UserError: another process trains in this folder, or a file of it is damaged.
        """
        self.folder.lock.take()
        try:
            self._resume()
        except BaseException:
            self.folder.lock.release()
            raise

    def _resume(self) -> None:
        if self.folder.checkpoint.exists():
            self.progress = load_checkpoint(self.folder.checkpoint, self.model, self.optimizer, self.run)
            self._saved, cursor = self.progress.step, self.progress.cursor
            if cursor is None or self.progress.step > self.steps:
                raise UserError(
                    f"{displayed(self.folder.checkpoint)} is at step {self.progress.step} of {self.steps}: it is of another run"
                )
            if cursor["epoch"] * len(self.loader) + cursor["batch"] != self.progress.step or cursor["seed"] != self.config.seed:
                raise UserError(
                    f"checkpoint {displayed(self.folder.checkpoint)}: step {self.progress.step} and cursor {cursor} are not of "
                    f"one run with {len(self.loader)} steps an epoch: it was edited or damaged; use another copy"
                )
            self.loader.seek(cursor)
            self.schedule.steps = min(self.progress.step, self.steps - 1)
        self.folder.rewind(self.progress.metrics_size, self.progress.metrics_checksum)
        if self.progress.metrics_size and not self.folder.metrics.exists():
            self.save()  # or the next resume would look for the rows that were given up

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.progress.step >= self.steps

    @property
    def epoch(self) -> int:
        """The epoch that is running, counted from 1."""
        return self.progress.step // len(self.loader) + 1

    def train(self, watcher: Watcher) -> Evaluation:
        """Train to the end. No other process can train in the folder meanwhile.

        Raises:
            Stopped: the watcher said so; the checkpoint is written.
            UserError: a file cannot be written, or somebody removed or renamed the folder; then the message says where the last
                checkpoint is, if there is one. Or the loss is no longer finite.
        """
        self.folder.lock.take()
        try:
            return self._train(watcher)
        except UserError as error:
            if isinstance(error.__cause__, OSError):
                self._check_place()
            raise
        finally:
            self.folder.lock.release()

    def _train(self, watcher: Watcher) -> Evaluation:
        if self.progress.epoch.images and self.progress.step % len(self.loader) == 0:
            self._end_epoch(self.progress.step // len(self.loader), watcher)  # it was stopped during that
        last_save = time.monotonic()
        while not self.finished:
            epoch, clock = self.epoch, _Clock(self.progress, self.steps)
            for images, labels in self.loader:
                if not clock.images:
                    self._compile_for(images, labels)
                    clock.ready()
                begin, rate = time.perf_counter(), self.optimizer.lr
                self.step(images, labels)
                report = clock.report(epoch, len(labels), time.perf_counter() - begin)
                self._note_step(report, rate)
                watcher.on_step(report)
                last_of_epoch = self.progress.step % len(self.loader) == 0
                if last_of_epoch:
                    break  # the epoch ends with its evaluation, and is saved with it
                if due := self._due(last_save):
                    self.save()
                    last_save = time.monotonic()
                if watcher.should_stop():  # perhaps since it is being saved
                    self._stop(saved=due)
            self._end_epoch(epoch, watcher)
            last_save = time.monotonic()
            if not self.finished and watcher.should_stop():
                raise Stopped
        return self._finish()

    def _check_place(self) -> None:
        """UserError if the run's folder is no longer where it was: what is written there would be in nobody's run."""
        folder = self.folder.lock.folder
        if folder is None or folder.in_place():
            return
        new, old = folder.now(), displayed(self.folder.path)
        stopped = f"training stopped after step {self.progress.step} of {self.steps}"
        if new is None:
            saved = "nothing had been saved yet"
            if self._saved is not None:
                resume = command_line("train", "--resume", "COPY")
                saved = f"the last checkpoint, of step {self._saved}, was in it. If there is a copy, resume with `{resume}`"
            raise UserError(f"the run folder {old} was removed, or moved to another disk: {stopped}; {saved}") from None
        place = _shortest(new)
        begins = "it holds no checkpoint yet, so that a resumed training begins anew"
        saved = begins if self._saved is None else f"its last checkpoint is of step {self._saved}"
        raise UserError(
            f"the run folder {old} was renamed to {displayed(place)}: {stopped}; {saved}.\n"
            f"Resume with: {command_line('train', '--resume', place)}"
        ) from None

    def _stop(self, saved: bool = False) -> NoReturn:
        if not saved:
            self.save()
        raise Stopped

    def step(self, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
        """One step: forward, backward, update. Returns the mean loss of the batch, as it is minimised: with label smoothing.

        What is summed up and shown is the cross-entropy without it, so that it compares with that of the test images.
        """
        progress = self.progress
        loss, cross_entropy, scores = self._update(images.astype(self.config.dtype, copy=False), labels)
        value = float(loss.item())
        if not np.isfinite(value):
            raise self._diverged(f"the loss became {value} at step {progress.step + 1} (epoch {self.epoch})")
        progress.step += 1
        if progress.step < self.steps:
            self.schedule.steps = progress.step
        progress.cursor = self.loader.cursor
        correct = int((scores.numpy().argmax(1) == labels).sum())
        for sums in (progress.epoch, progress.row):
            sums.add(float(cross_entropy.item()), correct, len(labels))
        return value

    def _compile_for(self, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
        """So that compiling does not count as the speed of the first step."""
        if not is_reference():
            self._update.prepare(images.astype(self.config.dtype, copy=False), labels)

    def _forward_backward_update(self, images: Any, labels: Any) -> tuple[Tensor, Tensor, Tensor]:
        """What is compiled: a whole step. Gives the loss, the cross-entropy without label smoothing, and the scores."""
        with precision(self.config.precision):
            self.optimizer.zero_grad()
            scores = self.model(images)
            loss = cross_entropy = F.cross_entropy(scores, labels, label_smoothing=self.config.label_smoothing)
            if self.config.label_smoothing:
                with no_grad():
                    cross_entropy = F.cross_entropy(scores, labels)
            loss.backward()
            self.optimizer.step()
        return loss, cross_entropy, scores

    def _diverged(self, what: str) -> UserError:
        exists = self.folder.checkpoint.exists()
        saved = f"the last checkpoint is in {displayed(self.folder.path)}" if exists else "nothing was saved yet"
        return UserError(f"{what}: training diverged; {saved}. Try a smaller learning rate than --lr {self.config.peak_lr:g}")

    def save(self) -> None:
        """Write a checkpoint, atomically, with the size and the checksum of the metrics so far."""
        self._check_place()
        self.progress.metrics_size, self.progress.metrics_checksum = self.folder.flush_metrics()
        save_checkpoint(self.folder.checkpoint, self.model, self.optimizer, self.progress, self.run)
        self._saved = self.progress.step

    def _due(self, last_save: float) -> bool:
        every = self.config.checkpoint_every
        if every:
            return self.progress.step % every == 0
        return time.monotonic() - last_save > _SECONDS_BETWEEN_CHECKPOINTS

    def _note_step(self, report: StepReport, rate: float) -> None:
        every = max(1, len(self.loader) // _ROWS_PER_EPOCH)
        if report.step % every == 0:
            self._check_place()
            row, self.progress.row = self.progress.row, Sums()
            self.folder.append_metrics(
                {
                    "kind": "train",
                    "step": report.step,
                    "epoch": report.epoch,
                    "images": row.images,
                    "loss": row.mean_loss,
                    "accuracy": row.accuracy,
                    "lr": rate,
                    "images_per_second": round(report.images_per_second, 1),
                }
            )

    def _end_epoch(self, epoch: int, watcher: Watcher) -> None:
        """Evaluate, note, draw, and save.

        A stop saves as it was before the evaluation; a kill repeats the steps since the last checkpoint. Both come to the same
        bits.
        """
        progress, total = self.progress, len(self.test_loader.dataset)
        done = 0

        def on_batch(images: int) -> None:
            nonlocal done
            done += images
            watcher.on_evaluation(done, total)
            if watcher.should_stop():
                self._stop()

        if watcher.should_stop():
            self._stop()
        self.evaluation = evaluate(self.model, self.test_loader, self._judge, on_batch)
        if not np.isfinite(self.evaluation.loss):
            raise self._diverged(f"the loss on the test images became {self.evaluation.loss} after epoch {epoch}")
        loss, accuracy = progress.epoch.mean_loss, progress.epoch.accuracy
        self._check_place()
        self.folder.append_metrics(
            {
                "kind": "test",
                "step": progress.step,
                "epoch": epoch,
                "loss": self.evaluation.loss,
                "accuracy": self.evaluation.accuracy,
                "train_loss": loss,
                "train_accuracy": accuracy,
                "seconds": round(progress.seconds, 3),
            }
        )
        progress.epoch = Sums()
        write_atomically(self.folder.curves, curves(self.folder.read_metrics()))
        save_model(self.folder.model, self.model, self.description)
        self.save()
        watcher.on_epoch(epoch, loss, accuracy, self.evaluation, progress.seconds)

    def _finish(self) -> Evaluation:
        evaluation = self.evaluation
        if evaluation is None:  # resumed after the last step: only the words are missing
            evaluation = evaluate(self.model, self.test_loader, self._judge)
        result = {
            "loss": evaluation.loss,
            "accuracy": evaluation.accuracy,
            "images": evaluation.images,
            "steps": self.progress.step,
            "training_seconds": round(self.progress.seconds, 3),
            "classes": list(evaluation.classes),
            "confusion": evaluation.confusion.tolist(),
        }
        self._check_place()
        write_atomically(self.folder.result, json.dumps(result, indent=1) + "\n")
        return evaluation


class _Clock:
    """Speed and time left, from the steps of this epoch in this process."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self.progress, self.steps = progress, steps
        self.begin, self.first_step, self.images = time.perf_counter(), progress.step, 0
        self.last = self.begin

    def ready(self) -> None:
        """The first step begins now: what came before was preparation, which takes time but says nothing of speed."""
        self.begin = time.perf_counter()

    def report(self, epoch: int, images: int, step_seconds: float) -> StepReport:
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
        )


def _check_test_labels(training: Dataset, test: Dataset) -> None:
    """No class of the test images may be without training images: such a label is damaged, or images are missing."""
    strange = np.flatnonzero(~np.isin(test.labels, training.labels))
    if len(strange):
        name = training.classes[int(test.labels[strange[0]])]
        raise UserError(
            f"{test.name}: image {strange[0]} is of class {name!r}, of which {training.name} has no image "
            f"(it has {len(np.unique(training.labels))} of the {len(training.classes)} classes): "
            "mend the label, or add training images of that class"
        )


def _shortest(path: Path) -> Path:
    """An absolute path from the current folder on, if it lies below that."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, OSError):  # it does not, or the current folder is gone, too
        return path


def limited(dataset: Dataset, limit: int) -> Dataset:
    """``limit`` images, drawn evenly from the whole data set; all of them for 0."""
    if not limit or limit >= len(dataset):
        return dataset
    places = evenly_drawn(limit, len(dataset))
    return ArrayDataset(dataset.images(places), dataset.labels[places], dataset.classes, f"{limit:,} of {dataset.name}")


def data_facts(training: Dataset, test: Dataset, mean: list[float], std: list[float]) -> dict[str, Any]:
    """What tells other data from those that a run began with."""
    return {
        "image shape": list(training.image_shape),
        "classes": list(training.classes),
        "training images": len(training),
        "test images": len(test),
        "mean of the pixels": [float(f"{value:.9g}") for value in mean],  # another processor may round the last digits
        "standard deviation of the pixels": [float(f"{value:.9g}") for value in std],
        "checksum of the training labels": zlib.crc32(training.labels.astype("<i8").tobytes()),
        "checksum of the test labels": zlib.crc32(test.labels.astype("<i8").tobytes()),
    }


@explained
def difference(expected: Sequence[str], found: Sequence[str]) -> str:
    """How two lists of classes differ, in words."""
    if len(expected) != len(found):
        return f"{len(expected)} and {len(found)}"
    place = next(i for i, (one, other) in enumerate(zip(expected, found, strict=True)) if one != other)
    return f"class {place} is {expected[place]!r} and {found[place]!r}"


def describe(config: Config, dataset: Dataset, mean: list[float], std: list[float]) -> dict[str, Any]:
    """What is needed to use the weights: kept beside them."""
    return {
        "model": config.model,
        "model_digest": config.model_digest,
        "image_shape": list(dataset.image_shape),
        "classes": list(dataset.classes),
        "mean": mean,
        "std": std,
        "dtype": config.dtype,
    }


def make_optimizer(config: Config, model: Any) -> optim.Optimizer:
    """The optimizer that a configuration names, over the parameters of a model."""
    rate, decay, parameters = config.peak_lr, config.weight_decay, list(model.parameters())
    makers: dict[str, Callable[[], optim.Optimizer]] = {
        "sgd": lambda: optim.SGD(parameters, rate, config.momentum, weight_decay=decay, nesterov=config.momentum > 0),
        "adam": lambda: optim.Adam(parameters, rate, (config.momentum, 0.999), weight_decay=decay),
        "adamw": lambda: optim.AdamW(parameters, rate, (config.momentum, 0.999), weight_decay=decay),
        "rmsprop": lambda: optim.RMSprop(parameters, rate, momentum=config.momentum, weight_decay=decay),
    }
    return makers[config.optimizer]()


def make_schedule(config: Config, optimizer: optim.Optimizer, steps: int) -> optim.Schedule:
    """The learning rate over ``steps`` steps. Warm-up takes the first tenth; step divides by 10 after each third."""
    if config.schedule == "one-cycle":
        return optim.OneCycleLR(optimizer, config.peak_lr, steps, cycle_momentum=config.momentum > 0)
    if config.schedule == "cosine":
        return optim.CosineAnnealingLR(optimizer, steps)
    if config.schedule == "step":
        return optim.StepLR(optimizer, max(1, -(-steps // 3)))
    if config.schedule == "warm-up":
        first = max(1, steps // 10)
        warm = optim.LinearLR(optimizer, 0.01, 1.0, first)
        return optim.SequentialLR(optimizer, [warm, optim.CosineAnnealingLR(optimizer, max(1, steps - first))], [first])
    return optim.LinearLR(optimizer, 1.0, 1.0, 1)
