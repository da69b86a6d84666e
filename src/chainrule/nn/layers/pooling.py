"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.arguments import size_for_axes
from chainrule.nn import functional as F
from chainrule.nn.functional.pooling import OutputSize, adaptive_size
from chainrule.nn.functional.sizes import Size, single
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


class _Pool(Module):
    """Base of the pooling layers with a window: kernel size, stride (by default the kernel size) and padding."""

    spatial_axes = 2

    def __init__(self, kernel_size: Size, stride: Size | None, padding: Size) -> None:
        super().__init__()
        layer = type(self).__name__
        self.kernel_size = size_for_axes(f"{layer}: kernel_size", kernel_size, self.spatial_axes, 1)
        own = self.kernel_size if stride is None else stride
        self.stride = size_for_axes(f"{layer}: stride", own, self.spatial_axes, 1)
        self.padding = size_for_axes(f"{layer}: padding", padding, self.spatial_axes, 0)

    def extra_repr(self) -> str:
        """Kernel size, stride and padding."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _MaxPool(_Pool):
    """Base of the pooling layers that take the largest element."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.dilation = size_for_axes(f"{type(self).__name__}: dilation", dilation, self.spatial_axes, 1)
        self.ceil_mode = ceil_mode


class _AvgPool(_Pool):
    """Base of the pooling layers that take the mean."""

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


class MaxPool2d(_MaxPool):
    """The largest element of each window: (N, C, H, W) -> (N, C, OH, OW)."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) -> (N, C, OH, OW)."""
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class MaxPool1d(_MaxPool):
    """The largest element of each window of a signal: (N, C, L) -> (N, C, OL)."""

    spatial_axes = 1

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, L) -> (N, C, OL)."""
        return F.max_pool1d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class AvgPool2d(_AvgPool):
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW)."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W), float -> (N, C, OH, OW)."""
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AvgPool1d(_AvgPool):
    """The mean of each window of a signal: (N, C, L) -> (N, C, OL)."""

    spatial_axes = 1

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, L), float -> (N, C, OL)."""
        return F.avg_pool1d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class _AdaptivePool2d(Module):
    """Base of the adaptive pools of images: the output size, a number or (height, width), None where it stays as it is."""

    def __init__(self, output_size: OutputSize) -> None:
        super().__init__()
        self.output_size = adaptive_size(type(self).__name__, output_size)

    def extra_repr(self) -> str:
        """The output size, as a single number if both axes have the same."""
        height, width = self.output_size
        return f"output_size={height if height == width else self.output_size}"


class AdaptiveAvgPool2d(_AdaptivePool2d):
    """Average pooling to a given output size, a number or (height, width): (N, C, H, W) -> (N, C, *output_size).

    None, as the size or for an axis, keeps the size of the input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) -> (N, C, *output_size)."""
        return F.adaptive_avg_pool2d(x, self.output_size)


class AdaptiveMaxPool2d(_AdaptivePool2d):
    """The largest elements of windows, to a given output size, a number or (height, width): as AdaptiveAvgPool2d.

    (N, C, H, W) -> (N, C, *output_size). None, as the size or for an axis, keeps the size of the input.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W), float -> (N, C, *output_size)."""
        return F.adaptive_max_pool2d(x, self.output_size)


class _AdaptivePool1d(Module):
    """Base of the adaptive pools of signals: the output size, a number."""

    def __init__(self, output_size: int | Sequence[int]) -> None:
        super().__init__()
        self.output_size = single(f"{type(self).__name__}: output_size", output_size, 1)

    def extra_repr(self) -> str:
        """The output size."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool1d):
    """Average pooling of a signal to a given output size: (N, C, L) -> (N, C, output_size)."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, L), float -> (N, C, output_size)."""
        return F.adaptive_avg_pool1d(x, self.output_size)


class AdaptiveMaxPool1d(_AdaptivePool1d):
    """The largest elements of windows of a signal, to a given output size: (N, C, L) -> (N, C, output_size)."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, L), float -> (N, C, output_size)."""
        return F.adaptive_max_pool1d(x, self.output_size)
