"""Kernels of depthwise convolution on images (N, H, W, C), where each channel has its own filter, and of its gradients.

There is little arithmetic per pixel, so the speed depends on reading and writing memory in streams. The convolution and the
gradient of its input are operations of a sliding window (see ``sliding``): sums of pixels times the weight, which is packed so
that the channels of a tap are contiguous. The gradient of the weight goes over the same windows, and keeps the sums of a row of
taps in registers for each tile. If a unit has many rows, some rows at a time are summed up separately, so that rounding errors
do not grow with the number of pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from chainrule.cpu.codegen.emit import SIZES, Module, Value, Variable, element_of, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, KernelStep, KernelSteps
from chainrule.cpu.kernels import sliding
from chainrule.cpu.kernels.geometry import Geometry
from chainrule.cpu.kernels.sliding import Axis, Pixel, Slide, SlidingOperation, Spot, State

_MOST_COLUMNS = 7
"""The most columns of a tile; the widths of images are often multiples of it."""
_MOST_PARTIAL_RESULTS = 128
"""The most units of a weight gradient, as each leaves a partial result to be added up."""
_PIXELS_PER_TAP = 4
"""A unit of a weight gradient has at least so many pixels for each tap, as its partial result has a number for each tap."""
_PIXELS_IN_A_ROW = 1024
"""The products of about so many pixels are added up in separate sums, which are then added to the unit's partial result."""


def suits(geometry: Geometry) -> bool:
    """Return whether these kernels can compute a convolution: whether each channel has exactly one filter."""
    return geometry.is_depthwise and geometry.filters == geometry.channels


def _pixels(g: Geometry) -> int:
    """Return the elements of image and output together."""
    return g.batch * (math.prod(g.output) + math.prod(g.image)) * g.channels


def _axis(g: Geometry, number: int) -> Axis:
    return Axis(
        g.image[number],
        g.output[number],
        g.kernel[number],
        g.stride[number],
        g.padding[number][0],
        g.dilation[number],
    )


def _forward(g: Geometry, dtype: str) -> Slide:
    rows, columns = (sliding.forward_lines(_axis(g, number)) for number in (0, 1))
    return Slide(dtype, g.channels, g.image, g.output, rows, columns, g.kernel)


def _adjoint(g: Geometry, dtype: str) -> Slide:
    rows, columns = (sliding.adjoint_lines(_axis(g, number)) for number in (0, 1))
    return Slide(dtype, g.channels, g.output, g.image, rows, columns, g.kernel)


# ---- convolution, and the gradient of its image


