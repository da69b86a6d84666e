"""From one weight, or one pixel, to the loss: what its signal passes, and the path on which most of it goes.

With t = dz/dw for an element w and every unit of a node z (how the node moves when w does, computed forwards) and the upstream
gradient u = de/dz (computed backwards), the product t u of a unit is the part of the gradient de/dw that passes this unit. Over
all units of a cut between w and the loss these parts add up to de/dw; at the loss itself u = 1, and t is the gradient again,
found without going backwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.errors import UserError
from chainrule.grad import pushed_forward
from chainrule.graph import Array, Node
from chainrule.lens.naming import local_formula
from chainrule.lens.tracing.image_pass import Pass, indices_of
from chainrule.ops import Primitive, precision

_BLOCK = 8192  # numbers that stay in the cache as float64; and NumPy's dot starts no threads for so few


@dataclass(frozen=True)
class Lit:
    """A node that the signal of an element passes; ``share`` is the size of what passes it, 1 at the brightest node."""

    node: Node
    share: float


@dataclass(frozen=True)
class PathStep:
    """A unit on a path, its value, and the local gradient by which the path comes to it: None where the path begins."""

    node: Node
    unit: tuple[int, ...]
    value: float
    local: float | None
    formula: str


@dataclass(frozen=True)
class Paths:
    """All paths of one element to the loss.

    Attributes:
        gradient: of the loss, as it came back.
        nodes: those that lie on a path, in forward order, the element's own first.
        strongest: the path on which one goes when one always takes the edge with the largest |local * upstream|.
        product: of the local gradients along it; 0 if it ends before the loss, at a unit from which nothing passes on.
        sum: over all paths, found by going forwards; it is the gradient.
    """

    gradient: float
    nodes: tuple[Lit, ...]
    strongest: tuple[PathStep, ...]
    product: float
    sum: float


def paths(found: Pass, name: str, index: tuple[int, ...]) -> Paths:
    """The paths of an element of a parameter, by its name in the model, or of the network's input, ``image``.

    Raises:
        UserError: there is no such parameter or element, or no gradient arrives there.
    """
    row = found.source(name)
    unit = indices_of(name, row.value.shape, index)
    if row.upstream is None:
        raise UserError(f"no gradient arrives at {name}: the loss does not depend on it in a way that has a slope")
    moved = sensitivities(found, row.node, unit)
    sizes = {node: _norm(direction, found.row(found.graph.index[node]).upstream) for node, direction in moved.items()}
    brightest = max((size for size in sizes.values() if math.isfinite(size)), default=0.0)
    strongest = tuple(_strongest(found, row.node, unit))
    reached = strongest[-1].node is found.graph.nodes[-1]
    loss = moved.get(found.graph.nodes[-1])
    return Paths(
        float(row.upstream[unit]),
        tuple(Lit(node, size / brightest if brightest else 0.0) for node, size in sizes.items()),
        strongest,
        math.prod(step.local for step in strongest if step.local is not None) if reached else 0.0,
        0.0 if loss is None else float(loss.reshape(())),
    )


def sensitivities(found: Pass, source: Node, unit: tuple[int, ...]) -> dict[Node, Array]:
    """How each node moves when an element of a leaf does: d node / d element, for nodes where that is not 0 everywhere."""
    moved = {source: _one_at(source, unit)}
    with precision(found.precision):
        for node in found.graph.nodes:
            parts = [
                pushed_forward(node, position, moved[one])
                for position, one in enumerate(node.inputs)
                if one in moved and _passes(node, position)
            ]
            if parts:
                with np.errstate(all="ignore"):
                    total = sum(parts[1:], start=parts[0])
                if total.any():
                    moved[node] = total
    return moved


def _strongest(found: Pass, node: Node, unit: tuple[int, ...]) -> Iterator[PathStep]:
    """The path from a unit to the loss that always takes the edge with the largest |local * upstream|.

    Where all are 0 it takes the edge with the largest |local|, as far as that is not 0: so it ends at the unit that is dead.
    """
    yield _step(found, node, unit, None, "")
    while node is not found.graph.nodes[-1]:
        best: tuple[tuple[float, float], Node, int, tuple[int, ...], float] | None = None
        direction = _one_at(node, unit)
        for user in dict.fromkeys(found.consumers[node]):
            upstream = found.row(found.graph.index[user]).upstream
            for position, one in enumerate(user.inputs):
                if one is not node or upstream is None or not _passes(user, position):
                    continue
                with precision(found.precision):
                    local = pushed_forward(user, position, direction)
                places = np.flatnonzero(local)  # few: a unit is seen by a window of each channel, or by one unit
                with np.errstate(all="ignore"):
                    slopes = np.nan_to_num(np.abs(local.flat[places].astype(np.float64)))
                    passed = np.nan_to_num(slopes * np.abs(upstream.flat[places]))
                if not slopes.any():
                    continue
                at = int((passed if passed.any() else slopes).argmax())
                place = np.unravel_index(places[at], local.shape)
                size = float(passed[at]), float(slopes[at])
                if best is None or size > best[0]:
                    best = size, user, position, tuple(map(int, place)), float(local[place])
        if best is None:
            return
        _, user, position, unit, factor = best
        yield _step(found, user, unit, factor, local_formula(user, position, found.names))
        node = user


def _step(found: Pass, node: Node, unit: tuple[int, ...], local: float | None, formula: str) -> PathStep:
    return PathStep(node, unit, float(found.row(found.graph.index[node]).value[unit]), local, formula)


def _passes(node: Node, position: int) -> bool:
    """Whether a gradient passes from a node to an input, so that the input's signal passes on to the node."""
    return node.requires_grad and isinstance(node.operation, Primitive) and node.operation.passes_gradient_to(position)


def _one_at(node: Node, unit: tuple[int, ...]) -> Array:
    direction = np.zeros(node.shape, node.dtype)
    direction[unit] = 1
    return direction


def _norm(moved: Array, upstream: Array | None) -> float:
    """The Euclidean norm of what passes a node: how it moves, times what comes back to it."""
    if upstream is None:
        return 0.0
    ours, back, squares = moved.reshape(-1), upstream.reshape(-1), 0.0
    with np.errstate(all="ignore"):
        for begin in range(0, ours.size, _BLOCK):
            block = ours[begin : begin + _BLOCK].astype(np.float64) * back[begin : begin + _BLOCK]
            squares += float(np.dot(block, block))
    return math.sqrt(squares)
