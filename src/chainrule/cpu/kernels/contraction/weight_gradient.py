"""Kernels of the gradients of a convolution's weight: products of image and upstream gradient, summed over pixels.

    out[o, c, tap] = sum over pixels of upstream[pixel, o] * image[pixel * stride + tap, c]

In the tile, rows are (tap, channel), columns are filters and k counts pixels. A unit computes a block of filters times a block
of channels, summed over all pixels or over a chunk of them. Loop order: blocks of pixels (copy the image's rows into a padded
strip, pack the upstream gradient into panels), panels of filters, tiles of rows. Sums lie as (channel, tap, filter) and are
transposed at the end. If there are several chunks, a second kernel adds up their sums, in order, so results do not depend on
the number of threads. If a unit has many blocks of pixels, some blocks at a time are summed up separately, so that rounding
errors do not grow with the number of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value, emitted_once, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, KernelStep, KernelSteps
from chainrule.cpu.kernels.contraction.correlation import Correlation, forward
from chainrule.cpu.kernels.contraction.strip import Strip, whole_lines
from chainrule.cpu.kernels.contraction.tile import Panels, Tile, emit_sweep, tile_rows
from chainrule.cpu.kernels.contraction.turn import turn_sums
from chainrule.cpu.kernels.edges import load_columns
from chainrule.cpu.kernels.geometry import Geometry

_SUM_BYTES = 160 * 1024  # the most bytes of the sums of a unit, which stay in the L2 cache
_CHANNELS = 256  # the most channels of a unit
_PANEL_BYTES = 6 * 1024  # the size of a panel of upstream gradients, which stays in the L1 cache with a column of the strip
_WANTED_UNITS = 8
_BLOCKS_IN_A_ROW = 64
"""The most blocks of pixels that are added to the same sums, before these are added to the sums of the unit."""


def weight_gradient(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """Return the kernels of the gradient of a convolution's weight.

    Their operands are "image" (N, H, W, C), "upstream" (N, OH, OW, O) and "out" (O, C/groups, KH, KW).
    """
    nest = _Nest(geometry, target, dtype)
    signature = f"{dtype} {geometry}"
    kernel = Kernel(
        "weight_gradient",
        signature,
        lambda target, name: _generate(_Nest(geometry, target, dtype), name),
        nest.units,
        nest.scratch_bytes,
        operations=2 * geometry.multiply_adds_inside,
        bytes=nest.itemsize * (nest.traffic - geometry.unseen),
    )
    aligned = geometry.groups == 1 or nest.panels.columns % nest.filters == 0
    if nest.chunks == 1:
        rows = nest.filters if nest.channel_blocks == 1 and aligned else None
        return KernelSteps([KernelStep(kernel, ("image", "upstream", "out"), rows)])
    lanes = nest.panels.lanes
    adding = Kernel(
        "weight_gradient_sum",
        signature,
        lambda target, name: _generate_sum(_Nest(geometry, target, dtype), name),
        geometry.groups * -(-nest.panels.columns // lanes),
        bytes=nest.itemsize * (nest.chunks + 1) * nest.sums,
    )
    rows = lanes if geometry.groups == 1 or nest.panels.columns % lanes == 0 else None
    steps = [KernelStep(kernel, ("image", "upstream", "sums")), KernelStep(adding, ("sums", "out"), rows)]
    return KernelSteps(steps, {"sums": nest.chunks * nest.sums * nest.itemsize})


@dataclass(frozen=True)
class _Nest:
    """How a weight gradient is divided into blocks for a target, and the scratch memory that it needs."""

    geometry: Geometry
    target: Target
    dtype: str

    @property
    def element(self) -> str:
        return LLVM_TYPES[self.dtype]

    @property
    def itemsize(self) -> int:
        return SIZES[self.element]

    @cached_property
    def correlation(self) -> Correlation:
        """The convolution whose weight it is."""
        return forward(self.geometry)

    @cached_property
    def panels(self) -> Panels:
        return Panels(self.geometry.filters_per_group, self.target.lanes(self.itemsize))

    @cached_property
    def tile_rows(self) -> int:
        return tile_rows(self.target, self.panels.vectors)

    # ---- blocks of filters and of channels

    @cached_property
    def unit_panels(self) -> int:
        """The panels of filters of a unit."""
        most = 256 if self.correlation.window == 1 else 64  # not too few, as each block of filters copies the image again
        blocks = -(-self.panels.count // max(1, most // self.panels.width))
        return -(-self.panels.count // blocks)

    @property
    def filters(self) -> int:
        """The filters of a unit; also elements from one row of its sums to the next."""
        return self.unit_panels * self.panels.width

    @property
    def filter_blocks(self) -> int:
        return -(-self.panels.count // self.unit_panels)

    @cached_property
    def channels(self) -> int:
        """The channels of a unit."""
        correlation = self.correlation
        most = max(1, _SUM_BYTES // (correlation.window * self.filters * self.itemsize))
        blocks = -(-correlation.channels // min(most, _CHANNELS))
        even = next((count for count in range(blocks, 2 * blocks) if correlation.channels % count == 0), blocks)
        return -(-correlation.channels // even)

    @property
    def channel_blocks(self) -> int:
        return -(-self.correlation.channels // self.channels)

    @property
    def blocks(self) -> int:
        """The number of units for each chunk of pixels."""
        return self.correlation.groups * self.filter_blocks * self.channel_blocks

    @property
    def unit_sums(self) -> int:
        """Elements of the sums of a unit: (channel, tap, filter)."""
        return self.channels * self.correlation.window * self.filters

    @property
    def sums(self) -> int:
        """Elements of the sums of a chunk: (group, filter block, channel block, channel, tap, filter)."""
        return self.blocks * self.unit_sums

    # ---- blocks and chunks of pixels: both are of whole rows of the output, counted through all images

    @property
    def output_rows(self) -> int:
        return self.correlation.batch * self.correlation.output[0]

    @cached_property
    def block_rows(self) -> int:
        pixels = _PANEL_BYTES // (self.panels.width * self.itemsize)
        return min(self.output_rows, max(1, round(pixels / self.correlation.output[1])))

    @cached_property
    def chunk_rows(self) -> int:
        blocks = -(-self.output_rows // self.block_rows)
        chunks = min(blocks, -(-_WANTED_UNITS // self.blocks))
        return -(-blocks // chunks) * self.block_rows

    @property
    def chunks(self) -> int:
        return -(-self.output_rows // self.chunk_rows)

    @property
    def is_long(self) -> bool:
        """Whether a unit has so many blocks that some at a time are summed up separately."""
        return self.chunk_rows > _BLOCKS_IN_A_ROW * self.block_rows

    @property
    def units(self) -> int:
        return self.chunks * self.blocks

    @property
    def traffic(self) -> int:
        """The elements of image, upstream gradient and weight."""
        geometry = self.geometry
        image = geometry.image[0] * geometry.image[1] * geometry.channels
        upstream = geometry.output[0] * geometry.output[1] * geometry.filters
        return geometry.batch * (image + upstream) + self.correlation.window * self.correlation.channels * geometry.filters

    # ---- scratch: the strip, the packed upstream gradient, the sums (if there is a single chunk), the separate sums of some
    # blocks (if there are many), the addresses of the rows that tiles read, the addresses of the rows that they write, segments

    @property
    def packs(self) -> bool:
        """Whether the upstream gradient is packed. If the filters fill exactly one panel, it lies as a panel already."""
        return self.panels.columns != self.panels.width or self.correlation.groups > 1

    @cached_property
    def strip(self) -> Strip:
        """The strip of the image.

        Its pixels are an odd number of cache lines apart, as otherwise those of a channel would fall into few sets of the L1
        cache.
        """
        line = 64 // self.itemsize
        pitch = self.channels if self.channels < line else line * (-(-self.channels // line) | 1)
        kernel, stride = self.geometry.kernel, self.geometry.stride
        steps = (stride[0] if kernel[0] == 1 else 1, stride[1] if kernel[1] == 1 else 1)
        return Strip(self.correlation, self.element, pitch, steps)

    @cached_property
    def strip_bytes(self) -> int:
        rows, total = self.block_rows, self.output_rows
        return self.strip.nbytes((first, min(first + rows, total) - 1) for first in range(0, total, rows))

    @property
    def packed_bytes(self) -> int:
        pixels = self.block_rows * self.correlation.output[1]
        return whole_lines(pixels * self.filters * self.itemsize) if self.packs else 0

    @property
    def sum_bytes(self) -> int:
        return whole_lines(self.unit_sums * self.itemsize) if self.chunks == 1 else 0

    @property
    def part_bytes(self) -> int:
        return whole_lines(self.unit_sums * self.itemsize) if self.is_long else 0

    @property
    def table_bytes(self) -> int:
        return 8 * (self.channels * self.correlation.window + self.tile_rows)

    @property
    def scratch_bytes(self) -> int:
        sums = self.sum_bytes + self.part_bytes
        return self.strip_bytes + self.packed_bytes + sums + 2 * self.table_bytes + 8 * self.block_rows


def _generate(nest: _Nest, name: str) -> Module:
    module = Module(nest.target.vector_bits, nest.target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    emission = _Emission(module, f, nest)
    with f.loop(f["begin"], f["end"]) as unit:
        emission.unit(unit)
    return module


class _Emission:
    """Emits the code of the kernel that computes the products."""

    def __init__(self, module: Module, f: Function, nest: _Nest) -> None:
        self.f, self.nest, self.correlation, self.element = f, nest, nest.correlation, nest.element
        self.image, self.upstream, self.out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(3))
        self.strip = f["scratch"]
        self.packed = f.at(self.strip, f.parameter(nest.strip_bytes), "i8")
        self.sums = f.at(self.packed, f.parameter(nest.packed_bytes) if nest.packs else 0, "i8")
        self.part = f.at(self.sums, nest.sum_bytes, "i8")
        self.rows = f.at(self.part, f.parameter(nest.part_bytes), "i8")
        self.places = f.at(self.rows, nest.table_bytes, "i8")
        self.segments = f.at(self.places, nest.table_bytes, "i8")
        # What follows from the number of images
        self.output_rows, self.chunk_rows = f.parameter(nest.output_rows), f.parameter(nest.chunk_rows)
        self.block_rows, self.is_long = f.parameter(nest.block_rows), f.compare("ne", f.parameter(int(nest.is_long)), 0)
        nest.strip.emit_copy(module)
        if nest.chunks == 1:
            turn_sums(module, self.element, nest.filters)
        panels = nest.panels
        if panels.full:
            self._sweep(module, "sweep", panels.vectors)
        if panels.rest:
            self._sweep(module, "sweep_rest", panels.rest_vectors)
        _add_part(module, self.element, nest.panels.lanes)
        if nest.packs:
            _pack_pixels(module, self.element, panels, self.correlation.output_channels)
        low, width = self.correlation.low, nest.strip.width
        taps = [(tap.row - low[0]) * width + tap.column - low[1] for tap in self.correlation.taps]
        module.constant("taps", "i64", [tap * nest.strip.pitch for tap in taps])

    def _sweep(self, module: Module, name: str, vectors: int) -> None:
        """Define the function that computes tiles for panels of so many vectors."""
        nest, lanes = self.nest, self.nest.panels.lanes
        tile = Tile(
            element=self.element,
            lanes=lanes,
            rows=nest.tile_rows,
            vectors=vectors,
            columns=vectors * lanes,
            step=nest.strip.advance[1] * nest.strip.pitch,
            b_step=vectors * lanes,
            length=self.correlation.output[1],
        )
        emit_sweep(module, name, tile)

    def unit(self, unit: Value) -> None:
        """Emit the work of a unit."""
        f, nest, correlation = self.f, self.nest, self.correlation
        chunk, block = unit // nest.blocks, f.index(unit % nest.blocks)
        channel_block, rest = f.index(block % nest.channel_blocks), block // nest.channel_blocks
        filter_block, group = f.index(rest % nest.filter_blocks), f.index(rest // nest.filter_blocks)
        first_channel = f.index(channel_block * nest.channels)
        channels = f.index(f.least(correlation.channels - first_channel, nest.channels))
        source = f.at(self.image, f.index(group * correlation.channels) + first_channel, self.element)
        sums = self.sums if nest.chunks == 1 else f.at(self.out, f.index(unit * nest.unit_sums), self.element)
        tiles = self._rows(channels, f.select(self.is_long, self.part, sums))
        first_panel = f.index(filter_block * nest.unit_panels)
        last_panel = f.index(f.least(first_panel + nest.unit_panels, nest.panels.count))
        first_filter = f.index(group * correlation.columns) + f.index(first_panel * nest.panels.width)
        upstream = f.at(self.upstream, first_filter, self.element)
        begin = f.index(chunk * self.chunk_rows)
        end = f.index(f.least(begin + self.chunk_rows, self.output_rows))
        numbers = f.index(channels * (correlation.window * nest.filters))
        with self._parts(begin, end, sums, numbers) as (since, until), f.loop(since, until, self.block_rows) as first:
            last = f.index(f.least(first + self.block_rows, end))
            strip_begin = self._segments(first, last)
            strip_end = nest.strip.first_row(f, last - 1) + (nest.strip.border_rows + 1)
            f.call("copy_rows", "void", source, self.strip, strip_begin, strip_end, channels)
            pixels = f.at(upstream, f.index(first * (correlation.output[1] * correlation.output_channels)), self.element)
            counts = (f.index((last - first) * correlation.output[1]), last - first)
            accumulate = f.compare("ne", first, since)
            self._panels(tiles, pixels, counts, (first_panel, last_panel), accumulate)
        if nest.chunks == 1:
            pitch = correlation.channels * correlation.window
            place = f.index(first_filter * pitch) + f.index(first_channel * correlation.window)
            filters = f.index(f.least(correlation.columns - f.index(first_panel * nest.panels.width), nest.filters))
            size = (f.index(channels * correlation.window), filters)
            f.call(
                "turn_sums", "void", sums, f.at(self.out, place, self.element), *size, f.index(pitch), f.index(1), f.index(0)
            )  # fmt: skip

    @contextmanager
    def _parts(self, begin: Value, end: Value, sums: Value, count: Value) -> Iterator[tuple[Value, Value]]:
        """Emit a loop over parts of the rows ``begin`` to ``end``, and add the sums of each part to ``sums``.

        Yields the first and last (excluded) row of a part. ``count`` is the number of sums. If the unit is not long, there is
        a single part, which writes to ``sums`` directly.
        """
        f = self.f
        length = f.select(self.is_long, f.index(self.block_rows * _BLOCKS_IN_A_ROW), end - begin)
        with f.loop(begin, end, length) as first:
            yield first, f.index(f.least(first + length, end))
            with f.when(self.is_long):
                f.call("add_part", "void", self.part, sums, count, f.compare("ne", first, begin))

    def _rows(self, channels: Value, sums: Value) -> Value:
        """List the addresses of the tiles' rows (tap, channel) in the strip and in ``sums``; returns the number of tiles.

        The last row is repeated until it fills its tile.
        """
        f, nest, correlation = self.f, self.nest, self.correlation
        with f.loop(0, correlation.window) as tap:
            row = f.at(self.strip, f.load(f.at(Value(f, "@taps", "ptr"), tap, "i64"), "i64"), self.element)
            with f.loop(0, channels) as channel:
                number = f.index(tap * channels) + channel
                place = f.index((f.index(channel * correlation.window) + tap) * nest.filters)
                f.store(f.at(row, channel, self.element), f.at(self.rows, number, "ptr"))
                f.store(f.at(sums, place, self.element), f.at(self.places, number, "ptr"))
        count = f.index(channels * correlation.window)
        tiles = (count + (nest.tile_rows - 1)) // nest.tile_rows
        for table in (self.rows, self.places):
            last = f.load(f.at(table, count - 1, "ptr"), "ptr")
            with f.loop(count, f.index(tiles * nest.tile_rows)) as i:
                f.store(last, f.at(table, i, "ptr"))
        return tiles

    def _segments(self, first: Value, last: Value) -> Value:
        """List the elements of the strip at which output rows ``first`` to ``last`` begin; returns the strip's first row."""
        f, strip = self.f, self.nest.strip
        begin = strip.first_row(f, first)
        with f.loop(first, last) as row:
            place = f.index((strip.first_row(f, row) - begin) * strip.row_elements)
            f.store(place, f.at(self.segments, row - first, "i64"))
        return begin

    def _panels(
        self,
        tiles: Value,
        pixels: Value,
        counts: tuple[Value, Value],
        span: tuple[Value, Value],
        accumulate: Value,
    ) -> None:
        """Pack a block of pixels and emit a loop over the panels ``span`` (from, to), which computes all tiles.

        ``pixels`` is the address of the upstream gradients, ``counts`` the number of pixels and of output rows.
        """
        f, nest, panels = self.f, self.nest, self.nest.panels
        count, rows = counts

        if nest.packs:
            f.call("pack_pixels", "void", pixels, self.packed, count, *span)

        def sweep(suffix: str, panel: Value) -> None:
            within = f.index((panel - span[0]) * panels.width)
            b = f.at(self.packed, f.index(within * count), self.element) if nest.packs else pixels
            tables = (self.segments, self.segments, self.segments, rows, accumulate)
            f.call(f"sweep{suffix}", "void", self.rows, self.places, tiles, b, f.index(0), within, *tables)

        if panels.full:
            with f.loop(span[0], f.least(span[1], panels.full)) as panel:
                sweep("", panel)
        if panels.rest:
            with f.when(f.compare("sgt", span[1], panels.full)):
                sweep("_rest", f.index(panels.full))


