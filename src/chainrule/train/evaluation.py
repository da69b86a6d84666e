"""How good a model is on a data set: loss, accuracy, and which classes it takes for which."""

from __future__ import annotations

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


@dataclass(frozen=True, repr=False)
class Evaluation(Table):
    """``confusion[i, j]`` images of class i were taken for class j. Prints as a table, the worst class first."""

    loss: float
    confusion: Matrix
    classes: Sequence[str]

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

    def worst_classes(self, count: int = 3) -> list[Confusion]:
        """The classes with the lowest accuracy, worst first; classes without an image are left out."""
        rows = []
        for i, name in enumerate(self.classes):
            total = int(self.confusion[i].sum())
            if not total:
                continue
            others = [(self.classes[j], int(n)) for j, n in enumerate(self.confusion[i]) if n and j != i]
            others.sort(key=lambda pair: -pair[1])
            rows.append(Confusion(name, total, float(self.confusion[i, i]) / total, tuple(others[:3])))
        return sorted(rows, key=lambda row: row.accuracy)[:count]


Judge = Callable[[Matrix, Matrix], tuple[Tensor, Tensor]]
"""Images and labels of a batch to the sum of its losses, and the class it takes each image for."""


def scores_of(model: Module, images: Tensor, flip_test: bool) -> Tensor:
    """What ``model`` says of images (N, C, H, W): scores (N, classes). With ``flip_test``, the mean of those for the images as
    they are and for the images mirrored left to right."""
    scores: Tensor = model(images)
    return (scores + model(images[..., ::-1])) * 0.5 if flip_test else scores


@explained
def judge(model: Module, contraction: str = "float32", flip_test: bool = False) -> Judge:
    """A compiled function that judges a batch by ``model``; ``flip_test`` is that of ``scores_of``."""

    @compile
    def judged(images: Any, labels: Any) -> tuple[Tensor, Tensor]:
        with no_grad(), precision(contraction):
            scores = scores_of(model, images, flip_test)
            return F.cross_entropy(scores, labels, reduction="sum"), scores.argmax(1)

    return judged


@explained
def evaluate(
    model: Module, loader: Loader, judged_by: Judge | None = None, on_batch: Callable[[int], None] | None = None
) -> Evaluation:
    """Run ``model`` in evaluation mode over one epoch of ``loader``; the flags of its layers are put back afterwards."""
    judged_by = judged_by or judge(model)
    classes = loader.dataset.classes
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    total = 0.0
    dtype = next(model.parameters()).dtype
    with model.evaluating():
        for images, labels in loader:
            loss, found = judged_by(images.astype(dtype, copy=False), labels)
            total += loss.item()
            np.add.at(confusion, (labels, found.numpy()), 1)
            if on_batch is not None:
                on_batch(len(labels))
    return Evaluation(total / int(confusion.sum()), confusion, classes)
