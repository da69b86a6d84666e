"""model.summary: exact tables, counts by formula, receptive fields against a measurement; the model is left as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import models, nn

LENET = """\
Sequential
layer  kind       output shape      parameters  multiply-adds  receptive field
-----  ---------  ----------------  ----------  -------------  ---------------
0      Conv2d     1 x 6 x 28 x 28          156        117,600            5 x 5
1      ReLU       1 x 6 x 28 x 28            0              0            5 x 5
2      MaxPool2d  1 x 6 x 14 x 14            0              0            6 x 6
3      Conv2d     1 x 16 x 10 x 10       2,416        240,000          14 x 14
4      ReLU       1 x 16 x 10 x 10           0              0          14 x 14
5      MaxPool2d  1 x 16 x 5 x 5             0              0          16 x 16
6      Flatten    1 x 400                    0              0          16 x 16
7      Linear     1 x 120               48,120         48,000          28 x 28
8      ReLU       1 x 120                    0              0          28 x 28
9      Linear     1 x 84                10,164         10,080          28 x 28
10     ReLU       1 x 84                     0              0          28 x 28
11     Linear     1 x 10                   850            840          28 x 28
61,706 parameters, 416,520 multiply-adds for an input of 1 x 1 x 28 x 28"""

SMALL = """\
Sequential
layer  kind               output shape   parameters  multiply-adds  receptive field
-----  -----------------  -------------  ----------  -------------  ---------------
0      Conv2d             2 x 4 x 8 x 6         108         10,368            3 x 3
1      BatchNorm2d        2 x 4 x 8 x 6           8              0            3 x 3
2      ReLU6              2 x 4 x 8 x 6           0              0            3 x 3
3      Conv2d             2 x 4 x 8 x 6          40          3,456            7 x 7
4      AdaptiveAvgPool2d  2 x 4 x 1 x 1           0              0          16 x 12
5      Dropout            2 x 4 x 1 x 1           0              0          16 x 12
6      Flatten            2 x 4                   0              0          16 x 12
7      Linear             2 x 2                  10             16          16 x 12
166 parameters, 9 numbers in buffers, 13,840 multiply-adds for an input of 2 x 3 x 16 x 12"""


def small() -> nn.Sequential:
    """With batch normalisation, a depthwise convolution and dropout."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU6(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.AdaptiveAvgPool2d(1),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def test_summary_of_lenet() -> None:
    assert str(models.lenet().summary((1, 1, 28, 28))) == LENET


def test_summary_of_a_model_with_buffers_and_a_depthwise_convolution() -> None:
    assert str(small().summary((2, 3, 16, 12))) == SMALL


def test_summary_of_features_has_no_receptive_fields() -> None:
    found = models.mlp().summary((1, 784))
    assert {row.receptive_field for row in found.rows} == {None}
    assert found.multiply_adds == 784 * 512 + 512 * 256 + 256 * 10
    assert found.parameters == found.multiply_adds + 512 + 256 + 10


def test_summary_leaves_flags_buffers_and_random_numbers_as_they_were() -> None:
    model = small()
    model[1].eval()
    flags = [module.training for module in model.modules()]
    state = {name: array.copy() for name, array in model.state_dict().items()}
    cr.manual_seed(3)
    expected = cr.random.uniform((4,)).numpy()
    cr.manual_seed(3)
    model.summary((2, 3, 16, 12))
    assert [module.training for module in model.modules()] == flags
    assert all((array == state[name]).all() for name, array in model.state_dict().items())
    assert (cr.random.uniform((4,)).numpy() == expected).all()
    assert all("forward" not in vars(module) for module in model.modules())


