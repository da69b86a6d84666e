"""A small training to run twice, in one process or in two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from chainrule.tensor import Tensor


def training(seed: int = 0) -> Callable[[], tuple[np.ndarray, float, list[str]]]:
    """Compiles a new step; its losses, weights and passes after three steps."""

    def run() -> tuple[np.ndarray, float, list[str]]:
        cr.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(108, 4)
        )
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        x = cr.tensor(np.random.default_rng(1).standard_normal((5, 1, 8, 8)).astype(np.float32))

        @cr.compile
        def step(x: Tensor, labels: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        for _ in range(3):
            loss = step(x, cr.tensor([0, 1, 2, 3, 0]))
        weights = np.concatenate([one.numpy().ravel() for one in model.parameters()])
        return weights, loss.item(), [str(one) for one in step.program.passes]

    return run
