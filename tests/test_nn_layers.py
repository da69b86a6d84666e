"""Layers and losses on their own: gradients against finite differences, first values, dropout, and what they refuse."""

from __future__ import annotations

import dataclasses
import math
from itertools import product
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, nn
from chainrule.nn import functional as F
from expected import cases

# ---- gradients in float64


DIFFERENTIABLE = [
    case for case in cases.LAYERS if "padding_idx" not in case.arguments
]  # a row that does not learn has no slope


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda case: case.name)
def test_gradients_of_a_layer_are_right_to_second_order(case: cases.Layer) -> None:
    layer = getattr(nn, case.layer)(**case.arguments).astype("float64").train(case.training)
    names = [name for name, _ in layer.named_parameters()]
    rng = np.random.default_rng(3)

    def run(x: cr.Tensor, *parameters: cr.Tensor) -> cr.Tensor:
        for name, parameter in zip(names, parameters, strict=True):
            setattr(layer, name, parameter)
        return layer(x)

    parameters = [rng.standard_normal(parameter.shape) for parameter in layer.parameters()]
    if case.values == "places":
        places = cr.tensor(rng.integers(0, 5, case.shape))
        cr.gradcheck(lambda *given: run(places, *given), *parameters, order=2)
        return
    cr.gradcheck(run, rng.standard_normal(case.shape), *parameters, order=2)


WITH_A_SLOPE = [case for case in cases.LOSSES if case.target != "ignored"]  # the mean of no labels is 0 / 0


@pytest.mark.parametrize("case", WITH_A_SLOPE, ids=lambda case: case.name)
def test_gradients_of_a_loss_are_right_to_second_order(case: cases.Loss) -> None:
    rng = np.random.default_rng(4)
    if case.target == "labels":
        target = rng.integers(0, case.shape[1], (case.shape[0], *case.shape[2:]))
        target[0] = case.arguments.get("ignore_index", 0)
    else:
        target = rng.random(case.shape)
    loss = getattr(nn, case.loss)(**case.arguments)
    x = rng.uniform(0.1, 0.9, case.shape) if case.values == "probabilities" else rng.standard_normal(case.shape)
    cr.gradcheck(lambda x: loss(x, target), x, order=2)


def test_gradients_of_dropout_are_right() -> None:
    dropout = nn.Dropout(0.4)

    def run(x: cr.Tensor) -> cr.Tensor:
        cr.manual_seed(1)  # the same mask at every point
        return dropout(x)

    cr.gradcheck(run, np.random.default_rng(0).standard_normal((4, 5)), order=2)


@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
def test_binary_cross_entropy_has_its_slope_at_a_logit_of_exactly_zero(target: float) -> None:
    x = cr.tensor([0.0], requires_grad=True)
    F.binary_cross_entropy_with_logits(x, [target]).backward()
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(0.5 - target)


