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


SEEDS = {
    **{"densenet121": 70, "googlenet": 51, "mobilenet_v2": 59, "mobilenet_v3_small": 3, "resnet34": 3, "resnet50": 2},
    **{"resnet101": 32, "resnet152": 34, "resnext50_32x4d": 9, "shufflenet_v2_x1_0": 3, "vgg13": 2, "vgg16": 6},
    **{"vgg16_bn": 20, "vgg19_bn": 8, "wide_resnet50_2": 11},
}
"""Other images, where the first bring a value so close to where its function bends (0 of a ReLU, two equal values of a pooling)
that float32 may have it on the other side than float64. From there on, gradients are others, and their distance says nothing.

With these, the value nearest to a bend is 1.7 times (ResNet-152) or at least 2.3 times (the others) as far from it as PyTorch's
float32 is from float64 in the same channel (root mean square). For VGG-19 with batch normalisation that was not measured: with
its images neither PyTorch nor chainrule with vectors of 32 bytes crosses a bend; with those before, the latter did."""


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

    Weights are as large as activations need to stay of one size; scales and variances are around 1. Only the last scale of each
    block of a deep ResNet is small, as with 1 roundings grow from block to block, to 4e-3 in ResNet-152. The shifts of
    DenseNet-121 keep most of its three million values away from 0, where its ReLUs bend.
    """
    rng = np.random.default_rng(zlib.crc32(f"{path} {shape}".encode()))
    count = int(np.prod(shape))
    drawn = rng.standard_normal(min(count, 10_007))
    if path.endswith("running_var"):
        drawn = np.abs(drawn) + 0.5
    elif path.endswith("bn3.weight"):
        drawn = 0.1 + 0.02 * drawn
    elif "norm" in path and path.endswith("bias"):
        drawn = 1.5 * np.sign(drawn) + 0.1 * drawn
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
