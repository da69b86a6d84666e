"""The affine map of features."""

from __future__ import annotations

from chainrule.errors import UserError
from chainrule.nn.conversion import on_tensors, remark_on_dtype
from chainrule.tensor import Tensor


@on_tensors
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The affine map x W^T + b: (..., in), weight (out, in), bias (out) -> (..., out)."""
    if weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        have = f"weight {weight.shape}" + ("" if bias is None else f" and bias {bias.shape}")
        raise UserError(f"linear: weight must be (out, in) and bias (out), got {have}")
    if x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise UserError(f"linear: weight {weight.shape} expects {weight.shape[1]} features on the last axis, got {x.shape}")
    if x.dtype is not weight.dtype:
        remark_on_dtype("linear", x, weight)
    product = x @ weight.T
    return product if bias is None else product + bias
