"""Chooses the size of the units of a contraction, by an estimate of the cycles that each choice takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from chainrule.cpu.kernels.contraction.tile import Panels

_CACHE_BYTES = 256 * 1024  # half of a usual L2 cache
WANTED_UNITS = 8
"""There should be at least so many units, so that several threads have work."""


@dataclass(frozen=True)
class PanelBlocking:
    """The division of the output into units: ``rows`` rows times ``column_panels`` panels of columns each.

    There are ``row_blocks`` blocks of rows times ``column_blocks`` blocks of columns.
    """

    rows: int
    row_blocks: int
    column_panels: int
    column_blocks: int

    @property
    def units(self) -> int:
        """The number of units."""
        return self.row_blocks * self.column_blocks


def row_blocking(
    rows: int,
    row_pixels: int,
    period: int,
    row_bytes: int,
    border_bytes: int,
    depth: int,
    groups: int,
    panels: Panels,
    steps: Callable[[int], int],
    itemsize: int,
    whole_periods: bool = False,
) -> PanelBlocking:
    """Return the division into units that is estimated to take the fewest cycles.

    Args:
        rows: the rows of the output, through all images.
        row_pixels: the pixels of a row.
        period: rows that belong together, such as those of an image; units of a multiple of it are always considered.
        row_bytes: the bytes of source and output that a unit touches for each of its rows.
        border_bytes: the bytes that a unit touches in addition, as its windows reach beyond its rows.
        depth: the number of k, the rows of the packed weight of each group.
        groups: the number of groups.
        panels: the panels of the packed weight of a group.
        steps: ``steps(rows)`` is the number of steps of k of a unit of so many rows, summed over all its pixels and those
            that pad its tiles.
        itemsize: the bytes of an element.
        whole_periods: whether only multiples of ``period`` are allowed.
    """
    padded, lanes, count = panels.padded, panels.lanes, panels.count
    weight_bytes = groups * depth * padded * itemsize
    weight_speed = 5 if weight_bytes > _CACHE_BYTES else 48  # bytes per cycle, from the L3 or the L2 cache

    def columns(block: int) -> int:
        """Return the number of blocks of columns: more than 1 if blocks of ``block`` rows give too few units."""
        missing = -(-WANTED_UNITS // -(-rows // block))
        return min(count, missing) if groups == 1 and weight_bytes > _CACHE_BYTES else 1

    @functools.cache
    def cycles(block: int) -> float:
        """Return the cycles of all units of a block of rows.

        They are taken by the products (two vectors per cycle), the units' own data, and the weight.
        """
        products = steps(block) * groups * padded / (2 * lanes)
        own = block * row_bytes + border_bytes
        spilled = max(0, own - _CACHE_BYTES)
        return products + columns(block) * (own / 16 + 500) + spilled / 4 + weight_bytes / weight_speed

    def cost(block: int) -> float:
        """Return the cycles of all units for blocks of ``block`` rows, and what is lost between units."""
        whole, left = divmod(rows, block)
        total = whole * cycles(block) + (cycles(left) if left else 0)
        apart = rows * row_bytes / 8 if columns(block) > 1 else 0  # the next kernel cannot join the stage
        return total + apart + 2 * cycles(block) / columns(block)  # at the end threads wait for the last unit

    candidates = set(range(period, min(rows, max(period, 2048 // row_pixels)) + 1, period))
    if not whole_periods:
        candidates |= set(range(1, min(rows, 64) + 1))
    best = min(candidates, key=cost, default=1)
    column_panels = -(-panels.count // columns(best))
    return PanelBlocking(best, -(-rows // best), column_panels, -(-panels.count // column_panels))
