"""How much work a unit takes: by an estimate of the cycles that each choice costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chainrule.cpu.kernels.contraction.tile import Panels

_CACHE_BYTES = 256 * 1024  # half of a usual L2 cache
WANTED_UNITS = 8


@dataclass(frozen=True)
class PanelBlocking:
    """A unit is ``rows`` rows of the output times ``column_panels`` panels of its columns."""

    rows: int
    row_blocks: int
    column_panels: int
    column_blocks: int

    @property
    def units(self) -> int:
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
    """``rows`` rows of ``row_pixels`` pixels each, ``period`` of which belong together; a unit of some rows touches
    ``row_bytes`` for each and ``border_bytes`` more, all of the packed weight: ``depth`` rows k in ``panels``, and takes
    ``steps(rows)`` steps of k over all its pixels, with those that fill up tiles."""
    weight_bytes = groups * depth * panels.padded * itemsize
    weight_speed = 5 if weight_bytes > _CACHE_BYTES else 48  # bytes per cycle, from the third cache or the second

    def columns(block: int) -> int:
        """Blocks of columns, where blocks of rows give too few units."""
        missing = -(-WANTED_UNITS // -(-rows // block))
        return min(panels.count, missing) if groups == 1 and weight_bytes > _CACHE_BYTES else 1

    def cycles(block: int) -> float:
        """Of all units of a block of rows: products (two vectors per cycle), its own data, the weight."""
        products = steps(block) * groups * panels.padded / (2 * panels.lanes)
        own = block * row_bytes + border_bytes
        spilled = max(0, own - _CACHE_BYTES)
        return products + columns(block) * (own / 16 + 500) + spilled / 4 + weight_bytes / weight_speed

    def cost(block: int) -> float:
        whole, left = divmod(rows, block)
        total = whole * cycles(block) + (cycles(left) if left else 0)
        apart = rows * row_bytes / 8 if columns(block) > 1 else 0  # what follows cannot go along unit by unit
        return total + apart + 2 * cycles(block) / columns(block)  # at the end threads wait for the last unit

    candidates = set(range(period, min(rows, max(period, 2048 // row_pixels)) + 1, period))
    if not whole_periods:
        candidates |= set(range(1, min(rows, 64) + 1))
    best = min(candidates, key=cost, default=1)
    column_panels = -(-panels.count // columns(best))
    return PanelBlocking(best, -(-rows // best), column_panels, -(-panels.count // column_panels))
