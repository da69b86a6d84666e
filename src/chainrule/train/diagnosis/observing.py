"""What is looked at in the graph of a training step: outputs of layers, gradients that arrive there, and units like ReLU.

    graph of the step ──> layers: squares, zeros, squares of gradients (detail 2)
                     └──> units:  sums over everything but the channels (detail 1)

A layer is looked at where its result leaves it: at a node that another layer, or the loss, reads. A unit is a channel of
max(0, x), which also begins relu6, hardswish and hardsigmoid, or of the same written as x * (x > 0) or where(x > 0, x, 0).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chainrule import ops
from chainrule.graph import CONSTANT, INPUT, PARAMETER, Graph, Node, Observed, Role
from chainrule.graph.dtypes import is_float
from chainrule.tensor.tracing import Trace
from chainrule.train.diagnosis.health_record import RecordedLayer, RecordedUnits

UNITS, LAYERS = 1, 2
"""The details of what is observed: units are looked at in each step, layers in the sampled ones."""

_FEW_CHANNELS = 16
"""With fewer channels than fit a vector, the sums of units are kept apart by columns, too, which lie beside the channels."""

_DOUBLE = np.dtype(np.float64)
_ROUNDINGS = (ops.cast, ops.round_to)


class Name(NamedTuple):
    """The name of a row of a recording: the path of a layer, with a number if it is called several times, and the operation."""

    path: str
    operation: str


class Numbers(NamedTuple):
    """The places of what is observed of a layer: its sum of squares, number of zeros, and the sum of squares of its gradient,
    None where no gradient arrives."""

    squares: int
    zeros: int
    gradient: int | None


@dataclass
class Observation:
    """What is observed of a step.

    Attributes:
        layers: what is looked at, in the order in which it is computed, with the ``places`` of its values.
        units: the rows of units, with the ``sums`` that are their values: (C,), or (C, W), where columns are kept apart.
        observed: the values themselves.
    """

    layers: list[RecordedLayer]
    places: list[Numbers]
    units: list[RecordedUnits]
    sums: list[int]
    observed: list[Observed]

    def __repr__(self) -> str:
        return f"<Observation of {len(self.layers)} layers and {len(self.units)} rows of units>"


def observation_of(trace: Trace, names: Mapping[Node, str]) -> Observation:
    """What to observe of a traced step. ``names`` are those of the parameters, by the leaves that stand for them."""
    made = Observation([], [], [], [], [])
    if not trace.upstream:
        return made
    graph = Graph(next(iter(trace.upstream)))  # of the loss, from which the gradient begins
    layers, units = rows_of(graph)
    for named, node in layers:
        upstream = trace.upstream.get(node)
        made.layers.append(RecordedLayer(*named, node.size // node.shape[0]))
        squares, zeros = _add(made, _squares(node), LAYERS), _add(made, _zeros(node), LAYERS)
        made.places.append(Numbers(squares, zeros, None if upstream is None else _add(made, _squares(upstream), LAYERS)))
    consumers = graph.consumers()
    for named, node in units:
        axis, seen = _channel_axis(node), _pooled(node, consumers[node])
        kept = {axis, node.ndim - 1} if node.shape[axis] < _FEW_CHANNELS and axis == 1 else {axis}
        made.sums.append(_add(made, ops.sum_(seen, axes=tuple(i for i in range(node.ndim) if i not in kept)), UNITS))
        made.units.append(RecordedUnits(*named, node.shape[axis], *_parameters_of(node, node.shape[axis], names)))
    return made


def rows_of(graph: Graph) -> tuple[list[tuple[Name, Node]], list[tuple[Name, Node]]]:
    """The layers, and the units, of the graph of a loss, by their names in the recording, in the order of the computation."""
    paths = {node.origin.module for node in graph.nodes}
    containers = {path.rpartition(".")[0] for path in paths} | {node.origin.kind for node in graph.nodes}

    def named(nodes: Iterable[Node]) -> list[tuple[Name, Node]]:
        calls: Counter[tuple[str, str]] = Counter()
        found = []
        for node in nodes:
            path, kind = node.origin.module, node.origin.kind
            operation = kind if path not in containers else "relu" if is_unit(node) else node.operation.name
            calls[path, operation] += 1
            count = calls[path, operation]
            found.append((Name(path if count == 1 else f"{path}:{count}", operation), node))
        return found

    of_batch, leaving = _values_of_batch(graph)
    return named(leaving), named(filter(is_unit, of_batch))


def _add(made: Observation, node: Node, detail: int) -> int:
    made.observed.append(Observed(node, detail))
    return len(made.observed) - 1


def _pooled(node: Node, consumers: list[Node]) -> Node:
    """The maxima of windows that cover all of a unit's outputs, if there are such: one of them is above 0 where an output is.

    They are fewer, so that looking at them takes less time; otherwise the node itself.
    """
    for user in consumers:
        if user.operation is ops.max_pool2d:
            given = user.attributes
            whole = all(
                size % stride == 0 and window == stride
                for size, window, stride in zip(node.shape[2:], given["window"], given["stride"], strict=True)
            )
            if whole and given["dilation"] == (1, 1) and given["padding"] == ((0, 0), (0, 0)):
                return user
    return node


def _squares(node: Node) -> Node:
    """The sum of squares of all elements, in float64, where neither small nor large ones are lost."""
    wide = ops.cast(node, dtype=_DOUBLE)
    return ops.sum_(ops.multiply(wide, wide), axes=tuple(range(node.ndim)))


def _zeros(node: Node) -> Node:
    return ops.sum_(ops.cast(ops.equal(node, ops.zeros_like(node)), dtype=_DOUBLE), axes=tuple(range(node.ndim)))


# ---- where to look


def _values_of_batch(graph: Graph) -> tuple[list[Node], list[Node]]:
    """The values of layers that depend on the images, in order, and those of them that leave their layer; what only moves
    numbers is left out."""
    batch = {leaf for leaf in graph.leaves if leaf.operation is INPUT and is_float(leaf.dtype) and leaf.ndim > 1}
    depends, consumers = set(batch), graph.consumers()
    for node in graph.nodes:
        if any(source in depends for source in node.inputs):
            depends.add(node)
    examples = {leaf.shape[0] for leaf in batch}
    values = [
        node
        for node in graph.nodes
        if node in depends
        and node not in batch
        and node.origin.kind  # of a layer, not of the loss
        and node.ndim > 1
        and node.shape[0] in examples
        and node.size > node.shape[0]
        and is_float(node.dtype)
        and node.operation.role is not Role.MOVER
    ]

    def leaves_its_layer(node: Node) -> bool:
        return any(user.origin.module != node.origin.module or not user.origin.kind for user in consumers[node])

    return values, [node for node in values if leaves_its_layer(node)]


def is_unit(node: Node) -> bool:
    """Whether a node is max(0, x), however it is written."""
    if node.operation is ops.maximum:
        return any(_is_zero(source) for source in node.inputs)
    if node.operation is ops.multiply:
        return any(_is_sign(mask, factor, above=True) for mask, factor in (node.inputs, node.inputs[::-1]))
    if node.operation is ops.where:
        condition, chosen, other = node.inputs
        if _is_zero(other):
            return _is_sign(condition, chosen, above=True)
        return _is_zero(chosen) and _is_sign(condition, other, above=False)
    return False


def _is_zero(node: Node) -> bool:
    node = _without(node, ops.broadcast)
    return node.operation is CONSTANT and node.value is not None and not node.value.any()


def _is_sign(mask: Node, value: Node, above: bool) -> bool:
    """Whether ``mask`` says where ``value`` is above 0, or where it is below; what it says at 0 does not matter."""
    compared = _without(mask, ops.cast)
    if compared.operation not in (ops.less, ops.less_equal):
        return False
    low, high = compared.inputs
    zero, other = (low, high) if above else (high, low)
    return _is_zero(zero) and _without(other, *_ROUNDINGS) is _without(value, *_ROUNDINGS)


def _without(node: Node, *operations: ops.Primitive) -> Node:
    """What ``node`` was before these operations, which keep its numbers."""
    while node.operation in operations:
        node = node.inputs[0]
    return node


def _channel_axis(node: Node) -> int:
    """The axis of the units: the last one behind a matrix product, otherwise that of channels."""
    made = _maker(node)
    return node.ndim - 1 if made is not None and made.operation is ops.matmul else 1


def _before(node: Node) -> list[Node]:
    """What a unit is computed from, the nearest first, back to the operations that make its input."""
    order, seen = [node], {node}
    for current in order:
        if current is not node and (_makes(current) or is_unit(current)):
            continue
        for source in current.inputs:
            if source not in seen:
                seen.add(source)
                order.append(source)
    return order[1:]


def _makes(node: Node) -> bool:
    return node.operation is ops.matmul or node.operation.name.startswith("conv")


def _maker(node: Node) -> Node | None:
    return next((one for one in _before(node) if _makes(one)), None)


def _parameters_of(node: Node, channels: int, names: Mapping[Node, str]) -> tuple[str | None, str | None]:
    """The names of the weight and of the bias that decide on the channels of a unit; None where there is none."""
    bias = next((names.get(one) for one in _before(node) if _is_bias(one, channels)), None)
    made = _maker(node)
    weight = None
    for source in () if made is None else made.inputs:
        while source.inputs and (source.operation.role is Role.MOVER or source.operation in _ROUNDINGS):
            source = source.inputs[0]
        if source.operation is PARAMETER and source.shape[0] == channels:
            weight = names.get(source)
    return weight, bias


def _is_bias(node: Node, channels: int) -> bool:
    return node.operation is PARAMETER and node.size == channels and node.shape[:1] == (channels,)


def same_rows(one: Observation, other: Observation) -> bool:
    """Whether two observations, such as those of batches of different sizes, are of the same layers and units."""
    return (one.layers, one.units, one.places, one.sums) == (other.layers, other.units, other.places, other.sums)
