"""MobileNetV2: depthwise convolutions between a wide and a narrow number of channels.

Sandler and others, "MobileNetV2: inverted residuals and linear bottlenecks" (2018).
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule import nn
from chainrule.arguments import explained
from chainrule.models.blocks import ConvNormActivation, divisible, initialise
from chainrule.tensor import Tensor

_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""The stages of the paper's table 2: expansion t, channels c, blocks n, stride s of the first block."""

_SMALL = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 3, 2), (6, 96, 2, 1))


class InvertedResidual(nn.Module):
    """Expand by 1 x 1, filter each channel by 3 x 3, project by 1 x 1; beside a shortcut where the shape stays the same."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [ConvNormActivation(inputs, hidden, 1, activation=nn.ReLU6)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            ConvNormActivation(hidden, hidden, 3, stride, hidden, nn.ReLU6),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """A stem, inverted residuals, and a classifier: images (N, channels, H, W) -> scores (N, num_classes).

    ``width_mult`` scales the number of channels of every layer.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        dropout: float = 0.2,
        channels: int = 3,
        stages: Sequence[tuple[int, int, int, int]] = _STAGES,
        stem_stride: int = 2,
        last: int = 1280,
    ) -> None:
        super().__init__()
        inputs, last = divisible(32 * width_mult), divisible(last * max(1.0, width_mult))
        layers: list[nn.Module] = [ConvNormActivation(channels, inputs, 3, stem_stride, activation=nn.ReLU6)]
        for expansion, width, count, stride in stages:
            outputs = divisible(width * width_mult)
            for place in range(count):
                layers.append(InvertedResidual(inputs, outputs, 1 if place else stride, expansion))
                inputs = outputs
        self.features = nn.Sequential(*layers, ConvNormActivation(inputs, last, 1, activation=nn.ReLU6))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        initialise(self, linear_deviation=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        return self.classifier(self.features(x).mean((2, 3)))


@explained
def mobilenet_v2(num_classes: int = 1000, channels: int = 3, *, width_mult: float = 1.0, dropout: float = 0.2) -> MobileNetV2:
    """MobileNetV2: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return MobileNetV2(num_classes, width_mult, dropout, channels)


@explained
def mobilenet_small(num_classes: int = 10, channels: int = 3) -> MobileNetV2:
    """A MobileNetV2 for images of about 32 x 32 pixels, which halves the image twice: -> scores (N, num_classes)."""
    return MobileNetV2(num_classes, 1.0, 0.0, channels, _SMALL, stem_stride=1, last=512)
