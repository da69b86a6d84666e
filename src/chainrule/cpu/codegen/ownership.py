"""Whether only this user can have written a folder or file, for what is executed when it is read; and making such ones.

A folder is trusted if this user owns it, nobody else may write into it, and nobody but this user and the superuser can put
another one in its place (as sshd's StrictModes has it). Where the system does not know users by numbers (Windows), nothing is
checked: a folder lies below the user's own, where the system's access lists keep others away.
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
_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_EXACTLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | _EXACTLY | getattr(os, "O_NONBLOCK", 0)
"""Does not wait for whoever would write into a pipe that lies in the place of a file."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _EXACTLY


class UntrustedError(OSError):
    """Somebody else may have written what would be executed. ``own``: the place can be removed and made anew."""

    def __init__(self, place: str | os.PathLike[str], state: os.stat_result, own: bool) -> None:
        if state.st_uid in (user(), 0) and state.st_mode & _OF_OTHERS:
            why = f"may be changed by others (mode {stat.S_IMODE(state.st_mode):04o})"
        else:
            why = f"belongs to another user (number {state.st_uid})"
        super().__init__(errno.EACCES, f"{displayed(place)} {why}")
        self.own = own


def user() -> int | None:
    """The number of the user that this process acts for; None where users have none."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def trusted_folder(path: Path, make: bool = False) -> Path | None:
    """Where ``path`` is, without links; None if it does not exist, unless it is to be made, with mode 0700.

    Raises:
        UntrustedError: others may have written into it, or put it there.
        OSError: it is no folder, or cannot be made.
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
        with contextlib.suppress(FileExistsError):  # another process was quicker
            os.mkdir(place, 0o700)
            if stat.S_IMODE(os.lstat(place).st_mode) & 0o700 != 0o700:  # a umask that takes rights from the owner
                os.chmod(place, 0o700)
    if missing:
        place, _ = _way(path)
    state = os.lstat(place)
    if not stat.S_ISDIR(state.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), place)
    _check_own(place, state)
    return Path(place)


def open_to_read(path: Path) -> int:
    """A handle of a file in a trusted folder.

    Raises:
        UntrustedError: others may have written it.
        OSError: it is not there, is no file, or cannot be read.
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
    """A handle of a new file in a trusted folder, with mode 0600."""
    try:
        handle = os.open(path, _CREATE, 0o600)
    except FileExistsError:  # of a process that was killed
        os.unlink(path)
        handle = os.open(path, _CREATE, 0o600)
    if hasattr(os, "fchmod") and stat.S_IMODE(os.fstat(handle).st_mode) & 0o600 != 0o600:
        os.fchmod(handle, 0o600)
    return handle


def _check_own(place: str | os.PathLike[str], state: os.stat_result) -> None:
    """A folder or file of this user that nobody else may write."""
    if user() is not None and (state.st_uid != user() or state.st_mode & _OF_OTHERS):
        raise UntrustedError(place, state, own=True)


def _check_above(place: str, state: os.stat_result) -> None:
    """A folder or link on the way: nobody but this user and the superuser can put something else in its place. In a sticky
    folder, as /tmp is, that is so for what has such an owner itself."""
    others = state.st_mode & _OF_OTHERS
    if others == stat.S_IWGRP and _is_private_group(state.st_uid, state.st_gid):
        others = 0
    replaceable = stat.S_ISDIR(state.st_mode) and others and not state.st_mode & stat.S_ISVTX
    if state.st_uid not in (user(), 0) or replaceable:
        raise UntrustedError(place, state, own=False)


@functools.lru_cache(maxsize=64)
def _is_private_group(owner: int, group: int) -> bool:
    """Whether a group is that of its owner alone, as many systems have one for each user, whose folders it may then write."""
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
    """Go to ``path`` from the root, and through links; returns where it is, and the names of what is yet to be made there.

    A place is looked at once all those before it are known to be safe, so it cannot be another one by the time it is opened.
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
