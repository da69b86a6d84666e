"""Why gradients are 0 in every element: the gradient is followed from a parameter towards the loss, to the node at which
something arrives and nothing is passed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule import ops
from chainrule.grad import backprop
from chainrule.graph import PARAMETER, Node, Role
from chainrule.tensor.tracing import tracing
from chainrule.train.diagnosis.graph_faults import peeled
from chainrule.train.diagnosis.loss_trace import LossTrace, depending_on
from chainrule.train.diagnosis.node_by_node import Range

_REVIVE = "take a smaller learning rate or other initial values, or LeakyReLU for ReLU"


@dataclass(frozen=True)
class Cause:
    """Why nothing is passed on at a node, and what to do."""

    node: Node
    why: str
    remedy: str


@dataclass
class _Flow:
    """What arrived at a node and what it passed on to each input, as nodes of the gradient."""

    upstream: Node
    downstream: Sequence[Node | None]


def causes_of_zeros(traced: LossTrace, leaves: Sequence[Node]) -> dict[Node, Cause | None]:
    """Those of ``leaves`` whose gradient is 0 in every element, and why.

    None: because weights are 0 that get a gradient themselves, so that it is so in the first step only.
    """
    flows: dict[Node, _Flow] = {}

    def visit(node: Node, upstream: Node, downstream: Sequence[Node | None]) -> None:
        flows[node] = _Flow(upstream, downstream)

    parameters = [node for node in traced.graph.leaves if node.requires_grad]
    with tracing(), ops.precision("float32"):
        gradients = backprop(traced.loss, parameters, visit=visit)
    of_leaf = dict(zip(parameters, gradients, strict=True))
    wanted = [traced.loss, *(node for node in gradients if node is not None)]
    wanted += [flow.upstream for flow in flows.values()]
    wanted += [node for flow in flows.values() for node in flow.downstream if node is not None]
    with np.errstate(all="ignore"):
        ranges = traced.ranges_of(wanted)
    computed = depending_on(traced.graph, [*parameters, *(given.leaf for given in traced.inputs)])
    search = _Search(traced, flows, ranges, of_leaf, computed)
    found = {}
    for leaf in leaves:
        gradient = of_leaf.get(leaf)
        if gradient is not None and _is_zero(ranges[gradient]):
            found[leaf] = search.cause(leaf)
    return found


@dataclass
class _Search:
    """The graph with what flows back in it: ``ranges`` are least and largest elements, ``gradients`` those of leaves,
    ``computed`` the nodes that are computed from parameters or the batch."""

    traced: LossTrace
    flows: dict[Node, _Flow]
    ranges: dict[Node, Range]
    gradients: dict[Node, Node | None]
    computed: set[Node]

    def cause(self, leaf: Node) -> Cause | None:
        """The first node, on the way to the loss, that gets something and passes nothing on."""
        users = self.traced.graph.consumers()
        waiting, seen = [leaf], {leaf}
        while waiting:
            node = waiting.pop(0)
            for user in users[node]:
                flow = self.flows.get(user)
                if flow is None or user in seen:
                    continue
                if self._is_zero(flow.upstream):
                    seen.add(user)
                    waiting.append(user)
                    continue
                passed = flow.downstream[user.inputs.index(node)]
                if passed is None or self._is_zero(passed):
                    return self._at(user, user.inputs.index(node))
        return None

    def _is_zero(self, node: Node) -> bool:
        return _is_zero(self.ranges[node])

    def _at(self, node: Node, place: int) -> Cause | None:
        """Why ``node`` passes nothing on to its input ``place``, though something arrives."""
        name = node.operation.name
        if node.operation.role is Role.SWITCHER and len(node.inputs) == 2:
            other = node.inputs[1 - place]
            weight = peeled(other)
            while weight.operation.name == "broadcast":
                weight = peeled(weight.inputs[0])
            if self._is_zero(other) and weight.operation is PARAMETER:
                gradient = self.gradients.get(weight)
                if gradient is not None and not self._is_zero(gradient):
                    return None
                why = f"all of {weight.label or 'the weights'} behind it are 0, and stay so"
                return Cause(node, why, "initialise these weights with other numbers")
            if self._is_zero(other) and other not in self.computed:
                return Cause(node, "it is multiplied by a constant 0", "leave that out")
            if self._is_zero(other):
                source = self._source_of_zeros(other)
                return Cause(
                    source, f"what is multiplied here is 0 for all examples, the result of {self._dead(source)}", _REVIVE
                )
        if node.operation.role is Role.ROUTER:
            return Cause(node, f"all lies behind a dead unit, {self._dead(node)}", _REVIVE)
        if name in ("broadcast", "sum"):
            why = "the gradients of all places add up to 0, as in front of a normalisation that subtracts the mean"
            return Cause(node, why, "leave out what has no effect, such as a bias")
        if node.operation.role is Role.SCALER:
            return Cause(
                node,
                f"{name} of inputs from {_spoken(self.ranges[node.inputs[0]])} is so flat that its slope is 0",
                "make these inputs smaller, by their initial weights or a normalisation",
            )
        return Cause(node, f"{name} gets a gradient and passes none on", "look at what is computed there")

    def _source_of_zeros(self, node: Node) -> Node:
        """The first node, on the way from the batch, whose value is 0 in every element although what it is computed from is
        not."""
        while True:
            before = [one for one in node.inputs if one in self.computed and not one.is_leaf and self._is_zero(one)]
            if not before:
                return node
            node = before[0]

    def _dead(self, node: Node) -> str:
        """What a unit that gives nothing but 0, or nothing but a limit, gets."""
        inputs = [self.ranges[one] for one in node.inputs if one in self.computed and one in self.ranges]
        if not inputs:
            return node.operation.name
        return f"{node.operation.name} of inputs from {_spoken(inputs[0])}"


def _is_zero(range_: Range) -> bool:
    return range_.finite and not range_.low and not range_.high


def _spoken(range_: Range) -> str:
    low, high = range_.low or 0.0, range_.high or 0.0
    return f"{low:.3g} to {high:.3g}"
