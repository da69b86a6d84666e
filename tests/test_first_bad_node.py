"""The first node that is not finite, on failures that are provoked: the right node, phase, element and row each time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import UserError
from chainrule.tensor.random import default_generator
from chainrule.train import BadNode, first_bad_node
from chainrule.train.diagnosis.node_by_node import range_of

F = nn.functional
SIZE, FEATURES, CLASSES = 5, 12, 3
LABELS = np.array([0, 1, 2, 0, 1])


def batch() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((SIZE, 1, 3, 4)).astype(np.float32)


class Standardise(nn.Module):
    """Each image minus its mean, divided by its standard deviation: 0 / 0 where all pixels are alike."""

    def forward(self, x: Any) -> Any:
        centred = x - x.mean((1, 2, 3), keepdims=True)
        return centred / (centred * centred).mean((1, 2, 3), keepdims=True).sqrt()


def network(*first: nn.Module) -> nn.Sequential:
    cr.manual_seed(0)
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(FEATURES, CLASSES, bias=False))


def entropy(model: nn.Module) -> Callable[..., Any]:
    return lambda images, labels: F.cross_entropy(model(images), labels)


def found(loss: Callable[..., Any], *given: Any, **options: Any) -> BadNode:
    bad = first_bad_node(loss, *given, **options)
    assert bad is not None
    return bad


def line_of(function: Callable[..., Any], text: str) -> str:
    lines, first = inspect.getsourcelines(function)
    return f"test_first_bad_node.py:{first + next(place for place, line in enumerate(lines) if text in line)}"


@pytest.mark.parametrize("row", range(SIZE))
def test_a_division_by_a_zero_variance(row: int) -> None:
    images = batch()
    images[row] = 0.5
    bad = found(entropy(network(Standardise())), images, LABELS)
    assert (bad.phase, bad.operation, bad.layer, bad.kind) == ("forward", "divide", "0", "Standardise")
    assert bad.line == line_of(Standardise.forward, "return centred /")
    assert (bad.row, bad.rows, bad.batch, bad.element, bad.others) == (row, (row,), SIZE, (row, 0, 0, 0), 0)
    assert np.isnan(bad.found)
    assert [(one.name, one.there) for one in bad.inputs] == [("subtract", 0.0), ("sqrt", 0.0)]
    assert bad.remedy == "It divides by 0: add a small number, such as 1e-5, to what it divides by."
    assert f"\n{bad.remedy}\n\nComputed from:" in str(bad)
    assert bad.inputs[1].range.zeros == 1
    assert all(one.range.finite for one in (*bad.inputs, *bad.ancestors))
    assert [one.name for one in bad.ancestors[:2]] == ["multiply", "sum"]


def test_a_root_of_0_is_bad_in_the_backward_pass_alone() -> None:
    model, images = network(), batch()
    images[3] = 0

    def lengths(images: Any) -> Any:
        scores = model(images)
        return (scores * scores).sum(1).sqrt().mean()

    bad = found(lengths, images)
    assert (bad.phase, bad.operation, bad.rows, bad.element, bad.found) == ("backward", "sqrt", (3,), (3,), np.inf)
    assert bad.line == line_of(lengths, ".sqrt()")
    assert bad.formula == "1 / (2 sqrt(x))"
    assert [(one.name, one.there) for one in bad.inputs[:2]] == [("upstream gradient", pytest.approx(0.2)), ("sum", 0.0)]
    assert "the gradient of sqrt at" in bad.sentence()
    assert bad.remedy == "Its slope is infinite at 0: add a small number, such as 1e-5, to what it is taken of."
    assert "while the whole forward pass is finite" in bad.sentence()
    assert bad.ancestors[-1].name == "images"


def test_what_is_chosen_away_in_the_forward_pass_is_nan_in_the_backward_pass() -> None:
    """where(h > 0, log(h), 0) at h = 0: 0 times infinity."""
    model, images = network(), abs(batch())
    images[1] = 0

    def loss(images: Any) -> Any:
        scores = abs(model(images))
        return cr.where(scores > 0, cr.log(scores), 0.0).mean()

    bad = found(loss, images)
    assert (bad.phase, bad.operation, bad.rows) == ("backward", "log", (1,))
    assert np.isnan(bad.found)
    assert "log is infinite or nan in the forward pass already; that does not reach the loss" in str(bad).replace("\n  ", " ")
    assert "whole forward pass is finite" not in bad.sentence()


def test_a_logarithm_of_0() -> None:
    model, images = network(), batch()
    images[2] = 0

    def loss(images: Any, labels: Any) -> Any:
        probabilities = abs(model(images))
        return -cr.log(probabilities)[np.arange(SIZE), labels].mean()

    bad = found(loss, images, LABELS)
    assert (bad.phase, bad.operation, bad.rows, bad.found) == ("forward", "log", (2,), -np.inf)
    assert bad.remedy.startswith("It takes the logarithm of 0: add a small number, such as 1e-5, inside, or take log_softmax")


@pytest.mark.parametrize(
    ("name", "operation", "words"),
    [
        ("root", lambda x: x.sqrt(), "It takes the root of -4: keep what is under the root above 0."),
        (
            "inverse root",
            lambda x: x.rsqrt(),
            "It divides by the root of -4: add a small number, such as 1e-5, under the root.",
        ),
        (
            "power",
            lambda x: x**0.3,
            "It raises -4 to a power that it has not: add a small number, such as 1e-5, to the base, or",
        ),
        ("exponential", lambda x: cr.exp(-100 * x), ""),
    ],
)
def test_the_remedy_for_numbers_that_an_operation_does_not_take(name: str, operation: Any, words: str) -> None:
    weight = cr.Parameter(np.ones(3, np.float32))
    bad = found(lambda x: operation(x * weight).sum(), np.array([2, -4, 3], np.float32))
    assert bad.phase == "forward", name
    assert bad.remedy.startswith(words)
    assert bool(bad.remedy) == bool(words)


def test_an_overflow_of_exp() -> None:
    model, images = network(), batch()
    images[4] *= 1000
    bad = found(lambda images: cr.exp(abs(model(images))).mean(), images)
    assert (bad.phase, bad.operation, bad.rows, bad.found) == ("forward", "exp", (4,), np.inf)
    assert bad.inputs[0].there is not None
    assert bad.inputs[0].there > 88


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_a_number_in_an_image(number: float) -> None:
    images = batch()
    images[3, 0, 1, 2] = number
    bad = found(entropy(network()), images, LABELS)
    assert (bad.phase, bad.operation, bad.rows, bad.element) == ("batch", "images", (3,), (3, 0, 1, 2))
    assert bad.found == pytest.approx(number, nan_ok=True)
    assert str(bad).startswith(f"The batch is not finite before anything is computed: images has {number:g} at")


def test_a_weight_that_is_not_finite_before_the_step() -> None:
    model = network()
    weight = model[1].weight
    assert isinstance(weight, cr.Parameter)
    weight.assign(np.where(np.arange(FEATURES) == 5, np.inf, weight.numpy()))
    bad = found(entropy(model), batch(), LABELS)
    assert (bad.phase, bad.operation, bad.element, bad.rows) == ("state", "1.weight", (0, 5), ())


def test_an_update_that_overflows() -> None:
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=3e38)

    def loss(images: Any) -> Any:
        return (model(images) * 100).sum()

    assert first_bad_node(loss, batch()) is None
    before = model.state_dict()["1.weight"].copy()
    bad = found(loss, batch(), optimizer=optimizer)
    assert (bad.phase, bad.updated, bad.rows) == ("update", "1.weight", ())
    assert "the optimizer's lr" in [one.name for one in bad.inputs]
    assert bad.sentence().startswith("The first cause is in the update of 1.weight: multiply")
    np.testing.assert_array_equal(model.state_dict()["1.weight"], before)


def test_state_of_the_optimizer_that_overflows() -> None:
    """Adam's mean of squares is infinite from a gradient of 1e20 on: the weight stays finite and learns nothing any more."""
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    bad = found(lambda images: (model(images) * 1e20).sum(), batch(), optimizer=optimizer)
    assert (bad.phase, bad.updated) == ("update", "square of 1.weight")


