"""Whether a Python value is still the same as when a function was traced, so that the compiled function still holds.

Values are compared as follows:

numbers, strings, None     by type and value: 1 differs from True and 0.0 from -0.0; a NaN equals itself
NumPy arrays               by dtype, shape and content
lists, tuples, dicts, sets by their members
other hashable values      by type and value, with their own ==
all other objects          by identity
"""

from __future__ import annotations

import enum
import marshal
import operator
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Hashable
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np

from chainrule.tensor.cells import Cell
from chainrule.tensor.tensor import Tensor

Same = Callable[[Any], bool]
"""A function that says whether a value is the same as an earlier one, which it has recorded."""

PLAIN = (bool, int, float, complex, str, bytes, type(None))
"""Types of immutable values without members, which are compared by type and value."""
_PLAIN = frozenset(PLAIN)
_MOST_SHOWN = 40  # characters of a value in a message


class Identity:
    """A key that is equal only for the same object, which it keeps alive so that its id stays unique."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def value_key(value: Any) -> Hashable:
    """A key for dicts and sets that is equal for two values only if they are the same in the sense of this module."""
    kind = type(value)
    if kind is float:
        return (kind, value if value == value and value else value.hex())
    if kind is complex:
        return (kind, repr(value))
    if kind is frozenset or kind is set:
        return (kind, frozenset(map(value_key, value)))
    if kind is bytearray:
        return (kind, bytes(value))
    if not _has_values(kind):
        return Identity(value)
    try:
        hash(value)
    except TypeError:  # a member is not hashable
        return Identity(value)
    if isinstance(value, Decimal):  # == does not distinguish 0 from -0, nor 1.0 from 1.00
        return (kind, str(value))
    return (kind, value, *_own_content(value))


def _own_content(value: Any) -> tuple[Hashable, ...]:
    """Keys of an object's attributes: a == of its own may ignore some of them, which a function may still read."""
    own = getattr(value, "__dict__", None)
    if not own or isinstance(value, enum.Enum | type):
        return ()
    return tuple([(name, value_key(held) if type(held) in _PLAIN else Identity(held)) for name, held in own.items()])


def same_as(value: Any) -> Same:
    """A function that says whether its argument is the same as ``value`` is now.

    It holds copies of arrays and containers. Other objects are not kept alive, unless they allow no weak references.
    """
    kind = type(value)
    if kind in _PLAIN:
        return _same_plain(value)
    if isinstance(value, Tensor) and not isinstance(value, Cell):
        node = value.node  # an optimizer that updates a tensor gives it a new node
        return lambda now: now is value and now.node is node
    if isinstance(value, np.ndarray):
        return _same_array(value)
    if isinstance(value, bytearray | array):
        content = value[:]
        return lambda now: type(now) is kind and now == content
    if isinstance(value, list | tuple | deque):
        return _same_sequence(value)
    if isinstance(value, dict):
        return _same_dict(value)
    if isinstance(value, MappingProxyType):
        same_content = _same_dict(dict(value))
        return lambda now: type(now) is kind and same_content(dict(now))
    if isinstance(value, set | frozenset):
        keys = frozenset(map(value_key, value))
        return lambda now: type(now) is kind and len(now) == len(keys) and frozenset(map(value_key, now)) == keys
    return _same_plain(value) if _has_values(kind) else _same_object(value)


def _same_plain(value: Any) -> Same:
    kind, key = type(value), value_key(value)
    return lambda now: now is value or (type(now) is kind and value_key(now) == key)


def _same_object(value: Any) -> Same:
    try:
        reference = weakref.ref(value)
    except TypeError:
        return lambda now: now is value
    return lambda now: now is not None and now is reference()


def _same_array(value: np.ndarray[Any, Any]) -> Same:
    kind, shape, dtype, content = type(value), value.shape, value.dtype, value.tobytes()

    def same(now: Any) -> bool:
        if type(now) is not kind or now.shape != shape or now.dtype != dtype:
            return False
        return bool(now.tobytes() == content)

    return same


def _is_plain(value: Any) -> bool:
    """Whether ``value`` is a number, string or None, or consists of these in lists, tuples and dicts."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is list or kind is tuple:
        return all(map(_is_plain, value))
    return kind is dict and all(map(_is_plain, value)) and all(map(_is_plain, value.values()))


def _same_bytes(value: Any) -> Same:
    """``same_as`` for containers of plain values. Serialising them is faster than comparing them one by one."""
    kind, content = type(value), marshal.dumps(value, 2)

    def same(now: Any) -> bool:
        if type(now) is not kind:
            return False
        try:
            return marshal.dumps(now, 2) == content
        except ValueError:  # a member is no longer plain
            return False

    return same


def _same_sequence(value: Any) -> Same:
    if _is_plain(value):
        return _same_bytes(value)
    kind, kept, count = type(value), list(value), len(value)
    if not any(isinstance(member, (*PLAIN, list, tuple, dict, set, frozenset, deque, np.ndarray)) for member in kept):
        return lambda now: type(now) is kind and len(now) == count and all(map(operator.is_, now, kept))
    members = [same_as(member) for member in kept]
    return lambda now: (
        type(now) is kind and len(now) == count and all(same(member) for same, member in zip(members, now, strict=True))
    )


def _same_dict(value: dict[Any, Any]) -> Same:
    if _is_plain(value):
        return _same_bytes(value)
    kind, keys, members = type(value), list(value), _same_sequence(list(value.values()))
    known = [value_key(key) for key in keys]

    def same(now: Any) -> bool:
        if type(now) is not kind or len(now) != len(keys):
            return False
        return (all(map(operator.is_, now, keys)) or [value_key(key) for key in now] == known) and members(list(now.values()))

    return same


def _has_values(kind: Any) -> bool:
    """Whether objects of this type are hashable and compared by value, with a == of their own."""
    return kind.__hash__ not in (None, object.__hash__) and kind.__eq__ is not object.__eq__


def described(value: Any) -> str:
    """A short description of ``value`` for messages."""
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype}[{', '.join(map(str, value.shape))}]"
    if type(value) in _PLAIN or isinstance(value, list | tuple | dict | set | frozenset):
        text = repr(value) if type(value) in _PLAIN or _is_plain(value) else ""
        return text if 0 < len(text) <= _MOST_SHOWN else f"a {type(value).__name__} of {len(value)}"
    name = getattr(value, "__name__", None)
    if isinstance(name, str):
        return name
    text = repr(value) if _has_values(type(value)) else ""
    return text if 0 < len(text) <= _MOST_SHOWN and "\n" not in text else f"a {type(value).__name__}"
