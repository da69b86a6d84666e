"""A folder that a process works in for long, and that may be renamed or removed meanwhile."""

from __future__ import annotations

import os
import sys
from pathlib import Path


class HeldFolder:
    """The folder that is at ``path`` now. It is kept open, so that it can be told where it is after it was renamed.

    Windows renames and removes no folder in which a file is open, so nothing needs to be kept there. ``close`` ends it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        try:
            self._handle = None if sys.platform == "win32" else os.open(path, os.O_RDONLY)
        except OSError:  # we may not list the folder
            self._handle = None

    def in_place(self) -> bool:
        """Whether the folder is still at its path; true where the system does not tell."""
        if self._handle is None:
            return True
        return self._is_at(self._path)

    def now(self) -> Path | None:
        """The path of the folder now; None if it was removed, or the system does not tell."""
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
        """Close the folder; its later paths are no longer known."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def _path_of(handle: int) -> str:
    """The path that the system keeps for an open file or folder; an OSError where it keeps none."""
    if sys.platform == "darwin":
        import fcntl

        return os.fsdecode(fcntl.fcntl(handle, fcntl.F_GETPATH, bytes(1024)).partition(b"\0")[0])
    return os.readlink(f"/proc/self/fd/{handle}")
