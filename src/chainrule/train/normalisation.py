"""By which mean and standard deviation images are normalised: their own, those that weights were trained with, or others.

Weights that a training begins with were trained on images that were normalised in one way, and frozen layers cannot get used to
another. So the training goes on in that way: of the weights of a run as the run did, and of the weights of others, for images
in colour, as torchvision, timm and Keras' ports of their networks do, by mean and standard deviation of ImageNet.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from chainrule.errors import UserError
from chainrule.formats import WeightFile
from chainrule.train.checkpoint import is_checkpoint, is_model, weights_description

IMAGES, IMAGENET = "images", "imagenet"


class MeanStd(NamedTuple):
    """Mean and standard deviation of each channel, of pixels from 0 to 1."""

    mean: list[float]
    std: list[float]


OF_IMAGENET = MeanStd([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
"""Those of the images that the weights of others are trained on."""


def read_normalise(normalise: str) -> MeanStd | None:
    """What the option says; None for the images' own.

    Raises:
        UserError: it is neither a known word nor MEAN/STD.
    """
    if normalise in ("", IMAGES):
        return None
    if normalise == IMAGENET:
        return OF_IMAGENET
    mean, _, std = normalise.partition("/")
    try:
        found = MeanStd(*([float(number) for number in part.split(",")] for part in (mean, std)))
    except ValueError:
        found = MeanStd([], [])
    fits = all(map(math.isfinite, found.mean + found.std)) and min(found.std, default=0) > 0
    if not fits or len(found.mean) != len(found.std):
        raise UserError(
            "normalise must be images, imagenet, or MEAN/STD of pixels from 0 to 1, with one number or one for each channel, "
            f"such as 0.5/0.5 or 0.49,0.48,0.45/0.2,0.2,0.2, got {normalise!r}"
        )
    return found


def chosen_mean_std(normalise: str, own: MeanStd) -> MeanStd:
    """The mean and standard deviation that an option chooses for images whose ``own`` are these.

    Raises:
        UserError: it is for images of another number of channels.
    """
    found, channels = read_normalise(normalise), len(own.mean)
    if found is None:
        return own
    if len(found.mean) == 1:
        return MeanStd(found.mean * channels, found.std * channels)
    if len(found.mean) != channels:
        mode = {1: "L", 3: "RGB"}.get(len(found.mean))
        hint = f": --image-mode {mode} reads a folder's images so" if mode else ""
        raise UserError(f"normalise {normalise} is for images of {len(found.mean)} channels, these have {channels}{hint}")
    return found


def written(found: MeanStd) -> str:
    """Numbers as the option takes them, exactly."""
    return "/".join(",".join(map(repr, part)) for part in found)


def normalise_of_weights(path: str) -> str:
    """How the images of a training that begins with the weights of a file are normalised, where nobody says.

    Raises:
        UserError: the file cannot be read.
    """
    file = WeightFile(path)
    if is_model(file.metadata) or is_checkpoint(file.metadata):
        facts = weights_description(file.path)
        return written(MeanStd(facts["mean"], facts["std"]))
    in_colour = any(len(shape) == 4 and shape[1] == 3 for shape in file.shapes.values())  # its first convolution
    return IMAGENET if in_colour else IMAGES


def how_normalised(found: MeanStd) -> str:
    """How images are normalised, in words that follow "images are"."""
    if found == OF_IMAGENET:
        return "normalised as those of ImageNet"
    if set(found.mean) == {0.0} and set(found.std) == {1.0}:
        return "not normalised"
    mean, std = (", ".join(f"{number:.4g}" for number in part) for part in found)
    return f"normalised by mean {mean} and standard deviation {std}"


def in_words(normalise: str) -> str:
    """How images are normalised, in a sentence; nothing if it is by their own mean and standard deviation, as usual."""
    found = read_normalise(normalise)
    return "" if found is None else f"images are {how_normalised(found)}"