@emitted_once
def _pack_pixels(module: Module, element: str, panels: Panels, pitch: int) -> None:
    """Define pack_pixels(pixels, packed, count, first, last), which packs panels ``first`` to ``last`` of ``count`` pixels.

    ``pixels`` is the address of the first pixel's first filter of these panels, and ``pitch`` the elements of a pixel. The last
    panel is padded with zeros to whole vectors.
    """
    parameters = [("ptr noalias", "pixels"), ("ptr noalias", "packed"), ("i64", "count"), ("i64", "first"), ("i64", "last")]
    f = module.function("pack_pixels", parameters, internal=True, inline=False)
    lanes = panels.lanes

    def copy(pixel: Value, panel: Value, vectors: int, columns: int) -> None:
        within = f.index((panel - f["first"]) * panels.width)
        source = f.at(f.at(f["pixels"], f.index(pixel * pitch), element), within, element)
        place = f.at(f.at(f["packed"], f.index(within * f["count"]), element), f.index(pixel * (vectors * lanes)), element)
        for v in range(vectors):
            numbers = f.at(source, v * lanes, element)
            value = load_columns(f, numbers, vector(lanes, element), min(lanes, columns - v * lanes))
            f.store(value, f.at(place, v * lanes, element))

    with f.loop(0, f["count"]) as pixel:
        if panels.full:
            with f.loop(f["first"], f.least(f["last"], panels.full)) as panel:
                copy(pixel, panel, panels.vectors, panels.width)
        if panels.rest:
            with f.when(f.compare("sgt", f["last"], panels.full)):
                copy(pixel, f.index(panels.full), panels.rest_vectors, panels.rest)


