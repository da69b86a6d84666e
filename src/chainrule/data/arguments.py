"""Checks of arguments that every part of chainrule.data shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.arguments import real_number, whole_number
from chainrule.errors import UserError, unknown_value

SPLITS = ("train", "test")


def check_split(split: str) -> str:
    """Return ``split`` if it is "train" or "test"; UserError otherwise."""
    if split not in SPLITS:
        raise unknown_value("split", split, SPLITS)
    return split


def height_and_width(what: str, size: object) -> tuple[int, int]:
    """Return ``size``, a pair (height, width) in pixels, as two ints; UserError if it is no such pair."""
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise UserError(f"{what} is {size!r}: expected (height, width) in pixels")
    return whole_number(f"height in {what}", size[0], 1), whole_number(f"width in {what}", size[1], 1)


def check_batch(transform: str, images: Any) -> None:
    """UserError, which begins with the name of the transform, unless ``images`` is a batch (B, C, H, W), uint8 or float32."""
    if images.ndim != 4 or images.dtype not in (np.uint8, np.float32):
        raise UserError(
            f"{transform}: got {images.dtype} of shape {images.shape}: expected uint8 or float32 images (B, C, H, W)"
        )


def probability_of(transform: str, value: object) -> float:
    """``value`` as a float, if it is a probability; a UserError that names the transform otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"probability of {transform} is {value!r}: expected a number from 0 to 1")
    return float(value)


def bounds_of(what: str, values: Sequence[float], most: float = math.inf) -> tuple[float, float]:
    """``values``, the least and the most of a quantity, as two floats above 0 and at most ``most``; UserError otherwise."""
    pair = values if isinstance(values, tuple | list) and len(values) == 2 else (0, 0)
    low, high = (real_number(what, value) for value in pair)
    if not 0 < low <= high <= most or not math.isfinite(high):
        limit = "above 0" if most == math.inf else f"above 0 and at most {most:g}"
        raise UserError(f"{what} is {values!r}: expected two numbers {limit}, the least and the most")
    return low, high
