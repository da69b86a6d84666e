"""One image file as the pixels that a person sees. Pillow is imported only when a file is read.

It is turned as its EXIF orientation says, laid on white where it is transparent, and brought to 8 bits. Training and prediction
read through this one place, so a model meets what it was trained on.
"""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from chainrule.display import displayed
from chainrule.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

CHANNELS = {"L": 1, "RGB": 3}
"""Channels of the modes that images are read in: grey and colour."""

SUFFIXES = frozenset(
    (
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".pbm", ".pcx"),
        *(".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tif", ".tiff", ".webp"),
    )
)
"""How names of image files end, in small letters. What a file is its content says, whatever its name."""

# Not everything that Pillow reads: some of its readers run other programs on a file, and some take any content for theirs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "DIB", "PCX", "QOI")

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
_DEEPEST = 65_535
_MOST_CHUNKS = 100_000  # of a PNG; photos have hundreds
_ORIENTATION = 274  # the EXIF tag
_WHITE = (255, 255, 255, 255)


class UnreadableImage(UserError):  # noqa: N818 - what is wrong, not that something is
    """A file that gives no image; ``reason`` says why, without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{displayed(path)} {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its image before any pixel is decoded: (height, width) as it is seen, upright, and "L" or "RGB"."""

    size: tuple[int, int]
    mode: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels uint8 (H, W, C), and whether parts of the image were transparent, where white shows now."""

    pixels: NDArray[np.uint8]
    transparent: bool


def read_header(path: Path) -> Header:
    """The header of an image file; UnreadableImage if it has none."""
    with _opened(path) as (image, file):
        width, height = image.size
        if _turn(image, file) in _sideways():
            width, height = height, width
        return Header((height, width), "L" if _is_grey(image) else "RGB")


def decode(path: Path, size: tuple[int, int] | None, mode: str) -> Decoded:
    """The image of a file, resized to ``size`` (height, width), in mode "L" or "RGB"; UnreadableImage if it cannot be."""
    from PIL.Image import Resampling

    with _opened(path) as (image, file):
        turn = _turn(image, file)
        if size is not None:
            width, height = size if turn in _sideways() else size[::-1]
            # A JPEG of many pixels comes at a half, a quarter or an eighth of them, several times as fast. Twice what is
            # asked for is left, so that resizing still averages over pixels.
            image.draft("L" if mode == "L" else None, (2 * width, 2 * height))
        seen, transparent = _on_white(_eight_bits(image))
        pixels = seen.convert(mode)
        if size is not None:
            pixels = pixels.resize((width, height), Resampling.BILINEAR)
        if turn is not None:
            pixels = pixels.transpose(turn)
        decoded: NDArray[np.uint8] = np.asarray(pixels)
        return Decoded(decoded.reshape(*decoded.shape[:2], CHANNELS[mode]), transparent)


def _is_grey(image: Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB") or [0, 0, 0], np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in _GREY_MODES


def _on_white(image: Image) -> tuple[Image, bool]:
    """What is seen of an image on white paper, and whether it is transparent anywhere."""
    if not image.has_transparency_data:
        # By way of RGBA, as Pillow warns of what it finds in some palettes otherwise.
        return (image.convert("RGBA") if image.mode == "P" else image), False
    from PIL import Image as Pillow

    picture = image.convert("RGBA")
    if picture.getextrema()[3][0] == 255:  # type: ignore[misc]
        return picture, False
    return Pillow.alpha_composite(Pillow.new("RGBA", picture.size, _WHITE), picture), True


def _eight_bits(image: Image) -> Image:
    """Grey levels of 16 bits on the scale of 8: Pillow itself would clip them, so that almost every pixel becomes white."""
    if not image.mode.startswith("I"):
        return image
    from PIL import Image as Pillow

    deep = np.asarray(image).astype(np.int64)
    level = (np.clip(deep, 0, _DEEPEST) * 255 + _DEEPEST // 2) // _DEEPEST
    grey = Pillow.fromarray(level.astype(np.uint8))
    nothing = image.info.get("transparency")
    if isinstance(nothing, int):  # the level that stands for no ink
        grey.putalpha(Pillow.fromarray(np.where(deep == nothing, 0, 255).astype(np.uint8)))
    return grey


def _turn(image: Image, file: BinaryIO) -> Any:
    """What turns a stored image as it was held: a transposition of Pillow's, or None. To be asked before pixels are decoded."""
    if image.format == "TIFF":  # Pillow turns it itself
        return None
    try:
        if image.format == "PNG" and "exif" not in image.info:  # where Pillow would decode the pixels to see what follows
            return _turns().get(_late_orientation(file))
        return _turns().get(image.getexif().get(_ORIENTATION))
    except Exception:  # damaged EXIF data say nothing of the pixels
        return None


def _late_orientation(file: BinaryIO) -> Any:
    """The orientation in the EXIF data of a PNG, wherever they stand; the file is left where it was."""
    from PIL.Image import Exif

    place = file.tell()
    try:
        file.seek(len(b"\x89PNG\r\n\x1a\n"))
        for _ in range(_MOST_CHUNKS):
            start = file.read(8)
            if len(start) < 8 or start[4:] == b"IEND":
                break
            length = int.from_bytes(start[:4], "big")
            if start[4:] == b"eXIf":
                exif = Exif()
                exif.load(file.read(length))
                return exif.get(_ORIENTATION)
            file.seek(length + 4, os.SEEK_CUR)  # and its checksum
    finally:
        file.seek(place)
    return None


@functools.cache
def _turns() -> dict[Any, Any]:
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }


@functools.cache
def _sideways() -> frozenset[Any]:
    """The turns that exchange height and width."""
    return frozenset(_turns()[number] for number in (5, 6, 7, 8))


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this Pillow was built with."""
    from PIL import Image as Pillow

    Pillow.init()
    return tuple(name for name in _FORMATS if name in Pillow.OPEN)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image, BinaryIO]]:
    """An image and its file, open for reading; whatever is wrong with it becomes an UnreadableImage."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        _check_regular(path)
        # Not by its name, or Pillow maps some files into memory, and then scrambles a TIFF that is to be turned on its side.
        with open(path, "rb") as file, Pillow.open(file, formats=_formats()) as image:
            if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
                raise UnreadableImage(path, f"has grey levels of 32 bits (mode {image.mode}): convert it to 8 or 16 bits")
            yield image, file
    except (UnreadableImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(path, "is no image of a format that is read, whatever its name says") from error
    except Pillow.DecompressionBombError as error:
        most = 2 * (Pillow.MAX_IMAGE_PIXELS or 0)
        raise UnreadableImage(path, f"has more than {most:,} pixels, which could fill the memory: make it smaller") from error
    except Exception as error:  # on a damaged file Pillow raises SyntaxError, ValueError, struct.error and others
        if isinstance(error, OSError) and error.errno is not None:
            raise UnreadableImage(path, f"cannot be read ({error.strerror})") from error
        raise UnreadableImage(path, f"is damaged ({displayed(error)})") from error


def _check_regular(path: Path) -> None:
    """To open anything but a file might wait for ever, or never end."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise UnreadableImage(path, "is a folder")
    if not stat.S_ISREG(mode):
        raise UnreadableImage(path, "is no file but a pipe or a device")
