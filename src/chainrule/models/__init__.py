"""Models by name. Each is built by a function of the number of channels and classes and the size of the images."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.arguments import explained, pixels
from chainrule.errors import UserError, unknown_value
from chainrule.models.lenet import lenet
from chainrule.models.mlp import mlp
from chainrule.nn import Module

MODELS: dict[str, Callable[[int, int, tuple[int, int]], Module]] = {"lenet": lenet, "mlp": mlp}


@explained
def build(name: str, channels: int, classes: int, size: tuple[int, int]) -> Module:
    """The model ``name`` for images (N, channels, *size): it returns scores (N, classes).

    Raises:
        UserError: there is no such model, or the images are too small for it.
    """
    if name not in MODELS:
        raise unknown_value("model", name, MODELS)
    size = pixels(size)
    try:
        return MODELS[name](channels, classes, size)
    except UserError as error:
        raise UserError(f"model {name} cannot be built for images of {channels} x {size[0]} x {size[1]}: {error}") from None


__all__ = ["MODELS", "build", "lenet", "mlp"]
