"""Keeps files between processes: machine code, and recipes of programs.

These files are executed, so they are trusted only where nobody else can have written them: the folder is created for its owner
alone, and a folder or file that others own or may change is refused. ``CHAINRULE_CACHE`` names the folder; if it is empty,
nothing is kept. Files are written under a temporary name and then renamed, so several processes may share the folder. A file is

    magic | SHA-256 of all that follows | length of the description | description | content

The description is the name of the file and everything that the content depends on. A file that is damaged, renamed or made for
something else does not fit and is ignored, so its content is made anew.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import struct
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from chainrule.display import displayed
from chainrule.ownership import UntrustedError, create, open_to_read, trusted_folder

_MAGIC = b"chainrule cache 2\n"
_CHECKSUM_BYTES = 32
_LENGTH = struct.Struct("<I")
_MOST_BYTES = 512 << 20
"""The size of the folder above which the files used longest ago are removed."""
_WRITES_UNTIL_TIDY = 50
"""The number of writes between two searches for files to remove, as a search through a full folder takes a while."""
_SECONDS_TO_TOUCH = 3600.0
"""The time of a file that is read is renewed if it is older than this."""
_SECONDS_TO_WRITE = 600.0
"""A temporary file older than this was left behind by a process that was killed."""
_OURS = re.compile(r"[a-z0-9_]+-[0-9a-f]{64}\.(o|json)")
_HALF_WRITTEN = re.compile(r"\.[a-z0-9_]+-[0-9a-f]{64}\.(o|json)\.\d+\.\d+\.tmp")


class CacheWarning(UserWarning):
    """Warns that the folder for compiled code cannot be used. Everything works without it, only each start is slower."""


def read(name: str, description: Sequence[str]) -> bytes | None:
    """Return the content of file ``name``; None if there is no such file, or it is damaged or has another ``description``."""
    folder = _folder()
    return None if folder is None else _read(folder, name, _described(name, description))


def write(name: str, description: Sequence[str], content: bytes) -> None:
    """Write ``content`` to file ``name``, if that is possible.

    ``description`` is everything that the content depends on: ``read`` returns the content only for the same description.
    """
    global _until_tidy
    folder = _folder()
    if folder is not None:
        _write(folder, name, _described(name, description) + content)
        _until_tidy -= 1
        if _until_tidy < 0:
            _until_tidy = _WRITES_UNTIL_TIDY
            with contextlib.suppress(OSError):
                _remove_oldest(folder)


@functools.cache
def sources(*parts: str) -> str:
    """Return a checksum of the source files of some parts of this package, such as "cpu" or "compiler/nest.py"."""
    digest, package = hashlib.sha256(), Path(__file__).parents[2]
    for part in parts:
        for file in sorted((package / part).rglob("*.py")) or [package / part]:
            digest.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _described(name: str, description: Sequence[str]) -> bytes:
    """Return the bytes between the checksum and the content of a file: length of the description, and description."""
    text = "\0".join((name, *description)).encode()
    return _LENGTH.pack(len(text)) + text


# ---- the folder


def _folder() -> Path | None:
    """Return the folder where files are kept, as an absolute path; None if nothing is kept."""
    chosen = os.environ.get("CHAINRULE_CACHE")
    if chosen == "":
        return None
    try:
        folder = _usual_folder() if chosen is None else _absolute(chosen)
    except RelativeError as error:
        _warn(f"compiled code is not kept, as {error.strerror}: every start compiles anew. Set {error.remedy}")
        return None
    except OSError as error:
        _give_up(Path(chosen or ""), error)
        return None
    return folder if folder is not None and str(folder) not in _unusable else None


class RelativeError(OSError):
    """An environment variable of the system names a folder by a relative path.

    It would mean another folder wherever a process starts, perhaps a folder that somebody else has prepared there. ``remedy``
    says what to set instead.
    """

    def __init__(self, variable: str, value: str) -> None:
        super().__init__(errno.EINVAL, f"the environment variable {variable} is {displayed(repr(value))}, no absolute path")
        self.remedy = f"{variable} to one, or CHAINRULE_CACHE to a folder"


@functools.cache
def _absolute(chosen: str) -> Path:
    """Return the folder that the user chose with ``CHAINRULE_CACHE`` as an absolute path.

    A relative path counts from the folder in which the process was when the cache was first needed, and stays the same from
    then on. A leading ``~`` is the user's home, as a shell does not replace it within quotes.

    Raises:
        RelativeError: ``~`` is needed, and ``HOME`` is a relative path.
        OSError: the system knows of no such home.
    """
    folder = Path(chosen)
    if chosen.startswith("~"):
        _home()
        try:
            folder = folder.expanduser()
        except RuntimeError:
            raise FileNotFoundError(errno.ENOENT, "the system knows of no such home", chosen) from None
    return Path.cwd() / folder


def _usual_folder() -> Path | None:
    """Return the folder that is used if the user chose none, where the system keeps caches; None if there is no home.

    Raises:
        RelativeError: the variable that names the folder, or ``HOME``, is a relative path.
    """
    if sys.platform == "win32":
        return _below(_given("LOCALAPPDATA", os.environ.get("LOCALAPPDATA")) or _home("AppData", "Local"), "chainrule", "cache")
    if sys.platform == "darwin":
        return _home("Library", "Caches", "chainrule")
    return _below(_given("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME")) or _home(".cache"), "chainrule")


def _given(variable: str, value: str | None) -> Path | None:
    """Return the folder that an environment variable names; None if the variable is not set, or empty, which means the same.

    Raises:
        RelativeError: its value is a relative path.
    """
    if value and not os.path.isabs(value):
        raise RelativeError(variable, value)
    return Path(value) if value else None


def _home(*below: str) -> Path | None:
    """Return the folder ``below`` the user's home; None if the system knows of no home; RelativeError if HOME is relative."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    written = os.environ.get("HOME")
    if sys.platform != "win32" and written is not None and not os.path.isabs(written):  # if empty, home would be the root
        raise RelativeError("HOME", written)
    return home.joinpath(*below)


