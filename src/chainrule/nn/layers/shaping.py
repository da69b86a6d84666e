"""Layers that change the shape, and no value."""

from __future__ import annotations

from chainrule.arguments import whole_number
from chainrule.nn import functional as F
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


class Flatten(Module):
    """Joins the axes ``start_dim`` to ``end_dim`` into a single axis: (N, C, H, W) -> (N, C H W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = whole_number("Flatten: start_dim", start_dim)
        self.end_dim = whole_number("Flatten: end_dim", end_dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with the axes ``start_dim`` to ``end_dim`` joined; a UserError if it lacks these axes."""
        return F.flatten(x, self.start_dim, self.end_dim)


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
