"""chainrule: trains convolutional networks fast on the machine you have, and shows you every gradient."""

from typing import TYPE_CHECKING, Any

from chainrule.errors import ChainruleError, InternalError, UserError
from chainrule.graph.dtypes import bfloat16, bool_, float32, float64, int32, int64, uint8
from chainrule.ops.precision import precision
from chainrule.tensor import random
from chainrule.tensor.cells import Buffer, Parameter
from chainrule.tensor.compiled import compile
from chainrule.tensor.engines import engine
from chainrule.tensor.functions import (
    abs,
    arange,
    clip,
    concatenate,
    cos,
    erf,
    exp,
    from_dlpack,
    full,
    grad,
    gradcheck,
    log,
    matmul,
    max,
    maximum,
    mean,
    min,
    minimum,
    no_grad,
    one_hot,
    ones,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sqrt,
    stack,
    stop_gradient,
    sum,
    tanh,
    where,
    zeros,
)
from chainrule.tensor.random import manual_seed
from chainrule.tensor.tensor import Tensor, tensor
from chainrule.tensor.tracing import trace

__all__ = [
    "Buffer",
    "ChainruleError",
    "InternalError",
    "Parameter",
    "Tensor",
    "UserError",
    "abs",
    "arange",
    "bfloat16",
    "bool_",
    "clip",
    "compile",
    "concatenate",
    "cos",
    "engine",
    "erf",
    "exp",
    "explain",
    "float32",
    "float64",
    "from_dlpack",
    "full",
    "grad",
    "gradcheck",
    "int32",
    "int64",
    "log",
    "manual_seed",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "no_grad",
    "one_hot",
    "ones",
    "precision",
    "random",
    "rsqrt",
    "set_threads",
    "sigmoid",
    "sign",
    "sin",
    "sqrt",
    "stack",
    "stop_gradient",
    "sum",
    "tanh",
    "tensor",
    "thread_count",
    "trace",
    "uint8",
    "where",
    "zeros",
]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from chainrule.cpu.threads import set_threads, thread_count
    from chainrule.lens.explain import explain


def __getattr__(name: str) -> Any:
    """What is loaded when it is first asked for: ``cr.explain``, as training does not need the lens, and what needs LLVM."""
    if name == "explain":
        from chainrule.lens.explain import explain

        return explain
    if name in ("set_threads", "thread_count"):
        from chainrule.cpu import threads

        return getattr(threads, name)
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}")
