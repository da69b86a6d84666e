"""Winograd kernels against NumPy in float64: all passes, odd shapes, borders, any order of units; the shape of the code."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.cpu.codegen.emit import Module, vector
from chainrule.cpu.codegen.machine_code import assembly
from chainrule.cpu.codegen.target import AVX512, NEON, Target
from chainrule.cpu.kernel import KernelSteps
from chainrule.cpu.kernels import winograd
from chainrule.cpu.kernels.geometry import Geometry
from chainrule.cpu.kernels.winograd.transforms import A_T, B_T, G, transform, transposed
from kernels import HOST, NARROW, run_steps
from test_cpu_contraction import geometry, operands_of, reference, square

ERROR = {"float32": 5e-6, "float64": 1e-14}
"""Of the largest number of the result."""


def passes(one: Geometry, target: Target, dtype: str) -> list[tuple[str, KernelSteps, dict[str, np.ndarray], np.ndarray]]:
    """Name, steps, operands and expected result of each pass."""
    image, weight, upstream = operands_of(one, dtype)
    out, to_image, to_weight = reference(one, image, weight, upstream)
    forward = winograd.convolution(target, dtype, one)
    backward = winograd.input_gradient(target, dtype, one)
    return [
        ("convolution", forward, {"image": image, "weight": weight}, out),
        ("input gradient", backward, {"upstream": upstream, "weight": weight}, to_image),
        (
            "weight gradient",
            winograd.weight_gradient(target, dtype, one),
            {"image": image, "upstream": upstream},
            to_weight,
        ),
    ]


def check(one: Geometry, target: Target = HOST, dtype: str = "float32") -> None:
    for name, steps, operands, expected in passes(one, target, dtype):
        found = run_steps(steps, operands, expected.shape, dtype, target)
        atol = ERROR[dtype] * abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=f"{name} of {one}")


SHAPES = {
    "one of all": square(1, 1, 1, 1, 3, padding=1),
    "whole tiles": square(2, 16, 32, 8, 3, padding=1),
    "parts of tiles": square(2, 24, 40, 7, 3, padding=1),
    "small tiles": square(5, 9, 17, 2, 3, padding=1),
    "small tiles, odd": square(3, 9, 17, 5, 3, padding=1),
    "parts of vectors": square(3, 5, 3, 9, 3, padding=1),
    "many images": square(37, 6, 19, 4, 3, padding=1),
    "many channels": square(1, 130, 70, 5, 3, padding=1),
    "many filters": square(1, 7, 150, 6, 3, padding=1),
    "no border": square(2, 8, 9, 11, 3),
    "wide border": square(2, 8, 9, 6, 3, padding=2),
    "border on one side": geometry(2, 9, 20, (7, 13), (3, 3), padding=((0, 2), (2, 1))),
    "hardly an image": geometry(2, 3, 20, (3, 2), (3, 3), padding=((2, 2), (2, 0))),
    "a row": geometry(1, 10, 12, (1, 17), (3, 3), padding=((1, 1), (0, 2))),
    "a column": geometry(3, 10, 12, (17, 1), (3, 3), padding=((0, 0), (1, 1))),
    "a long row": geometry(1, 20, 12, (4, 70), (3, 3), padding=((1, 1), (1, 1))),
}


@pytest.mark.parametrize("name", SHAPES)
def test_passes_agree_with_sums_over_taps(name: str) -> None:
    check(SHAPES[name])


@pytest.mark.parametrize(("target", "dtype"), [(HOST, "float64"), (NARROW, "float32"), (NARROW, "float64")])
@pytest.mark.parametrize("name", ["parts of tiles", "small tiles, odd", "border on one side"])
def test_other_targets_and_dtypes(name: str, target: Target, dtype: str) -> None:
    check(SHAPES[name], target, dtype)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    def two(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    padding = (two(0, 2), two(0, 2))
    height, width = (data.draw(st.integers(max(1, 3 - sum(sides)), 17)) for sides in padding)
    channels, filters = two(1, 40)
    check(geometry(data.draw(st.integers(1, 3)), channels, filters, (height, width), (3, 3), padding=padding))


@pytest.mark.parametrize("one", [square(2, 20, 40, 14, 3, padding=1), square(6, 16, 24, 16, 3, padding=1)])
def test_the_order_of_units_and_who_does_them_change_no_bit(one: Geometry) -> None:
    for _, steps, operands, expected in passes(one, HOST, "float32"):
        first, second = (
            run_steps(steps, operands, expected.shape, "float32", HOST, backwards=backwards) for backwards in (True, False)
        )  # fmt: skip
        assert first.tobytes() == second.tobytes()


def test_units_write_the_rows_that_they_claim() -> None:
    claimed = 0
    for one in (square(16, 16, 16, 32, 3, padding=1), square(64, 20, 9, 7, 3, padding=1), square(40, 16, 24, 14, 3, padding=1)):
        for name, steps, operands, expected in passes(one, HOST, "float32")[:2]:
            last = steps.steps[-1]
            if last.rows is None:
                continue
            claimed += 1
            matrix = expected.reshape(-1, expected.shape[-1])
            assert last.kernel.units == -(-len(matrix) // last.rows)
            done = last.kernel.units // 2
            fewer = replace(last, kernel=replace(last.kernel, units=done))
            found = run_steps(
                KernelSteps([*steps.steps[:-1], fewer], steps.temporaries), operands, matrix.shape, "float32", HOST
            )  # fmt: skip
            written = ~np.isnan(found)
            assert written[: done * last.rows].all(), name
            assert not written[done * last.rows :].any(), name
    assert claimed >= 4


@pytest.mark.parametrize("side", [2, 4])
def test_transforms_make_a_convolution(side: int) -> None:
    """Y = A^T [(G g G^T) . (B^T d B)] A, exactly, in one dimension: all that the sandwich needs."""
    a_t, b_t, g = A_T[side], B_T[side], G[side]
    for output in range(side):
        for tap in range(3):
            for pixel in range(side + 2):
                found = sum(a_t[output][f] * g[f][tap] * b_t[f][pixel] for f in range(side + 2))
                assert found == (pixel == output + tap)


@pytest.mark.parametrize("side", [2, 4])
def test_transforms_take_few_instructions(side: int) -> None:
    counts = {2: (4, 5, 4, 6, 2), 4: (12, 9, 12, 11, 8)}[side]
    matrices = (B_T[side], G[side], A_T[side], transposed(G[side]), transposed(A_T[side]))
    for matrix, count in zip(matrices, counts, strict=True):
        f = Module().function("f", [("ptr", "x")])
        values = [f.load(f.at(f["x"], i, "float"), vector(8, "float")) for i in range(len(matrix[0]))]
        before = f.text().count("= ")
        transform(f, matrix, values)
        assert f.text().count("= ") - before == count


@pytest.mark.parametrize("target", [AVX512, NEON, HOST, NARROW], ids=lambda target: target.name)
def test_inner_loops_keep_their_values_in_registers(target: Target) -> None:
    one = square(4, 64, 64, 16, 3, padding=1)
    for steps in (winograd.convolution(target, "float32", one), winograd.weight_gradient(target, "float32", one)):
        kernel = next(step.kernel for step in steps.steps if step.kernel.operations)
        kernel = kernel.named(target)
        text = assembly(kernel.text(target), target, kernel.name)
        functions = {one.split(":")[0]: one for one in re.split(r"^(?=\w+:)", text, flags=re.MULTILINE)}
        saved = r"v?mov[au]p[sd][^\n]*\(%rsp|(?:str|ldr|stp|ldp)\s+q[^\n]*\[sp"
        assert functions["product"].count("mul") + functions["product"].count("fm") >= 32
        for function, code in functions.items():
            assert function == kernel.name or not re.findall(saved, code), function


def test_suits() -> None:
    assert winograd.suits(square(16, 64, 64, 32, 3, padding=1))
    assert winograd.suits(square(16, 256, 256, 14, 3, padding=1))
    assert not winograd.suits(square(16, 3, 64, 32, 3, padding=1))
    assert not winograd.suits(square(16, 64, 64, 32, 3, stride=2, padding=1))
    assert not winograd.suits(square(16, 64, 64, 32, 3, padding=2, dilation=2))
    assert not winograd.suits(square(16, 64, 64, 32, 3, padding=1, groups=2))
    assert not winograd.suits(square(16, 64, 64, 32, 5, padding=2))
    assert not winograd.suits(square(16, 64, 64, 32, 3, padding=3))
    assert not winograd.suits(square(1, 64, 64, 1, 3, padding=1))
