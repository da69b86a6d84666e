"""What the command shows: the live line of a training, and tables. Readable without colour and without a terminal."""

from __future__ import annotations

import bisect
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chainrule.cli.messages import message_lines
from chainrule.cli.output import Output
from chainrule.display import displayed
from chainrule.graph.names import display_width, shortened_within
from chainrule.graph.tables import Contents
from chainrule.graph.wrapping import wrapped
from chainrule.models import Entry
from chainrule.nn.summary import Summary
from chainrule.signals import listener
from chainrule.train.command_line import command_line
from chainrule.train.config import Config
from chainrule.train.evaluation import Evaluation
from chainrule.train.predict import Prediction
from chainrule.train.trainer import StepReport

if TYPE_CHECKING:
    from chainrule.train.trainer import Trainer

_LEAST_BAR = 10  # characters
_READABLE_NAME, _LEAST_NAME = 24, 16  # characters of a class's name that stay, before columns are left out and after
_BESIDE_NAME = 16  # characters that stand beside a name where each row is a block of lines
_MOST_IN_MATRIX, _MOST_PAIRS = 12, 10  # classes, and pairs of them that are shown of more
_CONFUSIONS = "Confusions: a row per class, a column per class that its images were taken for"
_PAIRS = ("class", "taken for", "images>", "of the class>")
_WORST = ("class", "images>", "right>", "taken for")
_LINES_PER_EPOCH = 10  # where there is no terminal to redraw a line on


def console(file: Any = None) -> Console:
    """Standard output, or ``file``; where there is no terminal, as wide as ``width.settle`` says."""
    return Console(highlight=False, file=file)


def show_table(contents: Contents, show: Console | None = None) -> None:
    """A table, as wide as it needs and at most as wide as there is room: see ``Contents``."""
    show = show or console()
    header, rows, below = contents.parts(show.width, ruler=False)
    bold = [contents.title] if contents.title else []
    for line in [*(line for one in bold for line in wrapped(one, show.width)), *header]:
        show.print(Text(line, "bold"), soft_wrap=True)
    for line in [*rows, *below]:
        show.print(Text(line), soft_wrap=True)


def show_named_table(make: Callable[[int], Contents], names: Sequence[str], show: Console) -> None:
    """The table that ``make`` gives for the most characters of a class's name, shortened in their middles as far as needed.

    To be left out for the sake of names are the columns that matter least, once names would be shorter than is readable.
    """
    longest = max(map(display_width, names), default=0)
    for least, with_least in ((_READABLE_NAME, True), (_LEAST_NAME, False)):
        room = _most_room(make, show.width, least, longest, with_least)
        if room:
            show_table(make(room), show)
            return
    show_table(make(max(8, show.width - _BESIDE_NAME)), show)


def _most_room(make: Callable[[int], Contents], width: int, least: int, longest: int, with_least: bool = True) -> int:
    """Most characters of a name, from ``least`` to ``longest``, with which the table fits ``width``; 0 if it never does."""

    def is_too_wide(room: int) -> bool:
        return not make(room).fits(width, with_least)

    if is_too_wide(least):
        return 0
    return least - 1 + bisect.bisect_right(range(least, max(least, longest) + 1), False, key=is_too_wide)


