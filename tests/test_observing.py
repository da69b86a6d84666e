"""Observed values: they are what NumPy says, and looking at them changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops
from chainrule.compiler.nest import Nest
from chainrule.compiler.pipeline import compiled
from chainrule.cpu import interface
from chainrule.cpu.codegen.target import host_target
from chainrule.cpu.planner import ALL_PASSES, Planning
from chainrule.grad import backprop
from chainrule.graph import Graph, Node, Observed
from chainrule.models import MODELS, build
from chainrule.tensor.engines import engine
from chainrule.tensor.observing import ObservedFunction
from chainrule.tensor.tracing import Trace

DOUBLE = np.dtype(np.float64)


def squares(node: Node) -> Node:
    """The sum of squares of all elements, in float64."""
    wide = ops.cast(node, dtype=DOUBLE)
    return ops.sum_(ops.multiply(wide, wide), axes=tuple(range(node.ndim)))


def channel_sums(node: Node) -> Node:
    """The sum over everything but the channels."""
    return ops.sum_(node, axes=tuple(axis for axis in range(node.ndim) if axis != 1))


def of_every_node(trace: Trace) -> list[Observed]:
    """Three values of each node that a gradient passes: of itself, of its gradient, and of its channels."""
    observed = []
    for node, upstream in trace.upstream.items():
        if node.ndim > 1 and not node.is_leaf:
            observed += [Observed(squares(node), 2), Observed(squares(upstream), 2), Observed(channel_sums(node), 1)]
    return observed


class Small(nn.Module):
    """Two convolutions with batch normalisation, dropout, a pooling, a residual and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.conv2, self.dropout = nn.Conv2d(5, 5, 3, padding=1), nn.Dropout(0.25)
        self.fc = nn.Linear(5 * 4 * 4, 3)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        """Images (N, 3, 8, 8) -> scores (N, 3)."""
        x = nn.functional.relu(self.norm(self.conv1(x)))
        x = nn.functional.relu(x + self.dropout(self.conv2(x)))
        return self.fc(nn.functional.max_pool2d(x, 2).flatten(1))


def training(make: Callable[[], nn.Module]) -> tuple[nn.Module, Callable[..., cr.Tensor]]:
    """A model and a step that trains it."""
    cr.manual_seed(3)
    model = make().train()
    optimizer = cr.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(images: Any, labels: Any) -> cr.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def batches(count: int, size: int = 6, shape: tuple[int, ...] = (3, 8, 8), classes: int = 3) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(1)
    return [
        (rng.normal(size=(size, *shape)).astype(np.float32), rng.integers(0, classes, size).astype(np.int64))
        for _ in range(count)
    ]


def state(model: nn.Module) -> list[bytes]:
    return [np.asarray(value).tobytes() for value in model.state_dict().values()]


def test_looking_changes_no_bit() -> None:
    states = []
    for details in ([0], [1], [2], [0, 2, 1, 0, 2]):
        model, step = training(Small)
        observed = ObservedFunction(step, of_every_node)
        for number, batch in enumerate([*batches(15), *batches(5, 4)]):
            observed.look(details[number % len(details)])
            observed(*batch)
        states.append(state(model))
    model, step = training(Small)
    compiled = cr.compile(step)
    for batch in [*batches(15), *batches(5, 4)]:
        compiled(*batch)
    assert all(one == state(model) for one in states)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_observed_values_are_those_of_the_plain_function(size: int) -> None:
    """Node by node in NumPy, with the weights from before the step."""
    images, labels = batches(1, size)[0]
    model, step = training(Small)
    cr.manual_seed(3)
    names: list[tuple[str, str, str]] = []

    def observer(trace: Trace) -> list[Observed]:
        names[:] = [
            (node.origin.module, node.operation.name, kind)
            for node in trace.upstream
            if node.ndim > 1 and not node.is_leaf
            for kind in ("squares", "gradient", "channels")
        ]
        return of_every_node(trace)

    cells = {cell: cell.numpy() for cell in (*model.parameters(), *model.buffers())}
    observed = ObservedFunction(step, observer)
    observed.look(2)
    observed(images, labels)
    got = [np.array(value) for value in observed.observations()]
    cr.manual_seed(3)
    for cell, value in cells.items():
        cell.assign(value)
    upstream: dict[Node, Node] = {}
    with engine("reference"), ops.history("everything"):
        loss = nn.functional.cross_entropy(model(images), labels).node
        parameters = [parameter.node for parameter in model.parameters()]
        backprop(loss, parameters, visit=lambda node, gradient, _: upstream.update({node: gradient}))
    expected: list[Any] = []
    for node, gradient in upstream.items():
        if node.ndim > 1 and not node.is_leaf:
            value = np.asarray(node.value, np.float64)
            axes = tuple(axis for axis in range(value.ndim) if axis != 1)
            squared = (np.asarray(gradient.value, np.float64) ** 2).sum()
            expected += [((value**2).sum(),) * 2, (squared, squared), (value.sum(axes), np.abs(value).sum(axes))]
    assert len(got) == len(expected) == len(names) > 60
    for name, mine, (theirs, magnitude) in zip(names, got, expected, strict=True):
        assert (np.abs(mine - theirs) <= 2e-5 * magnitude + 1e-12).all(), name


