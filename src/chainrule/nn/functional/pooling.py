"""Pooling: the largest element or the mean of windows of an image (N, C, H, W) or of a signal (N, C, L).

The batch axis may be missing, as in PyTorch: (C, H, W) and (C, L) are taken too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.arguments import whole_number
from chainrule.errors import UserError
from chainrule.graph import leaf
from chainrule.graph.dtypes import is_float
from chainrule.nn.conversion import on_tensors
from chainrule.nn.functional.batches import IMAGE, SIGNAL, on_batch
from chainrule.nn.functional.sizes import Pair, Size, pair, single
from chainrule.tensor import Tensor

OutputSize = int | Sequence[int | None] | None


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

    def pooled(images: Tensor) -> Tensor:
        window, steps, border, dilated = _geometry(images, kernel_size, stride, padding, dilation, ceil_mode)
        return Tensor(ops.max_pool2d(images.node, window=window, stride=steps, padding=border, dilation=dilated))

    return on_batch("max_pool2d", x, IMAGE, pooled)


@on_tensors
def max_pool1d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest element of each window of a signal: (N, C, L) -> (N, C, OL). All else is as in ``max_pool2d``."""
    window, steps, border = _along_signal(kernel_size, stride, padding)
    dilated = (1, single("dilation", dilation, 1))
    return on_batch(
        "max_pool1d", x, SIGNAL, lambda signals: _on_rows(signals, max_pool2d, window, steps, border, dilated, ceil_mode)
    )


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

    def pooled(images: Tensor) -> Tensor:
        window, steps, border, _ = _geometry(images, kernel_size, stride, padding, 1, ceil_mode)
        if not is_float(images.dtype):
            raise UserError(f"avg_pool2d: needs a float, got {images.node.type}: cast to float32 first")
        total = Tensor(ops.sum_pool2d(images.node, window=window, stride=steps, padding=border))
        before = pair("padding", padding, 0)
        counts = [
            _counts(images.shape[2 + i], total.shape[2 + i], window[i], steps[i], before[i], count_include_pad) for i in (0, 1)
        ]
        per_window = np.outer(counts[0], counts[1])
        if (per_window == per_window[0, 0]).all():
            return total * (1.0 / float(per_window[0, 0]))
        return total * Tensor(leaf((1.0 / per_window).astype(images.dtype)))

    return on_batch("avg_pool2d", x, IMAGE, pooled)


