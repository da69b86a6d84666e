"""Functions that change the shape, and no value."""

from __future__ import annotations

import math

from chainrule.arguments import whole_number
from chainrule.errors import UserError
from chainrule.nn.conversion import on_tensors
from chainrule.tensor import Tensor


@on_tensors
def flatten(x: Tensor, start_dim: int = 1, end_dim: int = -1) -> Tensor:
    """Join the axes ``start_dim`` to ``end_dim`` into a single axis: by default (N, C, H, W) -> (N, C H W)."""
    axes = max(x.ndim, 1)
    start_dim, end_dim = whole_number("flatten: start_dim", start_dim), whole_number("flatten: end_dim", end_dim)
    if any(not -axes <= axis < axes for axis in (start_dim, end_dim)):
        raise UserError(
            f"flatten: {start_dim} to {end_dim} goes beyond the axes of shape {x.shape}: give {-axes} to {axes - 1}"
        )
    first, last = start_dim % axes, end_dim % axes
    if first > last:
        raise UserError(f"flatten: start_dim {start_dim} lies behind end_dim {end_dim} for shape {x.shape}")
    return x.reshape(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
