"""The strip: rows of padded images, copied to where one thread's tiles read them without asking where the border is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value
from chainrule.cpu.kernels.contraction.correlation import Correlation
from chainrule.cpu.kernels.geometry import Pair


@dataclass(frozen=True)
class Strip:
    """Rows of the padded images, counted through all images, of ``width`` pixels of ``pitch`` elements each.

    ``steps`` is how many pixels of the source one pixel of the strip stands for, per axis: 1, or the stride of a window that
    sees one pixel only.
    """

    one: Correlation
    element: str
    pitch: int
    steps: Pair = (1, 1)

    @property
    def height(self) -> int:
        """Rows of one image."""
        return (self.one.padded[0] - 1) // self.steps[0] + 1

    @property
    def width(self) -> int:
        return (self.one.padded[1] - 1) // self.steps[1] + 1

    @property
    def row_elements(self) -> int:
        return self.width * self.pitch

    @property
    def border_rows(self) -> int:
        """Rows that the window of one output row sees beyond its first."""
        return self.one.span[0] // self.steps[0]

    @property
    def advance(self) -> Pair:
        """Pixels of the strip from one output pixel of a phase to the next."""
        step, taken = self.one.source_step, self.steps
        return step[0] // taken[0], step[1] // taken[1]

    def first_row(self, f: Function, row: Value) -> Value:
        """Where the window of an output row begins."""
        image, line = row // self.one.output[0], f.index(row % self.one.output[0])
        return f.index(image * self.height) + f.index(line // self.one.output_step[0] * self.advance[0])

    def nbytes(self, spans: Iterable[tuple[int, int]]) -> int:
        """What the strip takes for the largest of the spans (first output row, last output row)."""

        def first_row(row: int) -> int:
            image, line = divmod(row, self.one.output[0])
            return image * self.height + line // self.one.output_step[0] * self.advance[0]

        rows = max((first_row(last) - first_row(first) for first, last in spans), default=0) + self.border_rows + 1
        return whole_lines(rows * self.row_elements * SIZES[self.element])

    def emit_copy(self, module: Module) -> None:
        """The function copy_rows(source, strip, begin, end, count): rows ``begin`` to ``end`` of the strip.

        Of each pixel ``count`` channels are copied, counted from those of the first pixel at ``source`` on.
        """
        parameters = [("ptr noalias", "source"), ("ptr noalias", "strip"), ("i64", "begin"), ("i64", "end"), ("i64", "count")]
        f = module.function("copy_rows", parameters, internal=True, inline=False)
        one, pixel = self.one, self.pitch * SIZES[self.element]
        left = min(self.width, -(min(0, one.low[1]) // self.steps[1]))
        past = min(self.width, max(left, -((one.low[1] - one.source[1]) // self.steps[1])))  # the first pixel beyond
        with f.loop(f["begin"], f["end"]) as row:
            place = f.at(f["strip"], f.index((row - f["begin"]) * (self.width * pixel)), "i8")
            image, line = row // self.height, f.index(f.index(row % self.height) * self.steps[0]) + one.low[0]
            inside = f.compare("ult", line, one.source[0]) if past > left else f.number(0, "i1")
            with f.when(inside):
                _fill(f, place, left * pixel)
                self._copy_pixels(f, place, f.index(f.index(image * one.source[0]) + line), left, past)
                _fill(f, f.at(place, past * pixel, "i8"), (self.width - past) * pixel)
            with f.when(f.op(f"xor i1 {inside.text}, true", "i1")):
                _fill(f, place, self.width * pixel)

    def _copy_pixels(self, f: Function, place: Value, line: Value, left: int, past: int) -> None:
        one, itemsize = self.one, SIZES[self.element]
        start = f.index(line * one.source[1]) + (left * self.steps[1] + one.low[1])
        source = f.at(f["source"], f.index(start * one.source_channels), self.element)
        place = f.at(place, left * self.pitch, self.element)
        if self.pitch == one.source_channels and self.steps[1] == 1:
            _copy(f, place, source, (past - left) * self.pitch * itemsize)
            return
        size = f.index(f["count"] * itemsize)
        with f.loop(0, past - left) as i:
            pixel = f.at(source, f.index(i * (self.steps[1] * one.source_channels)), self.element)
            _copy(f, f.at(place, f.index(i * self.pitch), self.element), pixel, size)


def whole_lines(count: int) -> int:
    """Bytes, up to whole lines of the cache."""
    return -(-count // 64) * 64


def _fill(f: Function, place: Value, count: int) -> None:
    """Zero bytes."""
    if count:
        f.call("llvm.memset.p0.i64", "void", place, f.number(0, "i8"), f.index(count), f.number(0, "i1"))


def _copy(f: Function, place: Value, source: Value, count: int | Value) -> None:
    f.call("llvm.memcpy.p0.p0.i64", "void", place, source, f.index(count), f.number(0, "i1"))
