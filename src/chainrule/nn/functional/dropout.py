"""Dropout: random zeros in training, of single elements, of channels, of whole examples."""

from __future__ import annotations

from chainrule.arguments import real_number
from chainrule.errors import UserError, unknown_value
from chainrule.nn.conversion import on_tensors
from chainrule.tensor import Tensor, functions, random

STOCHASTIC_DEPTH_MODES = ("batch", "row")


@on_tensors
def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, zero each element with probability p and divide the others by 1 - p; otherwise x itself.

    Srivastava and others, "Dropout" (2014).
    """
    return _dropped("dropout", x, p, training, x.shape)


@on_tensors
def dropout2d(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, zero each channel of each example with probability p and divide the others by 1 - p; otherwise x itself.

    (N, C, H, W) -> the same shape; (N, C, L) and (N, C) too. Tompson and others, "Efficient object localization using
    convolutional networks" (2015).
    """
    if x.ndim < 2:
        raise UserError(f"dropout2d: needs an input (N, C, ...), got {x.shape}")
    return _dropped("dropout2d", x, p, training, (*x.shape[:2], *(1,) * (x.ndim - 2)))


@on_tensors
def stochastic_depth(x: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    """In training, zero all of x with probability p, or divide it by 1 - p; otherwise x itself: for a branch beside a shortcut.

    ``mode``: "row" decides for each example of (N, ...), "batch" once for all of them. As in torchvision. Huang and others,
    "Deep networks with stochastic depth" (2016).
    """
    if mode not in STOCHASTIC_DEPTH_MODES:
        raise unknown_value("mode", mode, STOCHASTIC_DEPTH_MODES)
    if x.ndim < 1:
        raise UserError("stochastic_depth: needs an input (N, ...), got a single number")
    examples = x.shape[0] if mode == "row" else 1
    return _dropped("stochastic_depth", x, p, training, (examples, *(1,) * (x.ndim - 1)))


def _dropped(name: str, x: Tensor, p: float, training: bool, decisions: tuple[int, ...]) -> Tensor:
    """``x`` with what each of the random ``decisions``, a shape that broadcasts to that of x, covers zeroed or scaled."""
    if not 0 <= real_number(f"{name}: p", p) <= 1:
        raise UserError(f"{name}: p must be a probability, 0 to 1, got {p}")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    kept = random.uniform(decisions, dtype="float32") >= p
    return functions.where(kept, x * (1 / (1 - p)), 0.0)
