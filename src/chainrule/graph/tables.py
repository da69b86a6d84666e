"""Results that print as tables: as text, and as HTML in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from chainrule.graph.names import display_width


@dataclass(frozen=True)
class Contents:
    """What a table says: ``title`` above it, names of columns (with ">" at the end if numbers, which stand at the right),
    rows of as many cells, and ``notes`` below it. Of many rows the first ``most`` are shown, and the others counted."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    most: int = 1_000

    @property
    def shown(self) -> Sequence[Sequence[str]]:
        return self.rows[: self.most]

    @property
    def below(self) -> list[str]:
        hidden = len(self.rows) - self.most
        return [*([f"... and {hidden} more rows"] if hidden > 0 else []), *self.notes]

    def text(self) -> str:
        names = [name.removesuffix(">") for name in self.header]
        widths = [max(map(display_width, column)) for column in zip(names, *self.shown, strict=True)]

        def line(cells: Sequence[str]) -> str:
            aligned = []
            for cell, name, width in zip(cells, self.header, widths, strict=True):
                fill = " " * (width - display_width(cell))
                aligned.append(fill + cell if name.endswith(">") else cell + fill)
            return "  ".join(aligned).rstrip()

        ruler = "  ".join("-" * width for width in widths)
        return "\n".join([self.title, line(names), ruler, *map(line, self.shown), *self.below])

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
