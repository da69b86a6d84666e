"""One rule for threads: a call of a compiled function sees the state before the call of another thread or after it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from sharing import ROUNDS, SIZE, Twins, share_one_state, together


@pytest.fixture
def twins() -> Twins:
    return Twins()


@pytest.mark.parametrize("threads", [1, 2])
def test_what_several_functions_and_looks_see_of_shared_parameters_is_one_state(threads: int) -> None:
    share_one_state(threads)


def test_an_assignment_from_another_thread_is_never_lost(twins: Twins) -> None:
    """Each step adds 1, each assignment of another thread subtracts what it saw: whatever the order, no value is torn."""
    counter = cr.Buffer(np.zeros((), np.float32))

    @cr.compile
    def count() -> None:
        counter.assign(counter + 1)
        twins.first.assign(twins.first * 0 + counter)

    def counting() -> None:
        for _ in range(ROUNDS):
            count()

    def resetting() -> None:
        for _ in range(ROUNDS):
            twins.first.assign(np.full(SIZE, -1, np.float32))

    together(counting, resetting)
    assert counter.item() == ROUNDS
    assert len(np.unique(twins.first.numpy())) == 1
    count()
    assert set(np.unique(twins.first.numpy())) == {ROUNDS + 1.0}


def test_functions_that_share_parameters_give_each_thread_its_own_results() -> None:
    """One function from many threads: each gets the result for its own argument."""
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    judge = cr.compile(model)
    inputs = [np.random.default_rng(seed).standard_normal((5, 8)).astype(np.float32) for seed in range(4)]
    expected = [model(cr.tensor(one)).numpy() for one in inputs]

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(200):
                np.testing.assert_allclose(judge(inputs[number]).numpy(), expected[number], rtol=1e-5, atol=1e-6)

        return run

    together(*map(work, range(4)))
