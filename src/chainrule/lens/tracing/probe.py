"""Which units are dead: how often each is 0 over a fixed set of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from chainrule.graph import Array, Node
from chainrule.lens.tracing.image_pass import Pass
from chainrule.lens.tracing.tracer import Tracer
from chainrule.train.diagnosis.observing import is_unit

MOST_IMAGES = 64
FEWEST_IMAGES = 8
_BYTES = 2_000_000_000
"""What all passes of a probe may take together, one after the other: it stands for the time that they take."""


@dataclass(frozen=True)
class ProbedUnits:
    """A node that is max(0, x): the share of numbers that are 0 in each of its channels, over all images (C,)."""

    number: int
    node: Node
    zeros: Array

    @property
    def dead(self) -> Array:
        """Which channels gave nothing but 0."""
        return np.asarray(self.zeros == 1)


@dataclass(frozen=True)
class Probe:
    """What ``images`` images, sent through a network, left of its units."""

    images: int
    layers: tuple[ProbedUnits, ...]


def probe_size(tracer: Tracer) -> int:
    """How many images a probe takes: as many as are looked at within a second or two, 8 to 64."""
    return max(FEWEST_IMAGES, min(MOST_IMAGES, _BYTES // max(1, tracer.needed)))


def probe(tracer: Tracer, images: Iterable[Array]) -> Probe:
    """Send images (C, H, W), of bytes or of numbers from 0 to 1, through the network, and count what its units leave at 0."""
    zeros: dict[int, Array] = {}
    nodes: dict[int, Node] = {}
    count = 0
    for image in images:
        found = tracer.trace(image, 0)
        count += 1
        for number, share in zero_shares(found).items():
            zeros[number] = zeros.get(number, np.zeros(share.shape)) + share
            nodes.setdefault(number, found.graph.nodes[number])
    return Probe(count, tuple(ProbedUnits(number, nodes[number], total / count) for number, total in zeros.items()))


def zero_shares(found: Pass) -> dict[int, Array]:
    """The share of numbers that are 0 in each channel (C,) of each node that is max(0, x), for the image of a pass."""
    shares = {}
    for number, node in enumerate(found.graph.nodes):
        if node.origin.kind and node.value is not None and is_unit(node):  # of a layer, not of the loss
            others = tuple(axis for axis in range(node.ndim) if axis != channel_axis(node))
            shares[number] = np.asarray((node.value <= 0).mean(axis=others, dtype=np.float64))
    return shares


def channel_axis(node: Node) -> int:
    """The axis of the units of a node: that of the channels of an image, otherwise the last."""
    return 1 if node.ndim == 4 else node.ndim - 1
