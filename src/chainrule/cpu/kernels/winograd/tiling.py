"""Divides a convolution of 3 x 3 taps into tiles, and lays out memory for them."""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.cpu.codegen.emit import SIZES
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES
from chainrule.cpu.kernels.geometry import Geometry, Pair

LINE_BYTES = 64
"""Bytes of a cache line."""


@dataclass(frozen=True)
class Tiling:
    """A correlation of ``source`` (N, H, W, channels) with 3 x 3 taps at stride 1 to ``output`` (N, OH, OW, filters).

    Output pixel (y, x) reads the source pixels from (y - border[0], x - border[1]) on. Tiles have ``side`` x ``side`` output
    pixels and are counted row by row through all images. Tiles at the lower and right edge may reach beyond the output. Sizes
    are (height, width).
    """

    batch: int
    source: Pair
    channels: int
    output: Pair
    filters: int
    border: Pair
    side: int

    @property
    def span(self) -> int:
        """The source pixels that a tile reads along each axis."""
        return self.side + 2

    @property
    def frequencies(self) -> int:
        """The number of elements of a transformed tile."""
        return self.span * self.span

    @property
    def rows(self) -> int:
        """The rows of tiles of an image."""
        return -(-self.output[0] // self.side)

    @property
    def columns(self) -> int:
        """The tiles of a row."""
        return -(-self.output[1] // self.side)

    @property
    def tiles(self) -> int:
        """The tiles of all images."""
        return self.batch * self.rows * self.columns

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of the products, which are most of the work.

        For each frequency, a matrix (tiles, channels) is multiplied by a matrix (channels, filters).
        """
        return self.frequencies * self.tiles * self.channels * self.filters

    @property
    def elements(self) -> int:
        """The elements of source and output together."""
        source = self.source[0] * self.source[1] * self.channels
        return self.batch * (source + self.output[0] * self.output[1] * self.filters)


def forward_tiling(geometry: Geometry) -> Tiling:
    """Return the tiling of a convolution."""
    border = (geometry.padding[0][0], geometry.padding[1][0])
    return Tiling(
        geometry.batch,
        geometry.image,
        geometry.channels,
        geometry.output,
        geometry.filters,
        border,
        _side(geometry.output),
    )


def backward_tiling(geometry: Geometry) -> Tiling:
    """Return the tiling of the gradient of the image: the correlation of the upstream gradient with the flipped taps."""
    border = (2 - geometry.padding[0][0], 2 - geometry.padding[1][0])
    return Tiling(
        geometry.batch,
        geometry.output,
        geometry.filters,
        geometry.image,
        geometry.channels,
        border,
        _side(geometry.image),
    )


def _side(output: Pair) -> int:
    """Return the side of tiles, 2 or 4, that takes fewer products; if both take as many, 2, which is more accurate."""
    return min((2, 4), key=lambda side: (side + 2) ** 2 * -(-output[0] // side) * -(-output[1] // side))


def padded(count: int, to: int) -> int:
    """Round ``count`` up to a multiple of ``to``."""
    return -(-count // to) * to


def plane_elements(count: int, dtype: str) -> int:
    """Return the elements from one plane of ``count`` elements to the next.

    They are an odd number of cache lines, so that the same element of all planes does not fall into few sets of the cache.
    """
    line = LINE_BYTES // itemsize(dtype)
    return (-(-count // line) | 1) * line


def itemsize(dtype: str) -> int:
    """Return the bytes of an element of ``dtype``."""
    return SIZES[LLVM_TYPES[dtype]]


@dataclass(frozen=True)
class TiledNest:
    """How a kernel divides its work for a target. Subclasses add blocks and scratch memory."""

    tiling: Tiling
    target: Target
    dtype: str

    @property
    def itemsize(self) -> int:
        """The bytes of an element."""
        return itemsize(self.dtype)

    @property
    def element(self) -> str:
        """The LLVM type of an element."""
        return LLVM_TYPES[self.dtype]

    @property
    def lanes(self) -> int:
        """The elements of a vector."""
        return self.target.lanes(self.itemsize)
