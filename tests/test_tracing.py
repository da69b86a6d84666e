"""Tracing: a whole training step as a graph, which changes nothing and, when it is run, does what the plain step does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import UserError
from chainrule.graph import Array, Graph, Node, check
from chainrule.ops import Primitive, run_reference
from chainrule.tensor import Cell, Tensor, placeholder, trace, tracing
from chainrule.tensor.random import default_generator


def model() -> nn.Sequential:
    cr.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(64, 5),
    )


def step(network: nn.Module, optimizer: optim.Optimizer, images: Tensor, labels: Tensor) -> Tensor:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    return loss


def run(outputs: list[Node], values: dict[Node, Array]) -> list[Array]:
    """The reference engine, walking a traced graph."""
    graph = Graph(*outputs)
    check(graph)
    for node in graph.nodes:
        if node in values or node.value is not None:
            values.setdefault(node, node.value)  # type: ignore[arg-type]
            continue
        assert isinstance(node.operation, Primitive), f"{node} has no value to begin from"
        inputs = [values[one] for one in node.inputs]
        values[node] = run_reference(node.operation, inputs, node.attributes, node.type)
    return [values[node] for node in outputs]


OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "sgd": lambda network: optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adamw": lambda network: optim.AdamW(network.parameters(), lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_traced_step_run_node_by_node_is_the_plain_step(name: str) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((6, 1, 8, 8)).astype(np.float32), rng.integers(0, 5, 6)
    network = model()
    optimizer = OPTIMIZERS[name](network)
    step(network, optimizer, cr.tensor(images), cr.tensor(labels))  # state that is not at its start

    cells: list[Cell] = [*network.parameters(), *network.buffers(), default_generator.state]
    before = [cell.numpy().copy() for cell in cells]
    gradients = [one.grad for one in network.parameters()]
    with tracing() as noted:
        image_input, label_input = placeholder(images.shape), placeholder(labels.shape, "int64")
        loss = step(network, optimizer, image_input, label_input)
    for cell, value in zip(cells, before, strict=True):
        np.testing.assert_array_equal(cell.numpy(), value)
    assert all(one.grad is gradient for one, gradient in zip(network.parameters(), gradients, strict=True))

    written = list(noted.writes)
    values = {node: cell.numpy() for cell, node in noted.reads.items()}
    values |= {image_input.node: images, label_input.node: labels}
    found_loss, *found = run([loss.node, *noted.writes.values()], values)

    plain_loss = step(network, optimizer, cr.tensor(images), cr.tensor(labels))
    np.testing.assert_array_equal(found_loss, plain_loss.numpy())
    assert set(cells) <= set(written), "every parameter, buffer and the random counter is assigned"
    for cell, value in zip(written, found, strict=True):
        np.testing.assert_array_equal(value, cell.numpy(), err_msg=cell.name)
    traced_gradients = [noted.gradients[one] for one in network.parameters()]
    assert all(gradient is not None for gradient in traced_gradients)


def test_cells_read_their_own_assignments_while_tracing() -> None:
    cell = cr.Buffer([1.0, 2.0])
    with tracing() as noted:
        cell.assign(cell + 1)
        doubled = cell * 2
    assert noted.writes[cell] in Graph(doubled.node).nodes
    np.testing.assert_array_equal(cell.numpy(), [1, 2])


def test_reading_a_traced_value_names_the_line_and_the_way_out() -> None:
    def f(x: Tensor) -> Tensor:
        return x * 2 if (x.sum() * 3).item() > 0 else x

    with pytest.raises(UserError, match=r"asked for while tracing, at test_tracing.py:\d+: inside a traced function") as caught:
        trace(f, cr.tensor([1.0]))
    assert "choose with where()" in str(caught.value)


def test_a_traced_tensor_cannot_leave_its_function() -> None:
    kept: list[Tensor] = []

    def f(x: Tensor) -> Tensor:
        kept.append(x * 2)
        return x

    trace(f, cr.tensor([1.0]))
    with pytest.raises(UserError, match=r"add: an input was traced at test_tracing.py:\d+ and has no value"):
        kept[0] + 1


def test_an_assignment_cuts_the_history_traced_or_not() -> None:
    def f() -> tuple[cr.Parameter, Tensor]:
        parameter = cr.Parameter([1.0, 2.0])
        parameter.assign(parameter * 2)
        error = (parameter * cr.tensor([1.0, 3.0])).sum()
        error.backward()
        assert parameter.grad is not None
        return parameter, parameter.grad

    _, plain = f()
    with tracing() as noted:
        parameter, gradient = f()
    values = {node: cell.numpy() for cell, node in noted.reads.items()}
    found, value = run([gradient.node, noted.writes[parameter]], values)
    np.testing.assert_array_equal(found, plain.numpy())
    np.testing.assert_array_equal(value, [2, 4])


def test_two_steps_in_one_trace_are_two_plain_steps() -> None:
    def two(network: nn.Module, optimizer: optim.Optimizer, x: Tensor) -> None:
        for _ in range(2):
            optimizer.zero_grad()
            (network(x) ** 2).sum().backward()
            optimizer.step()

    network = nn.Linear(3, 2)
    optimizer = optim.SGD(network.parameters(), lr=0.1, momentum=0.5)
    x = cr.tensor([[1.0, 2.0, 3.0]])
    with tracing() as noted:
        two(network, optimizer, x)
    values = {node: cell.numpy() for cell, node in noted.reads.items()}
    found = run(list(noted.writes.values()), values)
    cells = list(noted.writes)
    two(network, optimizer, x)
    for cell, value in zip(cells, found, strict=True):
        np.testing.assert_array_equal(value, cell.numpy())
