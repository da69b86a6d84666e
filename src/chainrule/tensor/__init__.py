"""Tensors, through which users build graphs; parameters, tracing, and functions compiled into programs."""

from chainrule.tensor.cells import Buffer, Cell, Parameter
from chainrule.tensor.compiled import CompiledFunction, compile
from chainrule.tensor.graphs import no_grad, trace
from chainrule.tensor.tensor import Tensor, as_tensor, placeholder, tensor
from chainrule.tensor.tracing import Trace, active_trace, tracing, verify
from chainrule.tensor.update import Updates

__all__ = [
    "Buffer",
    "Cell",
    "CompiledFunction",
    "Parameter",
    "Tensor",
    "Trace",
    "Updates",
    "active_trace",
    "as_tensor",
    "compile",
    "no_grad",
    "placeholder",
    "tensor",
    "trace",
    "tracing",
    "verify",
]
