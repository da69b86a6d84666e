"""Layers as functions: convolution, pooling, normalisation, activations. Losses are in ``losses`` and re-exported here.

Images are (N, C, H, W). A size that may differ by axis is a number for both, or a pair (height, width).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import ops
from chainrule.arguments import as_whole, as_whole_numbers, explained, real_number, shape_of, size_for_axes, whole_number
from chainrule.errors import UserError
from chainrule.graph import leaf
from chainrule.graph.dtypes import is_float, promote
from chainrule.habits import FUNCTIONAL, absent
from chainrule.nn.conversion import on_tensors, remark_on_dtype
from chainrule.nn.losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    log_softmax,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
    softmax,
)
from chainrule.ops import compose
from chainrule.ops.windows import output_sizes
from chainrule.tensor import Cell, Tensor, functions, random

__all__ = [
    "adaptive_avg_pool2d",
    "affine",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "flatten",
    "gelu",
    "group_norm",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "normalised",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "tanh",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise absent("module 'chainrule.nn.functional'", name, FUNCTIONAL)


Pair = tuple[int, int]
Size = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[tuple[int, int]]


def pair(name: str, size: Any, at_least: int = 1) -> Pair:
    """``size``, a number for both axes or a pair, as (height, width); a UserError names ``name`` if it is neither."""
    if type(size) is int and size >= at_least:
        return size, size
    sizes = size_for_axes(name, size, 2, at_least)
    return (sizes, sizes) if isinstance(sizes, int) else (sizes[0], sizes[1])


def sides(padding: Any, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """Padding as ((top, bottom), (left, right)), given as a number, a pair, a pair of pairs, 'valid' or 'same'."""
    if type(padding) is int and padding >= 0:
        return (padding, padding), (padding, padding)
    if isinstance(padding, str) and padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, str) and padding == "same":
        if stride != (1, 1):
            raise UserError(
                f"padding='same' keeps the size, which needs stride 1, got stride {stride}: give padding as numbers"
            )
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    numbers = padding_numbers("", padding, 2, by_name=True)
    if isinstance(numbers, int):
        return (numbers, numbers), (numbers, numbers)
    height, width = [(side, side) if isinstance(side, int) else side for side in numbers]
    return height, width


def padding_numbers(layer: str, padding: Any, axes: int, by_name: bool) -> Any:
    """A padding with Python integers: a number for all sides, a number per axis, or (before, after) per axis; or its name.

    Only ``by_name`` allows names and (before, after). A UserError names ``layer``.
    """
    what = f"{layer}: padding" if layer else "padding"
    if isinstance(padding, str):
        if by_name and padding in ("same", "valid"):
            return padding
        names = "'same', 'valid' or " if by_name else ""
        raise UserError(f"{what} must be {names}numbers, got {padding!r}")
    if by_name and axes == 2 and as_whole(padding) is None and isinstance(padding, Sequence | np.ndarray) and len(padding) == 2:
        height, width = as_whole_numbers(padding[0]), as_whole_numbers(padding[1])
        if height is not None and width is not None and len(height) == len(width) == 2 and min(*height, *width) >= 0:
            return height, width
    return size_for_axes(what, padding, axes, 0)


# ---- linear and convolution


@on_tensors
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The affine map x W^T + b: (..., in), weight (out, in), bias (out) -> (..., out)."""
    if weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        have = f"weight {weight.shape}" + ("" if bias is None else f" and bias {bias.shape}")
        raise UserError(f"linear: weight must be (out, in) and bias (out), got {have}")
    if x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise UserError(f"linear: weight {weight.shape} expects {weight.shape[1]} features on the last axis, got {x.shape}")
    if x.dtype is not weight.dtype:
        remark_on_dtype("linear", x, weight)
    product = x @ weight.T
    return product if bias is None else product + bias


