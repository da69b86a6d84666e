"""Kernels of convolutions and of the gradients of their images.

The weight is packed, then tiles of output pixels are summed over the window. Loop order of a unit (a block of output rows):
copy the source rows that it reads into a strip padded with zeros, if the window reaches outside; then phases, groups, blocks of
k, panels of output channels, tiles of pixels. For each tile, the block of a panel is streamed from the L2 cache again; strip
and output stay there, too.
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

_BLOCK_BYTES = 64 * 1024  # the part of a panel that is streamed again for every tile of the unit
_SMALL_IMAGE = 256  # pixels; in larger images few windows reach outside
_UNITS = 8  # the number of units for which it is estimated whether to leave out taps
_WORTHWHILE = 0.9  # the share of products that may remain if leaving out taps shall pay


def convolution(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """Return the kernels of a convolution.

    Their operands are "image" (N, H, W, C), "weight" (O, C/groups, KH, KW) and "out" (N, OH, OW, O).
    """
    return _steps(target, dtype, geometry, forward(geometry), "image")


def input_gradient(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """Return the kernels of the gradient of a convolution's image.

    Their operands are "upstream" (N, OH, OW, O), "weight" (O, C/groups, KH, KW) and "out" (N, H, W, C).
    """
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
    """Leave out the taps that read padding, if that saves enough products.

    It makes more phases, whose pixels pad their last tiles each, so it does not always pay.
    """
    if not correlation.reaches_outside or correlation.output[0] * correlation.output[1] > _SMALL_IMAGE:
        return correlation
    split = without_border(correlation)
    rows = _Nest(correlation, target, dtype).tile_rows
    images = -(-correlation.batch // _UNITS)
    saves = products(split, images, rows) < _WORTHWHILE * products(correlation, images, rows)
    return split if saves else correlation


def _packing(geometry: Geometry, correlation: Correlation, panels: Panels, is_forward: bool) -> Packing:
    """Return how to pack the weight.

    For the convolution, rows k are (tap, channel of the image) and columns are filters; for the gradient, rows are (tap,
    filter) and columns are channels of the image.
    """
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
    """How a correlation is divided into blocks for a target, and the scratch memory that it needs."""

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
        correlation = self.correlation
        row = (
            correlation.output[1] * correlation.output_channels
            + correlation.source_step[0] * correlation.pitch * correlation.source_channels
        )
        border = correlation.span[0] * correlation.pitch * correlation.source_channels if correlation.reaches_outside else 0
        return row_blocking(
            rows=correlation.batch * correlation.output[0],
            row_pixels=correlation.output[1],
            period=correlation.output[0],
            row_bytes=row * self.itemsize,
            border_bytes=border * self.itemsize,
            depth=correlation.depth,
            groups=correlation.groups,
            panels=self.panels,
            steps=self._steps,
            itemsize=self.itemsize,
            whole_periods=correlation.is_split,
        )

    def _steps(self, rows: int) -> int:
        """Return the steps of k of a unit of so many output rows, over all its pixels and those that pad its tiles."""
        correlation = self.correlation
        if correlation.is_split:
            return products(correlation, rows // correlation.output[0], self.tile_rows) * correlation.channels
        pixels = -(-rows * correlation.output[1] // self.tile_rows) * self.tile_rows
        return -(-pixels * correlation.depth // math.prod(correlation.output_step))

    @property
    def traffic(self) -> int:
        """The elements of source, output and weight."""
        correlation = self.correlation
        source = correlation.source[0] * correlation.source[1] * correlation.source_channels
        return (
            correlation.batch * (source + correlation.output[0] * correlation.output[1] * correlation.output_channels)
            + correlation.depth * correlation.output_channels
        )

    # ---- scratch: the strip, the addresses of the pixels that tiles read, the addresses of the pixels that they write

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
    """Emits the code of a kernel."""

    def __init__(self, module: Module, f: Function, nest: _Nest) -> None:
        self.f, self.nest, self.correlation, self.element = f, nest, nest.correlation, nest.element
        self.source, self.packed, self.out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(3))
        self.strip = f["scratch"]
        strip_bytes = f.parameter(nest.strip_bytes) if self.correlation.reaches_outside else 0
        self.sources = f.at(f["scratch"], strip_bytes, "i8")
        self.places = f.at(self.sources, f.parameter(nest.table_bytes), "i8")
        # What follows from the number of images
        blocking = nest.blocking
        self.output_rows = f.parameter(self.correlation.batch * self.correlation.output[0])
        self.rows, self.column_panels = f.parameter(blocking.rows), f.parameter(blocking.column_panels)
        self.column_blocks = f.parameter(blocking.column_blocks)
        self._tables(module)
        self._sweeps(module)
        if self.correlation.reaches_outside:
            nest.strip.emit_copy(module)

    def _tables(self, module: Module) -> None:
        """Define the tables of segments, blocks and phases."""
        segments, phases = self.nest.segments, self.correlation.phases
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
        """Define the functions that compute tiles, for full panels and for the last panel."""
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
        """Load entry i of a table."""
        return self.f.load(self.f.at(Value(self.f, f"@{table}", "ptr"), i, "i64"), "i64")

    # ---- a unit

    def unit(self, unit: Value) -> None:
        """Emit the work of a unit."""
        f, correlation = self.f, self.correlation
        first = f.index(unit // self.column_blocks * self.rows)
        last = f.index(f.least(first + self.rows, self.output_rows))
        begin = self.nest.strip.first_row(f, first)
        if correlation.reaches_outside:
            end = self.nest.strip.first_row(f, last - 1) + (self.nest.strip.border_rows + 1)
            f.call("copy_rows", "void", self.source, self.strip, begin, end, f.index(correlation.source_channels))
        first_panel = f.index(unit % self.column_blocks * self.column_panels)
        last_panel = f.index(f.least(first_panel + self.column_panels, self.nest.panels.count))
        with f.loop(0, len(correlation.phases)) as phase:
            tiles = self._pixels(first, last, begin, phase)
            begin_block = self._entry("phase_block", phase)
            end_block = begin_block + self._entry("phase_blocks", phase)
            with f.loop(0, correlation.groups) as group, f.loop(begin_block, end_block) as block:
                self._panels(
                    tiles,
                    group,
                    block,
                    self.f.convert("zext", f.compare("ne", block, begin_block), "i64"),
                    (first_panel, last_panel),
                )

    def _pixels(self, first: Value, last: Value, begin: Value, phase: Value) -> Value:
        """List the addresses of the pixels of a phase in rows ``first`` to ``last`` (excluded); returns the number of tiles.

        The last pixel is repeated until it fills its tile. ``begin`` is the first row of the strip.
        """
        f, correlation, element = self.f, self.correlation, self.element
        count_so_far = f.variable("i64", f.index(0))
        first_line, end_line = self._entry("row_first", phase), self._entry("row_end", phase)
        first_column, end_column = self._entry("column_first", phase), self._entry("column_end", phase)
        with f.loop(first, last) as row:
            line = f.index(row % correlation.output[0])
            within = f.compare("ult", line - first_line, end_line - first_line)
            within = within & f.compare("eq", f.index((line - first_line) % correlation.output_step[0]), 0)
            with f.when(within):
                source = self._source_row(row, line, begin)
                place = f.at(self.out, row * (correlation.output[1] * correlation.output_channels), element)
                number = f.variable("i64", first_column // correlation.output_step[1])
                with f.loop(first_column, end_column, correlation.output_step[1]) as column:
                    count, j = count_so_far.get(), number.get()
                    pixel = f.at(source, f.index(j * (correlation.source_step[1] * correlation.source_channels)), element)
                    f.store(pixel, f.at(self.sources, count, "ptr"))
                    f.store(
                        f.at(place, f.index(column * correlation.output_channels), element), f.at(self.places, count, "ptr")
                    )
                    count_so_far.set(count + 1)
                    number.set(j + 1)
        count, rows = count_so_far.get(), self.nest.tile_rows
        tiles = (count + (rows - 1)) // rows
        with f.when(f.compare("sgt", count, 0)):
            for table in (self.sources, self.places):
                pixel = f.load(f.at(table, count - 1, "ptr"), "ptr")
                with f.loop(count, f.index(tiles * rows)) as i:
                    f.store(pixel, f.at(table, i, "ptr"))
        return tiles

    def _source_row(self, row: Value, line: Value, begin: Value) -> Value:
        """Return the address at which the window of an output row's first pixel begins, in the strip or in the source."""
        f, correlation = self.f, self.correlation
        if correlation.reaches_outside:
            depth = self.nest.strip.first_row(f, row) - begin
            return f.at(self.strip, f.index(depth * self.nest.strip.row_elements), self.element)
        image_row = f.index(row // correlation.output[0] * correlation.source[0])
        image_row = image_row + f.index(line // correlation.output_step[0] * correlation.source_step[0]) + correlation.low[0]
        pixel = f.index(image_row * correlation.source[1]) + correlation.low[1]
        return f.at(self.source, f.index(pixel * correlation.source_channels), self.element)

    def _panels(self, tiles: Value, group: Value, block: Value, accumulate: Value, span: tuple[Value, Value]) -> None:
        """Emit a loop over the panels ``span`` (from, to), which computes all tiles for a block of k of a group."""
        f, correlation, panels = self.f, self.correlation, self.nest.panels
        depth = self._entry("block_depth", block)
        start = f.at(self.packed, group * (correlation.depth * panels.padded), self.element)
        segments = f.at(Value(f, "@segments", "ptr"), self._entry("block_segment", block), "i64")
        lengths = segments
        if self.nest.segments.length is None:
            lengths = f.at(Value(f, "@lengths", "ptr"), self._entry("block_segment", block), "i64")

        def sweep(name: str, panel: int | Value, width: int) -> None:
            b = f.at(
                f.at(start, panel * (correlation.depth * panels.width), self.element), f.index(depth * width), self.element
            )
            column = f.index(group * correlation.columns) + panel * panels.width
            depths = f.at(Value(f, "@depths", "ptr"), self._entry("block_segment", block), "i64")
            rest = (segments, lengths, depths, self._entry("block_count", block), f.convert("trunc", accumulate, "i1"))
            f.call(name, "void", self.sources, self.places, tiles, b, f.index(group * correlation.channels), column, *rest)

        if panels.full:
            with f.loop(span[0], f.least(span[1], panels.full)) as panel:
                sweep("sweep", panel, panels.width)
        if panels.rest:
            with f.when(f.compare("sgt", span[1], panels.full)):
                sweep("sweep_rest", panels.full, panels.rest_vectors * panels.lanes)
