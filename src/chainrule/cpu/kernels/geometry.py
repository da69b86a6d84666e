"""The geometry of a convolution on images (N, H, W, C): its sizes, strides and paddings."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """The sizes of a convolution. Pairs are (height, width).

    Attributes:
        batch: the number of images.
        channels: the channels of the image, of all groups together.
        filters: the channels of the output, of all groups together.
        image: the size of the image in pixels.
        output: the size of the output in pixels.
        kernel: the size of the window in taps.
        stride: pixels of the image from one window to the next.
        padding: for each axis the rows or columns of zeros (before, after) the image.
        dilation: pixels of the image from one tap to the next.
        groups: the number of groups; a filter sees only the channels of its group.
    """

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
        """Channels of the image that each filter sees."""
        return self.channels // self.groups

    @property
    def filters_per_group(self) -> int:
        """Filters that see the same channels."""
        return self.filters // self.groups

    @property
    def is_depthwise(self) -> bool:
        """Whether each filter sees a single channel."""
        return self.groups == self.channels and self.channels_per_group == 1

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of a direct convolution of the padded image.

        The gradients of image and weight take as many.
        """
        window = self.kernel[0] * self.kernel[1] * self.channels_per_group
        return self.batch * self.output[0] * self.output[1] * self.filters * window

    @property
    def multiply_adds_inside(self) -> int:
        """Those ``multiply_adds`` whose pixel lies in the image; the others multiply zeros of the padding."""
        return self.batch * len(self._inside(0)) * len(self._inside(1)) * self.filters * self.channels_per_group

    @property
    def unseen(self) -> int:
        """The elements of the images that no tap reads, as where the stride is wider than the window."""
        seen = len(set(self._inside(0))) * len(set(self._inside(1)))
        return self.batch * self.channels * (self.image[0] * self.image[1] - seen)

    def _inside(self, axis: int) -> list[int]:
        """Return the positions of the image that all taps of all output pixels read along an axis, once for each reading."""
        stride, before, dilation, size = self.stride[axis], self.padding[axis][0], self.dilation[axis], self.image[axis]
        places = (o * stride - before + k * dilation for o in range(self.output[axis]) for k in range(self.kernel[axis]))
        return [place for place in places if 0 <= place < size]
