"""How much memory there is, and how much a training takes: what is refused before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from chainrule.errors import UserError
from chainrule.train import Config, room
from chainrule.train.optimization import OPTIMIZERS

TWO = ("adam", "adamw", "nadam", "radam", "rmsprop")
"""Optimizers that keep two numbers beside a weight."""


def refusal(monkeypatch: pytest.MonkeyPatch, free: int, **options: Any) -> str:
    """What is said where so many bytes are free; "" if it fits. Of the model: weights, numbers a batch leaves, images kept."""
    monkeypatch.setattr(room, "available_memory", lambda: free)
    weights, activations = options.pop("counts", (1_000_000, 2_000_000))
    monkeypatch.setattr(room, "_count", lambda *_: (weights, activations, 0))
    try:
        room.check_room(Config(image_size="40x50", **options), (3, 40, 50), 10, 100, options.get("kept", 0))
    except UserError as error:
        return str(error)
    return ""


def test_what_the_system_says_is_free() -> None:
    free = room.available_memory()
    assert free is not None
    assert 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("most", "used", "stat", "left"),
    [
        ("1000000\n", "400000\n", "anon 5\ninactive_file 100000\n", 700_000),
        ("1000000\n", "1200000\n", "anon 5\n", 0),
        ("max\n", "400000\n", "inactive_file 0\n", None),
        (None, None, None, None),
    ],
)
def test_the_limit_of_a_container(
    most: str | None, used: str | None, stat: str | None, left: int | None, tmp_path: Path
) -> None:
    for name, text in (("memory.max", most), ("memory.current", used), ("memory.stat", stat)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert room._left_in_group(tmp_path) == left


def test_a_system_that_says_nothing_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_linux_available", lambda: None)
    monkeypatch.setattr(room, "_left_in_group", lambda _: None)
    monkeypatch.delattr(os, "sysconf")
    assert room.available_memory() is None
    room.check_room(Config(), (3, 100_000, 100_000), 10, 1, 0)


def test_the_parts_of_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million weights: 9 times 4 MB with sgd, 13 times with adam; and a batch."""
    assert {name: kind.state for name, kind in OPTIMIZERS.items()} == {"sgd": 1, "adagrad": 1, **dict.fromkeys(TWO, 2)}
    assert refusal(monkeypatch, 44_000_000) == ""
    assert refusal(monkeypatch, 43_999_999) == (
        "lenet on images of 40 x 50 needs about 44 MB of memory (36 MB for 1,000,000 weights and what goes with them, 8 MB for "
        "a batch of 64), and 44 MB are free: a smaller --image-size or a smaller --batch-size would help"
    )
    assert "52 MB for 1,000,000 weights" in refusal(monkeypatch, 1_000, optimizer="adam")
    assert "52 MB for 1,000,000 weights" in refusal(monkeypatch, 1_000, ema=0.9)
    waiting = (100 - 40) * 3 * 40 * 50 * 4
    assert refusal(monkeypatch, 44_000_000 + waiting, batch_size=40, accumulate=5) == ""
    assert refusal(monkeypatch, 44_000_000 + waiting - 1, batch_size=40, accumulate=5) != ""
    assert "72 MB for 1,000,000 weights" in refusal(monkeypatch, 1_000, precision="float64")
    assert refusal(monkeypatch, 30_000_000).endswith("and 30 MB are free: a smaller --image-size would help")


def test_a_trace_counts_what_training_takes() -> None:
    """LeNet on MNIST: 61,706 weights and 416,520 multiply-adds for an image; the numbers of a batch grow with it."""
    weights, activations, multiply_adds = room._count(Config(), (1, 28, 28), 10, 1)
    assert (weights, multiply_adds) == (61_706, 416_520)
    assert activations > 784 + 6 * 28 * 28 + 16 * 10 * 10
    assert room._count(Config(), (1, 28, 28), 10, 64) == (weights, 64 * activations, multiply_adds)
