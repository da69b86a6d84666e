"""What changes the shape of a tensor or the places of its elements, and leaves their values alone; indexing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import ops
from chainrule.arguments import as_whole, as_whole_numbers, explained_methods, real_number, shape_of, whole_number
from chainrule.errors import UserError
from chainrule.ops import compose
from chainrule.tensor import rearranging
from chainrule.tensor.axes import Axes, as_axes, as_axis
from chainrule.tensor.handle import Handle
from chainrule.tensor.indexing import index

if TYPE_CHECKING:
    from chainrule.tensor.tensor import Tensor


@explained_methods
class Movements(Handle):
    """Methods that move elements, with NumPy's names and arguments."""

    __slots__ = ()

    @property
    def T(self) -> Tensor:  # noqa: N802 - NumPy's name
        """All axes in reverse order, as in NumPy."""
        return self.transpose()

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """The same elements, in row-major order, in another shape. One size may be -1: it is computed from the others.

        Raises:
            UserError: the number of elements does not fit the shape.
        """
        sizes = list(_several("reshape: the shape", shape))
        if sizes.count(-1) > 1:
            raise UserError(f"reshape: shape {tuple(sizes)} leaves more than one size open: -1 may stand once")
        if -1 in sizes:
            rest = int(np.prod([size for size in sizes if size != -1], dtype=np.int64))
            if rest == 0 or self.size % rest:
                raise UserError(f"reshape: the {self.size} elements of {self.node.type} do not fill shape {tuple(sizes)}")
            sizes[sizes.index(-1)] = self.size // rest
        return self._tensor(ops.reshape(self.node, shape=tuple(sizes)))

    def flatten(self, start_axis: int = 0) -> Tensor:
        """The axes from ``start_axis`` on merged into one: (a, b, c) with start_axis=1 -> (a, b * c)."""
        start_axis = whole_number("flatten: start_axis", start_axis)
        if not 0 <= start_axis < max(self.ndim, 1):
            raise UserError(f"flatten: start_axis {start_axis} is outside {self.node.type}: give 0 to {max(self.ndim, 1) - 1}")
        rest = int(np.prod(self.shape[start_axis:], dtype=np.int64))
        return self._tensor(compose.to_shape(self.node, (*self.shape[:start_axis], rest)))

    def transpose(self, *axes: int | Sequence[int]) -> Tensor:
        """The axes in another order; reversed by default.

        As in NumPy, ``axes`` is the order of all axes, and not a pair to swap, as in PyTorch. A UserError asks which is meant
        where both could be.
        """
        order = _several("transpose: axes", axes)
        if len(axes) == 2 and (self.ndim != 2 or [i % 2 for i in order] == [0, 1]):
            raise UserError(
                f"transpose: {axes} could be the order of the axes of {self.node.type}, as in NumPy, or two axes to swap, as "
                f"in PyTorch: write swapaxes{axes} to swap them, or pass the order of all axes as a tuple"
            )
        chosen = tuple(i + self.ndim if i < 0 else i for i in order) or tuple(reversed(range(self.ndim)))
        return self._tensor(ops.transpose(self.node, axes=chosen))

    def swapaxes(self, first: int, second: int) -> Tensor:
        """Two axes exchanged, as in NumPy; PyTorch calls this ``transpose(first, second)``."""
        first, second = as_axis("swapaxes", first, self.ndim), as_axis("swapaxes", second, self.ndim)
        order = list(range(self.ndim))
        order[first], order[second] = order[second], order[first]
        return self.transpose(order)

    def squeeze(self, axis: Axes = None) -> Tensor:
        """The tensor without its axes of size 1, or without those that ``axis`` names, which must be of size 1."""
        axes = as_axes("squeeze", axis, self.ndim) if axis is not None else [i for i, n in enumerate(self.shape) if n == 1]
        if any(self.shape[i] != 1 for i in axes):
            raise UserError(f"squeeze: axes {tuple(axes)} of {self.node.type} are not all of size 1")
        return self.reshape([size for i, size in enumerate(self.shape) if i not in axes])

    def expand_dims(self, axis: int) -> Tensor:
        """The tensor with a new axis of size 1, at place ``axis`` of the result."""
        place = as_axis("expand_dims", axis, self.ndim + 1)
        return self.reshape([*self.shape[:place], 1, *self.shape[place:]])

    def broadcast_to(self, shape: int | Sequence[int]) -> Tensor:
        """The tensor repeated along new axes in front and along axes of size 1, so that it has ``shape``."""
        return self._tensor(compose.broadcast_to(self.node, shape_of("broadcast_to: the shape", shape)))

    def flip(self, axis: Axes = None) -> Tensor:
        """The elements in reverse order along ``axis``, all axes by default."""
        return self._tensor(ops.flip(self.node, axes=as_axes("flip", axis, self.ndim)))

    def pad(self, width: Sequence[tuple[int, int]], value: float = 0.0, *, mode: str = "constant") -> Tensor:
        """The tensor with a border. ``width`` has the numbers of elements (before, after) to add to each axis.

        The border consists of ``value`` (``mode="constant"``), of the outermost elements ("edge"), of a mirror image without
        these ("reflect"), or of the elements at the other end ("wrap"), as in NumPy.
        """
        pairs = [as_whole_numbers(pair) for pair in width] if isinstance(width, Sequence | np.ndarray) else [None]
        widths = [pair for pair in pairs if pair is not None and len(pair) == 2]
        if not len(widths) == len(pairs) == self.ndim:
            raise UserError(
                f"pad: width must give two whole numbers, (before, after), for each of the {self.ndim} axes of "
                f"{self.node.type}, got {width!r}"
            )
        whole = as_whole(value)  # as a float, an int64 could be rounded
        number = real_number("pad: value", value) if whole is None else whole
        return self._tensor(rearranging.bordered(self.node, widths, mode, number))

    def repeat(self, repeats: int | Sequence[int], *, axis: int | None) -> Tensor:
        """Each element ``repeats`` times along ``axis``, or each as often as a list says; None flattens first. As in NumPy.

        What PyTorch calls ``repeat`` is ``tile``; so that neither is taken for the other, ``axis`` is passed by name.
        """
        node = compose.to_shape(self.node, (self.size,)) if axis is None else self.node
        return self._tensor(rearranging.repeated(node, repeats, as_axis("repeat", 0 if axis is None else axis, node.ndim)))

    def tile(self, times: int | Sequence[int]) -> Tensor:
        """The whole tensor side by side, ``times`` along each axis: ``x.tile((2, 1))``; a number is for the last axis."""
        numbers = _one_or_several(times)
        if numbers is None or any(number < 0 for number in numbers):
            raise UserError(f"tile: times must be whole numbers of at least 0, such as (2, 1), got {times!r}")
        return self._tensor(rearranging.tiled(self.node, numbers))

    def roll(self, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
        """The elements ``shift`` places further along ``axis``, the last ones first; None rolls the flattened tensor."""
        node, places = (compose.to_shape(self.node, (self.size,)), 0) if axis is None else (self.node, axis)
        shifts, axes = _one_or_several(shift), _one_or_several(places)
        if shifts is None or axes is None or len(shifts) != len(axes):
            raise UserError(f"roll: shift must be a whole number for each axis, got shift {shift!r} and axis {axis!r}")
        for number, place in zip(shifts, axes, strict=True):
            node = rearranging.rolled(node, number, as_axis("roll", place, node.ndim))
        return self._tensor(compose.to_shape(node, self.shape))

    def tril(self, k: int = 0) -> Tensor:
        """Matrices (..., m, n) with zeros above diagonal ``k``, which counts from the main one to the right."""
        return self._tensor(rearranging.triangle(self.node, whole_number("tril: k", k), lower=True))

    def triu(self, k: int = 0) -> Tensor:
        """Matrices (..., m, n) with zeros below diagonal ``k``, which counts from the main one to the right."""
        return self._tensor(rearranging.triangle(self.node, whole_number("triu: k", k), lower=False))

    def split(
        self, *, sizes: int | Sequence[int] | None = None, places: Sequence[int] | None = None, axis: int = 0
    ) -> list[Tensor]:
        """The parts of the tensor along ``axis``: of ``sizes`` each, the last one smaller if need be, or cut at ``places``.

        ``x.split(sizes=2)`` and ``x.split(sizes=[1, 3])`` are PyTorch's ``split``, ``x.split(places=[1, 3])`` is NumPy's.
        """
        axis = as_axis("split", axis, self.ndim)
        if (sizes is None) is (places is None):
            raise UserError("split: pass either sizes, such as sizes=2 or sizes=[1, 3], or places, such as places=[1, 3]")
        total = self.shape[axis]
        bounds = rearranging.bounds_of_places(places, total) if sizes is None else rearranging.bounds_of_sizes(sizes, total)
        return [self._tensor(rearranging.part(self.node, axis, *pair)) for pair in pairwise(bounds)]

    def chunk(self, parts: int, axis: int = 0) -> list[Tensor]:
        """At most ``parts`` parts along ``axis``, all of one size but the last, which may be smaller, as in PyTorch."""
        parts, axis = whole_number("chunk: parts", parts, 1), as_axis("chunk", axis, self.ndim)
        return self.split(sizes=max(1, -(-self.shape[axis] // parts)), axis=axis)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Tensor:
        return self._tensor(index(self.node, key))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise UserError("tensors are immutable: build a new one with where(), or assign a whole parameter with .assign()")


def _several(what: str, given: tuple[Any, ...]) -> tuple[int, ...]:
    """Whole numbers that were passed as separate arguments, or together in a tuple. ``what`` begins the message of errors."""
    numbers = as_whole_numbers(given[0] if len(given) == 1 and as_whole(given[0]) is None else given)
    if numbers is None:
        shown = given[0] if len(given) == 1 else given
        raise UserError(f"{what} must be whole numbers, such as (2, 3), got {shown!r}")
    return numbers


def _one_or_several(value: Any) -> tuple[int, ...] | None:
    """A whole number, or several, as a tuple; None for anything else."""
    number = as_whole(value)
    return as_whole_numbers(value) if number is None else (number,)
