"""Convolution layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.arguments import size_for_axes, whole_number
from chainrule.errors import UserError, unknown_value
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.functional.batches import IMAGE, SIGNAL, VOLUME, shown
from chainrule.nn.functional.sizes import Padding, Size, ends, faces, padding_numbers, pair, sides, single, triple
from chainrule.nn.module import Module, layer_name
from chainrule.tensor import Parameter, Tensor

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


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
        padding_mode: str,
        dtype: Any,
    ) -> None:
        super().__init__()
        layer = type(self).__name__
        if padding_mode not in PADDING_MODES:
            raise unknown_value("padding_mode", padding_mode, PADDING_MODES)
        self.padding_mode = padding_mode
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
        """Raise a UserError unless ``x`` has the channels, and the axes but for that of the batch, which may be missing."""
        axes = (SIGNAL, IMAGE, VOLUME)[self.spatial_axes - 1]
        if x.ndim not in (len(axes), len(axes) - 1):
            raise UserError(f"{layer_name(self)} needs an input {shown(axes)} or {shown(axes[1:])}, got shape {x.shape}")
        first = x.ndim - self.spatial_axes - 1
        if x.shape[first] == self.in_channels:
            return
        if x.shape[-1] == self.in_channels:
            order = (*range(first), x.ndim - 1, *range(first, x.ndim - 1))
            place = "second axis" if first else "first axis"
            raise UserError(
                f"{layer_name(self)} got shape {x.shape} with in_channels={self.in_channels}: the channels seem to come "
                f"last, but they are the {place}, {shown(axes[1 - first :])}: pass x.transpose{order}"
            )
        several = f", or x.expand_dims(1) if these are {x.shape[0]} inputs of one channel" if self.in_channels == 1 else ""
        raise UserError(
            f"{layer_name(self)} got shape {x.shape} with {x.shape[first]} channels, but in_channels={self.in_channels}: "
            f"pass in_channels={x.shape[first]}, or an input of {self.in_channels} channels{'' if first else several}"
        )

    def extra_repr(self) -> str:
        """Channels, kernel size and stride, and those other arguments that differ from their defaults."""
        facts = [str(self.in_channels), str(self.out_channels), f"kernel_size={self.kernel_size}", f"stride={self.stride}"]
        facts += [f"padding={self.padding}"] if self.padding not in (0, "valid") else []
        facts += [f"dilation={self.dilation}"] if self.dilation != 1 else []
        facts += [f"groups={self.groups}"] if self.groups != 1 else []
        facts += ["bias=False"] if self.bias is None else []
        facts += [f"padding_mode={self.padding_mode!r}"] if self.padding_mode != "zeros" else []
        return ", ".join(facts)


class Conv2d(_Convolution):
    """Filters that slide over an image: (N, in_channels, H, W) -> (N, out_channels, OH, OW).

    ``weight`` (out_channels, in_channels / groups, KH, KW), ``bias`` (out_channels). ``padding``: a number,
    (height, width), ((top, bottom), (left, right)), 'same' or 'valid'. With groups = in_channels, each channel has filters of
    its own: a depthwise convolution. ``padding_mode`` says what the border is made of: "zeros", or, as in ``F.pad``, "reflect",
    "replicate" or "circular". An image without a batch axis, (C, H, W), is taken too.
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
        padding_mode: str = "zeros",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, in_channels, H, W) -> (N, out_channels, OH, OW); a UserError for any other axes or channels."""
        self._check(x)
        if self.padding_mode != "zeros":
            stride, dilation = pair("stride", self.stride), pair("dilation", self.dilation)
            (top, bottom), (left, right) = sides(self.padding, pair("kernel_size", self.kernel_size), stride, dilation)
            bordered = F.pad(x, (left, right, top, bottom), self.padding_mode)
            return F.conv2d(bordered, self.weight, self.bias, stride, 0, dilation, self.groups)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv1d(_Convolution):
    """Filters that slide along a signal: (N, in_channels, L) -> (N, out_channels, OL).

    ``weight`` (out_channels, in_channels / groups, K), ``bias`` (out_channels). ``padding``: a number, 'same' or 'valid'.
    ``padding_mode`` says what the border is made of, as in ``Conv2d``.
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
        padding_mode: str = "zeros",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, in_channels, L) -> (N, out_channels, OL); a UserError for any other axes or channels."""
        self._check(x)
        if self.padding_mode != "zeros":
            stride, dilation = single("stride", self.stride, 1), single("dilation", self.dilation, 1)
            bordered = F.pad(x, ends(self.padding, self.kernel_size[0], stride, dilation), self.padding_mode)
            return F.conv1d(bordered, self.weight, self.bias, stride, 0, dilation, self.groups)
        return F.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv3d(_Convolution):
    """Filters that slide through a volume: (N, in_channels, D, H, W) -> (N, out_channels, OD, OH, OW).

    ``weight`` (out_channels, in_channels / groups, KD, KH, KW), ``bias`` (out_channels). ``padding``: a number, (depth, height,
    width), 'same' or 'valid'. ``padding_mode`` says what the border is made of, as in ``Conv2d``.
    """

    spatial_axes = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: int | str | Sequence[int] = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, in_channels, D, H, W) -> (N, out_channels, OD, OH, OW); a UserError for any other axes or channels."""
        self._check(x)
        if self.padding_mode != "zeros":
            stride, dilation = triple("stride", self.stride), triple("dilation", self.dilation)
            depth, height, width = faces(self.padding, self.kernel_size, stride, dilation)
            bordered = F.pad(x, (*width, *height, *depth), self.padding_mode)
            return F.conv3d(bordered, self.weight, self.bias, stride, 0, dilation, self.groups)
        return F.conv3d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


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
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, "zeros", dtype)
        self.output_padding = size_for_axes("ConvTranspose2d: output_padding", output_padding, 2, 0)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, in_channels, H, W) -> (N, out_channels, OH, OW); a UserError for any other axes or channels."""
        self._check(x)
        return F.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


class ConvTranspose1d(_Convolution):
    """The input gradient of a convolution along a signal, as a layer: (N, in_channels, L) -> (N, out_channels, OL).

    ``weight`` (in_channels, out_channels / groups, K). OL = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1.
    """

    spatial_axes = 1
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, "zeros", dtype)
        self.output_padding = size_for_axes("ConvTranspose1d: output_padding", output_padding, 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, in_channels, L) -> (N, out_channels, OL); a UserError for any other axes or channels."""
        self._check(x)
        return F.conv_transpose1d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )
