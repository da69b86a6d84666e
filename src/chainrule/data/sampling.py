"""Random numbers that depend on a place alone, and a fixed choice of some items out of many, evenly from beginning to end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def evenly_drawn(count: int, total: int) -> NDArray[np.int64]:
    """The places of ``count`` items out of ``total``, ascending: a place from each of ``count`` equal stretches.

    The place within a stretch is drawn, always in the same way. A fixed stride would meet patterns: MNIST's training
    images come from two sources in turn, and every sixth image is 6 % darker than the average.
    """
    edges = np.arange(count + 1) * total // count
    # Raw numbers, since NumPy promises that these stay the same in all its versions.
    drawn = np.random.Philox(key=0).random_raw(count) % (edges[1:] - edges[:-1]).astype(np.uint64)
    return edges[:-1] + drawn.astype(np.int64)


def generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    """Random numbers that depend on these three alone. Streams start 2**192 numbers apart: they never meet."""
    key, counter = np.array([seed, epoch], np.uint64), np.array([0, 0, 0, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def coins(seed: int, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True or False, evenly, for each of some numbers: a function of it and the seed alone. (N,) -> (N,).

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014): the last bit of its finaliser.
    """
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) & np.uint64(1)).astype(np.bool_)
