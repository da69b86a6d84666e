"""The graph of one training step with a place for each of its numbers: what ``first_bad_node`` runs node by node.

losses of a batch, or of its parts ──> backprop ──> gradients of all parts added up ──> update
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from chainrule.errors import UserError
from chainrule.grad import backprop
from chainrule.graph import Array, Node, topological_order
from chainrule.graph.dtypes import is_float
from chainrule.ops import add, precision
from chainrule.tensor import Tensor, as_tensor, placeholder, tracing
from chainrule.tensor.backward import refuse_compiled, refuse_outside
from chainrule.tensor.cells import Cell


class Passed(NamedTuple):
    """What backprop did at a node of the forward pass: the gradient that arrived and the one passed to each input."""

    node: Node
    upstream: Node
    downstream: Sequence[Node | None]


@dataclass(eq=False)
class TracedStep:
    """The nodes of a step, in an order in which they can run: forward pass, backward pass, update.

    ``given`` has the numbers of the leaves that have no value: cells and the batch, whose leaves are in ``batch`` by name.
    ``part_of`` tells which part of the batch a node belongs to, counted from 0.
    """

    losses: list[Node] = field(default_factory=list)
    gradients: dict[Node, Node] = field(default_factory=dict)  # by the leaf of the parameter
    written: dict[Cell, Node] = field(default_factory=dict)
    given: dict[Node, Array] = field(default_factory=dict)
    batch: dict[Node, str] = field(default_factory=dict)
    passed: list[Passed] = field(default_factory=list)
    checks: list[tuple[Node, Callable[[Any], None]]] = field(default_factory=list)
    part_of: dict[Node, int] = field(default_factory=dict)
    forward: list[Node] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    backward: int = 0
    """How many of ``nodes`` are of the forward and the backward pass."""


def trace_step(
    loss_of: Callable[..., Any],
    parts: Sequence[Sequence[Any]],
    names: Sequence[str],
    update: Callable[[], None] | None,
    products: str,
    wider: int = 0,
) -> TracedStep:
    """The graph of ``loss_of(*part)`` for each of ``parts``, its gradients and, if given, the ``update`` by them.

    Arrays and tensors of a part become inputs of the graph, called by ``names``. ``products`` is the precision of contractions.
    With ``wider``, each part has so many examples more, whose numbers nobody has: the graph is then for its shapes alone.

    Raises:
        UserError: a loss is no single float, or nothing that it depends on asks for a gradient.
    """
    step, sums = TracedStep(), dict[Cell, Node]()
    with tracing() as trace, precision(products):
        for number, part in enumerate(parts):
            loss = loss_of(*_inputs(step, part, names, wider))
            if not isinstance(loss, Tensor):
                raise UserError(f"first_bad_node: the loss function must return a tensor, got a {type(loss).__name__}")
            node = loss.node
            if not node.requires_grad:
                raise UserError(f"first_bad_node: the loss, {node.type}, depends on no parameter that asks for a gradient")
            below = topological_order([node])
            refuse_compiled("first_bad_node", below)
            refuse_outside("first_bad_node: the loss function", below)
            leaves = {cell: leaf for cell, leaf in trace.reads.items() if leaf.requires_grad}
            found = backprop(node, list(leaves.values()), visit=lambda *seen: step.passed.append(Passed(*seen)))
            new = [one for one in found if one is not None]
            for cell, gradient in zip(leaves, found, strict=True):
                if gradient is not None:
                    sums[cell] = add(sums[cell], gradient) if cell in sums else gradient
            step.losses.append(node)
            for one in _order(chain([node], new)):
                step.part_of.setdefault(one, number)
        step.gradients = {trace.reads[cell]: gradient for cell, gradient in sums.items()}
        if update is not None:
            trace.gradients.update({cell: Tensor(gradient) for cell, gradient in sums.items()})
            update()
        step.written = dict(trace.writes)
    for cell, leaf in trace.reads.items():
        step.given[leaf] = cell.numbers()
    step.checks = trace.checks
    step.forward = _order(step.losses)
    step.backward = len(_order(chain(step.losses, step.gradients.values())))
    step.nodes = _order(chain(step.losses, step.gradients.values(), step.written.values()))
    return step


def _order(outputs: Any) -> list[Node]:
    """What ``outputs`` depend on, as far back as values are not known."""
    order: list[Node] = []
    seen: set[Node] = set()
    for node in topological_order(outputs, follow=lambda one: one.value is None):
        for one in (*node.inputs, node):
            if one not in seen:  # a constant, or the node itself
                seen.add(one)
                order.append(one)
    return order


def _inputs(step: TracedStep, part: Sequence[Any], names: Sequence[str], wider: int) -> list[Any]:
    """The arguments of the loss function, with a placeholder for each array, ``wider`` along the axis of the examples."""
    size = batch_size(part)
    given: list[Any] = []
    for place, value in enumerate(part):
        if not _is_array(value):
            given.append(value)
            continue
        array = as_tensor(value).numpy()
        shape = (size + wider, *array.shape[1:]) if array.shape[:1] == (size,) else array.shape
        stand_in = placeholder(shape, array.dtype, label=names[place] if place < len(names) else f"argument {place + 1}")
        step.batch[stand_in.node] = stand_in.node.label
        step.given[stand_in.node] = array
        given.append(stand_in)
    return given


def batch_size(part: Sequence[Any]) -> int:
    """How many examples a part of a batch has: the first axis of its first array; 0 without one."""
    return next((len(value) for value in part if _is_array(value) and len(value.shape)), 0)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, Cell)


def rows_of(step: TracedStep, wide: TracedStep | None, sizes: Sequence[int]) -> dict[Node, tuple[int, int]]:
    """For each node that has numbers for each example: the axis on which they lie, and how many places of it each takes.

    That axis is the one that is longer in ``wide``, the same step with one example more in each part. Where there is no such
    graph, or it has another structure, it is the first axis of what the batch leads to, if that has the length of the batch.
    """
    found: dict[Node, tuple[int, int]] = {}
    if wide is not None and [node.operation for node in wide.nodes] == [node.operation for node in step.nodes]:
        for node, other in zip(step.nodes, wide.nodes, strict=True):
            size = sizes[step.part_of.get(node, 0)]
            longer = [axis for axis, sides in enumerate(zip(node.shape, other.shape, strict=False)) if sides[0] != sides[1]]
            if len(longer) == 1 and size and node.shape[longer[0]] % size == 0:
                found[node] = longer[0], node.shape[longer[0]] // size
        return found
    led_to = set(step.batch)
    for node in step.nodes[: step.backward]:
        if node in led_to or any(source in led_to for source in node.inputs):
            led_to.add(node)
            if node.ndim and node.shape[0] == sizes[step.part_of.get(node, 0)] and is_float(node.dtype):
                found[node] = 0, 1
    return found
