"""Activations as layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.arguments import real_number, whole_number
from chainrule.errors import UserError
from chainrule.graph.dtypes import as_dtype
from chainrule.nn import functional as F
from chainrule.nn.module import Module, layer_name
from chainrule.tensor import Parameter, Tensor


class ReLU(Module):
    """max(0, x); the gradient at 0 is 0. ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.relu(x)


class ReLU6(Module):
    """min(6, max(0, x)). ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.relu6(x)


class Hardtanh(Module):
    """x limited to [min_val, max_val]. ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.min_val = real_number("Hardtanh: min_val", min_val)
        self.max_val = real_number("Hardtanh: max_val", max_val)
        if self.min_val >= self.max_val:
            raise UserError(f"Hardtanh: max_val must be larger than min_val, got {min_val} and {max_val}")

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.hardtanh(x, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        """The two limits."""
        return f"min_val={self.min_val}, max_val={self.max_val}"


class Hardsigmoid(Module):
    """min(6, max(0, x + 3)) / 6. ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.hardsigmoid(x)


class Hardswish(Module):
    """x min(6, max(0, x + 3)) / 6. ``inplace`` is accepted and has no effect: tensors are immutable.

    Howard and others, "Searching for MobileNetV3" (2019).
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.hardswish(x)


class ELU(Module):
    """x where x > 0, else alpha (e^x - 1). ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = real_number("ELU: alpha", alpha)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        """The factor alpha."""
        return f"alpha={self.alpha}"


class CELU(Module):
    """x where x > 0, else alpha (e^(x / alpha) - 1). ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = real_number("CELU: alpha", alpha)
        if self.alpha == 0:
            raise UserError("CELU: alpha must not be 0")

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.celu(x, self.alpha)

    def extra_repr(self) -> str:
        """The factor alpha."""
        return f"alpha={self.alpha}"


class SELU(Module):
    """1.0507 ELU(alpha=1.6733), the constants in more digits. ``inplace`` has no effect: tensors are immutable."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.selu(x)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope x. ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = real_number("LeakyReLU: negative_slope", negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """The negative slope."""
        return f"negative_slope={self.negative_slope}"


class Sigmoid(Module):
    """1 / (1 + e^-x), between 0 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.sigmoid(x)


class Tanh(Module):
    """(e^x - e^-x) / (e^x + e^-x), between -1 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.tanh(x)


class GELU(Module):
    """x Phi(x), Phi the normal distribution function; ``approximate='tanh'`` for the approximation by tanh.

    Hendrycks and Gimpel, "Gaussian error linear units" (2016).
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """The name of the formula."""
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x sigmoid(x). ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.silu(x)


class Mish(Module):
    """x tanh(ln(1 + e^x)). ``inplace`` is accepted and has no effect: tensors are immutable.

    Misra, "Mish: a self regularized non-monotonic activation function" (2020).
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.mish(x)


class Softplus(Module):
    """ln(1 + e^(beta x)) / beta, a smooth max(0, x); x itself where beta x > threshold, as in PyTorch."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = real_number("Softplus: beta", beta), real_number("Softplus: threshold", threshold)
        if self.beta == 0:
            raise UserError("Softplus: beta must not be 0")

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """Beta and the threshold."""
        return f"beta={self.beta}, threshold={self.threshold}"


class LogSigmoid(Module):
    """ln sigmoid(x), to all digits also where the sigmoid rounds to 0 or 1."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.logsigmoid(x)


class Softsign(Module):
    """x / (1 + |x|), between -1 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.softsign(x)


class PReLU(Module):
    """x where x > 0, else weight x, where the weight is learned: (N, C, ...) -> the same shape.

    ``weight`` (num_parameters), which is 1, or C for a slope of each channel; it starts as ``init``. He, Zhang, Ren and Sun,
    "Delving deep into rectifiers" (2015).
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = "float32") -> None:
        super().__init__()
        self.num_parameters = whole_number("PReLU: num_parameters", num_parameters, 1)
        self.weight = Parameter(np.full(self.num_parameters, real_number("PReLU: init", init), as_dtype(dtype)))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, ...) -> the same shape; of any shape with a single weight."""
        channels = x.shape[1] if x.ndim > 1 else 1
        if self.num_parameters not in (1, channels):
            raise UserError(
                f"{layer_name(self)} got shape {x.shape} with {channels} channels, but num_parameters={self.num_parameters}: "
                f"pass num_parameters={channels}, or 1 for a slope that all share"
            )
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        """The number of learned slopes."""
        return f"num_parameters={self.num_parameters}"


class GLU(Module):
    """a sigmoid(b), with a and b the two halves of the input along the axis ``dim``: (..., 2 n, ...) -> (..., n, ...).

    Dauphin, Fan, Auli and Grangier, "Language modeling with gated convolutional networks" (2017).
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = whole_number("GLU: dim", dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., 2 n, ...) -> (..., n, ...); a UserError if the axis does not divide into halves."""
        return F.glu(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"


class Softmax(Module):
    """e^x / sum e^x along the axis ``dim``."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = whole_number("Softmax: dim", dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape; sums to 1 along ``dim``."""
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """x - ln sum e^x along the axis ``dim``: the logarithm of Softmax, but accurate also for small probabilities."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = whole_number("LogSoftmax: dim", dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"
