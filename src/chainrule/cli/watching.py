"""The live line of a training, and what is shown at its end. Readable without colour and without a terminal."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chainrule.cli.console import console, counted, fitted, loss_text, show_table, time_left
from chainrule.cli.messages import message_lines
from chainrule.cli.output import Output
from chainrule.cli.saying import say_beside
from chainrule.cli.tables import worst_classes_table
from chainrule.display import displayed
from chainrule.graph.tables import Contents
from chainrule.graph.wrapping import wrapped
from chainrule.signals import listener
from chainrule.train.command_line import command_line
from chainrule.train.config import Config
from chainrule.train.diagnosis.findings import Findings
from chainrule.train.diagnosis.result_faults import outcome_of_run
from chainrule.train.evaluation import Evaluation
from chainrule.train.forecast import MEASURED, Memory, check_time, sentence_of_time, time_of
from chainrule.train.normalisation import in_words
from chainrule.train.parts import listed
from chainrule.train.watching import StepReport

if TYPE_CHECKING:
    from chainrule.train.opening import Opened
    from chainrule.train.trainer import Trainer

_MUCH_WAITING, _LONG_WAITING = 0.1, 2.0  # for the loader: of the training time, and in seconds; less is not worth a word
_MOST_SKIPPED = 10
_LEAST_BAR = 10  # characters
_LINES_PER_EPOCH = 10  # where there is no terminal to redraw a line on


def _shortened(parts: Sequence[str]) -> Iterator[str]:
    """The line with all of its parts, without the first, and without the first two; the others matter more than a bar."""
    for first in range(max(1, min(3, len(parts) - 3))):
        yield "  ".join(parts[first:])


def _dead(report: StepReport) -> list[str]:
    """What the line says of dead units, if there is something to be said."""
    return [f"{report.dead:,} dead units"] if report.dead else []


class ConsoleWatcher:
    """Shows a training: one line that is redrawn on a terminal, ten plain lines an epoch elsewhere.

    From the first step on, a signal asks it to stop; ``last_words`` are for Ctrl-C after that, which ends the process at once.
    Where nobody reads its output any more it stops, too.
    """

    def __init__(
        self, trainer: Trainer, opened: Opened, output: Output, last_words: str, most_time: float | None = None
    ) -> None:
        self._steps_begin: list[float] | None = []  # when each of the first steps was done; None once they are measured
        self._most_time = most_time
        self.trainer, self.opened, self.output, self.last_words = trainer, opened, output, last_words
        self.console = console()
        self._redraws = self.console.is_terminal and not self.console.is_dumb_terminal
        self._live: Live | None = None
        self._shown = 0.0
        self._begin()

    def _begin(self) -> None:
        trainer, config = self.trainer, self.trainer.config
        parameters = sum(one.size for one in trainer.model.parameters())
        say = self._say
        say(f"{config.model}, {parameters:,} parameters, {config.precision}, seed {config.seed}")
        say(self.opened.about)
        say(
            f"{counted(config.epochs, 'epoch')} of {counted(len(trainer.loader), 'step')} of "
            f"{counted(config.batch_size * config.accumulate, 'image')}, {config.optimizer} "
            f"with learning rate {config.peak_lr:g} ({config.schedule})"
        )
        for line in _particulars(trainer, self.opened.measured):
            say(line)
        if trainer.progress.step:
            say(f"resuming after step {trainer.progress.step} of {trainer.steps}")
        self._say_beside(f"run folder: {displayed(trainer.folder.path)}", "(Ctrl-C saves and stops)")

    def _say(self, message: str, whole: bool = False) -> None:
        """Lines, broken between words; ``whole`` leaves that to the terminal, so that they can be copied."""
        clean = displayed(message, lines=True)
        shown = clean if whole else "\n".join(message_lines(clean, self.console.width))
        self.console.print(shown, markup=False, soft_wrap=True)

    def _say_beside(self, first: str, second: str) -> None:
        """``first``, which can be copied, and ``second`` beside it or, where there is no room, below it."""
        joined = f"{first}   {second}"
        self._say(joined if len(joined) <= self.console.width else first, whole=True)
        if len(joined) > self.console.width:
            self._say(second)

    def say_memory(self, memory: Memory) -> None:
        """How much memory the training needs, in a line."""
        self._say(memory.sentence())

    def _measure(self, report: StepReport) -> None:
        """Say how long the training takes, once enough steps of this process are measured, or all of its first epoch.

        Raises:
            TooMuchError: that is longer than it may take.
        """
        ends = self._steps_begin
        if ends is None:
            return
        ends.append(time.perf_counter())
        if len(ends) <= MEASURED and report.step % len(self.trainer.loader):
            return
        self._steps_begin = None
        images = min(self.trainer.loader.batch_size, len(self.trainer.loader.dataset))
        seconds = [after - before for before, after in itertools.pairwise(ends)] or [images / report.images_per_second]
        found = time_of(self.trainer, seconds)
        self.close()
        self._say(sentence_of_time(found))
        if self._most_time is not None:
            check_time(self.trainer, found, self._most_time)

    def should_stop(self) -> bool:
        """Whether a signal, or a reader that has gone, asked the run to stop."""
        return listener.asked != 0 or self.output.unread

    def on_findings(self, findings: Findings) -> None:
        """Notes beside the lines of the training, each with the name by which it can be silenced."""
        for finding in findings:
            say_beside("note: ", "bold", f"{finding.sentence()} (--silence {finding.name})")

    def on_step(self, report: StepReport) -> None:
        """Redraw the live line, or, without a terminal, print some lines an epoch."""
        if self._most_time is None or self._steps_begin is None:
            listener.after_step(self.last_words)  # before the first step is done there is nothing to lose
        self._measure(report)
        now = time.monotonic()
        if self._redraws:
            if now - self._shown > 0.1:
                self._draw(self._parts(report), report.step, _dead(report))
                self._shown = now
            return
        per_epoch = len(self.trainer.loader)
        if (report.step % per_epoch) % max(1, per_epoch // _LINES_PER_EPOCH) == 0:
            least = (1, 3, 3, 2)  # epoch, speed, time left, accuracy: the step says more than the epoch
            line = fitted(self._parts(report), self.console.width, least)
            self._say(fitted([line, *_dead(report)], self.console.width, (1,)))

    def _parts(self, report: StepReport) -> list[str]:
        return [
            f"step {report.step}/{report.steps}",
            f"epoch {report.epoch}/{self.trainer.config.epochs}",
            f"loss {loss_text(report.loss)}",
            f"accuracy {100 * report.accuracy:.2f}%",
            f"{report.images_per_second:,.0f} images/s",
            f"{time_left(report.seconds_left)} left",
        ]

    def _draw(self, parts: Sequence[str], done: int, more: Sequence[str] = ()) -> None:
        """One line that never wraps: a bar, and the words for which there is room beside it, ``more`` only where there is much;
        a narrow line has words alone."""
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        width = self.console.width - len("^C")  # which a terminal shows behind it
        shortest = fitted(parts, width, least=(0, 0, 2, 1))  # without step, epoch, speed, and then accuracy
        lines = [*_shortened([*parts, *more]), *_shortened(parts)]
        line = next((one for one in lines if len(one) + 1 + _LEAST_BAR <= width), shortest)
        row = Table.grid(padding=(0, 1))
        room = min(20, width - len(line) - 1)
        bar = [ProgressBar(total=self.trainer.steps, completed=done, width=room)] if room >= _LEAST_BAR else []
        row.add_row(*bar, Text(line, no_wrap=True, overflow="ellipsis"))
        self._live.update(row, refresh=True)

    def on_evaluation(self, images: int, total: int) -> None:
        """Show how far the evaluation of an epoch is."""
        if self._redraws:
            self._draw([f"testing: {images:,} of {total:,} images"], self.trainer.progress.step)

    def on_epoch(self, epoch: int, train_loss: float, train_accuracy: float, evaluation: Evaluation, seconds: float) -> None:
        """Leave a line with the losses and accuracies of an epoch."""
        self.close()
        training = f"loss {loss_text(train_loss)}, accuracy {100 * train_accuracy:.2f}%"
        test = f"{self.opened.measured} loss {loss_text(evaluation.loss)}, accuracy {100 * evaluation.accuracy:.2f}%"
        place, spent = f"epoch {epoch}/{self.trainer.config.epochs}", f"{time_left(seconds)} of training"
        short = f"{place}: {training}; {test}"
        line = f"{place}: training {training}; {test}; {spent}"
        if len(line) <= self.console.width:
            self._say(line)
        elif len(short) <= self.console.width:
            self._say(short)
        else:
            for line in (*wrapped(f"{place}: {training}", self.console.width), *wrapped(test, self.console.width, "  ")):
                self._say(line, whole=True)

    def on_remark(self, remark: str) -> None:
        """Leave a line with what happened."""
        self.close()
        self._say(remark)

    def close(self) -> None:
        """Take the live line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def finish(self, evaluation: Evaluation) -> None:
        """The table of the epochs, the worst classes, and what to do next."""
        metrics = self.trainer.folder.read_metrics()
        rows = [row for row in metrics if row["kind"] == "test"]
        if rows:
            figures = [
                (
                    str(row["epoch"]),
                    loss_text(row["train_loss"]),
                    f"{100 * row['train_accuracy']:.2f}%",
                    loss_text(row["loss"]),
                    f"{100 * row['accuracy']:.2f}%",
                    time_left(row["seconds"]),
                )
                for row in rows
            ]
            test = self.opened.measured
            header = ("epoch>", "training loss>", "training accuracy>", f"{test} loss>", f"{test} accuracy>", "training time>")
            least = ("training time", "training accuracy", "training loss")
            self.console.print()
            show_table(Contents("Epochs", header, figures, least=least), self.console)
            self._say(_how_measured(self.trainer.config, test))
        if waited := _waited(self.trainer):
            self._say(waited)
        if skipped := _skipped(self.trainer):
            self._say(f"\n{skipped}")
        worst_classes_table(evaluation, self.console)
        folder = self.trainer.folder
        if kept := _kept(self.trainer, self.opened.measured):
            self._say(f"\n{kept}")
        self._say(
            f"\n{evaluation.correct:,} of {evaluation.images:,} {self.opened.measured} images right: accuracy "
            f"{100 * evaluation.accuracy:.2f}%"
        )
        self.on_findings(outcome_of_run(metrics, evaluation, self.trainer.config.silence))
        sampled = self.trainer.config.data == "mnist"  # whose sample images ship with the package
        use = command_line("predict", folder.path, *([] if sampled else ["IMAGE..."]))
        weights, drawing = displayed(folder.model), displayed(folder.curves)
        self._say(f"weights: {weights}\ncurves:  {drawing}\nuse it:  {use}", whole=True)
        if sampled:
            self._say("         (on three sample digits; add IMAGE... for files of your own)")
        self._say(f"test it: {command_line('evaluate', folder.path)}", whole=True)


