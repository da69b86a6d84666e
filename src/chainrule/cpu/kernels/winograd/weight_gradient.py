"""Winograd's gradient of the weight of a convolution of 3 x 3 taps at stride 1.

    out[o, c] = G^T [ sum over tiles of (B^T d B)[c] . (A y A^T)[o] ] G      d: tile of the image, y: of the upstream gradient

Mostly in two steps. First the sums: a unit makes those of one vertical frequency, all horizontal ones, a block of filters and a
chunk of the rows of tiles. Loop order: blocks of rows of tiles (transform the image and the upstream gradient for this
frequency), horizontal frequencies, panels of filters, register tiles of channels, tiles. So what a unit holds stays near,
though each unit reads image and upstream gradient anew. Then the sums of all chunks are added, in order, and transformed to
taps. The split does not depend on threads, and so does no bit of the result.

Where there are few tiles and many channels and filters, the sums would be far more than all else. Then a single step does it:
a unit makes a block of filters, and for each panel of them all sums over all tiles, then the taps; sums stay in the caches.
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
"""Of a block, about."""
_FILTERS = 128
"""Of a unit, at most: each block of filters transforms the image anew."""
_CHUNK_BYTES = 8 << 20
"""Of image and upstream gradient: units of one chunk follow each other and find it in the last cache."""
_MOST_CHUNKS = 8
_WANTED_UNITS = 8
_LARGE_BYTES, _MUCH = 4 << 20, 8
"""Sums that go to memory and back, and how many times more they must be than the transformed image that each thread holds."""
_TAPS = 9
_TURN_CHANNELS = 8
"""Channels whose taps are turned at a time, in a buffer that stays in the L1 cache."""


def weight_gradient(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """image (N, H, W, C), upstream (N, OH, OW, O) -> out (O, C, 3, 3), the gradient of the weight."""
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
    """A unit takes ``chunk`` rows of tiles, ``rows`` at a time, and ``panels`` panels of filters. ``fused``: in one step."""

    chunk: int
    rows: int
    panels: int
    fused: bool = False


def choose_blocking(tiling: Tiling, width: int, size: int) -> TileBlocking:
    """For panels of ``width`` filters and elements of ``size`` bytes."""
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
    planes = tiling.tiles * tiling.channels * tiling.frequencies * size
    sums = tiling.filters * tiling.channels * tiling.frequencies * size
    return sums > max(_LARGE_BYTES, _MUCH * planes)


@dataclass(frozen=True)
class _Nest(TiledNest):
    """The blocking of one weight gradient on one target."""

    @property
    def width(self) -> int:
        """Filters of a panel."""
        return VECTORS * self.lanes

    @property
    def panels(self) -> int:
        return -(-self.tiling.filters // self.width)

    @cached_property
    def blocking(self) -> TileBlocking:
        return choose_blocking(self.tiling, self.width, self.itemsize)

    @property
    def rows(self) -> int:
        """Rows of tiles of all images."""
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

    # ---- sums: (chunk, panel, frequency, channel, filter of the panel)

    @cached_property
    def tile_rows(self) -> int:
        """Channels of the register tile."""
        return tile_rows(self.target, VECTORS)

    @property
    def channel_tiles(self) -> int:
        return -(-self.tiling.channels // self.tile_rows)

    @property
    def plane(self) -> int:
        """Elements of one frequency; channels that fill up the last register tile hold rubbish."""
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

    # ---- scratch of the sums: of both transforms, then their planes

    @property
    def tiles(self) -> int:
        return self.blocking.rows * self.tiling.columns

    @cached_property
    def image(self) -> TileTransform:
        matrix, single = B_T[self.tiling.side], not self.blocking.fused
        return image_transform(self.tiling, self.target, self.dtype, self.tiles, matrix, single)

    @cached_property
    def upstream(self) -> TileTransform:
        one, channels = self.tiling, self.blocking.panels * self.width
        matrix, single = transposed(A_T[one.side]), not self.blocking.fused
        return TileTransform(
            "upstream", one, matrix, one.output, (0, 0), one.filters, channels, self.tiles, self.target, self.dtype, single
        )  # fmt: skip

    @property
    def scratch_bytes(self) -> int:
        # Register tiles read channels up to a whole one, which may be beyond the last tile of the last plane.
        beyond = self.tile_rows * self.itemsize
        parts = self.image.scratch_bytes + self.upstream.scratch_bytes + self.upstream.nbytes + self.image.nbytes
        own_sums = self.panel_sums * self.itemsize + self.turn_bytes if self.blocking.fused else 0
        return padded(parts + beyond, LINE_BYTES) + own_sums

    # ---- the last step

    @property
    def channel_blocks(self) -> int:
        return -(-self.tiling.channels // _TURN_CHANNELS)

    @property
    def turn_bytes(self) -> int:
        return padded(_TURN_CHANNELS * _TAPS * self.width * self.itemsize, LINE_BYTES)


class _Emission:
    """What kernels of sums have in common: both transforms and their products."""

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
        self.upstream_planes = f.at(self.upstream_scratch, nest.upstream.scratch_bytes, "i8")
        self.image_planes = f.at(self.upstream_planes, nest.upstream.nbytes, "i8")
        nest.image.emit_clear(f, f["scratch"])
        nest.upstream.emit_clear(f, self.upstream_scratch)

    def filter_block(self, block: Value) -> tuple[Value, Value, Value, Value]:
        """First panel, panels, first filter, filters of a block."""
        f, nest, block_panels = self.f, self.nest, self.nest.blocking.panels
        first = f.index(block * block_panels)
        panels = f.index(f.least(nest.panels - first, block_panels))
        first_filter = f.index(first * nest.width)
        filters = f.index(f.least(nest.tiling.filters - first_filter, block_panels * nest.width))
        return first, panels, first_filter, filters

    def transforms(self, rows: tuple[Value, Value], first_filter: Value, filters: Value, frequency: int | Value = 0) -> None:
        f, nest = self.f, self.nest
        nest.image.call(
            f, self.images, self.image_planes, f["scratch"], rows, nest.tiling.channels, frequency
        )  # fmt: skip
        gradients = f.at(self.gradients, first_filter, self.element)
        nest.upstream.call(f, gradients, self.upstream_planes, self.upstream_scratch, rows, filters, frequency)

    def product(self, plane: Value, panel: Value, sums: Value, tiles: Value, accumulate: Value) -> None:
        f, nest = self.f, self.nest
        a = f.at(self.image_planes, f.index(plane * nest.image.plane), self.element)
        b = f.at(self.upstream_planes, f.index(plane * nest.upstream.plane) + f.index(panel * nest.width), self.element)
        out = f.at(sums, f.index(plane * nest.plane), self.element)
        f.call("product", "void", a, b, out, f.index(nest.channel_tiles), tiles, accumulate)


def _generate_sums(nest: _Nest, name: str) -> Module:
    emission = _Emission(nest, name)
    f, one, blocking, element = emission.f, nest.tiling, nest.blocking, nest.element
    with f.loop(f["begin"], f["end"]) as unit:
        i, block = f.index(unit % one.span), unit // one.span
        chunk = block // nest.filter_blocks
        first_panel, panels, first_filter, filters = emission.filter_block(f.index(block % nest.filter_blocks))
        place = f.index(chunk * nest.chunk_sums) + f.index(first_panel * nest.panel_sums)
        sums = f.at(emission.result, place + f.index(i * (one.span * nest.plane)), element)
        begin = f.index(chunk * blocking.chunk)
        end = f.index(f.least(begin + blocking.chunk, nest.rows))
        with f.loop(begin, end, blocking.rows) as first:
            last = f.index(f.least(first + blocking.rows, end))
            emission.transforms((first, last), first_filter, filters, i)
            tiles, more = f.index((last - first) * one.columns), f.compare("ne", first, begin)
            with f.loop(0, one.span) as j, f.loop(0, panels) as panel:
                emission.product(j, panel, f.at(sums, f.index(panel * nest.panel_sums), element), tiles, more)
    return emission.module


def _generate_fused(nest: _Nest, name: str) -> Module:
    emission = _Emission(nest, name)
    f, one, element = emission.f, nest.tiling, nest.element
    _emit_taps(emission.module, nest)
    turn_sums(emission.module, element, nest.width)
    taps = f.at(f["scratch"], nest.scratch_bytes - nest.turn_bytes, "i8")
    sums = f.at(taps, -nest.panel_sums * nest.itemsize, "i8")
    with f.loop(f["begin"], f["end"]) as unit:
        first_panel, panels, first_filter, filters = emission.filter_block(unit)
        emission.transforms((f.index(0), f.index(nest.rows)), first_filter, filters)
        with f.loop(0, panels) as panel:
            with f.loop(0, one.frequencies) as frequency:
                emission.product(frequency, panel, sums, f.index(nest.tiles), f.number(0, "i1"))
            with f.loop(0, nest.channel_blocks) as block:
                start = f.at(sums, f.index(block * (_TURN_CHANNELS * nest.width)), element)
                _finish(f, nest, start, taps, emission.result, first_panel + panel, block)
    return emission.module


def _generate_finish(nest: _Nest, name: str) -> Module:
    """Operands: sums, out. Unit: a block of channels of one panel of filters."""
    module = Module(nest.target.vector_bits, nest.target.has_fma)
    element = nest.element
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    sums, out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(2))
    _emit_taps(module, nest)
    turn_sums(module, element, nest.width)
    with f.loop(f["begin"], f["end"]) as unit:
        panel, block = unit // nest.channel_blocks, f.index(unit % nest.channel_blocks)
        first = f.index(block * (_TURN_CHANNELS * nest.width))
        source = f.at(sums, f.index(panel * nest.panel_sums) + first, element)
        _finish(f, nest, source, f["scratch"], out, panel, block)
    return module


def _finish(f: Function, nest: _Nest, sums: Value, taps: Value, out: Value, panel: Value, block: Value) -> None:
    """The taps of a block of channels of one panel, whose sums begin at ``sums``, by way of the buffer ``taps``."""
    one, pitch = nest.tiling, nest.tiling.channels * _TAPS
    first, first_filter = f.index(block * _TURN_CHANNELS), f.index(panel * nest.width)
    count = f.index(f.least(one.channels - first, _TURN_CHANNELS))
    filters = f.index(f.least(one.filters - first_filter, nest.width))
    f.call("taps", "void", sums, taps, count)
    place = f.at(out, f.index(first_filter * pitch) + f.index(first * _TAPS), nest.element)
    f.call("turn_sums", "void", taps, place, f.index(count * _TAPS), filters, f.index(pitch), f.index(1), f.index(0))


def _emit_taps(module: Module, nest: _Nest) -> None:
    """The function taps(sums, taps, count): taps[channel, tap, filter] of ``count`` channels, from the sums of all chunks."""
    parameters = [("ptr noalias readonly", "sums"), ("ptr noalias", "taps"), ("i64", "count")]
    f = module.function("taps", parameters, internal=True, inline=False)
    one, element, type_ = nest.tiling, nest.element, vector(nest.lanes, nest.element)
    matrix = transposed(G[one.side])
    with f.loop(0, f["count"]) as channel, f.loop(0, nest.width, nest.lanes) as filter_:
        source = f.at(f.at(f["sums"], f.index(channel * nest.width), element), filter_, element)
        place = f.at(f.at(f["taps"], f.index(channel * (_TAPS * nest.width)), element), filter_, element)
        columns = []
        for j in range(one.span):
            values = [_total(f, nest, f.at(source, (i * one.span + j) * nest.plane, element), type_) for i in range(one.span)]
            columns.append(transform(f, matrix, values))
        for row in range(3):
            for column, value in enumerate(transform(f, matrix, [one[row] for one in columns])):
                f.store(value, f.at(place, (row * 3 + column) * nest.width, element))


def _total(f: Function, nest: _Nest, place: Value, type_: str) -> Value:
    """The sum over chunks, in order."""
    total = f.load(place, type_)
    for chunk in range(1, nest.chunks):
        total = total + f.load(f.at(place, chunk * nest.chunk_sums, nest.element), type_)
    return total
