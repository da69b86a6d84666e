"""Kernels that are told places, or tell them: gather, its adjoint, and where the largest or smallest value stands.

Arrays are seen as (before, axis, after), dense, row-major. An index outside its axis never touches memory outside: it is
noted in ``status`` (int64: 1 + the index's position, the index) and treated as 0; who runs the program raises the error.
"""

from __future__ import annotations

from chainrule.cpu.emit import SIZES, Function, Module, Value
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, Step, Steps
from chainrule.cpu.target import Target

_ROWS_PER_UNIT = 256


def _begin(target: Target, name: str, operands: int) -> tuple[Module, Function, list[Value]]:
    module = Module(target.vector_bits, target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    return module, f, [f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(operands)]


def _index(f: Function, indices: Value, position: Value, dtype: str, size: int, status: Value) -> Value:
    """The index at ``position``, checked."""
    element = LLVM_TYPES[dtype]
    index = f.load(f.at(indices, position, element), element)
    if element != "i64":
        index = f.convert("zext" if dtype == "uint8" else "sext", index, "i64")
    inside = f.compare("ult", index, size)
    with f.when(inside ^ 1):
        f.store(position + 1, status)
        f.store(index, f.at(status, 1, "i64"))
    return f.select(inside, index, f.index(0))


def gather(
    target: Target, dtype: str, index_dtype: str, before: int, size: int, after: int, count: int
) -> Steps:  # fmt: skip
    """Operands "x" (before, size, after), "indices" (count), "status", "out" (before, count, after)."""
    rows = before * count
    element, itemsize = LLVM_TYPES[dtype], SIZES[LLVM_TYPES[dtype]]

    def generate(target: Target, name: str) -> Module:
        module, f, (x, indices, status, out) = _begin(target, name, 4)
        with f.loop(f["begin"], f["end"]) as unit:
            first = f.index(unit * _ROWS_PER_UNIT)
            with f.loop(first, f.least(first + _ROWS_PER_UNIT, rows)) as row:
                index = _index(f, indices, f.index(row % count), index_dtype, size, status)
                source = f.at(x, ((row // count) * size + index) * after, element)
                length = f.number(after * itemsize, "i64")
                f.call("llvm.memcpy.p0.p0.i64", "void", f.at(out, row * after, element), source, length, f.number(0, "i1"))
        return module

    signature = f"{dtype} {index_dtype} {before} {size} {after} {count}"
    units = -(-rows // _ROWS_PER_UNIT)
    return Steps([Step(Kernel("gather", signature, generate, units), ("x", "indices", "status", "out"))])


def scatter_add(
    target: Target, dtype: str, index_dtype: str, before: int, size: int, after: int, count: int
) -> Steps:  # fmt: skip
    """Operands "x" (before, count, after), "indices" (count), "status", "out" (before, size, after): x added at the indices,
    in their order."""
    element, itemsize = LLVM_TYPES[dtype], SIZES[LLVM_TYPES[dtype]]

    def generate(target: Target, name: str) -> Module:
        module, f, (x, indices, status, out) = _begin(target, name, 4)
        with f.loop(f["begin"], f["end"]) as unit:
            base = f.at(out, unit * (size * after), element)
            length = f.number(size * after * itemsize, "i64")
            f.call("llvm.memset.p0.i64", "void", base, f.number(0, "i8"), length, f.number(0, "i1"))
            with f.loop(0, count) as position:
                index = _index(f, indices, position, index_dtype, size, status)
                source = f.at(x, (unit * count + position) * after, element)
                to = f.at(base, index * after, element)
                with f.loop(0, after) as i:
                    place = f.at(to, i, element)
                    f.store(f.load(place, element) + f.load(f.at(source, i, element), element), place)
        return module

    signature = f"{dtype} {index_dtype} {before} {size} {after} {count}"
    return Steps([Step(Kernel("scatter_add", signature, generate, before), ("x", "indices", "status", "out"))])


def extreme_place(target: Target, dtype: str, largest: bool, before: int, size: int, after: int) -> Steps:
    """argmax or argmin: operands "x" (before, size, after), "out" int64 (before, after). First on a tie; nan wins."""
    element = LLVM_TYPES[dtype]
    floating = dtype in ("float32", "float64")
    unsigned = dtype in ("uint8", "bool")
    better = ("ogt" if largest else "olt") if floating else f"{'u' if unsigned else 's'}{'gt' if largest else 'lt'}"

    def generate(target: Target, name: str) -> Module:
        module, f, (x, out) = _begin(target, name, 2)
        with f.loop(f["begin"], f["end"]) as unit:
            first = f.index(unit * _ROWS_PER_UNIT)
            with f.loop(first, f.least(first + _ROWS_PER_UNIT, before * after)) as row:
                start = (row // after) * (size * after) + row % after
                best = f.variable(element, f.load(f.at(x, start, element), element))
                place = f.variable("i64", f.index(0))
                with f.loop(1, size) as i:
                    value, so_far = f.load(f.at(x, start + i * after, element), element), best.get()
                    wins = f.compare(better, value, so_far)
                    if floating:
                        first_nan = f.compare("uno", value, value) & f.compare("ord", so_far, so_far)
                        wins = wins | first_nan
                    best.set(f.select(wins, value, so_far))
                    place.set(f.select(wins, i, place.get()))
                f.store(place.get(), f.at(out, row, "i64"))
        return module

    signature = f"{dtype} {largest} {before} {size} {after}"
    units = -(-before * after // _ROWS_PER_UNIT)
    return Steps([Step(Kernel("extreme_place", signature, generate, units), ("x", "out"))])
