"""What a run leaves behind, and what checkpoints hold."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from chainrule import nn, optim
from chainrule.cli.watching import _waited
from chainrule.data import ArrayDataset
from chainrule.errors import UserError
from chainrule.formats import load_safetensors, save_safetensors
from chainrule.models import MODELS, build
from chainrule.tensor import tensor
from chainrule.tensor.random import default_generator, manual_seed
from chainrule.train import Config, Evaluation, Findings, RunFolder, StepReport, Stopped, Trainer, checkpoint, model_of_run
from chainrule.train.checkpoint import Progress, Sums, load_checkpoint, save_checkpoint
from chainrule.train.pictures.curves import Point, curves, smoothed
from chainrule.train.watching import Clock
from running import FILES, done, idx_folder, metrics, outcome, pictures, tensors


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet after 8 epochs of 12 steps."""
    folder = tmp_path_factory.mktemp("run")
    idx_folder(folder / "patterns", training=96, test=40)
    done("train", "--data", folder / "patterns", "--epochs", 8, "--batch-size", 8, "--lr", 0.05, "--out", folder / "run")
    return folder / "run"


def test_the_files(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == FILES
    assert json.loads((run / "config.json").read_text())["epochs"] == 8


def test_the_result_says_how_long_the_loader_was_waited_for(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert 0 < result["waiting_seconds"] < result["training_seconds"]


def test_metrics_are_json_lines(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if row["kind"] == "train"]
    test = [row for row in rows if row["kind"] == "test"]
    assert [row["step"] for row in train] == list(range(1, 97))
    assert [row["epoch"] for row in train] == [epoch for epoch in range(1, 9) for _ in range(12)]
    assert [row["step"] for row in test] == [12 * epoch for epoch in range(1, 9)]
    assert set(train[0]) == {"kind", "step", "epoch", "images", "loss", "accuracy", "lr", "images_per_second"}
    assert set(test[0]) == {
        *("kind", "step", "epoch", "loss", "accuracy", "train_loss", "train_accuracy", "seconds"),
    }
    for epoch, row in enumerate(test):
        steps = train[12 * epoch : 12 * epoch + 12]
        assert row["train_loss"] == pytest.approx(np.mean([step["loss"] for step in steps]))
        assert row["train_accuracy"] == pytest.approx(np.mean([step["accuracy"] for step in steps]))


def test_it_learns(run: Path) -> None:
    test = [row for row in metrics(run) if row["kind"] == "test"]
    assert test[-1]["accuracy"] > 0.9 > test[0]["accuracy"]


def test_the_result_is_that_of_the_last_epoch(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    confusion = np.array(result["confusion"])
    assert confusion.sum() == result["images"] == 40
    assert np.trace(confusion) / 40 == result["accuracy"] == metrics(run)[-1]["accuracy"]
    assert (result["loss"], result["steps"]) == (metrics(run)[-1]["loss"], 96)


def test_the_worst_classes_come_worst_first_with_what_they_were_taken_for() -> None:
    confusion = np.array([[8, 1, 0, 1, 0], [0, 5, 3, 1, 1], [0, 0, 10, 0, 0], [2, 0, 4, 4, 0], [0, 0, 0, 0, 0]])
    found = Evaluation(0.5, confusion, list("abcde"))
    assert (found.images, found.correct, found.accuracy) == (40, 27, 27 / 40)
    assert [(row.name, row.images, row.accuracy, row.taken_for) for row in found.worst_classes()] == [
        ("d", 10, 0.4, (("c", 4), ("a", 2))),
        ("b", 10, 0.5, (("c", 3), ("d", 1), ("e", 1))),
        ("a", 10, 0.8, (("b", 1), ("d", 1))),
    ], "none of e was tested"
    assert [row.name for row in found.worst_classes(1)] == ["d"]


def test_speed_and_time_left_are_those_of_the_steps_of_this_process() -> None:
    progress, readings = Progress(step=10, epoch=Sums(6.0, 1, 4), seconds=50.0), iter([100.0, 102.0, 103.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chainrule.train.watching.time.perf_counter", lambda: next(readings))
        clock, reports = Clock(progress, 20), []
        for images in (64, 32):
            progress.step += 1
            reports.append(clock.report(2, images, 1.0))
    assert reports == [
        StepReport(11, 20, 2, 1.5, 0.25, 64 / 2, 2.0 * 9),
        StepReport(12, 20, 2, 1.5, 0.25, 96 / 3, 1.5 * 8),
    ]
    assert progress.seconds == 53


def test_the_weights_are_a_plain_safetensors_file(run: Path) -> None:
    """PyTorch's names, and in the metadata what is needed to use them."""
    arrays, metadata = load_safetensors(run / "model.safetensors")
    assert {name: array.shape for name, array in arrays.items()} == {
        name: array.shape for name, array in build("lenet", 1, 4, (12, 12)).state_dict().items()
    }
    facts = json.loads(metadata["chainrule"])
    assert (facts["model"], facts["image_shape"], facts["classes"]) == ("lenet", [1, 12, 12], ["0", "1", "2", "3"])


def test_the_checkpoint_holds_everything(run: Path) -> None:
    arrays, metadata = load_safetensors(run / "checkpoint.safetensors")
    weights = set(load_safetensors(run / "model.safetensors")[0])
    assert {name.removeprefix("model.") for name in arrays if name.startswith("model.")} == weights
    optimizer = {name for name in arrays if name.startswith("optimizer.")}
    assert optimizer == {f"optimizer.{i}.momentum" for i in range(10)} | {f"optimizer.group.0.{x}" for x in ("lr", "momentum")}
    assert arrays["random.state"].shape == (2,)
    facts = json.loads(metadata["chainrule"])
    assert (facts["step"], facts["cursor"]) == (96, {"seed": 0, "epoch": 8, "batch": 0})
    assert facts["metrics_size"] == (run / "metrics.jsonl").stat().st_size


def test_the_picture_has_loss_and_accuracy(run: Path) -> None:
    picture = ElementTree.parse(run / "curves.svg").getroot()
    name = "{http://www.w3.org/2000/svg}"
    lines = [line.get("points", "").split() for line in picture.iter(f"{name}polyline")]
    assert [len(line) for line in lines] == [96, 96, 8] * 2, "training as measured and averaged, and test; loss, then accuracy"
    texts = [text.text for text in picture.iter(f"{name}text")]
    assert {"loss", "training, averaged", "measured", "test"} <= set(texts)
    assert "accuracy (%)" in texts
    accuracy = 100 * metrics(run)[-1]["accuracy"]
    title = picture.find(f"{name}title")
    assert title is not None
    assert title.text == f"Loss and accuracy over 96 steps; test accuracy {accuracy:.2f}% after epoch 8"


def test_a_last_batch_of_a_few_images_is_no_spike() -> None:
    """Steps of 64 and, at the end of each epoch, of 8 images whose accuracy says little."""
    rng = np.random.default_rng(0)
    images = [64, 64, 64, 8] * 10
    points = [Point(step, rng.binomial(count, 0.5) / count, count) for step, count in enumerate(images, 1)]
    line = smoothed(points)
    assert [(point.step, point.images) for point in line] == [(point.step, point.images) for point in points]
    assert max(abs(point.value - 0.5) for point in points) > 0.2
    assert max(abs(point.value - 0.5) for point in line) < 0.1
    before, last, after = (point.value for point in line[18:21])
    assert abs(last - (before + after) / 2) < 0.03, "a batch counts by its images"


def test_an_average_is_not_late_and_keeps_what_is_steady() -> None:
    rising = [Point(step, step, 64) for step in range(1, 101)]
    middle = slice(10, -10)
    assert [point.value for point in smoothed(rising)][middle] == pytest.approx([point.value for point in rising][middle])
    assert [point.value for point in smoothed([Point(1, 3.0, 8), Point(2, 3.0, 64)])] == [3.0, 3.0]
    assert smoothed([]) == []


@pytest.mark.parametrize("rows", [[], [{"kind": "train", "step": 1, "loss": 0.0, "accuracy": 0.0}]])
def test_the_picture_of_hardly_anything(rows: list[Any]) -> None:
    ElementTree.fromstring(curves(rows))


def test_evaluate_agrees_with_the_run(run: Path) -> None:
    found = json.loads(done("evaluate", run, "--json"))
    result = json.loads((run / "result.json").read_text())
    shared = ("loss", "accuracy", "images", "classes", "confusion")
    assert {name: result[name] for name in shared} == {name: found[name] for name in shared}


def test_resuming_a_finished_run_changes_nothing(run: Path) -> None:
    before = outcome(run)
    out = done("train", "--resume", run)
    assert "resuming after step 96 of 96" in out
    assert "Epochs" in out
    assert outcome(run) == before


# ---- a model with buffers and random numbers, stopped at every step


def _noisy(num_classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    """Batch normalisation has buffers, dropout draws from the random counter."""
    return nn.Sequential(
        nn.Conv2d(channels, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(3 * (size[0] - 2) * (size[1] - 2), num_classes),
    )


class Stopper:
    """Watches without a word, and asks to stop after ``stop`` steps; 0 for never."""

    def __init__(self, stop: int = 0) -> None:
        self.stop, self.steps = stop, 0

    def on_step(self, report: StepReport) -> None:
        self.steps += 1

    def on_findings(self, findings: Findings) -> None: ...
    def on_remark(self, remark: str) -> None: ...

    def on_evaluation(self, images: int, total: int) -> None: ...
    def on_epoch(
        self, epoch: int, train_loss: float, train_accuracy: float, evaluation: Evaluation, seconds: float
    ) -> None: ...

    def should_stop(self) -> bool:
        return self.steps == self.stop != 0


@pytest.fixture
def noisy(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(MODELS, "noisy", dataclasses.replace(MODELS["mlp"], make=_noisy))
    splits = [ArrayDataset(*pictures(count, 3, (6, 6), seed), name=name) for count, seed, name in ((20, 1, "a"), (9, 2, "b"))]

    def trainer(folder: RunFolder) -> Trainer:
        return Trainer(folder, training=splits[0], test=splits[1])

    return trainer


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_stopping_at_any_step_changes_nothing(optimizer: str, noisy: Any, tmp_path: Path) -> None:
    config = Config(model="noisy", batch_size=6, epochs=2, optimizer=optimizer, schedule="cosine", warm_up=0.1)
    (whole := RunFolder.new(tmp_path / "whole", config)).make()
    noisy(whole).train(Stopper())
    expected = outcome(whole.path)
    assert set(expected["checkpoint"]) >= {"model.1.running_mean", "model.1.running_var", "model.1.num_batches_tracked"}
    assert expected["checkpoint"]["random.state"][1][8:] != bytes(8), "dropout has drawn"
    for step in range(1, 8):
        (folder := RunFolder.new(tmp_path / str(step), config)).make()
        with pytest.raises(Stopped):
            noisy(folder).train(Stopper(step))
        manual_seed(1000 + step)
        resumed = noisy(RunFolder.open(folder.path))
        resumed.resume()
        assert resumed.progress.step == step
        resumed.train(Stopper())
        assert outcome(folder.path) == expected


class Killed(BaseException):
    """What no part of the program catches."""


def test_a_crash_at_any_write_changes_nothing(noisy: Any, tmp_path: Path) -> None:
    """At each flush and each renaming of a run in turn, of which there are dozens."""
    config = Config(model="noisy", batch_size=6, epochs=2, checkpoint_every=3, ema=0.5, patience=2)
    (whole := RunFolder.new(tmp_path / "whole", config)).make()
    noisy(whole).train(Stopper())
    expected = outcome(whole.path)
    crashes = 0
    while True:
        (folder := RunFolder.new(tmp_path / str(crashes), config)).make()
        left = crashes

        def counted(call: Any) -> Any:
            def one(*arguments: Any) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                call(*arguments)

            return one

        try:
            with pytest.MonkeyPatch.context() as patch:
                for name in ("fsync", "replace"):
                    patch.setattr(os, name, counted(getattr(os, name)))
                noisy(folder).train(Stopper())
            break
        except Killed:
            crashes += 1
        resumed = noisy(RunFolder.open(folder.path))
        resumed.resume()
        resumed.train(Stopper())
        assert outcome(folder.path) == expected
    assert crashes > 25


# ---- checkpoints that do not fit


WEIGHTS = {
    "model": "mlp",
    "model_digest": "",
    "image_shape": [1, 4, 4],
    "classes": ["cat", "dog"],
    "mean": [0.5],
    "std": [0.2],
    "dtype": "float32",
}
RUN: dict[str, dict[str, Any]] = {"options": {}, "data": {}, "weights": WEIGHTS}


def saved(path: Path, model: nn.Module, optimizer: optim.Optimizer, **run: dict[str, Any]) -> None:
    progress = Progress(step=3, cursor={"seed": 0, "epoch": 0, "batch": 3}, row=Sums(1.0, 2, 3))
    save_checkpoint(path, model, optimizer, progress, {**RUN, **run})


def state(model: nn.Module, optimizer: optim.Optimizer) -> list[Any]:
    """Every bit that loading a checkpoint may change."""
    cells = [*model.state_dict().items(), *optimizer.state_dict().items(), ("random", default_generator.state.numpy())]
    return [(name, array.tobytes()) for name, array in cells]


def linear(optimizer: type[optim.Optimizer] = optim.SGD, width: int = 3, **options: Any) -> tuple[nn.Module, optim.Optimizer]:
    """A layer after a step of its optimizer."""
    model = nn.Linear(2, width)
    made = optimizer(model.parameters(), lr=0.1, **options)
    model(tensor(np.ones((1, 2), np.float32))).sum().backward()
    made.step()
    return model, made


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    manual_seed(5)
    first, second = linear(momentum=0.9), linear(momentum=0.9)
    saved(tmp_path / "c", *first)
    before = state(*first)
    assert state(*second) != before
    manual_seed(6)
    progress = load_checkpoint(tmp_path / "c", *second, RUN)
    assert state(*second) == before
    assert progress == Progress(step=3, cursor={"seed": 0, "epoch": 0, "batch": 3}, row=Sums(1.0, 2, 3))


def other_model() -> tuple[nn.Module, optim.Optimizer]:
    return linear(width=4, momentum=0.9)


def other_optimizer() -> tuple[nn.Module, optim.Optimizer]:
    return linear(optim.Adam)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (other_model, " is of another model: load_state_dict: the state does not fit this Linear:\n  weight: the model has "),
        (other_optimizer, " is of another optimizer: optimizer state "),
    ],
)
def test_a_checkpoint_of_something_else_changes_nothing(make: Any, text: str, tmp_path: Path) -> None:
    saved(tmp_path / "c", *make())
    mine = linear(momentum=0.9)
    before = state(*mine)
    with pytest.raises(UserError) as error:
        load_checkpoint(tmp_path / "c", *mine, RUN)
    assert str(error.value).startswith(f"{tmp_path / 'c'}{text}")
    assert state(*mine) == before


@pytest.mark.parametrize(
    ("then", "now", "text"),
    [
        (
            {"options": {"seed": 1}},
            {"options": {"seed": 2}},
            "{} was written with seed 1, this run has seed 2: put the files of the run back as they were, or begin a new run",
        ),
        (
            {"data": {"training images": 600}},
            {"data": {"training images": 500}},
            "the data are not those of {}: training images 600 then, 500 now: "
            "put the data back as they were, or begin a new run",
        ),
        (
            {"options": {}},
            {"options": {"seed": 2}},
            "checkpoint {}: run.options.seed is missing: it was edited or damaged; use another copy",
        ),
    ],
)
def test_a_checkpoint_of_another_run_changes_nothing(then: Any, now: Any, text: str, tmp_path: Path) -> None:
    saved(tmp_path / "c", *linear(), **then)
    mine = linear()
    before = state(*mine)
    with pytest.raises(UserError) as error:
        load_checkpoint(tmp_path / "c", *mine, {**RUN, **now})
    assert str(error.value) == text.format(tmp_path / "c")
    assert state(*mine) == before


@pytest.mark.parametrize("broken", ["no facts", "a list", "an unknown fact", "no random numbers", "another format"])
def test_a_checkpoint_that_lacks_something(broken: str, tmp_path: Path) -> None:
    path, mine = tmp_path / "c", linear()
    saved(path, *mine)
    arrays, metadata = load_safetensors(path)
    facts = json.loads(metadata["chainrule"])
    text = {
        "no facts": "is a safetensors file, but no checkpoint that chainrule wrote",
        "a list": "is a safetensors file, but no checkpoint that chainrule wrote",
        "an unknown fact": ": x is nothing that it should say: it was edited or damaged; use another copy",
        "no random numbers": "lacks the state of the random numbers",
        "another format": "is a 'chainrule checkpoint 9', expected a 'chainrule checkpoint 1'",
    }[broken]
    if broken == "no random numbers":
        del arrays["random.state"]
    new: Any = {
        "no facts": None,
        "a list": [1],
        "an unknown fact": {**facts, "x": 1},
        "no random numbers": facts,
        "another format": {**facts, "format": "chainrule checkpoint 9"},
    }[broken]
    save_safetensors(path, arrays, {} if new is None else {"chainrule": json.dumps(new)})
    before = state(*mine)
    with pytest.raises(UserError, match=text) as error:
        load_checkpoint(path, *mine, RUN)
    assert str(error.value).removeprefix("checkpoint ").startswith(str(path))
    assert state(*mine) == before


def test_a_checkpoint_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through ``write_atomically``, of which tests/test_formats.py proves the rest."""
    written = []
    monkeypatch.setattr("chainrule.formats.safetensors_files.write_atomically", lambda path, data: written.append(path))
    saved(tmp_path / "c", *linear())
    checkpoint.save_model(tmp_path / "m", linear()[0], {})
    assert written == [tmp_path / "c", tmp_path / "m"]


def test_the_trained_model_is_that_of_the_file(run: Path) -> None:
    trained = model_of_run(RunFolder.open(run))
    assert {name: array.tobytes() for name, array in trained.model.state_dict().items()} == {
        name: raw for name, (_, raw) in tensors(run / "model.safetensors").items()
    }
    assert not trained.model.training


def test_equal_options_write_equal_weights_files(tmp_path: Path) -> None:
    data = idx_folder(tmp_path / "data")
    files = set()
    for number in range(6):  # a file whose parts come in no fixed order would sooner or later differ
        out = tmp_path / f"run-{number}"
        done("train", "--data", data, "--epochs", 1, "--batch-size", 16, "--out", out)
        files.add((out / "model.safetensors").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize(
    ("waiting", "workers", "said"),
    [
        (0.5, 0, ""),
        (1.9, 0, ""),  # nobody would wait for less than two seconds in all
        (3.0, 0, "30% of the training time went by waiting for images, which were prepared between the steps: try --workers 1"),
        (5.0, 1, "50% of the training time went by waiting for images, which 1 thread prepared: try --workers 2"),
        (9.9, 4, "99% of the training time went by waiting for images, which 4 threads prepared: try --workers 5"),
    ],
)
def test_a_loader_that_is_waited_for_is_named(waiting: float, workers: int, said: str) -> None:
    trainer: Any = SimpleNamespace(
        progress=Progress(seconds=10.0, waiting_seconds=waiting), loader=SimpleNamespace(workers=workers)
    )
    sentence = _waited(trainer)
    assert sentence.startswith(said)
    assert bool(sentence) == bool(said)
