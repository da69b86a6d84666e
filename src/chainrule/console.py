"""What the command shows: the live line of a training, and tables. Readable without colour and without a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chainrule.nn.summary import Summary
from chainrule.train.evaluation import Evaluation
from chainrule.train.predict import Prediction
from chainrule.train.trainer import StepReport

if TYPE_CHECKING:
    from chainrule.train.trainer import Trainer

_LINES_PER_EPOCH = 10  # where there is no terminal to redraw a line on


def console() -> Console:
    return Console(highlight=False)


def _table(title: str, *columns: tuple[str, str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for name, justify in columns:
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    return table


def time_left(seconds: float) -> str:
    """1:05, or 2:03:09 from an hour on."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class ConsoleWatcher:
    """Shows a training: one line that is redrawn on a terminal, ten plain lines an epoch elsewhere."""

    def __init__(self, trainer: Trainer) -> None:
        self.stop = False
        self.trainer, self.console = trainer, console()
        self.epochs: list[tuple[int, float, float, Evaluation, float]] = []
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
            f"{config.epochs} epochs of {len(trainer.loader)} steps of {config.batch_size} images, {config.optimizer} "
            f"with learning rate {config.peak_lr:g} ({config.schedule}), seed {config.seed}"
        )
        if trainer.progress.step:
            say(f"resuming after step {trainer.progress.step} of {trainer.steps}")
        say(f"run folder: {trainer.folder.path}   (Ctrl-C saves and stops)")

    def _say(self, message: str) -> None:
        self.console.print(message, markup=False, soft_wrap=True)

    def should_stop(self) -> bool:
        return self.stop

    def on_step(self, report: StepReport) -> None:
        now = time.monotonic()
        if self.console.is_terminal:
            if now - self._shown > 0.1:
                self._draw(self._line(report), report.step)
                self._shown = now
            return
        per_epoch = len(self.trainer.loader)
        if (report.step % per_epoch) % max(1, per_epoch // _LINES_PER_EPOCH) == 0:
            self._say(self._line(report))

    def _line(self, report: StepReport) -> str:
        return (
            f"epoch {report.epoch}/{self.trainer.config.epochs}  step {report.step}/{report.steps}  loss {report.loss:.4f}  "
            f"accuracy {100 * report.accuracy:.2f}%  {report.images_per_second:,.0f} images/s  "
            f"{time_left(report.seconds_left)} left"
        )

    def _draw(self, line: str, done: int) -> None:
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(total=self.trainer.steps, completed=done, width=20), Text(line))
        self._live.update(row, refresh=True)

    def on_evaluation(self, images: int, total: int) -> None:
        if self.console.is_terminal:
            self._draw(f"testing: {images:,} of {total:,} images", self.trainer.progress.step)

    def on_epoch(self, epoch: int, train_loss: float, train_accuracy: float, evaluation: Evaluation, seconds: float) -> None:
        self.close()
        self.epochs.append((epoch, train_loss, train_accuracy, evaluation, seconds))
        self._say(
            f"epoch {epoch}/{self.trainer.config.epochs}: training loss {train_loss:.4f}, "
            f"accuracy {100 * train_accuracy:.2f}%; test loss {evaluation.loss:.4f}, "
            f"accuracy {100 * evaluation.accuracy:.2f}%; {time_left(seconds)} of training"
        )

    def close(self) -> None:
        """Take the live line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def finish(self, evaluation: Evaluation) -> None:
        """The table of the epochs, the worst classes, and what to do next."""
        if self.epochs:
            table = _table(
                "Epochs",
                ("epoch", "right"),
                ("training loss", "right"),
                ("training accuracy", "right"),
                ("test loss", "right"),
                ("test accuracy", "right"),
                ("training time", "right"),
            )
            for epoch, loss, accuracy, found, seconds in self.epochs:
                shares = f"{100 * accuracy:.2f}%", f"{found.loss:.4f}", f"{100 * found.accuracy:.2f}%"
                table.add_row(str(epoch), f"{loss:.4f}", *shares, time_left(seconds))
            self.console.print()
            self.console.print(table)
        evaluation_tables(evaluation)
        folder = self.trainer.folder
        self._say(
            f"\n{evaluation.correct:,} of {evaluation.images:,} test images right: accuracy {100 * evaluation.accuracy:.2f}%"
        )
        self._say(f"weights: {folder.model}\ncurves:  {folder.curves}\nuse it:  chainrule predict {folder.path} IMAGE...")


def evaluation_tables(evaluation: Evaluation) -> None:
    """The three classes that are recognised worst, and what they are taken for."""
    table = _table("Worst classes", ("class", "left"), ("images", "right"), ("right", "right"), ("taken for", "left"))
    for row in evaluation.worst_classes():
        others = ", ".join(f"{name} ({count})" for name, count in row.taken_for) or "nothing else"
        table.add_row(Text(row.name), f"{row.images:,}", f"{100 * row.accuracy:.2f}%", Text(others))
    show = console()
    show.print()
    show.print(table)


def prediction_table(predictions: Sequence[Prediction]) -> None:
    """One row per image: the best classes with their probabilities."""
    count = max(len(one.top) for one in predictions)
    table = _table("", ("image", "left"), *((f"{place}." if place > 1 else "best", "left") for place in range(1, count + 1)))
    for one in predictions:
        table.add_row(Text(one.path), *(Text(f"{name}  {100 * share:.1f}%") for name, share in one.top))
    show: Any = console()
    show.print(table)
    for one in predictions:
        if one.note:
            show.print(Text(f"note: {one.path}: {one.note}"), soft_wrap=True)


def summary_table(summary: Summary) -> None:
    """The layers of a model."""
    words = ("layer", "kind", "output shape")
    table = _table("", *((name, "left" if name in words else "right") for name in summary.header))
    for row in summary.cells():
        table.add_row(*map(Text, row))
    show = console()
    show.print(table)
    show.print(Text(summary.totals))
