"""Folders that a subcommand leaves its results in: whose they are, so that nothing else in them is ever overwritten."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import cannot_write, write_atomically
from chainrule.formats.atomic import is_temporary


@dataclass(frozen=True)
class ResultFolder:
    """A kind of folder: its name in messages ("evaluation"), with its article, and the file of facts by which one is known."""

    name: str
    article: str
    facts: str

    @property
    def kind(self) -> str:
        """What the facts of such a folder say that they are."""
        return f"chainrule {self.name}"

    def check(self, folder: Path) -> None:
        """UserError if ``folder`` contains anything, but no earlier results of this kind whose files may be replaced."""
        if not os.path.lexists(folder):
            return
        if not folder.is_dir():
            raise UserError(f"{displayed(folder)} is a file: give another folder for the {self.name} with --out")
        # Beside an unfinished first file, of another process that works at this moment or was killed, there is nothing else.
        names = [path.name for path in folder.iterdir() if not is_temporary(path, folder / self.facts)]
        if names and not self._is_one(folder / self.facts):
            raise UserError(
                f"{displayed(folder)} contains files that are not of {self.article} {self.name}, and nothing there is to be "
                "overwritten: give an empty or a new folder with --out"
            )

    def _is_one(self, path: Path) -> bool:
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(facts, dict) and facts.get("kind") == self.kind

    def begin(self, folder: Path, facts: dict[str, Any]) -> None:
        """Make the folder if need be, and write the facts, which come first: whatever happens then, the next results of this
        kind may replace it.

        Raises:
            UserError: the folder contains something else, or cannot be written.
        """
        self.check(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        write_atomically(folder / self.facts, json.dumps({"kind": self.kind, **facts}) + "\n")
