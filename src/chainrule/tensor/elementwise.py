"""Functions that tensors have as methods, element by element."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from chainrule import ops
from chainrule.arguments import explained_methods, whole_number
from chainrule.graph.dtypes import as_dtype, is_float
from chainrule.ops import compose
from chainrule.tensor.operands import binary
from chainrule.tensor.operators import Operators

if TYPE_CHECKING:
    from chainrule.tensor.tensor import Tensor


@explained_methods
class Elementwise(Operators):
    """Methods that compute each element of the result from one element of the tensor."""

    __slots__ = ()

    # ---- what kind of number

    def isnan(self) -> Tensor:
        """Whether each element is nan. Integers never are."""
        return ~self._tensor(binary("isnan", ops.equal, self, self))

    def isinf(self) -> Tensor:
        """Whether each element is inf or -inf. Integers never are."""
        return abs(self) == math.inf if is_float(self.dtype) else self.isnan()

    def isfinite(self) -> Tensor:
        """Whether each element is a number other than inf, -inf and nan. Integers always are."""
        return abs(self) < math.inf if is_float(self.dtype) else ~self.isnan()

    # ---- elementwise functions

    def exp(self) -> Tensor:
        """e^x for each element; integers give float32."""
        return self._tensor(ops.exp(self._floats()))

    def log(self) -> Tensor:
        """The natural logarithm of each element: -inf at 0, nan below; integers give float32."""
        return self._tensor(ops.log(self._floats()))

    def log2(self) -> Tensor:
        """The logarithm of each element to the base 2, exact for powers of 2; integers give float32."""
        return self._tensor(ops.log2(self._floats()))

    def expm1(self) -> Tensor:
        """e^x - 1 for each element, accurate also near x = 0."""
        return self._tensor(ops.expm1(self._floats()))

    def log1p(self) -> Tensor:
        """ln(1 + x) for each element, accurate also near x = 0."""
        return self._tensor(ops.log1p(self._floats()))

    def sqrt(self) -> Tensor:
        """The square root of each element: nan below 0; integers give float32."""
        return self._tensor(ops.sqrt(self._floats()))

    def rsqrt(self) -> Tensor:
        """1 / sqrt(x) for each element; integers give float32."""
        return self._tensor(ops.rsqrt(self._floats()))

    def sin(self) -> Tensor:
        """The sine of each element, in radians."""
        return self._tensor(ops.sin(self._floats()))

    def cos(self) -> Tensor:
        """The cosine of each element, in radians."""
        return self._tensor(ops.cos(self._floats()))

    def tan(self) -> Tensor:
        """The tangent of each element, in radians."""
        return self._tensor(ops.tan(self._floats()))

    def atan(self) -> Tensor:
        """The arc tangent of each element, in radians, from -pi/2 to pi/2."""
        return self._tensor(ops.atan(self._floats()))

    def tanh(self) -> Tensor:
        """The hyperbolic tangent of each element."""
        return self._tensor(ops.tanh(self._floats()))

    def sigmoid(self) -> Tensor:
        """1 / (1 + e^-x) for each element."""
        return self._tensor(ops.sigmoid(self._floats()))

    def erf(self) -> Tensor:
        """The error function of each element."""
        return self._tensor(ops.erf(self._floats()))

    def erfc(self) -> Tensor:
        """1 - erf(x) for each element, accurate also where the result is near 0."""
        return self._tensor(ops.erfc(self._floats()))

    def floor(self) -> Tensor:
        """Each element rounded down to a whole number, in its dtype. No gradient passes."""
        return self._tensor(ops.floor(self.node)) if is_float(self.dtype) else cast("Tensor", self)

    def ceil(self) -> Tensor:
        """Each element rounded up to a whole number, in its dtype. No gradient passes."""
        return self._tensor(ops.ceil(self.node)) if is_float(self.dtype) else cast("Tensor", self)

    def round(self, decimals: int = 0) -> Tensor:
        """Each element rounded to ``decimals`` decimals, halves to even; -1 rounds to tens. No gradient passes."""
        return self._tensor(compose.rounded(self.node, whole_number("round: decimals", decimals)))

    def sign(self) -> Tensor:
        """-1, 0 or 1 for each element; nan stays nan. No gradient passes."""
        return self._tensor(ops.sign(self.node))

    def abs(self) -> Tensor:
        """The magnitude of each element; the gradient at 0 is 0."""
        return abs(self)

    def clip(self, low: Any = None, high: Any = None) -> Tensor:
        """Each element limited to [low, high]; no gradient passes where it is at a limit or outside."""
        clipped = cast("Tensor", self)
        if low is not None:
            clipped = self._tensor(binary("clip", ops.maximum, low, clipped))
        if high is not None:
            clipped = self._tensor(binary("clip", ops.minimum, high, clipped))
        return clipped

    def astype(self, dtype: Any) -> Tensor:
        """The same numbers converted to ``dtype``; the gradient is converted back to this dtype."""
        return self._tensor(compose.to_dtype(self.node, as_dtype(dtype)))

    def __round__(self, decimals: int | None = None) -> Tensor:
        return self.round(0 if decimals is None else decimals)