def convolution(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """Return the kernels of the convolution.

    Their operands are "image" (N, H, W, C), "weight" (C, 1, KH, KW) and "out" (N, OH, OW, C).
    """
    return _imaging("depthwise", "image", geometry, _forward(geometry, dtype))


def input_gradient(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """Return the kernels of the gradient of the image.

    Their operands are "upstream" (N, OH, OW, C), "weight" (C, 1, KH, KW) and "out" (N, H, W, C).
    """
    return _imaging("depthwise_input_gradient", "upstream", geometry, _adjoint(geometry, dtype))


def _imaging(family: str, operand: str, g: Geometry, slide: Slide) -> KernelSteps:
    """Return the kernels that pack the weight and compute weighted sums of the pixels of ``operand``."""
    per_unit = sliding.rows_per_unit(slide.row_bytes, g.batch, slide.result[0])

    def generate(target: Target, name: str) -> Module:
        module = Module(target.vector_bits, target.has_fma)
        f, bases = sliding.kernel_function(module, name, (operand, "packed", "out"))
        operation = _WeightedSum(bases[operand], bases["packed"], bases["out"], g.kernel[1])
        with sliding.each_unit(f) as unit, sliding.each_part(f, unit, per_unit, g.batch, slide.result[0]) as (n, first, last):
            pixels = f.index(n * math.prod(slide.source)), f.index(n * math.prod(slide.result))
            slide.emit(f, target, operation, pixels, (first, last))
        return module

    itemsize, taps = SIZES[slide.element], math.prod(g.kernel)
    kernel = Kernel(
        family,
        f"{slide.dtype} {g} {per_unit}",
        generate,
        -(-g.batch * slide.result[0] // per_unit),
        operations=2 * g.multiply_adds_inside,
        bytes=(_pixels(g) - (g.unseen if operand == "image" else 0)) * itemsize,
    )
    pack = _packed_weight(g, slide.dtype)
    return KernelSteps(
        [
            KernelStep(pack, ("weight", "packed")),
            KernelStep(kernel, (operand, "packed", "out"), rows=per_unit * slide.result[1]),
        ],
        {"packed": taps * g.channels * itemsize},
    )


class _WeightedSum(SlidingOperation):
    """Computes the sum of pixels times ``weight`` (taps, C)."""

    _weights: Callable[[int | Value], Value]

    def __init__(self, image: Value, weight: Value, out: Value, window_width: int) -> None:
        self.image, self.weight, self.out, self.window_width = image, weight, out, window_width
        self.reads, self.beside = [image], [(out, True)]

    def columns(self, registers: int, pixel_bytes: int) -> int:
        return _columns(registers, self.window_width)

    def begin(self, spot: Spot, place: Pixel, first: Pixel, tap: Value) -> State:
        return [spot.f.variable(spot.type, spot.f.zero(spot.type))]

    def begin_row(self, spot: Spot, tap: Value) -> None:
        @functools.cache
        def weights(column: int | Value) -> Value:
            return spot.load(self.weight, Pixel(tap, column) if isinstance(column, int) else Pixel(tap + column))

        self._weights = weights

    def take(self, spot: Spot, pixel: Pixel, uses: Sequence[tuple[State, int | Value]]) -> None:
        value = spot.load(self.image, pixel)
        for (total,), tap in uses:
            total.set(spot.f.multiply_add(value, self._weights(tap), total.get()))

    def end(self, spot: Spot, place: Pixel, state: State) -> None:
        spot.store(state[0].get(), self.out, place)


def _columns(registers: int, window_width: int) -> int:
    """Return how many columns a tile has, given a register for each column and for each tap of a row, and a few for pixels."""
    return max(2, min(_MOST_COLUMNS, registers - 3 - window_width))


def _packed_weight(g: Geometry, dtype: str) -> Kernel:
    """Return the kernel that transposes "weight" (C, taps) to "packed" (taps, C)."""
    element, taps = LLVM_TYPES[dtype], math.prod(g.kernel)

    def generate(target: Target, name: str) -> Module:
        module = Module(target.vector_bits, target.has_fma)
        f, bases = sliding.kernel_function(module, name, ("weight", "packed"))
        with f.loop(f["begin"], f["end"]), f.loop(0, g.channels) as c, f.loop(0, taps) as tap:
            number = f.load(f.at(bases["weight"], c * taps + tap, element), element)
            f.store(number, f.at(bases["packed"], tap * g.channels + c, element))
        return module

    return Kernel("depthwise_pack", f"{dtype} {g.channels} {taps}", generate, 1, bytes=2 * taps * g.channels * SIZES[element])


# ---- the gradient of the weight


def weight_gradient(target: Target, dtype: str, geometry: Geometry) -> KernelSteps:
    """Return the kernels of the gradient of the weight.

    Their operands are "image" (N, H, W, C), "upstream" (N, OH, OW, C) and "out" (C, 1, KH, KW). Units are blocks of rows of the
    upstream gradient, which do not depend on the number of threads. Each leaves a partial result; a second kernel adds these up
    in order.
    """
    g, slide = geometry, _forward(geometry, dtype)
    taps, rows, itemsize = math.prod(g.kernel), g.batch * g.output[0], SIZES[slide.element]
    per_unit = max(
        sliding.rows_per_unit(slide.row_bytes, g.batch, g.output[0]),
        -(-rows // _MOST_PARTIAL_RESULTS),
        min(rows, _PIXELS_PER_TAP * taps // max(g.output[1], 1)),
    )
    units = -(-rows // per_unit)
    vectors = sliding.vectors_of(target, g.channels, slide.element)
    slots = vectors.slots
    in_a_row = max(1, _PIXELS_IN_A_ROW // max(g.output[1], 1))
    is_long = per_unit > in_a_row

    def generate(target: Target, name: str) -> Module:
        module = Module(target.vector_bits, target.has_fma)
        f, bases = sliding.kernel_function(module, name, ("image", "upstream", "partial"))
        type_ = vector(vectors.lanes, slide.element)

        def clear(sums: Value) -> None:
            length = f.number(taps * slots * itemsize, "i64")
            f.call("llvm.memset.p0.i64", "void", sums, f.number(0, "i8"), length, f.number(0, "i1"))

        with sliding.each_unit(f) as unit:
            mine = f.at(bases["partial"], unit * (taps * slots), slide.element)
            clear(mine)
            sums = f["scratch"] if is_long else mine
            operation = _Correlation(bases["image"], bases["upstream"], sums, g.kernel[1], slots)
            with sliding.each_part(f, unit, per_unit, g.batch, g.output[0]) as (n, begin, end):
                pixels = f.index(n * math.prod(g.image)), f.index(n * math.prod(g.output))
                if is_long:
                    with f.loop(begin, end, in_a_row) as first:
                        clear(sums)
                        slide.emit(f, target, operation, pixels, (first, f.index(f.least(first + in_a_row, end))))
                        with f.loop(0, taps * slots, vectors.lanes) as number:
                            place = f.at(mine, number, slide.element)
                            f.store(f.load(place, type_) + f.load(f.at(sums, number, slide.element), type_), place)
                else:
                    slide.emit(f, target, operation, pixels, (begin, end))
        return module

    gather = Kernel(
        "depthwise_weight_gradient",
        f"{dtype} {g} {per_unit}",
        generate,
        units,
        scratch_bytes=taps * slots * itemsize if is_long else 0,
        operations=2 * g.multiply_adds_inside,
        bytes=(_pixels(g) - g.unseen) * itemsize,
    )
    finish = Kernel(
        "depthwise_weight_finish",
        f"{dtype} {g.channels} {taps} {units}",
        lambda target, name: _generate_finish(target, name, g, dtype, units),
        taps,
        bytes=(units * slots + g.channels) * taps * itemsize,
    )
    return KernelSteps(
        [KernelStep(gather, ("image", "upstream", "partial")), KernelStep(finish, ("partial", "out"))],
        {"partial": units * taps * slots * itemsize},
    )


class _Correlation(SlidingOperation):
    """Adds upstream times pixel to ``sums`` (taps, slots); the sums of a row of taps are kept in registers meanwhile."""

    _first: Value
    _sums: dict[int, Variable]

    def __init__(self, image: Value, upstream: Value, sums: Value, window_width: int, slots: int) -> None:
        self.image, self.upstream, self.sums, self.window_width, self.slots = image, upstream, sums, window_width, slots
        self.reads, self.beside = [image], [(upstream, False)]

    def columns(self, registers: int, pixel_bytes: int) -> int:
        return _columns(registers, self.window_width)

    def begin(self, spot: Spot, place: Pixel, first: Pixel, tap: Value) -> State:
        return [spot.f.variable(spot.type, spot.load(self.upstream, place))]

    def begin_row(self, spot: Spot, tap: Value) -> None:
        self._first, self._sums = tap, {}

    def take(self, spot: Spot, pixel: Pixel, uses: Sequence[tuple[State, int | Value]]) -> None:
        f, value = spot.f, spot.load(self.image, pixel)
        for (upstream,), tap in uses:
            if isinstance(tap, Value):
                place = self._place(spot, tap)
                f.store(f.multiply_add(value, upstream.get(), f.load(place, spot.type)), place)
                continue
            if tap not in self._sums:
                self._sums[tap] = f.variable(spot.type, f.zero(spot.type))
            total = self._sums[tap]
            total.set(f.multiply_add(value, upstream.get(), total.get()))

    def end_row(self, spot: Spot) -> None:
        for tap, total in self._sums.items():
            place = self._place(spot, tap)
            spot.f.store(total.get() + spot.f.load(place, spot.type), place)

    def _place(self, spot: Spot, tap: int | Value) -> Value:
        number = spot.f.index((self._first + tap) * self.slots) + spot.slot
        return spot.f.at(self.sums, number, element_of(spot.type))


def _generate_finish(target: Target, name: str, g: Geometry, dtype: str, units: int) -> Module:
    """Generate the kernel that adds up partial results (units, taps, slots) in double, to (C, taps). Its units are taps."""
    element, taps = LLVM_TYPES[dtype], math.prod(g.kernel)
    vectors = sliding.vectors_of(target, g.channels, element)
    type_ = vector(vectors.lanes, element)
    module = Module(target.vector_bits, target.has_fma)
    f, bases = sliding.kernel_function(module, name, ("partial", "out"))
    count = f.parameter(units)
    with sliding.each_unit(f) as tap, f.loop(0, vectors.count) as number:
        wide = vector(vectors.lanes, "double")
        total = f.variable(wide, f.zero(wide))
        with f.loop(0, count) as unit:
            place = f.index((f.index(unit * taps) + tap) * vectors.slots) + f.index(number * vectors.lanes)
            total.set(total.get() + f.widened(f.load(f.at(bases["partial"], place, element), type_)))
        result, start = f.narrowed(total.get(), element), vectors.start(f, number)
        for lane in range(vectors.lanes):
            f.store(f.extract(result, lane), f.at(bases["out"], f.index((start + lane) * taps) + tap, element))
    return module
