"""Whether an accuracy, or a difference of two, is more than chance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.train.evaluation import wilson_interval

_LEAST_IMAGES = 50
_FURTHER = 0.1
"""How much of the way from the accuracy of guessing to 1 an accuracy may be, for all that is known."""

_SAME_LOSS = 0.01
"""How far, relatively, a loss may be from that of guessing to be the same. The scores of a network that learned nothing differ
a little from image to image."""


def loss_of_guessing(class_sizes: np.ndarray[Any, Any]) -> float:
    """The mean cross-entropy of one who knows nothing but the shares of the classes: their entropy."""
    shares = class_sizes[class_sizes > 0] / class_sizes.sum()
    return -float((shares * np.log(shares)).sum())


def is_guessing(class_sizes: np.ndarray[Any, Any], right: int, loss: float) -> bool:
    """Whether a network with ``right`` answers and a mean ``loss`` knows no more of images than how many each class has.

    By the 95% bounds of ``wilson_interval``, its accuracy may be that of always answering the largest class, or its loss is
    that of guessing; and its accuracy is surely no tenth of the way to 1. Of less than 50 images, or one class, that is not
    said.
    """
    images, share = int(class_sizes.sum()), class_sizes.max() / class_sizes.sum()
    if images < _LEAST_IMAGES or share == 1:
        return False
    low, high = wilson_interval(right, images)
    same_loss = abs(loss / loss_of_guessing(class_sizes) - 1) < _SAME_LOSS
    return bool(high <= share + _FURTHER * (1 - share) and (low <= share or same_loss))


def newcombe_interval(right: int, images: int, other_right: int, other_images: int) -> tuple[float, float]:
    """95% bounds of the difference of two accuracies, ``right`` of ``images`` minus ``other_right`` of ``other_images``.

    It takes the images for two samples. Where both networks saw the same images, which are easy or hard for both, it is wider
    than it need be: McNemar's test sees smaller differences. R. G. Newcombe, "Interval estimation for the difference between
    independent proportions", Statistics in Medicine 17 (1998), method 10, from Wilson's bounds l and u of both shares p:

        p - p' - sqrt((p - l)^2 + (u' - p')^2)  to  p - p' + sqrt((u - p)^2 + (p' - l')^2)
    """
    one, other = right / images, other_right / other_images
    (low, high), (other_low, other_high) = wilson_interval(right, images), wilson_interval(other_right, other_images)
    below = math.hypot(one - low, other_high - other)
    above = math.hypot(high - one, other - other_low)
    return one - other - below, one - other + above


def mcnemar(only_one: int, only_other: int) -> float:
    """The p-value of McNemar's test in its exact form, two-sided, for networks that judged the same images.

    ``only_one`` images are right by one network alone, ``only_other`` by the other alone. If both were equally good, each such
    image would be of either kind with probability 1/2. Q. McNemar, "Note on the sampling error of the difference between
    correlated proportions or percentages", Psychometrika 12 (1947).
    """
    total, fewer = only_one + only_other, min(only_one, only_other)
    count, term = 0, 1
    for k in range(fewer + 1):
        count += term  # the binomial coefficients of ``total`` over 0 to ``fewer``
        term = term * (total - k) // (k + 1)
    shift = max(0, total - 1 - 1000)  # integers of Python do not overflow, floats do
    return min(1.0, (count >> shift) / (1 << (total - 1 - shift))) if total else 1.0
