"""Kernels of Winograd's convolution of 3 x 3 taps at stride 1, and of the gradient of its image.

The gradient is a convolution of the upstream gradient with the flipped and transposed weight.

First the weight is transformed. Loop order of a unit (rows of tiles times a block of filters): transform its tiles; then chunks
of filters; for each chunk, multiply over frequencies and panels, then transform the sums to output pixels and store them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from chainrule.cpu.codegen.emit import Function, Module, Value, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import Kernel, KernelStep, KernelSteps
from chainrule.cpu.kernels.contraction.tile import tile_rows
from chainrule.cpu.kernels.geometry import Geometry
from chainrule.cpu.kernels.winograd.products import CHANNELS_IN_A_ROW, Product, emit_product
from chainrule.cpu.kernels.winograd.tile_blocking import TileBlocking, choose_blocking
from chainrule.cpu.kernels.winograd.tile_transform import TileTransform, image_transform
from chainrule.cpu.kernels.winograd.tiling import (
    LINE_BYTES,
    TiledNest,
    Tiling,
    backward_tiling,
    forward_tiling,
    padded,
    plane_elements,
)
from chainrule.cpu.kernels.winograd.transforms import A_T, B_T, transform
from chainrule.cpu.kernels.winograd.weight_transform import VECTORS, WeightLayout, emit_weight_block, weight_transform


def convolution(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """Return the kernels of a convolution.

    Their operands are "image" (N, H, W, C), "weight" (O, C, 3, 3) and "out" (N, OH, OW, O).
    """
    return _steps(target, dtype, geometry, forward_tiling(geometry), "image")


def input_gradient(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """Return the kernels of the gradient of a convolution's image.

    Their operands are "upstream" (N, OH, OW, O), "weight" (O, C, 3, 3) and "out" (N, H, W, C).
    """
    return _steps(target, dtype, geometry, backward_tiling(geometry), "upstream")


def _steps(target: Target, dtype: str, geometry: Geometry, tiling: Tiling, source: str) -> KernelSteps:
    nest = _Nest(tiling, target, dtype, source == "image")
    fused = nest.blocking.fused
    kernel = Kernel(
        "winograd",
        f"{dtype} {tiling} {nest.layout} {nest.blocking}",
        lambda target, name: _generate(_Nest(tiling, target, dtype, source == "image"), name),
        nest.units,
        nest.scratch_bytes,
        operations=2 * tiling.multiply_adds,
        direct_operations=2 * geometry.multiply_adds_inside,
        bytes=nest.itemsize * (tiling.elements + (9 * tiling.channels * tiling.filters if fused else nest.layout.elements)),
    )
    if fused:
        return KernelSteps([KernelStep(kernel, (source, "weight", "out"), nest.unit_pixels)])
    weight = KernelStep(weight_transform(nest.layout, dtype), ("weight", "transformed"))
    products = KernelStep(kernel, (source, "transformed", "out"), nest.unit_pixels)
    return KernelSteps([weight, products], {"transformed": nest.layout.elements * nest.itemsize})


@dataclass(frozen=True)
class _Nest(TiledNest):
    """How a convolution is divided into units and blocks, and the scratch memory that it needs."""

    is_forward: bool

    @cached_property
    def layout(self) -> WeightLayout:
        tiling = self.tiling
        return WeightLayout(tiling.channels, tiling.filters, VECTORS * self.lanes, tiling.side, self.is_forward)

    @cached_property
    def blocking(self) -> TileBlocking:
        return choose_blocking(self.tiling, self.layout, self.tile_rows, self.itemsize)

    @property
    def row_blocks(self) -> int:
        return -(-self.tiling.batch * self.tiling.rows // self.blocking.rows)

    @property
    def filter_blocks(self) -> int:
        return -(-self.layout.panels // self.blocking.panels)

    @property
    def units(self) -> int:
        return self.row_blocks * self.filter_blocks

    @property
    def unit_pixels(self) -> int | None:
        """Consecutive output pixels that a unit writes, with all filters; None if units differ or write some filters only."""
        tiling, rows = self.tiling, self.blocking.rows
        if self.filter_blocks > 1:
            return None
        if rows % tiling.rows == 0:
            return rows // tiling.rows * tiling.output[0] * tiling.output[1]
        return rows * tiling.side * tiling.output[1] if tiling.output[0] % tiling.side == 0 else None

    # ---- scratch memory: that of the image transform, transformed tiles, the transformed weight and its taps (if fused),
    # products, two small buffers of the output transform

    @cached_property
    def tile_rows(self) -> int:
        """The rows of the register tile."""
        return tile_rows(self.target, VECTORS)

    @property
    def tiles(self) -> int:
        """Tiles per unit, rounded up to whole register tiles; padding tiles hold garbage and are never stored."""
        return padded(self.blocking.rows * self.tiling.columns, self.tile_rows)

    @cached_property
    def image(self) -> TileTransform:
        return image_transform(self.tiling, self.target, self.dtype, self.tiles, B_T[self.tiling.side])

    @property
    def chunk_filters(self) -> int:
        return self.blocking.chunk * self.layout.width

    @property
    def pitch(self) -> int:
        """Elements of the products from one tile to the next, at the same frequency."""
        return plane_elements(self.chunk_filters, self.dtype)

    @property
    def plane(self) -> int:
        """Elements of the products from one frequency to the next."""
        return plane_elements(self.tiles * self.pitch, self.dtype)

    @property
    def product_bytes(self) -> int:
        return self.tiling.frequencies * self.plane * self.itemsize

    @property
    def half_bytes(self) -> int:
        """The bytes between the two passes of the output transform, for a tile."""
        return self.tiling.side * self.tiling.span * self.chunk_filters * self.itemsize

    @property
    def weight_bytes(self) -> int:
        """The bytes of a chunk's transformed weight, if units transform it themselves; else 0."""
        if not self.blocking.fused:
            return 0
        return padded(self.blocking.chunk * self.layout.panel_elements * self.itemsize, LINE_BYTES)

    @property
    def scratch_bytes(self) -> int:
        own = self.product_bytes + self.half_bytes + self.chunk_filters * self.itemsize
        weight = self.weight_bytes + self.layout.taps_bytes(self.dtype) if self.blocking.fused else 0
        return padded(self.image.scratch_bytes + self.image.nbytes + weight + own, LINE_BYTES)


