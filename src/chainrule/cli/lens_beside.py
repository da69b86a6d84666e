"""The lens on a training that runs in this process: started beside it, and ended with it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from chainrule.cli.saying import say, say_beside
from chainrule.signals import listener

_SECONDS_TO_END = 5


class LensBeside:
    """A process that shows a run. It is the leader of a session of its own, so that Ctrl-C in the terminal is not for it."""

    def __init__(self, run: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "chainrule.lens.server.beside", str(run.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def announce(self) -> None:
        """Say where the page is, once that is known. A training goes on without a page that cannot be served."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if line.startswith("http://"):
            typer.echo(f"lens: {line}", err=True)
        else:
            say_beside("warning: ", "bold yellow", f"there is no lens: {line.removeprefix('error: ') or 'it did not start'}")

    def stay(self) -> None:
        """Once the training is over, wait until the person has seen enough; without a terminal there is nobody to wait for."""
        if sys.stdout.isatty() and self._process.poll() is None:
            say("The lens stays open until Ctrl-C.")
            listener.at_once("The lens is closed; the training is complete, and everything is saved.")
            self._process.wait()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def lens_beside(run: Path) -> Iterator[LensBeside]:
    """The lens on a run as long as the context lasts."""
    lens = LensBeside(run)
    try:
        yield lens
    finally:
        lens.close()
