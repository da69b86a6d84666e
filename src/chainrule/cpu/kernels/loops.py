"""Kernels of loop nests: elementwise primitives and reductions.

Loop order: units, then the axes of the nest, outermost first. The last axis is processed in vectors. Its last elements, if they
do not fill a vector, are processed as part of a vector by mask or, where the processor or an access allows no masks, one at a
time. A value is computed in the outermost loop in which all values that it depends on are known. Each load is read once per
point, each store is written once. A reduction along the last axis accumulates in a register, others accumulate in memory, where
their result lies. Sums of floats are divided into blocks (see ``_Sum``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chainrule.compiler.nest import Access, Nest, Reduction
from chainrule.cpu.codegen.emit import SIZES, Function, Module, Value, element_of, lanes_of, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import Kernel
from chainrule.cpu.kernels.edges import has_masks, load_columns, store_columns
from chainrule.cpu.kernels.emitters import (
    FLOATS,
    MEMORY_TYPES,
    REGISTER_TYPES,
    UNSIGNED,
    compute,
    extreme,
    round_to_bfloat16,
    to_memory,
    to_register,
)

_IN_A_ROW = 32
"""The most floats that are added up in their own precision, before the sum is added to a sum in double."""


_FEW = 4
"""A nest of at most so many rows has code of its own."""

_IN_THE_CODE = {0.0, 1.0, -1.0, 2.0, 0.5}
"""Constants that are part of the code. Others, such as 1 / N of a mean, may follow from the number of images: they are
parameters."""


def loop_kernel(nest: Nest, target: Target) -> Kernel:
    """Return the kernel of ``nest``, whose operands are in the order of their numbers."""
    points = [math.prod(nest.sizes[: depth + 1]) for depth in _depths(nest)]
    arithmetic = sum(count for one, count in zip(nest.body, points, strict=True) if one.inputs)
    return Kernel(
        "loops",
        repr(nest),
        lambda target, name: _generate(nest, target, name),
        nest.units,
        sum(one.wide_bytes for one in _sums(nest).values()),
        operations=arithmetic + math.prod(nest.sizes) * len(nest.reductions),
        bytes=sum(_traffic(nest, access) for access in _accesses(nest)),
    )


def _depths(nest: Nest) -> list[int]:
    """Return the innermost axis along which each instruction varies, in whose loop it is computed; -1 if it is constant."""
    depths: list[int] = []
    for one in nest.body:
        strides = one.access.strides if one.access else one.attribute("strides") if one.name == "index" else ()
        depth = max([depths[i] for i in one.inputs], default=-1)
        for axis, stride in enumerate(strides):
            if stride and axis > depth and nest.sizes[axis] > 1:
                depth = axis
        depths.append(depth)
    return depths


@dataclass(frozen=True)
class _Sum:
    """A reduction that adds up floats, in blocks, so that its rounding error does not grow with the number of terms.

    At most ``_IN_A_ROW`` terms are added up in the precision of the numbers. Such a block is then added to a double in scratch
    memory; there is a double for each element of the result. A bfloat16 is added to its double directly. Along the last axis, a
    block is added up in a register of the innermost loop, else in the memory of the result. For bounds of the error see Higham,
    "The accuracy of floating point summation" (1993).
    """

    nest: Nest
    reduction: Reduction
    begin: int
    """The byte of scratch memory at which its doubles begin."""

    @property
    def access(self) -> Access:
        """Where the result lies."""
        return self.reduction.access

    @cached_property
    def reduced(self) -> list[int]:
        """The axes that are summed over, outermost first."""
        return [axis for axis, stride in enumerate(self.access.strides) if stride == 0]

    @property
    def is_across(self) -> bool:
        """Whether it sums over the last axis."""
        return self.access.strides[-1] == 0

    @property
    def is_narrow(self) -> bool:
        """Whether blocks are added up in the memory of the result."""
        return not self.is_across and self.access.dtype != "bfloat16"

    def length(self, axis: int) -> int:
        """Return the number of indices of an axis, or, where a unit may have more than a few of them, just many.

        How many a unit has follows from the number of images, on which the code must not depend.
        """
        return self.nest.sizes[axis] if axis or self.nest.sizes[0] <= _FEW else _IN_A_ROW + 1

    @cached_property
    def block(self) -> tuple[int, int] | None:
        """The axis that is divided into blocks, and how many of its indices make a block, if blocks are added up in memory.

        None if they are not, or if a unit's whole sum is short enough.
        """
        terms = 1
        for axis in reversed(self.reduced if self.is_narrow else []):
            if terms * self.length(axis) > _IN_A_ROW:
                return axis, max(1, _IN_A_ROW // terms)
            terms *= self.length(axis)
        return None

    @cached_property
    def is_wide(self) -> bool:
        """Whether doubles in scratch memory are needed."""
        if self.is_across:
            return len(self.reduced) > 1
        return not self.is_narrow or self.block is not None

    def kept(self, axis: int) -> list[int]:
        """Return the axes inside of ``axis`` that are not summed over."""
        return [one for one in range(axis + 1, len(self.nest.sizes)) if self.access.strides[one]]

    @property
    def wide_bytes(self) -> int:
        """Bytes of its doubles in scratch memory, rounded up to cache lines; 0 if there are none."""
        places = math.prod(self.nest.sizes[axis] for axis in self.kept(self.reduced[0]))
        return -(-places * 8 // 64) * 64 if self.is_wide else 0


def _sums(nest: Nest) -> dict[Reduction, _Sum]:
    """Return those reductions of a nest that add up floats, and how."""
    found: dict[Reduction, _Sum] = {}
    begin = 0
    for one in nest.reductions:
        if one.kind == "sum" and one.access.dtype in FLOATS and 0 in one.access.strides:
            found[one] = _Sum(nest, one, begin)
            begin += found[one].wide_bytes
    return found


def _accesses(nest: Nest) -> set[Access]:
    return {one.access for one in nest.body if one.access is not None} | {one.access for one in nest.stores}


def _traffic(nest: Nest, access: Access) -> int:
    """Return the bytes of the different elements that an access touches: along axes with stride 0 they are the same."""
    places = SIZES[MEMORY_TYPES[access.dtype]]
    for size, stride in zip(nest.sizes, access.strides, strict=True):
        places *= size if stride else 1
    return places


def _generate(nest: Nest, target: Target, name: str) -> Module:
    module = Module(target.vector_bits, target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    _Emission(f, nest, target).emit()
    return module


class _Emission:
    """Emits the code of a nest into function ``f``."""

    def __init__(self, f: Function, nest: Nest, target: Target) -> None:
        self.f, self.nest = f, nest
        self.last = len(nest.sizes) - 1
        self.bases = [f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(nest.operands)]
        self.depths = _depths(nest)
        self.masks = self._masks(target)
        most = nest.sizes[-1]
        self.lanes = max(1, min(target.lanes(self._widest()), _power_of_two_up_to(2 * most - 1 if self.masks else most)))
        self.edge: int | Value | None = None  # the number of lanes of a vector by mask, while it is emitted
        self.values: dict[tuple[int, int], Value] = {}  # (instruction, lanes) -> value
        self.indices: list[Value | int] = [0] * len(nest.sizes)
        self.unit: Value | None = None
        self.unit_rows: Value | None = None
        self.sums = _sums(nest)
        # A single row has no stride, so that it is other code anyway.
        single = nest.sizes[0] == 1
        self.rows = 1 if single else f.parameter(nest.rows)
        self.size = 1 if single else f.parameter(nest.sizes[0])

    def _widest(self) -> int:
        """Return the bytes of the widest type that occurs in vectors, at least 4."""
        dtypes = [one.dtype for one, depth in zip(self.nest.body, self.depths, strict=True) if depth == self.last]
        dtypes += [one.access.dtype for one in self.nest.stores] + [one.access.dtype for one in self.nest.reductions]
        return max([4, *(SIZES[element_of(REGISTER_TYPES[one])] for one in dtypes)])

    def _masks(self, target: Target) -> bool:
        """Return whether all accesses can load and store parts of vectors by mask."""
        nest = self.nest
        accesses = _accesses(nest) | {one.access for one in nest.reductions}
        moving = [one for one in accesses if one.strides[self.last] and nest.sizes[self.last] > 1]
        return all(
            one.strides[self.last] == 1 and has_masks(target, SIZES[MEMORY_TYPES[one.dtype]]) for one in moving
        ) and has_masks(target, self._widest())

    def emit(self) -> None:
        """Emit the loop over units."""
        f, nest = self.f, self.nest
        with f.loop(f["begin"], f["end"]) as unit:
            self.unit = unit
            begin = f.index(unit * self.rows)
            end = f.index(f.least(begin + self.rows, self.size))
            self.unit_rows = end - begin
            self._at_depth(-1)
            for one in nest.reductions:
                if one not in self.sums:
                    self._clear(one)
            self._axis(0, begin, end)

    def _axis(self, axis: int, begin: int | Value, end: int | Value) -> None:
        """Emit the loop over ``axis`` from ``begin`` to ``end``, with all loops inside of it."""
        f = self.f
        sums = [one for one in self.sums.values() if one.reduced[0] == axis]
        for one in sums:
            self._begin_sum(one)
        if axis == self.last:
            self._innermost(begin, end)
        else:
            with self._blocks(axis, begin, end) as (first, last), f.loop(first, last) as index:
                self.indices[axis] = index
                self._at_depth(axis)
                self._axis(axis + 1, 0, self.nest.sizes[axis + 1])
        for one in sums:
            self._end_sum(one)

    @contextmanager
    def _blocks(self, axis: int, begin: int | Value, end: int | Value) -> Iterator[tuple[int | Value, int | Value]]:
        """Emit a loop over the blocks of an axis, and after each block add sums to their doubles; yields begin and end."""
        cut = [(one, one.block[1]) for one in self.sums.values() if one.block is not None and one.block[0] == axis]
        if not cut:
            yield begin, end
            return
        length = min(block for _, block in cut)
        with self.f.loop(begin, end, length) as first:
            yield first, self.f.least(first + length, end)
            for one, _ in cut:
                self._to_doubles(one, axis)

    def _innermost(self, begin: int | Value, end: int | Value) -> None:
        """Emit the loop over the last axis: whole vectors, then the elements left over, by mask or one at a time."""
        f, nest, lanes = self.f, self.nest, self.lanes
        across = [one for one in nest.reductions if one.access.strides[self.last] == 0]
        carried = {id(one): f.variable(vector(lanes, self._register(one)), self._identity(one, lanes)) for one in across}
        is_long = min(nest.sizes[-1], nest.rows if self.last == 0 else nest.sizes[-1]) > _IN_A_ROW * lanes
        wide = {
            id(one): f.variable(vector(lanes, "double"), f.zero(vector(lanes, "double")))
            for one in across
            if is_long and one in self.sums
        }

        def points(first: int | Value, last: int | Value, lanes: int, sums: dict[int, Any]) -> None:
            """Emit whole vectors of ``lanes`` from ``first`` to ``last``; in blocks if there are sums of many terms."""
            if not wide:
                with f.loop(first, last, lanes) as index:
                    self._point(index, lanes, sums)
                return
            with f.loop(first, last, _IN_A_ROW * lanes) as block:
                with f.loop(block, f.least(block + _IN_A_ROW * lanes, last), lanes) as index:
                    self._point(index, lanes, sums)
                for one in across:
                    if id(one) in wide:
                        wide[id(one)].set(wide[id(one)].get() + f.widened(sums[id(one)].get()))
                        sums[id(one)].set(self._identity(one, lanes))

        middle: int | Value = end
        if lanes > 1:
            span = end - begin if isinstance(end, int) and isinstance(begin, int) else f.index(end) - begin
            middle = begin + (span // lanes) * lanes
            points(begin, middle, lanes, carried)
        rest_is_possible = lanes == 1 or not (isinstance(end, int) and isinstance(begin, int) and end == middle)
        if rest_is_possible and lanes > 1 and self.masks:
            self._edge(middle, end, carried)
            rest_is_possible = False
        single = {id(one): f.variable(self._register(one), self._identity(one, 1)) for one in across}
        if rest_is_possible and lanes > 1:
            with f.loop(middle, end) as index:
                self._point(index, 1, single)
        elif rest_is_possible:
            points(begin, end, 1, single)
        for one in across:
            rest = single[id(one)].get()
            total = carried[id(one)].get() if lanes > 1 else rest
            if id(one) in wide:
                total, rest = wide[id(one)].get() + f.widened(total), f.widened(rest)
            if lanes > 1:
                total = self._combine(one, self._horizontal(one, total), rest)
            if one in self.sums:
                self._add_across(self.sums[one], total)
                continue
            place = self._address(one.access, upto=self.last)
            so_far = self._load_from(place, one.access, 1)
            self._store_to(self._combine(one, so_far, total), place, one.access, 1)

    def _edge(self, middle: int | Value, end: int | Value, carried: dict[int, Any]) -> None:
        """Emit the part of a vector from ``middle`` to ``end``, by mask."""
        f = self.f
        if isinstance(end, int) and isinstance(middle, int):
            self.edge = end - middle
            self._point(f.index(middle), self.lanes, carried)
        else:
            self.edge = f.index(end) - middle
            with f.when(f.compare("sgt", self.edge, 0)):
                self._point(f.index(middle), self.lanes, carried)
        self.edge = None

    def _point(self, index: Value, lanes: int, carried: dict[int, Any]) -> None:
        """Emit the work at ``lanes`` points from ``index`` of the last axis on; ``carried``: reductions in registers, by id."""
        f, nest = self.f, self.nest
        self.indices[self.last] = index
        kept = dict(self.values)
        for number, depth in enumerate(self.depths):
            if depth == self.last:
                self.values[number, lanes] = self._compute(number, lanes)
        for store in nest.stores:
            self._store(self._value(store.value, lanes), store.access, lanes)
        for one in nest.reductions:
            value = self._value(one.value, lanes)
            if one in self.sums and one.access.dtype == "bfloat16" and id(one) not in carried:
                self._add_to_doubles(self.sums[one], value, lanes)
            elif id(one) in carried:
                variable = carried[id(one)]
                if self.edge is not None:
                    value = f.select(f.lane_mask(self.edge, lanes), value, self._identity(one, lanes))
                variable.set(self._combine(one, variable.get(), value))
            else:
                place = self._address(one.access)
                so_far = self._load_from(place, one.access, lanes)
                self._store_to(self._combine(one, so_far, value), place, one.access, lanes)
        self.values = kept

    # ---- values

    def _at_depth(self, depth: int) -> None:
        """Compute the values that vary along axis ``depth``, and none inside of it, as scalars."""
        if depth == self.last:
            return
        for number, own in enumerate(self.depths):
            if own == depth:
                self.values[number, 1] = self._compute(number, 1)

    def _value(self, number: int, lanes: int) -> Value:
        """Return the value of an instruction in ``lanes`` lanes; a scalar is repeated in all lanes."""
        value = self.values.get((number, lanes))
        if value is None:
            value = self.values[number, lanes] = self.f.splat(self.values[number, 1], lanes)
        return value

    def _compute(self, number: int, lanes: int) -> Value:
        instruction = self.nest.body[number]
        f = self.f
        type_ = vector(lanes, REGISTER_TYPES[instruction.dtype])
        if instruction.name == "load":
            assert instruction.access is not None
            return self._load(instruction.access, lanes)
        if instruction.name == "constant":
            number = instruction.attribute("number")
            if number in _IN_THE_CODE or instruction.dtype not in (*FLOATS, "int64"):
                return f.number(number, type_)
            if instruction.dtype in FLOATS:
                return f.real_parameter(number, type_)
            return f.splat(f.parameter(number), lanes)
        if instruction.name == "index":
            start: Value = f.index(instruction.attribute("start"))
            strides = instruction.attribute("strides")
            for axis, stride in enumerate(strides):
                if stride:
                    start = start + self.indices[axis] * stride
            index = f.splat(start, lanes)
            if lanes > 1 and strides[self.last]:
                index = index + f.numbers([lane * strides[self.last] for lane in range(lanes)], "i64")
            return index
        if instruction.name == "unit_share":
            assert self.unit_rows is not None
            count = f.convert("sitofp", f.index(self.unit_rows * instruction.attribute("inner")), type_)
            return f.number(1.0, type_) / count
        inputs = [self._value(i, lanes) for i in instruction.inputs]
        return compute(f, instruction, inputs, [self.nest.body[i].dtype for i in instruction.inputs])

    # ---- memory

    def _address(self, access: Access, upto: int | None = None) -> Value:
        """Return the address of an access at the current indices; ``upto``: only those of axes before this one count."""
        f = self.f
        place: Value | int = access.start
        if access.unit_stride:
            assert self.unit is not None
            place = self.unit * access.unit_stride + place
        axes = range(len(access.strides) if upto is None else upto)
        for axis in axes:
            if access.strides[axis] and self.nest.sizes[axis] > 1:
                place = self.indices[axis] * access.strides[axis] + place
        return f.at(self.bases[access.operand], place, MEMORY_TYPES[access.dtype])

    def _load(self, access: Access, lanes: int) -> Value:
        return self._load_from(self._address(access), access, lanes)

    def _load_from(self, place: Value, access: Access, lanes: int) -> Value:
        """Load ``lanes`` elements along the last axis, from address ``place`` on, with the stride of the access."""
        f, element, stride = self.f, MEMORY_TYPES[access.dtype], access.strides[self.last]
        type_ = vector(lanes, element)
        if lanes == 1:
            raw = f.load(place, type_)
        elif stride == 1:
            raw = load_columns(f, place, type_, self.edge or lanes)
        elif stride == 0 or self.nest.sizes[self.last] == 1:
            raw = f.broadcast(place, type_)
        else:
            raw = f.number(0, type_)
            for lane in range(lanes):
                raw = f.insert(raw, f.load(f.at(place, lane * stride, element), element), lane)
        return to_register(f, raw, access.dtype)

    def _store(self, value: Value, access: Access, lanes: int) -> None:
        self._store_to(value, self._address(access), access, lanes)

    def _store_to(self, value: Value, place: Value, access: Access, lanes: int) -> None:
        """Store ``lanes`` elements along the last axis, from address ``place`` on, with the stride of the access."""
        f, element, stride = self.f, MEMORY_TYPES[access.dtype], access.strides[self.last]
        raw = to_memory(f, value, access.dtype)
        if lanes == 1:
            f.store(raw, place)
            return
        if stride == 1:
            store_columns(f, raw, place, self.edge or lanes)
            return
        for lane in range(lanes):
            f.store(f.extract(raw, lane), f.at(place, lane * stride, element))

    # ---- reductions

    def _register(self, reduction: Reduction) -> str:
        return REGISTER_TYPES[reduction.access.dtype]

    def _identity(self, reduction: Reduction, lanes: int) -> Value:
        return self.f.number(identity(reduction.kind, reduction.access.dtype), vector(lanes, self._register(reduction)))

    def _combine(self, reduction: Reduction, a: Value, b: Value) -> Value:
        if reduction.kind == "sum":
            return a + b
        return extreme(self.f, reduction.kind == "max", a, b, reduction.access.dtype)

    def _horizontal(self, reduction: Reduction, value: Value) -> Value:
        """Combine all lanes to a scalar: the upper half with the lower half, and so on, always in the same order."""
        f, lanes = self.f, lanes_of(value.type)
        while lanes > 1:
            lanes //= 2
            low = f.shuffle(value, value, range(lanes))
            high = f.shuffle(value, value, range(lanes, 2 * lanes))
            if lanes == 1:
                low, high = f.extract(value, 0), f.extract(value, 1)
            value = self._combine(reduction, low, high)
        return value

    # ---- sums of floats

    def _begin_sum(self, sum_: _Sum) -> None:
        """Set a sum to 0, before the loop over the outermost axis that is summed over."""
        for lanes in self._places(sum_, sum_.reduced[0]):
            if sum_.is_narrow:
                self._store_number(sum_, self.f.zero(vector(lanes, self._register(sum_.reduction))))
            if sum_.is_wide:
                self.f.store(self.f.zero(vector(lanes, "double")), self._double(sum_))

    def _to_doubles(self, sum_: _Sum, axis: int) -> None:
        """Add the block sums that lie in the result to their doubles and set them to 0, for all elements inside of ``axis``."""
        f = self.f
        for lanes in self._places(sum_, axis):
            place, double = self._address(sum_.access), self._double(sum_)
            number = f.load(place, vector(lanes, self._register(sum_.reduction)))
            f.store(f.load(double, vector(lanes, "double")) + f.widened(number), double)
            f.store(f.zero(number.type), place)

    def _add_to_doubles(self, sum_: _Sum, value: Value, lanes: int) -> None:
        """Add ``value`` to its doubles, lane by lane."""
        f = self.f
        kept = self.indices[self.last]
        with f.loop(0, lanes if self.edge is None else self.edge) as lane:
            self.indices[self.last] = f.index(kept) + lane
            double = self._double(sum_)
            term = f.op(f"extractelement {value.type} {value.text}, i64 {lane.text}", "float") if lanes > 1 else value
            f.store(f.load(double, "double") + f.widened(term), double)
        self.indices[self.last] = kept

    def _add_across(self, sum_: _Sum, total: Value) -> None:
        """Add the result of the innermost loop to the sum, or store it if it is all of the sum."""
        f = self.f
        if sum_.is_wide:
            double = self._double(sum_)
            f.store(f.load(double, "double") + f.widened(total), double)
        else:
            self._store_number(sum_, total)

    def _end_sum(self, sum_: _Sum) -> None:
        """Convert the doubles to the result, after the loop over the outermost axis that is summed over."""
        if not sum_.is_wide:
            return
        f = self.f
        for lanes in self._places(sum_, sum_.reduced[0]):
            total = f.load(self._double(sum_), vector(lanes, "double"))
            if sum_.is_narrow:
                total = total + f.widened(f.load(self._address(sum_.access), vector(lanes, self._register(sum_.reduction))))
            self._store_number(sum_, total)

    def _store_number(self, sum_: _Sum, total: Value) -> None:
        """Round a scalar or vector of a sum to its dtype, and store it in the result."""
        f, dtype = self.f, sum_.access.dtype
        total = f.narrowed(total, self._register(sum_.reduction))
        if dtype == "bfloat16":
            total = round_to_bfloat16(f, total)
        f.store(to_memory(f, total, dtype), self._address(sum_.access, upto=self.last if sum_.is_across else None))

    def _places(self, sum_: _Sum, axis: int) -> Iterator[int]:
        """Emit loops over the elements of a sum's result inside of ``axis``, in vectors if possible; yields the lanes."""
        f, kept, sizes = self.f, sum_.kept(axis), self.nest.sizes
        before = list(self.indices)

        def walk(axes: Sequence[int]) -> Iterator[int]:
            if not axes:
                yield 1
                return
            inner, begin = axes[0], 0
            if inner == self.last and self.lanes > 1 and sum_.access.strides[inner] == 1:
                begin = sizes[inner] // self.lanes * self.lanes
                with f.loop(0, begin, self.lanes) as index:
                    self.indices[inner] = index
                    yield self.lanes
            if begin < sizes[inner]:
                with f.loop(begin, sizes[inner]) as index:
                    self.indices[inner] = index
                    yield from walk(axes[1:])

        yield from walk(kept)
        self.indices = before

    def _double(self, sum_: _Sum) -> Value:
        """Return the address of the double for the element of the result at the current indices."""
        place: Value | int = 0
        stride = 1
        for axis in reversed(sum_.kept(sum_.reduced[0])):
            place = self.indices[axis] * stride + place
            stride *= self.nest.sizes[axis]
        return self.f.at(self.f.at(self.f["scratch"], sum_.begin, "i8"), place, "double")

    # ---- other reductions

    def _clear(self, reduction: Reduction) -> None:
        """Set the elements that this unit reduces into to the reduction's identity, and no other elements."""
        f, nest, access = self.f, self.nest, reduction.access
        assert self.unit is not None
        unit = self.unit
        kept = [axis for axis, stride in enumerate(access.strides) if stride and nest.sizes[axis] > 1]
        element = MEMORY_TYPES[access.dtype]
        zero = self._identity(reduction, 1)

        def walk(remaining: list[int], place: Value | int) -> None:
            if not remaining:
                f.store(to_memory(f, zero, access.dtype), f.at(self.bases[access.operand], place, element))
                return
            axis = remaining[0]
            begin: int | Value = unit * self.rows if axis == 0 else 0
            end = f.least(begin + self.rows, self.size) if axis == 0 else nest.sizes[axis]
            if len(remaining) == 1 and access.strides[axis] == 1 and self.lanes > 1 and axis != 0:
                lanes, wide = self.lanes, self._identity(reduction, self.lanes)
                middle = nest.sizes[axis] // lanes * lanes
                with f.loop(0, middle, lanes) as index:
                    f.store(to_memory(f, wide, access.dtype), f.at(self.bases[access.operand], index + place, element))
                begin = middle
            with f.loop(begin, end) as index:
                walk(remaining[1:], index * access.strides[axis] + place)

        start: Value | int = access.start
        if access.unit_stride:
            start = unit * access.unit_stride + start
        walk(kept, start)


def _power_of_two_up_to(size: int) -> int:
    """Return the largest power of two that is at most ``size``, or 1."""
    return 1 << (max(size, 1).bit_length() - 1)


def identity(kind: str, dtype: str) -> float:
    """Return the identity of a reduction over numbers of ``dtype``.

    It is 0 for kind "sum", the smallest number of the dtype for "max" and the largest for "min".
    """
    if kind == "sum":
        return 0
    sign = -1 if kind == "max" else 1
    if dtype in FLOATS:
        return sign * float("inf")
    if dtype in UNSIGNED:
        return 0 if kind == "max" else 255
    bits = 63 if dtype == "int64" else 31
    return -(1 << bits) if kind == "max" else (1 << bits) - 1
