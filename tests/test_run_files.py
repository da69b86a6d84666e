"""The files of a run in hostile hands: single bits that flip, fields that are wrong, several processes at one folder."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from chainrule.errors import ChainruleWarning, UserError
from chainrule.formats import load_safetensors, locks, save_safetensors
from chainrule.formats.locks import FileLock
from chainrule.models import MODELS
from chainrule.train import Config, RunFolder, Trainer, model_of_run, open_datasets
from chainrule.train.checkpoint import load_checkpoint, load_model, model_description, save_model
from running import idx_folder, outcome, process, refused
from systems import needs

FLIPS = 500


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set, and a run over it that stopped in its second epoch."""
    folder = tmp_path_factory.mktemp("place")
    idx_folder(folder / "patterns", training=48, test=16)
    config = Config(model="mlp", data=str(folder / "patterns"), epochs=2, batch_size=8, seed=3)
    opened = open_datasets(config)
    run = RunFolder.new(folder / "run", config)
    run.make()
    trainer = Trainer(run, training=opened.training, test=opened.test)
    run.append_metrics(
        {"kind": "train", "step": 1, "epoch": 1, "images": 8, "loss": 1.5, "accuracy": 0.25, "lr": 0.1, "images_per_second": 9}
    )
    for images, labels in trainer.loader:
        trainer.step(images, labels)
    trainer.save()
    save_model(run.model, trainer.model, trainer.description)
    run.lock.release()
    return folder


def trainer_of(run: Path) -> Trainer:
    folder = RunFolder.open(run)
    opened = open_datasets(folder.config)
    return Trainer(folder, training=opened.training, test=opened.test)


def flips(content: bytes, seed: int) -> Iterator[bytes]:
    rng = np.random.default_rng(seed)
    for bit in rng.integers(0, 8 * len(content), FLIPS):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        yield bytes(damaged)


def held_against_flips(path: Path, read: Callable[[], Any]) -> None:
    """Whatever bit of ``path`` flips, ``read`` refuses it by a UserError, or gives what it gave before."""
    content, expected = path.read_bytes(), read()
    refusals = 0
    try:
        for damaged in flips(content, seed=len(content)):
            path.write_bytes(damaged)
            try:
                found = read()
            except UserError:
                refusals += 1
            else:
                assert found == expected, "something else was read, without a word"
    finally:
        path.write_bytes(content)
    assert refusals > FLIPS // 2


# ---- bits that flip


def test_a_checkpoint_with_any_flipped_bit_is_refused_or_the_same(place: Path) -> None:
    trainer = trainer_of(place / "run")
    path = place / "run" / "checkpoint.safetensors"

    def read() -> Any:
        progress = load_checkpoint(path, trainer.model, trainer.optimizer, trainer.run)
        state = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
        return progress, {name: np.asarray(value).tobytes() for name, value in state.items()}

    held_against_flips(path, read)


def test_a_model_with_any_flipped_bit_is_refused_or_the_same(place: Path) -> None:
    trained = model_of_run(RunFolder.open(place / "run"))
    path = place / "run" / "model.safetensors"

    def read() -> Any:
        facts = model_description(path)
        load_model(path, trained.model)
        return facts, {name: value.tobytes() for name, value in trained.model.state_dict().items()}

    held_against_flips(path, read)


def test_a_configuration_with_any_flipped_bit_is_refused_or_the_same(place: Path) -> None:
    held_against_flips(place / "run" / "config.json", lambda: RunFolder.open(place / "run").config.decisive)


def test_metrics_with_any_flipped_bit_are_refused_or_the_same(place: Path) -> None:
    folder = RunFolder.open(place / "run")
    size, checksum = folder.flush_metrics()

    def read() -> Any:
        folder.rewind(size, checksum)
        return folder.read_metrics()

    held_against_flips(folder.metrics, read)


def test_files_of_others_have_no_checksum_and_are_read(tmp_path: Path) -> None:
    save_file({"a": np.arange(3)}, str(tmp_path / "theirs"), metadata={"by": "others"})
    tensors, metadata = load_safetensors(tmp_path / "theirs")
    assert (tensors["a"].tolist(), metadata) == ([0, 1, 2], {"by": "others"})
    save_safetensors(tmp_path / "ours", {"a": np.arange(3)}, {"by": "us"})
    assert load_safetensors(tmp_path / "ours")[1] == {"by": "us"}
    with pytest.raises(UserError, match="the metadata cannot have 'checksum', which is added here: leave it out"):
        save_safetensors(tmp_path / "ours", {}, {"checksum": "mine"})


