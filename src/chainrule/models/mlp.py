"""A multi-layer perceptron."""

from __future__ import annotations

from chainrule import nn
from chainrule.arguments import explained, pixels, whole_number


@explained
def mlp(num_classes: int = 10, channels: int = 1, size: tuple[int, int] = (28, 28)) -> nn.Sequential:
    """Linear layers of 512, 256 and ``num_classes`` units: images (N, channels, *size) -> scores (N, num_classes)."""
    height, width = pixels(size)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(whole_number("channels", channels, 1) * height * width, 512),
        nn.ReLU(),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, num_classes),
    )
