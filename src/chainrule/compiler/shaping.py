"""Brings nests into shape: as few axes as possible, units of work of a suitable size, and no unused operands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from chainrule.compiler.fuse import SMALL
from chainrule.compiler.nest import Access, Instruction, Nest, Reduction, Store, Strides, collapsed
from chainrule.compiler.tasks import Buffer

UNIT_BYTES = 128 * 1024
"""About how many bytes a unit of work should load and store."""
_MOST_UNITS = 256
_MOST_PARTIALS = 64
"""The most units of a nest with reductions, each of which may store a partial result."""


def compact(
    sizes: Sequence[int],
    body: Sequence[Instruction],
    stores: Sequence[Store],
    reductions: Sequence[Reduction],
    unit_bytes: int,
) -> Nest:
    """A nest over a space of ``sizes``, with as few axes as its index maps allow (see ``collapsed``).

    Its units of work load and store about ``unit_bytes`` bytes each.
    """
    maps: list[Strides] = [instruction.access.strides for instruction in body if instruction.access is not None]
    maps += [dict(instruction.attributes)["strides"] for instruction in body if instruction.name == "index"]
    maps += [store.access.strides for store in stores] + [reduction.access.strides for reduction in reductions]
    new_sizes, new_maps = collapsed(sizes, maps)
    strides_after = dict(zip(maps, new_maps, strict=True))

    def access(old: Access) -> Access:
        return Access(old.operand, old.dtype, old.start, strides_after[old.strides], old.unit_stride)

    new_body = []
    for instruction in body:
        if instruction.access is not None:
            instruction = Instruction(
                instruction.name, instruction.dtype, instruction.inputs, instruction.attributes, access(instruction.access)
            )
        elif instruction.name == "index":
            attributes = dict(instruction.attributes)
            attributes["strides"] = strides_after[attributes["strides"]]
            instruction = Instruction(
                instruction.name, instruction.dtype, instruction.inputs, tuple(sorted(attributes.items()))
            )
        new_body.append(instruction)
    return Nest(
        new_sizes,
        _rows(new_sizes, len(maps), unit_bytes, bool(reductions)),
        tuple(new_body),
        tuple(Store(store.value, access(store.access)) for store in stores),
        tuple(Reduction(reduction.value, reduction.kind, access(reduction.access)) for reduction in reductions),
    )


def _rows(sizes: tuple[int, ...], streams: int, unit_bytes: int, reduces: bool) -> int:
    """The number of indices of the first axis in a unit of work. ``streams`` is the number of loads and stores per point."""
    points = math.prod(sizes)
    if points <= SMALL:
        return sizes[0]
    units = min(max(1, points * 4 * max(streams, 1) // unit_bytes), _MOST_PARTIALS if reduces else _MOST_UNITS, sizes[0])
    rows = -(-sizes[0] // units)
    return -(-rows // 64) * 64 if len(sizes) == 1 else rows


def without_untouched(nest: Nest, operands: list[Buffer]) -> tuple[Nest, tuple[Buffer, ...]]:
    """The nest without operands that it does not use, and the buffers of the others.

    A reduction into partial results, for example, no longer uses the buffer of its result.
    """
    touched = {instruction.access.operand for instruction in nest.body if instruction.access is not None}
    touched |= {store.access.operand for store in nest.stores} | {sink.access.operand for sink in nest.reductions}
    used = sorted(touched)
    if len(used) == len(operands):
        return nest, tuple(operands)
    renumbered = {old: new for new, old in enumerate(used)}

    def access(old: Access) -> Access:
        return old._replace(operand=renumbered[old.operand])

    body = tuple(each if each.access is None else each._replace(access=access(each.access)) for each in nest.body)
    stores = tuple(store._replace(access=access(store.access)) for store in nest.stores)
    reductions = tuple(reduction._replace(access=access(reduction.access)) for reduction in nest.reductions)
    return replace(nest, body=body, stores=stores, reductions=reductions), tuple(operands[old] for old in used)
