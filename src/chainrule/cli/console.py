"""What the command shows: the live line of a training, and tables. Readable without colour and without a terminal."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chainrule.display import displayed
from chainrule.nn.summary import Summary
from chainrule.signals import listener, tell
from chainrule.train.command_line import command_line
from chainrule.train.config import Config
from chainrule.train.evaluation import Evaluation
from chainrule.train.predict import Prediction
from chainrule.train.trainer import StepReport

if TYPE_CHECKING:
    from chainrule.train.trainer import Trainer

_LINES_PER_EPOCH = 10  # where there is no terminal to redraw a line on


def console(file: Any = None) -> Console:
    """Standard output, or ``file``. Where no terminal gives a width, tables take the room that they need."""
    found = Console(highlight=False, file=file)
    return found if found.is_terminal else Console(highlight=False, file=file, width=1000)


def _table(title: str, *columns: tuple[str, str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def time_left(seconds: float) -> str:
    """1:05, or 2:03:09 from an hour on."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def loss_text(loss: float) -> str:
    return f"{loss:.4f}" if loss < 1e5 else f"{loss:.3g}"


def fitted(parts: Sequence[str], width: int) -> str:
    """Parts side by side; the first ones, which matter least, are left out where the line would be wider than ``width``."""
    line = "  ".join(parts)
    return line if len(line) <= width or len(parts) == 1 else fitted(parts[1:], width)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class _LastingOutput:
    """Standard output of a training, which goes on where that can no longer be written: a terminal that has gone, a full disk.

    Attributes:
        unread: it is a pipe that nobody reads any more.
    """

    def __init__(self) -> None:
        self.unread = False
        self._stream: Any = sys.stdout if sys.stdout is not None else open(os.devnull, "w")  # noqa: SIM115 - as long as the process

    def write(self, text: str) -> int:
        """As a stream does."""
        with self._noticed():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As a stream does."""
        with self._noticed():
            self._stream.flush()

    @contextlib.contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                self.unread = True
            elif error.errno != errno.EIO:  # how a terminal says that it has gone; then there is nobody to tell
                tell(f"warning: standard output cannot be written ({error.strerror}): the training goes on without it")
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # also what is still in its buffer
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ConsoleWatcher:
    """Shows a training: one line that is redrawn on a terminal, ten plain lines an epoch elsewhere.

    From the first step on, a signal asks it to stop; ``last_words`` are for Ctrl-C after that, which ends the process at once.
    Where nobody reads its output any more it stops, too.
    """

    def __init__(self, trainer: Trainer, last_words: str) -> None:
        self.trainer, self.last_words = trainer, last_words
        self.output = _LastingOutput()
        self.console = console(self.output)
        self._redraws = self.console.is_terminal and not self.console.is_dumb_terminal
        self._live: Live | None = None
        self._shown = 0.0
        self._begin()

    def _begin(self) -> None:
        trainer, config = self.trainer, self.trainer.config
        training, test = trainer.loader.dataset, trainer.test_loader.dataset
        shape = " x ".join(map(str, training.image_shape))
        parameters = sum(one.size for one in trainer.model.parameters())
        say = self._say
        say(f"{config.model}, {parameters:,} parameters, {len(trainer.classes)} classes, {config.precision}")
        say(f"{training.name}: {len(training):,} training images of {shape}, {len(test):,} test images")
        say(
            f"{_count(config.epochs, 'epoch')} of {_count(len(trainer.loader), 'step')} of "
            f"{_count(config.batch_size, 'image')}, {config.optimizer} "
            f"with learning rate {config.peak_lr:g} ({config.schedule}), seed {config.seed}"
        )
        if trainer.progress.step:
            say(f"resuming after step {trainer.progress.step} of {trainer.steps}")
        say(f"run folder: {displayed(trainer.folder.path)}   (Ctrl-C saves and stops)", whole=True)

    def _say(self, message: str, whole: bool = False) -> None:
        """A line, wrapped between words on a terminal; ``whole`` leaves that to the terminal, so that it can be copied."""
        self.console.print(displayed(message, lines=True), markup=False, soft_wrap=whole or not self.console.is_terminal)

    def should_stop(self) -> bool:
        return listener.asked != 0 or self.output.unread

    def on_step(self, report: StepReport) -> None:
        listener.after_step(self.last_words)  # before the first step is done there is nothing to lose
        now = time.monotonic()
        if self._redraws:
            if now - self._shown > 0.1:
                self._draw(self._parts(report), report.step)
                self._shown = now
            return
        per_epoch = len(self.trainer.loader)
        if (report.step % per_epoch) % max(1, per_epoch // _LINES_PER_EPOCH) == 0:
            self._say("  ".join(self._parts(report)))

    def _parts(self, report: StepReport) -> list[str]:
        return [
            f"step {report.step}/{report.steps}",
            f"epoch {report.epoch}/{self.trainer.config.epochs}",
            f"loss {loss_text(report.loss)}",
            f"accuracy {100 * report.accuracy:.2f}%",
            f"{report.images_per_second:,.0f} images/s",
            f"{time_left(report.seconds_left)} left",
        ]

    def _draw(self, parts: Sequence[str], done: int) -> None:
        """One line that never wraps: words first, and a bar in what room is left."""
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        line = fitted(parts, self.console.width)
        row = Table.grid(padding=(0, 1))
        room = min(20, self.console.width - len(line) - 1)
        bar = [ProgressBar(total=self.trainer.steps, completed=done, width=room)] if room >= 5 else []
        row.add_row(*bar, Text(line, no_wrap=True, overflow="ellipsis"))
        self._live.update(row, refresh=True)

    def on_evaluation(self, images: int, total: int) -> None:
        if self._redraws:
            self._draw([f"testing: {images:,} of {total:,} images"], self.trainer.progress.step)

    def on_epoch(self, epoch: int, train_loss: float, train_accuracy: float, evaluation: Evaluation, seconds: float) -> None:
        self.close()
        self._say(
            f"epoch {epoch}/{self.trainer.config.epochs}: training loss {loss_text(train_loss)}, "
            f"accuracy {100 * train_accuracy:.2f}%; test loss {loss_text(evaluation.loss)}, "
            f"accuracy {100 * evaluation.accuracy:.2f}%; {time_left(seconds)} of training"
        )

    def close(self) -> None:
        """Take the live line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def finish(self, evaluation: Evaluation) -> None:
        """The table of the epochs, the worst classes, and what to do next."""
        rows = [row for row in self.trainer.folder.read_metrics() if row["kind"] == "test"]
        if rows:
            table = _table(
                "Epochs",
                ("epoch", "right"),
                ("training loss", "right"),
                ("training accuracy", "right"),
                ("test loss", "right"),
                ("test accuracy", "right"),
                ("training time", "right"),
            )
            for row in rows:
                training = loss_text(row["train_loss"]), f"{100 * row['train_accuracy']:.2f}%"
                test = loss_text(row["loss"]), f"{100 * row['accuracy']:.2f}%"
                table.add_row(str(row["epoch"]), *training, *test, time_left(row["seconds"]))
            self.console.print()
            self.console.print(table)
            self._say(_how_measured(self.trainer.config))
        evaluation_tables(evaluation)
        folder = self.trainer.folder
        self._say(
            f"\n{evaluation.correct:,} of {evaluation.images:,} test images right: accuracy {100 * evaluation.accuracy:.2f}%"
        )
        sampled = self.trainer.config.data == "mnist"  # whose sample images ship with the package
        use = command_line("predict", folder.path, *([] if sampled else ["IMAGE..."]))
        weights, drawing = displayed(folder.model), displayed(folder.curves)
        self._say(f"weights: {weights}\ncurves:  {drawing}\nuse it:  {use}", whole=True)
        if sampled:
            self._say("         (on three sample digits; add IMAGE... for files of your own)")


