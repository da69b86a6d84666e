"""Snapshots of a training: at which steps, of what; they change nothing, and interruptions leave the same ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule import UserError, nn
from chainrule.formats import load_safetensors, save_safetensors
from chainrule.train import RunFolder, Stopped, Trainer, snapshots
from chainrule.train.snapshots import Snapshots, kept_steps, read_snapshot, snapshot_steps
from test_health_recording import trained, trainer_in
from test_train_run import Stopper


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "snapshots").iterdir())}


def test_steps_are_close_together_at_first() -> None:
    assert snapshot_steps(8) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    steps = snapshot_steps(4690)
    assert (len(steps), steps[0], steps[1], steps[-1]) == (20, 0, 13, 4690)
    assert all(later > earlier for earlier, later in zip(np.diff(steps), np.diff(steps)[1:], strict=False))
    assert snapshot_steps(1) == [0, 1]


def test_a_training_leaves_its_weights_at_these_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer_in(tmp_path / "run", monkeypatch)
    states = {0: made.model.state_dict()}

    class Looks(Stopper):
        def on_step(self, report: Any) -> None:
            states[report.step] = made.model.state_dict()

    made.train(Looks())
    folder = tmp_path / "run/snapshots"
    assert kept_steps(folder) == snapshot_steps(8)
    for step in kept_steps(folder):
        found = read_snapshot(folder, step)
        assert found.whole
        assert set(found.values) == set(states[step])
        for name, value in states[step].items():
            np.testing.assert_array_equal(found.values[name], value)


def test_without_health_there_are_none_and_the_weights_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, recorded = trained(tmp_path / "recorded", monkeypatch)
    _, plain = trained(tmp_path / "plain", monkeypatch, health=False)
    assert recorded == plain
    assert not (tmp_path / "plain/snapshots").exists()
    assert kept_steps(tmp_path / "plain/snapshots") == []


@pytest.mark.parametrize("stops", [[1], [3, 2], [8]], ids=str)
def test_an_interrupted_training_leaves_the_same_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: list[int]
) -> None:
    trained(tmp_path / "whole", monkeypatch)
    made = trainer_in(tmp_path / "run", monkeypatch)
    for stop in stops:
        with pytest.raises(Stopped):
            made.train(Stopper(stop))
        made = Trainer(RunFolder.open(tmp_path / "run"), training=made.loader.dataset, test=made.test_loader.dataset)
        made.resume()
    made.train(Stopper())
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_a_killed_training_repeats_what_it_had_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path / "whole", monkeypatch)
    for kept in (0, 2):
        folder = tmp_path / f"run{kept}"
        made = trainer_in(folder, monkeypatch, checkpoint_every=kept or 1000)

        class Killed(Stopper):
            def on_step(self, report: Any) -> None:
                if report.step == 3:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            made.train(Killed(None))
        assert kept_steps(folder / "snapshots") == [0, 1, 2, 3]
        unfinished = folder / "snapshots" / ".000000004.safetensors.999999999.tmp"
        unfinished.write_bytes(b"half")
        again = Trainer(RunFolder.open(folder), training=made.loader.dataset, test=made.test_loader.dataset)
        again.resume()
        assert kept_steps(folder / "snapshots") == ([0, 1, 2] if kept else [])
        again.train(Stopper())
        assert content(folder) == content(tmp_path / "whole")


def test_of_a_large_network_the_smallest_parts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MOST_BYTES", 20 * 4 * 100)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(100, 10), nn.Linear(10, 3))
    taking = Snapshots(tmp_path / "snapshots", model, 1)
    taking.begun(0)
    assert not (tmp_path / "snapshots").exists(), "nothing is written before the first step is done"
    taking.ended(1)
    found = read_snapshot(tmp_path / "snapshots", 1)
    assert sorted(found.values) == ["0.bias", "0.weight", "2.bias", "3.bias", "3.weight"]
    assert not found.whole
    assert kept_steps(tmp_path / "snapshots") == [0, 1]
    assert repr(taking) == f"<Snapshots in {tmp_path / 'snapshots'} at 2 steps>"


def test_snapshots_that_are_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"there is no snapshot of step 3 in .*: there are none: it was trained with --no-health"
    ):
        read_snapshot(tmp_path, 3)
    taking = Snapshots(tmp_path, nn.Linear(2, 2), 1)
    taking.begun(0)
    taking.ended(1)
    with pytest.raises(UserError, match=r"there is no snapshot of step 3 in .*: there are 0, 1"):
        read_snapshot(tmp_path, 3)
    one = tmp_path / "000000001.safetensors"
    one.rename(tmp_path / "000000002.safetensors")
    with pytest.raises(UserError, match=r"000000002.safetensors is of step 1: it was renamed"):
        read_snapshot(tmp_path, 2)
    values, _ = load_safetensors(tmp_path / "000000000.safetensors")
    save_safetensors(one, values, {"chainrule": '{"format": "chainrule snapshot 1", "step": -1, "all": "yes"}'})
    with pytest.raises(UserError, match="step must be a whole number of at least 0, got -1: it was edited or damaged"):
        read_snapshot(tmp_path, 1)
    save_safetensors(one, values)
    with pytest.raises(UserError, match="is a safetensors file, but no snapshot that chainrule wrote"):
        read_snapshot(tmp_path, 1)
    flipped = bytearray((tmp_path / "000000000.safetensors").read_bytes())
    flipped[-3] ^= 1
    (tmp_path / "000000000.safetensors").write_bytes(flipped)
    with pytest.raises(UserError, match="is damaged: its checksum says"):
        read_snapshot(tmp_path, 0)
