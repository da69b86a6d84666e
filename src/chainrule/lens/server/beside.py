"""The lens beside a training: a process of its own, which shows the run in a folder, and ends when nobody holds its input.

    python -P -m chainrule.lens.server.beside RUN

It gives way to the training, whose processors it uses only where they are free: its priority is lower, and it computes with one
thread. It reads the files of the run, and nothing else connects the two, so that looking changes no bit. The first line that it
prints is the address of the page, or why there is none.
"""

from __future__ import annotations

import contextlib
import os
import sys

from chainrule.errors import UserError

_NICE = 10


def main() -> None:
    """Serve the run whose folder is the last word of the line, until standard input comes to its end."""
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(_NICE)
    from chainrule.lens.server.serving import LensServer, open_browser
    from chainrule.lens.server.subject import Subject
    from chainrule.tensor.backend import set_threads
    from chainrule.train import RunFolder

    with contextlib.suppress(UserError):  # where there is no native code, there are no threads of it
        set_threads(1)
    try:
        server = LensServer(Subject.of_run(RunFolder.open(sys.argv[-1])), keep_token=True)
    except UserError as error:
        print(f"error: {error}", flush=True)
        return
    server.start()
    print(server.address, flush=True)
    open_browser(server.address)
    with contextlib.suppress(OSError):
        sys.stdin.buffer.read()
    server.stop()


if __name__ == "__main__":
    main()
