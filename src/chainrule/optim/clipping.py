"""Clipping of gradients: by their common norm, or each element by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from chainrule.arguments import explained, members_of, real_number
from chainrule.errors import UserError
from chainrule.graph.dtypes import float64, promote
from chainrule.optim.optimizer import PASS_PARAMETERS
from chainrule.tensor import Tensor, functions, making, no_grad


@explained
def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Scale all gradients so that their common norm is at most ``max_norm``; returns the norm that they had before.

    ``norm_type`` p is any number above 0: the norm is (sum of |g|^p)^(1/p) over all elements of all gradients. 2 is the
    Euclidean norm, and ``math.inf`` takes the largest element. Frozen parameters, which no optimizer updates, do not count.
    Without any gradient the norm is 0.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013). The powers neither
    overflow nor underflow. As in PyTorch, an infinite element makes the norm infinite and itself nan, and all finite elements
    become 0; a nan makes the norm and all elements nan.
    """
    if not real_number("clip_grad_norm_: max_norm", max_norm) > 0:
        raise UserError(f"clip_grad_norm_: max_norm must be above 0, got {max_norm}")
    power = real_number("clip_grad_norm_: norm_type", norm_type)
    if not power > 0:
        raise UserError(f"clip_grad_norm_: norm_type must be above 0, such as 1, 2 or math.inf, got {norm_type}")
    with no_grad():
        gradients = _with_gradients("clip_grad_norm_", parameters)
        if not gradients:
            return making.zeros(())
        norm = _norm([gradient for _, gradient in gradients], power)
        factor = functions.minimum(1.0, max_norm / (norm + 1e-6))
        # A factor too small for float32 would become 0: it is applied in two steps, each of which is in range.
        first = functions.where(factor < _SMALL_FACTOR, factor.sqrt(), factor)
        second = functions.where(factor < _SMALL_FACTOR, factor.sqrt(), 1.0)
        for parameter, gradient in gradients:
            parameter.grad = gradient * first.astype(parameter.dtype) * second.astype(parameter.dtype)
        return norm.astype(promote(*(parameter.dtype for parameter, _ in gradients)))


_SMALL_FACTOR = 1e-30
"""A factor below this is applied in two steps."""


@explained
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring every element of every gradient into the range from -clip_value to clip_value.

    A nan stays nan. Gradients of frozen parameters, which no optimizer updates, stay as they are.
    """
    largest = real_number("clip_grad_value_: clip_value", clip_value)
    if not largest >= 0:
        raise UserError(f"clip_grad_value_: clip_value must be at least 0, got {clip_value}")
    with no_grad():
        for parameter, gradient in _with_gradients("clip_grad_value_", parameters):
            parameter.grad = gradient.clip(-largest, largest)


def _with_gradients(call: str, parameters: Tensor | Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The parameters that learn and have a gradient, each with its gradient.

    Raises:
        UserError: there are no parameters at all, or something else than parameters; the message begins with ``call``.
    """
    listed = [parameters] if isinstance(parameters, Tensor) else members_of(f"{call}: parameters", parameters, PASS_PARAMETERS)
    for place, parameter in enumerate(listed):
        if not isinstance(parameter, Tensor):
            raise UserError(f"{call}: element {place} must be a parameter, got a {type(parameter).__name__}: {PASS_PARAMETERS}")
    if not listed:
        raise UserError(
            f"{call}: got no parameters, so nothing would be clipped: pass model.parameters() anew, as a generator gives its "
            "parameters only once, or a list of them"
        )
    return [(parameter, parameter.grad) for parameter in listed if parameter.requires_grad and parameter.grad is not None]


def _norm(tensors: Sequence[Tensor], power: float) -> Tensor:
    """The norm of order ``power`` over all elements of all tensors, in float64.

    The elements are first divided by the largest, unless their powers fit float64 as they are: those of float32 and bfloat16
    for orders up to 2.
    """
    wide = [tensor.astype(float64).abs() for tensor in tensors if tensor.size]
    if not wide:
        return making.zeros((), float64)
    if power == 1:
        return functions.stack([tensor.sum() for tensor in wide]).sum()
    if power < math.inf and 1 < power <= 2 and not any(tensor.dtype == float64 for tensor in tensors):
        return _root(wide, power)
    largest = functions.stack([tensor.max() for tensor in wide]).max()
    if power == math.inf:
        return largest
    scale = functions.where((largest > 0) & (largest < math.inf), largest, 1.0)
    return _root([tensor / scale for tensor in wide], power) * scale


def _root(tensors: Sequence[Tensor], power: float) -> Tensor:
    """The sum of the powers of all elements, and of that the root; the elements are at least 0."""
    if power == 2:
        return functions.stack([(tensor * tensor).sum() for tensor in tensors]).sum().sqrt()
    return functions.stack([(tensor**power).sum() for tensor in tensors]).sum() ** (1 / power)
