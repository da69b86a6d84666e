"""From a configuration to its data: what a folder holds is looked at first, then decided on, and only then read."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.arguments import explained
from chainrule.data import Dataset, load_dataset
from chainrule.data.image_files import CHANNELS
from chainrule.data.image_folders import FolderContents, ImageFile, ImageFolder, Reading, Watch, common_mode, look_at
from chainrule.data.named import folder_of_images
from chainrule.display import displayed
from chainrule.train.config import Config
from chainrule.train.room import available_memory, check_room

_SMALL = 96
"""Images of one size, no side longer than this, are taken as they are."""

_SIDES = (64, 32, 28)
"""Sides of the squares that others are resized to: the first that most of them fill."""

_MOST_KEPT = 0.25
"""Share of the free memory that images may take; what is more is decoded again in each epoch."""

_MOST_KEPT_UNKNOWN = 2 << 30


@dataclass(frozen=True)
class Opened:
    """The data of a training; ``config`` says also what was decided about them, and ``notes`` are sentences on it."""

    config: Config
    training: Dataset
    test: Dataset
    notes: Sequence[str] = ()


@explained
def open_datasets(config: Config, watch: Watch | None = None) -> Opened:
    """Training and test split of the configured data.

    For a folder of images: without an image size in ``config``, one is proposed, used, and noted in ``Opened.config``, as is
    the mode; files that give no image are left out, and ``notes`` names them; images that take little memory stay there,
    decoded, so that each file is read once.

    Raises:
        UserError: the data are missing or hardly readable, or the training cannot fit into memory.
    """
    folder = folder_of_images(config.data)
    if folder is None:
        training, test = (
            load_dataset(config.data, split, size=config.size, mode=config.image_mode or None) for split in ("train", "test")
        )
        check_room(config, training.image_shape, len(training.classes), config.limit or len(training), 0)
        return Opened(config, training, test)
    contents = look_at(folder, watch=watch)
    notes = []
    mode = config.image_mode or common_mode(contents.files)
    size = config.size
    if size is None:
        size = proposed_size(contents.files)
        if any(file.header.size != size for file in contents.files):
            notes.append(
                f"{displayed(folder)}: {_range(contents.files)} pixels, trained at {size[0]} x {size[1]}; "
                "--image-size HxW chooses another"
            )
    if not config.image_mode:
        notes += _mixed(contents.files)
    config = dataclasses.replace(config, image_size=f"{size[0]}x{size[1]}", image_mode=mode)
    contents.limited(config.limit)
    folders = [contents.split(split, size, mode) for split in ("train", "test")]
    keep = [_fits(one) for one in folders]
    kept = sum(_nbytes(one) for one, stays in zip(folders, keep, strict=True) if stays)
    check_room(config, folders[0].image_shape, len(contents.classes), len(folders[0]), kept)
    readings = [one.read(stays, watch) for one, stays in zip(folders, keep, strict=True)]
    damaged = [file for reading in readings for file in reading.damaged]
    contents.check([*contents.unreadable, *damaged])
    notes += _told(contents, readings)
    return Opened(config, readings[0].dataset, readings[1].dataset, notes)


@explained
def open_test_images(data: str, image_shape: tuple[int, int, int], watch: Watch | None = None) -> tuple[Dataset, list[str]]:
    """The test split of ``data``, and sentences on what was left out; a folder's images are brought to ``image_shape``."""
    folder = folder_of_images(data)
    if folder is None:
        return load_dataset(data, "test"), []
    contents = look_at(folder, "test", watch)
    channels, height, width = image_shape
    mode = next(name for name, count in CHANNELS.items() if count == channels)
    images = contents.split("test", (height, width), mode)
    reading = images.read(_fits(images), watch)
    return reading.dataset, _told(contents, [reading])


def proposed_size(files: Sequence[ImageFile]) -> tuple[int, int]:
    """What images are trained at when nobody says: their own size where it is one and small, else a square of 64 pixels, or
    less where most images are smaller. The models that there are learn little more from more, and their first linear layer
    grows with the number of pixels."""
    sizes = {file.header.size for file in files}
    if len(sizes) == 1 and max(next(iter(sizes))) <= _SMALL:
        return next(iter(sizes))
    usual = statistics.median(min(file.header.size) for file in files)
    side = next((side for side in _SIDES if side <= usual), _SIDES[-1])
    return side, side


def _range(files: Sequence[ImageFile]) -> str:
    sizes = sorted({file.header.size for file in files}, key=lambda size: (size[0] * size[1], size))
    first, last = (f"{size[0]} x {size[1]}" for size in (sizes[0], sizes[-1]))
    return first if first == last else f"{first} to {last}"


def _mixed(files: Sequence[ImageFile]) -> list[str]:
    grey = sum(file.header.mode == "L" for file in files)
    if grey in (0, len(files)):
        return []
    return [f"{grey:,} of {len(files):,} images are grey: all are read as colour (RGB); --image-mode L takes grey"]


def _told(contents: FolderContents, readings: Sequence[Reading]) -> list[str]:
    notes = contents.notes([file for reading in readings for file in reading.damaged])
    for count, what in (
        (sum(reading.transparent for reading in readings), "transparent in parts, where white is put behind"),
        (sum(reading.blank for reading in readings), "blank: all of their pixels are alike"),
    ):
        if count:
            notes.append(f"{count:,} {'image is' if count == 1 else 'images are'} {what}")
    return notes


def _nbytes(folder: ImageFolder) -> int:
    channels, height, width = folder.image_shape
    return len(folder) * channels * height * width


def _fits(folder: ImageFolder) -> bool:
    free = available_memory()
    return _nbytes(folder) <= (_MOST_KEPT_UNKNOWN if free is None else _MOST_KEPT * free)
