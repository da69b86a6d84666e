"""The server as it runs: its port, its address, and the browser that it opens."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING

from chainrule.errors import UserError
from chainrule.lens.server.application import application
from chainrule.lens.server.guarding import Guard
from chainrule.lens.server.subject import Subject
from chainrule.lens.server.tokens import kept_token, new_token

if TYPE_CHECKING:
    import uvicorn

DEFAULT_PORT = 8517
_HOST = "127.0.0.1"
_TRIED = 50  # ports after the one that is wanted


class LensServer:
    """A server on this machine alone, which listens from the moment on at which it is made.

    Attributes:
        port: where it listens: the ``port`` that was wanted, or else the next one that is free; any one if it was 0.
        token: what a request must know: with ``keep_token`` the one that servers of this user had on that port before.
    """

    def __init__(self, subject: Subject, port: int = DEFAULT_PORT, token: str | None = None, keep_token: bool = False) -> None:
        self._socket = _bound(port)
        self.port: int = self._socket.getsockname()[1]
        self.token = token or (kept_token(self.port) if keep_token and port else new_token())
        self._server = _server(Guard(application(subject), self.token, self.port))
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<LensServer on port {self.port}>"

    @property
    def address(self) -> str:
        """What is typed into a browser."""
        return f"http://{_HOST}:{self.port}/?token={self.token}"

    def run(self) -> None:
        """Serve until the process ends, or ``stop``."""
        self._server.run(sockets=[self._socket])

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="chainrule-lens", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after the answers that are under way."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(10)
        self._socket.close()


def _server(guard: Guard) -> uvicorn.Server:
    """A server that says nothing of its own, and leaves signals to the command, which hears them by a thread of its own."""
    import uvicorn  # which imports much

    config = uvicorn.Config(
        guard,
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    return server


def _bound(wanted: int) -> socket.socket:
    """A socket that listens on the port that is wanted, or on the next one that is free."""
    last = wanted
    for port in range(wanted, min(wanted + _TRIED, 1 << 16)):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if sys.platform != "win32":  # where it would let two programs listen on one port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((_HOST, port))
            found.listen(128)
        except OSError:
            found.close()
            last = port
            continue
        return found
    raise UserError(f"the ports {wanted} to {last} are all in use: choose another with --port, or 0 for any that is free")


def open_browser(address: str) -> bool:
    """Open the address in a browser, if there is one that shows pictures; whether that was tried."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False  # a browser in the terminal would take the terminal
    with contextlib.suppress(webbrowser.Error, OSError):
        return webbrowser.open(address)
    return False
