"""Transposes blocks of matrices, in registers of 16 bytes."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value, emitted_once, vector

_STRIP = 32
"""Columns that are transposed together: whole cache lines of the source, and so few rows of the result that these stay in the
L1 cache."""


def turned(f: Function, lines: Sequence[Value]) -> list[Value]:
    """Return the columns of a square block of 2 or 4 rows, which are vectors."""
    if len(lines) == 2:
        a, b = lines
        return [f.shuffle(a, b, (0, 2)), f.shuffle(a, b, (1, 3))]
    a, b, c, d = lines
    low, high = f.shuffle(a, b, (0, 4, 1, 5)), f.shuffle(a, b, (2, 6, 3, 7))
    low2, high2 = f.shuffle(c, d, (0, 4, 1, 5)), f.shuffle(c, d, (2, 6, 3, 7))
    return [
        f.shuffle(low, low2, (0, 1, 4, 5)),
        f.shuffle(low, low2, (2, 3, 6, 7)),
        f.shuffle(high, high2, (0, 1, 4, 5)),
        f.shuffle(high, high2, (2, 3, 6, 7)),
    ]


@emitted_once
def turn_sums(module: Module, element: str, source_pitch: int) -> None:
    """Define turn_sums(sums, out, rows, columns, out_pitch, chunks, chunk_pitch), which transposes a sum of matrices.

    out[column * out_pitch + row] = sum over chunks, in order, of sums[chunk * chunk_pitch + row * source_pitch + column].
    Pitches are in elements.
    """
    parameters = [("ptr noalias", "sums"), ("ptr noalias", "out"), ("i64", "rows"), ("i64", "columns")]
    parameters += [("i64", "out_pitch"), ("i64", "chunks"), ("i64", "chunk_pitch")]
    f = module.function("turn_sums", parameters, internal=True, inline=False)
    size = 16 // SIZES[element]

    def block(row: Value, column: Value, rows: int, columns: int) -> None:
        """Transpose a block from ``row`` and ``column`` on. Both ``rows`` and ``columns`` are 1 or ``size``."""
        start = f.at(f["sums"], f.index(row * source_pitch) + column, element)
        type_ = vector(columns, element)
        totals = [f.variable(type_, f.load(f.at(start, r * source_pitch, element), type_)) for r in range(rows)]
        with f.loop(1, f["chunks"]) as chunk:
            more = f.at(start, f.index(chunk * f["chunk_pitch"]), element)
            for r, total in enumerate(totals):
                total.set(total.get() + f.load(f.at(more, r * source_pitch, element), type_))
        place = f.at(f["out"], f.index(column * f["out_pitch"]) + row, element)
        lines = [total.get() for total in totals]
        if rows == columns:
            lines = turned(f, lines) if rows > 1 else lines
            for c, line in enumerate(lines):
                f.store(line, f.at(place, f.index(f["out_pitch"] * c), element))
            return
        for r, line in enumerate(lines):
            for c in range(columns):
                f.store(f.extract(line, c), f.at(f.at(place, f.index(f["out_pitch"] * c), element), r, element))

    whole_rows, whole_columns = f["rows"] - f.index(f["rows"] % size), f["columns"] - f.index(f["columns"] % size)
    with f.loop(0, whole_columns, _STRIP) as strip:
        last = f.index(f.least(strip + _STRIP, whole_columns))
        with f.loop(0, whole_rows, size) as row, f.loop(strip, last, size) as column:
            block(row, column, size, size)
        with f.loop(whole_rows, f["rows"]) as row, f.loop(strip, last, size) as column:
            block(row, column, 1, size)
    with f.loop(whole_columns, f["columns"]) as column, f.loop(0, f["rows"]) as row:
        block(row, column, 1, 1)
