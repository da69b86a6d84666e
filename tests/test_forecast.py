"""What a training takes is said before, and refused where it is too much; neither changes what is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.data import ArrayDataset, load_dataset
from chainrule.errors import UserError
from chainrule.tensor.engines import engine
from chainrule.train import Config, RunFolder, Trainer, forecast
from chainrule.train.forecast import Memory, Time, check_memory, check_time, memory_of, read_memory, read_time, time_of
from running import done, idx_folder, outcome, pictures, refused


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images of 12 x 12 in 4 classes; 20 to test on."""
    return idx_folder(tmp_path_factory.mktemp("forecast") / "patterns")


class Quiet:
    """Watches a training, and does nothing at all."""

    def on_step(self, *_: Any) -> None: ...
    def on_evaluation(self, *_: Any) -> None: ...
    def on_epoch(self, *_: Any) -> None: ...
    def on_findings(self, *_: Any) -> None: ...
    def on_remark(self, *_: Any) -> None: ...
    def should_stop(self) -> bool:
        return False


def trainer(tmp_path: Path, **options: Any) -> Trainer:
    training, test = (ArrayDataset(*pictures(count, 4, (12, 12)), list("abcd")) for count in (50, 20))
    config = Config(**{"model": "mlp", "batch_size": 16, "epochs": 2, **options})
    return Trainer(RunFolder(tmp_path / "run", config), training=training, test=test)


# ---- what people type


@pytest.mark.parametrize(
    ("written", "nbytes"),
    [("2GB", 2 * 10**9), ("500 MB", 500 * 10**6), ("1.5GiB", 1.5 * 2**30), ("10kb", 10_000), ("7", 7), ("3b", 3)],
)
def test_amounts_of_memory(written: str, nbytes: int) -> None:
    assert read_memory(written) == nbytes


@pytest.mark.parametrize("written", ["", "GB", "2 apples", "-1GB", "0", "0.1b", "1e9", "٣GB", "2GB!", "nan", "9" * 40])
def test_what_is_no_amount_of_memory(written: str) -> None:
    with pytest.raises(UserError) as error:
        read_memory(written)
    assert str(error.value) == (
        f"an amount of memory must be a number above 0 with its unit, such as 2GB or 500MB, got {written!r}"
    )


@pytest.mark.parametrize(
    ("written", "seconds"), [("30m", 1800), ("90s", 90), ("1h30m", 5400), ("0.5h", 1800), ("1h 2m 3s", 3723)]
)
def test_times(written: str, seconds: float) -> None:
    assert read_time(written) == seconds


@pytest.mark.parametrize("written", ["", "30", "m", "0s", "-5m", "30m1h", "5m5m", "1d", "1h30", "٣m", "inf"])
def test_what_is_no_time(written: str) -> None:
    with pytest.raises(UserError) as error:
        read_time(written)
    assert str(error.value) == (f"a time must be hours, minutes and seconds above 0, such as 2h, 30m or 1h30m, got {written!r}")


@given(st.text(max_size=8))
def test_whatever_is_typed_is_read_or_refused(written: str) -> None:
    for read in (read_memory, read_time):
        try:
            assert read(written) > 0
        except UserError:
            continue


# ---- memory


def test_memory_is_that_of_the_compiled_programs(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    memory = memory_of(made)
    plan = made.training_step.prepare(np.zeros((16, 1, 12, 12), np.float32), np.zeros(16, np.int64))
    assert plan is not None
    arena = max(row.offset + row.nbytes for row in plan.plan())
    weights = sum(one.size for one in made.model.parameters()) * 4
    assert memory.exact
    assert memory.arena == arena + arena * 2 // 16  # 50 images: the last batch has 2
    assert memory.weights == memory.optimizer == 4 * weights
    assert memory.data == (50 + 20) * 144 + 6 * 16 * 144 * 4
    assert memory.evaluation > 0
    assert memory_of(made, made.loader.dataset).data == memory.data
    assert memory_of(trainer(tmp_path, optimizer="adam", ema=0.9)).optimizer == 12 * weights
    assert memory_of(trainer(tmp_path, momentum=0.0)).optimizer == 0
    assert memory_of(trainer(tmp_path, freeze="1")).optimizer == 4 * (weights - 4 * (144 * 512 + 512))
    assert memory_of(trainer(tmp_path, batch_size=32)).arena > memory.arena


def test_without_native_code_memory_is_counted_from_the_layers(tmp_path: Path) -> None:
    with engine("reference"):
        memory = memory_of(trainer(tmp_path))
    assert not memory.exact
    assert memory.arena > 16 * 4 * (144 + 512 + 256 + 4)


def test_the_line_names_the_largest_parts_first() -> None:
    memory = Memory(arena=300_000_000, evaluation=100_000, weights=20_000_000, optimizer=30_000_000, data=10_000_000)
    assert memory.total == 500_100_000
    assert memory.sentence() == (
        "memory: about 500 MB (300 MB the steps, 140 MB Python, 30 MB the optimizer, 20 MB weights, 10 MB images)"
    )
    before = Memory(0, 0, 0, 0, 0, before=2_000_000_000)
    assert before.total == 2_000_000_000
    assert before.sentence() == "memory: about 140 MB (140 MB Python); reading took 2.0 GB"


def test_the_batch_size_that_is_proposed_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "_peak", lambda: 0)
    needed = {size: memory_of(trainer(tmp_path, model="lenet", batch_size=size)).total for size in (32, 16, 8)}
    large = trainer(tmp_path, model="lenet", batch_size=32)
    memory = memory_of(large)
    check_memory(large, memory, memory.total)
    with pytest.raises(UserError) as error:
        check_memory(large, memory, memory.total - 1)
    assert str(error.value) == (
        f"the training needs {memory.sentence().removeprefix('memory: ')}, and --max-memory allows "
        f"{forecast.size_text(memory.total - 1)}: --batch-size 16 would fit; a smaller network, or fewer or smaller images, "
        "would need less"
    )
    assert needed[16] <= memory.total - 1
    with pytest.raises(UserError, match="allows 100 MB: a smaller network, or fewer or smaller images, would need less"):
        check_memory(large, memory, 100_000_000)