@pytest.mark.parametrize("compiled", [False, True])
def test_binary_cross_entropy_of_certain_and_of_tiny_probabilities(compiled: bool) -> None:
    """PyTorch's values, where a logarithm is at least -100; its slope of -10^12 where a probability of 0 should be 1."""
    x = np.array([0.0, 1.0, 0.0, 1.0, 1e-30, 1e-7, 1 - 2.0**-24, 0.0], np.float32)
    target = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.5], np.float32)

    def run(x: cr.Tensor, target: cr.Tensor) -> list[Any]:
        losses = F.binary_cross_entropy(x * 1, target, reduction="none")
        return [losses, *cr.grad(losses.sum(), [x])]

    values, slopes = (cr.compile(run) if compiled else run)(cr.tensor(x, requires_grad=True), cr.tensor(target))
    np.testing.assert_allclose(values, [100, 100, 0, 0, 30 * math.log(10), 1e-7, 2.0**-24, 50], rtol=1e-6)
    np.testing.assert_allclose(slopes, [-1e12, 1e12, 1, -1, -1e30, 1, -1, -5e11], rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_probability_out_of_range_is_refused_before_anything_changes(compiled: bool) -> None:
    run = (
        cr.compile(lambda x: F.binary_cross_entropy(x * 2, [1.0]))
        if compiled
        else lambda x: F.binary_cross_entropy(x * 2, [1.0])
    )
    assert run(cr.tensor([0.25])).item() == pytest.approx(math.log(2))
    with pytest.raises(UserError, match=r"x must be probabilities, 0 to 1, got 1\.5 at \[0\]: pass sigmoid\(x\), or use"):
        run(cr.tensor([0.75]))
    assert math.isnan(run(cr.tensor([math.nan])).item())


def test_divergences_of_impossible_classes_are_0() -> None:
    x = cr.tensor([[0.0, -math.inf]], requires_grad=True)
    target = cr.tensor([[1.0, 0.0]], requires_grad=True)
    loss = F.kl_div(x, target, reduction="sum")
    loss.backward()
    assert loss.item() == 0
    np.testing.assert_array_equal(x.grad, [[-1, 0]])


@pytest.mark.parametrize("logit", [-1e4, -100.0, 100.0, 1e4])
def test_losses_of_extreme_logits_are_finite(logit: float) -> None:
    for target in (0.0, 1.0):
        x = cr.tensor([logit], requires_grad=True)
        loss = F.binary_cross_entropy_with_logits(x, [target])
        loss.backward()
        assert loss.item() == pytest.approx(max(logit, 0) - logit * target)
        assert np.isfinite(x.grad)
    scores = cr.tensor([[logit, 0.0]], requires_grad=True)
    loss = F.cross_entropy(scores, [1])
    loss.backward()
    assert loss.item() == pytest.approx(max(logit, 0), abs=1e-6)
    assert np.isfinite(scores.grad).all()


NORMALISING: dict[str, Any] = {
    "BatchNorm2d": lambda: nn.BatchNorm2d(4),
    "BatchNorm2d in use": lambda: nn.BatchNorm2d(4),
    "LayerNorm": lambda: nn.LayerNorm((4, 5, 5)),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", NORMALISING)
def test_normalising_numbers_whose_squares_overflow_gives_nan_and_no_zeros(name: str, compiled: bool) -> None:
    numbers = np.random.default_rng(0).uniform(-1, 1, (6, 4, 5, 5)).astype(np.float32)
    for size in (1.0, 1e18, 1e30):
        layer = NORMALISING[name]()
        x = cr.tensor(numbers * np.float32(size), requires_grad=True)
        if "in use" in name:
            for _ in range(200):  # its statistics become those of the batch
                layer(x)
            layer.eval()

        def run(x: cr.Tensor, layer: nn.Module = layer) -> list[Any]:
            x = x * 1
            y = layer(x)
            return [y, *cr.grad((y * y * y).sum(), [x])]

        values, slopes = (one.numpy() for one in (cr.compile(run) if compiled else run)(x))
        if size == 1e30:
            assert np.isnan(values).all()
            assert np.isnan(slopes).all()
        else:
            assert np.isfinite(slopes).all()
            assert values.std() == pytest.approx(1.0, rel=1e-2)


INFINITE = math.inf
WITHOUT_A_SHARE: dict[str, tuple[Any, list[float], float, list[float]]] = {  # loss, logits, its value and its slopes
    "a probability of 0": (
        lambda z: F.cross_entropy(z.reshape(1, -1), cr.tensor([[0.25, 0.75, 0.0]])),
        [0.0, math.log(3), -INFINITE],
        0.25 * math.log(4) + 0.75 * math.log(4 / 3),
        [0.0, 0.0, 0.0],
    ),
    "a label": (lambda z: F.cross_entropy(z.reshape(1, -1), [1]), [0.0, 0.0, -INFINITE], math.log(2), [0.5, -0.5, 0.0]),
    "a weight of 0": (
        lambda z: F.cross_entropy(z.reshape(1, -1), [0], weight=[0.0, 1.0], reduction="sum"), [-INFINITE, 1.0], 0.0, [0.0, 0.0],
    ),
    "no other class": (lambda z: F.cross_entropy(z.reshape(1, -1), [0]), [3.0, -INFINITE], 0.0, [0.0, 0.0]),
    "binary, 1": (lambda z: F.binary_cross_entropy_with_logits(z, [1.0]), [INFINITE], 0.0, [0.0]),
    "binary, 0": (lambda z: F.binary_cross_entropy_with_logits(z, [0.0]), [-INFINITE], 0.0, [0.0]),
    "binary, a weight of 0": (
        lambda z: F.binary_cross_entropy_with_logits(z, [0.0, 0.0], weight=[0.0, 1.0], reduction="sum"),
        [INFINITE, 0.0],
        math.log(2),
        [0.0, 0.5],
    ),
    "binary, wrong": (lambda z: F.binary_cross_entropy_with_logits(z, [0.0]), [INFINITE], INFINITE, [1.0]),
    "a distance": (lambda z: F.smooth_l1_loss(z, [0.0]), [-INFINITE], INFINITE, [-1.0]),
}  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", WITHOUT_A_SHARE)
def test_infinite_logits_cost_nothing_where_they_have_no_share(name: str, compiled: bool) -> None:
    loss, logits, value, slopes = WITHOUT_A_SHARE[name]

    def run(z: cr.Tensor) -> list[Any]:
        z = z * 1
        error = loss(z)
        return [error, *cr.grad(error, [z])]

    found = (cr.compile(run) if compiled else run)(cr.tensor(logits, requires_grad=True))
    assert found[0].item() == pytest.approx(value, abs=1e-7)
    assert found[1].tolist() == pytest.approx(slopes, abs=1e-7)


def test_a_probability_of_0_has_a_slope_of_its_own() -> None:
    target = cr.tensor([[0.0, 1.0]], requires_grad=True)
    F.cross_entropy(cr.tensor([[0.0, 0.0]]), target).backward()
    assert target.grad is not None
    np.testing.assert_allclose(target.grad, [[math.log(2), math.log(2)]], rtol=1e-6)


def test_labels_of_any_integer_dtype_mean_the_same_also_when_a_class_is_ignored() -> None:
    scores = cr.tensor(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32))
    expected = F.cross_entropy(scores, np.array([0, 2, 1, 1]), ignore_index=1).item()
    for dtype in ("uint8", "int32", "int64"):
        assert F.cross_entropy(scores, np.array([0, 2, 1, 1], dtype), ignore_index=1).item() == expected
    assert F.cross_entropy(scores[:2], [0, 2]).item() == pytest.approx(expected)


# ---- first values

WITH_WEIGHTS: list[tuple[Any, int]] = [
    (lambda: nn.Linear(100, 80), 100),
    (lambda: nn.Conv1d(32, 64, 5), 32 * 5),
    (lambda: nn.Conv2d(16, 64, 3), 16 * 9),
    (lambda: nn.Conv2d(32, 64, (3, 5), groups=4), 8 * 15),
    (lambda: nn.ConvTranspose2d(64, 32, 3), 32 * 9),  # PyTorch counts the second axis, whichever side it is
]


@pytest.mark.parametrize(("make", "fan_in"), WITH_WEIGHTS)
def test_weights_and_biases_start_evenly_within_one_over_the_root_of_fan_in(make: Any, fan_in: int) -> None:
    cr.manual_seed(0)
    layer, bound = make(), 1 / math.sqrt(fan_in)
    weight, bias = layer.weight.numpy(), layer.bias.numpy()
    assert np.abs(weight).max() <= bound
    assert weight.max() > 0.99 * bound
    assert weight.min() < -0.99 * bound
    assert weight.var() == pytest.approx(bound**2 / 3, rel=0.05)
    assert abs(weight.mean()) < 5 * bound / math.sqrt(3 * weight.size)
    assert np.abs(bias).max() <= bound
    assert bias.var() == pytest.approx(bound**2 / 3, rel=0.5)


def drawn(initialise: Any, shape: tuple[int, ...] = (60, 20, 3, 3)) -> np.ndarray:
    cr.manual_seed(5)
    parameter = cr.Parameter(np.zeros(shape))
    initialise(parameter)
    return parameter.numpy()


@pytest.mark.parametrize(
    ("initialise", "variance", "bound"),
    [
        (lambda p: nn.init.uniform_(p, -2.0, 2.0), 4 / 3, 2.0),
        (lambda p: nn.init.normal_(p, 0.0, 0.3), 0.09, math.inf),
        (nn.init.kaiming_uniform_, 2 / 180, math.sqrt(6 / 180)),
        (lambda p: nn.init.kaiming_uniform_(p, 1.0), 1 / 180, math.sqrt(3 / 180)),
        (nn.init.kaiming_normal_, 2 / 180, math.inf),
        (lambda p: nn.init.kaiming_normal_(p, mode="fan_out"), 2 / 540, math.inf),
        (nn.init.xavier_uniform_, 2 / 720, math.sqrt(6 / 720)),
    ],
)
def test_initialisers_have_the_variance_and_bounds_of_their_formulas(initialise: Any, variance: float, bound: float) -> None:
    values = drawn(initialise)
    assert values.var() == pytest.approx(variance, rel=0.05)
    assert np.abs(values).max() <= bound
    assert abs(values.mean()) < 5 * math.sqrt(variance / values.size)


def test_constant_initialiser_fills() -> None:
    assert (drawn(lambda p: nn.init.constant_(p, 0.25)) == 0.25).all()


def test_initialisers_that_need_fans_refuse_a_bias() -> None:
    with pytest.raises(UserError, match=r"at least two axes.*shape \(7,\).*use"):
        nn.init.kaiming_normal_(cr.Parameter(np.zeros(7)))
    with pytest.raises(UserError, match=r"unknown mode 'fan_inn': did you mean 'fan_in'\? Known: fan_in, fan_out"):
        nn.init.kaiming_normal_(cr.Parameter(np.zeros((2, 2))), mode="fan_inn")


def test_the_seed_decides_first_values() -> None:
    def weights(seed: int) -> list[np.ndarray]:
        cr.manual_seed(seed)
        return [layer.weight.numpy() for layer in (nn.Linear(4, 4), nn.Linear(4, 4))]

    first, again, other = weights(1), weights(1), weights(2)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).all()
    assert (first[0] != first[1]).all()


# ---- dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_zeroes_a_share_of_p_and_scales_the_rest(p: float) -> None:
    cr.manual_seed(0)
    n = 100_000
    found = nn.Dropout(p)(cr.ones((n,))).numpy()
    zeros = (found == 0).mean()
    assert abs(zeros - p) < 5 * math.sqrt(p * (1 - p) / n)
    np.testing.assert_allclose(found[found != 0], 1 / (1 - p), rtol=1e-6)


def test_dropout_drops_each_element_on_its_own() -> None:
    cr.manual_seed(3)
    kept = (nn.Dropout(0.5)(cr.ones((400, 400))).numpy() != 0).astype(float) - 0.5
    for shift, axis in ((1, 0), (1, 1), (7, 1)):
        correlation = (kept * np.roll(kept, shift, axis)).mean() / 0.25
        assert abs(correlation) < 5 / 400


def test_dropout_passes_everything_in_use() -> None:
    x = cr.tensor(np.random.default_rng(0).standard_normal((3, 4)))
    assert (nn.Dropout(0.9).eval()(x).numpy() == x.numpy()).all()


def test_dropout_draws_a_new_mask_each_time_and_the_same_for_a_seed() -> None:
    dropout, x = nn.Dropout(0.5), cr.ones((50,))
    cr.manual_seed(7)
    first, second = dropout(x).numpy(), dropout(x).numpy()
    cr.manual_seed(7)
    assert (dropout(x).numpy() == first).all()
    assert (second != first).any()
    cr.manual_seed(7)
    assert (dropout(cr.ones((50,), "float64")).numpy() == first).all(), "the mask depends on the dtype"


