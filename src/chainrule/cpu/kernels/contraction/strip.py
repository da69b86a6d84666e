"""The strip: rows of images, copied to scratch memory of a thread with padding, so that tiles need not care about borders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value
from chainrule.cpu.kernels.contraction.correlation import Correlation
from chainrule.cpu.kernels.geometry import Pair


@dataclass(frozen=True)
class Strip:
    """Some rows of padded images, where rows are counted through all images.

    Attributes:
        correlation: what reads the strip.
        element: the LLVM type of an element.
        pitch: elements from one pixel to the next; at least the channels that are copied.
        steps: for each axis, every so many pixels of the source are copied: 1, or the stride if the window has a single tap.
    """

    correlation: Correlation
    element: str
    pitch: int
    steps: Pair = (1, 1)

    @property
    def height(self) -> int:
        """The rows of a padded image."""
        return (self.correlation.padded[0] - 1) // self.steps[0] + 1

    @property
    def width(self) -> int:
        """The pixels of a row."""
        return (self.correlation.padded[1] - 1) // self.steps[1] + 1

    @property
    def row_elements(self) -> int:
        """The elements of a row."""
        return self.width * self.pitch

    @property
    def border_rows(self) -> int:
        """The rows that a window covers, without its first row."""
        return self.correlation.span[0] // self.steps[0]

    @property
    def advance(self) -> Pair:
        """For each axis, pixels of the strip from the window of an output pixel to that of the next pixel of the same phase."""
        step, taken = self.correlation.source_step, self.steps
        return step[0] // taken[0], step[1] // taken[1]

    def first_row(self, f: Function, row: Value) -> Value:
        """Return the first row that the windows of an output row cover."""
        image, line = row // self.correlation.output[0], f.index(row % self.correlation.output[0])
        return f.index(image * self.height) + f.index(line // self.correlation.output_step[0] * self.advance[0])

    def nbytes(self, spans: Iterable[tuple[int, int]]) -> int:
        """Return the bytes of a strip that is large enough for each of the spans (first output row, last output row)."""

        def first_row(row: int) -> int:
            image, line = divmod(row, self.correlation.output[0])
            return image * self.height + line // self.correlation.output_step[0] * self.advance[0]

        rows = max((first_row(last) - first_row(first) for first, last in spans), default=0) + self.border_rows + 1
        return whole_lines(rows * self.row_elements * SIZES[self.element])

    def emit_copy(self, module: Module) -> None:
        """Define copy_rows(source, strip, begin, end, count), which fills rows ``begin`` to ``end`` (excluded) of the strip.

        ``count`` channels of each pixel are copied; ``source`` is the address of the first of these channels of the first
        pixel. Pixels outside of the source become 0.
        """
        parameters = [("ptr noalias", "source"), ("ptr noalias", "strip"), ("i64", "begin"), ("i64", "end"), ("i64", "count")]
        f = module.function("copy_rows", parameters, internal=True, inline=False)
        correlation, pixel = self.correlation, self.pitch * SIZES[self.element]
        left = min(self.width, -(min(0, correlation.low[1]) // self.steps[1]))
        # the first pixel of a row beyond the source
        past = min(self.width, max(left, -((correlation.low[1] - correlation.source[1]) // self.steps[1])))
        with f.loop(f["begin"], f["end"]) as row:
            place = f.at(f["strip"], f.index((row - f["begin"]) * (self.width * pixel)), "i8")
            image, line = row // self.height, f.index(f.index(row % self.height) * self.steps[0]) + correlation.low[0]
            inside = f.compare("ult", line, correlation.source[0]) if past > left else f.number(0, "i1")
            with f.when(inside):
                _fill(f, place, left * pixel)
                self._copy_pixels(f, place, f.index(f.index(image * correlation.source[0]) + line), left, past)
                _fill(f, f.at(place, past * pixel, "i8"), (self.width - past) * pixel)
            with f.when(f.op(f"xor i1 {inside.text}, true", "i1")):
                _fill(f, place, self.width * pixel)

    def _copy_pixels(self, f: Function, place: Value, line: Value, left: int, past: int) -> None:
        correlation, itemsize = self.correlation, SIZES[self.element]
        start = f.index(line * correlation.source[1]) + (left * self.steps[1] + correlation.low[1])
        source = f.at(f["source"], f.index(start * correlation.source_channels), self.element)
        place = f.at(place, left * self.pitch, self.element)
        if self.pitch == correlation.source_channels and self.steps[1] == 1:
            _copy(f, place, source, (past - left) * self.pitch * itemsize)
            return
        size = f.index(f["count"] * itemsize)
        with f.loop(0, past - left) as i:
            pixel = f.at(source, f.index(i * (self.steps[1] * correlation.source_channels)), self.element)
            _copy(f, f.at(place, f.index(i * self.pitch), self.element), pixel, size)


def whole_lines(count: int) -> int:
    """Round a number of bytes up to whole cache lines."""
    return -(-count // 64) * 64


def _fill(f: Function, place: Value, count: int) -> None:
    """Emit ``count`` zero bytes at ``place``."""
    if count:
        f.call("llvm.memset.p0.i64", "void", place, f.number(0, "i8"), f.index(count), f.number(0, "i1"))


def _copy(f: Function, place: Value, source: Value, count: int | Value) -> None:
    f.call("llvm.memcpy.p0.p0.i64", "void", place, source, f.index(count), f.number(0, "i1"))
