"""Which images of a data set a trained model finds strangest: those with the largest losses, or that pull its parameters most.

Among training images these are often wrong labels, damaged files, and rare cases.

suspects.csv   their places, files, classes, losses and gradients, the most suspicious first
suspects.png   the images themselves, the first of them
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.arguments import explained, whole_number
from chainrule.data import Dataset, Loader
from chainrule.display import displayed
from chainrule.errors import UserError, unknown_value
from chainrule.formats import cannot_write, write_atomically
from chainrule.graph.tables import Contents, Table
from chainrule.nn import Module
from chainrule.nn import functional as F
from chainrule.tensor import Tensor, compile, no_grad
from chainrule.train.chance import is_guessing
from chainrule.train.csv_lines import csv_line, harmless
from chainrule.train.diagnosis.per_sample import scored_measure
from chainrule.train.pictures.contact_sheet import Judged, contact_sheet

Array = np.ndarray[Any, Any]

ORDERS = ("loss", "gradient")
"""What images can be ordered by."""
_MOST_SHOWN = 40
"""Images on the sheet."""


@dataclass(frozen=True)
class Suspect(Judged):
    """An image, what it was taken for, its loss, and the norm of its gradient (None where that is not known)."""

    gradient: float | None = None


@dataclass(frozen=True, repr=False)
class Suspects(Table):
    """The most suspicious of ``images`` images, ordered by ``by``. Prints as a table.

    ``unknown`` says why gradients are not known; "" where they are. ``doubt`` says why the order means nothing, where the model
    is no better than chance.
    """

    found: tuple[Suspect, ...]
    images: int
    by: str
    unknown: str = ""
    doubt: str = ""

    def contents(self) -> Contents:
        """A row for each image: its rank, file or number, class, what it was taken for, loss, and norm of the gradient."""
        return self.named(displayed)

    def named(self, written: Callable[[str], str]) -> Contents:
        """The table, with names of images and classes as ``written`` gives them."""
        rows = [
            (
                str(rank),
                written(one.name),
                written(one.true_class),
                written(one.taken_for),
                f"{100 * one.probability:.0f}%",
                f"{one.loss:.3g}",
                "" if one.gradient is None else f"{one.gradient:.3g}",
            )
            for rank, one in enumerate(self.found, 1)
        ]
        title = f"The {len(self.found):,} of {self.images:,} images with the largest {self.by}"
        header = ("rank>", "image", "class", "taken for", "probability>", "loss>", "gradient>")
        return Contents(
            title, header, rows, [one for one in (self.doubt, self.unknown) if one], most=20, least=("probability", "gradient")
        )


@explained
def find_suspects(
    model: Module,
    loader: Loader,
    by: str = "loss",
    most: int = 100,
    names: Sequence[str] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Suspects:
    """The ``most`` images of ``loader``, which does not shuffle, with the largest loss or gradient.

    ``by``: "loss" or "gradient". ``names`` are those of all images, which otherwise go by their numbers in the data set;
    ``on_batch`` is told the number of images of each batch. The model is in evaluation form meanwhile.

    Raises:
        UserError: an unknown order, a loader that shuffles, or gradients that are not known and asked for.
    """
    if by not in ORDERS:
        raise unknown_value("order of suspects", by, ORDERS)
    most = whole_number("most of find_suspects", most, 1)
    if loader.shuffle:
        raise UserError("find_suspects: the loader shuffles, so that places of images mean nothing: give shuffle=False")
    unknown = ""
    try:
        measure = scored_measure(model)
    except UserError as error:
        if by == "gradient":
            raise
        unknown, measure = str(error), _losses_alone(model)
    dtype = next(model.parameters()).dtype
    kept: list[tuple[Array, ...]] = []
    with model.evaluating():
        for images, labels in loader:
            batch = images.astype(dtype, copy=False)
            scores, losses, norms = (one.numpy() for one in measure(batch, labels))
            with np.errstate(invalid="ignore"):  # an infinite score has no probability, which is then nan
                below = scores - scores.max(1, keepdims=True)  # the largest is 0: its probability is 1 / the sum of all
                largest = 1 / np.exp(below).sum(1)
            kept.append((labels, losses, norms, scores.argmax(1), largest))
            if on_batch is not None:
                on_batch(len(labels))
    labels, losses, norms, taken, probabilities = (np.concatenate(one) for one in zip(*kept, strict=True))
    order = np.argsort(-(losses if by == "loss" else norms), kind="stable")[:most]
    classes = loader.dataset.classes
    found = tuple(
        Suspect(
            place=place,
            name=str(place) if names is None else names[place],
            number=int(labels[place]),
            taken=int(taken[place]),
            true_class=classes[labels[place]],
            taken_for=classes[taken[place]],
            probability=float(probabilities[place]),
            loss=float(losses[place]),
            gradient=None if unknown else float(norms[place]),
        )
        for place in map(int, order)
    )
    return Suspects(found, len(labels), by, unknown, _doubt(labels, taken, float(losses.mean(dtype=np.float64))))


def _doubt(labels: Array, taken: Array, loss: float) -> str:
    """What is to be said where the model does no better than guess."""
    right = int((labels == taken).sum())
    if not is_guessing(np.bincount(labels), right, loss):
        return ""
    return (
        f"The model is right for {100 * right / len(labels):.2f}% of these images, no better than guessing: it learned nothing "
        "of them, or their labels are in disorder, and the order says nothing of an image."
    )


def _losses_alone(model: Module) -> Callable[[Any, Any], tuple[Tensor, Tensor, Tensor]]:
    """As ``scored_measure``, with 0 in place of norms."""

    @compile
    def measured(images: Any, labels: Any) -> tuple[Tensor, Tensor, Tensor]:
        with no_grad():
            scores = model(images)
            losses = F.cross_entropy(scores, labels, reduction="none")
            return scores, losses, losses * 0

    return measured


def write_suspects(folder: Path, suspects: Suspects, dataset: Dataset) -> None:
    """Write table and pictures into ``folder``, which is made if need be; each file is whole or as it was.

    Raises:
        UserError: the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    write_atomically(folder / "suspects.csv", _csv(suspects))
    first = suspects.found[:_MOST_SHOWN]
    title = f"The {len(first)} of {suspects.images:,} images with the largest {suspects.by}, the largest first"
    write_atomically(folder / "suspects.png", contact_sheet(title, dataset.images([one.place for one in first]), first))


def _csv(suspects: Suspects) -> str:
    lines = [["rank", "place", "image", "class", "taken_for", "probability", "loss", "gradient"]]
    for rank, one in enumerate(suspects.found, 1):
        names = [harmless(name, "'") for name in (one.true_class, one.taken_for)]
        gradient = "" if one.gradient is None else f"{one.gradient:.6g}"
        numbers = [f"{one.probability:.6g}", f"{one.loss:.6g}", gradient]
        lines.append([str(rank), str(one.place), harmless(one.name, "./"), *names, *numbers])
    return "".join(map(csv_line, lines))
