"""A network made for short trainings on small photographs: it begins with what can be known without training.

Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (2024). Its first layer whitens patches of 2 x 2 pixels, which the
training images themselves decide; its other convolutions begin by passing on what they are given; there are few of them, all
3 x 3, where Winograd's algorithm is fast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chainrule import nn
from chainrule.arguments import explained, explained_methods
from chainrule.errors import UserError
from chainrule.tensor import Parameter, Tensor, functions, tensor

_WIDTHS = (64, 256, 256)
_PATCH = 2
_LEAST_VARIANCE = 5e-4
"""Added to the variances of whitened directions, so that those that hardly occur are not blown up."""

_BIAS_SCALE = 8.0
"""Biases are held divided by this, so that each step moves them 64 times as far: they learn in a few dozen steps."""

_SCORES_SCALE = 1 / 9
"""The scores are scaled, so that the first losses stay small at high learning rates."""


class BiasedNorm(nn.Module):
    """Batch normalisation without a scale, whose bias learns fast: (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, momentum=0.4, affine=False)
        self.bias = Parameter(np.zeros((channels, 1, 1), np.float32))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) -> the same shape."""
        return self.norm(x) + self.bias * _BIAS_SCALE


class _Block(nn.Module):
    """Two convolutions, the first with a pooling: (N, inputs, H, W) -> (N, width, H // 2, W // 2)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv1 = _passing_on(nn.Conv2d(inputs, width, 3, padding=1, bias=False))
        self.maxpool = nn.MaxPool2d(2)
        self.norm1 = BiasedNorm(width)
        self.conv2 = _passing_on(nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.norm2 = BiasedNorm(width)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, inputs, H, W) -> (N, width, H // 2, W // 2)."""
        x = self.activation(self.norm1(self.maxpool(self.conv1(x))))
        return self.activation(self.norm2(self.conv2(x)))


@explained_methods
class FastNet(nn.Module):
    """A whitening convolution, six wide ones, and a linear layer: images (N, channels, H, W) -> scores (N, num_classes)."""

    def __init__(self, num_classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        inputs = 2 * channels * _PATCH**2
        self.whiten = nn.Conv2d(channels, inputs, _PATCH)
        self.whiten.weight.requires_grad = False
        self.activation = nn.GELU()
        blocks = []
        for width in _WIDTHS:
            blocks.append(_Block(inputs, width))
            inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.maxpool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(inputs, num_classes, bias=False)

    def initialise_from(self, images: NDArray[np.float32]) -> None:
        """Let the first layer whiten patches of these images (N, channels, H, W), normalised as in training.

        Its filters are the principal components of all patches, each divided by the standard deviation along it, and the same
        with the other sign; its weights stay as they are in training, its biases begin at 0.

        Raises:
            UserError: the images are not of that shape.
        """
        channels = self.whiten.weight.shape[1]
        if images.ndim != 4 or images.shape[1] != channels or min(images.shape[2:]) < _PATCH or not len(images):
            raise UserError(
                f"initialise_from: got images of shape {images.shape}: expected (N, {channels}, H, W) with at least one image "
                f"of {_PATCH} x {_PATCH} pixels"
            )
        patches = np.lib.stride_tricks.sliding_window_view(images, (_PATCH, _PATCH), (2, 3))  # (N, C, rows, columns, 2, 2)
        rows = patches.transpose(0, 2, 3, 1, 4, 5).reshape(-1, channels * _PATCH**2).astype(np.float64)
        variances, components = np.linalg.eigh(rows.T @ rows / len(rows))
        largest = components[np.abs(components).argmax(0), np.arange(components.shape[1])]
        components = components * np.sign(largest)  # which of both signs comes first is otherwise the library's choice
        filters = (components / np.sqrt(variances + _LEAST_VARIANCE)).T[::-1].reshape(-1, channels, _PATCH, _PATCH)
        self.whiten.weight.assign(np.concatenate([filters, -filters]).astype(self.whiten.weight.dtype.name))
        if self.whiten.bias is not None:
            self.whiten.bias.assign(np.zeros(self.whiten.bias.shape, self.whiten.bias.dtype.name))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) -> scores (N, num_classes)."""
        x = self.blocks(self.activation(self.whiten(x)))
        return self.fc(self.maxpool(x).flatten(1)) * _SCORES_SCALE


def _passing_on(conv: nn.Conv2d) -> nn.Conv2d:
    """Let the first filters of a convolution hand on its inputs, channel by channel; the others keep their initial values."""
    filters, inputs, *kernel = conv.weight.shape
    both = min(filters, inputs)
    identity = np.zeros((both, inputs, *kernel), np.float32)
    identity[np.arange(both), np.arange(both), kernel[0] // 2, kernel[1] // 2] = 1
    conv.weight.assign(functions.concatenate([tensor(identity), conv.weight[both:]]))
    return conv


@explained
def fastnet(num_classes: int = 10, channels: int = 3) -> FastNet:
    """A network for short trainings on images of about 32 x 32 pixels: (N, channels, H, W) -> scores (N, num_classes)."""
    return FastNet(num_classes, channels)
