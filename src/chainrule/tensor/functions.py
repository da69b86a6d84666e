"""Functions of tensors under NumPy's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.arguments import explained, members_of, whole_number
from chainrule.errors import UserError
from chainrule.graph import Array
from chainrule.graph.dtypes import as_dtype, float32, promote
from chainrule.ops import compose
from chainrule.tensor import einsum as contractions
from chainrule.tensor import indexing
from chainrule.tensor.axes import Axes, as_axis
from chainrule.tensor.operands import binary, operands
from chainrule.tensor.tensor import Tensor, as_tensor
from chainrule.tensor.tracing import verify

# ---- functions of one tensor


@explained
def exp(x: Any) -> Tensor:
    """e^x for each element; integers give float32."""
    return as_tensor(x).exp()


@explained
def log(x: Any) -> Tensor:
    """The natural logarithm of each element: -inf at 0, nan below; integers give float32."""
    return as_tensor(x).log()


@explained
def log2(x: Any) -> Tensor:
    """The logarithm of each element to the base 2, exact for powers of 2; integers give float32."""
    return as_tensor(x).log2()


@explained
def expm1(x: Any) -> Tensor:
    """e^x - 1 for each element, accurate also near x = 0."""
    return as_tensor(x).expm1()


@explained
def log1p(x: Any) -> Tensor:
    """ln(1 + x) for each element, accurate also near x = 0."""
    return as_tensor(x).log1p()


@explained
def sqrt(x: Any) -> Tensor:
    """The square root of each element: nan below 0; integers give float32."""
    return as_tensor(x).sqrt()


@explained
def rsqrt(x: Any) -> Tensor:
    """1 / sqrt(x) for each element; integers give float32."""
    return as_tensor(x).rsqrt()


@explained
def sin(x: Any) -> Tensor:
    """The sine of each element, in radians."""
    return as_tensor(x).sin()


@explained
def cos(x: Any) -> Tensor:
    """The cosine of each element, in radians."""
    return as_tensor(x).cos()


@explained
def tan(x: Any) -> Tensor:
    """The tangent of each element, in radians."""
    return as_tensor(x).tan()


@explained
def atan(x: Any) -> Tensor:
    """The arc tangent of each element, in radians, from -pi/2 to pi/2."""
    return as_tensor(x).atan()


@explained
def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent of each element."""
    return as_tensor(x).tanh()


@explained
def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e^-x) for each element."""
    return as_tensor(x).sigmoid()


@explained
def erf(x: Any) -> Tensor:
    """The error function of each element."""
    return as_tensor(x).erf()


@explained
def erfc(x: Any) -> Tensor:
    """1 - erf(x) for each element, accurate also where the result is near 0."""
    return as_tensor(x).erfc()


@explained
def floor(x: Any) -> Tensor:
    """Each element rounded down to a whole number, in its dtype. No gradient passes."""
    return as_tensor(x).floor()


@explained
def ceil(x: Any) -> Tensor:
    """Each element rounded up to a whole number, in its dtype. No gradient passes."""
    return as_tensor(x).ceil()


@explained
def round(x: Any, decimals: int = 0) -> Tensor:
    """Each element rounded to ``decimals`` decimals, halves to even; -1 rounds to tens. No gradient passes."""
    return as_tensor(x).round(decimals)


@explained
def sign(x: Any) -> Tensor:
    """-1, 0 or 1 for each element; nan stays nan. No gradient passes."""
    return as_tensor(x).sign()


@explained
def abs(x: Any) -> Tensor:
    """The magnitude of each element; the gradient at 0 is 0."""
    return as_tensor(x).abs()


@explained
def isnan(x: Any) -> Tensor:
    """Whether each element is nan."""
    return as_tensor(x).isnan()


@explained
def isinf(x: Any) -> Tensor:
    """Whether each element is inf or -inf."""
    return as_tensor(x).isinf()


@explained
def isfinite(x: Any) -> Tensor:
    """Whether each element is a number other than inf, -inf and nan."""
    return as_tensor(x).isfinite()


@explained
def clip(x: Any, low: Any = None, high: Any = None) -> Tensor:
    """Each element limited to [low, high]; no gradient passes where it is at a limit or outside."""
    return as_tensor(x).clip(low, high)


@explained
def sum(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The sum over ``axis``, all axes by default. Integers and bools are added up as int64."""
    return as_tensor(x).sum(axis, keepdims)


