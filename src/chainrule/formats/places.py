"""Paths that are kept for later: they mean the same wherever they are used, and are shown from the current folder on."""

from __future__ import annotations

import os
from pathlib import Path


def settled(path: str | os.PathLike[str]) -> Path:
    """The absolute path of what ``path`` means now, with ``~`` for the user's folder.

    Links keep their names, so that one that is set to something else later is followed there; only where ``..`` would make
    their names mean something else, they are resolved. Where the system cannot do that, as the current folder was removed or a
    link leads back to itself, the path stays as it is.
    """
    given = Path(os.path.expanduser(path))
    try:
        whole = given.absolute()
        return whole.resolve() if ".." in whole.parts else whole
    except (OSError, RuntimeError, ValueError):
        return given


def as_seen(path: str) -> str:
    """A path from the current folder on, if it lies below that and that is not the root; else as it is."""
    try:
        current = Path.cwd()
        return path if current == current.parent else str(Path(path).relative_to(current))
    except (ValueError, OSError):  # it does not, or the current folder is gone
        return path


def from_folder(path: str | os.PathLike[str], folder: Path) -> str:
    """The way from ``folder`` to ``path``, such as ``../../photos``; "" where there is none, as between drives of Windows."""
    try:
        return os.path.relpath(settled(path), settled(folder))
    except (OSError, ValueError):
        return ""
