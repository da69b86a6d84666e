"""Activations: functions of each element. Softmax is with the losses, in ``losses``."""

from __future__ import annotations

import math

from chainrule.errors import UserError
from chainrule.nn.conversion import on_tensors
from chainrule.tensor import Tensor, functions


@on_tensors
def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """max(0, x). The gradient at 0 is 0. ``inplace``, here and elsewhere, has no effect: tensors are immutable."""
    return functions.maximum(0.0, x)


@on_tensors
def relu6(x: Tensor, inplace: bool = False) -> Tensor:
    """min(6, max(0, x)). The gradient at 0 and at 6 is 0."""
    return functions.minimum(6.0, relu(x))


@on_tensors
def leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope x. The gradient at 0 is negative_slope."""
    return functions.where(x > 0, x, x * negative_slope)


@on_tensors
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x), between 0 and 1."""
    return x.sigmoid()


@on_tensors
def tanh(x: Tensor) -> Tensor:
    """(e^x - e^-x) / (e^x + e^-x), between -1 and 1."""
    return x.tanh()


@on_tensors
def silu(x: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x)."""
    return x * x.sigmoid()


@on_tensors
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x), Phi the normal distribution function; approximate='tanh': x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Hendrycks and Gimpel, "Gaussian error linear units" (2016).
    """
    if approximate == "tanh":
        near = x.clip(-30.0, 30.0)  # beyond these, the sigmoid is 0 or 1 in any dtype, and x^3 can overflow
        return x * ((near + near**3 * 0.044715) * (2 * math.sqrt(2 / math.pi))).sigmoid()  # (1 + tanh(t)) / 2 = sigmoid(2 t)
    if approximate != "none":
        raise UserError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return x * 0.5 * (x * -math.sqrt(0.5)).erfc()  # erfc, as 1 + erf rounds to 0 for all x below -6