def time_left(seconds: float) -> str:
    """1:05, or 2:03:09 from an hour on."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def loss_text(loss: float) -> str:
    """A loss with four digits behind the point; a huge one in powers of ten."""
    return f"{loss:.4f}" if loss < 1e5 else f"{loss:.3g}"


def fitted(parts: Sequence[str], width: int, least: Sequence[int] = (0, 0)) -> str:
    """Parts side by side; where the line would be wider than ``width``, those at the places ``least`` are left out in turn."""
    kept = list(parts)
    for place in least:
        if len(line := "  ".join(kept)) <= width or len(kept) == 1:
            return line
        del kept[min(place, len(kept) - 1)]
    line = "  ".join(kept)
    return line if len(line) <= width or len(kept) == 1 else fitted(kept[1:], width, ())


def _shortened(parts: Sequence[str]) -> Iterator[str]:
    """The line with all of its parts, without the first, and without the first two; the others matter more than a bar."""
    for first in range(max(1, min(3, len(parts) - 3))):
        yield "  ".join(parts[first:])


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number:,} {one if number == 1 else more or one + 's'}"


class ConsoleWatcher:
    """Shows a training: one line that is redrawn on a terminal, ten plain lines an epoch elsewhere.

    From the first step on, a signal asks it to stop; ``last_words`` are for Ctrl-C after that, which ends the process at once.
    Where nobody reads its output any more it stops, too.
    """

    def __init__(self, trainer: Trainer, output: Output, last_words: str) -> None:
        self.trainer, self.output, self.last_words = trainer, output, last_words
        self.console = console()
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
        classes = _count(len(trainer.classes), "class", "classes")
        say(f"{config.model}, {parameters:,} parameters, {classes}, {config.precision}, seed {config.seed}")
        say(f"{training.name}: {len(training):,} training images of {shape}, {len(test):,} test images")
        say(
            f"{_count(config.epochs, 'epoch')} of {_count(len(trainer.loader), 'step')} of "
            f"{_count(config.batch_size, 'image')}, {config.optimizer} "
            f"with learning rate {config.peak_lr:g} ({config.schedule})"
        )
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

    def should_stop(self) -> bool:
        """Whether a signal, or a reader that has gone, asked the run to stop."""
        return listener.asked != 0 or self.output.unread

    def on_step(self, report: StepReport) -> None:
        """Redraw the live line, or, without a terminal, print some lines an epoch."""
        listener.after_step(self.last_words)  # before the first step is done there is nothing to lose
        now = time.monotonic()
        if self._redraws:
            if now - self._shown > 0.1:
                self._draw(self._parts(report), report.step)
                self._shown = now
            return
        per_epoch = len(self.trainer.loader)
        if (report.step % per_epoch) % max(1, per_epoch // _LINES_PER_EPOCH) == 0:
            least = (1, 3, 3, 2)  # epoch, speed, time left, accuracy: the step says more than the epoch
            self._say(fitted(self._parts(report), self.console.width, least))

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
        """One line that never wraps: a bar, and the words for which there is room beside it; a narrow line has words alone."""
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        width = self.console.width - len("^C")  # which a terminal shows behind it
        shortest = fitted(parts, width, least=(0, 0, 2, 1))  # without step, epoch, speed, and then accuracy
        line = next((one for one in _shortened(parts) if len(one) + 1 + _LEAST_BAR <= width), shortest)
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
        test = f"test loss {loss_text(evaluation.loss)}, accuracy {100 * evaluation.accuracy:.2f}%"
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

    def close(self) -> None:
        """Take the live line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def finish(self, evaluation: Evaluation) -> None:
        """The table of the epochs, the worst classes, and what to do next."""
        rows = [row for row in self.trainer.folder.read_metrics() if row["kind"] == "test"]
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
            header = ("epoch>", "training loss>", "training accuracy>", "test loss>", "test accuracy>", "training time>")
            least = ("training time", "training accuracy", "training loss")
            self.console.print()
            show_table(Contents("Epochs", header, figures, least=least), self.console)
            self._say(_how_measured(self.trainer.config))
        worst_classes_table(evaluation, self.console)
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
        self._say(f"test it: {command_line('evaluate', folder.path)}", whole=True)


def _how_measured(config: Config) -> str:
    """Why the figures of training and test are not quite of the same thing."""
    changed = "images as they are" if config.augment == "none" else "augmented images"
    smoothed = f"; losses are without the label smoothing of {config.label_smoothing:g}" if config.label_smoothing else ""
    return f"training: mean over the epoch, on {changed}; test: after the epoch{smoothed}"


def worst_classes_table(evaluation: Evaluation, show: Console | None = None) -> None:
    """The three classes that are recognised worst, and what they are taken for."""
    worst = evaluation.worst_classes()

    def contents(room: int) -> Contents:
        def named(name: str) -> str:
            return shortened_within(displayed(name), room)

        rows = [
            (
                named(row.name),
                f"{row.images:,}",
                f"{100 * row.accuracy:.2f}%",
                ", ".join(f"{named(name)} ({count:,})" for name, count in row.taken_for) or "nothing else",
            )
            for row in worst
        ]
        return Contents("Worst classes", _WORST, rows, least=("images",), listed=("taken for",))

    show = show or console()
    show.print()
    names = [displayed(name) for row in worst for name in (row.name, *(name for name, _ in row.taken_for))]
    show_named_table(contents, names, show)


