"""Convolutions and their input gradients: the weight is packed, then tiles of output pixels are summed over the window.

Loop order of a unit (a block of output rows): copy the source rows that it reads into a strip with a border of zeros, where
the window reaches outside; then phases of the stride, groups, blocks of k, panels of output channels, tiles of pixels. The
block of a panel comes from the L2 cache again for every tile, as a stream; strip and output stay there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, KernelStep, KernelSteps
from chainrule.cpu.kernels.contraction.correlation import (
    Correlation,
    Segments,
    backward,
    forward,
    products,
    segments_of,
    without_border,
)
from chainrule.cpu.kernels.contraction.pack import Packing, packing_kernel
from chainrule.cpu.kernels.contraction.panel_blocking import PanelBlocking, row_blocking
from chainrule.cpu.kernels.contraction.strip import Strip
from chainrule.cpu.kernels.contraction.tile import Panels, Tile, emit_sweep, tile_rows
from chainrule.cpu.kernels.geometry import Geometry

_BLOCK_BYTES = 64 * 1024  # of a panel, read again, as a stream, for every tile of the unit
_SMALL_IMAGE = 256  # pixels: beyond, few see the border
_UNITS = 8
_WORTHWHILE = 0.9


def convolution(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """image (N, H, W, C) * weight (O, C/g, KH, KW) -> out (N, OH, OW, O)."""
    return _steps(target, dtype, geometry, forward(geometry), "image")


def input_gradient(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """upstream (N, OH, OW, O), weight (O, C/g, KH, KW) -> out (N, H, W, C), the gradient of the image."""
    return _steps(target, dtype, geometry, backward(geometry), "upstream")


def _steps(target: Target, dtype: str, geometry: Geometry, correlation: Correlation, source: str) -> KernelSteps:
    correlation = _split(target, dtype, correlation)
    nest = _Nest(correlation, target, dtype)
    packing = _packing(geometry, correlation, nest.panels, source == "image")
    kernel = Kernel(
        "convolution",
        f"{dtype} {correlation}",
        lambda target, name: _generate(_Nest(correlation, target, dtype), name),
        nest.blocking.units,
        nest.scratch_bytes,
        operations=2 * geometry.multiply_adds_inside,
        bytes=nest.itemsize * (nest.traffic - (geometry.unseen if source == "image" else 0)),
    )
    rows = nest.blocking.rows * correlation.output[1] if nest.blocking.column_blocks == 1 else None
    steps = [
        KernelStep(packing_kernel(packing, dtype), ("weight", "packed")),
        KernelStep(kernel, (source, "packed", "out"), rows),
    ]
    return KernelSteps(steps, {"packed": packing.elements * nest.itemsize})


def _split(target: Target, dtype: str, correlation: Correlation) -> Correlation:
    """Leave out the taps that read the border, where that saves products also after each kind of pixel fills its tiles."""
    if not correlation.reaches_outside or correlation.output[0] * correlation.output[1] > _SMALL_IMAGE:
        return correlation
    split = without_border(correlation)
    rows = _Nest(correlation, target, dtype).tile_rows
    images = -(-correlation.batch // _UNITS)
    saves = products(split, images, rows) < _WORTHWHILE * products(correlation, images, rows)
    return split if saves else correlation


def _packing(geometry: Geometry, correlation: Correlation, panels: Panels, is_forward: bool) -> Packing:
    """k counts (tap, input channel) and columns are filters; for the gradient (tap, filter) and input channels."""
    window = correlation.window
    per_filter, per_channel = geometry.channels_per_group * window, window
    return Packing(
        groups=geometry.groups,
        group_stride=geometry.filters_per_group * per_filter,
        outer=correlation.channels,
        outer_stride=per_channel if is_forward else per_filter,
        inner=window,
        inner_stride=1,
        panels=panels,
        column_stride=per_filter if is_forward else per_channel,
        ranks=correlation.ranks() if window > 1 else None,
    )


@dataclass(frozen=True)
class _Nest:
    """The blocking of one correlation on one target."""

    correlation: Correlation
    target: Target
    dtype: str

    @property
    def element(self) -> str:
        return LLVM_TYPES[self.dtype]

    @property
    def itemsize(self) -> int:
        return SIZES[self.element]

    @cached_property
    def panels(self) -> Panels:
        return Panels(self.correlation.columns, self.target.lanes(self.itemsize))

    @cached_property
    def tile_rows(self) -> int:
        return tile_rows(self.target, self.panels.vectors)

    @cached_property
    def segments(self) -> Segments:
        block = _BLOCK_BYTES // (self.panels.width * self.itemsize)
        return segments_of([self.correlation.runs(phase) for phase in self.correlation.phases], block)

    @cached_property
    def blocking(self) -> PanelBlocking:
        one = self.correlation
        row = one.output[1] * one.output_channels + one.source_step[0] * one.pitch * one.source_channels
        border = one.span[0] * one.pitch * one.source_channels if one.reaches_outside else 0
        return row_blocking(
            rows=one.batch * one.output[0],
            row_pixels=one.output[1],
            period=one.output[0],
            row_bytes=row * self.itemsize,
            border_bytes=border * self.itemsize,
            depth=one.depth,
            groups=one.groups,
            panels=self.panels,
            steps=self._steps,
            itemsize=self.itemsize,
            whole_periods=one.is_split,
        )

    def _steps(self, rows: int) -> int:
        """KernelSteps of k over all pixels of some output rows, with the pixels that fill up tiles."""
        one = self.correlation
        if one.is_split:
            return products(one, rows // one.output[0], self.tile_rows) * one.channels
        pixels = -(-rows * one.output[1] // self.tile_rows) * self.tile_rows
        return -(-pixels * one.depth // math.prod(one.output_step))

    @property
    def traffic(self) -> int:
        one = self.correlation
        source = one.source[0] * one.source[1] * one.source_channels
        return one.batch * (source + one.output[0] * one.output[1] * one.output_channels) + one.depth * one.output_channels

    # ---- scratch: the strip, then the addresses of the pixels that tiles read, then of those that they write

    @cached_property
    def strip(self) -> Strip:
        return Strip(self.correlation, self.element, self.correlation.source_channels)

    @cached_property
    def strip_bytes(self) -> int:
        if not self.correlation.reaches_outside:
            return 0
        total, rows = self.correlation.batch * self.correlation.output[0], self.blocking.rows
        return self.strip.nbytes((first, min(first + rows, total) - 1) for first in range(0, total, rows))

    @property
    def table_bytes(self) -> int:
        return 8 * (self.blocking.rows * self.correlation.output[1] + self.tile_rows)

    @property
    def scratch_bytes(self) -> int:
        return self.strip_bytes + 2 * self.table_bytes


def _generate(nest: _Nest, name: str) -> Module:
    module = Module(nest.target.vector_bits, nest.target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    emission = _Emission(module, f, nest)
    with f.loop(f["begin"], f["end"]) as unit:
        emission.unit(unit)
    return module


class _Emission:
    """The state of emitting one kernel."""

    def __init__(self, module: Module, f: Function, nest: _Nest) -> None:
        self.f, self.nest, self.one, self.element = f, nest, nest.correlation, nest.element
        self.source, self.packed, self.out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(3))
        self.strip = f["scratch"]
        self.sources = f.at(f["scratch"], nest.strip_bytes, "i8")
        self.places = f.at(self.sources, nest.table_bytes, "i8")
        self._tables(module)
        self._sweeps(module)
        if self.one.reaches_outside:
            nest.strip.emit_copy(module)

    def _tables(self, module: Module) -> None:
        segments, phases = self.nest.segments, self.one.phases
        module.constant("segments", "i64", segments.offsets or [0])
        if segments.length is None:
            module.constant("lengths", "i64", segments.lengths or [0])
        for i, name in enumerate(("block_segment", "block_count", "block_depth")):
            module.constant(name, "i64", [block[i] for block in segments.blocks])
        module.constant("depths", "i64", segments.depths or [0])
        for i, name in enumerate(("first", "end")):
            module.constant(f"row_{name}", "i64", [phase.rows[i] for phase in phases])
            module.constant(f"column_{name}", "i64", [phase.columns[i] for phase in phases])
        module.constant("phase_block", "i64", [first for first, _ in segments.phase_blocks])
        module.constant("phase_blocks", "i64", [count for _, count in segments.phase_blocks])

    def _sweeps(self, module: Module) -> None:
        panels, lanes = self.nest.panels, self.nest.panels.lanes
        kinds = [("sweep", panels.vectors, panels.width)] if panels.full else []
        kinds += [("sweep_rest", panels.rest_vectors, panels.rest)] if panels.rest else []
        for name, vectors, columns in kinds:
            tile = Tile(
                element=self.element,
                lanes=lanes,
                rows=self.nest.tile_rows,
                vectors=vectors,
                columns=columns,
                step=1,
                b_step=vectors * lanes,
                length=self.nest.segments.length,
                in_a_row=self.nest.segments.in_a_row,
                jumps=self.nest.segments.jumps,
            )
            emit_sweep(module, name, tile)

    def _entry(self, table: str, i: int | Value) -> Value:
        return self.f.load(self.f.at(Value(self.f, f"@{table}", "ptr"), i, "i64"), "i64")

    # ---- a unit

    def unit(self, unit: Value) -> None:
        f, one, blocking = self.f, self.one, self.nest.blocking
        first = f.index(unit // blocking.column_blocks * blocking.rows)
        last = f.index(f.least(first + blocking.rows, one.batch * one.output[0]))
        begin = self.nest.strip.first_row(f, first)
        if one.reaches_outside:
            end = self.nest.strip.first_row(f, last - 1) + (self.nest.strip.border_rows + 1)
            f.call("copy_rows", "void", self.source, self.strip, begin, end, f.index(one.source_channels))
        first_panel = f.index(unit % blocking.column_blocks * blocking.column_panels)
        last_panel = f.index(f.least(first_panel + blocking.column_panels, self.nest.panels.count))
        with f.loop(0, len(one.phases)) as phase:
            tiles = self._pixels(first, last, begin, phase)
            begin_block = self._entry("phase_block", phase)
            end_block = begin_block + self._entry("phase_blocks", phase)
            with f.loop(0, one.groups) as group, f.loop(begin_block, end_block) as block:
                self._panels(
                    tiles,
                    group,
                    block,
                    self.f.convert("zext", f.compare("ne", block, begin_block), "i64"),
                    (first_panel, last_panel),
                )

    def _pixels(self, first: Value, last: Value, begin: Value, phase: Value) -> Value:
        """List the pixels of a phase in rows first to last; returns how many tiles they fill, the last pixel repeated."""
        f, one, element = self.f, self.one, self.element
        found = f.variable("i64", f.index(0))
        first_line, end_line = self._entry("row_first", phase), self._entry("row_end", phase)
        first_column, end_column = self._entry("column_first", phase), self._entry("column_end", phase)
        with f.loop(first, last) as row:
            line = f.index(row % one.output[0])
            within = f.compare("ult", line - first_line, end_line - first_line)
            within = within & f.compare("eq", f.index((line - first_line) % one.output_step[0]), 0)
            with f.when(within):
                source = self._source_row(row, line, begin)
                place = f.at(self.out, row * (one.output[1] * one.output_channels), element)
                number = f.variable("i64", first_column // one.output_step[1])
                with f.loop(first_column, end_column, one.output_step[1]) as column:
                    count, j = found.get(), number.get()
                    pixel = f.at(source, f.index(j * (one.source_step[1] * one.source_channels)), element)
                    f.store(pixel, f.at(self.sources, count, "ptr"))
                    f.store(f.at(place, f.index(column * one.output_channels), element), f.at(self.places, count, "ptr"))
                    found.set(count + 1)
                    number.set(j + 1)
        count, rows = found.get(), self.nest.tile_rows
        tiles = (count + (rows - 1)) // rows
        with f.when(f.compare("sgt", count, 0)):
            for table in (self.sources, self.places):
                pixel = f.load(f.at(table, count - 1, "ptr"), "ptr")
                with f.loop(count, f.index(tiles * rows)) as i:
                    f.store(pixel, f.at(table, i, "ptr"))
        return tiles

    def _source_row(self, row: Value, line: Value, begin: Value) -> Value:
        """Where the window of the first pixel of an output row begins, in the strip or in the source."""
        f, one = self.f, self.one
        if one.reaches_outside:
            depth = self.nest.strip.first_row(f, row) - begin
            return f.at(self.strip, f.index(depth * self.nest.strip.row_elements), self.element)
        image_row = f.index(row // one.output[0] * one.source[0])
        image_row = image_row + f.index(line // one.output_step[0] * one.source_step[0]) + one.low[0]
        pixel = f.index(image_row * one.source[1]) + one.low[1]
        return f.at(self.source, f.index(pixel * one.source_channels), self.element)

    def _panels(self, tiles: Value, group: Value, block: Value, accumulate: Value, span: tuple[Value, Value]) -> None:
        f, one, panels = self.f, self.one, self.nest.panels
        depth = self._entry("block_depth", block)
        start = f.at(self.packed, group * (one.depth * panels.padded), self.element)
        segments = f.at(Value(f, "@segments", "ptr"), self._entry("block_segment", block), "i64")
        lengths = segments
        if self.nest.segments.length is None:
            lengths = f.at(Value(f, "@lengths", "ptr"), self._entry("block_segment", block), "i64")

        def sweep(name: str, panel: int | Value, width: int) -> None:
            b = f.at(f.at(start, panel * (one.depth * panels.width), self.element), f.index(depth * width), self.element)
            column = f.index(group * one.columns) + panel * panels.width
            depths = f.at(Value(f, "@depths", "ptr"), self._entry("block_segment", block), "i64")
            rest = (segments, lengths, depths, self._entry("block_count", block), f.convert("trunc", accumulate, "i1"))
            f.call(name, "void", self.sources, self.places, tiles, b, f.index(group * one.channels), column, *rest)

        if panels.full:
            with f.loop(span[0], f.least(span[1], panels.full)) as panel:
                sweep("sweep", panel, panels.width)
        if panels.rest:
            with f.when(f.compare("sgt", span[1], panels.full)):
                sweep("sweep_rest", panels.full, panels.rest_vectors * panels.lanes)
