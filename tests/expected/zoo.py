"""The models as they are held against PyTorch's: their images, their weights, and which numbers are kept of each tensor.

``scripts/models_from_torch.py`` runs them in PyTorch and torchvision, ``test_models_agreement.py`` in chainrule. Nothing here
knows either.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

CLASSES = 10
BATCH = 2
ENTRIES = 12
"""Elements kept of each tensor, beside its norm."""

SIDES = {"alexnet": 67, "efficientnet_b3": 48, "googlenet": 48, "densenet121": 65, "lenet": 28, "mlp": 12}
_SIDE = 37
"""Height and width of the images, where ``SIDES`` has none: odd, so that strides leave something over."""


def side(name: str) -> int:
    return SIDES.get(name, _SIDE)


SEEDS = {"shufflenet_v2_x1_0": "1"}
"""Other images, where the first bring a value of a ReLU so close to 0 that float32 and float64 may disagree on its sign."""


def images(name: str, channels: int) -> Array:
    """A batch (N, C, H, W) for a model, of numbers that float32 holds exactly."""
    rng = np.random.default_rng(zlib.crc32(f"images of {name}{SEEDS.get(name, '')}".encode()))
    shape = (BATCH, channels, side(name), side(name))
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def upstream(name: str) -> Array:
    """The gradient of the error with respect to the scores (N, classes)."""
    rng = np.random.default_rng(zlib.crc32(f"upstream of {name}".encode()))
    return rng.standard_normal((BATCH, CLASSES)).astype(np.float32).astype(np.float64)


def value(path: str, shape: tuple[int, ...]) -> Array:
    """The value of the parameter or buffer at ``path``: a block of random numbers, repeated, as many millions would take long.

    Weights are as large as activations need to stay of one size; scales and variances are around 1.
    """
    rng = np.random.default_rng(zlib.crc32(f"{path} {shape}".encode()))
    count = int(np.prod(shape))
    drawn = rng.standard_normal(min(count, 10_007))
    if path.endswith("running_var"):
        drawn = np.abs(drawn) + 0.5
    elif path.endswith("layer_scale"):
        drawn = 0.5 + 0.1 * drawn
    elif len(shape) > 1:
        drawn = drawn * np.sqrt(2 / np.prod(shape[1:]))
    elif path.endswith("weight"):
        drawn = 1 + 0.2 * drawn
    else:
        drawn = 0.1 * drawn
    return np.resize(drawn.astype(np.float32).astype(np.float64), shape)


def digest(path: str, tensor: Array) -> Array:
    """The norm of a tensor, and ``ENTRIES`` of its elements (all, if it has fewer)."""
    flat = np.asarray(tensor, np.float64).ravel("K")  # as it lies: a norm has no order
    rng = np.random.default_rng(zlib.crc32(f"entries of {path}".encode()))
    places = rng.choice(tensor.size, ENTRIES, replace=False) if tensor.size > ENTRIES else np.arange(tensor.size)
    return np.concatenate([[np.sqrt(np.vdot(flat, flat))], tensor[np.unravel_index(places, tensor.shape)]])
