"""Files that are never half written: written under a temporary name, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from chainrule.arguments import explained
from chainrule.display import displayed
from chainrule.errors import UserError


@explained
def write_atomically(path: str | os.PathLike[str], content: bytes | str | Sequence[bytes | memoryview]) -> None:
    """Replace ``path`` by ``content``, bytes or parts of them. Even after a crash there is the old file or the new.

    A symbolic link stays: its target is replaced. A device or a pipe (``/dev/stdout``) is written to directly.

    Raises:
        UserError: it is a folder, the disk is full or the folder cannot be written; the old file is untouched.
    """
    target = Path(path)
    parts = [content.encode()] if isinstance(content, str) else [content] if isinstance(content, bytes) else content
    try:
        kind = _kind(target)
        if kind is not None and not stat.S_ISREG(kind):  # renaming a file to a device's name would remove it for everybody
            with open(target, "wb") as file:
                file.writelines(parts)
            return
        if target.is_symlink():
            target = Path(os.path.realpath(target))
        temporary = temporary_name(target)
        try:
            with open(temporary, "wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            _flush_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(target, error, sum(map(len, parts))) from error


def _kind(target: Path) -> int | None:
    """The mode bits of the file ``target``; None if there is none. A UserError if no file can have this path."""
    try:
        kind = target.stat().st_mode
    except ValueError:  # the path contains the character 0, which no system allows
        raise UserError(f"{displayed(target)} cannot be the name of a file: choose another place") from None
    except OSError:  # unless the file is only missing, writing it will say what is wrong
        return None
    if stat.S_ISDIR(kind):
        raise UserError(f"{displayed(target)} is a folder: give the name of a file")
    return kind


def temporary_name(target: Path) -> Path:
    """The path under which this process writes a file before it is renamed to ``target``."""
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def is_temporary(path: Path, target: Path) -> bool:
    """Whether some process writes, or wrote, ``target`` under the name ``path`` before it is renamed."""
    return re.fullmatch(rf"\.{re.escape(target.name)}\.\d+\.tmp", path.name) is not None


def leftovers(folder: Path) -> list[Path]:
    """The temporary files in ``folder`` of processes that were killed while they wrote: nobody will finish them."""
    if not folder.is_dir():
        return []
    named = ((path, re.fullmatch(r"\..+\.(\d+)\.tmp", path.name)) for path in folder.iterdir())
    return [path for path, match in named if match and not _runs(int(match[1]))]


def _runs(process: int) -> bool:
    """Whether another process with this number runs; always true where that cannot be asked (Windows)."""
    if process == os.getpid():
        return False
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def cannot_write(path: Path, error: OSError, size: int = 0) -> UserError:
    """The error to raise when ``path`` could not be written; ``size``, in bytes, is mentioned if the disk is full."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        need = f" ({size / 1e6:.1f} MB needed)" if size > 50_000 else ""
        return UserError(
            f"no space left to write {displayed(path)}{need}: free some space or choose another folder; "
            "what was there before is untouched"
        )
    return UserError(f"{displayed(path)} cannot be written ({error.strerror or error}): mend that, or choose another place")


def _flush_folder(folder: Path) -> None:
    """Make the renaming itself durable, on systems that can flush a folder."""
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