def test_the_gradient_of_dropout_is_its_mask() -> None:
    x = cr.tensor(np.ones(40), requires_grad=True)
    output = nn.Dropout(0.3)(x)
    output.backward(np.ones(40))
    assert (x.grad.numpy() == output.numpy()).all()


def test_dropout_of_channels_drops_them_whole_and_each_on_its_own() -> None:
    cr.manual_seed(0)
    found = nn.Dropout2d(0.25)(cr.ones((60, 50, 2, 3))).numpy()
    assert (found == found[:, :, :1, :1]).all()
    kept = found[:, :, 0, 0] != 0
    assert abs(kept.mean() - 0.75) < 5 * math.sqrt(0.25 * 0.75 / 3000)
    np.testing.assert_allclose(found[kept], 1 / 0.75, rtol=1e-6)
    assert len(np.unique(kept, axis=0)) == 60
    assert F.dropout2d(cr.ones((4, 5))).shape == (4, 5)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("mode", ["batch", "row"])
def test_stochastic_depth_drops_examples_or_the_whole_batch(mode: str, compiled: bool) -> None:
    """As torchvision: what is kept is divided by the probability of being kept."""
    cr.manual_seed(0)
    layer = nn.StochasticDepth(0.25, mode)
    run = cr.compile(lambda x: layer(x)) if compiled else layer
    x = np.random.default_rng(0).standard_normal((20, 2, 3)).astype(np.float32) + 5
    kept = []
    for _ in range(60):
        ratio = run(cr.tensor(x)).numpy() / x
        assert (ratio == ratio[:, :1, :1]).all() or np.allclose(ratio, ratio[:, :1, :1], rtol=1e-6)
        np.testing.assert_allclose(ratio[ratio != 0], 1 / 0.75, rtol=1e-6)
        kept.append(ratio[:, 0, 0] != 0)
    decisions = np.array(kept) if mode == "row" else np.array(kept)[:, 0]
    assert mode == "row" or all(one.all() or not one.any() for one in kept)
    assert abs(decisions.mean() - 0.75) < 5 * math.sqrt(0.25 * 0.75 / decisions.size)
    assert (layer.eval()(cr.tensor(x)).numpy() == x).all()
    assert repr(layer) == f"StochasticDepth(p=0.25, mode={mode!r})"


def test_stochastic_depth_of_0_and_of_1() -> None:
    x = cr.ones((3, 2))
    for mode in ("batch", "row"):
        assert F.stochastic_depth(x, 0.0, mode) is x
        assert F.stochastic_depth(x, 1.0, mode, training=False) is x
        assert (F.stochastic_depth(x, 1.0, mode).numpy() == 0).all()


def test_the_gradient_of_dropped_channels_and_branches_is_their_mask() -> None:
    for drop in (nn.Dropout2d(0.4), nn.StochasticDepth(0.4, "row"), nn.StochasticDepth(0.4, "batch")):
        x = cr.tensor(np.ones((30, 4, 2, 2)), requires_grad=True)
        output = drop(x)
        output.backward(np.ones(x.shape))
        assert x.grad is not None
        assert (x.grad.numpy() == output.numpy()).all()


def test_dropout_refuses_what_is_no_probability() -> None:
    with pytest.raises(UserError, match=r"Dropout: p must be a probability, 0 to 1, got 1\.5"):
        nn.Dropout(1.5)


# ---- activations far out


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def of_mish(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inner = np.logaddexp(0, x)
    near = np.minimum(inner, 300)
    return x * np.tanh(inner), np.tanh(inner) + x * sigmoid(x) / np.cosh(near) ** 2


FAR_OUT: dict[str, Any] = {
    "hardswish": lambda x: (x * np.clip((x + 3) / 6, 0, 1), np.clip((x + 3) / 6, 0, 1)),
    "hardsigmoid": lambda x: (np.clip((x + 3) / 6, 0, 1), x * 0),
    "hardtanh": lambda x: (np.clip(x, -1, 1), x * 0),
    "softplus": lambda x: (np.logaddexp(0, x), sigmoid(x)),
    "logsigmoid": lambda x: (-np.logaddexp(0, -x), sigmoid(-x)),
    "softsign": lambda x: (x / (1 + np.abs(x)), (1 + np.abs(x)) ** -2.0),
    "mish": of_mish,
    "silu": lambda x: (x * sigmoid(x), sigmoid(x) + x * sigmoid(x) * sigmoid(-x)),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", [*FAR_OUT, "elu", "celu", "selu"])
def test_activations_and_their_slopes_are_right_far_from_0(name: str, compiled: bool) -> None:
    """Values and slopes against their formulas in float64."""
    f = getattr(F, name)
    x = np.array([-1e30, -1e4, -80.0, -20.0, 20.0, 80.0, 1e4, 1e30], np.float32).astype(np.float64)
    if name in FAR_OUT:
        values, slopes = FAR_OUT[name](x)
    else:
        alpha, scale = (1.6732632423543772, 1.0507009873554805) if name == "selu" else (1.0, 1.0)
        values = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))) * scale
        slopes = np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))) * scale

    def run(x: cr.Tensor) -> list[Any]:
        x = x * 1
        y = f(x)
        return [y, *cr.grad(y.sum(), [x])]

    found = (cr.compile(run) if compiled else run)(cr.tensor(x.astype(np.float32), requires_grad=True))
    np.testing.assert_allclose(found[0].numpy(), values, rtol=1e-6)
    np.testing.assert_allclose(found[1].numpy(), slopes, rtol=1e-5, atol=1e-44)


# ---- functions without a layer of their own


@pytest.mark.parametrize("case", cases.FUNCTIONS, ids=lambda case: case.name)
def test_gradients_of_a_function_are_right_to_second_order(case: cases.Function) -> None:
    rng, f = np.random.default_rng(5), getattr(F, case.function)
    if "padding_idx" in case.arguments:  # that row has no gradient, although the result changes with it
        case = dataclasses.replace(case, arguments={})
    fixed = {place: given_to(kind, shape, rng) for place, (kind, shape) in enumerate(case.inputs) if kind != "normal"}

    def run(*inputs: cr.Tensor) -> cr.Tensor:
        rest = iter(inputs)
        return f(*(fixed[place] if place in fixed else next(rest) for place in range(len(case.inputs))), **case.arguments)

    cr.gradcheck(run, *(rng.standard_normal(shape) for kind, shape in case.inputs if kind == "normal"), order=2)


