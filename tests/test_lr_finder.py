"""The learning rate finder: what it proposes, that it changes nothing, and the command."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import chainrule as cr
from chainrule.cli.training_options import as_typed
from chainrule.data import load_dataset
from chainrule.errors import UserError
from chainrule.tensor.random import default_generator
from chainrule.train import Config, find_lr, open_datasets
from chainrule.train.lr_finder import judged
from chainrule.train.pictures.drawing import Drawing, Line, _strokes
from chainrule.train.pictures.lr_picture import lr_picture
from running import FILES, command, done, idx_folder, process, refused
from systems import needs

RATES = 1e-4 * 1e5 ** (np.arange(300) / 299)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images of 12 x 12 in 4 classes; 20 to test on."""
    return idx_folder(tmp_path_factory.mktemp("rates") / "patterns")


def valley(falls: float, rises: float) -> np.ndarray:
    """Losses over the logarithm of the rate: a line from 2 at ``falls`` to 1 at ``rises``, and then up to 3."""
    place = np.log(RATES)
    fall = np.clip((place - math.log(falls)) / math.log(rises / falls), 0, 1)
    return 2 - fall + 2 * np.clip((place - math.log(rises)) / 0.7, 0, 1)


def test_the_range_goes_from_where_the_loss_falls_to_below_where_it_rises() -> None:
    found = judged(RATES, valley(0.01, 0.3), 0.1)
    assert found.low == pytest.approx(0.01 * 30**0.1, rel=0.15)
    assert found.least == pytest.approx(0.3, rel=0.25)  # the average takes steps in that are past it
    assert found.diverges == pytest.approx(0.3 * math.exp(0.7 / 4), rel=0.15)
    assert found.high == pytest.approx(found.diverges / 1.5)
    assert 0.01 < found.proposal < 0.3
    assert found.holds_present
    assert not dataclasses.replace(found, present=0.001).holds_present
    assert found.reason == (
        f"at {found.proposal:g} the loss falls most steeply; rates worth a try go from {found.low:.2g}, where it begins to "
        f"fall, to {found.high:.2g}, two thirds of {found.diverges:.2g}, where it rises again"
    )


def test_the_proposal_is_where_the_loss_falls_most_steeply() -> None:
    losses = 2 - 1 / (1 + np.exp(-np.log(RATES / 0.05) * 4))
    found = judged(RATES, losses, 0.1)
    assert found.proposal == pytest.approx(0.05, rel=0.1)
    assert found.diverges is None
    assert found.high == found.least
    assert "up to the rate of the least loss, as it did not rise again up to 10" in found.reason


def test_an_infinite_loss_is_where_it_diverges() -> None:
    losses = valley(0.01, 0.3)[:215]
    losses[-1] = math.inf
    found = judged(RATES[:215], losses, 0.1)
    assert found.diverges is not None
    assert found.diverges <= RATES[214]
    assert math.isfinite(found.smoothed.sum())
    assert found.facts()["losses"][-1] is None
    json.dumps(found.facts(), allow_nan=False)


def test_a_loss_that_never_falls_gives_no_proposal() -> None:
    flat = 2 + 0.01 * np.random.default_rng(0).standard_normal(300)
    for losses in (flat, flat + 5 * (RATES > 1), flat + 5 * (RATES > 0)):
        found = judged(RATES, losses, 0.1)
        assert (found.proposal, found.low, found.high, found.holds_present) == (None, None, None, False)
        assert found.reason.startswith("no rate is proposed, as the loss, ")
    rising = judged(RATES, flat + 5 * (RATES > 1), 0.1)
    assert rising.diverges == pytest.approx(1, rel=0.25)
    assert f", and rises from {rising.diverges:.2g} on: " in rising.reason


