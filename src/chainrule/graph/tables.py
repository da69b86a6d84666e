"""Results that print as tables: as text, and as HTML in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from chainrule.graph.fitting import Column, fits, fitted_table, left_out_note
from chainrule.graph.wrapping import wrapped


@dataclass(frozen=True)
class Contents:
    """The contents of a table: ``title`` above it, ``header`` (the names of columns), ``rows`` of cells, ``notes`` below it.

    A column name that ends with ">" marks a column of numbers, aligned to the right. Only the first ``most`` rows are shown;
    the others are counted. If the table is too wide, the columns ``least`` are left out, in that order, and the cells of the
    columns ``listed`` are broken at commas; those of the columns ``copied`` are never broken. ``gap`` is the number of spaces
    between columns.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    most: int = 1_000
    least: Sequence[str] = ()
    listed: Sequence[str] = ()
    copied: Sequence[str] = ()
    gap: int = 2

    @property
    def shown(self) -> Sequence[Sequence[str]]:
        """The rows that are shown: the first ``most``."""
        return self.rows[: self.most]

    @property
    def below(self) -> list[str]:
        """Lines below the table: the count of rows that are not shown, and the notes."""
        hidden = len(self.rows) - self.most
        return [*([f"... and {hidden} more rows"] if hidden > 0 else []), *self.notes]

    @property
    def columns(self) -> list[Column]:
        """The rows that are shown, column by column."""
        columns = []
        for i, name in enumerate(self.header):
            bare = name.removesuffix(">")
            cells, is_number = [row[i] for row in self.shown], name.endswith(">")
            columns.append(Column(bare, cells, right=is_number, listed=bare in self.listed, copied=bare in self.copied))
        return columns

    def parts(self, width: int | None = None, ruler: bool = True) -> tuple[list[str], list[str], list[str]]:
        """The lines of the header, of the rows and below them, each at most ``width`` characters wide."""
        header, rows, left_out = fitted_table(self.columns, width, self.least, ruler, self.gap)
        below = [*self.below, *([left_out_note(left_out)] if left_out else [])]
        return header, rows, [line for note in below for line in wrapped(note, width)]

    def fits(self, width: int, with_least: bool = True) -> bool:
        """Whether the columns, with or without those that may be left out, fit side by side into ``width`` characters."""
        columns = [column for column in self.columns if with_least or column.name not in self.least]
        return fits(columns, width, self.gap)

    def text(self, width: int | None = None) -> str:
        """The table as lines of at most ``width`` characters; None sets no limit."""
        header, rows, below = self.parts(width)
        return "\n".join([*wrapped(self.title, width), *header, *rows, *below])

    def html(self) -> str:
        """The table as HTML, with all columns, for a notebook."""
        aligns = ["right" if name.endswith(">") else "left" for name in self.header]

        def line(tag: str, cells: Sequence[str]) -> str:
            pairs = zip(cells, aligns, strict=True)
            return (
                "<tr>" + "".join(f'<{tag} style="text-align:{align}">{escape(cell)}</{tag}>' for cell, align in pairs) + "</tr>"
            )

        head = line("th", [name.removesuffix(">") for name in self.header])
        body = "".join(line("td", cells) for cells in self.shown)
        below = "".join(f"<div>{escape(note)}</div>" for note in self.below)
        return f"<div>{escape(self.title)}</div><table><thead>{head}</thead><tbody>{body}</tbody></table>{below}"


class Table(ABC):
    """Base of results that people look at: ``print`` and the prompt show a table, a notebook shows it as HTML."""

    @abstractmethod
    def contents(self) -> Contents:
        """Title, columns, rows and notes of the table."""

    def __str__(self) -> str:
        return self.contents().text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.contents().html()