# ---- how it is planned


class _SeenError(Exception):
    """Ends a compilation where its graph is known."""


def planned(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Planning, Planning]:
    """The plan of a training step of a model with three values observed of every node, and that without any."""
    entry = MODELS[name]
    side = 32 if entry.least <= 32 else entry.least
    _, step = training(lambda: build(name, entry.image[0], 4, (side, side)))
    seen: list[Any] = []

    def compile_graph(graph: Graph, state: Sequence[tuple[Node, int]], *_: Any) -> Any:
        seen.extend((graph, state))
        raise _SeenError

    monkeypatch.setattr(interface, "compile_graph", compile_graph)
    with pytest.raises(_SeenError):
        ObservedFunction(step, of_every_node)(*batches(1, 3, (entry.image[0], side, side), 4)[0])
    plans = []
    for graph in (seen[0], Graph(*seen[0].outputs)):
        plans.append(Planning(graph=graph, state=seen[1], target=host_target(), lent_memory=False))
        compiled(plans[-1], ALL_PASSES)
    return plans[0], plans[1]


def what_outputs_need(plan: Planning) -> list[Any]:
    """Stage by stage: its units, and for each call its loops or operation, and what its operands are."""
    rows = []
    for stage in plan.stages:
        calls = [
            (
                call.origin,
                call.make.args[0] if isinstance(call.make.args[0], Nest) else call.make.args[0].units,  # type: ignore[attr-defined]
                [(buffer.label, buffer.elements, buffer.dtype, byte) for buffer, byte in call.operands],
            )
            for call in stage.calls
            if not call.detail
        ]
        if calls and rows and rows[-1][0] == stage.units == 1:  # a stage of a single unit may be divided
            rows[-1][1].extend(calls)
        elif calls:
            rows.append((stage.units, calls))
    return rows


@pytest.mark.parametrize("name", ["lenet", "vgg_small", "resnet20", "mobilenet_v3_small", "googlenet", "convnext_tiny"])
def test_the_program_is_the_same_but_for_what_observes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    observed, plain = planned(name, monkeypatch)
    assert what_outputs_need(observed) == what_outputs_need(plain)
    assert len(observed.lost) <= len(observed.graph.observed) / 100, "a few that only lie between what is computed"
    details = [[call.detail for call in stage.calls] for stage in observed.stages]
    assert all(row == sorted(row) for row in details)
    assert {1, 2} <= {detail for row in details for detail in row}
    written = {buffer for stage in observed.stages for call in stage.calls for buffer in call.writes}
    lowered = observed.lowered
    assert {lowered.places[one.node].buffer for one in observed.graph.observed} <= written | set(lowered.buffers.values())


def test_what_is_overwritten_before_it_could_be_seen_is_nan() -> None:
    """A value that is computed from a parameter's old value together with what is there only after its update."""
    weight = cr.Parameter(np.ones(3, np.float32))
    late = cr.Buffer(np.zeros(3, np.float32))

    def step(x: Any) -> cr.Tensor:
        old = weight * 2.0
        weight.assign(weight + x)
        late.assign(weight.sum() + x)
        return old.sum() * late.sum()

    def observer(trace: Trace) -> list[Observed]:
        old, new = trace.old_value(weight), trace.writes[late]
        product = ops.multiply(old, new)
        return [Observed(ops.sum_(product, axes=(0,)), 1), Observed(ops.sum_(new, axes=(0,)), 1)]

    observed = ObservedFunction(step, observer)
    observed.look(1)
    observed(np.array([1.0, 2.0, 3.0], np.float32))
    lost, kept = observed.observations()
    assert kept == 33.0
    assert np.isnan(lost) or lost == 33.0


def test_a_function_that_was_not_called_has_no_observations() -> None:
    _, step = training(Small)
    assert ObservedFunction(step, of_every_node).observations() == []


def test_the_profile_has_what_observes_too() -> None:
    _, step = training(Small)
    observed = ObservedFunction(step, of_every_node)
    batch = batches(1)[0]
    first = observed(*batch).item()
    profile = observed.program.profile(2)
    assert len(profile.kernels) == sum(len(stage) for stage in observed.program._recipe.stages)  # type: ignore[attr-defined]
    assert observed(*batch).item() < first, "and runs go on without"
