"""Boxes of a random area and aspect ratio in an image, as random resized crops and random erasing draw them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_ATTEMPTS = 10


def draw_boxes(
    rng: np.random.Generator, count: int, size: tuple[int, int], area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Heights and widths (count, 2) in pixels, not whole, of boxes that fit into an image of ``size`` (height, width); and for
    each, whether a box was met at all.

    The share of the image's area is drawn evenly from ``area``, the ratio of width to height evenly on a logarithmic scale from
    ``ratio``, up to ten times, until the box fits. Always as many numbers are drawn, so that one image does not move the next.
    """
    height, width = size
    areas = rng.uniform(*area, (_ATTEMPTS, count)) * height * width
    ratios = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), (_ATTEMPTS, count)))
    heights, widths = np.sqrt(areas / ratios), np.sqrt(areas * ratios)
    fits = (heights <= height) & (widths <= width)
    first, each = fits.argmax(0), np.arange(count)  # the first attempt that fits
    return np.stack([heights[first, each], widths[first, each]], 1), np.logical_or.reduce(fits, 0)
