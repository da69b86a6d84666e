"""Sorting against Python's and NumPy's stable sorts: node by node, by NumPy alone and compiled; gradients of what is sorted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from array_functions import SHAPES, SPECIAL, agree, drawn, gradients_are_right
from chainrule import UserError
from chainrule.cpu.kernels import sorting
from kernels import HOST, NARROW, run_steps

DTYPES = ["float64", "float32", "bfloat16", "int64", "int32", "uint8", "bool"]


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


def in_order(x: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    """The indices by Python's own sort, which is stable, row by row; nan is the largest."""

    def of_row(row: np.ndarray) -> np.ndarray:
        numbers = [float(number) if x.dtype.kind not in "iub" else int(number) for number in row]
        keys = [(number != number, 0 if number != number else number) for number in numbers]
        order = sorted(range(len(row)), key=lambda i: keys[i])
        if descending:  # equal ones as they are
            order = sorted(range(len(row)), key=lambda i: keys[i], reverse=True)
        return np.array(order, np.int64)

    if x.size == 0:
        return np.zeros(x.shape, np.int64)
    return np.apply_along_axis(of_row, axis, x)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_in_order_and_their_indices(dtype: str, descending: bool) -> None:
    for shape in SHAPES[1:]:
        x = drawn(shape, dtype)
        for axis in {0, x.ndim - 1, -2 % x.ndim}:
            places = in_order(x, axis, descending)
            agree(lambda x, a=axis: x.argsort(a, descending=descending), [x], places, exact=True)
            expected = np.take_along_axis(x, places, axis)
            agree(lambda x, a=axis: cr.sort(x, a, descending=descending), [x], expected, exact=True)
    flat = drawn((3, 5), dtype)
    places = in_order(flat.reshape(-1), 0, descending)
    agree(lambda x: cr.argsort(x, None, descending=descending), [flat], places, exact=True)
    agree(lambda x: x.sort(None, descending=descending), [flat], flat.reshape(-1)[places], exact=True)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_zeros_are_equal_and_nan_is_the_largest(dtype: str) -> None:
    with np.errstate(over="ignore"):
        x = np.random.default_rng(0).permutation(np.array(SPECIAL * 5)).astype(drawn((), dtype).dtype)
    for descending in (False, True):
        places = in_order(x, 0, descending)
        agree(lambda x, d=descending: x.argsort(descending=d), [x], places, exact=True)
        found = agree(lambda x, d=descending: x.sort(descending=d), [x], x[places], exact=True)
        assert np.isnan(found[:5] if descending else found[-5:]).all()
    if dtype != "bfloat16":
        np.testing.assert_array_equal(in_order(x, 0, False), np.argsort(x, kind="stable"))


def test_integers_at_the_ends() -> None:
    for dtype in ("int32", "int64", "uint8"):
        limits = np.iinfo(dtype)
        x = np.array([limits.max, 0, limits.min, 1, limits.max, limits.min, limits.max - 1] * 3, dtype)
        for descending in (False, True):
            agree(lambda x, d=descending: x.argsort(descending=d), [x], in_order(x, 0, descending), exact=True)


@pytest.mark.parametrize("size", [15, 16, 17, 31, 32, 33, 48, 64, 100, 1000, 4097])
def test_rows_that_are_merged_in_parts(size: int) -> None:
    for x in (drawn((3, size), "float32"), drawn((3, size), "int32"), np.arange(size)[None] % 7, -np.arange(size)[None]):
        agree(lambda x: x.argsort(), [x], np.argsort(x, kind="stable"), exact=True)


@pytest.mark.parametrize("target", dict.fromkeys((HOST, NARROW)), ids=lambda target: target.name)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
def test_the_kernel(dtype: str, target: Any) -> None:
    for shape in ((1, 1, 1), (300, 7, 1), (2, 3, 50), (1, 3000, 1), (3, 33, 5)):
        for descending in (False, True):
            x = drawn(shape, dtype)
            steps = sorting.argsort(target, dtype, descending, *shape)
            found = run_steps(steps, {"x": x}, shape, "int64", target)
            np.testing.assert_array_equal(found, in_order(x, 1, descending))


def test_gradients_go_back_to_where_the_numbers_were() -> None:
    x = drawn((3, 5), "float64")
    for axis in (None, 0, 1):
        for descending in (False, True):
            gradients_are_right(lambda x, a=axis, d=descending: x.sort(a, descending=d) ** 3, x)
    given = cr.tensor([3.0, 1.0, 2.0, 1.0], requires_grad=True)
    (found,) = cr.grad((given.sort() * cr.tensor([1.0, 10.0, 100.0, 1000.0])).sum(), given)
    assert found is not None
    assert found.tolist() == [1000, 1, 100, 10]  # of two equal numbers, the first is the first
    assert not given.argsort().requires_grad


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_and_the_smallest(dtype: str) -> None:
    for shape, axis, k in (((7,), 0, 3), ((7,), -1, 7), ((3, 5), 1, 1), ((3, 5), 0, 2), ((2, 30, 4), 1, 5), ((3, 5), 1, 0)):
        x = drawn(shape, dtype)
        for largest in (True, False):
            places = np.take(in_order(x, axis, largest), range(k), axis)
            call = {"k": k, "axis": axis, "largest": largest}
            agree(lambda x, c=call: x.topk(**c)[0], [x], np.take_along_axis(x, places, axis), exact=True)
            agree(lambda x, c=call: cr.topk(x, **c)[1], [x], places, exact=True)


def test_gradients_of_the_largest() -> None:
    x = drawn((3, 7), "float64")
    gradients_are_right(lambda x: x.topk(3)[0] ** 2, x)
    gradients_are_right(lambda x: x.topk(2, 0, largest=False)[0] ** 2, x)
    values, places = cr.compile(lambda x: x.topk(2))(np.array([[5.0, 1, 9, 9]]))
    assert (values.tolist(), places.tolist()) == ([[9, 9]], [[2, 3]])


def test_what_cannot_be_sorted() -> None:
    x = cr.ones((2, 3))
    assert refused(lambda: x.topk(4)) == "topk: k=4 is more than the 3 elements along axis 1 of float32[2, 3]"
    assert refused(lambda: x.topk(-1)) == "topk: k must be a whole number of at least 0, got -1"
    assert refused(lambda: x.sort(2)) == "sort: axis 2 is outside a tensor with 2 axes: give -2 to 1"
    assert refused(lambda: x.argsort((0, 1))) == "argsort: takes one axis, a whole number, got (0, 1)"  # type: ignore[arg-type]
    assert refused(lambda: x.sort(dim=1)) == "sort: there is no argument 'dim': it is called 'axis' here"  # type: ignore[call-arg]
    assert refused(lambda: x.sort(descending="yes")) == (  # type: ignore[arg-type]
        "sort: descending must be True or False, got 'yes'"
    )
    assert refused(lambda: cr.tensor(1.0).sort()).startswith("sort: there is no axis -1, as this is a single number")
