"""Surroundings of a function: the globals, variables of enclosing functions and attributes that its code names, together with
those that the functions it calls name. A compiled function is traced again when one of them has changed.

The code is read and not run: a name counts if any function that can be reached from here mentions it. Functions of installed
packages (this one included) and of Python's own library are assumed not to change, and so are the contents of their objects.
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
# Classes of Python's library that only hold the user's attributes, so these are guarded.
_NAMESPACES = frozenset({("types", "SimpleNamespace"), ("argparse", "Namespace")})
_NOT_CALLED = frozenset({"__init__", "__new__", "__post_init__", "__init_subclass__", "__del__", "__repr__", "__str__"})
"""Special methods that code does not call on an existing object unless it names them."""
_ASKING = frozenset({"getattr", "hasattr", "setattr", "vars", "attrgetter", "__dict__"})
"""Names through which code can read attributes whose names are given as strings."""
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


ABSENT = "absent"
"""The description, in ``Guard.was``, of something that did not exist."""


class Guard(NamedTuple):
    """A value outside of a function that it was traced with.

    ``what`` names it, ``look`` reads it as it is now, ``same`` compares that with the recorded value, and ``was`` describes the
    recorded value.
    """

    what: str
    look: Callable[[], Any]
    same: Same
    was: str

    def broken(self) -> str | None:
        """A sentence that says how the value changed; None if it did not."""
        now = self.look()
        if self.same(now):
            return None
        return f"{now} is there now, which it was not" if self.was == ABSENT else change(self.what, self.was, now)


def change(what: str, was: str, now: Any) -> str:
    """A sentence that says how ``what`` changed, from a value described by ``was`` to ``now``."""
    if now is MISSING:
        return f"{what} is gone; it was {was}"
    return f"{what} changed from {was} to {f'another {described(now)[2:]}' if described(now) == was else described(now)}"


class Surroundings:
    """Guards for everything outside of ``function`` that its code names, with the present values.

    ``objects`` are pairs of a name and a further object that the function can reach: arguments that are no tensors, attributes
    of modules. ``called`` are functions that it is known to call. ``generators`` are the random generators that it can reach,
    with their names, and ``iterators`` the names of iterators.
    """

    def __init__(
        self, function: Callable[..., Any], objects: Iterable[tuple[str, Any]] = (), called: Iterable[Any] = ()
    ) -> None:
        objects, called = list(objects), list(called)
        self._names: set[str] = set()  # attributes that code names
        self._asked: set[str] = set()  # attributes that code may ask for by a string, as with ``hasattr``; they may be missing
        while True:  # until no function names attributes that earlier objects were not searched for
            known = len(self._names), len(self._asked)
            self.guards: dict[Hashable, Guard] = {}
            self.generators: list[tuple[str, Any]] = []
            self.iterators: list[str] = []
            self._seen: set[int] = set()
            self._absent: dict[Hashable, set[str]] = {}
            self._alive: list[Any] = []  # keeps objects alive, so that no two of ``_seen`` get the same id
            self._look_at("", function, always=True)
            for callee in called:
                self._look_at("", callee)
            for label, value in objects:
                self._look_at(label, value)
            if (len(self._names), len(self._asked)) == known:
                break

    # ---- what is looked at

    def _look_at(self, label: str, value: Any, always: bool = False) -> None:
        """Guard what ``value`` can reach. ``always`` includes a function of an installed package, if it is itself compiled."""
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
            for member in (value.func, value.args, value.keywords):
                self._look_at(label, member, always)
        elif isinstance(value, dict | MappingProxyType):
            for name, member in value.items():
                self._look_at(f"{label}[{described(name)}]", member)
        elif isinstance(value, list | tuple | set | frozenset | deque):
            for place, member in enumerate(value):
                self._look_at(f"{label}[{place}]", member)
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
        elif not isinstance(value, Watched | Tensor):  # reads of a Watched object are recorded by itself
            self._attributes(label, value, further=_is_followed(type(value)))
            self._look_at_class(type(value))

    def _look_into(self, function: FunctionType) -> None:
        """Guard everything that the code of ``function`` names."""
        names, attributes, asked = _named(function.__code__)
        self._names |= attributes | asked
        self._asked |= asked
        global_names = function.__globals__
        self._hold_absence((id(global_names), "globals"), "the global", lambda: global_names, names - global_names.keys())
        for name in names & global_names.keys():
            self._hold((id(global_names), name), f"the global {name}", functools.partial(global_names.get, name, MISSING), name)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._hold(id(cell), f"the variable {name} of the enclosing function", functools.partial(_content, cell), name)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            if not isinstance(value, PLAIN):
                what = f"a default of an argument of {function.__name__}"
                self._hold((id(function), id(value)), what, functools.partial(_itself, value), what)

    def _attributes(self, label: str, value: Any, further: bool = True) -> None:
        """Guard those attributes of an object that any code names.

        With ``further``, also guard what they can reach, and that the object gets no attribute that code asks for by a string
        or that would shadow one of its class.
        """
        present = set()
        for name, attribute in _own_attributes(value):
            if name in self._names and attribute is not MISSING:
                present.add(name)
                look = functools.partial(_attribute, _holding(value), name)
                self._hold((id(value), name), f"{label}.{name}", look, f"{label}.{name}", further)
        if further and hasattr(value, "__dict__") and not isinstance(value, type):
            kind: Any = type(value)
            absent = {name for name in self._names - present if name in self._asked or _may_be_shadowed(kind, name)}
            self._hold_absence((id(value), "absent"), f"{label}.", functools.partial(_dict_of, _holding(value)), absent)

    def _hold_absence(self, key: Hashable, what: str, look: Callable[[], dict[str, Any]], names: Iterable[str]) -> None:
        """Guard that none of ``names`` appears in the dict that ``look`` gives, where it would shadow what is read now: an
        attribute of a class, or a built-in function.
        """
        kept = {*names} | self._absent.get(key, set())
        if not kept:
            return
        self._absent[key] = kept
        candidates = frozenset(kept)

        def appeared() -> Any:
            present = look()
            if present.keys().isdisjoint(candidates):
                return None
            name = min(candidates & present.keys())
            return f"{what}{'' if what.endswith('.') else ' '}{name}"

        self.guards[key] = Guard(what, appeared, _is_none, ABSENT)

    def _look_at_class(self, kind: type) -> None:
        """Guard what a class and its bases hold: named attributes, and what named and special methods name."""
        for base in kind.__mro__:
            if base is object or _is_granted(_file_of(base)):
                continue
            for name, value in list(vars(base).items()):
                function = _function_of(value)
                if function is not None:
                    if name in self._names or (name.startswith("__") and name not in _NOT_CALLED):
                        self._look_at("", function)
                elif name in self._names:
                    what = f"{base.__name__}.{name}"
                    self._hold((id(base), name), what, functools.partial(_attribute, _holding(base), name), what)

    def _hold(self, key: Hashable, what: str, look: Callable[[], Any], label: str, further: bool = True) -> None:
        """Guard the value that ``look`` gives, if it exists; with ``further``, also what it can reach, under ``label``."""
        value = look()
        if value is not MISSING:
            self.guards[key] = Guard(what, look, same_as(value), described(value))
            if further:
                self._look_at(label, value)


class RandomStates:
    """A record of the states of random generators that are not chainrule's: NumPy's, Python's, and ``generators``."""

    def __init__(self, generators: Iterable[tuple[str, Any]]) -> None:
        looks: list[tuple[str, Callable[[], Any]]] = [("np.random", np.random.get_state), ("random", random.getstate)]
        looks += [(label, functools.partial(_state_of, generator)) for label, generator in generators]
        self._states = [(label, look, _bits(look)) for label, look in looks]

    def drawn(self) -> str | None:
        """The name of a generator whose state has changed since, because numbers were drawn; None if there is none."""
        return next((name for name, look, state in self._states if _bits(look) != state), None)


