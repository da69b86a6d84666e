"""Trees: what is passed to a compiled function and what it returns. Tuples, lists, dicts, named tuples and dataclasses are
their branches, everything else is a leaf.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from chainrule.tensor.sameness import value_key
from chainrule.tensor.watched import Watched

_MOST_TYPES = 1024


@dataclasses.dataclass(frozen=True)
class _Branch:
    """How a type of branch is taken apart, and made again as ``value`` was, with other members."""

    members: Callable[[Any], Iterable[Any]]
    names: Callable[[Any], Iterable[Hashable]]  # that tell its members apart, one each
    path: str  # of a member, to be filled in with its name
    made_again: Callable[[Any, Iterable[Any]], Any]
    numbered: bool = False  # its names are 0, 1, 2, ...
    may_have_more: bool = False  # its values may have attributes that are no members


def flatten(value: Any, leaves: list[Any]) -> Hashable:
    """Add the leaves of ``value`` to ``leaves``, in order; returns its structure, which is equal for trees that differ in
    nothing but their leaves."""
    branch = _branches[type(value)]
    if branch is None:
        leaves.append(value)
        return None
    members = tuple([flatten(one, leaves) for one in branch.members(value)])
    besides = _besides(value) if branch.may_have_more else ()
    kind: Any = type(value)
    if branch.numbered:
        return (kind, members, *besides)
    return (kind, tuple([(type(name), name) for name in branch.names(value)]), members, *besides)


def _besides(value: Any) -> tuple[Hashable, ...]:
    """The attributes of a branch that are no members of it, such as one that was given to an object of a class below dict."""
    own = getattr(value, "__dict__", None)
    if not own:
        return ()
    members = value.__dataclass_fields__ if hasattr(type(value), "__dataclass_fields__") else ()
    return tuple([(name, value_key(one)) for name, one in own.items() if name not in members])


def rebuilt(value: Any, leaves: Iterator[Any]) -> Any:
    """``value`` with the next of ``leaves`` for each of its own, in the order of ``flatten``; the branches are new."""
    branch = _branches[type(value)]
    if branch is None:
        return next(leaves)
    return branch.made_again(value, [rebuilt(one, leaves) for one in branch.members(value)])


def paths(value: Any, path: str = "") -> Iterator[str]:
    """Where each leaf stands, such as ``batch.images`` or ``options['lr']``, in the order of ``flatten``."""
    branch = _branches[type(value)]
    if branch is None:
        yield path
        return
    for name, one in zip(branch.names(value), branch.members(value), strict=True):
        yield from paths(one, path + branch.path.format(name))


def _indices(value: Any) -> range:
    return range(len(value))


def _list_again(value: Any, members: Iterable[Any]) -> Any:
    if type(value) is list:
        return list(members)
    made = copy.copy(value)
    made.clear()
    made.extend(members)
    return made


def _tuple_again(value: Any, members: Iterable[Any]) -> Any:
    return tuple(members) if type(value) is tuple else tuple.__new__(type(value), members)


def _dict_again(value: Any, members: Iterable[Any]) -> Any:
    made = copy.copy(value)
    made.update(zip(value, members, strict=True))
    return made


def _fields(value: Any) -> list[str]:
    return [one.name for one in dataclasses.fields(value) if hasattr(value, one.name)]


def _dataclass_again(value: Any, members: Iterable[Any]) -> Any:
    made = copy.copy(value)
    for name, one in zip(_fields(value), members, strict=True):
        object.__setattr__(made, name, one)  # it may be frozen
    return made


_LIST = _Branch(iter, _indices, "[{}]", _list_again, numbered=True)
_TUPLE = _Branch(iter, _indices, "[{}]", _tuple_again, numbered=True)
_NAMED_TUPLE = _Branch(iter, lambda value: value._fields, ".{}", _tuple_again)
_DICT = _Branch(lambda value: value.values(), iter, "[{!r}]", _dict_again)
_DATACLASS = _Branch(
    lambda value: [getattr(value, name) for name in _fields(value)],
    _fields,
    ".{}",
    _dataclass_again,
)


class _Branches(dict[type, "_Branch | None"]):
    """How each type is taken apart, looked up once; None: values of this type are leaves."""

    def __missing__(self, kind: type) -> _Branch | None:
        if len(self) > _MOST_TYPES:
            self.clear()
        found = self[kind] = _branch(kind)
        return found


_branches = _Branches()


def _branch(kind: type) -> _Branch | None:
    if issubclass(kind, tuple):
        if hasattr(kind, "n_sequence_fields"):  # of C, such as time.struct_time: it cannot be made again
            return None
        whole = _NAMED_TUPLE if hasattr(kind, "_fields") else _TUPLE
        return whole if kind is tuple else dataclasses.replace(whole, may_have_more=True)
    found: _Branch | None = None
    if issubclass(kind, list | deque):
        found = _LIST
    elif issubclass(kind, dict):
        found = _DICT
    elif not issubclass(kind, Watched) and dataclasses.is_dataclass(kind):
        found = _DATACLASS
    return found if found is None or kind in (list, dict, deque) else dataclasses.replace(found, may_have_more=True)
