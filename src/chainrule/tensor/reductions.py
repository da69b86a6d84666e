"""Sums, means, extremes and the like, over all elements or along axes; and what puts elements in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from chainrule import ops
from chainrule.arguments import explained_methods, whole_number
from chainrule.errors import UserError
from chainrule.graph import Node
from chainrule.graph.dtypes import bool_, int64, is_float
from chainrule.ops import compose
from chainrule.tensor import sorting, totals
from chainrule.tensor.axes import Axes, as_axes, as_axis
from chainrule.tensor.handle import Handle
from chainrule.tensor.operands import binary

if TYPE_CHECKING:
    from chainrule.tensor.tensor import Tensor


@explained_methods
class Reductions(Handle):
    """Methods that look at all elements along axes, with NumPy's names and arguments."""

    __slots__ = ()

    def sum(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The sum over ``axis``, all axes by default. Integers and bools are added up as int64."""
        node = self.node if is_float(self.dtype) else compose.to_dtype(self.node, int64)
        axes = as_axes("sum", axis, self.ndim)
        return self._reduced(ops.sum_(node, axes=axes), axes, keepdims)

    def mean(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The mean over ``axis``, all axes by default; integers give float32.

        Raises:
            UserError: there are no elements along ``axis``.
        """
        axes = as_axes("mean", axis, self.ndim)
        count = int(np.prod([self.shape[i] for i in axes], dtype=np.int64))
        if count == 0:
            raise UserError(f"mean: {self.node.type} has no elements along {axes}")
        total = ops.sum_(self._floats(), axes=axes)
        return self._reduced(ops.scaled(total, 1.0 / count), axes, keepdims)

    def var(self, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        """The variance over ``axis``, all axes by default: the sum of squared distances from the mean, divided by n - ``ddof``.

        Raises:
            UserError: the number of elements n is not larger than ``ddof``.
        """
        axes, ddof = as_axes("var", axis, self.ndim), whole_number("var: ddof", ddof, 0)
        count = int(np.prod([self.shape[i] for i in axes], dtype=np.int64))
        if count <= ddof:
            raise UserError(f"var: {self.node.type} has {count} elements along {axes}, with ddof={ddof} it needs more")
        deviation = self._tensor(binary("subtract", ops.subtract, self, self.mean(axis, keepdims=True)))
        return (deviation * deviation).sum(axis, keepdims) * (1.0 / (count - ddof))

    def std(self, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        """The standard deviation over ``axis``, all axes by default: the root of ``var``. Its gradient is 0 where it is 0.

        Raises:
            UserError: the number of elements n is not larger than ``ddof``.
        """
        return self._tensor(totals.root(self.var(axis, ddof, keepdims).node))

    def prod(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The product over ``axis``, all axes by default, 1 of no elements; integers and bools are multiplied as int64.

        The gradient of an element is the product of the others, also where elements are 0.
        """
        axes = as_axes("prod", axis, self.ndim)
        return self._reduced(totals.product(self.node, axes), axes, keepdims)

    def cumsum(self, axis: int | None = None) -> Tensor:
        """The sums up to each place along ``axis``, that place included; without ``axis``, of the flattened tensor.

        Integers and bools are added up as int64.
        """
        node = self.node if is_float(self.dtype) else compose.to_dtype(self.node, int64)
        if axis is None:
            return self._tensor(ops.cumsum(compose.to_shape(node, (self.size,)), axis=0, reverse=False))
        return self._tensor(ops.cumsum(node, axis=as_axis("cumsum", axis, self.ndim), reverse=False))

    def norm(self, ord: Any = 2, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The vector norm over ``axis``, all axes by default, with ``ord`` 1, 2 or inf; integers give float32.

        They are the sum of magnitudes, the root of the sum of squares, and the largest magnitude. Where the norm is 0, its
        gradient is 0.

        Raises:
            UserError: ``ord`` is none of these; or it is inf, and there are no elements.
        """
        axes = as_axes("norm", axis, self.ndim)
        return self._reduced(totals.norm(self._floats(), ord, axes), axes, keepdims)

    def logsumexp(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """ln of the sum of e^x over ``axis``, all axes by default, computed so that nothing overflows; integers give float32.

        Raises:
            UserError: there are no elements along ``axis``.
        """
        axes = as_axes("logsumexp", axis, self.ndim)
        return self._reduced(totals.log_of_sum_of_exponentials(self._floats(), axes), axes, keepdims)

    def max(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The largest element along ``axis``, all axes by default; on a tie, the whole gradient goes to the first one."""
        return self._extreme("max", ops.max_, axis, keepdims)

    def min(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The smallest element along ``axis``, all axes by default; on a tie, the whole gradient goes to the first one."""
        return self._extreme("min", ops.min_, axis, keepdims)

    def argmax(self, axis: int | None = None) -> Tensor:
        """The index of the largest element along ``axis``, the first on a tie; without ``axis``, in the flattened tensor."""
        return self._place("argmax", ops.argmax, axis)

    def argmin(self, axis: int | None = None) -> Tensor:
        """The index of the smallest element along ``axis``, the first on a tie; without ``axis``, in the flattened tensor."""
        return self._place("argmin", ops.argmin, axis)

    def argsort(self, axis: int | None = -1, *, descending: bool = False) -> Tensor:
        """The indices, int64, that put the elements in order along ``axis``; None flattens first.

        Equal elements stay in the order in which they are, and nan counts as the largest number.
        """
        return self._tensor(sorting.argsort(self.node, axis, descending))

    def sort(self, axis: int | None = -1, *, descending: bool = False) -> Tensor:
        """The elements in order along ``axis``; None flattens first. nan counts as the largest number.

        It is a new tensor, and the elements alone: ``argsort`` gives their indices. The gradient of each element goes back to
        where the element was.
        """
        return self._tensor(sorting.sort(self.node, axis, descending))

    def topk(self, k: int, axis: int = -1, *, largest: bool = True) -> tuple[Tensor, Tensor]:
        """The ``k`` largest elements along ``axis``, or the smallest, in order, and their indices: (..., k), (..., k) int64.

        Raises:
            UserError: there are fewer than ``k`` elements along ``axis``.
        """
        values, places = sorting.topk(self.node, k, axis, largest)
        return self._tensor(values), self._tensor(places)

    def any(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Whether any element along ``axis``, all axes by default, is not 0."""
        return self._tensor(compose.to_dtype(self.node, bool_)).sum(axis, keepdims) > 0

    def all(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Whether no element along ``axis``, all axes by default, is 0."""
        return ~self._tensor(ops.logical_not(compose.to_dtype(self.node, bool_))).any(axis, keepdims)

    def _extreme(self, name: str, primitive: ops.Primitive, axis: Axes, keepdims: bool) -> Tensor:
        axes = as_axes(name, axis, self.ndim)
        if len(axes) == 1:
            return self._reduced(primitive(self.node, axis=axes[0]), axes, keepdims)
        if not axes:
            return cast("Tensor", self)
        flat = totals.flattened_last(self.node, axes)
        return self._reduced(primitive(flat, axis=flat.ndim - 1), axes, keepdims)

    def _place(self, name: str, primitive: ops.Primitive, axis: int | None) -> Tensor:
        if axis is None:
            return self._tensor(primitive(compose.to_shape(self.node, (self.size,)), axis=0))
        return self._tensor(primitive(self.node, axis=as_axis(name, axis, self.ndim)))

    def _reduced(self, node: Node, axes: tuple[int, ...], keepdims: bool) -> Tensor:
        """The result of a reduction over ``axes``; with ``keepdims``, these stay as axes of size 1."""
        if keepdims:
            node = compose.to_shape(node, tuple(1 if i in axes else size for i, size in enumerate(self.shape)))
        return self._tensor(node)
