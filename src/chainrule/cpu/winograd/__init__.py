"""Winograd's algorithms for convolutions of 3 x 3 taps at stride 1, and for both of their gradients."""

from chainrule.cpu.winograd.forward import convolution, input_gradient
from chainrule.cpu.winograd.suitability import suits
from chainrule.cpu.winograd.weight_gradient import weight_gradient

__all__ = ["convolution", "input_gradient", "suits", "weight_gradient"]