def _generate(nest: _Nest, name: str) -> Module:
    module = Module(nest.target.vector_bits, nest.target.has_fma)
    tiling, layout, blocking, element = nest.tiling, nest.layout, nest.blocking, nest.element
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    nest.image.emit(module)
    product = Product(
        element, nest.lanes, nest.tile_rows, VECTORS, nest.image.pitch, 1, layout.width, nest.pitch
    )  # fmt: skip
    emit_product(module, "product", product)
    _emit_output(module, nest)
    source, weight, out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(3))
    # What follows from the number of images
    all_rows, unit_rows = f.parameter(tiling.batch * tiling.rows), f.parameter(blocking.rows)
    filter_blocks, block_panels = f.parameter(nest.filter_blocks), f.parameter(blocking.panels)
    image_plane, plane = f.parameter(nest.image.plane), f.parameter(nest.plane)
    tiles = f.at(f["scratch"], nest.image.scratch_bytes, "i8")
    own_weight = f.at(tiles, f.parameter(nest.image.nbytes), "i8")
    taps = f.at(own_weight, nest.weight_bytes, "i8")
    products = taps
    if blocking.fused:
        emit_weight_block(module, element, layout)
        products = f.at(taps, layout.taps_bytes(nest.dtype), "i8")
    half = f.at(products, f.parameter(nest.product_bytes), "i8")
    nest.image.emit_clear(f, f["scratch"])
    with f.loop(f["begin"], f["end"]) as unit:
        first = f.index(unit // filter_blocks * unit_rows)
        last = f.index(f.least(first + unit_rows, all_rows))
        blocks = (f.index((last - first) * tiling.columns) + (nest.tile_rows - 1)) // nest.tile_rows
        nest.image.call(f, source, tiles, f["scratch"], (first, last), tiling.channels, image_plane)
        first_panel = f.index(f.index(unit % filter_blocks) * block_panels)
        end_panel = f.index(f.least(first_panel + block_panels, layout.panels))
        with f.loop(first_panel, end_panel, blocking.chunk) as chunk:
            chunk_end = f.index(f.least(chunk + blocking.chunk, end_panel))
            chunk_weight = f.at(weight, f.index(chunk * layout.panel_elements), element)
            if blocking.fused:
                chunk_weight = own_weight
                block = layout.block(nest.dtype)
                with f.loop(chunk, chunk_end) as panel, f.loop(0, layout.depth, block) as k:
                    place = f.at(own_weight, f.index((panel - chunk) * layout.panel_elements), element)
                    count = f.index(f.least(layout.depth - k, block))
                    f.call("weight_block", "void", weight, place, taps, panel, k, count)
            with f.loop(0, tiling.frequencies) as frequency, f.loop(chunk, chunk_end) as panel:
                a = f.at(tiles, frequency * image_plane, element)
                within = panel - chunk
                b = f.at(chunk_weight, f.index(within * layout.panel_elements) + f.index(frequency * layout.plane), element)
                column = f.index(within * layout.width)
                place = f.at(products, f.index(frequency * plane) + column, element)
                for begin in range(0, tiling.channels, CHANNELS_IN_A_ROW):
                    depth = f.index(min(tiling.channels - begin, CHANNELS_IN_A_ROW))
                    operands = f.at(a, begin, element), f.at(b, begin * layout.width, element), place
                    f.call("product", "void", *operands, blocks, depth, f.number(int(begin > 0), "i1"))
            filters = f.index(chunk * layout.width)
            count = f.index(f.least(tiling.filters - filters, f.index((chunk_end - chunk) * layout.width)))
            f.call("transform_output", "void", products, half, f.at(out, filters, element), first, last, count, plane)
    return module


def _emit_output(module: Module, nest: _Nest) -> None:
    """Define transform_output(products, half, out, begin, end, count, plane).

    It computes A^T m A for the tiles of the rows of tiles ``begin`` to ``end`` (excluded): for each tile a vertical pass from
    the products m to ``half`` (output row, horizontal frequency, filter), and a horizontal pass from there to ``count`` filters
    of the output pixels. Pixels to the right of the output are written to a place behind ``half``. From the products of one
    frequency to those of the next are ``plane`` elements.
    """
    parameters = [("ptr noalias readonly", "products"), ("ptr noalias", "half"), ("ptr noalias", "out")]
    parameters += [("i64", name) for name in ("begin", "end", "count", "plane")]
    f = module.function("transform_output", parameters, internal=True, inline=False)
    tiling, element, type_, matrix = nest.tiling, nest.element, vector(nest.lanes, nest.element), A_T[nest.tiling.side]
    size, span = nest.chunk_filters, tiling.span
    beyond = f.at(f["half"], tiling.side * span * size, element)
    with f.loop(f["begin"], f["end"]) as row, f.loop(0, tiling.columns) as column:
        tile = f.index((row - f["begin"]) * tiling.columns) + column
        start = f.at(f["products"], f.index(tile * nest.pitch), element)
        with f.loop(0, span) as j:
            sources = [f.at(start, (j + i * span) * f["plane"], element) for i in range(span)]
            with f.loop(0, f["count"], nest.lanes) as c:
                values = [f.load(f.at(source, c, element), type_) for source in sources]
                place = f.at(f.at(f["half"], j * size, element), c, element)
                for i, value in enumerate(transform(f, matrix, values)):
                    f.store(value, f.at(place, i * span * size, element))
        top, left = f.index(f.index(row % tiling.rows) * tiling.side), f.index(column * tiling.side)
        first = f.index((f.index(row // tiling.rows * tiling.output[0]) + top) * tiling.output[1]) + left
        with f.loop(0, f.least(tiling.output[0] - top, tiling.side)) as down:
            pixel = first + f.index(down * tiling.output[1])
            places: list[Value] = []
            for x in range(tiling.side):
                address = f.at(f["out"], f.index((pixel + x) * tiling.filters), element)
                places.append(f.select(f.compare("slt", left + x, tiling.output[1]), address, beyond))
            _store_pixels(f, nest, f.at(f["half"], down * (span * size), element), places)


def _store_pixels(f: Function, nest: _Nest, source: Value, places: Sequence[Value]) -> None:
    """Emit the horizontal pass of an output row of a tile, from ``source`` to the pixels with the addresses ``places``."""
    element, type_, lanes = nest.element, vector(nest.lanes, nest.element), nest.lanes
    rest = nest.tiling.filters % lanes

    def step(c: Value, mask: Value | None) -> None:
        values = [
            f.load(f.at(f.at(source, j * nest.chunk_filters, element), c, element), type_) for j in range(nest.tiling.span)
        ]
        for value, place in zip(transform(f, A_T[nest.tiling.side], values), places, strict=True):
            if mask is None:
                f.store(value, f.at(place, c, element))
            else:
                f.masked_store(value, f.at(place, c, element), mask)

    whole = f["count"] - f.index(f["count"] % lanes)
    with f.loop(0, whole, lanes) as c:
        step(c, None)
    if rest:
        with f.when(f.compare("slt", whole, f["count"])):
            step(whole, f.lane_mask(rest, lanes))