@given(
    losses=st.lists(st.floats(0, 1e30) | st.sampled_from([math.inf, math.nan]), min_size=1, max_size=60),
    scale=st.floats(1e-3, 1e3),
)
@settings(max_examples=100, deadline=None)
def test_whatever_the_losses_are_something_true_is_said(losses: list[float], scale: float) -> None:
    rates = RATES[: len(losses)]
    found = judged(rates, np.array(losses) * scale, 0.1)
    assert np.isfinite(found.smoothed).all()
    assert found.reason
    assert (found.low is None) == (found.high is None) == (found.proposal is None)
    if found.low is not None and found.high is not None and found.proposal is not None:
        assert rates[0] <= found.low <= found.proposal <= found.high <= rates[-1]
    json.dumps(found.facts(), allow_nan=False)
    assert found.contents().rows
    lr_picture(found, "x").svg()


def test_lenet_on_mnist_lies_within_its_range() -> None:
    """What `chainrule train` does without options; so it was with each of the seeds 0 to 15."""
    opened = open_datasets(Config())
    found = find_lr(Config(), opened.training, opened.test)
    assert found.holds_present
    assert found.proposal is not None
    assert 0.01 < found.proposal < 0.2
    assert str(found).startswith(f"Learning rates over {len(found.rates)} steps\nstep ")


def test_a_sweep_is_the_same_each_time_and_leaves_random_numbers_alone(data: Path) -> None:
    config = Config(data=str(data), model="mlp", batch_size=8)
    training, test = (load_dataset(str(data), split) for split in ("train", "test"))
    cr.manual_seed(123)
    before = default_generator.state.numpy().tolist()
    seen: list[tuple[int, int, float, float]] = []
    first = find_lr(config, training, test, steps=40, on_step=lambda *step: seen.append(step))
    assert default_generator.state.numpy().tolist() == before
    second = find_lr(config, training, test, steps=40)
    assert first.losses.tolist() == second.losses.tolist()
    assert [step[0] for step in seen] == list(range(1, len(first.rates) + 1))
    assert {step[1] for step in seen} == {40}
    assert [step[2:] for step in seen] == list(zip(first.rates.tolist(), first.losses.tolist(), strict=True))
    assert first.rates[0] == pytest.approx(1e-4)
    other = find_lr(dataclasses.replace(config, seed=1), training, test, steps=40)
    assert other.losses.tolist() != first.losses.tolist()


def test_the_first_step_has_the_loss_and_the_second_the_weights_of_the_lowest_rate(data: Path) -> None:
    """A rate that changes nothing leaves the losses of an untrained network, also in proportion for parts."""
    config = Config(data=str(data), model="mlp", batch_size=48, augment="none")
    training, test = (load_dataset(str(data), split) for split in ("train", "test"))
    still = find_lr(config, training, test, lowest=1e-9, highest=1e-8, steps=30).losses
    assert still == pytest.approx(still[0], abs=1e-4)
    moved = find_lr(config, training, test, lowest=1e-3, highest=1e-2, steps=30).losses
    assert moved[-1] < still[-1] - 0.01
    parts = dataclasses.replace(config, lr_of="5=1e-7", freeze="1|3")
    assert find_lr(parts, training, test, lowest=1e-3, highest=1e-2, steps=30).losses == pytest.approx(still, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 5}, "steps of a sweep must be a whole number of at least 30, got 5"),
        ({"steps": 10**6}, "steps of a sweep must be at most 10,000, got 1000000"),
        ({"lowest": 1, "highest": 0.5}, "the lowest below the highest, got 1 to 0.5"),
        ({"lowest": -1}, "the lowest below the highest, got -1 to 10"),
        ({"lowest": math.nan}, "the lowest below the highest, got nan to 10"),
        ({"highest": 1e300}, "the lowest below the highest, got 0.0001 to 1e+300"),
        ({"lowest": "x"}, "lowest learning rate must be a number, got 'x'"),
    ],
)
def test_limits_that_make_no_sense(options: dict[str, Any], message: str, data: Path) -> None:
    training, test = (load_dataset(str(data), split) for split in ("train", "test"))
    with pytest.raises(UserError) as error:
        find_lr(Config(data=str(data), model="mlp"), training, test, **options)
    assert message in str(error.value)


# ---- the command


