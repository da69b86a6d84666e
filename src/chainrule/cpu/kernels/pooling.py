"""Kernels of pooling on images (N, H, W, C): maxima and sums of windows, and their gradients.

Each is an operation on the pixels of a sliding window (see ``sliding``). The gradient of max pooling has two steps. First, a
unit finds the tap of the maximum in each window that covers a pixel of its rows. Then each pixel of these rows adds up the
upstream gradients of the windows whose maximum it is.
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
"""Sums of more terms are added up in double."""


@dataclass(frozen=True)
class Pool:
    """The geometry and dtype of a pooling. Pairs are (height, width).

    Attributes:
        dtype: the dtype of all operands.
        batch: the number of images.
        channels: the number of channels.
        image: the size of the image.
        output: the number of windows along each axis.
        window: the size of the window in taps.
        stride: pixels from one window to the next.
        padding: for each axis the rows or columns (before, after) the image that windows may cover.
        dilation: pixels from one tap to the next.
    """

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
        """The LLVM type of an element."""
        return LLVM_TYPES[self.dtype]

    def axis(self, number: int) -> Axis:
        """Return the geometry along an axis: 0 for height, 1 for width."""
        return Axis(
            self.image[number],
            self.output[number],
            self.window[number],
            self.stride[number],
            self.padding[number][0],
            self.dilation[number],
        )

    def forward(self) -> Slide:
        """Return the loops that read the image and write the output."""
        rows, columns = (sliding.forward_lines(self.axis(number)) for number in (0, 1))
        return Slide(self.dtype, self.channels, self.image, self.output, rows, columns, self.window)

    def adjoint(self) -> Slide:
        """Return the loops that read a tensor of the size of the output and write one of the size of the image."""
        rows, columns = (sliding.adjoint_lines(self.axis(number)) for number in (0, 1))
        return Slide(self.dtype, self.channels, self.output, self.image, rows, columns, self.window)

    @property
    def most_windows(self) -> int:
        """The largest number of windows that cover the same pixel."""
        return math.prod(max(len(line.taps) for line in sliding.adjoint_lines(self.axis(number))) for number in (0, 1))

    def bytes(self, images: int, outputs: int) -> int:
        """Return the bytes of so many tensors of the size of the image and of the size of the output."""
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
    """Return the kernel of the maxima of windows.

    Its operands are "image" (N, H, W, C) and "out" (N, OH, OW, C). A nan counts as the largest; the padding never counts.
    """
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
    """Return the kernel that picks elements of ``values`` where the windows of the image have their first maximum.

    Its operands are "image" and "values" (N, H, W, C), and "out" (N, OH, OW, C).
    """
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
    """Return the kernel of the gradient of max pooling: each upstream gradient is added where its window has its first maximum.

    Its operands are "image" (N, H, W, C), "upstream" (N, OH, OW, C) and "out" (N, H, W, C).
    """
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
            # The taps of the maxima lie in scratch memory, from those of row ``begin`` of windows on.
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
    """Return the kernel of the sums of windows; the padding counts as zeros.

    Its operands are "image" (N, H, W, C) and "out" (N, OH, OW, C).
    """
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
    """Return the kernel of the gradient of ``sum_pool``: each upstream gradient is added to all pixels of its window.

    Its operands are "upstream" (N, OH, OW, C) and "out" (N, H, W, C).
    """
    pool = Pool(dtype, batch, channels, image, output, window, stride, padding)
    terms = pool.most_windows
    return _one_kernel("sum_pool_gradient", pool, pool.adjoint(), ("upstream", "out"), _sum_of(terms), pool.bytes(1, 1))


def _one_kernel(
    family: str, pool: Pool, slide: Slide, operands: tuple[str, ...], make: Callable[..., SlidingOperation], nbytes: int
) -> KernelSteps:
    """Return a kernel of a single sliding operation, which ``make`` makes of the addresses of the operands, in order."""
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
    """Return the rows of windows (from, to) that cover any of the rows ``first`` to ``last`` (excluded) of the image."""
    before, stride, reach = pool.padding[0][0], pool.stride[0], pool.dilation[0] * (pool.window[0] - 1)
    begin = (sliding.greatest(f, first + (before - reach), 0) + (stride - 1)) // stride
    end = f.index(f.least((last + (before - 1)) // stride + 1, pool.output[0]))
    return begin, end


# ---- operations on the pixels of a window


class _Sum(SlidingOperation):
    """Computes the sum of all pixels."""

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
    """Computes the sum of many pixels, in double."""

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
    """Return the operation that adds up windows of ``terms`` pixels."""
    return _Sum if terms <= _IN_A_ROW else _WideSum


class _Largest(_Sum):
    """Computes the largest pixel. It begins with the first pixel; to take that again afterwards changes nothing."""

    def begin(self, spot: Spot, place: Pixel, first: Pixel, tap: Value) -> State:
        return [spot.f.variable(spot.type, spot.load(self.image, first))]

    def take(self, spot: Spot, pixel: Pixel, uses: Sequence[tuple[State, int | Value]]) -> None:
        f, value = spot.f, spot.load(self.image, pixel)
        for (best,), _ in uses:
            best.set(f.select(_wins(f, value, best.get()), value, best.get()))


class _Pick(SlidingOperation):
    """Picks the pixel of ``values`` at the tap where the image has its first maximum."""

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
    """An operation that needs the numbers of taps, as vectors of integers as wide as the elements of the image."""

    _first: Value

    def begin_row(self, spot: Spot, tap: Value) -> None:
        self._first = _in_lanes(spot, tap)

    def lanes(self, spot: Spot, tap: int | Value) -> Value:
        """Return the number of a tap, given as counted within its row, in all lanes."""
        return self._first + (tap if isinstance(tap, int) else _in_lanes(spot, tap))


class _Winner(_WithTaps):
    """Finds the number of the tap that is the first maximum. Writes it to ``winners``, which begin at pixel ``shift``."""

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
    """Computes the sum of ``upstream`` over the windows whose maximum the pixel is, in double if ``is_wide``.

    ``winners`` and ``shift``: as for ``_Winner``, which has written them.
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
    """Return how many columns to compute at a time.

    The windows of neighbouring columns share few pixels, so if pixels are large it is faster to read them in order.
    """
    return most if pixel_bytes < sliding.SPARSE_PIXEL_BYTES else 1


def _wins(f: Function, value: Value, best: Value) -> Value:
    """Return whether ``value`` is larger than ``best``, the largest so far; nan is larger than all but an earlier nan."""
    return f.compare("ugt", value, best) & f.compare("ord", best, best)


def _whole(type_: str) -> str:
    """Return the type with integers as wide as the elements of ``type_``."""
    return with_element(type_, "i32" if element_of(type_) == "float" else "i64")


def _in_lanes(spot: Spot, tap: Value) -> Value:
    """Return the number of a tap in all lanes."""
    type_ = _whole(spot.type)
    number = tap if element_of(type_) == "i64" else spot.f.convert("trunc", tap, "i32")
    return spot.f.splat(number, lanes_of(type_))
