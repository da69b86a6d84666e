"""PyTorch's side of the comparison: one workload, one mode, one process, one JSON line. Needs torch, and nothing of ours.

    python bench/peer_torch.py WORKLOAD {eager,channels_last,compile} [--steps N] [--threads T] [--save-start FILE]

The same models, batch, loss and optimizer as ``bench/workloads.py`` and ``bench/ours.py``. ``--save-start`` writes the
parameters and buffers before the first step, the batch and the losses as safetensors.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F
from torch import nn


def conv_bn(inputs, outputs, kernel, stride=1, groups=1, act=None):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), *([act()] if act else [])]


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def lenet():
    features = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*features, nn.Flatten(), *head)


class Residual(nn.Module):
    """A body and a skip, added, then ReLU."""

    def __init__(self, body, skip):
        super().__init__()
        self.body, self.skip = nn.Sequential(*body), nn.Sequential(*skip)

    def forward(self, x):
        return F.relu(self.body(x) + self.skip(x))


def basic(inputs, width, stride):
    skip = conv_bn(inputs, width, 1, stride) if stride != 1 or inputs != width else []
    return Residual([*conv_bn(inputs, width, 3, stride, act=nn.ReLU), *conv_bn(width, width, 3)], skip), width


def bottleneck(inputs, width, stride):
    outputs = 4 * width
    skip = conv_bn(inputs, outputs, 1, stride) if stride != 1 or inputs != outputs else []
    middle = conv_bn(width, width, 3, stride, act=nn.ReLU)
    return Residual([*conv_bn(inputs, width, 1, act=nn.ReLU), *middle, *conv_bn(width, outputs, 1)], skip), outputs


class ResNet(nn.Module):
    def __init__(self, stem, block, counts, classes):
        super().__init__()
        self.stem, inputs, blocks = nn.Sequential(*stem), 64, []
        for stage, count in enumerate(counts):
            for k in range(count):
                made, inputs = block(inputs, 64 << stage, 2 if stage and k == 0 else 1)
                blocks.append(made)
        self.blocks, self.fc = nn.Sequential(*blocks), nn.Linear(inputs, classes)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expand):
        super().__init__()
        hidden = inputs * expand
        wide = conv_bn(inputs, hidden, 1, act=nn.ReLU6) if expand != 1 else []
        self.body = nn.Sequential(*wide, *conv_bn(hidden, hidden, 3, stride, hidden, nn.ReLU6), *conv_bn(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


class MobileNetV2(nn.Module):
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self):
        super().__init__()
        layers, inputs = conv_bn(3, 32, 3, 2, act=nn.ReLU6), 32
        for expand, outputs, count, stride in self.stages:
            for k in range(count):
                layers.append(InvertedResidual(inputs, outputs, stride if k == 0 else 1, expand))
                inputs = outputs
        self.features, self.fc = nn.Sequential(*layers, *conv_bn(320, 1280, 1, act=nn.ReLU6)), nn.Linear(1280, 1000)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


WORKLOADS = {  # model, image, classes, batch, timed steps
    "mlp": (mlp, (1, 28, 28), 10, 64, 1500),
    "lenet": (lenet, (1, 28, 28), 10, 64, 1500),
    "resnet18": (lambda: ResNet(conv_bn(3, 64, 3, act=nn.ReLU), basic, (2, 2, 2, 2), 10), (3, 32, 32), 10, 64, 8),
    "resnet50": (
        lambda: ResNet([*conv_bn(3, 64, 7, 2, act=nn.ReLU), nn.MaxPool2d(3, 2, 1)], bottleneck, (3, 4, 6, 3), 1000),
        (3, 224, 224),
        1000,
        16,
        4,
    ),
    "mobilenet_v2": (MobileNetV2, (3, 224, 224), 1000, 16, 8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("mode", choices=("eager", "channels_last", "compile"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--save-start")
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    make, shape, classes, batch, steps = WORKLOADS[a.workload]
    steps = a.steps or steps
    torch.manual_seed(0)
    model = make().train()
    images, labels = torch.randn(batch, *shape), torch.randint(0, classes, (batch,))
    start = {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}
    start |= {"batch.images": images.clone(), "batch.labels": labels.clone()}
    if a.mode != "eager":
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    network = torch.compile(model) if a.mode == "compile" else model
    losses, times = [], []
    for _ in range(steps + 3):
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        times.append(time.perf_counter() - begin)
    if a.save_start:
        from safetensors.torch import save_file

        save_file(start | {"losses": torch.tensor(losses, dtype=torch.float64)}, a.save_start)
    measured = sorted(times[3:])
    found = {
        "library": f"torch {torch.__version__}",
        "workload": a.workload,
        "mode": a.mode,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "median_ms": 1e3 * measured[len(measured) // 2],
        "min_ms": 1e3 * measured[0],
        "first_step_s": times[0],
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "losses": losses[:5],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
