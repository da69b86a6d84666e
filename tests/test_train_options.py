"""Every option of ``chainrule train`` does what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule import optim
from chainrule.data import Normalize
from chainrule.formats import load_safetensors
from chainrule.tensor import Parameter
from chainrule.train import Config, RunFolder, Trainer, next_folder, open_datasets, trainer
from chainrule.train.augmentations import AUGMENTATIONS, transforms
from chainrule.train.optimization import OPTIMIZERS, SCHEDULES
from running import done, idx_folder, image_folder, metrics, noted, tensors


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images of 12 x 12 in 4 classes; 20 to test on."""
    return idx_folder(tmp_path_factory.mktemp("options") / "patterns")


@pytest.fixture
def train(data: Path, tmp_path: Path) -> Any:
    """Train on ``data`` for one epoch of 6 steps unless told otherwise; returns the run's folder."""
    runs = 0

    def run(*options: object, flags: Sequence[str] = ()) -> Path:
        nonlocal runs
        runs += 1
        given = {"--data": data, "--epochs": 1, "--batch-size": 8, "--out": tmp_path / str(runs)}
        given |= dict(zip(options[::2], options[1::2], strict=True))  # type: ignore[call-overload]
        done("train", *(part for pair in given.items() for part in pair), *flags)
        return Path(given["--out"])

    return run


def config(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text())


def rates(run: Path) -> list[float]:
    """Learning rate of each step; with up to 50 steps an epoch there is a row for each."""
    return [row["lr"] for row in metrics(run) if row["kind"] == "train"]


def model(run: Path) -> dict[str, tuple[str, bytes]]:
    return tensors(run / "model.safetensors")


def checkpoint(run: Path) -> dict[str, np.ndarray]:
    return load_safetensors(run / "checkpoint.safetensors")[0]


def test_the_defaults_are_lenet_on_all_of_mnist() -> None:
    default = Config()
    assert (default.model, default.data, default.limit, default.precision) == ("lenet", "mnist", 0, "float32")
    opened = open_datasets(default)
    training, test = opened.training, opened.test
    assert opened.config == default
    assert (len(training), len(test)) == (60_000, 10_000)


def test_model(train: Any) -> None:
    assert set(model(train())) == {f"{i}.{kind}" for i in (0, 3, 7, 9, 11) for kind in ("weight", "bias")}
    assert {name: len(raw) for name, (_, raw) in model(train("--model", "mlp")).items()} == {
        "1.weight": 4 * 144 * 512,
        "1.bias": 4 * 512,
        "3.weight": 4 * 512 * 256,
        "3.bias": 4 * 256,
        "5.weight": 4 * 256 * 4,
        "5.bias": 4 * 4,
    }