@on_tensors
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation, which deep learning calls convolution: (N, C, H, W), (O, C / groups, KH, KW) -> (N, O, OH, OW).

    ``padding``: a number, (height, width), ((top, bottom), (left, right)), 'same' or 'valid'.
    """
    steps, spread = pair("stride", stride), pair("dilation", dilation)
    kernel = (weight.shape[2], weight.shape[3]) if weight.ndim == 4 else (1, 1)
    border, groups = sides(padding, kernel, steps, spread), whole_number("groups", groups, 1)
    image, filters = _contraction_operands("conv2d", x, weight)
    result = ops.conv2d(image, filters, stride=steps, padding=border, dilation=spread, groups=groups)
    return _with_bias(Tensor(result), bias)


@on_tensors
def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution along a single axis: (N, C, L), (O, C / groups, K) -> (N, O, OL); computed as an image of height 1."""
    if x.ndim != 3 or weight.ndim != 3:
        raise UserError(f"conv1d: needs a signal (N, C, L) and a weight (O, C / groups, K), got {x.shape} and {weight.shape}")
    step, spread = _single("stride", stride, 1), _single("dilation", dilation, 1)
    side = sides(
        padding if isinstance(padding, str) else _single("padding", padding, 0), (1, weight.shape[2]), (1, step), (1, spread)
    )
    result = conv2d(x.expand_dims(2), weight.expand_dims(2), bias, (1, step), ((0, 0), side[1]), (1, spread), groups)
    return result.squeeze(2)


def _single(name: str, size: Any, at_least: int) -> int:
    """A size for a single axis, given as a number or as a tuple that holds it."""
    sizes = size_for_axes(name, size, 1, at_least)
    return sizes if isinstance(sizes, int) else sizes[0]


@on_tensors
def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The input gradient of a convolution, as a layer: (N, C, H, W), (C, O / groups, KH, KW) -> (N, O, OH, OW).

    OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1.
    """
    steps, spread, border, extra = (
        pair("stride", stride),
        pair("dilation", dilation),
        pair("padding", padding, 0),
        pair("output_padding", output_padding, 0),
    )
    groups = whole_number("groups", groups, 1)
    if any(more >= max(step, wide) for more, step, wide in zip(extra, steps, spread, strict=True)):
        raise UserError(f"conv_transpose2d: output_padding {extra} must be smaller than stride {steps} or dilation {spread}")
    if x.ndim != 4 or weight.ndim != 4:
        raise UserError(
            "conv_transpose2d: needs an image (N, C, H, W) and a weight (C, O / groups, KH, KW), "
            f"got {x.shape} and {weight.shape}"
        )
    if x.shape[1] != weight.shape[0]:
        raise UserError(
            f"conv_transpose2d: weight {weight.shape} expects {weight.shape[0]} input channels, "
            f"the image {x.shape} has {x.shape[1]}"
        )
    if not is_float(promote(x.dtype, weight.dtype)):
        raise UserError(f"conv_transpose2d: needs floats, got {x.dtype} and {weight.dtype}: cast to float32 first")
    if x.shape[1] % groups:
        raise UserError(f"conv_transpose2d: {x.shape[1]} input channels do not divide into groups={groups}")
    size = [
        (x.shape[2 + i] - 1) * steps[i] - 2 * border[i] + spread[i] * (weight.shape[2 + i] - 1) + extra[i] + 1 for i in (0, 1)
    ]
    if min(size) < 1:
        raise UserError(f"conv_transpose2d: an output of {tuple(size)} is empty: use less padding, here {border}")
    edges = (border[0], border[0]), (border[1], border[1])
    places = output_sizes("conv_transpose2d", (size[0], size[1]), (weight.shape[2], weight.shape[3]), steps, edges, spread)
    beyond = [place - have for place, have in zip(places, x.shape[2:], strict=True)]
    image, filters = _contraction_operands("conv_transpose2d", x, weight)
    if any(beyond):  # an output_padding of at least the stride makes room for windows without an element of x: they get zeros
        image = ops.pad(image, low=(0,) * 4, high=(0, 0, *beyond), interior=(0,) * 4)
    result = ops.conv2d_input_gradient(
        image,
        filters,
        size=(size[0], size[1]),
        stride=steps,
        padding=edges,
        dilation=spread,
        groups=groups,
    )
    return _with_bias(Tensor(result), bias)


def _contraction_operands(name: str, x: Tensor, weight: Tensor) -> tuple[Any, Any]:
    if x.dtype is not weight.dtype:
        remark_on_dtype(name, x, weight)
    dtype = promote(x.dtype, weight.dtype)
    return ops.operand(compose.to_dtype(x.node, dtype)), ops.operand(compose.to_dtype(weight.node, dtype))


def _with_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    """``x`` (N, C, ...) plus ``bias`` (C)."""
    if bias is None:
        return x
    if bias.shape != (x.shape[1],):
        raise UserError(f"bias must have one number for each of the {x.shape[1]} output channels, got shape {bias.shape}")
    return x + bias.reshape(1, -1, *(1,) * (x.ndim - 2))


# ---- pooling


def _pool_geometry(
    x: Tensor, kernel_size: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
) -> tuple[Pair, Pair, tuple[Pair, Pair], Pair]:
    window, spread, border = pair("kernel_size", kernel_size), pair("dilation", dilation), pair("padding", padding, 0)
    steps = window if stride is None else pair("stride", stride)
    if x.ndim != 4:
        raise UserError(f"pooling: needs an image (N, C, H, W), got {x.shape}")
    if any(2 * side > size for side, size in zip(border, window, strict=True)):
        raise UserError(f"pooling: padding {border} must be at most half of kernel_size {window}")
    both = []
    for i in (0, 1):
        after = border[i]
        if ceil_mode:  # another window for elements that are left over, unless it would begin beyond the image
            size, reach = x.shape[2 + i] + 2 * border[i], spread[i] * (window[i] - 1) + 1
            places = -(-(size - reach) // steps[i]) + 1
            if (places - 1) * steps[i] >= x.shape[2 + i] + border[i]:
                places -= 1
            after += max(0, (places - 1) * steps[i] + reach - size)
        both.append((border[i], after))
    return window, steps, (both[0], both[1]), spread


@on_tensors
def max_pool2d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest element of each window: (N, C, H, W) -> (N, C, OH, OW). ``stride`` is ``kernel_size`` by default.

    The padding never counts as the largest element. ``ceil_mode`` adds a window for elements that would be left over.
    """
    window, steps, border, spread = _pool_geometry(x, kernel_size, stride, padding, dilation, ceil_mode)
    return Tensor(ops.max_pool2d(x.node, window=window, stride=steps, padding=border, dilation=spread))


