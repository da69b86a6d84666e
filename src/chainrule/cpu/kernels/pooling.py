"""Kernels of pooling on images (N, H, W, C): the largest element of each window, its router, and sums over windows.

Each is one operation on the pixels of a window that slides (see ``sliding``). The router first notes, for the windows that
reach the rows of its unit, which tap won; then every pixel of the image adds up what the windows that it won were given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value, element_of, lanes_of, with_element
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, KernelStep, KernelSteps
from chainrule.cpu.kernels import sliding
from chainrule.cpu.kernels.geometry import Pair
from chainrule.cpu.kernels.sliding import Axis, Pixel, Slide, SlidingOperation, Spot, State

Padding = tuple[Pair, Pair]

_IN_A_ROW = 64
"""Terms of a sum that are added up in their own width."""


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

    def axis(self, number: int) -> Axis:
        return Axis(
            self.image[number],
            self.output[number],
            self.window[number],
            self.stride[number],
            self.padding[number][0],
            self.dilation[number],
        )

    def forward(self) -> Slide:
        """The window slides over the image and leaves the output."""
        rows, columns = (sliding.forward_lines(self.axis(number)) for number in (0, 1))
        return Slide(self.dtype, self.channels, self.image, self.output, rows, columns, self.window)

    def adjoint(self) -> Slide:
        """Places of the output are read, the image is written."""
        rows, columns = (sliding.adjoint_lines(self.axis(number)) for number in (0, 1))
        return Slide(self.dtype, self.channels, self.output, self.image, rows, columns, self.window)

    @property
    def most_windows(self) -> int:
        """That hold one pixel."""
        return math.prod(max(len(line.taps) for line in sliding.adjoint_lines(self.axis(number))) for number in (0, 1))

    def bytes(self, images: int, outputs: int) -> int:
        """Of so many tensors of each size."""
        pixels = images * math.prod(self.image) + outputs * math.prod(self.output)
        return self.batch * pixels * self.channels * SIZES[self.element]


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
) -> KernelSteps:
    """Operands "image" (N, H, W, C), "out" (N, OH, OW, C). nan wins; the border never does."""
    pool = Pool(dtype, batch, channels, image, output, window, stride, padding, dilation)
    return _one_kernel("max_pool", pool, pool.forward(), ("image", "out"), _Largest, pool.bytes(1, 1))


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
) -> KernelSteps:
    """Operands "image", "values" (both N, H, W, C), "out" (N, OH, OW, C): of values, those where the image's windows have
    their first largest element."""
    pool = Pool(dtype, batch, channels, image, output, window, stride, padding, dilation)
    return _one_kernel("max_pool_pick", pool, pool.forward(), ("image", "values", "out"), _Pick, pool.bytes(2, 1))


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
) -> KernelSteps:
    """Operands "image" (N, H, W, C), "upstream" (N, OH, OW, C), "out" (N, H, W, C): each upstream number added where the
    first largest element of its window is."""
    pool = Pool(dtype, batch, channels, image, output, window, stride, padding, dilation)
    forward, adjoint = pool.forward(), pool.adjoint()
    per_unit = sliding.rows_per_unit(adjoint.row_bytes, batch, image[0])
    reach = dilation[0] * (window[0] - 1)
    most_rows = min(output[0], (min(per_unit, image[0]) + reach - 1) // stride[0] + 1)

    def generate(target: Target, name: str) -> Module:
        module = Module(target.vector_bits, target.has_fma)
        f, bases = sliding.kernel_function(module, name, ("image", "upstream", "out"))
        with sliding.each_unit(f) as unit, sliding.each_part(f, unit, per_unit, batch, image[0]) as (n, first, last):
            begin, end = _windows_that_reach(f, pool, first, last)
            places = f.index(n * math.prod(output))
            pixels = f.index(n * math.prod(image))
            # winners lie in the scratch memory, from those of the row ``begin`` on
            shift = places + f.index(begin * output[1])
            forward.emit(f, target, _Winner(bases["image"], f["scratch"], shift), (pixels, places), (begin, end))
            route = _Route(f["scratch"], shift, bases["upstream"], bases["out"], pool.most_windows > _IN_A_ROW)
            adjoint.emit(f, target, route, (places, pixels), (first, last))
        return module

    kernel = Kernel(
        "max_pool_route",
        f"{pool!r} {per_unit}",
        generate,
        -(-batch * image[0] // per_unit),
        scratch_bytes=most_rows * output[1] * channels * SIZES[pool.element],
        bytes=pool.bytes(2, 1),
    )
    return KernelSteps([KernelStep(kernel, ("image", "upstream", "out"), rows=per_unit * image[1])])


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
) -> KernelSteps:
    """Operands "image" (N, H, W, C), "out" (N, OH, OW, C): the sum over each window, zeros in the border."""
    pool = Pool(dtype, batch, channels, image, output, window, stride, padding)
    terms = math.prod(window)
    return _one_kernel("sum_pool", pool, pool.forward(), ("image", "out"), _sum_of(terms), pool.bytes(1, 1))


def sum_pool_gradient(
    target: Target,
    dtype: str,
    batch: int,
    channels: int,
    image: Pair,
    output: Pair,
    window: Pair,
    stride: Pair,
    padding: Padding,
) -> KernelSteps:
    """Operands "upstream" (N, OH, OW, C), "out" (N, H, W, C): each number added to every pixel of its window."""
    pool = Pool(dtype, batch, channels, image, output, window, stride, padding)
    terms = pool.most_windows
    return _one_kernel("sum_pool_gradient", pool, pool.adjoint(), ("upstream", "out"), _sum_of(terms), pool.bytes(1, 1))


def _one_kernel(
    family: str, pool: Pool, slide: Slide, operands: tuple[str, ...], make: Callable[..., SlidingOperation], nbytes: int
) -> KernelSteps:
    """A kernel that is one operation: ``make`` gets the addresses of the operands, in order."""
    per_unit = sliding.rows_per_unit(slide.row_bytes, pool.batch, slide.result[0])

    def generate(target: Target, name: str) -> Module:
        module = Module(target.vector_bits, target.has_fma)
        f, bases = sliding.kernel_function(module, name, operands)
        operation = make(*bases.values())
        with (
            sliding.each_unit(f) as unit,
            sliding.each_part(f, unit, per_unit, pool.batch, slide.result[0]) as (n, first, last),
        ):
            pixels = f.index(n * math.prod(slide.source)), f.index(n * math.prod(slide.result))
            slide.emit(f, target, operation, pixels, (first, last))
        return module

    units = -(-pool.batch * slide.result[0] // per_unit)
    kernel = Kernel(family, f"{pool!r} {per_unit}", generate, units, bytes=nbytes)
    return KernelSteps([KernelStep(kernel, operands, rows=per_unit * slide.result[1])])


def _windows_that_reach(f: Function, pool: Pool, first: Value, last: Value) -> tuple[Value, Value]:
    """Rows of windows (from, to) that hold a row of the image from ``first`` to ``last``."""
    before, stride, reach = pool.padding[0][0], pool.stride[0], pool.dilation[0] * (pool.window[0] - 1)
    begin = (sliding.greatest(f, first + (before - reach), 0) + (stride - 1)) // stride
    end = f.index(f.least((last + (before - 1)) // stride + 1, pool.output[0]))
    return begin, end


# ---- what is done with the pixels of a window


class _Sum(SlidingOperation):
    """The sum of all pixels."""

    def __init__(self, image: Value, out: Value) -> None:
        self.image, self.out = image, out
        self.reads, self.beside = [image], [(out, True)]

    def columns(self, registers: int, pixel_bytes: int) -> int:
        return _columns(registers // 2, pixel_bytes)

    def begin(self, spot: Spot, place: Pixel, first: Pixel, tap: Value) -> State:
        return [spot.f.variable(spot.type, spot.f.zero(spot.type))]

    def take(self, spot: Spot, pixel: Pixel, uses: Sequence[tuple[State, int | Value]]) -> None:
        value = spot.load(self.image, pixel)
        for (total,), _ in uses:
            total.set(total.get() + value)

    def end(self, spot: Spot, place: Pixel, state: State) -> None:
        spot.store(state[0].get(), self.out, place)


class _WideSum(_Sum):
    """The sum of very many pixels, added up in double."""

    def columns(self, registers: int, pixel_bytes: int) -> int:
        return _columns(registers // 4, pixel_bytes)

    def begin(self, spot: Spot, place: Pixel, first: Pixel, tap: Value) -> State:
        type_ = with_element(spot.type, "double")
        return [spot.f.variable(type_, spot.f.zero(type_))]

    def take(self, spot: Spot, pixel: Pixel, uses: Sequence[tuple[State, int | Value]]) -> None:
        value = spot.f.widened(spot.load(self.image, pixel))
        for (total,), _ in uses:
            total.set(total.get() + value)

    def end(self, spot: Spot, place: Pixel, state: State) -> None:
        spot.store(spot.f.narrowed(state[0].get(), element_of(spot.type)), self.out, place)


def _sum_of(terms: int) -> Callable[..., SlidingOperation]:
    return _Sum if terms <= _IN_A_ROW else _WideSum


class _Largest(_Sum):
    """The largest pixel; it begins with the first, which is then taken once more and changes nothing."""

    def begin(self, spot: Spot, place: Pixel, first: Pixel, tap: Value) -> State:
        return [spot.f.variable(spot.type, spot.load(self.image, first))]

    def take(self, spot: Spot, pixel: Pixel, uses: Sequence[tuple[State, int | Value]]) -> None:
        f, value = spot.f, spot.load(self.image, pixel)
        for (best,), _ in uses:
            best.set(f.select(_wins(f, value, best.get()), value, best.get()))


class _Pick(SlidingOperation):
    """The pixel of ``values`` where the image has its first largest."""

    def __init__(self, image: Value, values: Value, out: Value) -> None:
        self.image, self.values, self.out = image, values, out
        self.reads, self.beside = [image, values], [(out, True)]

    def columns(self, registers: int, pixel_bytes: int) -> int:
        return _columns(registers // 4, pixel_bytes)

    def begin(self, spot: Spot, place: Pixel, first: Pixel, tap: Value) -> State:
        return [spot.f.variable(spot.type, spot.load(image, first)) for image in (self.image, self.values)]

    def take(self, spot: Spot, pixel: Pixel, uses: Sequence[tuple[State, int | Value]]) -> None:
        f, value, other = spot.f, spot.load(self.image, pixel), spot.load(self.values, pixel)
        for (best, picked), _ in uses:
            wins = _wins(f, value, best.get())
            best.set(f.select(wins, value, best.get()))
            picked.set(f.select(wins, other, picked.get()))

    def end(self, spot: Spot, place: Pixel, state: State) -> None:
        spot.store(state[1].get(), self.out, place)


class _WithTaps(SlidingOperation):
    """One that needs the numbers of the taps, in lanes as wide as the image's."""

    _first: Value

    def begin_row(self, spot: Spot, tap: Value) -> None:
        self._first = _in_lanes(spot, tap)

    def lanes(self, spot: Spot, tap: int | Value) -> Value:
        """The number of a tap of the row."""
        return self._first + (tap if isinstance(tap, int) else _in_lanes(spot, tap))


