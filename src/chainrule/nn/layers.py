"""Layers without normalisation: linear, convolution, pooling, dropout, activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.arguments import real_number, size_for_axes, whole_number
from chainrule.errors import UserError
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.module import Module, layer_name
from chainrule.tensor import Parameter, Tensor


def _empty(shape: tuple[int, ...], dtype: Any) -> Parameter:
    return Parameter.zeros(shape, dtype)


class Identity(Module):
    """Returns its input unchanged; arguments to the constructor are ignored, as in PyTorch."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        return x


class Linear(Module):
    """The affine map x W^T + b: (..., in_features) -> (..., out_features). ``weight`` (out, in), ``bias`` (out)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = "float32") -> None:
        super().__init__()
        self.in_features = whole_number("Linear: in_features", in_features, 1)
        self.out_features = whole_number("Linear: out_features", out_features, 1)
        self.weight = _empty((self.out_features, self.in_features), dtype)
        self.bias = _empty((self.out_features,), dtype) if bias else None
        init.default_(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., in_features) -> (..., out_features); a UserError if the last axis has another size."""
        if not x.ndim or x.shape[-1] != self.in_features:
            if not x.ndim:
                raise UserError(
                    f"{layer_name(self)} got a single number: it needs {self.in_features} features on the last axis"
                )
            have = x.shape[-1]
            flat = int(np.prod(x.shape[1:]))
            hint = " or put a Flatten before it" if x.ndim > 2 and flat == self.in_features else ""
            raise UserError(
                f"{layer_name(self)} got shape {x.shape} with {have} features on the last axis, "
                f"but in_features={self.in_features}: pass in_features={have}{hint}"
            )
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The number of features in and out, and whether there is a bias."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class _Convolution(Module):
    """Base of the convolutions: arguments, parameters, the check of the input's axes and channels."""

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
        self.padding = F.padding_numbers(layer, padding, self.spatial_axes, by_name=not self.transposed)
        channels = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        self.weight = _empty((*channels, *kernel), dtype)
        self.bias = _empty((out_channels,), dtype) if bias else None
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
        kernel_size: F.Size,
        stride: F.Size = 1,
        padding: F.Padding = 0,
        dilation: F.Size = 1,
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
        kernel_size: F.Size,
        stride: F.Size = 1,
        padding: F.Size = 0,
        output_padding: F.Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: F.Size = 1,
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


class _Pool(Module):
    """Base of the pooling layers with a window: kernel size, stride (by default the kernel size) and padding."""

    def __init__(self, kernel_size: F.Size, stride: F.Size | None, padding: F.Size) -> None:
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
        kernel_size: F.Size,
        stride: F.Size | None = None,
        padding: F.Size = 0,
        dilation: F.Size = 1,
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
        kernel_size: F.Size,
        stride: F.Size | None = None,
        padding: F.Size = 0,
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

    def __init__(self, output_size: F.Size | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        self.output_size = F.adaptive_size(output_size)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) -> (N, C, *output_size)."""
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        """The output size, as a single number if both axes have the same."""
        height, width = self.output_size
        return f"output_size={height if height == width else self.output_size}"


class Dropout(Module):
    """In training, zeroes each element with probability p and divides the others by 1 - p; after ``eval()``, does nothing.

    ``inplace`` is accepted and has no effect: tensors are immutable.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= real_number("Dropout: p", p) <= 1:
            raise UserError(f"Dropout: p must be a probability, 0 to 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape, with elements dropped in training; ``x`` itself after ``eval()``."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability ``p``."""
        return f"p={self.p}"


class Flatten(Module):
    """Joins the axes ``start_dim`` to ``end_dim`` into a single axis: (N, C, H, W) -> (N, C H W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = whole_number("Flatten: start_dim", start_dim)
        self.end_dim = whole_number("Flatten: end_dim", end_dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with the axes ``start_dim`` to ``end_dim`` joined; a UserError if it lacks these axes."""
        return F.flatten(x, self.start_dim, self.end_dim)


class ReLU(Module):
    """max(0, x); the gradient at 0 is 0. ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.relu(x)


class ReLU6(Module):
    """min(6, max(0, x)). ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.relu6(x)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope x. ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = real_number("LeakyReLU: negative_slope", negative_slope)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """The negative slope."""
        return f"negative_slope={self.negative_slope}"


class Sigmoid(Module):
    """1 / (1 + e^-x), between 0 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.sigmoid(x)


class Tanh(Module):
    """(e^x - e^-x) / (e^x + e^-x), between -1 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.tanh(x)


class GELU(Module):
    """x Phi(x), Phi the normal distribution function; ``approximate='tanh'`` for the approximation by tanh.

    Hendrycks and Gimpel, "Gaussian error linear units" (2016).
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """Which formula is used."""
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x sigmoid(x). ``inplace`` is accepted and has no effect: tensors are immutable."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape."""
        return F.silu(x)


class Softmax(Module):
    """e^x / sum e^x along the axis ``dim``."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = whole_number("Softmax: dim", dim)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape -> the same shape; sums to 1 along ``dim``."""
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"
