"""What a function's code names: globals, variables of enclosing functions, attributes of objects, and those of whatever it
calls. A compiled function is traced again when one of them is no longer what it was.

The code is read, not run: a name counts if any function that can be reached from here mentions it. What lies in installed
packages, this one among them, or in Python's own library is taken for granted, and so is what their objects hold further in.
"""

from __future__ import annotations

import dis
import functools
import os
import random
import sys
import sysconfig
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from chainrule.tensor.sameness import PLAIN, Same, described, same_as
from chainrule.tensor.tensor import Tensor
from chainrule.tensor.watched import MISSING, Watched

_LIBRARY = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TAKEN_FOR_GRANTED = (
    _LIBRARY,
    os.path.dirname(np.__file__) + os.sep,
    *(path + os.sep for name, path in sysconfig.get_paths().items() if name in ("stdlib", "platstdlib")),
)
_NAMESPACES = frozenset({("types", "SimpleNamespace"), ("argparse", "Namespace")})
_NOT_CALLED = frozenset({"__init__", "__new__", "__post_init__", "__init_subclass__", "__del__", "__repr__", "__str__"})
"""Methods of objects that are there already, which running code does not call unless it names them."""
_ASKING = frozenset({"getattr", "hasattr", "setattr", "vars", "attrgetter", "__dict__"})
"""Names through which attributes are reached by their names as text."""
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


ABSENT = "absent"
"""What something was that was not there."""


class Guard(NamedTuple):
    """Something outside of a function that it was traced with: what it is, how to look at it, and whether it is the same."""

    what: str
    look: Callable[[], Any]
    same: Same
    was: str

    def broken(self) -> str | None:
        """How it changed; None if it did not."""
        now = self.look()
        if self.same(now):
            return None
        return f"{now} is there now, which it was not" if self.was == ABSENT else change(self.what, self.was, now)


def change(what: str, was: str, now: Any) -> str:
    """A sentence about something that is another value now."""
    if now is MISSING:
        return f"{what} is gone; it was {was}"
    return f"{what} changed from {was} to {f'another {described(now)[2:]}' if described(now) == was else described(now)}"


class Surroundings:
    """All that ``function`` names, as it is now.

    ``objects`` are what else the function gets at, with what to call them: arguments that are no tensors, attributes of
    modules. ``called`` are functions of which is known that it calls them.
    """

    def __init__(
        self, function: Callable[..., Any], objects: Iterable[tuple[str, Any]] = (), called: Iterable[Any] = ()
    ) -> None:
        objects, called = list(objects), list(called)
        self._names: set[str] = set()  # of attributes
        self._asked: set[str] = set()  # of attributes that may be missing, as ``hasattr`` asks for them
        while True:  # each function may name attributes of objects that were looked at before
            known = len(self._names), len(self._asked)
            self.guards: dict[Hashable, Guard] = {}
            self.generators: list[tuple[str, Any]] = []
            self.iterators: list[str] = []
            self._seen: set[int] = set()
            self._absent: dict[Hashable, set[str]] = {}
            self._alive: list[Any] = []  # made while looking: their ids must not come again
            self._look_at("", function, always=True)
            for one in called:
                self._look_at("", one)
            for label, value in objects:
                self._look_at(label, value)
            if (len(self._names), len(self._asked)) == known:
                break

    # ---- what is looked at

    def _look_at(self, label: str, value: Any, always: bool = False) -> None:
        if isinstance(value, (*PLAIN, np.ndarray, np.generic)) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._alive.append(value)
        if isinstance(value, FunctionType):
            if always or not _is_granted(value.__code__.co_filename):
                self._look_into(value)
                self._attributes(label or value.__name__, value)
        elif isinstance(value, MethodType):
            self._look_at(label, value.__func__, always)
            self._look_at("self", value.__self__)
        elif isinstance(value, functools.partial):
            for one in (value.func, value.args, value.keywords):
                self._look_at(label, one, always)
        elif isinstance(value, dict | MappingProxyType):
            for name, one in value.items():
                self._look_at(f"{label}[{described(name)}]", one)
        elif isinstance(value, list | tuple | set | frozenset | deque):
            for place, one in enumerate(value):
                self._look_at(f"{label}[{place}]", one)
        elif _is_generator(value):
            self.generators.append((label, value))
        elif isinstance(value, Iterator):
            self.iterators.append(label)
        elif isinstance(value, type):
            self._look_at_class(value)
        elif isinstance(value, ModuleType):
            if not _is_granted(getattr(value, "__file__", None) or ""):
                self._attributes(label, value)
        elif hasattr(type(value), "_compiled_from"):
            self._look_at(label, value._compiled_from)
        elif not isinstance(value, Watched | Tensor):  # attributes of the first are noted when they are read
            self._attributes(label, value, further=_is_followed(type(value)))
            self._look_at_class(type(value))

    def _look_into(self, function: FunctionType) -> None:
        """At all that the code of a function names."""
        names, attributes, asked = _named(function.__code__)
        self._names |= attributes | asked
        self._asked |= asked
        around = function.__globals__
        self._hold_absence((id(around), "globals"), "the global", lambda: around, names - around.keys())
        for name in names & around.keys():
            self._hold((id(around), name), f"the global {name}", functools.partial(around.get, name, MISSING), name)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._hold(id(cell), f"the variable {name} of the enclosing function", functools.partial(_content, cell), name)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            if not isinstance(value, PLAIN):
                what = f"a default of an argument of {function.__name__}"
                self._hold((id(function), id(value)), what, functools.partial(_itself, value), what)

    def _attributes(self, label: str, value: Any, further: bool = True) -> None:
        """At those attributes of an object that any code names, and ``further`` at what is in them."""
        there = set()
        for name, attribute in _own_attributes(value):
            if name in self._names and attribute is not MISSING:
                there.add(name)
                look = functools.partial(_attribute, _holding(value), name)
                self._hold((id(value), name), f"{label}.{name}", look, f"{label}.{name}", further)
        if further and hasattr(value, "__dict__") and not isinstance(value, type):
            kind: Any = type(value)
            absent = {name for name in self._names - there if name in self._asked or _may_be_shadowed(kind, name)}
            self._hold_absence((id(value), "absent"), f"{label}.", functools.partial(_dict_of, _holding(value)), absent)

    def _hold_absence(self, key: Hashable, what: str, look: Callable[[], dict[str, Any]], names: Iterable[str]) -> None:
        """That none of ``names`` is in a dict: it would take the place of what is read now, from a class or from Python."""
        kept = {*names} | self._absent.get(key, set())
        if not kept:
            return
        self._absent[key] = kept
        candidates = frozenset(kept)

        def appeared() -> Any:
            there = look()
            if there.keys().isdisjoint(candidates):
                return None
            name = min(candidates & there.keys())
            return f"{what}{'' if what.endswith('.') else ' '}{name}"

        self.guards[key] = Guard(what, appeared, _is_none, ABSENT)

    def _look_at_class(self, kind: type) -> None:
        for one in kind.__mro__:
            if one is object or _is_granted(_file_of(one)):
                continue
            for name, value in list(vars(one).items()):
                function = _function_of(value)
                if function is not None:
                    if name in self._names or (name.startswith("__") and name not in _NOT_CALLED):
                        self._look_at("", function)
                elif name in self._names:
                    what = f"{one.__name__}.{name}"
                    self._hold((id(one), name), what, functools.partial(_attribute, _holding(one), name), what)

    def _hold(self, key: Hashable, what: str, look: Callable[[], Any], label: str, further: bool = True) -> None:
        value = look()
        if value is not MISSING:
            self.guards[key] = Guard(what, look, same_as(value), described(value))
            if further:
                self._look_at(label, value)


class RandomStates:
    """The states of the generators of random numbers outside of this library, at one moment."""

    def __init__(self, generators: Iterable[tuple[str, Any]]) -> None:
        looks: list[tuple[str, Callable[[], Any]]] = [("np.random", np.random.get_state), ("random", random.getstate)]
        looks += [(label, functools.partial(_state_of, generator)) for label, generator in generators]
        self._states = [(label, look, _bits(look)) for label, look in looks]

    def drawn(self) -> str | None:
        """The name of a generator that was drawn from since; None if none was."""
        return next((name for name, look, state in self._states if _bits(look) != state), None)


def _bits(look: Callable[[], Any]) -> str | bytes:
    state = look()
    if isinstance(state, tuple) and isinstance(state[1], np.ndarray):
        return bytes(state[1].tobytes()) + repr(state[2:]).encode()
    return repr(state)


