"""Random bits from a counter: Philox 4x32-10.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011). The bits are a function of a seed
and a counter alone, so any engine, with any number of threads, in any order, draws the same numbers.
"""

from __future__ import annotations

import math

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import int32, int64
from chainrule.graph.node import Array, Role, TensorType
from chainrule.ops.primitive import Blocked, Primitive, Spec, rows

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox(counter: tuple[Array, Array, Array, Array], key: tuple[Array, Array]) -> tuple[Array, Array, Array, Array]:
    """Ten rounds of Philox 4x32: from four words of counter and two of key to four random words (32 bits each, in uint64)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (right >> _32) ^ c1 ^ k0, right & _LOW, (left >> _32) ^ c3 ^ k1, left & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def blocks_for(shape: tuple[int, ...]) -> int:
    """By how much a draw of ``shape`` advances the counter: each step gives four words."""
    return -(-math.prod(shape) // 4)


def _shape(state: TensorType, *, shape: tuple[int, ...], bits: int) -> TensorType:
    if state != TensorType((2,), int64):
        raise UserError(f"random_bits: the state is int64[2], seed and counter, got {state}")
    if not 1 <= bits <= 31:
        raise UserError(f"random_bits: bits must be 1 to 31, got {bits}")
    return TensorType(shape, int32)


def _reference(state: Array, *, shape: tuple[int, ...], bits: int) -> Array:
    seed, first = state.astype(np.uint64)
    block = first + np.arange(blocks_for(shape), dtype=np.uint64)
    zero = np.zeros_like(block)
    words = philox((block & _LOW, block >> _32, zero, zero), (seed & _LOW, seed >> _32))
    stream = np.stack(words, axis=1).reshape(-1)[: math.prod(shape)]
    return (stream >> np.uint64(32 - bits)).astype(np.int32).reshape(shape)


random_bits: Primitive = Primitive(
    "random_bits",
    Role.BLOCKER,
    "Random integers from 0 to 2^bits - 1: state int64 (2), which is seed and counter, -> shape, int32. Element i is word "
    "i mod 4 of Philox at counter + i / 4.",
    shape=_shape,
    reference=_reference,
    vjp=Blocked("chance has no slope"),
    local=("0",),
    saves=(),
    spec=rows(
        Spec(((2,),), {"shape": (5, 3), "bits": 24}, dtypes=("int64",)),
        Spec(((2,),), {"shape": (), "bits": 31}, dtypes=("int64",)),
        Spec(((2,),), {"shape": (0, 2), "bits": 1}, dtypes=("int64",)),
    ),
    heavy=True,
)
