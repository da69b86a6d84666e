"""Results that print as tables: as text, and as HTML in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from chainrule.graph.fitting import Column, fitted_table, table, wrapped


@dataclass(frozen=True)
class Contents:
    """What a table says: ``title`` above it, names of columns (with ">" at the end if numbers, which stand at the right),
    rows of as many cells, and ``notes`` below it. Of many rows the first ``most`` are shown, and the others counted.

    Where it is too wide, the columns ``least`` are left out, in that order; the cells of ``listed`` may be broken at a comma.
    ``gap`` spaces stand between columns.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    most: int = 1_000
    least: Sequence[str] = ()
    listed: Sequence[str] = ()
    gap: int = 2

    @property
    def shown(self) -> Sequence[Sequence[str]]:
        return self.rows[: self.most]

    @property
    def below(self) -> list[str]:
        hidden = len(self.rows) - self.most
        return [*([f"... and {hidden} more rows"] if hidden > 0 else []), *self.notes]

    @property
    def columns(self) -> list[Column]:
        """What is shown, column by column."""
        found = []
        for i, name in enumerate(self.header):
            bare = name.removesuffix(">")
            found.append(Column(bare, [row[i] for row in self.shown], right=name.endswith(">"), listed=bare in self.listed))
        return found

    def parts(self, width: int | None = None, ruler: bool = True) -> tuple[list[str], list[str], list[str]]:
        """Lines of the header, of the rows, and below them, for a place so many characters wide."""
        header, rows, left = fitted_table(self.columns, width, self.least, ruler, self.gap)
        below = [*self.below, *([f"left out, as it is too narrow here: {', '.join(left)}"] if left else [])]
        return header, rows, [line for one in below for line in wrapped(one, width)]

    def fits(self, width: int) -> bool:
        """Whether all columns find room side by side."""
        return table(self.columns, width, gap=self.gap) is not None

    def text(self, width: int | None = None) -> str:
        """The table as lines of at most ``width`` characters; None for as many as it needs."""
        header, rows, below = self.parts(width)
        return "\n".join([*wrapped(self.title, width), *header, *rows, *below])

    def html(self) -> str:
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
    """Something that people look at: ``print`` and the prompt show a table, a notebook an HTML one."""

    @abstractmethod
    def contents(self) -> Contents:
        """What the table says."""

    def __str__(self) -> str:
        return self.contents().text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.contents().html()
