"""What a training step of resnet18 takes with its first layers frozen, as a share of a full one: pairs in turn, in one process.

python -m bench.frozen [--side 224] [--batch 16] [--pairs 9]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

import chainrule as cr
from chainrule import nn, optim, train
from chainrule.models import build

PATTERN = "conv1|bn1|layer[1-3]"


def step_of(pattern: str, side: int) -> Callable[[cr.Tensor, cr.Tensor], cr.Tensor]:
    """A compiled training step of resnet18, with what ``pattern`` fits frozen."""
    cr.manual_seed(0)
    model = build("resnet18", 3, 10, (side, side)).train()
    if pattern:
        train.freeze(model, pattern)
    optimizer = optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.01, momentum=0.9)

    @cr.compile
    def step(images: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=9)
    a = parser.parse_args()
    rng = np.random.default_rng(0)
    images = cr.tensor(rng.standard_normal((a.batch, 3, a.side, a.side)).astype(np.float32))
    labels = cr.tensor(rng.integers(0, 10, a.batch))
    steps = [step_of("", a.side), step_of(PATTERN, a.side)]

    def seconds(step: Callable[[cr.Tensor, cr.Tensor], cr.Tensor]) -> float:
        begin = time.perf_counter()
        step(images, labels).item()
        return time.perf_counter() - begin

    for step in steps * 2:
        seconds(step)
    shares = []
    for pair in range(a.pairs):
        full, frozen = map(seconds, steps)
        shares.append(frozen / full)
        print(
            f"pair {pair + 1}: full {1e3 * full:.0f} ms, {PATTERN} frozen {1e3 * frozen:.0f} ms: {shares[-1]:.3f}", flush=True
        )
    print(f"median {statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})")


if __name__ == "__main__":
    main()
