"""Standard output and standard error of the command, which may be a full disk, a pipe that nobody reads, or closed.

    what prints ──> Output ──> stream            as long as it can be written
                       └────> nowhere            from then on

A command that only shows something then ends with a sentence. A training goes on: its output must not cost what it computed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

from chainrule.signals import tell


class OutputError(OSError):
    """Standard output cannot be written."""


class UnreadError(OutputError):
    """Standard output is a pipe that nobody reads any more.

    It is not a BrokenPipeError, nor an OSError with a number: for these, libraries that print end the process themselves.
    """


class Output:
    """A stream that notices when it can no longer be written, and leads nowhere from then on.

    Attributes:
        goes_on: what cannot be written is dropped, with a warning; else it raises OutputError, or UnreadError where nobody
            reads it.
        silent: it is dropped without a warning.
        lost: it could not be written.
        unread: it was a pipe that nobody reads any more.
    """

    def __init__(self, stream: Any, silent: bool = False) -> None:
        self._stream: Any = _nowhere() if stream is None else stream  # it was closed when the process began
        self.goes_on = self.silent = silent
        self.lost = self.unread = False

    def write(self, text: str) -> int:
        """As a stream does; characters that its encoding does not have are written out."""
        if not isinstance(text, str):
            raise TypeError(f"text is written here, not {type(text).__name__}")
        if not text:  # with which libraries find out what kind of stream it is, and swallow what that gives
            return 0
        with self._noticed():
            try:
                self._stream.write(text)
            except UnicodeEncodeError as error:
                self._stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
        return len(text)

    def flush(self) -> None:
        """As a stream does."""
        with self._noticed():
            self._stream.flush()

    @contextlib.contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lost = True
            self._lead_nowhere()
            if isinstance(error, BrokenPipeError):
                self.unread = True
                if not self.goes_on:
                    raise UnreadError("nobody reads standard output any more") from error
            elif not self.goes_on:
                raise OutputError(error.errno, error.strerror) from error
            elif not self.silent and error.errno != errno.EIO:  # how a terminal says that it has gone: nobody is there
                tell(f"warning: standard output cannot be written ({error.strerror}): the training goes on without it")

    def _lead_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self._stream.fileno())  # so is what is still in its buffer, which Python writes at the end
        except (OSError, ValueError, AttributeError):  # no file
            self._stream = _nowhere()
        finally:
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # what is written there would go unnoticed
            raise AttributeError(name)
        return getattr(self._stream, name)


@functools.cache
def _nowhere() -> Any:
    """A stream that leads nowhere; its file takes the number of a closed stream, so that no other file gets that number."""
    return open(os.open(os.devnull, os.O_WRONLY), "w", closefd=False)


@contextlib.contextmanager
def noticed_output() -> Iterator[Output]:
    """Inside, standard output is an ``Output``, which is given, and so is standard error, where nobody can be told more."""
    before = sys.stdout, sys.stderr
    output = sys.stdout, sys.stderr = Output(sys.stdout), Output(sys.stderr, silent=True)
    try:
        yield output[0]
        output[0].flush()
    finally:
        output[0].goes_on = output[0].silent = True  # what happens now has been said
        for one in output:
            one.flush()
        sys.stdout, sys.stderr = before
