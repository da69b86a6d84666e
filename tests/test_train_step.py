"""What options do to a step: mixtures, accumulation, clipping, averages, rates by pattern, frozen parts; and that all of it
resumes bit for bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule import nn, optim
from chainrule.data import ArrayDataset
from chainrule.errors import UserError
from chainrule.formats import load_safetensors
from chainrule.graph import Graph
from chainrule.models import MODELS, build
from chainrule.nn import functional as F
from chainrule.nn.summary import multiply_adds
from chainrule.tensor import no_grad, placeholder, tensor, tracing
from chainrule.tensor.random import manual_seed
from chainrule.train import Config, RunFolder, Stopped, Trainer, evaluate, freeze, judge, model_of_run
from chainrule.train.optimization import make_optimizer
from chainrule.train.step import TrainingStep
from running import outcome, pictures
from test_train_run import Stopper

IMAGES = np.random.default_rng(0).standard_normal((12, 1, 6, 6)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 12)


class Small(nn.Module):
    """A part that can be frozen, with batch normalisation and dropout, and a classifier; or ``plain``, without both."""

    def __init__(self, channels: int = 1, classes: int = 3, plain: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.GroupNorm(2, 4) if plain else nn.BatchNorm2d(4), nn.ReLU())
        self.drop = nn.Dropout(0.0 if plain else 0.3)
        self.fc = nn.Linear(4, classes)

    def forward(self, x: Any) -> Any:
        return self.fc(self.drop(self.body(x).mean((2, 3))))


def step_of(model: nn.Module, **options: Any) -> TrainingStep:
    config = Config(**{"label_smoothing": 0.0, "batch_size": 12, "momentum": 0.5, "precision": "float64", **options})
    ema = optim.EMA(model, config.ema, warmup=True, use_buffers=True) if config.ema else None
    return TrainingStep(model, make_optimizer(config, model), config, ema)


def plain() -> nn.Module:
    manual_seed(3)
    return Small(plain=True).astype("float64").train()


def weights(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in model.state_dict().items()}


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], rtol: float = 1e-9) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=rtol, atol=1e-12, err_msg=name)


# ---- accumulation


@pytest.mark.parametrize("clip", ["clip_norm", "clip_value"])
@pytest.mark.parametrize(("size", "parts"), [(4, 3), (5, 3), (1, 12)])
def test_accumulated_parts_are_the_large_batch(size: int, parts: int, clip: str) -> None:
    """To rounding, also where the last part is smaller, with all that comes after the gradient."""
    same: Any = {clip: 0.05, "ema": 0.9, "weight_decay": 0.01, "label_smoothing": 0.1, "mixup": 0.4}
    whole, accumulated = plain(), plain()
    large, small = step_of(whole, **same), step_of(accumulated, batch_size=size, accumulate=parts, **same)
    for number in range(3):
        expected, found = (one(IMAGES, LABELS, (0, number)) for one in (large, small))
        assert found[:2] == pytest.approx(expected[:2], rel=1e-12)
        assert found.correct == expected.correct
    assert_close(weights(accumulated), weights(whole))
    assert large.ema is not None
    assert small.ema is not None
    assert_close(small.ema.state_dict(), large.ema.state_dict())


def test_a_last_batch_that_is_not_whole_counts_each_of_its_images_alike() -> None:
    """5 images in parts of 4 are a batch of 5, not the mean of the two parts."""
    whole, accumulated = plain(), plain()
    step_of(whole)(IMAGES[:5], LABELS[:5])
    step_of(accumulated, batch_size=4, accumulate=3)(IMAGES[:5], LABELS[:5])
    assert_close(weights(accumulated), weights(whole))


# ---- mixtures


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses(kind: str) -> None:
    model = plain()
    step = step_of(model, label_smoothing=0.2, **{kind: 1.0})
    images, first, second, share = step.mixed(IMAGES, LABELS, (2, 7))
    scores = model(tensor(images.astype(np.float64)))
    losses = [[F.cross_entropy(scores, labels, label_smoothing=s).item() for labels in (first, second)] for s in (0.2, 0.0)]
    expected = [share * one + (1 - share) * other for one, other in losses]
    larger = first if share >= 0.5 else second
    right = int((scores.numpy().argmax(1) == larger).sum())
    assert step(IMAGES, LABELS, (2, 7)) == (*map(pytest.approx, expected), right)


def test_batches_are_mixed_by_their_place_alone() -> None:
    step = step_of(plain(), mixup=0.4, cutmix=1.0)
    found = {place: step.mixed(IMAGES, LABELS, place) for place in ((e, b) for e in range(4) for b in range(8))}
    for place, mixed in found.items():
        again = step.mixed(IMAGES, LABELS, place)
        assert again.share == mixed.share
        np.testing.assert_array_equal(again.images, mixed.images)
    assert len({mixed.share for mixed in found.values()}) > 15, "boxes of 36 pixels have few areas"
    kept = [np.isclose(mixed.images, IMAGES).mean() for mixed in found.values() if 0.2 < mixed.share < 0.8]
    assert {share > 0.15 for share in kept} == {False, True}, "of some all pixels change, of others those of a box"
    assert step_of(plain()).mixed(IMAGES, LABELS, (0, 0)).images is IMAGES
    other = step_of(plain(), mixup=0.4, cutmix=1.0, seed=1).mixed(IMAGES, LABELS, (0, 0))
    assert other.share != found[0, 0].share


# ---- clipping


@pytest.mark.parametrize(("option", "value"), [("clip_norm", 0.05), ("clip_value", 0.01)])
def test_gradients_are_clipped(option: str, value: float) -> None:
    model, by_hand = plain(), plain()
    step_of(model, **{option: value}, momentum=0.0)(IMAGES, LABELS)
    F.cross_entropy(by_hand(tensor(IMAGES.astype(np.float64))), LABELS).backward()
    gradients = {name: one.grad.numpy() for name, one in by_hand.named_parameters() if one.grad is not None}
    norm = np.sqrt(sum((one**2).sum() for one in gradients.values()))
    assert norm > 0.05
    clipped = {
        name: one * (value / norm) if option == "clip_norm" else one.clip(-value, value) for name, one in gradients.items()
    }
    assert_close(weights(model), {name: array - 0.1 * clipped[name] for name, array in weights(by_hand).items()}, 1e-5)


# ---- averages


def test_averages_follow_weights_and_running_statistics() -> None:
    manual_seed(0)
    model = Small().astype("float64").train()
    step = step_of(model, ema=0.5)
    expected: dict[str, np.ndarray] = {}
    for number in range(4):
        step(IMAGES, LABELS, (0, number))
        decay = min((1 + number) / (10 + number), 0.5)
        now = weights(model)
        for name, array in now.items():
            counted = name.endswith("num_batches_tracked")
            expected[name] = array if number == 0 or counted else decay * expected[name] + (1 - decay) * array
    assert step.ema is not None
    found = {name.removeprefix("module."): array for name, array in step.ema.state_dict().items() if name != "n_averaged"}
    assert_close(found, expected, 1e-12)
    assert not np.allclose(expected["body.1.running_mean"], weights(model)["body.1.running_mean"], rtol=1e-3)


# ---- runs


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Makes the trainer of a run on 20 images of 6 x 6 in 3 classes, in a new folder or in one that is given."""
    make = lambda num_classes, channels: Small(channels, num_classes)  # noqa: E731
    monkeypatch.setitem(MODELS, "small", dataclasses.replace(MODELS["resnet20"], make=make))
    splits = [ArrayDataset(*pictures(count, 3, (6, 6), seed), name=name) for count, seed, name in ((20, 1, "a"), (9, 2, "b"))]
    made = 0

    def trainer(folder: Path | None = None, **options: Any) -> Trainer:
        nonlocal made
        made += 1
        if folder is not None:
            run = RunFolder.open(folder)
        else:
            run = RunFolder.new(tmp_path / str(made), Config(**{"model": "small", "batch_size": 6, "epochs": 2, **options}))
            run.make()
        return Trainer(run, training=splits[0], test=splits[1])

    return trainer


