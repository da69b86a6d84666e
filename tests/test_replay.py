"""A training that meets a number that is not finite: it goes back, finds the first bad step, keeps it, explains or skips it."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule import UserError
from chainrule.data import ArrayDataset
from chainrule.formats import load_safetensors, save_safetensors
from chainrule.train import Config, NotFiniteError, RunFolder, Trainer, open_capsule, trainer
from running import command, done, idx_folder, pictures, refused
from test_train_run import Stopper

NETS = """
from chainrule import nn

class Standardise(nn.Module):
    def forward(self, x):
        centred = x - x[:, :1, :1, :1]  # exactly 0 where all pixels are alike, however a mean would be rounded
        return centred / (centred * centred).mean((1, 2, 3), keepdims=True).sqrt()

class Centre(nn.Module):
    def forward(self, x):
        return x - x[:, :1, :1, :1]

class Length(nn.Module):
    def forward(self, x):
        return (x * x).sum(1, keepdims=True).sqrt()

def standardised(channels, classes, size):
    return nn.Sequential(Standardise(), nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))

def lengths(channels, classes, size):
    pixels = channels * size[0] * size[1]
    return nn.Sequential(Centre(), nn.Flatten(), nn.Linear(pixels, 8, bias=False), Length(), nn.Linear(1, classes))