def _is_generator(value: Any) -> bool:
    """Whether it draws random numbers; ``numpy.random`` is loaded where somebody has one of its generators."""
    if isinstance(value, random.Random):
        return True
    if "numpy.random" not in sys.modules:
        return False
    return isinstance(value, np.random.Generator | np.random.BitGenerator | np.random.RandomState)


def _state_of(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.BitGenerator):
        return generator.state
    return generator.get_state() if isinstance(generator, np.random.RandomState) else generator.getstate()


def _is_none(now: Any) -> bool:
    return now is None


def _dict_of(holder: Callable[[], Any]) -> dict[str, Any]:
    own = getattr(holder(), "__dict__", None)
    return own if isinstance(own, dict) else {}


@functools.lru_cache(maxsize=4096)
def _may_be_shadowed(kind: Hashable, name: str) -> bool:
    """Whether a class has an attribute, or a method, whose place one of the object itself would take."""
    assert isinstance(kind, type)
    for one in kind.__mro__:
        if name in vars(one):
            return not hasattr(type(vars(one)[name]), "__set__")  # a property stays in front
    return False


# ---- looking


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the enclosing function has not come so far
        return MISSING


def _itself(value: Any) -> Any:
    return value


def _holding(value: Any) -> Callable[[], Any]:
    """Gives ``value``, without keeping it alive where that is possible."""
    try:
        return weakref.ref(value)
    except TypeError:
        return functools.partial(_itself, value)


def _attribute(holder: Callable[[], Any], name: str) -> Any:
    value = holder()
    for found, attribute in _own_attributes(value, (name,)):
        if found == name:
            return attribute
    return MISSING


def _own_attributes(value: Any, names: Iterable[str] | None = None) -> Iterator[tuple[str, Any]]:
    """Attributes of an object itself, in its ``__dict__`` or its slots; only those of ``names``, if given."""
    own = getattr(value, "__dict__", None)
    if own is not None:
        yield from list(own.items()) if names is None else [(name, own[name]) for name in names if name in own]
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__weakref__", "__dict__") and (names is None or name in names):
                yield name, getattr(value, name, MISSING)


def _function_of(value: Any) -> FunctionType | None:
    """The function that stands behind a member of a class."""
    for name in ("fget", "__func__", "func", "_compiled_from"):
        behind = getattr(value, name, None)
        value = value if behind is None else behind
    return value if isinstance(value, FunctionType) else None


@functools.lru_cache(maxsize=4096)
def _named(code: CodeType) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The globals and the attributes that some code, and functions defined in it, mention; and, if it asks for attributes by
    name, as ``getattr`` does, the texts in it that may be such names."""
    names, attributes = set(), set()
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if isinstance(name, str):
            if "GLOBAL" in instruction.opname or instruction.opname == "LOAD_NAME":
                names.add(name)
            elif "ATTR" in instruction.opname or "METHOD" in instruction.opname:
                attributes.add(name)
    asked = set()
    if not _ASKING.isdisjoint(names | attributes):
        asked = {one for one in code.co_consts if isinstance(one, str) and one.isidentifier()}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner_names, inner_attributes, inner_asked = _named(constant)
            names |= inner_names
            attributes |= inner_attributes
            asked |= inner_asked
    return frozenset(names), frozenset(attributes), frozenset(asked)


@functools.lru_cache(maxsize=4096)
def _is_granted(file: str) -> bool:
    """Whether a source file belongs to this package, to one that is installed, or to Python itself."""
    if not file or file.startswith("<frozen "):
        return True
    return file.startswith(_TAKEN_FOR_GRANTED) or any(one in file for one in _INSTALLED)


def _is_followed(kind: type) -> bool:
    """Whether objects of a class are looked into further than at their own attributes: the user's, and this package's."""
    return (
        (kind.__module__, kind.__name__) in _NAMESPACES
        or _file_of(kind).startswith(_LIBRARY)
        or not _is_granted(_file_of(kind))
    )


def _file_of(kind: type) -> str:
    """Where a class was defined; of one typed in at a prompt, something that is no file."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    return file or ("<prompt>" if kind.__module__ == "__main__" else "")