@on_tensors
def avg_pool2d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW).

    ``count_include_pad`` counts the zeros of the padding as elements; those that ``ceil_mode`` adds never count.
    """
    window, steps, border, _ = _pool_geometry(x, kernel_size, stride, padding, 1, ceil_mode)
    if not is_float(x.dtype):
        raise UserError(f"avg_pool2d: needs a float, got {x.node.type}: cast to float32 first")
    total = Tensor(ops.sum_pool2d(x.node, window=window, stride=steps, padding=border))
    counts = [
        _counts(x.shape[2 + i], total.shape[2 + i], window[i], steps[i], pair("padding", padding, 0)[i], count_include_pad)
        for i in (0, 1)
    ]
    per_window = np.outer(counts[0], counts[1])
    if (per_window == per_window[0, 0]).all():
        return total * (1.0 / float(per_window[0, 0]))
    return total * Tensor(leaf((1.0 / per_window).astype(x.dtype)))


def _counts(size: int, places: int, window: int, stride: int, padding: int, include_padding: bool) -> Any:
    """How many elements along an axis each window averages over."""
    begin = np.arange(places) * stride - padding
    first, last = (-padding, size + padding) if include_padding else (0, size)
    return np.minimum(begin + window, last) - np.maximum(begin, first)


@on_tensors
def adaptive_avg_pool2d(x: Tensor, output_size: Size | tuple[int | None, int | None] | None) -> Tensor:
    """Average pooling to a given output size: (N, C, H, W) -> (N, C, *output_size). None keeps the size of an axis.

    Along each axis, window i of n covers the elements from floor(i size / n) up to, not including, ceil((i + 1) size / n).
    """
    if x.ndim != 4:
        raise UserError(f"adaptive_avg_pool2d: needs an image (N, C, H, W), got {x.shape}")
    height, width = (have if want is None else want for want, have in zip(adaptive_size(output_size), x.shape[2:], strict=True))
    if (height, width) == (1, 1):
        return x.mean((2, 3), keepdims=True)
    if x.shape[2] % height == 0 and x.shape[3] % width == 0:
        return avg_pool2d(x, (x.shape[2] // height, x.shape[3] // width))
    rows, columns = _averages(x.shape[2], height), _averages(x.shape[3], width)
    with ops.precision("float32"):  # as for other means: bfloat16 precision is for contractions with weights only
        across = x @ Tensor(leaf(columns.T.astype(x.dtype)))
        return (across.swapaxes(2, 3) @ Tensor(leaf(rows.T.astype(x.dtype)))).swapaxes(2, 3)


def adaptive_size(output_size: Any) -> tuple[int | None, int | None]:
    """The output size of adaptive pooling as (height, width); None keeps the size of an axis."""
    several = isinstance(output_size, Sequence | np.ndarray) and not isinstance(output_size, str) and np.ndim(output_size) == 1
    asked = tuple(output_size) if several else (output_size, output_size)
    if len(asked) != 2:
        raise UserError(
            f"adaptive_avg_pool2d: output_size must be a whole number or a pair (height, width), got {output_size!r}"
        )
    height, width = (None if size is None else whole_number("adaptive_avg_pool2d: output_size", size, 1) for size in asked)
    return height, width


def _averages(size: int, places: int) -> Any:
    """A matrix (places, size) whose row i averages over window i."""
    matrix = np.zeros((places, size))
    for i in range(places):
        begin, end = i * size // places, -(-(i + 1) * size // places)
        matrix[i, begin:end] = 1 / (end - begin)
    return matrix


# ---- normalisation


@explained
def normalised(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(variance + eps) over ``axes``; also the mean and the biased variance, where these axes have size 1.

    Where the squares overflow (in float32, for numbers beyond 1e19), the variance is infinite and the result nan.
    """
    mean = x.mean(axes, keepdims=True)
    apart = x - mean
    variance = (apart * apart).mean(axes, keepdims=True)
    return apart * _inverse_deviation(variance, eps), mean, variance