def test_what_is_infinite_on_purpose_is_no_cause() -> None:
    """A mask of -inf before a softmax; a whole row of it gives nan there."""
    model, images = network(), batch()
    mask = np.zeros((SIZE, CLASSES), np.float32)
    mask[:, 0] = -np.inf

    def loss(images: Any, labels: Any, mask: np.ndarray = mask) -> Any:
        return -(F.softmax(model(images) + cr.tensor(mask), 1)[:, 1]).mean()

    assert first_bad_node(loss, images, LABELS) is None
    mask[2] = -np.inf
    bad = found(lambda images, labels: loss(images, labels), images, LABELS)
    assert bad.operation not in ("add", "constant")
    assert bad.phase == "forward"
    assert bad.rows == (2,)


def test_nothing_changes_and_what_is_finite_gives_none() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(8, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = default_generator.state.numpy()
    assert first_bad_node(entropy(model), batch(), LABELS, optimizer=optimizer) is None
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    np.testing.assert_array_equal(default_generator.state.numpy(), state)


def test_a_compiled_loss_is_looked_into_too() -> None:
    images = batch()
    images[1] = 2.0
    bad = found(cr.compile(entropy(network(Standardise()))), images, LABELS)
    assert (bad.operation, bad.rows) == ("divide", (1,))


def test_a_function_for_batches_of_one_size_alone() -> None:
    """There is no second trace to tell the axis of the examples by: the first axis is taken for it."""
    model, images = network(), batch()
    images[4] = 0

    def loss(images: Any) -> Any:
        return cr.log(abs(model(images.reshape(SIZE, FEATURES)))).mean()

    bad = found(loss, images)
    assert (bad.operation, bad.rows) == ("log", (4,))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, SIZE - 1), st.integers(1, 4), st.booleans())
