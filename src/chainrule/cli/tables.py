"""The tables that subcommands print, in the width that there is."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.text import Text

from chainrule.cli.console import LEAST_NAME, console, most_room, show_named_table, show_table
from chainrule.display import displayed
from chainrule.graph.names import display_width, shortened_within
from chainrule.graph.tables import Contents
from chainrule.graph.wrapping import wrapped
from chainrule.models import Entry
from chainrule.nn.summary import Summary
from chainrule.train.diagnosis.suspects import Suspects
from chainrule.train.evaluation import Evaluation
from chainrule.train.predict import Prediction

_MOST_IN_MATRIX, _MOST_PAIRS = 12, 10  # classes, and pairs of them that are shown of more
_CONFUSIONS = "Confusions: a row per class, a column per class that its images were taken for"
_PAIRS = ("class", "taken for", "images>", "of the class>")
_WORST = ("class", "images>", "right>", "95% interval>", "taken for")
_MOST_CLASSES = 12  # whose accuracy is shown after an evaluation


def accuracy_table(evaluation: Evaluation) -> None:
    """The accuracy of the classes, or of the worst of many, with intervals, and what they are taken for."""
    whole = len(evaluation.classes) <= _MOST_CLASSES
    title = (
        "Accuracy by class, the worst first" if whole else f"The {_MOST_CLASSES} worst of {len(evaluation.classes):,} classes"
    )
    worst_classes_table(evaluation, None, title, _MOST_CLASSES)


def worst_classes_table(
    evaluation: Evaluation, show: Console | None = None, title: str = "Worst classes", count: int = 3
) -> None:
    """The classes that are recognised worst, and what they are taken for; of more than three, also the intervals in which their
    accuracy is to be expected."""
    worst = evaluation.worst_classes(count)
    header = [name for name in _WORST if count > 3 or "interval" not in name]

    def contents(room: int) -> Contents:
        def named(name: str) -> str:
            return shortened_within(displayed(name), room)

        rows = [
            (
                named(row.name),
                f"{row.images:,}",
                f"{100 * row.accuracy:.2f}%",
                *([f"{100 * row.interval[0]:.1f} - {100 * row.interval[1]:.1f}"] if count > 3 else []),
                ", ".join(f"{named(name)} ({count:,})" for name, count in row.taken_for) or "nothing else",
            )
            for row in worst
        ]
        return Contents(title, header, rows, least=("images", "95% interval"), listed=("taken for",))

    show = show or console()
    show.print()
    names = [displayed(name) for row in worst for name in (row.name, *(name for name, _ in row.taken_for))]
    show_named_table(contents, names, show)


def confusion_table(evaluation: Evaluation, whole: str) -> None:
    """How often each class was taken for each: a matrix where there is room for it, else the pairs that are confused most,
    and ``whole``, the file that has all of it."""
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
            room = most_room(made, show.width, LEAST_NAME if columns is places else longest, longest)
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
    for line in wrapped("the whole matrix:", show.width):
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
        f"note: {first}{f' and {len(others):,} more (--csv names each)' if others else ''}: {note}"
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


def suspects_table(suspects: Suspects) -> None:
    """A row per image, with names shortened to what there is room for."""
    names = [displayed(name) for one in suspects.found for name in (one.name, one.true_class, one.taken_for)]

    def contents(room: int) -> Contents:
        return suspects.named(lambda name: shortened_within(displayed(name), room))

    show_named_table(contents, names, console())


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
