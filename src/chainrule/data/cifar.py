"""CIFAR-10 in its binary version: records of one label byte and 3×32×32 pixels, channel by channel, row by row."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chainrule.arguments import explained
from chainrule.data.arguments import check_split
from chainrule.data.dataset import ArrayDataset
from chainrule.display import displayed
from chainrule.errors import UserError

CIFAR10_FILES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
_CLASS_NAMES = "batches.meta.txt"
_RECORD = 1 + 3 * 32 * 32


@explained
def cifar10(folder: str | os.PathLike[str], split: str = "train") -> ArrayDataset:
    """CIFAR-10 from the folder of its unpacked binary version: images 3×32×32 uint8, red, green, blue.

    "train" reads data_batch_1.bin to data_batch_5.bin, "test" reads test_batch.bin; batches.meta.txt names the classes.

    Raises:
        UserError: unknown split, or a file is missing, truncated or foreign.
    """
    files = [Path(folder, name) for name in CIFAR10_FILES[check_split(split)]]
    classes = _class_names(Path(folder, _CLASS_NAMES))
    records = np.concatenate([_records(path, len(classes)) for path in files])
    images = records[:, 1:].reshape(-1, 3, 32, 32)
    return ArrayDataset(images, records[:, 0], classes, name=f"{folder} {split}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(
            f"{displayed(path)} is missing: expected the unpacked CIFAR-10 binary version (cifar-10-binary.tar.gz); "
            "the Python version cannot be read, since it holds pickles"
        ) from error
    except OSError as error:
        raise UserError(f"{displayed(path)} cannot be read: {error.strerror}") from error


def _class_names(path: Path) -> list[str]:
    try:
        names = [line.strip() for line in _read(path).decode().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{displayed(path)} is no text file: expected one class name per line") from error
    if not names:
        raise UserError(f"{displayed(path)} is empty: expected one class name per line")
    return names


def _records(path: Path, classes: int) -> NDArray[np.uint8]:
    data = _read(path)
    if not data or len(data) % _RECORD:
        raise UserError(
            f"{displayed(path)} holds {len(data)} bytes, which is no whole number of records of {_RECORD} bytes: "
            "it is truncated or no CIFAR-10 file; unpack the archive again"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    wrong = np.flatnonzero(records[:, 0] >= classes)
    if wrong.size:
        raise UserError(
            f"{displayed(path)}: record {wrong[0]} has label {records[wrong[0], 0]}, with {classes} classes a label is "
            f"0 to {classes - 1}: it is damaged or no CIFAR-10 file"
        )
    return records
