"""Trees: the arguments and results of compiled functions. Tuples, named tuples, lists, deques, dicts and dataclasses are
branches; everything else is a leaf.
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
    """How to take values of one type apart, and how to make a value like a given one with other members."""

    members: Callable[[Any], Iterable[Any]]
    names: Callable[[Any], Iterable[Hashable]]  # a name for each member, such as its key or index
    path: str  # how the path to a member continues, with {} for its name
    made_again: Callable[[Any, Iterable[Any]], Any]
    numbered: bool = False  # whether the names are 0, 1, 2, ...
    may_have_more: bool = False  # whether a value can have attributes that are no members


def flatten(value: Any, leaves: list[Any]) -> Hashable:
    """Append the leaves of ``value`` to ``leaves``, in order, and return its structure.

    Structures are equal for trees that differ in nothing but their leaves.
    """
    branch = _branches[type(value)]
    if branch is None:
        leaves.append(value)
        return None
    members = tuple([flatten(member, leaves) for member in branch.members(value)])
    extra = _besides(value) if branch.may_have_more else ()
    kind: Any = type(value)
    if branch.numbered:
        return (kind, members, *extra)
    return (kind, tuple([(type(name), name) for name in branch.names(value)]), members, *extra)


def _besides(value: Any) -> tuple[Hashable, ...]:
    """Names and keys of the attributes of a branch that are no members, as an object of a subclass of dict can have."""
    own = getattr(value, "__dict__", None)
    if not own:
        return ()
    members = value.__dataclass_fields__ if hasattr(type(value), "__dataclass_fields__") else ()
    return tuple([(name, value_key(attribute)) for name, attribute in own.items() if name not in members])


def rebuilt(value: Any, leaves: Iterator[Any]) -> Any:
    """A tree like ``value`` with new branches and with ``leaves`` in place of its own, in the order of ``flatten``."""
    branch = _branches[type(value)]
    if branch is None:
        return next(leaves)
    return branch.made_again(value, [rebuilt(member, leaves) for member in branch.members(value)])


def paths(value: Any, path: str = "") -> Iterator[str]:
    """The path to each leaf, such as ``batch.images`` or ``options['lr']``, in the order of ``flatten``."""
    branch = _branches[type(value)]
    if branch is None:
        yield path
        return
    for name, member in zip(branch.names(value), branch.members(value), strict=True):
        yield from paths(member, path + branch.path.format(name))


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
    return [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]


def _dataclass_again(value: Any, members: Iterable[Any]) -> Any:
    made = copy.copy(value)
    for name, member in zip(_fields(value), members, strict=True):
        object.__setattr__(made, name, member)  # works for frozen ones too
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
    """A cache: the ``_Branch`` of each type, or None if its values are leaves."""

    def __missing__(self, kind: type) -> _Branch | None:
        if len(self) > _MOST_TYPES:
            self.clear()
        branch = self[kind] = _branch(kind)
        return branch


_branches = _Branches()


def _branch(kind: type) -> _Branch | None:
    """How to take values of a type apart; None if they are leaves."""
    if issubclass(kind, tuple):
        if hasattr(kind, "n_sequence_fields"):  # made in C, such as time.struct_time, which cannot be made with other members
            return None
        of_tuple = _NAMED_TUPLE if hasattr(kind, "_fields") else _TUPLE
        return of_tuple if kind is tuple else dataclasses.replace(of_tuple, may_have_more=True)
    branch: _Branch | None = None
    if issubclass(kind, list | deque):
        branch = _LIST
    elif issubclass(kind, dict):
        branch = _DICT
    elif not issubclass(kind, Watched) and dataclasses.is_dataclass(kind):
        branch = _DATACLASS
    return branch if branch is None or kind in (list, dict, deque) else dataclasses.replace(branch, may_have_more=True)
