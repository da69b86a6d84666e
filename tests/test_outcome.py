"""What is said of a training that is over: a loss that diverged, nothing learned; and nothing about what went well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chainrule import train
from chainrule.data import write_idx
from chainrule.errors import UserError
from chainrule.train import Evaluation, Finding, Findings
from chainrule.train.chance import is_guessing, loss_of_guessing
from running import command, idx_folder

NAMES = ["ape", "bat", "cat", "dog"]
GUESSING = np.log(4)


def evaluation(*rows: list[int]) -> Evaluation:
    return Evaluation(1.0, np.array(rows), NAMES)


GOOD = evaluation([90, 10, 0, 0], [0, 95, 5, 0], [5, 0, 95, 0], [0, 0, 0, 100])
ALL_BATS = evaluation([0, 100, 0, 0], [0, 100, 0, 0], [0, 100, 0, 0], [0, 100, 0, 0])


def only(findings: Findings) -> Finding:
    (found,) = findings
    return found


def test_nothing_is_said_of_a_training_that_went_well() -> None:
    assert train.outcome(GOOD) == Findings()
    assert train.outcome(GOOD, {1: 1.39, 2: 0.2}, 0.97) == Findings()
    assert train.outcome(GOOD, {1: 40.0, 2: 3.0, 3: 0.2}) == Findings()  # large weights to begin with
    assert str(train.outcome(GOOD)) == "nothing looks wrong"


def test_one_answer_for_all_is_nothing_learned() -> None:
    found = only(train.outcome(ALL_BATS, {1: 1.39, 9: 1.386}, 0.26))
    assert (found.name, found.place) == ("nothing-learned", "the test images")
    assert found.what == (
        "25.00% are right, and all are taken for bat, with a loss of 1; always answering ape would be right for 25.00%, and "
        "guessing has a loss of 1.386, so nothing was learned of them"
    )
    assert found.remedy.endswith("look whether the labels belong to the images")


def test_a_loss_of_guessing_is_nothing_learned_though_luck_has_some_right() -> None:
    lucky = [[40, 0, 0, 60], [0, 20, 0, 80], [10, 0, 20, 70], [60, 0, 0, 40]]
    guessed = Evaluation(GUESSING * 0.998, 10 * np.array(lucky), NAMES)
    found = only(train.outcome(guessed))
    assert found.what == (
        "30.00% are right, with a loss of 1.384; always answering ape would be right for 25.00%, and guessing has a loss of "
        "1.386, so nothing was learned of them"
    )
    assert train.outcome(Evaluation(GUESSING * 0.95, 10 * np.array(lucky), NAMES)) == Findings()
    assert train.outcome(Evaluation(GUESSING, GOOD.confusion, NAMES)) == Findings()


def test_what_is_known_by_heart_is_said() -> None:
    guessed = evaluation(*[[250] * 4] * 4)
    found = only(train.outcome(guessed, training_accuracy=0.98))
    assert found.what.startswith("25.00% are right, with a loss of 1; always answering ape")
    assert found.what.endswith("though 98% of the training images are right, as if known by heart")
    assert "same kind" in found.remedy


def test_a_rare_class_that_is_never_seen_is_said() -> None:
    never = Evaluation(0.2, np.array([[9500, 0], [500, 0]]), ["well", "ill"])
    assert "always answering well would be right for 95.00%" in only(train.outcome(never)).what
    assert train.outcome(Evaluation(0.2, np.array([[9450, 50], [100, 400]]), ["well", "ill"])) == Findings()


@pytest.mark.parametrize(("right", "images"), [(0, 4), (1, 20), (5, 20), (30, 100), (300, 1000), (2000, 4000)])
def test_few_images_or_a_little_learned_are_no_reason(right: int, images: int) -> None:
    assert not is_guessing(np.array([images // 4] * 4), right, 0.9)


@pytest.mark.parametrize(("right", "images"), [(0, 100), (20, 200), (100, 400), (1000, 4000)])
def test_what_is_sure_is_said(right: int, images: int) -> None:
    assert is_guessing(np.array([images // 4] * 4), right, 0.9)


def test_the_loss_of_guessing_is_the_entropy_of_the_classes() -> None:
    assert loss_of_guessing(np.array([5, 5, 0])) == pytest.approx(np.log(2))
    assert loss_of_guessing(np.array([90, 10])) == pytest.approx(-0.9 * np.log(0.9) - 0.1 * np.log(0.1))
    assert not is_guessing(np.array([100, 0]), 100, 0.0)


def test_a_loss_that_went_far_above_that_of_guessing() -> None:
    found = only(train.outcome(ALL_BATS, {2: 1.3, 4: 8.5e10, 6: 1.4}))
    assert (found.name, found.place) == ("diverged", "the training loss")
    assert found.what == (
        "it was 8.5e+10 at step 4 and 1.4 at the end, where guessing among 4 classes has 1.39: steps were so large that the "
        "training diverged"
    )
    assert "chainrule lr" in found.remedy
    assert train.outcome(ALL_BATS, {2: 1.3, 4: 8.5e10, 6: 1.4}, silence="diverged") == Findings()
    assert train.outcome(ALL_BATS, silence=["nothing-learned"]) == Findings()


def test_wrong_arguments() -> None:
    with pytest.raises(UserError, match=r"outcome: evaluation must be what train.evaluate gives, got a float"):
        train.outcome(0.5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"outcome: losses must be a dict of losses by step, got a list"):
        train.outcome(GOOD, [1.0, 2.0])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"unknown finding in outcome: silence 'learned'"):
        train.outcome(GOOD, silence="learned")


def test_the_command_says_it_below_the_accuracy_and_blame_doubts(tmp_path: Path) -> None:
    data = idx_folder(tmp_path / "data", training=64, test=400)
    write_idx(data / "t10k-labels-idx1-ubyte", np.random.default_rng(0).integers(0, 4, 400).astype(np.uint8))
    run = tmp_path / "run"
    line = ["train", "--data", data, "--model", "mlp", "--epochs", 5, "--batch-size", 16, "--out"]
    told = command(*line, run)
    assert told.status == 0
    assert told.err.startswith("note: the test images: ")
    assert "of the training images are right, as if known by heart" in told.err
    assert told.err.endswith("(--silence nothing-learned)\n")
    assert "learned nothing of them" in command("blame", run, "--split", "test").out
    assert command(*line, tmp_path / "quiet", "--silence", "nothing-learned").err == ""
