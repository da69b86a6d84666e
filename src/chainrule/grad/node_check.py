"""Holds what single nodes pass back against finite differences, in float64.

A traced graph is computed in float64, whatever its dtypes are: casts between floats do nothing, so nothing is rounded. Then,
for a node z = f(x) and its input x, with a random upstream gradient u and a random direction d, the chain rule demands

    <u, (f(x + h d) - f(x - h d)) / 2h>  =  <downstream gradient for x, d>

d is relative to the size of each element, so that a step neither drowns in it nor leaves the domain of f. Where the slopes of
an element of z from the left and from the right differ, by more than its curvature explains, there is a kink (max(0, x) at 0, a
tie of a maximum) or a jump (rounding): u is 0 there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chainrule.graph.dtypes import float64, is_float
from chainrule.graph.graph import topological_order
from chainrule.graph.node import Array, Node, TensorType, leaf
from chainrule.graph.origin import originating_from
from chainrule.ops.custom import Custom
from chainrule.ops.execution import history, run_reference
from chainrule.ops.primitive import Primitive

Values = dict[Node, Array]
_STEP = 1e-5  # relative; the error of central differences, about step^2 + 1e-16 / step, is least near 1e-5
_FINE = 32  # by how much smaller the step is that tells a kink from curvature
_EXACT = 1e-7  # a relative error that needs no other step
_EPSILON = float(np.finfo(np.float64).eps)


def computed(outputs: Sequence[Node], known: Values) -> Values:
    """The values of ``outputs`` and of all that leads there, in float64; ``known`` has those of leaves, and may have others."""
    values = dict(known)
    for node in topological_order(outputs, follow=lambda node: node not in known):
        if node.is_leaf:
            assert node.value is not None  # all other leaves are known
            values[node] = in_float64(node.value)
        else:
            values[node] = applied(node, [values[one] for one in node.inputs])
    return values


def in_float64(value: Array) -> Array:
    """``value`` in float64 if it is of floats, else as it is."""
    return value.astype(float64) if is_float(value.dtype) else value


def applied(node: Node, inputs: Sequence[Array]) -> Array:
    """The value of ``node`` for other values of its inputs, in float64."""
    assert isinstance(node.operation, Primitive)
    dtype = float64 if is_float(node.dtype) else node.dtype
    return run_reference(node.operation, inputs, _in_float64(node.attributes), TensorType(node.shape, dtype))


def _in_float64(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attributes in which float64 stands for every float, as in those of a cast."""
    dtype = attributes.get("dtype")
    return {**attributes, "dtype": float64} if dtype is not None and is_float(np.dtype(dtype)) else attributes


@dataclass(frozen=True)
class Difference:
    """What a node passes back to an input (``passed``) and what finite differences say (``expected``), along one direction.

    ``scale`` is the size of such products for this node, ``noise`` what rounding may contribute to ``expected``. ``smooth`` of
    the node's ``elements`` have a slope here, and ``not_finite`` have none, as they are nan or infinite themselves; the others
    stand at a kink or a jump. What has no slope is left out. ``settled`` is false if smaller steps still made the difference
    smaller.
    """

    passed: float
    expected: float
    scale: float
    noise: float
    smooth: int
    elements: int
    not_finite: int = 0
    settled: bool = True

    @property
    def apart(self) -> float:
        """The difference itself."""
        return abs(self.passed - self.expected)

    @property
    def error(self) -> float:
        """The difference, relative to the scale; infinite if what is passed back is not finite."""
        if not np.isfinite(self.apart):
            return np.inf
        return 0.0 if self.apart == 0 else self.apart / self.scale if self.scale else np.inf

    @property
    def doubt(self) -> float:
        """The relative error, or what rounding may contribute to it, whichever is larger."""
        return max(self.error, self.noise / self.scale) if self.scale else self.error

    def is_decided(self, tolerance: float) -> bool:
        """Whether finite differences can tell right from wrong here, up to an error of ``tolerance``."""
        if self._without_slope:
            return False
        if self.error <= tolerance or not np.isfinite(self.error):
            return True
        return self.settled and self.apart > self.noise

    @property
    def is_lost(self) -> bool:
        """Whether there is nothing to tell right from wrong by, because elements of the node are nan or infinite."""
        return self.not_finite > 0 and self._without_slope

    @property
    def _without_slope(self) -> bool:
        return not self.smooth or (self.smooth < self.elements and not np.isfinite(self.passed))


def passed_back(node: Node) -> tuple[Node, list[Node | None]]:
    """A leaf for the upstream gradient of a traced ``node``, and the downstream gradient for each input that asks for one."""
    assert isinstance(node.operation, Primitive)
    upstream = leaf(node.type)
    with history("nothing"), originating_from(node.origin):
        wanted = [one.requires_grad and node.operation.passes_gradient_to(place) for place, one in enumerate(node.inputs)]
        return upstream, node.operation.pass_on(node, upstream, wanted)


