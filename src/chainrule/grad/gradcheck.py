"""Compares gradients with finite differences, in float64.

First along a single random direction d, for a random combination u of the outputs: the slope of <u, f(x + t d)> at t = 0 by
central differences must equal <gradient, d>. This takes three evaluations of f, whatever the sizes. Only if it fails is each
element checked by itself, to name the worst. An element at a kink (the slopes from the left and from the right differ, as for
max(0, x) at 0) passes if its gradient lies between the two slopes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.arguments import whole_number
from chainrule.errors import UserError
from chainrule.grad.backprop import backprop
from chainrule.graph.dtypes import float64, is_float
from chainrule.graph.node import Array, Node, leaf
from chainrule.graph.tables import Contents, Table
from chainrule.ops.broadcast import sum_
from chainrule.ops.compose import to_dtype
from chainrule.ops.elementwise import add, multiply
from chainrule.ops.execution import history, run_reference, running_on

Function = Callable[..., Node]
_STEP = 1e-5  # the error of central differences, about step^2 + 1e-16 / step, is least near 1e-5


@dataclass(frozen=True, repr=False)
class Gradcheck(Table):
    """A check that passed: the largest relative error seen, and how many elements stood at a kink. Prints as a table."""

    order: int
    error: float
    kinks: int

    def contents(self) -> Contents:
        """A table with a single row: order, largest relative error, number of elements at kinks."""
        checked = "gradients" if self.order == 1 else "gradients, and the gradients of gradients,"
        header = ("order>", "largest relative error>", "elements at kinks>")
        rows = [(str(self.order), f"{self.error:.2g}", str(self.kinks))]
        return Contents(f"gradcheck: {checked} agree with finite differences", header, rows)


def gradcheck(f: Function, *inputs: Array, order: int = 1, tolerance: float = 1e-5, seed: int = 0) -> Gradcheck:
    """Check the gradients of ``f`` (nodes to a node) at ``inputs``; raises a UserError that names the worst element.

    Float inputs are converted to float64 and checked, integers and bools are passed as they are. ``order=2`` also checks
    the gradient of the gradient. ``tolerance`` is relative to the size of the gradient.
    """
    if whole_number("gradcheck: order", order) not in (1, 2):
        raise UserError(f"gradcheck: order must be 1 or 2, got {order}")
    points = [np.asarray(x, dtype=float64) if is_float(np.asarray(x).dtype) else np.asarray(x) for x in inputs]
    if not any(is_float(x.dtype) for x in points):
        raise UserError("gradcheck: none of the inputs is a float, so there is no gradient to check")
    first = _check(f, points, 1, tolerance, seed)
    if order == 1:
        return first
    second = _check(_gradient_of(f, points, seed), points, 2, tolerance, seed + 1)
    return Gradcheck(2, max(first.error, second.error), first.kinks + second.kinks)


def _gradient_of(f: Function, points: Sequence[Array], seed: int) -> Function:
    """A function from the inputs to a random linear combination of all gradients of ``f``, itself to be checked."""

    def gradient(*nodes: Node) -> Node:
        rng = np.random.default_rng(seed)
        output = to_dtype(f(*nodes), float64)
        upstream = leaf(rng.standard_normal(output.shape))
        wanted = [node for node in nodes if is_float(node.dtype)]
        total = leaf(np.zeros(()))
        for part in backprop(output, wanted, upstream):
            if part is not None:
                total = _dot(part, rng.standard_normal(part.shape), total)
        return total

    return gradient


def _dot(node: Node, weights: Array, total: Node) -> Node:
    """``total`` plus the inner product of ``node`` and ``weights``."""
    return add(total, sum_(multiply(node, leaf(weights)), axes=tuple(range(node.ndim))))


def _check(f: Function, points: list[Array], order: int, tolerance: float, seed: int) -> Gradcheck:
    rng = np.random.default_rng(seed + 7)
    gradients, weights = _analytic(f, points, rng)

    def value(at: Sequence[Array]) -> float:
        with running_on(run_reference), history("gradients"):  # f may itself compute gradients: its inputs must require them
            output = to_dtype(f(*(leaf(x, requires_grad=True) for x in at)), float64)
        assert output.value is not None
        return float(np.vdot(weights, output.value))

    floats = [i for i, x in enumerate(points) if is_float(x.dtype)]
    directions = {i: rng.standard_normal(points[i].shape) for i in floats}
    expected = float(sum(np.vdot(gradients[i], directions[i]) for i in floats))
    length = float(np.sqrt(sum(np.vdot(gradients[i], gradients[i]) for i in floats)))  # the standard deviation of <gradient, d>
    moved = [[x + t * directions[i] if i in directions else x for i, x in enumerate(points)] for t in (_STEP, -_STEP)]
    ahead, behind = value(moved[0]), value(moved[1])
    slope = (ahead - behind) / (2 * _STEP)
    error = abs(slope - expected) / (max(length, abs(slope)) + _noise(max(abs(ahead), abs(behind)), tolerance))
    if error <= tolerance:
        return Gradcheck(order, error, 0)
    return _check_each(value, points, gradients, floats, order, tolerance)


def _noise(size: float, tolerance: float) -> float:
    """An addition to the scale of a gradient that keeps the error of the finite differences themselves below ``tolerance``.

    It covers the rounding of values of this ``size`` divided by the step, and the curvature of functions of moderate size.
    """
    return 1e-9 * max(1.0, size) / tolerance


def _analytic(f: Function, points: Sequence[Array], rng: np.random.Generator) -> tuple[list[Array], Array]:
    """Gradients of <weights, f> for every input, and the random weights."""
    with running_on(run_reference), history("gradients"):
        nodes = [leaf(x, requires_grad=True) for x in points]
        output = to_dtype(f(*nodes), float64)
        weights = rng.standard_normal(output.shape)
        wanted = [node for node in nodes if is_float(node.dtype)]
        results = iter(backprop(output, wanted, leaf(weights)))
    gradients = []
    for node in nodes:
        gradient = next(results) if is_float(node.dtype) else None
        known = gradient is not None and gradient.value is not None
        gradients.append(gradient.value if known else np.zeros(node.shape))  # type: ignore[union-attr]
    return gradients, weights  # type: ignore[return-value]


def _check_each(
    value: Callable[[Sequence[Array]], float],
    points: list[Array],
    gradients: list[Array],
    floats: Sequence[int],
    order: int,
    tolerance: float,
) -> Gradcheck:
    worst, kinks, place = 0.0, 0, (0, (), 0.0, 0.0)
    centre = value(points)
    for i in floats:
        largest = float(np.abs(gradients[i][np.isfinite(gradients[i])]).max(initial=0.0))
        for unit in np.ndindex(points[i].shape):

            def shifted(by: float, i: int = i, unit: tuple[int, ...] = unit) -> float:
                moved = points[i].copy()
                moved[unit] += by
                return value([*points[:i], moved, *points[i + 1 :]])

            right, left = (shifted(_STEP) - centre) / _STEP, (centre - shifted(-_STEP)) / _STEP
            analytic = float(gradients[i][unit])
            scale = max(largest, abs(left + right) / 2) + _noise(abs(centre), tolerance)
            error = abs((left + right) / 2 - analytic) / scale
            if np.isnan(error):
                error = np.inf
            if error > tolerance and _at_kink(left, right, analytic, shifted, centre, tolerance * scale):
                kinks += 1
                continue
            if error > worst:
                worst, place = error, (i, unit, analytic, (left + right) / 2)
    if worst > tolerance:
        i, unit, analytic, numeric = place
        checked = "gradient" if order == 1 else "gradient of the gradient"
        at = f"{list(unit)} of " if unit else ""
        raise UserError(
            f"gradcheck: the {checked} is wrong, worst at {at}input {i}: backprop says {analytic:.9g}, "
            f"finite differences say {numeric:.9g} (relative error {worst:.2g}, tolerance {tolerance:g})"
        )
    return Gradcheck(order, worst, kinks)


def _at_kink(
    left: float, right: float, analytic: float, shifted: Callable[[float], float], centre: float, slack: float
) -> bool:
    """Whether the function has a kink within a step, and the gradient is either of the slopes beside it or between them.

    A smaller step tells the cases apart. Curvature makes the slopes differ too, but in proportion to the step. At a kink they
    stay apart; at a kink nearby they come to agree with the gradient. Where the function jumps (as the gradient of abs(x) does
    at 0), the slopes grow: there no gradient is wrong.
    """
    fine = _STEP / 64
    near_right, near_left = (shifted(fine) - centre) / fine, (centre - shifted(-fine)) / fine
    if any(abs(near) > 16 * max(abs(far), slack) for near, far in ((near_right, right), (near_left, left))):
        return True
    if abs(right - left) <= slack:
        return False
    low, high = min(near_left, near_right), max(near_left, near_right)
    return low - slack <= analytic <= high + slack
