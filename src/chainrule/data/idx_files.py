"""The IDX file format of MNIST and its relatives: a magic number, the dimensions, then the elements, big-endian.

Layout: two zero bytes, a byte for the type of the elements, a byte for the number of dimensions, four bytes per dimension.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chainrule.arguments import explained
from chainrule.data.dataset import ArrayDataset, check_labels
from chainrule.display import displayed
from chainrule.errors import UserError

_ELEMENT_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_TYPE_CODES = {dtype.newbyteorder("="): code for code, dtype in _ELEMENT_TYPES.items()}
_GZIP_MAGIC = b"\x1f\x8b"


@explained
def idx(
    images_path: str | os.PathLike[str], labels_path: str | os.PathLike[str], classes: Sequence[str] | None = None
) -> ArrayDataset:
    """Data set of two IDX files, gzip or plain: images (N,H,W) or (N,C,H,W), and labels (N,).

    Unsigned bytes are pixels 0 to 255; floating-point elements are taken as they are; other integers must be 0 to 255.
    Without ``classes`` they are named "0", "1", ... up to the largest label.

    Raises:
        UserError: a file is missing, truncated or foreign, the counts disagree, or a value does not fit.
    """
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim not in (3, 4):
        swapped = " (are the two paths swapped?)" if images.ndim == 1 and labels.ndim in (3, 4) else ""
        raise UserError(
            f"{displayed(images_path)} holds an array of shape {images.shape}: "
            f"expected images (N, H, W) or (N, C, H, W){swapped}"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{displayed(labels_path)} holds {labels.dtype} of shape {labels.shape}: "
            "expected labels, one whole number per image"
        )
    if len(images) != len(labels):
        raise UserError(
            f"{displayed(images_path)} holds {len(images)} images but {displayed(labels_path)} holds {len(labels)} labels: "
            "they do not belong together"
        )
    numbers, names = check_labels(labels, classes, displayed(labels_path))
    if images.dtype.kind == "i":
        images = _as_bytes(images, displayed(images_path))
    return ArrayDataset(images, numbers, names, name=displayed(images_path))


@explained
def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Array of an IDX file, gzip or plain, of any of its six element types, in the machine's byte order.

    Raises:
        UserError: the file is missing, truncated, or no IDX file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{displayed(path)} cannot be read: {error.strerror}") from error
    if data.startswith(_GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(f"{displayed(path)} is a damaged gzip file ({error}): download it again") from error
    return parse_idx(data, str(path))


def parse_idx(data: bytes, name: str) -> NDArray[Any]:
    """The array that the bytes of an IDX file hold. Errors (UserError) call the file ``name``."""
    dtype = _ELEMENT_TYPES.get(data[2]) if len(data) >= 4 and data[:2] == b"\0\0" else None
    if dtype is None or data[3] == 0:
        raise UserError(f"{displayed(name)} is no IDX file: it starts with the bytes {data[:4].hex(' ') or '(none)'}")
    dimensions = data[3]
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise UserError(f"{displayed(name)} is truncated: it ends in its header, after {len(data)} bytes; download it again")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", dimensions, offset=4))
    expected = header + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        what = "truncated" if len(data) < expected else "damaged"
        raise UserError(
            f"{displayed(name)} is {what}: {dtype.newbyteorder('=')} of shape {shape} takes {expected} bytes, "
            f"it holds {len(data)}; download it again"
        )
    return np.frombuffer(data, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))


@explained
def write_idx(path: str | os.PathLike[str], array: ArrayLike) -> None:
    """Write an array (uint8, int8, int16, int32, float32 or float64) as an IDX file; gzip if the name ends in .gz.

    The file appears only when it is complete, and equal arrays give equal bytes.

    Raises:
        UserError: IDX has no such element type or number of dimensions, or the file cannot be written.
    """
    values = np.asarray(array)
    code = _TYPE_CODES.get(values.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(str(dtype) for dtype in _TYPE_CODES)
        raise UserError(f"{displayed(path)}: an IDX file cannot hold {values.dtype}: convert the array to one of {known}")
    if not 1 <= values.ndim <= 255:
        raise UserError(f"{displayed(path)}: an IDX file has 1 to 255 dimensions, the array has {values.ndim}")
    if max(values.shape) >= 2**32:
        raise UserError(f"{displayed(path)}: a dimension of an IDX file is below 2**32, the array's shape is {values.shape}")
    header = bytes([0, 0, code, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    data = header + values.astype(_ELEMENT_TYPES[code], copy=False).tobytes()
    target = Path(path)
    if target.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{displayed(path)} cannot be written: {error.strerror}") from error


def _as_bytes(images: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Pixels of a signed type as uint8. The type alone decides, so that train and test are scaled alike."""
    wrong = (images < 0) | (images > 255)
    if wrong.any():
        place = tuple(int(i) for i in np.unravel_index(np.argmax(wrong), wrong.shape))
        raise UserError(
            f"{displayed(name)}: image {place[0]} holds {images[place]} at {place[1:]}: pixels of type {images.dtype} "
            "must be 0 to 255; store other values as float32"
        )
    return images.astype(np.uint8)
