"""health.bin: what is written comes back, while it grows, after a step back, and never with a flipped bit."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from chainrule import UserError
from chainrule.errors import InternalError
from chainrule.train import Config, RunFolder
from chainrule.train.diagnosis.health_record import (
    HealthFile,
    Plan,
    census_interval,
    is_sampled,
    read_health,
    sampling_interval,
)
from recordings import Recording, plan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "health.bin"


def sample(file: HealthFile, step: int, value: float) -> None:
    """Append a sample whose numbers are ``value`` and what comes after it."""
    layers, parameters = len(file.plan.layers), len(file.plan.parameters)
    file.append_sample(
        step,
        value,
        activation=np.full(layers, value),
        zeros=np.full(layers, value + 1),
        gradient=np.full(layers, np.nan),
        weight=np.full(parameters, value + 3),
        parameter_gradient=np.full(parameters, value + 4),
        update=np.full(parameters, value + 5),
    )


def census(file: HealthFile, epoch: int, step: int, value: int) -> None:
    """Append a census whose numbers are ``value`` and what comes after it."""
    channels = file.plan.channels
    file.append_census(
        epoch, step, alive=np.full(channels, value), bias=np.full(channels, np.nan), weight=np.arange(channels) + value
    )


def recorded(path: Path) -> HealthFile:
    """A file with samples 1, 2, 4 and 25, and censuses before the first step and at step 4."""
    file = HealthFile(path, plan(100))
    census(file, 0, 0, 0)
    for step in (1, 2, 4):
        sample(file, step, step)
    census(file, 1, 4, 3)
    sample(file, 25, 25)
    return file


# ---- when


def test_samples_are_few_and_dense_at_the_beginning() -> None:
    assert [step for step in range(1, 130) if is_sampled(step, 25)] == [1, 2, 4, 8, 16, 25, 50, 75, 100, 125]
    intervals = {1: 25, 779: 25, 780: 26, 2_814: 93, 3_000: 100, 30_000: 100, 30_001: 101, 9_000_000: 30_000}
    for steps, every in intervals.items():
        assert sampling_interval(steps) == every
        assert len(range(every, steps + 1, every)) <= 300


def test_censuses_are_few_and_small() -> None:
    assert census_interval(2, 1_000) == census_interval(100, 1_000) == 1
    assert census_interval(101, 1_000) == 2
    assert 16 * 60_000 * (200 // census_interval(200, 60_000)) <= 16 << 20
    assert census_interval(200, 1 << 24) == 100


# ---- what is written comes back


def test_what_is_written_comes_back(path: Path) -> None:
    file = recorded(path)
    file.flush()
    assert repr(file) == f"<HealthFile {path}: every 25 of 100 steps>"
    found = read_health(path)
    assert found.plan.header() == file.plan.header()
    assert found.flow.steps.tolist() == [1, 2, 4, 25]
    assert found.flow.losses.tolist() == [1, 2, 4, 25]
    assert found.flow.activation.dtype == np.float32
    assert found.flow.activation.tolist() == [[step] * 5 for step in (1, 2, 4, 25)]
    assert found.flow.zeros[3].tolist() == [26] * 5
    assert np.isnan(found.flow.gradient).all()
    assert found.flow.weight.shape == (4, 6)
    assert [array[1, 2] for array in (found.flow.weight, found.flow.parameter_gradient, found.flow.update)] == [5, 6, 7]
    assert found.census.epochs.tolist() == [0, 1]
    assert found.census.steps.tolist() == [0, 4]
    assert found.census.alive.tolist() == [[0] * 16, [3] * 16]
    assert found.census.weight[1].tolist() == list(range(3, 19))
    assert np.isnan(found.census.bias).all()


@pytest.mark.parametrize("left_out", ["layers", "parameters", "units", "all"])
def test_a_network_without_rows_of_a_kind(path: Path, left_out: str) -> None:
    whole = plan(100)
    rows = {name: () if left_out in (name, "all") else getattr(whole, name) for name in ("layers", "parameters", "units")}
    file = HealthFile(path, Plan(**rows, every=25, steps=100))
    census(file, 0, 0, 0)
    sample(file, 1, 1)
    found = read_health(path)
    assert found.flow.activation.shape == (1, len(rows["layers"]))
    assert found.census.alive.shape == (1, file.plan.channels)


def test_a_file_that_grows_is_read_as_far_as_it_is_whole(path: Path) -> None:
    recorded(path)
    content = path.read_bytes()
    lengths = set()
    begin = content.index(b"\n") + 1
    for end in range(begin, len(content)):
        path.write_bytes(content[:end])
        found = read_health(path)
        lengths.add((len(found.flow.steps), len(found.census.epochs)))
    assert lengths == {(0, 0), (0, 1), (1, 1), (2, 1), (3, 1), (3, 2)}


def test_each_flipped_bit_is_noticed(path: Path) -> None:
    recorded(path)
    content = bytearray(path.read_bytes())
    places = {*range(0, len(content), 7), *range(content.index(b"\n") + 100)}
    for place in sorted(places):
        bit = 1 << place % 8
        content[place] ^= bit
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=r"put another copy in its place, or delete it|read it with the chainrule that wrote"
        ):
            read_health(path)
        content[place] ^= bit
    content[-40] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"health\.bin, record 6, is damaged, as its checksum is not that of its numbers: put "):
        read_health(path)


def test_what_is_no_recording_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match=r"health\.bin cannot be read \(No such file"):
        read_health(path)
    for content in (
        b"",
        b"\n",
        b"[]\n",
        b"{}\n",
        b'{"format": 1}\n',
        b"\xff\n",
        b'{"format": "chainrule capsule 1"}\n',
        b"[" * 9999,
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is no recording of a training's health"):
            read_health(path)
    path.write_bytes(b'{"format": "chainrule health 2"}\n')
    with pytest.raises(UserError, match=r"is a 'chainrule health 2', expected a 'chainrule health 1': read it with the"):
        read_health(path)
    header = plan().header()
    for old, new, what in (
        (b'"every": 25', b'"every": 0', "its checksum is not that of its plan"),
        (b'"channels": 8', b'"channels": 99999999', "its checksum is not that of its plan"),
        (b'"relu2"', b'"relu3"', "its checksum is not that of its plan"),
        (b'"layers": [', b'"layers": {', "its first line is damaged: put"),
        (b'"format"', b'"fo2mat"', "its first line is damaged: put"),
    ):
        assert old in header
        path.write_bytes(header.replace(old, new))
        with pytest.raises(UserError, match=what) as refusal:
            read_health(path)
        assert len(str(refusal.value)) < 300, "its layers are not told"
    wrong = dataclasses.replace(plan(), every=0)
    path.write_bytes(wrong.header())
    with pytest.raises(UserError, match="every must be a whole number of at least 1, got 0"):
        read_health(path)
    many = dataclasses.replace(plan(), units=[dataclasses.replace(plan().units[0], channels=1 << 24)] * 2)
    path.write_bytes(many.header())
    with pytest.raises(UserError, match="it tells of more than 16,777,216 units"):
        read_health(path)


def test_what_lies_before_a_damaged_record_can_be_read(path: Path) -> None:
    recorded(path)
    content = bytearray(path.read_bytes())
    content[-40] ^= 4
    path.write_bytes(content)
    found = read_health(path, up_to_damage=True)
    assert "record 6, is damaged" in found.damage
    assert (len(found.flow.steps), len(found.census.epochs)) == (3, 2)


def test_steps_that_do_not_grow_are_refused(path: Path) -> None:
    file = recorded(path)
    with pytest.raises(InternalError, match="FLOW 25 comes after that of 25"):
        sample(file, 25, 0)
    with pytest.raises(InternalError, match="UNIT 1 comes after"):
        census(file, 1, 5, 0)
    content, size = path.read_bytes(), file.plan.flow_type.itemsize
    path.write_bytes(content + content[-size:])
    with pytest.raises(UserError, match="record 7, is damaged, as it is of step 25, and does not follow those before it"):
        read_health(path)


# ---- going back


@pytest.mark.parametrize(("step", "samples", "epochs"), [(0, 0, 1), (1, 1, 1), (3, 2, 1), (4, 3, 2), (24, 3, 2), (25, 4, 2)])
def test_going_back_drops_what_came_later(path: Path, step: int, samples: int, epochs: int) -> None:
    recorded(path)
    file = HealthFile(path, plan(100))
    file.rewind(step)
    found = read_health(path)
    assert (len(found.flow.steps), len(found.census.epochs)) == (samples, epochs)
    sample(file, 50, 7)
    assert read_health(path).flow.steps.tolist() == [*[1, 2, 4, 25][:samples], 50]


def test_a_file_is_gone_on_with(path: Path) -> None:
    file = HealthFile(path, plan(100))
    file.rewind(0)
    file.flush()
    assert not path.exists()
    recorded(path)
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    sample(HealthFile(path, plan(100)), 50, 2)
    assert read_health(path).flow.steps.tolist() == [1, 2, 4, 50]
    path.unlink()
    file = recorded(path)
    path.unlink()
    sample(file, 50, 2)
    assert read_health(path).flow.steps.tolist() == [50]


def test_going_back_over_damage(path: Path) -> None:
    recorded(path)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(300))  # as a crash of the system may leave it
    HealthFile(path, plan(100)).rewind(30)
    assert path.read_bytes() == whole
    with open(path, "r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"????")
    HealthFile(path, plan(100)).rewind(7)
    assert read_health(path).flow.steps.tolist() == [1, 2, 4]
    path.write_bytes(whole[:-40] + b"????" + whole[-36:])
    with pytest.raises(UserError, match="record 6, is damaged"):
        HealthFile(path, plan(100)).rewind(25)
    with pytest.raises(UserError, match="is the recording of another training, or of another chainrule: put another copy"):
        HealthFile(path, plan(101)).rewind(25)


def test_the_folder_of_a_run_knows_it(tmp_path: Path) -> None:
    run = RunFolder.new(tmp_path / "run", Config())
    run.make()
    assert run.health == tmp_path / "run" / "health.bin"
    Recording().write(run.health)
    found = read_health(run.health)
    assert found.flow.steps[-1] == 1000
    assert found.census.epochs.tolist() == [0, 1, 2, 3, 4]
    run.lock.release()
