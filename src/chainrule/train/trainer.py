"""The training loop.

    data ──> Loader ──> step: forward, backward, update ──> metrics ──> checkpoint

A trainer is a function of its configuration alone: the same options give the same weights, whether the run went through
or was killed and resumed on the way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from chainrule.arguments import explained, explained_methods
from chainrule.data import Dataset, Loader, Normalize, mean_std
from chainrule.data.loader import Batch
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import write_atomically
from chainrule.formats.places import as_seen
from chainrule.models import build
from chainrule.nn import Module
from chainrule.tensor.random import manual_seed
from chainrule.train.augmentations import transforms
from chainrule.train.capsule import Capsule
from chainrule.train.checkpoint import (
    Best,
    Progress,
    Run,
    Sums,
    load_checkpoint,
    load_model,
    save_checkpoint,
    save_model,
    set_state,
    state_of,
)
from chainrule.train.command_line import command_line
from chainrule.train.diagnosis.batch_faults import has_channels_last
from chainrule.train.diagnosis.first_step import FirstStep
from chainrule.train.diagnosis.recorder import Recorder
from chainrule.train.evaluation import Evaluation, evaluate, judge
from chainrule.train.normalisation import MeanStd, chosen_mean_std
from chainrule.train.optimization import average_of, make_optimizer, make_schedule
from chainrule.train.parts import freeze, freeze_statistics
from chainrule.train.pictures.curves import curves
from chainrule.train.recovery import NotFiniteError, Recovery
from chainrule.train.run_data import check_scores, data_facts, describe, initialise_from, prepared
from chainrule.train.run_folder import RunFolder
from chainrule.train.snapshots import Snapshots
from chainrule.train.step import TrainingStep
from chainrule.train.transfer import begin_with
from chainrule.train.watching import Clock, StepReport, Stopped, Watcher

_ROWS_PER_EPOCH = 50
_SECONDS_BETWEEN_CHECKPOINTS = 30.0
_EVALUATION_BATCH = 250


@explained_methods
class Trainer:
    """One run: data, model, optimizer, schedule, folder. ``train`` runs it to its end or until the watcher stops it."""

    @explained
    def __init__(self, folder: RunFolder, *, training: Dataset, test: Dataset) -> None:
        config = self.config = folder.config
        self.folder = folder
        manual_seed(config.seed)
        training = prepared(config, training, test)
        self.classes = training.classes
        self._own = MeanStd(*mean_std(training))
        self.model, used, self.loaded = self._made(training, initialised=not folder.checkpoint.exists())
        self.description = describe(config, training, *used)
        facts = data_facts(training, test, *self._own)
        self.run: Run = {"options": config.decisive, "data": facts, "weights": self.description}
        normalise = Normalize(*used)
        self.loader = Loader(
            training,
            config.batch_size * config.accumulate,
            seed=config.seed,
            transforms=transforms(config.augment, training.image_shape, normalise),
            workers=config.workers,
        )
        self.test_loader = Loader(test, _EVALUATION_BATCH, shuffle=False, transforms=[normalise], workers=config.workers)
        self.frozen = freeze(self.model, config.freeze) if config.freeze else []
        freeze_statistics(self.model)  # of what the network itself freezes, too
        self.optimizer = make_optimizer(config, self.model)
        self.steps = config.epochs * len(self.loader)
        self.schedule = make_schedule(config, self.optimizer, self.steps)
        self.ema = average_of(config, self.model)
        self._recorder = Recorder(folder.health, self.model, config.epochs, len(self.loader), config.health, self._check_place)
        self._snapshots = Snapshots(folder.snapshots, self.model, self.steps, config.health, self._check_place)
        self.training_step = TrainingStep(self.model, self.optimizer, config, self.ema, self._recorder)
        self._first = FirstStep(self.training_step, self.optimizer, self.loader, self.frozen)
        self.judge = judge(self.model, config.precision, config.flip_test)
        self.progress = Progress()
        self._saved: int | None = None  # the step of the last checkpoint
        self.evaluation: Evaluation | None = None
        self._recovery = Recovery(self)
        self._last_save = time.monotonic()

    def _made(self, training: Dataset, initialised: bool) -> tuple[Module, MeanStd, tuple[str, ...]]:
        """The model as it is built, or, if ``initialised``, as it begins its training; by what its images are normalised; and
        what is to be said of its weights."""
        config = self.config
        channels, height, width = training.image_shape
        try:
            model = build(config.model, channels, len(self.classes), (height, width), config.model_digest)
            model = model.astype(config.dtype).train()
            check_scores(model, config.model, training.image_shape, len(self.classes))
        except UserError as error:
            if not has_channels_last(training.image_shape):
                raise
            raise UserError(
                f"{error}\n{training.name} looks like images of {channels} x {height} with their channels last: data sets have "
                "them first, (N, C, H, W), so give it images.transpose(0, 3, 1, 2)"
            ) from error
        loaded: tuple[str, ...] = ()
        if initialised and config.weights:
            loaded = begin_with(model, config.weights, config.weights_digest, channels, len(self.classes))
        used = chosen_mean_std(config.normalise, self._own)
        if initialised and not config.weights:
            initialise_from(model, training, Normalize(*used))
        return model, used, loaded

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
            self.progress = load_checkpoint(self.folder.checkpoint, self.model, self.optimizer, self.run, self.ema)
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
        self._recorder.go_back(self.progress.step, self.progress.alive)
        self._snapshots.go_back(self.progress.step)
        self.folder.rewind(self.progress.metrics_size, self.progress.metrics_checksum)
        if self.progress.metrics_size and not self.folder.metrics.exists():
            self.save()  # or the next resume would look for the rows that were given up

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or none of the last epochs was better than an earlier one (``patience``)."""
        return self.progress.step >= self.steps or self.out_of_patience

    @property
    def out_of_patience(self) -> bool:
        """Whether the last ``patience`` epochs were no better than the best one before them."""
        progress, patience = self.progress, self.config.patience
        return bool(patience and progress.best.epoch and progress.judged - progress.best.epoch >= patience)

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
        self._last_save = time.monotonic()
        while not self.finished:
            try:
                self._train_epoch(watcher)
            except NotFiniteError as error:
                left_out = self._recovery.take(error, watcher)
                if left_out and self.progress.step % len(self.loader) == 0:  # the last of its epoch
                    self._end_epoch(self.progress.step // len(self.loader), watcher)
                elif watcher.should_stop():
                    self._stop()
            if not self.finished and watcher.should_stop():
                raise Stopped
        return self._finish()

    def _train_epoch(self, watcher: Watcher) -> None:
        """The rest of the epoch that is running, with its evaluation."""
        epoch, clock = self.epoch, Clock(self.progress, self.steps)
        for images, labels in self._awaited():
            if not clock.images:
                if not self.progress.step and not self._recovery.looks and (findings := self._first.before(images, labels)):
                    watcher.on_findings(findings)
                self.training_step.prepare(images, labels)
                clock.ready()
            begin, rate = time.perf_counter(), self.optimizer.lr
            self._recovery.before_step(images, labels)
            self.step(images, labels)
            self._recovery.after_step(watcher)
            if findings := self._first.after():
                watcher.on_findings(findings)
            report = clock.report(epoch, len(labels), time.perf_counter() - begin, self._recorder.dead)
            self._note_step(report, rate)
            watcher.on_step(report)
            last_of_epoch = self.progress.step % len(self.loader) == 0
            if last_of_epoch:
                break  # the epoch ends with its evaluation, and is saved with it
            if due := self._due(self._last_save):
                self.save()
            if watcher.should_stop():  # perhaps since it is being saved
                self._stop(saved=due)
        self._end_epoch(epoch, watcher)

    def _awaited(self) -> Iterator[Batch]:
        """The batches of the loader; the time until each comes counts as waiting."""
        batches = iter(self.loader)
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            self.progress.waiting_seconds += time.perf_counter() - begin
            if batch is None:
                return
            yield batch

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
        place = as_seen(str(new))
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
        place = divmod(progress.step, len(self.loader))
        self._recorder.begun(progress.step + 1)
        self._snapshots.begun(progress.step)
        loss, cross_entropy, correct = self.training_step(images, labels, place, self._at_gradients)
        if not np.isfinite(loss):
            step = progress.step + 1
            raise self.not_finite(f"the loss became {loss} at step {step} (epoch {self.epoch})", step)
        self._count()
        self._recorder.ended(progress.step, loss)
        self._snapshots.ended(progress.step)
        for sums in (progress.epoch, progress.row):
            sums.add(cross_entropy, correct, len(labels))
        return loss

    def _at_gradients(self) -> None:
        self._first.at_gradients()
        self._recorder.at_gradients()

    def _count(self) -> None:
        self.progress.step += 1
        if self.progress.step < self.steps:
            self.schedule.steps = self.progress.step
        self.progress.cursor = self.loader.cursor

    def _diverged(self, what: str) -> str:
        exists = self.folder.checkpoint.exists()
        saved = f"the last checkpoint is in {displayed(self.folder.path)}" if exists else "nothing was saved yet"
        rates = f"--lr {self.config.peak_lr:g}" + (f" and --lr-of {self.config.lr_of}" if self.config.lr_of else "")
        return f"{what}: training diverged; {saved}. Try a smaller learning rate than {rates}"

    def not_finite(self, noticed: str, step: int) -> NotFiniteError:
        """The error of a step, counted from 1, of which ``noticed`` says what is not finite."""
        return NotFiniteError(self._diverged(noticed), step, noticed)

    def go_back(self) -> None:
        """Go back to the last checkpoint, or to the beginning if there is none yet.

        Raises:
            UserError: a file that the training began with, or the checkpoint, is gone or damaged.
        """
        seconds, waiting = self.progress.seconds, self.progress.waiting_seconds
        if self.folder.checkpoint.exists():
            self._resume()
        else:
            manual_seed(self.config.seed)
            model, _, _ = self._made(self.loader.dataset, initialised=True)
            optimizer, ema = make_optimizer(self.config, self.model), average_of(self.config, model)
            set_state(state_of(model, optimizer, ema), self.model, self.optimizer, self.ema)
            self.progress = Progress()
            self.loader.seek({"seed": self.config.seed, "epoch": 0, "batch": 0})
            self.schedule.steps = 0
            self.folder.rewind(0, "")
            self._recorder.go_back(0, None)
            self._snapshots.go_back(0)
        self.progress.seconds, self.progress.waiting_seconds = seconds, waiting

    def leave_out(self) -> None:
        """Count the step that comes next, whose batch the loader has given, without taking it."""
        self._count()
        self.progress.skipped.append(self.progress.step)

    def keep(self, capsule: Capsule) -> None:
        """Write a step that was not finite into the folder of the run."""
        self._check_place()
        capsule.save(self.folder.capsule)

    def save(self) -> None:
        """Write a checkpoint, atomically, with the size and the checksum of the metrics so far.

        Raises:
            NotFiniteError: weights, buffers or the state of the optimizer are not finite; nothing is written.
        """
        self.refuse_unsound()
        self._check_place()
        self.progress.metrics_size, self.progress.metrics_checksum = self.folder.flush_metrics()
        self._recorder.flush()
        self.progress.alive = self._recorder.alive
        save_checkpoint(self.folder.checkpoint, self.model, self.optimizer, self.progress, self.run, self.ema)
        self._saved, self._last_save = self.progress.step, time.monotonic()

    def refuse_unsound(self) -> None:
        """NotFiniteError if weights, buffers or the state of the optimizer are not finite."""
        if bad := self._recovery.unsound():
            step = self.progress.step
            raise self.not_finite(f"{bad} by step {step} (epoch {(step - 1) // len(self.loader) + 1})", step)

    def _due(self, last_save: float) -> bool:
        every = self.config.checkpoint_every
        if every:
            return self.progress.step % every == 0
        return time.monotonic() - last_save > _SECONDS_BETWEEN_CHECKPOINTS

    def _note_step(self, report: StepReport, rate: float) -> None:
        every = max(1, len(self.loader) // _ROWS_PER_EPOCH)
        if report.step % every == 0 and self.progress.row.images:
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
        progress = self.progress
        if watcher.should_stop():
            self._stop()
        if self.config.on_nan != "stop":
            self.refuse_unsound()
        with self._averages():
            evaluation = self._evaluate(watcher)
            if evaluation is not None and not np.isfinite(evaluation.loss):
                raise UserError(self._diverged(f"the loss on the test images became {evaluation.loss} after epoch {epoch}"))
            best = None if evaluation is None else self._best(epoch, evaluation)
            if best is not None and best.epoch == epoch:
                self._check_place()
                save_model(self.folder.model, self.model, self.description)
        if evaluation is None or best is None:
            self._stop()  # with weights that are not averaged
        self.evaluation, progress.best, progress.judged = evaluation, best, epoch
        loss, accuracy = progress.epoch.mean_loss, progress.epoch.accuracy
        self._check_place()
        self.folder.append_metrics(
            {
                "kind": "test",
                "step": progress.step,
                "epoch": epoch,
                "loss": evaluation.loss,
                "accuracy": evaluation.accuracy,
                "train_loss": loss,
                "train_accuracy": accuracy,
                "seconds": round(progress.seconds, 3),
            }
        )
        progress.epoch = Sums()
        dead = self._recorder.dead
        self._recorder.epoch_ended(epoch, progress.step)
        write_atomically(self.folder.curves, curves(self.folder.read_metrics()))
        self.save()
        watcher.on_epoch(epoch, loss, accuracy, evaluation, progress.seconds)
        if self._recorder.dead > dead:
            watcher.on_remark(
                f"{self._recorder.dead:,} of {self._recorder.channels:,} units are dead, above 0 for no image of epoch "
                f"{epoch}: see {command_line('health', self.folder.path)}"
            )

    @contextmanager
    def _averages(self) -> Iterator[None]:
        """A context in which the model has the averaged weights, if there are any: they are what is evaluated and kept."""
        if self.ema is None:
            yield
        else:
            with self.ema.applied():
                yield

    def _evaluate(self, watcher: Watcher) -> Evaluation | None:
        """How good the model is on the test images; None if the watcher asked to stop meanwhile."""
        done, total = 0, len(self.test_loader.dataset)

        def on_batch(images: int) -> None:
            nonlocal done
            done += images
            watcher.on_evaluation(done, total)
            if watcher.should_stop():
                raise Stopped

        try:
            return evaluate(self.model, self.test_loader, self.judge, on_batch)
        except Stopped:
            return None

    def _best(self, epoch: int, evaluation: Evaluation) -> Best:
        """The epoch whose weights are the model: the last one, or, with ``patience``, the most accurate one so far, and of
        several the one with the least loss."""
        before, now = self.progress.best, Best(epoch, evaluation.accuracy, evaluation.loss)
        worse = (now.accuracy, -now.loss) <= (before.accuracy, -before.loss)
        return before if self.config.patience and before.epoch and worse else now

    def _finish(self) -> Evaluation:
        best, evaluation = self.progress.best, self.evaluation
        if best.epoch != self.progress.judged or evaluation is None:  # of another epoch, or resumed after the last step
            load_model(self.folder.model, self.model)
            evaluation = evaluate(self.model, self.test_loader, self.judge)
        result = {
            "loss": evaluation.loss,
            "accuracy": evaluation.accuracy,
            "images": evaluation.images,
            "epoch": best.epoch,
            "steps": self.progress.step,
            "skipped_steps": self.progress.skipped,
            "training_seconds": round(self.progress.seconds, 3),
            "waiting_seconds": round(self.progress.waiting_seconds, 3),
            "classes": list(evaluation.classes),
            "confusion": evaluation.confusion.tolist(),
        }
        self._check_place()
        write_atomically(self.folder.result, json.dumps(result, indent=1) + "\n")
        return evaluation
