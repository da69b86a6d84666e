"""An expression that a person types, with values for its names: explained forwards and backwards, and a step of SGD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chainrule.arguments import real_number
from chainrule.errors import UserError
from chainrule.graph import Array
from chainrule.lens.explain import Explanation, explain
from chainrule.lens.expression import names_in, parse_expression, parse_values

MOST_CHARACTERS = 1000
MOST_NUMBERS = 256  # of a value

FIRST_VALUE = 1.0
"""What a name stands for until it is given a value."""


@dataclass(frozen=True)
class TypedExpression:
    """An expression, explained, and one step of gradient descent: ``stepped`` are the values after it.

    ``names`` are those of the expression in the order in which they stand there, ``values`` what they stood for.
    ``error_after`` is the expression for ``stepped``; None where it has no value then.
    """

    names: tuple[str, ...]
    values: dict[str, Array]
    explanation: Explanation
    stepped: dict[str, Array]
    error_after: float | None


def typed_expression(text: str, values: Mapping[str, Any], learning_rate: float = 0.1) -> TypedExpression:
    """Explain an expression that was typed. A value is a number, or a list of values; a name without one stands for 1.

    Raises:
        UserError: the expression or a value cannot be read (then it is a ``Misread`` with the place), or has no gradient.
    """
    if len(text) > MOST_CHARACTERS:
        raise UserError(
            f"the expression has {len(text):,} characters, and at most {MOST_CHARACTERS:,} are explained: shorten it"
        )
    rate = real_number("the learning rate", learning_rate)
    names = names_in(text)
    given = parse_values(f"{name}={_written(name, values.get(name, FIRST_VALUE))}" for name in names)
    explanation = explain(parse_expression(text, given))
    steps = explanation.step(rate)
    current = {name: given[name].numpy() for name in names}
    stepped = {name: steps[name].new if name in steps else value for name, value in current.items()}
    return TypedExpression(tuple(names), current, explanation, stepped, _error(text, stepped))


def _error(text: str, values: Mapping[str, Array]) -> float | None:
    try:
        found = parse_expression(text, parse_values(f"{name}={value.tolist()}" for name, value in values.items()))
    except UserError:
        return None
    return float(found) if found.size == 1 else None


def _written(name: str, value: Any) -> str:
    """A value as ``chainrule explain`` takes it, on the command line."""
    count = _count(name, value, 0)
    if count > MOST_NUMBERS:
        raise UserError(f"the value of {name} has {count:,} numbers, and at most {MOST_NUMBERS} are explained: take fewer")
    return repr(value)


def _count(name: str, value: Any, depth: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | list) or depth > 8:
        raise UserError(f"the value of {name} must be a number or a list of numbers, such as 1.5 or [1, 2]")
    return sum(_count(name, one, depth + 1) for one in value) if isinstance(value, list) else 1
