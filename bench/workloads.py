"""The five workloads of the comparison, in chainrule. Parameter names are those of ``bench/peer_torch.py``, so that both can
start from the same numbers and must see the same losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chainrule import nn
from chainrule.models import lenet, mlp
from chainrule.tensor import Tensor

F = nn.functional


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: type[nn.Module] | None = None):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), *([act()] if act else [])]


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_bn(inputs, width, 3, stride, act=nn.ReLU), *conv_bn(width, width, 3))
        self.skip = nn.Sequential(*(conv_bn(inputs, width, 1, stride) if stride != 1 or inputs != width else []))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            *conv_bn(inputs, width, 1, act=nn.ReLU), *conv_bn(width, width, 3, stride, act=nn.ReLU), *conv_bn(width, outputs, 1)
        )
        self.skip = nn.Sequential(*(conv_bn(inputs, outputs, 1, stride) if stride != 1 or inputs != outputs else []))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


class ResNet(nn.Module):
    def __init__(self, stem: list[nn.Module], block: type, counts: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*stem)
        inputs, blocks = 64, []
        for stage, count in enumerate(counts):
            for k in range(count):
                blocks.append(block(inputs, 64 << stage, 2 if stage and k == 0 else 1))
                inputs = (64 << stage) * block.expansion
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


def resnet18() -> nn.Module:
    """For 32 x 32 images: a 3 x 3 stem, no pooling; 10 classes."""
    return ResNet(conv_bn(3, 64, 3, act=nn.ReLU), BasicBlock, (2, 2, 2, 2), 10)


def resnet50() -> nn.Module:
    """For 224 x 224 images, the stride in the 3 x 3 convolution; 1000 classes."""
    return ResNet([*conv_bn(3, 64, 7, 2, act=nn.ReLU), nn.MaxPool2d(3, 2, 1)], Bottleneck, (3, 4, 6, 3), 1000)


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.body = nn.Sequential(
            *(conv_bn(inputs, hidden, 1, act=nn.ReLU6) if expand != 1 else []),
            *conv_bn(hidden, hidden, 3, stride, hidden, nn.ReLU6),
            *conv_bn(hidden, outputs, 1),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class MobileNetV2(nn.Module):
    """MobileNetV2 1.0 for 224 x 224 images, 1000 classes, no dropout."""

    def __init__(self) -> None:
        super().__init__()
        layers, inputs = conv_bn(3, 32, 3, 2, act=nn.ReLU6), 32
        for expand, outputs, count, stride in _STAGES:
            for k in range(count):
                layers.append(InvertedResidual(inputs, outputs, stride if k == 0 else 1, expand))
                inputs = outputs
        self.features = nn.Sequential(*layers, *conv_bn(320, 1280, 1, act=nn.ReLU6))
        self.fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


@dataclass(frozen=True)
class Workload:
    """``steps`` are those that are timed in one process."""

    model: Callable[[], nn.Module]
    image: tuple[int, int, int]
    classes: int
    batch: int
    steps: int


WORKLOADS: dict[str, Workload] = {
    "mlp": Workload(mlp, (1, 28, 28), 10, 64, 1500),
    "lenet": Workload(lenet, (1, 28, 28), 10, 64, 1500),
    "resnet18": Workload(resnet18, (3, 32, 32), 10, 64, 8),
    "resnet50": Workload(resnet50, (3, 224, 224), 1000, 16, 4),
    "mobilenet_v2": Workload(MobileNetV2, (3, 224, 224), 1000, 16, 8),
}
