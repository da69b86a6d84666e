"""Kernels of Winograd's algorithms for convolutions of 3 x 3 taps at stride 1, and for both of their gradients."""

from chainrule.cpu.kernels.winograd.forward import convolution, input_gradient
from chainrule.cpu.kernels.winograd.suitability import suits
from chainrule.cpu.kernels.winograd.weight_gradient import weight_gradient

__all__ = ["convolution", "input_gradient", "suits", "weight_gradient"]
