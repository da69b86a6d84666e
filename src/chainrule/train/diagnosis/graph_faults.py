"""Faults that the graph of a loss shows before anything is computed: what stands in front of a loss or of a normalisation."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from chainrule.graph import CONSTANT, PARAMETER, Graph, Node
from chainrule.nn import Module
from chainrule.train.diagnosis.findings import Finding, place_of
from chainrule.train.diagnosis.loss_trace import LossTrace, depending_on

_SAME_NUMBERS = frozenset({"reshape", "transpose", "cast", "round_to"})
_PAIRED = frozenset({"add", "subtract", "multiply", "divide", "power", "less", "less_equal", "equal", "maximum", "minimum"})
_LIMITS = frozenset({"add", "maximum", "minimum", "where"})
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "maximum": max,
    "minimum": min,
}
_REACHED = 0.95
"""A probability that scores should be able to reach. Those between 0 and 20 can, and are meant so; others cannot."""


def graph_faults(traced: LossTrace) -> Iterator[Finding]:
    """All of them, in the order of ``BEFORE``."""
    graph = traced.graph
    yield from _probabilities_before_cross_entropy(graph)
    yield from _probabilities_before_logits_loss(graph)
    yield from _no_logarithm_before_nll_loss(graph)
    yield from _broadcasts(traced)
    yield from _evaluation_mode(traced)
    yield from _biases_before_batch_norm(graph)


# ---- what a value is


def peeled(node: Node) -> Node:
    """The node that has the same numbers in another shape, order or dtype."""
    while node.operation.name in _SAME_NUMBERS and node.inputs:
        node = node.inputs[0]
    return node


def repeated(node: Node) -> Node:
    """The node that ``node`` repeats along axes; the node itself if it repeats none."""
    while node.operation.name in ("broadcast", "reshape", "cast") and node.inputs:
        node = node.inputs[0]
    return node


def _within_limits(node: Node) -> Node:
    """The node in front of limits such as ``p + 1e-8`` and ``p.clip(1e-8, 1)``, and of other shapes."""
    while True:
        node = peeled(node)
        if node.operation.name not in _LIMITS:
            return node
        computed = [one for one in node.inputs if not repeated(one).is_leaf and one.dtype == node.dtype]
        if len(computed) != 1:
            return node
        node = computed[0]


def softmax_in(node: Node) -> Node | None:
    """The node that is a softmax, if ``node`` has its numbers: e^log_softmax(x), or e^x / sum e^x written out."""
    node = peeled(node)
    if node.operation.name == "exp" and peeled(node.inputs[0]).operation.name == "log_softmax":
        return node
    if node.operation.name == "divide":
        above, below = peeled(node.inputs[0]), repeated(node.inputs[1])
        if above.operation.name == "exp" and below.operation.name == "sum":
            summed = peeled(below.inputs[0])
            if summed is above or (summed.operation.name == "exp" and summed.inputs[0] is above.inputs[0]):
                return node
    return None


class Probabilities(NamedTuple):
    """The node that is the result of a softmax or a sigmoid (``made_by``), and between which numbers it lies
    after what follows: nothing, or arithmetic with constants."""

    node: Node
    made_by: str
    low: float
    high: float

    @property
    def spoken(self) -> str:
        """What they are, as the object of a sentence."""
        results = f"the results of a {self.made_by}"
        return results if self.are_plain else f"{results}, changed only by constants"

    @property
    def are_plain(self) -> bool:
        """Whether they lie between 0 and 1, as nothing follows that changes it."""
        return (self.low, self.high) == (0.0, 1.0)

    def suffice_for(self, classes: int) -> bool:
        """Whether a softmax of scores in these limits can come close to 1."""
        return not self.are_plain and 1 / (1 + (classes - 1) * math.exp(self.low - self.high)) >= _REACHED

    @property
    def of_sigmoid(self) -> tuple[float, float]:
        """The limits of a sigmoid of them."""
        return 0.5 + 0.5 * math.tanh(self.low / 2), 0.5 + 0.5 * math.tanh(self.high / 2)


def _probabilities_in(node: Node) -> Probabilities | None:
    """The probabilities that ``node`` is, in another shape or not, or from which it is made by arithmetic with constants."""
    steps: list[Callable[[float], float]] = []
    while True:
        node = peeled(node)
        made_by = "softmax" if softmax_in(node) is not None else node.operation.name
        if made_by in ("softmax", "sigmoid"):
            break
        step = _with_constant(node)
        if step is None:
            return None
        node = step[0]
        steps.append(step[1])
    low, high = 0.0, 1.0
    for function in reversed(steps):
        low, high = sorted((function(low), function(high)))
    return Probabilities(node, made_by, low, high) if math.isfinite(high - low) else None


def _with_constant(node: Node) -> tuple[Node, Callable[[float], float]] | None:
    """Of a node such as p * 2: the p, and the function that was taken of it, which rises or falls everywhere."""
    function = _ARITHMETIC.get(node.operation.name)
    if function is None:
        return None
    first, second = node.inputs
    before, after = _number(first), _number(second)
    if after is not None and not (function is operator.truediv and after == 0):
        return first, lambda value, number=after: function(value, number)
    if before is not None and function is not operator.truediv:
        return second, partial(function, before)
    return None


def _number(node: Node) -> float | None:
    """The number that a node has in every place, if it is a constant."""
    node = repeated(node)
    constant = node.operation is CONSTANT and node.value is not None and node.value.size == 1
    return float(node.value.item()) if constant and node.value is not None else None


# ---- losses


def _probabilities_before_cross_entropy(graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.operation.name != "log_softmax":
            continue
        scores, at = peeled(node.inputs[0]), place_of(node.origin)
        found = _probabilities_in(scores)
        if found is not None and found.suffice_for(node.shape[node.attributes["axis"]]):
            continue
        if found is not None:
            yield Finding(
                "softmax-before-cross-entropy",
                place_of(found.node.origin),
                f"the scores are {found.spoken}, and at {at} a softmax is taken of them again: as they lie between "
                f"{found.low:.3g} and {found.high:.3g}, the loss stays large and its gradients small, however good the network",
                f"leave the {found.made_by} out: cross_entropy takes scores",
            )
        elif scores.operation.name == "log_softmax":
            yield _logarithms(scores, at, "log_softmax", "")
        elif scores.operation.name == "log" and softmax_in(_within_limits(scores.inputs[0])) is not None:
            digits = ", and loses digits of small probabilities"
            yield _logarithms(scores, at, "logarithm of a softmax", digits)


def _logarithms(scores: Node, at: str, made_by: str, besides: str) -> Finding:
    return Finding(
        "softmax-before-cross-entropy",
        place_of(scores.origin),
        f"the scores are a {made_by} already, and at {at} another log_softmax is taken, which changes nothing{besides}",
        f"leave the {made_by} out, or take nll_loss in place of cross_entropy",
    )


def _probabilities_before_logits_loss(graph: Graph) -> Iterator[Finding]:
    """That loss is the sum of softplus(x) and softplus(-x), each with its share."""
    arguments = [(node, node.inputs[0]) for node in graph.nodes if node.operation.name == "softplus"]
    plain = {argument: node for node, argument in arguments}
    for _, argument in arguments:
        if argument.operation.name != "negative" or argument.inputs[0] not in plain:
            continue
        found = _probabilities_in(argument.inputs[0])
        if found is None:
            continue
        low, high = found.of_sigmoid
        if low > 1 - _REACHED or high < _REACHED:
            at = place_of(plain[argument.inputs[0]].origin)
            yield Finding(
                "sigmoid-before-logits-loss",
                place_of(found.node.origin),
                f"the scores are {found.spoken}, and the loss at {at} takes a sigmoid of them again: no prediction "
                f"can be lower than {low:.2g} or higher than {high:.2g}",
                f"leave the {found.made_by} out, or take binary_cross_entropy in place of binary_cross_entropy_with_logits",
            )


def _no_logarithm_before_nll_loss(graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.operation.name != "where" or peeled(node.inputs[0]).operation.name != "one_hot":
            continue
        scores = peeled(node.inputs[1])
        if not scores.requires_grad or not repeated(node.inputs[2]).is_leaf:
            continue
        found, at = _probabilities_in(scores), place_of(node.origin)
        if found is not None:
            what = f"the loss at {at} takes logarithms of probabilities, and gets {found.spoken}"
            remedy = f"take log_softmax in place of the {found.made_by}, or cross_entropy of the scores in front of it"
            yield Finding("nll-loss-without-logarithm", place_of(found.node.origin), what, remedy)
        elif _is_layer(scores):
            what = f"the loss at {at} takes logarithms of probabilities, and gets scores: it falls without end as they grow"
            yield Finding(
                "nll-loss-without-logarithm", place_of(scores.origin), what, "take cross_entropy in place of nll_loss"
            )


def _is_layer(node: Node) -> bool:
    """Whether a node is the result of a linear layer or a convolution, with or without its bias."""
    if node.operation.name == "add":
        node = next((peeled(one) for one in node.inputs if repeated(one).operation is not PARAMETER), node)
    return node.operation.name in ("matmul", "conv2d")


def _broadcasts(traced: LossTrace) -> Iterator[Finding]:
    graph = traced.graph
    of_batch = depending_on(graph, [given.leaf for given in traced.inputs if given.leaf in graph.index])
    learned = depending_on(graph, [node for node in graph.nodes if node.operation is PARAMETER])
    for node in graph.nodes:
        if node.operation.name not in _PAIRED or len(node.inputs) != 2:
            continue
        predictions = [one for one in node.inputs if one in learned and one in of_batch]
        targets = [one for one in node.inputs if one in of_batch and one not in learned]
        if len(predictions) != 1 or len(targets) != 1:
            continue
        grown = [_grown_axes(predictions[0]), _grown_axes(targets[0])]
        both = bool(grown[0] - grown[1]) and bool(grown[1] - grown[0])
        before = [_before_broadcast(predictions[0]), _before_broadcast(targets[0])]
        one_of_them = node.operation.name == "subtract" and (grown[0] or grown[1]) and min(one.size for one in before) > 1
        if both or one_of_them:
            shapes = [one.shape for one in before]
            yield Finding(
                "broadcast-in-loss",
                place_of(node.origin),
                f"a prediction of shape {shapes[0]} and a target of shape {shapes[1]} meet in {node.operation.name} and are "
                f"broadcast to {node.shape}, so that numbers of different places are compared",
                f"give both one shape, such as target.reshape({', '.join(map(str, shapes[0]))})"
                if before[0].size == before[1].size
                else "give both one shape",
            )


def _grown_axes(node: Node) -> set[int]:
    return set(node.attributes["axes"]) if node.operation.name == "broadcast" else set()


def _before_broadcast(node: Node) -> Node:
    """The node that was broadcast, with its axes of size 1."""
    if node.operation.name != "broadcast":
        return node
    node = node.inputs[0]
    return node.inputs[0] if node.operation.name == "reshape" and node.inputs else node


# ---- layers


def _evaluation_mode(traced: LossTrace) -> Iterator[Finding]:
    """Layers that asked for their mode and are in evaluation mode, but for those that are frozen."""
    for module, training in traced.trace.flags.items():
        if training or not isinstance(module, Module):
            continue
        path, kind = module.__dict__["_path"], type(module).__name__
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            continue
        if any(True for _ in module.buffers()):
            results = [node for node in traced.graph.nodes if node.origin.module == path]
            if not any(node.requires_grad for node in results):
                continue  # nothing before it learns either: it is a frozen part
        yield Finding(
            "evaluation-mode",
            f"layer {path}, {kind}" if path else f"layer {kind}",
            "it is in evaluation mode, so that it drops nothing or normalises by running statistics while the network trains",
            "call model.train() before the training, and again after each evaluation",
        )


def batch_statistics(graph: Graph) -> Iterator[tuple[Node, Node, tuple[int, ...]]]:
    """Each value from which its own mean over axes is subtracted: the subtraction, the value, the axes."""
    for node in graph.nodes:
        if node.operation.name != "subtract":
            continue
        value, mean = node.inputs[0], repeated(node.inputs[1])
        if mean.operation.name != "multiply":
            continue
        for factor in mean.inputs:
            if factor.operation.name == "sum" and factor.inputs[0] is value:
                yield node, value, factor.attributes["axes"]


def _biases_before_batch_norm(graph: Graph) -> Iterator[Finding]:
    """One finding for all of them, as a network that has one has many."""
    found = list(_subtracted_biases(graph))
    if found:
        norm, value, bias = found[0]
        more = f"; so it is with {len(found) - 1} more" if len(found) > 1 else ""
        yield Finding(
            "bias-before-batch-norm",
            place_of(value.origin),
            f"the normalisation of {place_of(norm.origin)} subtracts the mean, and with it {bias.label or 'the bias'}, which "
            f"is computed and learns nothing{more}",
            "make such layers with bias=False",
        )


def _subtracted_biases(graph: Graph) -> Iterator[tuple[Node, Node, Node]]:
    """The subtraction of a mean, the value from which it is subtracted, and the bias in that."""
    for node, value, axes in batch_statistics(graph):
        value = value.inputs[0] if value.operation.name == "cast" else value
        if value.operation.name != "add":
            continue
        for term in value.inputs:
            bias = repeated(term)
            is_bias = bias.operation is PARAMETER and bias.requires_grad and term.operation.name == "broadcast"
            if is_bias and set(axes) <= set(term.attributes["axes"]):
                yield node, value, bias
