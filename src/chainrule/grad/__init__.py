"""Gradients: backpropagation, its check, and the local gradients that it multiplies."""

from chainrule.grad.backprop import backprop, refuse_freed
from chainrule.grad.gradcheck import Gradcheck, gradcheck
from chainrule.grad.local import LocalKind, local_diagonal, local_kind, local_row

__all__ = ["Gradcheck", "LocalKind", "backprop", "gradcheck", "local_diagonal", "local_kind", "local_row", "refuse_freed"]
