"""Threads that train, infer and look at the same parameters, all at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

import chainrule as cr
from chainrule import nn, optim

SIZE = 400_000
ROUNDS = 150


def together(*works: Callable[[], object]) -> None:
    """Each on a thread of its own; the first error of any is raised here."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    if errors:
        raise errors[0]


class Twins(nn.Module):
    """Two large parameters that each step sets to one and the same number, larger by 1 than before."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(np.zeros(SIZE, np.float32))
        self.second = nn.Parameter(np.zeros(SIZE, np.float32))


def share_one_state(threads: int) -> None:
    """A thread trains two parameters that are always equal; others infer from them and look at them, and see them equal."""
    twins = Twins()
    cr.set_threads(threads)
    optimizer = optim.SGD(twins.parameters(), lr=1.0)
    done = threading.Event()

    @cr.compile
    def train() -> cr.Tensor:
        optimizer.zero_grad()
        error = -(twins.first.sum() + twins.second.sum())
        error.backward()
        optimizer.step()
        return error

    @cr.compile
    def infer() -> tuple[cr.Tensor, cr.Tensor]:
        both = cr.concatenate([twins.first, twins.second])
        return both.min(), both.max()

    seen: list[float] = []
    looks: list[float] = []
    rounds = 0

    def training() -> None:
        nonlocal rounds
        while rounds < ROUNDS or (min(len(seen), len(looks)) < 20 and rounds < 100 * ROUNDS):
            train()
            rounds += 1
        done.set()

    def inferring() -> None:
        while not done.is_set():
            low, high = infer()
            assert low.item() == high.item(), "half of a step was seen"
            seen.append(low.item())

    def looking() -> None:
        while not done.is_set():
            numbers = twins.first.detach().numpy()
            assert numbers.min() == numbers.max(), "a parameter was copied while it was written"
            looks.append(numbers[0])
            slope = twins.second.grad
            if slope is not None:
                assert set(np.unique(slope.numpy())) <= {-1.0}

    try:
        together(training, inferring, looking)
    finally:
        cr.set_threads(None)
    assert twins.first.numpy()[0] == rounds
    assert min(len(seen), len(looks)) >= 1
    assert seen == sorted(seen)
