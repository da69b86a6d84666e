"""Dropout: random zeros in training."""

from __future__ import annotations

from chainrule.arguments import real_number
from chainrule.errors import UserError
from chainrule.nn.conversion import on_tensors
from chainrule.tensor import Tensor, functions, random


@on_tensors
def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, zero each element with probability p and divide the others by 1 - p; otherwise x itself.

    Srivastava and others, "Dropout" (2014).
    """
    if not 0 <= real_number("dropout: p", p) <= 1:
        raise UserError(f"dropout: p must be a probability, 0 to 1, got {p}")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    kept = random.uniform(x.shape, dtype="float32") >= p
    return functions.where(kept, x * (1 / (1 - p)), 0.0)
