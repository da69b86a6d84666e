"""Sums of very many float32: their rounding errors are bounded, and do not grow with the length as those of one long sum do.

Higham, "The accuracy of floating point summation" (1993): n terms added up one after the other are wrong by at most n u times
the sum of their magnitudes, u = 2^-24; of sums of sums, what each of them takes in a row counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops
from chainrule.cpu.runtime import single
from chainrule.graph import Array, TensorType
from chainrule.nn.functional.losses import cross_entropy
from chainrule.ops import Primitive, run_reference
from chainrule.tensor import Tensor

UNIT = 2.0**-24
NO_PADDING = ((0, 0), (0, 0))
WINDOW = {"stride": (1, 1), "padding": NO_PADDING, "dilation": (1, 1)}


def reductions(length: int) -> dict[str, tuple[Primitive, list[tuple[int, ...]], dict[str, Any]]]:
    """Along the last axis, the first, one in the middle, several, and all; in rows that are shorter and longer than a block."""
    side = round(length**0.5)
    return {
        "last": (ops.sum_, [(3, length)], {"axes": (1,)}),
        "first": (ops.sum_, [(length, 5)], {"axes": (0,)}),
        "middle": (ops.sum_, [(2, length, 3)], {"axes": (1,)}),
        "channels": (ops.sum_, [(4, 3, side, side // 4)], {"axes": (0, 2, 3)}),
        "short rows": (ops.sum_, [(length // 7, 3, 7)], {"axes": (0, 2)}),
        "all": (ops.sum_, [(length,)], {"axes": (0,)}),
    }


def products(length: int) -> dict[str, tuple[Primitive, list[tuple[int, ...]], dict[str, Any]]]:
    """Matrix products, convolutions of many channels, and gradients of weights by each family of kernels."""
    side = round(length**0.5)
    gradient, small, channels = ops.conv2d_weight_gradient, side // 2, min(length // 9, 2048)
    return {
        "matmul": (ops.matmul, [(8, length), (length, 16)], {}),
        "matmul, turned": (ops.matmul, [(length, 8), (length, 40)], {}),
        "vectors": (ops.matmul, [(length,), (length,)], {}),
        "convolution": (ops.conv2d, [(1, length // 9, 4, 4), (4, length // 9, 3, 3)], {**WINDOW, "groups": 1}),
        "winograd forward": (ops.conv2d, [(2, channels, 16, 16), (64, channels, 3, 3)], {**WINDOW, "groups": 1}),
        "1 x 1": (gradient, [(1, 8, side, side), (1, 8, side, side)], {**WINDOW, "groups": 1, "kernel": (1, 1)}),
        "5 x 5": (gradient, [(1, 4, small, small), (1, 40, small - 4, small - 4)], {**WINDOW, "groups": 1, "kernel": (5, 5)}),
        "winograd": (gradient, [(4, 8, small, small), (4, 8, small - 2, small - 2)], {**WINDOW, "groups": 1, "kernel": (3, 3)}),
        "depthwise": (
            gradient,
            [(4, 8, small, small), (4, 8, small - 2, small - 2)],
            {**WINDOW, "groups": 8, "kernel": (3, 3)},
        ),
    }


def run(primitive: Primitive, values: list[Array], attributes: dict[str, Any], engine: str) -> Array:
    if engine == "native":
        return single.run(primitive, values, attributes)
    return run_reference(primitive, values, attributes, TensorType((), values[0].dtype))


def error(primitive: Primitive, shapes: list[tuple[int, ...]], attributes: dict[str, Any], numbers: str, engine: str) -> float:
    """The largest error against float64, in units of u times the sum of the magnitudes."""
    rng = np.random.default_rng(0)
    draw = {"0.1": lambda shape: np.full(shape, 0.1, np.float32), "uniform": lambda shape: rng.random(shape, np.float32)}[
        numbers
    ]
    values: list[Array] = [draw(shape) for shape in shapes]
    if primitive is ops.matmul and shapes[0][0] == shapes[1][0] and len(shapes[0]) > 1:
        values[0] = values[0].T
    wide = [one.astype(np.float64) for one in values]
    exact = run(primitive, wide, attributes, "reference")
    found = run(primitive, values, attributes, engine)
    return float((np.abs(found - exact) / exact).max() / UNIT)


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("numbers", ["0.1", "uniform"])
@pytest.mark.parametrize("case", reductions(100))
def test_the_error_of_a_reduction_does_not_grow_with_its_length(case: str, numbers: str, engine: str) -> None:
    """Natively 32 terms in a row and then doubles, so also the partial results of units. NumPy takes up to 128 in a row."""
    for length in (100, 3_000, 100_000, 700_000):
        found = error(*reductions(length)[case], numbers, engine)
        assert found <= (2 * 32 + 8 if engine == "native" else 128 + 8), f"{length} terms: {found:.0f} u"


@pytest.mark.parametrize("numbers", ["0.1", "uniform"])
@pytest.mark.parametrize("case", products(900))
def test_the_error_of_products_grows_with_the_length_of_blocks_and_with_their_number(case: str, numbers: str) -> None:
    """Blocks of at most 512 products, or, where pixels are summed, of few rows of an image and then of 64 such blocks. With
    these numbers errors are an eighth of what they may be."""
    for length in (900, 40_000, 360_000):
        row = round(length**0.5)
        block = {"1 x 1": 2 * row + 64, "5 x 5": row // 2 + 64, "winograd": 128, "depthwise": 128, "winograd forward": 300}.get(
            case, 128
        )
        found = error(*products(length)[case], numbers, "native")
        assert found <= block + length / 2048, f"{length} terms: {found:.0f} u"


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_sums_over_large_windows(engine: str) -> None:
    """Also the gradient, where each pixel lies in many windows, and a pixel that wins many."""
    pool = {"window": (300, 200), "stride": (300, 200), "padding": NO_PADDING}
    assert error(ops.sum_pool2d, [(1, 3, 300, 200)], pool, "0.1", engine) <= 2
    pool = {"window": (40, 40), "stride": (1, 1), "padding": NO_PADDING}
    assert error(ops.sum_pool2d_gradient, [(1, 3, 41, 41)], {**pool, "size": (80, 80)}, "0.1", engine) <= 2
    image = np.zeros((1, 3, 80, 80), np.float32)
    image[:, :, 39, 39] = 1
    values = [image, np.full((1, 3, 41, 41), 0.1, np.float32)]
    attributes = {**pool, "dilation": (1, 1)}
    found = run(ops.max_pool2d_route, values, attributes, engine)
    np.testing.assert_allclose(found[:, :, 39, 39], 1600 * float(np.float32(0.1)), rtol=2 * UNIT)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_many_rows_added_at_one_place(engine: str) -> None:
    """What an index gets that comes very often: the gradient of a row of an embedding."""
    for after in (1, 5, 40):
        rng = np.random.default_rng(0)
        indices = np.where(rng.random(20_000) < 0.9, 3, rng.integers(0, 7, 20_000))
        x = np.full((2, 20_000, after), 0.1, np.float32)
        wanted = np.bincount(indices, minlength=7) * float(np.float32(0.1))
        with cr.engine(engine):
            add = cr.compile(lambda x, i: Tensor(ops.scatter_add(x.node, i.node, axis=1, size=7)))
            found = add(cr.tensor(x), cr.tensor(indices)).numpy()
        np.testing.assert_allclose(found, np.broadcast_to(wanted[:, None], (2, 7, after)), rtol=8 * UNIT)


def test_the_mean_of_equal_numbers() -> None:
    """Along a row of 9 million it was 0.09974."""
    x = cr.tensor(np.full((4, 3, 1500, 1500), 0.1, np.float32))
    wanted = float(np.float32(0.1))
    np.testing.assert_allclose(x.mean((0, 2, 3)).numpy(), wanted, rtol=1e-6)
    np.testing.assert_allclose(cr.compile(lambda x: x.mean((0, 2, 3)))(x).numpy(), wanted, rtol=1e-6)
    with cr.engine("reference"):
        np.testing.assert_allclose(x.mean((0, 2, 3)).numpy(), wanted, rtol=1e-6)
    turned = cr.tensor(np.moveaxis(np.full((1500, 1500, 4, 3), 0.1, np.float32), (2, 3), (0, 1)))
    with cr.engine("reference"):
        np.testing.assert_allclose(turned.mean((0, 2, 3)).numpy(), wanted, rtol=1e-6)


def test_long_sums_are_the_same_bits_with_any_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    x, y = (cr.tensor(rng.standard_normal((16, 24, 61, 61), np.float32)) for _ in range(2))

    @cr.compile
    def sums(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return x.sum(), (x * y).sum((0, 2, 3)), x.mean((2, 3)), y.sum(0)

    try:
        found = []
        for count in (1, 2, 3):
            cr.set_threads(count)
            found.append([one.numpy().tobytes() for one in sums(x, y)])
    finally:
        cr.set_threads(None)
    assert found[0] == found[1] == found[2]


# ---- in front of a batch normalisation


def block(channels: int, filters: int, stride: int = 1) -> list[nn.Module]:
    """Its activation is smooth: with a pixel on the other side of a ReLU's kink two gradients differ, right as they may be."""
    return [nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(filters), nn.SiLU()]


