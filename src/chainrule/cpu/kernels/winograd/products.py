"""The register tile of the products of transformed tiles, which are a matrix product for each frequency."""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.cpu.codegen.emit import Module, emitted_once, vector

_STEPS = 4
"""Steps of k in a round of the inner loop."""
CHANNELS_IN_A_ROW = 512
"""The most channels that are summed up in registers before the sums are added to memory, as the rounding error grows with
them."""


@dataclass(frozen=True)
class Product:
    """out[r, c] (+)= sum over k of a[r, k] * b[k, c], for blocks of ``rows`` rows and a panel of columns.

    Counted in elements, element (r, k) of a lies at r * ``a_row`` + k * ``a_step``, row k of b at k * ``b_step`` and row r of
    out at r * ``out_row``. The columns fill ``vectors`` vectors of ``lanes``.
    """

    element: str
    lanes: int
    rows: int
    vectors: int
    a_row: int
    a_step: int
    b_step: int
    out_row: int


@emitted_once
def emit_product(module: Module, name: str, product: Product) -> None:
    """Define NAME(a, b, out, blocks, depth, accumulate), which multiplies ``blocks`` blocks of rows, for k from 0 to ``depth``.

    Loop order: blocks of rows, k. It reads a and b and writes out, or adds to it if ``accumulate``; b is read again for each
    block of rows.
    """
    parameters = [("ptr noalias readonly", "a"), ("ptr noalias readonly", "b"), ("ptr noalias", "out")]
    parameters += [("i64", "blocks"), ("i64", "depth"), ("i1", "accumulate")]
    f = module.function(name, parameters, internal=True, inline=False)
    element, type_ = product.element, vector(product.lanes, product.element)
    whole = f["depth"] - f.index(f["depth"] % _STEPS)
    with f.loop(0, f["blocks"]) as block:
        first = f.index(block * product.rows)
        a = f.variable("ptr", f.at(f["a"], first * product.a_row, element))
        b = f.variable("ptr", f["b"])
        out = f.at(f["out"], first * product.out_row, element)
        places = [
            [f.at(out, r * product.out_row + v * product.lanes, element) for v in range(product.vectors)]
            for r in range(product.rows)
        ]  # fmt: skip
        sums = [[f.variable(type_, f.zero(type_)) for _ in row] for row in places]

        def steps(count: int) -> None:
            a_now, b_now = a.get(), b.get()
            for step in range(count):
                row = f.at(b_now, step * product.b_step, element)
                columns = [f.load(f.at(row, v * product.lanes, element), type_) for v in range(product.vectors)]
                for r in range(product.rows):
                    number = f.broadcast(f.at(a_now, r * product.a_row + step * product.a_step, element), type_)
                    for total, column in zip(sums[r], columns, strict=True):
                        total.set(f.multiply_add(number, column, total.get()))
            a.set(f.at(a_now, count * product.a_step, element))
            b.set(f.at(b_now, count * product.b_step, element))

        with f.loop(0, whole, _STEPS):
            steps(_STEPS)
        with f.loop(whole, f["depth"]):
            steps(1)
        with f.when(f["accumulate"]):  # at the end, so that rounding errors grow less with the number of k
            for totals, row in zip(sums, places, strict=True):
                for total, place in zip(totals, row, strict=True):
                    total.set(total.get() + f.load(place, type_))
        for totals, row in zip(sums, places, strict=True):
            for total, place in zip(totals, row, strict=True):
                f.store(total.get(), place)
