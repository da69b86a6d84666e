"""Pooling: the largest element or the mean of windows of an image (N, C, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.arguments import whole_number
from chainrule.errors import UserError
from chainrule.graph import leaf
from chainrule.graph.dtypes import is_float
from chainrule.nn.conversion import on_tensors
from chainrule.nn.functional.sizes import Pair, Size, pair
from chainrule.tensor import Tensor


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

    The padding never counts as the largest element. ``ceil_mode`` adds a window for remaining elements at the end of an axis.
    """
    window, steps, border, dilated = _pool_geometry(x, kernel_size, stride, padding, dilation, ceil_mode)
    return Tensor(ops.max_pool2d(x.node, window=window, stride=steps, padding=border, dilation=dilated))


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
    with ops.precision("float32"):  # a mean, so not rounded to bfloat16, which is for contractions with weights only
        across = x @ Tensor(leaf(columns.T.astype(x.dtype)))
        return (across.swapaxes(2, 3) @ Tensor(leaf(rows.T.astype(x.dtype)))).swapaxes(2, 3)


def adaptive_size(output_size: Any) -> tuple[int | None, int | None]:
    """The output size of adaptive pooling as (height, width); None keeps the size of an axis."""
    is_pair = isinstance(output_size, Sequence | np.ndarray) and not isinstance(output_size, str) and np.ndim(output_size) == 1
    asked = tuple(output_size) if is_pair else (output_size, output_size)
    if len(asked) != 2:
        raise UserError(
            f"adaptive_avg_pool2d: output_size must be a whole number or a pair (height, width), got {output_size!r}"
        )
    height, width = (None if size is None else whole_number("adaptive_avg_pool2d: output_size", size, 1) for size in asked)
    return height, width


def _pool_geometry(
    x: Tensor, kernel_size: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
) -> tuple[Pair, Pair, tuple[Pair, Pair], Pair]:
    """Window, stride, padding as ((top, bottom), (left, right)), and dilation. ``ceil_mode`` is expressed as more padding."""
    window, dilated, border = pair("kernel_size", kernel_size), pair("dilation", dilation), pair("padding", padding, 0)
    steps = window if stride is None else pair("stride", stride)
    if x.ndim != 4:
        raise UserError(f"pooling: needs an image (N, C, H, W), got {x.shape}")
    if any(2 * side > size for side, size in zip(border, window, strict=True)):
        raise UserError(f"pooling: padding {border} must be at most half of kernel_size {window}")
    borders = []
    for i in (0, 1):
        after = border[i]
        if ceil_mode:  # one more window for the remaining elements, unless it would begin beyond the image
            size, reach = x.shape[2 + i] + 2 * border[i], dilated[i] * (window[i] - 1) + 1
            places = -(-(size - reach) // steps[i]) + 1
            if (places - 1) * steps[i] >= x.shape[2 + i] + border[i]:
                places -= 1
            after += max(0, (places - 1) * steps[i] + reach - size)
        borders.append((border[i], after))
    return window, steps, (borders[0], borders[1]), dilated


def _counts(size: int, places: int, window: int, stride: int, padding: int, include_padding: bool) -> Any:
    """The number of elements along an axis that each window averages over: (places)."""
    begin = np.arange(places) * stride - padding
    first, last = (-padding, size + padding) if include_padding else (0, size)
    return np.minimum(begin + window, last) - np.maximum(begin, first)


def _averages(size: int, places: int) -> Any:
    """A matrix (places, size) whose row i has the weights of the mean over window i."""
    matrix = np.zeros((places, size))
    for i in range(places):
        begin, end = i * size // places, -(-(i + 1) * size // places)
        matrix[i, begin:end] = 1 / (end - begin)
    return matrix
