"""EfficientNet: MobileNet's blocks, scaled in width, depth and image size together.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks" (2019).
"""

from __future__ import annotations

import math

from chainrule import nn
from chainrule.arguments import explained
from chainrule.models.blocks import ConvNormActivation, SqueezeExcitation, divisible, initialise
from chainrule.nn import init
from chainrule.tensor import Tensor

_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""The stages of the paper's table 1: expansion, kernel size, stride of the first block, channels, blocks."""

_STOCHASTIC_DEPTH = 0.2
"""Probability with which the last block is left out in training; it grows from 0 in equal steps."""


class MBConv(nn.Module):
    """Expand, filter each channel, scale the channels, project; beside a shortcut where the shape stays the same."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int, expansion: int, drop: float) -> None:
        super().__init__()
        hidden = divisible(inputs * expansion)
        layers: list[nn.Module] = []
        if hidden != inputs:
            layers.append(ConvNormActivation(inputs, hidden, 1, activation=nn.SiLU))
        layers += [
            ConvNormActivation(hidden, hidden, kernel_size, stride, hidden, nn.SiLU),
            SqueezeExcitation(hidden, max(1, inputs // 4), activation=nn.SiLU),
            ConvNormActivation(hidden, outputs, 1, activation=None),
        ]
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = nn.StochasticDepth(drop, "row")
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return x + self.stochastic_depth(self.block(x)) if self.has_shortcut else self.block(x)


class EfficientNet(nn.Module):
    """A stem, seven stages of blocks, and a classifier: images (N, channels, H, W) -> scores (N, num_classes)."""

    def __init__(self, width: float, depth: float, dropout: float, num_classes: int = 1000, channels: int = 3) -> None:
        super().__init__()
        inputs = divisible(32 * width)
        layers: list[nn.Module] = [ConvNormActivation(channels, inputs, 3, 2, activation=nn.SiLU)]
        counts = [math.ceil(count * depth) for *_, count in _STAGES]
        done = 0
        for (expansion, kernel_size, stride, outputs, _), count in zip(_STAGES, counts, strict=True):
            blocks = []
            for place in range(count):
                drop = _STOCHASTIC_DEPTH * done / sum(counts)
                step = 1 if place else stride
                blocks.append(MBConv(inputs, divisible(outputs * width), kernel_size, step, expansion, drop))
                inputs, done = divisible(outputs * width), done + 1
            layers.append(nn.Sequential(*blocks))
        layers.append(ConvNormActivation(inputs, 4 * inputs, 1, activation=nn.SiLU))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * inputs, num_classes))
        initialise(self)
        linear = self.classifier[1]
        bound = 1 / math.sqrt(linear.out_features)
        init.uniform_(linear.weight, -bound, bound)
        init.constant_(linear.bias, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@explained
def efficientnet_b0(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.2) -> EfficientNet:
    """EfficientNet-B0: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return EfficientNet(1.0, 1.0, dropout, num_classes, channels)


@explained
def efficientnet_b1(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.2) -> EfficientNet:
    """EfficientNet-B1: images (N, channels, H, W), usually 240 x 240 -> scores (N, num_classes)."""
    return EfficientNet(1.0, 1.1, dropout, num_classes, channels)


@explained
def efficientnet_b2(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.3) -> EfficientNet:
    """EfficientNet-B2: images (N, channels, H, W), usually 288 x 288 -> scores (N, num_classes)."""
    return EfficientNet(1.1, 1.2, dropout, num_classes, channels)


@explained
def efficientnet_b3(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.3) -> EfficientNet:
    """EfficientNet-B3: images (N, channels, H, W), usually 300 x 300 -> scores (N, num_classes)."""
    return EfficientNet(1.2, 1.4, dropout, num_classes, channels)
