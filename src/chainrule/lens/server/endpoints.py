"""What an endpoint is: a path, and a function from what is asked to an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from starlette.responses import Response

from chainrule.display import displayed
from chainrule.lens.server.refusals import Refusal
from chainrule.lens.server.subject import Subject


class Asked(NamedTuple):
    """What a request asks: parts of its path, what stands behind ``?``, and what was posted."""

    path: Mapping[str, Any]
    query: Mapping[str, str]
    posted: Mapping[str, Any]

    def whole(self, name: str, default: int | None = None, at_least: int = 0) -> int:
        """A whole number of the query; a Refusal if it is none, or missing without a ``default``."""
        text = self.query.get(name)
        if text is None and default is not None:
            return default
        digits = (text or "").removeprefix("-")
        if not digits.isdecimal() or len(digits) > 15 or int(text or "") < at_least:
            raise Refusal(
                400,
                f"{name} must be a whole number from {at_least} on, not {displayed(text) if text else 'missing'}.",
                f"Ask with {name}=0, for example.",
            )
        return int(text or "")


Handler = Callable[[Subject, Asked], Response]
"""Answers a request. It runs in a thread that computes for nobody else meanwhile."""


class Endpoint(NamedTuple):
    """A path below /api (as Starlette writes them), its method and its handler; ``reads`` if it computes nothing."""

    path: str
    handler: Handler
    method: str = "GET"
    reads: bool = False
