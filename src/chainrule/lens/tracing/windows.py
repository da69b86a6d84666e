"""A convolution as a window that slides: forwards, and on both ways back.

Forwards, z[o, y, x] = sum over (i, a, b) of w[o, i, a, b] * image[i, y s - p + a d, x s - p + b d], with zeros in the padding.
Backwards, with u = de/dz, there are two windows more (Dumoulin and Visin, "A guide to convolution arithmetic", 2016):

- towards the weight, de/dw[o, i, a, b] is the sum over places (y, x) of u[o, y, x] times the pixel that the weight met there;
- towards the image, u is stuffed with s - 1 zeros between its places and padded by d (k - 1) - p before them, and the flipped
  filter slides over that with stride 1. The sum over all outputs o of the group is de/dimage[i].

What is computed here is computed in float64 from the values of the nodes, and adds up to what the nodes have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chainrule.arguments import whole_number
from chainrule.errors import UserError
from chainrule.graph import PARAMETER, Array, Node
from chainrule.lens.tracing.image_pass import Pass
from chainrule.ops.windows import Padding, Pair

_CARRIERS = ("reshape", "broadcast", "transpose")
"""What stands between a bias and the addition."""


class Place(NamedTuple):
    """Where a window lies in the image; it begins below 0 where it reaches into the padding. Dilation is included."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Window:
    """A convolution at one place of its output: ``sum`` is that of ``products``, and ``value`` is ``sum`` + ``bias``.

    ``channels`` are those of the image that the filter looks at; patch, kernel and products are (channels, KH, KW), ``inside``
    (KH, KW) is False in the padding. ``value`` is that of the node ``result``: the convolution, or the addition of its bias.
    """

    channels: tuple[int, ...]
    patch: Array
    kernel: Array
    inside: Array
    products: Array
    bias: float | None
    sum: float
    value: float
    result: Node
    place: Place


@dataclass(frozen=True)
class WeightGradient:
    """Of one filter for one channel: gradient[a, b] is the sum of upstream[y, x] * padded image[y s + a d, x s + b d].

    ``image`` (H, W) is the channel of the image, ``upstream`` (OH, OW) that of the output, ``gradient`` (KH, KW).
    """

    image: Array
    upstream: Array
    gradient: Array
    stride: Pair
    padding: Padding
    dilation: Pair


@dataclass(frozen=True)
class InputGradient:
    """For one channel of the image: the ``flipped`` filter (KH, KW) of ``output`` slides over ``stuffed`` and gives ``part``.

    ``part`` (H, W) is what that output passes back; over all ``outputs`` that look at the channel the parts add up to
    ``downstream`` (H, W). ``shares`` are the Euclidean norms of the parts, one an output.
    """

    outputs: tuple[int, ...]
    output: int
    stuffed: Array
    flipped: Array
    dilation: Pair
    part: Array
    downstream: Array
    shares: Array


@dataclass(frozen=True)
class _Convolution:
    """A node that is a convolution of one image, with what it computes from."""

    found: Pass
    number: int
    node: Node
    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int

    @property
    def image(self) -> Array:
        """(C, H, W)."""
        image: Array = self.found.row(self.found.graph.index[self.node.inputs[0]]).value[0]
        return image

    @property
    def weight(self) -> Array:
        """(O, C / groups, KH, KW)."""
        return self.found.row(self.found.graph.index[self.node.inputs[1]]).value

    @property
    def upstream(self) -> Array:
        """(O, OH, OW)."""
        return self.found.tensor(self.number, "upstream")

    @property
    def outputs_of_group(self) -> int:
        return self.node.shape[1] // self.groups

    def channels(self, output: int) -> range:
        """The channels of the image that an output looks at."""
        per_group = self.weight.shape[1]
        first = output // self.outputs_of_group * per_group
        return range(first, first + per_group)

    def outputs(self, channel: int) -> range:
        """The outputs that look at a channel of the image."""
        first = channel // self.weight.shape[1] * self.outputs_of_group
        return range(first, first + self.outputs_of_group)

    def taps(self, output_place: Pair) -> tuple[Array, Array]:
        """The rows (KH,) and columns (KW,) of the image that the window meets; some may lie in the padding."""
        rows, columns = (
            output_place[axis] * self.stride[axis]
            - self.padding[axis][0]
            + self.dilation[axis] * np.arange(self.weight.shape[2 + axis])
            for axis in (0, 1)
        )
        return rows, columns


def convolution_of(found: Pass, number: int) -> _Convolution:
    """The convolution that a node is.

    Raises:
        UserError: it is none, or one of several images at a time.
    """
    row = found.row(number)
    if row.operation != "conv2d":
        known = [f"{one.index} ({one.module or one.name})" for one in found.explanation.rows if one.operation == "conv2d"]
        listed = f"convolutions are the nodes {', '.join(known[:12])}" if known else "this network has none"
        raise UserError(f"node {number}, {row.name} = {row.formula or row.operation}, is no convolution: {listed}")
    if row.node.shape[0] != 1:
        raise UserError(
            f"{row.name} is a convolution of {row.node.shape[0]} images at a time: windows are shown of a single one"
        )
    given = row.node.attributes
    return _Convolution(found, number, row.node, given["stride"], given["padding"], given["dilation"], given["groups"])


