"""Clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from chainrule.arguments import explained, members_of, real_number
from chainrule.errors import UserError
from chainrule.graph.dtypes import float64, promote
from chainrule.optim.optimizer import PASS_PARAMETERS
from chainrule.tensor import Tensor, functions


@explained
def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients so that their common Euclidean norm is at most ``max_norm``; returns the norm that they had before.

    Frozen parameters, which no optimizer updates, do not count. Without any gradient the norm is 0.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013). The squares neither
    overflow nor underflow. As in PyTorch, an infinite element makes the norm infinite and itself nan, and all finite elements
    become 0; a nan makes the norm and all elements nan.
    """
    if not real_number("clip_grad_norm_: max_norm", max_norm) > 0:
        raise UserError(f"clip_grad_norm_: max_norm must be above 0, got {max_norm}")
    listed = (
        [parameters]
        if isinstance(parameters, Tensor)
        else members_of("clip_grad_norm_: parameters", parameters, PASS_PARAMETERS)
    )
    for place, parameter in enumerate(listed):
        if not isinstance(parameter, Tensor):
            raise UserError(
                f"clip_grad_norm_: element {place} must be a parameter, got a {type(parameter).__name__}: {PASS_PARAMETERS}"
            )
    if not listed:
        raise UserError(
            "clip_grad_norm_: got no parameters, so nothing would be clipped: pass model.parameters() anew, as a generator "
            "gives its parameters only once, or a list of them"
        )
    with functions.no_grad():
        gradients = [
            (parameter, parameter.grad) for parameter in listed if parameter.requires_grad and parameter.grad is not None
        ]
        if not gradients:
            return functions.zeros(())
        length = _length([gradient for _, gradient in gradients])
        factor = functions.minimum(1.0, max_norm / (length + 1e-6))
        # A factor too small for float32 would become 0: it is applied in two steps, each of which is in range.
        first = functions.where(factor < _SMALL_FACTOR, factor.sqrt(), factor)
        second = functions.where(factor < _SMALL_FACTOR, factor.sqrt(), 1.0)
        for parameter, gradient in gradients:
            parameter.grad = gradient * first.astype(parameter.dtype) * second.astype(parameter.dtype)
        return length.astype(promote(*(parameter.dtype for parameter, _ in gradients)))


_SMALL_FACTOR = 1e-30
"""A factor below this is applied in two steps."""


def _length(tensors: Sequence[Tensor]) -> Tensor:
    """The square root of the sum of all squares, in float64.

    If any number is float64, all are first divided by the largest; squares of narrower numbers fit float64 as they are.
    """
    wide = [tensor.astype(float64) for tensor in tensors]
    scale: Tensor | None = None
    if any(tensor.dtype == float64 and tensor.size for tensor in tensors):
        largest = functions.stack([tensor.abs().max() for tensor in wide if tensor.size]).max()
        scale = functions.where((largest > 0) & (largest < math.inf), largest, 1.0)
        wide = [tensor / scale for tensor in wide]
    length = functions.stack([(tensor * tensor).sum() for tensor in wide]).sum().sqrt()
    return length if scale is None else length * scale
