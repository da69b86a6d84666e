"""Activations: functions of each element. Softmax is with the losses, in ``losses``."""

from __future__ import annotations

import math

from chainrule import ops
from chainrule.arguments import real_number
from chainrule.errors import UserError
from chainrule.graph.dtypes import float32, is_float
from chainrule.nn.conversion import on_tensors, remark_on_dtype
from chainrule.tensor import Tensor, functions
from chainrule.tensor.axes import as_axis

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@on_tensors
def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """max(0, x). The gradient at 0 is 0. ``inplace``, here and elsewhere, has no effect: tensors are immutable."""
    return functions.maximum(0.0, x)


@on_tensors
def relu6(x: Tensor, inplace: bool = False) -> Tensor:
    """min(6, max(0, x)). The gradient at 0 and at 6 is 0."""
    return functions.minimum(6.0, relu(x))


@on_tensors
def hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val]. The gradient at either limit is 0."""
    low, high = real_number("hardtanh: min_val", min_val), real_number("hardtanh: max_val", max_val)
    if low >= high:
        raise UserError(f"hardtanh: max_val must be larger than min_val, got {min_val} and {max_val}")
    return x.clip(low, high)


@on_tensors
def hardsigmoid(x: Tensor, inplace: bool = False) -> Tensor:
    """min(6, max(0, x + 3)) / 6, a sigmoid of three straight pieces. The gradient at -3 and at 3 is 0."""
    return (x + 3.0).clip(0.0, 6.0) * (1 / 6)


@on_tensors
def hardswish(x: Tensor, inplace: bool = False) -> Tensor:
    """x hardsigmoid(x). The gradient at -3 is 0, and at 3 it is 1. Howard and others, "Searching for MobileNetV3" (2019)."""
    return x * hardsigmoid(x)


@on_tensors
def elu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (e^x - 1). The gradient at 0 is alpha.

    Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential linear units" (2016).
    """
    return _elu(x, real_number("elu: alpha", alpha), 1.0)


@on_tensors
def celu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha (e^(x / alpha) - 1). The gradient at 0 is 1.

    Barron, "Continuously differentiable exponential linear units" (2017).
    """
    if real_number("celu: alpha", alpha) == 0:
        raise UserError("celu: alpha must not be 0")
    return _elu(x, float(alpha), 1 / float(alpha))


@on_tensors
def selu(x: Tensor, inplace: bool = False) -> Tensor:
    """1.0507 elu(x, alpha=1.6733), the constants in more digits. The gradient at 0 is that from below, 1.7581.

    Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks" (2017).
    """
    return _elu(x, _SELU_ALPHA, 1.0) * _SELU_SCALE


def _elu(x: Tensor, alpha: float, steepness: float) -> Tensor:
    """x where x > 0, else alpha (e^(steepness x) - 1)."""
    below = functions.minimum(x, 0.0) * steepness  # the power that is not chosen must be finite too, or its slope would be nan
    return functions.where(x > 0, x, below.expm1() * alpha)


@on_tensors
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight x: (N, C, ...) with a weight (C), or any x with a weight (1). The slope at 0 is weight.

    He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015).
    """
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.ndim > 1 or weight.size not in (1, channels):
        raise UserError(
            f"prelu: weight must have one number, or one for each of the {channels} channels of {x.shape}, got {weight.shape}"
        )
    if x.dtype is not weight.dtype:
        remark_on_dtype("prelu", x, weight)
    slopes = weight.reshape((1,) * x.ndim if weight.size == 1 else (1, channels, *(1,) * (x.ndim - 2)))
    return functions.maximum(0.0, x) + slopes * functions.minimum(x, 0.0)


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
def logsigmoid(x: Tensor) -> Tensor:
    """ln sigmoid(x) = -ln(1 + e^-x), to all digits also where the sigmoid rounds to 0 or 1."""
    return -Tensor(ops.softplus((-_floats(x)).node))


@on_tensors
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1 + e^(beta x)) / beta, a smooth max(0, x); x itself where beta x > threshold, as in PyTorch."""
    if real_number("softplus: beta", beta) == 0:
        raise UserError("softplus: beta must not be 0")
    steep, threshold = _floats(x) * beta, real_number("softplus: threshold", threshold)
    return functions.where(steep > threshold, x, Tensor(ops.softplus(steep.node)) * (1 / beta))


@on_tensors
def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|), between -1 and 1."""
    size = x.abs()
    share = 1.0 / (size + 1.0)
    # 1 - 1 / (1 + |x|) far from 0, as the slope of x / (1 + |x|) is there a difference of two numbers that are nearly equal
    return functions.where(size < 1, x * share, x.sign() * (1.0 - share))


@on_tensors
def mish(x: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(ln(1 + e^x)). Misra, "Mish: a self regularized non-monotonic activation function" (2020)."""
    return x * Tensor(ops.softplus(_floats(x).node)).tanh()


@on_tensors
def glu(x: Tensor, dim: int = -1) -> Tensor:
    """a sigmoid(b), with a and b the two halves of x along the axis ``dim``: (..., 2 n, ...) -> (..., n, ...).

    Dauphin, Fan, Auli and Grangier, "Language modeling with gated convolutional networks" (2017).
    """
    axis = as_axis("glu", dim, x.ndim)
    half, odd = divmod(x.shape[axis], 2)
    if odd:
        raise UserError(f"glu: axis {dim} of {x.shape} has {x.shape[axis]} elements, which do not divide into two halves")
    first, second = ((*(slice(None),) * axis, part) for part in (slice(0, half), slice(half, None)))
    return x[first] * x[second].sigmoid()


def _floats(x: Tensor) -> Tensor:
    """``x``, or integers as float32."""
    return x if is_float(x.dtype) else x.astype(float32)


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
