"""The kernel of argsort: a merge sort of whole numbers.

Each number becomes an unsigned integer whose order is the one wanted, with its index in the lower half of a word: 32 + 32 bits,
or 64 + 64 bits where one of the two needs more. The words are sorted as integers. Equal numbers so stay in the order of their
indices, and no comparison has to look at a dtype.
"""

from __future__ import annotations

from chainrule.cpu.codegen.emit import Function, Module, Value
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel, KernelStep, KernelSteps

_ELEMENTS_PER_UNIT = 2048
_RUN = 16
"""Runs of this length are sorted by insertion before they are merged."""


def argsort(target: Target, dtype: str, descending: bool, before: int, size: int, after: int) -> KernelSteps:
    """Return the kernel with operands "x" (before, size, after) and "out" int64 (before, size, after).

    A unit sorts about 2,048 elements: several rows, one after the other, or a single one that is longer. The scratch memory
    holds the words of one row twice, as each round of merges goes from one copy to the other.
    """
    words = _Words(dtype, size)
    rows_per_unit = max(1, _ELEMENTS_PER_UNIT // max(size, 1))
    rows = before * after

    def generate(target: Target, name: str) -> Module:
        module = Module(target.vector_bits, target.has_fma)
        f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
        x, out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(2))
        copies = [f["scratch"], f.at(f["scratch"], size * words.nbytes, "i8")]
        with f.loop(f["begin"], f["end"]) as unit:
            first = f.index(unit * rows_per_unit)
            with f.loop(first, f.least(first + rows_per_unit, rows)) as row:
                start = (row // after) * (size * after) + row % after
                with f.loop(0, size) as i:
                    value = f.load(f.at(x, start + i * after, words.element), words.element)
                    words.store(f, words.of(f, value, i, descending), copies[0], i)
                _sort_runs(f, words, copies[0], size)
                source, target_copy = copies
                width = _RUN
                while width < size:
                    _merge_runs(f, words, source, target_copy, size, width)
                    source, target_copy = target_copy, source
                    width *= 2
                with f.loop(0, size) as i:
                    f.store(words.index_in(f, words.load(f, source, i)), f.at(out, start + i * after, "i64"))
        return module

    signature = f"{dtype} {descending} {before} {size} {after}"
    units = -(-rows // rows_per_unit) if size else 0
    kernel = Kernel("argsort", signature, generate, units, scratch_bytes=2 * size * words.nbytes)
    return KernelSteps([KernelStep(kernel, ("x", "out"))])


class _Words:
    """Numbers of one dtype with their indices in one integer, the number in the upper half."""

    def __init__(self, dtype: str, size: int) -> None:
        self.dtype, self.element = dtype, LLVM_TYPES[dtype]
        self.half = 64 if self.element in ("double", "i64") or size > 1 << 32 else 32
        self.type, self.nbytes = f"i{2 * self.half}", self.half // 4

    def load(self, f: Function, place: Value, i: int | Value) -> Value:
        return f.load(f.at(place, i, self.type), self.type, 8)

    def store(self, f: Function, word: Value, place: Value, i: int | Value) -> None:
        f.store(word, f.at(place, i, self.type), 8)

    def of(self, f: Function, value: Value, index: Value, descending: bool) -> Value:
        """Return the word of ``value``, loaded from memory, and its index."""
        key = self._key(f, value)
        if descending:
            key = key ^ -1
        upper = f.convert("zext", key, self.type) << self.half
        if self.half == 64:
            return upper | f.convert("zext", index, self.type)
        return upper | index

    def index_in(self, f: Function, word: Value) -> Value:
        """Return the index that is in ``word``, as an i64."""
        return f.convert("trunc", word, "i64") if self.half == 64 else word & 0xFFFFFFFF

    def _key(self, f: Function, value: Value) -> Value:
        """Return an unsigned integer of half a word that is the larger the larger ``value`` is."""
        half = f"i{self.half}"
        if self.dtype in ("uint8", "bool"):
            return f.convert("zext", value, half)
        highest = f.number(-(1 << (self.half - 1)), half)
        if self.element in ("i32", "i64"):
            return (value if value.type == half else f.convert("sext", value, half)) ^ highest
        # The bits of a float, but for the sign, are in the order of its magnitude. 0 is added to make -0 the 0 that it equals.
        bits = f.convert("bitcast", value + 0.0, "i32" if self.element == "float" else "i64")
        if bits.type != half:
            bits = f.convert("zext", bits, half) << (self.half - 32)
        negative = f.compare("slt", bits, 0)
        key = f.select(negative, bits ^ -1, bits | highest)
        return f.select(f.compare("uno", value, value), f.number(-1, half), key)


def _sort_runs(f: Function, words: _Words, place: Value, size: int) -> None:
    """Sort each run of words at ``place`` by insertion; the last one may be shorter."""
    with f.loop(0, size, _RUN) as begin, f.loop(begin + 1, f.least(begin + _RUN, size)) as i:
        word = words.load(f, place, i)
        gap = f.variable("i64", i)
        with f.repeat_while() as loop:
            loop.leave_unless(f.compare("sgt", gap.get(), begin))
            previous = words.load(f, place, gap.get() - 1)
            loop.leave_unless(f.compare("ugt", previous, word))
            words.store(f, previous, place, gap.get())
            gap.set(gap.get() - 1)
        words.store(f, word, place, gap.get())


def _merge_runs(f: Function, words: _Words, source: Value, target: Value, size: int, width: int) -> None:
    """Merge pairs of sorted runs of ``width`` words from ``source`` into ``target``; the last ones may be shorter."""
    with f.loop(0, size, 2 * width) as begin:
        middle, end = f.index(f.least(begin + width, size)), f.index(f.least(begin + 2 * width, size))
        left, right, to = f.variable("i64", begin), f.variable("i64", middle), f.variable("i64", begin)
        with f.repeat_while() as loop:
            loop.leave_unless(f.compare("slt", left.get(), middle))
            loop.leave_unless(f.compare("slt", right.get(), end))
            first, second = words.load(f, source, left.get()), words.load(f, source, right.get())
            takes_left = f.compare("ult", first, second)  # no two words are equal, as their indices differ
            words.store(f, f.select(takes_left, first, second), target, to.get())
            step = f.convert("zext", takes_left, "i64")
            left.set(left.get() + step)
            right.set(right.get() + (f.number(1, "i64") - step))
            to.set(to.get() + 1)
        for run, last in ((left, middle), (right, end)):  # what is left of one of the two
            count = (last - run.get()) * words.nbytes
            goes_to, comes_from = (f.at(copy, at.get(), words.type) for copy, at in ((target, to), (source, run)))
            f.call("llvm.memcpy.p0.p0.i64", "void", goes_to, comes_from, f.index(count), f.number(0, "i1"))
            to.set(to.get() + (last - run.get()))
