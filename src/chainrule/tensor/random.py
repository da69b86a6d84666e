"""Random tensors from a counter-based generator: a seed gives the same numbers on any engine and any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule import forks
from chainrule.arguments import explained, explained_methods, real_number, shape_of, whole_number
from chainrule.errors import UserError
from chainrule.graph import Node
from chainrule.graph.dtypes import as_dtype, float32, int64, is_float
from chainrule.ops import compose
from chainrule.tensor.cells import Buffer
from chainrule.tensor.tensor import Tensor

Draw = Callable[[Node, tuple[int, ...], Any], tuple[Node, Node]]


@explained_methods
class Generator:
    """A stream of random numbers.

    ``state`` is a cell of two int64, the seed and the counter, so that checkpoints can hold it and compiled functions can
    advance it.
    """

    @explained
    def __init__(self, seed: int = 0) -> None:
        self.state = Buffer(np.array([_checked(seed), 0]), int64)
        self.state.name = "random.state"
        self._drawing = forks.renewed(threading.Lock())

    def __repr__(self) -> str:
        seed, drawn = self.state.numbers().tolist()
        return f"Generator(seed={seed}, counter={drawn})"

    def seed(self, seed: int) -> None:
        """Restart the stream from ``seed``.

        Raises:
            UserError: ``seed`` is no whole number from 0 to 2^63 - 1.
        """
        self.state.assign(np.array([_checked(seed), 0]))

    def uniform(self, shape: int | Sequence[int] = (), *, low: float = 0.0, high: float = 1.0, dtype: Any = float32) -> Tensor:
        """Uniform numbers in [low, high), of ``shape``. If ``low`` is not 0, rounding may give ``high`` itself."""
        low, high = real_number("uniform: low", low), real_number("uniform: high", high)
        return self._draw(compose.uniform, shape, dtype) * (high - low) + low

    def normal(self, shape: int | Sequence[int] = (), *, mean: float = 0.0, std: float = 1.0, dtype: Any = float32) -> Tensor:
        """Normally distributed numbers, of ``shape``."""
        mean, std = real_number("normal: mean", mean), real_number("normal: std", std)
        return self._draw(compose.normal, shape, dtype) * std + mean

    def _draw(self, draw: Draw, shape: int | Sequence[int], dtype: Any) -> Tensor:
        wanted = as_dtype(dtype)
        if not is_float(wanted):
            raise UserError(f"random: draws floats, not {wanted}: draw float32 numbers, scale them and use astype")
        sizes = shape_of("random: the shape", shape)
        with self._drawing:  # or two threads could draw the same numbers
            numbers, after = draw(self.state.node, sizes, wanted)
            self.state.assign(Tensor(after))
        return Tensor(numbers)


def _checked(seed: int) -> int:
    number = whole_number("seed", seed)
    if not 0 <= number < 2**63:
        raise UserError(f"seed must be from 0 to 2^63 - 1, got {number}")
    return number


default_generator = Generator()
"""The stream that initialisation and dropout draw from."""


@explained
def manual_seed(seed: int) -> None:
    """Restart the default stream, from which initialisation and dropout draw, from ``seed``."""
    default_generator.seed(seed)


@explained
def uniform(shape: int | Sequence[int] = (), *, low: float = 0.0, high: float = 1.0, dtype: Any = float32) -> Tensor:
    """Uniform numbers in [low, high), of ``shape``, from the default stream."""
    return default_generator.uniform(shape, low=low, high=high, dtype=dtype)


@explained
def normal(shape: int | Sequence[int] = (), *, mean: float = 0.0, std: float = 1.0, dtype: Any = float32) -> Tensor:
    """Normally distributed numbers, of ``shape``, from the default stream."""
    return default_generator.normal(shape, mean=mean, std=std, dtype=dtype)