def test_the_row_is_found_on_whatever_axis_the_examples_lie(row: int, copies: int, turned: bool) -> None:
    model, images = network(), batch()
    images[row] = 0

    def loss(images: Any) -> Any:
        scores = abs(model(images))  # (N, 3)
        scores = cr.stack([scores] * copies, 1).reshape(-1, CLASSES)  # (N * copies, 3)
        return cr.log(scores.T if turned else scores).mean()

    bad = found(loss, images)
    assert (bad.operation, bad.rows) == ("log", (row,))
    assert bad.element[1 if turned else 0] == row * copies


def test_wrong_arguments() -> None:
    model = network()
    with pytest.raises(UserError, match="needs a function that gives the loss, got a ndarray"):
        first_bad_node(batch())
    with pytest.raises(UserError, match="the loss function must return a tensor, got a float"):
        first_bad_node(lambda x: 1.0, batch())
    with pytest.raises(UserError, match="depends on no parameter that asks for a gradient"):
        first_bad_node(lambda x: cr.tensor(1.0), batch())
    with pytest.raises(UserError, match="starts at the error, one float number"):
        first_bad_node(lambda x: model(x), batch())
    with pytest.raises(UserError, match="optimizer must be an optimizer, got a float"):
        first_bad_node(lambda x: model(x).sum(), batch(), optimizer=0.1)  # type: ignore[arg-type]
    outside = model(batch()).sum()
    with pytest.raises(UserError, match=r"uses .*, computed outside"):
        first_bad_node(lambda x: outside * 2, batch())


def test_ranges() -> None:
    assert str(range_of(np.array([0.0, -1.5, 3.0, np.nan, np.inf, -np.inf], np.float32))) == "-1.5 to 3, 1 zero, 1 nan, 2 inf"
    assert str(range_of(np.array([], np.float32))) == "no numbers"
    assert str(range_of(np.zeros(3))) == "0"
    assert str(range_of(np.array([np.nan]))) == "1 nan"
    assert range_of(np.array([True, False])).zeros == 1
    assert range_of(np.array([1, 2])).finite


def test_a_report_fits_any_width() -> None:
    images = batch()
    images[0] = 1
    bad = found(entropy(network(Standardise())), images, LABELS)
    for width in (120, 80, 60, 40):
        assert all(len(line) <= width for line in bad.lines(width)), width
    assert max(map(len, str(bad).splitlines())) <= 80
    assert repr(bad) == "<BadNode divide (forward): nan at [0, 0, 0, 0], rows [0]>"
