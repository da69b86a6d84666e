"""Geometry of a window that slides over an image: output sizes, padding, and views of the patches.

Shared by convolution and pooling. A geometry gives kernel, stride, padding (before, after) and dilation for height and width.
Output size: Dumoulin and Visin, "A guide to convolution arithmetic" (2016), relationship 15:
floor((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.lib.stride_tricks import as_strided

from chainrule.errors import UserError
from chainrule.graph.node import Array

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def output_size(size: int, kernel: int, stride: int, padding: Pair, dilation: int) -> int:
    """Number of positions of the window along an axis; zero or less if it does not fit even once."""
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def output_sizes(name: str, image: tuple[int, ...], kernel: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Pair:
    """Height and width of the output; a UserError, which shows the calculation, if the window does not fit."""
    for option, pair in (("kernel_size", kernel), ("stride", stride), ("dilation", dilation)):
        if min(pair) < 1:
            raise UserError(f"{name}: {option} must be at least 1 on both axes, got {pair}")
    if min(min(pair) for pair in padding) < 0:
        raise UserError(f"{name}: padding must not be negative, got {padding}")
    sizes = []
    for axis, word in enumerate(("height", "width")):
        size, k, s, p, d = image[axis], kernel[axis], stride[axis], padding[axis], dilation[axis]
        out = output_size(size, k, s, p, d)
        if out < 1:
            reach = d * (k - 1) + 1
            raise UserError(
                f"{name}: a window of {reach} (kernel {k}, dilation {d}) does not fit the {word} {size} + padding "
                f"{p[0]} + {p[1]} = {size + sum(p)}: enlarge the image or padding, or choose a smaller kernel_size"
            )
        sizes.append(out)
    return sizes[0], sizes[1]


def padded(x: Array, padding: Padding, value: float = 0.0) -> Array:
    """``x`` (N, C, H, W) surrounded by a border of ``value``; ``x`` itself if there is no padding."""
    if padding == ((0, 0), (0, 0)):
        return x
    (top, bottom), (left, right) = padding
    n, c, h, w = x.shape
    out = np.full((n, c, top + h + bottom, left + w + right), value, dtype=x.dtype)
    out[:, :, top : top + h, left : left + w] = x
    return out


def patches(x: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """View (N, C, kernel height, kernel width, output height, output width) of a padded image (N, C, H, W)."""
    n, c, h, w = x.shape
    out_h, out_w = (output_size(size, kernel[i], stride[i], (0, 0), dilation[i]) for i, size in enumerate((h, w)))
    sn, sc, sh, sw = x.strides
    strides = (sn, sc, sh * dilation[0], sw * dilation[1], sh * stride[0], sw * stride[1])
    return as_strided(x, (n, c, *kernel, out_h, out_w), strides, writeable=False)


def taps(x: Array, kernel: Pair, stride: Pair, dilation: Pair, out: Pair) -> list[Array]:
    """For each tap (element of the window), in row-major order, the elements of ``x`` that it meets.

    Each is a view (N, C, output height, output width).
    """
    return [
        x[:, :, i * dilation[0] :, j * dilation[1] :][
            :, :, : (out[0] - 1) * stride[0] + 1 : stride[0], : (out[1] - 1) * stride[1] + 1 : stride[1]
        ]
        for i, j in product(range(kernel[0]), range(kernel[1]))
    ]


def cropped(x: Array, padding: Padding) -> Array:
    """A view of ``x`` (N, C, H, W) without its border: the inverse of ``padded``."""
    (top, bottom), (left, right) = padding
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]
