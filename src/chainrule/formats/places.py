"""Paths that are kept for later: they mean the same wherever they are used, and are shown from the current folder on."""

from __future__ import annotations

import os
from pathlib import Path


def settled(path: str | os.PathLike[str]) -> Path:
    """The absolute path of what ``path`` means now, with ``~`` for the user's folder.

    Links keep their names, so that one that is set to something else later is followed there; only where ``..`` would make
    their names mean something else, they are resolved.
    """
    whole = Path(path).expanduser().absolute()
    return whole.resolve() if ".." in whole.parts else whole


def as_seen(path: str) -> str:
    """A path from the current folder on, if it lies below that, else as it is."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):  # it does not, or the current folder is gone
        return path


def from_folder(path: str | os.PathLike[str], folder: Path) -> str:
    """The way from ``folder`` to ``path``, such as ``../../photos``; "" where there is none, as between Windows' drives."""
    try:
        return os.path.relpath(settled(path), settled(folder))
    except ValueError:
        return ""
