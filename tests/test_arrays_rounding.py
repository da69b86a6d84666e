"""Rounding, quotients and remainders, log2, tan and atan as methods, functions and operators, node by node, by NumPy alone and
compiled: NumPy's values in every dtype, and gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from array_functions import SHAPES, SPECIAL, agree, drawn, gradients_are_right
from chainrule import UserError

ROUNDED: dict[str, Callable[[Any], Any]] = {"floor": np.floor, "ceil": np.ceil, "round": np.rint}
OF_FLOATS: dict[str, Callable[[Any], Any]] = {"log2": np.log2, "tan": np.tan, "atan": np.arctan}
FLOATS = ["float64", "float32", "bfloat16"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [*FLOATS, "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("name", ROUNDED)
def test_rounded_to_whole_numbers(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    x = drawn(shape, dtype)
    expected = ROUNDED[name](x.astype(np.float64)) if dtype in FLOATS else x
    for f in (lambda x: getattr(x, name)(), getattr(cr, name)):
        agree(f, [x], expected.astype(x.dtype), exact=True)
    assert not getattr(cr.tensor(np.ones(shape), requires_grad=True), name)().requires_grad


@pytest.mark.parametrize("name", ROUNDED)
def test_what_is_rounded_at_the_ends_keeps_numpys_signs(name: str) -> None:
    x = np.array([*SPECIAL, 0.5, 1.5, 2.5, -0.5, -1.5, -0.2, 0.2, 2.0**53 - 1, 1e15 + 0.5])
    found = agree(lambda x: getattr(x, name)(), [x], ROUNDED[name](x), exact=True)
    np.testing.assert_array_equal(np.signbit(found[~np.isnan(x)]), np.signbit(ROUNDED[name](x)[~np.isnan(x)]))


def test_rounded_to_decimals() -> None:
    x = np.array([0.125, 2.5, -1.005, 1234.567, 0.0, -0.0, np.inf, -np.inf, np.nan, 1e-9])
    for decimals in (0, 1, 2, 5, 100, -1, -2, -5):
        agree(lambda x, d=decimals: cr.round(x, d), [x], np.round(x, decimals))
        agree(lambda x, d=decimals: x.round(decimals=d), [x], np.round(x, decimals))
    assert cr.tensor([1e300, 3.0], "float64").round(20).tolist() == [1e300, 3.0]  # times 10^20 it would be infinite
    whole = np.array([15, 25, 14, -15, 151, 0])
    for decimals in (0, 3, -1, -2, -30):
        agree(lambda x, d=decimals: x.round(d), [whole], np.round(whole, decimals), exact=True)
    assert round(cr.tensor([2.5, 1.26])).tolist() == [2, 1]
    assert round(cr.tensor(1.26, "float64"), 1).item() == 1.3
    with pytest.raises(UserError) as caught:
        cr.tensor([1.0]).round(39)
    assert str(caught.value) == "round: decimals must be from -38 to 38 for float32[1], got 39"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OF_FLOATS)
def test_functions_of_one_number(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    x = np.abs(drawn(shape, dtype)) + np.asarray(0.1, drawn((), dtype).dtype)
    for f in (lambda x: getattr(x, name)(), getattr(cr, name)):
        agree(f, [x], OF_FLOATS[name](x.astype(np.float64)).astype(x.dtype))
    gradients_are_right(getattr(cr, name), np.abs(drawn(shape, "float64")) % 1 + 0.2)


@pytest.mark.parametrize("name", OF_FLOATS)
def test_functions_of_one_number_at_the_ends_and_of_integers(name: str) -> None:
    with np.errstate(all="ignore"):
        agree(getattr(cr, name), [np.array(SPECIAL)], OF_FLOATS[name](np.array(SPECIAL)))
    agree(getattr(cr, name), [np.array([1, 2, 8])], OF_FLOATS[name](np.array([1, 2, 8])).astype(np.float32))


def test_slopes_at_the_ends() -> None:
    x = cr.tensor([0.0, np.inf, 1e30], "float32", requires_grad=True)
    (slope,) = cr.grad(x.atan().sum(), x)
    assert slope is not None
    assert slope.tolist() == [1, 0, 0]
    (slope,) = cr.grad(cr.tan(x).sum(), x)
    assert slope is not None
    assert slope[0].item() == 1


@pytest.mark.parametrize("dtype", [*FLOATS, "int64", "int32", "uint8"])
def test_quotients_and_remainders(dtype: str) -> None:
    for shapes in (((), ()), ((5,), (5,)), ((3, 1), (1, 4)), ((2, 0), (1,)), ((7, 300), (300,))):
        x, y = drawn(shapes[0], dtype, 1), drawn(shapes[1], dtype, 2)
        with np.errstate(all="ignore"):
            pair = [one.astype(np.float32) if dtype == "bfloat16" else one for one in (x, y)]
            quotient, rest = np.floor_divide(*pair).astype(x.dtype), np.remainder(*pair).astype(x.dtype)
        agree(lambda x, y: x // y, [x, y], quotient, exact=True)
        agree(lambda x, y: x % y, [x, y], rest, exact=True)
        agree(lambda x, y: divmod(x, y)[1], [x, y], rest, exact=True)


def test_quotients_and_remainders_with_numbers_on_either_side() -> None:
    x = np.array([-7, -1, 1, 3, 9], np.int32)
    for number in (3, -2, 0.75):
        kept = np.int32 if isinstance(number, int) else np.float32
        agree(lambda x, n=number: x // n, [x], (x // number).astype(kept), exact=True)
        agree(lambda x, n=number: x % n, [x], (x % number).astype(kept), exact=True)
        agree(lambda x, n=number: n // x, [x], (number // x).astype(kept), exact=True)
        agree(lambda x, n=number: n % x, [x], np.remainder(np.asarray(number, kept), x).astype(kept))
        agree(lambda x, n=number: divmod(n, x)[0], [x], (number // x).astype(kept), exact=True)
    assert (1.0 // cr.tensor([0.1], "float64")).tolist() == [9]  # as in Python: 0.1 is a little more than a tenth
    assert (cr.tensor([5, -5]) // 0).tolist() == [0, 0]
    assert (cr.tensor([5, -5]) % 0).tolist() == [0, 0]


def test_quotients_and_remainders_at_the_ends() -> None:
    x, y = (one.reshape(-1) for one in np.meshgrid(SPECIAL, SPECIAL))
    with np.errstate(all="ignore"):
        agree(lambda x, y: x // y, [x, y], np.floor_divide(x, y), exact=True)
        agree(lambda x, y: x % y, [x, y], np.remainder(x, y), exact=True)


def test_the_gradient_of_a_remainder() -> None:
    """1 for x, -(x // y) for y."""
    x, y = np.array([7.5, -7.5, 2.0, 0.3]), np.array([2.0, 2.0, -0.7, 5.0])
    gradients_are_right(lambda a, b: a % b, x, y)
    gradients_are_right(lambda a, b: (a % b) ** 2 * b, x, y)
    a, b = cr.tensor(x, requires_grad=True), cr.tensor(y, requires_grad=True)
    found = cr.grad((a % b).sum(), [a, b])
    assert [one.tolist() for one in found if one is not None] == [[1, 1, 1, 1], [-3, 4, 3, 0]]
    gradients_are_right(lambda a: a % 1, np.array([0.25, -3.5]))
    assert not (a // b).requires_grad


def test_rounded_numbers_pass_no_gradient_and_the_rest_does() -> None:
    x = cr.tensor([1.25, -2.75], requires_grad=True)
    (slope,) = cr.grad((x * x.floor() + x.round(1) + x // 2).sum(), x)
    assert slope is not None
    assert slope.tolist() == [1, -3]
