"""Borders around images as layers."""

from __future__ import annotations

from chainrule.nn import functional as F
from chainrule.nn.functional.batches import IMAGE, on_batch
from chainrule.nn.functional.padding import border_of
from chainrule.nn.functional.sizes import Size
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


class _Pad2d(Module):
    """Base of the borders: ``padding``, a number for all sides or (left, right, top, bottom), and the mode of ``F.pad``."""

    mode = "constant"

    def __init__(self, padding: Size) -> None:
        super().__init__()
        self.padding = border_of(f"{type(self).__name__}: padding", padding)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) -> (N, C, top + H + bottom, left + W + right)."""
        return on_batch(type(self).__name__, x, IMAGE, lambda images: F.pad(images, self.padding, self.mode))

    def extra_repr(self) -> str:
        """The numbers of pixels: (left, right, top, bottom)."""
        return f"{self.padding}"


class ZeroPad2d(_Pad2d):
    """An image with a border of zeros: (N, C, H, W) -> (N, C, top + H + bottom, left + W + right).

    ``padding``: a number for all sides, or (left, right, top, bottom); a negative one cuts off as many pixels.
    """


class ReflectionPad2d(_Pad2d):
    """An image mirrored at its outermost pixels: (N, C, H, W) -> (N, C, top + H + bottom, left + W + right).

    ``padding``: a number for all sides, or (left, right, top, bottom), each smaller than the image.
    """

    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """An image with its outermost pixels repeated: (N, C, H, W) -> (N, C, top + H + bottom, left + W + right).

    ``padding``: a number for all sides, or (left, right, top, bottom).
    """

    mode = "replicate"
