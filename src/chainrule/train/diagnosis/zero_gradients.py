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
from chainrule.train.diagnosis.findings import place_of
from chainrule.train.diagnosis.graph_faults import peeled, repeated
from chainrule.train.diagnosis.loss_trace import LossTrace, depending_on
from chainrule.train.diagnosis.node_by_node import Range

_IF_LEARNED = "or take a smaller learning rate if it came to be so by learning"
_REVIVE = f"begin with other initial values, {_IF_LEARNED}, or LeakyReLU for ReLU"


@dataclass(frozen=True)
class Cause:
    """Why nothing is passed on at a node, with its place, and what to do."""

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
        name, at = node.operation.name, place_of(node.origin)
        if node.operation.role is Role.SWITCHER and len(node.inputs) == 2:
            other = node.inputs[1 - place]
            weight = peeled(other)
            while weight.operation.name == "broadcast":
                weight = peeled(weight.inputs[0])
            if self._is_zero(other) and weight.operation is PARAMETER:
                gradient = self.gradients.get(weight)
                if gradient is not None and not self._is_zero(gradient):
                    return None
                why = f"all of {weight.label or 'the weights'} behind it are 0, and stay so (at {at})"
                return Cause(why, "initialise these weights with other numbers")
            if self._is_zero(other) and other not in self.computed:
                return Cause(f"it is multiplied by a constant 0 (at {at})", "leave that out")
            if self._is_zero(other):
                source = self._source_of_zeros(other)
                return Cause(f"what it is multiplied by is 0 for every example: {self._dead(source)}", self._revive(source))
        if node.operation.role is Role.ROUTER:
            return Cause(self._dead(node), self._revive(node))
        if name in ("broadcast", "sum"):
            why = "the gradients of all places add up to 0, as in front of a normalisation that subtracts the mean"
            return Cause(f"{why} (at {at})", "leave out what has no effect, such as a bias")
        if node.operation.role is Role.SCALER:
            return Cause(
                f"{name} of inputs from {_spoken(self.ranges[node.inputs[0]])} is so flat that its slope is 0 (at {at})",
                "make these inputs smaller, by their initial weights or a normalisation",
            )
        return Cause(f"{name} gets a gradient and passes none on (at {at})", "look at what is computed there")

    def _source_of_zeros(self, node: Node) -> Node:
        """The first node, on the way from the batch, whose value is 0 in every element although what it is computed from is
        not."""
        while True:
            before = [one for one in node.inputs if one in self.computed and not one.is_leaf and self._is_zero(one)]
            if not before:
                return node
            node = before[0]

    def _dead(self, node: Node) -> str:
        """That units give nothing but 0, or nothing but a limit, which inputs they get, and whether a bias is to blame."""
        name, at, result = node.operation.name, place_of(node.origin), self.ranges[node]
        gives = "chooses others" if result.low is None or result.low != result.high else f"gives {result.low + 0.0:.3g}"
        got = self._computed_input(node)
        if got is None or node.operation.role is not Role.ROUTER:
            of = "" if got is None else f" of inputs from {_spoken(self.ranges[got])}"
            return f"{name}{of} {gives} (at {at})"
        why = f"all units at {at} are dead: {name} {gives} for every example, as its inputs go from {_spoken(self.ranges[got])}"
        blamed = self._blamed_bias(node)
        if blamed is None:
            return why
        bias, rest = blamed
        return f"{why}; without {bias.label}, {_spoken(self.ranges[bias])}, they would go from {_spoken(self.ranges[rest])}"

    def _revive(self, node: Node) -> str:
        """What to do about dead units."""
        blamed = self._blamed_bias(node)
        return _REVIVE if blamed is None else f"begin with {blamed[0].label} at 0, {_IF_LEARNED}"

    def _blamed_bias(self, node: Node) -> tuple[Node, Node] | None:
        """A bias without which some of the inputs of a dead ReLU would be above 0, and these inputs without it."""
        got = self._computed_input(node)
        if node.operation.name != "maximum" or got is None or peeled(got).operation.name != "add":
            return None
        terms = peeled(got).inputs
        for bias, rest in ((repeated(terms[1]), terms[0]), (repeated(terms[0]), terms[1])):
            if bias.operation is PARAMETER and bias.label and (self.ranges[rest].high or 0.0) > 0:
                return bias, rest
        return None

    def _computed_input(self, node: Node) -> Node | None:
        """The input of ``node`` that comes from the batch or a parameter; of several, the first."""
        return next((one for one in node.inputs if one in self.computed and one in self.ranges), None)


def _is_zero(range_: Range) -> bool:
    return range_.finite and not range_.low and not range_.high


def _spoken(range_: Range) -> str:
    low, high = range_.low or 0.0, range_.high or 0.0
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