RESUMED: dict[str, dict[str, Any]] = {
    "accumulated": {"accumulate": 2, "batch_size": 3, "clip_norm": 0.5},
    "averaged": {"ema": 0.9, "clip_value": 0.1, "optimizer": "nadam", "schedule": "linear", "warm_up": 3},
    "mixed": {"mixup": 0.4, "cutmix": 1.0, "optimizer": "radam", "schedule": "restarts"},
    "augmented": {"augment": "flip,crop=1,resized=0.5,jitter=0.3,cutout=2,erase=0.5", "optimizer": "adagrad"},
    "frozen": {"freeze": "body", "lr_of": "fc.bias=0.3", "schedule": "exponential", "nesterov": False},
    "stopped early": {"patience": 1, "epochs": 4, "lr": 1e-6, "flip_test": True, "ema": 0.5, "schedule": "constant"},
}


@pytest.mark.parametrize("name", RESUMED)
def test_stopping_at_any_step_changes_nothing(name: str, runs: Any) -> None:
    options = RESUMED[name]
    whole = runs(**options)
    whole.train(Stopper())
    expected = outcome(whole.folder.path)
    assert ("ema.module.fc.weight" in expected["checkpoint"]) == ("ema" in options)
    for step in (2, 4, 7):  # within an epoch, at the end of one, and before the last step
        stopped = runs(**options)
        with pytest.raises(Stopped):
            stopped.train(Stopper(step))
        manual_seed(1000 + step)
        resumed = runs(stopped.folder.path)
        resumed.resume()
        assert resumed.progress.step == step
        resumed.train(Stopper())
        assert outcome(resumed.folder.path) == expected