def _inverse_deviation(variance: Tensor, eps: float) -> Tensor:
    return Tensor(ops.inverse_deviation((variance + eps).node))


@explained
def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """x weight + bias, with both reshaped to ``shape``, which must broadcast against x; None leaves a step out."""
    if weight is not None:
        if x.dtype is not weight.dtype:
            remark_on_dtype("normalisation", x, weight)
        x = x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


@on_tensors
def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel by the running statistics; in training, or without them, by those of the batch.

    (N, C, ...) -> (N, C, ...). In training, the running statistics, which must be buffers, move by ``momentum`` towards those
    of the batch. Ioffe and Szegedy, "Batch normalization" (2015).
    """
    if x.ndim < 2:
        raise UserError(f"batch_norm: needs an input (N, C, ...), got {x.shape}")
    if isinstance(eps, bool):
        raise UserError(f"batch_norm: eps must be a number, got {eps!r}")
    if (running_mean is None) is not (running_var is None):
        raise UserError("batch_norm: pass both running_mean and running_var, or None for both")
    shape = (1, x.shape[1], *(1,) * (x.ndim - 2))
    for name, given in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
        if given is not None and given.shape != shape[1:2]:
            raise UserError(f"batch_norm: {name} must have one number for each of the {x.shape[1]} channels, got {given.shape}")
    if running_mean is None or running_var is None or training:
        result, mean, variance = normalised(x, (0, *range(2, x.ndim)), eps)
        if running_mean is not None and running_var is not None:
            track(running_mean, running_var, mean.reshape(-1), variance.reshape(-1), x.size // x.shape[1], momentum)
    else:
        result = (x - running_mean.reshape(shape)) * _inverse_deviation(running_var.reshape(shape), eps)
    return affine(result, weight, bias, shape)


def track(running_mean: Tensor, running_var: Tensor, mean: Tensor, variance: Tensor, count: int, share: Any) -> None:
    """Move running statistics by ``share`` towards those of a batch of ``count`` values per channel.

    ``variance`` is the biased one; the running variance gets the unbiased one, as in PyTorch.
    """
    if not isinstance(running_mean, Cell) or not isinstance(running_var, Cell):
        raise UserError(
            "batch_norm: in training the running statistics are assigned, which needs buffers: pass cr.Buffer(mean) and "
            "cr.Buffer(variance), or None for both, or training=False"
        )
    if count < 2:
        raise UserError("batch_norm: one value per channel has no variance to track: train on batches of at least 2")
    with functions.no_grad():
        running_mean.assign(running_mean * (1 - share) + mean.detach() * share)
        running_var.assign(running_var * (1 - share) + (variance * (count / (count - 1))).detach() * share)


@on_tensors
def layer_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each example over its last axes: (..., *normalized_shape) -> the same shape.

    Ba, Kiros and Hinton, "Layer normalization" (2016).
    """
    shape = shape_of("layer_norm: normalized_shape", normalized_shape)
    if x.shape[max(x.ndim - len(shape), 0) :] != shape:
        raise UserError(f"layer_norm: normalized_shape {shape} does not match the last axes of {x.shape}")
    result, _, _ = normalised(x, tuple(range(x.ndim - len(shape), x.ndim)), real_number("layer_norm: eps", eps))
    return affine(result, weight, bias, shape)


