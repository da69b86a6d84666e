"""Passes of single images through a network, for the lens: each number against the arrays and the gradients of Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, nn
from chainrule.data import mnist
from chainrule.grad import LocalKind
from chainrule.lens.tracing import Pass, Tracer
from chainrule.train import TrainedModel, shipped_model

F = nn.functional


@pytest.fixture(scope="module")
def shipped() -> TrainedModel:
    return shipped_model()


@pytest.fixture(scope="module")
def digit() -> np.ndarray[Any, Any]:
    return mnist("test")[0][0]


@pytest.fixture(scope="module")
def of_digit(shipped: TrainedModel, digit: np.ndarray[Any, Any]) -> Pass:
    return Tracer(shipped).trace(digit, 7)


def trained(model: nn.Module, shape: tuple[int, int, int], classes: int = 3, **options: Any) -> TrainedModel:
    facts = {
        "classes": [str(number) for number in range(classes)],
        "image_shape": list(shape),
        "mean": [0.25] * shape[0],
        "std": [0.5] * shape[0],
        "dtype": options.pop("dtype", "float32"),
    }
    return TrainedModel(model.astype(facts["dtype"]), facts, "the network of the test", **options)


class Residual(nn.Module):
    """Its image fans out, and a normalisation has statistics of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.last = nn.Linear(4, 3)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        one = F.relu(self.norm(self.first(x)))
        return self.last((F.relu(self.second(one)) + one).mean(axis=(2, 3)))


def test_a_pass_is_what_the_model_computes_and_what_backward_gives(shipped: TrainedModel, digit: Any, of_digit: Pass) -> None:
    image = cr.tensor(shipped.normalise(digit[np.newaxis], np.random.default_rng(0)), requires_grad=True)
    scores = shipped.model(image)
    loss = F.cross_entropy(scores, np.array([7]))
    loss.backward()
    assert of_digit.loss == float(loss)
    np.testing.assert_array_equal(of_digit.tensor(of_digit.graph.index[of_digit.scores]), scores.numpy())
    np.testing.assert_allclose(of_digit.probabilities, F.softmax(scores)[0].numpy(), rtol=1e-6)
    for name, parameter in shipped.model.named_parameters():
        assert parameter.grad is not None
        upstream = of_digit.parameter(name).upstream
        assert upstream is not None
        np.testing.assert_allclose(upstream, parameter.grad.numpy(), rtol=1e-4, atol=1e-6)
    assert image.grad is not None
    ours = of_digit.tensor(of_digit.graph.index[of_digit.image], "upstream")
    np.testing.assert_allclose(ours, image.grad.numpy()[0], rtol=1e-4, atol=1e-6)
    shipped.model.zero_grad()


def test_steps_go_from_the_loss_to_the_leaves_each_node_once_after_all_that_use_it(of_digit: Pass) -> None:
    steps = of_digit.steps()
    numbers = [row.index for row in steps]
    assert numbers[0] == len(of_digit.graph) - 1
    assert steps[0].upstream is not None
    assert float(steps[0].upstream) == 1
    assert len(set(numbers)) == len(numbers)
    place = {row.node: place for place, row in enumerate(steps)}
    for row in steps:
        for edge in row.edges:
            assert place[edge.input] > place[row.node]
    leaves = {row.node.label for row in steps if row.node.is_leaf}
    assert leaves == {"image", *(f"{layer}.{name}" for layer in (0, 3, 7, 9, 11) for name in ("weight", "bias"))}


def test_where_a_value_fans_out_its_gradient_is_the_sum_of_what_comes_back() -> None:
    cr.manual_seed(0)
    found = Tracer(trained(Residual(), (2, 6, 6))).trace(np.random.default_rng(0).random((2, 6, 6)), 1)
    fans = [row for row in found.steps() if len(row.summands) > 1]
    assert len(fans) == 1
    assert fans[0].upstream is not None
    first, second = fans[0].summands
    np.testing.assert_array_equal(fans[0].upstream, first.gradient + second.gradient)
    assert np.abs(first.gradient).max() > 0
    assert np.abs(second.gradient).max() > 0


def test_nodes_have_the_same_numbers_in_all_passes_of_a_model(shipped: TrainedModel) -> None:
    tracer, rng = Tracer(shipped), np.random.default_rng(1)
    images = [rng.random((1, 28, 28)), np.zeros((1, 28, 28)), rng.integers(0, 256, (1, 28, 28)).astype(np.uint8)]
    passes = [tracer.trace(image, label) for image, label in zip(images, (0, None, 9), strict=True)]
    kinds = [[(row.index, row.name, row.operation, row.value.shape) for row in one.explanation.rows] for one in passes]
    assert kinds[0] == kinds[1] == kinds[2]