class StopInEvaluation(Stopper):
    """Asks to stop while the test images are judged."""

    def on_evaluation(self, images: int, total: int) -> None:
        self.stop = self.steps


def test_a_stop_while_averages_are_judged_saves_the_weights_themselves(runs: Any) -> None:
    whole = runs(ema=0.9)
    whole.train(Stopper())
    stopped = runs(ema=0.9)
    with pytest.raises(Stopped):
        stopped.train(StopInEvaluation())
    saved = load_safetensors(stopped.folder.checkpoint)[0]
    assert any(not np.array_equal(saved[f"model.{n}"], saved[f"ema.module.{n}"]) for n in ("fc.weight", "body.0.weight"))
    resumed = runs(stopped.folder.path)
    resumed.resume()
    resumed.train(Stopper())
    assert outcome(resumed.folder.path) == outcome(whole.folder.path)


def test_the_averages_are_what_is_evaluated_and_kept(runs: Any) -> None:
    trainer = runs(ema=0.9)
    evaluation = trainer.train(Stopper())
    kept, saved = load_safetensors(trainer.folder.model)[0], load_safetensors(trainer.folder.checkpoint)[0]
    for name, array in kept.items():
        np.testing.assert_array_equal(array, saved[f"ema.module.{name}"])
    assert not np.array_equal(kept["fc.weight"], saved["model.fc.weight"])
    trained = model_of_run(trainer.folder)
    again = evaluate(trained.model, trainer.test_loader, judge(trained.model))
    assert (again.loss, again.confusion.tolist()) == (evaluation.loss, evaluation.confusion.tolist())


def test_a_checkpoint_with_other_averages_changes_nothing(runs: Any) -> None:
    trainer = runs(ema=0.9)
    trainer.train(Stopper())
    resumed = runs(trainer.folder.path)
    before = weights(resumed.model)
    del resumed.ema.averages["fc.bias"]
    with pytest.raises(
        UserError, match=r"checkpoint.safetensors is with other averages: state 'module.fc.bias' of the EMA does"
    ):
        resumed.resume()
    assert_close(weights(resumed.model), before, 0)


