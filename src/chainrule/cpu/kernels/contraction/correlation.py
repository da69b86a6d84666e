"""The common form of a convolution and of the gradient of its input: sums over taps of shifted source pixels.

Output pixels are divided into *phases*, all of whose pixels sum over the same taps. The forward convolution has a single phase;
the gradient has a phase for each position modulo the stride. Pixel (i, j) of a phase is pixel first + (i, j) * output_step of
the output, and its tap t reads the source at (i, j) * source_step + offset of t; the source is 0 outside of its bounds.
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
"""The most k that are summed up in registers, as the rounding error grows with them. At this number, adding the sums to memory
costs about a hundredth of the time."""


@dataclass(frozen=True)
class Tap:
    """A position of the window: it reads at the offset (``row``, ``column``), and has the number kh * KW + kw in the weight."""

    row: int
    column: int
    number: int


@dataclass(frozen=True)
class Phase:
    """Output pixels that sum over the same taps.

    They are in every ``output_step``-th of the rows and of the columns from first to end (excluded).
    """

    rows: Pair
    columns: Pair
    taps: tuple[Tap, ...]


@dataclass(frozen=True)
class Correlation:
    """The sizes of a correlation. Pairs are (height, width).

    Attributes:
        batch: the number of images.
        source: the size of the source in pixels.
        source_channels: the channels of the source, of all groups together.
        output: the size of the output in pixels.
        output_channels: the channels of the output, of all groups together.
        groups: the number of groups.
        source_step: pixels of the source from an output pixel of a phase to the next.
        output_step: pixels of the output from a pixel of a phase to the next.
        phases: the division of the output pixels.
        taps: the taps of all phases, in the order of the packed weight.
        window: the number of taps of the weight, including those that no output pixel uses.
    """

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
        """Whether pixels at the border have phases of their own (see ``without_border``)."""
        return len(self.phases) > math.prod(self.output_step)

    @property
    def channels(self) -> int:
        """The source channels that each output channel depends on."""
        return self.source_channels // self.groups

    @property
    def columns(self) -> int:
        """The output channels of a group."""
        return self.output_channels // self.groups

    @property
    def depth(self) -> int:
        """The rows k of the packed weight of a group: all taps, each with its channels."""
        return self.window * self.channels

    def ranks(self) -> tuple[int, ...]:
        """Return for each tap of the weight its position in the packed weight: by phase, then in the order of the source."""
        order = [tap.number for tap in self.taps]
        order += sorted(set(range(self.window)) - set(order))  # those that no pixel uses
        return tuple(order.index(number) for number in range(self.window))

    @cached_property
    def low(self) -> Pair:
        """The smallest offset of a tap along each axis."""
        return min((t.row for t in self.taps), default=0), min((t.column for t in self.taps), default=0)

    @cached_property
    def high(self) -> Pair:
        """The largest offset of a tap along each axis."""
        return max((t.row for t in self.taps), default=0), max((t.column for t in self.taps), default=0)

    @cached_property
    def span(self) -> Pair:
        """The distance from the smallest to the largest offset along each axis."""
        return self.high[0] - self.low[0], self.high[1] - self.low[1]

    @cached_property
    def padded(self) -> Pair:
        """The size of the part of the source, and of its padding, that the taps read, from offset ``low`` on."""
        last = [(size - 1) // step for size, step in zip(self.output, self.output_step, strict=True)]
        return (
            last[0] * self.source_step[0] + self.span[0] + 1,
            last[1] * self.source_step[1] + self.span[1] + 1,
        )

    @cached_property
    def reaches_outside(self) -> bool:
        """Whether any tap of any pixel reads outside of the source."""
        return any(
            low < 0 or low + padded > size
            for low, padded, size in zip(self.low, self.padded, self.source, strict=True)
        )  # fmt: skip

    @property
    def pitch(self) -> int:
        """Pixels from one row to the next in the memory that tiles read: the padded strip, or the source itself."""
        return self.padded[1] if self.reaches_outside else self.source[1]

    def runs(self, phase: Phase) -> list[Run]:
        """Return the stretches of memory that the taps of a phase read; adjacent stretches are joined."""
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
    """A stretch of ``length`` consecutive k, which begin at element ``offset`` of a row of a and at row ``depth`` of b."""

    offset: int
    depth: int
    length: int

    @property
    def end(self) -> Pair:
        """The offset and the depth after its last k."""
        return self.offset + self.length, self.depth + self.length


def forward(geometry: Geometry) -> Correlation:
    """Return the correlation of a convolution, whose source is the image.

    Output pixel (i, j) reads the image at (i, j) * stride + tap * dilation - padding.
    """
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
    """Return the correlation of the gradient of the image, whose source is the upstream gradient.

    Along each axis, tap a of image pixel h reads the upstream gradient at (h + padding - a * dilation) / stride, if that is a
    whole number.
    """
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
"""The first pixel of a phase along an axis, and the (offset, index) of the taps that it sums over."""


def _axis_phases(geometry: Geometry, axis: int) -> list[AxisPhase]:
    """Return the phases of the gradient along an axis, one for each position modulo the stride."""
    stride, dilation = geometry.stride[axis], geometry.dilation[axis]
    before = geometry.padding[axis][0]
    phases: list[AxisPhase] = []
    for first in range(min(stride, geometry.image[axis])):
        reach = [(first + before - tap * dilation, tap) for tap in range(geometry.kernel[axis])]
        phases.append((first, [(distance // stride, tap) for distance, tap in reach if distance % stride == 0]))
    return phases


def _sorted(row: AxisPhase, column: AxisPhase, width: int) -> tuple[Tap, ...]:
    """Return the taps of a phase in the order of the source, so that adjacent taps are read as one stretch."""
    return tuple(
        Tap(r, c, a * width + b) for (r, a), (c, b) in itertools.product(sorted(row[1]), sorted(column[1]))
    )  # fmt: skip


def without_border(correlation: Correlation) -> Correlation:
    """Return the same correlation with phases split further, so that no tap of any pixel reads outside of the source.

    In small images, a large part of the windows may lie outside: of a 5x5 window on 10x10 pixels, four in ten products.
    """
    phases = [
        Phase(rows, columns, tuple(tap for tap in phase.taps if tap.row in seen_rows and tap.column in seen_columns))
        for phase in correlation.phases
        for rows, seen_rows in _stretches(correlation, 0, phase.rows, {tap.row for tap in phase.taps})
        for columns, seen_columns in _stretches(correlation, 1, phase.columns, {tap.column for tap in phase.taps})
    ]
    return dataclasses.replace(correlation, phases=tuple(phases))


def _stretches(correlation: Correlation, axis: int, span: Pair, offsets: set[int]) -> list[tuple[Pair, set[int]]]:
    """Return stretches (first, end) of output pixels along an axis, each with the offsets that stay inside for all of them."""
    step = correlation.output_step[axis]
    stretches: list[tuple[Pair, set[int]]] = []
    for place in range(*span, step):
        start = place // step * correlation.source_step[axis]
        seen = {offset for offset in offsets if 0 <= start + offset < correlation.source[axis]}
        if stretches and stretches[-1][1] == seen:
            stretches[-1] = ((stretches[-1][0][0], place + 1), seen)
        else:
            stretches.append(((place, place + 1), seen))
    return stretches


def products(correlation: Correlation, images: int, tile_rows: int) -> int:
    """Return the products of pixels and taps that tiles compute for ``images`` images, including pixels that pad tiles."""
    total = 0
    for phase in correlation.phases:
        pixels = len(range(*phase.rows, correlation.output_step[0])) * len(range(*phase.columns, correlation.output_step[1]))
        total += -(-images * pixels // tile_rows) * tile_rows * len(phase.taps)
    return total


@dataclass(frozen=True)
class Segments:
    """The sums over k of all phases, divided into blocks, and these into segments.

    Attributes:
        offsets: for each segment, the element of a row of a at which it begins.
        lengths: for each segment, its number of k.
        depths: for each segment, how many rows of the packed b after the first row of its block it begins.
        length: the number of k of all segments; None if they differ.
        blocks: for each block, (first segment, number of segments, first row of the packed b).
        phase_blocks: for each phase, (first block, number of blocks).
        jumps: whether in any block segments do not follow each other in b.
        in_a_row: how many segments are summed up in registers before they are added to the output; None for a whole block.
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
    """Cut the runs of each phase into segments, and group these into blocks of at most about ``block`` k."""
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
        if not pieces:  # no tap reads for this phase: its sums are 0
            blocks.append((0, 0, 0))
        phase_blocks.append((first_block, len(blocks) - first_block))
    offsets, lengths = [piece.offset for piece in segments], [piece.length for piece in segments]
    longest = max((sum(lengths[first : first + count]) for first, count, _ in blocks), default=0)
    in_a_row = _IN_A_ROW // max(lengths) if longest > _IN_A_ROW else None
    return Segments(offsets, lengths, depths, common, blocks, phase_blocks, jumps, in_a_row)


def _common_length(lengths: Sequence[int], block: int) -> int | None:
    """Return the longest length, at most ``block``, that divides all ``lengths``; None if it is short without need."""
    shared = math.gcd(*lengths) if lengths else 0
    if shared == 0:
        return None
    best = max(one for one in range(1, min(block, shared) + 1) if shared % one == 0)
    return best if best >= min(shared, 32) and (best > 4 or best == max(lengths)) else None


def _cut(run: Run, common: int | None, block: int) -> list[Run]:
    """Cut a run into pieces of ``common`` k, or else into nearly equal pieces of at most ``block`` k."""
    piece = common or -(-run.length // -(-run.length // block))
    return [Run(run.offset + start, run.depth + start, min(piece, run.length - start)) for start in range(0, run.length, piece)]


def _grouped(pieces: Sequence[Run], block: int) -> list[list[Run]]:
    """Group pieces into as few blocks as possible, of nearly equal length."""
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
