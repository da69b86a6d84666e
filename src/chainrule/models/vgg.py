"""VGG: stacks of 3 x 3 convolutions between poolings.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition" (2014). Forms with ``_bn`` have a
batch normalisation behind each convolution.
"""

from __future__ import annotations

from chainrule import nn
from chainrule.arguments import explained
from chainrule.models.blocks import initialise
from chainrule.tensor import Tensor

_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each of the five stages, by the number of layers with weights."""

_WIDTHS = (64, 128, 256, 512, 512)


def _features(channels: int, stages: tuple[int, ...], widths: tuple[int, ...], batch_norm: bool) -> nn.Sequential:
    """The convolutions; each stage ends with a pooling that halves the image."""
    layers: list[nn.Module] = []
    for count, width in zip(stages, widths, strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), *([nn.BatchNorm2d(width)] if batch_norm else []), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """Five stages of convolutions and three linear layers: images (N, channels, H, W) -> scores (N, num_classes)."""

    def __init__(self, layers: int, batch_norm: bool, num_classes: int = 1000, dropout: float = 0.5, channels: int = 3) -> None:
        super().__init__()
        self.features = _features(channels, _STAGES[layers], _WIDTHS, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        initialise(self, linear_deviation=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@explained
def vgg11(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-11: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return VGG(11, False, num_classes, dropout, channels)


@explained
def vgg11_bn(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-11 with batch normalisation: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return VGG(11, True, num_classes, dropout, channels)


@explained
def vgg13(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-13: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return VGG(13, False, num_classes, dropout, channels)


@explained
def vgg13_bn(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-13 with batch normalisation: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return VGG(13, True, num_classes, dropout, channels)


@explained
def vgg16(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-16: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return VGG(16, False, num_classes, dropout, channels)


@explained
def vgg16_bn(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-16 with batch normalisation: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return VGG(16, True, num_classes, dropout, channels)


@explained
def vgg19(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-19: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return VGG(19, False, num_classes, dropout, channels)


@explained
def vgg19_bn(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.5) -> VGG:
    """VGG-19 with batch normalisation: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return VGG(19, True, num_classes, dropout, channels)


class SmallVGG(nn.Module):
    """Three stages of two convolutions, and one linear layer: images (N, channels, H, W) -> scores (N, num_classes)."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.features = _features(channels, (2, 2, 2), (64, 128, 256), True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(256, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@explained
def vgg_small(num_classes: int = 10, channels: int = 3) -> SmallVGG:
    """A VGG for images of about 32 x 32 pixels, with batch normalisation: (N, channels, H, W) -> scores (N, num_classes)."""
    return SmallVGG(num_classes, channels)
