"""Pooling kernels against the NumPy reference, over odd geometries, ties and nan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule import ops
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernels import pooling
from chainrule.ops import Primitive, output_size
from kernels import HOST, NARROW, run_steps

NONE, ONE = ((0, 0), (0, 0)), ((1, 1), (1, 1))
Case = tuple[tuple[int, int, int, int], tuple[int, int], tuple[int, int], Any, tuple[int, int]]
# image (N, C, H, W), window, stride, padding, dilation
CASES: list[Case] = [
    ((2, 8, 6, 8), (2, 2), (2, 2), NONE, (1, 1)),
    ((1, 6, 7, 7), (2, 2), (2, 2), NONE, (1, 1)),
    ((2, 3, 9, 9), (3, 3), (2, 2), ONE, (1, 1)),
    ((1, 17, 12, 11), (3, 3), (2, 2), ONE, (1, 1)),
    ((1, 2, 7, 6), (3, 2), (2, 1), ONE, (2, 2)),
    ((1, 1, 5, 5), (2, 2), (2, 2), ((0, 1), (0, 1)), (1, 1)),
    ((1, 1, 1, 1), (1, 1), (1, 1), NONE, (1, 1)),
    ((2, 5, 11, 13), (5, 5), (1, 2), ((2, 2), (2, 2)), (1, 1)),
    ((1, 16, 5, 5), (3, 3), (1, 1), ONE, (1, 1)),
    ((1, 4, 9, 8), (2, 2), (3, 3), NONE, (1, 1)),
    ((2, 20, 7, 7), (7, 7), (1, 1), NONE, (1, 1)),
    ((3, 40, 33, 18), (3, 3), (2, 2), ONE, (1, 1)),  # units of rows of two images
    ((2, 33, 16, 15), (2, 3), (1, 2), ((1, 0), (0, 1)), (3, 2)),
    ((1, 5, 5, 66), (2, 41), (1, 1), ((0, 1), (20, 20)), (1, 1)),  # the taps are a loop
    ((0, 2, 4, 4), (2, 2), (2, 2), NONE, (1, 1)),
]


def nhwc(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def inputs(case: Case, tied: bool) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    shape, window, stride, padding, dilation = case
    out = tuple(output_size(shape[2 + i], window[i], stride[i], padding[i], dilation[i]) for i in (0, 1))
    rng = np.random.default_rng(2)
    image = rng.integers(0, 3, shape).astype(float) if tied else rng.standard_normal(shape)
    if tied:
        image[rng.random(shape) < 0.1] = np.nan
        image[rng.random(shape) < 0.1] = -np.inf
    return image, rng.integers(-9, 10, (*shape[:2], *out)).astype(float), (out[0], out[1])  # sums of whole numbers are exact


def check_max(case: Case, target: Target, dtype: str, tied: bool) -> None:
    shape, window, stride, padding, dilation = case
    image, upstream, out = inputs(case, tied)
    geometry = {"window": window, "stride": stride, "padding": padding, "dilation": dilation}
    runs: list[tuple[str, Primitive, dict[str, np.ndarray]]] = [
        ("max_pool", ops.max_pool2d, {"image": image}),
        ("max_pool_route", ops.max_pool2d_route, {"image": image, "upstream": upstream}),
        ("max_pool_pick", ops.max_pool2d_pick, {"image": image, "values": image * 2 + 1}),
    ]
    for name, primitive, operands in runs:
        expected = nhwc(primitive.reference(*operands.values(), **geometry))
        steps = getattr(pooling, name)(target, dtype, shape[0], shape[1], shape[2:], out, **geometry)
        found = run_steps(steps, {k: nhwc(v).astype(dtype) for k, v in operands.items()}, expected.shape, dtype, target)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=name)


def check_sum(case: Case, target: Target, dtype: str) -> None:
    shape, window, stride, padding, _ = case
    image, upstream, out = inputs((*case[:4], (1, 1)), False)
    geometry = {"window": window, "stride": stride, "padding": padding}
    total = nhwc(ops.sum_pool2d.reference(image, **geometry))
    steps = pooling.sum_pool(target, dtype, shape[0], shape[1], shape[2:], out, **geometry)
    found = run_steps(steps, {"image": nhwc(image).astype(dtype)}, total.shape, dtype, target)
    np.testing.assert_allclose(found, total, rtol=1e-5, atol=1e-5)
    spread = nhwc(ops.sum_pool2d_gradient.reference(upstream, size=shape[2:], **geometry))
    steps = pooling.sum_pool_gradient(target, dtype, shape[0], shape[1], shape[2:], out, **geometry)
    found = run_steps(steps, {"upstream": nhwc(upstream).astype(dtype)}, spread.shape, dtype, target)
    np.testing.assert_allclose(found, spread, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "ties and nan"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_max_pooling(case: Case, tied: bool) -> None:
    check_max(case, HOST, "float32", tied)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sum_pooling(case: Case) -> None:
    check_sum(case, HOST, "float32")


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_float64_and_narrow_vectors(case: Case) -> None:
    check_max(case, HOST, "float64", True)
    check_max(case, NARROW, "float32", True)
    check_sum(case, NARROW, "float64")


@given(
    st.integers(1, 10),
    st.tuples(st.integers(2, 9), st.integers(2, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_any_window(
    channels: int, size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int], padded: bool
) -> None:
    padding = tuple((w // 2, w // 2) if padded else (0, 0) for w in window)
    case: Case = ((1, channels, *size), window, stride, padding, (1, 1))
    if all(output_size(size[i], window[i], stride[i], padding[i], 1) >= 1 for i in (0, 1)):
        check_max(case, HOST, "float64", True)
        check_sum(case, HOST, "float64")
