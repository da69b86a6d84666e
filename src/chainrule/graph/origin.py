"""Where a node comes from: the path of the layer in the model, and the line of the user's program.

Both are per thread. The line is that of the innermost frame outside this package. While backprop emits the nodes of a
gradient, they take over the origin of the forward node that they belong to.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from dataclasses import dataclass
from types import FrameType

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


class _IsOurs(dict[str, bool]):
    """Whether a source file belongs to this package, by its name."""

    def __missing__(self, file: str) -> bool:
        found = self[file] = file.startswith(_PACKAGE_FOLDER)
        return found


_is_ours = _IsOurs()


def current_origin() -> Origin:
    """Origin of a node made now."""
    fixed = _here.fixed
    if fixed is not None:
        return fixed
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours[frame.f_code.co_filename]:  # some ten frames for each node: keep it short
        frame = frame.f_back
    if frame is None:
        return Origin(_here.module, "", 0, _here.kind)
    return _origin(_here.module, frame.f_code.co_filename, frame.f_lineno, _here.kind)


def current_module() -> str:
    return _here.module


class inside_module:  # noqa: N801 - used like a function
    """Nodes made inside belong to the layer at ``path``, of class ``kind``."""

    __slots__ = ("_before", "_now")

    def __init__(self, path: str, kind: str = "") -> None:
        self._now = path, kind

    def __enter__(self) -> None:
        self._before = _here.module, _here.kind
        _here.module, _here.kind = self._now

    def __exit__(self, *_: object) -> None:
        _here.module, _here.kind = self._before


class originating_from:  # noqa: N801 - used like a function
    """Nodes made inside have just this origin."""

    __slots__ = ("_before", "_origin")

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def __enter__(self) -> None:
        self._before, _here.fixed = _here.fixed, self._origin

    def __exit__(self, *_: object) -> None:
        _here.fixed = self._before
