"""LeNet-5 with ReLU and max pooling. LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
recognition" (1998)."""

from __future__ import annotations

from chainrule import nn
from chainrule.arguments import explained, pixels
from chainrule.errors import UserError


@explained
def lenet(num_classes: int = 10, channels: int = 1, size: tuple[int, int] = (28, 28)) -> nn.Sequential:
    """LeNet-5: images (N, channels, *size) of at least 12 x 12 -> scores (N, num_classes). For MNIST, 61,706 parameters."""
    size = pixels(size)
    if min(size) < 12:
        raise UserError(
            "its two 5 x 5 convolutions and poolings need at least 12 x 12 pixels: use larger images, or the model mlp"
        )
    height, width = ((side // 2 - 4) // 2 for side in size)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * height * width, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )
