"""Packs a matrix b[k, n], in whatever order it lies in memory, into panels of columns, which tiles read sequentially."""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel
from chainrule.cpu.kernels.contraction.tile import Panels
from chainrule.cpu.kernels.contraction.turn import turned

_WANTED_UNITS = 8


@dataclass(frozen=True)
class Packing:
    """Where ``groups`` matrices of ``outer * inner`` rows k lie, and in which order their rows are packed.

    Element n of the row (outer e, inner i) lies at group * ``group_stride`` + e * ``outer_stride`` + i * ``inner_stride`` +
    n * ``column_stride``, in elements. It becomes row number ranks[i] * outer + e of its panel, where ranks[i] = i if ``ranks``
    is None.
    """

    groups: int
    group_stride: int
    outer: int
    outer_stride: int
    inner: int
    inner_stride: int
    panels: Panels
    column_stride: int
    ranks: tuple[int, ...] | None = None

    @property
    def rows(self) -> int:
        """The rows k of a matrix."""
        return self.outer * self.inner

    @property
    def elements(self) -> int:
        """The elements of all panels, padding included."""
        return self.groups * self.rows * self.panels.padded

    @property
    def outer_block(self) -> int:
        """The outer rows of a unit."""
        wanted = -(-_WANTED_UNITS // max(1, self.groups * self.panels.count))
        return -(-self.outer // min(self.outer, wanted))


def packing_kernel(packing: Packing, dtype: str) -> Kernel:
    """Return the kernel that packs.

    Its operands are the source and the panels (group, panel, row, column). A unit is a block of outer rows of a panel.
    """
    itemsize = SIZES[LLVM_TYPES[dtype]]
    blocks = -(-packing.outer // packing.outer_block)
    return Kernel(
        "pack",
        f"{dtype} {packing}",
        lambda target, name: _generate(packing, LLVM_TYPES[dtype], target, name),
        packing.groups * packing.panels.count * blocks,
        bytes=2 * packing.elements * itemsize,
    )


def _generate(packing: Packing, element: str, target: Target, name: str) -> Module:
    module = Module(target.vector_bits, target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    panels = packing.panels
    if packing.ranks is not None:
        module.constant("ranks", "i64", packing.ranks)
    copy = module.function("panel", _PARAMETERS, internal=True, inline=False)
    _Panel(copy, packing, element, panels.vectors, panels.width).emit()
    if panels.rest:
        copy = module.function("last_panel", _PARAMETERS, internal=True, inline=False)
        _Panel(copy, packing, element, panels.rest_vectors, panels.rest).emit()
    source, packed = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(2))
    blocks = -(-packing.outer // packing.outer_block)
    with f.loop(f["begin"], f["end"]) as unit:
        block, rest = f.index(unit % blocks), unit // blocks
        group, panel = f.index(rest // panels.count), f.index(rest % panels.count)
        first = f.index(block * packing.outer_block)
        last = f.index(f.least(first + packing.outer_block, packing.outer))
        start = f.at(source, group * packing.group_stride, element)
        start = f.at(start, f.index(panel * panels.width) * packing.column_stride, element)
        target_place = f.at(packed, group * (packing.rows * panels.padded), element)
        target_place = f.at(target_place, panel * (packing.rows * panels.width), element)
        if panels.full:
            with f.when(f.compare("slt", panel, panels.full)):
                f.call("panel", "void", start, target_place, first, last)
        if panels.rest:
            with f.when(f.compare("eq", panel, panels.full)):
                f.call("last_panel", "void", start, target_place, first, last)
    return module


_PARAMETERS = [("ptr noalias", "source"), ("ptr noalias", "packed"), ("i64", "begin"), ("i64", "end")]


class _Panel:
    """Emits the function that copies outer rows ``begin`` to ``end`` (excluded) of a panel.

    The panel has ``columns`` columns in ``vectors`` vectors; columns that pad the last vector are 0.
    """

    def __init__(self, f: Function, packing: Packing, element: str, vectors: int, columns: int) -> None:
        self.f, self.packing, self.element, self.columns = f, packing, element, columns
        self.lanes = packing.panels.lanes
        self.width = vectors * self.lanes
        self.block = 16 // SIZES[element]

    def emit(self) -> None:
        """Emit the loops, with the way to copy that suits the order in which the source lies."""
        f, packing = self.f, self.packing
        with f.loop(f["begin"], f["end"]) as e:
            self.start = f.at(f["source"], e * packing.outer_stride, self.element)
            if packing.column_stride == 1:
                with f.loop(0, packing.inner) as i:
                    self._copy(e, i)
            elif packing.inner_stride == 1 and packing.inner >= self.block:
                begin = 0
                for blocks in (4, 1):
                    step = blocks * self.block
                    end = begin + (packing.inner - begin) // step * step
                    if end > begin:
                        with f.loop(begin, end, step) as i:
                            self._turn(e, i, blocks)
                    begin = end
                with f.loop(begin, packing.inner) as i:
                    self._gather(e, i)
            else:
                with f.loop(0, packing.inner) as i:
                    self._gather(e, i)

    def _row(self, e: Value, i: Value) -> Value:
        """Return the address in the panel of the row (outer e, inner i)."""
        f, packing = self.f, self.packing
        rank = i
        if packing.ranks is not None:
            rank = f.load(f.at(Value(f, "@ranks", "ptr"), i, "i64"), "i64")
        return f.at(f["packed"], f.index((e + rank * packing.outer) * self.width), self.element)

    def _number(self, i: Value, column: int | Value) -> Value:
        """Return the address in the source of an element of inner row i of the current outer row."""
        address = self.f.at(self.start, i * self.packing.inner_stride, self.element)
        return self.f.at(address, column * self.packing.column_stride, self.element)

    def _copy(self, e: Value, i: Value) -> None:
        """Copy a row whose columns are contiguous in the source, vector by vector."""
        f, row, whole = self.f, self._row(e, i), self.columns // self.lanes
        for v in range(whole):
            f.store(
                f.load(self._number(i, v * self.lanes), vector(self.lanes, self.element)),
                f.at(row, v * self.lanes, self.element),
            )
        self._edge(row, i, whole * self.lanes)

    def _gather(self, e: Value, i: Value) -> None:
        """Copy a row element by element."""
        f, row = self.f, self._row(e, i)
        with f.loop(0, self.columns) as column:
            f.store(f.load(self._number(i, column), self.element), f.at(row, column, self.element))
        self._zeros(row)

    def _edge(self, row: Value, i: Value, first: int) -> None:
        """Copy the columns of a row from ``first`` on, element by element, and pad it with zeros."""
        f = self.f
        if first < self.columns:
            with f.loop(first, self.columns) as column:
                f.store(f.load(self._number(i, column), self.element), f.at(row, column, self.element))
        self._zeros(row)

    def _zeros(self, row: Value) -> None:
        """Pad a row with zeros."""
        if self.columns < self.width:
            with self.f.loop(self.columns, self.width) as column:
                self.f.store(self.f.zero(self.element), self.f.at(row, column, self.element))

    def _turn(self, e: Value, i: Value, blocks: int) -> None:
        """Transpose ``blocks`` square blocks of inner rows from i on, all columns, in registers.

        In the source, inner rows are contiguous for each column, so the loads are along them; several blocks at a time use
        whole cache lines.
        """
        f, size = self.f, self.block
        rows = [self._row(e, i + r) for r in range(blocks * size)]
        type_ = vector(size, self.element)
        with f.loop(0, self.columns // size) as tile:
            column = f.index(tile * size)
            for first in range(0, blocks * size, size):
                lines = [f.load(self._number(i + first, column + c), type_) for c in range(size)]
                for row, line in zip(rows[first : first + size], turned(f, lines), strict=True):
                    f.store(line, f.at(row, column, self.element))
        if self.columns % size or self.columns < self.width:
            with f.loop(0, blocks * size) as r:
                self._edge(self._row(e, i + r), i + r, self.columns // size * size)