@explained
def mean(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The mean over ``axis``, all axes by default; integers give float32."""
    return as_tensor(x).mean(axis, keepdims)


@explained
def var(x: Any, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """The variance over ``axis``, all axes by default: the sum of squared distances from the mean, divided by n - ``ddof``."""
    return as_tensor(x).var(axis, ddof, keepdims)


@explained
def std(x: Any, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
    """The standard deviation over ``axis``, all axes by default: the root of ``var``. Its gradient is 0 where it is 0."""
    return as_tensor(x).std(axis, ddof, keepdims)


@explained
def prod(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The product over ``axis``, all axes by default, 1 of no elements; integers and bools are multiplied as int64."""
    return as_tensor(x).prod(axis, keepdims)


@explained
def cumsum(x: Any, axis: int | None = None) -> Tensor:
    """The sums up to each place along ``axis``, that place included; without ``axis``, of the flattened tensor."""
    return as_tensor(x).cumsum(axis)


@explained
def norm(x: Any, ord: Any = 2, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The vector norm over ``axis``, all axes by default, with ``ord`` 1, 2 or inf; its gradient is 0 where it is 0."""
    return as_tensor(x).norm(ord, axis, keepdims)


@explained
def logsumexp(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """ln of the sum of e^x over ``axis``, all axes by default, computed so that nothing overflows."""
    return as_tensor(x).logsumexp(axis, keepdims)


@explained
def max(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The largest element along ``axis``, all axes by default; on a tie, the whole gradient goes to the first one."""
    return as_tensor(x).max(axis, keepdims)


@explained
def min(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The smallest element along ``axis``, all axes by default; on a tie, the whole gradient goes to the first one."""
    return as_tensor(x).min(axis, keepdims)


@explained
def argsort(x: Any, axis: int | None = -1, *, descending: bool = False) -> Tensor:
    """The indices, int64, that put the elements in order along ``axis``, equal ones as they are; None flattens first."""
    return as_tensor(x).argsort(axis, descending=descending)


@explained
def sort(x: Any, axis: int | None = -1, *, descending: bool = False) -> Tensor:
    """The elements in order along ``axis``; None flattens first. nan counts as the largest number."""
    return as_tensor(x).sort(axis, descending=descending)


@explained
def topk(x: Any, k: int, axis: int = -1, *, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The ``k`` largest elements along ``axis``, or the smallest, in order, and their indices: (..., k), (..., k) int64."""
    return as_tensor(x).topk(k, axis, largest=largest)


# ---- functions of several


@explained
def maximum(x: Any, y: Any) -> Tensor:
    """The larger of each pair; on a tie the gradient goes to ``x``."""
    return Tensor(binary("maximum", ops.maximum, x, y))


@explained
def minimum(x: Any, y: Any) -> Tensor:
    """The smaller of each pair; on a tie the gradient goes to ``x``."""
    return Tensor(binary("minimum", ops.minimum, x, y))


@explained
def matmul(x: Any, y: Any) -> Tensor:
    """The matrix product ``x @ y`` over broadcast batch axes: (..., m, k), (..., k, n) -> (..., m, n)."""
    return as_tensor(x) @ as_tensor(y)


@explained
def einsum(subscripts: str, *operands: Any) -> Tensor:
    """The sum of products that ``subscripts`` describe, as in NumPy: ``einsum("bij,jk->bik", x, w)``.

    Each letter names an axis. Axes of one letter are multiplied with each other, and summed over unless the letter is in the
    output. Without ``->``, the output has the letters that occur once, in alphabetical order. A letter that an operand has
    twice means its diagonal, ``...`` any further axes, which are broadcast.

    Raises:
        UserError: ``subscripts`` cannot be read, or the operands do not fit them.
    """
    if not isinstance(subscripts, str):
        raise UserError(f"einsum: subscripts must be a text, such as 'ij,jk->ik', got a {type(subscripts).__name__}")
    nodes = [as_tensor(operand).node for operand in operands]
    return Tensor(contractions.einsum(subscripts, nodes))


@explained
def where(condition: Any, x: Any, y: Any) -> Tensor:
    """``x`` where ``condition`` holds, otherwise ``y``, element by element; the three are broadcast to one shape."""
    nodes = (as_tensor(condition).node, *operands("where", x, y))
    shapes = [node.shape for node in nodes]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise UserError(f"where: shapes {' and '.join(map(str, shapes))} do not broadcast") from None
    return Tensor(ops.where(*(compose.broadcast_to(node, shape) for node in nodes)))


@explained
def concatenate(tensors: Sequence[Any], axis: int | None = 0) -> Tensor:
    """The tensors one after the other along ``axis``; all other axes must have equal sizes.

    With ``axis=None`` the tensors are flattened first: (total number of elements).
    """
    parts = [as_tensor(part) for part in members_of("concatenate: tensors", tensors, "pass [x, y]")]
    if not parts:
        raise UserError("concatenate: needs at least one tensor, got none")
    if axis is None:
        parts, axis = [part.reshape(-1) for part in parts], 0
    dtype = promote(*(part.dtype for part in parts))
    place = as_axis("concatenate", axis, parts[0].ndim)
    return Tensor(ops.concatenate(*(part.astype(dtype).node for part in parts), axis=place))


@explained
def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """The tensors, all of one shape, one after the other along a new axis, at place ``axis`` of the result."""
    return concatenate([as_tensor(x).expand_dims(axis) for x in members_of("stack: tensors", tensors, "pass [x, y]")], axis)


@explained
def take_along_axis(x: Any, indices: Any, axis: int | None) -> Tensor:
    """The elements of ``x`` at ``indices`` along ``axis``, for ``axis`` 1: ``z[i, j, k] = x[i, indices[i, j, k], k]``.

    Along the other axes, ``x`` and ``indices`` have equal sizes, or one has size 1. ``axis=None`` flattens ``x`` first.

    Raises:
        UserError: the shapes do not fit, or an index is outside of its axis.
    """
    return Tensor(indexing.take_along_axis(as_tensor(x).node, as_tensor(indices).node, axis))


@explained
def repeat(x: Any, repeats: int | Sequence[int], *, axis: int | None) -> Tensor:
    """Each element ``repeats`` times along ``axis``, or each as often as a list says; None flattens first. As in NumPy."""
    return as_tensor(x).repeat(repeats, axis=axis)


@explained
def tile(x: Any, times: int | Sequence[int]) -> Tensor:
    """The whole of ``x`` side by side, ``times`` along each axis: ``tile(x, (2, 1))``; a number is for the last axis."""
    return as_tensor(x).tile(times)


@explained
def roll(x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """The elements ``shift`` places further along ``axis``, the last ones first; None rolls the flattened tensor."""
    return as_tensor(x).roll(shift, axis)


@explained
def tril(x: Any, k: int = 0) -> Tensor:
    """Matrices (..., m, n) with zeros above diagonal ``k``, which counts from the main one to the right."""
    return as_tensor(x).tril(k)


@explained
def triu(x: Any, k: int = 0) -> Tensor:
    """Matrices (..., m, n) with zeros below diagonal ``k``, which counts from the main one to the right."""
    return as_tensor(x).triu(k)


@explained
def split(
    x: Any, *, sizes: int | Sequence[int] | None = None, places: Sequence[int] | None = None, axis: int = 0
) -> list[Tensor]:
    """The parts of ``x`` along ``axis``: of ``sizes`` each, the last one smaller if need be, or cut at ``places``."""
    return as_tensor(x).split(sizes=sizes, places=places, axis=axis)


@explained
def chunk(x: Any, parts: int, axis: int = 0) -> list[Tensor]:
    """At most ``parts`` parts along ``axis``, all of one size but the last, which may be smaller, as in PyTorch."""
    return as_tensor(x).chunk(parts, axis)


@explained
def one_hot(indices: Any, classes: int, dtype: Any = float32) -> Tensor:
    """A row for each index, which is 1 at the index and 0 elsewhere: integers (...) -> (..., classes).

    Raises:
        UserError: an index is not from 0 to classes - 1.
    """
    classes, given = whole_number("one_hot: classes", classes, 1), as_tensor(indices)
    rows = Tensor(ops.one_hot(given.node, classes=classes, dtype=as_dtype(dtype)))

    def check(values: Array) -> None:
        outside = values[(values < 0) | (values >= classes)]
        if outside.size:
            raise UserError(f"one_hot: index {outside.flat[0]} is not from 0 to {classes - 1}, as there are {classes} classes")

    verify(given.node, check)
    return rows


@explained
def stop_gradient(x: Any) -> Tensor:
    """The same numbers, through which no gradient passes."""
    return as_tensor(x).detach()