class _Winner(_WithTaps):
    """The number of the tap that is the first largest, into ``winners``, where pixel number ``shift`` lies first."""

    def __init__(self, image: Value, winners: Value, shift: Value) -> None:
        self.image, self.winners, self.shift = image, winners, shift
        self.reads = [image]

    def columns(self, registers: int, pixel_bytes: int) -> int:
        return _columns(registers // 4, pixel_bytes)

    def begin(self, spot: Spot, place: Pixel, first: Pixel, tap: Value) -> State:
        best = spot.f.variable(spot.type, spot.load(self.image, first))
        return [best, spot.f.variable(_whole(spot.type), _in_lanes(spot, tap))]

    def take(self, spot: Spot, pixel: Pixel, uses: Sequence[tuple[State, int | Value]]) -> None:
        f, value = spot.f, spot.load(self.image, pixel)
        for (best, winner), tap in uses:
            wins = _wins(f, value, best.get())
            best.set(f.select(wins, value, best.get()))
            winner.set(f.select(wins, self.lanes(spot, tap), winner.get()))

    def end(self, spot: Spot, place: Pixel, state: State) -> None:
        spot.store(state[1].get(), self.winners, Pixel(place.base - self.shift, place.constant))


class _Route(_WithTaps):
    """The sum of ``upstream`` over the windows that the pixel won, in double where these may be very many.

    ``winners`` as ``_Winner`` leaves them.
    """

    def __init__(self, winners: Value, shift: Value, upstream: Value, out: Value, is_wide: bool) -> None:
        self.winners, self.shift, self.upstream, self.out, self.is_wide = winners, shift, upstream, out, is_wide
        self.reads, self.beside = [upstream], [(out, True)]

    def columns(self, registers: int, pixel_bytes: int) -> int:
        return _columns(registers // 4, pixel_bytes)

    def begin(self, spot: Spot, place: Pixel, first: Pixel, tap: Value) -> State:
        type_ = with_element(spot.type, "double") if self.is_wide else spot.type
        return [spot.f.variable(type_, spot.f.zero(type_))]

    def take(self, spot: Spot, pixel: Pixel, uses: Sequence[tuple[State, int | Value]]) -> None:
        f, whole = spot.f, _whole(spot.type)
        upstream = spot.load(self.upstream, pixel)
        winners = spot.address(self.winners, Pixel(pixel.base - self.shift, pixel.constant), element_of(whole))
        winner = f.load(winners, whole)
        for (total,), tap in uses:
            won = f.compare("eq", winner, self.lanes(spot, tap))
            term = f.select(won, upstream, f.zero(spot.type))
            total.set(total.get() + (f.widened(term) if self.is_wide else term))

    def end(self, spot: Spot, place: Pixel, state: State) -> None:
        spot.store(spot.f.narrowed(state[0].get(), element_of(spot.type)), self.out, place)


def _columns(most: int, pixel_bytes: int) -> int:
    """Neighbours share few pixels: where a pixel is long it is better to read in order."""
    return most if pixel_bytes < sliding.SPARSE_PIXEL_BYTES else 1


def _wins(f: Function, value: Value, best: Value) -> Value:
    """Whether ``value`` takes the place of the first largest so far; nan beats all but an earlier nan."""
    return f.compare("ugt", value, best) & f.compare("ord", best, best)


def _whole(type_: str) -> str:
    """Whole numbers of the same width."""
    return with_element(type_, "i32" if element_of(type_) == "float" else "i64")


def _in_lanes(spot: Spot, tap: Value) -> Value:
    type_ = _whole(spot.type)
    number = tap if element_of(type_) == "i64" else spot.f.convert("trunc", tap, "i32")
    return spot.f.splat(number, lanes_of(type_))
