"""Data sets of folders of image files, one folder per class; ``folder_scan`` looks through such a folder."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chainrule.arguments import explained, explained_methods
from chainrule.data.arguments import check_split, height_and_width
from chainrule.data.dataset import ArrayDataset, Dataset, Images
from chainrule.data.folder_contents import (
    FolderContents,
    ImageFile,
    LeftOut,
    Watch,
    common_mode,
    common_size,
    pixels_text,
    reasons_of,
)
from chainrule.data.folder_scan import look_at, look_at_all
from chainrule.data.image_files import CHANNELS, Decoded, UnreadableImage, decode
from chainrule.display import displayed
from chainrule.errors import UserError, unknown_value, warn

_READERS = min(8, os.cpu_count() or 1)
_DIGEST = 16  # bytes, so that two images of a billion agree by accident once in 10^20 data sets


@explained_methods
class ImageFolder(Dataset):
    """Images of files that are decoded when asked for, as uint8; made by ``image_folder`` and ``split_image_folder``.

    Images are turned as their EXIF orientation says, and laid on white where they are transparent.

    Args:
        files: the images.
        classes: name of each class.
        name: where the images come from, for messages.
        size: (height, width) to resize every image to, bilinearly; without it, all must have the same size.
        mode: "L" (grey) or "RGB"; without it "RGB" if any image has colours.
        left_out: what was found beside the images and is not used.

    Raises:
        UserError: there are no images, or they differ in size.
    """

    @explained
    def __init__(
        self,
        files: Sequence[ImageFile],
        classes: Sequence[str],
        name: str,
        size: tuple[int, int] | None = None,
        mode: str | None = None,
        left_out: Sequence[LeftOut] = (),
    ) -> None:
        if mode is not None and mode not in CHANNELS:
            raise unknown_value("image mode", mode, CHANNELS)
        self.name = displayed(name)
        if not files:
            raise UserError(f"{self.name}: there is no image to read")
        self.files = list(files)
        self.classes = list(classes)
        self.left_out = list(left_out)
        self.labels = np.array([file.label for file in self.files], np.int64)
        self._mode = common_mode(self.files) if mode is None else mode
        self._resize = size is not None
        self._size = common_size(self.files) if size is None else height_and_width("size", size)
        self.image_shape = (CHANNELS[self._mode], *self._size)

    @property
    def paths(self) -> list[Path]:
        """The file of each image."""
        return [file.path for file in self.files]

    def images(self, indices: ArrayLike) -> Images:
        """The images of these numbers (B,), decoded unless they are in memory: uint8 (B,C,H,W)."""
        numbers = self.check_indices(indices)
        channels, height, width = self.image_shape
        batch = np.empty((len(numbers), height, width, channels), np.uint8)
        for row, number in enumerate(numbers):
            try:
                batch[row] = self._decode(self.files[number]).pixels
            except UnreadableImage as error:
                raise UserError(f"{error}: repair or remove it") from error
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))

    def _decode(self, file: ImageFile) -> Decoded:
        decoded = decode(file.path, self._size if self._resize else None, self._mode)
        if decoded.pixels.shape[:2] != self._size:
            raise UserError(
                f"{displayed(file.path)} is now {pixels_text(decoded.pixels.shape[:2])} (height × width), it was "
                f"{pixels_text(self._size)} when the data set was opened: leave the files as they are while they are read"
            )
        return decoded

    def read(self, in_memory: bool = True, watch: Watch | None = None) -> Reading:
        """Decode every image once, by several threads, and leave out those that cannot be: a header may be whole where the
        pixels are not. ``in_memory`` keeps the pixels; otherwise they are decoded again whenever they are asked for."""
        channels, height, width = self.image_shape
        pixels = np.empty((len(self) if in_memory else 0, channels, height, width), np.uint8)
        digests = np.empty((len(self), _DIGEST), np.uint8)
        good: list[int] = []
        damaged: list[LeftOut] = []
        odd: dict[str, list[Path]] = {"transparent": [], "unfilled": [], "blank": []}
        for number, found in enumerate(_in_order(self._attempt, self.files)):
            if isinstance(found, LeftOut):
                damaged.append(found)
            else:
                decoded, digest = found
                if in_memory:
                    pixels[len(good)] = decoded.pixels.transpose(2, 0, 1)
                digests[len(good)] = np.frombuffer(digest, np.uint8)
                for name, files_of_it in odd.items():
                    if getattr(decoded, name):
                        files_of_it.append(self.files[number].path)
                good.append(number)
            if watch is not None:
                watch(f"reading {self.name}", number + 1, len(self))
        if not good:
            raise UserError(f"{self.name}: none of the {len(self):,} images can be read: {reasons_of(damaged, self.name)}")
        files = [self.files[number] for number in good]
        if in_memory:
            dataset: Dataset = ArrayDataset(pixels[: len(good)], self.labels[good], self.classes, self.name)
        else:
            dataset = ImageFolder(files, self.classes, self.name, self._size, self._mode, [*self.left_out, *damaged])
        return Reading(dataset, files, digests[: len(good)], damaged, **odd)

    def _attempt(self, file: ImageFile) -> tuple[Decoded, bytes] | LeftOut:
        """An image with the digest of its pixels, which is made here as threads do it beside each other."""
        try:
            decoded = self._decode(file)
            return decoded, hashlib.blake2b(np.ascontiguousarray(decoded.pixels).data, digest_size=_DIGEST).digest()
        except UnreadableImage as error:
            return LeftOut(file.path, error.reason)


@dataclass(frozen=True)
class Reading:
    """What came of reading an image folder: the images, with the file of each and the digest of its pixels, uint8 (N, 16), by
    which the same image is known again; files whose pixels are damaged; and the files of which parts are transparent, all
    pixels alike, or 16 bits hardly filled, as ``Decoded`` has it."""

    dataset: Dataset
    files: list[ImageFile]
    digests: NDArray[np.uint8]
    damaged: list[LeftOut]
    transparent: list[Path]
    unfilled: list[Path]
    blank: list[Path]


@explained
def image_folder(path: str | os.PathLike[str], size: tuple[int, int] | None = None, mode: str | None = None) -> ImageFolder:
    """Data set of all images ``path``/class/image.png, decoded lazily; classes are sorted by name.

    What Pillow reads without help is read: PNG, JPEG, WebP, BMP, TIFF, GIF (its first picture), PPM, ICO and many more, but no
    documents and videos. Other files are ignored, and so is everything whose name starts with a dot; both, class folders
    without images, and images that cannot be read, are in ``left_out``, and warnings name the latter two. Images that fit into
    memory are faster from there: ``folder.read().dataset``.

    Args:
        path: the folder that holds one folder per class.
        size: (height, width) to resize every image to, bilinearly; without it all must have one size.
        mode: "L" (grey) or "RGB"; without it "RGB" if any image has colours.

    Raises:
        UserError: the folder is missing or empty, half of the images of a class cannot be read, class folders are without
            images and fewer than two classes remain, or images differ in size; the message names the file or folder.
    """
    return split_of(_warned(look_at_all(Path(path))), "train", size, mode)


@explained
def split_image_folder(
    path: str | os.PathLike[str],
    split: str = "train",
    size: tuple[int, int] | None = None,
    mode: str | None = None,
) -> ImageFolder:
    """One split of an image folder, in either of the forms that ``look_at`` describes.

    Size and mode are the same in both splits. Raises UserError as ``image_folder`` and ``look_at`` do.
    """
    check_split(split)
    return split_of(_warned(look_at(path)), split, size, mode)


def split_of(contents: FolderContents, split: str, size: tuple[int, int] | None = None, mode: str | None = None) -> ImageFolder:
    """The data set of one split. What ``size`` and ``mode`` leave open is decided by the images of all splits."""
    if size is None:
        common_size(contents.files)
    mode = common_mode(contents.files) if mode is None else mode
    left_out = [*contents.empty, *contents.unreadable, *contents.others]
    return ImageFolder(contents.splits[split], contents.classes, contents.names[split], size, mode, left_out)


def _warned(contents: FolderContents) -> FolderContents:
    for note in contents.notes(others=False):
        warn(f"{displayed(contents.root)}, {note.text('named in the attribute left_out of the data set')}")
    return contents


def _in_order(task: Callable[[ImageFile], Any], files: Sequence[ImageFile]) -> Iterator[Any]:
    """``map`` by threads: decoding leaves Python's lock alone. Only a few files are read ahead, or a stop would take long."""
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="chainrule-reader")
    try:
        tasks = (pool.submit(task, file) for file in files)
        ahead: deque[Future[Any]] = deque(islice(tasks, 8 * _READERS))
        while ahead:
            found = ahead.popleft().result()
            ahead.extend(islice(tasks, 1))
            yield found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
