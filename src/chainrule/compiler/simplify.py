"""Pass: algebraic simplification of the graph.

Constants are folded, equal computations are done once, and identities such as x + 0 are removed. Two rules about sums save
passes over memory in normalisation layers: a factor that is constant along the axes of a sum is moved out of the sum, and a sum
of terms with such factors is computed term by term. A rule about masks replaces x > 0 by max(0, x) > 0 where max(0, x) is
computed, as that is stored anyway, and x then need not be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.compiler.rewrite import Rewriter
from chainrule.graph import Graph, Node, TensorType, leaf
from chainrule.graph.dtypes import is_float, is_normal
from chainrule.graph.node import CONSTANT, Array
from chainrule.ops import Primitive

_FOLDED_UP_TO = 4096
"""The most elements of a constant that is computed in advance."""


def simplify(graph: Graph) -> tuple[Graph, int]:
    """An equivalent graph with fewer or cheaper nodes, and the number of changes."""
    rewriter = Rewriter(_Rules(graph))
    simplified = rewriter.graph(graph)
    return simplified, rewriter.changed + max(0, len(graph) - len(simplified))


class _Rules:
    """The rules, by the name of the operation that they apply to."""

    def __init__(self, graph: Graph) -> None:
        self.relus: dict[Node, Node] = {}  # from x to max(0, x), for those that are computed
        self.table: dict[str, Callable[[Node], Node | None]] = {
            "add": _add,
            "subtract": _subtract,
            "multiply": _multiply,
            "divide": _divide,
            "negative": _negative,
            "power": _power,
            "tensor_power": _tensor_power,
            "log_softmax": lambda z: ops.log_softmax_composed(_x(z), z.attributes["axis"]),
            "cast": lambda z: _x(z) if _x(z).dtype == z.dtype else None,
            "round_to": lambda z: _x(z) if np.dtype(z.attributes["dtype"]) == z.dtype else None,
            "stop_gradient": _x,
            "reshape": _reshape,
            "transpose": _transpose,
            "broadcast": _broadcast,
            "slice": lambda z: _x(z) if z.type == _x(z).type else None,
            "pad": lambda z: _x(z) if z.type == _x(z).type else None,
            "concatenate": lambda z: _x(z) if len(z.inputs) == 1 else None,
            "sum": _sum,
            "maximum": self._note_relu,
            "less": self._mask,
        }

    def __call__(self, node: Node) -> Node | None:
        if not isinstance(node.operation, Primitive) or node.is_leaf:
            return None
        if isinstance(node.operation, ops.Custom):  # its rule has been asked; what is left is the value
            return node.inputs[-1]
        rule = self.table.get(node.operation.name)
        return _folded(node) or (None if rule is None else rule(node))

    def _note_relu(self, z: Node) -> None:
        if number_of(z.inputs[0]) == 0:
            self.relus[z.inputs[1]] = z

    def _mask(self, z: Node) -> Node | None:
        zero, x = z.inputs
        if number_of(zero) == 0 and x in self.relus:
            return ops.less(zero, self.relus[x])
        return None


def _x(z: Node) -> Node:
    return z.inputs[0]


def number_of(node: Node) -> float | None:
    """The number that all elements of a constant are equal to; None if ``node`` is no such constant."""
    while node.operation in (ops.broadcast, ops.reshape, ops.transpose) and node.size:
        node = node.inputs[0]
    if node.operation is CONSTANT and node.value is not None and node.size == 1:
        return number_in(node.value)
    return None


def number_in(value: Array) -> float:
    """The number in an array of a single element: a float or, as a float would round an int64, an int."""
    number = value.reshape(())
    return float(number) if is_float(value.dtype) else int(number)


def _folded(node: Node) -> Node | None:
    """The constant that can replace ``node``; None if it is not computed from constants alone, or has too many elements.

    A constant whose elements are all equal becomes a broadcast of a number, which other rules recognise.
    """
    if node.operation in (ops.broadcast, ops.stop_gradient):
        return None
    assert isinstance(node.operation, Primitive)
    if node.operation.elementwise and node.ndim and all(number_of(source) is not None for source in node.inputs):
        numbers = [_constant_of(source, ()) for source in node.inputs]
        single = TensorType((), node.dtype)
        value = ops.run_reference(node.operation, numbers, node.attributes, single)
        return ops.broadcast(leaf(value), shape=node.shape, axes=tuple(range(node.ndim)))
    if node.size > _FOLDED_UP_TO or any(not _is_constant(_base(source)) for source in node.inputs):
        return None
    if all(number_of(source) is not None for source in node.inputs) and node.ndim:
        return None
    values = [_constant_of(source, source.shape) for source in node.inputs]
    return leaf(ops.run_reference(node.operation, values, node.attributes, node.type))


def _is_constant(node: Node) -> bool:
    return node.operation is CONSTANT and node.value is not None


def _base(node: Node) -> Node:
    return node.inputs[0] if node.operation is ops.broadcast else node


def _constant_of(node: Node, shape: tuple[int, ...]) -> Array:
    """The array of a constant or a broadcast of one. If all elements are equal, it has ``shape``, whatever that of the node."""
    number = number_of(node)
    if number is not None:
        base = node
        while base.inputs:
            base = base.inputs[0]
        assert base.value is not None
        return np.broadcast_to(base.value.reshape(()), shape)
    base = _base(node)
    assert base.value is not None
    if base is node:
        return base.value
    return np.asarray(ops.broadcast.reference(base.value, **node.attributes))


# ---- identities


def _add(z: Node) -> Node | None:
    """x + 0 = x for integers; for floats x + -0 = x, but not x + 0, as -0 + 0 is 0."""
    a, b = z.inputs
    if _is_zero(b, is_float(z.dtype)):
        return a
    return b if _is_zero(a, is_float(z.dtype)) else None


def _subtract(z: Node) -> Node | None:
    return z.inputs[0] if _is_zero(z.inputs[1], False) else None


def _is_zero(node: Node, negative: bool) -> bool:
    """Whether all elements of ``node`` are 0, or with ``negative`` -0."""
    number = number_of(node)
    return number == 0 and (math.copysign(1, number) < 0) == negative


def _multiply(z: Node) -> Node | None:
    a, b = z.inputs
    for factor, other in ((a, b), (b, a)):
        number = number_of(factor)
        if number == 1:
            return other
        if number is None or not is_float(z.dtype):
            continue
        if other.operation is ops.multiply:  # number * (number * x)
            for inner, x in (other.inputs, reversed(other.inputs)):
                second = number_of(inner)
                if second is not None and is_normal(
                    z.dtype, number * second
                ):  # the product must neither overflow nor underflow where they did not
                    return ops.scaled(x, number * second)
    return None


def _divide(z: Node) -> Node | None:
    return z.inputs[0] if number_of(z.inputs[1]) == 1 else None


def _negative(z: Node) -> Node | None:
    return _x(_x(z)) if _x(z).operation is ops.negative else None


def _power(z: Node) -> Node | None:
    exponent = z.attributes["exponent"]
    if exponent == 1:
        return _x(z)
    return ops.multiply(_x(z), _x(z)) if exponent == 2 else None


def _tensor_power(z: Node) -> Node | None:
    exponent = number_of(z.inputs[1])
    return None if exponent is None else ops.power(_x(z), exponent=exponent)


# ---- movements


def _reshape(z: Node) -> Node | None:
    x = _x(z)
    if x.type == z.type:
        return x
    if x.operation is ops.reshape:
        return ops.reshape(x.inputs[0], shape=z.shape)
    if x.operation is ops.broadcast and x.size and x.inputs[0].size == 1:
        scalar = x.inputs[0]
        scalar = scalar if scalar.shape == () else ops.reshape(scalar, shape=())
        return ops.broadcast(scalar, shape=z.shape, axes=tuple(range(z.ndim))) if z.ndim else scalar
    return None


def _transpose(z: Node) -> Node | None:
    x, axes = _x(z), z.attributes["axes"]
    if axes == tuple(range(z.ndim)):
        return x
    if x.operation is ops.transpose:
        inner = x.attributes["axes"]
        return ops.transpose(x.inputs[0], axes=tuple(inner[axis] for axis in axes))
    return None


def _broadcast(z: Node) -> Node | None:
    x, axes = _x(z), z.attributes["axes"]
    if not axes:
        return x
    if x.operation is ops.broadcast:  # the new axes of x, as axes of z
        kept = [axis for axis in range(z.ndim) if axis not in axes]
        inner = [kept[axis] for axis in x.attributes["axes"]]
        return ops.broadcast(x.inputs[0], shape=z.shape, axes=tuple(sorted((*axes, *inner))))
    return None


# ---- sums


def _sum(z: Node) -> Node | None:
    x, axes = _x(z), z.attributes["axes"]
    if not axes:
        return x
    if not is_float(z.dtype) or z.size == 0 or x.size == 0:
        return None
    if x.operation is ops.negative:
        return ops.negative(ops.sum_(x.inputs[0], axes=axes))
    if x.operation is ops.broadcast and set(axes) <= set(x.attributes["axes"]):
        count = x.size // z.size
        return ops.scaled(_without(x, axes), count)
    if x.operation in (ops.multiply, ops.divide):
        a, b = x.inputs
        if _same_along(b, axes):
            return x.operation(ops.sum_(a, axes=axes), _without(b, axes))
        if x.operation is ops.multiply and _same_along(a, axes):
            return ops.multiply(_without(a, axes), ops.sum_(b, axes=axes))
        # A factor inside a factor. It stays in a square, where it may prevent an overflow.
        for factor, other in ((a, b), (b, a)) if a is not b else ():
            if (
                x.operation is ops.multiply
                and factor.operation in (ops.multiply, ops.divide)
                and _same_along(factor.inputs[1], axes)
            ):
                inner = ops.sum_(ops.multiply(factor.inputs[0], other), axes=axes)
                return factor.operation(inner, _without(factor.inputs[1], axes))
    if x.operation is ops.subtract:
        total = sum_of_mean(x.inputs[1], x.inputs[0], axes)
        if total is not None:  # the sum of x - mean(x) is 0, or nan if the sum of x is not finite
            return ops.scaled(total[0], 0.0)
    if x.operation in (ops.add, ops.subtract) and any(_has_factor(term, axes) for term in x.inputs):
        return x.operation(*(ops.sum_(term, axes=axes) for term in x.inputs))
    return None


def _same_along(node: Node, axes: Any) -> bool:
    """Whether a factor is constant along ``axes`` and so can be moved out of a sum along them.

    Numbers stay in the sum: they may prevent an overflow, as 1/n in the sum of x/n does, and multiplying by them costs nothing.
    """
    return node.operation is ops.broadcast and set(axes) <= set(node.attributes["axes"]) and number_of(node) is None


def sum_of_mean(mean: Node, x: Node, axes: Any) -> tuple[Node, float] | None:
    """The sum of ``x`` along ``axes``, and 1 / number of elements, if ``mean`` is their product, broadcast; otherwise None."""
    if mean.operation is not ops.broadcast or tuple(mean.attributes["axes"]) != tuple(axes):
        return None
    mean = mean.inputs[0]
    for share, total in (mean.inputs, mean.inputs[::-1]) if mean.operation is ops.multiply else ():
        number = number_of(share)
        is_sum = total.operation is ops.sum_ and total.inputs[0] is x and total.attributes["axes"] == axes
        if is_sum and number is not None and abs(number * (x.size // total.size) - 1) < 1e-6:
            return total, number
    return None


def _has_factor(node: Node, axes: Any) -> bool:
    """Whether ``node`` is a product or quotient with a factor that is constant along ``axes``.

    A node that is itself constant along them does not count: the sum of x - c, computed term by term, would be the difference
    of two large sums.
    """
    if node.operation is ops.negative:
        return _has_factor(node.inputs[0], axes)
    if node.operation in (ops.multiply, ops.divide):
        return any(_same_along(factor, axes) for factor in node.inputs)
    return False


def _without(node: Node, axes: Any) -> Node:
    """A broadcast without those of its new axes that are in ``axes``."""
    inner, given = node.inputs[0], node.attributes["axes"]
    kept = [axis for axis in range(node.ndim) if axis not in axes]
    shape = tuple(node.shape[axis] for axis in kept)
    rest = tuple(place for place, axis in enumerate(kept) if axis in given)
    return ops.broadcast(inner, shape=shape, axes=rest) if rest else inner
