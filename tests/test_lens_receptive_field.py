"""The receptive field of a unit: the box by the architecture, and what is measured, against edits of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import UserError, nn
from chainrule.lens.tracing import Pass, Tracer
from chainrule.lens.tracing.receptive_field import receptive_field
from chainrule.lens.tracing.windows import Place
from chainrule.train import TrainedModel, shipped_model

F = nn.functional


def tracer_of(model: nn.Module, shape: tuple[int, int, int]) -> Tracer:
    """With weights above 0, so that no slope is 0 by chance."""
    facts = {
        "classes": ["0", "1", "2"],
        "image_shape": list(shape),
        "mean": [0.0] * shape[0],
        "std": [1.0] * shape[0],
        "dtype": "float64",
    }
    model = model.astype("float64")
    for parameter in model.parameters():
        parameter.assign(np.random.default_rng(0).uniform(0.1, 0.3, parameter.shape))
    return Tracer(TrainedModel(model, facts, "the network of the test"))


class Head(nn.Module):
    """Scores of whatever a body gives."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.last = nn.Linear(channels, 3)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        return self.last(x.mean(axis=(2, 3)))


class Branches(nn.Module):
    """A residual block whose two ways look at windows of different sizes, then one that joins channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1, stride=2)
        self.long = nn.Conv2d(4, 4, 3, padding=1)
        self.wide = nn.Conv2d(4, 2, (1, 5), padding=(0, 2))
        self.tall = nn.Conv2d(4, 2, (5, 1), padding=(2, 0))

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        x = F.sigmoid(self.first(x))
        x = F.sigmoid(self.long(x)) + x
        return cr.concatenate([self.wide(x), self.tall(x)], axis=1)


class Moved(nn.Module):
    """Axes in another order, channels that are shuffled, a border, an image that is cut and flipped."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.first = nn.Conv2d(2, 4, 3)
        self.last = nn.Conv2d(4, 4, 3, groups=2)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        x = self.norm(self.first(x).transpose((0, 2, 3, 1))).transpose((0, 3, 1, 2))
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose((0, 2, 1, 3, 4)).reshape(n, c, h, w)
        x = self.last(F.pad(x, (2, 0, 1, 1)))
        return x[:, :, 1:, ::-1]


BODIES: dict[str, tuple[Any, int]] = {
    "branches": (Branches, 4),
    "moved": (Moved, 4),
    "dilated": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3, dilation=2, padding=1), nn.Sigmoid(), nn.AvgPool2d(3, 2, padding=1)),
        3,
    ),
    "transposed": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.Sigmoid(), nn.ConvTranspose2d(3, 2, 3, 2, 1)), 2),
    "depthwise": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2, stride=2), nn.Sigmoid(), nn.Conv2d(4, 3, 1)), 3),
}


