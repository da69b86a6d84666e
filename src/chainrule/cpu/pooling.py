"""Kernels of pooling on images (N, H, W, C): the largest element of each window, its router, and sums over windows.

Loop order: units (images, or blocks of rows of the output), rows and columns of the output, vectors of channels, taps of the
window. A window that lies wholly inside the image takes its taps one after the other; one that reaches into the border asks
for each tap. Kernels that send numbers back to the image (route, spread) take a whole image as a unit, so no two units
touch one pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chainrule.cpu import mathematics
from chainrule.cpu.emit import SIZES, Function, Module, Value, Variable, vector, with_element
from chainrule.cpu.geometry import Pair
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, Step, Steps
from chainrule.cpu.target import Target

_UNROLLED_TAPS = 16
_UNIT_BYTES = 128 * 1024
Padding = tuple[Pair, Pair]


@dataclass(frozen=True)
class Pool:
    """The geometry of a pooling, and the dtype."""

    dtype: str
    batch: int
    channels: int
    image: Pair
    output: Pair
    window: Pair
    stride: Pair
    padding: Padding
    dilation: Pair = (1, 1)

    @property
    def element(self) -> str:
        return LLVM_TYPES[self.dtype]

    @property
    def taps(self) -> list[Pair]:
        return [(kh, kw) for kh in range(self.window[0]) for kw in range(self.window[1])]

    @property
    def overlaps(self) -> bool:
        """Whether two windows may share a pixel."""
        return any(d != 1 or w > s for d, w, s in zip(self.dilation, self.window, self.stride, strict=True))

    @property
    def bytes(self) -> int:
        pixels = math.prod(self.image) + math.prod(self.output)
        return self.batch * pixels * self.channels * SIZES[self.element]

    def rows_per_unit(self) -> int:
        """Output rows of all images together in one unit."""
        row = SIZES[self.element] * self.channels * (self.output[1] + self.stride[0] * self.image[1])
        return max(1, min(_UNIT_BYTES // max(row, 1), max(1, self.batch * self.output[0] // 8)))


def max_pool(
    target: Target,
    dtype: str,
    batch: int,
    channels: int,
    image: Pair,
    output: Pair,
    window: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair = (1, 1),
) -> Steps:
    """Operands "image" (N, H, W, C), "out" (N, OH, OW, C). nan wins; the border never does."""
    pool = Pool(dtype, batch, channels, image, output, window, stride, padding, dilation)

    def point(at: _Point) -> None:
        best, first = at.variable(), at.flag()
        for offset in at.taps():
            value = at.load("image", offset)
            larger = mathematics.maximum(at.f, best.get(), value)
            best.set(at.f.select(first.get(), value, larger))
            first.set(at.f.zero(first.type))
        at.store("out", best.get(), at.output)

    return _over_outputs("max_pool", pool, ("image", "out"), point)


def max_pool_pick(
    target: Target,
    dtype: str,
    batch: int,
    channels: int,
    image: Pair,
    output: Pair,
    window: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair = (1, 1),
) -> Steps:
    """Operands "image", "values" (both N, H, W, C), "out" (N, OH, OW, C): of values, those where the image's windows have
    their first largest element."""
    pool = Pool(dtype, batch, channels, image, output, window, stride, padding, dilation)

    def point(at: _Point) -> None:
        best, picked, first = at.variable(), at.variable(), at.flag()
        for offset in at.taps():
            value = at.load("image", offset)
            wins = at.wins(value, best.get(), first.get())
            best.set(at.f.select(wins, value, best.get()))
            picked.set(at.f.select(wins, at.load("values", offset), picked.get()))
            first.set(at.f.zero(first.type))
        at.store("out", picked.get(), at.output)

    return _over_outputs("max_pool_pick", pool, ("image", "values", "out"), point)


def max_pool_route(
    target: Target,
    dtype: str,
    batch: int,
    channels: int,
    image: Pair,
    output: Pair,
    window: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair = (1, 1),
) -> Steps:
    """Operands "image" (N, H, W, C), "upstream" (N, OH, OW, C), "out" (N, H, W, C): each upstream number added where the
    first largest element of its window is."""
    pool = Pool(dtype, batch, channels, image, output, window, stride, padding, dilation)

    def point(at: _Point) -> None:
        best, first = at.variable(), at.flag()
        winner = at.f.variable(with_element(best.type, "i32"))
        number = at.f.variable("i32", at.f.number(0, "i32"))
        for offset in at.taps():
            value = at.load("image", offset)
            wins = at.wins(value, best.get(), first.get())
            best.set(at.f.select(wins, value, best.get()))
            winner.set(at.f.select(wins, at.f.splat(number.get(), at.lanes), winner.get()))
            number.set(number.get() + 1)
            first.set(at.f.zero(first.type))
        upstream = at.load("upstream", at.output)
        number.set(at.f.number(0, "i32"))
        for offset in at.taps():
            mine = at.f.compare("eq", winner.get(), at.f.splat(number.get(), at.lanes))
            passed = at.f.select(mine, upstream, at.f.zero(upstream.type))
            at.store("out", passed + at.load("out", offset) if pool.overlaps else passed, offset)
            number.set(number.get() + 1)

    return _over_images("max_pool_route", pool, ("image", "upstream", "out"), point)


def sum_pool(
    target: Target,
    dtype: str,
    batch: int,
    channels: int,
    image: Pair,
    output: Pair,
    window: Pair,
    stride: Pair,
    padding: Padding,
) -> Steps:
    """Operands "image" (N, H, W, C), "out" (N, OH, OW, C): the sum over each window, zeros in the border."""
    pool = Pool(dtype, batch, channels, image, output, window, stride, padding)

    def point(at: _Point) -> None:
        total = at.variable()
        for offset in at.taps():
            total.set(total.get() + at.load("image", offset))
        at.store("out", total.get(), at.output)

    return _over_outputs("sum_pool", pool, ("image", "out"), point)


def sum_pool_spread(
    target: Target,
    dtype: str,
    batch: int,
    channels: int,
    image: Pair,
    output: Pair,
    window: Pair,
    stride: Pair,
    padding: Padding,
) -> Steps:
    """Operands "upstream" (N, OH, OW, C), "out" (N, H, W, C): each number added to every pixel of its window."""
    pool = Pool(dtype, batch, channels, image, output, window, stride, padding)

    def point(at: _Point) -> None:
        upstream = at.load("upstream", at.output)
        for offset in at.taps():
            at.store("out", upstream + at.load("out", offset) if pool.overlaps else upstream, offset)

    return _over_images("sum_pool_spread", pool, ("upstream", "out"), point)


# ---- loops


@dataclass
class _Point:
    """One place of the window and one vector of channels, while its code is emitted.

    ``corner``: row and column of the window's first tap in the image, which may lie in the border. ``inside``: whether all
    taps are known to lie in the image.
    """

    f: Function
    pool: Pool
    bases: dict[str, Value]
    lanes: int
    channel: Value
    first_pixel: Value  # of the image, in pixels
    corner: tuple[Value, Value]
    output: Value  # where the output's pixel begins, in elements
    inside: bool

    @property
    def type(self) -> str:
        return vector(self.lanes, self.pool.element)

    def variable(self) -> Variable:
        return self.f.variable(self.type, self.f.zero(self.type))

    def flag(self) -> Variable:
        """One bit, true until it is cleared: whether no tap has been seen yet."""
        return self.f.variable("i1", self.f.number(1, "i1"))

    def wins(self, value: Value, best: Value, first: Value) -> Value:
        """Whether ``value`` is the first largest so far; nan beats all but an earlier nan."""
        f = self.f
        larger = f.compare("ugt", value, best) & f.compare("ord", best, best)
        return larger | f.splat(first, self.lanes)

    def load(self, operand: str, offset: Value) -> Value:
        return self.f.load(self._address(operand, offset), self.type)

    def store(self, operand: str, value: Value, offset: Value) -> None:
        self.f.store(value, self._address(operand, offset))

    def _address(self, operand: str, offset: Value) -> Value:
        return self.f.at(self.bases[operand], offset + self.channel, self.pool.element)

    def taps(self) -> Iterator[Value]:
        """Where the pixel of each tap begins, in elements; the code for a tap outside the image is jumped over."""
        f, pool = self.f, self.pool
        width = pool.image[1]
        if len(pool.taps) <= _UNROLLED_TAPS:
            for kh, kw in pool.taps:
                row, column = self.corner[0] + kh * pool.dilation[0], self.corner[1] + kw * pool.dilation[1]
                with self._if_inside(row, column):
                    yield f.index((self.first_pixel + row * width + column) * pool.channels)
            return
        with f.loop(0, pool.window[0]) as down, f.loop(0, pool.window[1]) as right:
            row = self.corner[0] + down * pool.dilation[0]
            column = self.corner[1] + right * pool.dilation[1]
            with self._if_inside(row, column):
                yield f.index((self.first_pixel + row * width + column) * pool.channels)

    @contextmanager
    def _if_inside(self, row: Value, column: Value) -> Iterator[None]:
        if self.inside:
            yield
            return
        f, (height, width) = self.f, self.pool.image
        with f.when(f.compare("ult", row, height) & f.compare("ult", column, width)):
            yield


def _begin(name: str, target: Target, operands: tuple[str, ...]) -> tuple[Module, Function, dict[str, Value]]:
    module = Module(target.vector_bits, target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    bases = {operand: f.load(f.at(f["args"], i, "ptr"), "ptr") for i, operand in enumerate(operands)}
    return module, f, bases


def _over_outputs(family: str, pool: Pool, operands: tuple[str, ...], point: Callable[[_Point], None]) -> Steps:
    """A kernel that makes each pixel of the output by itself; units are blocks of its rows, of all images together."""
    per_unit, rows = pool.rows_per_unit(), pool.batch * pool.output[0]

    def generate(target: Target, name: str) -> Module:
        module, f, bases = _begin(name, target, operands)
        with f.loop(f["begin"], f["end"]) as unit:
            first = f.index(unit * per_unit)
            with f.loop(first, f.least(first + per_unit, rows)) as row:
                _row(f, pool, target, bases, row, point)
        return module

    kernel = Kernel(family, repr(pool), generate, -(-rows // per_unit), bytes=pool.bytes)
    return Steps([Step(kernel, operands, rows=per_unit * pool.output[1])])


def _over_images(family: str, pool: Pool, operands: tuple[str, ...], point: Callable[[_Point], None]) -> Steps:
    """A kernel whose output is an image that the windows add to, or fill; a unit is one image."""
    size = math.prod(pool.image) * pool.channels

    def generate(target: Target, name: str) -> Module:
        module, f, bases = _begin(name, target, operands)
        with f.loop(f["begin"], f["end"]) as n:
            start = f.at(bases["out"], n * size, pool.element)
            length = f.number(size * SIZES[pool.element], "i64")
            f.call("llvm.memset.p0.i64", "void", start, f.number(0, "i8"), length, f.number(0, "i1"))
            with f.loop(0, pool.output[0]) as y:
                _row(f, pool, target, bases, f.index(n * pool.output[0]) + y, point)
        return module

    kernel = Kernel(family, repr(pool), generate, pool.batch, bytes=pool.bytes)
    return Steps([Step(kernel, operands, rows=math.prod(pool.image))])


def _row(f: Function, pool: Pool, target: Target, bases: dict[str, Value], row: Value, point: Callable[[_Point], None]) -> None:
    """One row of the output: edges, where taps may lie in the border, and the columns between."""
    (height, width), (places_y, places_x) = pool.image, pool.output
    n, y = f.index(row // places_y), f.index(row % places_y)
    top = f.index(y * pool.stride[0]) - pool.padding[0][0]
    reach = [pool.dilation[i] * (pool.window[i] - 1) for i in (0, 1)]
    left_pad, stride = pool.padding[1][0], pool.stride[1]
    begin = min(-(-left_pad // stride), places_x)
    end = max(begin, min(places_x, (width - 1 - reach[1] + left_pad) // stride + 1))
    is_high = pool.padding[0][0] == 0 and (places_y - 1) * pool.stride[0] + reach[0] < height

    def columns(first: int, last: int, inside: bool) -> None:
        if first >= last:
            return
        with f.loop(first, last) as x:
            corner = top, f.index(x * stride) - left_pad
            output = f.index((row * places_x + x) * pool.channels)
            lanes = min(target.lanes(SIZES[pool.element]), 1 << (pool.channels.bit_length() - 1))
            middle = pool.channels // lanes * lanes
            with f.loop(0, middle, lanes) as c:
                point(_Point(f, pool, bases, lanes, c, f.index(n * (height * width)), corner, output, inside))
            if middle < pool.channels:
                with f.loop(middle, pool.channels) as c:
                    point(_Point(f, pool, bases, 1, c, f.index(n * (height * width)), corner, output, inside))

    if is_high:
        columns(0, begin, False)
        columns(begin, end, True)
        columns(end, places_x, False)
        return
    whole = f.compare("sge", top, 0) & f.compare("slt", top + reach[0], height)
    with f.when(whole):
        columns(0, begin, False)
        columns(begin, end, True)
        columns(end, places_x, False)
    with f.when(whole ^ 1):
        columns(0, places_x, False)
