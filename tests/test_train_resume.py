"""A run that is stopped or killed, however often, ends as if nothing had happened: bit for bit."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from running import FILES, TYPED, idx_folder, metrics, outcome, process, tensors
from systems import whole_file_needs

whole_file_needs("signals")

EPOCHS, PER_EPOCH = 3, 38  # 600 images in batches of 16, the last one of 8
STEPS = EPOCHS * PER_EPOCH


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    idx_folder(folder / "digits", training=600, test=100, classes=10, shape=(28, 28))
    return folder


def training(folder: Path, out: str) -> list[str]:
    """Momentum, a schedule and augmentation: all that a checkpoint holds matters."""
    options = ["--batch-size", "16", "--epochs", str(EPOCHS), "--checkpoint-every", "3", "--lr", "0.05", "--seed", "3"]
    return ["train", "--data", str(folder / "digits"), *options, "--out", str(folder / out)]


@pytest.fixture(scope="module")
def uninterrupted(place: Path) -> dict[str, Any]:
    """What the run leaves behind that is never interrupted."""
    running = process(*training(place, "whole"))
    _, err = running.communicate()
    assert (running.returncode, err) == (0, "")
    found = outcome(place / "whole")
    assert found["files"] == FILES
    assert [row["step"] for row in found["metrics"] if row["kind"] == "train"] == list(range(1, STEPS + 1))
    assert [row["epoch"] for row in found["metrics"] if row["kind"] == "test"] == list(range(1, EPOCHS + 1))
    return found


def steps_done(run: Path) -> int:
    """Rows of metrics so far: a step adds one here."""
    try:
        return (run / "metrics.jsonl").read_bytes().count(b'"kind": "train"')
    except FileNotFoundError:
        return 0


def wait_for_step(running: subprocess.Popen[str], run: Path, step: int) -> None:
    deadline = time.monotonic() + 60
    while steps_done(run) < step and running.poll() is None:
        assert time.monotonic() < deadline, f"step {step} was never reached"
        time.sleep(0.003)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_saves_and_says_how_to_resume(number: signal.Signals, place: Path, uninterrupted: dict[str, Any]) -> None:
    run = place / f"stopped by {number.name}"
    running = process(*training(place, run.name))
    wait_for_step(running, run, 50)
    running.send_signal(number)
    out, err = running.communicate()
    assert running.returncode == -number
    assert f"Resume with: {TYPED} train --resume '{run}'" in err
    stopped = next(line for line in err.splitlines() if line.startswith("Stopped after step "))
    assert stopped.endswith(f" of {STEPS}; everything is saved.")
    rows = [row["step"] for row in metrics(run) if row["kind"] == "train"]
    assert rows == list(range(1, int(stopped.split()[3]) + 1)), "the step was finished, and it was the last one"
    assert len(rows) < STEPS

    resumed = process("train", "--resume", run)
    out, err = resumed.communicate()
    assert (resumed.returncode, err) == (0, "")
    assert f"resuming after step {rows[-1]} of {STEPS}" in out
    table = out[out.index("\nEpochs") :].splitlines()[3:]
    assert [line.split()[0] for line in table[:EPOCHS]] == ["1", "2", "3"], "the epochs before the interruption are there too"
    assert outcome(run) == uninterrupted


def test_a_second_ctrl_c_ends_at_once(place: Path, uninterrupted: dict[str, Any]) -> None:
    run = place / "stopped twice"
    running = process(*training(place, run.name))
    wait_for_step(running, run, 20)
    while running.poll() is None:  # an impatient person
        running.send_signal(signal.SIGINT)
        time.sleep(0.0002)
    out, err = running.communicate()
    assert (running.returncode, out.count("Stopped")) == (-signal.SIGINT, 0)
    assert f"Resume with: {TYPED} train --resume" in err
    resumed = process("train", "--resume", run)
    assert resumed.communicate()[1] == ""
    assert outcome(run) == uninterrupted


def test_ctrl_c_while_it_starts_leaves_nothing_behind(place: Path) -> None:
    running = process(*training(place, "never"))
    time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    running.communicate()
    assert running.returncode != 0  # perhaps Python's own, before anything of chainrule is there
    assert not (place / "never").exists()


def test_kill_9_at_any_moment_changes_nothing(place: Path, uninterrupted: dict[str, Any]) -> None:
    """Kills while it starts, at 16 places spread over the steps and epochs, while it ends, and after its end."""
    chance = random.Random(7)
    run = place / "killed"
    targets = [-1, -1, *(round(STEPS * (i + chance.random()) / 16) for i in range(16)), *[STEPS] * 4, -1, -1]
    kills = 0
    seen = set()
    begin = time.monotonic()
    for target in targets:
        before = steps_done(run)
        running = process(*(["train", "--resume", run] if run.exists() else training(place, run.name)))
        if target < 0 or before >= STEPS:
            time.sleep(chance.uniform(0, 0.5))  # anywhere in the start, or in what is left to do
        else:
            wait_for_step(running, run, target)
            time.sleep(chance.uniform(0, 0.15 if target == STEPS else 0.02))
        running.kill()
        _, err = running.communicate()
        assert running.returncode in (0, -signal.SIGKILL), err
        kills += running.returncode == -signal.SIGKILL
        seen.add(steps_done(run) // 10)
        if (run / "checkpoint.safetensors").exists():
            tensors(run / "checkpoint.safetensors")  # whole, whatever happened
    while kills < 20:
        running = process("train", "--resume", run)
        time.sleep(chance.uniform(0, 0.2))
        running.kill()
        running.communicate()
        kills += running.returncode == -signal.SIGKILL
        assert time.monotonic() - begin < 120
    assert len(seen) >= 5, f"the kills were not spread over the run: {sorted(seen)}"

    last = process("train", "--resume", run)
    _, err = last.communicate()
    assert (last.returncode, err) == (0, "")
    assert outcome(run) == uninterrupted
    assert [path.name for path in place.iterdir() if path.name.startswith(".killed")] == []


def test_unfinished_files_of_killed_runs_are_removed(place: Path, uninterrupted: dict[str, Any]) -> None:
    run = place / "littered"
    running = process(*training(place, run.name))
    wait_for_step(running, run, 5)
    running.kill()
    running.communicate()
    litter = run / f".checkpoint.safetensors.{running.pid}.tmp"
    litter.write_bytes(b"half a file")
    mine = run / ".notes.tmp"
    mine.write_text("the user's own")
    resumed = process("train", "--resume", run)
    resumed.communicate()
    assert not litter.exists()
    assert mine.read_text() == "the user's own"
    mine.unlink()
    assert outcome(run) == uninterrupted
