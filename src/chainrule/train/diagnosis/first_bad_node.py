"""Which node of a step is the first whose value is not finite, found by running the step node by node.

A bad value spreads: from its node to all that is computed from it. So the cause is where it begins, at a node that is bad
without a bad input. It is looked for from what is bad at the end backwards: from the loss; if that is finite, from the
gradients; if they are, from the new values of the weights. What is infinite on purpose, such as a constant mask of -inf, is no
cause, and neither is what is infinite without reaching the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from chainrule.arguments import explained
from chainrule.errors import UserError
from chainrule.graph import CONSTANT, INPUT, Array, Node, Role, topological_order
from chainrule.graph.dtypes import is_float
from chainrule.graph.names import name_of, source_line
from chainrule.ops import broadcast, cast, reshape, transpose
from chainrule.optim import Optimizer
from chainrule.tensor import Cell, Parameter, Tensor
from chainrule.train.diagnosis.bad_node import Ancestor, BadNode, Phase
from chainrule.train.diagnosis.node_by_node import NodeByNode
from chainrule.train.diagnosis.traced_step import Passed, TracedStep, batch_size, rows_of, trace_step

_MOST_ANCESTORS = 5


@explained
def first_bad_node(loss_function: Callable[..., Tensor], *batch: Any, optimizer: Optimizer | None = None) -> BadNode | None:
    """The first node of ``loss_function(*batch)``, its gradients and the optimizer's update whose value is not finite.

    ``loss_function`` returns the loss, a single float, as in a training step; the arrays and tensors of ``batch`` have an
    example a row. With an ``optimizer``, the new values of its parameters and its state are looked at, too. All of it is
    computed by NumPy, node by node, which takes longer than a step; nothing changes, neither parameters nor gradients nor
    random numbers. None if everything is finite.

    Raises:
        UserError: the loss function returns no single float that depends on a parameter.
    """
    if not callable(loss_function):
        raise UserError(f"first_bad_node: needs a function that gives the loss, got a {type(loss_function).__name__}")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise UserError(f"first_bad_node: optimizer must be an optimizer, got a {type(optimizer).__name__}")
    return first_bad(loss_function, [batch], _names_of(loss_function), optimizer)


def _names_of(function: Any) -> list[str]:
    code = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    return list(code.co_varnames[: code.co_argcount]) if code is not None else []


def first_bad(
    loss_of: Callable[..., Any],
    parts: Sequence[Sequence[Any]],
    names: Sequence[str] = (),
    optimizer: Optimizer | None = None,
    update: Callable[[], None] | None = None,
    products: str = "float32",
    file: str | None = None,
) -> BadNode | None:
    """As ``first_bad_node``, for a batch in ``parts`` whose gradients are added up.

    ``names`` are those of the arguments of ``loss_of``, ``update`` is what takes the gradients to the weights, by default the
    step of the ``optimizer``, and ``products`` the precision of contractions. Lines of the program are named if they are in
    ``file``, or any if that is None.
    """
    if update is None and optimizer is not None:
        update = optimizer.step
    step = trace_step(loss_of, parts, names, update, products)
    run = NodeByNode(step.nodes, step.given, step.checks)
    found: tuple[Phase, list[Node]] | None = None
    run.run(len(step.forward))
    if loss := _bad(run, step.losses):
        found = "forward", _causes(run, loss, step.forward)
    else:
        run.run(step.backward)
        if gradients := _bad(run, step.gradients.values()):
            found = "backward", _causes(run, gradients, step.nodes[len(step.forward) : step.backward])
        else:
            run.run(len(step.nodes))
            if new := _bad(run, step.written.values()):
                found = "update", _causes(run, new, step.nodes[step.backward :])
    if found is None:
        return None
    sizes = [batch_size(part) for part in parts]
    try:
        wide = trace_step(loss_of, parts, names, update, products, wider=1)
    except Exception:  # a function of somebody's own, which may take batches of this size alone
        wide = None
    return _Report(step, run, rows_of(step, wide, sizes), sizes, _cells_of(optimizer), file).of(*found)


def _bad(run: NodeByNode, nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node in run.ranges and not run.ranges[node].finite]


def _causes(run: NodeByNode, ends: Sequence[Node], within: Sequence[Node]) -> list[Node]:
    """The nodes at which the bad values of ``ends`` begin, going back among the nodes ``within``, in their order."""
    inside, meant = set(within), _meant(run, within)
    seen, stack = set(ends), list(ends)
    begin = []
    while stack:
        node = stack.pop()
        further = [one for one in _bad(run, node.inputs) if one in inside and one not in meant]
        if not further:
            begin.append(node)
        for one in further:
            if one not in seen:
                seen.add(one)
                stack.append(one)
    places = {node: place for place, node in enumerate(within)}
    return sorted(begin, key=lambda node: places.get(node, -1))


def _meant(run: NodeByNode, nodes: Sequence[Node]) -> set[Node]:
    """Nodes that are infinite because of a constant of the program: on purpose, as long as no nan comes of it."""
    meant: set[Node] = set()
    for node in nodes:
        range_ = run.ranges[node]
        if range_.infinite and not range_.nan:
            bad = _bad(run, node.inputs)
            if node.operation is CONSTANT or (bad and meant.issuperset(bad)):
                meant.add(node)
    return meant


def _cells_of(optimizer: Optimizer | None) -> dict[Cell, str]:
    """What the cells of an optimizer are called."""
    found: dict[Cell, str] = {}
    if optimizer is not None:
        for group in optimizer.groups:
            found |= {cell: f"the optimizer's {name}" for name, cell in group.cells.items()}
        for place, parameter in enumerate(optimizer.parameters):
            of = parameter.name if isinstance(parameter, Parameter) and parameter.name else f"parameter {place}"
            found |= {cell: f"{name} of {of}" for name, cell in optimizer.state.get(parameter, {}).items()}
    return found


class _Report:
    """What is said of a node, with values that are computed again for that."""

    def __init__(
        self,
        step: TracedStep,
        run: NodeByNode,
        rows: dict[Node, tuple[int, int]],
        sizes: Sequence[int],
        cells: dict[Cell, str],
        file: str | None,
    ) -> None:
        self.step, self.run, self.rows, self.sizes, self.file = step, run, rows, sizes, file
        self.forward = set(step.forward)
        self.led_to = set(step.batch)  # by the batch
        for node in run.nodes:
            if not self.led_to.isdisjoint(node.inputs):
                self.led_to.add(node)
        self.cells = {id(cell): name for cell, name in cells.items()}

    def of(self, phase: Phase, causes: Sequence[Node]) -> BadNode:
        """The report of the first of ``causes``."""
        node = causes[0]
        passed, position = self._rule_of(node) if phase == "backward" else (None, 0)
        about = node if passed is None else passed.node
        sources = list(dict.fromkeys(node.inputs if passed is None else (passed.upstream, *about.inputs, about)))
        sources = [one for one in sources if one in self.run.ranges]
        wanted = [node, *sources]
        values = self.run.values_of(wanted, _below(wanted, self.run.nodes))
        value = values[node]
        places = self._bad_places(node, value)
        element = tuple(map(int, np.argwhere(places)[0]))
        if node.operation is INPUT:
            phase = "batch"
        elif node.is_leaf:
            phase = "state"
        operation = about.operation.name
        if node.is_leaf:
            operation = self._name(node)
        elif phase == "backward" and passed is None:
            operation = f"several uses of {node.type}, added up,"
        said = [self._ancestor(one, passed, values[one], element, value.shape) for one in sources]
        masked = self._masked(sources) if phase == "backward" else ""
        formulas = [] if passed is None else passed.node.operation.local  # type: ignore[attr-defined]
        return BadNode(
            phase,
            operation,
            about.origin.module,
            about.origin.kind,
            self._line(about),
            str(node.type),
            self.run.ranges[node],
            element,
            float(_plain(value)[element]),
            self._rows(node, places),
            sum(self.sizes),
            said,
            self._ancestors(sources, values, element, value.shape),
            formulas[min(position, len(formulas) - 1)] if formulas else "",
            len(causes) - 1,
            masked,
            self._updated(node) if phase == "update" else "",
        )

    def _rule_of(self, node: Node) -> tuple[Passed | None, int]:
        """The node of the forward pass whose gradient rule made ``node``, and the input that the gradient is for; None for a
        sum of gradients that come back from several users."""
        for passed in self.step.passed:
            stop = {passed.upstream, *passed.node.inputs, passed.node}
            for position, downstream in enumerate(passed.downstream):
                if downstream is None or downstream is passed.upstream:
                    continue
                made = topological_order([downstream], follow=lambda one: one not in stop and one not in self.forward)  # noqa: B023
                if node in made:
                    return passed, position
        return None, 0

    def _ancestor(
        self, node: Node, passed: Passed | None, value: Array | None, element: tuple[int, ...], shape: tuple[int, ...]
    ) -> Ancestor:
        there = None
        if value is not None and value.size == 1:
            there = float(_plain(value).reshape(()))
        elif value is not None and value.shape == shape:
            there = float(_plain(value)[element])
        name = self._name(node)
        if passed is not None and node is passed.upstream:
            name = "upstream gradient"
        elif passed is not None and node is passed.node:
            name = f"its result, {name}"
        node = _behind(node)
        return Ancestor(name, str(node.type), node.origin.module, self._line(node), self.run.ranges[node], there)

    def _name(self, node: Node) -> str:
        node = _behind(node)
        owner = None if node.owner is None else node.owner()
        return self.cells.get(id(owner)) or self.step.batch.get(node) or name_of(node) or node.operation.name

    def _updated(self, node: Node) -> str:
        """The cell whose bad new value ``node`` leads to."""
        for cell, new in self.step.written.items():
            if node in _below([new], self.run.nodes) and _bad(self.run, [new]):
                return self.cells.get(id(cell)) or cell.name or "a buffer"
        return ""

    def _line(self, node: Node) -> str:
        return source_line(node) if self.file is None or node.origin.file == self.file else ""

    def _bad_places(self, node: Node, value: Array) -> Array:
        """Where ``value`` is bad through ``node``: what is infinite from its inputs on is not."""
        nan = np.isnan(_plain(value))
        return nan if nan.any() and _bad(self.run, node.inputs) else ~np.isfinite(_plain(value))

    def _rows(self, node: Node, bad: Array) -> tuple[int, ...]:
        """The examples of the batch at the places that are ``bad``."""
        if node not in self.rows:
            return ()
        axis, places = self.rows[node]
        here = np.flatnonzero(bad.any(tuple(other for other in range(bad.ndim) if other != axis)))
        first = sum(self.sizes[: self.step.part_of.get(node, 0)])
        return tuple(dict.fromkeys(first + int(place) // places for place in here))

    def _ancestors(
        self, sources: Sequence[Node], values: dict[Node, Array], element: tuple[int, ...], shape: tuple[int, ...]
    ) -> list[Ancestor]:
        """The way back from the most telling of ``sources``: that whose number there is 0 or the largest."""

        def telling(node: Node) -> tuple[bool, float]:
            value = values[node]
            there = abs(float(_plain(value)[element])) if value.shape == shape else self.run.ranges[node].furthest
            return node in self.led_to, max(there, 1 / there) if there else np.inf

        found: list[Ancestor] = []
        node = max(reversed(sources), key=telling) if sources else None  # of x / y, rather y
        while node is not None and len(found) < _MOST_ANCESTORS:
            node = _behind(node)
            inputs = [one for one in node.inputs if is_float(one.dtype) and one.operation is not CONSTANT]
            inputs = [one for one in inputs if one in self.run.ranges]
            node = max(inputs, key=lambda one: (one in self.led_to, self.run.ranges[one].furthest), default=None)
            if node is not None:
                found.append(self._ancestor(node, None, None, (), ()))
        return found

    def _masked(self, sources: Sequence[Node]) -> str:
        bad = [one for one in _bad(self.run, sources) if one in self.forward and one.operation.role is not Role.LEAF]
        if not bad:
            return ""
        return (
            f"{self._name(bad[0])} is infinite or nan in the forward pass already; that does not reach the loss, as it is "
            "chosen away there, but 0 times infinity is nan in the gradient. Choose among the inputs before that operation."
        )


def _behind(node: Node) -> Node:
    """The node whose numbers ``node`` only repeats or arranges in another shape."""
    while node.operation in (broadcast, cast, reshape, transpose):
        node = node.inputs[0]
    return node


def _below(wanted: Sequence[Node], order: Sequence[Node]) -> list[Node]:
    """What ``wanted`` depend on, in ``order``."""
    needed = set(wanted)
    for node in reversed(order):
        if node in needed:
            needed.update(node.inputs)
    return [node for node in order if node in needed]


def _plain(value: Array) -> Array:
    return value.astype(np.float64)
