"""Transforms tiles of images: each tile d of some rows of tiles becomes M d M^T.

Channels are processed in chunks, each in two passes: a vertical pass from the rows of the image to a *strip*, which is padded
with zeros on the left and right, and a horizontal pass from the strip to *planes*, one for each frequency. Where tiles overlap,
the vertical pass transforms their pixels only once. The strip stays in the L1 cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from chainrule.cpu.codegen.emit import Function, Module, Value, emitted_once, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES
from chainrule.cpu.kernels.geometry import Pair
from chainrule.cpu.kernels.winograd.tiling import LINE_BYTES, Tiling, itemsize, padded, plane_elements
from chainrule.cpu.kernels.winograd.transforms import Matrix, transform

_STRIP_BYTES = 18 * 1024
"""The most bytes of a strip, if it has more channels than a cache line."""


@dataclass(frozen=True)
class TileTransform:
    """The transform of the tiles of images (N, height, width, channels) by a matrix M.

    Attributes:
        name: distinguishes the functions of several transforms in a module.
        tiling: the number and the distance of the tiles.
        matrix: M, which transforms the pixels that a tile reads along an axis to frequencies.
        size: the size (height, width) of the images.
        border: the pixels of padding (above, left) that the first tile reads before the image begins.
        pixel: the channels of the images.
        channels: the most channels that are transformed at a time; planes are (tile, channel).
        tiles: the tiles that a plane has room for.
        target: the processor.
        dtype: the dtype of images and planes.
        single: whether only a single vertical frequency is computed, which the caller names.
    """

    name: str
    tiling: Tiling
    matrix: Matrix
    size: Pair
    border: Pair
    pixel: int
    channels: int
    tiles: int
    target: Target
    dtype: str
    single: bool = False

    @property
    def element(self) -> str:
        """The LLVM type of an element."""
        return LLVM_TYPES[self.dtype]

    @property
    def lanes(self) -> int:
        """The elements of a vector."""
        return self.target.lanes(itemsize(self.dtype))

    @property
    def frequencies(self) -> int:
        """The number of frequencies along an axis."""
        return len(self.matrix)

    @property
    def seen(self) -> int:
        """The pixels that a tile reads along an axis."""
        return len(self.matrix[0])

    @property
    def pitch(self) -> int:
        """Elements of a plane from one tile to the next."""
        return plane_elements(padded(self.channels, self.lanes), self.dtype)

    @property
    def plane(self) -> int:
        """Elements from one plane to the next."""
        return plane_elements(self.tiles * self.pitch, self.dtype)

    @property
    def vertical_frequencies(self) -> int:
        """The number of vertical frequencies that are computed."""
        return 1 if self.single else self.frequencies

    @property
    def nbytes(self) -> int:
        """The bytes of all planes, which lie as (vertical frequency, horizontal frequency)."""
        return self.vertical_frequencies * self.frequencies * self.plane * itemsize(self.dtype)

    # ---- scratch memory: the strip (vertical frequency, pixel, channel of the chunk), then a row of zeros

    @cached_property
    def strip_width(self) -> int:
        """The pixels of the strip: all that a row of tiles reads."""
        return self.tiling.side * (self.tiling.columns - 1) + self.seen

    @cached_property
    def chunk(self) -> int:
        """The channels of a chunk: whole cache lines."""
        line = LINE_BYTES // itemsize(self.dtype)
        line_bytes = self.vertical_frequencies * self.strip_width * LINE_BYTES
        return min(padded(self.channels, line), max(1, _STRIP_BYTES // line_bytes) * line)

    @property
    def strip_plane(self) -> int:
        """Elements of the strip from one vertical frequency to the next."""
        return plane_elements(self.strip_width * self.chunk, self.dtype)

    @property
    def strip_bytes(self) -> int:
        """The bytes of the strip."""
        return self.vertical_frequencies * self.strip_plane * itemsize(self.dtype)

    @property
    def scratch_bytes(self) -> int:
        """The bytes of scratch memory."""
        return self.strip_bytes + padded(self.size[1] * self.pixel * itemsize(self.dtype), LINE_BYTES)

    # ---- code

    def emit_clear(self, f: Function, scratch: Value) -> None:
        """Emit the zeros of the strip's padding and of the row of zeros; needed once in a call, before the first transform."""
        f.call(
            "llvm.memset.p0.i64", "void", scratch, f.number(0, "i8"), f.index(self.scratch_bytes), f.number(0, "i1")
        )  # fmt: skip

    def emit(self, module: Module) -> None:
        """Define transform_NAME(images, planes, strip, zeros, begin, end, count, plane, frequency).

        It transforms the rows of tiles ``begin`` to ``end`` (excluded), and ``count`` channels; ``images`` is the address of
        the first of these in the first pixel. From one plane to the next are ``plane`` elements. ``frequency`` is the vertical
        frequency to compute, if single.
        """
        _emit_rows(module, replace(self, tiling=replace(self.tiling, batch=0), tiles=0))  # the code is the same for all

    def call(
        self,
        f: Function,
        images: Value,
        planes: Value,
        scratch: Value,
        rows: tuple[Value, Value],
        count: int | Value,
        plane: Value,
        frequency: int | Value = 0,
    ) -> None:
        """Emit a call of transform_NAME, for ``rows`` of tiles (from, to) and ``count`` channels.

        ``planes`` has ``nbytes`` bytes, ``plane`` elements from one plane to the next; ``scratch`` has ``scratch_bytes`` bytes
        and was cleared by ``emit_clear``.
        """
        zeros = f.at(scratch, self.strip_bytes, "i8")
        f.call(
            f"transform_{self.name}", "void", images, planes, scratch, zeros, *rows, f.index(count), plane, f.index(frequency)
        )  # fmt: skip


