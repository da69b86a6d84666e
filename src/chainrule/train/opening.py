"""From a configuration to its data: what a folder holds is looked at first, then decided on, and only then read."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from chainrule.arguments import explained
from chainrule.data import Dataset, load_dataset
from chainrule.data.folder_contents import FolderContents, ImageFile, Note, Watch, common_mode
from chainrule.data.folder_scan import look_at
from chainrule.data.image_files import CHANNELS, SEVERAL_UNFILLED, TRANSPARENT, UNFILLED
from chainrule.data.image_folders import ImageFolder, Reading, split_of
from chainrule.data.named import KNOWN, folder_of_images
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats.places import as_seen
from chainrule.models import MODELS, Entry
from chainrule.train.config import Config
from chainrule.train.doubts import doubts_of_classes, doubts_of_images
from chainrule.train.room import Cost, available_memory, check_room, cost_of, size_text

_SMALL = 96
"""Images of one size, no side longer than this, are taken as they are."""

_SIDES = (300, 288, 240, 224, 192, 160, 128, 96, 64, 32, 28)
"""Sides of the squares that others are resized to: the first that most of them fill."""

_MOST_KEPT = 0.25
"""Share of the free memory that images may take; what is more is decoded again in each epoch."""

_MOST_KEPT_UNKNOWN = 2 << 30

_COLOURS = {"L": "grey", "RGB": "colour"}

_DEAR = 4
"""A chosen size of images that takes at least so many times the multiply-adds of the proposed one is remarked on."""


@dataclass(frozen=True)
class Opened:
    """The data of a training. ``config`` says also what was decided about them.

    For a person to read: ``about``, one sentence on what they are and how they are used, and ``notes`` on what is left out or
    looks wrong. ``measured`` names the split that ``test`` is, on which the network is measured after each epoch: "test", or
    "validation" where there are images for that, so that those in test/ are seen only by ``chainrule evaluate``.
    """

    config: Config
    training: Dataset
    test: Dataset
    about: str
    notes: Sequence[Note] = ()
    measured: str = "test"


@explained
def open_datasets(config: Config, watch: Watch | None = None) -> Opened:
    """Training and test split of the configured data.

    For a folder of images: without an image size in ``config``, one is proposed, used, and noted in ``Opened.config``, as is
    the mode; files that give no image are left out, and ``notes`` names them; images that take little memory stay there,
    decoded, so that each file is read once. Those in test/ beside a folder for validation are read to see whether they are
    whole and whether some are trained on.

    Raises:
        UserError: the data are missing or hardly readable, or the training cannot fit into memory.
    """
    data = _as_seen(config.data)
    folder = folder_of_images(data)
    if folder is None:
        training, test = (
            load_dataset(data, split, size=config.size, mode=config.image_mode or None) for split in ("train", "test")
        )
        check_room(config, training.image_shape, len(training.classes), config.limit or len(training), 0)
        counts = _counts(min(config.limit or len(training), len(training)), {"test": len(test)}, len(training.classes))
        about = f"{training.name}: {counts}, {_kind(training.image_shape)}"
        return Opened(config, training, test, about)
    contents = look_at(folder, watch=watch)
    trained = contents.splits["train"]  # also if a limit leaves some of them out
    notes: list[Note] = []
    mode = config.image_mode or common_mode(contents.files)
    usual = proposed_size(contents.files, MODELS.get(config.model))
    size = config.size or usual
    sizes = _sizes(contents.files, size)
    if not config.image_mode:
        notes += _mixed(contents.files)
    config = dataclasses.replace(config, image_size=f"{size[0]}x{size[1]}", image_mode=mode)
    contents.limited(config.limit)
    measured = "validation" if "validation" in contents.splits else "test"
    folders = {split: split_of(contents, split, size, mode) for split in contents.splits}
    keep = {split: split in ("train", measured) and _fits(one) for split, one in folders.items()}
    kept = sum(_nbytes(one) for split, one in folders.items() if keep[split])
    shape, classes, images = folders["train"].image_shape, len(contents.classes), len(folders["train"])
    cost = check_room(config, shape, classes, images, kept)
    if size != usual:
        notes += _dear(config, shape, cost, kept, usual, cost_of(config, (shape[0], *usual), classes, images))
    readings = {split: one.read(keep[split], watch) for split, one in folders.items()}
    damaged = [file for reading in readings.values() for file in reading.damaged]
    contents.check([*contents.unreadable, *damaged])
    notes = [*doubts_of_classes(trained, contents.classes, damaged), *notes]
    notes += [*_told(contents, list(readings.values())), *doubts_of_images(contents, readings)]
    tested = {split: len(reading.files) for split, reading in readings.items() if split != "train"}
    counts = _counts(len(readings["train"].files), tested, classes)
    about = f"{displayed(folder)}: {counts}, {_kind(shape)}{sizes}{_how_split(contents)}"
    return Opened(config, readings["train"].dataset, readings[measured].dataset, about, notes, measured)


def _counts(training: int, tested: Mapping[str, int], classes: int) -> str:
    """10 classes, 50,000 training and 10,000 test images."""
    *first, last = [f"{training:,} training", *(f"{tested[split]:,} {split}" for split in sorted(tested, reverse=True))]
    return f"{classes:,} {'class' if classes == 1 else 'classes'}, {', '.join(first)} and {last} images"


def _kind(shape: tuple[int, int, int]) -> str:
    """Channels and size of images: "colour, 32 x 32"."""
    channels, height, width = shape
    colours = {count: name for name, count in CHANNELS.items()}.get(channels)
    return f"{_COLOURS.get(colours or '', f'{channels} channels')}, {height} x {width}"


def _sizes(files: Sequence[ImageFile], size: tuple[int, int]) -> str:
    """What is said of images that are resized."""
    if all(file.header.size == size for file in files):
        return ""
    return f" (of files of {_range(files)}; --image-size HxW chooses another)"


def _how_split(contents: FolderContents) -> str:
    """How it came that some images are trained on and others tested on."""
    if contents.held_out:
        return "; a tenth of each class, drawn with seed 0, is held out to test on"
    if "validation" not in contents.splits:
        name = Path(contents.names["test"]).name
        return "" if name.lower() == "test" else f"; {displayed(name)}/ is what is tested on"
    name, test = (displayed(Path(contents.names[split]).name) for split in ("validation", "test"))
    return f"; {name}/ is measured on after each epoch, {test}/ is left for `chainrule evaluate`"


def check_data_of_run(source: str, data: str, remedy: str) -> None:
    """UserError if what a run was trained on is not where it was."""
    if data not in KNOWN and not Path(data).exists():
        raise UserError(f"{source} was trained on {displayed(data)}, which does not exist: {remedy}")


def _as_seen(data: str) -> str:
    """A folder of data from the current folder on; absolute if that would be the name of a known data set."""
    return data if (shown := as_seen(data)) in KNOWN else shown


class SplitImages(NamedTuple):
    """Images of a split, what a person should know of them, and the file of each, if each has one."""

    dataset: Dataset
    notes: list[Note]
    files: list[Path] | None


@explained
def open_images(data: str, image_shape: tuple[int, int, int], split: str = "test", watch: Watch | None = None) -> SplitImages:
    """The images of ``data`` to train on ("train") or to test on ("test"); a folder's are brought to ``image_shape``."""
    data = _as_seen(data)
    folder = folder_of_images(data)
    if folder is None:
        return SplitImages(load_dataset(data, split), [], None)
    contents = look_at(folder, split, watch)
    channels, height, width = image_shape
    mode = next(name for name, count in CHANNELS.items() if count == channels)
    images = split_of(contents, split, (height, width), mode)
    reading = images.read(_fits(images), watch)
    return SplitImages(reading.dataset, _told(contents, [reading]), [file.path for file in reading.files])


