"""Kernels that are told places, or tell them: gather, its adjoint, and where the largest or smallest value stands.

Arrays are seen as (before, axis, after), dense, row-major. An index outside its axis never touches memory outside: it is
noted in ``status`` (int64: 1 + the index's position, the index) and treated as 0; who runs the program raises the error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, KernelStep, KernelSteps

_ROWS_PER_UNIT = 256
_IN_A_ROW = 32
"""Floats that are added up in their own width."""


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
) -> KernelSteps:  # fmt: skip
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
    return KernelSteps([KernelStep(Kernel("gather", signature, generate, units), ("x", "indices", "status", "out"))])


def scatter_add(
    target: Target, dtype: str, index_dtype: str, before: int, size: int, after: int, count: int
) -> KernelSteps:  # fmt: skip
    """Operands "x" (before, count, after), "indices" (count), "status", "out" (before, size, after): x added at the indices,
    in their order.

    First each index gets a list of its positions: ``first`` (size) and ``following`` (count), -1 at the end. Then a unit makes
    some rows of the result. Of floats 32 are added up in a row, then they go to a row of doubles.
    """
    element, itemsize = LLVM_TYPES[dtype], SIZES[LLVM_TYPES[dtype]]
    rows = before * size
    is_floating = element in ("float", "double")

    def generate_order(target: Target, name: str) -> Module:
        module, f, (indices, status, first, following) = _begin(target, name, 4)
        with f.loop(f["begin"], f["end"]):
            _fill(f, first, size * 8, -1)
            with f.loop(0, count) as i:
                position = f.index(count - 1) - i
                place = f.at(first, _index(f, indices, position, index_dtype, size, status), "i64")
                f.store(f.load(place, "i64"), f.at(following, position, "i64"))
                f.store(position, place)
        return module

    def generate(target: Target, name: str) -> Module:
        module, f, (x, first, following, out) = _begin(target, name, 4)
        doubles = f["scratch"]
        with f.loop(f["begin"], f["end"]) as unit, _rows_of(f, unit, rows) as row:
            sums = f.at(out, f.index(row * after), element)
            _fill(f, sums, after * itemsize, 0)
            terms, is_long = f.variable("i64", f.index(0)), f.variable("i64", f.index(0))
            position = f.variable("i64", f.load(f.at(first, f.index(row % size), "i64"), "i64"))
            with f.repeat_while() as loop:
                loop.leave_unless(f.compare("sge", position.get(), 0))
                if is_floating:
                    with f.when(f.compare("eq", terms.get(), _IN_A_ROW)):
                        with f.when(f.compare("eq", is_long.get(), 0)):
                            _fill(f, doubles, after * 8, 0)
                        for i, lanes in _each_vector(f, after, target.lanes(itemsize)):
                            place, double = f.at(sums, i, element), f.at(doubles, i, "double")
                            term = f.widened(f.load(place, vector(lanes, element)))
                            f.store(f.load(double, term.type) + term, double)
                        _fill(f, sums, after * itemsize, 0)
                        terms.set(f.index(0))
                        is_long.set(f.index(1))
                source = f.at(x, f.index((f.index(row // size * count) + position.get()) * after), element)
                for i, lanes in _each_vector(f, after, target.lanes(itemsize)):
                    place, type_ = f.at(sums, i, element), vector(lanes, element)
                    f.store(f.load(place, type_) + f.load(f.at(source, i, element), type_), place)
                terms.set(terms.get() + 1)
                position.set(f.load(f.at(following, position.get(), "i64"), "i64"))
            if is_floating:
                with f.when(f.compare("ne", is_long.get(), 0)):
                    for i, lanes in _each_vector(f, after, target.lanes(itemsize)):
                        place = f.at(sums, i, element)
                        rest = f.widened(f.load(place, vector(lanes, element)))
                        f.store(f.narrowed(f.load(f.at(doubles, i, "double"), rest.type) + rest, element), place)
        return module

    signature = f"{dtype} {index_dtype} {before} {size} {after} {count}"
    order = Kernel("scatter_order", signature, generate_order, 1)
    units = -(-rows // _ROWS_PER_UNIT)
    adding = Kernel("scatter_add", signature, generate, units, scratch_bytes=after * 8 if is_floating else 0)
    steps = [
        KernelStep(order, ("indices", "status", "first", "following")),
        KernelStep(adding, ("x", "first", "following", "out")),
    ]
    return KernelSteps(steps, {"first": size * 8, "following": count * 8})


def _fill(f: Function, place: Value, nbytes: int, byte: int) -> None:
    f.call("llvm.memset.p0.i64", "void", place, f.number(byte, "i8"), f.number(nbytes, "i64"), f.number(0, "i1"))


@contextmanager
def _rows_of(f: Function, unit: Value, rows: int) -> Iterator[Value]:
    """The rows of a unit, one by one."""
    first = f.index(unit * _ROWS_PER_UNIT)
    with f.loop(first, f.least(first + _ROWS_PER_UNIT, rows)) as row:
        yield row


def _each_vector(f: Function, size: int, lanes: int) -> Iterator[tuple[Value, int]]:
    """Loops over a row: the first element, and how many side by side."""
    whole = size // lanes * lanes
    if whole:
        with f.loop(0, whole, lanes) as i:
            yield i, lanes
    if whole < size:
        with f.loop(whole, size) as i:
            yield i, 1


def extreme_place(target: Target, dtype: str, largest: bool, before: int, size: int, after: int) -> KernelSteps:
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
    return KernelSteps([KernelStep(Kernel("extreme_place", signature, generate, units), ("x", "out"))])
