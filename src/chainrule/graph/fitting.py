"""Tables that narrow as far as needed to fit a given width, down to a block of lines for each row.

A word is never broken, so that numbers, paths and names stay whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.graph.names import display_width
from chainrule.graph.wrapping import wrapped


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, its cells, and how it may become narrow.

    ``right`` aligns numbers. ``listed`` cells are lists, ``3 (9), 5 (4)``, and may be broken after a comma. ``copied`` cells
    are to be copied, as paths are, and stay whole, even on a line of their own that is too narrow for them.
    """

    name: str
    cells: Sequence[str]
    right: bool = False
    listed: bool = False
    copied: bool = False

    def narrowest(self) -> int:
        """Least width in characters, with lists broken after commas and the name between its words."""
        parts = [part for cell in self.cells for part in self.split(cell)]
        return max(map(display_width, [*parts, *self.name.split()]), default=0)

    def widest(self) -> int:
        """Width in characters with nothing broken."""
        return max(map(display_width, [self.name, *self.cells]))

    def split(self, cell: str) -> list[str]:
        """The parts between which ``cell`` may be broken; only a ``listed`` column has more than one."""
        if not self.listed:
            return [cell]
        *first, last = cell.split(", ")
        return [*(f"{part}," for part in first), last]


def table(columns: Sequence[Column], width: int | None, ruler: bool = True, gap: int = 2) -> tuple[list[str], list[str]] | None:
    """Lines of the header and of the rows, with ``gap`` spaces between columns.

    None if they do not fit ``width``, even with names and lists broken into several lines.
    """
    widths = _widths(columns, width, gap)
    if widths is None:
        return None

    def side_by_side(cells: Sequence[Sequence[str]]) -> list[str]:
        lines = []
        for i in range(max(map(len, cells), default=0)):
            parts = [lines_of_cell[i] if i < len(lines_of_cell) else "" for lines_of_cell in cells]
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


def fits(columns: Sequence[Column], width: int, gap: int = 2) -> bool:
    """Whether all columns fit side by side into ``width`` characters, if need be with names and lists in several lines."""
    return _widths(columns, width, gap) is not None


def _widths(columns: Sequence[Column], width: int | None, gap: int) -> list[int] | None:
    """The width of each column. If not all fit unbroken, each gets its least width, and columns on the left get the rest."""
    widest = [column.widest() for column in columns]
    room = None if width is None else width - gap * (len(columns) - 1)
    if room is None or sum(widest) <= room:
        return widest
    widths = [column.narrowest() for column in columns]
    if sum(widths) > room:
        return None
    for i, most in enumerate(widest):
        widths[i] = min(most, widths[i] + room - sum(widths))
    return widths


def _filled(parts: Sequence[str], joint: str, room: int) -> list[str]:
    """``parts`` joined by ``joint`` into as few lines of at most ``room`` characters as possible."""
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
    """The lines of the header, the lines of the rows, and the names of the columns that were left out.

    As many columns as needed are left out, in the order of ``least``. If that is not enough, there is no header, and each row
    becomes a block of lines (see ``blocks``).
    """
    left_out: list[str] = []
    for count in range(len(least) + 1):
        left_out = list(least[:count])
        fitted = table([column for column in columns if column.name not in left_out], width, ruler, gap)
        if fitted is not None:
            return *fitted, left_out
    return [], blocks(columns, width), []


def left_out_note(names: Sequence[str]) -> str:
    """What is said below a table without the columns of these ``names``."""
    return f"left out, as there is no room for {'it' if len(names) == 1 else 'them'}: {', '.join(names)}"


def blocks(columns: Sequence[Column], width: int | None) -> list[str]:
    """Each row as a block of lines: its first cell, and below it a line for each other cell that is not empty."""
    first, *others = columns
    room = max((display_width(column.name) for column in others), default=0)
    lines = []
    for i, name in enumerate(first.cells):
        lines += wrapped(name, None if first.copied else width)
        for column in others:
            if column.cells[i]:
                title = column.name + " " * (room - display_width(column.name))
                lines += wrapped(f"{title}  {column.cells[i]}", width, "  ", "  ")
    return lines
