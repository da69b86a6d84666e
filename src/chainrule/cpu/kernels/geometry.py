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
        """Of one pass, forward or either gradient, counted as a direct convolution of the padded image."""
        window = self.kernel[0] * self.kernel[1] * self.channels_per_group
        return self.batch * self.output[0] * self.output[1] * self.filters * window

    @property
    def multiply_adds_inside(self) -> int:
        """Those of them whose pixel lies in the image: the others multiply zeros of the padding, and may be left out."""
        return self.batch * len(self._inside(0)) * len(self._inside(1)) * self.filters * self.channels_per_group

    @property
    def unseen(self) -> int:
        """Numbers of the images that no tap of any output pixel reads, as where the stride is wider than the window."""
        seen = len(set(self._inside(0))) * len(set(self._inside(1)))
        return self.batch * self.channels * (self.image[0] * self.image[1] - seen)

    def _inside(self, axis: int) -> list[int]:
        """Along an axis, what every tap of every output pixel reads of the image."""
        stride, before, dilation, size = self.stride[axis], self.padding[axis][0], self.dilation[axis], self.image[axis]
        places = (o * stride - before + k * dilation for o in range(self.output[axis]) for k in range(self.kernel[axis]))
        return [place for place in places if 0 <= place < size]
