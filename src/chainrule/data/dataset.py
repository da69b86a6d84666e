"""What a data set is, and ``ArrayDataset``, whose images lie in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chainrule.arguments import as_whole, explained, explained_methods
from chainrule.display import displayed
from chainrule.errors import UserError

Images: TypeAlias = NDArray[Any]
"""A batch of images (B,C,H,W): uint8 with values 0 to 255, or float32 with values taken as they are."""

Labels: TypeAlias = NDArray[np.int64]
"""Class numbers (B,), counted from 0."""

# Class names that are not given are "0", "1", ...: a single wrong label must not make a billion of them.
_MOST_UNNAMED_CLASSES = 100_000


@explained_methods
class Dataset(ABC):
    """Labelled images of the same size. The labels are known without decoding an image; images are read by their numbers.

    Attributes:
        name: where the images come from, for messages.
        classes: name of each class; ``labels`` index it.
        labels: int64 (N,), the class number of each image.
        image_shape: (channels, height, width) of every image.
        in_memory: whether ``images`` only copies pixels, instead of reading and decoding files.
    """

    name: str
    classes: list[str]
    labels: Labels
    image_shape: tuple[int, int, int]
    in_memory: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse a class that gives single examples alone, as data sets of other libraries do."""
        if cls.images is Dataset.images and cls is not Dataset:
            raise UserError(
                f"{cls.__name__} has no method images: a data set gives whole batches, images(numbers) of shape (B,C,H,W), and "
                "has the attributes name, classes, labels and image_shape; images in arrays need no class of their own: "
                "ArrayDataset(images, labels)"
            )
        return super().__new__(cls)

    def __len__(self) -> int:
        """Number of images N."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Images, int]:
        """An image (C,H,W) and its class number; a negative index counts from the end. ``images`` gives several at once."""
        number = as_whole(index)
        if number is None:
            raise UserError(
                f"{self.name}: [...] takes the number of one image, got a {type(index).__name__}: for several use images(...) "
                "and labels[...]"
            )
        place = number + len(self) if number < 0 else number
        if not 0 <= place < len(self):
            raise UserError(
                f"{self.name}: there is no image {number}: numbers go from 0 to {len(self) - 1}, or from -1 to {-len(self)}"
            )
        return self.images([place])[0], int(self.labels[place])

    def __iter__(self) -> Iterator[tuple[Images, int]]:
        """Each image with its class number, in order; a ``Loader`` gives batches."""
        return (self[number] for number in range(len(self)))

    @abstractmethod
    def images(self, indices: ArrayLike) -> Images:
        """Images of the given numbers (B,), each 0 to N-1: (B,C,H,W), uint8 or float32, a fresh array.

        Several threads may call this at the same time. Raises UserError for a number out of range.
        """

    def check_indices(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Image numbers as int64 (B,); UserError if they are not whole numbers from 0 to N-1."""
        numbers = np.asarray(indices)
        if numbers.size == 0:
            return np.zeros(0, np.int64)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise UserError(
                f"{self.name}: images are chosen by a list of whole numbers, not by {numbers.dtype} of shape {numbers.shape}"
            )
        # A negative number would silently count from the end.
        wrong = np.flatnonzero((numbers < 0) | (numbers >= len(self)))
        if wrong.size:
            raise UserError(f"{self.name}: there is no image {numbers[wrong[0]]}: numbers go from 0 to {len(self) - 1}")
        return numbers.astype(np.int64)

    def __repr__(self) -> str:
        channels, height, width = self.image_shape
        size = f"{channels}×{height}×{width}"
        return f"<{type(self).__name__} {self.name}: {len(self)} images {size}, {len(self.classes)} classes>"


