"""Machine code of a loop nest: elementwise work and reductions.

Loop order: units, then the axes of the nest, outermost first; the last axis in vectors, of which the last one may be a part,
by mask; where the processor or an access has no masks, what is left over goes element by element. A value is computed in the
outermost loop in which everything that it depends on is known. Reads each load once per point, writes each store once; a
reduction over the last axis is carried in a register, others in their place in memory. Sums of floats are cut (see ``_Sum``).
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
"""Terms of a sum of floats that are added up in their own width: then they go to a sum in double."""


def loop_kernel(nest: Nest, target: Target) -> Kernel:
    """The kernel of ``nest``; operands in the order of their numbers."""
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
    """Per instruction the innermost axis that it varies along, where it is computed; -1 for none."""
    depths: list[int] = []
    for one in nest.body:
        strides = one.access.strides if one.access else one.attribute("strides") if one.name == "index" else ()
        own = max((axis for axis, stride in enumerate(strides) if stride and nest.sizes[axis] > 1), default=-1)
        depths.append(max([own, *(depths[i] for i in one.inputs)]))
    return depths


@dataclass(frozen=True)
class _Sum:
    """How the terms of a sum of floats come together, so that its rounding error does not grow with its length.

    At most ``_IN_A_ROW`` terms are added up in the width of the numbers, then such a block goes to a double of its own in the
    scratch memory; a bfloat16 goes there at once. Over the last axis a block is a register of the innermost loop, else it is
    what lies in the places of the result. Higham, "The accuracy of floating point summation" (1993), has the bounds.
    """

    nest: Nest
    reduction: Reduction
    begin: int
    """Of its doubles, in the scratch memory."""

    @property
    def access(self) -> Access:
        return self.reduction.access

    @cached_property
    def reduced(self) -> list[int]:
        """The axes that it gathers, outermost first."""
        return [axis for axis, stride in enumerate(self.access.strides) if stride == 0]

    @property
    def is_across(self) -> bool:
        """Whether it gathers along the last axis."""
        return self.access.strides[-1] == 0

    @property
    def is_narrow(self) -> bool:
        """Whether blocks come together in the places of the result."""
        return not self.is_across and self.access.dtype != "bfloat16"

    def length(self, axis: int) -> int:
        """Indices of an axis in one unit."""
        return self.nest.rows if axis == 0 else self.nest.sizes[axis]

    @cached_property
    def block(self) -> tuple[int, int] | None:
        """Of what comes together in the places: the axis that is cut, and how many of its indices make a block; None: it is
        short enough as a whole."""
        terms = 1
        for axis in reversed(self.reduced if self.is_narrow else []):
            if terms * self.length(axis) > _IN_A_ROW:
                return axis, max(1, _IN_A_ROW // terms)
            terms *= self.length(axis)
        return None

    @cached_property
    def is_wide(self) -> bool:
        """Whether there are doubles in the scratch memory."""
        if self.is_across:
            return len(self.reduced) > 1
        return not self.is_narrow or self.block is not None

    def kept(self, axis: int) -> list[int]:
        """The axes within ``axis`` that it keeps."""
        return [one for one in range(axis + 1, len(self.nest.sizes)) if self.access.strides[one]]

    @property
    def wide_bytes(self) -> int:
        places = math.prod(self.nest.sizes[axis] for axis in self.kept(self.reduced[0]))
        return -(-places * 8 // 64) * 64 if self.is_wide else 0


def _sums(nest: Nest) -> dict[Reduction, _Sum]:
    """Of the reductions of a nest those that add up floats."""
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
    """Bytes that an access touches: places along axes of stride 0 are the same."""
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
    """The state of emitting one nest."""

    def __init__(self, f: Function, nest: Nest, target: Target) -> None:
        self.f, self.nest = f, nest
        self.last = len(nest.sizes) - 1
        self.bases = [f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(nest.operands)]
        self.depths = _depths(nest)
        self.masks = self._masks(target)
        most = nest.sizes[-1]
        self.lanes = max(1, min(target.lanes(self._widest()), _power_of_two_up_to(2 * most - 1 if self.masks else most)))
        self.edge: int | Value | None = None  # of a vector at the edge, how many lanes there are
        self.values: dict[tuple[int, int], Value] = {}  # (instruction, lanes) -> value
        self.indices: list[Value | int] = [0] * len(nest.sizes)
        self.unit: Value | None = None
        self.unit_rows: Value | None = None
        self.sums = _sums(nest)

    def _widest(self) -> int:
        """Bytes of the widest number that is worked on in vectors."""
        dtypes = [one.dtype for one, depth in zip(self.nest.body, self.depths, strict=True) if depth == self.last]
        dtypes += [one.access.dtype for one in self.nest.stores] + [one.access.dtype for one in self.nest.reductions]
        return max([4, *(SIZES[element_of(REGISTER_TYPES[one])] for one in dtypes)])

    def _masks(self, target: Target) -> bool:
        """Whether part of a vector can be loaded and stored at each access."""
        nest = self.nest
        accesses = _accesses(nest) | {one.access for one in nest.reductions}
        moving = [one for one in accesses if one.strides[self.last] and nest.sizes[self.last] > 1]
        return all(
            one.strides[self.last] == 1 and has_masks(target, SIZES[MEMORY_TYPES[one.dtype]]) for one in moving
        ) and has_masks(target, self._widest())

    def emit(self) -> None:
        f, nest = self.f, self.nest
        with f.loop(f["begin"], f["end"]) as unit:
            self.unit = unit
            begin = f.index(unit * nest.rows)
            end = f.index(f.least(begin + nest.rows, nest.sizes[0]))
            if nest.sizes[0] % nest.rows == 0:
                end = begin + nest.rows
            self.unit_rows = end - begin
            self._at_depth(-1)
            for one in nest.reductions:
                if one not in self.sums:
                    self._clear(one)
            self._axis(0, begin, end)

    def _axis(self, axis: int, begin: int | Value, end: int | Value) -> None:
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
        """The blocks of an axis, from and to, after each of which sums go to their doubles."""
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
        """The vector axis: whole vectors, then what is left over, as part of a vector or one by one."""
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
            """From ``first`` to ``last``, a multiple of ``lanes``, in blocks if that is long."""
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
        """The part of a vector from ``middle`` on."""
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
        """Compute what is known from here on inwards, as single numbers."""
        if depth == self.last:
            return
        for number, own in enumerate(self.depths):
            if own == depth:
                self.values[number, 1] = self._compute(number, 1)

    def _value(self, number: int, lanes: int) -> Value:
        found = self.values.get((number, lanes))
        if found is None:
            found = self.values[number, lanes] = self.f.splat(self.values[number, 1], lanes)
        return found

    def _compute(self, number: int, lanes: int) -> Value:
        one = self.nest.body[number]
        f = self.f
        type_ = vector(lanes, REGISTER_TYPES[one.dtype])
        if one.name == "load":
            assert one.access is not None
            return self._load(one.access, lanes)
        if one.name == "constant":
            return f.number(one.attribute("number"), type_)
        if one.name == "index":
            start: Value = f.index(one.attribute("start"))
            strides = one.attribute("strides")
            for axis, stride in enumerate(strides):
                if stride:
                    start = start + self.indices[axis] * stride
            found = f.splat(start, lanes)
            if lanes > 1 and strides[self.last]:
                found = found + f.numbers([lane * strides[self.last] for lane in range(lanes)], "i64")
            return found
        if one.name == "unit_share":
            assert self.unit_rows is not None
            count = f.convert("sitofp", f.index(self.unit_rows * one.attribute("inner")), type_)
            return f.number(1.0, type_) / count
        inputs = [self._value(i, lanes) for i in one.inputs]
        return compute(f, one, inputs, [self.nest.body[i].dtype for i in one.inputs])

    # ---- memory

    def _address(self, access: Access, upto: int | None = None) -> Value:
        """Address of the first lane; ``upto`` leaves out the axes from there on."""
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

    def _register(self, one: Reduction) -> str:
        return REGISTER_TYPES[one.access.dtype]

    def _identity(self, one: Reduction, lanes: int) -> Value:
        return self.f.number(identity(one.kind, one.access.dtype), vector(lanes, self._register(one)))

    def _combine(self, one: Reduction, a: Value, b: Value) -> Value:
        if one.kind == "sum":
            return a + b
        return extreme(self.f, one.kind == "max", a, b, one.access.dtype)

    def _horizontal(self, one: Reduction, value: Value) -> Value:
        """All lanes as one: halves upon halves, a fixed order."""
        f, lanes = self.f, lanes_of(value.type)
        while lanes > 1:
            lanes //= 2
            low = f.shuffle(value, value, range(lanes))
            high = f.shuffle(value, value, range(lanes, 2 * lanes))
            if lanes == 1:
                low, high = f.extract(value, 0), f.extract(value, 1)
            value = self._combine(one, low, high)
        return value

    # ---- sums of floats

    def _begin_sum(self, one: _Sum) -> None:
        """Nothing so far: before the outermost axis that it gathers."""
        for lanes in self._places(one, one.reduced[0]):
            if one.is_narrow:
                self._store_number(one, self.f.zero(vector(lanes, self._register(one.reduction))))
            if one.is_wide:
                self.f.store(self.f.zero(vector(lanes, "double")), self._double(one))

    def _to_doubles(self, one: _Sum, axis: int) -> None:
        """What came together in the places within ``axis`` goes to their doubles."""
        f = self.f
        for lanes in self._places(one, axis):
            place, double = self._address(one.access), self._double(one)
            number = f.load(place, vector(lanes, self._register(one.reduction)))
            f.store(f.load(double, vector(lanes, "double")) + f.widened(number), double)
            f.store(f.zero(number.type), place)

    def _add_to_doubles(self, one: _Sum, value: Value, lanes: int) -> None:
        """A value at a point goes to its double, lane by lane."""
        f = self.f
        kept = self.indices[self.last]
        with f.loop(0, lanes if self.edge is None else self.edge) as lane:
            self.indices[self.last] = f.index(kept) + lane
            double = self._double(one)
            term = f.op(f"extractelement {value.type} {value.text}, i64 {lane.text}", "float") if lanes > 1 else value
            f.store(f.load(double, "double") + f.widened(term), double)
        self.indices[self.last] = kept

    def _add_across(self, one: _Sum, total: Value) -> None:
        """What the innermost loop found."""
        f = self.f
        if one.is_wide:
            double = self._double(one)
            f.store(f.load(double, "double") + f.widened(total), double)
        else:
            self._store_number(one, total)

    def _end_sum(self, one: _Sum) -> None:
        """The doubles are the result."""
        if not one.is_wide:
            return
        f = self.f
        for lanes in self._places(one, one.reduced[0]):
            total = f.load(self._double(one), vector(lanes, "double"))
            if one.is_narrow:
                total = total + f.widened(f.load(self._address(one.access), vector(lanes, self._register(one.reduction))))
            self._store_number(one, total)

    def _store_number(self, one: _Sum, total: Value) -> None:
        """A number of the result, or some side by side, rounded to its dtype."""
        f, dtype = self.f, one.access.dtype
        total = f.narrowed(total, self._register(one.reduction))
        if dtype == "bfloat16":
            total = round_to_bfloat16(f, total)
        f.store(to_memory(f, total, dtype), self._address(one.access, upto=self.last if one.is_across else None))

    def _places(self, one: _Sum, axis: int) -> Iterator[int]:
        """Loops over the places of the result within ``axis``, some side by side at a time: yields how many."""
        f, kept, sizes = self.f, one.kept(axis), self.nest.sizes
        before = list(self.indices)

        def walk(axes: Sequence[int]) -> Iterator[int]:
            if not axes:
                yield 1
                return
            inner, begin = axes[0], 0
            if inner == self.last and self.lanes > 1 and one.access.strides[inner] == 1:
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

    def _double(self, one: _Sum) -> Value:
        """The address of the double of the place at the present indices."""
        place: Value | int = 0
        stride = 1
        for axis in reversed(one.kept(one.reduced[0])):
            place = self.indices[axis] * stride + place
            stride *= self.nest.sizes[axis]
        return self.f.at(self.f.at(self.f["scratch"], one.begin, "i8"), place, "double")

    # ---- other reductions

    def _clear(self, one: Reduction) -> None:
        """Set the places that this unit gathers into to the reduction's identity: those it reaches, and no others."""
        f, nest, access = self.f, self.nest, one.access
        assert self.unit is not None
        kept = [axis for axis, stride in enumerate(access.strides) if stride and nest.sizes[axis] > 1]
        element = MEMORY_TYPES[access.dtype]
        zero = self._identity(one, 1)

        def walk(remaining: list[int], place: Value | int) -> None:
            if not remaining:
                f.store(to_memory(f, zero, access.dtype), f.at(self.bases[access.operand], place, element))
                return
            axis = remaining[0]
            begin: int | Value = self.unit * nest.rows if axis == 0 else 0  # type: ignore[operator]
            end = f.least(begin + nest.rows, nest.sizes[0]) if axis == 0 else nest.sizes[axis]
            if len(remaining) == 1 and access.strides[axis] == 1 and self.lanes > 1 and axis != 0:
                lanes, wide = self.lanes, self._identity(one, self.lanes)
                middle = nest.sizes[axis] // lanes * lanes
                with f.loop(0, middle, lanes) as index:
                    f.store(to_memory(f, wide, access.dtype), f.at(self.bases[access.operand], index + place, element))
                begin = middle
            with f.loop(begin, end) as index:
                walk(remaining[1:], index * access.strides[axis] + place)

        start: Value | int = access.start
        if access.unit_stride:
            start = self.unit * access.unit_stride + start
        walk(kept, start)


def _power_of_two_up_to(size: int) -> int:
    return 1 << (max(size, 1).bit_length() - 1)


def identity(kind: str, dtype: str) -> float:
    """What leaves every number as it is: 0 for a sum; the smallest number there is for a max."""
    if kind == "sum":
        return 0
    sign = -1 if kind == "max" else 1
    if dtype in FLOATS:
        return sign * float("inf")
    if dtype in UNSIGNED:
        return 0 if kind == "max" else 255
    bits = 63 if dtype == "int64" else 31
    return -(1 << bits) if kind == "max" else (1 << bits) - 1
