"""``cr.audit``: does the backward pass of a loss do what the chain rule says? Asked at each node, worst node first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from chainrule import ops
from chainrule.arguments import explained, misfit_of, real_number, whole_number
from chainrule.errors import UserError
from chainrule.grad import Difference, compared, computed, in_float64, passed_back
from chainrule.graph import CONSTANT, Array, Graph, Node, Role, topological_order
from chainrule.graph.dtypes import is_float
from chainrule.graph.names import name_of, source_line
from chainrule.graph.tables import Contents, Table
from chainrule.tensor import Tensor, Trace, tracing
from chainrule.tensor.backward import refuse_compiled, refuse_outside
from chainrule.tensor.calls import Call

Verdict = Literal["right", "wrong", "not finite", "on purpose", "not decidable"]
_ORDER: tuple[Verdict, ...] = ("wrong", "not finite", "on purpose", "not decidable", "right")
_TINY = 1e-8  # errors below are rounding, and not worth an order
_WIDTH = 80
_MOST_ROWS = 12


@dataclass(frozen=True)
class AuditRow:
    """What a node passes back to one of its inputs.

    ``error`` is that of the difference, relative to the size of the gradient. ``verdict`` is "right", "wrong", "not finite"
    (the node has elements that are nan or infinite, and nothing else to judge by), "on purpose" (it differs, as ``exact=False``
    of ``cr.custom_gradient`` says), or "not decidable": all elements stand at kinks or jumps, or rounding in the forward pass
    hides the slope. Of ``elements``, those at ``kinks`` and those that are ``not_finite`` were left out.
    """

    index: int  # of the node, from the first that is computed
    node: str  # the name of the operation
    input: str  # the input that the gradient is for
    layer: str  # the path in the model; empty outside one
    line: str  # of the user's program, such as model.py:12
    role: Role
    error: float
    verdict: Verdict
    kinks: int
    not_finite: int
    elements: int
    passed_back: float  # along the random direction
    expected: float  # by finite differences


@dataclass(frozen=True, repr=False)
class Audit(Table):
    """The result of ``cr.audit``, a row for each node and input at which a gradient arrives, worst first. Prints as a table."""

    rows: tuple[AuditRow, ...]
    nodes: int
    ends: tuple[str, ...]  # where a gradient ends because the code says so
    first_not_finite: str  # the first value that is nan or infinite though it is computed from others; empty if there is none

    @property
    def worst(self) -> AuditRow:
        """The row with the gravest verdict, and of those the one with the largest error."""
        return self.rows[0]

    @property
    def wrong(self) -> tuple[AuditRow, ...]:
        """The rows whose gradient is not what the chain rule says, though it is meant to be."""
        return tuple(row for row in self.rows if row.verdict == "wrong")

    @property
    def passed(self) -> bool:
        """Whether no gradient is wrong, and none is lost in values that are not finite."""
        return all(row.verdict not in ("wrong", "not finite") for row in self.rows)

    def contents(self) -> Contents:
        """The table: where each gradient comes from, its error and the verdict; below it what differs, and by how much."""
        header = ("node", "gradient for", "layer", "line", "role", "relative error>", "verdict")
        rows = [
            (
                row.node,
                row.input,
                row.layer,
                row.line,
                row.role.value,
                _written(row),
                row.verdict,
            )
            for row in self.rows
        ]
        least = ("role", "line", "gradient for", "layer")
        most = len(self.wrong) + 3 if self.wrong else _MOST_ROWS
        return Contents(self._title, header, rows, list(self._notes()), most=most, least=least)

    @property
    def _title(self) -> str:
        wrong = len({row.index for row in self.wrong})
        if wrong:
            verb = "passes" if wrong == 1 else "pass"
            return f"audit: {wrong} of {self.nodes} nodes {verb} back what finite differences contradict"
        count = Counter(row.verdict for row in self.rows)
        if count["right"] == len(self.rows):
            nodes = f"{self.nodes} nodes pass" if self.nodes != 1 else "1 node passes"
            return f"audit: what {nodes} back agrees with finite differences"
        others = [f"{count['not finite']} not finite"] if count["not finite"] else []
        others += [f"{count['on purpose']} wrong on purpose"] if count["on purpose"] else []
        others += [f"{count['not decidable']} not decidable"] if count["not decidable"] else []
        return f"audit: of {len(self.rows)} gradients, {count['right']} right, {', '.join(others)}"

    def _notes(self) -> Iterator[str]:
        for row in self.wrong:
            where = f" in {row.layer}" if row.layer else ""
            ours, theirs = _told_apart(row.passed_back, row.expected)
            yield (
                f"{row.node}{where}, {row.line}: along a random direction its gradient for {row.input} is {ours}, finite "
                f"differences say {theirs}"
            )
        total = sum(row.elements for row in self.rows)
        not_finite = sum(row.not_finite for row in self.rows)
        if not_finite:
            first = f"; the first such value is {self.first_not_finite}" if self.first_not_finite else ""
            yield f"{not_finite:,} of {total:,} elements are nan or infinite: they were left out{first}"
        kinks = sum(row.kinks for row in self.rows)
        if kinks:
            yield f"{kinks:,} of {total:,} elements stand at a kink or a jump, where there is no slope: they were left out"
        for end in self.ends:
            yield f"the gradient ends, as the code says, at {end}"

    def __str__(self) -> str:
        return self.contents().text(_WIDTH)


@explained
def audit(loss_function: Callable[..., Tensor], *batch: Any, tolerance: float = 1e-5, seed: int = 0) -> Audit:
    """Check at every node of ``loss_function(*batch)`` that what it passes back is upstream x local.

    Each node is held against finite differences, in float64 whatever the dtypes are, with a random upstream gradient along a
    random direction. Nodes are those between the loss and what asks for a gradient: the parameters of the models that the
    function uses, and tensors in the batch that were made with ``requires_grad=True``. The function is traced, not run, so no
    buffer, gradient or random state changes; chance (dropout) is as it would be in the next call, and batch statistics are
    those of this batch. Small images and small batches are enough, and fast. ``tolerance`` is the largest relative error that
    is taken for right; ``seed`` is for the random directions.

    Raises:
        UserError: the function reads numbers while it is traced, returns no loss (a single float), or nothing asks for a
            gradient.
    """
    if not callable(loss_function):
        kind = type(loss_function).__name__
        raise UserError(
            f"audit: loss_function must be a function of the batch that returns the loss, got a {kind}: "
            "cr.audit(lambda images, labels: cr.nn.functional.cross_entropy(model(images), labels), images, labels)"
        )
    tolerance = real_number("audit: tolerance", tolerance)
    if not 0 < tolerance < 1:
        raise UserError(f"audit: tolerance must be between 0 and 1, got {tolerance!r}")
    rng = np.random.default_rng(whole_number("audit: seed", seed, at_least=0))
    if ops.is_tracing():
        raise UserError("audit: needs numbers, and a traced function has none yet: call it outside, on the plain function")
    call = Call(batch, {})
    name = getattr(loss_function, "__name__", "loss_function")
    misfit = misfit_of(loss_function, batch, {}, name)
    if misfit is not None:
        raise misfit
    with tracing() as trace, ops.history("gradients"):
        inputs = [
            given.stand_in(trace, label) for given, label in zip(call.inputs, call.input_names(loss_function), strict=True)
        ]
        args, _ = call.with_inputs(inputs)
        loss = loss_function(*args)
        _check(loss, name)
        graph = Graph(loss.node)
        refuse_outside(f"audit: {name}", graph.nodes)
        refuse_compiled("audit", graph.nodes)
        nodes = [node for node in topological_order([loss.node], follow=lambda node: node.requires_grad) if _passes(node)]
        rules = [passed_back(node) for node in nodes]
    known = _known(trace, dict(zip([one.node for one in inputs], [given.array for given in call.inputs], strict=True)))
    values = computed(graph.nodes, known)
    for node, check in trace.checks:
        if node in values:
            check(values[node])
    rows = [
        _row(index, node, place, compared(node, place, upstream, downstream[place], values, rng), tolerance)
        for index, (node, (upstream, downstream)) in enumerate(zip(nodes, rules, strict=True))
        for place in _wanted(node)
    ]
    rows.reverse()  # what is equally bad stands in the order in which gradients are passed back
    rows.sort(key=_rank)
    return Audit(tuple(rows), len(nodes), _ends(graph), _first_not_finite(rows, nodes, graph, values))


def _check(loss: Any, name: str) -> None:
    """Refuse what is no loss that a gradient could start at."""
    if not isinstance(loss, Tensor):
        raise UserError(f"audit: {name} must return the loss, a tensor, got a {type(loss).__name__}")
    if loss.size != 1 or not is_float(loss.dtype):
        raise UserError(
            f"audit: {name} must return the loss, one float number, but this is {loss.node.type}: reduce it with sum(...), "
            "mean(...) or a loss"
        )
    if not loss.requires_grad:
        raise UserError(
            f"audit: the loss that {name} returns depends on nothing that asks for a gradient: use a model with parameters, or "
            "pass tensors made with requires_grad=True"
        )


def _known(trace: Trace, given: dict[Node, Array]) -> dict[Node, Array]:
    """The values, in float64, of the leaves of a trace: what the function was given, and the cells that it read."""
    known = {node: in_float64(value) for node, value in given.items()}
    for cell, node in trace.reads.items():
        known[node] = in_float64(cell.numbers())
    for cell, gradient in trace.gradient_reads.items():
        if gradient is not None and cell.grad is not None:
            known[gradient.node] = in_float64(cell.grad.numpy())
    return known


def _passes(node: Node) -> bool:
    return isinstance(node.operation, ops.Primitive) and bool(_wanted(node))


def _wanted(node: Node) -> list[int]:
    """The positions of the inputs of ``node`` to which it must pass a gradient back."""
    primitive = node.operation
    assert isinstance(primitive, ops.Primitive)
    own = len(node.attributes["application"].arguments) if isinstance(primitive, ops.Custom) else len(node.inputs)
    return [place for place, one in enumerate(node.inputs[:own]) if one.requires_grad and primitive.passes_gradient_to(place)]


def _row(index: int, node: Node, place: int, found: Difference, tolerance: float) -> AuditRow:
    custom = isinstance(node.operation, ops.Custom)
    if found.is_lost:
        verdict: Verdict = "not finite"
    elif not found.is_decided(tolerance):
        verdict = "not decidable"
    elif found.error <= tolerance:
        verdict = "right"
    else:
        verdict = "on purpose" if isinstance(node.operation, ops.Custom) and not node.operation.exact else "wrong"
    names = node.attributes["application"].arguments if custom else ()
    layer = node.origin.module
    return AuditRow(
        index,
        node.operation.name,
        names[place] if custom else name_of(node.inputs[place]) or f"input {place + 1}",
        layer.removesuffix(node.operation.name).removesuffix(".") if custom else layer,
        source_line(node),
        node.operation.role,
        found.error,
        verdict,
        found.elements - found.smooth - found.not_finite,
        found.not_finite,
        found.elements,
        found.passed,
        found.expected,
    )


def _rank(row: AuditRow) -> tuple[int, float]:
    """By which rows are sorted. What is not finite has no error to sort by: it is worst where it begins."""
    return _ORDER.index(row.verdict), row.index if row.verdict == "not finite" else -max(row.error, _TINY)


def _written(row: AuditRow) -> str:
    """The relative error as the table shows it."""
    if row.verdict in ("not finite", "not decidable"):
        return ""
    return f"{row.error:.1e}" if row.error >= _TINY else f"< {_TINY:.0e}"


def _told_apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers with as many digits as tell them apart, at least four."""
    texts = ((f"{one:.{digits}g}", f"{other:.{digits}g}") for digits in range(4, 18))
    return next((pair for pair in texts if pair[0] != pair[1]), (f"{one:.4g}", f"{other:.4g}"))


