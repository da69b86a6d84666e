"""Text that fits its place: lines that are wrapped between words, and tables that narrow until they do.

A word is never broken, and so no number, path or name is: one that is wider than its place stands on a line of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.graph.names import display_width


def wrapped(line: str, width: int | None, indent: str = "", hanging: str = "  ") -> list[str]:
    """``line`` as lines of at most ``width``, broken at spaces; the first begins with ``indent``, all others have ``hanging``
    too. None leaves it whole."""
    if width is None or display_width(indent + line) <= width:
        return [indent + line]
    lines, now = [], indent
    for word in line.split(" "):
        joined = f"{now} {word}" if now.strip() else now + word
        if now.strip() and display_width(joined) > width:
            lines.append(now.rstrip())
            joined = indent + hanging + word
        now = joined
    return [*lines, now.rstrip()]


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, its cells, and how it may become narrow.

    ``right`` aligns numbers. ``listed`` cells are lists, ``3 (9), 5 (4)``, and may be broken after a comma.
    """

    name: str
    cells: Sequence[str]
    right: bool = False
    listed: bool = False

    def narrowest(self) -> int:
        """No cell is broken but a list; a name between its words."""
        parts = [part for cell in self.cells for part in self.split(cell)]
        return max(map(display_width, [*parts, *self.name.split()]), default=0)

    def widest(self) -> int:
        return max(map(display_width, [self.name, *self.cells]))

    def split(self, cell: str) -> list[str]:
        if not self.listed:
            return [cell]
        *first, last = cell.split(", ")
        return [*(f"{part}," for part in first), last]


def table(columns: Sequence[Column], width: int | None, ruler: bool = True, gap: int = 2) -> tuple[list[str], list[str]] | None:
    """Lines of the header and of the rows, with ``gap`` spaces between columns; None where they do not fit ``width`` however
    names and lists are broken."""
    widths = _widths(columns, width, gap)
    if widths is None:
        return None

    def side_by_side(cells: Sequence[Sequence[str]]) -> list[str]:
        lines = []
        for i in range(max(map(len, cells), default=0)):
            parts = [one[i] if i < len(one) else "" for one in cells]
            aligned = [
                " " * (room - display_width(part)) + part if column.right else part + " " * (room - display_width(part))
                for part, column, room in zip(parts, columns, widths, strict=True)
            ]
            lines.append((" " * gap).join(aligned).rstrip())
        return lines

    header = side_by_side([_filled(column.name.split(), " ", room) for column, room in zip(columns, widths, strict=True)])
    if ruler:
        header.append((" " * gap).join("-" * room for room in widths))
    rows = [
        line
        for cells in zip(*(column.cells for column in columns), strict=True)
        for line in side_by_side(
            [_filled(column.split(cell), " ", room) for column, cell, room in zip(columns, cells, widths, strict=True)]
        )
    ]
    return header, rows


def _widths(columns: Sequence[Column], width: int | None, gap: int) -> list[int] | None:
    """As wide as they need; else as narrow as they can be, and what is left is given from the left."""
    widest = [column.widest() for column in columns]
    room = None if width is None else width - gap * (len(columns) - 1)
    if room is None or sum(widest) <= room:
        return widest
    found = [column.narrowest() for column in columns]
    if sum(found) > room:
        return None
    for i, most in enumerate(widest):
        found[i] = min(most, found[i] + room - sum(found))
    return found


def _filled(parts: Sequence[str], joint: str, room: int) -> list[str]:
    """``parts`` joined into as few lines of ``room`` as they need."""
    lines: list[str] = []
    for part in parts:
        if lines and display_width(lines[-1] + joint + part) <= room:
            lines[-1] += joint + part
        else:
            lines.append(part)
    return lines


def fitted_table(
    columns: Sequence[Column], width: int | None, least: Sequence[str] = (), ruler: bool = True, gap: int = 2
) -> tuple[list[str], list[str], list[str]]:
    """Header, rows, and which columns were left out for them to fit: those of ``least``, in that order.

    Where that is not enough, each row is a block of lines with all of its cells, below the first of them, without a header.
    """
    left: list[str] = []
    for count in range(len(least) + 1):
        left = list(least[:count])
        found = table([column for column in columns if column.name not in left], width, ruler, gap)
        if found is not None:
            return *found, left
    return [], blocks(columns, width), []


def blocks(columns: Sequence[Column], width: int | None) -> list[str]:
    """Each row as lines: its first cell, and below it a line for each other one that says something."""
    first, *others = columns
    room = max((display_width(column.name) for column in others), default=0)
    lines = []
    for i, name in enumerate(first.cells):
        lines += wrapped(name, width)
        for column in others:
            if column.cells[i]:
                title = column.name + " " * (room - display_width(column.name))
                lines += wrapped(f"{title}  {column.cells[i]}", width, "  ", "  ")
    return lines
