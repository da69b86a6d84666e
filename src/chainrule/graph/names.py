"""Names of nodes for text and drawings, and the cleaning, measuring and shortening of such lines."""

from __future__ import annotations

import ntpath
import unicodedata

from chainrule.graph.node import CONSTANT, Node


def name_of(node: Node) -> str:
    """The node's label; without one, the number if it is a constant of one element; else empty."""
    if node.label:
        return clean(node.label)
    if node.operation is CONSTANT and node.value is not None and node.size == 1:
        number = node.value.item()
        return str(number) if isinstance(number, bool | int) else f"{float(number):g}"
    return ""


def source_line(node: Node) -> str:
    """File name and line, such as ``model.py:12``, without the folder, which is private; empty if the line is unknown."""
    return f"{clean(ntpath.basename(node.origin.file))}:{node.origin.line}" if node.origin.line else ""


def clean(line: str) -> str:
    """``line`` as one line of characters that XML allows: white space becomes spaces, forbidden characters U+FFFD."""
    return "".join(map(_clean_character, line))


def _clean_character(character: str) -> str:
    if character.isspace():
        return " "
    forbidden = unicodedata.category(character) in ("Cc", "Cs") or character in "\ufffe\uffff"
    return "\ufffd" if forbidden else character


def display_width(line: str) -> int:
    """Columns that a line takes in a fixed-width font: East Asian wide characters take two."""
    return len(line) + sum(unicodedata.east_asian_width(character) in "WF" for character in line)


def shortened(line: str, most: int) -> str:
    """``line`` if it takes at most ``most`` columns, else its beginning and an ellipsis."""
    if display_width(line) <= most:
        return line
    line = line[:most]
    while display_width(line) > most - 1:
        line = line[:-1]
    return line.rstrip() + "…"


def shortened_within(line: str, most: int) -> str:
    """``line`` if it takes at most ``most`` columns, else its beginning and its end around an ellipsis: ``n02…tabby``."""
    if display_width(line) <= most:
        return line
    first, last = len(line) // 2, len(line) // 2 + 1
    while first > 0 and last < len(line) and display_width(line[:first]) + 1 + display_width(line[last:]) > most:
        if display_width(line[:first]) > display_width(line[last:]):
            first -= 1
        else:
            last += 1
    return f"{line[:first].rstrip()}…{line[last:].lstrip()}"
