"""The geometry of a convolution or a pooling on images (N, H, W, C): sizes, strides, paddings in one place."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """``image`` (H, W) with ``channels``, ``output`` (OH, OW) with ``filters``; per axis (height, width) kernel, stride,
    padding as (before, after), dilation. Filter o sees the channels of its group only."""

    batch: int
    channels: int
    filters: int
    image: Pair
    output: Pair
    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def channels_per_group(self) -> int:
        return self.channels // self.groups

    @property
    def filters_per_group(self) -> int:
        return self.filters // self.groups

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.channels and self.channels_per_group == 1

    @property
    def multiply_adds(self) -> int:
        """Of one pass, forward or either gradient, counted as a direct convolution."""
        window = self.kernel[0] * self.kernel[1] * self.channels_per_group
        return self.batch * self.output[0] * self.output[1] * self.filters * window
