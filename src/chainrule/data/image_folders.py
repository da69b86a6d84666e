"""Folders of image files, one folder per class. Pillow is imported only when such a folder is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from chainrule.arguments import explained, explained_methods
from chainrule.data.arguments import check_split, height_and_width
from chainrule.data.dataset import Dataset, Images
from chainrule.data.sampling import spread
from chainrule.errors import UserError, unknown_value

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".png", ".jpg", ".jpeg")
TEST_FOLDERS = ("test", "val", "valid")

_CHANNELS = {"L": 1, "RGB": 3}
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
# Pillow clips these to 8 bits instead of scaling them: almost every pixel would become white.
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_ONE_IN = 10


@explained_methods
class ImageFolder(Dataset):
    """Image files that are decoded when asked for, as uint8; made by ``image_folder`` and ``split_image_folder``.

    Every file's header is read at once, so that a foreign file or a wrong size is found before training starts.
    Transparency is dropped, and an EXIF rotation is not applied: pixels are taken as stored.

    Args:
        files: (path, class number) of each image.
        classes: name of each class.
        name: where the images come from, for messages.
        size: (height, width) to resize every image to, bilinearly; without it, all must have the first one's size.
        mode: "L" (grey) or "RGB"; without it the first image's, and the others must agree.
        first: the image that decides size and mode; without it the first of ``files``.

    Raises:
        UserError: a file is no PNG or JPEG image, or its size or mode differs from the first one's.
    """

    @explained
    def __init__(
        self,
        files: Sequence[tuple[Path, int]],
        classes: Sequence[str],
        name: str,
        size: tuple[int, int] | None = None,
        mode: str | None = None,
        first: Path | None = None,
    ) -> None:
        if mode is not None and mode not in _CHANNELS:
            raise unknown_value("image mode", mode, _CHANNELS)
        self.name = name
        self.classes = list(classes)
        self.labels = np.array([label for _, label in files], np.int64)
        self.paths = [path for path, _ in files]
        first = self.paths[0] if first is None else first
        first_size, first_mode = _header(first)
        self._resize = size is not None
        self._size = first_size if size is None else height_and_width("size", size)
        self._mode = first_mode if mode is None else mode
        self.image_shape = (_CHANNELS[self._mode], *self._size)
        for path in self.paths:
            found_size, found_mode = _header(path)
            if size is None and found_size != first_size:
                raise UserError(
                    f"{path} is {_pixels(found_size)} (height × width), but {first} is {_pixels(first_size)}: "
                    f"pass size={first_size} (--image-size {first_size[0]}x{first_size[1]}) to resize all images"
                )
            if mode is None and found_mode != first_mode:
                raise UserError(
                    f"{path} has mode {found_mode!r}, but {first} has mode {first_mode!r}: "
                    "pass mode='L' (grey) or mode='RGB' (--image-mode RGB) to convert all images"
                )

    def images(self, indices: ArrayLike) -> Images:
        numbers = self.check_indices(indices)
        channels, height, width = self.image_shape
        batch = np.empty((len(numbers), height, width, channels), np.uint8)
        for row, number in enumerate(numbers):
            batch[row] = self._decode(self.paths[number])
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))

    def _decode(self, path: Path) -> Images:
        from PIL import Image

        with _opened(path) as image:
            # Pillow warns when it drops the transparency of a palette, unless it goes by way of RGBA.
            pixels = (image.convert("RGBA") if image.mode == "P" else image).convert(self._mode)
            if self._resize:
                pixels = pixels.resize(self._size[::-1], Image.Resampling.BILINEAR)
            decoded = np.asarray(pixels)
        if decoded.shape[:2] != self._size:
            raise UserError(
                f"{path} is now {_pixels(decoded.shape[:2])} (height × width), it was {_pixels(self._size)} when the "
                "data set was opened: leave the files as they are while they are read"
            )
        return decoded.reshape(*self._size, -1)


@explained
def image_folder(path: str | os.PathLike[str], size: tuple[int, int] | None = None, mode: str | None = None) -> ImageFolder:
    """Data set of all images ``path``/class/image.png (or .jpg, .jpeg), decoded lazily; classes are sorted by name.

    Files with other extensions are ignored, and so is everything whose name starts with a dot. Images that fit into
    memory are faster from there: ``ArrayDataset(folder.images(range(len(folder))), folder.labels, folder.classes)``.

    Args:
        path: the folder that holds one folder per class.
        size: (height, width) to resize every image to, bilinearly; without it all must have one size.
        mode: "L" (grey) or "RGB"; without it as the first image, and the others must agree.

    Raises:
        UserError: the folder is missing or empty, a class has no images, a file is no image, or images differ in size
            or mode; the message names the file or folder.
    """
    root = Path(path)
    classes = _class_folders(root)
    files = [(file, label) for label, name in enumerate(classes) for file in _image_files(root / name)]
    return ImageFolder(files, classes, str(root), size, mode)


@explained
def split_image_folder(
    path: str | os.PathLike[str],
    split: str = "train",
    size: tuple[int, int] | None = None,
    mode: str | None = None,
) -> ImageFolder:
    """One split of an image folder, in either of two forms.

    ``path``/train/class/image.png with ``path``/test (or val, or valid) beside it: both must hold the same classes.
    ``path``/class/image.png: the test split is a tenth of each class (at least one image), spread over the file names
    in order by a fixed rule that knows no seed; the training split is the rest.

    Size and mode are decided by the first training image in both splits. Raises UserError as ``image_folder`` does,
    and if there is no test folder, the classes disagree, or a class is too small to hold images out.
    """
    check_split(split)
    root = Path(path)
    if not has_splits(root):
        return _held_out(root, split, size, mode)
    beside = [root / name for name in TEST_FOLDERS if (root / name).is_dir()]
    if not beside:
        raise UserError(
            f"{root} holds train/ but none of test/, val/, valid/: add one, or pass {root / 'train'} itself "
            "to have a tenth of it held out"
        )
    train, test = root / "train", beside[0]
    classes = _class_folders(train)
    difference = sorted(set(classes) ^ set(_class_folders(test)))
    if difference:
        holder, other = (train, test) if difference[0] in classes else (test, train)
        raise UserError(f"{holder} holds the class {difference[0]!r} but {other} does not: both need the same classes")
    folder = train if split == "train" else test
    files = [(file, label) for label, name in enumerate(classes) for file in _image_files(folder / name)]
    first = _image_files(train / classes[0])[0]
    return ImageFolder(files, classes, str(folder), size, mode, first)


def has_splits(root: Path) -> bool:
    """Whether a folder holds train/class/, rather than a class that happens to be called "train"."""
    return (root / "train").is_dir() and any(_visible_folders(root / "train"))


def _held_out(root: Path, split: str, size: tuple[int, int] | None, mode: str | None) -> ImageFolder:
    classes = _class_folders(root)
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(classes):
        images = _image_files(root / name)
        if len(images) < 2:
            raise UserError(
                f"{root / name} holds a single image, too few to hold one out for testing: add images, "
                "or make train/ and test/ folders"
            )
        count = max(1, len(images) // _ONE_IN)
        test = set(spread(count, len(images)).tolist())
        files += [(file, label) for number, file in enumerate(images) if (number in test) == (split == "test")]
    first = _image_files(root / classes[0])[0]
    return ImageFolder(files, classes, f"{root} {split}", size, mode, first)


def _class_folders(root: Path) -> list[str]:
    """Names of the class folders, sorted."""
    if not root.exists():
        raise UserError(f"{root} does not exist: expected a folder that holds one folder of images per class")
    if not root.is_dir():
        raise UserError(f"{root} is a file: expected a folder that holds one folder of images per class")
    classes = _visible_folders(root)
    if not classes:
        entries = sorted(entry.name for entry in root.iterdir())
        loose = [name for name in entries if name.lower().endswith(EXTENSIONS)]
        if loose:
            raise UserError(
                f"{root} holds images ({loose[0]}) but no class folders: put each image into a folder named after its class"
            )
        found = "holds no class folders" if entries else "is empty"
        raise UserError(f"{root} {found}: expected one folder of images per class")
    return classes


def _visible_folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def _image_files(folder: Path) -> list[Path]:
    """Image files of one class, sorted by name; at least one."""
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(EXTENSIONS) and not entry.name.startswith(".") and entry.is_file()
        )
    if not names:
        raise UserError(f"{folder} is a class folder without images ({', '.join(EXTENSIONS)}): add images or remove the folder")
    return [folder / name for name in names]


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """(height, width) and mode "L" or "RGB" of an image file, without decoding it."""
    with _opened(path) as image:
        width, height = image.size
        if image.mode in _DEEP_MODES:
            raise UserError(f"{path} has more than 8 bits per pixel (mode {image.mode}): convert it to 8 bits")
        return (height, width), "L" if image.mode in _GREY_MODES else "RGB"


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """An image file open for reading; whatever goes wrong with it becomes a UserError that names the file."""
    from PIL import Image, UnidentifiedImageError

    try:
        # Only these two formats: Pillow must not try a reader that runs other programs on a file of unknown content.
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            yield image
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is no PNG or JPEG image, whatever its name says: remove or replace it") from error
    except Exception as error:  # on a damaged file Pillow raises SyntaxError, ValueError, struct.error and others
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        raise UserError(f"{path} is a damaged image ({error}): remove or replace it") from error


def _pixels(size: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in size)
