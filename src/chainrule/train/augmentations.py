"""What ``--augment`` means: a text such as "flip,crop=4,erase=0.25" as transforms of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from chainrule.arguments import written_whole
from chainrule.data import (
    AlternatingFlip,
    ColorJitter,
    Cutout,
    Normalize,
    RandomCrop,
    RandomErasing,
    RandomResizedCrop,
    RandomShift,
    Transform,
)
from chainrule.errors import UserError, unknown_value

Size = tuple[int, int]

_LEAST_SIDE = 4
"""Amounts of pixels may always go up to this, even if the images are smaller."""


@dataclass(frozen=True)
class _Kind:
    """A transform that has a name: ``make(amount, size)`` gives it for images of a size, ``usual`` is the amount by default.

    ``erases``: it puts zeros where pixels were, so it is applied after normalising, when 0 is the mean. ``mirrors``: the amount
    is that of a border which mirrors the image, so it has to be less than a side.
    """

    make: Callable[[float, Size], Transform]
    usual: float
    most: float = math.inf
    erases: bool = False
    mirrors: bool = False

    @property
    def in_pixels(self) -> bool:
        """Whether the amount is a whole number of pixels, and not a share."""
        return self.most == math.inf and isinstance(self.usual, int)


_KINDS = {
    "shift": _Kind(lambda amount, _: RandomShift(int(amount)), 1),
    "flip": _Kind(lambda amount, _: AlternatingFlip(), 0),
    "crop": _Kind(lambda amount, size: RandomCrop(size, padding=int(amount)), 4),
    "mirror": _Kind(lambda amount, size: RandomCrop(size, padding=int(amount), padding_mode="reflect"), 4, mirrors=True),
    "resized": _Kind(lambda amount, size: RandomResizedCrop(size, scale=(amount, 1.0)), 0.35, most=1),
    "jitter": _Kind(lambda amount, _: ColorJitter(amount, amount, amount), 0.2, most=10),
    "cutout": _Kind(lambda amount, _: Cutout(int(amount)), 8, erases=True),
    "erase": _Kind(lambda amount, _: RandomErasing(amount), 0.25, most=1, erases=True),
}

AUGMENTATIONS = ("auto", "none", *_KINDS)


def transforms(augment: str, image_shape: tuple[int, int, int], normalise: Normalize) -> list[Transform]:
    """All that is done to a batch of images (C, H, W): what ``augment`` says, and between that ``normalise``.

    "auto" is a shift by a pixel for grey images, and flip and crop for colour ones; "none" is nothing. What erases comes after
    normalising, where 0 is the mean of all images.
    """
    if augment == "none":
        return [normalise]
    if augment == "auto":
        augment = "shift=1" if image_shape[0] == 1 else "flip,crop=4"
    made = parse_augmentations(augment, image_shape[1:])
    before = [transform for transform, erases in made if not erases]
    return [*before, normalise, *(transform for transform, erases in made if erases)]


def check_augment(augment: str) -> None:
    """UserError unless ``augment`` is "auto", "none" or a list of known names with fitting amounts."""
    if augment not in ("auto", "none"):
        parse_augmentations(augment)


def parse_augmentations(spec: str, size: Size | None = None) -> list[tuple[Transform, bool]]:
    """``shift=2,flip,crop=4`` as transforms for images of ``size``, each with whether it erases; without a size, only what is
    written is checked."""
    found: list[tuple[Transform, bool]] = []
    for part in map(str.strip, spec.split(",")):
        name, _, written = part.partition("=")
        if name in ("auto", "none"):
            raise UserError(f"augmentation {name!r} stands alone, got {spec!r}: leave it out, or pass it by itself")
        if not part:
            raise UserError(f"augment has an empty place, got {spec!r}: leave out the comma that is too much")
        if name not in _KINDS:
            raise unknown_value("augmentation", part, AUGMENTATIONS)
        kind = _KINDS[name]
        if name == "flip" and written:
            raise UserError(f"augmentation flip takes no number, got {part!r}")
        amount = _amount(part, name, kind, written)
        if kind.mirrors and size is not None and amount >= min(size):
            raise UserError(
                f"augmentation {part!r}: images of {size[0]} x {size[1]} pixels can be mirrored by at most {min(size) - 1} "
                f"pixels beyond their border, for example {name}={min(2, min(size) - 1)}"
            )
        if kind.in_pixels and size is not None and amount > max(_LEAST_SIDE, *size):
            does = "covers more than" if kind.erases else "moves"
            beyond = "" if kind.erases else " beyond their own size"
            raise UserError(
                f"augmentation {part!r} {does} images of {size[0]} x {size[1]} pixels{beyond}: "
                f"give at most {max(_LEAST_SIDE, *size)}, for example {name}=2"
            )
        found.append((kind.make(amount, size or (1, 1)), kind.erases))
    return found


def _amount(part: str, name: str, kind: _Kind, written: str) -> float:
    """The amount that is written behind a name, or the usual one."""
    if not written:
        return kind.usual
    if kind.in_pixels:
        pixels = written_whole(written)
        if pixels is None or (kind.erases and pixels == 0):
            least = ", and at least 1" if kind.erases else ""
            raise UserError(f"augmentation {part!r}: the number of pixels must be whole{least}, for example {name}=2")
        return pixels
    try:
        amount = float(written)
    except ValueError:
        amount = math.nan
    least_included = name == "jitter"  # an area of 0 cannot be cut out, and a transform that never erases is left out
    if not 0 <= amount <= kind.most or (amount == 0 and not least_included):
        low = "from 0" if least_included else "above 0"
        raise UserError(
            f"augmentation {part!r}: the amount must be a number {low} to {kind.most:g}, for example {name}={kind.usual:g}"
        )
    return amount