def _first_not_finite(rows: Sequence[AuditRow], nodes: Sequence[Node], graph: Graph, values: Mapping[Node, Array]) -> str:
    """Where the nan or infinite elements begin that reach the first row that is lost in them; without one, any row.

    A value begins with nan if nothing that it is computed from has any, with infinity if all of that is finite. Constants, such
    as the minus infinity of a mask, are meant to be so.
    """
    lost = min((row.index for row in rows if row.verdict == "not finite"), default=None)
    for node in graph.nodes if lost is None else topological_order([nodes[lost]]):
        value = values[node]
        if node.operation is CONSTANT or not is_float(value.dtype) or np.isfinite(value).all():
            continue
        is_nan = bool(np.isnan(value).any())
        if any((np.isnan(values[one]) if is_nan else ~np.isfinite(values[one])).any() for one in node.inputs):
            continue
        if node.is_leaf:
            return name_of(node) or node.operation.name
        layer = f" in {node.origin.module}" if node.origin.module else ""
        return f"that of {node.operation.name}{layer}, {source_line(node)}"
    return ""


def _ends(graph: Graph) -> tuple[str, ...]:
    """Where ``stop_gradient`` keeps a gradient from passing that would otherwise have passed."""
    hidden = {one for node in graph.nodes if isinstance(node.operation, ops.Custom) for one in node.inputs[-1:]}
    found = []
    for node in graph.nodes:
        stops = node.operation is ops.stop_gradient and not node.requires_grad and node not in hidden
        if stops and any(one.requires_grad for one in node.inputs) and node.origin.kind != "custom gradient":
            layer = f" in {node.origin.module}" if node.origin.module else ""
            found.append(f"stop_gradient{layer}, {source_line(node)}")
    return tuple(dict.fromkeys(found))