def test_looking_changes_nothing_of_the_model(shipped: TrainedModel, digit: Any) -> None:
    before = {name: value.tobytes() for name, value in shipped.model.state_dict().items()}
    tracer = Tracer(shipped)
    found = tracer.trace(digit, 3)
    found.steps()
    found.check(len(found.graph) - 1)
    tracer.judge(digit, 3)
    assert {name: value.tobytes() for name, value in shipped.model.state_dict().items()} == before
    assert all(parameter.grad is None for parameter in shipped.model.parameters())


def test_a_row_of_the_jacobian_times_upstream_is_the_part_of_the_unit(of_digit: Pass) -> None:
    pooled = next(row for row in of_digit.explanation.rows if row.operation == "max_pool2d")
    total = np.zeros(pooled.edges[0].input.shape)
    for channel in range(6):
        for y, x in np.ndindex(14, 14):
            local = of_digit.local(pooled.index, 0, (0, channel, y, x))
            assert local.kind is LocalKind.ROUTING
            total += local.row * local.upstream
    np.testing.assert_allclose(total, pooled.edges[0].downstream, rtol=1e-6, atol=1e-12)
    assert of_digit.local(pooled.index, 0, (2, 3, 4)).upstream == of_digit.tensor(pooled.index, "upstream")[2, 3, 4]


def test_every_node_agrees_with_finite_differences() -> None:
    cr.manual_seed(1)
    found = Tracer(trained(Residual(), (2, 6, 6))).trace(np.random.default_rng(0).random((2, 6, 6)), 1)
    errors = [check.error for row in found.steps() for check in found.check(row.index)]
    assert len(errors) > 25
    assert max(error for error in errors if error is not None) < 1e-8
    assert sum(error is None for error in errors) <= 2


def test_a_wrong_rule_is_seen_by_the_check() -> None:
    @cr.custom_gradient(lambda upstream, x: 2 * upstream * x)
    def wrong(x: Any) -> Any:
        return x * 3.0, (x,)

    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 3)

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            return self.last(wrong(x).reshape(1, 4))

    found = Tracer(trained(Wrong(), (1, 2, 2))).trace(np.random.default_rng(0).random((1, 2, 2)), 0)
    (check,) = next(found.check(row.index) for row in found.steps() if row.operation == "wrong")
    assert check.error is not None
    assert check.error > 0.1


def test_without_a_label_the_loss_is_of_the_most_probable_class(shipped: TrainedModel, digit: Any) -> None:
    tracer = Tracer(shipped)
    found = tracer.trace(digit)
    assert (found.label, found.labelled) == (int(found.probabilities.argmax()), False)
    assert tracer.trace(digit, found.label).loss == found.loss
    assert tracer.trace(digit, found.label).labelled
    assert found.probabilities.sum() == pytest.approx(1)


def test_what_is_judged_while_one_draws_is_what_a_pass_says(shipped: TrainedModel, digit: Any) -> None:
    tracer, pixels = Tracer(shipped), digit / 255
    found = tracer.trace(pixels, 8)
    probabilities, loss, gradient = tracer.judge(pixels, 8)
    np.testing.assert_allclose(probabilities, found.probabilities, rtol=1e-6)
    assert loss == pytest.approx(found.loss)
    upstream = found.tensor(found.graph.index[found.image], "upstream")
    np.testing.assert_allclose(gradient, upstream / shipped.normalise.std[0], rtol=1e-4, atol=1e-7)
    step = 1e-3
    y, x = np.unravel_index(np.abs(gradient[0]).argmax(), (28, 28))
    brighter = pixels.copy()
    brighter[0, y, x] += step
    assert tracer.judge(brighter, 8)[1] - loss == pytest.approx(step * gradient[0, y, x], rel=0.05)


def test_bytes_and_numbers_from_0_to_1_are_the_same_image(shipped: TrainedModel, digit: Any) -> None:
    tracer = Tracer(shipped)
    assert tracer.trace(digit, 7).loss == pytest.approx(tracer.trace(digit / 255, 7).loss, rel=1e-5)


