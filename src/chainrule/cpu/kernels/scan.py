"""The kernel of cumsum. Arrays are dense, row-major and seen as (before, axis, after)."""

from __future__ import annotations

from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, KernelStep, KernelSteps

_ROWS_PER_UNIT = 16
_COLUMNS_PER_UNIT = 256


def cumsum(target: Target, dtype: str, reverse: bool, before: int, size: int, after: int) -> KernelSteps:
    """Return the kernel that adds up as it goes: out[b, i, a] is the sum of x[b, j, a] for all j <= i (``reverse``: j >= i).

    Its operands are "x" and "out" (before, size, after). Floats are added up in double. If ``after`` is 1, a unit computes 16
    rows, each with its sum in a register. Otherwise a unit computes up to 256 columns of one (size, after), in vectors, with
    their sums in scratch memory.
    """
    element, itemsize = LLVM_TYPES[dtype], SIZES[LLVM_TYPES[dtype]]
    wide = "double" if element in ("float", "double") else element

    def place(f: Function, step: Value) -> Value:
        """Return the index along the axis that comes at ``step``."""
        return f.index(size - 1) - step if reverse else step

    def generate_rows(target: Target, name: str) -> Module:
        module, f, x, out = _begin(target, name)
        with f.loop(f["begin"], f["end"]) as unit:
            first = f.index(unit * _ROWS_PER_UNIT)
            with f.loop(first, f.least(first + _ROWS_PER_UNIT, before)) as row:
                total = f.variable(wide, f.zero(wide))
                with f.loop(0, size) as step:
                    at = f.index(row * size) + place(f, step)
                    total.set(total.get() + _widened(f, f.load(f.at(x, at, element), element)))
                    f.store(_narrowed(f, total.get(), element), f.at(out, at, element))
        return module

    blocks = -(-after // _COLUMNS_PER_UNIT)
    lanes = target.lanes(itemsize)

    def generate_columns(target: Target, name: str) -> Module:
        module, f, x, out = _begin(target, name)
        sums = f["scratch"]
        with f.loop(f["begin"], f["end"]) as unit:
            first = f.index((unit % blocks) * _COLUMNS_PER_UNIT)
            count = f.index(f.least(f.index(after) - first, _COLUMNS_PER_UNIT))
            start = f.index((unit // blocks) * (size * after)) + first
            with f.loop(0, count) as column:
                f.store(f.zero(wide), f.at(sums, column, wide))
            whole = count - f.index(count % lanes)
            with f.loop(0, size) as step:
                row = start + place(f, step) * after
                for begin, end, width in ((f.index(0), whole, lanes), (whole, count, 1)):
                    with f.loop(begin, end, width) as column:
                        at, total = row + column, f.at(sums, column, wide)
                        value = _widened(f, f.load(f.at(x, at, element), vector(width, element)))
                        value = f.load(total, value.type) + value
                        f.store(value, total)
                        f.store(_narrowed(f, value, element), f.at(out, at, element))
        return module

    signature = f"{dtype} {reverse} {before} {size} {after}"
    if after == 1:
        kernel = Kernel("cumsum", signature, generate_rows, -(-before // _ROWS_PER_UNIT))
    else:
        scratch = _COLUMNS_PER_UNIT * SIZES[wide]
        kernel = Kernel("cumsum", signature, generate_columns, before * blocks, scratch_bytes=scratch)
    return KernelSteps([KernelStep(kernel, ("x", "out"))])


def _begin(target: Target, name: str) -> tuple[Module, Function, Value, Value]:
    """Return a new module, its kernel's function, and the addresses of "x" and "out"."""
    module = Module(target.vector_bits, target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    x, out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(2))
    return module, f, x, out


def _widened(f: Function, value: Value) -> Value:
    """Return floats as doubles, integers as they are."""
    return f.convert("fpext", value, "double") if value.type.endswith(("float", "float>")) else value


def _narrowed(f: Function, value: Value, element: str) -> Value:
    """Return doubles as ``element`` if that is a float type, integers as they are."""
    return f.convert("fptrunc", value, "float") if element == "float" else value
