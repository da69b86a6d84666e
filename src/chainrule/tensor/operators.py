"""The operators of tensors: arithmetic, comparison and logic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import ops
from chainrule.errors import UserError, UserTypeError
from chainrule.graph import Node
from chainrule.graph.dtypes import is_float
from chainrule.ops import compose
from chainrule.tensor.handle import Handle
from chainrule.tensor.operands import as_node, binary, operands

if TYPE_CHECKING:
    from chainrule.tensor.tensor import Tensor


def _undefined(operator: str, remedy: str) -> Callable[..., Any]:
    """A method for an operator that tensors do not have, as no gradient would pass it: it raises a UserTypeError."""

    def refuse(self: Handle, *_: Any) -> Any:
        raise UserTypeError(
            f"{operator} is not defined for tensors, such as {self.node.type}, as no gradient passes it: {remedy}"
        )

    return refuse


class Operators(Handle):
    """What operators compute, as in NumPy."""

    __slots__ = ()

    # ---- arithmetic

    def __add__(self, other: Any) -> Tensor:
        return self._tensor(binary("add", ops.add, self, other))

    def __sub__(self, other: Any) -> Tensor:
        return self._tensor(binary("subtract", ops.subtract, self, other))

    def __mul__(self, other: Any) -> Tensor:
        return self._tensor(binary("multiply", ops.multiply, self, other))

    def __truediv__(self, other: Any) -> Tensor:
        return self._tensor(binary("divide", ops.divide, self, other, floats=True))

    def __floordiv__(self, other: Any) -> Tensor:
        """The exact quotient rounded down, as in NumPy; an integer divided by 0 gives 0. No gradient passes."""
        return self._tensor(binary("floor_divide", ops.floor_divide, self, other))

    def __mod__(self, other: Any) -> Tensor:
        """``x - (x // y) * y``, with the sign of y. Its gradient is 1 for x and -(x // y) for y."""
        return self._tensor(binary("remainder", ops.remainder, self, other))

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __radd__(self, other: Any) -> Tensor:
        return self._tensor(binary("add", ops.add, other, self))

    def __rsub__(self, other: Any) -> Tensor:
        return self._tensor(binary("subtract", ops.subtract, other, self))

    def __rmul__(self, other: Any) -> Tensor:
        return self._tensor(binary("multiply", ops.multiply, other, self))

    def __rtruediv__(self, other: Any) -> Tensor:
        return self._tensor(binary("divide", ops.divide, other, self, floats=True))

    def __rfloordiv__(self, other: Any) -> Tensor:
        return self._tensor(binary("floor_divide", ops.floor_divide, other, self))

    def __rmod__(self, other: Any) -> Tensor:
        return self._tensor(binary("remainder", ops.remainder, other, self))

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __pow__(self, exponent: Any) -> Tensor:
        """``x ** 2``, or ``x ** y`` element by element, as in NumPy: nan where x is negative and y is not whole.

        The gradient with respect to y is nan where x is negative. Integers raised to a Python integer from 0 to 63 stay
        integers; raised to a negative integer or a float they give float32.
        """
        if isinstance(exponent, np.integer | np.floating):
            exponent = exponent.item()
        if isinstance(exponent, int | float):
            node = self.node if is_float(self.dtype) or (isinstance(exponent, int) and exponent >= 0) else self._floats()
            return self._tensor(ops.power(node, exponent=float(exponent)))
        return self._tensor(_raised(self, exponent))

    def __rpow__(self, base: Any) -> Tensor:
        return self._tensor(_raised(base, self))

    def __neg__(self) -> Tensor:
        return self._tensor(ops.negative(self.node))

    def __pos__(self) -> Tensor:
        return self._tensor(self.node)

    def __abs__(self) -> Tensor:
        return self._tensor(ops.abs_(self.node))

    def __matmul__(self, other: Any) -> Tensor:
        """Matrix product over broadcast batch axes: (..., m, k) @ (..., k, n) -> (..., m, n); vectors as in NumPy."""
        return self._tensor(compose.product(self.node, as_node(other)))

    def __rmatmul__(self, other: Any) -> Tensor:
        return self._tensor(compose.product(as_node(other), self.node))

    # ---- comparison and logic

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._tensor(binary("equal", ops.equal, self, other))

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return self._tensor(ops.logical_not(binary("not_equal", ops.equal, self, other)))

    def __lt__(self, other: Any) -> Tensor:
        return self._tensor(binary("less", ops.less, self, other))

    def __le__(self, other: Any) -> Tensor:
        return self._tensor(binary("less_equal", ops.less_equal, self, other))

    def __gt__(self, other: Any) -> Tensor:
        return self._tensor(binary("greater", ops.less, other, self))

    def __ge__(self, other: Any) -> Tensor:
        return self._tensor(binary("greater_equal", ops.less_equal, other, self))

    __hash__ = object.__hash__

    __lshift__ = __rlshift__ = _undefined("<<", "multiply by a power of 2")
    __rshift__ = __rrshift__ = _undefined(">>", "use .numpy()")
    __xor__ = __rxor__ = _undefined("^", "compare with !=, or use ** for a power")

    def __and__(self, other: Any) -> Tensor:
        return self._tensor(binary("logical_and", ops.logical_and, self, other))

    def __or__(self, other: Any) -> Tensor:
        return self._tensor(binary("logical_or", ops.logical_or, self, other))

    def __rand__(self, other: Any) -> Tensor:
        return self._tensor(binary("logical_and", ops.logical_and, other, self))

    def __ror__(self, other: Any) -> Tensor:
        return self._tensor(binary("logical_or", ops.logical_or, other, self))

    def __invert__(self) -> Tensor:
        return self._tensor(ops.logical_not(self.node))


def _raised(base: Any, exponent: Any) -> Node:
    x, y = compose.together("power", *operands("power", base, exponent))
    if not is_float(x.dtype):
        raise UserError(
            f"power: {x.dtype} ** {y.dtype} with a tensor of exponents is not defined here, as a negative one gives no "
            "integer: make one side a float, such as x.astype('float32') ** y or 2.0 ** y"
        )
    return ops.tensor_power(x, y)
