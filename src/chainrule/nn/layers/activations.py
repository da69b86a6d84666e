"""Activations as layers."""

from __future__ import annotations

from chainrule.arguments import real_number, whole_number
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
