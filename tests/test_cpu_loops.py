"""Loop nests as kernels: every length around a vector, by mask or one by one, writes what it should and nothing beside it."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from chainrule.compiler.nest import Access, Instruction, Nest, Reduction, Store
from chainrule.cpu.codegen.code_cache import load
from chainrule.cpu.codegen.machine_code import assembly
from chainrule.cpu.codegen.target import AVX512, NEON, Target, host_target
from chainrule.cpu.kernels.emitters import MEMORY_TYPES
from chainrule.cpu.kernels.loops import loop_kernel
from chainrule.graph.dtypes import as_dtype
from kernels import arguments_of, assert_guards_hold, guarded

TARGETS = {"host": host_target(), **({"sse2": host_target("sse2")} if host_target().name != "neon" else {})}


def nest_of(rows: int, columns: int, dtype: str, units: int, ordered: str) -> Nest:
    """x (rows, columns), y (columns), a number each row: z = x * y + w; sums along rows, a maximum of all columns of a unit."""
    both, along, down = (columns, 1), (0, 1), (1, 0)
    body = (
        Instruction("load", dtype, access=Access(0, dtype, 0, both)),
        Instruction("load", dtype, access=Access(1, dtype, 0, along)),
        Instruction("load", dtype, access=Access(2, dtype, 0, down)),
        Instruction("multiply", dtype, (0, 1)),
        Instruction("add", dtype, (3, 2)),
    )
    stores = (Store(4, Access(3, dtype, 0, both)),)
    reductions = (
        Reduction(4, ordered, Access(4, dtype, 0, down)),
        Reduction(4, "sum", Access(5, dtype, 0, along, unit_stride=columns)),
    )
    return Nest((rows, columns), -(-rows // units), body, stores, reductions)


def in_guarded_memory(array: np.ndarray) -> np.ndarray:
    copy = guarded(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def run(nest: Nest, given: Sequence[np.ndarray], made: Sequence[np.ndarray], target: Target) -> list[np.ndarray]:
    """What the nest makes of ``given``, in copies of ``made``; nothing else is written."""
    arrays = [in_guarded_memory(one) for one in (*given, *made)]
    kernel = loop_kernel(nest, target).named(target)
    function = load([kernel], target)[kernel.name]
    native = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(function.address)
    table, arguments = arguments_of(kernel, target, [one.ctypes.data for one in arrays])
    scratch = guarded(kernel.scratch_bytes)
    native(arguments, 0, nest.units, scratch.ctypes.data)
    assert table.size
    assert_guards_hold(scratch, "scratch")
    for number, array in enumerate(arrays):
        assert_guards_hold(array, f"operand {number}")
    for array, before in zip(arrays, given, strict=False):
        np.testing.assert_array_equal(array, before)
    return arrays[len(given) :]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("columns", [*range(1, 18), 23, 32, 33])
def test_every_length_around_a_vector(columns: int, dtype: str, target: str) -> None:
    for rows, units, ordered in product((1, 5), (1, 3), ("sum", "max", "min")):
        nest = nest_of(rows, columns, dtype, min(units, rows), ordered)
        rng = np.random.default_rng(columns)
        x, y, w = (rng.integers(-9, 9, shape).astype(dtype) for shape in ((rows, columns), (columns,), (rows,)))
        made = [np.zeros(shape, dtype) for shape in ((rows, columns), (rows,), (nest.units, columns))]
        stored, along, down = run(nest, (x, y, w), made, TARGETS[target])
        z = x * y + w[:, None]
        np.testing.assert_array_equal(stored, z)
        np.testing.assert_array_equal(along, {"sum": np.sum, "max": np.max, "min": np.min}[ordered](z, axis=1))
        for unit in range(nest.units):
            part = z[unit * nest.rows : (unit + 1) * nest.rows]
            np.testing.assert_array_equal(down[unit], part.sum(axis=0))


def extremes_of(rows: int, columns: int, dtype: str) -> Nest:
    """x (rows, columns): the largest and the smallest along rows, carried in a register, and of each column, in its place."""
    body = (Instruction("load", dtype, access=Access(0, dtype, 0, (columns, 1))),)
    places = [(kind, strides) for kind in ("max", "min") for strides in ((1, 0), (0, 1))]
    reductions = [Reduction(0, kind, Access(1 + i, dtype, 0, strides)) for i, (kind, strides) in enumerate(places)]
    return Nest((rows, columns), rows, body, (), tuple(reductions))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", sorted(set(MEMORY_TYPES) - {"bool"}))
def test_the_largest_and_the_smallest_of_every_dtype(dtype: str, target: str) -> None:
    """What is carried in a register lies in memory as its dtype says: a bfloat16 in two bytes; a uint8 has no sign."""
    rng, rows = np.random.default_rng(3), 3
    low, high = (0, 255) if dtype == "uint8" else (-120, 120)
    for columns in (1, 3, 17, 40):
        x = rng.integers(low, high, (rows, columns), endpoint=True).astype(as_dtype(dtype))
        made = [np.zeros(size, x.dtype) for size in (rows, columns, rows, columns)]
        found = run(extremes_of(rows, columns, dtype), (x,), made, TARGETS[target])
        for one, expected in zip(found, (np.max(x, 1), np.max(x, 0), np.min(x, 1), np.min(x, 0)), strict=True):
            np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32"])
def test_sums_over_any_axes_of_any_length(dtype: str, target: str) -> None:
    """Shorter and longer than what is added up in a row; two sums over different axes in one nest, in units of the first."""
    wide = as_dtype(dtype)
    rng = np.random.default_rng(0)
    for sizes in ((3, 5, 40), (70, 4, 9), (2, 100, 3), (40, 3, 35), (5, 33, 33), (1, 2, 1200)):
        x = rng.integers(-1, 2, sizes).astype(wide)
        dense = (sizes[1] * sizes[2], sizes[2], 1)
        for axes, other in ((0,), (1, 2)), ((0, 2), (1,)), ((0, 1), (2,)), ((0, 1, 2), (1, 2)):
            rows = -(-sizes[0] // 2)
            reductions, made, wanted = [], [], []
            for number, reduced in enumerate((axes, other)):
                kept = [axis for axis in range(3) if axis not in reduced]
                strides = [0, 0, 0]
                for place, axis in enumerate(kept):
                    strides[axis] = int(np.prod([sizes[one] for one in kept[place + 1 :]]))
                shape = tuple(sizes[axis] for axis in kept)
                by_unit = int(np.prod(shape)) if 0 in reduced else 0
                reductions.append(Reduction(0, "sum", Access(1 + number, dtype, 0, tuple(strides), by_unit)))
                units = [x[:rows], x[rows:]] if by_unit and rows < sizes[0] else [x]
                wanted.append(np.stack([one.astype(np.float64).sum(reduced) for one in units]).astype(wide))
                made.append(np.zeros(wanted[-1].shape, wide))
            load = Instruction("load", dtype, access=Access(0, dtype, 0, dense))
            sums = run(Nest(sizes, rows, (load,), (), tuple(reductions)), [x], made, TARGETS[target])
            for found, right in zip(sums, wanted, strict=True):
                np.testing.assert_array_equal(found.reshape(right.shape), right, err_msg=f"{sizes} {axes} {other}")


def test_units_that_end_within_a_vector() -> None:
    """One axis, cut into units of 5: the last vector of each is part of one whose length is known only when it runs."""
    for size in (1, 4, 5, 9, 14, 22):
        load_x = Instruction("load", "float32", access=Access(0, "float32", 0, (1,)))
        nest = Nest((size,), 5, (load_x, Instruction("exp", "float32", (0,))), (Store(1, Access(1, "float32", 0, (1,))),))
        x = np.linspace(-2, 2, size, dtype=np.float32)
        (out,) = run(nest, (x,), (np.zeros(size, np.float32),), TARGETS["host"])
        np.testing.assert_allclose(out, np.exp(x), rtol=2e-6)


def text_of(target: Target, dtype: str = "float32") -> str:
    kernel = loop_kernel(nest_of(3, 13, dtype, 1, "sum"), target).named(target)
    return assembly(kernel.text(target), target, kernel.name)


def test_edges_are_vectors_with_a_mask() -> None:
    avx2 = replace(AVX512, name="avx2", cpu="haswell", vector_bytes=32, registers=16)
    text = text_of(avx2)
    assert re.search(r"vmaskmovps\s.*%ymm", text), "the last 5 of 13 numbers are loaded by mask"
    assert not re.search(r"v(mul|fmadd\d+)ss\s", text), "and nothing is multiplied one by one"
    assert re.search(r"\{%k\d\} \{z\}", text_of(AVX512))


def test_where_there_are_no_masks_the_rest_goes_one_by_one() -> None:
    assert "fmul\ts" in text_of(NEON) or "fmadd\ts" in text_of(NEON)