def compared(
    node: Node, place: int, upstream: Node, downstream: Node | None, values: Values, rng: np.random.Generator
) -> Difference:
    """The comparison for input ``place`` of ``node``, whose rule makes ``downstream`` from ``upstream``; None stands for 0.

    Where an input is so small beside the output that rounding there hides its influence, larger steps are tried, and smaller
    ones where f bends much. A rule that is wrong stays wrong with any of them. Elements of the input that are not finite, such
    as the minus infinity of a mask, stay as they are: a step from there leads nowhere.
    """
    x, z = values[node.inputs[place]], values[node]
    finite = np.isfinite(x)
    direction = rng.standard_normal(x.shape) * np.where(x == 0, 1e-3 * (_size(x) or 1e3), np.where(finite, np.abs(x), 0.0))
    weights = rng.standard_normal(z.shape)
    not_finite = int((~np.isfinite(z)).sum())
    function = _function(node, place, values)

    def along(direction: Array, length: float) -> Difference:
        """The comparison with steps of this ``length``, relative to the usual one."""
        direction = direction * length
        slope, smooth = _slopes(function, x, z, direction)
        sent = np.where(smooth, weights, 0.0)
        gradient = np.zeros(x.shape) if downstream is None else computed([downstream], {**values, upstream: sent})[downstream]
        terms, parts = sent * np.where(smooth, slope, 0.0), gradient * direction
        noise = _rounding(float(np.linalg.norm(sent * np.where(smooth, z, 0.0))))
        scale = max(float(np.linalg.norm(terms)), float(np.linalg.norm(parts)), abs(float(terms.sum())))
        passed, expected = float(parts.sum()), float(terms.sum())
        sizes = passed / length, expected / length, scale / length, noise / length
        return Difference(*sizes, int(smooth.sum()), z.size, not_finite)

    with np.errstate(all="ignore"):
        best = along(direction, 1.0)
        longer = []
        if best.noise > _EXACT * best.scale:
            longer = [(direction, 1e3), (rng.standard_normal(x.shape) * _size(z) * finite, 1.0)]
        last = best
        for other, length in [*longer, *((direction, 8.0**-power) for power in range(1, 5))]:
            if best.doubt <= _EXACT or not best.smooth:
                return best
            before, last = last, along(other, length)
            if last.smooth >= best.smooth and last.doubt < best.doubt / 2:
                best = last
        return replace(best, settled=last.apart > before.apart / 4)


def _rounding(size: float) -> float:
    """What rounding of values of this ``size`` may contribute to a difference divided by the step."""
    return 16 * _EPSILON * size / _STEP


def _size(x: Array) -> float:
    """The root of the mean square of the finite elements; computed so that no square overflows."""
    finite = x[np.isfinite(x)]
    largest = float(np.abs(finite).max(initial=0.0))
    return largest * float(np.sqrt(np.mean((finite / largest) ** 2))) if largest else 0.0


def _slopes(function: Callable[[Array], Array], x: Array, z: Array, direction: Array) -> tuple[Array, Array]:
    """The slope of each element of ``function`` at ``x`` along ``direction``, and whether it is smooth there."""
    right, left = (function(x + _STEP * direction) - z) / _STEP, (z - function(x - _STEP * direction)) / _STEP
    apart = np.abs(right - left)
    smooth = np.isfinite(apart) & (apart <= 1e-3 * np.maximum(np.abs(right), np.abs(left)) + _rounding(1.0) * np.abs(z))
    doubtful = ~smooth & np.isfinite(apart)
    if doubtful.any():  # curvature makes the slopes differ too, but in proportion to the step
        step = _STEP / _FINE
        near = np.abs((function(x + step * direction) - z) / step - (z - function(x - step * direction)) / step)
        wild = np.maximum(np.abs(right), np.abs(left)) * _STEP > 0.1 * _size(
            z
        )  # as where a step goes through periods of a sine
        smooth |= doubtful & (near * _FINE <= 2 * apart) & (near * _FINE >= apart / 2) & ~wild
    return (right + left) / 2, smooth


def _function(node: Node, place: int, values: Values) -> Callable[[Array], Array]:
    """``node`` as a function of its input ``place``, all else as in ``values``."""
    if isinstance(node.operation, Custom):
        begin = node.attributes["application"].begins[place]
        depends = {begin}
        again = []  # the nodes of its computation that depend on this argument
        for one in topological_order([node.inputs[-1]], follow=lambda one: one is not begin):
            if not depends.isdisjoint(one.inputs):
                depends.add(one)
                again.append(one)

        def of_custom(x: Array) -> Array:
            changed = {begin: x}
            for one in again:
                changed[one] = applied(one, [changed[source] if source in changed else values[source] for source in one.inputs])
            return changed.get(node.inputs[-1], values[node])

        return of_custom
    inputs = [values[one] for one in node.inputs]
    return lambda x: applied(node, [*inputs[:place], x, *inputs[place + 1 :]])
