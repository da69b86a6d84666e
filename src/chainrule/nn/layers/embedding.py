"""The embedding layer."""

from __future__ import annotations

from typing import Any

from chainrule.arguments import whole_number
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.functional.embedding import checked_padding
from chainrule.nn.module import Module
from chainrule.tensor import Parameter, Tensor


class Embedding(Module):
    """A learned vector for each of the whole numbers from 0 to num_embeddings - 1: (...) -> (..., embedding_dim).

    ``weight`` (num_embeddings, embedding_dim), which starts as normal numbers. The row ``padding_idx``, if given, starts as
    zeros and does not learn.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, dtype: Any = "float32") -> None:
        super().__init__()
        self.num_embeddings = whole_number("Embedding: num_embeddings", num_embeddings, 1)
        self.embedding_dim = whole_number("Embedding: embedding_dim", embedding_dim, 1)
        self.weight = Parameter.zeros((self.num_embeddings, self.embedding_dim), dtype)
        self.padding_idx = None if padding_idx is None else checked_padding("Embedding", padding_idx, self.num_embeddings)
        init.normal_(self.weight)
        if self.padding_idx is not None:
            values = self.weight.numpy().copy()
            values[self.padding_idx] = 0
            self.weight.assign(values)

    def forward(self, x: Tensor) -> Tensor:
        """``x``, whole numbers (...) -> (..., embedding_dim); a UserError names one that has no row."""
        return F.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """The sizes of the table, and the row that does not learn."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
