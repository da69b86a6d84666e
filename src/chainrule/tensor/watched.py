"""Watched objects: modules, optimizers and schedules, whose attributes a compiled function may read while it is traced.

While a function is compiled, each read of an attribute of a watched object is recorded in the trace, with its value. Setting
an attribute that any trace has recorded changes ``version()``. So as long as nothing is set, a call of a compiled function only
has to compare version numbers.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from chainrule import forks
from chainrule.tensor.tracing import active_trace

if TYPE_CHECKING:
    from typing import Self

MISSING = object()
"""Stands for the value of an attribute that does not exist."""
# Attributes of this mechanism itself, and of no interest to guards.
_UNNOTED = frozenset({"_noted", "_path"})

K = TypeVar("K")
V = TypeVar("V")
C = TypeVar("C")
_count = itertools.count(1)
_version = 0


def version() -> int:
    """A number that changes whenever an attribute that a trace has recorded is set."""
    return _version


def changed() -> None:
    """Change ``version()``: a recorded value may have changed, so compiled functions must compare what they recorded."""
    global _version
    _version = next(_count)


class Watched:
    """Base class of objects whose attributes compiled functions watch.

    Subclasses can name attributes of three kinds. ``_unwatched``: no result depends on them. ``_made_while_tracing``: a traced
    call fills them, so the value at the end of tracing counts. ``_announced``: dicts that are changed only by code that calls
    ``changed()`` (see also ``WatchedDict``).
    """

    _announced: ClassVar[frozenset[str]] = frozenset()
    _unwatched: ClassVar[frozenset[str]] = frozenset()
    _made_while_tracing: ClassVar[frozenset[str]] = frozenset()

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Make an object. One made by a function that is being compiled is noted, as its changes are no side effects."""
        made = super().__new__(cls)
        trace = active_trace()
        if trace is not None and trace.notes is not None:
            trace.notes.made[id(made)] = made
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        self._was_set(name)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._was_set(name)

    def _was_set(self, name: str) -> None:
        """Record that an attribute was set or deleted."""
        if name in self.__dict__.get("_noted", ()):
            changed()
        trace = active_trace()
        if trace is None or trace.notes is None or id(self) in trace.notes.made:
            return
        if name not in type(self)._unwatched:
            trace.notes.set_here.setdefault((id(self), name), self)

    def _held(self, name: str) -> Any:
        """The value of an attribute of this object itself, not of its class; ``MISSING`` if there is none."""
        return self.__dict__.get(name, MISSING)


def _announcing(*names: str) -> Callable[[type[C]], type[C]]:
    """A class decorator that makes the methods of these names call ``changed()`` when they are done."""

    def announcing(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def announced(*args: Any, **options: Any) -> Any:
            try:
                return method(*args, **options)
            finally:
                changed()

        return announced

    def all_announcing(kind: type[C]) -> type[C]:
        for name in names:
            setattr(kind, name, announcing(getattr(kind, name)))
        return kind

    return all_announcing


@_announcing("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update")
class WatchedDict(dict[K, V]):
    """A dict that calls ``changed()`` when it changes, so that it need not be compared at each call."""


@_announcing("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear", "extend", "insert", "pop", "remove")
@_announcing("reverse", "sort")
class WatchedList(list[V]):
    """A list that calls ``changed()`` when it changes, so that it need not be compared at each call."""


def note(holder: Watched, name: str, value: Any) -> None:
    """If a function is being compiled, record in its trace that it read an attribute of ``holder``, and the value."""
    trace = active_trace()
    if trace is None or trace.notes is None or name in _UNNOTED or name in type(holder)._unwatched:
        return
    notes, key = trace.notes, (id(holder), name)
    if key in notes.reads or key in notes.set_here or id(holder) in notes.made:
        return
    own = object.__getattribute__(holder, "__dict__")
    if type(holder)._held(holder, name) is not MISSING:
        own.setdefault("_noted", set()).add(name)
        notes.read(holder, name, value)
        return
    in_class = inspect.getattr_static(type(holder), name, None)
    if isinstance(in_class, property):
        if in_class.fget is not None:
            notes.functions[in_class.fget] = None
        return
    own.setdefault("_noted", set()).add(name)
    notes.read(holder, name, MISSING)  # so that a guard notices an attribute of the object that shadows this one
    if isinstance(value, MethodType):
        notes.functions[value.__func__] = None
    elif value is not MISSING:
        notes.class_attributes[type(holder), name] = None


def _noting_read(self: Watched, name: str) -> Any:
    try:
        value = object.__getattribute__(self, name)
    except AttributeError:
        if not name.startswith("_") and type(self)._held(self, name) is MISSING:
            note(self, name, MISSING)  # for example by ``hasattr``
        raise
    if not name.startswith("__"):
        note(self, name, value)
    return value


_lock = forks.renewed(threading.Lock())
_tracing = 0


@contextmanager
def noting() -> Iterator[None]:
    """A context in which reads of attributes of watched objects are recorded, on threads that compile a function.

    Outside of it reads cost no more than for any other object.
    """
    global _tracing
    with _lock:
        _tracing += 1
        Watched.__getattribute__ = _noting_read  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        with _lock:
            _tracing -= 1
            if not _tracing:
                del Watched.__getattribute__
