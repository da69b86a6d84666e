"""The affine layer, and the identity."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.arguments import whole_number
from chainrule.errors import UserError
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.module import Module, layer_name
from chainrule.tensor import Parameter, Tensor


class Identity(Module):
    """Returns its input unchanged; arguments to the constructor are ignored, as in PyTorch."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        return x


class Linear(Module):
    """The affine map x W^T + b: (..., in_features) -> (..., out_features). ``weight`` (out, in), ``bias`` (out)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = "float32") -> None:
        super().__init__()
        self.in_features = whole_number("Linear: in_features", in_features, 1)
        self.out_features = whole_number("Linear: out_features", out_features, 1)
        self.weight = Parameter.zeros((self.out_features, self.in_features), dtype)
        self.bias = Parameter.zeros((self.out_features,), dtype) if bias else None
        init.default_(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., in_features) -> (..., out_features); a UserError if the last axis has another size."""
        if not x.ndim or x.shape[-1] != self.in_features:
            if not x.ndim:
                raise UserError(
                    f"{layer_name(self)} got a single number: it needs {self.in_features} features on the last axis"
                )
            have = x.shape[-1]
            flat = int(np.prod(x.shape[1:]))
            hint = " or put a Flatten before it" if x.ndim > 2 and flat == self.in_features else ""
            raise UserError(
                f"{layer_name(self)} got shape {x.shape} with {have} features on the last axis, "
                f"but in_features={self.in_features}: pass in_features={have}{hint}"
            )
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The number of features in and out, and whether there is a bias."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
