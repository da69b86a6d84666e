"""``backward()`` outside compiled functions: large graphs as one program, held against backprop node by node."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops, optim
from chainrule.recent import Recent
from chainrule.tensor import backward
from systems import needs

F = nn.functional


@pytest.fixture(autouse=True)
def _from_the_smallest(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every graph is worth a program."""
    monkeypatch.setattr(backward, "_WORTH_A_PROGRAM", 0)
    backward._programs.clear()
    yield
    backward._programs.clear()


def _random(*shape: int, seed: int = 0, **options: bool) -> cr.Tensor:
    return cr.tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), **options)


def _gradients(
    make: Callable[[], tuple[cr.Tensor, list[cr.Tensor]]], upstream: np.ndarray | None = None
) -> list[np.ndarray | None]:
    error, wanted = make()
    error.backward(upstream)
    return [None if one.grad is None else one.grad.numpy() for one in wanted]


def _same_as_node_by_node(make: Callable[[], tuple[cr.Tensor, list[cr.Tensor]]], upstream: np.ndarray | None = None) -> None:
    """Twice, so that the program is used again."""
    with cr.engine("reference"):
        expected = _gradients(make, upstream)
    for _ in range(2):
        found = _gradients(make, upstream)
        assert len(backward._programs) == 1
        for mine, theirs in zip(found, expected, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is None or theirs is None:
                continue
            scale = max(float(np.abs(theirs).max(initial=0)), 1e-30)
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5 * scale)


def _model_case(model: nn.Module, shape: tuple[int, ...], classes: int) -> Callable[[], tuple[cr.Tensor, list[cr.Tensor]]]:
    x, labels = _random(*shape), cr.tensor(np.arange(shape[0]) % classes)

    def make() -> tuple[cr.Tensor, list[cr.Tensor]]:
        for one in model.parameters():
            one.grad = None
        return F.cross_entropy(model(x), labels), list(model.parameters())

    return make


def test_perceptron() -> None:
    _same_as_node_by_node(_model_case(nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), (4, 5), 3))


def test_convolutions_with_normalisation_and_pooling() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 5, 3, groups=5),
        nn.SiLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(5, 3),
    )
    _same_as_node_by_node(_model_case(model, (3, 2, 9, 9), 3))


def test_values_that_lie_transposed_repeated_and_in_part() -> None:
    def make() -> tuple[cr.Tensor, list[cr.Tensor]]:
        x, y = _random(6, 4, requires_grad=True), _random(4, seed=1, requires_grad=True)
        return ((x.T[:, ::2] * y.broadcast_to((3, 4)).T).exp() * x.flip(1)[1:4].T).sum(), [x, y]

    _same_as_node_by_node(make)


def test_one_gradient_for_two_and_gradients_that_are_constants_or_inputs() -> None:
    def make() -> tuple[cr.Tensor, list[cr.Tensor]]:
        x, y, z = (_random(3, 2, seed=seed, requires_grad=True) for seed in range(3))
        return (x + y).sum() + (z.T * 1.0).sum(), [x, y, z]

    _same_as_node_by_node(make)


def test_upstream_gradient_in_any_order_of_axes() -> None:
    def make() -> tuple[cr.Tensor, list[cr.Tensor]]:
        x = _random(3, 4, requires_grad=True)
        return x * x, [x]

    upstream = np.arange(12, dtype=np.float32).reshape(4, 3).T
    _same_as_node_by_node(make, upstream)
    assert len(backward._programs) == 1
    _gradients(make, np.ascontiguousarray(upstream))
    assert len(backward._programs) == 2  # it lies otherwise


@pytest.mark.parametrize("upstream", ["a leaf of the graph", "a constant of the graph", "of the same leaf", "the output"])
def test_the_upstream_gradient_may_be_part_of_the_graph(upstream: str) -> None:
    def gradients() -> list[np.ndarray | None]:
        x, w = _random(5, requires_grad=True), _random(5, seed=1)
        y = x.exp() * x if upstream != "a constant of the graph" else x * w
        given = {"a leaf of the graph": x, "a constant of the graph": w, "of the same leaf": (x * 2.0).exp(), "the output": y}
        y.backward(given[upstream])
        return [None if x.grad is None else x.grad.numpy()]

    with cr.engine("reference"):
        (expected,) = gradients()
    (found,) = gradients()
    assert expected is not None
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_history_of_everything_has_every_node_of_the_gradient() -> None:
    with ops.history("everything"):
        x = _random(3, requires_grad=True)
        (x * x).sum().backward()
    assert len(backward._programs) == 0


