"""The routes of the lens: the files of its page, and what it asks for.

    request ──> Guard ──> route ──> computing thread: one request at a time     ──> JSON, or float32
                                └─> reading thread: histories, while it computes

Nothing here waits in the event loop, so a page is served while a large network computes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.lens.server import overview, passes, timeline
from chainrule.lens.server.endpoints import Asked, Endpoint
from chainrule.lens.server.payloads import json_response
from chainrule.lens.server.refusals import Refusal, refusal_of
from chainrule.lens.server.subject import Subject

PAGE = Path(__file__).resolve().parents[1] / "page"
"""The files of the page."""

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
}


ENDPOINTS: tuple[Endpoint, ...] = (*overview.ENDPOINTS, *passes.ENDPOINTS, *timeline.ENDPOINTS)
"""All that the page may ask for, by who answers it."""


def application(subject: Subject) -> Starlette:
    """The routes of the lens over a subject, unguarded."""
    computing, reading = (ThreadPoolExecutor(1, thread_name_prefix=f"chainrule-lens-{name}") for name in ("computes", "reads"))

    def answering(endpoint: Endpoint) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                return await answered(request)
            except (Refusal, UserError):
                raise
            except Exception as error:
                return _broken(error)

        async def answered(request: Request) -> Response:
            asked = Asked(request.path_params, request.query_params, await _posted(request))
            thread = reading if endpoint.reads else computing

            def run() -> Response:
                if endpoint.reads:
                    return endpoint.handler(subject, asked)
                return subject.holding(lambda: endpoint.handler(subject, asked))

            return await asyncio.get_running_loop().run_in_executor(thread, run)

        return answer

    routes = [Route(one.path, answering(one), methods=[one.method]) for one in ENDPOINTS]
    routes += [Route("/", _page), Route("/page/{file:path}", _page)]
    return Starlette(
        routes=routes,
        exception_handlers={Refusal: _refused, UserError: _mistaken, HTTPException: _unknown},
    )


async def _posted(request: Request) -> Mapping[str, Any]:
    """What was posted; a Refusal if it is no JSON object."""
    if request.method != "POST":
        return {}
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"What was posted is no JSON ({displayed(error)}).", "Post one JSON object.") from None
    if not isinstance(found, dict):
        raise Refusal(400, "What was posted is no JSON object.", 'Post an object, such as {"index": 0}.')
    return found


# ---- what goes wrong


def _answer(refusal: Refusal) -> Response:
    return json_response({"error": refusal.error, "hint": refusal.hint}, refusal.status)


async def _refused(request: Request, refusal: Any) -> Response:
    return _answer(refusal)


async def _mistaken(request: Request, error: Any) -> Response:
    return _answer(refusal_of(error))


async def _unknown(request: Request, error: Any) -> Response:
    """A path that there is not, or a method that it does not answer."""
    path = displayed(request.url.path)
    if error.status_code == 405:
        return _answer(Refusal(405, f"{path} is not asked with {request.method}.", "Ask with the other of GET and POST."))
    return _answer(Refusal(404, f"There is nothing at {path}.", "Reload the page: it may be older than the server."))


def _broken(error: Exception) -> Response:
    """A bug: the page gets a sentence, the terminal the traceback."""
    traceback.print_exception(error, file=sys.stderr)
    what = "there is not enough memory for it" if isinstance(error, MemoryError) else "as chainrule has a bug there"
    return _answer(
        Refusal(
            500,
            f"This cannot be answered: {what}.",
            "What happened stands in the terminal where the lens was started; please report it.",
        )
    )


# ---- the page


async def _page(request: Request) -> Response:
    """A file of the page."""
    name = request.path_params.get("file", "index.html")
    if "\x00" in name:
        raise HTTPException(404)
    file = (PAGE / name).resolve()
    kind = _KINDS.get(file.suffix)
    if kind is None or not file.is_relative_to(PAGE) or not file.is_file():
        raise HTTPException(404)
    return Response(file.read_bytes(), headers={"content-type": kind})
