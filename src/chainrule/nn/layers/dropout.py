"""Dropout as a layer."""

from __future__ import annotations

from chainrule.arguments import real_number
from chainrule.errors import UserError
from chainrule.nn import functional as F
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


class Dropout(Module):
    """In training, zeroes each element with probability p and divides the others by 1 - p; after ``eval()``, does nothing.

    ``inplace`` is accepted and has no effect: tensors are immutable.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= real_number("Dropout: p", p) <= 1:
            raise UserError(f"Dropout: p must be a probability, 0 to 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape, with elements dropped in training; ``x`` itself after ``eval()``."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability ``p``."""
        return f"p={self.p}"
