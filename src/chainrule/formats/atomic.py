"""Files that are whole or not there: written to a temporary name, flushed to the disk, renamed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from chainrule.errors import UserError


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Replace ``path`` by ``content``. At every moment, and after a crash, the file is the old one or the new one.

    Raises:
        UserError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            _flush_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(target, error, len(data)) from error


def cannot_write(path: Path, error: OSError, size: int = 0) -> UserError:
    """What to tell a user whose file could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        need = f" ({size / 1e6:.1f} MB needed)" if size else ""
        return UserError(
            f"no space left to write {path}{need}: free some space or choose another folder; what was there before is untouched"
        )
    return UserError(f"{path} cannot be written: {error.strerror or error}")


def _flush_folder(folder: Path) -> None:
    """Make the renaming itself last; not every system can flush a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
