"""AlexNet in its form for a single device.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014), after Krizhevsky, Sutskever and Hinton,
"ImageNet classification with deep convolutional neural networks" (2012).
"""

from __future__ import annotations

from chainrule import nn
from chainrule.arguments import explained
from chainrule.tensor import Tensor


class AlexNet(nn.Module):
    """Five convolutions and three linear layers: images (N, channels, H, W) -> scores (N, num_classes)."""

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@explained
def alexnet(num_classes: int = 1000, channels: int = 3, *, dropout: float = 0.5) -> AlexNet:
    """AlexNet: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return AlexNet(num_classes, dropout, channels)
