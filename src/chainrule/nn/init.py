"""Initial values of parameters, from the same distributions as in PyTorch.

He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015); Glorot and Bengio, "Understanding the difficulty of
training deep feedforward neural networks" (2010).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.arguments import explained, real_number
from chainrule.errors import UserError, unknown_value
from chainrule.habits import INIT, absent
from chainrule.tensor import Parameter, functions, random


@explained
def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel): inputs per output unit, and outputs per input unit.

    Raises:
        UserError: the shape has fewer than two axes.
    """
    if len(shape) < 2:
        raise UserError(f"a weight has at least two axes, (out, in, ...), this has shape {shape}: use uniform_ or constant_")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _parameter(parameter: Parameter) -> Parameter:
    """``parameter``; a UserError if it is none."""
    if not isinstance(parameter, Parameter):
        raise UserError(f"only parameters can be initialised, got a {type(parameter).__name__}")
    return parameter


@explained
def uniform_(parameter: Parameter, low: float, high: float) -> None:
    """Assign random numbers, uniform in [low, high)."""
    parameter.assign(random.uniform(_parameter(parameter).shape, low=low, high=high, dtype=parameter.dtype))


@explained
def normal_(parameter: Parameter, mean: float = 0.0, std: float = 1.0) -> None:
    """Assign normally distributed random numbers."""
    parameter.assign(random.normal(_parameter(parameter).shape, mean=mean, std=std, dtype=parameter.dtype))


@explained
def trunc_normal_(parameter: Parameter, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> None:
    """Assign normal random numbers from within [a, b]: what falls outside is drawn again.

    Raises:
        UserError: fewer than one in ten numbers would fall inside.
    """
    mean, std = real_number("trunc_normal_: mean", mean), real_number("trunc_normal_: std", std)
    shape = _parameter(parameter).shape
    inside = (math.erf((b - mean) / std / math.sqrt(2)) - math.erf((a - mean) / std / math.sqrt(2))) / 2 if std > 0 else 0.0
    if not inside > 0.1:
        raise UserError(
            f"trunc_normal_: {100 * max(inside, 0.0):.1f}% of normal numbers of mean {mean} and deviation {std} are within "
            f"{a} and {b}: give bounds that hold more"
        )
    drawn = random.normal(shape, mean=mean, std=std, dtype=parameter.dtype)
    left = 1 - inside
    while left > 1e-12:  # the share that is still outside; then what remains is moved to the bounds
        again = random.normal(shape, mean=mean, std=std, dtype=parameter.dtype)
        drawn, left = functions.where((drawn < a) | (drawn > b), again, drawn), left * (1 - inside)
    parameter.assign(drawn.clip(a, b))


@explained
def constant_(parameter: Parameter, value: float) -> None:
    """Assign ``value`` to all elements."""
    parameter.assign(np.full(_parameter(parameter).shape, real_number("constant_: value", value), parameter.dtype))


@explained
def kaiming_uniform_(parameter: Parameter, a: float = 0.0) -> None:
    """Assign uniform random numbers within +- sqrt(6 / ((1 + a^2) fan_in)).

    ``a`` is the negative slope of the (leaky) ReLU that follows.
    """
    bound = math.sqrt(6 / ((1 + a * a) * fans(_parameter(parameter).shape)[0]))
    uniform_(parameter, -bound, bound)


@explained
def kaiming_normal_(parameter: Parameter, mode: str = "fan_in") -> None:
    """Assign normally distributed random numbers with standard deviation sqrt(2 / fan). ``mode`` is "fan_in" or "fan_out"."""
    if mode not in ("fan_in", "fan_out"):
        raise unknown_value("mode", mode, ("fan_in", "fan_out"))
    normal_(parameter, 0.0, math.sqrt(2 / fans(_parameter(parameter).shape)[0 if mode == "fan_in" else 1]))


@explained
def xavier_uniform_(parameter: Parameter) -> None:
    """Assign uniform random numbers within +- sqrt(6 / (fan_in + fan_out))."""
    bound = math.sqrt(6 / sum(fans(_parameter(parameter).shape)))
    uniform_(parameter, -bound, bound)


@explained
def default_(weight: Parameter, bias: Parameter | None) -> None:
    """The initial values of Linear and the convolutions: weight and bias uniform within +- 1 / sqrt(fan_in)."""
    kaiming_uniform_(weight, math.sqrt(5))
    if bias is not None:
        fan_in = fans(weight.shape)[0]
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        uniform_(bias, -bound, bound)


if not TYPE_CHECKING:  # a type checker that saw it would accept every misspelt name

    def __getattr__(name: str) -> Any:
        raise absent("module 'chainrule.nn.init'", name, INIT)
