"""The register tile of all contractions: M rows times V vectors of columns, summed over k in registers.

    out[m, n] (+)= sum over k of a[m, k] * b[k, n]

Each row of a has a pointer of its own (an indirect product), so the rows of a tile may be any M pixels, even of different
images. The sum over k runs over *segments*: stretches of k in which the elements of a row of a are a constant step apart, for
example the taps in a row of a convolution's window. b lies in *panels*: for each k, the V vectors of columns are contiguous,
and the k follow each other in the order of the segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from chainrule.cpu.codegen.emit import Function, Module, Value, Variable, emitted_once, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES
from chainrule.cpu.kernels.edges import load_columns, store_columns

_UNROLLED = 8  # a segment of at most so many k is unrolled in full
_STEPS = 4  # steps of k in a round of the loop over a longer segment


def tile_rows(target: Target, vectors: int) -> int:
    """Return the rows of a tile with that many ``vectors`` of columns, so that the registers are full.

    There are vector registers for all sums, for the vectors of b and for an element of a; and a general register for the
    pointer of each row.
    """
    if target.registers == 32:
        return {1: 12, 2: 12 if target.vector_bytes == 64 else 8}[vectors]
    if target.vector_bytes == 32:
        return {1: 8, 2: 6}[vectors]
    return {1: 8, 2: 4}[vectors]


@dataclass(frozen=True)
class Panels:
    """The division of the columns of b: ``full`` panels of ``width`` columns, then a panel of ``rest`` columns if any are left.

    Args:
        columns: the number of columns.
        lanes: the elements of a vector.
    """

    columns: int
    lanes: int

    @property
    def vectors(self) -> int:
        """The vectors of a full panel."""
        return 1 if self.columns <= self.lanes else 2

    @property
    def width(self) -> int:
        """The columns of a full panel."""
        return self.vectors * self.lanes

    @property
    def full(self) -> int:
        """The number of full panels."""
        return self.columns // self.width

    @property
    def rest(self) -> int:
        """The columns of the last panel if it is not full, else 0."""
        return self.columns % self.width

    @property
    def rest_vectors(self) -> int:
        """The vectors of the last panel if it is not full, else 0."""
        return -(-self.rest // self.lanes)

    @property
    def count(self) -> int:
        """The number of all panels."""
        return self.full + (self.rest > 0)

    @property
    def padded(self) -> int:
        """The columns of all panels in memory, where the last panel is padded to whole vectors."""
        return self.full * self.width + self.rest_vectors * self.lanes


@dataclass(frozen=True)
class Tile:
    """The sizes of a tile.

    Attributes:
        element: the LLVM type of an element.
        lanes: the elements of a vector.
        rows: the rows of the tile.
        vectors: the vectors of columns of the tile.
        columns: the columns that are stored, at most ``vectors * lanes``.
        step: elements of a from one k to the next within a segment.
        b_step: elements of b from one k to the next: the width of the panel, or of a matrix row if b is read in place.
        length: the number of k in each segment; None if they differ.
        padded: whether b is padded to whole vectors; it is not if it is read in place.
        jumps: whether segments do not follow each other in b, so that each needs to say where it begins there.
        in_a_row: how many segments are summed up in registers before the sums are added to the output; None for all.
    """

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
        """Return how many columns of each vector are stored."""
        return [min(self.lanes, self.columns - v * self.lanes) for v in range(self.vectors)]


def element_type(dtype: str) -> str:
    """Return the LLVM type of an element of ``dtype``."""
    return LLVM_TYPES[dtype]


@emitted_once
def emit_sweep(module: Module, name: str, tile: Tile) -> None:
    """Define the function that computes ``tiles`` tiles of rows for a panel of b.

        void NAME(rows, places, tiles, b, offset, column, segments, lengths, depths, count, accumulate)

    Loop order: tiles of rows, segments, k. It reads the table ``rows`` of the addresses of a's rows (``offset`` elements are
    added to each), the panel ``b`` and the table ``segments`` of the element in a row of a at which each of the ``count``
    segments begins; also their ``lengths`` if they differ and their ``depths`` (the row of ``b`` at which they begin) if they
    jump. It writes to the rows of the output whose addresses are in the table ``places``, from ``column`` on.

    If ``accumulate``, the output's old values are added at the end. So rounding errors grow with the number of k in a block and
    with the number of blocks, but not with their product.
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
    """Emit a loop over groups of segments that are summed up in registers; yields the first and the last (excluded) segment.

    If there are no segments at all, the body runs once for none, as its sums, 0, have to be stored.
    """
    if tile.in_a_row is None:
        yield 0, f["count"]
        return
    some = f.select(f.compare("sgt", f["count"], 0), f["count"], f.index(1))
    with f.loop(0, some, tile.in_a_row) as since:
        yield since, f.index(f.least(since + tile.in_a_row, f["count"]))


def _finish(
    f: Function, tile: Tile, sums: Sequence[Sequence[Variable]], places: Sequence[Value], accumulate: Value
) -> None:  # fmt: skip
    """Store the sums of a tile, if ``accumulate`` after adding the old values.

    All rows are read before any is written, as several rows of the last tile may be the same row, repeated to fill the tile.
    """

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
    """Emit a segment, which begins at element ``begin`` of each row of a; ``panel`` advances over its k of b."""
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
    """Emit a single k: load the vectors of b; for each row, broadcast its element of a, and add the products to the sums."""
    type_ = vector(tile.lanes, tile.element)
    columns = [
        load_columns(f, f.at(b, v * tile.lanes, tile.element), type_, tile.lanes if tile.padded else count)
        for v, count in enumerate(tile.counts())
    ]
    for source, row in zip(sources, sums, strict=True):
        number = f.broadcast(f.at(f.at(source, place, tile.element), u * tile.step, tile.element), type_)
        for v, column in enumerate(columns):
            row[v].set(f.fma(number, column, row[v].get()))
