"""Checks of arguments that every part of chainrule.data shares."""

from __future__ import annotations

from chainrule.arguments import whole_number
from chainrule.errors import UserError, unknown_value

SPLITS = ("train", "test")


def check_split(split: str) -> str:
    """Return ``split`` if it is "train" or "test"; UserError otherwise."""
    if split not in SPLITS:
        raise unknown_value("split", split, SPLITS)
    return split


def height_and_width(what: str, size: object) -> tuple[int, int]:
    """Return ``size``, a pair (height, width) in pixels, as two ints; UserError if it is no such pair."""
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise UserError(f"{what} is {size!r}: expected (height, width) in pixels")
    return whole_number(f"height in {what}", size[0], 1), whole_number(f"width in {what}", size[1], 1)
