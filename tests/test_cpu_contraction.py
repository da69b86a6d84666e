"""Contraction kernels against NumPy in float64: every pass of convolutions, matrix products, odd shapes, edges."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.cpu.codegen.machine_code import Library, assemble, assembly
from chainrule.cpu.codegen.target import AVX512, NEON, Target
from chainrule.cpu.kernel import KernelStep, KernelSteps
from chainrule.cpu.kernels.contraction import convolution, input_gradient, matmul, weight_gradient
from chainrule.cpu.kernels.geometry import Geometry
from kernels import HOST, NARROW, arguments_of

TARGETS = [(HOST, "float32"), (HOST, "float64"), (NARROW, "float32")]
TARGET_NAMES = ["host-float32", "host-float64", "narrow-float32"]

_CANARY = 64
_UNIT_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


class Guarded:
    """Memory with a canary on both sides, filled with NaN."""

    def __init__(self, count: int, dtype: str, align: int = 8) -> None:
        size = np.dtype(dtype).itemsize
        raw = np.full(count * size + 2 * _CANARY + 64, 0x5A, np.uint8)
        start = _CANARY + (align - (raw.ctypes.data + _CANARY) % 64) % 64
        self.raw, self.start, self.stop = raw, start, start + count * size
        self.array = raw[self.start : self.stop].view(dtype)
        self.array[...] = np.nan if count else 0

    def untouched(self) -> bool:
        return bool((self.raw[: self.start] == 0x5A).all() and (self.raw[self.stop :] == 0x5A).all())


def run(
    steps: KernelSteps, target: Target, dtype: str, operands: Mapping[str, np.ndarray], size: int, order: int = 1
) -> np.ndarray:
    """What the steps leave in ``out``; units one by one, in ``order`` 1 or -1."""
    out = Guarded(size, dtype)
    temporaries = {
        name: Guarded(nbytes // np.dtype(dtype).itemsize, dtype, align=64) for name, nbytes in steps.temporaries.items()
    }
    memory = {**operands, "out": out.array, **{name: one.array for name, one in temporaries.items()}}
    kernels = [step.kernel.named(target) for step in steps.steps]
    codes = {one.name: assemble(one.text(target), target, one.name) for one in kernels}
    library = Library(codes.values(), list(codes), target)
    for step, kernel in zip(steps.steps, kernels, strict=True):
        scratch = Guarded(-(-step.kernel.scratch_bytes // 8), "float64", align=64)
        table, arguments = arguments_of(kernel, target, [memory[name].ctypes.data for name in step.operands])
        function = _UNIT_FUNCTION(library.address(kernel.name))
        for unit in range(step.kernel.units)[::order]:
            function(arguments, unit, unit + 1, scratch.array.ctypes.data)
        assert table.size
        assert scratch.untouched(), f"{step.kernel.family} wrote outside its scratch"
    for name, one in {"out": out, **temporaries}.items():
        assert one.untouched(), f"wrote outside {name}"
    return out.array


def geometry(
    batch: int,
    channels: int,
    filters: int,
    image: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Geometry:
    height, width = (
        (image[i] + sum(padding[i]) - (kernel[i] - 1) * dilation[i] - 1) // stride[i] + 1 for i in range(2)
    )  # fmt: skip
    return Geometry(batch, channels, filters, image, (height, width), kernel, stride, padding, dilation, groups)


def square(
    batch: int, channels: int, filters: int, size: int, kernel: int, stride: int = 1, padding: int = 0, **more: int
) -> Geometry:
    dilation, groups = more.get("dilation", 1), more.get("groups", 1)
    pads = ((padding, padding), (padding, padding))
    return geometry(
        batch, channels, filters, (size, size), (kernel, kernel), (stride, stride), pads, (dilation, dilation), groups
    )


def operands_of(one: Geometry, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, weight, upstream gradient."""
    numbers = np.random.default_rng(7)
    shapes = (
        (one.batch, *one.image, one.channels),
        (one.filters, one.channels_per_group, *one.kernel),
        (one.batch, *one.output, one.filters),
    )
    image, weight, upstream = (numbers.standard_normal(shape).astype(dtype) for shape in shapes)
    return image, weight, upstream


