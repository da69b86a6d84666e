"""What if a weight or a pixel were another? The loss then, and what the gradient predicts of it, on a copy of the model."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.arguments import real_number
from chainrule.errors import UserError, unknown_value
from chainrule.graph import PARAMETER, Array, Node
from chainrule.lens.tracing.image_pass import Pass, indices_of
from chainrule.lens.tracing.probe import zero_shares
from chainrule.lens.tracing.tracer import Tracer


@dataclass(frozen=True)
class WeightEdit:
    """Element ``index`` of the parameter ``name`` gets a ``value``."""

    name: str
    index: tuple[int, ...]
    value: float


@dataclass(frozen=True)
class PixelEdit:
    """The pixel at (channel, y, x) gets a ``value`` from 0 to 1."""

    place: tuple[int, ...]
    value: float


Edit = WeightEdit | PixelEdit


@dataclass(frozen=True)
class Changed:
    """A node, of the pass before, whose value is another after the edits: by how much, as a Euclidean norm.

    ``relative`` is that norm over the norm of the value before; None where that is 0.
    """

    node: Node
    difference: float
    relative: float | None


@dataclass(frozen=True)
class Silenced:
    """A node that is max(0, x), of the pass before, with channels that give nothing but 0 for the image now and did not before,
    and with those that gave nothing but 0 and do not now."""

    node: Node
    silent: tuple[int, ...]
    awake: tuple[int, ...]


@dataclass(frozen=True)
class WhatIf:
    """The loss ``before`` and ``after`` edits, and what is ``predicted``: before + the sum of gradient * change.

    ``changed`` are the nodes that are not the same bit for bit, in forward order, leaves that were edited first; ``silenced``
    are those with channels that went silent, or are so no longer;
    ``changed_pass`` is the pass after the edits.
    """

    before: float
    after: float
    predicted: float
    probabilities: Array
    changed: tuple[Changed, ...]
    silenced: tuple[Silenced, ...]
    changed_pass: Pass


def what_if(tracer: Tracer, found: Pass, edits: Sequence[Edit]) -> WhatIf:
    """The pass ``found`` again with edits, for the same class; neither the model of ``tracer`` nor the pass changes.

    Of several edits of one element the last counts.

    Raises:
        UserError: there is no such parameter, element or pixel, or a value is not finite, or that of a pixel not from 0 to 1.
    """
    model = copy.deepcopy(tracer.model)
    parameters = dict(model.named_parameters())
    values: dict[str, Array] = {}
    assert found.image.value is not None  # it ran
    given = found.image.value.copy()
    pixels = found.pixels.astype(np.float32) / (255 if found.pixels.dtype == np.uint8 else 1)
    for edit in edits:
        if isinstance(edit, PixelEdit):
            place = indices_of("the image", pixels.shape, edit.place)
            pixels[place] = _value("a pixel", edit.value, 0.0, 1.0)
            given[0][place] = tracer.input_of(pixels)[0][place]
            continue
        if edit.name not in parameters:
            raise unknown_value("parameter", edit.name, parameters)
        value = values.setdefault(edit.name, parameters[edit.name].numpy().copy())
        value[indices_of(edit.name, value.shape, edit.index)] = _value(edit.name, edit.value)
    predicted = found.loss + _first_order(found.image.value, given, found.source("image").upstream)
    for name, value in values.items():
        predicted += _first_order(parameters[name].numpy(), value, _gradient(found, name))
        parameters[name].assign(value)
    after = tracer.traced(model, given, pixels, found.label)
    edited = {node for node in found.graph.nodes if node.label in values and node.operation is PARAMETER}
    if any(isinstance(edit, PixelEdit) for edit in edits):
        edited.add(found.image)
    changed, silenced = tuple(_differences(found, after, edited)), tuple(_silenced(found, after))
    return WhatIf(found.loss, after.loss, predicted, after.probabilities, changed, silenced, after)


def _value(what: str, value: float, low: float = -math.inf, high: float = math.inf) -> float:
    number = real_number(f"the value of {what}", value)
    if not math.isfinite(number) or not low <= number <= high:
        limits = f" from {low:g} to {high:g}" if math.isfinite(low) else ""
        raise UserError(f"the value of {what} must be a finite number{limits}, got {value!r}")
    return number


def _gradient(found: Pass, name: str) -> Array | None:
    """The gradient of a parameter; None where the loss does not depend on it."""
    known = {row.node.label: row.upstream for row in found.explanation.rows if row.node.is_leaf}
    return known.get(name)


def _first_order(old: Array, new: Array, gradient: Array | None) -> float:
    """By how much the loss changes, as the gradient predicts it."""
    if gradient is None:
        return 0.0
    with np.errstate(all="ignore"):
        changes = new.astype(np.float64) - old
        return float((changes * np.where(changes == 0, 0.0, gradient)).sum())


def _differences(before: Pass, after: Pass, edited: set[Node]) -> list[Changed]:
    """The nodes that are other numbers than before, among those that depend on what was ``edited``."""
    found, depends = [], set(edited)
    for node, other in zip(before.graph.nodes, after.graph.nodes, strict=True):
        if not depends.isdisjoint(node.inputs):
            depends.add(node)
        old, new = node.value, other.value
        if node not in depends or old is None or new is None or np.array_equal(old, new):
            continue
        difference, size = _norms(np.ravel(old), np.ravel(new))
        found.append(Changed(node, difference, difference / size if size else None))
    return found


def _silenced(before: Pass, after: Pass) -> Iterator[Silenced]:
    shares, now = zero_shares(before), zero_shares(after)
    for number, share in shares.items():
        silent, awake = ((now[number] == 1) & (share < 1)).nonzero()[0], ((now[number] < 1) & (share == 1)).nonzero()[0]
        if silent.size or awake.size:
            yield Silenced(before.graph.nodes[number], tuple(silent.tolist()), tuple(awake.tolist()))


_BLOCK = 8192  # numbers that stay in the cache as float64; and NumPy's dot starts no threads for so few


def _norms(old: Array, new: Array) -> tuple[float, float]:
    """The Euclidean norms of what changed, and of what was before, in float64."""
    changes = squares = 0.0
    with np.errstate(all="ignore"):
        for begin in range(0, old.size, _BLOCK):
            before = old[begin : begin + _BLOCK].astype(np.float64)
            change = new[begin : begin + _BLOCK] - before
            changes += float(np.dot(change, change))
            squares += float(np.dot(before, before))
    return math.sqrt(changes), math.sqrt(squares)
