"""Gradients: backpropagation, its check, and the local gradients that it multiplies."""

from chainrule.grad.backprop import backprop, refuse_freed
from chainrule.grad.forward import pushed_forward
from chainrule.grad.gradcheck import Gradcheck, gradcheck
from chainrule.grad.local import LocalKind, local_diagonal, local_kind, local_row, passed_to
from chainrule.grad.node_check import Difference, compared, computed, in_float64, passed_back

__all__ = [
    "Difference",
    "Gradcheck",
    "LocalKind",
    "backprop",
    "compared",
    "computed",
    "gradcheck",
    "in_float64",
    "local_diagonal",
    "local_kind",
    "local_row",
    "passed_back",
    "passed_to",
    "pushed_forward",
    "refuse_freed",
]