def _how_measured(config: Config) -> str:
    """Why the figures of training and test are not quite of the same thing."""
    changed = "images as they are" if config.augment == "none" else "augmented images"
    smoothed = f"; losses are without the label smoothing of {config.label_smoothing:g}" if config.label_smoothing else ""
    return f"training: mean over the epoch, on {changed}; test: after the epoch{smoothed}"


def evaluation_tables(evaluation: Evaluation) -> None:
    """The three classes that are recognised worst, and what they are taken for."""
    table = _table("Worst classes", ("class", "left"), ("images", "right"), ("right", "right"), ("taken for", "left"))
    for row in evaluation.worst_classes():
        others = ", ".join(f"{displayed(name)} ({count})" for name, count in row.taken_for) or "nothing else"
        table.add_row(Text(displayed(row.name)), f"{row.images:,}", f"{100 * row.accuracy:.2f}%", Text(others))
    show = console()
    show.print()
    show.print(table)


def prediction_table(predictions: Sequence[Prediction]) -> None:
    """One row per image: the best classes with their probabilities."""
    if not predictions:
        return
    count = max(len(one.top) for one in predictions)
    table = _table("", ("image", "left"), *((f"{place}." if place > 1 else "best", "left") for place in range(1, count + 1)))
    for one in predictions:
        table.add_row(Text(displayed(one.path)), *(Text(f"{displayed(name)}  {100 * share:.1f}%") for name, share in one.top))
    show: Any = console()
    show.print(table)
    noted: dict[str, list[str]] = {}
    for one in predictions:
        if one.note:
            noted.setdefault(one.note, []).append(displayed(one.path))
    for note, (first, *others) in noted.items():
        more = f" and {len(others):,} more" if others else ""
        show.print(Text(f"note: {first}{more}: {note}"), soft_wrap=True)


def summary_table(summary: Summary) -> None:
    """The layers of a model."""
    contents = summary.contents()
    table = _table("", *((name.removesuffix(">"), "right" if name.endswith(">") else "left") for name in contents.header))
    for row in contents.rows:
        table.add_row(*map(Text, row))
    show = console()
    show.print(table)
    show.print(Text(summary.totals))
