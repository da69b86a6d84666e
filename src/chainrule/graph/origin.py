"""Where a node comes from: the path of the layer in the model, and the line of the user's program.

Both are per thread. The line is that of the innermost frame outside this package. While backprop emits the nodes of a
gradient, they take over the origin of the forward node that they belong to.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@dataclass(frozen=True, slots=True)
class Origin:
    """``module`` is a dotted path such as ``features.0`` (empty outside a model), ``kind`` the class of that layer, such as
    ``Conv2d``; ``line`` counts from 1, 0 if unknown."""

    module: str
    file: str
    line: int
    kind: str = ""

    def __str__(self) -> str:
        place = f"{os.path.basename(self.file)}:{self.line}" if self.line else "unknown line"
        return f"{self.module} ({place})" if self.module else place


class _Here(threading.local):
    module = ""
    kind = ""
    fixed: Origin | None = None


_here = _Here()


_origin = functools.lru_cache(maxsize=4096)(Origin)


def current_origin() -> Origin:
    """Origin of a node made now."""
    if _here.fixed is not None:
        return _here.fixed
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_PACKAGE_FOLDER):
            return _origin(_here.module, file, frame.f_lineno, _here.kind)
        frame = frame.f_back  # type: ignore[assignment]
    return Origin(_here.module, "", 0, _here.kind)


def current_module() -> str:
    return _here.module


@contextmanager
def inside_module(path: str, kind: str = "") -> Iterator[None]:
    """Nodes made inside belong to the layer at ``path``, of class ``kind``."""
    before = _here.module, _here.kind
    _here.module, _here.kind = path, kind
    try:
        yield
    finally:
        _here.module, _here.kind = before


@contextmanager
def originating_from(origin: Origin) -> Iterator[None]:
    """Nodes made inside have just this origin."""
    before, _here.fixed = _here.fixed, origin
    try:
        yield
    finally:
        _here.fixed = before
