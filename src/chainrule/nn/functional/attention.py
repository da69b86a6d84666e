"""Attention: means of values, weighted by how well keys fit queries."""

from __future__ import annotations

import math

from chainrule.arguments import real_number
from chainrule.errors import UserError
from chainrule.graph.dtypes import bool_, is_float, largest_number
from chainrule.nn.conversion import on_tensors
from chainrule.nn.functional.dropout import dropout
from chainrule.nn.functional.losses import softmax
from chainrule.tensor import Tensor, functions, making


@on_tensors
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale query key^T + mask) value: (..., L, E), (..., S, E), (..., S, V) -> (..., L, V).

    ``scale`` is 1 / sqrt(E) by default. ``attn_mask``, which broadcasts to (..., L, S), is True where a query may attend to a
    key, or a number that is added. With ``is_causal``, query i may attend to the keys up to i. A query without any key gets
    zeros. Weights are dropped with the probability ``dropout_p``, whenever the function is called. Vaswani and others,
    "Attention is all you need" (2017).
    """
    for name, one in (("query", query), ("key", key), ("value", value)):
        if one.ndim < 2 or not is_float(one.dtype):
            raise UserError(f"scaled_dot_product_attention: {name} must be floats (..., length, features), got {one.node.type}")
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise UserError(
            "scaled_dot_product_attention: needs a query (..., L, E), a key (..., S, E) and a value (..., S, V), got "
            f"{query.shape}, {key.shape} and {value.shape}"
        )
    if is_causal and attn_mask is not None:
        raise UserError(
            "scaled_dot_product_attention: is_causal is a mask of its own: leave out attn_mask, or combine both in it"
        )
    factor = 1 / math.sqrt(query.shape[-1] or 1) if scale is None else real_number("scaled_dot_product_attention: scale", scale)
    scores = (query * factor) @ key.swapaxes(-2, -1)
    taken = making.ones(scores.shape[-2:], bool_).tril() if is_causal else attn_mask
    if taken is not None and taken.dtype != bool_:
        added = taken
        taken = added > -math.inf
        scores = scores + functions.where(taken, added, 0.0)
    if taken is not None:  # not -inf, of which a row would have no softmax
        scores = functions.where(taken, scores, -largest_number(scores.dtype))
    weights = softmax(scores, -1)
    weights = weights if taken is None else functions.where(taken, weights, 0.0)
    return dropout(weights, dropout_p) @ value
