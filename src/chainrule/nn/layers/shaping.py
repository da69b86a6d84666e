"""Layers that change the shape, and no value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chainrule.arguments import as_whole_numbers, whole_number
from chainrule.errors import UserError
from chainrule.nn import functional as F
from chainrule.nn.module import Module, layer_name
from chainrule.tensor import Tensor
from chainrule.tensor.axes import as_axis


class Flatten(Module):
    """Joins the axes ``start_dim`` to ``end_dim`` into a single axis: (N, C, H, W) -> (N, C H W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = whole_number("Flatten: start_dim", start_dim)
        self.end_dim = whole_number("Flatten: end_dim", end_dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with the axes ``start_dim`` to ``end_dim`` joined; a UserError if it lacks these axes."""
        return F.flatten(x, self.start_dim, self.end_dim)


class Unflatten(Module):
    """Splits the axis ``dim`` into several of the sizes ``unflattened_size``, of which one may be -1: what is left."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim = whole_number("Unflatten: dim", dim)
        sizes = as_whole_numbers(unflattened_size)
        if sizes is None or not sizes or min(sizes) < -1 or sizes.count(-1) > 1:
            raise UserError(
                f"Unflatten: unflattened_size must be sizes, one of which may be -1, such as (2, -1), got {unflattened_size!r}"
            )
        self.unflattened_size = sizes

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., n, ...) -> (..., *unflattened_size, ...); a UserError if the sizes do not multiply to n."""
        axis = as_axis("Unflatten", self.dim, x.ndim)
        sizes, known = self.unflattened_size, math.prod(size for size in self.unflattened_size if size != -1)
        if -1 in sizes and known:
            sizes = tuple(x.shape[axis] // known if size == -1 else size for size in sizes)
        if math.prod(sizes) != x.shape[axis]:
            raise UserError(
                f"{layer_name(self)} got shape {x.shape}: the {x.shape[axis]} elements of axis {self.dim} do not fill "
                f"unflattened_size={self.unflattened_size}"
            )
        return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])

    def extra_repr(self) -> str:
        """The axis and the sizes."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class ChannelShuffle(Module):
    """Interleaves the channels of ``groups`` equal parts: (N, C, ...) -> the same shape.

    Channel i of part g goes to i groups + g. Zhang and others, "ShuffleNet" (2018).
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = whole_number("ChannelShuffle: groups", groups, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, ...) -> the same shape; a UserError if ``groups`` does not divide the channels."""
        return F.channel_shuffle(x, self.groups)

    def extra_repr(self) -> str:
        """The number of groups."""
        return f"groups={self.groups}"
