"""PyTorch's side of the main job: the three epochs of `chainrule train`, the same recipe, as fast as eager PyTorch does them.

    python bench/peer_torch_mnist.py FOLDER [--seed N] [--epochs N]

FOLDER holds the four xz files of MNIST that ship with chainrule. LeNet, batches of 64, SGD with Nesterov momentum on a
one-cycle schedule to 0.1, label smoothing 0.1, images shifted by up to a pixel. All images stay in memory as one tensor, and a
batch is cut and shifted by tensor operations, which is faster than a DataLoader. Prints one line of JSON.
"""

import argparse
import json
import lzma
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def idx(path: Path) -> np.ndarray:
    content = lzma.decompress(path.read_bytes())
    sizes = np.frombuffer(content, ">i4", content[3], 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes).copy()


def shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image of (n, 30, 30), which have a border of 1, cut at a place of its own: (n, 28, 28)."""
    down, right = torch.randint(0, 3, (2, len(images), 1), generator=generator)
    rows, columns = down + torch.arange(28), right + torch.arange(28)
    return images[torch.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int)
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    generator = torch.Generator().manual_seed(a.seed)
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    train, labels, test, answers = (torch.from_numpy(idx(a.folder / f"{name}-ubyte.xz")) for name in names)
    train, labels, test, answers = train.float() / 255, labels.long(), test.float() / 255, answers.long()
    mean, std = train.mean(), train.std()
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    steps = -(-len(train) // 64) * a.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps)
    begin = time.perf_counter()
    bordered = functional.pad(train, (1, 1, 1, 1))
    for _ in range(a.epochs):
        for chosen in torch.randperm(len(train), generator=generator).split(64):
            images = ((shifted(bordered[chosen], generator) - mean) / std)[:, None]
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels[chosen], label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        found = torch.cat([model(((part - mean) / std)[:, None]).argmax(1) for part in test.split(1000)])
    print(json.dumps({"training_seconds": seconds, "accuracy": float((found == answers).float().mean())}))


if __name__ == "__main__":
    main()