def given_to(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """An input that has no gradient: a mask, or whole numbers below the one that ``kind`` names."""
    return rng.random(shape) < 0.7 if kind == "mask" else rng.integers(0, int(kind), shape)


PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("mode", PAD_MODES)
def test_pad_has_the_border_of_numpy_in_pytorchs_order(mode: str, compiled: bool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    for border in ((1, 2), (0, 3, 2, 0), (4, 0, 0, 3, 2, 1), (0, 0, 0, 0, 0, 0, 1, 0)):
        run = (
            cr.compile(lambda x, border=border: F.pad(x, border, mode))
            if compiled
            else lambda x, border=border: F.pad(x, border, mode)
        )
        width = [*[(0, 0)] * (4 - len(border) // 2), *[border[i : i + 2] for i in range(len(border) - 2, -1, -2)]]
        np.testing.assert_array_equal(run(cr.tensor(x)).numpy(), np.pad(x, width, PAD_MODES[mode]))


def test_pad_with_a_number_and_with_fewer_elements() -> None:
    x = cr.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert F.pad(x, (1, -2), value=7.5).tolist() == [[7.5, 1], [7.5, 4]]
    assert F.pad(x, (-1, 0, 1, -1)).tolist() == [[0, 0], [2, 3]]
    assert F.pad(x, ()) is F.pad(x, (0, 0), "reflect") is x
    assert F.pad(cr.zeros((2, 0)), (1, 1)).shape == (2, 2)
    assert F.pad(cr.tensor([1, 2]), (1, 0), value=9).tolist() == [9, 1, 2]
    with pytest.raises(UserError, match=r"axis 1 of \(2, 0\) takes numbers from 0 to 0, got \(1, 1\)"):
        F.pad(cr.zeros((2, 0)), (1, 1), "replicate")


@pytest.mark.parametrize("compiled", [False, True])
def test_vectors_of_zeros_have_a_direction_of_zeros_and_finite_slopes(compiled: bool) -> None:
    """PyTorch's slopes: the length of zeros is eps, whatever the direction in which they grow."""

    def run(x: cr.Tensor) -> list[Any]:
        x = x * 1
        found = [F.normalize(x, p, eps=0.25) for p in (1.0, 2.0, 3.0)]
        slopes = [cr.grad(one.sum(), [x])[0] for one in found]
        cosine = F.cosine_similarity(x, [[3.0, 4.0]], eps=0.25)
        return [*found, *slopes, cosine, *cr.grad(cosine.sum(), [x])]

    found = (cr.compile(run) if compiled else run)(cr.tensor([[0.0, 0.0]], requires_grad=True))
    expected = [*[[[0.0, 0.0]]] * 3, *[[[4.0, 4.0]]] * 3, [0.0], [[2.4, 3.2]]]
    for one, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, right, rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_attention_of_a_query_without_keys_is_0(compiled: bool) -> None:
    rng = np.random.default_rng(0)
    query, key, value = (cr.tensor(rng.standard_normal((2, 3)), requires_grad=True) for _ in range(3))
    mask = np.array([[True, False], [False, False]])
    for taken in (mask, np.where(mask, 0.5, -np.inf)):

        def run(*given: cr.Tensor, taken: Any = taken) -> list[Any]:
            given = tuple(one * 1 for one in given)
            output = F.scaled_dot_product_attention(*given, cr.tensor(taken))
            return [output, *cr.grad((output * output).sum(), given)]

        output, *slopes = (cr.compile(run) if compiled else run)(query, key, value)
        np.testing.assert_allclose(output, [value.numpy()[0], [0, 0, 0]], rtol=1e-12)
        np.testing.assert_allclose(slopes[0], np.zeros((2, 3)), atol=1e-12)
        np.testing.assert_allclose(slopes[2], [2 * value.numpy()[0], [0, 0, 0]], rtol=1e-12)


def test_attention_drops_weights_and_keeps_their_mean() -> None:
    cr.manual_seed(0)
    query, key, value = cr.zeros((1, 400, 2)), cr.zeros((1, 50, 2)), cr.ones((1, 50, 1))
    found = F.scaled_dot_product_attention(query, key, value, dropout_p=0.25).numpy()
    assert found.std() > 0.01
    assert found.mean() == pytest.approx(1.0, abs=5 * float(found.std()) / 20)


def test_an_embedding_learns_the_rows_that_are_used_but_never_its_padding() -> None:
    cr.manual_seed(0)
    table = nn.Embedding(5, 3, padding_idx=-1)
    assert (table.weight.numpy()[4] == 0).all()
    assert abs(nn.Embedding(100, 50).weight.numpy().std() - 1) < 0.05
    table([[0, 4], [0, 2]]).sum().backward()
    assert table.weight.grad is not None
    np.testing.assert_array_equal(table.weight.grad.numpy()[:, 0], [2, 0, 1, 0, 0])
    with pytest.raises(UserError, match=r"Embedding: embedding: -1 at \[1\] is out of range: the table has 5 rows"):
        table([0, -1])
    run = cr.compile(lambda places: table(places))
    with pytest.raises(UserError, match=r"embedding: 5 at \[0\] is out of range"):
        run(np.array([5]))


def test_interpolation_takes_integers_where_it_only_copies_and_every_size_exactly() -> None:
    labels = cr.tensor(np.arange(12).reshape(1, 1, 3, 4))
    assert F.interpolate(labels, scale_factor=2).dtype == np.int64
    assert F.interpolate(labels, (3, 2)).tolist() == [[[[0, 2], [4, 6], [8, 10]]]]
    for size in (7, 49, 98, 147):  # 1 / 49, added up 49 times, is not 1 in floats
        row = cr.tensor(np.arange(49.0).reshape(1, 1, 49))
        np.testing.assert_array_equal(F.interpolate(row, size).numpy()[0, 0], np.arange(size) * 49 // size)


def test_bilinear_interpolation_of_a_plane_is_the_plane() -> None:
    plane = np.add.outer(np.arange(5.0), 3 * np.arange(7.0)).reshape(1, 1, 5, 7)
    for mode in ("bilinear", "bicubic"):
        found = F.interpolate(cr.tensor(plane), (9, 13), mode=mode, align_corners=True).numpy()[0, 0]
        expected = np.add.outer(np.linspace(0, 4, 9), 3 * np.linspace(0, 6, 13))
        inner = (slice(None), slice(None)) if mode == "bilinear" else (slice(2, -2), slice(2, -2))
        np.testing.assert_allclose(found[inner], expected[inner], rtol=1e-12)


def test_pixels_that_are_shuffled_come_back() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 18, 2, 5))
    np.testing.assert_array_equal(F.pixel_unshuffle(F.pixel_shuffle(x, 3), 3).numpy(), x)


# ---- what layers refuse: the path of the layer, the shapes, the argument to change


class Network(nn.Module):
    def __init__(self, *features: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        return self.features(x)


def refused(shape: tuple[int, ...], *features: nn.Module) -> str:
    with pytest.raises(UserError) as caught:
        Network(*features)(cr.zeros(shape))
    return str(caught.value)


REFUSED = [
    (
        (2, 1, 8, 8),
        nn.Conv2d(3, 4, 3),
        "layer features.0 (Conv2d) got shape (2, 1, 8, 8) with 1 channels, but in_channels=3: "
        "pass in_channels=1, or an input of 3 channels",
    ),
    (
        (8, 8),
        nn.Conv2d(3, 4, 3),
        "layer features.0 (Conv2d) needs an input (N, C, H, W) or (C, H, W), got shape (8, 8)",
    ),
    (
        (5, 8, 8),
        nn.Conv2d(1, 4, 3),
        "layer features.0 (Conv2d) got shape (5, 8, 8) with 5 channels, but in_channels=1: pass in_channels=5, or an input of "
        "1 channels, or x.expand_dims(1) if these are 5 inputs of one channel",
    ),
    (
        (8, 9, 3),
        nn.Conv2d(3, 4, 3),
        "layer features.0 (Conv2d) got shape (8, 9, 3) with in_channels=3: the channels seem to come last, but they are the "
        "first axis, (C, H, W): pass x.transpose(2, 0, 1)",
    ),
    (
        (2, 3, 4),
        nn.ReflectionPad2d((1, 1, 1, 3)),
        "layer features.0 (ReflectionPad2d): pad: with mode='reflect', axis 2 of (1, 2, 3, 4) takes numbers from 0 to 2, got "
        "(1, 3)",
    ),
    (
        (2, 8, 9, 3),
        nn.Conv2d(3, 4, 3),
        "layer features.0 (Conv2d) got shape (2, 8, 9, 3) with in_channels=3: the channels seem to come last, but they are the "
        "second axis, (N, C, H, W): pass x.transpose(0, 3, 1, 2)",
    ),
    (
        (2, 8, 3),
        nn.BatchNorm1d(3),
        "layer features.0 (BatchNorm1d) got shape (2, 8, 3) with num_features=3: the channels seem to come last, but they are "
        "the second axis: pass x.transpose(0, 2, 1)",
    ),
    ((2, 3, 8, 8), nn.Conv1d(3, 4, 3), "layer features.0 (Conv1d) needs an input (N, C, L) or (C, L), got shape (2, 3, 8, 8)"),
    (
        (2, 1, 8, 8),
        nn.ConvTranspose2d(3, 4, 3),
        "layer features.0 (ConvTranspose2d) got shape (2, 1, 8, 8) with 1 channels, but in_channels=3: "
        "pass in_channels=1, or an input of 3 channels",
    ),
    (
        (2, 1, 4, 9),
        nn.Conv2d(1, 2, 5),
        "layer features.0 (Conv2d): conv2d: a window of 5 (kernel 5, dilation 1) does not fit the height 4 + padding 0 + 0 "
        "= 4: enlarge the image or padding, or choose a smaller kernel_size",
    ),
    (
        (2, 8),
        nn.Linear(6, 3),
        "layer features.0 (Linear) got shape (2, 8) with 8 features on the last axis, but in_features=6: pass in_features=8",
    ),
    (
        (2, 3, 2, 2),
        nn.Linear(12, 3),
        "layer features.0 (Linear) got shape (2, 3, 2, 2) with 2 features on the last axis, but in_features=12: "
        "pass in_features=2 or put a Flatten before it",
    ),
    (
        (3, 8),
        nn.MaxPool2d(2),
        "layer features.0 (MaxPool2d): max_pool2d: needs an image (N, C, H, W) or (C, H, W), got (3, 8)",
    ),
    ((8,), nn.MaxPool1d(2), "layer features.0 (MaxPool1d): max_pool1d: needs a signal (N, C, L) or (C, L), got (8,)"),
    (
        (1, 3, 8, 8),
        nn.MaxPool2d(2, padding=2),
        "layer features.0 (MaxPool2d): pooling: padding (2, 2) must be at most half of kernel_size (2, 2)",
    ),
    (
        (1, 2, 3, 8, 8),
        nn.AvgPool2d(2),
        "layer features.0 (AvgPool2d): avg_pool2d: needs an image (N, C, H, W) or (C, H, W), got (1, 2, 3, 8, 8)",
    ),
    (
        (8, 8),
        nn.AdaptiveAvgPool2d(2),
        "layer features.0 (AdaptiveAvgPool2d): adaptive_avg_pool2d: needs an image (N, C, H, W) or (C, H, W), got (8, 8)",
    ),
    (
        (2, 4, 3, 3),
        nn.PReLU(3),
        "layer features.0 (PReLU) got shape (2, 4, 3, 3) with 4 channels, but num_parameters=3: pass num_parameters=4, or 1 "
        "for a slope that all share",
    ),
    (
        (2, 6),
        nn.Unflatten(1, (4, -1)),
        "layer features.0 (Unflatten) got shape (2, 6): the 6 elements of axis 1 do not fill unflattened_size=(4, -1)",
    ),
    (
        (3, 8, 8),
        nn.Upsample(scale_factor=2.0, mode="bilinear"),
        "layer features.0 (Upsample): interpolate: mode='bilinear' is not for (3, 8, 8): choose one of nearest, nearest-exact, "
        "linear, area",
    ),
    (
        (2, 3, 4, 4),
        nn.PixelShuffle(2),
        "layer features.0 (PixelShuffle): pixel_shuffle: needs (..., C 2^2, H, W), channels that divide into 4 each, got "
        "(2, 3, 4, 4)",
    ),
    (
        (2, 4, 5, 5),
        nn.InstanceNorm2d(3),
        "layer features.0 (InstanceNorm2d) got shape (2, 4, 5, 5) with 4 channels, but num_features=3: pass num_features=4",
    ),
    (
        (3, 3),
        nn.InstanceNorm2d(3),
        "layer features.0 (InstanceNorm2d): needs an image (N, C, H, W) or (C, H, W), got (3, 3)",
    ),
    (
        (2, 3, 1, 1),
        nn.InstanceNorm2d(3),
        "layer features.0 (InstanceNorm2d): instance_norm: needs several elements in each channel, got (2, 3, 1, 1): one has "
        "no variance",
    ),
    (
        (2, 3),
        nn.RMSNorm(4),
        "layer features.0 (RMSNorm) got shape (2, 3), whose last axes are not normalized_shape=(4,): "
        "pass normalized_shape=(3,)",
    ),
    (
        (2, 3),
        nn.Embedding(4, 2),
        "layer features.0 (Embedding): embedding: needs whole numbers, got float32[2, 3]: convert them, x.astype('int64')",
    ),
    (
        (2, 4, 3, 3),
        nn.ChannelShuffle(3),
        "layer features.0 (ChannelShuffle): channel_shuffle: 4 channels do not divide into groups=3",
    ),
    (
        (2, 4, 5, 5),
        nn.BatchNorm2d(3),
        "layer features.0 (BatchNorm2d) got shape (2, 4, 5, 5) with 4 channels, but num_features=3: pass num_features=4",
    ),
    ((2, 3), nn.BatchNorm2d(3), "layer features.0 (BatchNorm2d) needs an input (N, C, H, W), got shape (2, 3)"),
    ((3,), nn.BatchNorm1d(3), "layer features.0 (BatchNorm1d) needs an input (N, C) or (N, C, L), got shape (3,)"),
    (
        (1, 3, 1, 1),
        nn.BatchNorm2d(3),
        "layer features.0 (BatchNorm2d) got shape (1, 3, 1, 1): one value per channel has no variance to normalise by; "
        "train on batches of at least 2 (drop a last batch of one), or call eval()",
    ),
    (
        (2, 3),
        nn.GroupNorm(2, 4),
        "layer features.0 (GroupNorm) got shape (2, 3) with 3 channels, but num_channels=4: pass num_channels=3",
    ),
    (
        (2, 3),
        nn.LayerNorm(4),
        "layer features.0 (LayerNorm) got shape (2, 3), whose last axes are not normalized_shape=(4,): "
        "pass normalized_shape=(3,)",
    ),
    (
        (2, 3),
        nn.Flatten(2),
        "layer features.0 (Flatten): flatten: 2 to -1 goes beyond the axes of shape (2, 3): give -2 to 1",
    ),
]


@pytest.mark.parametrize(("shape", "layer", "text"), REFUSED)
def test_a_wrong_shape_names_the_layer_the_shape_and_the_argument(shape: tuple[int, ...], layer: nn.Module, text: str) -> None:
    assert refused(shape, layer) == text


def test_the_path_is_that_of_the_layer_that_failed_not_of_those_around_it() -> None:
    inner = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU(), nn.Linear(4, 4), nn.Linear(5, 4)))
    assert refused((2, 4), nn.ReLU(), inner).startswith("layer features.1.1.2 (Linear) got shape (2, 4)")


def test_a_layer_on_its_own_is_called_by_its_class() -> None:
    with pytest.raises(UserError, match=r"^Linear got shape \(2, 5\) with 5 features"):
        nn.Linear(4, 4)(cr.zeros((2, 5)))


def test_batch_norm_of_one_value_works_in_use() -> None:
    assert nn.BatchNorm2d(3).eval()(cr.zeros((1, 3, 1, 1))).shape == (1, 3, 1, 1)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Linear(0, 3), "Linear: in_features must be a whole number of at least 1, got 0"),
        (lambda: nn.Linear(3, 2.5), "Linear: out_features must be a whole number of at least 1, got 2.5"),
        (lambda: nn.Conv2d(-1, 3, 3), "Conv2d: in_channels must be a whole number of at least 1, got -1"),
        (
            lambda: nn.Conv2d(3, 4, 3, groups=2),
            "Conv2d: in_channels=3 and out_channels=4 must both divide into groups=2",
        ),
        (
            lambda: nn.Conv2d(3, 4, (3, 3, 3)),
            "Conv2d: kernel_size must be a whole number of at least 1 or a pair (height, width), got (3, 3, 3)",
        ),
        (lambda: nn.Conv1d(3, 4, 0), "Conv1d: kernel_size must be a whole number of at least 1, got 0"),
        (
            lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"),
            "unknown padding_mode 'mirror': Known: circular, reflect, replicate, zeros",
        ),
        (
            lambda: nn.ZeroPad2d((1, 2)),
            "ZeroPad2d: padding must be a whole number, or four: (left, right, top, bottom), got (1, 2)",
        ),
        (
            lambda: nn.Upsample(4, 2.0),
            "Upsample: give either size or scale_factor, got 4 and 2.0",
        ),
        (lambda: nn.Upsample(), "Upsample: give either size or scale_factor, got None and None"),
        (lambda: nn.Upsample((4, 0)), "Upsample: size must be a whole number of at least 1, or one for each axis, got (4, 0)"),
        (
            lambda: nn.Upsample(scale_factor=-1.0),
            "Upsample: scale_factor must be a positive number, or one for each axis, got -1.0",
        ),
        (
            lambda: nn.Upsample(4, mode="cubic"),
            "unknown mode 'cubic': Known: area, bicubic, bilinear, linear, nearest, nearest-exact",
        ),
        (
            lambda: nn.Upsample(4, align_corners=False),
            "Upsample: align_corners is for mode='linear', 'bilinear' or 'bicubic', leave it out for 'nearest'",
        ),
        (
            lambda: nn.Unflatten(1, (-1, -1)),
            "Unflatten: unflattened_size must be sizes, one of which may be -1, such as (2, -1), got (-1, -1)",
        ),
        (
            lambda: nn.Embedding(4, 2, padding_idx=4),
            "Embedding: padding_idx must be from -4 to 3, as there are 4 rows, got 4",
        ),
        (
            lambda: nn.InstanceNorm2d(3, momentum=2),
            "InstanceNorm2d: momentum must be from 0 to 1, the share of the new batch, got 2",
        ),
        (lambda: nn.RMSNorm(()), "RMSNorm: normalized_shape must be sizes of at least 1, got ()"),
        (lambda: nn.BatchNorm2d(0), "BatchNorm2d: num_features must be a whole number of at least 1, got 0"),
        (lambda: nn.GroupNorm(3, 4), "GroupNorm: num_channels=4 must divide into num_groups=3"),
        (lambda: nn.Hardtanh(1.0, 1.0), "Hardtanh: max_val must be larger than min_val, got 1.0 and 1.0"),
        (lambda: nn.CELU(0.0), "CELU: alpha must not be 0"),
        (lambda: nn.Softplus(beta=0), "Softplus: beta must not be 0"),
        (lambda: nn.PReLU(0), "PReLU: num_parameters must be a whole number of at least 1, got 0"),
        (lambda: nn.ELU("1"), "ELU: alpha must be a number, got '1'"),
        (lambda: nn.Dropout2d(-0.5), "Dropout2d: p must be a probability, 0 to 1, got -0.5"),
        (lambda: nn.StochasticDepth(2, "row"), "StochasticDepth: p must be a probability, 0 to 1, got 2"),
        (lambda: nn.StochasticDepth(0.5, "rows"), "unknown mode 'rows': did you mean 'row'? Known: batch, row"),
        (
            lambda: nn.AdaptiveMaxPool2d((1, 2, 3)),
            "AdaptiveMaxPool2d: output_size must be a whole number or a pair (height, width), got (1, 2, 3)",
        ),
        (lambda: nn.LayerNorm(()), "LayerNorm: normalized_shape must be sizes of at least 1, got ()"),
    ],
)
def test_wrong_arguments_are_refused_when_the_layer_is_made(make: Any, text: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda x: F.conv2d(x, cr.zeros((2, 3, 3, 3)), padding="same", stride=2),
            "padding='same' keeps the size, which needs stride 1, got stride (2, 2): give padding as numbers",
        ),
        (
            lambda x: F.conv2d(x, cr.zeros((2, 3, 3, 3)), padding="full"),
            "padding must be 'same', 'valid' or numbers, got 'full'",
        ),
        (
            lambda x: F.conv2d(x, cr.zeros((2, 3, 3, 3)), stride=(1, 2, 3)),
            "stride must be a whole number of at least 1 or a pair (height, width), got (1, 2, 3)",
        ),
        (
            lambda x: F.conv2d(x, cr.zeros((2, 3, 3, 3)), cr.zeros((3,))),
            "bias must have one number for each of the 2 output channels, got shape (3,)",
        ),
        (
            lambda x: F.conv_transpose2d(x, cr.zeros((3, 2, 3, 3)), output_padding=1),
            "conv_transpose2d: output_padding (1, 1) must be smaller than stride (1, 1) or dilation (1, 1)",
        ),
        (
            lambda x: F.conv_transpose2d(x, cr.zeros((3, 2, 3, 3)), output_padding=(0, -1)),
            "output_padding must be a whole number of at least 0 or a pair (height, width), got (0, -1)",
        ),
        (
            lambda x: F.conv_transpose2d(x, cr.zeros((3, 2, 3, 3)), padding=-1),
            "padding must be a whole number of at least 0 or a pair (height, width), got -1",
        ),
        (
            lambda x: F.conv_transpose2d(x, cr.zeros((3, 2, 3, 3)), groups=2),
            "conv_transpose2d: 3 input channels do not divide into groups=2",
        ),
        (
            lambda x: F.conv_transpose2d(x.astype("int32"), cr.zeros((3, 2, 3, 3), "int32")),
            "conv_transpose2d: needs floats, got int32 and int32: cast to float32 first",
        ),
        (
            lambda x: F.conv_transpose2d(x, cr.zeros((4, 2, 3, 3))),
            "conv_transpose2d: weight (4, 2, 3, 3) expects 4 input channels, the image (2, 3, 6, 6) has 3",
        ),
        (
            lambda x: F.conv3d(x, cr.zeros((3, 2, 3, 3))),
            "conv3d: needs a weight (O, C / groups, KD, KH, KW), got (3, 2, 3, 3)",
        ),
        (
            lambda x: F.conv3d(x[0, 0], cr.zeros((3, 2, 1, 1, 1))),
            "conv3d: needs a volume (N, C, D, H, W) or (C, D, H, W), got (6, 6)",
        ),
        (
            lambda x: F.conv3d(x, cr.zeros((4, 3, 2, 3, 3))),
            "conv3d: weight (4, 3, 2, 3, 3) expects 3 input channels, the volume (1, 2, 3, 6, 6) has 2",
        ),
        (
            lambda x: F.conv3d(x, cr.zeros((4, 2, 3, 3, 3)), dilation=2),
            "conv3d: a window of 5 (kernel 3, dilation 2) does not fit the depth 3 + padding 0 + 0 = 3: enlarge the volume or "
            "padding, or choose a smaller kernel_size",
        ),
        (
            lambda x: F.conv3d(x, cr.zeros((4, 2, 3, 3, 3)), stride=(1, 2, 1), padding="same"),
            "padding='same' keeps the size, which needs stride 1, got stride (1, 2, 1): give padding as numbers",
        ),
        (
            lambda x: nn.Conv3d(2, 4, 3)(x.transpose((1, 2, 3, 0))),
            "Conv3d got shape (3, 6, 6, 2) with in_channels=2: the channels seem to come last, but they are the first axis, "
            "(C, D, H, W): pass x.transpose(3, 0, 1, 2)",
        ),
        (
            lambda x: F.conv_transpose1d(x[:, :, 0], cr.zeros((3, 2, 3, 3))),
            "conv_transpose1d: needs a weight (C, O / groups, K), got (3, 2, 3, 3)",
        ),
        (lambda x: F.unfold(x[0, 0], 2), "unfold: needs an image (N, C, H, W) or (C, H, W), got (6, 6)"),
        (
            lambda x: F.unfold(x, 7),
            "unfold: a window of 7 (kernel 7, dilation 1) does not fit the height 6 + padding 0 + 0 = 6: enlarge the image or "
            "padding, or choose a smaller kernel_size",
        ),
        (
            lambda x: F.pad(x, (1, 2, 3)),
            "pad: needs two whole numbers for each of the last axes of (2, 3, 6, 6), such as (left, right, top, bottom), got "
            "(1, 2, 3)",
        ),
        (lambda x: F.pad(x, (1, 1), "mirror"), "unknown mode 'mirror': Known: circular, constant, reflect, replicate"),
        (
            lambda x: F.pad(x, (1, 7), "circular"),
            "pad: with mode='circular', axis 3 of (2, 3, 6, 6) takes numbers from 0 to 6, got (1, 7)",
        ),
        (
            lambda x: F.pad(x, (-1, 1), "replicate"),
            "pad: with mode='replicate', axis 3 of (2, 3, 6, 6) takes numbers from 0, got (-1, 1)",
        ),
        (
            lambda x: F.pad(x, (-4, -3)),
            "pad: (-4, -3) cuts off more than the 6 elements of axis 3 of (2, 3, 6, 6)",
        ),
        (
            lambda x: F.pad(x, (1, 1), "reflect", 0.0),
            "pad: value belongs to mode='constant', mode='reflect' has none: leave it out, got 0.0",
        ),
        (lambda x: F.interpolate(x[0, 0], 4), "interpolate: needs an image (N, C, H, W) or a signal (N, C, L), got (6, 6)"),
        (
            lambda x: F.interpolate(x, (4, 4, 4)),
            "interpolate: size must be a whole number of at least 1, or one for each axis, got (4, 4, 4)",
        ),
        (
            lambda x: F.interpolate(x, scale_factor=0.1),
            "interpolate: scale_factor=0.1 leaves (0, 0) of (2, 3, 6, 6), which is empty: use a larger one",
        ),
        (
            lambda x: F.interpolate(x, 4, recompute_scale_factor=True),
            "interpolate: recompute_scale_factor belongs to scale_factor: leave it out with size",
        ),
        (
            lambda x: F.interpolate(x.astype("int32"), 4, mode="bicubic"),
            "interpolate: mode='bicubic' needs a float, got int32[2, 3, 6, 6]: cast to float32 first",
        ),
        (
            lambda x: F.interpolate(x, 4, antialias=True),
            "interpolate: there is no argument 'antialias': mode='area' averages what it makes smaller; otherwise leave it out",
        ),
        (
            lambda x: F.pixel_unshuffle(x, 4),
            "pixel_unshuffle: needs (..., C, H 4, W 4), sizes that divide into 4, got (2, 3, 6, 6)",
        ),
        (
            lambda x: F.instance_norm(x[:, :, 0, 0]),
            "instance_norm: needs an input (N, C, ...) of at least three axes, got (2, 3)",
        ),
        (
            lambda x: F.instance_norm(x, use_input_stats=False),
            "instance_norm: use_input_stats=False needs running_mean and running_var",
        ),
        (
            lambda x: F.instance_norm(x, cr.zeros((3,)), cr.ones((3,))),
            "instance_norm: in training the running statistics are assigned, which needs buffers: pass cr.Buffer(mean) and "
            "cr.Buffer(variance), or None for both, or use_input_stats=False",
        ),
        (
            lambda x: F.instance_norm(x, weight=cr.ones((2,))),
            "instance_norm: weight must have one number for each of the 3 channels, got (2,)",
        ),
        (lambda x: F.rms_norm(x, 5), "rms_norm: normalized_shape (5,) does not match the last axes of (2, 3, 6, 6)"),
        (lambda x: F.normalize(x, p=-1), "normalize: p must be positive, got -1.0"),
        (
            lambda x: F.embedding([0, 7], x[0, 0]),
            "embedding: 7 at [1] is out of range: the table has 6 rows, so numbers go from 0 to 5",
        ),
        (lambda x: F.embedding([0, -1], x[0]), "embedding: weight must be a table (n, d), got (3, 6, 6)"),
        (
            lambda x: F.scaled_dot_product_attention(x, x, x[..., :5, :]),
            "scaled_dot_product_attention: needs a query (..., L, E), a key (..., S, E) and a value (..., S, V), got "
            "(2, 3, 6, 6), (2, 3, 6, 6) and (2, 3, 5, 6)",
        ),
        (
            lambda x: F.scaled_dot_product_attention(x, x, x, x > 0, is_causal=True),
            "scaled_dot_product_attention: is_causal is a mask of its own: leave out attn_mask, or combine both in it",
        ),
        (
            lambda x: F.scaled_dot_product_attention(x, x, x.astype("int32")),
            "scaled_dot_product_attention: value must be floats (..., length, features), got int32[2, 3, 6, 6]",
        ),
        (lambda x: F.gelu(x, "quick"), "gelu: approximate must be 'none' or 'tanh', got 'quick'"),
        (lambda x: F.hardtanh(x, 2.0, 1.0), "hardtanh: max_val must be larger than min_val, got 2.0 and 1.0"),
        (lambda x: F.celu(x, 0), "celu: alpha must not be 0"),
        (lambda x: F.softplus(x, 0.0), "softplus: beta must not be 0"),
        (
            lambda x: F.prelu(x, [0.1, 0.2]),
            "prelu: weight must have one number, or one for each of the 3 channels of (2, 3, 6, 6), got (2,)",
        ),
        (
            lambda x: F.glu(x, 1),
            "glu: axis 1 of (2, 3, 6, 6) has 3 elements, which do not divide into two halves",
        ),
        (lambda x: F.dropout2d(x, 2.0), "dropout2d: p must be a probability, 0 to 1, got 2.0"),
        (lambda x: F.dropout2d(x[0, 0, 0]), "dropout2d: needs an input (N, C, ...), got (6,)"),
        (lambda x: F.stochastic_depth(x, 0.5, "all"), "unknown mode 'all': Known: batch, row"),
        (lambda x: F.stochastic_depth(x.sum(), 0.5, "row"), "stochastic_depth: needs an input (N, ...), got a single number"),
        (lambda x: F.channel_shuffle(x, 2), "channel_shuffle: 3 channels do not divide into groups=2"),
        (
            lambda x: F.channel_shuffle(x[:, :, 0, 0], 3),
            "channel_shuffle: needs an input (N, C, ...) of at least three axes, got (2, 3)",
        ),
        (
            lambda x: F.local_response_norm(x[:, :, 0, 0], 3),
            "local_response_norm: needs an input (N, C, ...) of at least three axes, got (2, 3)",
        ),
        (
            lambda x: F.adaptive_max_pool2d(x.astype("int32"), 4),
            "adaptive_max_pool2d: needs a float, got int32[2, 3, 6, 6]: cast to float32 first",
        ),
        (
            lambda x: F.adaptive_max_pool1d(x[0], 0),
            "adaptive_max_pool1d: output_size must be a whole number of at least 1, got 0",
        ),
        (lambda x: F.flatten(x, 2, 1), "flatten: start_dim 2 lies behind end_dim 1 for shape (2, 3, 6, 6)"),
        (lambda x: F.group_norm(x, 2), "group_norm: 3 channels do not divide into num_groups=2"),
        (lambda x: F.adaptive_avg_pool2d(x, 0), "adaptive_avg_pool2d: output_size must be a whole number of at least 1, got 0"),
    ],
)
def test_functions_name_what_does_not_fit(call: Any, text: str) -> None:
    with pytest.raises(UserError) as caught:
        call(cr.zeros((2, 3, 6, 6)))
    assert str(caught.value) == text


