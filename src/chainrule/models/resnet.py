"""Residual networks for photographs, and their wide and grouped relatives.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (2015); Xie and others, "Aggregated residual
transformations for deep neural networks" (2017); Zagoruyko and Komodakis, "Wide residual networks" (2016). As in torchvision,
the stride of a bottleneck is in its 3 x 3 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from chainrule import nn
from chainrule.arguments import explained
from chainrule.models.blocks import initialise
from chainrule.nn import init
from chainrule.tensor import Tensor


def _convolution(inputs: int, outputs: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut: (N, inputs, H, W) -> (N, width, H / stride, W / stride)."""

    expansion: ClassVar[int] = 1

    def __init__(
        self, inputs: int, width: int, stride: int, downsample: nn.Module | None, groups: int, base_width: int
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = _convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu(x + shortcut)


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two of 1 x 1, and a shortcut: (N, inputs, H, W) -> (N, 4 width, H / stride, W / stride)."""

    expansion: ClassVar[int] = 4

    def __init__(
        self, inputs: int, width: int, stride: int, downsample: nn.Module | None, groups: int, base_width: int
    ) -> None:
        super().__init__()
        inner = width * base_width // 64 * groups
        self.conv1 = _convolution(inputs, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = _convolution(inner, inner, 3, stride, groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = _convolution(inner, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, 4 width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x + shortcut)


class ResNet(nn.Module):
    """A stem, four stages of blocks, and a classifier: images (N, channels, H, W) -> scores (N, num_classes).

    ``small_stem`` replaces the 7 x 7 convolution of stride 2 and the pooling by one 3 x 3 convolution, for images of about
    32 x 32 pixels. ``zero_init_residual`` begins with each block as the identity: its last normalisation scales by 0.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        num_classes: int = 1000,
        zero_init_residual: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        channels: int = 3,
        small_stem: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, 64, 3) if small_stem else _convolution(channels, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small_stem else nn.MaxPool2d(3, 2, 1)
        self._inputs = 64
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            self._stage(block, 64 << place, count, 2 if place else 1, groups, width_per_group)
            for place, count in enumerate(layers)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        initialise(self)
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, BasicBlock | Bottleneck):
                    last = module.bn2 if isinstance(module, BasicBlock) else module.bn3
                    assert last.weight is not None
                    init.constant_(last.weight, 0.0)

    def _stage(
        self, block: type[BasicBlock] | type[Bottleneck], width: int, count: int, stride: int, groups: int, base_width: int
    ) -> nn.Sequential:
        """``count`` blocks, the first of which changes the number of channels, and the size by ``stride``."""
        outputs = width * block.expansion
        blocks = []
        for place in range(count):
            step = 1 if place else stride
            shortcut = None
            if step != 1 or self._inputs != outputs:
                shortcut = nn.Sequential(_convolution(self._inputs, outputs, 1, step), nn.BatchNorm2d(outputs))
            blocks.append(block(self._inputs, width, step, shortcut, groups, base_width))
            self._inputs = outputs
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


@explained
def resnet18(num_classes: int = 1000, channels: int = 3, *, zero_init_residual: bool = False) -> ResNet:
    """ResNet-18: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, zero_init_residual, channels=channels)


@explained
def resnet34(num_classes: int = 1000, channels: int = 3, *, zero_init_residual: bool = False) -> ResNet:
    """ResNet-34: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, zero_init_residual, channels=channels)


@explained
def resnet50(num_classes: int = 1000, channels: int = 3, *, zero_init_residual: bool = False) -> ResNet:
    """ResNet-50: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, zero_init_residual, channels=channels)


@explained
def resnet101(num_classes: int = 1000, channels: int = 3, *, zero_init_residual: bool = False) -> ResNet:
    """ResNet-101: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, zero_init_residual, channels=channels)


@explained
def resnet152(num_classes: int = 1000, channels: int = 3, *, zero_init_residual: bool = False) -> ResNet:
    """ResNet-152: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, zero_init_residual, channels=channels)


@explained
def resnext50_32x4d(num_classes: int = 1000, channels: int = 3, *, zero_init_residual: bool = False) -> ResNet:
    """ResNeXt-50 with 32 groups of 4 channels: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, zero_init_residual, 32, 4, channels)


@explained
def wide_resnet50_2(num_classes: int = 1000, channels: int = 3, *, zero_init_residual: bool = False) -> ResNet:
    """ResNet-50 with twice as many channels inside of its blocks: images (N, channels, H, W) -> scores (N, num_classes)."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, zero_init_residual, 1, 128, channels)


@explained
def resnet18_small(num_classes: int = 10, channels: int = 3, *, zero_init_residual: bool = False) -> ResNet:
    """ResNet-18 for images of about 32 x 32 pixels: a 3 x 3 convolution as its stem, and no pooling behind it."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, zero_init_residual, channels=channels, small_stem=True)