"""
IMAGES, TEST_IMAGES = pictures(48, 3, (6, 6), 1), pictures(9, 3, (6, 6), 2)
BAD = 17
"""The number of the image that is damaged."""


class Remarks(Stopper):
    """Watches, and remembers what was remarked."""

    def __init__(self) -> None:
        super().__init__()
        self.remarks: list[str] = []

    def on_remark(self, remark: str) -> None:
        self.remarks.append(remark)


def made(folder: Path, damage: float | None, **options: Any) -> Trainer:
    """A trainer on 48 images in 6 steps an epoch, of which one is damaged once the data are opened: a pixel has this number."""
    given = {"model": "mlp", "batch_size": 8, "epochs": 2, "augment": "none", "momentum": 0.5, "lr": 0.02, **options}
    config = Config(**given)
    training = ArrayDataset(IMAGES[0].astype(np.float32), IMAGES[1], name="drawings")
    test = ArrayDataset(TEST_IMAGES[0].astype(np.float32), TEST_IMAGES[1], name="others")
    run = Trainer(RunFolder.new(folder, config), training=training, test=test)
    run.folder.make()
    return run if damage is None else damaged(run, damage)


def damaged(run: Trainer, number: float) -> Trainer:
    assert isinstance(run.loader.dataset, ArrayDataset)
    run.loader.dataset._images[BAD, 0, 3, 2] = number
    return run


def step_of_the_bad_image(run: Trainer) -> tuple[int, int]:
    """The step of the first epoch, counted from 1, in which the damaged image is, and its row."""
    for batch in range(len(run.loader)):
        numbers = run.loader.numbers(0, batch).tolist()
        if BAD in numbers:
            return batch + 1, numbers.index(BAD)
    raise AssertionError


def caught(run: Trainer) -> tuple[NotFiniteError, list[str]]:
    watcher = Remarks()
    with pytest.raises(NotFiniteError) as caught:
        run.train(watcher)
    return caught.value, watcher.remarks


@pytest.mark.parametrize("checkpoint_every", [0, 1, 2])
@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_an_infinity_in_an_image(tmp_path: Path, number: float, checkpoint_every: int) -> None:
    run = made(tmp_path / "run", number, checkpoint_every=checkpoint_every)
    step, row = step_of_the_bad_image(run)
    error, remarks = caught(run)
    assert error.step == step
    assert error.cause is not None
    assert (error.cause.phase, error.cause.operation, error.cause.rows) == ("batch", "images", (row,))
    assert error.cause.element == (row, 0, 3, 2)
    assert f"Row {row} of the batch is image {BAD} of drawings, of class '" in str(error)
    assert "learning rate" not in str(error)
    assert len(remarks) == 1
    assert remarks[0].startswith(f"the loss became nan at step {step} (epoch 1): going back to step ")
    capsule = open_capsule(tmp_path / "run" / "capsule.safetensors")
    assert (capsule.step, capsule.epoch, capsule.batch) == (step, 0, step - 1)
    assert capsule.numbers[row] == BAD
    assert str(capsule.first_bad_node()) == str(error.cause)
    assert repr(capsule) == f"<Capsule of step {step} of a training of mlp: the loss became nan at step {step} (epoch 1)>"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate": 2, "batch_size": 4},
        {"ema": 0.9, "optimizer": "adam"},
        {"mixup": 0.5, "clip_norm": 1.0},
        {"freeze": "1", "lr_of": "5=0.1", "ema": 0.9},
    ],
    ids=["plain", "accumulated", "averaged", "mixed", "frozen in part"],
)
def test_a_capsule_holds_the_state_before_the_step_bit_for_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    """That of a run which stops just before the bad step, whatever checkpoint the search began with."""
    bad = made(tmp_path / "bad", np.nan, **options)
    step, row = step_of_the_bad_image(bad)
    error, _ = caught(bad)
    assert error.cause is not None
    assert error.cause.phase == "batch"
    if "mixup" not in options:
        assert error.cause.rows == (row,)
    good = made(tmp_path / "good", None, **{**options, "on_nan": "stop"})
    for images, labels in good.loader:
        if good.progress.step == step - 1:
            break
        good.step(images, labels)
    kept = load_safetensors(tmp_path / "bad" / "capsule.safetensors")[0]
    good.save()
    expected = load_safetensors(tmp_path / "good" / "checkpoint.safetensors")[0]
    for name in [name for name in expected if not name.startswith("health.")]:
        np.testing.assert_array_equal(kept[name], expected[name], err_msg=name)
    np.testing.assert_array_equal(kept["labels"], labels)


def test_what_is_done_about_nan_changes_no_bit_of_a_training_without(tmp_path: Path) -> None:
    weights = []
    for way in ("explain", "stop", "skip"):
        run = made(tmp_path / way, None, on_nan=way, optimizer="adam", ema=0.9, checkpoint_every=1)
        run.train(Remarks())
        weights.append(load_safetensors(run.folder.checkpoint)[0])
        assert not run.folder.capsule.exists()
        assert json.loads(run.folder.result.read_text())["skipped_steps"] == []
    for name, value in weights[0].items():
        for other in weights[1:]:
            np.testing.assert_array_equal(other[name], value, err_msg=name)


def test_a_skipped_step_leaves_everything_as_it_was_before_it(tmp_path: Path) -> None:
    """The same as a run that never takes that step; its number, and the random numbers of other steps, stay what they are."""
    run = made(tmp_path / "run", np.inf, on_nan="skip", optimizer="adam", ema=0.9)
    step, _ = step_of_the_bad_image(run)
    in_second = len(run.loader) + 1 + next(b for b in range(len(run.loader)) if BAD in run.loader.numbers(1, b).tolist())
    watcher = Remarks()
    run.train(watcher)
    assert json.loads(run.folder.result.read_text())["skipped_steps"] == [step, in_second]
    assert [remark.partition(",")[0] for remark in watcher.remarks if "left out" in remark] == [
        f"step {step} is left out",
        f"step {in_second} is left out",
    ]
    assert open_capsule(run.folder.capsule).step == step
    without = made(tmp_path / "without", np.inf, on_nan="stop", optimizer="adam", ema=0.9)
    for epoch in range(2):
        for images, labels in without.loader:
            if without.progress.step + 1 in (step, in_second):
                without.leave_out()
            else:
                without.step(images, labels)
        assert without.progress.step == (epoch + 1) * len(without.loader)
    for name, value in without.model.state_dict().items():
        np.testing.assert_array_equal(run.model.state_dict()[name], value, err_msg=name)
    for name, value in without.optimizer.state_dict().items():
        np.testing.assert_array_equal(run.optimizer.state_dict()[name], value, err_msg=name)


def test_skipped_steps_are_remembered_by_a_run_that_goes_on(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole", np.nan, on_nan="skip")
    whole.train(Remarks())
    stopped = made(tmp_path / "stopped", np.nan)
    caught(stopped)
    folder = RunFolder.open(tmp_path / "stopped")
    folder.config = dataclasses.replace(folder.config, on_nan="skip")
    resumed = Trainer(folder, training=damaged(stopped, 0.0).loader.dataset, test=stopped.test_loader.dataset)
    damaged(resumed, np.nan)
    resumed.run, resumed.loader.transforms = stopped.run, stopped.loader.transforms  # statistics of the images as they were
    resumed.resume()
    resumed.train(Remarks())
    assert resumed.progress.skipped == whole.progress.skipped != []
    for name, value in whole.model.state_dict().items():
        np.testing.assert_array_equal(resumed.model.state_dict()[name], value, err_msg=name)


def test_an_infinite_weight_that_no_loss_shows_is_found_before_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight of -inf behind a relu makes 0: the loss goes on, and the checkpoint tells. It is no function of the step, so the
    steps that are repeated are finite."""
    step, done_once = trainer.Trainer.step, []

    def overflowing(self: Trainer, *batch: Any) -> float:
        loss = step(self, *batch)
        if self.progress.step == 3 and not done_once:
            done_once.append(True)
            bias = next(p for name, p in self.model.named_parameters() if name.endswith("bias"))
            bias.assign(np.where(np.arange(bias.size) == 1, -np.inf, bias.numpy()))
        return loss

    monkeypatch.setattr(trainer.Trainer, "step", overflowing)
    run = made(tmp_path / "run", None)
    watcher = Remarks()
    run.train(watcher)
    assert "bias became nan or inf by step 6 (epoch 1): going back to step 0" in watcher.remarks[0]
    assert "but not when the steps since the last checkpoint were repeated" in watcher.remarks[1]
    assert all(np.isfinite(one).all() for one in load_safetensors(run.folder.model)[0].values())


