"""Blocks that several families are built from, and the initial values that most of them share.

Layers are registered in torchvision's order and under its names, so that parameters have the same paths.
"""

from __future__ import annotations

from collections.abc import Callable

from chainrule import nn
from chainrule.nn import init
from chainrule.tensor import Tensor

Layer = Callable[[], nn.Module]
"""What makes an activation, such as ``nn.ReLU``."""


class ConvNormActivation(nn.Sequential):
    """A convolution, a batch normalisation and an activation: images (N, inputs, H, W) -> (N, outputs, H / stride, W / stride).

    The padding keeps the size for stride 1. ``activation`` None leaves it out.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: Layer | None = nn.ReLU,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        padding = (kernel_size - 1) // 2
        layers = [nn.Conv2d(inputs, outputs, kernel_size, stride, padding, groups=groups, bias=False), norm(outputs)]
        super().__init__(*layers, *([activation()] if activation else []))


class SqueezeExcitation(nn.Module):
    """Scales each channel by what a small network says of the means of all channels: (N, C, H, W) -> the same shape.

    Hu, Shen and Sun, "Squeeze-and-excitation networks" (2018).
    """

    def __init__(self, channels: int, squeezed: int, activation: Layer = nn.ReLU, scale: Layer = nn.Sigmoid) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = activation()
        self.scale_activation = scale()

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) -> ``x`` times a factor for each example and channel."""
        return x * self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))


def divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``channels``, but never less than 0.9 times ``channels``, nor than ``divisor``.

    Kernels are fastest for whole multiples; the rule is that of the MobileNets' authors.
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def initialise(model: nn.Module, linear_deviation: float | None = None) -> None:
    """Initial values for networks with ReLU: convolutions normal with deviation sqrt(2 / fan_out), and their biases 0.

    With ``linear_deviation``, linear layers are normal with that standard deviation, and their biases 0; without it they keep
    the values that they were made with. He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                init.constant_(module.bias, 0.0)
        elif isinstance(module, nn.Linear) and linear_deviation is not None:
            init.normal_(module.weight, 0.0, linear_deviation)
            if module.bias is not None:
                init.constant_(module.bias, 0.0)
