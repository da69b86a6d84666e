"""Messages in lines that fit the width."""

from __future__ import annotations

import re

from chainrule.graph.wrapping import wrapped

_COMMAND = re.compile(r"((Then r|R)esume|Look at it again|Go on without it) with: ")
_CARET = re.compile(r" +\^")
_INDENT = 2


def message_lines(message: str, width: int) -> list[str]:
    """A message in lines of at most ``width``, broken between words.

    A command that is to be typed stays whole, so that it can be copied, as does a command in backquotes if there is room; a
    line that a caret points into is cut around it.
    """
    found: list[str] = []
    lines = message.split("\n")
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if _CARET.fullmatch(line) and found:
            continue  # it was written together with the line above it
        if _CARET.fullmatch(after):
            found += _cut(line, len(after) - 1, width)
        else:
            found += [line] if _COMMAND.match(line) else _broken(line, width)
    return found


def _broken(line: str, width: int) -> list[str]:
    text = line.lstrip(" ")
    indent = line[: len(line) - len(text)]
    return wrapped(text, width, indent, hanging=indent[:_INDENT])


def _cut(line: str, caret: int, width: int) -> tuple[str, str]:
    """The part of ``line`` around the column ``caret`` that fits, and the caret below it."""
    if max(len(line), caret + 1) <= width:
        return line, " " * caret + "^"
    text, place, room = line[_INDENT:], caret - _INDENT, width - _INDENT - 2  # a mark on either side of what is left out
    start = max(0, min(place - room // 2, len(text) - room))
    before, after = "…" if start else "", "…" if start + room < len(text) else ""
    shown = text[start : start + room]
    return f"{' ' * _INDENT}{before}{shown}{after}", " " * (_INDENT + len(before) + place - start) + "^"