def confusion_table(evaluation: Evaluation, whole: str) -> None:
    """How often each class was taken for each: a matrix where there is room for it, else the pairs that are confused most,
    and ``whole``, the command that gives all of it."""
    show = console()
    show.print()
    names = [displayed(name) for name in evaluation.classes]
    if len(names) <= _MOST_IN_MATRIX:
        counts = [[str(count) if count else "." for count in row] for row in evaluation.confusion.tolist()]
        places = [str(place) for place in range(len(names))]
        numbered = [f"{place} {name}" for place, name in enumerate(names)]
        longest = max(map(display_width, numbered))

        def matrix(rows: list[str], columns: list[str], gap: int, room: int) -> Contents:
            cells = [[shortened_within(name, room), *row] for name, row in zip(rows, counts, strict=True)]
            return Contents(_CONFUSIONS, ["class", *(f"{name}>" for name in columns)], cells, gap=gap)

        for rows, columns, gap in ((names, names, 2), (numbered, places, 2), (names, names, 1), (numbered, places, 1)):
            made = functools.partial(matrix, rows, columns, gap)
            room = _most_room(made, show.width, _LEAST_NAME if columns is places else longest, longest)
            if room:
                show_table(made(room), show)
                return
    pairs = _confused(evaluation)

    def contents(room: int) -> Contents:
        rows = [
            (*(shortened_within(displayed(name), room) for name in (one, other)), f"{count:,}", f"{share:.1%}")
            for one, other, count, share in pairs
        ]
        return Contents("Confused most often", _PAIRS, rows, least=("of the class",))

    show_named_table(contents, [displayed(name) for one, other, *_ in pairs for name in (one, other)], show)
    for line in wrapped("the whole matrix as JSON:", show.width):
        show.print(Text(line))
    show.print(Text(f"  {whole}"), soft_wrap=True)


def _confused(evaluation: Evaluation) -> list[tuple[str, str, int, float]]:
    """Class, what it was taken for, how often, and in which share of its images; the most frequent first."""
    confusion, names = evaluation.confusion, evaluation.classes
    found = [
        (names[i], names[j], int(confusion[i, j]), confusion[i, j] / confusion[i].sum())
        for i, j in zip(*np.nonzero(confusion), strict=True)
        if i != j
    ]
    return sorted(found, key=lambda row: (-row[2], -row[3]))[:_MOST_PAIRS]


def prediction_table(predictions: Sequence[Prediction]) -> None:
    """One row per image: the best classes with their probabilities."""
    if not predictions:
        return
    noted: dict[str, list[str]] = {}
    for one in predictions:
        if one.note:
            noted.setdefault(one.note, []).append(displayed(one.path))
    notes = [
        f"note: {first}{f' and {len(others):,} more (--json names each)' if others else ''}: {note}"
        for note, (first, *others) in noted.items()
    ]
    header = ("image", "best", *(f"{place}." for place in range(2, 1 + max(len(one.top) for one in predictions))))

    def contents(room: int) -> Contents:
        rows = [
            (
                displayed(one.path),
                *(f"{shortened_within(displayed(name), room)}  {100 * share:.1f}%" for name, share in one.top),
            )
            for one in predictions
        ]
        return Contents("", header, rows, notes, most=len(rows), copied=("image",))

    show_named_table(contents, [displayed(name) for one in predictions for name, _ in one.top], console())


def models_table(entries: Mapping[str, Entry]) -> None:
    """A row for each model: what it costs, what it takes, and who described it first."""
    rows = [
        (
            name,
            _rounded(entry.parameters),
            _rounded(entry.multiply_adds),
            "x".join(map(str, entry.image)),
            str(entry.least),
            "all" if entry.receptive_field is None else str(entry.receptive_field),
            entry.paper,
        )
        for name, entry in entries.items()
    ]
    header = ("model", "weights>", "mult-adds>", "image", "least>", "field>", "first described in")
    notes = [
        "weights: numbers that are trained; mult-adds: multiplications, each with its addition, for one image of the size in "
        "the column image (channels x height x width); least: smallest height and width; field: height of the receptive field "
        "in pixels, the part of the image that a unit in front of the classifier sees."
    ]
    show_table(Contents("", header, rows, notes, most=len(rows), least=("first described in", "field", "least", "image")))


def _rounded(number: int) -> str:
    """Three digits and a letter: 61.7k, 11.7M, 1.81G."""
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= size:
            value = number / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{letter}"
    return str(number)


def summary_table(summary: Summary) -> None:
    """The layers of a model."""
    show_table(replace(summary.contents(), title=""))