@emitted_once
def _emit_rows(module: Module, tiles: TileTransform) -> None:
    """Define transform_NAME (see ``TileTransform.emit``); it depends neither on the number of images nor on ``tiles.tiles``."""
    rows = _emit_vertical(module, tiles)
    _emit_horizontal(module, tiles)
    tiling, size, element = tiles.tiling, tiles.size, tiles.element
    parameters = [("ptr noalias readonly", "images"), ("ptr noalias", "planes"), ("ptr noalias", "strip")]
    parameters += [("ptr noalias readonly", "zeros"), ("i64", "begin"), ("i64", "end"), ("i64", "count")]
    parameters += [("i64", "plane"), ("i64", "frequency")]
    f = module.function(f"transform_{tiles.name}", parameters, internal=True, inline=False)
    table = f.variable(f"[{rows} x ptr]").place
    with f.loop(f["begin"], f["end"]) as row:
        image, line = row // tiling.rows, f.index(f.index(row % tiling.rows) * tiling.side)
        place = f.at(f["planes"], f.index((row - f["begin"]) * (tiling.columns * tiles.pitch)), element)
        for i in range(rows):
            offset: int | Value = i
            if tiles.single:
                taps = f.at(Value(f, f"@{tiles.name}_taps", "ptr"), f.index(f["frequency"] * rows), "i64")
                offset = f.load(f.at(taps, i, "i64"), "i64")
            y = line + offset - tiles.border[0]
            source_row = f.index(image * size[0]) + y
            source = f.at(f["images"], f.index(source_row * (size[1] * tiles.pixel)), element)
            source = f.select(f.compare("ult", y, size[0]), source, f["zeros"])
            f.store(source, f.at(table, i, "ptr"))
        with f.loop(0, f["count"], tiles.chunk) as channel:
            left = f.index(f.least(f["count"] - channel, tiles.chunk))
            f.call(f"vertical_{tiles.name}", "void", table, f["strip"], channel, left, f["frequency"])
            f.call(f"horizontal_{tiles.name}", "void", f["strip"], f.at(place, channel, element), left, f["plane"])