class Residual(nn.Module):
    """x + what three convolutions, one of them depthwise, make of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            *block(channels, channels),
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def network() -> nn.Module:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    return nn.Sequential(*block(3, 8), Residual(8), *block(8, 16, stride=2), *head)


PYTORCH = {
    "0.weight": 4.6e-5,
    "1.weight": 3.5e-6,
    "1.bias": 3.8e-6,
    "3.inner.0.weight": 1.1e-5,
    "3.inner.1.weight": 2.6e-5,
    "3.inner.1.bias": 1.2e-5,
    "3.inner.3.weight": 1.5e-6,
    "3.inner.4.weight": 2.6e-6,
    "3.inner.4.bias": 6.8e-6,
    "3.inner.6.weight": 1.7e-6,
    "3.inner.7.weight": 1.8e-6,
    "3.inner.7.bias": 4.0e-5,
    "4.weight": 6.0e-6,
    "5.weight": 1.0e-7,
    "5.bias": 9.2e-8,
    "9.weight": 1.4e-7,
    "9.bias": 7.0e-8,
}
"""How wrong the gradients of PyTorch 2.13 in float32 are on this network and these numbers: |found - exact| / |exact|."""


@pytest.mark.parametrize("how", ["compiled", "at once", "reference"])
def test_gradients_in_front_of_a_batch_normalisation_are_as_right_as_pytorchs(how: str) -> None:
    """Batch normalisation takes off the mean of its gradient. What is wrong with that mean is the same for all pixels and adds
    up, so sums that are wrong by much more than one number is rounded show here. PyTorch adds them up in double."""
    cr.manual_seed(0)
    model = network()
    rng = np.random.default_rng(0)
    images, labels = rng.random((16, 3, 64, 64), np.float32), rng.integers(0, 10, 16)

    def gradients(model: nn.Module, images: Array) -> dict[str, Array]:
        def step(x: Tensor, y: Tensor) -> Tensor:
            loss = cross_entropy(model(x), y)
            loss.backward()
            return loss

        (cr.compile(step) if how == "compiled" else step)(cr.tensor(images), cr.tensor(labels))
        return {name: one.grad.numpy().copy() for name, one in model.named_parameters() if one.grad is not None}

    exact_model = network().astype("float64")
    state = {name: np.asarray(one) for name, one in model.state_dict().items()}
    exact_model.load_state_dict({k: one.astype(np.float64) if one.dtype == np.float32 else one for k, one in state.items()})
    with cr.engine("reference" if how == "reference" else "native"):
        found = gradients(model, images)
        exact = gradients(exact_model, images.astype(np.float64))
    assert set(found) == set(PYTORCH)
    for name, right in exact.items():
        wrong = float(np.linalg.norm(found[name] - right) / np.linalg.norm(right))
        assert wrong <= 2 * PYTORCH[name] + 5e-7, f"{name}: {wrong:.1e}"
