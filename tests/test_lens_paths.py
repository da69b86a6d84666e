"""From one weight or pixel to the loss: shares at each cut, the strongest path, and the sum over all paths."""

from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, nn
from chainrule.data import mnist
from chainrule.grad import local_row, pushed_forward
from chainrule.graph import Node
from chainrule.lens import Row
from chainrule.lens.tracing import Pass, Tracer
from chainrule.lens.tracing.paths import paths, sensitivities
from chainrule.ops import Primitive
from chainrule.train import TrainedModel, shipped_model

F = nn.functional


def pass_of(model: nn.Module, shape: tuple[int, int, int], dtype: str = "float64") -> Pass:
    facts = {
        "classes": ["0", "1", "2"],
        "image_shape": list(shape),
        "mean": [0.25] * shape[0],
        "std": [0.5] * shape[0],
        "dtype": dtype,
    }
    tracer = Tracer(TrainedModel(model.astype(dtype), facts, "the network of the test"))
    return tracer.trace(np.random.default_rng(0).random(shape), 1)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Linear(4, 3)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        one = F.relu(self.norm(self.first(x)))
        return self.last(self.pool(F.tanh(self.second(one)) * one + one).mean(axis=(2, 3)))


@pytest.fixture(scope="module")
def mlp() -> Pass:
    cr.manual_seed(3)
    layers = nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)
    return pass_of(nn.Sequential(*layers), (1, 2, 2))


@pytest.fixture(scope="module")
def residual() -> Pass:
    cr.manual_seed(0)
    return pass_of(Residual(), (2, 4, 4))


@pytest.fixture(scope="module")
def lenet() -> Pass:
    return Tracer(shipped_model()).trace(mnist("test")[0][0], 7)


Step = tuple[Node, tuple[int, ...]]


def all_paths(found: Pass, node: Node, unit: tuple[int, ...]) -> list[tuple[float, list[Step]]]:
    """Every path of a unit to the loss, edge by edge from rows of Jacobians, with the product of its local gradients."""
    if node is found.graph.nodes[-1]:
        return [(1.0, [(node, unit)])]
    every = []
    for user in dict.fromkeys(found.consumers[node]):
        if not user.requires_grad or not isinstance(user.operation, Primitive):
            continue
        for position, one in enumerate(user.inputs):
            if one is not node:
                continue
            for place in np.ndindex(user.shape):
                local = float(local_row(user, position, place)[unit])
                if local:
                    every += [(local * rest, [(node, unit), *steps]) for rest, steps in all_paths(found, user, place)]
    return every


def steepest(row: Row) -> tuple[int, ...]:
    """The element with the largest gradient."""
    assert row.upstream is not None
    return tuple(map(int, np.unravel_index(np.abs(row.upstream).argmax(), row.upstream.shape)))


@pytest.mark.parametrize(("name", "least"), [("1.weight", 5), ("1.bias", 5), ("3.weight", 3), ("5.weight", 1), ("image", 15)])
def test_the_sum_over_all_paths_of_an_mlp_is_the_gradient(mlp: Pass, name: str, least: int) -> None:
    row = mlp.source(name)
    unit = steepest(row)
    seen, every = paths(mlp, name, unit), all_paths(mlp, row.node, unit)
    assert len(every) >= least
    assert sum(product for product, _ in every) == pytest.approx(seen.gradient, rel=1e-9)
    assert seen.sum == pytest.approx(seen.gradient, rel=1e-9)
    assert row.upstream is not None
    assert seen.gradient == row.upstream[unit]
    # the strongest path is one of them, and the product of its local gradients is the one that is given
    steps = [(step.node, step.unit) for step in seen.strongest]
    (product,) = [product for product, one in every if one == steps]
    assert seen.product == pytest.approx(product, rel=1e-9)
    # what lights up is what lies on a path
    assert {lit.node for lit in seen.nodes if lit.share > 0} == {node for _, one in every for node, _ in one}


@pytest.mark.parametrize("name", ["mlp", "residual", "lenet"])
def test_at_every_cut_what_passes_adds_up_to_the_gradient(name: str, request: pytest.FixtureRequest) -> None:
    found: Pass = request.getfixturevalue(name)
    weight = next(row for row in found.explanation.rows if row.name.endswith("weight"))
    for row in (weight, found.source("image")):
        unit = steepest(row)
        assert row.upstream is not None
        gradient = float(row.upstream[unit])
        moved = sensitivities(found, row.node, unit)
        cuts = 0
        for last in range(row.index, len(found.graph) - 1):
            crossing = [
                float((moved[edge.input].astype(np.float64) * edge.downstream).sum())
                for user in found.explanation.rows
                if user.index > last
                for edge in user.edges
                if edge.input in moved and found.graph.index[edge.input] <= last
            ]
            assert sum(crossing) == pytest.approx(gradient, rel=1e-3 if name == "lenet" else 1e-9, abs=1e-7)
            cuts += len(crossing) > 1
        assert cuts or name != "residual"


