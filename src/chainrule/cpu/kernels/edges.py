"""Loads and stores of the first lanes of a vector, where rows end within it: by mask, or in pieces."""

from __future__ import annotations

from chainrule.cpu.codegen.emit import SIZES, Function, Value, element_of, lanes_of
from chainrule.cpu.codegen.target import Target


def has_masks(target: Target, itemsize: int) -> bool:
    """Return whether the target can load and store single lanes of a vector whose elements have ``itemsize`` bytes."""
    return target.name in ("avx512", "avx2") and itemsize in (4, 8)


def store_columns(f: Function, value: Value, address: Value, count: int | Value) -> None:
    """Store the first ``count`` lanes of ``value`` at ``address``.

    If their number is known when the code is generated, they are stored in pieces of a power of two of lanes, as masked stores
    are slow on some processors; vectors of 64 bytes always use a mask.
    """
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
    """Load the first ``count`` lanes of a vector of ``type_`` from ``address``; the other lanes are 0, and not accessed."""
    lanes = lanes_of(type_)
    return f.load(address, type_) if count == lanes else f.masked_load(address, f.lane_mask(count, lanes), type_)


def _pieces(count: int, lanes: int) -> list[tuple[int, int]]:
    """Cut the first ``count`` lanes into as few pieces of a power of two as possible; returns (first lane, lanes) of each."""
    pieces, first, size = [], 0, lanes
    while first < count:
        if count - first >= size:
            pieces.append((first, size))
            first += size
        else:
            size //= 2
    return pieces