def _emit_vertical(module: Module, tiles: TileTransform) -> int:
    """Define vertical_NAME(rows, strip, first, count, frequency), which computes M d for each column of pixels.

    ``rows`` is a table of the addresses of rows of pixels, whose channels from ``first`` to ``first + count`` are read. Returns
    the number of these rows: for a single frequency, rows whose factor is 0 are left out.
    """
    parameters = [("ptr noalias readonly", "rows"), ("ptr noalias", "strip"), ("i64", "first"), ("i64", "count")]
    f = module.function(f"vertical_{tiles.name}", [*parameters, ("i64", "frequency")], internal=True, inline=False)
    element, type_ = tiles.element, vector(tiles.lanes, tiles.element)
    rows, factors = tiles.seen, []
    if tiles.single:
        rows = _emit_taps(module, tiles)
        table = f.at(Value(f, f"@{tiles.name}_factors", "ptr"), f.index(f["frequency"] * rows), element)
        factors = [f.broadcast(f.at(table, i, element), type_) for i in range(rows)]
    sources = [f.at(f.load(f.at(f["rows"], i, "ptr"), "ptr"), f["first"], element) for i in range(rows)]

    def step(x: Value, channel: Value, mask: Value | None) -> None:
        place = f.index(x * tiles.pixel) + channel
        addresses = [f.at(source, place, element) for source in sources]
        values = [f.masked_load(p, mask, type_) if mask else f.load(p, type_) for p in addresses]
        start = f.at(f["strip"], f.index((x + tiles.border[1]) * tiles.chunk) + channel, element)
        for i, value in enumerate(_weighted(f, factors, values) if tiles.single else transform(f, tiles.matrix, values)):
            f.store(value, f.at(start, i * tiles.strip_plane, element))

    whole = f["count"] - f.index(f["count"] % tiles.lanes)
    mask = f.lane_mask(f["count"] - whole, tiles.lanes)
    with f.loop(0, min(tiles.size[1], tiles.strip_width - tiles.border[1])) as x:
        with f.loop(0, whole, tiles.lanes) as channel:
            step(x, channel, None)
        if tiles.pixel % tiles.lanes or tiles.channels % tiles.lanes:
            with f.when(f.compare("slt", whole, f["count"])):
                step(x, whole, mask)
    return rows


def _emit_taps(module: Module, tiles: TileTransform) -> int:
    """Define tables of the rows and factors of each vertical frequency, padded to the same length; returns that length."""
    taps = [[(i, factor) for i, factor in enumerate(row) if factor] for row in tiles.matrix]
    length = max(len(row) for row in taps)
    filled = [row + [(row[0][0], Fraction(0))] * (length - len(row)) for row in taps]
    module.constant(f"{tiles.name}_taps", "i64", [i for row in filled for i, _ in row])
    module.constant(f"{tiles.name}_factors", tiles.element, [float(factor) for row in filled for _, factor in row])
    return length


def _weighted(f: Function, factors: Sequence[Value], values: Sequence[Value]) -> list[Value]:
    """Emit the sum of ``values`` times ``factors``; returns it as the only element of a list."""
    total = f.op(f"fmul {values[0].type} {factors[0].text}, {values[0].text}", values[0].type)
    for factor, value in zip(factors[1:], values[1:], strict=True):
        total = f.multiply_add(factor, value, total)
    return [total]


def _emit_horizontal(module: Module, tiles: TileTransform) -> None:
    """Define horizontal_NAME(strip, planes, count, plane), which computes (M d) M^T for a row of tiles, in vectors of channels.

    From one plane to the next are ``plane`` elements.
    """
    parameters = [("ptr noalias readonly", "strip"), ("ptr noalias", "planes"), ("i64", "count"), ("i64", "plane")]
    f = module.function(f"horizontal_{tiles.name}", parameters, internal=True, inline=False)
    element, type_, step = tiles.element, vector(tiles.lanes, tiles.element), tiles.tiling.side * tiles.chunk
    with f.loop(0, tiles.vertical_frequencies) as i, f.loop(0, tiles.tiling.columns) as tile:
        source = f.at(f["strip"], f.index(i * tiles.strip_plane) + f.index(tile * step), element)
        first_plane = f.index(i * tiles.frequencies)
        places = [
            f.at(f["planes"], f.index((first_plane + j) * f["plane"]) + f.index(tile * tiles.pitch), element)
            for j in range(tiles.frequencies)
        ]
        with f.loop(0, f["count"], tiles.lanes) as channel:
            start = f.at(source, channel, element)
            values = [f.load(f.at(start, j * tiles.chunk, element), type_) for j in range(tiles.seen)]
            for place, value in zip(places, transform(f, tiles.matrix, values), strict=True):
                f.store(value, f.at(place, channel, element))


def image_transform(
    tiling: Tiling, target: Target, dtype: str, tiles: int, matrix: Matrix, single: bool = False
) -> TileTransform:
    """Return the transform of the tiling's source, with all channels."""
    return TileTransform(
        "image", tiling, matrix, tiling.source, tiling.border, tiling.channels, tiling.channels, tiles, target, dtype, single
    )  # fmt: skip
