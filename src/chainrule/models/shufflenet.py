"""ShuffleNetV2: half of the channels pass each block untouched, and are then mixed with the others.

Ma, Zhang, Zheng and Sun, "ShuffleNet V2: practical guidelines for efficient CNN architecture design" (2018).
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule import nn
from chainrule.arguments import explained
from chainrule.nn import functional as F
from chainrule.tensor import Tensor, functions


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    ]


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class InvertedResidual(nn.Module):
    """Two branches, whose channels are shuffled: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride).

    With stride 1 each branch gets one half of the channels, and the first leaves them as they are.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        self.branch1 = nn.Sequential(*([*_depthwise(inputs, stride), *_pointwise(inputs, half)] if stride > 1 else []))
        self.branch2 = nn.Sequential(
            *_pointwise(inputs if stride > 1 else half, half), *_depthwise(half, stride), *_pointwise(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        half = x.shape[1] // 2
        kept, changed = (x[:, :half], x[:, half:]) if self.stride == 1 else (self.branch1(x), x)
        return F.channel_shuffle(functions.concatenate([kept, self.branch2(changed)], 1), 2)


class ShuffleNetV2(nn.Module):
    """A stem, three stages, a 1 x 1 convolution and a classifier: images (N, channels, H, W) -> scores (N, num_classes)."""

    def __init__(self, repeats: Sequence[int], widths: Sequence[int], num_classes: int = 1000, channels: int = 3) -> None:
        super().__init__()
        inputs = widths[0]
        self.conv1 = nn.Sequential(nn.Conv2d(channels, inputs, 3, 2, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for name, count, outputs in zip(("stage2", "stage3", "stage4"), repeats, widths[1:4], strict=True):
            blocks = [InvertedResidual(inputs, outputs, 2)]
            blocks += [InvertedResidual(outputs, outputs, 1) for _ in range(count - 1)]
            setattr(self, name, nn.Sequential(*blocks))
            inputs = outputs
        self.conv5 = nn.Sequential(*_pointwise(inputs, widths[-1]))
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        return self.fc(x.mean((2, 3)))


@explained
def shufflenet_v2_x1_0(num_classes: int = 1000, channels: int = 3) -> ShuffleNetV2:
    """ShuffleNetV2 of width 1: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return ShuffleNetV2((4, 8, 4), (24, 116, 232, 464, 1024), num_classes, channels)
