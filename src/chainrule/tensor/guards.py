"""Guards of a traced function: the values outside of its arguments that it was traced with, and whether they still hold.

attributes of modules, optimizers, schedules   recorded when they are read, compared after one of them was set
lists and dicts among those                    compared at each call, as they can change without being set
globals, enclosing variables, other objects    compared at each call (see ``surroundings``)
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from chainrule.tensor.sameness import Same, described, same_as
from chainrule.tensor.surroundings import Guard, Surroundings, change
from chainrule.tensor.watched import MISSING, Watched, WatchedDict, WatchedList, version

_MUTABLE = (list, dict, set, deque, np.ndarray)


class _Attribute:
    """An attribute of a watched object, with the value that it had when it was first read."""

    __slots__ = ("holder", "name", "same", "was", "what")

    def __init__(self, holder: Watched, name: str, value: Any) -> None:
        self.holder, self.name = weakref.ref(holder), name
        self.what = f"{type(holder).__name__}.{name.removeprefix('_')}"
        self.same: Same = same_as(value)
        self.was = "" if value is MISSING else described(value)

    def look(self) -> Any:
        holder = self.holder()
        return MISSING if holder is None else holder._held(self.name)

    def broken(self) -> str | None:
        now = self.look()
        if self.same(now):
            return None
        return change(self.what, self.was, now) if self.was else f"{self.what} is there now, which it was not"


def _says_when_it_changes(value: Any) -> bool:
    """Whether ``value`` cannot change unnoticed: it is immutable, or it and all containers in it call ``changed()``."""
    if isinstance(value, WatchedDict):
        members: Iterable[Any] = value.values()
    elif isinstance(value, WatchedList):
        members = value
    else:
        return not isinstance(value, _MUTABLE)
    return all(map(_says_when_it_changes, members))


class Notes:
    """What a function did with watched objects while it was traced: the attributes that it read and set, the methods and
    properties that it called, and the attributes that it read from classes."""

    def __init__(self) -> None:
        self.reads: dict[tuple[int, str], _Attribute] = {}
        self.values: dict[tuple[int, str], tuple[Watched, Any]] = {}  # keeps objects alive, so that ids stay unique
        self.set_here: dict[tuple[int, str], Watched] = {}
        self.made: dict[int, Watched] = {}  # made while tracing, so not shared
        self.functions: dict[Any, None] = {}
        self.class_attributes: dict[tuple[type, str], None] = {}

    def read(self, holder: Watched, name: str, value: Any) -> None:
        """Record that an attribute of a watched object was read, and the value that it had."""
        key = (id(holder), name)
        self.reads[key] = _Attribute(holder, name, value)
        self.values[key] = (holder, value)

    def settle(self) -> None:
        """To be called at the end of tracing: attributes that the traced call itself fills (``_made_while_tracing``) count
        with the value that they have now."""
        for key, (holder, value) in self.values.items():
            attribute = self.reads[key]
            if attribute.name in holder._made_while_tracing:
                now = holder._held(attribute.name) if value is MISSING else value
                self.reads[key] = _Attribute(holder, attribute.name, now)

    def objects(self) -> Iterator[tuple[str, Any]]:
        """Pairs of a name and an object whose attributes the code may name: the values that were read, and the classes that
        attributes were read from."""
        for key, (_, value) in self.values.items():
            if value is not MISSING:
                yield self.reads[key].what, value
        for kind, _ in self.class_attributes:
            yield kind.__name__, kind

    def side_effects(self) -> list[str]:
        """Names of the attributes that the function changed. A compiled call does not repeat these changes."""
        changes = [f"{type(holder).__name__}.{name}" for (_, name), holder in self.set_here.items()]
        for attribute in self.reads.values():
            if attribute.what not in changes and not attribute.same(attribute.look()):
                changes.append(attribute.what)
        return changes


class Guards:
    """All guards of one program. ``before`` and ``after`` are the surroundings at the beginning and end of tracing."""

    def __init__(self, notes: Notes, before: Surroundings, after: Surroundings) -> None:
        attributes = list(notes.reads.values())
        mutable = [
            key
            for key, (holder, value) in notes.values.items()
            if isinstance(value, _MUTABLE) and not _says_when_it_changes(value) and key[1] not in holder._announced
        ]
        self._when_set = attributes
        self._always: list[Guard | _Attribute] = [notes.reads[key] for key in mutable]
        self._always += {**after.guards, **before.guards}.values()  # those from before tracing, which may have changed them
        self._version = -1

    def broken(self) -> str | None:
        """A sentence about something that changed since tracing; None if nothing did."""
        for guard in self._always:
            if not guard.same(guard.look()):
                return guard.broken()
        now = version()
        if now != self._version:
            for attribute in self._when_set:
                if not attribute.same(attribute.look()):
                    return attribute.broken()
            self._version = now
        return None
