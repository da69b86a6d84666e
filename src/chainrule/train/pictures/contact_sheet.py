"""Images that a network judged worst, side by side on one sheet, each with what it is and what it was taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.train.pictures.drawing import FAINT, LINE, PAPER, Words, fitting, png_of, write

_ACROSS = 8
_TILE, _PICTURE, _LETTERS, _LEADING = 148, 124, 12, 16
_WORDS = 3 * _LEADING + 12  # pixels of the lines below a picture
_MARGIN, _HEAD = 14, 44


@dataclass(frozen=True)
class Judged:
    """An image that was judged.

    ``name`` is the path of its file or its number in the data set; ``probability`` is that of the class it was ``taken_for``.
    """

    place: int
    name: str
    number: int
    taken: int
    true_class: str
    taken_for: str
    probability: float
    loss: float


def contact_sheet(title: str, images: np.ndarray[Any, Any], judged: Sequence[Judged]) -> bytes:
    """A PNG of ``images`` (N, C, H, W) in the order of ``judged``, in the size in which the network gets them: small ones are
    enlarged by a whole number, so that their pixels are seen. uint8 is shown as it is, floats from 0 to 1, or from the least of
    an image's values to the largest where they go beyond that."""
    from PIL import Image, ImageDraw

    across = min(_ACROSS, max(3, len(judged)))
    rows = -(-len(judged) // across)
    sheet = Image.new("RGB", (2 * _MARGIN + across * _TILE, _HEAD + rows * (_PICTURE + _WORDS) + _MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    write(sheet, Words(_MARGIN, 22, fitting(title, 15, sheet.width - 2 * _MARGIN), 15, bold=True))
    for place, (pixels, one) in enumerate(zip(images, judged, strict=True)):
        x = _MARGIN + place % across * _TILE
        y = _HEAD + place // across * (_PICTURE + _WORDS)
        picture = _picture(pixels)
        at = (x + 1, y + _PICTURE - picture.height)
        sheet.paste(picture, at)
        draw.rectangle([at[0] - 1, at[1] - 1, at[0] + picture.width, at[1] + picture.height], outline=LINE)
        below = y + _PICTURE + 13
        true, taken = fitting(one.true_class, _LETTERS, _TILE - 34), fitting(one.taken_for, _LETTERS, _TILE - 70)
        write(sheet, Words(x, below, f"{place + 1}.", _LETTERS, bold=True))
        write(sheet, Words(x + 22, below, true, _LETTERS, bold=True, instead=f"class {one.number}"))
        share = Words(x + 22, below + _LEADING, f"{100 * one.probability:.0f}%", _LETTERS)
        write(sheet, Words(x + 4, below + _LEADING, "→", _LETTERS, instead=">"))
        write(sheet, share)
        write(sheet, Words(x + 60, below + _LEADING, taken, _LETTERS, instead=f"class {one.taken}"))
        write(sheet, Words(x + 22, below + 2 * _LEADING, f"loss {one.loss:.3g}", 11, fill=FAINT))
    return png_of(sheet)


def _picture(pixels: np.ndarray[Any, Any]) -> Any:
    """An image of (C, H, W) in the size of a tile."""
    from PIL import Image

    if pixels.dtype != np.uint8:
        low, high = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
        pixels = (255 * (pixels - low) / (high - low)).astype(np.uint8)
    channels = pixels.shape[0]
    array = pixels.transpose(1, 2, 0) if channels == 3 else np.repeat(pixels[:1].transpose(1, 2, 0), 3, axis=2)
    image = Image.fromarray(np.ascontiguousarray(array))
    longest = max(image.size)
    if longest <= _PICTURE:
        factor = _PICTURE // longest
        return image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    size = [max(1, round(side * _PICTURE / longest)) for side in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
