"""Parts of a vector, at the edge of what there is: loads by mask, stores by mask or in pieces."""

from __future__ import annotations

from chainrule.cpu.codegen.emit import SIZES, Function, Value, element_of, lanes_of
from chainrule.cpu.codegen.target import Target


def has_masks(target: Target, itemsize: int) -> bool:
    """Whether a vector of elements of so many bytes can be loaded in part."""
    return target.name in ("avx512", "avx2") and itemsize in (4, 8)


def store_columns(f: Function, value: Value, address: Value, count: int | Value) -> None:
    """The first ``count`` lanes; if their number is known in pieces, as masked stores are slow on some processors."""
    element, lanes = element_of(value.type), lanes_of(value.type)
    if count == lanes:
        f.store(value, address)
        return
    if isinstance(count, Value) or lanes * SIZES[element] == 64:
        f.masked_store(value, address, f.lane_mask(count, lanes))
        return
    for first, size in _pieces(count, lanes):
        if size == 1:
            f.store(f.extract(value, first), f.at(address, first, element))
        else:
            f.store(f.shuffle(value, value, range(first, first + size)), f.at(address, first, element))


def load_columns(f: Function, address: Value, type_: str, count: int | Value) -> Value:
    """The first ``count`` lanes, 0 in the others."""
    lanes = lanes_of(type_)
    return f.load(address, type_) if count == lanes else f.masked_load(address, f.lane_mask(count, lanes), type_)


def _pieces(count: int, lanes: int) -> list[tuple[int, int]]:
    """(first lane, lanes) of the fewest pieces of a power of two that make ``count`` lanes."""
    pieces, first, size = [], 0, lanes
    while first < count:
        if count - first >= size:
            pieces.append((first, size))
            first += size
        else:
            size //= 2
    return pieces
