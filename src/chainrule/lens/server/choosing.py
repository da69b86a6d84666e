"""The subject that a person means in Python: a run, a model with or without what its training noted, and one image for it."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np

from chainrule.arguments import as_whole
from chainrule.errors import UserError
from chainrule.graph import Array
from chainrule.lens.exported_page import ExportedPage
from chainrule.lens.server.export import exported
from chainrule.lens.server.refusals import Refusal
from chainrule.lens.server.subject import Subject
from chainrule.nn import Module
from chainrule.tensor import Tensor, no_grad, tensor
from chainrule.train import RunFolder, TrainedModel

_REMEDY = "give the folder of a run, a TrainedModel, or a model (a Module) together with an image"


def page_of_subject(shown: Any, image: Any, label: int | None) -> ExportedPage:
    """What ``lens.page`` gives; see there."""
    try:
        return _page(shown, image, label)
    except Refusal as refusal:  # which is said to a person here, and not to a browser
        raise UserError(f"{refusal.error} {refusal.hint}".rstrip()) from None


def _page(shown: Any, image: Any, label: int | None) -> ExportedPage:
    subject = _subject_of(shown, image)
    if image is None:
        if label is not None:
            raise UserError("page: a label belongs to an image of your own: give the image too")
        return ExportedPage(subject.title, exported(subject))
    number = as_whole(image)
    if number is not None or isinstance(image, str | os.PathLike):
        if label is not None:
            raise UserError("page: a label is given with an array of pixels; test images have theirs, and files have none")
        return ExportedPage(subject.title, exported(subject, subject.show(os.fspath(image) if number is None else str(number))))
    return ExportedPage(subject.title, exported(subject, subject.show_pixels(image, label)))


def _subject_of(shown: Any, image: Any) -> Subject:
    if shown is None:
        return Subject.shipped()
    if isinstance(shown, TrainedModel):
        return Subject.of_model(shown)
    if isinstance(shown, Module):
        return Subject.of_model(_as_trained(shown, image))
    if isinstance(shown, RunFolder):
        return Subject.of_run(shown)
    if isinstance(shown, str | os.PathLike):
        return Subject.of_run(RunFolder.open(shown))
    raise UserError(f"page: there is nothing to show of a {type(shown).__name__}: {_REMEDY}")


def _as_trained(model: Module, image: Any) -> TrainedModel:
    """A copy of a model that nobody noted anything about, for images of the shape of this one, which it gets as they are."""
    name = type(model).__name__
    pixels = None if image is None or isinstance(image, str | os.PathLike) or as_whole(image) is not None else _array(image)
    if pixels is None or pixels.ndim != 3:
        got = "none" if image is None else f"the shape {list(pixels.shape)}" if pixels is not None else repr(image)
        raise UserError(
            f"page: a {name} by itself does not say which images it takes: give image as an array (channels, height, width), "
            f"got {got}"
        )
    own = copy.deepcopy(model).eval()
    dtype = next((parameter.dtype for parameter in own.parameters()), "float32")
    with no_grad():
        scores = own(tensor((pixels[np.newaxis] / 255 if pixels.dtype == np.uint8 else pixels[np.newaxis]).astype(dtype)))
    if not isinstance(scores, Tensor) or scores.ndim != 2 or scores.shape[0] != 1:
        got = f"the shape {list(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise UserError(f"page: {name} gives {got} for an image, where scores [1, classes] were expected, one a class")
    facts = {
        "classes": [str(number) for number in range(scores.shape[1])],
        "image_shape": pixels.shape,
        "mean": [0.0] * pixels.shape[0],
        "std": [1.0] * pixels.shape[0],
        "dtype": str(dtype),
    }
    return TrainedModel(own, facts, f"the model {name}", named=False)


def _array(image: Any) -> Array:
    try:
        return np.asarray(image.numpy() if isinstance(image, Tensor) else image)
    except ValueError:
        raise UserError("an image is an array of numbers (channels, height, width), with rows of equal lengths") from None
