"""The graph of a loss, traced without computing anything, and its values where they are asked for.

What is traced is recorded and not done: parameters, buffers, random numbers and the state of optimizers stay as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.arguments import misfit_of
from chainrule.errors import UserError
from chainrule.graph import Array, Graph, Node, topological_order
from chainrule.graph.dtypes import is_float
from chainrule.optim import Optimizer
from chainrule.tensor import Cell, Tensor, tracing
from chainrule.tensor.calls import Call
from chainrule.tensor.tracing import Trace
from chainrule.tensor.tree import flatten, rebuilt
from chainrule.train.diagnosis.node_by_node import NodeByNode, Range


@dataclass(frozen=True)
class Given:
    """An argument of the traced function: its name, the leaf that stands for it, and its numbers."""

    name: str
    leaf: Node
    numbers: Array


@dataclass(frozen=True, eq=False, repr=False)
class LossTrace:
    """What tracing left: the ``loss``, its ``graph``, the ``inputs``, and what happened to cells (``trace``).

    ``unused`` are the nodes made before the loss that lead to no result, assignment or check.
    """

    loss: Node
    graph: Graph
    inputs: tuple[Given, ...]
    trace: Trace
    unused: tuple[Node, ...]

    @property
    def examples(self) -> int:
        """The size of the first axis of the first argument: of how many examples the batch is; 1 if it has no axes."""
        return next((given.numbers.shape[0] for given in self.inputs if given.numbers.ndim), 1)

    def numbers(self) -> dict[Node, Array]:
        """The numbers that stand in for leaves: those of the batch, and the present ones of cells."""
        cells = {leaf: cell.numbers() for cell, leaf in self.trace.reads.items()}
        return cells | {one.leaf: one.numbers for one in self.inputs}

    def values_of(self, wanted: Sequence[Node]) -> dict[Node, Array]:
        """The values of some nodes, computed with NumPy, node by node."""
        return NodeByNode((), self.numbers()).values_of(wanted, topological_order(wanted))

    def ranges_of(self, wanted: Sequence[Node]) -> dict[Node, Range]:
        """The ranges of numbers of some nodes and all that they depend on."""
        run = NodeByNode(topological_order(wanted), self.numbers())
        run.run(len(run.nodes))
        return run.ranges


def trace_loss(name: str, function: Callable[..., Any], batch: tuple[Any, ...]) -> LossTrace:
    """Trace ``function(*batch)``, which returns the loss, alone or among other results; ``name`` is the call in messages.

    Raises:
        UserError: the function raises it; or it is none, does not take the batch, or returns no loss.
    """
    if not callable(function):
        raise UserError(f"{name}: needs a function that gives the loss of a batch, got a {type(function).__name__}")
    plain = inspect.unwrap(function)
    misfit = misfit_of(plain, batch, {}, getattr(function, "__name__", ""))
    if misfit is not None:
        raise misfit
    call = Call(batch, {})
    with ops.noting_nodes() as made, tracing() as trace:
        names = call.input_names(plain)
        stand_ins = [given.stand_in(trace, name) for given, name in zip(call.inputs, names, strict=True)]
        leaves = [stand_in.node for stand_in in stand_ins]
        arguments, _ = call.with_inputs(stand_ins)
        returned: list[Any] = []
        flatten(function(*arguments), returned)
        results = [one.node for one in returned if isinstance(one, Tensor)]
    loss = next((node for node in results if node.size == 1 and is_float(node.dtype)), None)
    if loss is None:
        got = ", ".join(str(node.type) for node in results) or "no tensor"
        raise UserError(
            f"{name}: the function must return the loss, one float number, alone or among other results, got {got}: return the "
            "tensor itself, not loss.item()"
        )
    inputs = [Given(name, leaf, given.array) for name, leaf, given in zip(names, leaves, call.inputs, strict=True)]
    graph = Graph(loss)
    used = set(topological_order([*results, *trace.writes.values(), *(node for node, _ in trace.checks), *_gradients(trace)]))
    before_loss = made[: made.index(loss)] if loss in made else made
    unused = tuple(node for node in before_loss if node not in used)
    return LossTrace(loss, graph, tuple(inputs), trace, unused)


def _gradients(trace: Trace) -> Iterator[Node]:
    return (gradient.node for gradient in trace.gradients.values() if gradient is not None)


def cut(batch: tuple[Any, ...], examples: int, most: int) -> tuple[Any, ...]:
    """The batch with its first ``most`` examples only: of every array whose first axis has the size ``examples``."""
    leaves: list[Any] = []
    flatten(batch, leaves)

    def first(one: Any) -> Any:
        is_array = isinstance(one, np.ndarray) or (isinstance(one, Tensor) and not isinstance(one, Cell))
        if not is_array or not one.ndim or one.shape[0] != examples:
            return one
        return (one.numpy() if isinstance(one, Tensor) else one)[:most]

    cut_batch: tuple[Any, ...] = rebuilt(batch, iter([first(one) for one in leaves]))
    return cut_batch


def depending_on(graph: Graph, leaves: Iterable[Node]) -> set[Node]:
    """The nodes of ``graph`` that are computed from any of ``leaves``, and these themselves."""
    found = set(leaves)
    for node in graph.nodes:
        if any(input_node in found for input_node in node.inputs):
            found.add(node)
    return found


def as_optimizers(name: str, optimizers: Any) -> tuple[Optimizer, ...]:
    """An optimizer, several or None as a tuple; a UserError for anything else."""
    if optimizers is None:
        return ()
    several = (optimizers,) if isinstance(optimizers, Optimizer) else optimizers
    if isinstance(several, str | bytes | Mapping) or not hasattr(several, "__iter__"):
        raise UserError(f"{name}: optimizer must be one of chainrule.optim or a list of them, got a {type(several).__name__}")
    found = tuple(several)
    for one in found:
        if not isinstance(one, Optimizer):
            raise UserError(f"{name}: optimizer must be one of chainrule.optim or a list of them, got a {type(one).__name__}")
    return found


@contextmanager
def state_kept(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """A context after which optimizers have no more state than before, though a step was traced in it."""
    before = [{parameter: set(slots) for parameter, slots in one.state.items()} for one in optimizers]
    try:
        yield
    finally:
        for optimizer, known in zip(optimizers, before, strict=True):
            for parameter in list(optimizer.state):
                if parameter not in known:
                    del optimizer.state[parameter]
                    continue
                for new in set(optimizer.state[parameter]) - known[parameter]:
                    del optimizer.state[parameter][new]
