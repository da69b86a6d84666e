"""Running the command on a terminal in tests."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess
from pathlib import Path

from running import COMMAND, ENVIRONMENT


def on_terminal(
    *arguments: object, width: int, keys: str = "", after: str = "", cwd: Path, **variables: str
) -> tuple[int, str]:
    """Run the command on a terminal of so many columns and press ``keys`` once ``after`` has shown up."""
    import fcntl  # Windows has none of these
    import pty
    import termios

    control, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
    # the leader of a session that opens a terminal gets it for its own: Ctrl-C on it is for this process
    opened = os.ttyname(terminal)
    without = {name: value for name, value in ENVIRONMENT.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    running = subprocess.Popen(
        ["sh", "-c", f'exec "$0" "$@" < {opened} > {opened} 2>&1', *COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        env={**without, "TERM": "xterm-256color", **variables},
        cwd=cwd,
        start_new_session=True,
    )
    seen = os.read(control, 65536)
    os.close(terminal)
    with contextlib.suppress(OSError):  # how Linux says that the last writer has gone
        while part := os.read(control, 65536):
            seen += part
            if keys and re.search(after, seen.decode(errors="ignore")):
                os.write(control, keys.encode())
                keys = ""
    os.close(control)
    return running.wait(), seen.decode()


def plain(shown: str) -> str:
    """What a terminal was sent, without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n")