def _bits(look: Callable[[], Any]) -> str | bytes:
    """The state that ``look`` gives, in a form that can be compared."""
    state = look()
    if isinstance(state, tuple) and isinstance(state[1], np.ndarray):
        return bytes(state[1].tobytes()) + repr(state[2:]).encode()
    return repr(state)


def _is_generator(value: Any) -> bool:
    """Whether ``value`` is a random generator. Does not import ``numpy.random``: whoever has a generator of it did."""
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
    """Whether a class has an attribute or method that an attribute ``name`` of an object would shadow."""
    assert isinstance(kind, type)
    for base in kind.__mro__:
        if name in vars(base):
            return not hasattr(type(vars(base)[name]), "__set__")  # a property takes precedence over the object
    return False


# ---- looking


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the enclosing function has not assigned it yet
        return MISSING


def _itself(value: Any) -> Any:
    return value


def _holding(value: Any) -> Callable[[], Any]:
    """A function that returns ``value`` without keeping it alive, if it allows weak references."""
    try:
        return weakref.ref(value)
    except TypeError:
        return functools.partial(_itself, value)


def _attribute(holder: Callable[[], Any], name: str) -> Any:
    value = holder()
    for own_name, attribute in _own_attributes(value, (name,)):
        if own_name == name:
            return attribute
    return MISSING


def _own_attributes(value: Any, names: Iterable[str] | None = None) -> Iterator[tuple[str, Any]]:
    """The attributes in an object's own ``__dict__`` and slots, with their names; only those of ``names``, if given."""
    own = getattr(value, "__dict__", None)
    if own is not None:
        yield from list(own.items()) if names is None else [(name, own[name]) for name in names if name in own]
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__weakref__", "__dict__") and (names is None or name in names):
                yield name, getattr(value, name, MISSING)


def _function_of(value: Any) -> FunctionType | None:
    """The plain function in a method, property or compiled function of a class; None for any other ``value``."""
    for name in ("fget", "__func__", "func", "_compiled_from"):
        inner = getattr(value, name, None)
        value = value if inner is None else inner
    return value if isinstance(value, FunctionType) else None


@functools.lru_cache(maxsize=4096)
def _named(code: CodeType) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The names of globals and of attributes that ``code`` and the functions defined in it mention.

    The third set is empty unless the code reads attributes by strings, as with ``getattr``; then it has all strings in the code
    that could be names of attributes.
    """
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
        asked = {constant for constant in code.co_consts if isinstance(constant, str) and constant.isidentifier()}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner_names, inner_attributes, inner_asked = _named(constant)
            names |= inner_names
            attributes |= inner_attributes
            asked |= inner_asked
    return frozenset(names), frozenset(attributes), frozenset(asked)


@functools.lru_cache(maxsize=4096)
def _is_granted(file: str) -> bool:
    """Whether a source file belongs to this package, an installed one or Python itself, and so is assumed not to change."""
    if not file or file.startswith("<frozen "):
        return True
    return file.startswith(_TAKEN_FOR_GRANTED) or any(folder in file for folder in _INSTALLED)


def _is_followed(kind: type) -> bool:
    """Whether to follow what attributes of a class's objects hold: only for classes of the user and of this package."""
    return (
        (kind.__module__, kind.__name__) in _NAMESPACES
        or _file_of(kind).startswith(_LIBRARY)
        or not _is_granted(_file_of(kind))
    )


def _file_of(kind: type) -> str:
    """The source file of a class; "<prompt>" if it was typed at a prompt; empty if unknown."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    return file or ("<prompt>" if kind.__module__ == "__main__" else "")