@on_tensors
def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each example over groups of channels: (N, C, ...) -> the same shape; weight and bias (C).

    Wu and He, "Group normalization" (2018).
    """
    if x.ndim < 2:
        raise UserError(f"group_norm: needs an input (N, C, ...), got {x.shape}")
    channels, num_groups = x.shape[1], whole_number("group_norm: num_groups", num_groups)
    if num_groups < 1 or channels % num_groups:
        raise UserError(f"group_norm: {channels} channels do not divide into num_groups={num_groups}")
    grouped = x.reshape(x.shape[0], num_groups, math.prod(x.shape[1:]) // num_groups)
    result, _, _ = normalised(grouped, (2,), real_number("group_norm: eps", eps))
    return affine(result.reshape(x.shape), weight, bias, (1, channels, *(1,) * (x.ndim - 2)))


# ---- activations


@on_tensors
def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """max(0, x). The gradient at 0 is 0. ``inplace``, here and elsewhere, has no effect: tensors are immutable."""
    return functions.maximum(0.0, x)


@on_tensors
def relu6(x: Tensor, inplace: bool = False) -> Tensor:
    """min(6, max(0, x)). The gradient at 0 and at 6 is 0."""
    return functions.minimum(6.0, relu(x))


@on_tensors
def leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope x. The gradient at 0 is negative_slope."""
    return functions.where(x > 0, x, x * negative_slope)


@on_tensors
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x), between 0 and 1."""
    return x.sigmoid()


@on_tensors
def tanh(x: Tensor) -> Tensor:
    """(e^x - e^-x) / (e^x + e^-x), between -1 and 1."""
    return x.tanh()


@on_tensors
def silu(x: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x)."""
    return x * x.sigmoid()


@on_tensors
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x), Phi the normal distribution function; approximate='tanh': x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Hendrycks and Gimpel, "Gaussian error linear units" (2016).
    """
    if approximate == "tanh":
        near = x.clip(-30.0, 30.0)  # beyond, the sigmoid is 0 or 1 in any dtype, and x^3 might overflow
        return x * ((near + near**3 * 0.044715) * (2 * math.sqrt(2 / math.pi))).sigmoid()  # (1 + tanh(t)) / 2 = sigmoid(2 t)
    if approximate != "none":
        raise UserError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return x * 0.5 * (x * -math.sqrt(0.5)).erfc()  # erfc, because 1 + erf would round to 0 for every x under -6


# ---- others


@on_tensors
def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, zero each element with probability p and divide the others by 1 - p; otherwise x itself.

    Srivastava and others, "Dropout" (2014).
    """
    if not 0 <= real_number("dropout: p", p) <= 1:
        raise UserError(f"dropout: p must be a probability, 0 to 1, got {p}")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    kept = random.uniform(x.shape, dtype="float32") >= p
    return functions.where(kept, x * (1 / (1 - p)), 0.0)


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
