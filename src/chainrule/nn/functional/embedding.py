"""Vectors for whole numbers: rows of a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import ops
from chainrule.arguments import whole_number
from chainrule.errors import UserError
from chainrule.graph.dtypes import is_integer
from chainrule.nn.conversion import on_tensors
from chainrule.tensor import Tensor, functions, verify


@on_tensors
def embedding(x: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of the table ``weight`` (n, d) that the whole numbers x name: (...) -> (..., d).

    No gradient reaches the row ``padding_idx``. A UserError names a number that is not from 0 to n - 1.
    """
    if weight.ndim != 2:
        raise UserError(f"embedding: weight must be a table (n, d), got {weight.shape}")
    if not is_integer(x.dtype):
        raise UserError(f"embedding: needs whole numbers, got {x.node.type}: convert them, x.astype('int64')")
    rows = weight.shape[0]

    def check(value: Any) -> None:
        wrong = (value < 0) | (value >= rows)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise UserError(
                f"embedding: {int(value[place])} at {list(place)} is out of range: the table has {rows} rows, so numbers go "
                f"from 0 to {rows - 1}"
            )

    verify(x.node, check)
    found = Tensor(ops.gather(weight.node, x.node, axis=0))
    if padding_idx is None:
        return found
    return functions.where((x == checked_padding("embedding", padding_idx, rows)).expand_dims(-1), found.detach(), found)


def checked_padding(name: str, padding_idx: int, rows: int) -> int:
    """``padding_idx`` counted from the first of the rows; a UserError that begins with ``name`` if it is none of them."""
    row = whole_number(f"{name}: padding_idx", padding_idx)
    if not -rows <= row < rows:
        raise UserError(f"{name}: padding_idx must be from {-rows} to {rows - 1}, as there are {rows} rows, got {padding_idx}")
    return row % rows
