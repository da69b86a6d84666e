"""GoogLeNet: filters of several sizes side by side, with batch normalisation.

Szegedy and others, "Going deeper with convolutions" (2015). As in torchvision, whose weights it takes, the third branch has a
3 x 3 convolution where the paper has 5 x 5.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from chainrule import nn
from chainrule.arguments import explained
from chainrule.nn import init
from chainrule.tensor import Tensor, functions


class GoogLeNetOutputs(NamedTuple):
    """The scores of the classifier and of the two auxiliary ones, each (N, num_classes), in training."""

    logits: Tensor
    aux_logits2: Tensor
    aux_logits1: Tensor


class BasicConv2d(nn.Module):
    """A convolution, a batch normalisation and ReLU: (N, inputs, H, W) -> (N, outputs, ...)."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, outputs, ...)."""
        return self.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side: (N, inputs, H, W) -> (N, ones + threes + fives + pooled, H, W)."""

    def __init__(
        self, inputs: int, ones: int, before_threes: int, threes: int, before_fives: int, fives: int, pooled: int
    ) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(inputs, ones, 1)
        self.branch2 = nn.Sequential(BasicConv2d(inputs, before_threes, 1), BasicConv2d(before_threes, threes, 3, padding=1))
        self.branch3 = nn.Sequential(BasicConv2d(inputs, before_fives, 1), BasicConv2d(before_fives, fives, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(inputs, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, ones + threes + fives + pooled, H, W)."""
        return functions.concatenate([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Auxiliary(nn.Module):
    """A classifier halfway, which brings a gradient to the first half in training: (N, inputs, H, W) -> (N, num_classes)."""

    def __init__(self, inputs: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(4)
        self.conv = BasicConv2d(inputs, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> scores (N, num_classes)."""
        x = self.conv(self.avgpool(x)).flatten(1)
        return self.fc2(self.dropout(self.relu(self.fc1(x))))


class GoogLeNet(nn.Module):
    """Nine inception modules: images (N, channels, H, W) -> scores (N, num_classes).

    With ``aux_logits`` it returns ``GoogLeNetOutputs`` in training: the paper adds 0.3 times the loss of each auxiliary
    classifier.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        aux_logits: bool = True,
        dropout: float = 0.2,
        dropout_aux: float = 0.7,
        channels: int = 3,
    ) -> None:
        super().__init__()
        pool = partial(nn.MaxPool2d, ceil_mode=True)
        self.conv1 = BasicConv2d(channels, 64, 7, 2, 3)
        self.maxpool1 = pool(3, 2)
        self.conv2 = BasicConv2d(64, 64, 1)
        self.conv3 = BasicConv2d(64, 192, 3, padding=1)
        self.maxpool2 = pool(3, 2)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = pool(3, 2)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = pool(2, 2)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.aux1 = Auxiliary(512, num_classes, dropout_aux) if aux_logits else None
        self.aux2 = Auxiliary(528, num_classes, dropout_aux) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                init.trunc_normal_(module.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        """Images (N, channels, H, W) -> scores (N, num_classes), or those of all three classifiers."""
        x = self.maxpool2(self.conv3(self.conv2(self.maxpool1(self.conv1(x)))))
        x = self.inception4a(self.maxpool3(self.inception3b(self.inception3a(x))))
        first = self.aux1(x) if self.training and self.aux1 is not None else None
        x = self.inception4d(self.inception4c(self.inception4b(x)))
        second = self.aux2(x) if self.training and self.aux2 is not None else None
        x = self.inception5b(self.inception5a(self.maxpool4(self.inception4e(x))))
        scores = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        return scores if first is None or second is None else GoogLeNetOutputs(scores, second, first)


@explained
def googlenet(
    num_classes: int = 1000, channels: int = 3, *, aux_logits: bool = True, dropout: float = 0.2, dropout_aux: float = 0.7
) -> GoogLeNet:
    """GoogLeNet: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes); see the class for training."""
    return GoogLeNet(num_classes, aux_logits, dropout, dropout_aux, channels)