def reference(
    one: Geometry, image: np.ndarray, weight: np.ndarray, upstream: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Output, gradient of the image, gradient of the weight, tap by tap."""
    image, weight, upstream = (each.astype(np.float64) for each in (image, weight, upstream))
    padded = np.pad(image, ((0, 0), *one.padding, (0, 0)))
    out, to_padded, to_weight = np.zeros(upstream.shape), np.zeros(padded.shape), np.zeros(weight.shape)
    channels, filters = one.channels_per_group, one.filters_per_group
    for group in range(one.groups):
        seen, made = slice(group * channels, (group + 1) * channels), slice(group * filters, (group + 1) * filters)
        for a, b in np.ndindex(one.kernel):
            rows, columns = (
                slice(tap * step, tap * step + (count - 1) * stride + 1, stride)
                for tap, step, count, stride in zip((a, b), one.dilation, one.output, one.stride, strict=True)
            )
            pixels = padded[:, rows, columns, seen]
            out[..., made] += pixels @ weight[made, :, a, b].T
            to_padded[:, rows, columns, seen] += upstream[..., made] @ weight[made, :, a, b]
            to_weight[made, :, a, b] += np.tensordot(upstream[..., made], pixels, axes=((0, 1, 2), (0, 1, 2)))
    top, left = one.padding[0][0], one.padding[1][0]
    return out, to_padded[:, top : top + one.image[0], left : left + one.image[1]], to_weight


def agree(found: np.ndarray, expected: np.ndarray, dtype: str, depth: int) -> None:
    """Rounding of a sum of ``depth`` products of standard normal numbers."""
    unit = np.finfo(dtype).eps
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=0, atol=4 * unit * max(depth, 4))


def check(one: Geometry, target: Target, dtype: str, order: int = -1) -> None:
    image, weight, upstream = operands_of(one, dtype)
    out, to_image, to_weight = reference(one, image, weight, upstream)
    window = one.kernel[0] * one.kernel[1]
    found = run(convolution(target, dtype, one), target, dtype, {"image": image, "weight": weight}, out.size, order)
    agree(found, out, dtype, window * one.channels_per_group)
    found = run(input_gradient(target, dtype, one), target, dtype, {"upstream": upstream, "weight": weight}, image.size, order)
    agree(found, to_image, dtype, window * one.filters_per_group)
    found = run(weight_gradient(target, dtype, one), target, dtype, {"image": image, "upstream": upstream}, weight.size, order)
    agree(found, to_weight, dtype, one.batch * one.output[0] * one.output[1])


SHAPES = {
    "one of all": square(1, 1, 1, 1, 1),
    "few channels": square(2, 3, 5, 7, 3, padding=1),
    "whole panels": square(3, 16, 32, 8, 3, padding=1),
    "stride 2, odd panels": square(2, 20, 33, 9, 3, stride=2, padding=1),
    "one channel, one panel": square(3, 1, 6, 14, 5, padding=2),
    "stem": square(2, 3, 20, 21, 7, stride=2, padding=3),
    "pointwise, stride 2": square(2, 70, 17, 8, 1, stride=2),
    "stride over the window": square(2, 6, 7, 11, 2, stride=3),
    "stride over the image": geometry(2, 3, 4, (3, 2), (2, 2), stride=(4, 5), padding=((0, 1), (2, 0))),
    "dilated, grouped": square(2, 6, 8, 9, 3, padding=1, dilation=2, groups=2),
    "depthwise": square(2, 5, 5, 6, 3, padding=1, groups=5),
    "wide groups": square(1, 34, 36, 5, 3, stride=2, padding=1, groups=2),
    "long sums": square(1, 300, 9, 3, 3, padding=1),
    "many filters": square(1, 4, 150, 4, 3, padding=1),
    "uneven axes": geometry(2, 4, 9, (13, 6), (3, 2), (1, 2), ((2, 0), (0, 1)), (3, 1)),
    "padding beyond the window": geometry(1, 2, 3, (2, 3), (2, 1), (1, 1), ((3, 4), (2, 2))),
    "small images, wide border": square(19, 5, 6, 6, 5, padding=2),
    "small images, stride 2": square(16, 3, 17, 5, 4, stride=2, padding=3),
    "rows that none reads": square(2, 3, 4, 8, 1, stride=3),
}


@pytest.mark.parametrize("name", SHAPES)
def test_convolution_passes_agree_with_sums_over_taps(name: str) -> None:
    check(SHAPES[name], HOST, "float32")


@pytest.mark.parametrize(("target", "dtype"), TARGETS[1:], ids=TARGET_NAMES[1:])
@pytest.mark.parametrize("name", ["stride 2, odd panels", "few channels", "dilated, grouped", "small images, wide border"])
def test_other_targets_and_dtypes(name: str, target: Target, dtype: str) -> None:
    check(SHAPES[name], target, dtype)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    def two(low: int, high: int) -> tuple[int, int]:
        return draw(low, high), draw(low, high)

    groups = draw(1, 3)
    kernel, dilation = two(1, 4), two(1, 3)
    padding = (two(0, 4), two(0, 4))
    image = tuple(
        draw(max(1, (kernel[i] - 1) * dilation[i] + 1 - sum(padding[i])), 14) for i in range(2)
    )  # fmt: skip
    one = geometry(
        draw(1, 3),
        groups * draw(1, 9),
        groups * draw(1, 20),
        (image[0], image[1]),
        kernel,
        two(1, 4),
        padding,
        dilation,
        groups,
    )
    check(one, HOST, "float32")


def strided(numbers: np.ndarray, transposed: bool) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The same numbers (batch, row, column) in memory, rows or columns side by side, with their strides in elements."""
    lying = np.ascontiguousarray(numbers.swapaxes(1, 2)).swapaxes(1, 2) if transposed else numbers
    batch, row, column = (stride // numbers.itemsize for stride in lying.strides)
    return lying, (batch, row, column)


MATRICES = [
    (1, 1, 1, 1),
    (1, 64, 10, 257),
    (2, 7, 5, 3),
    (3, 13, 33, 300),
    (1, 37, 17, 64),
    (2, 3, 4, 0),
    (1, 1, 70, 30),
    (4, 29, 1, 9),
    (1, 130, 48, 600),
]


@pytest.mark.parametrize("turned", ["neither", "a", "b", "a and b"])
@pytest.mark.parametrize("sizes", MATRICES, ids=lambda sizes: "x".join(map(str, sizes)))
def test_matmul(sizes: tuple[int, int, int, int], turned: str) -> None:
    check_matmul(sizes, turned, HOST, "float32")


@pytest.mark.parametrize(("target", "dtype"), TARGETS[1:], ids=TARGET_NAMES[1:])
@pytest.mark.parametrize("turned", ["neither", "a and b"])
def test_matmul_on_other_targets_and_dtypes(turned: str, target: Target, dtype: str) -> None:
    for sizes in ((3, 13, 33, 300), (1, 1, 70, 30), (2, 7, 5, 3)):
        check_matmul(sizes, turned, target, dtype)


def check_matmul(sizes: tuple[int, int, int, int], turned: str, target: Target, dtype: str) -> None:
    batch, m, n, k = sizes
    numbers = np.random.default_rng(3)
    a, a_strides = strided(numbers.standard_normal((batch, m, k)).astype(dtype), "a" in turned.split())
    b, b_strides = strided(numbers.standard_normal((batch, k, n)).astype(dtype), "b" in turned.split())
    expected = a.astype(np.float64) @ b.astype(np.float64)
    steps = matmul(target, dtype, batch, m, n, k, a_strides, b_strides)
    found = run(steps, target, dtype, {"a": a, "b": b}, expected.size, -1)
    agree(found, expected, dtype, k)


def test_matmul_of_shared_and_scattered_operands() -> None:
    numbers = np.random.default_rng(4)
    a = numbers.standard_normal((5, 9, 2, 12)).astype(np.float32)
    b = numbers.standard_normal((12, 3, 19)).astype(np.float32)
    # a[:, :, 1, ::2] with strides of its parent, b[::2, 1, :] shared by all matrices, b[::2, 1, ::2] read column by column
    seen_a, a_strides = a[:, :, 1, ::2], (9 * 2 * 12, 2 * 12, 2)
    for step in (1, 2):
        seen_b = b[::2, 1, ::step]
        n = seen_b.shape[1]
        expected = seen_a.astype(np.float64) @ seen_b.astype(np.float64)
        steps = matmul(HOST, "float32", 5, 9, n, 6, a_strides, (0, 2 * 3 * 19, step))
        found = run(steps, HOST, "float32", {"a": a.reshape(-1)[12:], "b": b.reshape(-1)[19:]}, expected.size)
        agree(found, expected, "float32", 6)


@pytest.mark.parametrize("sizes", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)])
def test_empty_matrices_have_no_units(sizes: tuple[int, int, int, int]) -> None:
    steps = matmul(HOST, "float32", *sizes, (15, 5, 1), (20, 4, 1))
    assert steps.steps[-1].kernel.units == 0