def window(found: Pass, number: int, channel: int, place: Pair) -> Window:
    """The window of output ``channel`` of a convolution at ``place`` (y, x) of its output."""
    conv = convolution_of(found, number)
    _, count, height, width = conv.node.shape
    output = whole_number("the output channel", channel, 0, count - 1)
    y, x = whole_number("the row y", place[0], 0, height - 1), whole_number("the column x", place[1], 0, width - 1)
    channels, image, kernel = conv.channels(output), conv.image, conv.weight[output]
    rows, columns = conv.taps((y, x))
    inside = _inside(rows, image.shape[1])[:, np.newaxis] & _inside(columns, image.shape[2])
    patch = np.zeros(kernel.shape, image.dtype)
    grid = np.ix_(np.array(channels), rows.clip(0, image.shape[1] - 1), columns.clip(0, image.shape[2] - 1))
    patch[:, inside] = image[grid][:, inside]
    with np.errstate(all="ignore"):
        products = patch.astype(np.float64) * kernel.astype(np.float64)
    bias, result = _bias(conv)
    assert result.value is not None
    return Window(
        tuple(channels),
        patch,
        kernel,
        inside,
        products,
        None if bias is None else float(bias[0, output, y, x]),
        float(products.sum()),
        float(result.value[0, output, y, x]),
        result,
        Place(int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1),
    )


def weight_gradient(found: Pass, number: int, output: int, channel: int) -> WeightGradient:
    """What a convolution passes back to the filter of ``output`` for ``channel`` of the image.

    Raises:
        UserError: there is no such output, or it does not look at that channel.
    """
    conv = convolution_of(found, number)
    output = whole_number("the output channel", output, 0, conv.node.shape[1] - 1)
    channels = conv.channels(output)
    channel = whole_number("the input channel", channel, 0, conv.image.shape[0] - 1)
    if channel not in channels:
        raise UserError(
            f"with groups={conv.groups} output {output} looks at the input channels {channels[0]} to {channels[-1]} only, not "
            f"at {channel}"
        )
    gradient = found.edge(number, 1).downstream[output, channel - channels[0]]
    return WeightGradient(conv.image[channel], conv.upstream[output], gradient, conv.stride, conv.padding, conv.dilation)


def input_gradient(found: Pass, number: int, channel: int, output: int | None = None) -> InputGradient:
    """What a convolution passes back to ``channel`` of its image, and what of that comes from one ``output``.

    Without an ``output`` it is the one that passes most back.

    Raises:
        UserError: there is no such channel, or the output does not look at it.
    """
    conv = convolution_of(found, number)
    channel = whole_number("the input channel", channel, 0, conv.image.shape[0] - 1)
    outputs = conv.outputs(channel)
    if output is not None and whole_number("the output channel", output, 0, conv.node.shape[1] - 1) not in outputs:
        raise UserError(
            f"with groups={conv.groups} the input channel {channel} is looked at by the outputs {outputs[0]} to {outputs[-1]} "
            f"only, not by {output}"
        )
    downstream = found.edge(number, 0).downstream[0, channel]
    stuffed = _stuffed(conv, conv.upstream[outputs.start : outputs.stop])
    flipped = conv.weight[outputs.start : outputs.stop, channel % conv.weight.shape[1], ::-1, ::-1]
    parts = np.zeros((len(outputs), *downstream.shape))
    with np.errstate(all="ignore"):
        for a, b in np.ndindex(flipped.shape[1:]):
            top, left = a * conv.dilation[0], b * conv.dilation[1]
            met = stuffed[:, top : top + downstream.shape[0], left : left + downstream.shape[1]]
            parts += flipped[:, a, b, np.newaxis, np.newaxis].astype(np.float64) * met
        shares = np.linalg.norm(parts.reshape(len(outputs), -1), axis=1)
    place = int(np.nan_to_num(shares).argmax()) if output is None else output - outputs.start
    return InputGradient(
        tuple(outputs), outputs[place], stuffed[place], flipped[place], conv.dilation, parts[place], downstream, shares
    )


def _stuffed(conv: _Convolution, upstream: Array) -> Array:
    """The upstream gradient with zeros between its places and around: (O, H + d (KH - 1), W + d (KW - 1)), float64.

    Where padding is larger than d (k - 1), places that met nothing but padding lie outside, and are left out.
    """
    sizes, places = [], []
    for axis in (0, 1):
        reach = conv.dilation[axis] * (conv.weight.shape[2 + axis] - 1)
        sizes.append(conv.image.shape[1 + axis] + reach)
        places.append(reach - conv.padding[axis][0] + conv.stride[axis] * np.arange(upstream.shape[1 + axis]))
    stuffed = np.zeros((len(upstream), *sizes))
    kept = [_inside(place, size) for place, size in zip(places, sizes, strict=True)]
    rows, columns = (place[keep] for place, keep in zip(places, kept, strict=True))
    stuffed[:, rows[:, np.newaxis], columns] = upstream[:, kept[0]][:, :, kept[1]]
    return stuffed


def _inside(places: Array, size: int) -> Array:
    mask: Array = (places >= 0) & (places < size)
    return mask


def _bias(conv: _Convolution) -> tuple[Array | None, Node]:
    """What is added to the convolution as its bias, in the shape of the output, and the node of the sum."""
    users = conv.found.consumers[conv.node]
    if len(users) == 1 and users[0].operation.name == "add":
        (added,) = [one for one in users[0].inputs if one is not conv.node] or [conv.node]
        source = added
        while source.operation.name in _CARRIERS:
            source = source.inputs[0]
        if source.operation is PARAMETER and source.size == conv.node.shape[1]:
            return added.value, users[0]
    return None, conv.node