def test_patience_keeps_the_best_epoch(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations with accuracies that are given: of equal ones the less loss is better, and the model is that of the best."""
    accuracies, states = iter([(3, 1.0), (6, 1.0), (6, 0.9), (6, 0.9), (5, 0.1), (9, 0.1)]), []

    def judged(model: nn.Module, loader: Any, *_: Any) -> Any:
        states.append(weights(model))
        right, loss = next(accuracies)
        return dataclasses.replace(
            real(model, loader), loss=loss, confusion=np.diag([right, 0, 0]) + np.diag([9 - right, 0], 1)
        )

    real = evaluate
    monkeypatch.setattr("chainrule.train.trainer.evaluate", judged)
    trainer = runs(patience=2, epochs=9, schedule="constant")
    evaluation = trainer.train(Stopper())
    assert (trainer.progress.step, trainer.progress.judged, trainer.finished) == (5 * 4, 5, True)
    assert (trainer.progress.best.epoch, trainer.progress.best.loss) == (3, 0.9)
    assert_close(load_safetensors(trainer.folder.model)[0], states[2], 0)
    assert_close(states[5], states[2], 0)
    assert evaluation.correct == 9, "the last one is that of the model that is kept"
    assert json.loads(trainer.folder.result.read_text())["epoch"] == 3


def test_without_patience_the_last_epoch_is_kept(runs: Any) -> None:
    trainer = runs(epochs=3, lr=1e-6)
    trainer.train(Stopper())
    assert json.loads(trainer.folder.result.read_text())["epoch"] == 3


def test_flips_at_test_time(runs: Any, tmp_path: Path) -> None:
    """The mean of the scores of an image and of its mirror image, where evaluated and where predicted."""
    trainer = runs(flip_test=True, epochs=1)
    evaluation = trainer.train(Stopper())
    trained = model_of_run(trainer.folder)
    total, losses, batch = trained.model, [], [next(iter(trainer.test_loader))]
    images, labels = (np.concatenate(parts) for parts in zip(*batch, strict=True))
    with no_grad():
        scores = (total(tensor(images)) + total(tensor(images[..., ::-1].copy()))) / 2
        losses.append(F.cross_entropy(scores, labels).item())
        other = F.cross_entropy(total(tensor(images)), labels).item()
    assert evaluation.loss == pytest.approx(losses[0], rel=1e-6)
    assert evaluation.loss != pytest.approx(other, rel=1e-4)
    from PIL import Image

    pixels = trainer.test_loader.dataset.images([4])[0, 0]
    for name, one in (("as it is", pixels), ("mirrored", pixels[:, ::-1])):
        Image.fromarray(np.ascontiguousarray(one)).save(tmp_path / f"{name}.png")
    one, mirrored = trained.predict([tmp_path / "as it is.png", tmp_path / "mirrored.png"])
    assert dict(mirrored.top) == pytest.approx(dict(one.top), rel=1e-5)


# ---- rates by pattern, frozen parts


def test_each_pattern_has_its_rate_and_the_first_one_that_fits_counts() -> None:
    model = Small()
    optimizer = make_optimizer(Config(lr=0.5, lr_of=r"fc\.bias=0.1, body\.[0,1]=0.02,fc=1e-3"), model)
    named = {id(one): name for name, one in model.named_parameters()}
    groups = [(group.value("lr"), [named[id(one)] for one in group.parameters]) for group in optimizer.groups]
    assert groups == [
        (0.1, ["fc.bias"]),
        (0.02, ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"]),
        (0.001, ["fc.weight"]),
    ]
    optimizer = make_optimizer(Config(lr=0.5, lr_of="fc=0.1"), model)
    assert [(group.value("lr"), len(group.parameters)) for group in optimizer.groups] == [(0.5, 4), (0.1, 2)]


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "restarts", "linear", "step", "exponential", "constant"])
@pytest.mark.parametrize("warm_up", [0, 0.25])
def test_every_schedule_keeps_the_rates_in_proportion(schedule: str, warm_up: float, runs: Any) -> None:
    trainer = runs(schedule=schedule, warm_up=warm_up, lr=0.2, lr_of="fc=0.02", epochs=3)
    assert trainer.steps == 12
    rates = []
    for step in range(12):
        trainer.schedule.steps = step
        rates.append([group.value("lr") for group in trainer.optimizer.groups])
    found = np.array(rates)
    np.testing.assert_allclose(found[:, 0], 10 * found[:, 1], rtol=1e-12)
    assert found[:, 0].max() == pytest.approx(0.2, rel=0.05)
    if warm_up:
        peak = 2 if schedule == "one-cycle" else 3  # which is at its peak at the last step of its rise
        assert found[: peak + 1, 0].tolist() == sorted(found[: peak + 1, 0])
        assert found[:, 0].argmax() == peak


def test_frozen_parts_stay_as_they_are_with_their_statistics(runs: Any) -> None:
    trainer = runs(freeze="body", ema=0.5)
    before = weights(trainer.model)
    assert trainer.frozen == ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"]
    assert len(trainer.optimizer.parameters) == 2
    trainer.train(Stopper())
    after, kept = weights(trainer.model), load_safetensors(trainer.folder.model)[0]
    for name, array in before.items():
        assert np.array_equal(after[name], array) == np.array_equal(kept[name], array) == name.startswith("body"), name
    assert (trainer.model.body.training, trainer.model.body[1].training, trainer.model.drop.training) == (True, False, True)
    assert all(one.grad is None for one in trainer.model.body.parameters())


def test_what_a_pattern_freezes() -> None:
    def frozen(pattern: str) -> tuple[list[str], bool]:
        model = Small().train()
        names = freeze(model, pattern)
        assert names == [name for name, one in model.named_parameters() if not one.requires_grad]
        return names, model.body[1].training

    body = ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"]
    assert frozen("body") == (body, False)
    assert frozen(r"body\.1") == (body[2:], False)
    assert frozen(r"body\.1\..*") == (body[2:], False), "all of its parameters"
    assert frozen(r"body\.1\.bias") == (body[3:], True)
    assert frozen(r".*\.bias") == (["body.0.bias", "body.1.bias", "fc.bias"], True)
    assert frozen(r"bod.|fc\.weight") == ([*body, "fc.weight"], False)
    with tracing():
        resnet = build("resnet18", 3, 10, (32, 32))
    names = freeze(resnet, "conv1|bn1|layer[1-3]")
    assert {name.split(".")[0] for name in names} == {"conv1", "bn1", "layer1", "layer2", "layer3"}
    assert resnet.layer4[0].conv1.weight.requires_grad, "conv1 is a whole name, not a part of one"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            "bdy",
            "freeze: the pattern 'bdy' fits no parameter: did you mean 'body'? It must fit the whole name of a parameter, or "
            "of a part above it; the parts of this model are body, fc",
        ),
        ("bod", "freeze: the pattern 'bod' fits no parameter: did you mean 'body'? It must fit the whole name"),
        (
            "zzz",
            "freeze: the pattern 'zzz' fits no parameter: it must fit the whole name of a parameter, or of a part above it; ",
        ),
        (
            "body|fc",
            "freeze: the pattern 'body|fc' fits every parameter, so that nothing would be trained: leave out a part of the "
            "model, such as the last one, 'fc'",
        ),
        (r"body\.1|(fc|body).wei", r"freeze: the pattern '(fc|body).wei' fits no parameter: "),
        ("body|", "freeze: the pattern '' fits no parameter: "),
        (".*", "freeze: the pattern '.*' fits every parameter, so that nothing would be trained: "),
        ("(", "freeze: '(' is no regular expression (missing ), unterminated subpattern at position 0): see Python's re"),
    ],
)
def test_a_pattern_that_freezes_nothing_or_everything_is_refused(pattern: str, message: str) -> None:
    model = Small().train()
    with pytest.raises(UserError) as error:
        freeze(model, pattern)
    assert str(error.value).startswith(message)
    assert all(one.requires_grad for one in model.parameters())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("freezing", "rates", "message"),
    [
        ("", "fx=0.1", "lr-of: the pattern 'fx' fits no parameter: did you mean 'fc'? It must fit the whole name"),
        (
            "",
            "fc=0.1,fc.bias=0.2",
            "lr-of: all parameters that the pattern 'fc.bias' fits belong to 'fc' before it: write it first, or leave it out",
        ),
        ("body", "body=0.1", "lr-of: all parameters that the pattern 'body' fits are frozen: leave it out"),
    ],
)
def test_a_rate_for_nothing_is_refused(freezing: str, rates: str, message: str) -> None:
    model = Small()
    if freezing:
        freeze(model, freezing)
    with pytest.raises(UserError) as error:
        make_optimizer(Config(lr_of=rates), model)
    assert str(error.value).startswith(message)


def test_frozen_layers_take_no_part_in_the_backward_pass() -> None:
    """Multiply-adds of ResNet-18 with layers 1 to 3 frozen, forward and backward, are at most 0.55 of a full step."""

    def work(pattern: str) -> int:
        with tracing():
            model = build("resnet18", 3, 10, (64, 64)).train()
            if pattern:
                freeze(model, pattern)
            loss = F.cross_entropy(model(placeholder((2, 3, 64, 64))), np.array([0, 1]))
            loss.backward()
            gradients = [one.grad.node for one in model.parameters() if one.grad is not None]
        return sum(map(multiply_adds, Graph(loss.node, *gradients).nodes))

    full, frozen = work(""), work("conv1|bn1|layer[1-3]")
    assert frozen < 0.55 * full
    assert work("layer4") > 0.7 * full, "what lies in front of a frozen layer still learns"
