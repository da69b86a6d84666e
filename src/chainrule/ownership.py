"""Opens and creates files that only this user can have written, as what they hold is executed, or opens a door.

A folder is trusted if this user owns it, nobody else may write into it, and nobody but this user and the superuser can put
another folder in its place (as sshd's option StrictModes checks it). Where users have no numbers (Windows), nothing is checked:
the folder lies below the user's own, where the system's access lists keep others away.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import sys
from pathlib import Path

from chainrule.display import displayed

_MOST_LINKS = 40
"""How many symbolic links a path may lead through, as in Linux."""
_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH
"""The bits of a mode by which others than the owner may write."""
_EXACTLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | _EXACTLY | getattr(os, "O_NONBLOCK", 0)
"""O_NONBLOCK: if a named pipe lies in the place of the file, do not wait until somebody writes into it."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _EXACTLY


class UntrustedError(OSError):
    """Another user may have written a file that would be executed.

    ``own`` tells whether the place in question is the folder or file itself, which this user can remove, and not a folder
    above it.
    """

    def __init__(self, place: str | os.PathLike[str], state: os.stat_result, own: bool) -> None:
        if state.st_uid in (user(), 0) and state.st_mode & _OF_OTHERS:
            why = f"may be changed by others (mode {stat.S_IMODE(state.st_mode):04o})"
        else:
            why = f"belongs to another user (number {state.st_uid})"
        super().__init__(errno.EACCES, f"{displayed(place)} {why}")
        self.own = own


def user() -> int | None:
    """Return the number of the user that this process acts for; None where users have no numbers."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def trusted_folder(path: Path, make: bool = False) -> Path | None:
    """Return the folder that ``path`` leads to, free of symbolic links, if it can be trusted.

    If it does not exist, it is created with mode 0700 if ``make``, else the result is None.

    Raises:
        UntrustedError: others may have written into the folder, or put it there.
        OSError: ``path`` is no folder, or cannot be created.
    """
    if user() is None:
        if make:
            path.mkdir(parents=True, exist_ok=True)
        return path
    place, missing = _way(path)
    if missing and not make:
        return None
    for name in missing:
        place = os.path.join(place, name)
        with contextlib.suppress(FileExistsError):  # another process created it first
            os.mkdir(place, 0o700)
            if stat.S_IMODE(os.lstat(place).st_mode) & 0o700 != 0o700:  # the umask took rights from the owner
                os.chmod(place, 0o700)
    if missing:
        place, _ = _way(path)
    state = os.lstat(place)
    if not stat.S_ISDIR(state.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), place)
    _check_own(place, state)
    return Path(place)


def open_to_read(path: Path) -> int:
    """Open a file in a trusted folder for reading; returns its descriptor.

    Raises:
        UntrustedError: others may have written the file.
        OSError: it does not exist, is no regular file, or cannot be read.
    """
    handle = os.open(path, _READ)
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise FileNotFoundError(errno.ENOENT, "it is no file", str(path))
        _check_own(path, state)
    except BaseException:
        os.close(handle)
        raise
    return handle


def create(path: Path) -> int:
    """Create a file with mode 0600 in a trusted folder, in place of an older one if there is one; returns its descriptor."""
    try:
        handle = os.open(path, _CREATE, 0o600)
    except FileExistsError:  # left behind by a process that was killed
        os.unlink(path)
        handle = os.open(path, _CREATE, 0o600)
    if hasattr(os, "fchmod") and stat.S_IMODE(os.fstat(handle).st_mode) & 0o600 != 0o600:
        os.fchmod(handle, 0o600)
    return handle


def _check_own(place: str | os.PathLike[str], state: os.stat_result) -> None:
    """Raise UntrustedError unless this user owns a folder or file and nobody else may write to it."""
    if user() is not None and (state.st_uid != user() or state.st_mode & _OF_OTHERS):
        raise UntrustedError(place, state, own=True)


def _check_above(place: str, state: os.stat_result) -> None:
    """Raise UntrustedError if others could replace what lies in a folder (or behind a link) that a path leads through.

    The folder must belong to this user or the superuser, and others must not write to it unless it is sticky, like /tmp: there
    nobody can replace an entry that belongs to somebody else. A group with the owner as its only member is allowed.
    """
    others = state.st_mode & _OF_OTHERS
    if others == stat.S_IWGRP and _is_private_group(state.st_uid, state.st_gid):
        others = 0
    replaceable = stat.S_ISDIR(state.st_mode) and others and not state.st_mode & stat.S_ISVTX
    if state.st_uid not in (user(), 0) or replaceable:
        raise UntrustedError(place, state, own=False)


@functools.lru_cache(maxsize=64)
def _is_private_group(owner: int, group: int) -> bool:
    """Return whether a group has the ``owner`` as its only member.

    Many systems have such a group for each user, and let it write to the user's folders.
    """
    if sys.platform == "win32":
        return False
    import grp
    import pwd

    try:
        person, members = pwd.getpwuid(owner), grp.getgrgid(group)
    except KeyError:
        return False
    return person.pw_gid == group and members.gr_name == person.pw_name and set(members.gr_mem) <= {person.pw_name}


def _way(path: Path) -> tuple[str, list[str]]:
    """Follow ``path`` from the root, through symbolic links.

    Returns the last folder (or file) that exists, and the names of the folders below it that are missing. Each place is looked
    at only after all places before it have been checked, so that nobody can replace it before it is opened.
    """
    root, *ahead = Path(os.getcwd(), path).parts
    place, links = root, 0
    _check_above(root, os.lstat(root))
    while ahead:
        name, *ahead = ahead
        if name == os.pardir:
            place = os.path.dirname(place)
            continue
        inner = os.path.join(place, name)
        try:
            state = os.lstat(inner)
        except FileNotFoundError:
            return place, [name, *ahead]
        if stat.S_ISLNK(state.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            _check_above(inner, state)
            first, *further = Path(os.readlink(inner)).parts
            absolute = os.path.isabs(first)
            place = first if absolute else place
            ahead = [*([] if absolute else [first]), *further, *ahead]
        else:
            if ahead:
                _check_above(inner, state)
            place = inner
    return place, []
