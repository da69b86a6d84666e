"""Pooling layers."""

from __future__ import annotations

from chainrule.arguments import size_for_axes
from chainrule.nn import functional as F
from chainrule.nn.functional.pooling import adaptive_size
from chainrule.nn.functional.sizes import Size
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


class _Pool(Module):
    """Base of the pooling layers with a window: kernel size, stride (by default the kernel size) and padding."""

    def __init__(self, kernel_size: Size, stride: Size | None, padding: Size) -> None:
        super().__init__()
        layer = type(self).__name__
        self.kernel_size = size_for_axes(f"{layer}: kernel_size", kernel_size, 2, 1)
        self.stride = self.kernel_size if stride is None else size_for_axes(f"{layer}: stride", stride, 2, 1)
        self.padding = size_for_axes(f"{layer}: padding", padding, 2, 0)

    def extra_repr(self) -> str:
        """Kernel size, stride and padding."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool):
    """The largest element of each window: (N, C, H, W) -> (N, C, OH, OW)."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.dilation, self.ceil_mode = size_for_axes("MaxPool2d: dilation", dilation, 2, 1), ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) -> (N, C, OH, OW)."""
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class AvgPool2d(_Pool):
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW)."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W), float -> (N, C, OH, OW)."""
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AdaptiveAvgPool2d(Module):
    """Average pooling to a given output size, a number or (height, width): (N, C, H, W) -> (N, C, *output_size).

    None, as the size or for an axis, keeps the size of the input.
    """

    def __init__(self, output_size: Size | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        self.output_size = adaptive_size(output_size)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) -> (N, C, *output_size)."""
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        """The output size, as a single number if both axes have the same."""
        height, width = self.output_size
        return f"output_size={height if height == width else self.output_size}"