def test_summary_leaves_flags_as_they_were_when_the_input_does_not_fit() -> None:
    model = small()
    with pytest.raises(cr.UserError, match=r"layer 0 \(Conv2d\) got shape \(2, 1, 16, 12\) with 1 channels"):
        model.summary((2, 1, 16, 12))
    assert all(module.training and "forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(6, 8, 3, padding=1), (2, 6, 5, 4), 2 * 5 * 4 * 8 * 6 * 9),
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), (2, 6, 5, 4), 2 * 5 * 4 * 6 * 9),
        (nn.Conv2d(6, 4, (1, 3), stride=2, groups=2), (1, 6, 5, 7), 3 * 3 * 4 * 3 * 3),
        (nn.Conv1d(3, 5, 4), (2, 3, 9), 2 * 6 * 5 * 3 * 4),
        (nn.Conv3d(4, 6, (2, 3, 1), stride=(1, 2, 1), groups=2), (2, 4, 3, 5, 2), 2 * 2 * 2 * 2 * 6 * 2 * 6),
        (nn.ConvTranspose2d(3, 4, 2, stride=2), (1, 3, 5, 5), 5 * 5 * 3 * 4 * 4),
        (nn.Linear(7, 3), (4, 7), 4 * 7 * 3),
        (nn.Linear(7, 3), (4, 5, 7), 4 * 5 * 7 * 3),
        (nn.AvgPool2d(2), (1, 3, 4, 4), 0),
    ],
)
def test_multiply_adds_follow_their_formula(layer: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    found = layer.summary(shape)
    assert found.multiply_adds == expected
    assert [row.multiply_adds for row in found.rows] == [expected]


def test_a_layer_that_runs_twice_has_one_row_with_the_work_of_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            return self.conv(self.conv(x))

    (row,) = Twice().summary((1, 2, 8, 8)).rows
    assert (row.parameters, row.multiply_adds, row.receptive_field) == (38, 2 * 64 * 2 * 18, (5, 5))


# ---- receptive fields, measured


def measured(model: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """The extent of the rows, and of the columns, of the image that change the unit in the middle."""
    for parameter in model.parameters():  # positive, so that no change is lost in a ReLU
        parameter.assign(np.abs(parameter.numpy()) + 0.1)
    found = []
    for axis in (0, 1):
        images = np.ones((size[axis] + 1, 1, *size), np.float32)
        for line in range(size[axis]):
            np.moveaxis(images, 2 + axis, 1)[line + 1, line] += 50  # image line + 1 has a bright row (column) there
        output = model(cr.tensor(images)).numpy()
        middle = output[:, 0, output.shape[2] // 2, output.shape[3] // 2]
        lines = np.flatnonzero(middle[1:] != middle[0])
        found.append(int(lines[-1] - lines[0] + 1))
    return found[0], found[1]


STACKS: dict[str, Any] = {
    "one": lambda: [nn.Conv2d(1, 2, 3)],
    "strided": lambda: [nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Conv2d(2, 2, 3, stride=2), nn.Conv2d(2, 1, 3)],
    "dilated": lambda: [nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, dilation=2), nn.Conv2d(2, 1, 3, dilation=4)],
    "strided and dilated": lambda: [
        nn.Conv2d(1, 2, (5, 3), stride=(2, 1), padding=1),
        nn.ReLU(),
        nn.Conv2d(2, 2, 3, dilation=(1, 3)),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(2, 1, (2, 3)),
    ],
    "pooled": lambda: [nn.Conv2d(1, 1, 3), nn.MaxPool2d(2), nn.Conv2d(1, 1, 3), nn.AvgPool2d(2), nn.Conv2d(1, 1, 2)],
    "pooled with dilation": lambda: [nn.MaxPool2d(3, stride=1, dilation=2), nn.Conv2d(1, 1, 3, stride=3)],
    "depthwise": lambda: [nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 5, stride=2, groups=4), nn.Conv2d(4, 1, 1), nn.AvgPool2d(3, 1)],
    "adaptive pooling": lambda: [nn.Conv2d(1, 1, 3, padding=1), nn.AdaptiveAvgPool2d((4, 8))],
}


@pytest.mark.parametrize("name", STACKS)
def test_receptive_fields_are_what_a_measurement_finds(name: str) -> None:
    size = (40, 48)
    model = nn.Sequential(*STACKS[name]())
    for depth in range(1, len(model) + 1):
        assert model[:depth].summary((1, 1, *size)).rows[-1].receptive_field == measured(model[:depth], size), f"depth {depth}"


def test_a_receptive_field_behind_a_transposed_convolution_is_at_least_what_a_measurement_finds() -> None:
    layers = [
        nn.Conv2d(1, 1, 3),
        nn.ConvTranspose2d(1, 1, 3, stride=2),
        nn.Conv2d(1, 1, 3),
        nn.ConvTranspose2d(1, 1, 2, stride=2),
    ]
    model, size = nn.Sequential(*layers), (20, 24)
    for depth in range(1, len(model) + 1):
        found, real = model[:depth].summary((1, 1, *size)).rows[-1].receptive_field, measured(model[:depth], size)
        assert found is not None
        assert real[0] <= found[0] <= 2 * real[0]
        assert real[1] <= found[1] <= 2 * real[1]


def test_the_receptive_field_through_branches_is_that_of_the_widest() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.Conv2d(1, 1, 3, padding=1))
            self.last = nn.ReLU()

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            return self.last(x + self.conv(x))

    model = Residual()
    assert model.summary((1, 1, 20, 20)).rows[-1].receptive_field == (5, 5) == measured(model, (20, 20))


def test_a_receptive_field_is_never_larger_than_the_image() -> None:
    model = nn.Sequential(*(nn.Conv2d(1, 1, 5, padding=2) for _ in range(5)))
    assert [row.receptive_field for row in model.summary((1, 1, 9, 12)).rows] == [(5, 5), (9, 9), (9, 12), (9, 12), (9, 12)]
