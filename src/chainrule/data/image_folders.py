"""Folders of image files, one folder per class: what is in them, and data sets of it."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from chainrule.arguments import explained, explained_methods
from chainrule.data.arguments import check_split, height_and_width
from chainrule.data.dataset import ArrayDataset, Dataset, Images
from chainrule.data.image_files import CHANNELS, SUFFIXES, Decoded, Header, UnreadableImage, decode, read_header
from chainrule.data.sampling import spread
from chainrule.display import displayed
from chainrule.errors import UserError, unknown_value, warn

TEST_FOLDERS = ("test", "val", "valid")

_ONE_IN = 10
_MOST_NAMED = 5
_NO_MATTER = "is no folder"
_READERS = min(8, os.cpu_count() or 1)

Watch = Callable[[str, int, int], None]
"""Told while files are read: what is done, such as "reading photos train", how many files are done, and of how many."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image of a class, and what its header says."""

    path: Path
    label: int
    header: Header


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something in a class folder that is not used, and why: "is damaged (...)"."""

    path: Path
    reason: str


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
        self._size = _common_size(self.files) if size is None else height_and_width("size", size)
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
                f"{displayed(file.path)} is now {_pixels(decoded.pixels.shape[:2])} (height × width), it was "
                f"{_pixels(self._size)} when the data set was opened: leave the files as they are while they are read"
            )
        return decoded

    def read(self, in_memory: bool = True, watch: Watch | None = None) -> Reading:
        """Decode every image once, by several threads, and leave out those that cannot be: a header may be whole where the
        pixels are not. ``in_memory`` keeps the pixels; otherwise they are decoded again whenever they are asked for."""
        channels, height, width = self.image_shape
        pixels = np.empty((len(self) if in_memory else 0, channels, height, width), np.uint8)
        good: list[int] = []
        damaged: list[LeftOut] = []
        transparent = blank = 0
        for number, found in enumerate(_in_order(self._attempt, self.files)):
            if isinstance(found, LeftOut):
                damaged.append(found)
            else:
                if in_memory:
                    pixels[len(good)] = found.pixels.transpose(2, 0, 1)
                transparent += found.transparent
                blank += int(found.pixels.min() == found.pixels.max())
                good.append(number)
            if watch is not None:
                watch(f"reading {self.name}", number + 1, len(self))
        if not good:
            raise UserError(
                f"{self.name}: none of the {len(self):,} images can be read: {'; '.join(_named(damaged, self.name))}"
            )
        files = [self.files[number] for number in good]
        if in_memory:
            dataset: Dataset = ArrayDataset(pixels[: len(good)], self.labels[good], self.classes, self.name)
        else:
            dataset = ImageFolder(files, self.classes, self.name, self._size, self._mode, [*self.left_out, *damaged])
        return Reading(dataset, damaged, transparent, blank)

    def _attempt(self, file: ImageFile) -> Decoded | LeftOut:
        try:
            return self._decode(file)
        except UnreadableImage as error:
            return LeftOut(file.path, error.reason)


@dataclass(frozen=True)
class Reading:
    """What came of reading an image folder: the images, files whose pixels are damaged, and of how many images parts are
    transparent or all pixels alike."""

    dataset: Dataset
    damaged: list[LeftOut]
    transparent: int
    blank: int


@dataclass
class FolderContents:
    """What a folder of images holds, as names and headers tell: the images of each split, and what is left out.

    ``unreadable`` files have the name of an image; ``others`` have not, or are folders below a class.
    """

    root: Path
    classes: list[str]
    splits: dict[str, list[ImageFile]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    candidates: Counter[Path] = field(default_factory=Counter)
    unreadable: list[LeftOut] = field(default_factory=list)
    others: list[LeftOut] = field(default_factory=list)

    @property
    def files(self) -> list[ImageFile]:
        """The images of all splits."""
        return [file for files in self.splits.values() for file in files]

    def split(self, split: str, size: tuple[int, int] | None = None, mode: str | None = None) -> ImageFolder:
        """The data set of one split. What ``size`` and ``mode`` leave open is decided by the images of all splits."""
        if size is None:
            _common_size(self.files)
        mode = common_mode(self.files) if mode is None else mode
        left_out = [*self.unreadable, *self.others]
        return ImageFolder(self.splits[split], self.classes, self.names[split], size, mode, left_out)

    def limited(self, count: int) -> None:
        """Keep so many training images, spread over all of them."""
        files = self.splits["train"]
        if 0 < count < len(files):
            self.splits["train"] = [files[place] for place in spread(count, len(files))]
            self.names["train"] = f"{count:,} of {self.names['train']}"

    def check(self, unreadable: Sequence[LeftOut]) -> None:
        """UserError if of a class's files half or more cannot be read: then it is not a few of them that are damaged."""
        for folder, wrong in Counter(one.path.parent for one in unreadable).items():
            count = self.candidates[folder]
            if 2 * wrong >= count:
                first = next(one for one in unreadable if one.path.parent == folder)
                raise UserError(
                    f"{displayed(folder)}: {wrong} of {_count(count, 'image')} cannot be read, such as "
                    f"{displayed(first.path.name)}, which {first.reason}: repair or remove them, or remove the folder"
                )

    def notes(self, damaged: Sequence[LeftOut] = ()) -> list[str]:
        """What is left out, and why, for a person; several lines each. ``damaged`` are files whose headers were whole."""
        unreadable = [*self.unreadable, *damaged]
        found = []
        if unreadable:
            total = sum(self.candidates.values())
            found.append((f"left out: {len(unreadable):,} of {_count(total, 'image')}", unreadable))
        if self.others:
            found.append((f"not read: {_count(len(self.others), 'other entry', 'other entries')}", self.others))
        return ["\n  ".join([title, *_named(left_out, self.root)]) for title, left_out in found]


