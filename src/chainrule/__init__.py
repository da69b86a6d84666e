"""chainrule: trains convolutional networks fast on the machine you have, and shows you every gradient."""

import _signal  # type: ignore[import-not-found]  # what ``signal`` is made of: built in, while that has files to load
import os
import sys


def _is_command() -> bool:
    """Whether this process is ``chainrule`` or ``python -m chainrule``, as far as can be told while the package is loaded."""
    arguments = getattr(sys, "argv", None) or [""]
    if arguments[0] == "-m":  # as long as the module that is to be run is not found yet
        return sys.orig_argv[-len(arguments)] in ("chainrule", "-mchainrule")
    return os.path.basename(arguments[0]) in ("chainrule", "chainrule.exe")


# From the first moment on Ctrl-C ends the command without a traceback, which Python's own handler would leave in the middle of
# an import: the system does it, silently, until ``signals`` is loaded, which has words to say. Every import before this line
# would be a moment in which there are tracebacks; those above are of what each interpreter has loaded already.
if _is_command() and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    try:  # noqa: SIM105 - contextlib may have to be loaded
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    except ValueError:  # this is not the main thread, so it is another program, which has the command's name
        pass

# isort: split
from chainrule import signals

if _is_command():
    signals.listener.listen()

# isort: split
import importlib
from typing import TYPE_CHECKING, Any

from chainrule.errors import ChainruleError, ChainruleWarning, InternalError, UserError
from chainrule.graph.dtypes import bfloat16, bool_, float32, float64, int32, int64, uint8
from chainrule.habits import LIBRARY, absent
from chainrule.ops.precision import precision
from chainrule.tensor import random
from chainrule.tensor.backend import set_threads, thread_count
from chainrule.tensor.cells import Buffer, Parameter
from chainrule.tensor.compiled import compile
from chainrule.tensor.custom_gradient import custom_gradient
from chainrule.tensor.engines import engine
from chainrule.tensor.functions import (
    abs,
    argsort,
    atan,
    ceil,
    chunk,
    clip,
    concatenate,
    cos,
    cumsum,
    einsum,
    erf,
    erfc,
    exp,
    expm1,
    floor,
    isfinite,
    isinf,
    isnan,
    log,
    log1p,
    log2,
    logsumexp,
    matmul,
    max,
    maximum,
    mean,
    min,
    minimum,
    norm,
    one_hot,
    prod,
    repeat,
    roll,
    round,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sort,
    split,
    sqrt,
    stack,
    std,
    stop_gradient,
    sum,
    take_along_axis,
    tan,
    tanh,
    tile,
    topk,
    tril,
    triu,
    var,
    where,
)
from chainrule.tensor.graphs import grad, gradcheck, no_grad, trace
from chainrule.tensor.making import arange, from_dlpack, full, full_like, ones, ones_like, zeros, zeros_like
from chainrule.tensor.random import manual_seed
from chainrule.tensor.tensor import Tensor, tensor

__all__ = [
    "Buffer",
    "ChainruleError",
    "ChainruleWarning",
    "InternalError",
    "Parameter",
    "Tensor",
    "UserError",
    "abs",
    "arange",
    "argsort",
    "atan",
    "audit",
    "bfloat16",
    "bool_",
    "ceil",
    "chunk",
    "clip",
    "compile",
    "concatenate",
    "cos",
    "cumsum",
    "custom_gradient",
    "data",
    "einsum",
    "engine",
    "erf",
    "erfc",
    "exp",
    "explain",
    "expm1",
    "float32",
    "float64",
    "floor",
    "formats",
    "from_dlpack",
    "full",
    "full_like",
    "grad",
    "gradcheck",
    "int32",
    "int64",
    "isfinite",
    "isinf",
    "isnan",
    "lens",
    "load",
    "log",
    "log1p",
    "log2",
    "logsumexp",
    "manual_seed",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "models",
    "nn",
    "no_grad",
    "norm",
    "one_hot",
    "ones",
    "ones_like",
    "optim",
    "precision",
    "prod",
    "random",
    "repeat",
    "roll",
    "round",
    "rsqrt",
    "save",
    "set_threads",
    "sigmoid",
    "sign",
    "sin",
    "sort",
    "split",
    "sqrt",
    "stack",
    "std",
    "stop_gradient",
    "sum",
    "take_along_axis",
    "tan",
    "tanh",
    "tensor",
    "thread_count",
    "tile",
    "topk",
    "trace",
    "train",
    "tril",
    "triu",
    "uint8",
    "var",
    "where",
    "zeros",
    "zeros_like",
]

__version__ = "0.1.0"

if TYPE_CHECKING:  # the names in ``_LATER``; a test compares the two
    from chainrule import data, formats, lens, models, nn, optim, train
    from chainrule.lens.audit import audit
    from chainrule.lens.explain import explain
    from chainrule.nn.saving import load, save

_LATER = {
    "audit": "chainrule.lens.audit",
    "data": "chainrule.data",
    "explain": "chainrule.lens.explain",
    "formats": "chainrule.formats",
    "lens": "chainrule.lens",
    "load": "chainrule.nn.saving",
    "models": "chainrule.models",
    "nn": "chainrule.nn",
    "optim": "chainrule.optim",
    "save": "chainrule.nn.saving",
    "train": "chainrule.train",
}
"""Public names that are imported when first used, and their modules, so that ``import chainrule`` stays fast."""


if not TYPE_CHECKING:  # a type checker that saw it would accept every misspelt name

    def __getattr__(name: str) -> Any:
        module = _LATER.get(name)
        if module is None:
            raise absent("module 'chainrule'", name, LIBRARY)
        loaded = importlib.import_module(module)
        value = loaded if module == f"{__name__}.{name}" else getattr(loaded, name)
        globals()[name] = value  # from now on without this function
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