def test_data_by_name(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out = done("train", "--data", "mnist", "--limit", 20, "--epochs", 1, "--out", train("--epochs", 1).with_name("mnist"))
    assert "mnist train: 10 classes, 20 training and 10,000 test images, grey, 28 x 28" in out


def test_data_in_idx_files(data: Path, tmp_path: Path) -> None:
    out = done("train", "--data", data, "--epochs", 1, "--out", tmp_path / "run")
    assert f"{data}/train-images-idx3-ubyte: 4 classes, 48 training and 20 test images, grey, 12 x 12\n" in out


def test_data_in_a_folder_of_images(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", ("cat", "dog", "owl"), each=10, shape=(14, 12, 3))
    out = done("train", "--data", folder, "--epochs", 1, "--out", tmp_path / "run")
    assert "3 classes, 27 training and 3 test images, colour, 14 x 12; a tenth of each class, " in out
    assert json.loads((tmp_path / "run/result.json").read_text())["classes"] == ["cat", "dog", "owl"]


def test_data_in_cifar_files(tmp_path: Path) -> None:
    (tmp_path / "batches.meta.txt").write_text("frog\nship\n")
    for number, name in enumerate([f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]):
        records = np.random.default_rng(number).integers(0, 256, (4, 3073)).astype(np.uint8)
        records[:, 0] %= 2
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    out = done("train", "--data", tmp_path, "--epochs", 1, "--out", tmp_path / "run")
    assert "2 classes, 20 training and 4 test images, colour, 32 x 32\n" in out


def test_image_size_and_mode(train: Any, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", shape=(14, 12, 3))
    image_folder(folder, ("dog",), each=1, shape=(20, 30))
    run = train("--data", folder, "--image-size", "16x13", "--image-mode", "L")
    assert load_safetensors(run / "model.safetensors")[1]["chainrule"].count('"image_shape": [1, 16, 13]') == 1


def test_epochs(train: Any) -> None:
    rows = metrics(train("--epochs", 3))
    assert [(row["epoch"], row["step"]) for row in rows if row["kind"] == "test"] == [(1, 6), (2, 12), (3, 18)]


def test_batch_size(train: Any) -> None:
    assert [row["step"] for row in metrics(train("--batch-size", 20)) if row["kind"] == "train"] == [1, 2, 3]
    cursor = json.loads(load_safetensors(train("--batch-size", 48) / "checkpoint.safetensors")[1]["chainrule"])["step"]
    assert cursor == 1


SLOTS = {"sgd": {"momentum"}, "adam": {"count", "mean", "square"}, "adamw": {"count", "mean", "square"}}
SLOTS |= {"rmsprop": {"square", "momentum"}, "adagrad": {"count", "square"}, "radam": {"count", "mean", "square"}}
SLOTS["nadam"] = {"count", "mean", "square", "correction"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name: str, train: Any) -> None:
    """Each has its own state and its own learning rate, and each learns."""
    run = train("--optimizer", name, "--epochs", 6, "--schedule", "constant")
    slots = {key.rpartition(".")[2] for key in checkpoint(run) if key.startswith("optimizer.0.")}
    assert slots == SLOTS[name]
    assert rates(run) == [OPTIMIZERS[name].rate] * 36
    rows = [row for row in metrics(run) if row["kind"] == "test"]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_adam_and_adamw_decay_weights_differently(train: Any) -> None:
    runs = [train("--optimizer", name, "--weight-decay", decay) for name in ("adam", "adamw") for decay in (0, 0.1)]
    assert model(runs[0]) == model(runs[2])
    assert model(runs[1]) != model(runs[3])


def test_learning_rate(train: Any) -> None:
    assert rates(train("--lr", 0.03, "--schedule", "constant")) == [0.03] * 6


def test_momentum(train: Any) -> None:
    run = train("--momentum", 0.5, "--schedule", "constant")
    assert checkpoint(run)["optimizer.group.0.momentum"] == 0.5
    assert "optimizer.0.momentum" not in checkpoint(train("--momentum", 0))
    assert checkpoint(train("--momentum", 0.5, "--optimizer", "adam", "--schedule", "step"))["optimizer.group.0.beta1"] == 0.5


def test_weight_decay_makes_weights_smaller(train: Any) -> None:
    def length(run: Path) -> float:
        return sum(float((array**2).sum()) for name, array in load_safetensors(run / "model.safetensors")[0].items())

    assert length(train("--weight-decay", 0.5)) < 0.9 * length(train())


SHAPES = {
    "one-cycle": lambda optimizer: optim.OneCycleLR(optimizer, 0.04, 18),
    "cosine": lambda optimizer: optim.CosineAnnealingLR(optimizer, 18),
    "restarts": lambda optimizer: optim.CosineAnnealingWarmRestarts(optimizer, 3, 2),
    "linear": lambda optimizer: optim.PolynomialLR(optimizer, 18),
    "step": lambda optimizer: optim.StepLR(optimizer, 6),
    "exponential": lambda optimizer: optim.ExponentialLR(optimizer, 0.01 ** (1 / 18)),
    "constant": lambda optimizer: optim.LinearLR(optimizer, 1.0, 1.0, 1),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str, train: Any) -> None:
    """18 steps, each with the rate of the schedule."""
    found = rates(train("--schedule", name, "--lr", 0.04, "--epochs", 3))
    optimizer = optim.SGD([Parameter(np.zeros(1))], 0.04, 0.9)
    schedule = SHAPES[name](optimizer)
    expected = []
    for step in range(18):
        schedule.steps = step
        expected.append(optimizer.lr)
    assert found == expected


def test_label_smoothing(train: Any) -> None:
    """Steps follow the smoothed loss; what is noted is the cross-entropy without it, as of the test images."""
    losses = [[row["loss"] for row in metrics(train("--label-smoothing", s))] for s in (0, 0.5, 1)]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-6)
    assert losses[0][0] == pytest.approx(losses[2][0], rel=1e-6)
    assert len({tuple(one) for one in losses}) == 3


def test_a_step_gives_the_smoothed_loss_and_sums_the_other(tmp_path: Path) -> None:
    """(1 - s) times that without, plus s times the mean over the classes."""
    found = []
    for smoothing in (0.0, 0.5, 1.0):
        config = Config(data=str(idx_folder(tmp_path / "data")), batch_size=8, label_smoothing=smoothing, health=False)
        opened = open_datasets(config)
        training, test = opened.training, opened.test
        trainer = Trainer(RunFolder.new(tmp_path / f"{smoothing}", config), training=training, test=test)
        images, labels = next(iter(trainer.loader))
        found.append((trainer.step(images, labels), trainer.progress.epoch.mean_loss))
    (plain, noted), (half, noted_half), (whole, noted_whole) = found
    assert plain == noted
    assert plain != pytest.approx(whole)
    assert half == pytest.approx((plain + whole) / 2)
    assert (noted_half, noted_whole) == pytest.approx((plain, plain))


def test_augmentation(train: Any) -> None:
    losses = {
        spec: metrics(train("--augment", spec))[0]["loss"] for spec in ("auto", "none", "shift", "shift=3", "flip,crop=2")
    }
    assert losses["auto"] == losses["shift"], "grey images are shifted by a pixel"
    assert len(set(losses.values())) == 4


def test_augmentations_by_name() -> None:
    """What erases comes after normalising; all else is in the order in which it is written."""

    def made(augment: str, *shape: int) -> str:
        return ", ".join(map(str, transforms(augment, shape, Normalize(0.5, 0.25))))  # type: ignore[arg-type]

    normal = "Normalize(mean=(0.5,), std=(0.25,))"
    assert made("auto", 3, 32, 32) == f"AlternatingFlip(), RandomCrop(size=(32, 32), padding=4), {normal}"
    assert made("none", 3, 32, 32) == normal
    assert made("crop=2,shift", 1, 8, 9) == f"RandomCrop(size=(8, 9), padding=2), RandomShift(pixels=1), {normal}"
    mirrored = "RandomCrop(size=(8, 9), padding={}, padding_mode='reflect')"
    assert made("mirror,mirror=7", 1, 8, 9) == f"{mirrored.format(4)}, {mirrored.format(7)}, {normal}"
    assert made("cutout=3,jitter=0.3,erase=0.5,resized=0.6", 3, 8, 9) == (
        "ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3), RandomResizedCrop(size=(8, 9), scale=(0.6, 1.0), "
        f"ratio=(0.75, 1.333)), {normal}, Cutout(size=3), RandomErasing(probability=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3))"
    )
    usual = "Cutout(size=8), RandomErasing(probability=0.25, scale=(0.02, 0.33), ratio=(0.3, 3.3))"
    assert made("cutout,erase", 3, 32, 32) == f"{normal}, {usual}"


def test_precision(train: Any) -> None:
    """float64 is float64 throughout; bfloat16 rounds what is multiplied and keeps float32 weights; results differ a little."""
    runs = {name: train("--precision", name) for name in ("float32", "float64", "bfloat16")}
    assert {name: {dtype for dtype, _ in model(run).values()} for name, run in runs.items()} == {
        "float32": {"float32"},
        "float64": {"float64"},
        "bfloat16": {"float32"},
    }
    losses = [metrics(run)[-1]["loss"] for run in runs.values()]
    assert len(set(losses)) == 3
    assert losses == pytest.approx([losses[0]] * 3, rel=0.05)


def test_seed(train: Any) -> None:
    assert model(train("--seed", 5)) == model(train("--seed", 5))
    assert model(train("--seed", 5)) != model(train("--seed", 6))


def test_workers_do_not_change_the_result(train: Any) -> None:
    assert model(train()) == model(train("--workers", 0)) == model(train("--workers", 1)) == model(train("--workers", 5))


def test_limit_spreads_over_all_classes(train: Any) -> None:
    run = train("--limit", 12, "--batch-size", 4)
    assert [row["step"] for row in metrics(run) if row["kind"] == "train"] == [1, 2, 3]
    assert metrics(train("--limit", 48)) == metrics(train())


@pytest.mark.parametrize(("every", "steps"), [(0, [6, 12]), (4, [4, 6, 8, 12]), (1, list(range(1, 13)))])
def test_checkpoint_every(every: int, steps: list[int], train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert saves(train, monkeypatch, "--checkpoint-every", every) == steps


def test_checkpoints_by_the_clock(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trainer._SECONDS_BETWEEN_CHECKPOINTS == 30
    monkeypatch.setattr(trainer, "_SECONDS_BETWEEN_CHECKPOINTS", 0)
    assert saves(train, monkeypatch) == list(range(1, 13))


def saves(train: Any, monkeypatch: pytest.MonkeyPatch, *options: object) -> list[int]:
    """Steps after which two epochs of 6 steps saved a checkpoint."""
    found, save = [], trainer.Trainer.save

    def noted(self: trainer.Trainer) -> None:
        found.append(self.progress.step)
        save(self)

    monkeypatch.setattr(trainer.Trainer, "save", noted)
    train("--epochs", 2, *options)
    return found


def test_out(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is named, with its parents; by default one with a number of its own."""
    done("train", "--data", data, "--epochs", 1, "--out", tmp_path / "new/parents/run")
    assert (tmp_path / "new/parents/run/result.json").exists()
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        out = done("train", "--data", data, "--epochs", 1)
        assert f"run folder: runs/lenet-patterns-{number} " in out
        assert (tmp_path / f"runs/lenet-patterns-{number}/result.json").exists()
    assert next_folder(Config(data=str(data), model="mlp")) == Path("runs/mlp-patterns-1")


def test_every_option_is_written_to_the_configuration(train: Any, data: Path) -> None:
    options = {
        "model": "mlp",
        "freeze": "1",
        "epochs": 2,
        "batch_size": 10,
        "accumulate": 2,
        "optimizer": "adam",
        "lr": 0.01,
        "lr_of": "5=0.1",
        "momentum": 0.8,
        "nesterov": True,
        "weight_decay": 0.01,
        "clip_norm": 0.0,
        "clip_value": 0.5,
        "schedule": "cosine",
        "warm_up": 0.25,
        "ema": 0.9,
        "patience": 5,
        "label_smoothing": 0.2,
        "augment": "none",
        "mixup": 0.2,
        "cutmix": 0.5,
        "flip_test": True,
        "image_size": "",
        "image_mode": "",
        "normalise": "0.5/0.25",
        "precision": "float64",
        "seed": 7,
        "limit": 30,
        "workers": 3,
        "silence": "labels-count,frozen",
        "health": True,
        "checkpoint_every": 5,
        "on_nan": "skip",
    }
    given = [part for name, value in options.items() if value is not True for part in (_typed(name), value)]
    flags = [_typed(name) for name, value in options.items() if value is True]
    written = config(train(*given, flags=flags))
    assert written.pop("checksum")
    assert written.pop("data_from_here").endswith(f"{data.parent.name}/patterns")
    assert written == {**options, "data": str(data), "model_digest": "", "weights": "", "weights_digest": ""}
    assert set(options) | {"data", "model_digest", "weights", "weights_digest"} == set(Config.__dataclass_fields__)
    assert config(train(flags=["--no-nesterov"]))["nesterov"] is False
    assert config(train(flags=["--no-health"]))["health"] is False


def _typed(option: str) -> str:
    return "--" + option.replace("_", "-")


def test_the_help_says_every_option_and_the_page_describes_it() -> None:
    page = (Path(__file__).parents[1] / "docs/training-options.md").read_text()
    for option in Config.__dataclass_fields__:
        if not option.endswith("_digest"):
            assert f"`{_typed(option)}" in page, option
    for word in (*OPTIMIZERS, *SCHEDULES, *AUGMENTATIONS):
        assert f"`{word}" in page, word


def test_what_is_unusual_is_said(train: Any, data: Path, tmp_path: Path) -> None:
    given = ["--data", data, "--epochs", 4, "--batch-size", 4, "--lr", 1e-9, "--augment", "none", "--schedule", "constant"]
    out = done(
        *("train", *given, "--freeze", "0|3", "--lr-of", "11=1e-9", "--accumulate", 2, "--ema", 0.5, "--flip-test"),
        *("--patience", 2, "--mixup", 0.5, "--out", tmp_path / "run"),
    )
    assert "4 epochs of 6 steps of 8 images, sgd with learning rate 1e-09 (constant)" in out
    assert "trained are 12,544 of 15,116 parameters; frozen, all or in part: 0, 3\n" in out
    assert "learning rates of parts: 11=1e-9\na step takes 2 batches of 4 images, one after the other\n" in out
    assert (
        "measured and kept are averages of the weights, with a decay of 0.5\ntest images are judged as they are and mirr" in out
    )
    assert (
        "training: mean over the epoch, on mixed images (right is the class of the larger part); test: after the epoch" in out
    )
    epoch = json.loads((tmp_path / "run/result.json").read_text())["epoch"]
    assert f"the weights are those of epoch {epoch}, the best on the test images" in out
    assert "as these chose it, its accuracy on others may be a little lower" in out
    assert "rises" not in out
    rising = done("train", *given[:2], "--epochs", 1, "--batch-size", 16, "--warm-up", 1000, "--out", tmp_path / "rising")
    assert "the learning rate only rises: the warm-up has 1,000 steps, the whole training 3 steps\n" in rising
    found, err = noted("evaluate", tmp_path / "run")
    assert err == "note: each image is judged as it is and mirrored, as in the run's training (--flip-test)\n"
    assert found.splitlines()[0].startswith(next(line for line in out.splitlines() if "test images right" in line))
