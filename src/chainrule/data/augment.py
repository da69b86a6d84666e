"""Batch transforms: callables ``(images (B,C,H,W), rng) -> images`` that a Loader applies in order.

Each takes uint8 (0 to 255) or float32 images and does not change its argument; what is random is drawn from ``rng`` alone.
Put RandomCrop and RandomShift before Normalize: what they fill in is 0, which is black before and the mean after it. Others
are in files of their own: ``resizing`` (RandomResizedCrop), ``colors`` (ColorJitter), ``erasing`` (Cutout, RandomErasing),
and ``mixing`` (Mixup and CutMix, which change labels too).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chainrule.arguments import explained, explained_methods, whole_number
from chainrule.data.arguments import check_batch, height_and_width, probability_of
from chainrule.data.dataset import Dataset, Images
from chainrule.data.sampling import coins, evenly_drawn
from chainrule.errors import UserError, unknown_value

Transform: TypeAlias = Callable[[Images, np.random.Generator], Images]

_PADDING_MODES = ("constant", "reflect")
_MOST_MEASURED = 10_000
_CHUNK = 500


class Normalize:
    """Subtract the mean and divide by the standard deviation, per channel: float32 (B,C,H,W).

    uint8 images are first scaled to 0..1, so ``mean`` and ``std`` are on that scale; float32 images are taken as they
    are. ``mean`` and ``std`` have a number for each channel; for a single channel they may be plain numbers.

    Raises:
        UserError: lengths differ, a value is not finite, a std is not above 0; when called, the number of channels does
            not fit, or uint8 images meet a mean or std on the scale 0 to 255.
    """

    @explained
    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = _per_channel("mean", mean), _per_channel("std", std)
        if len(self.mean) != len(self.std):
            raise UserError(f"Normalize: {len(self.mean)} means but {len(self.std)} stds: give one of each per channel")
        for channel, value in enumerate(self.std):
            if value <= 0:
                raise UserError(f"Normalize: std of channel {channel} is {value}: it must be above 0")

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """(x - mean) / std for each channel: (B,C,H,W) -> float32 of the same shape."""
        check_batch("Normalize", images)
        if images.shape[1] != len(self.mean):
            raise UserError(f"Normalize: {len(self.mean)} means, but the images have {images.shape[1]} channels")
        mean, std = (np.array(values)[:, np.newaxis, np.newaxis] for values in (self.mean, self.std))
        if images.dtype == np.uint8:
            if max(*self.mean, *self.std) > 1:
                raise UserError(
                    f"Normalize: mean {self.mean} and std {self.std} are for images scaled to 0..1: divide them by 255"
                )
            mean, std = 255 * mean, 255 * std
        result = np.subtract(images, mean.astype(np.float32), dtype=np.float32)
        result /= std.astype(np.float32)
        return result

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


class RandomCrop:
    """Pad each image by ``padding`` pixels on all sides, then cut out ``size`` at a place drawn evenly: (B,C,*size).

    ``size`` is (height, width) in pixels, or one number for both. ``padding_mode`` is "constant", for a border of zeros, or
    "reflect", for one that mirrors the image without repeating its outermost pixels.

    Raises:
        UserError: sizes that are not positive, an unknown mode; when called, images that are smaller than ``size`` even with
            the padding, or too small to be mirrored so far.
    """

    @explained
    def __init__(self, size: int | tuple[int, int], padding: int = 0, padding_mode: str = "constant") -> None:
        pair = size if isinstance(size, tuple | list) else (size, size)
        self.size = height_and_width("size of RandomCrop", pair)
        self.padding = whole_number("padding of RandomCrop", padding, 0)
        if padding_mode not in _PADDING_MODES:
            raise unknown_value("padding_mode of RandomCrop", padding_mode, _PADDING_MODES)
        self.padding_mode = padding_mode

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """A cut-out of each padded image: (B,C,H,W) -> (B,C,*size)."""
        check_batch("RandomCrop", images)
        (height, width), padding = self.size, self.padding
        spare_rows = images.shape[2] + 2 * padding - height
        spare_columns = images.shape[3] + 2 * padding - width
        if spare_rows < 0 or spare_columns < 0:
            raise UserError(
                f"RandomCrop: cannot cut {height}×{width} out of images of {images.shape[2]}×{images.shape[3]} "
                f"with padding {padding}"
            )
        top = rng.integers(0, spare_rows + 1, len(images))
        left = rng.integers(0, spare_columns + 1, len(images))
        return _cut(images, top, left, self.size, self._padded(images))

    def _padded(self, images: Images) -> Images:
        """The images with their border."""
        padding, sides = self.padding, images.shape[2:]
        if self.padding_mode == "constant" or not padding:
            return _with_zeros(images, padding)
        if padding >= min(sides):
            raise UserError(
                f"RandomCrop: images of {sides[0]}×{sides[1]} cannot be mirrored {padding} pixels beyond their border: "
                f"give a padding of at most {min(sides) - 1}"
            )
        return np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)), mode="reflect")

    def __repr__(self) -> str:
        mode = "" if self.padding_mode == "constant" else f", padding_mode={self.padding_mode!r}"
        return f"RandomCrop(size={self.size}, padding={self.padding}{mode})"


class RandomFlip:
    """Mirror each image left to right with the given probability."""

    @explained
    def __init__(self, probability: float = 0.5) -> None:
        self.probability = probability_of("RandomFlip", probability)

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """Some of the images mirrored: (B,C,H,W) -> the same shape."""
        check_batch("RandomFlip", images)
        return _mirrored(images, rng.random(len(images)) < self.probability)

    def __repr__(self) -> str:
        return f"RandomFlip(probability={self.probability})"


@explained_methods
class AlternatingFlip:
    """Mirror each image left to right in every other epoch; in which ones is drawn for each image.

    So two epochs in a row show each image once as it is and once mirrored, where RandomFlip shows half of them the same way
    twice (Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024). Outside of a Loader, where there are no epochs, it
    is RandomFlip.
    """

    @explained
    def __init__(self) -> None:
        pass

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """Half of the images mirrored, drawn from ``rng``: (B,C,H,W) -> the same shape."""
        check_batch("AlternatingFlip", images)
        return _mirrored(images, rng.random(len(images)) < 0.5)

    def in_epoch(self, images: Images, numbers: NDArray[np.int64], seed: int, epoch: int) -> Images:
        """The images whose turn it is mirrored: (B,C,H,W) -> the same shape.

        ``numbers`` (B,) are those of the images in their data set; ``epoch`` is counted from 0.
        """
        check_batch("AlternatingFlip", images)
        return _mirrored(images, coins(seed, numbers) ^ (epoch % 2 == 1))

    def __repr__(self) -> str:
        return "AlternatingFlip()"


def _mirrored(images: Images, chosen: NDArray[np.bool_]) -> Images:
    result = images.copy()
    result[chosen] = images[chosen, :, :, ::-1]
    return result


class RandomShift:
    """Move each image by up to ``pixels`` whole pixels, vertically and horizontally; the pixels that this uncovers become 0."""

    @explained
    def __init__(self, pixels: int) -> None:
        self.pixels = whole_number("pixels of RandomShift", pixels, 0)

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """Each image moved by a few pixels: (B,C,H,W) -> the same shape."""
        check_batch("RandomShift", images)
        down = rng.integers(-self.pixels, self.pixels + 1, len(images))
        right = rng.integers(-self.pixels, self.pixels + 1, len(images))
        size = (images.shape[2], images.shape[3])
        return _cut(images, self.pixels - down, self.pixels - right, size, _with_zeros(images, self.pixels))

    def __repr__(self) -> str:
        return f"RandomShift(pixels={self.pixels})"


@explained
def mean_std(dataset: Dataset) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, for ``Normalize``, measured on at most 10,000 images drawn evenly.

    uint8 images are measured on the scale 0..1, float32 images as they are. A channel that is the same everywhere gets a
    standard deviation of 1, so that normalising it gives 0.
    """
    measured = min(len(dataset), _MOST_MEASURED)
    indices = evenly_drawn(measured, len(dataset))
    channels, height, width = dataset.image_shape
    count = measured * height * width
    shift = np.zeros((1, channels, 1, 1))
    total, squares = np.zeros(channels), np.zeros(channels)
    scale = 1.0
    for start in range(0, measured, _CHUNK):
        images = dataset.images(indices[start : start + _CHUNK])
        if images.dtype == np.uint8:
            scale = 255.0
        if start == 0:
            # Differences from a typical value are summed: squares of large values that are nearly equal would lose digits.
            shift = images.mean(axis=(0, 2, 3), dtype=np.float64, keepdims=True)
        difference = images - shift
        total += difference.sum(axis=(0, 2, 3))
        squares += np.einsum("bchw,bchw->c", difference, difference)
    offset = total / count
    mean = (shift.ravel() + offset) / scale
    std = np.sqrt(np.maximum(squares / count - offset**2, 0)) / scale
    return mean.tolist(), np.where(std > 0, std, 1.0).tolist()


