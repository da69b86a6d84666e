"""Products, deviations, norms, cumulative sums, logarithms of sums; what kind of number each is; constants of a tensor's shape.

They are held against NumPy in every dtype, node by node, by NumPy alone and compiled; gradients against finite differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from array_functions import SHAPES, SPECIAL, agree, drawn, gradients_are_right
from chainrule import UserError
from chainrule.cpu.kernels import scan
from kernels import HOST, NARROW, run_steps

DTYPES = ["float64", "float32", "bfloat16", "int64", "int32", "uint8", "bool"]
FLOATS = DTYPES[:3]
AXES: list[tuple[tuple[int, ...], Any]] = [
    ((), None),
    ((), ()),
    ((1,), 0),
    ((7,), None),
    ((3, 5), None),
    ((3, 5), 0),
    ((3, 5), -1),
    ((2, 3, 4), (0, 2)),
    ((2, 3, 4), 1),
    ((2, 3, 4), ()),
    ((5, 1117), 1),
    ((1117, 5), 0),
]
Reference = Callable[..., Any]


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.int64 if x.dtype.kind in "iub" else np.float64)


def kept(x: np.ndarray, value: Any) -> np.ndarray:
    """``value`` in the dtype of the sum of ``x``."""
    return np.asarray(value).astype(np.int64 if x.dtype.kind in "iub" else x.dtype)


# ---- product


@pytest.mark.parametrize("dtype", DTYPES)
def test_products(dtype: str) -> None:
    for shape, axis in [*AXES, ((0,), None), ((2, 0, 3), 1), ((2, 0, 3), (0, 1)), ((2, 0), 0), ((9, 8, 2), (0, 1, 2))]:
        x = drawn(shape, dtype)
        x = (1 + x.astype(np.float64) / 20).astype(x.dtype) if dtype in FLOATS else x
        for keepdims in (False, True):
            expected = kept(x, np.prod(wide(x), axis, keepdims=keepdims))
            agree(lambda x, a=axis, k=keepdims: x.prod(a, k), [x], expected)
        agree(lambda x, a=axis: cr.prod(x, axis=a), [x], kept(x, np.prod(wide(x), axis)))


def test_a_product_is_rounded_once_and_overflows_only_as_a_whole() -> None:
    x = np.float32([1e30, 1e30, 1e-30, 1e-30, 3])
    agree(lambda x: x.prod(), [x], np.float32(x.astype(np.float64).prod()), exact=True)
    many = 1 + drawn((5000,), "float32") / 1000
    agree(lambda x: x.prod(), [many], np.float32(many.astype(np.float64).prod()), exact=True)
    agree(lambda x: x.prod(0), [np.array([[np.inf, np.nan, -0.0], [0, 1, 2]])], [np.nan, np.nan, -0.0])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9])
def test_the_gradient_of_a_product_is_that_of_all_others_where_elements_are_zero(size: int) -> None:
    for zeros in ([], [0], [size - 1], [0, size // 2], list(range(size))):
        x = drawn((size,), "float64") + 1
        x[zeros] = 0
        gradients_are_right(lambda x: x.prod(), x)
        given = cr.tensor(x, requires_grad=True)
        (found,) = cr.grad(given.prod(), given)
        others = [np.prod(np.delete(x, place)) for place in range(size)]
        assert found is not None
        np.testing.assert_allclose(found.numpy(), others, rtol=1e-14)


def test_gradients_of_products_over_axes() -> None:
    x = drawn((2, 3, 4), "float64") / 3
    x[0, 1, 2] = x[1, 1, 1] = x[1, 1, 3] = 0
    for axis in (None, 0, 1, 2, (0, 2), (1, 2)):
        gradients_are_right(lambda x, a=axis: x.prod(a), x)
    assert cr.grad(cr.ones((2, 0)).requires_grad_().prod(1).sum(), [cr.ones((1,)).requires_grad_()]) == [None]


# ---- variance, deviation, norms


def test_variance_and_deviation() -> None:
    for shape, axis in AXES:
        x = drawn(shape, "float64")
        count = x.size if axis is None else int(np.prod([x.shape[i] for i in np.atleast_1d(axis).astype(int)]))
        for ddof in (0, 1) if count > 1 else (0,):
            for keepdims in (False, True):
                for name in ("var", "std"):
                    expected = getattr(np, name)(x, axis, ddof=ddof, keepdims=keepdims)
                    call = {"axis": axis, "ddof": ddof, "keepdims": keepdims}
                    agree(lambda x, n=name, c=call: getattr(x, n)(**c), [x], expected)
                    agree(lambda x, n=name, c=call: getattr(cr, n)(x, **c), [x], expected)
    whole = np.array([[1, 2], [4, 8]])
    agree(lambda x: x.std(0), [whole], np.float32([1.5, 3]))
    assert refused(lambda: cr.std([1.0], ddof=1)) == "var: float32[1] has 1 elements along (0,), with ddof=1 it needs more"


def test_gradients_of_deviations() -> None:
    for axis in (None, 0, 1):
        gradients_are_right(lambda x, a=axis: x.std(a, ddof=1), drawn((3, 4), "float64"))
    x = cr.tensor([[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]], requires_grad=True)
    (found,) = cr.grad(x.std(1).sum(), x)
    assert found is not None
    np.testing.assert_allclose(found.numpy(), [[0, 0, 0], [-1 / 6**0.5, 0, 1 / 6**0.5]], rtol=1e-6)
    found = cr.compile(lambda x: cr.grad(x.requires_grad_().std(), x)[0])(np.ones(4))  # type: ignore[assignment]
    assert found is not None
    assert found.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("order", [1, 2, 2.0, math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_norms(dtype: str, order: float) -> None:
    for shape, axis in AXES:
        x = drawn(shape, dtype)
        size = np.abs(x.astype(np.float64))
        for keepdims in (False, True):
            if order == 1:
                expected = size.sum(axis, keepdims=keepdims)
            elif order == 2:
                expected = np.sqrt(np.square(size).sum(axis, keepdims=keepdims))
            else:
                expected = size.max(axis, keepdims=keepdims)
            expected = np.asarray(expected).astype(x.dtype if dtype in FLOATS else np.float32)
            agree(lambda x, a=axis, k=keepdims: x.norm(order, a, k), [x], expected)
        agree(lambda x, a=axis: cr.norm(x, ord=order, axis=a, keepdims=True), [x], expected)


@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_gradients_of_norms(order: float) -> None:
    for axis in (None, 0, 1, (0, 1)):
        gradients_are_right(lambda x, a=axis: x.norm(order, a), drawn((3, 4), "float64"))
    zeros = cr.tensor(np.zeros((2, 3)), requires_grad=True)
    (found,) = cr.grad(zeros.norm(order), zeros, create_graph=True)
    assert found is not None
    assert not found.numpy().any()
    np.testing.assert_array_equal(np.isnan(found.numpy()), False)


def test_norms_at_the_ends_and_what_is_none() -> None:
    x = np.array([3.0, np.nan, 4.0])
    for order in (1, 2, math.inf):
        agree(lambda x, o=order: x.norm(o), [x], np.nan)
        agree(lambda x, o=order: x.norm(o), [np.array([-np.inf, 1.0])], np.inf)
    assert cr.zeros((0,)).norm().item() == 0
    assert cr.zeros((2, 0)).norm(1, axis=1).tolist() == [0, 0]
    assert refused(lambda: cr.zeros((2, 0)).norm(math.inf)) == "norm: float32[2, 0] has no element, so none is the largest"
    assert refused(lambda: cr.ones((2,)).norm(3)) == (
        "norm: ord must be 1, 2 or float('inf'), got 3: other norms are (abs(x) ** p).sum() ** (1 / p)"
    )
    assert refused(lambda: cr.ones((2,)).norm("nuc")).startswith("norm: ord must be 1, 2 or float('inf'), got 'nuc'")
    assert refused(lambda: cr.ones((2,)).norm(p=1)) == "norm: there is no argument 'p': it is called 'ord' here"


# ---- sums as they grow


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cumulative_sums(dtype: str, shape: tuple[int, ...]) -> None:
    x = drawn(shape, dtype)
    for axis in (None, *range(-x.ndim, x.ndim)):
        expected = kept(x, np.cumsum(wide(x), axis))
        agree(lambda x, a=axis: x.cumsum(a), [x], expected, absolute=1e-5)
        agree(lambda x, a=axis: cr.cumsum(x, a), [x], expected, absolute=1e-5)
    if dtype == "float64" and x.size < 100:
        for axis in (None, *range(x.ndim)):
            gradients_are_right(lambda x, a=axis: x.cumsum(a) ** 2 if x.size else x.cumsum(a), x)


def test_cumulative_sums_of_many_floats_are_as_right_as_the_first() -> None:
    """Each is within half a unit of the last place of the exact sum: they are added up in double."""
    x = np.full((1_000_000,), 0.1, np.float32)
    exact = np.cumsum(x, dtype=np.float64)
    for shape, axis in (((1_000_000,), 0), ((1_000_000, 1), 0)):
        found = agree(lambda x, a=axis: x.cumsum(a), [x.reshape(shape)], exact.astype(np.float32).reshape(shape))
        assert np.abs(found.reshape(-1) / exact - 1).max() <= 2**-24
    assert refused(lambda: cr.ones((2,)).cumsum(1)) == "cumsum: axis 1 is outside a tensor with 1 axes: give -1 to 0"
    assert refused(lambda: cr.ones((2,)).cumsum()[0].cumsum((0, 1))) == "cumsum: takes one axis, a whole number, got (0, 1)"


@pytest.mark.parametrize("target", dict.fromkeys((HOST, NARROW)), ids=lambda target: target.name)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8"])
def test_the_kernel_of_cumulative_sums(dtype: str, reverse: bool, target: Any) -> None:
    for shape in ((1, 1, 1), (3, 5, 1), (37, 3, 1), (2, 5, 3), (2, 4, 256), (3, 4, 517), (1, 300, 9)):
        x = drawn(shape, dtype)
        turned = np.flip(x, 1) if reverse else x
        expected = np.cumsum(turned, 1, np.float64 if dtype == "float32" else x.dtype).astype(x.dtype)
        found = run_steps(scan.cumsum(target, dtype, reverse, *shape), {"x": x}, shape, dtype, target)
        np.testing.assert_array_equal(found, np.flip(expected, 1) if reverse else expected)


# ---- logarithms of sums of exponentials


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithms_of_sums_of_exponentials(dtype: str) -> None:
    for shape, axis in AXES:
        x = drawn(shape, dtype)
        for keepdims in (False, True):
            expected = np.log(np.exp(x.astype(np.float64)).sum(axis, keepdims=keepdims))
            expected = np.asarray(expected).astype(x.dtype if dtype in FLOATS else np.float32)
            agree(lambda x, a=axis, k=keepdims: x.logsumexp(a, k), [x], expected, absolute=1e-6)
        agree(lambda x, a=axis: cr.logsumexp(x, a, True), [x], expected, absolute=1e-6)


def test_logarithms_of_sums_of_exponentials_do_not_overflow() -> None:
    inf = np.inf
    x = np.array([[1000.0, 1000.0], [-1000.0, -1001.0], [-inf, 3.0], [-inf, -inf], [inf, 1.0], [np.nan, 0.0]])
    expected = [1000 + np.log(2), -1000 + np.log1p(np.exp(-1)), 3, -inf, inf, np.nan]
    agree(lambda x: x.logsumexp(1), [x], expected)
    for axis in (None, 0, 1):
        gradients_are_right(lambda x, a=axis: x.logsumexp(a), drawn((3, 4), "float64"))
    gradients_are_right(lambda x: x.logsumexp(), np.array([2.0, 2.0, 2.0]))  # the softmax, whoever is the largest
    given = cr.tensor([1000.0, 1000.0, -1000.0], requires_grad=True)
    (found,) = cr.grad(given.logsumexp(), given)
    assert found is not None
    assert found.tolist() == [0.5, 0.5, 0]
    assert refused(lambda: cr.zeros((2, 0)).logsumexp(1)) == "logsumexp: float32[2, 0] has no elements along (1,)"


# ---- what kind of number


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_kind_of_number(dtype: str, name: str) -> None:
    arrays = [drawn(shape, dtype) for shape in SHAPES]
    if dtype in FLOATS:
        with np.errstate(over="ignore"):
            arrays.append(np.array(SPECIAL).astype(arrays[0].dtype))
    for x in arrays:
        numbers = x.astype(np.float32) if dtype == "bfloat16" else x
        agree(lambda x: getattr(x, name)(), [x], getattr(np, name)(numbers))
        agree(getattr(cr, name), [x], getattr(np, name)(numbers))
    assert type(getattr(np, name)(cr.tensor(arrays[-1]))) is cr.Tensor


# ---- constants of a tensor's shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_constants_of_a_tensors_shape(dtype: str) -> None:
    for shape in SHAPES:
        x = drawn(shape, dtype)
        agree(cr.zeros_like, [x], np.zeros_like(x))
        agree(cr.ones_like, [x], np.ones_like(x))
        agree(lambda x: cr.full_like(x, 1), [x], np.full_like(x, 1))
        agree(lambda x: cr.full_like(x, 2.5, "float32"), [x], np.full(shape, 2.5, np.float32))
        agree(lambda x: cr.zeros_like(x, dtype=cr.int32), [x], np.zeros(shape, np.int32))
    assert cr.zeros_like([[1.0, 2.0]]).shape == (1, 2)
    assert refused(lambda: cr.full_like(cr.zeros((2,), "uint8"), 256)) == "full: 256 does not fit dtype uint8"
    assert refused(lambda: cr.full_like([1.0], "a")) == "full: value must be a number, got 'a'"
