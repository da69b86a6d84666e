"""What a step does not train, and why: no way for a gradient, gradients of 0, no optimizer; and what is computed in vain."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim, train
from chainrule.nn import functional as F
from chainrule.tensor import Tensor
from chainrule.train import Finding, Findings

RNG = np.random.default_rng(0)
X = RNG.standard_normal((16, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 16)
RANKS = np.arange(5, dtype=np.float32)


class Net(nn.Module):
    """Two layers, with ``between`` what is done to the hidden values."""

    def __init__(self, between: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        cr.manual_seed(0)
        self.first, self.last, self.between = nn.Linear(6, 5), nn.Linear(5, 3), between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)))


def untrained(model: nn.Module, **options: Any) -> Findings:
    return train.untrained(lambda x, y: F.cross_entropy(model(x), y), X, Y, model=model, **options)


def only(findings: Findings) -> Finding:
    (found,) = findings
    return found


@pytest.mark.parametrize("between", [F.relu, F.leaky_relu, Tensor.sigmoid, Tensor.abs, lambda h: h + h.detach(), F.dropout])
def test_nothing_is_said_of_what_is_trained(between: Any) -> None:
    model = Net(between)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    assert str(untrained(model, optimizer=optimizer)) == "nothing looks wrong"
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    assert untrained(model, optimizer=optimizer) == Findings()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("between", "way"),
    [
        (Tensor.detach, "detach(), which passes none (it was asked to)"),
        (lambda h: (h > 0).astype("float32"), "a comparison, which passes none (true and false have no slope)"),
        (Tensor.round, "round, which passes none (its slope is 0 wherever it has one)"),
        (lambda h: h.sign(), "sign, which passes none (its slope is 0 wherever it has one)"),
        (lambda h: h.astype("int32").astype("float32"), "a conversion to int32, which passes none"),
        (lambda h: cr.tensor(RANKS) + h.argmax(1).astype("float32").reshape(16, 1), "argmax, which passes none"),
    ],
)
def test_the_operation_that_passes_no_gradient_is_named(between: Any, way: str) -> None:
    found = only(untrained(Net(between)))
    assert (found.name, found.place) == ("behind-blocker", "first.weight, first.bias")
    assert found.what.startswith(f"no gradient: the way from the loss leads through {way}")
    assert "(at layer Net (test_untrained.py:" in found.what
    assert found.remedy == "leave that out, or freeze what lies behind it"


def test_no_grad_is_named() -> None:
    def between(h: Tensor) -> Tensor:
        with cr.no_grad():
            return h * 2

    assert "leads through a computation under no_grad(), which passes none" in only(untrained(Net(between))).what


def test_a_parameter_with_two_ways_is_trained_by_the_one_that_is_open() -> None:
    assert untrained(Net(lambda h: h.detach() * h.round() + h * 0.1)) == Findings()


def test_layers_that_are_not_called_and_results_that_lead_nowhere() -> None:
    model = Net()
    model.extra = nn.Linear(2, 2)
    found = only(untrained(model))
    assert (found.name, found.place) == ("no-path-to-loss", "extra.weight, extra.bias")
    assert found.what == "no gradient: not read in this step"
    model.between = nn.Sequential(nn.ReLU())
    model.extra = nn.Linear(5, 5)

    def in_vain(module: nn.Module, inputs: Any, output: Tensor) -> None:
        model.extra(output)

    model.between.register_forward_hook(in_vain)
    found = untrained(model)
    assert found.names == ("no-path-to-loss", "never-used")
    assert found[0].what.startswith("no gradient: no result leads to the loss (at layer extra, Linear (test_untrained.py:")
    assert found[1].place.startswith("layer extra, Linear (test_untrained.py:")
    assert found[1].what == "the result of add, float32[16, 5], is computed and never used"


def test_what_is_returned_or_assigned_is_used() -> None:
    model, seen = Net(), cr.Buffer(np.zeros((16, 3), np.float32))

    def loss(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores = model(x)
        seen.assign(F.softmax(scores))
        result = F.cross_entropy(scores, y)
        return result, scores.sigmoid()

    assert train.untrained(loss, X, Y, model=model) == Findings()
    assert not seen.numpy().any()


def test_a_frozen_parameter_is_named_and_silenced() -> None:
    model = Net()
    model.first.requires_grad_(False)
    found = only(untrained(model))
    assert (found.name, found.place) == ("frozen", "first.weight, first.bias")
    assert untrained(model, silence="frozen") == Findings()


def test_parameters_that_no_optimizer_holds() -> None:
    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    assert untrained(model, optimizer=optimizer) == Findings()
    model.astype("float32")
    model.last.bias = cr.Parameter(np.zeros(3, np.float32))
    found = only(untrained(model, optimizer=[optimizer]))
    assert (found.name, found.place) == ("not-in-optimizer", "first.weight, first.bias, last.weight and 1 more")
    assert found.remedy == "pass model.parameters() to the optimizer"


# ---- gradients of 0


def test_dead_units_are_named_with_what_they_get() -> None:
    model = Net()
    model.first.bias.assign(np.full(5, -100))
    first, last = untrained(model)
    assert (first.name, first.place) == ("zero-gradient", "first.weight, first.bias")
    dead = (
        r"all units at layer Net \(test_untrained.py:\d+\) are dead: maximum gives 0 for every example, as its inputs go from "
    )
    without = r"-10\d to -9[\d.]+; without first.bias, -100, they would go from -\d\.\d+ to \d\.\d+"
    assert re.fullmatch(f"the gradient is 0 in every element: {dead}{without}", first.what)
    assert (last.name, last.place) == ("zero-gradient", "last.weight")
    assert re.fullmatch(f".*: what it is multiplied by is 0 for every example: {dead}{without}", last.what)
    assert first.remedy == last.remedy
    assert last.remedy == "begin with first.bias at 0, or take a smaller learning rate if it came to be so by learning"


def test_units_that_are_dead_without_a_bias_to_blame() -> None:
    model = Net()
    model.first.weight.assign(-np.abs(model.first.weight.numpy()))
    first, _ = train.untrained(lambda x, y: F.cross_entropy(model(x), y), np.abs(X) + 5, Y, model=model)
    assert "are dead: maximum gives 0 for every example" in first.what
    assert "without" not in first.what
    assert first.remedy.endswith("LeakyReLU for ReLU")


@pytest.mark.parametrize("way", ["plain", "compiled", "cleared"])
def test_gradients_that_a_step_left_are_believed(way: str) -> None:
    model = Net()
    model.first.bias.assign(np.full(5, -100))
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = cr.compile(step) if way == "compiled" else step  # type: ignore[assignment]
    step(X, Y)
    if way == "cleared":
        optimizer.zero_grad()
    found = train.untrained(step, X, Y, model=model, optimizer=optimizer)
    assert found.names == ("zero-gradient", "zero-gradient")
    assert all((parameter.grad is None) is (way == "cleared") for parameter in model.parameters())


def test_saturated_units_are_named() -> None:
    model = Net(Tensor.tanh)
    model.first.bias.assign(np.full(5, 100))
    found = only(untrained(model))
    assert (found.name, found.place) == ("zero-gradient", "first.weight, first.bias")
    assert "tanh of inputs from 9" in found.what


def test_weights_of_0_are_a_cause_only_where_they_stay_0() -> None:
    model = Net()
    model.last.weight.assign(np.zeros((3, 5)))
    assert untrained(model) == Findings(), "they get a gradient, and change in the first step"
    found = only(untrained(Net(lambda h: h * 0.0 + 1.0)))
    assert (found.name, found.place) == ("zero-gradient", "first.weight, first.bias")
    assert "it is multiplied by a constant 0 (at layer Net (test_untrained.py:" in found.what
    model = Net(lambda h: F.relu(h - 1e6))
    model.last.weight.assign(np.zeros((3, 5)))
    assert any("all of last.weight behind it are 0, and stay so" in one.what for one in untrained(model))
