"""Faults that one forward pass shows: inputs that are not normalised, initial weights that let activations vanish or explode.

The strength of a signal is the deviation between the examples of a batch, as a mean over all units:
sqrt(mean over units of the variance over examples). Biases do not count in it, as they are the same for all examples.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence

import numpy as np

from chainrule.graph import INPUT, PARAMETER, Array, Node
from chainrule.ops import Primitive
from chainrule.train.diagnosis.findings import Finding, place_of
from chainrule.train.diagnosis.graph_faults import batch_statistics, peeled
from chainrule.train.diagnosis.loss_trace import LossTrace, depending_on

_FACTOR = 1e3
"""By how much a signal must have become weaker or stronger than in front of the first layer."""

_BY_FAN_IN = "initialise the weights by their fan-in (nn.init.kaiming_normal_)"

_MUCH_WORK, _SHORT_RUN = 50_000_000, 3
"""Multiply-adds from which on a forward pass is spared where no more layers than that stand between normalisations."""

_LARGE_INPUT, _SMALL_INPUT = 20.0, 0.004
"""Root mean squares of inputs beyond which they are taken for unnormalised: pixels from 0 to 255 have 30 to 200, pixels that
were divided by 255 twice at most 0.004."""


def work(traced: LossTrace) -> int:
    """The multiply-adds of a forward pass."""
    return sum(_multiply_adds(node) for node in traced.graph.nodes)


def _multiply_adds(node: Node) -> int:
    count = node.operation.multiply_adds if isinstance(node.operation, Primitive) else None
    return 0 if count is None else int(count(*[one.type for one in node.inputs], node.type))


def scale_faults(traced: LossTrace) -> Iterator[Finding]:
    """Run the loss forward once, and say where signals leave the usual range.

    In a large network that normalises again and again they do not, and only its input is looked at.
    """
    layers = _layers(traced)
    if not layers or traced.examples < 2:
        return
    first = next(iter(layers))
    data = first.inputs[layers[first]]
    skips = work(traced) > _MUCH_WORK and _longest_run(traced, layers) <= _SHORT_RUN
    with np.errstate(all="ignore"):
        values = traced.values_of([data] if skips else [data, *layers])
        if (argument := _as_passed(data)).operation is INPUT:
            yield from _input_range(first, argument.label, values[data])
        before = _signal(values[data], traced.examples)
        signals = [] if skips else [(layer, _signal(values[layer], traced.examples)) for layer in layers]
    if before and math.isfinite(before):  # otherwise the examples are all alike, or not finite
        yield from _signals_out_of_range(signals, before, traced.examples)


def _as_passed(data: Node) -> Node:
    """The argument that ``data`` is, padded, cut out or pooled, but not scaled; or what it was computed by."""
    node = peeled(data)
    while node.operation.name in ("pad", "slice", "flip", "max_pool2d"):
        node = peeled(node.inputs[0])
    return node


def _longest_run(traced: LossTrace, layers: Container[Node]) -> int:
    """The largest number of layers in a row without a normalisation of what comes behind them."""
    normalisations = {node for node, _, _ in batch_statistics(traced.graph)}
    depths: dict[Node, int] = {}
    for node in traced.graph.nodes:
        before = max([depths[one] for one in node.inputs], default=0)
        depths[node] = 0 if node in normalisations else before + (node in layers)
    return max(depths.values())


def _layers(traced: LossTrace) -> dict[Node, int]:
    """Matrix products and convolutions of what comes from the batch with a parameter, in order, and which input is the data."""
    graph = traced.graph
    of_batch = depending_on(graph, [given.leaf for given in traced.inputs if given.leaf in graph.index])
    found = {}
    for node in graph.nodes:
        if _multiply_adds(node):
            for place, (data, weight) in enumerate((node.inputs[:2], node.inputs[1::-1])):
                if data in of_batch and data.size and peeled(weight).operation is PARAMETER:
                    found[node] = place
    return found


def _signal(value: Array, examples: int) -> float:
    """The deviation between examples, as a mean over units; over all numbers where the first axis is not that of examples."""
    wide = value.astype(np.float64)
    if wide.shape[:1] != (examples,):
        return float(wide.std())
    return math.sqrt(wide.var(axis=0).mean())


def _input_range(first: Node, argument: str, data: Array) -> Iterator[Finding]:
    """What is said of the ``data`` that a layer gets as they are passed."""
    size = math.sqrt(np.mean(np.square(data, dtype=np.float64)))
    least, largest = float(data.min()), float(data.max())
    what = f"its input, argument {argument}, goes from {least:.3g} to {largest:.3g}"
    both = "subtract the mean and divide by the standard deviation"
    if size > _LARGE_INPUT:
        remedy = f"{both}, or at least divide by {largest - least:.3g}"
        yield Finding("unnormalised-inputs", place_of(first.origin), what, remedy)
    elif 0 < size < _SMALL_INPUT:
        what = f"{what}: were pixels divided by 255 twice?"
        yield Finding("unnormalised-inputs", place_of(first.origin), what, f"divide once, or {both}")


def _signals_out_of_range(signals: Sequence[tuple[Node, float]], before: float, examples: int) -> Iterator[Finding]:
    """The layer from which on all signals are out of range. A last layer alone may begin with weights of 0."""
    ratios = [signal / before for _, signal in signals]
    for name, is_out in (
        ("vanishing-activations", lambda ratio: ratio < 1 / _FACTOR),
        ("exploding-activations", lambda ratio: not ratio <= _FACTOR),
    ):
        start = len(ratios)
        while start and is_out(ratios[start - 1]):
            start -= 1
        out = len(ratios) - start
        if not out or (out == 1 and name == "vanishing-activations"):
            continue
        node, signal = signals[start]
        began = f"the deviation between examples, {before:.2g} in front of the first layer,"
        here = f"behind this one, layer {start + 1} of {len(signals)} with weights"
        each = _per_layer(ratios[start], start + 1)
        if name == "vanishing-activations":
            lost = "hardly anything of an example gets through, nor of a gradient on its way back"
            what = f"{began} is {signal:.2g} {here}{each}, so {lost}"
            remedy = f"{_BY_FAN_IN}, normalise (BatchNorm), or take ReLU for sigmoid"
        elif math.isfinite(signal):
            what, remedy = f"{began} is {signal:.2g} {here}{each}", f"{_BY_FAN_IN}, or normalise (BatchNorm)"
        else:
            what = f"{began} is no longer finite {here}, for {examples} examples"
            remedy = "see with train.first_bad_node where that begins: it may be a division by 0, or weights that are too large"
        yield Finding(name, place_of(node.origin), what, remedy)


def _per_layer(ratio: float, layers: int) -> str:
    if not (math.isfinite(ratio) and ratio > 0):
        return ""
    return f": a factor of {ratio ** (1 / layers):.2g} for each"
