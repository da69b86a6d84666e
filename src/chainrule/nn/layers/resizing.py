"""Layers that change the size of an image."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.arguments import whole_number
from chainrule.nn import functional as F
from chainrule.nn.functional.resizing import Factor, check_mode, size_or_factor
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


class Upsample(Module):
    """An image or a signal of another size, as ``F.interpolate``: (N, C, H, W) -> (N, C, *size), (N, C, L) -> (N, C, size).

    Either ``size`` or ``scale_factor`` is given. ``mode``: "nearest", "nearest-exact", "linear", "bilinear", "bicubic", "area".
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: Factor | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        check_mode("Upsample", mode, align_corners)
        self.size, self.scale_factor = size_or_factor("Upsample", size, scale_factor, None)
        self.mode, self.align_corners, self.recompute_scale_factor = mode, align_corners, recompute_scale_factor

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) or (N, C, L) -> the same with other sizes."""
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor)

    def extra_repr(self) -> str:
        """The size or the factor, and the mode."""
        size = f"scale_factor={self.scale_factor}" if self.size is None else f"size={self.size}"
        corners = "" if self.align_corners is None else f", align_corners={self.align_corners}"
        return f"{size}, mode={self.mode!r}{corners}"


class PixelShuffle(Module):
    """Squares of pixels made of channels: (..., C r^2, H, W) -> (..., C, H r, W r), with r the ``upscale_factor``.

    Shi and others, "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
    network" (2016).
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = whole_number("PixelShuffle: upscale_factor", upscale_factor, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., C r^2, H, W) -> (..., C, H r, W r)."""
        return F.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        """The factor."""
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Channels made of squares of pixels, the inverse of PixelShuffle: (..., C, H r, W r) -> (..., C r^2, H, W)."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = whole_number("PixelUnshuffle: downscale_factor", downscale_factor, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., C, H r, W r) -> (..., C r^2, H, W)."""
        return F.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        """The factor."""
        return f"downscale_factor={self.downscale_factor}"
