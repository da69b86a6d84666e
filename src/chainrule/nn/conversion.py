"""Conversion of arguments of functions and layers to tensors, and warnings about dtypes that are slow or surprising."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

from chainrule.arguments import explained
from chainrule.errors import ChainruleWarning, UserError
from chainrule.graph import current_origin, in_function
from chainrule.graph.dtypes import PROMOTION_CHAIN, DType, is_float, uint8
from chainrule.tensor import Tensor, as_tensor

P = ParamSpec("P")
R = TypeVar("R")


def on_tensors(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: ``function`` also takes arrays and nested lists of numbers for every parameter annotated as ``Tensor``.

    A call whose arguments do not fit raises a UserError that explains it.
    """
    names = list(function.__annotations__)
    takes = {name: hint for name, hint in function.__annotations__.items() if hint.startswith("Tensor") and name != "return"}
    places = tuple(
        [name in takes for name in names[: max(map(names.index, takes)) + 1]]
    )  # up to the last parameter that takes a tensor

    @functools.wraps(function)
    def called(*args: P.args, **options: P.kwargs) -> R:
        for argument, takes_tensor in zip(args, places, strict=False):
            if takes_tensor and not isinstance(argument, Tensor) and argument is not None:
                break
        else:
            if options.keys().isdisjoint(takes) and (not args or args[0] is not None):
                return in_function(function, *args, **options)
        given = [converted(function.__name__, name, argument, takes) for name, argument in zip(names, args, strict=False)]
        given += args[len(given) :]
        named = {name: converted(function.__name__, name, argument, takes) for name, argument in options.items()}
        return in_function(function, *given, **named)

    return explained(called)


def converted(call: str, name: str, value: Any, takes: Mapping[str, str]) -> Any:
    """The argument ``name`` of a call, as a tensor if ``takes`` (annotations by name) has it. None stays None where allowed."""
    hint = takes.get(name)
    if hint is None or isinstance(value, Tensor) or (value is None and "None" in hint):
        return value
    return as_input(f"{call}: {name}", value)


def as_input(what: str, value: Any, dtype: DType | None = None) -> Tensor:
    """``value`` as a tensor, of ``dtype`` if that is given.

    Raises:
        UserError: it holds no numbers; the message begins with ``what``.
    """
    try:
        return as_tensor(value, dtype)
    except UserError as error:
        raise UserError(
            f"{what} must be a tensor, an array or nested lists of numbers: {str(error).removeprefix('tensor: ')}"
        ) from None


# ---- dtypes that are slow or surprising

_warned: set[object] = set()


def remark_on_dtype(name: str, x: Tensor, weight: Tensor) -> None:
    """Warn, once per source file of the program, if ``x`` is of a wider float dtype than ``weight``, or holds uint8 images."""
    if x.dtype == uint8:
        value = x.node.value
        if value is not None and value.max(initial=0) <= 1:
            return
        text = (
            "got numbers of uint8, taken as they are, 0 to 255: networks learn badly from such large numbers: scale images, "
            "images / 255 or images.astype(np.float32) / 255"
        )
    elif is_float(x.dtype) and PROMOTION_CHAIN.index(x.dtype) > PROMOTION_CHAIN.index(weight.dtype):
        slower = ", in two thirds of the usual speed," if x.dtype == np.float64 else ""
        text = (
            f"got {x.dtype}, but the parameters are {weight.dtype}: this and what follows is computed{slower} in {x.dtype}: "
            f"pass x.astype('{weight.dtype}'), or turn the network into {x.dtype} with model.astype('{x.dtype}')"
        )
    else:
        return
    origin = current_origin()
    key = (
        origin.file,
        x.dtype,
        weight.dtype,
    )  # float64 is passed on: the warning of the first layer covers the layers that follow
    if key in _warned:
        return
    place = f"layer {origin.module} ({origin.kind})" if origin.module and origin.module != origin.kind else origin.kind or name
    warnings.warn_explicit(f"{place} {text}", ChainruleWarning, origin.file or __file__, max(origin.line, 1))
    _warned.add(key)
