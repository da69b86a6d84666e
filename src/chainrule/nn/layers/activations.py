"""Activations as layers."""

from __future__ import annotations

from chainrule.arguments import real_number, whole_number
from chainrule.errors import UserError
from chainrule.nn import functional as F
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


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