def look_at(path: str | os.PathLike[str], only: str | None = None, watch: Watch | None = None) -> FolderContents:
    """Look through a folder of images in either of two forms, without decoding any.

    ``path``/train/class/image.png with ``path``/test (or val, or valid) beside it: both must hold the same classes.
    ``path``/class/image.png: the test split is a tenth of each class (at least one image), spread over the file names
    in order by a fixed rule that knows no seed; the training split is the rest.

    Files that give no image are left out. They count where images are held out, so mending one moves no other image from one
    split to the other. ``only`` looks at the headers of one split alone.

    Raises:
        UserError: the folder is missing or empty, a class has no images or hardly any that can be read, the splits have
            different classes, or a class is too small to hold images out; the message names the file or folder.
    """
    root = Path(path)
    if not has_splits(root):
        return _held_out(root, only, watch)
    beside = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    if not beside:
        raise UserError(
            f"{displayed(root)} holds train/ but none of test/, val/, valid/: add one, or pass {displayed(root / 'train')} "
            "itself to have a tenth of it held out"
        )
    train, test = root / "train", beside[0]
    (classes, beside_train), (others, beside_test) = (_class_folders(folder) for folder in (train, test))
    difference = sorted(set(classes) ^ set(others))
    if difference:
        holder, other = (train, test) if difference[0] in classes else (test, train)
        raise UserError(
            f"{displayed(holder)} holds the class {difference[0]!r} but {displayed(other)} does not: both need the same classes"
        )
    contents = FolderContents(root, classes, names={"train": str(train), "test": str(test)}, others=beside_train + beside_test)
    folders = {"train": train, "test": test}
    paths = {
        split: [(file, label) for label, name in enumerate(classes) for file in _candidates(folder / name, contents)]
        for split, folder in folders.items()
        if only in (None, split)
    }
    return _read_headers(contents, paths, only, watch)


