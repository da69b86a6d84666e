"""Kernels of convolutions, their gradients and matrix products, which all share the same register tile."""

from chainrule.cpu.kernels.contraction.convolution import convolution, input_gradient
from chainrule.cpu.kernels.contraction.matmul import matmul
from chainrule.cpu.kernels.contraction.weight_gradient import weight_gradient

__all__ = ["convolution", "input_gradient", "matmul", "weight_gradient"]
