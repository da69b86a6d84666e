"""The register tile under every contraction: M rows times V vectors of columns, summed over k in registers.

    out[m, n] (+)= sum over k of a[m, k] * b[k, n]

Rows are addressed by one pointer each (an indirect product), so a tile may take any M pixels, also of different images.
The sum runs over *segments*: stretches of k in which ``a`` advances by a constant step, such as the taps of one row of a
convolution's window. ``b`` lies in *panels*: for each k the V vectors of columns side by side, in the order of the segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from chainrule.cpu.codegen.emit import Function, Module, Value, Variable, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES
from chainrule.cpu.kernels.edges import load_columns, store_columns

_UNROLLED = 8  # a segment of so many steps of k is written out in full
_STEPS = 4  # of k that a longer segment takes at a time


def tile_rows(target: Target, vectors: int) -> int:
    """How many rows fill the registers: accumulators, ``vectors`` of b and one of a, and a base pointer for each row."""
    if target.registers == 32:
        return {1: 12, 2: 12 if target.vector_bytes == 64 else 8}[vectors]
    if target.vector_bytes == 32:
        return {1: 8, 2: 6}[vectors]
    return {1: 8, 2: 4}[vectors]


@dataclass(frozen=True)
class Panels:
    """How the columns of b are cut: ``full`` panels of ``width`` columns, then one of ``rest`` columns, if any are left."""

    columns: int
    lanes: int

    @property
    def vectors(self) -> int:
        return 1 if self.columns <= self.lanes else 2

    @property
    def width(self) -> int:
        return self.vectors * self.lanes

    @property
    def full(self) -> int:
        return self.columns // self.width

    @property
    def rest(self) -> int:
        return self.columns % self.width

    @property
    def rest_vectors(self) -> int:
        return -(-self.rest // self.lanes)

    @property
    def count(self) -> int:
        return self.full + (self.rest > 0)

    @property
    def padded(self) -> int:
        """Columns that lie in memory: those of the last panel are filled up to whole vectors."""
        return self.full * self.width + self.rest_vectors * self.lanes


@dataclass(frozen=True)
class Tile:
    """``columns`` are those stored, of the panel's ``vectors * lanes``; ``step`` is how far ``a`` advances with k;
    ``b_step`` how far b does: the panel's width, or the row of a matrix whose columns are read in place (then b is not
    ``padded`` with zeros up to whole vectors); ``length`` is that of every segment, None where they differ; ``jumps``: the
    segments do not follow each other in b; ``in_a_row``: how many are summed up before they are added to what is there, None
    for all."""

    element: str
    lanes: int
    rows: int
    vectors: int
    columns: int
    step: int
    b_step: int
    length: int | None
    padded: bool = True
    jumps: bool = False
    in_a_row: int | None = None

    def counts(self) -> list[int]:
        """Columns stored from each vector."""
        return [min(self.lanes, self.columns - v * self.lanes) for v in range(self.vectors)]


def element_type(dtype: str) -> str:
    return LLVM_TYPES[dtype]


def emit_sweep(module: Module, name: str, tile: Tile) -> None:
    """The function that goes through ``tiles`` tiles of rows for one panel of b.

    Loop order: tiles of rows, segments, k. Reads the table ``rows`` of addresses of a's rows (plus ``offset`` elements), the
    panel ``b`` and the table ``segments``, also their ``lengths`` where they differ and their ``depths`` in b where they jump.
    Writes the rows in the table ``places`` from ``column`` on; where ``accumulate`` holds, what is there is added at the end:
    so rounding errors grow with the length of a block and with the number of blocks, not with their product.
    """
    parameters = [("ptr noalias", "rows"), ("ptr noalias", "places"), ("i64", "tiles"), ("ptr noalias", "b")]
    parameters += [("i64", "offset"), ("i64", "column"), ("ptr noalias", "segments")]
    parameters += [("ptr noalias", "lengths"), ("ptr noalias", "depths")]
    f = module.function(
        name, [*parameters, ("i64", "count"), ("i1", "accumulate")], internal=True, inline=False
    )  # fmt: skip
    with f.loop(0, f["tiles"]) as t:
        first = f.index(t * tile.rows)
        places = [f.at(f.at(f["places"], first, "ptr"), m, "ptr") for m in range(tile.rows)]
        panel = f.variable("ptr", f["b"])
        type_ = vector(tile.lanes, tile.element)
        with _segments(f, tile) as (since, until):
            sums = [[f.variable(type_, f.zero(type_)) for _ in range(tile.vectors)] for _ in places]
            sources = [f.load(f.at(f.at(f["rows"], first, "ptr"), m, "ptr"), "ptr") for m in range(tile.rows)]
            sources = [f.at(source, f["offset"], tile.element) for source in sources]
            with f.loop(since, until) as segment:
                begin = f.load(f.at(f["segments"], segment, "i64"), "i64")
                if tile.jumps:
                    depth = f.load(f.at(f["depths"], segment, "i64"), "i64")
                    panel.set(f.at(f["b"], f.index(depth * tile.b_step), tile.element))
                _segment(f, tile, sums, sources, panel, begin, segment)
            accumulate = f["accumulate"] if tile.in_a_row is None else f["accumulate"] | f.compare("ne", f.index(since), 0)
            _finish(f, tile, sums, places, accumulate)


@contextmanager
def _segments(f: Function, tile: Tile) -> Iterator[tuple[int | Value, Value]]:
    """The segments that are summed up in a row, from and to; of none at all a sum of nothing."""
    if tile.in_a_row is None:
        yield 0, f["count"]
        return
    some = f.select(f.compare("sgt", f["count"], 0), f["count"], f.index(1))
    with f.loop(0, some, tile.in_a_row) as since:
        yield since, f.index(f.least(since + tile.in_a_row, f["count"]))


def _finish(
    f: Function, tile: Tile, sums: Sequence[Sequence[Variable]], places: Sequence[Value], accumulate: Value
) -> None:  # fmt: skip
    """All rows are read before one is written: the last ones may be one and the same."""

    def each(row: Sequence[Variable], place: Value) -> Iterator[tuple[Variable, Value, int]]:
        address = f.at(f.load(place, "ptr"), f["column"], tile.element)
        for v, count in enumerate(tile.counts()):
            yield row[v], f.at(address, v * tile.lanes, tile.element), count

    with f.when(accumulate):
        for place, row in zip(places, sums, strict=True):
            for total, address, count in each(row, place):
                total.set(total.get() + load_columns(f, address, total.type, count))
    for place, row in zip(places, sums, strict=True):
        for total, address, count in each(row, place):
            store_columns(f, total.get(), address, count)


def _segment(
    f: Function,
    tile: Tile,
    sums: Sequence[Sequence[Variable]],
    sources: Sequence[Value],
    panel: Variable,
    begin: Value,
    segment: Value,
) -> None:
    place = f.variable("i64", begin)

    def steps(count: int) -> None:
        start, b = place.get(), panel.get()
        for u in range(count):
            _step(f, tile, sums, sources, f.at(b, u * tile.b_step, tile.element), start, u)
        panel.set(f.at(b, count * tile.b_step, tile.element))
        place.set(start + count * tile.step)

    if tile.length is not None and tile.length <= _UNROLLED:
        steps(tile.length)
        return
    length: int | Value = tile.length or f.load(f.at(f["lengths"], segment, "i64"), "i64")
    with f.loop(0, length // _STEPS):
        steps(_STEPS)
    if isinstance(length, Value):
        with f.loop(0, length % _STEPS):
            steps(1)
    elif length % _STEPS:
        steps(length % _STEPS)


def _step(
    f: Function,
    tile: Tile,
    sums: Sequence[Sequence[Variable]],
    sources: Sequence[Value],
    b: Value,
    place: Value,
    u: int,
) -> None:
    """One k: load the vectors of b, then for each row spread its number and add its products."""
    type_ = vector(tile.lanes, tile.element)
    columns = [
        load_columns(f, f.at(b, v * tile.lanes, tile.element), type_, tile.lanes if tile.padded else count)
        for v, count in enumerate(tile.counts())
    ]
    for source, row in zip(sources, sums, strict=True):
        number = f.broadcast(f.at(f.at(source, place, tile.element), u * tile.step, tile.element), type_)
        for v, column in enumerate(columns):
            row[v].set(f.fma(number, column, row[v].get()))