def _held_out(root: Path, only: str | None, watch: Watch | None) -> FolderContents:
    classes, beside = _class_folders(root)
    contents = FolderContents(root, classes, names={split: f"{root} {split}" for split in ("train", "test")}, others=beside)
    paths: dict[str, list[tuple[Path, int]]] = {"train": [], "test": []}
    for label, name in enumerate(contents.classes):
        images = _candidates(root / name, contents)
        if len(images) < 2:
            raise UserError(
                f"{displayed(root / name)} holds a single image, too few to hold one out for testing: add images, "
                "or make train/ and test/ folders"
            )
        test = set(spread(max(1, len(images) // _ONE_IN), len(images)).tolist())
        for number, file in enumerate(images):
            paths["test" if number in test else "train"].append((file, label))
    return _read_headers(contents, {split: found for split, found in paths.items() if only in (None, split)}, only, watch)


def _whole(root: Path) -> FolderContents:
    """All images of a folder of classes, under the split "train"."""
    classes, beside = _class_folders(root)
    contents = FolderContents(root, classes, names={"train": str(root)}, others=beside)
    files = [(file, label) for label, name in enumerate(contents.classes) for file in _candidates(root / name, contents)]
    return _read_headers(contents, {"train": files}, None, None)


def _read_headers(
    contents: FolderContents, paths: dict[str, list[tuple[Path, int]]], only: str | None, watch: Watch | None
) -> FolderContents:
    done, total = 0, sum(map(len, paths.values()))
    for split, files in paths.items():
        found = contents.splits[split] = []
        for path, label in files:
            try:
                found.append(ImageFile(path, label, read_header(path)))
            except UnreadableImage as error:
                contents.unreadable.append(LeftOut(path, error.reason))
            done += 1
            if watch is not None:
                watch(f"looking at {displayed(contents.root)}", done, total)
    if only is None:  # of a tenth of a class, one damaged file may be half
        contents.check(contents.unreadable)
    for split, images in contents.splits.items():
        if not images:
            reasons = "; ".join(_named(contents.unreadable, contents.root))
            raise UserError(f"{displayed(contents.names[split])}: no image can be read: {reasons}")
    return contents


@explained
def image_folder(path: str | os.PathLike[str], size: tuple[int, int] | None = None, mode: str | None = None) -> ImageFolder:
    """Data set of all images ``path``/class/image.png, decoded lazily; classes are sorted by name.

    What Pillow reads without help is read: PNG, JPEG, WebP, BMP, TIFF, GIF (its first picture), PPM and some more. Other
    files are ignored, and so is everything whose name starts with a dot; both, and images that cannot be read, are in
    ``left_out``, and a warning names the latter. Images that fit into memory are faster from there:
    ``folder.read().dataset``.

    Args:
        path: the folder that holds one folder per class.
        size: (height, width) to resize every image to, bilinearly; without it all must have one size.
        mode: "L" (grey) or "RGB"; without it "RGB" if any image has colours.

    Raises:
        UserError: the folder is missing or empty, a class has no images or half of them cannot be read, or images differ in
            size; the message names the file or folder.
    """
    contents = _whole(Path(path))
    return _warned(contents).split("train", size, mode)


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
    return _warned(look_at(path)).split(split, size, mode)


def _warned(contents: FolderContents) -> FolderContents:
    if contents.unreadable:
        warn(f"{displayed(contents.root)}, {contents.notes()[0]}")
    return contents


def has_splits(root: Path) -> bool:
    """Whether a folder holds train/class/, rather than a class that happens to be called "train"."""
    return (root / "train").is_dir() and any(map(_is_folder, _entries(root / "train")))


def common_mode(files: Iterable[ImageFile]) -> str:
    """What holds all images: "RGB" if one has colours."""
    return "RGB" if any(file.header.mode == "RGB" for file in files) else "L"


def _common_size(files: Sequence[ImageFile]) -> tuple[int, int]:
    first = files[0]
    size = first.header.size
    for file in files:
        if file.header.size != size:
            raise UserError(
                f"{displayed(file.path)} is {_pixels(file.header.size)} (height × width), but {displayed(first.path)} is "
                f"{_pixels(size)}: pass size={size} (--image-size {size[0]}x{size[1]}) to resize all images"
            )
    return size


def _class_folders(root: Path) -> tuple[list[str], list[LeftOut]]:
    """Names of the class folders, sorted, and what beside them looks as if it were to be used, but is not."""
    if not root.exists():
        raise UserError(f"{displayed(root)} does not exist: expected a folder that holds one folder of images per class")
    if not root.is_dir():
        raise UserError(f"{displayed(root)} is a file: expected a folder that holds one folder of images per class")
    entries = sorted(_entries(root), key=lambda entry: entry.name)
    reasons = {entry.name: _no_class(entry, root) for entry in entries}
    classes = [name for name, reason in reasons.items() if not reason]
    if not classes:
        loose = [name for name in reasons if _suffix(name) in SUFFIXES]
        if loose:
            raise UserError(
                f"{displayed(root)} holds images ({displayed(loose[0])}) but no class folders: put each image into a folder "
                "named after its class"
            )
        found = "holds no class folders" if entries else "is empty"
        raise UserError(f"{displayed(root)} {found}: expected one folder of images per class")
    left_out = [LeftOut(root / name, reason) for name, reason in reasons.items() if reason not in ("", _NO_MATTER)]
    return classes, left_out


def _no_class(entry: os.DirEntry[str], root: Path) -> str:
    """Why something is no class folder; "" if it is one."""
    if entry.is_symlink():
        if not os.path.exists(entry.path):  # which a link in a circle does not either
            return "is a link that leads nowhere"
        here = Path(os.path.realpath(root))
        if Path(os.path.realpath(entry.path)) in (here, *here.parents):
            return "is a link to a folder that it is in itself"
    if _is_folder(entry):
        return ""
    return "lies in no class folder" if _suffix(entry.name) in SUFFIXES else _NO_MATTER


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, but for what is hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{displayed(folder)} cannot be read ({error.strerror}): mend that, or remove the folder") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _candidates(folder: Path, contents: FolderContents) -> list[Path]:
    """What has the name of an image in a class folder, sorted by name; at least one. The others go to ``contents``."""
    entries = sorted(_entries(folder), key=lambda entry: entry.name)
    paths = [folder / entry.name for entry in entries if _suffix(entry.name) in SUFFIXES]
    contents.others += [
        LeftOut(folder / entry.name, _no_image(entry)) for entry in entries if _suffix(entry.name) not in SUFFIXES
    ]
    if not paths:
        raise UserError(
            f"{displayed(folder)} is a class folder without images (.png, .jpg, ...): add images or remove the folder"
        )
    contents.candidates[folder] = len(paths)
    return paths


def _no_image(entry: os.DirEntry[str]) -> str:
    if _is_folder(entry):
        return "is a folder within a class"
    if _suffix(entry.name) in (".heic", ".heif"):
        return "is a photo in a format that is not read: save it as JPEG"
    return "has no name of an image"


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


def _named(left_out: Sequence[LeftOut], root: str | Path) -> list[str]:
    """The first few of them by name, with their reasons, and how many more there are."""
    more = len(left_out) - _MOST_NAMED
    shown = [f"{displayed(_below(one.path, root))} {one.reason}" for one in left_out[:_MOST_NAMED]]
    return [*shown, *([f"and {more:,} more"] if more > 0 else [])]


def _below(path: Path, root: str | Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one}" if number == 1 else f"{number:,} {many or one + 's'}"


def _pixels(size: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in size)