def _waited(trainer: Trainer) -> str:
    """A sentence on how long the loader was waited for, if that is worth changing something."""
    share = trainer.progress.waiting_seconds / max(trainer.progress.seconds, 1e-9)
    if share < _MUCH_WAITING or trainer.progress.waiting_seconds < _LONG_WAITING:
        return ""
    workers = trainer.loader.workers
    how = f"which {counted(workers, 'thread')} prepared" if workers else "which were prepared between the steps"
    return (
        f"{100 * share:.0f}% of the training time went by waiting for images, {how}: try --workers {workers + 1}, fewer "
        "augmentations or smaller images"
    )


def _skipped(trainer: Trainer) -> str:
    """Which steps were left out as they were not finite."""
    skipped = trainer.progress.skipped
    if not skipped:
        return ""
    shown = ", ".join(map(str, skipped[:_MOST_SKIPPED])) + (", ..." if len(skipped) > _MOST_SKIPPED else "")
    are = "step was" if len(skipped) == 1 else "steps were"
    kept = f"; why, for the first: {command_line('replay', trainer.folder.capsule)}" if trainer.folder.capsule.exists() else ""
    return f"{len(skipped)} {are} left out, with numbers that are not finite: {shown}{kept}"


def _particulars(trainer: Trainer, measured: str) -> list[str]:
    """What is unusual about a training, in a line each."""
    config = trainer.config
    lines = list(trainer.loaded)
    if normalised := in_words(config.normalise):
        lines.append(f"{normalised} (--normalise chooses another way)")
    frozen = [name for name, one in trainer.model.named_parameters() if not one.requires_grad]
    if frozen:
        parts = list(dict.fromkeys(name.split(".")[0] for name in frozen))
        sizes = [(one.size, one.requires_grad) for one in trainer.model.parameters()]
        learning, every = (sum(size for size, learns in sizes if learns or whole) for whole in (False, True))
        lines.append(f"trained are {learning:,} of {every:,} parameters; frozen, all or in part: {listed(parts)}")
    if config.lr_of:
        lines.append(f"learning rates of parts: {config.lr_of}")
    warm_up = config.warm_up_steps(trainer.steps)
    if warm_up >= trainer.steps:
        lines.append(
            f"the learning rate only rises: the warm-up has {counted(warm_up, 'step')}, the whole training "
            f"{counted(trainer.steps, 'step')}"
        )
    if config.accumulate > 1:
        lines.append(f"a step takes {config.accumulate} batches of {counted(config.batch_size, 'image')}, one after the other")
    if config.ema:
        lines.append(f"measured and kept are averages of the weights, with a decay of {config.ema:g}")
    if config.flip_test:
        lines.append(f"{measured} images are judged as they are and mirrored")
    return lines


def _kept(trainer: Trainer, measured: str) -> str:
    """Which epoch the model is of, where that is not plainly the last one."""
    best, progress, patience = trainer.progress.best, trainer.progress, trainer.config.patience
    if not patience:
        return ""
    ended = f"; training ended after epoch {progress.judged}, as {counted(patience, 'epoch')} brought nothing better"
    return (
        f"the weights are those of epoch {best.epoch}, the best on the {measured} images"
        f"{ended if trainer.out_of_patience else ''}; as these chose it, its accuracy on others may be a little lower"
    )


def _how_measured(config: Config, test: str) -> str:
    """Why the figures of training and test are not quite of the same thing."""
    changed = "images as they are" if config.augment == "none" else "augmented images"
    if config.mixup or config.cutmix:
        changed = "mixed images (right is the class of the larger part)"
    smoothed = f"; losses are without the label smoothing of {config.label_smoothing:g}" if config.label_smoothing else ""
    return f"training: mean over the epoch, on {changed}; {test}: after the epoch{smoothed}"
