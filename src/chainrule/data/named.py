"""From what a user types to a data set: a known name, or the path of a folder in one of three forms."""

from __future__ import annotations

import os
from pathlib import Path

from chainrule.arguments import explained
from chainrule.data.arguments import check_split
from chainrule.data.cifar import CIFAR10_FILES, cifar10
from chainrule.data.dataset import Dataset, check_labels
from chainrule.data.idx_files import idx, read_idx
from chainrule.data.image_folders import split_image_folder
from chainrule.data.mnist_files import mnist
from chainrule.display import displayed
from chainrule.errors import UserError, unknown_value

KNOWN = {"mnist": mnist}
"""Data sets that are known by name, and the functions that read them, given the split."""

_IDX_PREFIXES = {"train": "train", "test": "t10k"}


@explained
def load_dataset(
    spec: str | os.PathLike[str],
    split: str = "train",
    *,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
) -> Dataset:
    """One split, "train" or "test", of the data set that ``spec`` names.

    Args:
        spec: "mnist", or the path of a folder that holds
            - four IDX files named as MNIST's (train-images-idx3-ubyte, ..., gzip or plain);
            - the binary version of CIFAR-10 (data_batch_1.bin, ...);
            - train/ and test/ (or val/, valid/, validation/), each with a folder of images for each class;
            - a folder of images for each class, or train/ alone: a tenth of each class is then the test split (``look_at``).
        split: "train" or "test".
        size: (height, width) to resize images to; image folders only.
        mode: "L" or "RGB" to convert images to; image folders only.

    Raises:
        UserError: nothing has that name, or the files do not form a data set.
    """
    check_split(split)
    if isinstance(spec, str) and spec in KNOWN:
        _no_conversion(spec, size, mode)
        return KNOWN[spec](split)
    images = folder_of_images(spec)
    if images is not None:
        return split_image_folder(images, split, size, mode)
    folder = Path(os.path.expanduser(spec))
    _no_conversion(folder, size, mode)
    return _idx_folder(folder, split) if _holds_idx_files(set(os.listdir(folder))) else cifar10(folder, split)


def folder_of_images(spec: str | os.PathLike[str]) -> Path | None:
    """The path that ``spec`` names, unless it is a known data set or a folder of files of another kind.

    Raises:
        UserError: there is nothing of that name.
    """
    if isinstance(spec, str) and spec in KNOWN:
        return None
    folder = Path(os.path.expanduser(spec))
    if not folder.exists() or spec == "":  # "" would be the current folder
        if isinstance(spec, str) and Path(spec).name == spec:
            error = unknown_value("data set", spec, KNOWN)
            raise UserError(f"{error}, or the path of a folder of images, IDX files or CIFAR-10's binary files")
        raise UserError(
            f"{displayed(folder)} does not exist: expected a folder of images, IDX files or CIFAR-10's binary files"
        )
    if folder.is_dir():
        try:
            names = set(os.listdir(folder))
        except OSError as error:
            raise UserError(f"{displayed(folder)} cannot be read ({error.strerror})") from error
        # The Python version of CIFAR-10 has the same names without .bin: cifar10 says what to do about it.
        cifar = any(name in names or Path(name).stem in names for files in CIFAR10_FILES.values() for name in files)
        if cifar or _holds_idx_files(names):
            return None
    return folder


def _holds_idx_files(names: set[str]) -> bool:
    return any(candidate in names for prefix in _IDX_PREFIXES.values() for candidate in _idx_names(prefix, "images"))


def _no_conversion(spec: str | Path, size: object, mode: object) -> None:
    if size is not None or mode is not None:
        raise UserError(f"{displayed(spec)}: size and mode are for folders of image files; leave them out here")


def _idx_names(prefix: str, kind: str) -> list[str]:
    """The names under which the same file is distributed: with a hyphen or a dot before "idx", plain or gzip."""
    dimensions = 3 if kind == "images" else 1
    return [f"{prefix}-{kind}{sep}idx{dimensions}-ubyte{end}" for end in ("", ".gz") for sep in ("-", ".")]


def _idx_file(folder: Path, prefix: str, kind: str) -> Path:
    candidates = _idx_names(prefix, kind)
    for name in candidates:
        if (folder / name).exists():
            return folder / name
    raise UserError(
        f"{displayed(folder)} lacks {candidates[0]} (or {', '.join(candidates[1:])}): all four IDX files are needed"
    )


def _idx_folder(folder: Path, split: str) -> Dataset:
    files = {
        (prefix, kind): _idx_file(folder, prefix, kind) for prefix in _IDX_PREFIXES.values() for kind in ("images", "labels")
    }
    # Both splits have the same classes, even if the largest label occurs only in the training or only in the test split.
    paths = [files[prefix, "labels"] for prefix in _IDX_PREFIXES.values()]
    classes = max((check_labels(read_idx(path), None, displayed(path))[1] for path in paths), key=len)
    prefix = _IDX_PREFIXES[split]
    return idx(files[prefix, "images"], files[prefix, "labels"], classes)
