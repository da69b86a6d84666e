"""Validation of files that chainrule wrote: each field has a type and a range, and all errors have the same form.

A file may be damaged, edited, or of another version. A reader lists the fields that it expects as ``Field``s, and all of them
are checked before any is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chainrule.errors import UserError

Check = Callable[[Any], str | None]
"""``check(value)`` gives None if the value is right; else the words that follow "must be" in the error."""

_MOST_SHOWN = 60


def whole(low: int = 0, high: int | None = None) -> Check:
    """A check for a whole number from ``low`` to ``high``, both included."""
    limits = f"of at least {low}" if high is None else f"from {low} to {high}"

    def check(value: Any) -> str | None:
        fits = type(value) is int and value >= low and (high is None or value <= high)
        return None if fits else f"a whole number {limits}"

    return check


def number(low: float = -math.inf, above: float | None = None, high: float = math.inf) -> Check:
    """A check for a finite number from ``low`` to ``high`` or, if given, above ``above``."""
    limits = f" above {above:g}" if above is not None else f" of at least {low:g}" if low > -math.inf else ""
    limits += f" and at most {high:g}" if high < math.inf else ""

    def check(value: Any) -> str | None:
        finite = type(value) in (int, float) and math.isfinite(value)
        fits = finite and low <= value <= high and (above is None or value > above)
        return None if fits else f"a finite number{limits}"

    return check


def text(known: Sequence[str] | None = None) -> Check:
    """A check for a text: any, or only one of ``known``."""

    def check(value: Any) -> str | None:
        if isinstance(value, str) and (known is None or value in known):
            return None
        return "a text" if known is None else f"one of {', '.join(known)}"

    return check


def several(member: Check, what: str, count: int | None = None, least: int = 0) -> Check:
    """A check for a list of exactly ``count`` members, or at least ``least``, which all pass ``member``.

    ``what`` is the word for the members in messages, such as "texts".
    """

    def check(value: Any) -> str | None:
        many = f"{count} " if count is not None else f"at least {least} " if least else ""
        fits = isinstance(value, list) and (count is None or len(value) == count) and len(value) >= least
        return None if fits and all(member(element) is None for element in value) else f"a list of {many}{what}"

    return check


def different(check: Check) -> Check:
    """A check for a list that passes ``check`` and has no member twice."""
    return lambda value: check(value) or (None if len(set(value)) == len(value) else "a list without anything twice")


def or_nothing(check: Check) -> Check:
    """A check for None or a value that passes ``check``."""

    def either(value: Any) -> str | None:
        wanted = None if value is None else check(value)
        return wanted and f"null or {wanted}"

    return either


def anything(value: Any) -> str | None:
    """A check that every value passes, for fields that are checked somewhere else."""
    return None


@dataclass(frozen=True)
class Field:
    """A field: its name and the check of its value; ``fields``, if given, are those of the object that is its value."""

    name: str
    check: Check = anything
    fields: Sequence[Field] = ()
    may_be_null: bool = False


def validated(source: str, facts: Any, fields: Sequence[Field], remedy: str) -> dict[str, Any]:
    """``facts`` as a dict, if they are an object with exactly these fields, each of which passes its check.

    Raises:
        UserError: the message names ``source``, the field, its value, and ends with ``remedy``.
    """
    _check_object(source, "", facts, fields, remedy)
    return dict(facts)


def _check_object(source: str, path: str, facts: Any, fields: Sequence[Field], remedy: str) -> None:
    if not isinstance(facts, Mapping):
        raise UserError(f"{source}: {path.removesuffix('.') or 'what it says'} must be an object, got {shown(facts)}: {remedy}")
    known = {field.name for field in fields}
    for name in facts:
        if name not in known:
            raise UserError(f"{source}: {path}{shown(name)[1:-1]} is nothing that it should say: {remedy}")
    for field in fields:
        where = f"{path}{field.name}"
        if field.name not in facts:
            raise UserError(f"{source}: {where} is missing: {remedy}")
        value = facts[field.name]
        if field.may_be_null and value is None:
            continue
        if field.fields:
            _check_object(source, f"{where}.", value, field.fields, remedy)
            continue
        wanted = field.check(value)
        if wanted is not None:
            raise UserError(f"{source}: {where} must be {wanted}, got {shown(value)}: {remedy}")


def shown(value: Any) -> str:
    """``value`` for a message: its ``repr``, cut to at most 60 characters."""
    written = repr(value)
    return written if len(written) <= _MOST_SHOWN else f"{written[: _MOST_SHOWN - 3]}..."
