"""What a node is called in text and drawings, and lines that fit their place."""

from __future__ import annotations

import ntpath
import unicodedata

from chainrule.graph.node import CONSTANT, Node


def name_of(node: Node) -> str:
    """The node's label, or the number that it is."""
    if node.label:
        return clean(node.label)
    if node.operation is CONSTANT and node.value is not None and node.size == 1:
        number = node.value.item()
        return str(number) if isinstance(number, bool | int) else f"{float(number):g}"
    return ""


def source_line(node: Node) -> str:
    """``model.py:12``: never the folder, which belongs to the user's machine."""
    return f"{clean(ntpath.basename(node.origin.file))}:{node.origin.line}" if node.origin.line else ""


def clean(line: str) -> str:
    """One line of characters that XML allows: white space as spaces, control characters and surrogates replaced."""
    return "".join(
        " " if one.isspace() else "\ufffd" if unicodedata.category(one) in ("Cc", "Cs") or one in "\ufffe\uffff" else one
        for one in line
    )


def display_width(line: str) -> int:
    """How many characters wide a line is in a fixed-width font."""
    return len(line) + sum(unicodedata.east_asian_width(one) in "WF" for one in line)


def shortened(line: str, most: int) -> str:
    if display_width(line) <= most:
        return line
    line = line[:most]
    while display_width(line) > most - 1:
        line = line[:-1]
    return line.rstrip() + "…"
