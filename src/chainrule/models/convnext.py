"""ConvNeXt: a residual network with the proportions of a vision transformer.

Liu and others, "A ConvNet for the 2020s" (2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainrule import nn
from chainrule.arguments import explained
from chainrule.nn import init
from chainrule.tensor import Parameter, Tensor

_LAYER_SCALE = 1e-6
"""What each channel of a block is scaled by at first, so that a deep network begins close to the identity."""


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation of each pixel over its channels: (N, C, H, W) -> the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) -> the same shape."""
        return super().forward(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


class Permute(nn.Module):
    """Puts the axes into another order, ``dims``."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = tuple(dims)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with its axes in the order ``dims``."""
        return x.transpose(*self.dims)


class CNBlock(nn.Module):
    """A 7 x 7 convolution of each channel and a perceptron of each pixel, beside a shortcut: (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int, drop: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            Permute((0, 2, 3, 1)),
            nn.LayerNorm(channels, eps=1e-6),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute((0, 3, 1, 2)),
        )
        self.layer_scale = Parameter(np.full((channels, 1, 1), _LAYER_SCALE, np.float32))
        self.stochastic_depth = nn.StochasticDepth(drop, "row")

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) -> the same shape."""
        return x + self.stochastic_depth(self.layer_scale * self.block(x))


class ConvNeXt(nn.Module):
    """A stem of 4 x 4 patches, four stages, and a classifier: images (N, channels, H, W) -> scores (N, num_classes)."""

    def __init__(
        self,
        widths: Sequence[int],
        counts: Sequence[int],
        stochastic_depth_prob: float,
        num_classes: int = 1000,
        channels: int = 3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(nn.Conv2d(channels, widths[0], 4, stride=4), LayerNorm2d(widths[0], eps=1e-6))]
        done = 0
        for place, (width, count) in enumerate(zip(widths, counts, strict=True)):
            drops = [stochastic_depth_prob * (done + block) / (sum(counts) - 1) for block in range(count)]
            layers.append(nn.Sequential(*(CNBlock(width, drop) for drop in drops)))
            done += count
            if place + 1 < len(widths):
                layers.append(nn.Sequential(LayerNorm2d(width, eps=1e-6), nn.Conv2d(width, widths[place + 1], 2, stride=2)))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(LayerNorm2d(widths[-1], eps=1e-6), nn.Flatten(), nn.Linear(widths[-1], num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    init.constant_(module.bias, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)))


@explained
def convnext_tiny(num_classes: int = 1000, channels: int = 3, *, stochastic_depth_prob: float = 0.1) -> ConvNeXt:
    """ConvNeXt Tiny: images (N, channels, H, W), usually 224 x 224 -> scores (N, num_classes)."""
    return ConvNeXt((96, 192, 384, 768), (3, 3, 9, 3), stochastic_depth_prob, num_classes, channels)