def test_a_flipped_bit_is_named_in_the_command(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    text = f"{path} is damaged: its checksum says that what it holds is not what was written; use another copy"
    assert refused("train", "--resume", tmp_path / "run") == text


# ---- fields that are wrong

WRONG: list[Any] = [None, True, -5, 1.5, float("nan"), 10**30, "x", "", [], [1], {}, {"a": 1}]


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in nested objects and lists."""
    if path:
        yield path
    members = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for name, member in members:
        yield from paths_of(member, (*path, name))


def with_value(facts: Any, path: tuple[str | int, ...], value: Any) -> Any:
    changed = copy.deepcopy(facts)
    holder = changed
    for name in path[:-1]:
        holder = holder[name]
    if value is paths_of:  # stands for: missing
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return changed


@pytest.mark.parametrize("kind", ["checkpoint", "model"])
def test_every_field_is_checked_before_anything_is_used(kind: str, place: Path, tmp_path: Path) -> None:
    """Missing, or of any wrong type or range: one UserError that names the file. What passes is what may be there."""
    trainer = trainer_of(place / "run")
    source = place / "run" / f"{kind}.safetensors"
    tensors, metadata = load_safetensors(source)
    facts, path = json.loads(metadata["chainrule"]), tmp_path / "file"
    load_checkpoint(place / "run" / "checkpoint.safetensors", trainer.model, trainer.optimizer, trainer.run)
    before = {name: value.copy() for name, value in trainer.model.state_dict().items()}
    tried = 0
    for where in paths_of(facts):
        for wrong in (paths_of, *WRONG):
            changed = with_value(facts, where, wrong)
            if changed == facts:
                continue
            save_safetensors(path, tensors, {"chainrule": json.dumps(changed)})
            tried += 1
            refusal = None
            try:
                if kind == "model":
                    model_description(path)
                else:
                    load_checkpoint(path, trainer.model, trainer.optimizer, trainer.run)
            except UserError as error:
                refusal = str(error)
            if refusal is not None:
                assert str(path) in refusal
                for name, value in trainer.model.state_dict().items():
                    np.testing.assert_array_equal(value, before[name])
            else:
                assert where == ("best", "loss") or (where[0], type(wrong)) in {
                    *(
                        ("step", int),
                        ("seconds", int),
                        ("seconds", float),
                        ("waiting_seconds", int),
                        ("waiting_seconds", float),
                        ("skipped", list),  # one step, which may be
                        ("metrics_size", int),
                        ("metrics_checksum", str),
                    ),
                    *(("epoch", int), ("epoch", float), ("row", int), ("row", float), ("cursor", int), ("cursor", type(None))),
                    *(("mean", float), ("mean", int), ("std", float), ("std", int), ("classes", str), ("image_shape", int)),
                    *(("mean", list), ("std", list)),  # one other number
                    ("classes", type(paths_of)),  # fewer classes, which the weights tell
                }, f"{where} = {wrong!r} was accepted"
    assert tried > 100


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"step": -5}, "step must be a whole number of at least 0, got -5"),
        ({"seconds": "x"}, "seconds must be a finite number of at least 0, got 'x'"),
        ({"cursor": 5}, "cursor must be an object, got 5"),
        ({"cursor": {"seed": 3, "epoch": 0}}, "cursor.batch is missing"),
        ({"epoch": {"loss": 1.0, "correct": 9, "images": 8}}, "epoch.correct is 9, more than epoch.images, 8"),
        ({"cursor": None}, "cursor is null at step 6"),
        ({"more": 1}, "more is nothing that it should say"),
    ],
)
def test_what_is_said_of_a_wrong_field_of_a_checkpoint(change: dict[str, Any], text: str, place: Path, tmp_path: Path) -> None:
    trainer = trainer_of(place / "run")
    tensors, metadata = load_safetensors(place / "run" / "checkpoint.safetensors")
    path = tmp_path / "file"
    save_safetensors(path, tensors, {"chainrule": json.dumps(json.loads(metadata["chainrule"]) | change)})
    with pytest.raises(UserError) as caught:
        load_checkpoint(path, trainer.model, trainer.optimizer, trainer.run)
    assert str(caught.value) == f"checkpoint {path}: {text}: it was edited or damaged; use another copy"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"image_shape": None}, "image_shape must be a list of 3 whole numbers of at least 1, got None"),
        ({"image_shape": [1, 0, 12]}, "image_shape must be a list of 3 whole numbers of at least 1, got [1, 0, 12]"),
        ({"classes": ["a", "a"]}, "classes must be a list without anything twice, got ['a', 'a']"),
        ({"std": [0.0]}, "std must be a list of at least 1 numbers above 0, got [0.0]"),
        ({"mean": [0.1, 0.2]}, "mean has 2 numbers, image_shape has 1 channels"),
        ({"model": "lenett"}, f"model must be one of {', '.join(sorted(MODELS))}, or FILE.py:FUNCTION, got 'lenett'"),
        ({"model_digest": "x"}, "model_digest must be a SHA-256 in hexadecimal digits, or empty, got 'x'"),
        ({"dtype": "float16"}, "dtype must be one of float32, float64, got 'float16'"),
    ],
)
def test_what_is_said_of_a_wrong_field_of_a_model(change: dict[str, Any], text: str, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    path = tmp_path / "run" / "model.safetensors"
    tensors, metadata = load_safetensors(path)
    save_safetensors(path, tensors, {"chainrule": json.dumps(json.loads(metadata["chainrule"]) | change)})
    assert refused("predict", tmp_path / "run", "a.png") == f"model {path}: {text}: it was edited or damaged; use another copy"


def test_a_cursor_and_a_step_of_different_runs_are_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.safetensors"
    tensors, metadata = load_safetensors(path)
    for change in (
        {"step": 7},
        {"cursor": {"seed": 3, "epoch": 0, "batch": 3}},
        {"cursor": {"seed": 4, "epoch": 1, "batch": 0}},
    ):
        save_safetensors(path, tensors, {"chainrule": json.dumps(json.loads(metadata["chainrule"]) | change)})
        with pytest.raises(UserError, match="are not of one run with 6 steps an epoch: it was edited or damaged"):
            trainer_of(tmp_path / "run").resume()


# ---- several processes


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.01)


@needs("signals")
def test_two_resumes_at_once_are_one_and_a_refusal(place: Path, tmp_path: Path) -> None:
    """The second is told which process has the run; the first goes on as if it were alone, also after a kill of its holder."""
    run, alone = tmp_path / "run", tmp_path / "alone"
    options = ["--data", place / "patterns", "--model", "mlp", "--epochs", 80, "--batch-size", 8, "--checkpoint-every", 20]
    holder = process("train", *options, "--out", run)
    try:
        wait_for(run / "checkpoint.safetensors")
        expected = f"the run {run} is in use by process {holder.pid}: wait until that has ended, or end it first"
        assert refused("train", "--resume", run) == expected
        assert holder.poll() is None, "it ended too soon to prove anything"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    resumed = process("train", "--resume", run)
    out, err = resumed.communicate()
    assert (resumed.returncode, err) == (0, ""), out
    whole = process("train", *options, "--out", alone)
    assert whole.communicate()[1] == ""
    assert outcome(run) == outcome(alone)
    assert not (run / ".lock").exists()


def test_runs_without_a_name_that_start_at_once_take_one_number_each(place: Path, tmp_path: Path) -> None:
    options = ["--data", place / "patterns", "--model", "mlp", "--epochs", 1, "--batch-size", 8]
    running = [process("train", *options, cwd=tmp_path) for _ in range(4)]
    for one in running:
        out, err = one.communicate()
        assert (one.returncode, err) == (0, ""), out
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [f"mlp-patterns-{number}" for number in range(1, 5)]


def test_a_folder_that_another_made_first_gives_the_next_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config(model="mlp")
    first, second = RunFolder.numbered(config), RunFolder.numbered(config)
    first.make()
    second.make()
    assert (first.path, second.path) == (Path("runs/mlp-mnist-1"), Path("runs/mlp-mnist-2"))
    assert second.checkpoint.parent == second.path
    named, taken = RunFolder.new("runs/named", config), RunFolder.new("runs/named", config)
    named.make()
    with pytest.raises(UserError, match="the output folder runs/named exists already: continue it with --resume runs/named"):
        taken.make()


# ---- the lock


def test_a_lock_is_one_processs_at_a_time(tmp_path: Path) -> None:
    mine, other = FileLock(tmp_path / "lock", "the thing"), FileLock(tmp_path / "lock", "the thing")
    mine.take()
    mine.take()
    assert (mine.held, other.held) == (True, False)
    with pytest.raises(UserError, match=f"^the thing is in use by process {os.getpid()}: wait until that has ended"):
        other.take()
    mine.release()
    other.take()
    assert (tmp_path / "lock").exists()
    other.release()
    other.release()
    assert not (tmp_path / "lock").exists()
    mine.take()
    del mine
    other.take()


def test_a_lock_that_was_removed_on_its_way_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the file and locking it, its owner may have released and removed it."""
    lock, usual, removed = FileLock(tmp_path / "lock", "the thing"), locks._lock, []

    def removing(file: Any) -> None:
        if not removed:
            (tmp_path / "lock").unlink()
            removed.append(True)
        usual(file)

    monkeypatch.setattr(locks, "_lock", removing)
    lock.take()
    other = FileLock(tmp_path / "lock", "the thing")
    with pytest.raises(UserError, match="the thing is in use"):
        other.take()


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(file: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks, "_lock", cannot)
    lock = FileLock(tmp_path / "lock", "the run here")
    with pytest.warns(ChainruleWarning, match=r"the run here cannot be locked on this file system \(No locks available\)"):
        lock.take()
    assert lock.held


def test_a_place_where_no_lock_can_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lock cannot be written"):
        FileLock(tmp_path / "nowhere" / "lock", "the run").take()
