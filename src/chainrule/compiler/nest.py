"""A loop nest: what a fused kernel of elementwise values and reductions computes at every point of its space.

    for each point of the space:   loads ──> body (elementwise primitives, in registers) ──> stores and reductions

The space is a box of loop axes, outermost first; the last one is vectorised. Every load and store has an affine index map: a
start and one stride per loop axis, in elements. So broadcasting (stride 0), transposing, slicing and flipping need no work of
their own. A nest depends neither on graphs, from which passes make it, nor on a processor, for which the backend compiles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Strides = tuple[int, ...]


class Access(NamedTuple):
    """The element of operand number ``operand`` that is loaded or stored at each point of the space.

    Its index is ``start`` + ``unit_stride`` * unit of work + the sum of index * stride over the loop axes. The unit stride
    gives each unit a partial result of its own; these are combined afterwards, in the order of the units.
    """

    operand: int
    dtype: str
    start: int
    strides: Strides
    unit_stride: int = 0


class Instruction(NamedTuple):
    """Computes one value of the body. ``inputs`` are numbers of earlier instructions; only a ``load`` has an ``access``.

    ``name`` is that of an elementwise primitive, or one of these:

    - ``load``: the element at ``access``;
    - ``constant``: attribute ``number``;
    - ``index``: ``start`` + the sum of index * stride over the loop axes, as int64; attributes ``start`` and ``strides``;
    - ``unit_share``: 1 / (number of indices of the first axis in this unit of work * attribute ``inner``).
    """

    name: str
    dtype: str
    inputs: tuple[int, ...] = ()
    attributes: tuple[tuple[str, Any], ...] = ()
    access: Access | None = None

    def attribute(self, name: str) -> Any:
        """The value of an attribute; a KeyError if it has none of that name."""
        return dict(self.attributes)[name]


class Store(NamedTuple):
    """Stores the value of body instruction ``value`` at ``access``."""

    value: int
    access: Access


class Reduction(NamedTuple):
    """Combines the values of body instruction ``value`` at ``access``, whose strides are 0 along the axes that are reduced.

    ``kind`` is "sum", "max" or "min". Each unit of work starts from an empty result.
    """

    value: int
    kind: str
    access: Access


@dataclass(frozen=True)
class Nest:
    """A loop nest: see the module.

    ``sizes`` has the sizes of the axes, outermost first. A unit of work, which one thread does, is ``rows`` indices of the
    first axis.
    """

    sizes: tuple[int, ...]
    rows: int
    body: tuple[Instruction, ...]
    stores: tuple[Store, ...] = ()
    reductions: tuple[Reduction, ...] = ()

    @property
    def units(self) -> int:
        """The number of units of work. The last one may have fewer than ``rows`` indices."""
        return -(-self.sizes[0] // self.rows)

    @property
    def operands(self) -> int:
        """The number of operands that are loaded from, stored to or reduced into."""
        places = [store.access.operand for store in self.stores] + [sink.access.operand for sink in self.reductions]
        places += [instruction.access.operand for instruction in self.body if instruction.access is not None]
        return max(places, default=-1) + 1


def collapsed(sizes: Sequence[int], maps: Sequence[Strides]) -> tuple[tuple[int, ...], list[Strides]]:
    """The same space with fewer axes: its sizes, and the strides of each of ``maps`` along them.

    Axes of size 1 are dropped. Two neighbouring axes are merged if in every map the stride of the outer one is the stride of
    the inner one times its size.
    """
    kept = [axis for axis, size in enumerate(sizes) if size != 1]
    merged: list[list[int]] = []  # groups of axes, outermost first
    for axis in kept:
        if merged and all(strides[merged[-1][-1]] == strides[axis] * sizes[axis] for strides in maps):
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
    return tuple(new_sizes), [tuple(strides[group[-1]] for group in merged) for strides in maps]