def test_the_command_on_a_run_leaves_its_files_as_they_are(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done("train", "--data", data, "--model", "mlp", "--epochs", 1, "--batch-size", 8, "--seed", 3, "--out", run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    out = done("lr", run, "--steps", 60)
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in run.iterdir()} == {*FILES, "lr"}
    assert sorted(path.name for path in (run / "lr").iterdir()) == ["lr.csv", "lr.json", "lr.png", "lr.svg"]
    facts = json.loads((run / "lr" / "lr.json").read_text())
    assert facts["what"] == f"mlp on {data}/train-images-idx3-ubyte, sgd, seed 3"
    assert facts["reason"] in out
    assert f"drawing: {run}/lr/lr.svg\n" in out
    typed = out.rstrip().rpartition("use it:  ")[2]
    assert f"--lr {facts['proposal']:g}" in typed
    with Image.open(run / "lr" / "lr.png") as picture:
        assert picture.size == (1520, 840)
    assert len((run / "lr" / "lr.csv").read_text().splitlines()) == len(facts["rates"]) + 1
    given = ["--data", data, "--model", "mlp", "--epochs", 1, "--batch-size", 8, "--seed", 3]
    told = json.loads(done("lr", *given, "--steps", 60, "--json", "--out", tmp_path / "other"))
    assert told["losses"] == facts["losses"]
    assert told["folder"] == str(tmp_path / "other")
    assert done("lr", run, "--steps", 60) == out  # again, in the same folder


def test_what_the_command_refuses(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done("train", "--data", data, "--model", "mlp", "--epochs", 1, "--out", run)
    assert refused("lr", run, "--batch-size", 4) == (
        f"--batch-size cannot be given beside the run {run}, which has its own options: leave one of them out"
    )
    assert refused("lr", tmp_path / "nothing").startswith(f"there is no run folder {tmp_path}/nothing")
    assert refused("lr", "--steps", 2, "--data", data) == "steps of a sweep must be a whole number of at least 30, got 2"
    assert "the lowest below the highest, got 20 to 10" in refused("lr", "--lowest", 20)
    assert refused("lr", run, "--out", run).startswith(
        f"{run} contains files that are not of a sweep, and nothing there is to "
    )
    (tmp_path / "file").write_text("")
    assert refused("lr", run, "--out", tmp_path / "file") == (
        f"{tmp_path}/file is a file: give another folder for the sweep with --out"
    )
    assert refused("lr", "--data", tmp_path / "nowhere").startswith(f"{tmp_path}/nowhere does not exist: ")
    assert command("lr", "--modle", "mlp").status == 2


@needs("signals")
def test_ctrl_c_ends_a_sweep(data: Path, tmp_path: Path) -> None:
    running = process("lr", "--data", data, "--model", "mlp", "--steps", 10_000, "--highest", 0.01, "--out", tmp_path / "sweep")
    assert running.stdout is not None
    running.stdout.readline()  # it is about to begin
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (-signal.SIGINT, "Stopped before it was done.\n")
    assert not (tmp_path / "sweep").exists()


def test_what_is_typed_for_a_configuration() -> None:
    assert as_typed(Config()) == []
    assert as_typed(Config(model="mlp", nesterov=False, flip_test=True, weight_decay=5e-4), lr=0.02) == (
        ["--model", "mlp", "--lr", "0.02", "--no-nesterov", "--weight-decay", "0.0005", "--flip-test"]
    )


# ---- lines on drawings


def test_a_dashed_line_has_gaps_in_both_pictures() -> None:
    line = Line(((0, 5), (10, 5), (10, 15)), "#000000", 1, (4, 2))
    assert list(_strokes(line)) == [
        [(0, 5), (4, 5)],
        [(6, 5), (10, 5)],
        [(10, 7), (10, 11)],
        [(10, 13), (10, 15)],
    ]
    assert list(_strokes(dataclasses.replace(line, dash=()))) == [[(0, 5), (10, 5), (10, 15)]]
    drawing = Drawing(20, 20, "lines", [line])
    assert 'stroke-dasharray="4 2"' in drawing.svg()
    assert drawing.png() != Drawing(20, 20, "lines", [dataclasses.replace(line, dash=())]).png()
