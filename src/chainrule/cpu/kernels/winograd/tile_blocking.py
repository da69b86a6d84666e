"""Chooses the size of the units of a convolution, by an estimate of the cycles that each choice takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.cpu.kernels.winograd.tiling import Tiling
from chainrule.cpu.kernels.winograd.weight_transform import VECTORS, WeightLayout

_CHUNK_FILTERS = 64  # the most filters whose products are in memory at a time
_MOST_TILES = 128  # the most tiles of a unit that has several rows of tiles
_CACHE_BYTES = 256 * 1024  # half of a usual L2 cache
_LARGE_BYTES = 4 << 20  # a transformed weight that goes to memory and back
_WEIGHT_SPEED, _SPILL_SPEED, _MEMORY_SPEED = 16, 12, 3  # bytes per cycle: from the last cache, to it and back, from memory
_IMAGE_CYCLES, _OUTPUT_CYCLES, _WEIGHT_CYCLES = 110, 70, 200  # per tile and vector of channels or filters, to transform it
_PRODUCT_CYCLES = 40  # per register tile, to begin and to store it
_WORTHWHILE = 0.95  # the share of the cost that may remain where units transform the weight themselves
_FEW_THREADS, _MANY_THREADS = 2, 8  # the numbers of threads for which the cost is estimated


@dataclass(frozen=True)
class TileBlocking:
    """The division into units: ``rows`` rows of tiles times ``panels`` panels of filters each.

    The products of ``chunk`` panels are in memory at a time.

    If ``fused``, units transform the weight themselves, each panel right before its products. Where images are few and filters
    are many, the transformed weight is much larger than all other data, and so it never leaves the caches.
    """

    rows: int
    panels: int
    chunk: int
    fused: bool = False


def choose_blocking(tiling: Tiling, layout: WeightLayout, tile_rows: int, size: int) -> TileBlocking:
    """Return the division into units with the least estimated cost, averaged over few threads and many.

    Threads are best used if the number of units is a multiple of theirs. Units transform the weight themselves only where that
    clearly pays, so that batches of different sizes mostly have the same code.

    Args:
        tiling: the convolution.
        layout: the layout of its transformed weight.
        tile_rows: the rows of the register tile.
        size: the bytes of an element.
    """
    rows = tiling.batch * tiling.rows

    def cost(blocking: TileBlocking) -> float:
        units = -(-rows // blocking.rows) * -(-layout.panels // blocking.panels)
        cycles = _unit_cycles(blocking, tiling, layout, tile_rows, size)
        few, many = (-(-units // threads) * threads for threads in (_FEW_THREADS, _MANY_THREADS))
        whole = cycles * (few + many) / 2 + (0 if blocking.fused else _weight_cycles(layout, size))
        return whole / _WORTHWHILE if blocking.fused else whole

    return min(_candidates(tiling, layout, rows), key=cost)


def _candidates(tiling: Tiling, layout: WeightLayout, rows: int) -> Iterator[TileBlocking]:
    """Yield the divisions to choose from, for ``rows`` rows of tiles of all images."""
    most = max(1, min(rows, _MOST_TILES // tiling.columns))
    chunk = min(layout.panels, max(1, _CHUNK_FILTERS // layout.width))
    panels = sorted({-(-layout.panels // blocks) for blocks in (1, 2, 4, 8, 16)})
    for block in range(1, most + 1):
        for count in panels:
            yield TileBlocking(block, count, chunk)
            yield TileBlocking(block, count, 1, fused=True)


def _unit_cycles(blocking: TileBlocking, tiling: Tiling, layout: WeightLayout, tile_rows: int, size: int) -> float:
    """Return the estimated cycles of a unit."""
    tiles, panels = blocking.rows * tiling.columns, blocking.panels
    register_tiles = tiling.frequencies * panels * -(-tiles // tile_rows)
    products = register_tiles * (tile_rows * tiling.channels * VECTORS / 2 + _PRODUCT_CYCLES)
    image = tiles * -(-tiling.channels // (layout.width // VECTORS)) * _IMAGE_CYCLES
    output = tiles * panels * VECTORS * _OUTPUT_CYCLES
    weight = panels * layout.panel_elements * size / _WEIGHT_SPEED
    if blocking.fused:
        weight += panels * layout.depth * VECTORS * _WEIGHT_CYCLES
    held = tiles * tiling.frequencies * (tiling.channels + min(blocking.chunk, panels) * layout.width) * size
    return products + image + output + weight + max(0, held - _CACHE_BYTES) / _SPILL_SPEED


def _weight_cycles(layout: WeightLayout, size: int) -> float:
    """Return the estimated cycles of the kernel that transforms the weight, where that is a kernel of its own."""
    nbytes = layout.elements * size
    return layout.panels * layout.depth * VECTORS * _WEIGHT_CYCLES + (nbytes / _MEMORY_SPEED if nbytes > _LARGE_BYTES else 0)