@explained_methods
class ArrayDataset(Dataset):
    """A data set over arrays in memory.

    Args:
        images: (N,H,W) or (N,C,H,W), uint8 (pixels 0 to 255) or floating point (kept as float32). uint8 images are not
            copied.
        labels: whole numbers (N,), each 0 to the number of classes - 1.
        classes: name of each class; without it "0", "1", ... up to the largest label.
        name: where the data come from, for messages.

    Raises:
        UserError: shapes or types do not fit, there are no images, a label is out of range, or a pixel is NaN or
            infinite; the message names the place and the value.
    """

    in_memory = True

    @explained
    def __init__(
        self, images: ArrayLike, labels: ArrayLike, classes: Sequence[str] | None = None, name: str = "arrays"
    ) -> None:
        name = self.name = displayed(name)
        self._images = _checked_images(images, name)
        channels, height, width = self._images.shape[1:]
        self.image_shape = (channels, height, width)
        self.labels, self.classes = check_labels(labels, classes, name)
        if len(self._images) != len(self.labels):
            raise UserError(f"{name}: {len(self._images)} images but {len(self.labels)} labels: each image needs one")

    def images(self, indices: ArrayLike) -> Images:
        """Copies of the images of these numbers (B,): (B,C,H,W), in the dtype of the data set."""
        return self._images[self.check_indices(indices)]


def _checked_images(images: ArrayLike, name: str) -> Images:
    try:
        pixels = np.asarray(images)
    except ValueError as error:
        raise UserError(f"{name}: the images do not form one array, all must have the same shape: {error}") from error
    if pixels.ndim not in (3, 4):
        raise UserError(f"{name}: images have shape {pixels.shape}: expected (N, H, W) or (N, C, H, W)")
    if pixels.ndim == 3:
        pixels = pixels[:, np.newaxis]
    if pixels.size == 0:
        raise UserError(f"{name}: images have shape {pixels.shape}: there is nothing to learn from")
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind != "f":
        raise UserError(
            f"{name}: images are {pixels.dtype}: expected uint8 (pixels 0 to 255) or floating point; "
            "convert them with .astype(np.uint8) or .astype(np.float32)"
        )
    with np.errstate(over="ignore"):  # a value that is too large for float32 becomes inf, which is reported below
        pixels = pixels.astype(np.float32, copy=False)
    finite = np.isfinite(pixels)
    if not finite.all():
        place = tuple(int(i) for i in np.unravel_index(np.argmin(finite), finite.shape))
        image, channel, row, column = place
        raise UserError(
            f"{name}: image {image} holds {pixels[place]} in channel {channel}, row {row}, column {column}: "
            "repair or remove this image"
        )
    return pixels


def check_labels(labels: ArrayLike, classes: Sequence[str] | None, name: str) -> tuple[Labels, list[str]]:
    """Labels as int64 (N,) and the names of the classes, made up if there are none; UserError as ArrayDataset."""
    try:
        numbers = np.asarray(labels)
    except ValueError as error:
        raise UserError(f"{name}: labels must be one whole number per image: {error}") from error
    if numbers.ndim != 1:
        raise UserError(f"{name}: labels have shape {numbers.shape}: expected (N,), one class number per image")
    if numbers.size == 0:
        raise UserError(f"{name}: there are no labels")
    if numbers.dtype.kind not in "iu":
        raise UserError(f"{name}: labels are {numbers.dtype}: expected whole numbers; convert with .astype(np.int64)")
    if classes is not None and (isinstance(classes, str) or not isinstance(classes, Sequence | np.ndarray)):
        raise UserError(f"{name}: classes must be a list of names, got {classes!r}")
    count = len(classes) if classes is not None else _MOST_UNNAMED_CLASSES
    wrong = np.flatnonzero((numbers < 0) | (numbers >= count))
    if wrong.size:
        row, value = wrong[0], numbers[wrong[0]]
        if classes is not None:
            raise UserError(f"{name}: labels[{row}] is {value}: with {count} classes a label is 0 to {count - 1}")
        raise UserError(f"{name}: labels[{row}] is {value}: classes are counted from 0, to at most {count - 1}")
    names = [str(c) for c in classes] if classes is not None else [str(c) for c in range(int(numbers.max()) + 1)]
    return numbers.astype(np.int64), names
