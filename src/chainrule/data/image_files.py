"""An image file as the pixels that a person sees. Pillow is imported only when a file is to be read.

The image is turned as its EXIF orientation says, laid on white where it is transparent, and brought to 8 bits. Training and
prediction both read images here, so a model is shown what it was trained on.
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
"""The number of channels of each mode in which images are read: grey (L) and colour (RGB)."""

TRANSPARENT = "transparent in parts, where white is put behind"
_EIGHTH = "values stay below an eighth of what 16 bits hold; if they have 12 bits, multiply them by 16"
UNFILLED, SEVERAL_UNFILLED = f"nearly black: its {_EIGHTH}", f"nearly black: their {_EIGHTH}"
"""What a person is told about an image for each attribute of ``Decoded`` that is true."""

_NOT_READ = {
    "EPS": "is a document (PostScript), which another program would have to draw: save it as PNG",
    "PDF": "is a document (PDF), which another program would have to draw: save it as PNG",
    "WMF": "is a drawing (WMF), which only Windows can draw: save it as PNG",
    "MPEG": "is a video: save pictures of it as PNG",
    "FLI": "is an animation (FLI): save pictures of it as PNG",
    "IPTC": "is a record of news agencies (IPTC), which may hold a file of any kind: save its image as PNG",
    **dict.fromkeys(("BUFR", "GRIB", "HDF5"), "holds measurements, not an image of a format that is read: save images as PNG"),
}
"""Formats that Pillow knows and that are not read, with the reason. Pillow decodes some of them by other programs, which a file
from outside could lead astray; some contain files of any other format, the former included; others it knows only by name."""

_NOT_KNOWN = {
    **dict.fromkeys((".heic", ".heif"), "is a photo in a format that is not read: save it as JPEG"),
    **dict.fromkeys((".svg", ".svgz"), "is a drawing (SVG), which another program would have to draw: save it as PNG"),
    **dict.fromkeys((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"), "is a video: save pictures of it as PNG"),
}
"""Endings of names that people take for those of images, and that Pillow alone does not know."""

_READ_AS = {"MPO": "JPEG"}
"""Formats that are read under the name of another: files of several photos, of which the first is an ordinary JPEG."""

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
_DEEPEST, _DEEPEST_OF_12_BITS = 65_535, 4_095
_FILLED = 8  # a picture of 16 bits whose values are all below this fraction (1/8) of the range is nearly black
_MOST_CHUNKS = 100_000  # of a PNG; photos have hundreds
_ORIENTATION = 274  # the EXIF tag
_WHITE = (255, 255, 255, 255)


class UnreadableImage(UserError):  # noqa: N818 - what is wrong, not that something is
    """A file that gives no image; ``reason`` says why, without naming the file."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{displayed(path)} {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about its image before a pixel is decoded: (height, width) once it is upright, and "L" or "RGB"."""

    size: tuple[int, int]
    mode: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels, uint8 (H, W, C), and what a person should know about them.

    ``transparent``: parts of the image were transparent, and are white now. ``unfilled``: its values have 16 bits but lie in
    the lowest eighth of their range, so that it is nearly black; often they have 12 bits, which the file does not say.
    """

    pixels: NDArray[np.uint8]
    transparent: bool
    unfilled: bool = False

    @property
    def blank(self) -> bool:
        """Whether all pixels have the same colour."""
        return bool((self.pixels == self.pixels[:1, :1]).all())


def image_endings() -> frozenset[str]:
    """How names of image files end, in small letters: the endings that Pillow, with its plugins, has registered for the formats
    that are read here. What is in a file is told by its content, whatever its name."""
    formats = set(_readers())
    return frozenset(ending for ending, name in _pillow().EXTENSION.items() if _READ_AS.get(name, name) in formats)


def why_not_read(ending: str) -> str:
    """Why a file whose name ends like this, in small letters, is not taken for an image."""
    return _known_of(ending) or "has no name of an image"


def _known_of(ending: str) -> str:
    """Why no image is read from a file whose name ends like this; "" if it may be an image, or nobody takes it for an image."""
    if ending in image_endings():
        return ""
    name = _pillow().EXTENSION.get(ending, "")
    other = "is of a format that Pillow does not read here: save it as PNG" if name else ""
    return _NOT_READ.get(name) or _NOT_KNOWN.get(ending) or other


def read_header(path: Path) -> Header:
    """The header of an image file; UnreadableImage if the file is not an image that can be read."""
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
            # A large JPEG is decoded at a half, a quarter or an eighth of its size, several times as fast. At least twice the
            # size that is asked for is left, so that resizing still averages over pixels.
            image.draft("L" if mode == "L" else None, (2 * width, 2 * height))
        bits = _bits(image)
        image, unfilled = _eight_bits(image, bits)
        seen, transparent = _on_white(image)
        pixels = seen.convert(mode)
        if size is not None:
            pixels = pixels.resize((width, height), Resampling.BILINEAR)
        if turn is not None:
            pixels = pixels.transpose(turn)
        decoded: NDArray[np.uint8] = np.asarray(pixels)
        return Decoded(decoded.reshape(*decoded.shape[:2], CHANNELS[mode]), transparent, unfilled)


def _is_grey(image: Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB") or [0, 0, 0], np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in _GREY_MODES


def _on_white(image: Image) -> tuple[Image, bool]:
    """The image as it looks on white paper, and whether it is transparent anywhere."""
    if not image.has_transparency_data:
        # Converted to RGBA first, as Pillow warns about some palettes otherwise.
        return (image.convert("RGBA") if image.mode == "P" else image), False
    from PIL import Image as Pillow

    picture = image.convert("RGBA")
    if picture.getextrema()[3][0] == 255:  # type: ignore[misc]
        return picture, False
    return Pillow.alpha_composite(Pillow.new("RGBA", picture.size, _WHITE), picture), True


def _bits(image: Image) -> int:
    """Bits of a stored value: 12 or 16 if Pillow's decoder is told so, else 8. Known only before pixels are decoded."""
    tiles = getattr(image, "tile", [])  # each tile is (decoder, place, offset, what the decoder is told)
    told = [word for tile in tiles for word in (tile[3] if isinstance(tile[3], tuple) else tile[3:]) if isinstance(word, str)]
    if any(word.startswith("I;12") for word in told):
        return 12
    return 16 if image.mode.startswith("I") or any(";16" in word for word in told) else 8