def test_weights_that_diverge(tmp_path: Path) -> None:
    run = made(tmp_path / "run", None, lr=10.0, schedule="constant", epochs=60, momentum=0.9, label_smoothing=0.0)
    error, _ = caught(run)
    assert error.cause is not None
    assert error.cause.phase in ("forward", "backward", "update")
    assert "training diverged; the last checkpoint is in" in str(error) or "nothing was saved yet" in str(error)
    assert "Try a smaller learning rate than --lr 10." in str(error)


# ---- the command


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with patterns, one of which is blank, and networks that cannot take it."""
    monkeypatch.chdir(tmp_path)
    idx_folder(tmp_path / "patterns", training=48, test=12)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "own.py").write_text(NETS)
    from chainrule.data import read_idx, write_idx

    images = np.array(read_idx(tmp_path / "patterns" / "train-images-idx3-ubyte"))
    images[5] = 0
    write_idx(tmp_path / "patterns" / "train-images-idx3-ubyte", images)
    return tmp_path


TRAIN = ("train", "--data", "patterns", "--batch-size", 8, "--epochs", 1, "--augment", "none", "--out", "run")


def test_a_zero_variance_is_explained_and_explained_again(place: Path) -> None:
    ended = command(*TRAIN, "--model", "nets/own.py:standardised")
    assert ended.status == 2
    first = "The first cause is in the forward pass: divide in layer 0 (Standardise) at own.py:7 gives nan at ["
    assert first in ended.out
    assert first in ended.err
    assert "is image 5 of patterns/train-images-idx3-ubyte, of class '1'." in ended.err
    assert "\nLook at it again with: " in ended.err
    again = command("replay", "run/capsule.safetensors")
    assert again.status == 0
    assert "which may do whatever a program can" in again.err
    report = again.out[again.out.index("The first cause") : again.out.index("\n\nRow")]
    assert report in ended.out
    assert "Row " in again.out
    shutil.move("nets", "moved")
    message = refused("replay", "run/capsule.safetensors")
    assert message.endswith(
        f"was made by {place}/nets/own.py:standardised, and there is no such file here: put it there, or give --model "
        "FILE.py:FUNCTION, where it is now"
    )
    moved = command("replay", "run/capsule.safetensors", "--model", "moved/own.py:standardised")
    assert moved.out[moved.out.index("\n") :] == again.out[again.out.index("\n") :]
    (place / "moved" / "own.py").write_text(NETS + "\n")
    ended = command("replay", "run/capsule.safetensors", "--model", "moved/own.py:standardised")
    assert ended.status == 2
    assert "is not the file that the run was trained with" in ended.err
    message = refused("replay", "run/capsule.safetensors", "--model", "mlp")
    assert message == "model mlp: the network of this run is FILE.py:FUNCTION"


def test_code_beside_a_capsule_is_not_run(place: Path) -> None:
    assert command(*TRAIN, "--model", "nets/own.py:standardised").status == 2
    shutil.move("run/capsule.safetensors", "nets/capsule.safetensors")
    assert "whoever sent both to you could run code here" in refused("replay", "nets/capsule.safetensors")
    assert command("replay", "nets/capsule.safetensors", "--model", "nets/own.py:standardised").status == 0


def test_a_root_of_0_shows_in_the_loss_of_the_next_step_and_is_found_where_it_begins(place: Path) -> None:
    ended = command(*TRAIN, "--model", "nets/own.py:lengths", "--epochs", 2, "--seed", 1)
    assert ended.status == 2
    found = re.search(r"error: (.*) It was noticed at step (\d+): the loss became nan at step", ended.err)
    assert found is not None, ended.err
    noticed, capsule = int(found[2]), open_capsule("run/capsule.safetensors")
    assert (capsule.step, capsule.noticed.partition(" by ")[0]) == (noticed - 1, "2.weight became nan or inf")
    assert "The first cause is in the backward pass: the gradient of sqrt in layer 3 (Length) at own.py:15" in ended.err
    assert "while the whole forward pass is finite" in ended.err
    assert "is image 5 of patterns/train-images-idx3-ubyte" in ended.err


def test_steps_are_skipped_and_named(place: Path) -> None:
    ended = command(*TRAIN, "--model", "nets/own.py:standardised", "--on-nan", "skip")
    assert ended.status == 0, ended
    assert "1 step was left out, with numbers that are not finite: " in ended.out
    (skipped,) = json.loads((place / "run" / "result.json").read_text())["skipped_steps"]
    assert f"step {skipped} is left out, as the loss became nan at step {skipped} (epoch 1)" in ended.out


def test_a_run_that_stopped_goes_on_without_the_step(place: Path) -> None:
    ended = command(*TRAIN, "--model", "nets/own.py:standardised")
    assert "Go on without it with: " in ended.err
    resumed = command("train", "--resume", "run", "--on-nan", "skip")
    assert resumed.status == 0, resumed
    assert "1 step was left out" in resumed.out


def test_stop_stops_at_once(place: Path) -> None:
    ended = command(*TRAIN, "--model", "nets/own.py:standardised", "--on-nan", "stop")
    assert ended.status == 2
    assert ended.err.rstrip().endswith("Try a smaller learning rate than --lr 0.1")
    assert "going back" not in ended.out
    assert not (place / "run" / "capsule.safetensors").exists()


def test_what_fails_at_every_step_is_not_skipped_for_ever(place: Path) -> None:
    message = refused(*TRAIN, "--model", "mlp", "--lr", 1e9, "--batch-size", 4, "--on-nan", "skip")
    assert message.endswith("10 steps in a row were not finite, so it is not the images of one batch: training stopped")


def test_wrong_capsules(place: Path) -> None:
    assert refused("replay", "nothing") == "nothing does not exist: expected a safetensors file"
    assert command(*TRAIN, "--model", "nets/own.py:standardised").status == 2
    path = place / "run" / "capsule.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "is no whole safetensors file" in refused("replay", path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "is damaged" in refused("replay", path)
    path.write_bytes(whole)
    tensors, metadata = load_safetensors(path)
    save_safetensors(path, tensors, {})
    assert refused("replay", path) == f"{path} is a safetensors file, but no capsule that chainrule wrote"
    facts = json.loads(metadata["chainrule"])

    def written(change: dict[str, Any], without: str = "", **arrays: Any) -> str:
        kept = {name: value for name, value in {**tensors, **arrays}.items() if name != without}
        save_safetensors(path, kept, {"chainrule": json.dumps({**facts, **change})})
        return refused("replay", path, "--model", "nets/own.py:standardised")

    assert written({"format": "chainrule capsule 2"}) == f"{path} is a 'chainrule capsule 2', expected a 'chainrule capsule 1'"
    assert "step must be a whole number of at least 1, got 0" in written({"step": 0})
    assert "is no configuration of a run" in written({"options": "{}"})
    assert "has no labels" in written({}, without="labels")
    assert "images is float32 (8, 144), which is no batch" in written({}, images=np.zeros((8, 144), np.float32))
    assert "labels are 0 to 9 for 4 classes" in written({}, labels=np.array([0, 1, 2, 9, 0, 1, 2, 3]))
    assert "lacks the state of the random numbers" in written({}, without="random.state")
    del tensors["model.2.weight"]
    save_safetensors(path, tensors, metadata)
    assert "error: this capsule is of another network or optimizer" in command("replay", path).err


def test_a_capsule_of_a_model_that_ships(place: Path) -> None:
    assert command(*TRAIN, "--model", "mlp", "--lr", 1e9).status == 2
    out = done("replay", "run/capsule.safetensors")
    assert out.startswith("mlp, step ")
    assert ".py:" not in out, "lines of the package's own networks tell nobody anything"
    message = refused("replay", "run/capsule.safetensors", "--model", "own.py:f")
    assert message == "model own.py:f: the network of this run is no file of one's own, but mlp: leave --model out"


def test_wrong_ways() -> None:
    with pytest.raises(UserError, match="unknown on-nan 'explian': did you mean 'explain'"):
        Config(on_nan="explian")


ODD = """
import chainrule as cr
from chainrule import nn

class Odd(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.odd = cr.Parameter(nn.Linear(1, 1).bias.numpy())
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.fc(x.flatten(1)) + self.odd * 0

def odd(channels, classes, size):
    return Odd(channels * size[0] * size[1], classes)
"""


def test_an_average_that_is_the_first_to_overflow_is_found_by_a_replay_too(tmp_path: Path) -> None:
    """The capsule has the averages: without them, a replay would find nothing."""
    (tmp_path / "odd.py").write_text(ODD)
    run = made(tmp_path / "run", None, model=f"{tmp_path / 'odd.py'}:odd", ema=0.9, checkpoint_every=1)
    images, labels = next(iter(run.loader))
    run.step(images, labels)
    run.model.odd.assign(np.array([3e38], np.float32))
    assert run.ema is not None
    run.ema.averages["odd"].assign(np.array([-3e38], np.float32))
    run.save()
    error, _ = caught(run)
    assert "the average" in str(error)
    assert error.cause is not None
    assert error.cause.phase == "update"
    assert str(open_capsule(run.folder.capsule).first_bad_node()) == str(error.cause)
