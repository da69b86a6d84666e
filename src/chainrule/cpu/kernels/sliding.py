"""Kernels that slide a window over images (N, H, W, C): the loops that depthwise convolution and pooling share.

What is written is an image, each of whose pixels is made of a few pixels of what is read: by a window that slides forward
(pixels of the image make a place), or by its adjoint (the places that reach a pixel make it). Nothing is read from memory
that is written, so units may be any blocks of rows.

Loop order: units (rows of all images together), blocks of channels, rows, tiles of neighbouring columns, vectors of channels,
vertical taps; a tile's columns and horizontal taps are written out, so that a column which several windows share is loaded
once. Rows outside the image are left out by the bounds of the vertical loop; tiles at the left and right edge have code of
their own, which knows the taps that lie inside. Where that would be much code, columns and taps are loops as well.

Channels that are no multiple of the vector are covered by a last vector that overlaps the one before it and writes the same
numbers once more; so there are no masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value, Variable, element_of, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES
from chainrule.cpu.kernels.geometry import Pair

_UNIT_BYTES = 256 * 1024
_FEWEST_UNITS = 16
_MOST_COLUMNS = 8
"""Columns of the source that a tile advances by: more of them are too many streams for the memory."""
SPARSE_PIXEL_BYTES = 128
"""Of smaller pixels a tile is read as good as in order."""
_MOST_WRITTEN_OUT = 400
"""Taps of all tiles in the code of one row."""
_LINE_BYTES = 64


# ---- geometry of one axis


@dataclass(frozen=True)
class Axis:
    """One axis of a sliding window: an image of ``size`` positions, ``places`` of the window, ``before``: the padding."""

    size: int
    places: int
    window: int
    stride: int
    before: int
    dilation: int = 1


@dataclass(frozen=True)
class Tile:
    """``columns`` neighbours from ``first`` on, then again ``repeats`` - 1 times; ``first`` counts within a line."""

    first: int
    columns: int
    repeats: int
    is_inner: bool


@dataclass(frozen=True)
class Line:
    """How positions of one axis of what is written are made of positions of what is read.

    Position ``first`` + ``step`` * j, for j from 0 to ``count``, takes for each (tap, offset) of ``taps`` the position
    ``stride`` * j + offset, if that lies within 0 to ``size``. Offsets rise by ``offset_step``, their taps by ``tap_step``.
    """

    first: int
    step: int
    count: int
    stride: int
    taps: tuple[Pair, ...]
    tap_step: int
    offset_step: int
    size: int

    @property
    def inner(self) -> Pair:
        """The j for which every tap lies inside: from, to (excluded)."""
        low = max((-(offset // self.stride) for _, offset in self.taps if offset < 0), default=0)
        high = min(((self.size - 1 - offset) // self.stride + 1 for _, offset in self.taps), default=self.count)
        low = min(low, self.count)
        return low, max(low, min(high, self.count))

    def tiles(self, most: int) -> list[Tile]:
        """The j in tiles of at most ``most``, as even as can be; equal inner ones together."""
        if self.count == 0:
            return []
        columns = -(-self.count // -(-self.count // most))
        low, high = self.inner
        made: list[Tile] = []
        for first in range(0, self.count, columns):
            width = min(columns, self.count - first)
            is_inner = low <= first and first + width <= high
            if made and is_inner and made[-1].is_inner and made[-1].columns == width:
                made[-1] = Tile(made[-1].first, width, made[-1].repeats + 1, True)
            else:
                made.append(Tile(first, width, 1, is_inner))
        return made

    def uses(self, tile: Tile) -> dict[int, list[Pair]]:
        """Per position that the tile reads, counted from ``stride`` * j of its first: (column of the tile, tap) of each use."""
        found: dict[int, list[Pair]] = {}
        for column in range(tile.columns):
            for tap, offset in self.taps:
                position = self.stride * column + offset
                if tile.is_inner or 0 <= self.stride * tile.first + position < self.size:
                    found.setdefault(position, []).append((column, tap))
        return dict(sorted(found.items()))

    def length(self, most: int) -> int:
        """How many taps the code of all its tiles has."""
        return sum(len(used) for tile in self.tiles(most) for used in self.uses(tile).values())


def forward_lines(axis: Axis) -> list[Line]:
    """Places of the window, made of positions of the image."""
    taps = tuple((tap, tap * axis.dilation - axis.before) for tap in range(axis.window))
    return [Line(0, 1, axis.places, axis.stride, taps, 1, axis.dilation, axis.size)]


def adjoint_lines(axis: Axis) -> list[Line]:
    """Positions of the image, made of the places that reach them; a line for each phase of the stride."""
    common = math.gcd(axis.stride, axis.dilation)
    lines = []
    for phase in range(max(1, min(axis.stride, axis.size))):
        reach = [(tap, phase + axis.before - tap * axis.dilation) for tap in reversed(range(axis.window))]
        taps = tuple((tap, offset // axis.stride) for tap, offset in reach if offset % axis.stride == 0)
        count = max(0, -(-(axis.size - phase) // axis.stride))
        steps = -(axis.stride // common), axis.dilation // common
        lines.append(Line(phase, axis.stride, count, 1, taps, *steps, axis.places))
    return lines


@dataclass(frozen=True)
class Taps:
    """Of one position, known when the kernel runs: ``count`` taps from ``tap`` on, which take positions from ``source`` on."""

    count: Value
    tap: Value
    source: Value


def greatest(f: Function, a: Value, b: int | Value) -> Value:
    """The larger of two indices."""
    return f.select(f.compare("sgt", a, b), a, f.index(b))


def taps_at(f: Function, lines: Sequence[Line], position: Value) -> Taps:
    """The taps of ``position`` that lie inside."""
    line = lines[0]
    j, phase = f.index(position // line.step), f.index(position % line.step)

    def of_phase(numbers: Sequence[int]) -> Value:
        chosen = f.index(numbers[0])
        for i, number in enumerate(numbers):
            if number != numbers[0]:
                chosen = f.select(f.compare("eq", phase, i), f.index(number), chosen)
        return chosen

    count = of_phase([len(one.taps) for one in lines])
    tap = of_phase([one.taps[0][0] if one.taps else 0 for one in lines])
    source = f.index(j * line.stride) + of_phase([one.taps[0][1] if one.taps else 0 for one in lines])
    step = line.offset_step
    skipped = (greatest(f, -source, 0) + (step - 1)) // step
    end = f.index(f.least(count, (greatest(f, line.size - source, 0) + (step - 1)) // step))
    return Taps(
        greatest(f, end - skipped, 0), tap + f.index(skipped * line.tap_step), source + f.index(skipped * step)
    )  # fmt: skip


# ---- vectors of channels


@dataclass(frozen=True)
class Vectors:
    """The channels of a pixel as vectors of ``lanes``; the last one may overlap the one before it."""

    channels: int
    lanes: int

    @property
    def count(self) -> int:
        return -(-self.channels // self.lanes)

    @property
    def slots(self) -> int:
        """Elements of all vectors if they did not overlap."""
        return self.count * self.lanes

    def start(self, f: Function, number: Value) -> Value:
        """The first channel of a vector."""
        if self.channels % self.lanes == 0:
            return f.index(number * self.lanes)
        return f.index(f.least(f.index(number * self.lanes), self.channels - self.lanes))


def vectors_of(target: Target, channels: int, element: str) -> Vectors:
    """Of fewer channels than a vector has lanes, the widest power of two that they fill."""
    return Vectors(channels, min(target.lanes(SIZES[element]), 1 << (channels.bit_length() - 1)))


# ---- the loops


@dataclass(frozen=True)
class Pixel:
    """Pixel number ``base`` + ``constant`` of a batch of images."""

    base: Value
    constant: int = 0


@dataclass(frozen=True)
class Spot:
    """One vector of the ``channels`` of a pixel, from ``channel`` on, while its code is emitted.

    ``slot`` is where it would begin if vectors did not overlap.
    """

    f: Function
    channels: int
    channel: Value
    slot: Value
    type: str
    starts: dict[tuple[str, str], Value] = field(default_factory=dict, compare=False)
    """Addresses of pixels without their constant, where they are known already: shorter code is compiled sooner."""

    def address(self, image: Value, pixel: Pixel, element: str) -> Value:
        """In an image of as many channels."""
        key = image.text, pixel.base.text
        if key not in self.starts:
            self.starts[key] = self.f.at(image, self.f.index(pixel.base * self.channels) + self.channel, element)
        return self.f.at(self.starts[key], pixel.constant * self.channels, element)

    def load(self, image: Value, pixel: Pixel) -> Value:
        return self.f.load(self.address(image, pixel, element_of(self.type)), self.type)

    def store(self, value: Value, image: Value, pixel: Pixel) -> None:
        self.f.store(value, self.address(image, pixel, element_of(value.type)))


State = list[Variable]


class SlidingOperation:
    """What is done with the pixels of a window; a column of the result in the making is a list of variables.

    ``reads`` are the images whose pixels it takes; ``beside`` the images of the size of the result, and whether each is
    written (or read).
    """

    reads: Sequence[Value] = ()
    beside: Sequence[tuple[Value, bool]] = ()

    def columns(self, registers: int, pixel_bytes: int) -> int:
        """How many columns may be in the making at once."""
        raise NotImplementedError

    def begin(self, spot: Spot, place: Pixel, first: Pixel, tap: Value) -> State:
        """A new column, ``place``; ``first`` and ``tap`` are what it takes first, and mean nothing if it takes none."""
        raise NotImplementedError

    def begin_row(self, spot: Spot, tap: Value) -> None:
        """The taps of one row of the window follow, from number ``tap`` on."""

    def take(self, spot: Spot, pixel: Pixel, uses: Sequence[tuple[State, int | Value]]) -> None:
        """Give a pixel to columns: the state of each, and the tap, counted within the row."""
        raise NotImplementedError

    def end_row(self, spot: Spot) -> None:
        """The taps of the row are over."""

    def end(self, spot: Spot, place: Pixel, state: State) -> None:
        """The column ``place`` has all its pixels."""


@dataclass(frozen=True)
class Slide:
    """A window that slides over images of the size ``source`` (H, W) and leaves images of the size ``result``.

    ``rows`` and ``columns`` are the lines of the two axes, ``window`` (height, width) numbers the taps row by row.
    """

    dtype: str
    channels: int
    source: Pair
    result: Pair
    rows: Sequence[Line]
    columns: Sequence[Line]
    window: Pair

    @property
    def element(self) -> str:
        return LLVM_TYPES[self.dtype]

    @property
    def row_bytes(self) -> int:
        """Read and written for one row of the result."""
        pixels = self.result[1] + self.source[1] * max(1, self.source[0] // max(self.result[0], 1))
        return SIZES[self.element] * self.channels * pixels

    def emit(
        self, f: Function, target: Target, operation: SlidingOperation, images: tuple[Value, Value], rows: tuple[Value, Value]
    ) -> None:
        """Make ``rows`` (from, to) of an image. ``images``: the numbers of the first pixel of what is read and written."""
        vectors = vectors_of(target, self.channels, self.element)
        most = max(
            1,
            min(
                operation.columns(target.registers, self.channels * SIZES[self.element]),
                _MOST_COLUMNS // self.columns[0].stride,
            ),
        )
        is_short = sum(line.length(most) for line in self.columns) <= _MOST_WRITTEN_OUT
        with f.loop(*rows) as y:
            written = images[1] + f.index(y * self.result[1])
            row = _Row(f, self, operation, vectors, images[0], taps_at(f, self.rows, y), written)
            if is_short:
                for line in self.columns:
                    for tile in line.tiles(most):
                        row.tiles(line, tile)
            else:
                row.one_by_one()


@dataclass(frozen=True)
class _Row:
    """One row of the result, while its code is emitted; ``image`` and ``written`` are numbers of pixels."""

    f: Function
    slide: Slide
    operation: SlidingOperation
    vectors: Vectors
    image: Value
    vertical: Taps
    written: Value

    def tiles(self, line: Line, tile: Tile) -> None:
        if tile.repeats == 1:
            self._tile(line, tile, self.f.index(tile.first))
            return
        with self.f.loop(tile.first, tile.first + tile.columns * tile.repeats, tile.columns) as j:
            self._tile(line, tile, j)

    def _tile(self, line: Line, tile: Tile, j: Value) -> None:
        f, operation, uses = self.f, self.operation, line.uses(tile)
        corner = f.index(j * line.stride)
        firsts = {column: (position, tap) for position, used in reversed(uses.items()) for column, tap in used}
        base = self.written + f.index(j * line.step)
        places = [Pixel(base, line.first + line.step * column) for column in range(tile.columns)]
        with self._each_vector() as spot:
            self._fetch_ahead(line, tile, j, spot)
            states, base, taps = [], self._number(self.vertical.source, corner), self._first_of_row(self.vertical.tap)
            for column, place in enumerate(places):
                position, tap = firsts.get(column, (0, 0))
                states.append(operation.begin(spot, place, Pixel(base, position), taps + tap))
            with self._each_vertical_tap() as (source, taps):
                operation.begin_row(spot, taps)
                base = self._number(source, corner)
                for position, used in uses.items():
                    operation.take(spot, Pixel(base, position), [(states[column], tap) for column, tap in used])
                operation.end_row(spot)
            for state, place in zip(states, places, strict=True):
                operation.end(spot, place, state)

    def _fetch_ahead(self, line: Line, tile: Tile, j: Value, spot: Spot) -> None:
        """Ask for a part of the next row, piece by piece in the order of memory, which the order of a tile is not."""
        f, rows, channels, operation = self.f, self.slide.rows[0], self.vectors.channels, self.operation
        if channels * SIZES[self.slide.element] < SPARSE_PIXEL_BYTES:
            return
        pixels = rows.stride * line.stride  # new ones of the source for one of the result
        row = self.vertical.source + f.index((self.vertical.count - 1) * rows.offset_step) + 1
        source = self._number(row, f.index(j * pixels))
        result = self.written + self.slide.result[1] + f.index(j * line.step)
        streams = [(image, source, pixels, False) for image in operation.reads if line is self.slide.columns[0]]
        streams += [(image, result, line.step, is_written) for image, is_written in operation.beside]
        for image, pixel, each, is_written in streams:
            elements = tile.columns * each
            start = f.index(pixel * channels) + f.index(spot.channel * elements)
            per_line = _LINE_BYTES // SIZES[self.slide.element]
            for i in range(-(-elements * self.vectors.lanes // per_line)):
                f.prefetch(image, start + i * per_line, self.slide.element, write=is_written)

    def one_by_one(self) -> None:
        """Columns, and the taps of each, as loops."""
        f, line, operation = self.f, self.slide.columns[0], self.operation
        with f.loop(0, self.slide.result[1]) as x:
            horizontal = taps_at(f, self.slide.columns, x)
            with self._each_vector() as spot:
                first, place = Pixel(self._number(self.vertical.source, horizontal.source)), Pixel(self.written + x)
                state = operation.begin(spot, place, first, self._first_of_row(self.vertical.tap) + horizontal.tap)
                with self._each_vertical_tap() as (source, taps):
                    operation.begin_row(spot, taps)
                    with f.loop(0, horizontal.count) as i:
                        column = horizontal.source + f.index(i * line.offset_step)
                        tap = horizontal.tap + f.index(i * line.tap_step)
                        operation.take(spot, Pixel(self._number(source, column)), [(state, tap)])
                    operation.end_row(spot)
                operation.end(spot, place, state)

    @contextmanager
    def _each_vector(self) -> Iterator[Spot]:
        """A loop over the vectors of a pixel."""
        with self.f.loop(0, self.vectors.count) as number:
            type_ = vector(self.vectors.lanes, self.slide.element)
            yield Spot(
                self.f,
                self.vectors.channels,
                self.vectors.start(self.f, number),
                self.f.index(number * self.vectors.lanes),
                type_,
            )

    @contextmanager
    def _each_vertical_tap(self) -> Iterator[tuple[Value, Value]]:
        """A loop over the rows of the window that lie inside: the row of the image, the number of its first tap."""
        line = self.slide.rows[0]
        with self.f.loop(0, self.vertical.count) as i:
            tap = self.vertical.tap + self.f.index(i * line.tap_step)
            yield self.vertical.source + self.f.index(i * line.offset_step), self._first_of_row(tap)

    def _first_of_row(self, tap: Value) -> Value:
        return self.f.index(tap * self.slide.window[1])

    def _number(self, row: Value, column: Value) -> Value:
        return self.image + self.f.index(row * self.slide.source[1]) + column


# ---- units


def kernel_function(module: Module, name: str, operands: Sequence[str]) -> tuple[Function, dict[str, Value]]:
    """The kernel's function, and the address of each operand."""
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    return f, {operand: f.load(f.at(f["args"], i, "ptr"), "ptr") for i, operand in enumerate(operands)}


def rows_per_unit(row_bytes: int, batch: int, height: int) -> int:
    """Rows of images of a ``height`` in one unit: of one image, rather evenly, or of some images together."""
    most = max(1, min(_UNIT_BYTES // max(row_bytes, 1), -(-batch * height // _FEWEST_UNITS)))
    if most >= height:
        return max(1, most // max(height, 1)) * max(height, 1)
    return next((rows for rows in range(most, most // 2, -1) if height % rows == 0), most)


@contextmanager
def each_unit(f: Function) -> Iterator[Value]:
    """A loop over the units that a kernel shall do."""
    with f.loop(f["begin"], f["end"]) as unit:
        yield unit


@contextmanager
def each_part(f: Function, unit: Value, per_unit: int, batch: int, height: int) -> Iterator[tuple[Value, Value, Value]]:
    """A loop over the images of which a unit has rows: the image, and the rows, from and to."""
    first = f.index(unit * per_unit)
    last = f.index(f.least(first + per_unit, batch * height))
    with f.loop(first // height, (last + (height - 1)) // height) as n:
        begin = f.index(n * height)
        yield n, greatest(f, first - begin, 0), f.index(f.least(last - begin, height))
