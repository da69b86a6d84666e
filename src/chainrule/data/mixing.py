"""Images of a batch mixed with one another, in pairs: the target is then a mixture of two labels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from chainrule.arguments import explained, real_number
from chainrule.data.arguments import check_batch
from chainrule.data.dataset import Images, Labels
from chainrule.errors import UserError


class Mixed(NamedTuple):
    """Images (B,C,H,W) and two labels of each (B,): the loss is ``share`` times that of ``labels``, and the rest that of
    ``others``."""

    images: Images
    labels: Labels
    others: Labels
    share: float


def _alpha(transform: str, value: object) -> float:
    number = real_number(f"alpha of {transform}", value)
    if not 0 < number < math.inf:
        raise UserError(f"alpha of {transform} is {value!r}: expected a finite number above 0")
    return number


class Mixup:
    """Each image becomes t times itself plus 1 - t times another one of the batch; t is drawn from Beta(alpha, alpha), one for
    the batch. Images are float32, normalised or not.

    Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization" (2018).
    """

    @explained
    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = _alpha("Mixup", alpha)

    def __call__(self, images: Images, labels: Labels, rng: np.random.Generator) -> Mixed:
        """Images (B,C,H,W), float32, and labels (B,) -> the mixture."""
        _check_floats("Mixup", images)
        share = rng.beta(self.alpha, self.alpha)
        order = rng.permutation(len(images))
        mixed = images * np.float32(share)
        mixed += images[order] * np.float32(1 - share)
        return Mixed(mixed, labels, labels[order], share)

    def __repr__(self) -> str:
        return f"Mixup(alpha={self.alpha})"


class CutMix:
    """A box of each image is replaced by that of another one of the batch, at the same place.

    The box has the image's proportions and 1 - t of its area, with t drawn from Beta(alpha, alpha); its middle is drawn evenly,
    and what lies outside of the image is cut off. Box and t are the same for the whole batch. Labels are mixed as the areas
    are.

    Yun et al., "CutMix: regularization strategy to train strong classifiers with localizable features" (2019).
    """

    @explained
    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _alpha("CutMix", alpha)

    def __call__(self, images: Images, labels: Labels, rng: np.random.Generator) -> Mixed:
        """Images (B,C,H,W), float32, and labels (B,) -> the mixture."""
        _check_floats("CutMix", images)
        side = math.sqrt(1 - rng.beta(self.alpha, self.alpha))
        order = rng.permutation(len(images))
        height, width = images.shape[2:]
        (top, bottom), (left, right) = (_edges(rng, length, round(side * length)) for length in (height, width))
        mixed = images.copy()
        mixed[:, :, top:bottom, left:right] = images[order, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)
        return Mixed(mixed, labels, labels[order], share)

    def __repr__(self) -> str:
        return f"CutMix(alpha={self.alpha})"


def _edges(rng: np.random.Generator, length: int, covered: int) -> tuple[int, int]:
    """Begin and end of a stretch of ``covered`` pixels around one that is drawn, cut off at 0 and ``length``."""
    begin = int(rng.integers(0, length)) - covered // 2
    return max(0, begin), max(0, min(length, begin + covered))


def _check_floats(transform: str, images: Images) -> None:
    check_batch(transform, images)
    if images.dtype != np.float32:
        raise UserError(f"{transform}: got {images.dtype} images: expected float32, as a Loader gives them")