@emitted_once
def _add_part(module: Module, element: str, lanes: int) -> None:
    """Define add_part(part, sums, count, accumulate), which copies ``part`` to ``sums``, or adds it there if ``accumulate``.

    Both have ``count`` elements, a multiple of ``lanes``.
    """
    parameters = [("ptr noalias", "part"), ("ptr noalias", "sums"), ("i64", "count"), ("i1", "accumulate")]
    f = module.function("add_part", parameters, internal=True, inline=False)
    type_ = vector(lanes, element)
    with f.loop(0, f["count"], lanes) as i:
        place = f.at(f["sums"], i, element)
        total = f.variable(type_, f.load(f.at(f["part"], i, element), type_))
        with f.when(f["accumulate"]):
            total.set(total.get() + f.load(place, type_))
        f.store(total.get(), place)


def _generate_sum(nest: _Nest, name: str) -> Module:
    """Generate the kernel that adds up the sums of all chunks and transposes them.

    Its operands are the sums and out. A unit is a vector of filters.
    """
    module = Module(nest.target.vector_bits, nest.target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    correlation, element, lanes = nest.correlation, nest.element, nest.panels.lanes
    turn_sums(module, element, nest.filters)
    sums, out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(2))
    chunks = f.parameter(nest.chunks), f.index(nest.sums)
    vectors, pitch = -(-correlation.columns // lanes), correlation.channels * correlation.window
    with f.loop(f["begin"], f["end"]) as unit, f.loop(0, nest.channel_blocks) as channel_block:
        group, first = f.index(unit // vectors), f.index(f.index(unit % vectors) * lanes)
        block = f.index(group * nest.filter_blocks) + first // nest.filters
        block = f.index(block * nest.channel_blocks) + channel_block
        source = f.at(sums, f.index(block * nest.unit_sums) + f.index(first % nest.filters), element)
        first_channel = f.index(channel_block * nest.channels)
        channels = f.index(f.least(correlation.channels - first_channel, nest.channels))
        place = f.index((f.index(group * correlation.columns) + first) * pitch) + f.index(first_channel * correlation.window)
        size = (f.index(channels * correlation.window), f.index(f.least(correlation.columns - first, lanes)))
        f.call("turn_sums", "void", source, f.at(out, place, element), *size, f.index(pitch), *chunks)
    return module