def proposed_size(files: Sequence[ImageFile], model: Entry | None = None) -> tuple[int, int]:
    """What images are trained at when nobody says: their own size where it is one and small, else a square, of 64 pixels or
    what ``model`` is usually trained at, whichever is more, or less where most images are smaller; never less than ``model``
    takes.

    Models for small images learn little more from more pixels, and the first linear layer of some grows with their number.
    """
    sizes = {file.header.size for file in files}
    least = 1 if model is None else model.least
    if len(sizes) == 1 and least <= min(next(iter(sizes))) <= max(next(iter(sizes))) <= _SMALL:
        return next(iter(sizes))
    usual = statistics.median(min(file.header.size) for file in files)
    most = max(_SIDES[-3], 0 if model is None else model.image[1])
    side = next((side for side in _SIDES if least <= side <= min(usual, most)), max(least, _SIDES[-1]))
    return side, side


def _dear(
    config: Config, shape: tuple[int, int, int], cost: Cost, kept: int, usual: tuple[int, int], usual_cost: Cost
) -> list[Note]:
    """What a chosen size of images costs, if that is much more than what would have been proposed."""
    times = cost.multiply_adds / max(1, usual_cost.multiply_adds)
    if times < _DEAR:
        return []
    memory = f"about {size_text(cost.of_weights + cost.of_batch + kept)} of memory"
    work = (
        f"{cost.multiply_adds:,} multiply-adds per image, {times:,.0f} times as many as at the proposed {usual[0]} x {usual[1]}"
    )
    return [Note(f"{config.model} at {shape[1]} x {shape[2]} takes {memory} and {work}")]


