"""One process at a time: a lock that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import IO

from chainrule.display import displayed
from chainrule.errors import UserError, warn

_BUSY = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})
_CANNOT = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_PID_PLACE = 1
"""Where the number of the process stands in the file: Windows locks bytes, which others then cannot read."""


class FileLock:
    """A lock on a file of its own, which holds the number of the process that has it.

    It lasts until ``release()`` or the end of the process, also by a kill. Then the file may stay, and means nothing by itself.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self._what = path, what
        self._file: IO[bytes] | None = None

    def __repr__(self) -> str:
        return f"FileLock({str(self.path)!r}, {'held' if self.held else 'free'})"

    @property
    def held(self) -> bool:
        """Whether this process has it by this object."""
        return self._file is not None

    def take(self) -> None:
        """Have the lock from now on.

        Raises:
            UserError: another process has it; the message names that one. Or the file cannot be written.
        """
        while self._file is None:
            try:
                file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - open as long as the lock is held
            except OSError as error:
                raise UserError(f"{displayed(self.path)} cannot be written ({error.strerror}): mend that first") from error
            if self._locked(file):
                self._file = file
            else:
                file.close()

    def _locked(self, file: IO[bytes]) -> bool:
        """Whether the open file is locked now, and is still the one of that name: who released it may have removed it."""
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
        except OSError:  # a full disk: others are not told who has it
            pass
        return True

    def release(self) -> None:
        """Let others have it."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # Windows removes no open file
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
    """Lock the open file, without waiting."""
    if os.name == "nt":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    import fcntl

    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
