"""The lens's server in tests: served in a thread, asked over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.lens.server.serving import LensServer
from chainrule.lens.server.subject import Subject
from chainrule.train import RunFolder


@dataclass(frozen=True)
class Answer:
    """A status, headers by their names in small letters, and a body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body says; numbers that JSON does not know are refused."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body, parse_constant=refuse)

    @property
    def described(self) -> dict[str, Any]:
        """What the header says of a tensor."""
        found: dict[str, Any] = json.loads(self.headers["x-chainrule-tensor"])
        return found

    @property
    def tensor(self) -> np.ndarray[Any, Any]:
        """The numbers of a tensor, in its shape."""
        assert self.headers["content-type"] == "application/octet-stream"
        return np.frombuffer(self.body, "<f4").reshape(self.described["shape"])


@dataclass(frozen=True)
class Lens:
    """A server that runs, and what is known of it: ``address`` is the whole one, with the token, for a browser."""

    server: LensServer
    subject: Subject

    @property
    def address(self) -> str:
        return self.server.address

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str | None] | None = None
    ) -> Answer:
        """The answer to a request, with the token unless ``headers`` says otherwise; a header that is None is not sent."""
        sent = {"Host": f"127.0.0.1:{self.server.port}", "X-Chainrule-Token": self.server.token, **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in {"Content-Length": None if body is None else str(len(body)), **sent}.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The JSON at a path, which is there."""
        answer = self.ask(path)
        assert answer.status == 200, answer.body
        return answer.json

    def tensor(self, path: str) -> np.ndarray[Any, Any]:
        """The numbers at a path, which are there."""
        answer = self.ask(path)
        assert answer.status == 200, answer.body
        return answer.tensor

    def post(self, path: str, value: Any) -> Answer:
        """The answer to JSON."""
        return self.ask(path, "POST", json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refused(self, path: str, status: int = 400, **options: Any) -> str:
        """Why a path is not answered: the error and the hint."""
        answer = self.ask(path, **options)
        assert answer.status == status, (answer.status, answer.body)
        assert set(answer.json) == {"error", "hint"}
        return " ".join(filter(None, answer.json.values()))


class GrowingRun:
    """A copy of a run that is over, as it was during the training: its metrics grow row by row, and it has no result yet."""

    def __init__(self, whole: Path, path: Path, rows: int = 3, with_model: bool = True) -> None:
        shutil.copytree(whole, path)
        self.path = path
        self._result = (path / "result.json").read_bytes()
        (path / "result.json").unlink()
        if not with_model:
            (path / "model.safetensors").unlink()
        self._metrics = path / "metrics.jsonl"
        lines = self._metrics.read_text().splitlines(keepends=True)
        self._waiting = lines[rows:]
        self._metrics.write_text("".join(lines[:rows]))
        self.lock = RunFolder.open(path).lock
        self.lock.take()

    def grow(self, rows: int = 1) -> None:
        """Write the next rows of the metrics."""
        with open(self._metrics, "a") as file:
            file.writelines(self._waiting[:rows])
        del self._waiting[:rows]

    def end(self) -> None:
        """Come to the end of the training."""
        self.grow(len(self._waiting))
        (self.path / "result.json").write_bytes(self._result)
        self.lock.release()


@contextlib.contextmanager
def served(subject: Subject) -> Iterator[Lens]:
    """A server of a subject, on a free port."""
    server = LensServer(subject, 0)
    server.start()
    try:
        yield Lens(server, subject)
    finally:
        server.stop()
