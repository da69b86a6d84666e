"""Where a node comes from: the path of the layer in the model, and the line of the user's program.

Both are kept per thread. The line is that of the innermost frame outside this package. The nodes that backprop emits have the
origin of the forward node whose gradient they compute.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@dataclass(frozen=True, slots=True)
class Origin:
    """The layer and the source line that a node comes from.

    ``module`` is the layer's dotted path in the model, such as ``features.0`` (empty outside a model), ``kind`` its class, such
    as ``Conv2d``. ``line`` counts from 1, 0 if unknown. Outside a model, ``function`` is that of several operations, such as
    ``cross_entropy``, and ``call`` tells its calls apart.
    """

    module: str
    file: str
    line: int
    kind: str = ""
    function: str = ""
    call: int = field(default=0, compare=False)

    def __str__(self) -> str:
        place = f"{os.path.basename(self.file)}:{self.line}" if self.line else "unknown line"
        return f"{self.module} ({place})" if self.module else place


class _Here(threading.local):
    module = ""
    kind = ""
    fixed: Origin | None = None
    origin: Origin | None = None  # while a layer of this package runs: the origin of all its nodes


_here = _Here()
_calls = itertools.count(1)


_origin = functools.lru_cache(maxsize=4096)(Origin)


class _IsOurs(dict[str, bool]):
    """A cache from the name of a source file to whether it belongs to this package."""

    def __missing__(self, file: str) -> bool:
        ours = self[file] = file.startswith(_PACKAGE_FOLDER)
        return ours


_is_ours = _IsOurs()


def current_origin() -> Origin:
    """The origin that a node made now on this thread gets."""
    known = _here.fixed or _here.origin
    return _origin(_here.module, *_innermost_line(), _here.kind) if known is None else known


def _innermost_line() -> tuple[str, int]:
    """File and line of the innermost frame outside this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours[frame.f_code.co_filename]:  # runs for some ten frames per node: keep it fast
        frame = frame.f_back
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def current_module() -> str:
    """Path of the layer that runs now on this thread; empty outside a model."""
    return _here.module


class inside_module:  # noqa: N801 - used like a function
    """A context: nodes made inside belong to the layer at ``path``, of class ``kind``.

    ``forward`` is the function that computes the layer. If it belongs to this package, all nodes get the line that called the
    layer, which is looked up only once.
    """

    __slots__ = ("_before", "_is_ours", "_now")

    def __init__(self, path: str, kind: str = "", forward: object = None) -> None:
        self._now = path, kind
        code = getattr(forward, "__code__", None)
        self._is_ours = code is not None and _is_ours[code.co_filename]

    def __repr__(self) -> str:
        return f"inside_module{self._now}"

    def __enter__(self) -> None:
        before = self._before = _here.module, _here.kind, _here.origin
        path, kind = _here.module, _here.kind = self._now
        if self._is_ours:
            outer = before[2]
            line = _innermost_line() if outer is None else (outer.file, outer.line)
            _here.origin = _origin(path, *line, kind)
        else:
            _here.origin = None

    def __exit__(self, *_: object) -> None:
        _here.module, _here.kind, _here.origin = self._before


class originating_from:  # noqa: N801 - used like a function
    """A context: nodes made inside have exactly this origin."""

    __slots__ = ("_before", "_origin")

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def __repr__(self) -> str:
        return f"originating_from({self._origin})"

    def __enter__(self) -> None:
        self._before, _here.fixed = _here.fixed, self._origin

    def __exit__(self, *_: object) -> None:
        _here.fixed = self._before


def in_function(function: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
    """Call a function that makes several nodes. Outside a model they get the line of this call, which is looked up once instead
    of per node, and the name of the function; within a layer or another function they belong to that."""
    if _here.fixed is not None or _here.module:
        return function(*args, **options)
    with originating_from(Origin("", *_innermost_line(), "", function.__name__, next(_calls))):
        return function(*args, **options)
