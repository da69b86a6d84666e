"""``untrained``: what a step leaves as it is, and why: parameters that no gradient reaches, or nobody updates; unused values.

Why no gradient reaches a parameter stands in the graph: nothing reads it; what is computed with it does not lead to the loss;
an operation on the way passes no gradient. Why a gradient is 0 in every element is found by computing: the gradient of the loss
is followed back, node by node, to where something arrives and nothing is passed on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from chainrule.arguments import explained
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.graph import Node, Role, topological_order
from chainrule.graph.dtypes import is_float
from chainrule.nn import Module
from chainrule.ops import Blocked, Primitive
from chainrule.optim import Optimizer
from chainrule.tensor import Parameter
from chainrule.train.diagnosis.findings import AFTER, Finding, Findings, place_of, silenced_names
from chainrule.train.diagnosis.loss_trace import LossTrace, as_optimizers, state_kept, trace_loss
from chainrule.train.diagnosis.zero_gradients import Cause, causes_of_zeros

_MOST_NAMED = 3
_WORTH_NAMING = frozenset({Role.SWITCHER, Role.SCALER, Role.ROUTER, Role.NORMALISER})


@explained
def untrained(
    function: Callable[..., Any],
    *batch: Any,
    model: Module,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    silence: str | Iterable[str] = (),
) -> Findings:
    """Which parameters of ``model`` a step does not train, and why; also what is computed and never used.

    ``function(*batch)`` gives the loss, as for ``lint``. It is traced, which changes nothing. Gradients that a step left in
    ``parameter.grad`` are looked at; where there are none, they are computed of this batch, node by node, and not kept.
    Without ``optimizer`` nothing is said of parameters that none holds. ``silence`` names findings that are not to be made.

        print(train.untrained(step, images, labels, model=model, optimizer=optimizer))

    Raises:
        UserError: the function is none, does not take the batch, returns no loss or raises it.
    """
    optimizers = as_optimizers("untrained", optimizer)
    silenced = silenced_names("untrained: silence", silence)
    if not isinstance(model, Module):
        raise UserError(f"untrained: model must be a module of chainrule.nn, got a {type(model).__name__}")
    with state_kept(optimizers):
        traced = trace_loss("untrained", function, batch)
    return left_out(traced, dict(model.named_parameters()), optimizers, silenced)


def left_out(
    traced: LossTrace,
    parameters: Mapping[str, Parameter],
    optimizers: Sequence[Optimizer],
    silenced: frozenset[str] = frozenset(),
) -> Findings:
    """The findings of ``untrained``, from what tracing left; ``parameters`` by their names."""
    groups: dict[Finding, list[str]] = defaultdict(list)  # findings without the names, and whom they are of
    held = {id(one) for optimizer in optimizers for one in optimizer.parameters}
    learning = {name: one for name, one in parameters.items() if one.requires_grad}
    reached = {}
    on_the_way = differentiable(traced)
    for name, parameter in parameters.items():
        reason = None if traced.trace.reads.get(parameter) in on_the_way else _why_no_gradient(traced, parameter)
        if name not in learning:
            reason = Finding("frozen", "", "frozen, as requires_grad is False", "set it to True for what is to learn")
        if reason is not None:
            groups[reason].append(name)
        else:
            reached[name] = parameter
    zeros = _zeros(traced, reached)
    for name, cause in zeros.items():
        if cause is not None:
            what = f"the gradient is 0 in every element: {cause.why}"
            groups[Finding("zero-gradient", "", what, cause.remedy)].append(name)
    for name, parameter in reached.items():
        if optimizers and id(parameter) not in held:
            what, remedy = "updated by no optimizer, though a gradient arrives", "pass model.parameters() to the optimizer"
            groups[Finding("not-in-optimizer", "", what, remedy)].append(name)
    found = [_about(names, reason) for reason, names in groups.items()]
    found += never_used(traced)
    order = list(AFTER)
    found.sort(key=lambda finding: order.index(finding.name))
    return Findings(one for one in found if one.name not in silenced)


def _about(names: Sequence[str], reason: Finding) -> Finding:
    """The finding about parameters: their names are its place, and its own place is part of what is the matter."""
    shown = ", ".join(map(displayed, names[:_MOST_NAMED]))
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    at = f" (at {reason.place})" if reason.place else ""
    return Finding(reason.name, f"{shown}{more}", f"{reason.what}{at}", reason.remedy)


# ---- no gradient


def differentiable(traced: LossTrace) -> set[Node]:
    """The nodes at which a gradient arrives from the loss."""
    found, waiting = {traced.loss}, [traced.loss]
    while waiting:
        node = waiting.pop()
        for place, input_node in enumerate(node.inputs):
            if input_node not in found and _stop(node, place) is None:
                found.add(input_node)
                waiting.append(input_node)
    return found


def _why_no_gradient(traced: LossTrace, parameter: Parameter) -> Finding:
    """The reason for which the graph has no way for a gradient from the loss to ``parameter``."""
    leaf = traced.trace.reads.get(parameter)
    if leaf is None:
        return Finding("no-path-to-loss", "", "no gradient: not read in this step", "call the layer in forward, or remove it")
    if leaf not in traced.graph.index:
        users = [node for node in traced.unused if leaf in node.inputs]
        where = f"{place_of(users[0].origin)}" if users else ""
        return Finding(
            "no-path-to-loss", where, "no gradient: no result leads to the loss", "use the result, or remove the layer"
        )
    ways = {leaf}
    stops: list[tuple[Node, str]] = []
    for node in traced.graph.nodes:
        for place, input_node in enumerate(node.inputs):
            if input_node not in ways:
                continue
            why = _stop(node, place)
            if why is None:
                ways.add(node)
            else:
                stops.append((node, why))
    if not stops:
        return Finding(
            "no-path-to-loss", "", "no gradient: it is not asked for in this step", "set requires_grad = True before"
        )
    node, why = stops[0]
    what = f"no gradient: the way from the loss leads through {why}"
    return Finding("behind-blocker", place_of(node.origin), what, "leave that out, or freeze what lies behind it")


_SPOKEN = {"stop_gradient": "detach()", "equal": "a comparison", "less": "a comparison", "less_equal": "a comparison"}


def _stop(node: Node, place: int) -> str | None:
    """Why ``node`` passes no gradient to its input ``place``; None if it does."""
    operation = node.operation
    assert isinstance(operation, Primitive)
    if not operation.passes_gradient_to(place):
        reason = f" ({operation.vjp.reason})" if isinstance(operation.vjp, Blocked) else ""
        return f"{_SPOKEN.get(operation.name, operation.name)}, which passes none{reason}"
    if not is_float(node.dtype):
        return f"a conversion to {node.dtype}, which passes none"
    if node.inputs[place].requires_grad and not node.requires_grad:
        return "a computation under no_grad(), which passes none"
    return None


# ---- gradients of 0


def _zeros(traced: LossTrace, reached: Mapping[str, Parameter]) -> Mapping[str, Cause | None]:
    """The parameters whose gradients are 0 in every element, and why. None: only as long as other weights are still 0."""
    known = {name: parameter.grad for name, parameter in reached.items() if parameter.has_gradient}
    suspects = [name for name, gradient in known.items() if gradient is not None and not gradient.numpy().any()]
    if not known:
        suspects = list(reached)
    if not suspects:
        return {}
    leaves = {traced.trace.reads[reached[name]]: name for name in suspects}
    return {leaves[leaf]: cause for leaf, cause in causes_of_zeros(traced, list(leaves)).items()}


# ---- what is never used


def never_used(traced: LossTrace) -> Iterator[Finding]:
    """Values that nothing reads and that took more than moving numbers, one for each layer and line."""
    unused = set(traced.unused)
    read = {input_node for node in unused for input_node in node.inputs}
    seen = set()
    for node in traced.unused:
        if node in read or node.origin in seen:
            continue
        alone = topological_order([node], follow=unused.__contains__)
        if not any(one.operation.role in _WORTH_NAMING and one.size > 1 for one in alone):
            continue
        seen.add(node.origin)
        yield Finding(
            "never-used",
            place_of(node.origin),
            f"the result of {node.operation.name}, {node.type}, is computed and never used",
            "use it, or leave it out",
        )
