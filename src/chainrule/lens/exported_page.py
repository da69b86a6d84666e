"""The lens's page as one text: what a notebook shows in a frame, and what is written into a file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from chainrule.arguments import explained_methods
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import write_atomically

_HEIGHT = 760  # pixels: so much of a screen is left by a notebook's own bars


@explained_methods
@dataclass(frozen=True, repr=False)
class ExportedPage:
    """The lens's page with all that it shows, which needs no server and no network. ``lens.page`` makes it.

    A notebook shows it below the cell, in a frame that may run scripts and nothing else.

    Attributes:
        title: what it shows.
        html: the whole page.
    """

    title: str
    html: str = field(repr=False)

    def __repr__(self) -> str:
        return (
            f"<ExportedPage of {self.title}: {len(self.html):,} bytes; a notebook shows it, and .save('page.html') writes it>"
        )

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="{escape(self.title)}" sandbox="allow-scripts" width="100%" height="{_HEIGHT}" '
            f'style="border: 1px solid #8888; border-radius: 4px" srcdoc="{escape(self.html)}"></iframe>'
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page into a file, which a browser opens from the disk.

        Raises:
            UserError: the name does not end with .html, or the file cannot be written.
        """
        file = Path(path)
        if file.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"{displayed(file)}: the name must end with .html, as it is a page for a browser")
        write_atomically(file, self.html)