@on_tensors
def avg_pool1d(
    x: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of a signal: (N, C, L) -> (N, C, OL). All else is as in ``avg_pool2d``."""
    window, steps, border = _along_signal(kernel_size, stride, padding)
    return on_batch(
        "avg_pool1d",
        x,
        SIGNAL,
        lambda signals: _on_rows(signals, avg_pool2d, window, steps, border, ceil_mode, count_include_pad),
    )


@on_tensors
def adaptive_avg_pool2d(x: Tensor, output_size: OutputSize) -> Tensor:
    """Average pooling to a given output size: (N, C, H, W) -> (N, C, *output_size). None keeps the size of an axis.

    Along each axis, window i of n covers the elements from floor(i size / n) up to, not including, ceil((i + 1) size / n).
    """
    return on_batch("adaptive_avg_pool2d", x, IMAGE, lambda images: _averaged(images, output_size))


def _averaged(x: Tensor, output_size: OutputSize) -> Tensor:
    height, width = _adaptive_sizes("adaptive_avg_pool2d", x, output_size)
    if (height, width) == (1, 1):
        return x.mean((2, 3), keepdims=True)
    rows, columns = _windows(x.shape[2], height), _windows(x.shape[3], width)
    steady = _steady(rows), _steady(columns)
    if steady[0] is not None and steady[1] is not None:
        return avg_pool2d(x, (steady[0][0], steady[1][0]), (steady[0][1], steady[1][1]))
    with ops.precision("float32"):  # a mean, so not rounded to bfloat16, which is for contractions with weights only
        across = x @ Tensor(leaf(_averages(x.shape[3], columns).T.astype(x.dtype)))
        return (across.swapaxes(2, 3) @ Tensor(leaf(_averages(x.shape[2], rows).T.astype(x.dtype)))).swapaxes(2, 3)


@on_tensors
def adaptive_avg_pool1d(x: Tensor, output_size: int | Sequence[int]) -> Tensor:
    """Average pooling of a signal to a given output size: (N, C, L) -> (N, C, output_size), by the windows of the 2d one."""
    size = single("adaptive_avg_pool1d: output_size", output_size, 1)
    return on_batch("adaptive_avg_pool1d", x, SIGNAL, lambda signals: _on_rows(signals, adaptive_avg_pool2d, (1, size)))


@on_tensors
def adaptive_max_pool2d(x: Tensor, output_size: OutputSize) -> Tensor:
    """The largest element of each window, to a given output size: (N, C, H, W) -> (N, C, *output_size).

    The windows are those of ``adaptive_avg_pool2d``; None keeps the size of an axis. The gradient goes to the first largest
    element of a window in row-major order.
    """
    return on_batch("adaptive_max_pool2d", x, IMAGE, lambda images: _largest(images, output_size))


def _largest(x: Tensor, output_size: OutputSize) -> Tensor:
    height, width = _adaptive_sizes("adaptive_max_pool2d", x, output_size)
    rows, columns = _windows(x.shape[2], height), _windows(x.shape[3], width)
    steady = _steady(rows), _steady(columns)
    if steady[0] is not None and steady[1] is not None:
        return max_pool2d(x, (steady[0][0], steady[1][0]), (steady[0][1], steady[1][1]))
    # along the width first, so that of equal elements the first in row-major order is found
    return _largest_along(2, _largest_along(3, x, columns), rows)


def _largest_along(axis: int, x: Tensor, windows: list[Pair]) -> Tensor:
    """The largest element of each window along an axis; shorter windows repeat their last element, which changes nothing."""
    longest = max(end - begin for begin, end in windows)
    places = np.array([[min(begin + i, end - 1) for i in range(longest)] for begin, end in windows])
    return Tensor(ops.gather(x.node, leaf(places), axis=axis)).max(axis + 1)


@on_tensors
def adaptive_max_pool1d(x: Tensor, output_size: int | Sequence[int]) -> Tensor:
    """The largest elements of windows of a signal, to a given output size: (N, C, L) -> (N, C, output_size)."""
    size = single("adaptive_max_pool1d: output_size", output_size, 1)
    return on_batch("adaptive_max_pool1d", x, SIGNAL, lambda signals: _on_rows(signals, adaptive_max_pool2d, (1, size)))


def adaptive_size(name: str, output_size: Any) -> tuple[int | None, int | None]:
    """The output size of adaptive pooling as (height, width); None keeps the size of an axis. A UserError names ``name``."""
    is_pair = isinstance(output_size, Sequence | np.ndarray) and not isinstance(output_size, str) and np.ndim(output_size) == 1
    asked = tuple(output_size) if is_pair else (output_size, output_size)
    if len(asked) != 2:
        raise UserError(f"{name}: output_size must be a whole number or a pair (height, width), got {output_size!r}")
    height, width = (None if size is None else whole_number(f"{name}: output_size", size, 1) for size in asked)
    return height, width


def _adaptive_sizes(name: str, x: Tensor, output_size: OutputSize) -> Pair:
    height, width = adaptive_size(name, output_size)
    if not is_float(x.dtype):
        raise UserError(f"{name}: needs a float, got {x.node.type}: cast to float32 first")
    return x.shape[2] if height is None else height, x.shape[3] if width is None else width


def _windows(size: int, places: int) -> list[Pair]:
    """Where each window of adaptive pooling along an axis begins and ends."""
    return [(i * size // places, -(-(i + 1) * size // places)) for i in range(places)]


def _steady(windows: list[Pair]) -> Pair | None:
    """(window, stride), if windows of one size that lie at equal distances are what they are; else None."""
    sizes = {end - begin for begin, end in windows}
    steps = {after[0] - before[0] for before, after in pairwise(windows)} or {1}
    return (min(sizes), min(steps)) if len(sizes) == len(steps) == 1 and min(*sizes, *steps) > 0 else None


def _averages(size: int, windows: list[Pair]) -> Any:
    """A matrix (places, size) whose row i has the weights of the mean over window i."""
    matrix = np.zeros((len(windows), size))
    for row, (begin, end) in zip(matrix, windows, strict=True):
        row[begin:end] = 1 / (end - begin)
    return matrix


def _along_signal(kernel_size: Size, stride: Size | None, padding: Size) -> tuple[Pair, Pair, Pair]:
    """Kernel size, stride and padding along a signal as those of an image of height 1."""
    window = single("kernel_size", kernel_size, 1)
    return (1, window), (1, window if stride is None else single("stride", stride, 1)), (0, single("padding", padding, 0))


def _on_rows(signals: Tensor, pool: Any, *arguments: Any) -> Tensor:
    """``pool`` on signals (N, C, L) as images of height 1."""
    pooled: Tensor = pool(signals.expand_dims(2), *arguments)
    return pooled.squeeze(2)


def _geometry(
    x: Tensor, kernel_size: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
) -> tuple[Pair, Pair, tuple[Pair, Pair], Pair]:
    """Window, stride, padding as ((top, bottom), (left, right)), and dilation. ``ceil_mode`` is expressed as more padding."""
    window, dilated, border = pair("kernel_size", kernel_size), pair("dilation", dilation), pair("padding", padding, 0)
    steps = window if stride is None else pair("stride", stride)
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
