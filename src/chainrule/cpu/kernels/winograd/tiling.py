"""How a convolution of 3 x 3 taps is cut into tiles, and how memory for tiles is laid out."""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.cpu.codegen.emit import SIZES
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES
from chainrule.cpu.kernels.geometry import Geometry, Pair

LINE_BYTES = 64


@dataclass(frozen=True)
class Tiling:
    """A correlation of ``source`` (N, H, W, channels) with 3 x 3 taps at stride 1 to ``output`` (N, OH, OW, filters).

    Output pixel (y, x) sees the source pixels from (y - border[0], x - border[1]) on. Tiles have ``side`` x ``side`` output
    pixels and are counted row by row through all images; those at the lower and right edge may reach beyond the output.
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
        """Source pixels that a tile sees along each axis."""
        return self.side + 2

    @property
    def frequencies(self) -> int:
        return self.span * self.span

    @property
    def rows(self) -> int:
        """Rows of tiles of one image."""
        return -(-self.output[0] // self.side)

    @property
    def columns(self) -> int:
        """Tiles of one row."""
        return -(-self.output[1] // self.side)

    @property
    def tiles(self) -> int:
        return self.batch * self.rows * self.columns

    @property
    def multiply_adds(self) -> int:
        """Of the products, which are nearly all of the work: for each frequency (tiles, channels) by (channels, filters)."""
        return self.frequencies * self.tiles * self.channels * self.filters

    @property
    def elements(self) -> int:
        """Of the source and the output."""
        source = self.source[0] * self.source[1] * self.channels
        return self.batch * (source + self.output[0] * self.output[1] * self.filters)


def forward_tiling(geometry: Geometry) -> Tiling:
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
    """The image's gradient is the correlation of the upstream gradient with the flipped taps."""
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
    """That of fewer products; if they are as many, the one with fewer frequencies, which is more accurate, too."""
    return min((2, 4), key=lambda side: (side + 2) ** 2 * -(-output[0] // side) * -(-output[1] // side))


def padded(count: int, to: int) -> int:
    """``count``, up to a whole multiple of ``to``."""
    return -(-count // to) * to


def plane_elements(count: int, dtype: str) -> int:
    """Elements from one plane of ``count`` elements to the next: an odd number of cache lines, so that the same place in
    all planes does not fall into the same few sets of the cache."""
    line = LINE_BYTES // itemsize(dtype)
    return (-(-count // line) | 1) * line


def itemsize(dtype: str) -> int:
    return SIZES[LLVM_TYPES[dtype]]


@dataclass(frozen=True)
class TiledNest:
    """What a kernel over tiles is for: which tiles, on which target, in which dtype."""

    tiling: Tiling
    target: Target
    dtype: str

    @property
    def itemsize(self) -> int:
        return itemsize(self.dtype)

    @property
    def element(self) -> str:
        return LLVM_TYPES[self.dtype]

    @property
    def lanes(self) -> int:
        return self.target.lanes(self.itemsize)
