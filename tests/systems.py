"""What tests need of the system. Where it is missing they are skipped, and the reason says what it is."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest


class Facility(NamedTuple):
    """Something that not every system has."""

    sentence: str
    """What it is, for whoever reads why a test was skipped."""
    is_here: Callable[[], bool]
    """Whether this system has it."""
    uses: str
    """A regular expression that matches the code of tests that use it, as ``ast.unparse`` writes it."""


def _keeps_file_modes() -> bool:
    """Windows knows one bit of the mode only, and so do some file systems that are mounted from there."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o750)
        return stat.S_IMODE(os.stat(folder).st_mode) == 0o750


def _makes_links_and_pipes() -> bool:
    """On Windows there are no named pipes, and a link may be made by an administrator only."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.symlink("nowhere", Path(folder, "link"))
            os.mkfifo(Path(folder, "pipe"))
        except (AttributeError, NotImplementedError, OSError):
            return False
    return True


FACILITIES = {
    "procfs": Facility(
        "The files of /proc tell how much memory a process takes and in what state it is, as on Linux.",
        Path("/proc/self/statm").exists,
        r"/proc/(self|\{)",
    ),
    "full device": Facility(
        "The device /dev/full refuses all that is written to it, as a full disk does.",
        Path("/dev/full").is_char_device,
        r"/dev/full",
    ),
    "fork": Facility(
        "The call os.fork copies the running process.",
        lambda: hasattr(os, "fork"),
        r"\bos\.fork\(",
    ),
    "signals": Facility(
        "A process can be sent SIGHUP, SIGINT, SIGKILL and SIGTERM, and the status of one that a signal ended tells which.",
        lambda: hasattr(signal, "SIGHUP") and hasattr(signal, "SIGKILL"),
        r"-signal\.SIG|\bsignal\.(SIGHUP|SIGKILL|alarm)\b|\bos\.kill\b|\.send_signal\b",
    ),
    "shell": Facility(
        "The shells sh and bash run commands with their streams redirected or closed.",
        lambda: shutil.which("sh") is not None and shutil.which("bash") is not None,
        r"'(sh|bash)', ",
    ),
    "terminals": Facility(
        "A test can open a terminal of its own (module pty), write to it as a keyboard does, and read what a person would see.",
        lambda: find_spec("pty") is not None and find_spec("termios") is not None,
        r"\b(pty|termios)\.",
    ),
    "links and pipes": Facility(
        "There are symbolic links and named pipes.",
        _makes_links_and_pipes,
        r"\.symlink(_to)?\(|\.mkfifo\(",
    ),
    "file modes": Facility(
        "A file has an owner, and its mode (chmod, umask) says who may read, write and run it.",
        _keeps_file_modes,
        r"\b(chmod|umask|st_mode|st_uid)\b",
    ),
    "superuser": Facility(
        "The tests run as the superuser, who alone may give a file to another user (chown).",
        lambda: hasattr(os, "geteuid") and os.geteuid() == 0,
        r"\bchown\b",
    ),
}


def missing(*names: str) -> list[str]:
    """Those of the facilities that are not here."""
    return [name for name in names if not FACILITIES[name].is_here()]


def _why(names: list[str]) -> str:
    return " ".join(f"This needs {name}, which this system lacks. {FACILITIES[name].sentence}" for name in names)


def needs(*names: str) -> pytest.MarkDecorator:
    """A mark for a test, or for one of its parameters, that needs these facilities."""
    lacking = missing(*names)
    return pytest.mark.skipif(bool(lacking), reason=_why(lacking))


def whole_file_needs(*names: str) -> None:
    """For a file whose tests all need these facilities; it stands before the first statement that does."""
    if lacking := missing(*names):
        pytest.skip(_why(lacking), allow_module_level=True)


def name_of_open_file(handle: int, folder: Path) -> str:
    """Its name in ``folder`` or below, by which file it is: Linux alone would tell the name of a handle. Else ""."""
    state = os.fstat(handle)
    for path in (folder, *folder.rglob("*")):
        if os.path.samestat(path.lstat(), state):
            return path.name
    return ""
