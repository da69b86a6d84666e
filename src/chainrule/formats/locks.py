"""A lock between processes, which the system releases when the process that holds it ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import IO

from chainrule.display import displayed
from chainrule.errors import UserError, warn
from chainrule.formats.folders import HeldFolder

_BUSY = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})
_CANNOT = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_PID_PLACE = 1
"""Offset of the process number in the file: Windows locks single bytes, here byte 0, which others then cannot read."""


class FileLock:
    """A lock on the file ``path``, which contains the number of the process that holds the lock.

    It lasts until ``release()`` or the end of the process, also by a kill. A file that is left behind does not lock anything.
    ``what`` is the subject of error messages.

    Attributes:
        folder: while the lock is held, the folder in which it was taken, wherever that is renamed to.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self._what = path, what
        self._file: IO[bytes] | None = None
        self.folder: HeldFolder | None = None

    def __repr__(self) -> str:
        return f"FileLock({str(self.path)!r}, {'held' if self.held else 'free'})"

    @property
    def held(self) -> bool:
        """Whether the lock is held through this object."""
        return self._file is not None

    @property
    def owner_lives(self) -> bool:
        """Whether a process holds the lock, as far as can be seen without touching it: that which wrote its number there."""
        try:
            written = self.path.read_bytes()[_PID_PLACE:].strip()
        except PermissionError:  # how Windows shows a file that is locked
            return True
        except OSError:
            return False
        if not written.isdigit() or len(written) > 10:
            return False
        if sys.platform == "win32":  # where os.kill would end it
            return True
        try:
            os.kill(int(written), 0)
        except PermissionError:
            return True
        except OSError:
            return False
        return True

    def take(self) -> None:
        """Take the lock; do nothing if this object holds it already.

        Raises:
            UserError: another process holds it, whose number the message gives; or the file cannot be written.
        """
        while self._file is None:
            try:
                file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - open as long as the lock is held
            except OSError as error:
                raise UserError(f"{displayed(self.path)} cannot be written ({error.strerror}): mend that first") from error
            if self._locked(file):
                self._file, self.folder = file, HeldFolder(self.path.parent)
            else:
                file.close()

    def _locked(self, file: IO[bytes]) -> bool:
        """Lock the open file; false if it is no longer the file at ``path``, as the last holder removed that."""
        try:
            _lock(file)
        except OSError as error:
            if error.errno in _CANNOT:
                warn(
                    f"{self._what} cannot be locked on this file system ({error.strerror}): see to it that only one process "
                    "works on it"
                )
                return True
            owner = self._owner(file)
            file.close()
            if error.errno not in _BUSY:
                raise UserError(f"{displayed(self.path)} cannot be locked ({error.strerror}): mend that first") from error
            raise UserError(f"{self._what} is in use by {owner}: wait until that has ended, or end it first") from None
        try:
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(self.path)):
                return False
            file.truncate(_PID_PLACE)
            file.seek(_PID_PLACE)
            file.write(f"{os.getpid()}\n".encode())
        except FileNotFoundError:
            return False
        except OSError:  # on a full disk the number of the process is missing, but the lock holds
            pass
        return True

    def release(self) -> None:
        """Give the lock up and remove the file, unless another file is in its place by now."""
        file, self._file = self._file, None
        folder, self.folder = self.folder, None
        if folder is not None:
            folder.close()
        if file is not None:
            with contextlib.suppress(OSError):  # Windows removes no open file
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self.path)):
                    self.path.unlink(missing_ok=True)
            file.close()

    def __del__(self) -> None:
        self.release()

    def _owner(self, file: IO[bytes]) -> str:
        with contextlib.suppress(OSError):
            file.seek(_PID_PLACE)
            written = file.read(20).strip()
            if written.isdigit():
                return f"process {int(written)}"
        return "another process"


def _lock(file: IO[bytes]) -> None:
    """Lock the open file without waiting; an OSError if another process has it locked."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        return
    import fcntl

    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
