"""Kernels of matrix products: b is packed into panels, then tiles of rows of a are summed over k.

Loop order of a unit (a block of rows of a matrix, or of all matrices that share b): blocks of k, panels of columns, tiles of
rows. For each tile, the block of a panel is streamed from the L2 cache again; that takes less time than shorter blocks of k
would take to add their sums in memory. The unit's rows stay in the L2 cache for all panels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, KernelStep, KernelSteps
from chainrule.cpu.kernels.contraction.correlation import Run, Segments, segments_of
from chainrule.cpu.kernels.contraction.pack import Packing, packing_kernel
from chainrule.cpu.kernels.contraction.panel_blocking import WANTED_UNITS, PanelBlocking, row_blocking
from chainrule.cpu.kernels.contraction.tile import Panels, Tile, emit_sweep, tile_rows
from chainrule.cpu.kernels.contraction.turn import turn_sums

Strides = tuple[int, int, int]
"""Elements from one matrix, row and column to the next."""

_BLOCK_BYTES = 128 * 1024  # the part of a panel that is streamed again for every tile of the unit
_TILES = 4  # the tiles of a unit are a multiple of this; with two or three, it is up to a tenth slower where k is short


def matmul(
    target: Target,
    dtype: str,
    batch: int,
    m: int,
    n: int,
    k: int,
    a_strides: Strides,
    b_strides: Strides,
) -> KernelSteps:
    """Return the kernels of a matrix product.

    Their operands are "a" (batch, m, k), "b" (batch, k, n) and "out" (batch, m, n). a and b lie with any strides, in elements;
    out is dense and row-major.
    """
    nest = _Nest(target, dtype, batch, m, n, k, a_strides, b_strides)
    kernel = Kernel(
        "matmul",
        f"{dtype} {batch} {m} {n} {k} {a_strides} {b_strides}",
        lambda target, name: _generate(_Nest(target, dtype, batch, m, n, k, a_strides, b_strides), name),
        nest.units,
        nest.scratch_bytes,
        operations=2 * batch * m * n * k,
        bytes=nest.itemsize * batch * (m * k + k * n + m * n),
    )
    whole = nest.matrices == 1 or m % nest.blocking.rows == 0
    rows = nest.blocking.rows if whole and nest.blocking.column_blocks == 1 else None
    if not nest.packs or 0 in (nest.units, k):
        return KernelSteps([KernelStep(kernel, ("a", "b", "out"), rows)])
    steps = [KernelStep(packing_kernel(nest.packing, dtype), ("b", "packed")), KernelStep(kernel, ("a", "packed", "out"), rows)]
    return KernelSteps(steps, {"packed": nest.packing.elements * nest.itemsize})


@dataclass(frozen=True)
class _Nest:
    """How a matrix product is divided into blocks for a target, and the scratch memory that it needs."""

    target: Target
    dtype: str
    batch: int
    m: int
    n: int
    k: int
    a_strides: Strides
    b_strides: Strides

    @property
    def element(self) -> str:
        return LLVM_TYPES[self.dtype]

    @property
    def itemsize(self) -> int:
        return SIZES[self.element]

    @property
    def matrices(self) -> int:
        """The number of different matrices b. The rows of all matrices a that share the same b are processed together."""
        return self.batch if self.b_strides[0] and self.batch > 1 else 1

    @property
    def rows(self) -> int:
        """The rows of out that share the same b."""
        return self.batch * self.m // self.matrices

    @cached_property
    def panels(self) -> Panels:
        return Panels(max(self.n, 1), self.target.lanes(self.itemsize))

    @cached_property
    def tile_rows(self) -> int:
        return min(tile_rows(self.target, self.panels.vectors), max(self.rows, 1))

    @property
    def packs(self) -> bool:
        """Whether b is packed. If there are few rows, and columns of b are contiguous, copying it does not pay."""
        return self.b_strides[2] != 1 or self.rows > 2 * self.tile_rows

    @property
    def turns(self) -> bool:
        """Whether blocks of k of a are transposed first.

        That is so if the rows of a lie side by side, as each tile would read a cache line for every k.
        """
        return self.a_strides[2] != 1 and self.a_strides[1] == 1 and self.n >= 32 and self.matrices == self.batch

    @property
    def turned_pitch(self) -> int:
        """Elements from one row of a transposed block to the next: an odd number of cache lines, to use all cache sets."""
        line = 64 // self.itemsize
        return line * (-(-max((length for *_, length in self.blocks), default=1) // line) | 1)

    @cached_property
    def blocks(self) -> list[tuple[int, int, int, int]]:
        """For each block of k, (first segment, number of segments, first k, number of k)."""
        ends = [*(first for _, _, first in self.segments.blocks[1:]), self.k]
        return [(*block, end - block[2]) for block, end in zip(self.segments.blocks, ends, strict=True)]

    @cached_property
    def packing(self) -> Packing:
        along_k = self.b_strides[1] == 1 and self.b_strides[2] != 1  # then blocks are transposed, else rows are copied
        return Packing(
            groups=self.matrices,
            group_stride=self.b_strides[0] if self.matrices > 1 else 0,
            outer=1 if along_k else self.k,
            outer_stride=0 if along_k else self.b_strides[1],
            inner=self.k if along_k else 1,
            inner_stride=1,
            panels=self.panels,
            column_stride=self.b_strides[2],
        )

    @cached_property
    def segments(self) -> Segments:
        return segments_of([[Run(0, 0, self.k)] if self.k else []], _BLOCK_BYTES // (self.panels.width * self.itemsize))

    @cached_property
    def blocking(self) -> PanelBlocking:
        several = self.rows >= _TILES * self.tile_rows * 2 * WANTED_UNITS
        period = _TILES * self.tile_rows if several else self.tile_rows
        return row_blocking(
            rows=max(self.rows, 1),
            row_pixels=1,
            period=math.lcm(period, 4) if self.turns else period,  # rows of a are transposed in blocks of 4
            row_bytes=(self.k + self.n) * self.itemsize,
            border_bytes=0,
            depth=self.k,
            groups=1,
            panels=self.panels,
            steps=lambda rows: -(-rows // self.tile_rows) * self.tile_rows * self.k,
            itemsize=self.itemsize,
            whole_periods=self.turns or several,
        )

    @property
    def units(self) -> int:
        return self.matrices * self.blocking.units if self.rows and self.n else 0

    @property
    def table_bytes(self) -> int:
        return 8 * (self.blocking.rows + self.tile_rows)

    @property
    def scratch_bytes(self) -> int:
        turned = self.blocking.rows * self.turned_pitch * self.itemsize if self.turns else 0
        return 2 * self.table_bytes + turned


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
        self.f, self.nest, self.element = f, nest, nest.element
        self.a, self.b, self.out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(3))
        table_bytes = f.parameter(nest.table_bytes)
        self.sources = f["scratch"]
        self.places = f.at(f["scratch"], table_bytes, "i8")
        self.turned = f.at(self.places, table_bytes, "i8")
        # What follows from the number of rows
        blocking = nest.blocking
        self.matrix_rows, self.rows, self.units = (
            f.parameter(nest.rows),
            f.parameter(blocking.rows),
            f.parameter(blocking.units),
        )
        self.column_blocks = f.parameter(blocking.column_blocks)
        self.column_panels = f.parameter(blocking.column_panels)
        self.step = 1 if nest.turns else nest.a_strides[2]
        module.constant("segments", "i64", self._segment_places() or [0])
        module.constant("lengths", "i64", nest.segments.lengths or [0])
        for i, table in enumerate(("block_segment", "block_count", "block_depth", "block_length")):
            module.constant(table, "i64", [block[i] for block in nest.blocks])
        if nest.turns:
            turn_sums(module, self.element, nest.a_strides[2])
        panels = nest.panels
        if panels.full:
            emit_sweep(module, "sweep", self._tile(panels.vectors, panels.width))
        if panels.rest:
            emit_sweep(module, "sweep_rest", self._tile(panels.rest_vectors, panels.rest))

    def _segment_places(self) -> list[int]:
        """Return the element of a row of a at which each segment begins; in a transposed block, counted from its first k."""
        offsets = self.nest.segments.offsets
        if not self.nest.turns:
            return [offset * self.step for offset in offsets]
        return [offset - k for first, count, k, _ in self.nest.blocks for offset in offsets[first : first + count]]

    def _tile(self, vectors: int, columns: int) -> Tile:
        """Return the tile for panels of so many vectors and columns."""
        nest, lanes = self.nest, self.nest.panels.lanes
        return Tile(
            element=self.element,
            lanes=lanes,
            rows=nest.tile_rows,
            vectors=vectors,
            columns=columns,
            step=self.step,
            b_step=vectors * lanes if nest.packs else nest.b_strides[1],
            padded=nest.packs,
            length=nest.segments.length,
            in_a_row=nest.segments.in_a_row,
        )

    def unit(self, unit: Value) -> None:
        """Emit the work of a unit."""
        f, nest = self.f, self.nest
        matrix = unit // self.units if nest.matrices > 1 else f.index(0)
        within = f.index(unit % self.units) if nest.matrices > 1 else unit
        first = f.index(within // self.column_blocks * self.rows)
        last = f.index(f.least(first + self.rows, self.matrix_rows))
        start = f.index(matrix * self.matrix_rows) if nest.matrices > 1 else f.index(0)
        tiles = self._rows(start + first, start + last)
        first_panel = f.index(within % self.column_blocks * self.column_panels)
        last_panel = f.index(f.least(first_panel + self.column_panels, nest.panels.count))
        with f.loop(0, len(nest.blocks)) as block:
            if nest.turns:
                self._turn(matrix, first, last - first, block)
            self._panels(tiles, matrix, block, first_panel, last_panel)

    def _rows(self, first: Value, last: Value) -> Value:
        """List the addresses of the rows ``first`` to ``last`` (excluded) of a and out; returns the number of tiles.

        Rows are counted through all matrices.
        """
        f, nest, rows = self.f, self.nest, self.nest.tile_rows
        tiles = (last - first + (rows - 1)) // rows
        with f.loop(0, f.index(tiles * rows)) as i:
            row = f.index(f.least(first + i, last - 1))  # the last row is repeated until it fills its tile
            if nest.turns:
                source = f.at(self.turned, f.index((row - first) * nest.turned_pitch), self.element)
            elif nest.batch == 1 or nest.a_strides[0] == nest.m * nest.a_strides[1]:  # rows are as far apart in all matrices
                source = f.at(self.a, f.index(row * nest.a_strides[1]), self.element)
            else:
                place = f.index(row // nest.m * nest.a_strides[0]) + f.index(row % nest.m * nest.a_strides[1])
                source = f.at(self.a, place, self.element)
            f.store(source, f.at(self.sources, i, "ptr"))
            f.store(f.at(self.out, f.index(row * nest.n), self.element), f.at(self.places, i, "ptr"))
        return tiles

    def _turn(self, matrix: Value, first: Value, rows: Value, block: Value) -> None:
        """Transpose a block of k of the unit's rows, so that the k of each row are contiguous."""
        f, nest = self.f, self.nest
        place = f.index(self._entry("block_depth", block) * nest.a_strides[2]) + f.index(matrix * nest.a_strides[0]) + first
        size = (self._entry("block_length", block), rows, f.index(nest.turned_pitch))
        f.call("turn_sums", "void", f.at(self.a, place, self.element), self.turned, *size, f.index(1), f.index(0))

    def _entry(self, table: str, i: int | Value) -> Value:
        """Load entry i of a table."""
        return self.f.load(self.f.at(Value(self.f, f"@{table}", "ptr"), i, "i64"), "i64")

    def _panels(self, tiles: Value, matrix: Value, block: Value, first: Value, last: Value) -> None:
        """Emit a loop over panels ``first`` to ``last`` (excluded), which computes all tiles for a block of k."""
        f, nest, panels = self.f, self.nest, self.nest.panels
        depth, segment = self._entry("block_depth", block), self._entry("block_segment", block)
        tables = [f.at(Value(f, f"@{table}", "ptr"), segment, "i64") for table in ("segments", "lengths", "lengths")]
        accumulate = f.compare("ne", block, 0)

        def sweep(name: str, panel: int | Value, width: int) -> None:
            if nest.packs:
                b = f.at(self.b, f.index(matrix * (nest.k * panels.padded)), self.element)
                b = f.at(b, f.index(panel * (nest.k * panels.width)), self.element)
                b = f.at(b, f.index(depth * width), self.element)
            else:
                b = f.at(self.b, f.index(matrix * nest.b_strides[0]), self.element)
                b = f.at(b, f.index(panel * panels.width), self.element)
                b = f.at(b, f.index(depth * nest.b_strides[1]), self.element)
            column = f.index(panel * panels.width)
            count = self._entry("block_count", block)
            f.call(name, "void", self.sources, self.places, tiles, b, f.index(0), column, *tables, count, accumulate)

        if panels.full:
            with f.loop(first, f.least(last, panels.full)) as panel:
                sweep("sweep", panel, panels.width)
        if panels.rest:
            with f.when(f.compare("sgt", last, panels.full)):
                sweep("sweep_rest", panels.full, panels.rest_vectors * panels.lanes)