def test_a_frozen_parameter_has_a_gradient_too_and_stays_frozen() -> None:
    model = Residual()
    model.first.requires_grad_(False)
    found = Tracer(trained(model, (2, 6, 6))).trace(np.random.default_rng(0).random((2, 6, 6)), 1)
    assert found.parameter("first.weight").upstream is not None
    assert not model.first.weight.requires_grad


def test_a_model_that_judges_mirror_images_too_says_what_is_shown(shipped: TrainedModel) -> None:
    assert Tracer(shipped).notes == ()
    (note,) = Tracer(trained(Residual(), (2, 6, 6), flip_test=True)).notes
    assert "mirror image" in note


def test_arrays_are_given_without_the_batch_and_by_channel(of_digit: Pass) -> None:
    row = next(row for row in of_digit.explanation.rows if row.operation == "conv2d")
    assert of_digit.tensor(row.index).shape == (6, 28, 28)
    np.testing.assert_array_equal(of_digit.tensor(row.index, "value", channel=2), row.value[0, 2])
    assert of_digit.tensor(row.index, "downstream", 1).shape == (6, 1, 5, 5)
    np.testing.assert_array_equal(of_digit.tensor(row.index, "downstream", 0), row.edges[0].downstream[0])


def test_a_pass_that_does_not_fit_into_memory_says_how_much_and_what_would_fit(shipped: TrainedModel, digit: Any) -> None:
    layers = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    large = Tracer(trained(nn.Sequential(*layers), (1, 600, 400)), memory=10_000_000)
    with pytest.raises(
        UserError, match=r"a pass of an image of 600 x 400 through the network of the test takes about 5. MB"
    ) as e:
        large.trace(np.zeros((1, 600, 400)))
    assert "for all values and gradients, and 10 MB are free: free some memory, or look at" in str(e.value)
    assert "a model of images of at most about 256 x 170 pixels" in str(e.value)
    found = Tracer(shipped, memory=1_000_000).trace(digit)
    found.steps()
    assert found.nbytes < 1_000_000


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda p: p.row(57), "the number of a node must be at most 56, got 57"),
        (lambda p: p.row(-1), "the number of a node must be a whole number of at least 0, got -1"),
        (lambda p: p.row(0), "node 0 is the constant 7, which stands in the formulas"),
        (lambda p: p.parameter("0.wieght"), "unknown parameter '0.wieght': did you mean '0.weight'"),
        (lambda p: p.tensor(12, "gradient"), "unknown array 'gradient'"),
        (lambda p: p.tensor(1, "upstream"), "no gradient arrives at h1"),
        (lambda p: p.tensor(12, "downstream"), "a downstream gradient is for one of the inputs: give its position"),
        (lambda p: p.tensor(17, "downstream", 0), r"h6 passes no gradient to an input 0: .* its inputs 1 \(h5\)"),
        (lambda p: p.tensor(12, channel=6), "channel must be at most 5, got 6"),
        (lambda p: p.tensor(47, channel=0), r"h28 is \[1, 10\], and only an image \(C, H, W\) has channels"),
        (lambda p: p.local(12, 0, (0, 6, 0, 0)), r"h2 is \[1, 6, 28, 28\], and has no element \[0, 6, 0, 0\]: .* 0, 5, 27, 27"),
        (lambda p: p.local(12, 2, (0, 0, 0, 0)), "h2 has 2 inputs: there is no input 2"),
    ],
)
def test_what_is_not_there_is_named(of_digit: Pass, asked: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        asked(of_digit)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((28, 28)), r"shape \[28, 28\], and the LeNet that ships with chainrule takes \[1, 28, 28\]"),
        ([[[0.0], [1.0, 2.0]]], "rows of equal lengths"),
        ("an image", "an image is an array of numbers"),
        (np.full((1, 28, 28), np.nan), "pixels that are not finite"),
    ],
)
def test_what_is_no_image_of_the_model_is_refused(shipped: TrainedModel, pixels: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Tracer(shipped).trace(pixels)


def test_a_class_that_is_not_there_is_refused(shipped: TrainedModel, digit: Any) -> None:
    with pytest.raises(UserError, match="the class of the loss must be at most 9, got 10"):
        Tracer(shipped).trace(digit, 10)


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(UserError, match=r"gives \[1, 4, 2, 2\] for an image, where scores \[1, 3\] were expected"):
        Tracer(trained(nn.Conv2d(1, 4, 1), (1, 2, 2))).trace(np.zeros((1, 2, 2)))
