"""SqueezeNet: few parameters by squeezing channels before the 3 x 3 convolutions.

Iandola and others, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size" (2016).
"""

from __future__ import annotations

from chainrule import nn
from chainrule.arguments import explained
from chainrule.nn import init
from chainrule.tensor import Tensor, functions


class Fire(nn.Module):
    """A 1 x 1 convolution to ``squeezed`` channels; from these ``expanded`` by 1 x 1, and as many by 3 x 3, side by side."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, 2 expanded, H, W)."""
        x = self.squeeze_activation(self.squeeze(x))
        ones = self.expand1x1_activation(self.expand1x1(x))
        threes = self.expand3x3_activation(self.expand3x3(x))
        return functions.concatenate([ones, threes], 1)


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


class SqueezeNet(nn.Module):
    """Eight fire modules, and a 1 x 1 convolution as the classifier: images (N, channels, H, W) -> scores (N, num_classes)."""

    def __init__(self, version: str, num_classes: int = 1000, dropout: float = 0.5, channels: int = 3) -> None:
        super().__init__()
        fires = [
            Fire(inputs, squeezed, expanded)
            for inputs, squeezed, expanded in (
                (64 if version == "1_1" else 96, 16, 64),
                (128, 16, 64),
                (128, 32, 128),
                (256, 32, 128),
                (256, 48, 192),
                (384, 48, 192),
                (384, 64, 256),
                (512, 64, 256),
            )
        ]
        if version == "1_0":
            stem = nn.Conv2d(channels, 96, 7, stride=2)
            layers = [*fires[:3], _pool(), *fires[3:7], _pool(), *fires[7:]]
        else:
            stem = nn.Conv2d(channels, 64, 3, stride=2)
            layers = [*fires[:2], _pool(), *fires[2:4], _pool(), *fires[4:]]
        self.features = nn.Sequential(stem, nn.ReLU(), _pool(), *layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(512, num_classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_uniform_(module.weight)
                if module.bias is not None:
                    init.constant_(module.bias, 0.0)
        init.normal_(self.classifier[1].weight, 0.0, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        return self.classifier(self.features(x)).flatten(1)


@explained
def squeezenet1_0(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.5) -> SqueezeNet:
    """SqueezeNet 1.0: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return SqueezeNet("1_0", num_classes, dropout, channels)


@explained
def squeezenet1_1(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.5) -> SqueezeNet:
    """SqueezeNet 1.1, which computes less than half of 1.0: images (N, channels, H, W) -> scores (N, num_classes)."""
    return SqueezeNet("1_1", num_classes, dropout, channels)
