"""The shape of a nest: as few axes as its index maps allow, units of work of the right size, only operands that it touches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from chainrule.compiler.fuse import SMALL
from chainrule.compiler.nest import Access, Instruction, Nest, Reduction, Store, Strides, collapsed
from chainrule.compiler.tasks import Buffer

UNIT_BYTES = 128 * 1024
_MOST_UNITS = 256
_MOST_PARTIALS = 64


def compact(
    sizes: Sequence[int],
    body: Sequence[Instruction],
    stores: Sequence[Store],
    reductions: Sequence[Reduction],
    unit_bytes: int,
) -> Nest:
    """The nest with as few axes as its index maps allow, and units of about ``unit_bytes`` of traffic."""
    maps: list[Strides] = [one.access.strides for one in body if one.access is not None]
    maps += [dict(one.attributes)["strides"] for one in body if one.name == "index"]
    maps += [one.access.strides for one in stores] + [one.access.strides for one in reductions]
    new_sizes, new_maps = collapsed(sizes, maps)
    found = dict(zip(maps, new_maps, strict=True))

    def access(one: Access) -> Access:
        return replace(one, strides=found[one.strides])

    new_body = []
    for one in body:
        if one.access is not None:
            one = Instruction(one.name, one.dtype, one.inputs, one.attributes, access(one.access))
        elif one.name == "index":
            attributes = dict(one.attributes)
            attributes["strides"] = found[attributes["strides"]]
            one = Instruction(one.name, one.dtype, one.inputs, tuple(sorted(attributes.items())))
        new_body.append(one)
    return Nest(
        new_sizes,
        _rows(new_sizes, len(maps), unit_bytes, bool(reductions)),
        tuple(new_body),
        tuple(Store(one.value, access(one.access)) for one in stores),
        tuple(Reduction(one.value, one.kind, access(one.access)) for one in reductions),
    )


def _rows(sizes: tuple[int, ...], streams: int, unit_bytes: int, reduces: bool) -> int:
    """Indices of the first axis in one unit of work."""
    points = math.prod(sizes)
    if points <= SMALL:
        return sizes[0]
    units = min(max(1, points * 4 * max(streams, 1) // unit_bytes), _MOST_PARTIALS if reduces else _MOST_UNITS, sizes[0])
    rows = -(-sizes[0] // units)
    return -(-rows // 64) * 64 if len(sizes) == 1 else rows


def without_untouched(nest: Nest, operands: list[Buffer]) -> tuple[Nest, tuple[Buffer, ...]]:
    """Operands that nothing touches any more (a reduction's place, once it goes by partial results) are left out."""
    touched = {one.access.operand for one in nest.body if one.access is not None}
    touched |= {one.access.operand for one in nest.stores} | {one.access.operand for one in nest.reductions}
    renumbered = {old: new for new, old in enumerate(sorted(touched))}

    def access(one: Access) -> Access:
        return replace(one, operand=renumbered[one.operand])

    body = tuple(one if one.access is None else replace(one, access=access(one.access)) for one in nest.body)
    stores = tuple(replace(one, access=access(one.access)) for one in nest.stores)
    reductions = tuple(replace(one, access=access(one.access)) for one in nest.reductions)
    buffers = tuple(operands[old] for old in sorted(touched))
    return replace(nest, body=body, stores=stores, reductions=reductions), buffers
