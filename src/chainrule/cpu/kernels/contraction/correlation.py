"""A convolution in the form that one kernel computes: output pixels, each the sum over taps of shifted source pixels.

Both the forward convolution and the gradient of its input have this form. Output pixels come in *phases*, one for each
place within the stride of the gradient (the forward pass has one phase): pixel (i, j) of a phase lies at
(first + (i, j) * output_step) of the output and its tap t reads the source at ((i, j) * source_step + offset of t), 0 outside.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from chainrule.cpu.kernels.geometry import Geometry, Pair

_IN_A_ROW = 512
"""KernelSteps of k that are summed up in registers: the error grows with them, and then to add to memory costs a hundredth."""


@dataclass(frozen=True)
class Tap:
    """A place of the window: where it reads, and its number kh * KW + kw in the weight."""

    row: int
    column: int
    number: int


@dataclass(frozen=True)
class Phase:
    """Output pixels that sum the same taps: rows and columns as (first, end), every ``output_step``-th of them."""

    rows: Pair
    columns: Pair
    taps: tuple[Tap, ...]


@dataclass(frozen=True)
class Correlation:
    """``source`` and ``output`` are (height, width); every channel count is of all groups together; ``taps`` are
    those of all phases in the order of the packed weight; ``window`` counts the weight's, also those that no pixel sees."""

    batch: int
    source: Pair
    source_channels: int
    output: Pair
    output_channels: int
    groups: int
    source_step: Pair
    output_step: Pair
    phases: tuple[Phase, ...]
    taps: tuple[Tap, ...]
    window: int

    @property
    def is_split(self) -> bool:
        """Whether pixels at the border are phases of their own."""
        return len(self.phases) > math.prod(self.output_step)

    @property
    def channels(self) -> int:
        """Source channels that one output channel sees."""
        return self.source_channels // self.groups

    @property
    def columns(self) -> int:
        """Output channels of a group."""
        return self.output_channels // self.groups

    @property
    def depth(self) -> int:
        """Rows k of the packed weight of a group: all taps, each with its channels."""
        return self.window * self.channels

    def ranks(self) -> tuple[int, ...]:
        """Per tap of the weight its place in the packed one: phase by phase, in the order of the source."""
        order = [tap.number for tap in self.taps]
        order += sorted(set(range(self.window)) - set(order))  # of no pixel
        return tuple(order.index(number) for number in range(self.window))

    @cached_property
    def low(self) -> Pair:
        """The smallest offset of a tap per axis."""
        return min((t.row for t in self.taps), default=0), min((t.column for t in self.taps), default=0)

    @cached_property
    def high(self) -> Pair:
        return max((t.row for t in self.taps), default=0), max((t.column for t in self.taps), default=0)

    @cached_property
    def span(self) -> Pair:
        """How far the taps reach from the first to the last."""
        return self.high[0] - self.low[0], self.high[1] - self.low[1]

    @cached_property
    def padded(self) -> Pair:
        """The size of the source that the taps see, from offset ``low`` on."""
        last = [(size - 1) // step for size, step in zip(self.output, self.output_step, strict=True)]
        return (
            last[0] * self.source_step[0] + self.span[0] + 1,
            last[1] * self.source_step[1] + self.span[1] + 1,
        )

    @cached_property
    def reaches_outside(self) -> bool:
        """Whether some tap of some pixel reads beyond the source."""
        return any(
            low < 0 or low + padded > size
            for low, padded, size in zip(self.low, self.padded, self.source, strict=True)
        )  # fmt: skip

    @property
    def pitch(self) -> int:
        """Pixels from one row to the next of what the tiles read: the padded strip, or the source itself."""
        return self.padded[1] if self.reaches_outside else self.source[1]

    def runs(self, phase: Phase) -> list[Run]:
        """What the taps of a phase read, joined where they touch."""
        joined: list[Run] = []
        for tap in phase.taps:
            place = (tap.row - self.low[0]) * self.pitch + tap.column - self.low[1]
            offset, depth = place * self.source_channels, self.taps.index(tap) * self.channels
            if joined and joined[-1].end == (offset, depth):
                joined[-1] = Run(joined[-1].offset, joined[-1].depth, joined[-1].length + self.channels)
            else:
                joined.append(Run(offset, depth, self.channels))
        return joined


@dataclass(frozen=True)
class Run:
    """A stretch of k: ``length`` elements from ``offset`` on of a row of a, and row ``depth`` on of the packed b."""

    offset: int
    depth: int
    length: int

    @property
    def end(self) -> Pair:
        return self.offset + self.length, self.depth + self.length


def forward(geometry: Geometry) -> Correlation:
    """Output pixel (i, j) reads the image at (i, j) * stride + tap * dilation - padding."""
    top, left = geometry.padding[0][0], geometry.padding[1][0]
    taps = [
        Tap(a * geometry.dilation[0] - top, b * geometry.dilation[1] - left, a * geometry.kernel[1] + b)
        for a, b in itertools.product(range(geometry.kernel[0]), range(geometry.kernel[1]))
    ]
    return Correlation(
        batch=geometry.batch,
        source=geometry.image,
        source_channels=geometry.channels,
        output=geometry.output,
        output_channels=geometry.filters,
        groups=geometry.groups,
        source_step=geometry.stride,
        output_step=(1, 1),
        phases=(Phase((0, geometry.output[0]), (0, geometry.output[1]), tuple(taps)),),
        taps=tuple(taps),
        window=len(taps),
    )


def backward(geometry: Geometry) -> Correlation:
    """Image pixel h gets from tap a the upstream pixel (h + padding - a * dilation) / stride, where that is whole."""
    phases = [
        Phase(
            (row[0], geometry.image[0]),
            (column[0], geometry.image[1]),
            _sorted(row, column, geometry.kernel[1]),
        )
        for row, column in itertools.product(_axis_phases(geometry, 0), _axis_phases(geometry, 1))
    ]
    return Correlation(
        batch=geometry.batch,
        source=geometry.output,
        source_channels=geometry.filters,
        output=geometry.image,
        output_channels=geometry.channels,
        groups=geometry.groups,
        source_step=(1, 1),
        output_step=geometry.stride,
        phases=tuple(phases),
        taps=tuple(tap for phase in phases for tap in phase.taps),
        window=geometry.kernel[0] * geometry.kernel[1],
    )


AxisPhase = tuple[int, list[tuple[int, int]]]


def _axis_phases(geometry: Geometry, axis: int) -> list[AxisPhase]:
    """Per place within the stride, the (offset, index) of the taps that reach its pixels."""
    stride, dilation = geometry.stride[axis], geometry.dilation[axis]
    before = geometry.padding[axis][0]
    phases: list[AxisPhase] = []
    for first in range(min(stride, geometry.image[axis])):
        reach = [(first + before - tap * dilation, tap) for tap in range(geometry.kernel[axis])]
        phases.append((first, [(distance // stride, tap) for distance, tap in reach if distance % stride == 0]))
    return phases


def _sorted(row: AxisPhase, column: AxisPhase, width: int) -> tuple[Tap, ...]:
    """In the order of the source, so that taps side by side are read in one stretch."""
    return tuple(
        Tap(r, c, a * width + b) for (r, a), (c, b) in itertools.product(sorted(row[1]), sorted(column[1]))
    )  # fmt: skip


def without_border(one: Correlation) -> Correlation:
    """The same with phases split further, so that no tap of any pixel reads beyond the source.

    In small images much of the window of a pixel may lie outside: four in ten products of a 5x5 window on 10x10 pixels.
    """
    phases = [
        Phase(rows, columns, tuple(tap for tap in phase.taps if tap.row in seen_rows and tap.column in seen_columns))
        for phase in one.phases
        for rows, seen_rows in _stretches(one, 0, phase.rows, {tap.row for tap in phase.taps})
        for columns, seen_columns in _stretches(one, 1, phase.columns, {tap.column for tap in phase.taps})
    ]
    return dataclasses.replace(one, phases=tuple(phases))


def _stretches(one: Correlation, axis: int, span: Pair, offsets: set[int]) -> list[tuple[Pair, set[int]]]:
    """Stretches (first, end) of output pixels along an axis, with the offsets that stay within the source for all of them."""
    step = one.output_step[axis]
    found: list[tuple[Pair, set[int]]] = []
    for place in range(*span, step):
        start = place // step * one.source_step[axis]
        seen = {offset for offset in offsets if 0 <= start + offset < one.source[axis]}
        if found and found[-1][1] == seen:
            found[-1] = ((found[-1][0][0], place + 1), seen)
        else:
            found.append(((place, place + 1), seen))
    return found


def products(one: Correlation, images: int, tile_rows: int) -> int:
    """Pixels times taps that tiles compute for some images, with the pixels that fill up tiles."""
    total = 0
    for phase in one.phases:
        pixels = len(range(*phase.rows, one.output_step[0])) * len(range(*phase.columns, one.output_step[1]))
        total += -(-images * pixels // tile_rows) * tile_rows * len(phase.taps)
    return total


@dataclass(frozen=True)
class Segments:
    """The sum over k of every phase, cut into segments and these into blocks whose part of a panel stays in the L1 cache.

    ``length`` is that of all segments, None where they differ. A block is (first segment, segments, first k of the packed
    b), and ``depths`` are how far segments begin beyond that; a phase's blocks are ``phase_blocks[p]`` = (first block,
    blocks). ``jumps``: the segments of some block do not follow each other in b. ``in_a_row`` segments are summed up in
    registers, then added to what is there; None: all of a block.
    """

    offsets: list[int]
    lengths: list[int]
    depths: list[int]
    length: int | None
    blocks: list[tuple[int, int, int]]
    phase_blocks: list[tuple[int, int]]
    jumps: bool
    in_a_row: int | None


def segments_of(runs_of_phases: Sequence[Sequence[Run]], block: int) -> Segments:
    """Cut runs into segments, and these into blocks, of at most ``block`` steps of k."""
    most = min(block, _IN_A_ROW)
    common = _common_length([run.length for runs in runs_of_phases for run in runs], most)
    segments: list[Run] = []
    depths: list[int] = []
    blocks: list[tuple[int, int, int]] = []
    phase_blocks: list[tuple[int, int]] = []
    jumps = False
    for runs in runs_of_phases:
        first_block = len(blocks)
        pieces = [piece for run in runs for piece in _cut(run, common, most)]
        for group in _grouped(pieces, block):
            blocks.append((len(segments), len(group), group[0].depth))
            segments += group
            depths += [piece.depth - group[0].depth for piece in group]
            jumps |= any(before.end[1] != after.depth for before, after in itertools.pairwise(group))
        if not pieces:  # no tap reaches this phase: a sum of nothing
            blocks.append((0, 0, 0))
        phase_blocks.append((first_block, len(blocks) - first_block))
    offsets, lengths = [piece.offset for piece in segments], [piece.length for piece in segments]
    longest = max((sum(lengths[first : first + count]) for first, count, _ in blocks), default=0)
    in_a_row = _IN_A_ROW // max(lengths) if longest > _IN_A_ROW else None
    return Segments(offsets, lengths, depths, common, blocks, phase_blocks, jumps, in_a_row)


def _common_length(lengths: Sequence[int], block: int) -> int | None:
    """The longest length that divides all and fits a block, unless that is short for no need."""
    shared = math.gcd(*lengths) if lengths else 0
    if shared == 0:
        return None
    best = max(one for one in range(1, min(block, shared) + 1) if shared % one == 0)
    return best if best >= min(shared, 32) and (best > 4 or best == max(lengths)) else None


def _cut(run: Run, common: int | None, block: int) -> list[Run]:
    piece = common or -(-run.length // -(-run.length // block))
    return [Run(run.offset + start, run.depth + start, min(piece, run.length - start)) for start in range(0, run.length, piece)]


def _grouped(pieces: Sequence[Run], block: int) -> list[list[Run]]:
    """Even blocks: as few as fit, none much shorter than the others."""
    total = sum(piece.length for piece in pieces)
    wanted = total / max(1, -(-total // block))
    groups: list[list[Run]] = []
    done = 0
    for piece in pieces:
        if not groups or done + piece.length / 2 > len(groups) * wanted:
            groups.append([])
        groups[-1].append(piece)
        done += piece.length
    return groups