# ---- transposed convolution


def transposed_by_definition(
    x: np.ndarray, weight: np.ndarray, stride: int, padding: int, dilation: int, output_padding: int
) -> np.ndarray:
    """Each element of x, times the weight, added where its window lies; then the padding is cut off."""
    (n, _, h, w), (_, o, kh, kw) = x.shape, weight.shape
    reach = [(size - 1) * stride + dilation * (k - 1) + 1 for size, k in ((h, kh), (w, kw))]
    whole = np.zeros((n, o, *(max(one - padding + output_padding, one) for one in reach)))
    for i, j, a, b in product(range(h), range(w), range(kh), range(kw)):
        whole[:, :, i * stride + a * dilation, j * stride + b * dilation] += x[:, :, i, j] @ weight[:, :, a, b]
    ends = [one - padding + output_padding for one in reach]
    return whole[:, :, padding : ends[0], padding : ends[1]]


TRANSPOSED = [
    (kernel, stride, padding, dilation, output_padding)
    for kernel, stride, padding, dilation in product((1, 2, 3), (1, 2, 3), (0, 1, 2), (1, 2, 4))
    for output_padding in range(max(stride, dilation))
    if stride + dilation * (kernel - 1) + 1 - 2 * padding + output_padding >= 1
]


def test_transposed_convolution_for_every_output_padding() -> None:
    """PyTorch allows one up to the stride or the dilation, whichever is larger."""
    rng = np.random.default_rng(0)
    for kernel, stride, padding, dilation, output_padding in TRANSPOSED:
        x, weight = rng.standard_normal((2, 3, 2, 2)), rng.standard_normal((3, 2, kernel, kernel))
        found = F.conv_transpose2d(
            cr.tensor(x), cr.tensor(weight), None, stride, padding, output_padding, dilation=dilation
        ).numpy()
        expected = transposed_by_definition(x, weight, stride, padding, dilation, output_padding)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_an_output_padding_of_the_stride_or_more() -> None:
    one = cr.ones((1, 1, 2, 2))
    expected = np.pad(np.ones((1, 1, 4, 4)), ((0, 0), (0, 0), (0, 1), (0, 1)))
    for run in (F.conv_transpose2d, cr.compile(F.conv_transpose2d)):
        np.testing.assert_array_equal(run(one, one, dilation=2, output_padding=1).numpy(), expected)
    layer = nn.ConvTranspose2d(4, 2, (3, 2), (1, 2), (2, 0), (2, 3), groups=2, dilation=(3, 4), dtype="float64")
    assert layer(cr.zeros((1, 4, 3, 3), "float64")).shape == (1, 2, 7, 12)
    cr.gradcheck(layer, np.random.default_rng(1).standard_normal((1, 4, 3, 3)), order=2)


