"""The strip: rows of padded images, copied to where one thread's tiles read them without asking where the border is."""

from __future__ import annotations

from chainrule.cpu.contraction.correlation import Correlation
from chainrule.cpu.emit import SIZES, Function, Module, Value


def copy_rows(module: Module, one: Correlation, element: str, channels: int) -> None:
    """The function copy_rows(source, strip, begin, end, count): rows of the padded images, counted through all images.

    Of each pixel ``count`` channels are copied, from the address of its first pixel on, to ``channels`` places in the strip.
    """
    parameters = [("ptr noalias", "source"), ("ptr noalias", "strip"), ("i64", "begin"), ("i64", "end"), ("i64", "count")]
    f = module.function("copy_rows", parameters, internal=True, inline=False)
    width = one.padded[1]
    pixel, source_pixel = channels * SIZES[element], one.source_channels * SIZES[element]
    left = min(width, max(0, -one.low[1]))
    first = max(0, one.low[1])
    copied = max(0, min(one.source[1], one.low[1] + width) - first)
    with f.loop(f["begin"], f["end"]) as row:
        place = f.at(f["strip"], f.index((row - f["begin"]) * (width * pixel)), "i8")
        image, line = row // one.padded[0], f.index(row % one.padded[0]) + one.low[0]
        inside = f.compare("ult", line, one.source[0]) if copied else f.number(0, "i1")
        with f.when(inside):
            _fill(f, place, left * pixel)
            start = f.index((f.index(image * one.source[0]) + line) * one.source[1]) + first
            source = f.at(f["source"], f.index(start * source_pixel), "i8")
            middle = f.at(place, left * pixel, "i8")
            if channels == one.source_channels:
                _copy(f, middle, source, copied * pixel)
            else:
                size = f.index(f["count"] * SIZES[element])
                with f.loop(0, copied) as i:
                    _copy(f, f.at(middle, f.index(i * pixel), "i8"), f.at(source, f.index(i * source_pixel), "i8"), size)
            _fill(f, f.at(place, (left + copied) * pixel, "i8"), (width - left - copied) * pixel)
        with f.when(f.op(f"xor i1 {inside.text}, true", "i1")):
            _fill(f, place, width * pixel)


def _fill(f: Function, place: Value, count: int) -> None:
    """Zero bytes."""
    if count:
        f.call("llvm.memset.p0.i64", "void", place, f.number(0, "i8"), f.index(count), f.number(0, "i1"))


def _copy(f: Function, place: Value, source: Value, count: int | Value) -> None:
    f.call("llvm.memcpy.p0.p0.i64", "void", place, source, f.index(count), f.number(0, "i1"))
