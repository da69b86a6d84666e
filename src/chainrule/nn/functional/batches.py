"""Inputs with a batch axis and without one, where PyTorch takes both."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.errors import UserError
from chainrule.tensor import Tensor

SIGNAL, IMAGE, VOLUME = ("N", "C", "L"), ("N", "C", "H", "W"), ("N", "C", "D", "H", "W")
"""The names of the axes of an input with a batch axis, in messages."""


def on_batch(name: str, x: Tensor, axes: tuple[str, ...], compute: Callable[[Tensor], Tensor]) -> Tensor:
    """``compute(x)`` for an x of ``axes``; one that lacks the batch axis gets one of size 1, which the result then lacks.

    Raises:
        UserError: the number of axes is another one; the message begins with ``name``.
    """
    if x.ndim == len(axes):
        return compute(x)
    if x.ndim == len(axes) - 1:
        return compute(x.expand_dims(0)).squeeze(0)
    what = {SIGNAL: "a signal", IMAGE: "an image", VOLUME: "a volume"}.get(axes, "an input")
    raise UserError(f"{name}: needs {what} {shown(axes)} or {shown(axes[1:])}, got {x.shape}")


def shown(axes: tuple[str, ...]) -> str:
    """Names of axes as a shape in a message: (N, C, L)."""
    return f"({', '.join(axes)})"