# ---- time


def test_time_is_that_of_the_steps_and_the_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "_evaluation_seconds", lambda _: 1.5)
    found = time_of(trainer(tmp_path), [9.0, 0.5, 0.25])
    assert found == Time(images_per_second=32.0, epoch=50 / 32, evaluation=1.5, epochs=2)
    assert found.total == 2 * (50 / 32 + 1.5)
    assert forecast.sentence_of_time(found) == (
        "speed: 32 images/s; the whole training takes about 6.1 s, evaluations included"
    )


def test_an_evaluation_is_measured_without_moving_the_loader(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    cursor, weights = made.test_loader.cursor, made.model.state_dict()
    assert forecast._evaluation_seconds(made) > 0
    assert made.test_loader.cursor == cursor
    assert made.model.training
    for name, value in made.model.state_dict().items():
        assert (value == weights[name]).all()


def test_what_would_fit_into_the_time(tmp_path: Path) -> None:
    made = trainer(tmp_path, epochs=100)
    found = Time(images_per_second=10, epoch=5, evaluation=1, epochs=100)
    check_time(made, found, 600)
    for most, remedy in (
        (599.0, "allows 9 min 59 s: --epochs 99 would fit"),
        (6.0, "allows 6.0 s: --epochs 1 would fit"),
        (5.0, "allows 5.0 s: not even one epoch fits, but --epochs 1 --limit 40 would"),
        (1.0, "not even one epoch of a few images fits: a smaller network or smaller images would take less"),
    ):
        with pytest.raises(UserError) as error:
            check_time(made, found, most)
        assert str(error.value).startswith(
            "the training takes about 10 min 0 s (6.0 s for each of 100 epochs at 10 images/s), and --max-time "
        )
        assert str(error.value).endswith(remedy)
    assert [forecast._clock(seconds) for seconds in (0.44, 12, 3600, 7500)] == ["0.4 s", "12 s", "1 h 0 min", "2 h 5 min"]


# ---- the command


@pytest.mark.parametrize("batch", [8, 16, 48])
def test_limits_change_nothing_that_is_trained(batch: int, data: Path, tmp_path: Path) -> None:
    """Of epochs of 6, 3 and 1 steps, with dropout of nothing but order and shifts: all files are the same bits."""
    given = ("train", "--data", data, "--model", "mlp", "--epochs", 2, "--batch-size", batch, "--out")
    plain = done(*given, tmp_path / "plain")
    limited = done(*given, tmp_path / "limited", "--max-memory", "900GB", "--max-time", "2000h")
    assert outcome(tmp_path / "plain") == outcome(tmp_path / "limited")
    for out in (plain, limited):
        assert out.count("memory: about ") == 1
        assert out.count("; the whole training takes about ") == 1
    assert (tmp_path / "plain/config.json").read_text() == (tmp_path / "limited/config.json").read_text()


def test_a_measured_training_is_the_one_of_a_watcher_that_measures_nothing(data: Path, tmp_path: Path) -> None:
    done("train", "--data", data, "--epochs", 1, "--batch-size", 8, "--out", tmp_path / "measured")
    config = Config(data=str(data), epochs=1, batch_size=8)
    folder = RunFolder.new(tmp_path / "quiet", config)
    folder.make()
    made = Trainer(folder, training=load_dataset(str(data), "train"), test=load_dataset(str(data), "test"))
    made.train(Quiet())
    assert outcome(tmp_path / "measured") == outcome(tmp_path / "quiet")


def test_what_takes_too_much_leaves_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("train", "--data", data, "--model", "mlp", "--batch-size", 8, "--out", tmp_path / "run")
    message = refused(*given, "--max-memory", "1MB")
    assert ", and --max-memory allows 1 MB: a smaller network, or fewer or smaller images, would need less" in message
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(forecast, "_evaluation_seconds", lambda _: 100.0)
    message = refused(*given, "--checkpoint-every", 1, "--max-time", "10s")
    assert message.startswith("the training takes about 5 min ")
    assert "and --max-time allows 10 s: not even one epoch of a few images fits: a smaller network or smaller " in message
    assert not (tmp_path / "run").exists()
    done(*given, "--epochs", 1)  # in the same place
    assert json.loads((tmp_path / "run/result.json").read_text())["epoch"] == 1
    assert refused("train", "--resume", tmp_path / "run", "--max-time", "1h").startswith(
        "--max-time cannot be changed by --resume"
    )
    assert refused(*given, "--max-time", "soon").startswith("a time must be hours, minutes and seconds above 0, ")
    assert refused(*given, "--max-memory", "lots").startswith("an amount of memory must be a number above 0 with its unit, ")
