"""Kernels of Winograd's gradient of the weight of a convolution of 3 x 3 taps at stride 1.

    out[o, c] = G^T [ sum over tiles of (B^T d B)[c] . (A y A^T)[o] ] G      d: tile of the image, y: of the upstream gradient

Usually there are two kernels. In the first, a unit computes the sums for a vertical frequency, all horizontal frequencies, a
block of filters and a chunk of the rows of tiles. Loop order: blocks of rows of tiles (transform the image and the upstream
gradient for this frequency), horizontal frequencies, panels of filters, register tiles of channels, tiles. So the data of a
unit stay in near caches, although each unit reads image and upstream gradient again. The second kernel adds up the sums of all
chunks, in order, and transforms them to taps. The division into units does not depend on the number of threads, and neither
does any bit of the result.

Where there are few tiles and many channels and filters, the sums would be much larger than all other data. Then there is a
single kernel: for each panel of a block of filters, a unit computes all sums over all tiles and transforms them to taps, so
that sums stay in the caches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from chainrule.cpu.codegen.emit import Function, Module, Value, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import Kernel, KernelStep, KernelSteps
from chainrule.cpu.kernels.contraction.tile import tile_rows
from chainrule.cpu.kernels.contraction.turn import turn_sums
from chainrule.cpu.kernels.geometry import Geometry
from chainrule.cpu.kernels.winograd.products import Product, emit_product
from chainrule.cpu.kernels.winograd.tile_transform import TileTransform, image_transform
from chainrule.cpu.kernels.winograd.tiling import LINE_BYTES, TiledNest, Tiling, forward_tiling, padded, plane_elements
from chainrule.cpu.kernels.winograd.transforms import A_T, B_T, G, transform, transposed
from chainrule.cpu.kernels.winograd.weight_transform import VECTORS

_TILES = 64
"""The approximate number of tiles in a block of rows of tiles."""
_FILTERS = 128
"""The most filters of a unit. It has as many as possible, as each block of filters transforms the image again."""
_CHUNK_BYTES = 8 << 20
"""The approximate bytes of image and upstream gradient in a chunk. Units of the same chunk follow each other, and find them in
the last cache."""
_MOST_CHUNKS = 8
_WANTED_UNITS = 8
_LARGE_BYTES, _MUCH = 4 << 20, 8
"""A single kernel is used if the sums are larger than the caches, and so many times as large as the transformed image, which
each thread then holds."""
_TAPS = 9
_TURN_CHANNELS = 8
"""Channels whose taps are transposed at a time, in a buffer that stays in the L1 cache."""


def weight_gradient(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """Return the kernels of the gradient of a convolution's weight.

    Their operands are "image" (N, H, W, C), "upstream" (N, OH, OW, O) and "out" (O, C, 3, 3).
    """
    nest = _Nest(forward_tiling(geometry), target, dtype)
    signature = f"{dtype} {nest.tiling} {nest.blocking}"
    if nest.blocking.fused:
        fused = Kernel(
            "winograd_weight_gradient_fused",
            signature,
            lambda target, name: _generate_fused(_Nest(nest.tiling, target, dtype), name),
            nest.filter_blocks,
            nest.scratch_bytes,
            operations=2 * nest.tiling.multiply_adds,
            direct_operations=2 * geometry.multiply_adds_inside,
            bytes=nest.itemsize * (nest.tiling.elements + _TAPS * geometry.channels * geometry.filters),
        )
        return KernelSteps([KernelStep(fused, ("image", "upstream", "out"))])
    sums = Kernel(
        "winograd_sums",
        signature,
        lambda target, name: _generate_sums(_Nest(nest.tiling, target, dtype), name),
        nest.units,
        nest.scratch_bytes,
        operations=2 * nest.tiling.multiply_adds,
        direct_operations=2 * geometry.multiply_adds_inside,
        bytes=nest.itemsize * (nest.tiling.elements + nest.sums),
    )
    finish = Kernel(
        "winograd_weight_gradient",
        signature,
        lambda target, name: _generate_finish(_Nest(nest.tiling, target, dtype), name),
        nest.panels * nest.channel_blocks,
        nest.turn_bytes,
        bytes=nest.itemsize * (nest.sums + _TAPS * geometry.channels * geometry.filters),
    )
    steps = [KernelStep(sums, ("image", "upstream", "sums")), KernelStep(finish, ("sums", "out"))]
    return KernelSteps(steps, {"sums": nest.sums * nest.itemsize})


@dataclass(frozen=True)
class TileBlocking:
    """The division into units: ``chunk`` rows of tiles, ``rows`` at a time, and ``panels`` panels of filters each.

    ``fused``: a single kernel does it all.
    """

    chunk: int
    rows: int
    panels: int
    fused: bool = False


def choose_blocking(tiling: Tiling, width: int, size: int) -> TileBlocking:
    """Return the division into units, for panels of ``width`` filters and elements of ``size`` bytes."""
    rows, panels = tiling.batch * tiling.rows, -(-tiling.filters // width)
    if _is_fused(tiling, size):
        return TileBlocking(rows, rows, -(-panels // _WANTED_UNITS), fused=True)
    chunks = min(_MOST_CHUNKS, -(-tiling.elements * size // _CHUNK_BYTES), rows)
    blocks = -(-tiling.filters // _FILTERS)
    sums = tiling.frequencies * tiling.channels * tiling.filters
    while chunks * blocks * tiling.span < _WANTED_UNITS:
        if chunks < rows and (chunks + 1) * sums <= 2 * tiling.elements:
            chunks += 1
        elif blocks < panels:
            blocks += 1
        else:
            break
    chunk = -(-rows // chunks)
    block_rows = min(chunk, max(1, round(_TILES / tiling.columns)))
    even = -(-chunk // -(-chunk // block_rows))
    return TileBlocking(chunk, even, -(-panels // blocks))


def _is_fused(tiling: Tiling, size: int) -> bool:
    """Return whether a single kernel does it all, for elements of ``size`` bytes."""
    planes = tiling.tiles * tiling.channels * tiling.frequencies * size
    sums = tiling.filters * tiling.channels * tiling.frequencies * size
    return sums > max(_LARGE_BYTES, _MUCH * planes)


@dataclass(frozen=True)
class _Nest(TiledNest):
    """How a weight gradient is divided into units and blocks, and the scratch memory that it needs."""

    @property
    def width(self) -> int:
        """The filters of a panel."""
        return VECTORS * self.lanes

    @property
    def panels(self) -> int:
        return -(-self.tiling.filters // self.width)

    @cached_property
    def blocking(self) -> TileBlocking:
        return choose_blocking(self.tiling, self.width, self.itemsize)

    @property
    def rows(self) -> int:
        """The rows of tiles of all images."""
        return self.tiling.batch * self.tiling.rows

    @property
    def chunks(self) -> int:
        return -(-self.rows // self.blocking.chunk)

    @property
    def filter_blocks(self) -> int:
        return -(-self.panels // self.blocking.panels)

    @property
    def units(self) -> int:
        return self.chunks * self.filter_blocks * self.tiling.span

    # ---- the sums, which lie as (chunk, panel, frequency, channel, filter of the panel)

    @cached_property
    def tile_rows(self) -> int:
        """The channels of the register tile."""
        return tile_rows(self.target, VECTORS)

    @property
    def channel_tiles(self) -> int:
        return -(-self.tiling.channels // self.tile_rows)

    @property
    def plane(self) -> int:
        """Elements of the sums from one frequency to the next; channels that pad the last register tile hold garbage."""
        return plane_elements(self.channel_tiles * self.tile_rows * self.width, self.dtype)

    @property
    def panel_sums(self) -> int:
        return self.tiling.frequencies * self.plane

    @property
    def chunk_sums(self) -> int:
        return self.panels * self.panel_sums

    @property
    def sums(self) -> int:
        return self.chunks * self.chunk_sums

    # ---- scratch memory of the sums: that of both transforms, then their planes

    @property
    def tiles(self) -> int:
        return self.blocking.rows * self.tiling.columns

    @cached_property
    def image(self) -> TileTransform:
        matrix, single = B_T[self.tiling.side], not self.blocking.fused
        return image_transform(self.tiling, self.target, self.dtype, self.tiles, matrix, single)

    @cached_property
    def upstream(self) -> TileTransform:
        tiling, channels = self.tiling, self.blocking.panels * self.width
        matrix, single = transposed(A_T[tiling.side]), not self.blocking.fused
        return TileTransform(
            "upstream",
            tiling,
            matrix,
            tiling.output,
            (0, 0),
            tiling.filters,
            channels,
            self.tiles,
            self.target,
            self.dtype,
            single,
        )

    @property
    def scratch_bytes(self) -> int:
        # The last register tile of channels reads whole, which may be beyond the end of the last plane.
        beyond = self.tile_rows * self.itemsize
        parts = self.image.scratch_bytes + self.upstream.scratch_bytes + self.upstream.nbytes + self.image.nbytes
        own_sums = self.panel_sums * self.itemsize + self.turn_bytes if self.blocking.fused else 0
        return padded(parts + beyond, LINE_BYTES) + own_sums

    # ---- the transform to taps

    @property
    def channel_blocks(self) -> int:
        return -(-self.tiling.channels // _TURN_CHANNELS)

    @property
    def turn_bytes(self) -> int:
        return padded(_TURN_CHANNELS * _TAPS * self.width * self.itemsize, LINE_BYTES)


class _Emission:
    """Emits the code that the kernels of sums have in common: both transforms and the products."""

    def __init__(self, nest: _Nest, name: str) -> None:
        self.module = module = Module(nest.target.vector_bits, nest.target.has_fma)
        self.nest, self.element = nest, nest.element
        self.f = f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
        self.images, self.gradients, self.result = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(3))
        nest.image.emit(module)
        nest.upstream.emit(module)
        pitches = nest.image.pitch, nest.upstream.pitch, nest.width
        emit_product(module, "product", Product(self.element, nest.lanes, nest.tile_rows, VECTORS, 1, *pitches))
        self.upstream_scratch = f.at(f["scratch"], nest.image.scratch_bytes, "i8")
        # What follows from the number of images
        blocking = nest.blocking
        self.all_rows, self.chunk_rows = f.parameter(nest.rows), f.parameter(blocking.chunk)
        self.block_rows, self.filter_blocks = f.parameter(blocking.rows), f.parameter(nest.filter_blocks)
        self.block_panels = f.parameter(blocking.panels)
        self.image_plane, self.upstream_plane = f.parameter(nest.image.plane), f.parameter(nest.upstream.plane)
        self.upstream_planes = f.at(self.upstream_scratch, nest.upstream.scratch_bytes, "i8")
        self.image_planes = f.at(self.upstream_planes, f.parameter(nest.upstream.nbytes), "i8")
        nest.image.emit_clear(f, f["scratch"])
        nest.upstream.emit_clear(f, self.upstream_scratch)

    def filter_block(self, block: Value) -> tuple[Value, Value, Value, Value]:
        """Return the first panel, the number of panels, the first filter and the number of filters of a block of filters."""
        f, nest = self.f, self.nest
        first = f.index(block * self.block_panels)
        panels = f.index(f.least(nest.panels - first, self.block_panels))
        first_filter = f.index(first * nest.width)
        filters = f.index(f.least(nest.tiling.filters - first_filter, self.block_panels * nest.width))
        return first, panels, first_filter, filters

    def transforms(self, rows: tuple[Value, Value], first_filter: Value, filters: Value, frequency: int | Value = 0) -> None:
        """Transform the rows of tiles ``rows`` (from, to) of the image and of ``filters`` channels of the upstream gradient.

        ``frequency`` is the vertical frequency to compute, if it is a single one.
        """
        f, nest = self.f, self.nest
        nest.image.call(
            f, self.images, self.image_planes, f["scratch"], rows, nest.tiling.channels, self.image_plane, frequency
        )  # fmt: skip
        gradients = f.at(self.gradients, first_filter, self.element)
        planes, scratch = self.upstream_planes, self.upstream_scratch
        nest.upstream.call(f, gradients, planes, scratch, rows, filters, self.upstream_plane, frequency)

    def product(self, plane: Value, panel: Value, sums: Value, tiles: Value, accumulate: Value) -> None:
        """Multiply, for the frequency of a plane and a panel of the unit, and store or add the products to ``sums``."""
        f, nest = self.f, self.nest
        a = f.at(self.image_planes, f.index(plane * self.image_plane), self.element)
        b = f.at(self.upstream_planes, f.index(plane * self.upstream_plane) + f.index(panel * nest.width), self.element)
        out = f.at(sums, f.index(plane * nest.plane), self.element)
        f.call("product", "void", a, b, out, f.index(nest.channel_tiles), tiles, accumulate)


def _generate_sums(nest: _Nest, name: str) -> Module:
    """Generate the kernel of the sums. Its operands are image, upstream gradient and sums."""
    emission = _Emission(nest, name)
    f, tiling, element = emission.f, nest.tiling, nest.element
    with f.loop(f["begin"], f["end"]) as unit:
        i, block = f.index(unit % tiling.span), unit // tiling.span
        chunk = block // emission.filter_blocks
        first_panel, panels, first_filter, filters = emission.filter_block(f.index(block % emission.filter_blocks))
        place = f.index(chunk * nest.chunk_sums) + f.index(first_panel * nest.panel_sums)
        sums = f.at(emission.result, place + f.index(i * (tiling.span * nest.plane)), element)
        begin = f.index(chunk * emission.chunk_rows)
        end = f.index(f.least(begin + emission.chunk_rows, emission.all_rows))
        with f.loop(begin, end, emission.block_rows) as first:
            last = f.index(f.least(first + emission.block_rows, end))
            emission.transforms((first, last), first_filter, filters, i)
            tiles, more = f.index((last - first) * tiling.columns), f.compare("ne", first, begin)
            with f.loop(0, tiling.span) as j, f.loop(0, panels) as panel:
                emission.product(j, panel, f.at(sums, f.index(panel * nest.panel_sums), element), tiles, more)
    return emission.module


def _generate_fused(nest: _Nest, name: str) -> Module:
    """Generate the single kernel that computes sums and taps. Its operands are image, upstream gradient and out."""
    emission = _Emission(nest, name)
    f, tiling, element = emission.f, nest.tiling, nest.element
    _emit_taps(emission.module, nest)
    turn_sums(emission.module, element, nest.width)
    taps = f.at(f["scratch"], f.parameter(nest.scratch_bytes - nest.turn_bytes), "i8")
    sums = f.at(taps, -nest.panel_sums * nest.itemsize, "i8")
    tiles = f.parameter(nest.tiles)
    with f.loop(f["begin"], f["end"]) as unit:
        first_panel, panels, first_filter, filters = emission.filter_block(unit)
        emission.transforms((f.index(0), emission.all_rows), first_filter, filters)
        with f.loop(0, panels) as panel:
            with f.loop(0, tiling.frequencies) as frequency:
                emission.product(frequency, panel, sums, tiles, f.number(0, "i1"))
            with f.loop(0, nest.channel_blocks) as block:
                start = f.at(sums, f.index(block * (_TURN_CHANNELS * nest.width)), element)
                _finish(f, nest, start, taps, emission.result, first_panel + panel, block, f.index(1))
    return emission.module


def _generate_finish(nest: _Nest, name: str) -> Module:
    """Generate the kernel that adds up the sums of all chunks and transforms them to taps.

    Its operands are the sums and out. A unit is a block of channels of a panel of filters.
    """
    module = Module(nest.target.vector_bits, nest.target.has_fma)
    element = nest.element
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    sums, out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(2))
    _emit_taps(module, nest)
    turn_sums(module, element, nest.width)
    chunks = f.parameter(nest.chunks)
    with f.loop(f["begin"], f["end"]) as unit:
        panel, block = unit // nest.channel_blocks, f.index(unit % nest.channel_blocks)
        first = f.index(block * (_TURN_CHANNELS * nest.width))
        source = f.at(sums, f.index(panel * nest.panel_sums) + first, element)
        _finish(f, nest, source, f["scratch"], out, panel, block, chunks)
    return module


def _finish(f: Function, nest: _Nest, sums: Value, taps: Value, out: Value, panel: Value, block: Value, chunks: Value) -> None:
    """Emit the transform of a block of channels of a panel from the sums of all ``chunks`` at ``sums`` to ``out``.

    ``taps`` is scratch memory for the taps, before they are transposed.
    """
    tiling, pitch = nest.tiling, nest.tiling.channels * _TAPS
    first, first_filter = f.index(block * _TURN_CHANNELS), f.index(panel * nest.width)
    count = f.index(f.least(tiling.channels - first, _TURN_CHANNELS))
    filters = f.index(f.least(tiling.filters - first_filter, nest.width))
    f.call("taps", "void", sums, taps, count, chunks)
    place = f.at(out, f.index(first_filter * pitch) + f.index(first * _TAPS), nest.element)
    f.call("turn_sums", "void", taps, place, f.index(count * _TAPS), filters, f.index(pitch), f.index(1), f.index(0))


def _emit_taps(module: Module, nest: _Nest) -> None:
    """Define taps(sums, taps, count, chunks).

    It computes taps[channel, tap, filter] of ``count`` channels from the sums of all ``chunks``.
    """
    parameters = [("ptr noalias readonly", "sums"), ("ptr noalias", "taps"), ("i64", "count"), ("i64", "chunks")]
    f = module.function("taps", parameters, internal=True, inline=False)
    tiling, element, type_ = nest.tiling, nest.element, vector(nest.lanes, nest.element)
    matrix = transposed(G[tiling.side])
    with f.loop(0, f["count"]) as channel, f.loop(0, nest.width, nest.lanes) as filter_:
        source = f.at(f.at(f["sums"], f.index(channel * nest.width), element), filter_, element)
        place = f.at(f.at(f["taps"], f.index(channel * (_TAPS * nest.width)), element), filter_, element)
        columns = []
        for j in range(tiling.span):
            values = [
                _total(f, nest, f.at(source, (i * tiling.span + j) * nest.plane, element), type_) for i in range(tiling.span)
            ]
            columns.append(transform(f, matrix, values))
        for row in range(3):
            for column, value in enumerate(transform(f, matrix, [one[row] for one in columns])):
                f.store(value, f.at(place, (row * 3 + column) * nest.width, element))


def _total(f: Function, nest: _Nest, place: Value, type_: str) -> Value:
    """Emit the sum of a vector over all chunks, in order."""
    total = f.variable(type_, f.load(place, type_))
    with f.loop(1, f["chunks"]) as chunk:
        total.set(total.get() + f.load(f.at(place, f.index(chunk * nest.chunk_sums), nest.element), type_))
    return total.get()
