"""Depthwise convolution on images (N, H, W, C) and its gradients: every channel has a filter of its own.

There is little arithmetic per pixel, so what counts is to stream: channels are the innermost loop, each image line is read as
it lies, and a few neighbouring output columns are made together, so that the weight and the columns they share are loaded
once. A line outside the image is replaced by a line of zeros; the few columns whose window reaches into the border have code
of their own, which knows their taps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chainrule.cpu.emit import SIZES, Function, Module, Value, vector
from chainrule.cpu.geometry import Geometry
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, Step, Steps
from chainrule.cpu.target import Target

_COLUMNS = 4
"""Output columns made together."""
_UNIT_BYTES = 192 * 1024
_MOST_TAPS = 25
_MOST_EDGE_COLUMNS = 12
_CHANNELS_PER_FINISH = 64


def suits(geometry: Geometry) -> bool:
    """One filter per channel, a window whose taps can be written out, and a border that is no wider than the window."""
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, geometry.kernel, strict=True)]
    fits = all(before <= r and after <= r for (before, after), r in zip(geometry.padding, reach, strict=True))
    taps = geometry.kernel[0] * geometry.kernel[1]
    return (
        geometry.is_depthwise
        and geometry.filters == geometry.channels
        and taps <= _MOST_TAPS
        and fits
        and _edges_are_few(geometry)
    )


def _edges_are_few(geometry: Geometry) -> bool:
    lines = [_forward_line(geometry), *_gradient_lines(geometry)]
    return all(len(line.edges) <= _MOST_EDGE_COLUMNS for line in lines)


@dataclass(frozen=True)
class Line:
    """How a line of the output is made of lines of the input.

    Output column ``first`` + ``step`` * j, for j from 0 to ``count``, takes for each (tap, offset) of ``taps`` the input column
    ``stride`` * j + offset, if that lies within 0 to ``width``.
    """

    first: int
    step: int
    count: int
    stride: int
    taps: tuple[tuple[int, int], ...]
    width: int

    def valid(self, j: int) -> list[tuple[int, int]]:
        return [(tap, offset) for tap, offset in self.taps if 0 <= self.stride * j + offset < self.width]

    @property
    def inner(self) -> tuple[int, int]:
        """The j for which every tap lies inside: from, to (excluded)."""
        low = max((-(offset // self.stride) if offset < 0 else 0 for _, offset in self.taps), default=0)
        low = max((-(-max(-offset, 0) // self.stride) for _, offset in self.taps), default=low)
        high = min(((self.width - 1 - offset) // self.stride + 1 for _, offset in self.taps), default=self.count)
        low = min(low, self.count)
        return low, max(low, min(high, self.count))

    @property
    def edges(self) -> list[int]:
        low, high = self.inner
        return [*range(low), *range(high, self.count)]


def _forward_line(g: Geometry) -> Line:
    taps = tuple((kw, kw * g.dilation[1] - g.padding[1][0]) for kw in range(g.kernel[1]))
    return Line(0, 1, g.output[1], g.stride[1], taps, g.image[1])


def _gradient_lines(g: Geometry) -> list[Line]:
    """One per phase of the stride: the input columns of that phase, and the upstream columns that reach them."""
    lines = []
    for phase in range(min(g.stride[1], g.image[1])):
        taps = []
        for kw in range(g.kernel[1]):
            reach = phase + g.padding[1][0] - kw * g.dilation[1]
            if reach % g.stride[1] == 0:
                taps.append((kw, reach // g.stride[1]))
        count = -(-(g.image[1] - phase) // g.stride[1])
        lines.append(Line(phase, g.stride[1], count, 1, tuple(taps), g.output[1]))
    return lines


# ---- the two that make an image


def convolution(target: Target, dtype: str, geometry: Geometry) -> Steps:
    """Operands "image" (N, H, W, C), "weight" (C, 1, KH, KW), "out" (N, OH, OW, C)."""
    g = geometry

    def sources(f: Function, row: Value) -> list[tuple[Value, list[tuple[int, Value]]]]:
        top = f.index(row * g.stride[0]) - g.padding[0][0]
        always = f.number(1, "i1")
        return [(always, [(kh, top + kh * g.dilation[0]) for kh in range(g.kernel[0])])]

    kernel = _Imaging(g, dtype, g.image, g.output, [_forward_line(g)], sources)
    return kernel.steps("depthwise", "image")


def input_gradient(target: Target, dtype: str, geometry: Geometry) -> Steps:
    """Operands "upstream" (N, OH, OW, C), "weight" (C, 1, KH, KW), "out" (N, H, W, C)."""
    g = geometry

    def sources(f: Function, row: Value) -> list[tuple[Value, list[tuple[int, Value]]]]:
        shifted = f.index(row + g.padding[0][0])
        phases = []
        for phase in range(g.stride[0]):
            taps = []
            for kh in range(g.kernel[0]):
                reach = phase - kh * g.dilation[0]
                if reach % g.stride[0] == 0:  # rows of this phase: shifted = stride * i + phase
                    taps.append((kh, f.index(shifted // g.stride[0]) + reach // g.stride[0]))
            phases.append((f.compare("eq", f.index(shifted % g.stride[0]), phase), taps))
        return phases

    kernel = _Imaging(g, dtype, g.output, g.image, _gradient_lines(g), sources)
    return kernel.steps("depthwise_input_gradient", "upstream")


Sources = Callable[[Function, Value], list[tuple[Value, list[tuple[int, Value]]]]]
"""For a row of the output: per case (a condition, and the vertical taps with the input rows they take)."""


@dataclass(frozen=True)
class _Imaging:
    """A kernel that makes an image of an image, line by line. Units are blocks of rows of all images together."""

    geometry: Geometry
    dtype: str
    source: tuple[int, int]
    result: tuple[int, int]
    lines: Sequence[Line]
    sources: Sources

    @property
    def element(self) -> str:
        return LLVM_TYPES[self.dtype]

    def steps(self, family: str, operand: str) -> Steps:
        g, itemsize = self.geometry, SIZES[self.element]
        rows = g.batch * self.result[0]
        line_bytes = itemsize * g.channels * (self.result[1] + self.source[1] * max(1, self.source[0] // self.result[0]))
        per_unit = max(1, min(_UNIT_BYTES // line_bytes, -(-rows // 8)))
        pixels = g.batch * (self.result[0] * self.result[1] + self.source[0] * self.source[1])
        kernel = Kernel(
            family,
            f"{self.dtype} {g} {per_unit}",
            lambda target, name: self._generate(target, name, per_unit),
            -(-rows // per_unit),
            scratch_bytes=itemsize * self.source[1] * g.channels,
            operations=2 * g.multiply_adds,
            bytes=pixels * g.channels * itemsize,
        )
        pack = _packed_weight(g, self.dtype)
        taps = g.kernel[0] * g.kernel[1]
        return Steps(
            [Step(pack, ("weight", "packed")), Step(kernel, (operand, "packed", "out"), rows=per_unit * self.result[1])],
            {"packed": taps * g.channels * itemsize},
        )

    def _generate(self, target: Target, name: str, per_unit: int) -> Module:
        g, element = self.geometry, self.element
        (height, width), rows = self.source, g.batch * self.result[0]
        module = Module(target.vector_bits, target.has_fma)
        f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
        image, weight, out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(3))
        nothing = f["scratch"]
        with f.loop(f["begin"], f["end"]) as unit:
            length = f.number(width * g.channels * SIZES[element], "i64")
            f.call("llvm.memset.p0.i64", "void", nothing, f.number(0, "i8"), length, f.number(0, "i1"))
            first = f.index(unit * per_unit)
            with f.loop(first, f.least(first + per_unit, rows)) as number:
                n, row = f.index(number // self.result[0]), f.index(number % self.result[0])
                target_line = f.at(out, number * (self.result[1] * g.channels), element)
                for condition, taps in self.sources(f, row):
                    with f.when(condition):
                        lines = []
                        for kh, source_row in taps:
                            inside = f.compare("ult", source_row, height)
                            place = f.at(image, (n * height + source_row) * (width * g.channels), element)
                            lines.append((kh, f.select(inside, place, nothing)))
                        for line in self.lines:
                            _emit_line(f, g, element, target, line, lines, weight, target_line)
        return module


def _emit_line(
    f: Function,
    g: Geometry,
    element: str,
    target: Target,
    line: Line,
    lines: Sequence[tuple[int, Value]],
    weight: Value,
    out: Value,
) -> None:
    """A line of the output: edge columns one by one, the others in groups."""
    low, high = line.inner

    def columns(j: int | Value, count: int, taps: Sequence[tuple[int, int]]) -> None:
        def channels(c: Value, lanes: int) -> None:
            type_ = vector(lanes, element)
            totals = [f.variable(type_, f.zero(type_)) for _ in range(count)]
            for kh, source in lines:
                loaded: dict[int, Value] = {}
                for kw, offset in taps:
                    w = f.load(f.at(weight, c + (kh * g.kernel[1] + kw) * g.channels, element), type_)
                    for i, total in enumerate(totals):
                        column = line.stride * i + offset
                        if column not in loaded:
                            at = f.index(j * line.stride) + column
                            loaded[column] = f.load(f.at(source, at * g.channels + c, element), type_)
                        total.set(f.multiply_add(loaded[column], w, total.get()))
            for i, total in enumerate(totals):
                place = f.index(j * line.step) + (line.first + line.step * i)
                f.store(total.get(), f.at(out, place * g.channels + c, element))

        _over_channels(f, g.channels, target, element, channels)

    for edge in line.edges:
        columns(edge, 1, line.valid(edge))
    middle = low + (high - low) // _COLUMNS * _COLUMNS
    if middle > low:
        with f.loop(low, middle, _COLUMNS) as j:
            columns(j, _COLUMNS, line.taps)
    if high > middle:
        with f.loop(middle, high) as j:
            columns(j, 1, line.taps)


def _over_channels(
    f: Function, channels: int, target: Target, element: str, body: Callable[[Value, int], None], begin: int = 0
) -> None:
    """Vectors of channels, then what is left over one by one."""
    lanes = target.lanes(SIZES[element])
    middle = begin + (channels - begin) // lanes * lanes
    if middle > begin:
        with f.loop(begin, middle, lanes) as c:
            body(c, lanes)
    if middle < channels:
        with f.loop(middle, channels) as c:
            body(c, 1)


def _packed_weight(g: Geometry, dtype: str) -> Kernel:
    """Operands "weight" (C, taps), "packed" (taps, C)."""
    element, taps = LLVM_TYPES[dtype], g.kernel[0] * g.kernel[1]

    def generate(target: Target, name: str) -> Module:
        module = Module(target.vector_bits, target.has_fma)
        f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
        weight, packed = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(2))
        with f.loop(f["begin"], f["end"]), f.loop(0, g.channels) as c, f.loop(0, taps) as tap:
            f.store(f.load(f.at(weight, c * taps + tap, element), element), f.at(packed, tap * g.channels + c, element))
        return module

    return Kernel("depthwise_pack", f"{dtype} {g.channels} {taps}", generate, 1, bytes=2 * taps * g.channels * SIZES[element])


# ---- the gradient of the weight


def weight_gradient(target: Target, dtype: str, geometry: Geometry) -> Steps:
    """Operands "image" (N, H, W, C), "upstream" (N, OH, OW, C), "out" (C, 1, KH, KW).

    Units are fixed blocks of rows of the upstream gradient; each leaves a partial result (taps, C), added up in their order.
    """
    g, itemsize = geometry, SIZES[LLVM_TYPES[dtype]]
    taps, rows = g.kernel[0] * g.kernel[1], g.batch * g.output[0]
    line_bytes = itemsize * g.channels * (g.output[1] + g.image[1] * g.stride[0])
    per_unit = max(1, _UNIT_BYTES // line_bytes, -(-rows // 128), min(rows, 2 * taps // max(g.output[1], 1)))
    units = -(-rows // per_unit)
    pixels = g.batch * (g.output[0] * g.output[1] + g.image[0] * g.image[1])
    gather = Kernel(
        "depthwise_weight_gradient",
        f"{dtype} {g} {per_unit}",
        lambda target, name: _generate_weight_gradient(target, name, g, dtype, per_unit),
        units,
        operations=2 * g.multiply_adds,
        bytes=pixels * g.channels * itemsize,
    )
    finish = Kernel(
        "depthwise_weight_finish",
        f"{dtype} {g.channels} {taps} {units}",
        lambda target, name: _generate_finish(target, name, g, dtype, units),
        -(-g.channels // _CHANNELS_PER_FINISH),
        bytes=(units + 1) * taps * g.channels * itemsize,
    )
    return Steps(
        [Step(gather, ("image", "upstream", "partial")), Step(finish, ("partial", "out"))],
        {"partial": units * taps * g.channels * itemsize},
    )


def _generate_weight_gradient(target: Target, name: str, g: Geometry, dtype: str, per_unit: int) -> Module:
    """Loop order: rows of the upstream gradient, vertical taps, groups of columns, channels; sums in memory between groups."""
    element, line = LLVM_TYPES[dtype], _forward_line(g)
    taps, rows = g.kernel[0] * g.kernel[1], g.batch * g.output[0]
    module = Module(target.vector_bits, target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    image, upstream, partial = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(3))
    low, high = line.inner
    middle = low + (high - low) // (2 * _COLUMNS) * (2 * _COLUMNS)

    def columns(
        source: Value, errors: Value, sums: Value, j: int | Value, count: int, valid: Sequence[tuple[int, int]]
    ) -> None:
        def channels(c: Value, lanes: int) -> None:
            type_ = vector(lanes, element)
            loaded: dict[int, Value] = {}
            error = [f.load(f.at(errors, (f.index(j) + i) * g.channels + c, element), type_) for i in range(count)]
            for kw, offset in valid:
                place = f.at(sums, c + kw * g.channels, element)
                total = f.load(place, type_)
                for i in range(count):
                    column = line.stride * i + offset
                    if column not in loaded:
                        at = f.index(j * line.stride) + column
                        loaded[column] = f.load(f.at(source, at * g.channels + c, element), type_)
                    total = f.multiply_add(loaded[column], error[i], total)
                f.store(total, place)

        _over_channels(f, g.channels, target, element, channels)

    with f.loop(f["begin"], f["end"]) as unit:
        mine = f.at(partial, unit * (taps * g.channels), element)
        length = f.number(taps * g.channels * SIZES[element], "i64")
        f.call("llvm.memset.p0.i64", "void", mine, f.number(0, "i8"), length, f.number(0, "i1"))
        first = f.index(unit * per_unit)
        with f.loop(first, f.least(first + per_unit, rows)) as number:
            n, row = f.index(number // g.output[0]), f.index(number % g.output[0])
            errors = f.at(upstream, number * (g.output[1] * g.channels), element)
            with f.loop(0, g.kernel[0]) as kh:
                source_row = f.index(row * g.stride[0]) + f.index(kh * g.dilation[0]) - g.padding[0][0]
                with f.when(f.compare("ult", source_row, g.image[0])):
                    source = f.at(image, (n * g.image[0] + source_row) * (g.image[1] * g.channels), element)
                    sums = f.at(mine, kh * (g.kernel[1] * g.channels), element)
                    for edge in line.edges:
                        columns(source, errors, sums, edge, 1, line.valid(edge))
                    if middle > low:
                        with f.loop(low, middle, 2 * _COLUMNS) as j:
                            columns(source, errors, sums, j, 2 * _COLUMNS, line.taps)
                    if high > middle:
                        with f.loop(middle, high) as j:
                            columns(source, errors, sums, j, 1, line.taps)
    return module


def _generate_finish(target: Target, name: str, g: Geometry, dtype: str, units: int) -> Module:
    """Units are blocks of channels: partial results (units, taps, C) to (C, taps)."""
    element, taps = LLVM_TYPES[dtype], g.kernel[0] * g.kernel[1]
    module = Module(target.vector_bits, target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    partial, out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(2))
    lanes = target.lanes(SIZES[element])

    def channels(c: Value, width: int) -> None:
        type_ = vector(width, element)
        with f.loop(0, taps) as tap:
            total = f.variable(type_, f.zero(type_))
            with f.loop(0, units) as unit:
                place = f.at(partial, (unit * taps + tap) * g.channels + c, element)
                total.set(total.get() + f.load(place, type_))
            found = total.get()
            for lane in range(width):
                f.store(f.extract(found, lane), f.at(out, (c + lane) * taps + tap, element))

    with f.loop(f["begin"], f["end"]) as block:
        first = f.index(block * _CHANNELS_PER_FINISH)
        end = f.index(f.least(first + _CHANNELS_PER_FINISH, g.channels))
        middle = first + f.index((end - first) // lanes * lanes)
        with f.loop(first, middle, lanes) as c:
            channels(c, lanes)
        with f.loop(middle, end) as c:
            channels(c, 1)
    return module
