"""The data of a run: whether training and test images fit each other, and what tells them from others."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.arguments import explained
from chainrule.data import ArrayDataset, Dataset, Normalize
from chainrule.data.sampling import evenly_drawn
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.models.own import scores_of
from chainrule.nn import Module
from chainrule.tensor import no_grad, placeholder, tracing
from chainrule.train.config import Config

_MOST_SHOWN = 2_000
"""Training images that a model may take its initial values from."""


def prepared(config: Config, training: Dataset, test: Dataset) -> Dataset:
    """The training images that a configuration takes; a UserError if they and the test images do not fit each other."""
    everything, training = training, limited(training, config.limit)
    if training.image_shape != test.image_shape:
        raise UserError(
            f"training images are {training.image_shape} (C, H, W), test images {test.image_shape}: they must be alike"
        )
    if list(test.classes) != list(training.classes):
        differ = difference(training.classes, test.classes)
        raise UserError(f"{training.name} and {test.name} have different classes: {differ}")
    if not 0 < len(everything) <= config.limit:  # what was limited before it was read may lack a class
        _check_test_labels(everything, test)
    if len(training.classes) < 2:
        single = "".join(f", '{displayed(name)}'" for name in training.classes)
        raise UserError(f"{training.name} has a single class{single}: a classifier needs at least 2")
    return training


def check_scores(model: Module, name: str, image_shape: tuple[int, int, int], classes: int) -> None:
    """UserError unless ``model`` gives a score for each class, found by a trace that computes nothing."""
    with tracing(), no_grad(), model.evaluating():
        shape = scores_of(model, name, placeholder((2, *image_shape), next(model.parameters()).dtype)).shape
    if shape != (2, classes):
        images = " x ".join(map(str, image_shape))
        given = f"(N, {', '.join(map(str, shape[1:]))})" if shape[:1] == (2,) else str(shape)
        raise UserError(
            f"model {displayed(name)} gives scores {given} for N images of {images}, and there are {classes} classes: its last "
            f"layer must give (N, {classes})"
        )


def initialise_from(model: Module, training: Dataset, normalise: Normalize) -> None:
    """Show training images to a model that takes its initial values from them, by a method ``initialise_from(images)``.

    It gets at most 2,000 of them, drawn evenly: normalised (N, C, H, W), neither moved nor mirrored.
    """
    method = getattr(model, "initialise_from", None)
    if callable(method):
        count = min(len(training), _MOST_SHOWN)
        method(normalise(training.images(evenly_drawn(count, len(training))), np.random.default_rng(0)))


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
