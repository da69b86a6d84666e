"""Forward and backward passes of single images: what the page asks of ``lens.tracing``."""

from __future__ import annotations

from chainrule.lens.server.endpoints import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = ()
