"""PyTorch's side of the recipe for CIFAR-10: the same network, images, augmentation, schedule and loss.

    python bench/recipe_torch.py FOLDER [--epochs 1] [--seed 0] [--mode channels_last] [--threads N]

FOLDER has ``train/<class>/*.jpg`` and ``test/<class>/*.jpg``. All images are decoded first and stay in memory as one tensor; a
batch is flipped and cropped by tensor operations. Prints one line of JSON: seconds of training, without decoding and testing,
and the share of the test images that are right, judged as they are and mirrored.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from zoo_torch import own_model

BATCH, RATE, MOMENTUM, DECAY, SMOOTHING, WARM_UP, BORDER = 512, 1.0, 0.85, 0.00133, 0.2, 0.23, 4


def decoded(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The images (N, 3, H, W) as bytes, and the numbers of their classes."""
    images, labels = [], []
    for number, place in enumerate(sorted(one for one in folder.iterdir() if one.is_dir())):
        for path in sorted(place.iterdir()):
            images.append(np.asarray(Image.open(path).convert("RGB")))
            labels.append(number)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def whiten(model: torch.nn.Module, images: torch.Tensor) -> None:
    """The first layer's filters: principal components of patches, each over its standard deviation, with both signs."""
    patches = F.unfold(images, 2).permute(0, 2, 1).reshape(-1, 12).double()
    variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (components / torch.sqrt(variances + 5e-4)).T.flip(0).reshape(12, 3, 2, 2).float()
    model.whiten.weight.data = torch.cat([filters, -filters])  # type: ignore[union-attr]
    model.whiten.bias.data.zero_()  # type: ignore[union-attr]


def augmented(bordered: torch.Tensor, chosen: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """Each chosen image of (N, 3, side + 2 BORDER, ...), half of them mirrored, cut at a place of its own."""
    count = len(chosen)
    down, right = torch.randint(0, 2 * BORDER + 1, (2, count, 1), generator=generator)
    flip = torch.rand(count, 1, generator=generator) < 0.5
    rows, columns = down + torch.arange(side), right + torch.arange(side)
    columns = torch.where(flip, columns.flip(1), columns)
    return bordered[chosen[:, None, None, None], torch.arange(3)[:, None, None], rows[:, None, :, None], columns[:, None, None]]


def rate_at(step: int, steps: int) -> float:
    """Up in a line from a hundredth of the rate, then down in a line to 0."""
    first = round(WARM_UP * steps)
    return RATE * (0.01 + 0.99 * step / first if step < first else 1 - (step - first) / (steps - first))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", choices=("eager", "channels_last"), default="channels_last")
    parser.add_argument("--threads", type=int)
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    generator = torch.Generator().manual_seed(a.seed)
    begin = time.perf_counter()
    (train, labels), (test, answers) = decoded(a.folder / "train"), decoded(a.folder / "test")
    decoding = time.perf_counter() - begin
    layout = torch.channels_last if a.mode == "channels_last" else torch.contiguous_format
    mean, std = (f((0, 2, 3), keepdim=True) for f in (train.float().mean, train.float().std))
    side = train.shape[-1]
    model = own_model("fastnet", 10, 3).train()
    whiten(model, (train[:5000] - mean) / std)
    model.to(memory_format=layout)
    learning = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True)
    steps, step = a.epochs * math.ceil(len(train) / BATCH), 0
    begin = time.perf_counter()
    bordered = F.pad(train, (BORDER,) * 4)
    for _ in range(a.epochs):
        for chosen in torch.randperm(len(train), generator=generator).split(BATCH):
            images = (augmented(bordered, chosen, side, generator) - mean) / std
            optimizer.param_groups[0]["lr"] = rate_at(step, steps)
            optimizer.zero_grad()
            scores = model(images.contiguous(memory_format=layout))
            F.cross_entropy(scores, labels[chosen], label_smoothing=SMOOTHING).backward()
            optimizer.step()
            step += 1
    seconds = time.perf_counter() - begin
    model.eval()
    right = 0
    with torch.no_grad():
        for first in range(0, len(test), BATCH):
            images = ((test[first : first + BATCH] - mean) / std).contiguous(memory_format=layout)
            scores = model(images) + model(images.flip(3))
            right += int((scores.argmax(1) == answers[first : first + BATCH]).sum())
    print(json.dumps({"training_seconds": seconds, "decoding_seconds": decoding, "accuracy": right / len(test)}))


if __name__ == "__main__":
    main()