def _eight_bits(image: Image, bits: int) -> tuple[Image, bool]:
    """The image in 8 bits, and whether it had 16 bits that are ``unfilled``. Grey levels are scaled here, as Pillow would clip
    them, so that almost every pixel became white; colours Pillow scales when it decodes them."""
    if not image.mode.startswith("I"):
        ink_is_high = image.mode == "CMYK"  # there 0 is white
        return image, bits == 16 and not ink_is_high and _unfilled(max(_largest(image)), 256)
    from PIL import Image as Pillow

    deep = np.asarray(image).astype(np.int64)
    deepest = _DEEPEST_OF_12_BITS if bits == 12 else _DEEPEST
    level = (np.clip(deep, 0, deepest) * 255 + deepest // 2) // deepest
    grey = Pillow.fromarray(level.astype(np.uint8))
    nothing = image.info.get("transparency")
    ink = deep
    if isinstance(nothing, int):  # the level that stands for no ink
        ink = deep[deep != nothing]
        grey.putalpha(Pillow.fromarray(np.where(deep == nothing, 0, 255).astype(np.uint8)))
    return grey, bits == 16 and _unfilled(int(ink.max(initial=0)), _DEEPEST + 1)


def _unfilled(largest: int, levels: int) -> bool:
    return 0 < largest < levels // _FILLED  # an image that is all black is blank, whatever its bits


def _largest(image: Image) -> Iterator[int]:
    """The largest value of each channel, except for the channel of transparency."""
    for name, band in zip(image.getbands(), image.split(), strict=True):
        if name not in "Aa":
            yield int(band.getextrema()[1])  # type: ignore[arg-type]


def _turn(image: Image, file: BinaryIO) -> Any:
    """The transposition (of Pillow) that turns a stored image upright, or None. Known only before pixels are decoded."""
    if image.format == "TIFF":  # Pillow turns it itself
        return None
    try:
        if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode the pixels to see what follows them
            return _turns().get(_late_orientation(file))
        return _turns().get(image.getexif().get(_ORIENTATION))
    except Exception:  # damaged EXIF data do not mean that the pixels are damaged
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


def _pillow() -> Any:
    """Pillow with all of its readers."""
    from PIL import Image as Pillow

    Pillow.init()
    return Pillow


def _readers() -> list[str]:
    """The formats that are read, beginning with those that Pillow tries first."""
    pillow = _pillow()
    return [name for name in pillow.ID if name in pillow.OPEN and name not in _NOT_READ]


def _formats(ending: str) -> list[str]:
    """The formats that a file whose name ends like this may be of. Some have no signature by which Pillow could tell them, so
    that it would take any file for one: those are looked for only in files that have the name of such a one."""
    pillow = _pillow()
    named = pillow.EXTENSION.get(ending)
    return [name for name in _readers() if pillow.OPEN[name][1] is not None or name == named]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image, BinaryIO]]:
    """An image and its file, open for reading; whatever is wrong with it becomes an UnreadableImage."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        _check_regular(path)
        # Not by its name, or Pillow maps some files into memory, and then scrambles a TIFF that is to be turned on its side.
        with open(path, "rb") as file, Pillow.open(file, formats=_formats(path.suffix.lower())) as image:
            if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
                raise UnreadableImage(path, f"has grey levels of 32 bits (mode {image.mode}): convert it to 8 or 16 bits")
            yield image, file
    except (UnreadableImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        known = "is empty, 0 bytes" if not path.stat().st_size else _known_of(path.suffix.lower())
        raise UnreadableImage(path, known or "is no image of a format that is read, whatever its name says") from error
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