@pytest.mark.parametrize("name", BODIES)
def test_the_box_is_where_something_is_measured_and_edits_outside_change_nothing(name: str) -> None:
    body, channels = BODIES[name]
    tracer = tracer_of(nn.Sequential(body(), Head(channels)), (2, 11, 12))
    image = np.random.default_rng(1).random((2, 11, 12))
    found = tracer.trace(image, 1)
    last = max(row.index for row in found.explanation.rows if row.module.startswith("0") and row.value.ndim == 4)
    shape = found.node(last).shape
    units = [(0, 0, 0), (shape[1] - 1, shape[2] - 1, shape[3] - 1), (1, shape[2] // 2, shape[3] // 2)]
    for unit in units:
        seen = receptive_field(found, last, unit)
        rows, columns = np.nonzero(seen.measured)
        box = seen.box
        assert (rows.min(), columns.min()) == (box.top, box.left)
        assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (box.height, box.width)
        assert seen.whole.top <= box.top
        assert seen.whole.top + seen.whole.height >= box.top + box.height
        edited = np.random.default_rng(2).random(image.shape)
        inside = np.s_[:, box.top : box.top + box.height, box.left : box.left + box.width]
        edited[inside] = image[inside]
        value = found.tensor(last)[unit]
        assert tracer.trace(edited, 1).tensor(last)[unit] == pytest.approx(value, rel=1e-12)
        edited = image.copy()
        edited[:, rows[0], columns[0]] += 0.5
        assert abs(tracer.trace(edited, 1).tensor(last)[unit] - value) > 1e-9 * abs(value)


sizes = st.integers(1, 3)


@settings(max_examples=25)
@given(st.lists(st.tuples(sizes, sizes, st.integers(0, 2), sizes), min_size=1, max_size=3), st.integers(5, 12))
def test_boxes_of_layers_in_a_row(layers: list[tuple[int, int, int, int]], size: int) -> None:
    made: list[nn.Module] = []
    left = size
    for kernel, stride, padding, dilation in layers:
        left = (left + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        made += [nn.Conv2d(1, 1, kernel, stride, padding, dilation), nn.Sigmoid()]
        assume(left >= 1)
    found = tracer_of(nn.Sequential(*made, Head(1)), (1, size, size)).trace(np.random.default_rng(0).random((1, size, size)), 0)
    last = max(row.index for row in found.explanation.rows if row.operation == "sigmoid")
    for place in {0, left // 2, left - 1}:
        try:
            seen = receptive_field(found, last, (0, place, place))
        except UserError:  # it looks at nothing but padding
            continue
        rows, _ = np.nonzero(seen.measured)
        if not len(rows):  # windows with dilation may meet only padding although their box does not
            continue
        assert seen.box.top <= rows.min()
        assert rows.max() < seen.box.top + seen.box.height
        reach, jump, top = 1, 1, place
        for kernel, stride, padding, dilation in reversed(layers):
            top, jump = top * stride - padding, jump * stride
            reach = (reach - 1) * stride + dilation * (kernel - 1) + 1
        assert (seen.whole.top, seen.whole.height) == (top, reach)


@pytest.fixture(scope="module")
def of_lenet() -> Pass:
    return Tracer(shipped_model()).trace(np.random.default_rng(0).random((1, 28, 28)), 3)


def test_units_of_lenet_by_heart(of_lenet: Pass) -> None:
    first, second = (row.index for row in of_lenet.explanation.rows if row.operation == "conv2d")
    pools = [row.index for row in of_lenet.explanation.rows if row.operation == "max_pool2d"]
    assert receptive_field(of_lenet, first, (0, 0, 0)).whole == Place(-2, -2, 5, 5)
    assert receptive_field(of_lenet, first, (0, 0, 0)).box == Place(0, 0, 3, 3)
    assert receptive_field(of_lenet, pools[0], (3, 5, 6)).whole == Place(8, 10, 6, 6)
    assert receptive_field(of_lenet, second, (0, 3, 4)).whole == Place(4, 6, 14, 14)
    assert receptive_field(of_lenet, pools[1], (15, 4, 4)).box == Place(14, 14, 14, 14)
    scores = of_lenet.graph.index[of_lenet.scores]
    assert receptive_field(of_lenet, scores, (3,)).box == Place(0, 0, 28, 28)
    image = receptive_field(of_lenet, of_lenet.graph.index[of_lenet.image], (0, 4, 5))
    assert image.box == Place(4, 5, 1, 1)
    assert image.measured.sum() == image.measured[4, 5] == 1


def test_the_measured_map_is_a_row_of_the_jacobian(of_lenet: Pass) -> None:
    first = next(row.index for row in of_lenet.explanation.rows if row.operation == "conv2d")
    seen = receptive_field(of_lenet, first, (2, 7, 8))
    np.testing.assert_allclose(seen.measured, np.abs(of_lenet.local(first, 0, (2, 7, 8)).row[0, 0]), rtol=1e-6)


def test_what_does_not_depend_on_the_image_has_no_field(of_lenet: Pass) -> None:
    weight = of_lenet.parameter("0.weight")
    with pytest.raises(UserError, match=r"0\.weight does not depend on the image: choose a node between"):
        receptive_field(of_lenet, weight.index, (0, 0, 0, 0))
    with pytest.raises(UserError, match=r"has no element \[0, 0, 0\]: indices go from 0 to 0, 9"):
        receptive_field(of_lenet, of_lenet.graph.index[of_lenet.scores], (0, 0, 0))


def test_a_unit_that_sees_only_padding_is_said_to() -> None:
    found = tracer_of(nn.Sequential(nn.Conv2d(1, 1, 1, padding=1), Head(1)), (1, 3, 3)).trace(np.ones((1, 3, 3)), 0)
    conv = next(row.index for row in found.explanation.rows if row.operation == "conv2d")
    with pytest.raises(UserError, match=r"the unit \[0, 0, 1\] of h\d looks at padding only"):
        receptive_field(found, conv, (0, 0, 1))
