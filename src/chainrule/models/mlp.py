"""A multi-layer perceptron."""

from __future__ import annotations

from chainrule import nn


def mlp(channels: int = 1, classes: int = 10, size: tuple[int, int] = (28, 28)) -> nn.Sequential:
    """channels * height * width - 512 - 256 - classes, ReLU between: (N, channels, *size) -> (N, classes)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * size[0] * size[1], 512),
        nn.ReLU(),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, classes),
    )
