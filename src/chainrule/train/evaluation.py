"""How good a model is on a data set: loss, accuracy, and which classes it takes for which."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.arguments import explained
from chainrule.data import Loader
from chainrule.display import displayed
from chainrule.graph.tables import Contents, Table
from chainrule.nn import Module
from chainrule.nn import functional as F
from chainrule.ops import precision
from chainrule.tensor import Tensor, compile, no_grad

Matrix = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Confusion:
    """A class, how much of it was recognised, and what its other images were taken for: (class, how many)."""

    name: str
    images: int
    accuracy: float
    taken_for: tuple[tuple[str, int], ...]
    interval: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class ClassAccuracy:
    """A class: how many images it has, and how many of them are ``right``; without images, ``accuracy`` is None."""

    name: str
    images: int
    right: int

    @property
    def accuracy(self) -> float | None:
        """The share of right answers."""
        return self.right / self.images if self.images else None

    @property
    def interval(self) -> tuple[float, float]:
        """The bounds of the accuracy, by ``wilson_interval``."""
        return wilson_interval(self.right, self.images)


@dataclass(frozen=True)
class Answers:
    """What was said of each image (N,), in the order of the data set: its label, the class that it was taken for, the
    probability of that class, and the loss, all of images alone."""

    labels: Matrix
    taken: Matrix
    probabilities: Matrix
    losses: Matrix


@explained
def wilson_interval(right: int, images: int, z: float = 1.959964) -> tuple[float, float]:
    """Bounds of the share of right answers that a network has of all images of a kind, seen from ``right`` of ``images``.

    By default they hold it with 95% confidence: ``z`` is the quantile of the normal distribution. Unlike the usual p +- z s
    they stay within 0 and 1 and are of use for few images, where all or none is right. E. B. Wilson, Probable inference, the
    law of succession, and statistical inference, Journal of the American Statistical Association 22 (1927), 209-212:

        (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    """
    if not images:
        return 0.0, 1.0
    share, squared = right / images, z * z / images
    middle = share + squared / 2
    half = z * math.sqrt(share * (1 - share) / images + squared / images / 4)
    low, high = (middle - half) / (1 + squared), (middle + half) / (1 + squared)
    return (0.0 if right == 0 else low), (1.0 if right == images else high)


@dataclass(frozen=True, repr=False)
class Evaluation(Table):
    """``confusion[i, j]`` images of class i were taken for class j. Prints as a table, the worst class first.

    ``answers`` are those for each image, if they were to be kept.
    """

    loss: float
    confusion: Matrix
    classes: Sequence[str]
    answers: Answers | None = None

    def contents(self) -> Contents:
        """One row for each class, the worst first: its share of right answers, and what it was taken for."""
        title = f"loss {self.loss:.4f}, accuracy {100 * self.accuracy:.2f}% of {self.images:,} images"
        rows = [
            (
                displayed(one.name),
                f"{one.images:,}",
                f"{100 * one.accuracy:.2f}",
                ", ".join(f"{displayed(name)} ({count:,})" for name, count in one.taken_for),
            )
            for one in self.worst_classes(len(self.classes))
        ]
        return Contents(title, ("class", "images>", "right, %>", "taken for"), rows, most=20, listed=("taken for",))

    @property
    def images(self) -> int:
        """How many images were judged."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """How many of them were taken for what they are."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The bounds of the accuracy, by ``wilson_interval``."""
        return wilson_interval(self.correct, self.images)

    def by_class(self) -> list[ClassAccuracy]:
        """The figures of each class, in the order of the classes."""
        totals = self.confusion.sum(axis=1)
        return [ClassAccuracy(name, int(totals[i]), int(self.confusion[i, i])) for i, name in enumerate(self.classes)]

    def worst_classes(self, count: int = 3) -> list[Confusion]:
        """The classes with the lowest accuracy, worst first; classes without an image are left out."""
        rows = []
        for i, name in enumerate(self.classes):
            total = int(self.confusion[i].sum())
            if not total:
                continue
            others = [(self.classes[j], int(n)) for j, n in enumerate(self.confusion[i]) if n and j != i]
            others.sort(key=lambda pair: -pair[1])
            right = int(self.confusion[i, i])
            rows.append(Confusion(name, total, right / total, tuple(others[:3]), wilson_interval(right, total)))
        return sorted(rows, key=lambda row: row.accuracy)[:count]


Judge = Callable[[Matrix, Matrix], tuple[Tensor, Tensor, Tensor]]
"""Images and labels of a batch to the loss of each image, the class it is taken for, and the probability of that class."""


def scores_of(model: Module, images: Tensor, flip_test: bool) -> Tensor:
    """What ``model`` says of images (N, C, H, W): scores (N, classes). With ``flip_test``, the mean of those for the images as
    they are and for the images mirrored left to right."""
    scores: Tensor = model(images)
    return (scores + model(images[..., ::-1])) * 0.5 if flip_test else scores


@explained
def judge(model: Module, contraction: str = "float32", flip_test: bool = False) -> Judge:
    """A compiled function that judges a batch by ``model``; ``flip_test`` is that of ``scores_of``."""

    @compile
    def judged(images: Any, labels: Any) -> tuple[Tensor, Tensor, Tensor]:
        with no_grad(), precision(contraction):
            scores = scores_of(model, images, flip_test)
            losses = F.cross_entropy(scores, labels, reduction="none")
            return losses, scores.argmax(1), F.softmax(scores, 1).max(1)

    return judged


@explained
def evaluate(
    model: Module,
    loader: Loader,
    judged_by: Judge | None = None,
    on_batch: Callable[[int], None] | None = None,
    keep_answers: bool = False,
) -> Evaluation:
    """Run ``model`` in evaluation mode over one epoch of ``loader``; the flags of its layers are put back afterwards.

    ``on_batch`` is told the number of images of each batch. With ``keep_answers`` the evaluation has those for each image, in
    the order in which ``loader`` gives them.
    """
    judged_by = judged_by or judge(model)
    classes = loader.dataset.classes
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    total = 0.0
    kept: list[tuple[Matrix, ...]] = []
    dtype = next(model.parameters()).dtype
    with model.evaluating():
        for images, labels in loader:
            losses, taken, probabilities = (one.numpy() for one in judged_by(images.astype(dtype, copy=False), labels))
            total += float(losses.sum(dtype=np.float64))
            np.add.at(confusion, (labels, taken), 1)
            if keep_answers:
                kept.append((labels, taken, probabilities, losses))
            if on_batch is not None:
                on_batch(len(labels))
    answers = Answers(*(np.concatenate(one) for one in zip(*kept, strict=True))) if keep_answers else None
    return Evaluation(total / int(confusion.sum()), confusion, classes, answers)
