"""Gradients of several small batches, added up before an update: the numbers of the one large batch, for networks without
statistics of the batch. The three ways to write it, plain and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim

F = nn.functional
IMAGES = np.random.default_rng(0).standard_normal((24, 2, 8, 8)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 5, 24)
STEPS = 4

OPTIMIZERS: dict[str, Callable[[list[cr.Parameter]], optim.Optimizer]] = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.01, amsgrad=True),
    "RAdam": lambda parameters: optim.RAdam(parameters, lr=0.01, betas=(0.9, 0.8)),
}


def network(dtype: str) -> nn.Sequential:
    cr.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)]
    return nn.Sequential(*layers).astype(dtype)


class Training:
    """A network and what it is trained with; each way of a step returns the error of the whole batch."""

    def __init__(self, optimizer: str, dtype: str, parts: int) -> None:
        self.model = network(dtype)
        self.optimizer = OPTIMIZERS[optimizer](list(self.model.parameters()))
        self.ema = optim.EMA(self.model, 0.5)
        self.parts = parts

    def error(self, images: Any, labels: Any) -> cr.Tensor:
        return F.cross_entropy(self.model(images), labels)

    def update(self) -> None:
        optim.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()

    def whole(self, images: Any, labels: Any) -> cr.Tensor:
        loss = self.error(images, labels)
        loss.backward()
        self.update()
        return loss

    def accumulate(self, images: Any, labels: Any) -> cr.Tensor:
        loss = self.error(images, labels) / self.parts
        loss.backward()
        return loss

    def accumulate_and_perhaps_update(self, images: Any, labels: Any, last: bool) -> cr.Tensor:
        loss = self.accumulate(images, labels)
        if last:
            self.update()
        return loss

    def all_parts(self, images: Any, labels: Any) -> cr.Tensor:
        size = len(LABELS) // self.parts
        total: Any = 0
        for part in range(self.parts):
            here = slice(part * size, (part + 1) * size)
            total = total + self.accumulate(images[here], labels[here])
        self.update()
        return total

    def state(self) -> dict[str, np.ndarray]:
        parts = {"model": self.model, "optimizer": self.optimizer, "ema": self.ema}
        return {f"{part}.{name}": array for part, one in parts.items() for name, array in one.state_dict().items()}  # type: ignore[attr-defined]


def run(
    way: str, optimizer: str, dtype: str, parts: int, compiled: bool
) -> tuple[list[float], dict[str, np.ndarray], list[int]]:
    """The errors, the state after all steps, and how often each compiled function was traced."""
    training = Training(optimizer, dtype, parts)
    made: dict[str, Any] = {}

    def call(name: str, *arguments: Any) -> float:
        function = made.setdefault(name, cr.compile(getattr(training, name)) if compiled else getattr(training, name))
        found = function(*arguments)
        return 0.0 if found is None else found.item()

    images, labels = cr.tensor(IMAGES, dtype), cr.tensor(LABELS)
    small = [(images[part], labels[part]) for part in np.split(np.arange(len(LABELS)), parts)]
    errors = []
    for _ in range(STEPS):
        if way in ("whole", "all_parts"):
            errors.append(call(way, images, labels))
        elif way == "accumulate":
            errors.append(sum(call("accumulate", *part) for part in small))
            call("update")
        else:
            errors.append(sum(call(way, *part, number == parts - 1) for number, part in enumerate(small)))
    traced = [one.explain_retrace().count("tracing") for one in made.values()] if compiled else []
    return errors, training.state(), traced


TRACED = {"whole": [1], "all_parts": [1], "accumulate": [2, 1], "accumulate_and_perhaps_update": [3]}
"""How often: accumulating is another program for the first part, which finds no gradients, and so is updating after it."""


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("way", ["all_parts", "accumulate", "accumulate_and_perhaps_update"])
@pytest.mark.parametrize(("optimizer", "parts"), [("SGD", 3), ("Adam", 4), ("RAdam", 6)])
def test_several_small_batches_give_the_numbers_of_the_large_one(optimizer: str, parts: int, way: str, compiled: bool) -> None:
    errors, state, _ = run("whole", optimizer, "float64", 1, compiled=False)
    found, parts_state, traced = run(way, optimizer, "float64", parts, compiled)
    np.testing.assert_allclose(found, errors, rtol=1e-11)
    assert set(parts_state) == set(state)
    for name, expected in state.items():
        np.testing.assert_allclose(parts_state[name], expected, rtol=1e-9, atol=1e-11, err_msg=name)
    assert not compiled or traced == TRACED[way]


@pytest.mark.parametrize("way", ["whole", "all_parts", "accumulate", "accumulate_and_perhaps_update"])
def test_so_they_do_in_float32_to_its_precision(way: str) -> None:
    errors, state, _ = run("whole", "SGD", "float32", 1, compiled=False)
    found, parts_state, _ = run(way, "SGD", "float32", 1 if way == "whole" else 4, compiled=True)
    np.testing.assert_allclose(found, errors, rtol=1e-5)
    for name, expected in state.items():
        np.testing.assert_allclose(parts_state[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_gradients_that_were_added_up_may_be_looked_at_between_the_calls() -> None:
    looked, left = (Training("SGD", "float32", 2) for _ in range(2))
    for training in (looked, left):
        accumulate, update = cr.compile(training.accumulate), cr.compile(training.update)
        for _ in range(3):
            for part in np.split(np.arange(len(LABELS)), 2):
                accumulate(IMAGES[part], LABELS[part])
                if training is looked:
                    assert all(parameter.grad is not None for parameter in training.model.parameters())
            update()
            assert all(parameter.grad is None for parameter in training.model.parameters())
    for name, expected in left.state().items():
        np.testing.assert_array_equal(looked.state()[name], expected, err_msg=name)
