"""Convolution layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.arguments import size_for_axes, whole_number
from chainrule.errors import UserError
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.functional.sizes import Padding, Size, padding_numbers
from chainrule.nn.module import Module, layer_name
from chainrule.tensor import Parameter, Tensor


class _Convolution(Module):
    """Base of the convolutions. It checks the arguments, makes the parameters, and checks the axes and channels of inputs."""

    spatial_axes = 2
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        bias: bool,
        dtype: Any,
    ) -> None:
        super().__init__()
        layer = type(self).__name__
        in_channels = whole_number(f"{layer}: in_channels", in_channels, 1)
        out_channels = whole_number(f"{layer}: out_channels", out_channels, 1)
        groups = whole_number(f"{layer}: groups", groups, 1)
        if in_channels % groups or out_channels % groups:
            raise UserError(
                f"{layer}: in_channels={in_channels} and out_channels={out_channels} must both divide into groups={groups}"
            )
        kernel = size_for_axes(f"{layer}: kernel_size", kernel_size, self.spatial_axes, 1)
        kernel = (kernel,) * self.spatial_axes if isinstance(kernel, int) else kernel
        self.in_channels, self.out_channels, self.kernel_size, self.groups = in_channels, out_channels, kernel, groups
        self.stride = size_for_axes(f"{layer}: stride", stride, self.spatial_axes, 1)
        self.dilation = size_for_axes(f"{layer}: dilation", dilation, self.spatial_axes, 1)
        self.padding = padding_numbers(layer, padding, self.spatial_axes, by_name=not self.transposed)
        channels = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        self.weight = Parameter.zeros((*channels, *kernel), dtype)
        self.bias = Parameter.zeros((out_channels,), dtype) if bias else None
        init.default_(self.weight, self.bias)

    def _check(self, x: Tensor) -> None:
        shape = ("N", "C", "L") if self.spatial_axes == 1 else ("N", "C", "H", "W")
        if x.ndim != len(shape):
            single = ": a single one is passed as x.expand_dims(0)" if x.ndim == len(shape) - 1 else ""
            raise UserError(f"{layer_name(self)} needs an input ({', '.join(shape)}), got shape {x.shape}{single}")
        if x.shape[1] != self.in_channels:
            if x.shape[-1] == self.in_channels:
                order = (0, x.ndim - 1, *range(1, x.ndim - 1))
                raise UserError(
                    f"{layer_name(self)} got shape {x.shape} with in_channels={self.in_channels}: the channels seem to come "
                    f"last, but they are the second axis, ({', '.join(shape)}): pass x.transpose{order}"
                )
            raise UserError(
                f"{layer_name(self)} got shape {x.shape} with {x.shape[1]} channels, but in_channels={self.in_channels}: "
                f"pass in_channels={x.shape[1]}, or an input of {self.in_channels} channels"
            )

    def extra_repr(self) -> str:
        """Channels, kernel size and stride, and those other arguments that differ from their defaults."""
        facts = [str(self.in_channels), str(self.out_channels), f"kernel_size={self.kernel_size}", f"stride={self.stride}"]
        facts += [f"padding={self.padding}"] if self.padding not in (0, "valid") else []
        facts += [f"dilation={self.dilation}"] if self.dilation != 1 else []
        facts += [f"groups={self.groups}"] if self.groups != 1 else []
        facts += ["bias=False"] if self.bias is None else []
        return ", ".join(facts)


class Conv2d(_Convolution):
    """Filters that slide over an image: (N, in_channels, H, W) -> (N, out_channels, OH, OW).

    ``weight`` (out_channels, in_channels / groups, KH, KW), ``bias`` (out_channels). ``padding``: a number,
    (height, width), ((top, bottom), (left, right)), 'same' or 'valid'. With groups = in_channels, each channel has filters of
    its own: a depthwise convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, in_channels, H, W) -> (N, out_channels, OH, OW); a UserError for any other axes or channels."""
        self._check(x)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv1d(_Convolution):
    """Filters that slide along a signal: (N, in_channels, L) -> (N, out_channels, OL).

    ``weight`` (out_channels, in_channels / groups, K), ``bias`` (out_channels). ``padding``: a number, 'same' or 'valid'.
    """

    spatial_axes = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | str | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, in_channels, L) -> (N, out_channels, OL); a UserError for any other axes or channels."""
        self._check(x)
        return F.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose2d(_Convolution):
    """The input gradient of a convolution as a layer: (N, in_channels, H, W) -> (N, out_channels, OH, OW).

    ``weight`` (in_channels, out_channels / groups, KH, KW). OH = (H - 1) stride - 2 padding + dilation (KH - 1) +
    output_padding + 1.
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, dtype)
        self.output_padding = size_for_axes("ConvTranspose2d: output_padding", output_padding, 2, 0)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, in_channels, H, W) -> (N, out_channels, OH, OW); a UserError for any other axes or channels."""
        self._check(x)
        return F.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )
