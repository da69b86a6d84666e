"""A folder that a process works in for long, and that somebody may rename or remove meanwhile."""

from __future__ import annotations

import os
import sys
from pathlib import Path


class HeldFolder:
    """The folder that is at ``path`` now, kept open so that it is known again wherever it is renamed to.

    Windows renames and removes no folder in which a file is open, so nothing is to be known there. ``close`` it in the end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        try:
            self._handle = None if sys.platform == "win32" else os.open(path, os.O_RDONLY)
        except OSError:  # of a folder that may not be listed
            self._handle = None

    def in_place(self) -> bool:
        """Whether it is still at its path; true where that cannot be told."""
        if self._handle is None:
            return True
        return self._is_at(self._path)

    def now(self) -> Path | None:
        """Where it is now; None if it was removed, or where the system does not say."""
        if self._handle is None:
            return None
        try:
            place = Path(_path_of(self._handle))
        except (OSError, ValueError):
            return None
        return place if self._is_at(place) else None

    def _is_at(self, path: Path) -> bool:
        assert self._handle is not None
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._handle))
        except OSError:
            return False

    def close(self) -> None:
        """Let go of it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def _path_of(handle: int) -> str:
    """The path of what is open, as far as the system keeps it; an OSError where it does not."""
    if sys.platform == "darwin":
        import fcntl

        return os.fsdecode(fcntl.fcntl(handle, fcntl.F_GETPATH, bytes(1024)).partition(b"\0")[0])
    return os.readlink(f"/proc/self/fd/{handle}")
