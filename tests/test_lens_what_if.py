"""Edits of weights and pixels, drawings, and expressions that one types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, nn
from chainrule.data import mnist
from chainrule.lens.expression import Misread, names_in
from chainrule.lens.tracing import Pass, Tracer
from chainrule.lens.tracing.filters import filters
from chainrule.lens.tracing.probe import probe, probe_size
from chainrule.lens.tracing.typed_expression import typed_expression
from chainrule.lens.tracing.what_if import PixelEdit, WeightEdit, what_if
from chainrule.train import TrainedModel, shipped_model

F = nn.functional


@pytest.fixture(scope="module")
def shipped() -> TrainedModel:
    return shipped_model()


@pytest.fixture(scope="module")
def tracer(shipped: TrainedModel) -> Tracer:
    return Tracer(shipped)


@pytest.fixture(scope="module")
def digit() -> np.ndarray[Any, Any]:
    return mnist("test")[0][0]


@pytest.fixture(scope="module")
def found(tracer: Tracer, digit: Any) -> Pass:
    return tracer.trace(digit, 7)


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in model.state_dict().items()}


# ---- what if


def test_a_weight_is_raised_on_a_copy(tracer: Tracer, shipped: TrainedModel, found: Pass, digit: Any) -> None:
    before, ours = bits(shipped.model), bits(tracer.model)
    seen = what_if(
        tracer, found, [WeightEdit("3.weight", (2, 1, 0, 4), float(found.parameter("3.weight").value[2, 1, 0, 4]) + 0.01)]
    )
    model = shipped_model().model
    weight = model[3].weight.numpy().copy()
    weight[2, 1, 0, 4] += np.float32(0.01)
    model[3].weight.assign(weight)
    image = cr.tensor(shipped.normalise(digit[np.newaxis], np.random.default_rng(0)))
    assert seen.after == pytest.approx(float(F.cross_entropy(model(image), np.array([7]))), rel=1e-6)
    gradient = found.parameter("3.weight").upstream
    assert gradient is not None
    assert seen.predicted == pytest.approx(found.loss + 0.01 * float(gradient[2, 1, 0, 4]), rel=1e-6)
    assert seen.before == found.loss
    assert seen.after != seen.before
    assert seen.after == pytest.approx(seen.predicted, abs=1e-4)
    np.testing.assert_allclose(seen.probabilities, F.softmax(model(image))[0].numpy(), rtol=1e-5)
    assert bits(shipped.model) == before
    assert bits(tracer.model) == ours
    assert tracer.trace(digit, 7).loss == found.loss


def test_the_prediction_gets_better_as_the_square_of_the_step() -> None:
    cr.manual_seed(0)
    facts = {"classes": ["0", "1"], "image_shape": [1, 2, 2], "mean": [0.5], "std": [0.25], "dtype": "float64"}
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).astype("float64")
    tracer = Tracer(TrainedModel(model, facts, "the network of the test"))
    found = tracer.trace(np.full((1, 2, 2), 0.5), 1)
    old = found.parameter("1.weight").value
    errors = []
    for step in (1e-2, 1e-3):
        edits = [WeightEdit("1.weight", (3, 2), float(old[3, 2]) + step), PixelEdit((0, 1, 0), 0.5 + step)]
        seen = what_if(tracer, found, edits)
        errors.append(abs(seen.after - seen.predicted))
        assert abs(seen.after - seen.before) > 10 * errors[-1]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.2)


def test_only_what_depends_on_the_edit_changes(tracer: Tracer, found: Pass) -> None:
    flattened = next(row for row in found.explanation.rows if row.operation == "matmul").edges[0].input.value
    assert flattened is not None
    index = (5, int(flattened[0].argmax()))
    value = float(found.parameter("7.weight").value[index])
    seen = what_if(tracer, found, [WeightEdit("7.weight", index, value + 1)])
    names = [one.node.label or one.node.operation.name for one in seen.changed]
    assert names[:3] == ["7.weight", "transpose", "matmul"]
    assert "conv2d" not in names
    assert seen.changed[0].difference == pytest.approx(1)
    assert seen.changed[0].relative == pytest.approx(1 / np.linalg.norm(found.parameter("7.weight").value), rel=1e-5)
    assert all(one.node in found.graph.index for one in seen.changed)
    assert what_if(tracer, found, []).changed == ()
    assert what_if(tracer, found, [WeightEdit("7.weight", index, value)]).after == found.loss


def test_a_pixel_is_given_as_it_is_seen(tracer: Tracer, found: Pass, digit: Any) -> None:
    seen = what_if(tracer, found, [PixelEdit((0, 3, 4), 1.0)])
    edited = digit.copy()
    edited[0, 3, 4] = 255
    assert seen.after == pytest.approx(tracer.trace(edited, 7).loss, rel=1e-5)
    assert seen.changed[0].node is found.image
    assert seen.changed[0].difference == pytest.approx(1 / tracer.deviations[0, 0, 0], rel=1e-5)
    gradient = tracer.judge(digit, 7)[2]
    assert seen.predicted == pytest.approx(found.loss + gradient[0, 3, 4], rel=1e-4)
    twice = what_if(tracer, found, [PixelEdit((0, 3, 4), 0.2), PixelEdit((0, 3, 4), 1.0)])
    assert (twice.after, twice.predicted) == (seen.after, seen.predicted)


def test_a_bias_far_below_0_kills_its_channel_and_only_it(shipped: TrainedModel, found: Pass, tracer: Tracer) -> None:
    images = mnist("test").images(range(8))
    alive = probe(tracer, images)
    assert not any(layer.dead[2] for layer in alive.layers[:1])
    model = shipped_model()
    bias = model.model[0].bias.numpy().copy()
    bias[2] = -100
    model.model[0].bias.assign(bias)
    first = probe(Tracer(model), images).layers[0]
    np.testing.assert_array_equal(first.dead, [False, False, True, False, False, False])
    np.testing.assert_array_equal(first.zeros[[0, 1, 3, 4, 5]], alive.layers[0].zeros[[0, 1, 3, 4, 5]])
    assert [layer.node.origin.module for layer in alive.layers] == ["1", "4", "8", "10"]
    assert [layer.zeros.shape for layer in alive.layers] == [(6,), (16,), (120,), (84,)]
    shares = [np.mean(tracer.trace(image, 0).tensor(alive.layers[1].number) == 0, axis=(1, 2)) for image in images]
    np.testing.assert_allclose(alive.layers[1].zeros, np.mean(shares, axis=0))
    assert probe_size(tracer) == 64


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (WeightEdit("3.wieght", (0, 0, 0, 0), 1.0), "unknown parameter '3.wieght': did you mean '3.weight'"),
        (WeightEdit("3.weight", (16, 0, 0, 0), 1.0), r"3.weight is \[16, 6, 5, 5\], and has no element \[16, 0, 0, 0\]"),
        (WeightEdit("3.weight", (0, 0, 0, 0), float("nan")), "the value of 3.weight must be a finite number, got nan"),
        (WeightEdit("3.weight", (0, 0, 0, 0), "much"), "the value of 3.weight must be a number, got 'much'"),  # type: ignore[arg-type]
        (PixelEdit((0, 28, 0), 1.0), r"the image is \[1, 28, 28\], and has no element \[0, 28, 0\]"),
        (PixelEdit((0, 0, 0), 1.5), "the value of a pixel must be a finite number from 0 to 1, got 1.5"),
    ],
)
def test_edits_that_cannot_be_made(tracer: Tracer, found: Pass, edit: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        what_if(tracer, found, [edit])


# ---- drawings


def test_a_drawing_of_the_size_of_the_images_is_the_image(tracer: Tracer, digit: Any) -> None:
    np.testing.assert_allclose(tracer.image_of_drawing(digit[0] / 255), digit / np.float32(255))


def test_a_drawing_is_resized_and_repeated_in_each_colour() -> None:
    facts = {"classes": ["0"], "image_shape": [3, 4, 6], "mean": [0.5] * 3, "std": [0.25] * 3, "dtype": "float32"}
    tracer = Tracer(TrainedModel(nn.Sequential(nn.Flatten(), nn.Linear(72, 1)), facts, "the network of the test"))
    drawing = np.zeros((8, 12))
    drawing[:, 6:] = 1
    image = tracer.image_of_drawing(drawing)
    assert image.shape == (3, 4, 6)
    np.testing.assert_array_equal(image[0], image[2])
    assert image[0, 0, 0] == 0
    assert image[0, 3, 5] == 1


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        ([[0.0, 2.0]], "numbers from 0, where nothing is drawn, to 1"),
        ([[0.0, float("nan")]], "numbers from 0, where nothing is drawn, to 1"),
        ([[0.0], [0.0, 1.0]], "rows of equal lengths"),
        ([0.0, 1.0], r"of at most 1,024 x 1,024, got the shape \[2\]"),
        (np.zeros((2, 1025)), r"got the shape \[2, 1025\]"),
        ([[]], r"got the shape \[1, 0\]"),
    ],
)
def test_what_is_no_drawing(tracer: Tracer, drawing: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tracer.image_of_drawing(drawing)


# ---- filters


def test_filters_and_templates(found: Pass) -> None:
    np.testing.assert_array_equal(filters(found, "3.weight"), found.parameter("3.weight").value)
    templates = filters(found, "7.weight")
    assert templates.shape == (120, 16, 5, 5)
    flattened = next(row for row in found.explanation.rows if row.operation == "reshape" and row.value.shape == (1, 400))
    image = flattened.edges[0].input.value
    assert image is not None
    product = next(row for row in found.explanation.rows if row.operation == "matmul")
    np.testing.assert_allclose((templates * image).sum(axis=(1, 2, 3)), product.value[0], rtol=1e-3, atol=1e-4)
    assert filters(found, "9.weight").shape == (84, 120)
    with pytest.raises(UserError, match=r"7.bias is \[120\], a number for each unit, and no picture"):
        filters(found, "7.bias")


# ---- expressions


def test_the_lectures_example_and_a_step() -> None:
    seen = typed_expression("(w @ x - y)**2", {"w": [1, 2], "x": [3, 4], "y": 5}, 0.01)
    assert seen.names == ("w", "x", "y")
    assert seen.explanation.error == 36
    np.testing.assert_array_equal(seen.explanation.gradients["w"], [36, 48])
    np.testing.assert_allclose(seen.stepped["w"], [1 - 0.36, 2 - 0.48])
    w, x, y = seen.stepped["w"], seen.stepped["x"], seen.stepped["y"]
    assert seen.error_after == pytest.approx(float((w @ x - y) ** 2))


def test_a_name_without_a_value_stands_for_1_and_values_of_other_names_are_left_out() -> None:
    seen = typed_expression("max(0, w*x + b) * v", {"w": 2.0, "nobody": 3.0})
    assert seen.names == ("w", "x", "b", "v")
    assert seen.explanation.error == 3
    assert float(seen.values["x"]) == 1
    assert names_in("sum(softmax(z))[0] + max(z, a)") == ["z", "a"]


def test_a_step_out_of_the_domain_has_no_error() -> None:
    seen = typed_expression("a ** b", {"a": 0.1, "b": 2.0}, 10)
    assert float(seen.stepped["a"]) < 0
    assert seen.error_after is None


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("w * (x + ", 4, "expression, column 5: '\\(' was never closed"),
        ("  w + tahn(x)", 6, "unknown function 'tahn': did you mean 'tanh'"),
        ("w.T @ x", 0, "a name after a dot is not known here"),
        ("w ^ 2", 2, r"\^ is not a power here: write \*\*"),
    ],
)
def test_an_expression_that_cannot_be_read_says_where(text: str, column: int, message: str) -> None:
    with pytest.raises(Misread, match=message) as error:
        typed_expression(text, {})
    assert error.value.column == column


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("w", {"w": "import os"}, "the value of w must be a number or a list of numbers"),
        ("w", {"w": [True]}, "the value of w must be a number or a list of numbers"),
        ("w", {"w": [0.0] * 257}, "the value of w has 257 numbers, and at most 256 are explained"),
        ("w" + "+1" * 500, {}, "the expression has 1,001 characters, and at most 1,000"),
        ("w * 2", {"w": [1, 2]}, "reduce it first with sum"),
        ("2 * 3", {}, "depends on nothing that asks for a gradient"),
        ("", {}, "expression: is empty"),
    ],
)
def test_expressions_that_are_not_explained(text: str, values: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        typed_expression(text, values)