# ---- what losses refuse


@pytest.mark.parametrize(
    ("shape", "labels", "text"),
    [
        (
            (3, 4),
            [0, 4, 5],
            "the label 4 in row 1 is out of range: the scores have 4 classes, so labels go from 0 to 3; "
            "mend the labels or give the last layer more outputs",
        ),
        (
            (3, 4),
            [0, 1, -1],
            "the label -1 in row 2 is out of range: the scores have 4 classes, so labels go from 0 to 3; "
            "mend the labels or give the last layer more outputs",
        ),
        (
            (1, 2, 2, 2),
            [[[0, 1], [2, 0]]],
            "the label 2 in position [0, 1, 0] is out of range: the scores have 2 classes, so labels go from 0 to 1; "
            "mend the labels or give the last layer more outputs",
        ),
        ((3, 4), [0, 1], "scores (3, 4) need labels of shape (3,), got (2,)"),
    ],
)
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_wrong_labels_are_named(name: str, shape: tuple[int, ...], labels: Any, text: str) -> None:
    with pytest.raises(UserError) as caught:
        getattr(F, name)(cr.zeros(shape), np.array(labels))
    assert str(caught.value) == f"{name}: {text}"


def test_ignored_labels_may_lie_anywhere() -> None:
    for ignored in (-100, -1, 255):
        assert F.cross_entropy(cr.zeros((2, 4)), [ignored, 1], ignore_index=ignored).item() == pytest.approx(math.log(4))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: F.nll_loss(cr.zeros((2, 3)), [0.0, 1.0]),
            "nll_loss: labels must be integers (2,), got float32[2]: convert them, labels.astype('int64')",
        ),
        (
            lambda: F.cross_entropy(cr.zeros((2, 3)), [0.0, 1.0]),
            "cross_entropy: labels must be integers (2,), got float32[2]: convert them, labels.astype('int64'), or pass "
            "probabilities of shape (2, 3)",
        ),
        (
            lambda: F.cross_entropy([0, 1], cr.zeros((2, 3))),
            "cross_entropy: logits must be floats (N, classes, ...), got int64[2], and a target float32[2, 3]: swap them, "
            "it is cross_entropy(logits, labels)",
        ),
        (
            lambda: F.cross_entropy(cr.zeros((2, 3)), np.zeros((2, 4), np.float32)),
            "cross_entropy: the prediction has shape (2, 3), the target (2, 4): reshape one of them",
        ),
        (lambda: F.cross_entropy(cr.zeros((3,)), 1), "cross_entropy: logits must be floats (N, classes, ...), got float32[3]"),
        (
            lambda: F.cross_entropy(cr.zeros((2, 3)), [0, 1], label_smoothing=1.5),
            "cross_entropy: label_smoothing must be from 0 to 1, got 1.5",
        ),
        (
            lambda: F.cross_entropy(cr.zeros((2, 3)), [0, 1], weight=[1.0, 2.0]),
            "weight must have one number for each of the 3 classes, got shape (2,)",
        ),
        (
            lambda: F.mse_loss(cr.zeros((2, 3)), np.zeros((2, 1))),
            "mse_loss: the prediction has shape (2, 3), the target (2, 1): reshape one of them",
        ),
        (lambda: F.smooth_l1_loss(cr.zeros((2,)), [0, 0], beta=-1.0), "smooth_l1_loss: beta must not be negative, got -1.0"),
        (lambda: F.huber_loss(cr.zeros((2,)), [0, 0], delta=0), "huber_loss: delta must be positive, got 0"),
        (
            lambda: F.huber_loss(cr.zeros((2,)), [0]),
            "huber_loss: the prediction has shape (2,), the target (1,): reshape one of them",
        ),
        (
            lambda: F.kl_div(cr.zeros((2,)), [0, 0], reduction="batch"),
            "unknown reduction 'batch': did you mean 'batchmean'? Known: batchmean, mean, none, sum",
        ),
        (
            lambda: F.kl_div(cr.zeros(()), 0.5, reduction="batchmean"),
            "kl_div: reduction='batchmean' needs a batch (N, ...), got ()",
        ),
        (
            lambda: F.binary_cross_entropy([[0.5, -2.5]], [[0, 1]]),
            "binary_cross_entropy: x must be probabilities, 0 to 1, got -2.5 at [0, 1]: pass sigmoid(x), or use "
            "binary_cross_entropy_with_logits",
        ),
        (
            lambda: F.binary_cross_entropy([0, 1], [0, 1]),
            "binary_cross_entropy: needs a float, got int64[2]: cast to float32 first",
        ),
        (
            lambda: F.l1_loss(cr.zeros((2,)), [0, 0], reduction="summ"),
            "unknown reduction 'summ': did you mean 'sum'? Known: mean, none, sum",
        ),
    ],
)
def test_losses_name_what_does_not_fit(call: Any, text: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert str(caught.value) == text


def test_an_empty_batch_goes_through_group_norm() -> None:
    assert nn.GroupNorm(2, 4)(cr.zeros((0, 4, 3, 3))).shape == (0, 4, 3, 3)


def test_an_adaptive_pool_of_three_sizes_is_refused() -> None:
    with pytest.raises(UserError, match=r"output_size must be a whole number or a pair \(height, width\), got \(1, 2, 3\)"):
        nn.AdaptiveAvgPool2d((1, 2, 3))(cr.zeros((1, 1, 4, 4)))


@pytest.mark.parametrize("axis", [0, -1, (1, 2), [1], None])
def test_softmax_over_one_axis_or_several(axis: Any) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    axes = tuple(axis) if isinstance(axis, list) else axis
    expected = np.exp(x) / np.exp(x).sum(axis=axes, keepdims=True)
    np.testing.assert_allclose(F.softmax(cr.tensor(x), axis).numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(F.log_softmax(cr.tensor(x), axis).numpy(), np.log(expected), rtol=1e-4, atol=1e-5)
