"""The image that a file of somebody's own gives a network, and in sentences what was done to it."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePath

import numpy as np

from chainrule.data.image_files import TRANSPARENT, UNFILLED, UnreadableImage, decode, read_header
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.graph import Array
from chainrule.lens.tracing.tracer import Tracer


def image_of_file(tracer: Tracer, content: bytes, name: str, invert: bool = False) -> tuple[Array, list[str]]:
    """The image (C, H, W), bytes, in the ``content`` of a file, as the network takes it, and notes on what was done to it.

    It is read as ``chainrule predict`` reads files. ``invert`` turns light into dark.

    Raises:
        UserError: there is no image in it.
    """
    shown = displayed(name) or "the file"
    if not content:
        raise UserError(f"{shown} is empty: choose a file with an image")
    channels, height, width = tracer.image_shape
    ending = PurePath(name).suffix
    with tempfile.TemporaryDirectory(prefix="chainrule-lens-") as folder:
        path = Path(folder) / f"image{ending if ending[1:].isalnum() and ending.isascii() and len(ending) < 9 else ''}"
        path.write_bytes(content)
        try:
            header = read_header(path)
            decoded = decode(path, (height, width), "L" if channels == 1 else "RGB")
        except UnreadableImage as error:
            raise UserError(f"{shown} {error.reason}") from None
    notes = []
    if header.size != (height, width):
        notes.append(f"resized from {header.size[1]} x {header.size[0]} to {width} x {height} pixels")
    if header.mode == "RGB" and channels == 1:
        notes.append("made grey, as the network takes a single channel")
    if decoded.transparent:
        notes.append(TRANSPARENT)
    if decoded.unfilled:
        notes.append(UNFILLED)
    if decoded.blank:
        notes.append("nothing is seen on it: all pixels are alike")
    pixels = np.ascontiguousarray(decoded.pixels.transpose(2, 0, 1))
    if invert:
        notes.append("inverted: light is dark and dark is light")
        pixels = 255 - pixels
    return pixels, notes
