"""MobileNetV3: inverted residuals with squeeze and excitation, found by a search for what is fast on phones.

Howard and others, "Searching for MobileNetV3" (2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from chainrule import nn
from chainrule.arguments import explained
from chainrule.models.blocks import ConvNormActivation, SqueezeExcitation, divisible, initialise
from chainrule.tensor import Tensor

_norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


class _Block(NamedTuple):
    """A row of the paper's tables 1 and 2: kernel size, expanded and output channels, whether it squeezes, h-swish, stride."""

    kernel_size: int
    expanded: int
    outputs: int
    squeezes: bool
    hard_swish: bool
    stride: int


_LARGE = (
    _Block(3, 16, 16, False, False, 1),
    _Block(3, 64, 24, False, False, 2),
    _Block(3, 72, 24, False, False, 1),
    _Block(5, 72, 40, True, False, 2),
    _Block(5, 120, 40, True, False, 1),
    _Block(5, 120, 40, True, False, 1),
    _Block(3, 240, 80, False, True, 2),
    _Block(3, 200, 80, False, True, 1),
    _Block(3, 184, 80, False, True, 1),
    _Block(3, 184, 80, False, True, 1),
    _Block(3, 480, 112, True, True, 1),
    _Block(3, 672, 112, True, True, 1),
    _Block(5, 672, 160, True, True, 2),
    _Block(5, 960, 160, True, True, 1),
    _Block(5, 960, 160, True, True, 1),
)

_SMALL = (
    _Block(3, 16, 16, True, False, 2),
    _Block(3, 72, 24, False, False, 2),
    _Block(3, 88, 24, False, False, 1),
    _Block(5, 96, 40, True, True, 2),
    _Block(5, 240, 40, True, True, 1),
    _Block(5, 240, 40, True, True, 1),
    _Block(5, 120, 48, True, True, 1),
    _Block(5, 144, 48, True, True, 1),
    _Block(5, 288, 96, True, True, 2),
    _Block(5, 576, 96, True, True, 1),
    _Block(5, 576, 96, True, True, 1),
)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, scale the channels, project; beside a shortcut where the shape stays the same."""

    def __init__(self, inputs: int, row: _Block) -> None:
        super().__init__()
        activation = nn.Hardswish if row.hard_swish else nn.ReLU
        layers: list[nn.Module] = []
        if row.expanded != inputs:
            layers.append(ConvNormActivation(inputs, row.expanded, 1, activation=activation, norm=_norm))
        layers.append(
            ConvNormActivation(row.expanded, row.expanded, row.kernel_size, row.stride, row.expanded, activation, _norm)
        )
        if row.squeezes:
            layers.append(SqueezeExcitation(row.expanded, divisible(row.expanded // 4), scale=nn.Hardsigmoid))
        layers.append(ConvNormActivation(row.expanded, row.outputs, 1, activation=None, norm=_norm))
        self.block = nn.Sequential(*layers)
        self.has_shortcut = row.stride == 1 and inputs == row.outputs

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return x + self.block(x) if self.has_shortcut else self.block(x)


class MobileNetV3(nn.Module):
    """A stem, inverted residuals, and a classifier of two layers: images (N, channels, H, W) -> scores (N, num_classes)."""

    def __init__(
        self, rows: Sequence[_Block], last: int, num_classes: int = 1000, dropout: float = 0.2, channels: int = 3
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvNormActivation(channels, 16, 3, 2, activation=nn.Hardswish, norm=_norm)]
        inputs = 16
        for row in rows:
            layers.append(InvertedResidual(inputs, row))
            inputs = row.outputs
        layers.append(ConvNormActivation(inputs, 6 * inputs, 1, activation=nn.Hardswish, norm=_norm))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(6 * inputs, last), nn.Hardswish(), nn.Dropout(dropout), nn.Linear(last, num_classes)
        )
        initialise(self, linear_deviation=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@explained
def mobilenet_v3_large(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.2) -> MobileNetV3:
    """MobileNetV3 Large: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return MobileNetV3(_LARGE, 1280, num_classes, dropout, channels)


@explained
def mobilenet_v3_small(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.2) -> MobileNetV3:
    """MobileNetV3 Small: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return MobileNetV3(_SMALL, 1024, num_classes, dropout, channels)
