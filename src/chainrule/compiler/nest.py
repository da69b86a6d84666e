"""A loop nest: what one fused kernel of elementwise work and reductions does at every point of its space.

    for each point of the space:   loads ──> body (elementwise primitives, in registers) ──> stores and reductions

The space is a box of loop axes, outermost first; the last one is the vector axis. Every load and store has an affine index
map: a start and one stride per axis, in elements. So broadcasting (stride 0), transposing, slicing and flipping cost
nothing of their own. A nest knows nothing of graphs or of processors: the one side makes it, the other runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Strides = tuple[int, ...]


@dataclass(frozen=True)
class Access:
    """Elements of operand number ``operand``: element ``start`` + the sum of index * stride over the loop axes.

    In unit u of the work all of it lies ``unit_stride`` * u elements further on: so what several units gather into the same
    places stays apart until it is added up in the order of the units.
    """

    operand: int
    dtype: str
    start: int
    strides: Strides
    unit_stride: int = 0


@dataclass(frozen=True)
class Instruction:
    """One value of the body. ``inputs`` are numbers of earlier instructions; ``access`` is set for a ``load``.

    Besides the elementwise primitives by name there are ``load``, ``constant`` (attribute ``number``), ``index`` (start + the
    sum of index * stride, as an int64: attributes ``start`` and ``strides``) and ``unit_share``: 1 / (indices of the first axis
    in this unit * attribute ``inner``).
    """

    name: str
    dtype: str
    inputs: tuple[int, ...] = ()
    attributes: tuple[tuple[str, Any], ...] = ()
    access: Access | None = None

    def attribute(self, name: str) -> Any:
        """The value of an attribute; a KeyError if it has none of that name."""
        return dict(self.attributes)[name]


@dataclass(frozen=True)
class Store:
    """Body value ``value`` goes to ``access``."""

    value: int
    access: Access


@dataclass(frozen=True)
class Reduction:
    """Body value ``value`` is gathered into ``access``, whose strides are 0 along the axes that are reduced.

    ``kind``: sum, max or min. Each unit of work begins afresh.
    """

    value: int
    kind: str
    access: Access


@dataclass(frozen=True)
class Nest:
    """``sizes`` of the axes, outermost first; a unit of work is ``rows`` indices of the first axis."""

    sizes: tuple[int, ...]
    rows: int
    body: tuple[Instruction, ...]
    stores: tuple[Store, ...] = ()
    reductions: tuple[Reduction, ...] = ()

    @property
    def units(self) -> int:
        """Units of work, of ``rows`` indices of the first axis each; the last may have fewer."""
        return -(-self.sizes[0] // self.rows)

    @property
    def operands(self) -> int:
        """How many operands it reads, writes and gathers into: one more than the largest number."""
        places = [one.access.operand for one in self.stores] + [one.access.operand for one in self.reductions]
        places += [one.access.operand for one in self.body if one.access is not None]
        return max(places, default=-1) + 1


def collapsed(sizes: Sequence[int], maps: Sequence[Strides]) -> tuple[tuple[int, ...], list[Strides]]:
    """The same space with fewer axes: axes of size 1 vanish, and neighbours that every map walks as one become one."""
    kept = [axis for axis, size in enumerate(sizes) if size != 1]
    merged: list[list[int]] = []  # groups of axes, outermost first
    for axis in kept:
        if merged and all(one[merged[-1][-1]] == one[axis] * sizes[axis] for one in maps):
            merged[-1].append(axis)
        else:
            merged.append([axis])
    if not merged:
        return (1,), [(0,) for _ in maps]
    new_sizes = []
    for group in merged:
        size = 1
        for axis in group:
            size *= sizes[axis]
        new_sizes.append(size)
    return tuple(new_sizes), [tuple(one[group[-1]] for group in merged) for one in maps]