def _range(files: Sequence[ImageFile]) -> str:
    sizes = sorted({file.header.size for file in files}, key=lambda size: (size[0] * size[1], size))
    first, last = (f"{size[0]} x {size[1]}" for size in (sizes[0], sizes[-1]))
    return first if first == last else f"{first} to {last}"


def _mixed(files: Sequence[ImageFile]) -> list[Note]:
    grey = sum(file.header.mode == "L" for file in files)
    if grey in (0, len(files)):
        return []
    are = "is" if grey == 1 else "are"
    return [Note(f"{grey:,} of {len(files):,} images {are} grey: all are read as colour (RGB); --image-mode L takes grey")]


_ODD = {
    "transparent": (f"is {TRANSPARENT}", f"are {TRANSPARENT}"),
    "unfilled": (f"is {UNFILLED}", f"are {SEVERAL_UNFILLED}"),
    "blank": ("is blank: all of its pixels are alike", "are blank: all pixels of each are alike"),
}
"""What is said of one image, and of several, for each attribute of ``Reading`` that lists some."""


def _told(contents: FolderContents, readings: Sequence[Reading]) -> list[Note]:
    notes = contents.notes([file for reading in readings for file in reading.damaged])
    odd = {name: sorted(path for reading in readings for path in getattr(reading, name)) for name in _ODD}
    said = {
        name: f"{len(paths):,} {'image' if len(paths) == 1 else 'images'} {_ODD[name][len(paths) > 1]}"
        for name, paths in odd.items()
        if paths
    }
    converted = [name for name in ("transparent", "unfilled") if name in said]
    if converted:
        each = [f"{contents.shown(path)} {_ODD[name][0]}" for name in converted for path in odd[name]]
        notes.append(Note("; ".join(said[name] for name in converted), tuple(each), shown=0))
    if "blank" in said:
        notes.append(Note(said["blank"], tuple(map(contents.shown, odd["blank"]))))
    return notes


def _nbytes(folder: ImageFolder) -> int:
    channels, height, width = folder.image_shape
    return len(folder) * channels * height * width


def _fits(folder: ImageFolder) -> bool:
    free = available_memory()
    return _nbytes(folder) <= (_MOST_KEPT_UNKNOWN if free is None else _MOST_KEPT * free)
