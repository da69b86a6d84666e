"""Kernels that read or write indices: gather, its adjoint scatter_add, argmax and argmin.

Arrays are dense, row-major and seen as (before, axis, after). An index outside of its axis never leads to memory outside: it is
recorded in the operand "status" (int64: 1 + position of the index, index) and treated as 0. The program raises the error after
its run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, KernelStep, KernelSteps

_ROWS_PER_UNIT = 256
_IN_A_ROW = 32
"""The most floats that are added up in their own precision, before the sum is added to a sum in double."""


def _begin(target: Target, name: str, operands: int) -> tuple[Module, Function, list[Value]]:
    """Return a new module, its kernel's function, and the addresses of the kernel's operands."""
    module = Module(target.vector_bits, target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    return module, f, [f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(operands)]


def _index(f: Function, indices: Value, position: Value, dtype: str, size: int, status: Value) -> Value:
    """Load the index at ``position`` as an i64; if it is not from 0 to ``size``, record it in ``status`` and return 0."""
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
    """Return the kernel that copies rows of ``after`` elements: out[b, i] = x[b, indices[i]].

    Its operands are "x" (before, size, after), "indices" (count), "status" and "out" (before, count, after).
    """
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
    """Return the kernels that add rows of ``after`` elements: out[b, j] is the sum of x[b, i] over all i with indices[i] = j.

    Their operands are "x" (before, count, after), "indices" (count), "status" and "out" (before, size, after). The rows are
    added up in the order of i.

    A first kernel makes a linked list of the positions i of each j: "first" (size) and "following" (count), where -1 ends a
    list. In a second kernel, units compute some rows of the result each. Up to 32 float terms are added up in place, then their
    sum is added to a row of doubles.
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
    """Emit a loop over the rows of a unit; yields the row."""
    first = f.index(unit * _ROWS_PER_UNIT)
    with f.loop(first, f.least(first + _ROWS_PER_UNIT, rows)) as row:
        yield row


def _each_vector(f: Function, size: int, lanes: int) -> Iterator[tuple[Value, int]]:
    """Emit loops over a row of ``size`` elements, in vectors and then single; yields the first element and the lanes."""
    whole = size // lanes * lanes
    if whole:
        with f.loop(0, whole, lanes) as i:
            yield i, lanes
    if whole < size:
        with f.loop(whole, size) as i:
            yield i, 1


def extreme_place(target: Target, dtype: str, largest: bool, before: int, size: int, after: int) -> KernelSteps:
    """Return the kernel of argmax (``largest``) or argmin, along the axis of ``size`` elements.

    Its operands are "x" (before, size, after) and "out" (before, after), int64. On a tie the first index is the result; a nan
    counts as larger (for argmin: smaller) than all numbers.
    """
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
