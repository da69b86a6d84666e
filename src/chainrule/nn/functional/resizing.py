"""Images and signals of another size: interpolation, and pixels made of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.arguments import as_whole, as_whole_numbers, flag, real_number, whole_number
from chainrule.errors import UserError, unknown_value
from chainrule.graph import Array, leaf
from chainrule.graph.dtypes import is_float
from chainrule.nn.conversion import on_tensors
from chainrule.nn.functional.batches import IMAGE, SIGNAL, shown
from chainrule.nn.functional.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d
from chainrule.tensor import Tensor

MODES = {"nearest": (1, 2), "nearest-exact": (1, 2), "linear": (1,), "bilinear": (2,), "bicubic": (2,), "area": (1, 2)}
"""The modes of interpolation, and the numbers of axes that each is for."""

Factor = float | Sequence[float]


@on_tensors
def interpolate(
    x: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: Factor | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """``x`` with other sizes: (N, C, H, W) -> (N, C, *size), or (N, C, L) -> (N, C, size).

    Either ``size`` or ``scale_factor`` is given, a number for all axes or one for each; a size is floor(factor size of x).
    ``mode``: "nearest", "nearest-exact" (which rounds as other libraries do), "linear" for signals, "bilinear" and "bicubic"
    for images, or "area", which is adaptive average pooling. Pixels are squares whose corners meet those of the result; with
    ``align_corners`` they are points, of which the outermost meet. The distance between the points that are read is 1 / factor,
    or, with ``recompute_scale_factor`` or a ``size``, the quotient of the sizes. Keys, "Cubic convolution interpolation for
    digital image processing" (1981), with a = -3/4.
    """
    axes = x.ndim - 2
    if axes not in (1, 2):
        raise UserError(f"interpolate: needs an image {shown(IMAGE)} or a signal {shown(SIGNAL)}, got {x.shape}")
    check_mode("interpolate", mode, align_corners)
    if axes not in MODES[mode]:
        fitting = ", ".join(name for name, fits in MODES.items() if axes in fits)
        raise UserError(f"interpolate: mode={mode!r} is not for {x.shape}: choose one of {fitting}")
    sizes, steps = _sizes(x, size, scale_factor, bool(recompute_scale_factor))
    if mode == "area":
        return adaptive_avg_pool2d(x, sizes) if axes == 2 else adaptive_avg_pool1d(x, sizes)
    if mode.startswith("nearest"):
        return _nearest(x, sizes, steps, mode == "nearest-exact")
    if not is_float(x.dtype):
        raise UserError(f"interpolate: mode={mode!r} needs a float, got {x.node.type}: cast to float32 first")
    for axis in reversed(range(2, x.ndim)):
        have, want = x.shape[axis], sizes[axis - 2]
        if have != want or steps[axis - 2] != 1:
            weigh = _cubic if mode == "bicubic" else _linear
            x = _weighed_sum(x, axis, *weigh(have, _points(have, want, steps[axis - 2], bool(align_corners))))
    return x


def check_mode(name: str, mode: str, align_corners: bool | None) -> None:
    """Raise a UserError, which begins with ``name``, for an unknown mode and for one that has no corners to align."""
    if mode not in MODES:
        raise unknown_value("mode", mode, MODES)
    if align_corners is None:
        return
    flag(f"{name}: align_corners", align_corners)
    if "linear" not in mode and mode != "bicubic":
        raise UserError(f"{name}: align_corners is for mode='linear', 'bilinear' or 'bicubic', leave it out for {mode!r}")


def size_or_factor(name: str, size: Any, scale_factor: Any, axes: int | None) -> tuple[Any, Any]:
    """The size and the factor as Python's numbers, one of them None; for ``axes`` axes, if their number is known.

    Raises:
        UserError: both or neither are given, or they are no positive numbers; the message begins with ``name``.
    """
    if (size is None) is (scale_factor is None):
        raise UserError(f"{name}: give either size or scale_factor, got {size!r} and {scale_factor!r}")
    if size is not None:
        single = as_whole(size)
        sizes = as_whole_numbers(size) if single is None else (single,)
        if sizes is None or not sizes or min(sizes) < 1 or (single is None and axes not in (None, len(sizes))):
            raise UserError(f"{name}: size must be a whole number of at least 1, or one for each axis, got {size!r}")
        return (sizes if single is None else single), None
    several = (
        isinstance(scale_factor, Sequence | np.ndarray) and not isinstance(scale_factor, str) and np.ndim(scale_factor) == 1
    )
    factors = tuple(real_number(f"{name}: scale_factor", one) for one in (scale_factor if several else [scale_factor]))
    if not factors or (several and axes not in (None, len(factors))) or not all(0 < one < math.inf for one in factors):
        raise UserError(f"{name}: scale_factor must be a positive number, or one for each axis, got {scale_factor!r}")
    return None, (factors if several else factors[0])


def _sizes(x: Tensor, size: Any, scale_factor: Any, recompute: bool) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """For each axis of the image, the size of the result, and the distance of the points that are read, in elements of x."""
    have = x.shape[2:]
    size, factor = size_or_factor("interpolate", size, scale_factor, len(have))
    if recompute and factor is None:
        raise UserError("interpolate: recompute_scale_factor belongs to scale_factor: leave it out with size")
    if factor is None:
        sizes = size if isinstance(size, tuple) else (size,) * len(have)
        return sizes, tuple(old / new for old, new in zip(have, sizes, strict=True))
    factors = factor if isinstance(factor, tuple) else (factor,) * len(have)
    sizes = tuple(math.floor(old * one) for old, one in zip(have, factors, strict=True))
    if min(sizes) < 1 or min(have) < 1:
        raise UserError(
            f"interpolate: scale_factor={scale_factor} leaves {sizes} of {x.shape}, which is empty: use a larger one"
        )
    steps = (old / new if recompute else 1 / one for old, new, one in zip(have, sizes, factors, strict=True))
    return sizes, tuple(steps)


def _nearest(x: Tensor, sizes: tuple[int, ...], steps: tuple[float, ...], exact: bool) -> Tensor:
    """Each element of the result is one of x."""
    times = [want // have for want, have in zip(sizes, x.shape[2:], strict=True)]
    repeated = [
        want == have * n and step * n == 1 for want, have, n, step in zip(sizes, x.shape[2:], times, steps, strict=True)
    ]
    if all(repeated):  # each element several times in a row: no indices, and a gradient that is a sum
        with_ones, with_copies = list(x.shape[:2]), list(x.shape[:2])
        for have, n in zip(x.shape[2:], times, strict=True):
            with_ones += [have, 1]
            with_copies += [have, n]
        return x.reshape(with_ones).broadcast_to(with_copies).reshape(*x.shape[:2], *sizes)
    for axis, (want, step) in enumerate(zip(sizes, steps, strict=True), 2):
        have = x.shape[axis]
        places = np.floor((np.arange(want) + (0.5 if exact else 0.0)) * step + 1e-9)  # a step of 1/49, 49 times, is less than 1
        x = _taken(x, axis, np.minimum(places, have - 1))
    return x


def _points(have: int, want: int, step: float, align_corners: bool) -> Array:
    """Where in x each element of the result lies: 0 is its first element, have - 1 its last."""
    if align_corners:
        return np.arange(want) * ((have - 1) / (want - 1) if want > 1 else 0.0)
    return (np.arange(want) + 0.5) * step - 0.5


def _linear(have: int, points: Array) -> tuple[list[Array], list[Array]]:
    """The two elements of x around each point, and their weights."""
    points = np.maximum(points, 0)
    first = np.minimum(np.floor(points), have - 1)
    share = np.minimum(points - first, 1)
    return [first, np.minimum(first + 1, have - 1)], [1 - share, share]


def _cubic(have: int, points: Array) -> tuple[list[Array], list[Array]]:
    """The four elements of x around each point, those at the edge repeated, and their weights."""
    a = -0.75

    def near(t: Array) -> Array:  # up to a distance of 1
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: Array) -> Array:  # from 1 to 2
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    first = np.floor(points)
    share = points - first
    places = [np.clip(first + i, 0, have - 1) for i in (-1, 0, 1, 2)]
    return places, [far(share + 1), near(share), near(1 - share), far(2 - share)]


def _weighed_sum(x: Tensor, axis: int, places: list[Array], weights: list[Array]) -> Tensor:
    """The sum of the elements at ``places`` along an axis, times their weights."""
    shape = [-1 if i == axis else 1 for i in range(axis, x.ndim)]
    parts = [
        _taken(x, axis, place) * Tensor(leaf(weight.reshape(shape).astype(x.dtype)))
        for place, weight in zip(places, weights, strict=True)
    ]
    return sum(parts[1:], start=parts[0])


def _taken(x: Tensor, axis: int, places: Array) -> Tensor:
    return Tensor(ops.gather(x.node, leaf(places.astype(np.int64)), axis=axis))


@on_tensors
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """Squares of pixels made of channels: (..., C r^2, H, W) -> (..., C, H r, W r), with r the ``upscale_factor``.

    Shi and others, "Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural
    network" (2016).
    """
    r = whole_number("pixel_shuffle: upscale_factor", upscale_factor, 1)
    if x.ndim < 3 or x.shape[-3] % (r * r):
        raise UserError(f"pixel_shuffle: needs (..., C {r}^2, H, W), channels that divide into {r * r} each, got {x.shape}")
    *lead, channels, height, width = x.shape
    apart, n = x.reshape(*lead, channels // (r * r), r, r, height, width), len(lead)
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return apart.transpose(order).reshape(*lead, channels // (r * r), height * r, width * r)


@on_tensors
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """Channels made of squares of pixels, the inverse of ``pixel_shuffle``: (..., C, H r, W r) -> (..., C r^2, H, W)."""
    r = whole_number("pixel_unshuffle: downscale_factor", downscale_factor, 1)
    if x.ndim < 3 or x.shape[-2] % r or x.shape[-1] % r:
        raise UserError(f"pixel_unshuffle: needs (..., C, H {r}, W {r}), sizes that divide into {r}, got {x.shape}")
    *lead, channels, height, width = x.shape
    apart, n = x.reshape(*lead, channels, height // r, r, width // r, r), len(lead)
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return apart.transpose(order).reshape(*lead, channels * r * r, height // r, width // r)
