"""Dropout as layers: of single elements, of channels, of whole examples."""

from __future__ import annotations

from chainrule.arguments import real_number
from chainrule.errors import UserError, unknown_value
from chainrule.nn import functional as F
from chainrule.nn.functional.dropout import STOCHASTIC_DEPTH_MODES
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


def _probability(layer: str, p: float) -> float:
    if not 0 <= real_number(f"{layer}: p", p) <= 1:
        raise UserError(f"{layer}: p must be a probability, 0 to 1, got {p}")
    return p


class Dropout(Module):
    """In training, zeroes each element with probability p and divides the others by 1 - p; after ``eval()``, does nothing.

    ``inplace`` is accepted and has no effect: tensors are immutable.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = _probability("Dropout", p)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape, with elements dropped in training; ``x`` itself after ``eval()``."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability ``p``."""
        return f"p={self.p}"


class Dropout2d(Module):
    """In training, zeroes each channel of each example with probability p and divides the others by 1 - p.

    (N, C, H, W) -> the same shape. After ``eval()``, does nothing. ``inplace`` has no effect: tensors are immutable.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = _probability("Dropout2d", p)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, ...), with channels dropped in training; ``x`` itself after ``eval()``."""
        return F.dropout2d(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability ``p``."""
        return f"p={self.p}"


class StochasticDepth(Module):
    """In training, zeroes its input with probability p, or divides it by 1 - p; for a branch beside a shortcut.

    ``mode``: "row" decides for each example of (N, ...), "batch" once for all of them. After ``eval()``, does nothing. As in
    torchvision. Huang and others, "Deep networks with stochastic depth" (2016).
    """

    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        self.p = _probability("StochasticDepth", p)
        if mode not in STOCHASTIC_DEPTH_MODES:
            raise unknown_value("mode", mode, STOCHASTIC_DEPTH_MODES)
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, ...), zeroed or scaled in training; ``x`` itself after ``eval()``."""
        return F.stochastic_depth(x, self.p, self.mode, self.training)

    def extra_repr(self) -> str:
        """The probability ``p`` and what it decides about."""
        return f"p={self.p}, mode={self.mode!r}"
