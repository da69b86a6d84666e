"""Checks of the arguments of public calls: whole numbers (sizes, axes, seeds), flags, and calls that do not fit a function.

Only this module decides what counts as a whole number: whatever ``operator.index`` takes, such as an integer of Python or
NumPy, or an array or tensor that holds a single integer. A bool does not count: it is a flag in the wrong place.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any, ParamSpec, TypeGuard, TypeVar

from chainrule.errors import UserError, UserTypeError
from chainrule.habits import remark_on_call, remark_on_flag, unknown_argument

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_INTEGERS = frozenset({int})
_MOST_DIGITS = 1000  # Python converts no text of more than 4300 digits


def as_whole(value: Any) -> int | None:
    """``value`` as a Python int; None if it is no whole number."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or getattr(value, "dtype", None) == "bool":
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def whole_number(what: str, value: Any, at_least: int | None = None, at_most: int | None = None) -> int:
    """``value`` as a Python int; a UserError that begins with ``what`` if it is no whole number, below ``at_least`` or above
    ``at_most``."""
    number = as_whole(value)
    if number is None or (at_least is not None and number < at_least):
        limit = "" if at_least is None else f" of at least {at_least}"
        raise UserError(f"{what} must be a whole number{limit}, got {_got(value)}")
    if at_most is not None and number > at_most:
        raise UserError(f"{what} must be at most {at_most:,}, got {_got(value)}")
    return number


def _got(value: Any) -> str:
    """``value`` as messages show it; a number that is so long that Python does not write it, by how many digits it has."""
    if isinstance(value, int) and value.bit_length() > 3 * _MOST_DIGITS:
        return f"a whole number of about {round(value.bit_length() * math.log10(2)):,} digits"
    return repr(value)


def written_whole(text: str) -> int | None:
    """The whole number that ``text``, digits only, stands for; None if it is anything else, or absurdly long."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def as_whole_numbers(values: Any) -> tuple[int, ...] | None:
    """``values``, a tuple, list or array of integers, as a tuple of Python ints; None if it is anything else."""
    if type(values) is tuple and _INTEGERS.issuperset(map(type, values)):
        return values
    if isinstance(values, str | bytes | dict | set | frozenset) or not _has_members(values):
        return None
    numbers = tuple([as_whole(value) for value in values])
    return numbers if _all_whole(numbers) else None


def _has_members(values: Any) -> TypeGuard[Iterable[Any]]:
    """Whether a loop over ``values`` is possible: an array without axes has ``__iter__``, but raises a TypeError."""
    return hasattr(values, "__iter__") and getattr(values, "ndim", 1) == 1


def _all_whole(numbers: tuple[int | None, ...]) -> TypeGuard[tuple[int, ...]]:
    return None not in numbers


def shape_of(what: str, shape: Any) -> tuple[int, ...]:
    """A shape given as a single size or several; a UserError that begins with ``what`` if any is negative or not whole."""
    single = as_whole(shape)
    sizes = as_whole_numbers(shape) if single is None else (single,)
    if sizes is None or min(sizes, default=0) < 0:
        raise UserError(f"{what} must be sizes of at least 0, as a whole number or a tuple, got {shape!r}")
    return sizes


def size_for_axes(what: str, size: Any, axes: int, at_least: int) -> int | tuple[int, ...]:
    """A size that may differ by axis: a whole number for all axes, or a tuple of ``axes`` whole numbers.

    Raises:
        UserError: it is neither, or below ``at_least``; the message begins with ``what``.
    """
    single = as_whole(size)
    if single is not None and single >= at_least:
        return single
    several = as_whole_numbers(size) if single is None else None
    if several is not None and len(several) == axes and min(several) >= at_least:
        return several
    pair = " or a pair (height, width)" if axes == 2 else ""
    raise UserError(f"{what} must be a whole number of at least {at_least}{pair}, got {size!r}")


def real_number(what: str, value: Any) -> float:
    """``value`` as a Python float; a UserError if it is not a single number, but text, None, a bool or several numbers."""
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            most = f"at most {sys.float_info.max:.1e} in size"
            raise UserError(f"{what} must be a number that a float holds, {most}, got {_got(value)}") from None
    single = not isinstance(value, bool | str | bytes | complex) and hasattr(value, "__float__") and _single(value)
    if not single or getattr(value, "dtype", None) == "bool":
        raise UserError(f"{what} must be a number, got {value!r}")
    return float(value.item() if hasattr(value, "item") else value)


def _single(value: Any) -> bool:
    return getattr(value, "size", 1) == 1 and getattr(getattr(value, "dtype", None), "kind", "f") not in "OSUc"


def pixels(size: Any) -> tuple[int, int]:
    """The size of an image, (height, width) in pixels; a UserError if it is not a pair of positive whole numbers."""
    pair = as_whole_numbers(size)
    if pair is None or len(pair) != 2 or min(pair) < 1:
        raise UserError(f"the size of an image must be (height, width) in pixels, got {size!r}")
    return pair[0], pair[1]


def flag(what: str, value: Any, remark: str = "") -> bool:
    """``value`` as a Python bool; a UserError if it is anything but True or False, such as 1 or "yes"."""
    if not isinstance(value, bool) and not (getattr(value, "dtype", None) == "bool" and _single(value)):
        raise UserError(f"{what} must be True or False, got {value!r}" + (f": {remark}" if remark else ""))
    return bool(value)


def members_of(what: str, values: Any, remedy: str) -> list[Any]:
    """``values`` as a list; a UserError that ends with ``remedy`` if it is a text or cannot be looped over."""
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise UserError(f"{what} must be a list, got a {type(values).__name__}: {remedy}")
    return list(values)


# ---- calls


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: a call whose arguments do not fit raises a UserError that names the function and its parameters.

    Arguments for parameters annotated as ``bool`` must be True or False.
    """
    own_name, flags = _name_of(function), _flags_of(function)

    def name(args: tuple[Any, ...]) -> str:
        """The name of the call in messages: for a constructor that a class inherits, that of the class which is made."""
        inherits = args and getattr(type(args[0]), "__init__", None) is called and function.__name__ == "__init__"
        return type(args[0]).__name__ if inherits else own_name

    @functools.wraps(function)
    def called(*args: P.args, **options: P.kwargs) -> R:
        try:
            if flags:
                _check_flags(name(args), flags, args, options)
            return function(*args, **options)
        except TypeError:
            misfit = misfit_of(function, args, options, name(args))
            if misfit is None:
                raise
            error = misfit
        raise error

    return called


