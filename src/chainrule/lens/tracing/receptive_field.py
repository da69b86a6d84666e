"""Which part of the image a unit of the network looks at: by the architecture, and as measured.

By the architecture: from the unit back to the image, each operation says which elements of its inputs an interval of its
output is computed from. What is not known of an operation counts as all of its input, so the field is never too small. Where
several paths lead to a value, its intervals are united.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.errors import UserError
from chainrule.grad import backprop
from chainrule.graph import Array, Node, leaf
from chainrule.lens.tracing.image_pass import Pass
from chainrule.lens.tracing.windows import Place
from chainrule.ops import Primitive, history, precision

Interval = tuple[int, int]
"""First and last index along an axis."""
Region = tuple[Interval, ...]
"""An interval for each axis of a value."""


@dataclass(frozen=True)
class ReceptiveField:
    """What a unit looks at: ``box`` lies in the image; ``whole`` is not cut, and may reach into the padding around it.

    ``measured`` (H, W) is |d unit / d input|, the largest over the channels of the network's input.
    """

    box: Place
    whole: Place
    measured: Array


def receptive_field(found: Pass, number: int, unit: tuple[int, ...]) -> ReceptiveField:
    """The receptive field of a unit of a node; a leading 0, for the batch, may be left out.

    Raises:
        UserError: there is no such unit, or it does not depend on the image, or on padding alone.
    """
    node, place = found.node(number), found.unit(number, unit)
    inside, whole = (_reached(found, node, place, cut=cut) for cut in (True, False))
    if inside is None and whole is not None:
        raise UserError(f"the unit {list(unit)} of {found.names[node]} looks at padding only, and at no pixel of the image")
    if inside is None or whole is None:
        raise UserError(f"{found.names[node]} does not depend on the image: choose a node between the image and the loss")
    return ReceptiveField(_place(inside), _place(whole), _measured(found, node, place))


def _place(region: Region) -> Place:
    (top, bottom), (left, right) = region[2:]
    return Place(top, left, bottom - top + 1, right - left + 1)


def _measured(found: Pass, node: Node, unit: tuple[int, ...]) -> Array:
    """|d unit / d input| for each pixel, the largest over channels."""
    seed = np.zeros(node.shape, node.dtype)
    seed[unit] = 1
    height, width = found.image.shape[2:]
    if node is found.image:
        return np.asarray(np.abs(seed[0]).max(axis=0), np.float64)
    if not node.requires_grad:
        return np.zeros((height, width))
    with history("nothing"), precision(found.precision):
        gradient = backprop(node, [found.image], leaf(seed))[0]
    if gradient is None or gradient.value is None:
        return np.zeros((height, width))
    return np.asarray(np.abs(gradient.value[0].astype(np.float64)).max(axis=0))


def _reached(found: Pass, node: Node, unit: tuple[int, ...], cut: bool) -> Region | None:
    """The part of the image that the unit is computed from; None if there is none."""
    regions: dict[Node, Region] = {node: tuple((index, index) for index in unit)}
    for at in reversed(found.graph.nodes[: found.graph.index[node] + 1]):
        if at is found.image or at not in regions or at.is_leaf:
            continue
        for one, region in zip(at.inputs, _needed(at, regions[at]), strict=True):
            if region is not None and cut:
                region = _cut(region, one.shape)
            if region is not None and all(first <= last for first, last in region):
                regions[one] = _united(regions[one], region) if one in regions else region
    return regions.get(found.image)


def _cut(region: Region, shape: tuple[int, ...]) -> Region | None:
    """The part of a region that lies in an array of that shape; None if there is none."""
    inside = tuple((max(0, first), min(size - 1, last)) for (first, last), size in zip(region, shape, strict=True))
    return None if any(first > last for first, last in inside) else inside


def _united(one: Region, other: Region) -> Region:
    return tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))


def _all_of(node: Node) -> Region:
    return tuple((0, size - 1) for size in node.shape)


# ---- what an interval of an output is computed from


def _needed(node: Node, region: Region) -> Sequence[Region | None]:
    """For each input of a node the elements that those in ``region`` of its output are computed from."""
    if isinstance(node.operation, Primitive) and node.operation.elementwise:
        return [region] * len(node.inputs)
    rule = _RULES.get(node.operation.name)
    return [_all_of(one) for one in node.inputs] if rule is None else rule(node, region)


def _of_window(node: Node, region: Region, kernel: Sequence[int]) -> Region:
    """Height and width of what windows at the places of ``region`` cover."""
    given = node.attributes
    dilation = given.get("dilation", (1, 1))
    return tuple(
        (
            region[2 + axis][0] * given["stride"][axis] - given["padding"][axis][0],
            region[2 + axis][1] * given["stride"][axis] - given["padding"][axis][0] + dilation[axis] * (kernel[axis] - 1),
        )
        for axis in (0, 1)
    )


def _convolution(node: Node, region: Region) -> Sequence[Region]:
    outputs, per_group = node.shape[1] // node.attributes["groups"], node.inputs[1].shape[1]
    groups = region[1][0] // outputs, region[1][1] // outputs
    channels = groups[0] * per_group, (groups[1] + 1) * per_group - 1
    return [(region[0], channels, *_of_window(node, region, node.inputs[1].shape[2:])), _all_of(node.inputs[1])]


def _transposed_convolution(node: Node, region: Region) -> Sequence[Region]:
    """Element y is computed from the places q with q s + a d = y + p for some tap a."""
    given = node.attributes
    reaches = [step * (size - 1) for step, size in zip(given["dilation"], node.inputs[1].shape[2:], strict=True)]
    places = tuple(
        (-((reach - first - before) // stride), (last + before) // stride)
        for (first, last), (before, _), stride, reach in zip(
            region[2:], given["padding"], given["stride"], reaches, strict=True
        )
    )
    return [(region[0], _all_of(node.inputs[0])[1], *places), _all_of(node.inputs[1])]


def _pooling(node: Node, region: Region) -> Sequence[Region]:
    return [(*region[:2], *_of_window(node, region, node.attributes["window"]))]


def _reshape(node: Node, region: Region) -> Sequence[Region]:
    """Axes that stay as they are keep their interval; those that are joined or split count as whole."""
    before, after = node.inputs[0].shape, node.shape
    found, i, j = list(_all_of(node.inputs[0])), 0, 0
    while i < len(before) and j < len(after):
        begin, start = i, j
        left, right = before[i], after[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right and i < len(before):
                left, i = left * before[i], i + 1
            elif left > right and j < len(after):
                right, j = right * after[j], j + 1
            else:
                return [_all_of(node.inputs[0])]
        if (i - begin, j - start) == (1, 1):
            found[begin] = region[start]
    return [tuple(found)]


def _transpose(node: Node, region: Region) -> Sequence[Region]:
    found = list(region)
    for axis, source in enumerate(node.attributes["axes"]):
        found[source] = region[axis]
    return [tuple(found)]


def _flip(node: Node, region: Region) -> Sequence[Region]:
    axes = node.attributes["axes"]
    turned = (
        (size - 1 - last, size - 1 - first) if axis in axes else (first, last)
        for axis, ((first, last), size) in enumerate(zip(region, node.shape, strict=True))
    )
    return [tuple(turned)]


def _slice(node: Node, region: Region) -> Sequence[Region]:
    start, step = node.attributes["start"], node.attributes["step"]
    return [tuple((a + first * s, a + last * s) for (first, last), a, s in zip(region, start, step, strict=True))]


def _pad(node: Node, region: Region) -> Sequence[Region]:
    low, interior = node.attributes["low"], node.attributes["interior"]
    moved = (
        (math.ceil((first - a) / (between + 1)), math.floor((last - a) / (between + 1)))
        for (first, last), a, between in zip(region, low, interior, strict=True)
    )
    return [tuple(moved)]


def _concatenate(node: Node, region: Region) -> Sequence[Region | None]:
    axis, begin = node.attributes["axis"], 0
    found: list[Region | None] = []
    for one in node.inputs:
        first, last = max(region[axis][0] - begin, 0), min(region[axis][1] - begin, one.shape[axis] - 1)
        begin += one.shape[axis]
        found.append((*region[:axis], (first, last), *region[axis + 1 :]) if first <= last else None)
    return found


def _broadcast(node: Node, region: Region) -> Sequence[Region]:
    return [tuple(interval for axis, interval in enumerate(region) if axis not in node.attributes["axes"])]


def _sum(node: Node, region: Region) -> Sequence[Region]:
    kept, axes = iter(region), node.attributes["axes"]
    return [tuple((0, size - 1) if axis in axes else next(kept) for axis, size in enumerate(node.inputs[0].shape))]


def _along_axis(node: Node, region: Region) -> Sequence[Region]:
    """All along one axis, the same place along the others."""
    axis = node.attributes["axis"]
    return [(*region[:axis], (0, node.shape[axis] - 1), *region[axis + 1 :])]


def _matmul(node: Node, region: Region) -> Sequence[Region]:
    left, right = node.inputs
    if left.ndim < 2 or right.ndim < 2:
        return [_all_of(left), _all_of(right)]
    batch = region[:-2]
    return [(*batch, region[-2], (0, left.shape[-1] - 1)), (*batch, (0, right.shape[-2] - 1), region[-1])]


_RULES: dict[str, Callable[[Node, Region], Sequence[Region | None]]] = {
    "conv2d": _convolution,
    "conv2d_input_gradient": _transposed_convolution,
    "max_pool2d": _pooling,
    "sum_pool2d": _pooling,
    "reshape": _reshape,
    "transpose": _transpose,
    "flip": _flip,
    "slice": _slice,
    "pad": _pad,
    "concatenate": _concatenate,
    "broadcast": _broadcast,
    "sum": _sum,
    "log_softmax": _along_axis,
    "matmul": _matmul,
}
