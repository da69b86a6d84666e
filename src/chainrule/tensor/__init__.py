"""Tensors: the user's handle on the graph."""

from chainrule.tensor.cells import Buffer, Cell, Parameter
from chainrule.tensor.tensor import Tensor, as_tensor, placeholder, tensor
from chainrule.tensor.tracing import Trace, active_trace, trace, tracing

__all__ = [
    "Buffer",
    "Cell",
    "Parameter",
    "Tensor",
    "Trace",
    "active_trace",
    "as_tensor",
    "placeholder",
    "tensor",
    "trace",
    "tracing",
]