def _with_zeros(images: Images, padding: int) -> Images:
    """The images with a border of so many zeros."""
    count, channels, rows, columns = images.shape
    padded = np.zeros((count, channels, rows + 2 * padding, columns + 2 * padding), images.dtype)
    padded[:, :, padding : padding + rows, padding : padding + columns] = images
    return padded


def _cut(images: Images, top: NDArray[np.int64], left: NDArray[np.int64], size: tuple[int, int], padded: Images) -> Images:
    """A window of ``size`` of each of the ``padded`` images; its corner is at ``top``, ``left`` (B,), in padded pixels."""
    height, width = size
    result = np.empty((*images.shape[:2], height, width), images.dtype)
    # Copying image by image is faster than indexing all at once, as each copy moves whole rows.
    for image, window, y, x in zip(padded, result, top.tolist(), left.tolist(), strict=True):
        window[:] = image[:, y : y + height, x : x + width]
    return result


def _per_channel(what: str, values: float | Sequence[float]) -> tuple[float, ...]:
    try:
        numbers = np.atleast_1d(np.asarray(values, np.float64))
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.ndim != 1 or numbers.size == 0 or not np.isfinite(numbers).all():
        raise UserError(f"Normalize: {what} is {values!r}: expected one finite number per channel")
    return tuple(numbers.tolist())
