"""Residual networks for images of 32 x 32 pixels: those of section 4.2 of the paper, and a fast one of nine layers.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (2015). The nine layers are those of the entries that
won the DAWNBench competition (Coleman and others, 2017) for training on CIFAR-10 in the least time.
"""

from __future__ import annotations

from chainrule import nn
from chainrule.arguments import explained
from chainrule.models.blocks import ConvNormActivation, initialise
from chainrule.tensor import Tensor


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without parameters: (N, inputs, H, W) -> (N, width, H / stride, W / stride).

    Where the shape changes, the shortcut takes every second pixel and adds channels of zeros (option A of the paper).
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.new_channels = stride, width - inputs

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, width, H / stride, W / stride)."""
        shortcut = x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x
        if self.new_channels:
            before = self.new_channels // 2
            shortcut = shortcut.pad(((0, 0), (before, self.new_channels - before), (0, 0), (0, 0)))
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class CifarResNet(nn.Module):
    """Three stages of ``count`` blocks with 16, 32 and 64 channels: images (N, channels, H, W) -> scores (N, num_classes)."""

    def __init__(self, count: int, num_classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        inputs = 16
        for number, width in enumerate((16, 32, 64), 1):
            blocks = []
            for place in range(count):
                blocks.append(BasicBlock(inputs, width, 2 if number > 1 and not place else 1))
                inputs = width
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


@explained
def resnet20(num_classes: int = 10, channels: int = 3) -> CifarResNet:
    """ResNet-20 for images of about 32 x 32 pixels: (N, channels, H, W) -> scores (N, num_classes)."""
    return CifarResNet(3, num_classes, channels)


@explained
def resnet32(num_classes: int = 10, channels: int = 3) -> CifarResNet:
    """ResNet-32 for images of about 32 x 32 pixels: (N, channels, H, W) -> scores (N, num_classes)."""
    return CifarResNet(5, num_classes, channels)


@explained
def resnet56(num_classes: int = 10, channels: int = 3) -> CifarResNet:
    """ResNet-56 for images of about 32 x 32 pixels: (N, channels, H, W) -> scores (N, num_classes)."""
    return CifarResNet(9, num_classes, channels)


class _Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut: (N, width, H, W) -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvNormActivation(width, width), ConvNormActivation(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, width, H, W) -> the same shape."""
        return x + self.body(x)


class ResNet9(nn.Module):
    """Eight wide 3 x 3 convolutions and a linear layer: images (N, channels, H, W) -> scores (N, num_classes).

    The scores are scaled by 1/8, so that the first losses stay small at the high learning rates of short trainings.
    """

    def __init__(self, num_classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        self.stem = ConvNormActivation(channels, 64)
        self.layer1 = nn.Sequential(ConvNormActivation(64, 128), nn.MaxPool2d(2), _Residual(128))
        self.layer2 = nn.Sequential(ConvNormActivation(128, 256), nn.MaxPool2d(2))
        self.layer3 = nn.Sequential(ConvNormActivation(256, 512), nn.MaxPool2d(2), _Residual(512))
        self.maxpool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(512, num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(self.maxpool(x).flatten(1)) * 0.125


@explained
def resnet9(num_classes: int = 10, channels: int = 3) -> ResNet9:
    """A fast residual network of nine layers for images of about 32 x 32 pixels: -> scores (N, num_classes)."""
    return ResNet9(num_classes, channels)
