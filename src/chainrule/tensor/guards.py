"""Guards of a traced function: what it was traced with, besides its arguments, and whether that still holds.

attributes of modules, optimizers, schedules   noted when they are read, compared when one of them was set
lists and dicts among those                    compared at each call, as they change without being set
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
    """An attribute of a watched object, as it was when it was first read."""

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
    """Whether a container, with all containers in it, announces its changes."""
    if isinstance(value, WatchedDict):
        members: Iterable[Any] = value.values()
    elif isinstance(value, WatchedList):
        members = value
    else:
        return not isinstance(value, _MUTABLE)
    return all(map(_says_when_it_changes, members))


class Notes:
    """What a function that is being compiled did with watched objects: attributes that it read and set, their methods."""

    def __init__(self) -> None:
        self.reads: dict[tuple[int, str], _Attribute] = {}
        self.values: dict[tuple[int, str], tuple[Watched, Any]] = {}  # kept alive until tracing ends, so that ids stay theirs
        self.set_here: dict[tuple[int, str], Watched] = {}
        self.made: dict[int, Watched] = {}  # while tracing, such as a loss layer: nobody else sees it change
        self.functions: dict[Any, None] = {}
        self.class_attributes: dict[tuple[type, str], None] = {}

    def read(self, holder: Watched, name: str, value: Any) -> None:
        """Note that an attribute of a watched object was read, and the value that it had."""
        key = (id(holder), name)
        self.reads[key] = _Attribute(holder, name, value)
        self.values[key] = (holder, value)

    def settle(self) -> None:
        """At the end of tracing: what counts of attributes that a traced call fills is what is there now."""
        for key, (holder, value) in self.values.items():
            attribute = self.reads[key]
            if attribute.name in holder._made_while_tracing:
                now = holder._held(attribute.name) if value is MISSING else value
                self.reads[key] = _Attribute(holder, attribute.name, now)

    def objects(self) -> Iterator[tuple[str, Any]]:
        """The values that were read, for whatever else the code names of them; and classes, for attributes read from them."""
        for key, (_, value) in self.values.items():
            if value is not MISSING:
                yield self.reads[key].what, value
        for kind, _ in self.class_attributes:
            yield kind.__name__, kind

    def side_effects(self) -> list[str]:
        """What the function changed outside of itself, which happens only while it is traced."""
        changes = [f"{type(one).__name__}.{name}" for (_, name), one in self.set_here.items()]
        for attribute in self.reads.values():
            if attribute.what not in changes and not attribute.same(attribute.look()):
                changes.append(attribute.what)
        return changes


class Guards:
    """All guards of one traced program."""

    def __init__(self, notes: Notes, before: Surroundings, after: Surroundings) -> None:
        attributes = list(notes.reads.values())
        mutable = [
            key
            for key, (holder, value) in notes.values.items()
            if isinstance(value, _MUTABLE) and not _says_when_it_changes(value) and key[1] not in holder._announced
        ]
        self._when_set = attributes
        self._always: list[Guard | _Attribute] = [notes.reads[key] for key in mutable]
        self._always += {**after.guards, **before.guards}.values()  # as it was before, where tracing changed it
        self._version = -1

    def broken(self) -> str | None:
        """What changed since tracing; None if nothing did."""
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