def _below(folder: Path | None, *names: str) -> Path | None:
    return None if folder is None else folder.joinpath(*names)


_until_tidy = 0
_unusable: set[str] = set()
_warned = False


def _give_up(folder: Path, error: OSError) -> None:
    """Do not use ``folder`` any more in this process. The first time this happens, a CacheWarning says why."""
    _unusable.add(str(folder))
    if isinstance(error, UntrustedError):
        message = (
            f"compiled code is not kept in {displayed(folder)}, where others could put code that would run here: "
            f"{error.strerror}. Every start compiles anew. "
            f"{'Remove it, or set' if error.own else 'Set'} CHAINRULE_CACHE to a folder that only you can change"
        )
    else:
        message = (
            f"compiled code cannot be kept in {displayed(folder)} ({error.strerror or error}): every start compiles anew. "
            "Set CHAINRULE_CACHE to another folder"
        )
    _warn(message)


def _warn(message: str) -> None:
    """Warn that compiled code is not kept, and why; once in each process."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"{message}, or to nothing to keep none", CacheWarning, stacklevel=3)


# ---- files


def _read(folder: Path, name: str, described: bytes) -> bytes | None:
    """Return the bytes behind ``described`` in a file; None if there is no such file, or it is damaged or begins otherwise."""
    try:
        place = trusted_folder(folder)
        if place is None:
            return None
        try:
            handle = open_to_read(place / name)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):  # ELOOP: a symbolic link, which this module never writes
                return None
            raise
        with open(handle, "rb") as file:
            content = file.read()
            written = os.fstat(handle).st_mtime
    except OSError as error:
        _give_up(folder, error)
        return None
    begin = len(_MAGIC) + _CHECKSUM_BYTES
    inside = content[begin:]
    if not content.startswith(_MAGIC) or content[len(_MAGIC) : begin] != hashlib.sha256(inside).digest():
        return None
    if not inside.startswith(described):
        return None
    # The time of writing serves as the time of the last use, as many systems do not record the time of reading.
    if time.time() - written > _SECONDS_TO_TOUCH:
        with contextlib.suppress(OSError):
            os.utime(place / name)
    return inside[len(described) :]


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write magic, checksum and ``content`` to a file."""
    path = folder / name
    try:
        place = trusted_folder(folder, make=True)
        assert place is not None
        path = place / name
        temporary = path.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            with open(create(temporary), "wb") as file:
                file.write(_MAGIC + hashlib.sha256(content).digest() + content)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        # On Windows, a file that another process is reading cannot be replaced. Its content is the same, so nothing is lost.
        if isinstance(error, UntrustedError) or not path.is_file():
            _give_up(folder, error)


def _remove_oldest(folder: Path, most_bytes: int | None = None) -> None:
    """Remove the files that were used longest ago until the rest fits, and temporary files that killed processes left."""
    most_bytes = _MOST_BYTES if most_bytes is None else most_bytes
    files: list[tuple[float, int, str]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another process may remove files too
                state = entry.stat(follow_symlinks=False)
                if _OURS.fullmatch(entry.name):
                    files.append((state.st_mtime, state.st_size, entry.path))
                elif _HALF_WRITTEN.fullmatch(entry.name) and time.time() - state.st_mtime > _SECONDS_TO_WRITE:
                    os.unlink(entry.path)
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most_bytes:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size
