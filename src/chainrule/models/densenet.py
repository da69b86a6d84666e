"""DenseNet: each layer reads the outputs of all layers before it in its block.

Huang, Liu, van der Maaten and Weinberger, "Densely connected convolutional networks" (2017).
"""

from __future__ import annotations

from chainrule import nn
from chainrule.arguments import explained
from chainrule.nn import init
from chainrule.tensor import Tensor, functions


class DenseLayer(nn.Module):
    """``growth`` new channels from all that there are: (N, inputs, H, W) -> (N, growth, H, W)."""

    def __init__(self, inputs: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, bottleneck * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(bottleneck * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, growth, H, W)."""
        x = self.conv1(self.relu1(self.norm1(x)))
        return self.conv2(self.relu2(self.norm2(x)))


class DenseBlock(nn.Module):
    """``count`` dense layers: (N, inputs, H, W) -> (N, inputs + count growth, H, W)."""

    def __init__(self, count: int, inputs: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        for place in range(count):
            setattr(self, f"denselayer{place + 1}", DenseLayer(inputs + place * growth, growth, bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, inputs + count growth, H, W): ``x`` and all that was made of it."""
        for layer in self.children():
            x = functions.concatenate([x, layer(x)], 1)
        return x


def _transition(inputs: int) -> nn.Sequential:
    """Half the channels, and half the size: (N, inputs, H, W) -> (N, inputs / 2, H / 2, W / 2)."""
    return nn.Sequential(
        {
            "norm": nn.BatchNorm2d(inputs),
            "relu": nn.ReLU(),
            "conv": nn.Conv2d(inputs, inputs // 2, 1, bias=False),
            "pool": nn.AvgPool2d(2),
        }
    )


class DenseNet(nn.Module):
    """Four dense blocks with transitions between: images (N, channels, H, W) -> scores (N, num_classes)."""

    def __init__(
        self,
        growth_rate: int = 32,
        block_config: tuple[int, ...] = (6, 12, 24, 16),
        num_init_features: int = 64,
        bn_size: int = 4,
        num_classes: int = 1000,
        channels: int = 3,
    ) -> None:
        super().__init__()
        width = num_init_features
        layers: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False),
            "norm0": nn.BatchNorm2d(width),
            "relu0": nn.ReLU(),
            "pool0": nn.MaxPool2d(3, 2, 1),
        }
        for place, count in enumerate(block_config, 1):
            layers[f"denseblock{place}"] = DenseBlock(count, width, growth_rate, bn_size)
            width += count * growth_rate
            if place < len(block_config):
                layers[f"transition{place}"] = _transition(width)
                width //= 2
        layers[f"norm{len(block_config) + 1}"] = nn.BatchNorm2d(width)
        self.features = nn.Sequential(layers)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight)
        assert self.classifier.bias is not None
        init.constant_(self.classifier.bias, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        return self.classifier(self.avgpool(self.relu(self.features(x))).flatten(1))


@explained
def densenet121(num_classes: int = 1000, channels: int = 3) -> DenseNet:
    """DenseNet-121: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return DenseNet(num_classes=num_classes, channels=channels)
