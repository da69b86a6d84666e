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


@on_tensors
def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of ``groups`` equal parts: (N, C, ...) -> the same shape.

    Channel i of part g goes to i groups + g, so that the groups of a convolution that follows see all parts. Zhang and others,
    "ShuffleNet" (2018).
    """
    groups = whole_number("channel_shuffle: groups", groups, 1)
    if x.ndim < 3:
        raise UserError(f"channel_shuffle: needs an input (N, C, ...) of at least three axes, got {x.shape}")
    if x.shape[1] % groups:
        raise UserError(f"channel_shuffle: {x.shape[1]} channels do not divide into groups={groups}")
    parts = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    return parts.swapaxes(1, 2).reshape(x.shape)
