"""Who may ask: requests with the token of the printed address, from pages of this address alone, of a bearable size.

    request ──> Host ──> Origin ──> method ──> token (of /api) ──> kind and size of what is posted ──> the application

The server listens on this machine only, but any page that is open in a browser here can send requests to it, and a name that
leads to 127.0.0.1 makes such a page look like ours. Hence Host and Origin must be the address that was printed, and whoever
asks for data must know the token, which no other page does. What is refused is told why; no answer may be taken for a page, a
script or a frame of another.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chainrule.display import displayed
from chainrule.lens.server.payloads import json_response
from chainrule.lens.server.refusals import Refusal
from chainrule.lens.server.tokens import proof

TOKEN_HEADER = "x-chainrule-token"
MOST_BYTES = 8 << 20
"""Of what is posted."""
_MOST_READ_PAST = 128 << 20  # bytes
_PATIENCE = 0.5  # seconds

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
"""Headers of every answer: the page runs no script but its own files, and nobody may frame it or learn its address."""

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_METHODS = ("GET", "HEAD", "POST")
_PROOF = "/api/here"
_NONCE = re.compile(rb"nonce=([0-9a-f]{32})")


class Guard:
    """An ASGI application around another one, which it asks only what may be asked."""

    def __init__(self, application: ASGIApp, token: str, port: int, hosts: Iterable[str] = ()) -> None:
        self._application, self._token = application, token
        self._hosts = [f"{host}:{port}" for host in (*_LOOPBACK, *hosts)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._application(scope, receive, send)
            return
        is_data = scope["path"].startswith("/api")

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                caching = {"cache-control": "no-store" if is_data else "no-cache"}
                further = [(name.encode(), value.encode()) for name, value in {**HEADERS, **caching}.items()]
                message = {**message, "headers": [*message.get("headers", ()), *further]}
            await send(message)

        try:
            self._check(scope, is_data and scope["path"] != _PROOF)
            if scope["path"] == _PROOF:
                await self._proof(scope)(scope, receive, guarded_send)
                return
            if scope["method"] == "POST":
                receive = await _whole_body(receive)
        except Refusal as refusal:
            answer = json_response({"error": refusal.error, "hint": refusal.hint}, refusal.status)
            answer.headers["connection"] = "close"  # what was posted may not have been read to its end
            if scope["method"] == "POST":
                await _read_past(receive)
            await answer(scope, receive, guarded_send)
            return
        await self._application(scope, receive, guarded_send)

    def _proof(self, scope: Scope) -> Response:
        """The answer to a page that wants to know whether this is its server, before it sends the token again."""
        nonce = _NONCE.fullmatch(scope["query_string"])
        if nonce is None:
            raise Refusal(400, "The nonce is missing or no such number.", "Ask with ?nonce= and 32 digits from 0 to f.")
        return json_response({"proof": proof(self._token, nonce[1].decode())})

    def _check(self, scope: Scope, is_private: bool) -> None:
        headers = scope["headers"]
        host = _only(headers, "host") or ""
        if host.lower() not in self._hosts:
            raise Refusal(
                403,
                f"The lens is not at {displayed(host) or 'an address without a name'}.",
                f"Open the address that the command printed; it begins with http://{self._hosts[0]}/.",
            )
        origin = _only(headers, "origin")
        if origin is not None and origin.lower() not in [f"http://{one}" for one in self._hosts]:
            raise Refusal(
                403,
                f"A page of {displayed(origin)} may not ask the lens.",
                "Only the lens's own page may: open the printed address.",
            )
        if scope["method"] not in _METHODS:
            raise Refusal(405, f"The lens answers GET and POST, not {displayed(scope['method'])}.", "Ask with GET or POST.")
        if is_private and not secrets.compare_digest((_only(headers, TOKEN_HEADER) or "").encode(), self._token.encode()):
            raise Refusal(
                403,
                "The token is missing or wrong.",
                "Open the whole address that the command printed, with ?token=....",
            )
        if scope["method"] == "POST":
            kind = (_only(headers, "content-type") or "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Refusal(
                    415, f"What is posted must be application/json, not {displayed(kind) or 'of no kind'}.", "Post JSON."
                )
            length = _only(headers, "content-length") or "0"
            if not length.isdecimal() or len(length) > 15 or int(length) > MOST_BYTES:
                raise _too_large()


def _only(headers: Sequence[tuple[bytes, bytes]], name: str) -> str | None:
    """The value of a header; None if there is none. Several that differ are joined, and so fit nothing."""
    values = {value.decode("latin-1") for one, value in headers if one.lower() == name.encode()}
    return ", ".join(sorted(values)) if values else None


def _too_large() -> Refusal:
    return Refusal(413, f"More than {MOST_BYTES >> 20} MiB were posted.", "Make the image smaller, and post it again.")


async def _read_past(receive: Receive) -> None:
    """Read what is still on its way and forget it, within limits: who is cut off while sending does not read why."""
    size, more = 0, True
    while more and size <= _MOST_READ_PAST:
        try:
            message = await asyncio.wait_for(receive(), _PATIENCE)
        except TimeoutError:
            return
        size += len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)


async def _whole_body(receive: Receive) -> Receive:
    """What was posted, read to its end or to the limit; gives a function that hands it on."""
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":  # it went away
            break
        piece: bytes = message.get("body", b"")
        size, more = size + len(piece), message.get("more_body", False)
        if size > MOST_BYTES:
            raise _too_large()
        pieces.append(piece)
    waiting: list[Any] = [{"type": "http.request", "body": b"".join(pieces), "more_body": False}]

    async def handed_on() -> Message:
        return waiting.pop() if waiting else await receive()

    return handed_on
