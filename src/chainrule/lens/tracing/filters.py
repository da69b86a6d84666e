"""The weights of a layer as pictures: filters of a convolution, and templates in the shape of what a layer looks at."""

from __future__ import annotations

import math

from chainrule.errors import UserError
from chainrule.graph import Array, Node
from chainrule.lens.tracing.image_pass import Pass

_CARRIERS = ("transpose", "round_to", "cast")
"""What may stand between a weight and the product in which it is used."""


def filters(found: Pass, name: str, value: Array | None = None) -> Array:
    """The parameter ``name`` of a layer, as it was in a pass: (O, ...), a picture for each of the O units of the layer.

    With a ``value`` it is that one, such as an earlier one of the same parameter.

    For a convolution these are its filters (O, C / groups, KH, KW). For a linear layer that looks at a flattened image they are
    templates in the shape of that image, (O, C, H, W); for any other linear layer rows of numbers (O, K).

    Raises:
        UserError: there is no such parameter, or it has a single axis, as a bias has.
    """
    row = found.parameter(name)
    shown = row.value if value is None else value
    if shown.shape != row.value.shape:
        raise UserError(f"{name} is {list(row.value.shape)} now, and {list(shown.shape)} there: it is of another network")
    if shown.ndim < 2:
        raise UserError(f"{name} is {list(shown.shape)}, a number for each unit, and no picture: look at a weight")
    shape = _looked_at(found, row.node) if shown.ndim == 2 else None
    return shown if shape is None else shown.reshape(shown.shape[0], *shape)


def _looked_at(found: Pass, weight: Node) -> tuple[int, ...] | None:
    """The shape (C, H, W) of the image that a linear layer looks at, flattened; None if it looks at something else."""
    node, users = weight, found.consumers[weight]
    while len(users) == 1 and users[0].operation.name in _CARRIERS:
        node, users = users[0], found.consumers[users[0]]
    product = next((user for user in users if user.operation.name == "matmul"), None)
    if product is None:
        return None
    source = next(one for one in product.inputs if one is not node)
    while source.operation.name in ("round_to", "cast") or (source.operation.name == "reshape" and source.inputs[0].ndim < 4):
        source = source.inputs[0]
    if source.operation.name != "reshape":
        return None
    shape = source.inputs[0].shape[1:]
    return shape if math.prod(shape) == weight.shape[1] and len(shape) == 3 else None