def test_a_tensor_that_leaked_from_a_trace_is_refused_in_words() -> None:
    leaked = []

    @cr.compile
    def step(x: cr.Tensor) -> cr.Tensor:
        leaked.append(x * x)
        return leaked[-1].sum()

    with pytest.warns(UserWarning, match="step changes the variable leaked of the enclosing function"):
        step(_random(3, requires_grad=True))
    with pytest.raises(cr.UserError, match=r"was traced at .* and has no value"):
        leaked[-1].backward(np.ones(3, np.float32))


@needs("fork")
def test_several_threads_and_a_copy_of_the_process_may_go_backward() -> None:
    program = """
import os, sys, threading
import numpy as np
import chainrule as cr
from chainrule.tensor import backward
backward._WORTH_A_PROGRAM = 0
x = np.ones((400, 400), np.float32)

def gradient():
    t = cr.tensor(x, requires_grad=True)
    (t.exp() * t).sum().backward()
    return float(t.grad.numpy()[0, 0])

expected, stop = gradient(), False

def work():
    while not stop:
        assert abs(gradient() - expected) < 1e-5

threads = [threading.Thread(target=work) for _ in range(2)]
for one in threads:
    one.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if abs(gradient() - expected) < 1e-5 else 1)
    assert os.waitpid(child, 0)[1] == 0
stop = True
for one in threads:
    one.join()
print("fine")
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_what_no_gradient_reaches_has_none() -> None:
    x, y = _random(3, requires_grad=True), _random(3, requires_grad=True)
    (x * x + y.detach()).sum().backward()
    assert x.grad is not None
    assert y.grad is None


def test_gradients_add_up_over_calls() -> None:
    x = _random(3, requires_grad=True)
    for _ in range(2):
        (x * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 4 * x.numpy(), rtol=1e-6)


def test_gradients_of_gradients_stay_nodes() -> None:
    x = cr.tensor([2.0], requires_grad=True)
    (x**3).sum().backward(create_graph=True)
    assert x.grad is not None
    assert x.grad.requires_grad
    assert len(backward._programs) == 0


def test_the_reference_engine_is_left_alone() -> None:
    with cr.engine("reference"):
        x = _random(3, requires_grad=True)
        (x * x).sum().backward()
    assert len(backward._programs) == 0


def test_a_graph_of_another_structure_is_another_program() -> None:
    def step(scale: float, power: float) -> np.ndarray:
        x = _random(5, requires_grad=True)
        ((x * scale) ** power).sum().backward()
        return x.grad.numpy()

    np.testing.assert_allclose(step(2.0, 2.0), 8 * _random(5).numpy(), rtol=1e-6)
    np.testing.assert_allclose(step(3.0, 2.0), 18 * _random(5).numpy(), rtol=1e-6)  # numbers are inputs
    assert len(backward._programs) == 1
    np.testing.assert_allclose(step(1.0, 3.0), 3 * _random(5).numpy() ** 2, rtol=1e-6)  # attributes are not
    assert len(backward._programs) == 2


def test_small_graphs_run_node_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward, "_WORTH_A_PROGRAM", 1 << 20)
    x = _random(5, requires_grad=True)
    (x * x).sum().backward()
    assert len(backward._programs) == 0


def test_programs_are_bounded_and_keep_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward, "_programs", Recent(3))
    gone = []
    for size in range(1, 8):
        x = _random(size, requires_grad=True)
        error = (x * x).sum()
        error.backward()
        gone.append(weakref.ref(error.node))
        del error, x
    assert len(backward._programs) == 3
    gc.collect()
    assert not any(one() for one in gone)


def test_a_training_step_node_by_node_and_compiled_agree() -> None:
    def train(compiled: bool) -> list[float]:
        cr.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        x, labels = _random(8, 1, 8, 8), cr.tensor(np.arange(8))

        def step() -> cr.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        run = cr.compile(step) if compiled else step
        return [run().item() for _ in range(6)]

    np.testing.assert_allclose(train(False), train(True), rtol=1e-4)