def explained_methods(kind: type[T]) -> type[T]:
    """Class decorator: all public methods that the class itself defines are ``explained``."""
    for name, method in list(vars(kind).items()):
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(kind, name, explained(method))
    return kind


def _flags_of(function: Callable[..., Any]) -> dict[str, tuple[int, bool]]:
    """The parameters annotated as ``bool``: the position of each, and whether it may be None.

    The position of a keyword-only parameter is ``sys.maxsize``.
    """
    flags = {}
    for place, parameter in enumerate(inspect.signature(function).parameters.values()):
        hint = parameter.annotation if isinstance(parameter.annotation, str) else getattr(parameter.annotation, "__name__", "")
        if hint in ("bool", "bool | None"):
            flags[parameter.name] = (sys.maxsize if parameter.kind is parameter.KEYWORD_ONLY else place, "None" in hint)
    return flags


def _check_flags(call: str, flags: Mapping[str, tuple[int, bool]], args: Sequence[Any], options: Mapping[str, Any]) -> None:
    for name, (place, may_be_none) in flags.items():
        value = options[name] if name in options else args[place] if place < len(args) else False
        if type(value) is not bool and not (may_be_none and value is None):
            flag(f"{call}: {name}", value, remark_on_flag(name))


def misfit_of(
    function: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any], name: str = ""
) -> UserError | None:
    """The error for a call whose arguments do not fit ``function``, which messages call ``name``.

    None if the arguments fit (the TypeError then came from inside the function), or if its signature is unknown, as that of
    some functions written in C.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        reason = str(error)
    else:
        return None
    call = name or _name_of(function)
    parameters = {key: parameter for key, parameter in signature.parameters.items() if key != "self"}
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for keyword in options:
            if keyword not in parameters:
                named = [key for key, parameter in parameters.items() if parameter.kind is not parameter.VAR_POSITIONAL]
                return unknown_argument(call, keyword, named)
    shown = ", ".join(map(_shown, parameters.values()))
    remark = remark_on_call(call) if "too many" in reason or "missing" in reason else ""
    return UserTypeError(f"{call}: {reason}: it is called as {call}({shown})" + (f"; {remark}" if remark else ""))


def _name_of(function: Callable[..., Any]) -> str:
    """The name of a function in messages: for a constructor that of the class, for a method without the class."""
    name = getattr(function, "__qualname__", type(function).__name__)
    return name.removesuffix(".__init__").rpartition(".")[2]


def _shown(parameter: inspect.Parameter) -> str:
    star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
    default = parameter.default
    if default is parameter.empty:
        return star + parameter.name
    return f"{parameter.name}={default.name if hasattr(default, 'itemsize') else repr(default)}"