def rows_written(step: KernelStep, target: Target, dtype: str, memory: dict[str, np.ndarray], row: int) -> None:
    """Every unit of ``step`` writes just the rows that ``step.rows`` says, ``row`` elements long."""
    assert step.rows is not None
    kernel = step.kernel.named(target)
    library = Library([assemble(kernel.text(target), target, kernel.name)], [kernel.name], target)
    table, arguments = arguments_of(kernel, target, [memory[operand].ctypes.data for operand in step.operands])
    scratch = Guarded(-(-step.kernel.scratch_bytes // 8), "float64", align=64)
    function = _UNIT_FUNCTION(library.address(kernel.name))
    out = memory["out"].reshape(-1)
    assert step.kernel.units == -(-out.size // (row * step.rows))
    for unit in range(step.kernel.units):
        out[:] = np.nan
        function(arguments, unit, unit + 1, scratch.array.ctypes.data)
        assert table.size
        written = np.flatnonzero(~np.isnan(out))
        first, last = unit * step.rows * row, min((unit + 1) * step.rows * row, out.size)
        np.testing.assert_array_equal(written, np.arange(first, last))


def temporaries_of(steps: KernelSteps) -> dict[str, np.ndarray]:
    return {name: np.zeros(nbytes, np.uint8) for name, nbytes in steps.temporaries.items()}


def test_units_write_the_rows_that_they_say() -> None:
    one = square(5, 8, 24, 9, 3, stride=2, padding=1)
    image, weight, upstream = operands_of(one, "float32")
    for steps, operands, out, row in [
        (convolution(HOST, "float32", one), {"image": image, "weight": weight}, upstream, one.filters),
        (input_gradient(HOST, "float32", one), {"upstream": upstream, "weight": weight}, image, one.channels),
        (weight_gradient(HOST, "float32", one), {"image": image, "upstream": upstream}, weight, 8 * 9),
        (
            matmul(HOST, "float32", 1, 50, 20, 7, (0, 7, 1), (0, 20, 1)),
            {"a": image, "b": image},
            np.zeros(1000, np.float32),
            20,
        ),
    ]:
        memory = {**operands, **temporaries_of(steps), "out": np.empty_like(out)}
        rows_written(steps.steps[-1], HOST, "float32", memory, row)


def test_results_do_not_depend_on_the_order_of_units() -> None:
    one = square(6, 8, 24, 10, 3, padding=1)
    image, _, upstream = operands_of(one, "float32")
    steps = weight_gradient(HOST, "float32", one)
    assert len(steps.steps) == 2, "this shape shall need chunks of pixels"
    forth, back = (run(steps, HOST, "float32", {"image": image, "upstream": upstream}, 24 * 72, order) for order in (1, -1))
    np.testing.assert_array_equal(forth, back)


@pytest.mark.parametrize(("target", "register"), [(NEON, r"\bq\d+"), (AVX512, r"%zmm\d+")], ids=["neon", "avx512"])
def test_tiles_stay_in_registers(target: Target, register: str) -> None:
    one = square(8, 64, 64, 32, 3, padding=1)
    tiles = 0
    for steps in (
        convolution(target, "float32", one),
        weight_gradient(target, "float32", one),
        matmul(target, "float32", 1, 512, 512, 512, (0, 512, 1), (0, 512, 1)),
    ):
        kernel = steps.steps[0 if len(steps.temporaries) and "sums" in steps.temporaries else -1].kernel.named(target)
        text = assembly(kernel.text(target), target, kernel.name)
        for block in text.split("\n."):
            if block.count("fmla") + block.count("vfmadd") >= 16:
                tiles += 1
                on_stack = [line for line in block.splitlines() if re.search(r"\(%rsp\)|\[sp", line)]
                assert not [line for line in on_stack if re.search(register, line)]
    assert tiles >= 3
