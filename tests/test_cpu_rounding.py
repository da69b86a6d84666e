"""Whole numbers in native code against NumPy and against whole numbers of Python: floor, ceil, round, quotients, remainders."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from chainrule.cpu.codegen.emit import Function, Value
from chainrule.cpu.codegen.machine_code import assembly
from chainrule.cpu.codegen.target import AVX512, NEON, Target
from chainrule.cpu.kernels import rounding
from chainrule.graph import Array
from test_cpu_mathematics import CASES, DTYPES, TARGETS, any_bits, module_of, native, same_signs

TO_WHOLE: dict[str, tuple[Callable[[Function, Value], Value], Callable[[Array], Any]]] = {
    "floor": (rounding.floor, np.floor),
    "ceil": (rounding.ceil, np.ceil),
    "round": (rounding.round_, np.rint),
}


def equal_to_the_sign(found: Array, expected: Array) -> None:
    np.testing.assert_array_equal(found, expected)
    same_signs(found, expected)


@pytest.mark.parametrize(("target", "dtype"), CASES)
@pytest.mark.parametrize("name", TO_WHOLE)
def test_whole_numbers_have_numpys_bits(name: str, target: str, dtype: str) -> None:
    emit, reference = TO_WHOLE[name]
    halves = np.arange(-9, 10, dtype=dtype) / 2
    near = np.nextafter(halves, halves + 1)
    largest = np.array([2.0 ** (np.finfo(dtype).nmant + ahead) + 1 for ahead in (-2, -1, 0, 1)], dtype)
    x = np.concatenate([halves, near, -near, largest, largest - 0.5, -largest, any_bits(dtype)])
    with np.errstate(invalid="ignore"):
        expected = np.asarray(reference(x))
    for lanes in (1, 8):
        equal_to_the_sign(native(emit, x, target=target, lanes=lanes), expected)


def pairs(dtype: str) -> tuple[Array, Array]:
    """Of all sizes; quotients of few bits and of many, whole ones, and those next to a whole one; special values."""
    rng = np.random.default_rng(3)
    ends = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 0.1, 2.5, -7.0, 1e-45, 5e-324, 1e-310, 3e38, 1.7e308, 1e-30]
    with np.errstate(over="ignore"):
        special = np.array(ends).astype(dtype)
    a, b = (one.reshape(-1) for one in np.meshgrid(special, special))
    plain, divisors = (rng.uniform(-9, 9, 20_000).astype(dtype) for _ in range(2))
    whole = (rng.integers(-(2**20), 2**20, 20_000) * divisors.astype(np.float64)).astype(dtype)
    near = np.nextafter(whole, np.where(rng.random(20_000) < 0.5, np.inf, -np.inf).astype(dtype))
    large = (plain * 2.0 ** rng.integers(20, 60, 20_000)).astype(dtype)
    bits = any_bits(dtype, 20_000)
    return (
        np.concatenate([a, plain, whole, near, large, bits]),
        np.concatenate([b, divisors, divisors, divisors, divisors, rng.permutation(bits)]),
    )


@pytest.mark.parametrize(("target", "dtype"), CASES)
@pytest.mark.parametrize("name", ["remainder", "floor_divide"])
def test_quotients_and_remainders_have_numpys_bits(name: str, target: str, dtype: str) -> None:
    x, y = pairs(dtype)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x, y)
    for lanes in (1, 8):
        equal_to_the_sign(native(getattr(rounding, name), x, y, target=target, lanes=lanes), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_remainders_are_those_of_the_numbers_as_they_are(dtype: str) -> None:
    """In fractions, which round nothing: of positive numbers the remainder is exact."""
    x, y = (np.abs(one) for one in pairs(dtype))
    fine = np.isfinite(x) & np.isfinite(y) & (y > 0)
    x, y = x[fine][::23], y[fine][::23]
    expected = [float(Fraction(a) % Fraction(b)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    np.testing.assert_array_equal(native(rounding.remainder, x, y), expected)


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("target", TARGETS)
def test_integers_divided_by_anything(target: str, dtype: str, lanes: int) -> None:
    limits = np.iinfo(dtype)
    numbers = np.array([0, 1, -1, 2, -2, 3, -3, 7, -8, 100, limits.min, limits.max, limits.min + 1], dtype)
    x, y = (one.reshape(-1) for one in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        expected = np.floor_divide(x, y), np.remainder(x, y)
    for part in (0, 1):

        def emit(f: Function, a: Value, b: Value, part: int = part) -> Value:
            return rounding.divided_integers(f, a, b, False)[part]

        np.testing.assert_array_equal(native(emit, x, y, target=target, lanes=lanes), expected[part])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", [*TARGETS.values(), NEON, AVX512], ids=lambda target: target.name)
def test_nothing_calls_the_c_library(target: Target, dtype: str) -> None:
    lanes = target.lanes(np.dtype(dtype).itemsize)
    emits = [emit for emit, _ in TO_WHOLE.values()]
    emits += [lambda f, x: rounding.remainder(f, x, x), lambda f, x: rounding.floor_divide(f, x, x)]
    for emit in emits:
        text = assembly(module_of(emit, dtype, target, lanes, 1, ()).text(), target, "kernel")
        assert not any(line.split()[:1] in (["callq"], ["call"], ["bl"]) for line in text.splitlines())
