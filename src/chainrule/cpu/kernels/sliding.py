"""The loops of kernels that slide a window over images (N, H, W, C), shared by depthwise convolution and pooling.

Such a kernel reads *source* images and writes *result* images, and each pixel of the result depends on a few pixels of the
source. In the forward direction the result has a pixel for each position of the window, which depends on the pixels that the
window covers there. In the adjoint direction the source has a pixel for each position of the window, and the result has the
size of the image: each of its pixels depends on the positions whose windows cover it. No memory is both read and written, so
units may be any blocks of rows.

Loop order: units (rows, counted through all images), rows, tiles of neighbouring columns, vectors of channels, vertical taps.
The columns of a tile and the horizontal taps are unrolled, so that a column which several windows share is loaded only once.
Rows outside of the image are skipped by the bounds of the vertical loop. Tiles at the left and right edge have code of their
own with only those taps that lie inside. Where all this would be too much code, columns and horizontal taps are loops as well.

If the channels are no multiple of a vector, the last vector overlaps the one before and writes some of its numbers again, so no
masks are needed.
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
"""A unit reads and writes at most so many bytes, if it has several rows."""
_FEWEST_UNITS = 16
"""There are at least so many units, if there are as many rows."""
_MOST_COLUMNS = 8
"""A tile advances by at most so many columns of the source, as more would be too many concurrent streams for the memory."""
SPARSE_PIXEL_BYTES = 128
"""Where pixels have fewer bytes, the columns of a tile are so close together that reading them is almost sequential."""
_MOST_WRITTEN_OUT = 400
"""The largest number of taps, counted over all tiles, up to which the code of a row is unrolled."""
_LINE_BYTES = 64


# ---- geometry along an axis


@dataclass(frozen=True)
class Axis:
    """A window that slides along an axis.

    Attributes:
        size: the pixels of the image.
        places: the positions of the window.
        window: the taps of the window.
        stride: pixels from one position of the window to the next.
        before: pixels of padding before the image.
        dilation: pixels from one tap to the next.
    """

    size: int
    places: int
    window: int
    stride: int
    before: int
    dilation: int = 1


@dataclass(frozen=True)
class Tile:
    """Equal tiles of ``columns`` neighbouring j of a line (see ``Line``), ``repeats`` of them one after the other.

    The first begins at j = ``first``. ``is_inner`` tells that all taps of all their columns lie inside of the source.
    """

    first: int
    columns: int
    repeats: int
    is_inner: bool


@dataclass(frozen=True)
class Line:
    """How positions along an axis of the result depend on positions along the same axis of the source.

    For j from 0 to ``count`` (excluded), position ``first`` + ``step`` * j of the result depends, for each (tap, offset) of
    ``taps``, on position ``stride`` * j + offset of the source, if that lies from 0 to ``size`` (excluded). From each entry of
    ``taps`` to the next, the offset rises by ``offset_step`` and the number of the tap changes by ``tap_step``.
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
        """The range of j, from and to (excluded), for which all taps lie inside of the source."""
        low = max((-(offset // self.stride) for _, offset in self.taps if offset < 0), default=0)
        high = min(((self.size - 1 - offset) // self.stride + 1 for _, offset in self.taps), default=self.count)
        low = min(low, self.count)
        return low, max(low, min(high, self.count))

    def tiles(self, most: int) -> list[Tile]:
        """Return all j in tiles of at most ``most`` and nearly equal size; equal inner tiles are a single ``Tile``."""
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
        """Return the positions of the source that a tile reads, each with all its uses, as (column of the tile, tap).

        Positions are counted from ``stride`` * j of the tile's first column.
        """
        positions: dict[int, list[Pair]] = {}
        for column in range(tile.columns):
            for tap, offset in self.taps:
                position = self.stride * column + offset
                if tile.is_inner or 0 <= self.stride * tile.first + position < self.size:
                    positions.setdefault(position, []).append((column, tap))
        return dict(sorted(positions.items()))

    def length(self, most: int) -> int:
        """Return the number of taps in the unrolled code of all tiles, for tiles of at most ``most`` columns."""
        return sum(len(used) for tile in self.tiles(most) for used in self.uses(tile).values())


def forward_lines(axis: Axis) -> list[Line]:
    """Return the line for the forward direction: the result is positions of the window, the source is the image."""
    taps = tuple((tap, tap * axis.dilation - axis.before) for tap in range(axis.window))
    return [Line(0, 1, axis.places, axis.stride, taps, 1, axis.dilation, axis.size)]


def adjoint_lines(axis: Axis) -> list[Line]:
    """Return the lines for the adjoint direction: the result is the image, the source is positions of the window.

    Every ``stride``-th pixel of the image is reached by the same taps, so there is a line for each remainder modulo the stride.
    """
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
    """The taps of a position of the result that lie inside of the source, as values that the kernel computes.

    There are ``count`` taps; the first has the number ``tap`` and reads position ``source``. Those of the next taps differ by
    the steps of the line.
    """

    count: Value
    tap: Value
    source: Value


def greatest(f: Function, a: Value, b: int | Value) -> Value:
    """Return the larger of two indices."""
    return f.select(f.compare("sgt", a, b), a, f.index(b))


def taps_at(f: Function, lines: Sequence[Line], position: Value) -> Taps:
    """Emit the computation of the taps of ``position`` that lie inside; ``lines`` are those of its axis."""
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
    """How the channels of a pixel are divided into vectors of ``lanes``; the last vector may overlap the one before."""

    channels: int
    lanes: int

    @property
    def count(self) -> int:
        """The number of vectors."""
        return -(-self.channels // self.lanes)

    @property
    def slots(self) -> int:
        """The elements of all vectors together, counted as if they did not overlap."""
        return self.count * self.lanes

    def start(self, f: Function, number: Value) -> Value:
        """Return the first channel of vector ``number``."""
        if self.channels % self.lanes == 0:
            return f.index(number * self.lanes)
        return f.index(f.least(f.index(number * self.lanes), self.channels - self.lanes))


def vectors_of(target: Target, channels: int, element: str) -> Vectors:
    """Return the division into the target's vectors, or into the widest power of two that the channels fill if they are few."""
    return Vectors(channels, min(target.lanes(SIZES[element]), 1 << (channels.bit_length() - 1)))


# ---- the loops


@dataclass(frozen=True)
class Pixel:
    """The pixel with number ``base`` + ``constant``, where pixels are counted row by row through all images."""

    base: Value
    constant: int = 0


@dataclass(frozen=True)
class Spot:
    """A vector of a pixel's ``channels``, for which code is being emitted: it has type ``type`` and begins at ``channel``.

    ``slot`` is the channel at which it would begin if vectors did not overlap.
    """

    f: Function
    channels: int
    channel: Value
    slot: Value
    type: str
    starts: dict[tuple[str, str], Value] = field(default_factory=dict, compare=False)
    """Addresses that were computed before, by image and base of the pixel. Reusing them keeps the code short, so that it
    compiles faster."""

    def address(self, image: Value, pixel: Pixel, element: str) -> Value:
        """Return the address of this vector of ``pixel`` in ``image``, whose elements have type ``element``."""
        key = image.text, pixel.base.text
        if key not in self.starts:
            self.starts[key] = self.f.at(image, self.f.index(pixel.base * self.channels) + self.channel, element)
        return self.f.at(self.starts[key], pixel.constant * self.channels, element)

    def load(self, image: Value, pixel: Pixel) -> Value:
        """Load this vector of ``pixel`` from ``image``."""
        return self.f.load(self.address(image, pixel, element_of(self.type)), self.type)

    def store(self, value: Value, image: Value, pixel: Pixel) -> None:
        """Store ``value`` as this vector of ``pixel`` in ``image``."""
        self.f.store(value, self.address(image, pixel, element_of(value.type)))


State = list[Variable]
"""The variables of a vector of the result, while it is computed."""


class SlidingOperation:
    """How a pixel of the result is computed from pixels of the source.

    The loops call its methods while they emit code. Several columns of the result are computed at a time; each has a list of
    variables as its state.

    ``reads`` are the addresses of the source images, and ``beside`` those of images of the size of the result, each with
    whether it is written (else it is read). They are used for prefetching.
    """

    reads: Sequence[Value] = ()
    beside: Sequence[tuple[Value, bool]] = ()

    def columns(self, registers: int, pixel_bytes: int) -> int:
        """Return how many columns to compute at a time, for pixels of ``pixel_bytes`` and that many vector ``registers``."""
        raise NotImplementedError

    def begin(self, spot: Spot, place: Pixel, first: Pixel, tap: Value) -> State:
        """Begin the pixel ``place`` of the result; returns its state.

        ``first`` is the first pixel of the source that it will take, and ``tap`` the number of its tap. They mean nothing if it
        takes no pixels.
        """
        raise NotImplementedError

    def begin_row(self, spot: Spot, tap: Value) -> None:
        """Begin a row of the window, whose first tap has the number ``tap``."""

    def take(self, spot: Spot, pixel: Pixel, uses: Sequence[tuple[State, int | Value]]) -> None:
        """Take a pixel of the source.

        ``uses`` are the state of each column that depends on it, and the number of the tap within its row.
        """
        raise NotImplementedError

    def end_row(self, spot: Spot) -> None:
        """End a row of the window."""

    def end(self, spot: Spot, place: Pixel, state: State) -> None:
        """End the pixel ``place`` of the result, which has taken all its pixels: store it."""


@dataclass(frozen=True)
class Slide:
    """A window that slides over source images and computes result images.

    Attributes:
        dtype: the dtype of both.
        channels: the channels of both.
        source: the size (height, width) of the source images.
        result: the size (height, width) of the result images.
        rows: the lines of the vertical axis.
        columns: the lines of the horizontal axis.
        window: the size of the window (height, width) in taps, which are numbered row by row.
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
        """The LLVM type of an element."""
        return LLVM_TYPES[self.dtype]

    @property
    def row_bytes(self) -> int:
        """The bytes that are read and written for a row of the result, on average."""
        pixels = self.result[1] + self.source[1] * max(1, self.source[0] // max(self.result[0], 1))
        return SIZES[self.element] * self.channels * pixels

    def emit(
        self, f: Function, target: Target, operation: SlidingOperation, images: tuple[Value, Value], rows: tuple[Value, Value]
    ) -> None:
        """Emit the computation of ``rows`` (from, to) of a result image.

        ``images`` are the numbers of the first pixel of the source image and of the result image.
        """
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
    """Emits the code of a row of the result.

    ``image`` is the number of the source image's first pixel, ``written`` that of the row's first pixel in the result, and
    ``vertical`` the taps of the row.
    """

    f: Function
    slide: Slide
    operation: SlidingOperation
    vectors: Vectors
    image: Value
    vertical: Taps
    written: Value

    def tiles(self, line: Line, tile: Tile) -> None:
        """Emit a tile, with a loop if it repeats."""
        if tile.repeats == 1:
            self._tile(line, tile, self.f.index(tile.first))
            return
        with self.f.loop(tile.first, tile.first + tile.columns * tile.repeats, tile.columns) as j:
            self._tile(line, tile, j)

    def _tile(self, line: Line, tile: Tile, j: Value) -> None:
        """Emit a tile that begins at ``j`` of its line, with its columns and horizontal taps unrolled."""
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
        """Prefetch a part of the next row of the source, and of the images beside.

        The pieces are prefetched in the order in which they lie in memory; a tile reads them in another order.
        """
        f, rows, channels, operation = self.f, self.slide.rows[0], self.vectors.channels, self.operation
        if channels * SIZES[self.slide.element] < SPARSE_PIXEL_BYTES:
            return
        pixels = rows.stride * line.stride  # pixels of the source that are new for each pixel of the result
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
        """Emit the row with loops over its columns and the horizontal taps of each."""
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
        """Emit a loop over the vectors of a pixel."""
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
        """Emit a loop over the rows of the window that lie inside; yields the row of the source, and its first tap's number."""
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
    """Begin the function of a kernel; returns it, and the address of each operand by name."""
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    return f, {operand: f.load(f.at(f["args"], i, "ptr"), "ptr") for i, operand in enumerate(operands)}


def rows_per_unit(row_bytes: int, batch: int, height: int) -> int:
    """Return how many rows a unit has, for ``batch`` images of ``height`` rows with ``row_bytes`` of traffic for each row.

    A unit has rows of a single image, of which the units have nearly the same number, or several whole images.
    """
    most = max(1, min(_UNIT_BYTES // max(row_bytes, 1), -(-batch * height // _FEWEST_UNITS)))
    if most >= height:
        return max(1, most // max(height, 1)) * max(height, 1)
    return next((rows for rows in range(most, most // 2, -1) if height % rows == 0), most)


@contextmanager
def each_unit(f: Function) -> Iterator[Value]:
    """Emit a loop over the units that a call of the kernel computes."""
    with f.loop(f["begin"], f["end"]) as unit:
        yield unit


@contextmanager
def each_part(f: Function, unit: Value, per_unit: int, batch: int, height: int) -> Iterator[tuple[Value, Value, Value]]:
    """Emit a loop over the images in which ``unit`` has rows; yields the image, and its rows from and to (excluded)."""
    rows, all_rows = f.parameter(per_unit), f.parameter(batch * height)
    first = f.index(unit * rows)
    last = f.index(f.least(first + rows, all_rows))
    with f.loop(first // height, (last + (height - 1)) // height) as n:
        begin = f.index(n * height)
        yield n, greatest(f, first - begin, 0), f.index(f.least(last - begin, height))