@pytest.mark.parametrize("name", ["0.weight", "image", "7.weight"])
def test_the_strongest_path_of_lenet_is_a_product_of_local_gradients(lenet: Pass, name: str) -> None:
    seen = paths(lenet, name, steepest(lenet.source(name)))
    assert seen.sum == pytest.approx(seen.gradient, rel=1e-3, abs=1e-7)
    assert seen.strongest[0].local is None
    assert seen.strongest[-1].node is lenet.graph.nodes[-1]
    product = 1.0
    for before, step in zip(seen.strongest, seen.strongest[1:], strict=False):
        position = step.node.inputs.index(before.node)
        assert before.node in step.node.inputs
        local = float(local_row(step.node, position, step.unit)[before.unit])
        assert step.local == pytest.approx(local, rel=1e-5)
        assert step.value == lenet.row(lenet.graph.index[step.node]).value[step.unit]
        assert step.formula
        product *= local
    assert seen.product == pytest.approx(product, rel=1e-4)
    assert math.isfinite(seen.product)
    assert seen.product != 0
    kinds = [step.node.operation.name for step in seen.strongest]
    if name != "7.weight":
        assert kinds.count("max_pool2d") == 2
        assert kinds.count("maximum") == 4


def test_greedy_steps_take_the_largest_edge(mlp: Pass) -> None:
    seen = paths(mlp, "1.weight", (0, 0))
    for before, step in zip(seen.strongest, seen.strongest[1:], strict=False):
        best = max(
            abs(float(local_row(user, position, place)[before.unit]) * float(upstream[place]))
            for user in dict.fromkeys(mlp.consumers[before.node])
            for upstream in [mlp.row(mlp.graph.index[user]).upstream]
            if upstream is not None
            for position, one in enumerate(user.inputs)
            if one is before.node
            for place in np.ndindex(user.shape)
        )
        upstream = mlp.row(mlp.graph.index[step.node]).upstream
        assert upstream is not None
        assert step.local is not None
        assert abs(step.local * float(upstream[step.unit])) == pytest.approx(best)


def test_shares_are_sizes_of_what_passes_and_the_brightest_is_1(residual: Pass) -> None:
    seen = paths(residual, "first.weight", (0, 0, 1, 1))
    shares = [lit.share for lit in seen.nodes]
    assert max(shares) == 1
    assert min(shares) >= 0
    assert seen.nodes[0].node.label == "first.weight"
    assert seen.nodes[-1].node is residual.graph.nodes[-1]
    weights = {lit.node.label for lit in seen.nodes if lit.node.is_leaf}
    assert weights == {"first.weight"}


def test_a_weight_behind_a_dead_unit_has_no_path() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 3))
    model[1].bias.assign([-100.0, 0.0])
    seen = paths(pass_of(model, (1, 2, 2)), "1.weight", (0, 0))
    assert (seen.gradient, seen.product, seen.sum) == (0, 0, 0)
    assert seen.strongest[-1].node.operation.name == "add"
    assert all(lit.share == 0 for lit in seen.nodes)


@pytest.mark.parametrize(
    ("name", "index", "message"),
    [
        ("2.weight", (0, 0), "unknown parameter '2.weight'"),
        ("1.weight", (3, 0), r"1.weight is \[3, 4\], and has no element \[3, 0\]: indices go from 0 to 2, 3"),
        ("image", (2, 2), r"image is \[1, 1, 2, 2\], and has no element \[2, 2\]"),
    ],
)
def test_elements_that_are_not_there(mlp: Pass, name: str, index: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        paths(mlp, name, index)


# ---- forwards through a node


def test_a_direction_is_pushed_forward_by_the_jacobian(residual: Pass) -> None:
    rng, count = np.random.default_rng(0), 0
    for row in residual.steps():
        for edge in row.edges:
            direction, upstream = rng.standard_normal(edge.input.shape), rng.standard_normal(row.node.shape)
            moved = pushed_forward(row.node, edge.position, direction)
            assert moved.shape == row.node.shape
            rows = sum(
                (
                    upstream[unit] * (local_row(row.node, edge.position, unit) * direction).sum()
                    for unit in np.ndindex(row.node.shape)
                ),
                start=0.0,
            )
            assert (upstream * moved).sum() == pytest.approx(rows, rel=1e-9, abs=1e-12)
            count += 1
    assert count > 30


def test_what_cannot_be_pushed_forward_is_named(mlp: Pass) -> None:
    with pytest.raises(UserError, match="input has 0 inputs, there is no input 0"):
        pushed_forward(mlp.image, 0, np.zeros((1, 1, 2, 2)))
    loss = mlp.graph.nodes[-1]
    with pytest.raises(UserError, match=r"the direction has the shape \[7\], the input is float64"):
        pushed_forward(loss, 0, np.zeros(7))
