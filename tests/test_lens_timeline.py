"""The slider over the steps of a run: filters and passes as they were then, against the arrays of the snapshots."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from chainrule.lens.server import timeline
from chainrule.lens.server.subject import Subject
from chainrule.lens.tracing import Tracer
from chainrule.train import RunFolder, model_of_run
from chainrule.train.snapshots import kept_steps, read_snapshot
from lens_server import Lens, served


def test_the_steps_that_can_be_looked_back_at(trained_lens: Lens, trained_run: Path) -> None:
    said = trained_lens.get("/api/time")
    assert said["steps"] == kept_steps(trained_run / "snapshots")
    assert len(said["steps"]) > 5
    assert said["whole"] is True
    assert sorted(said["parameters"]) == ["0.weight", "11.weight", "3.weight", "7.weight", "9.weight"]
    assert trained_lens.get("/api/meta")["can"]["time"] is True


def test_filters_as_they_were(trained_lens: Lens, trained_run: Path) -> None:
    shown = []
    for step in kept_steps(trained_run / "snapshots"):
        answer = trained_lens.ask(f"/api/time/filters?step={step}&name=0.weight")
        np.testing.assert_array_equal(answer.tensor, read_snapshot(trained_run / "snapshots", step).values["0.weight"])
        assert answer.described["after"] == step
        shown.append(answer.body)
    assert len(set(shown)) == len(shown), "each step changes them"
    np.testing.assert_array_equal(answer.tensor, trained_lens.tensor("/api/filters?name=0.weight"))
    templates = trained_lens.tensor("/api/time/filters?step=0&name=7.weight")
    assert templates.shape == trained_lens.tensor("/api/filters?name=7.weight").shape
    assert templates.ndim == 4


def test_a_pass_through_the_network_as_it_was(trained_lens: Lens, trained_run: Path) -> None:
    folder, now = RunFolder.open(trained_run), trained_lens.post("/api/trace", {"index": 2}).json
    steps = kept_steps(folder.snapshots)
    first, last = (trained_lens.post("/api/time/trace", {"step": step, "index": 2}).json for step in (steps[0], steps[-1]))
    assert last["loss"] == now["loss"]
    assert first["loss"] != now["loss"]
    trained = model_of_run(folder)
    trained.model.load_state_dict(read_snapshot(folder.snapshots, 0).values)
    ours = Tracer(trained).trace(*trained_lens.subject.dataset[2])
    assert first["loss"] == ours.loss
    number = next(row.index for row in ours.explanation.rows if row.operation == "conv2d")
    theirs = trained_lens.tensor(f"/api/trace/{first['trace']}/tensor?node={number}&which=upstream")
    np.testing.assert_array_equal(theirs, ours.tensor(number, "upstream"))
    assert trained_lens.post("/api/trace", {"index": 2}).json["loss"] == now["loss"], "the run's model is what it was"


def test_what_cannot_be_looked_back_at(trained_lens: Lens, shipped_lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Nothing is known of how the LeNet that ships with chainrule was trained." in shipped_lens.refused("/api/time", 404)
    assert "no snapshot of step 123456" in trained_lens.refused("/api/time/filters?step=123456&name=0.weight")
    assert "0.wait is not kept at each step." in trained_lens.refused("/api/time/filters?step=0&name=0.wait", 404)
    assert "0.bias is [6], a number for each unit" in trained_lens.refused("/api/time/filters?step=0&name=0.bias")
    assert "step must be a whole number from 0 on, not missing" in trained_lens.refused("/api/time/filters?name=0.weight")
    answer = trained_lens.post("/api/time/trace", {"index": 0})
    assert (answer.status, answer.json["error"]) == (400, "step is missing.")
    monkeypatch.setattr(
        timeline, "read_snapshot", lambda folder, step: dataclasses.replace(read_snapshot(folder, step), whole=False)
    )
    answer = trained_lens.post("/api/time/trace", {"step": 0, "index": 0})
    assert answer.status == 409
    assert "only the smallest parameters are kept at each step" in answer.json["error"]
    assert trained_lens.get("/api/time")["whole"] is False


def test_a_damaged_snapshot_is_left_out_and_named(trained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    folder = tmp_path / "run" / "snapshots"
    steps = kept_steps(folder)
    files = sorted(folder.iterdir())
    assert len(files) == len(steps)
    for file in (files[1], files[-1]):
        file.write_bytes(file.read_bytes()[:-9])
    with served(Subject.of_run(RunFolder.open(tmp_path / "run"))) as lens:
        said = lens.get("/api/time")
    lost = set(steps) - set(said["steps"])
    assert said["damaged"] == sorted(lost)
    assert len(lost) == 2
    assert said["whole"] is True
    assert "0.weight" in said["parameters"]
