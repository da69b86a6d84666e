"""Decides for which convolutions Winograd's algorithms pay."""

from __future__ import annotations

from chainrule.cpu.kernels.geometry import Geometry
from chainrule.cpu.kernels.winograd.tiling import Tiling, backward_tiling, forward_tiling

_MOST_PADDING = 2
_GAIN = 1.5
"""A direct convolution must take so many times as many operations, as it does more operations per second."""
_IMAGE, _OUTPUT, _WEIGHT = 6, 4, 11
"""The cost of each element of the transformed image, output and weight, in multiply-adds."""
_LARGE_WEIGHT, _LARGE_BYTES = 21, 4 << 20
"""The cost of each element of a transformed weight that no near cache holds, and the bytes from which on that is so."""


def suits(geometry: Geometry) -> bool:
    """Return whether these kernels can compute a convolution and both its gradients, and are faster than direct ones."""
    if geometry.kernel != (3, 3) or geometry.stride != (1, 1) or geometry.dilation != (1, 1) or geometry.groups != 1:
        return False
    if max(map(max, geometry.padding)) > _MOST_PADDING or min(geometry.padding[0] + geometry.padding[1]) < 0:
        return False
    if 0 in (geometry.batch, geometry.channels, geometry.filters, *geometry.image, *geometry.output):
        return False
    cost = max(_multiply_adds(forward_tiling(geometry)), _multiply_adds(backward_tiling(geometry)))
    return geometry.multiply_adds >= _GAIN * cost


def _multiply_adds(tiling: Tiling) -> float:
    """Return the multiply-adds of the products, plus the cost of the transforms."""
    pairs = tiling.channels * tiling.filters
    weight = _LARGE_WEIGHT if 4 * tiling.frequencies * pairs > _LARGE_BYTES else _WEIGHT
    transforms = tiling.tiles * (_IMAGE * tiling.channels + _OUTPUT * tiling.filters) + weight * pairs
    return tiling.frequencies * (tiling.tiles * pairs + transforms)
