"""Contractions: convolutions, their gradients and matrix products, all from one register tile."""

from chainrule.cpu.contraction.convolution import convolution, input_gradient
from chainrule.cpu.contraction.matmul import matmul
from chainrule.cpu.contraction.weight_gradient import weight_gradient

__all__ = ["convolution", "input_gradient", "matmul", "weight_gradient"]
