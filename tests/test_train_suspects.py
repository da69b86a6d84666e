"""Gradients of single images, and the images that a model finds strangest."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import chainrule as cr
from chainrule import nn, train
from chainrule.data import ArrayDataset, Loader
from chainrule.errors import UserError
from chainrule.models import build
from chainrule.nn import functional as F
from running import command, done, idx_folder, refused

Array = np.ndarray[Any, Any]


def one_by_one(model: nn.Module, images: Array, labels: Array) -> Array:
    """The norm of the gradient of each image, by a backward pass for each."""
    norms = []
    with model.evaluating():
        for place in range(len(images)):
            model.zero_grad()
            loss = F.cross_entropy(model(cr.tensor(images[place : place + 1])), cr.tensor(labels[place : place + 1]))
            loss.backward()
            gradients = [one.grad.numpy() for one in model.parameters() if one.grad is not None]
            norms.append(np.sqrt(sum(float((one**2).sum()) for one in gradients)))
    model.zero_grad()
    return np.array(norms)


class Twice(nn.Module):
    """A layer that is used twice, linear layers over further axes, and one that nothing reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.unused, self.out = nn.Linear(6, 6), nn.Linear(2, 2), nn.Linear(6, 4)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        return self.out(self.shared(F.relu(self.shared(x)))).mean((1, 2))


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "lenet": (lambda: build("lenet", 1, 4, (28, 28)), (1, 28, 28)),
    "residual": (lambda: build("resnet20", 3, 4, (16, 16)), (3, 16, 16)),
    "depthwise": (lambda: build("mobilenet_small", 3, 4, (32, 32)), (3, 32, 32)),
    "twice": (Twice, (1, 5, 6)),
    "mirrored border, stride, dilation": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 6, 3, stride=2, padding=(1, 2), dilation=2, groups=2, padding_mode="reflect"),
            nn.BatchNorm2d(6),
            nn.Flatten(),
            nn.Linear(6 * 4 * 5, 5),
            nn.BatchNorm1d(5),
            nn.Linear(5, 4, bias=False),
        ),
        (2, 9, 9),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_single_images_are_those_of_a_pass_for_each(name: str) -> None:
    cr.manual_seed(0)
    make, shape = MODELS[name]
    model = make().astype("float64")
    rng = np.random.default_rng(1)
    for cell in model.buffers():  # running statistics that are not those of new layers
        if cell.dtype == cr.float64:
            cell.assign(rng.uniform(0.5, 1.5, cell.shape))
    measure = train.per_sample_measure(model)
    for count in (5, 1, 5):
        images, labels = rng.standard_normal((count, *shape)), rng.integers(0, 4, count)
        losses, norms = measure(cr.tensor(images), cr.tensor(labels))
        np.testing.assert_allclose(norms.numpy(), one_by_one(model, images, labels), rtol=1e-10)
        with model.evaluating():
            right = F.cross_entropy(model(cr.tensor(images)), cr.tensor(labels), reduction="none").numpy()
        np.testing.assert_allclose(losses.numpy(), right, rtol=1e-12)
    found = train.per_sample_gradient_norms(model, (cr.tensor(images), cr.tensor(labels)))
    np.testing.assert_array_equal(found, norms.numpy())
    assert model.training
    assert not any(module._hooks for module in model.modules())
    assert all(one.grad is None for one in model.parameters())


def test_frozen_parameters_are_left_out() -> None:
    cr.manual_seed(0)
    model = build("lenet", 1, 4, (28, 28)).astype("float64")
    for one in list(model.parameters())[:5]:
        one.requires_grad = False
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((4, 1, 28, 28)), np.arange(4)
    found = train.per_sample_gradient_norms(model, (cr.tensor(images), cr.tensor(labels)))
    np.testing.assert_allclose(found, one_by_one(model, images, labels), rtol=1e-10)


def test_a_loss_of_ones_own() -> None:
    model = nn.Sequential(nn.Linear(3, 2)).astype("float64")
    x, y = np.random.default_rng(0).standard_normal((4, 3)), np.zeros((4, 2))
    found = train.per_sample_gradient_norms(
        model, (cr.tensor(x), cr.tensor(y)), lambda scores, wanted: ((scores - wanted) ** 2).sum(1)
    )
    upstream = 2 * model(cr.tensor(x)).numpy()
    np.testing.assert_allclose(found, np.sqrt((upstream**2).sum(1) * ((x**2).sum(1) + 1)), rtol=1e-12)
    with pytest.raises(UserError, match=r"loss returned shape \(\) for 4 examples: expected one number for each"):
        train.per_sample_gradient_norms(model, (cr.tensor(x), cr.tensor(y)), lambda scores, wanted: scores.sum())


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)),
            "gradients of single examples: 1 is a LayerNorm with the parameter weight; they are known for Linear, Conv2d, "
            "BatchNorm1d, BatchNorm2d: freeze it (requires_grad = False) to leave it out",
        ),
        (
            tied,
            "gradients of single examples: 0.weight and 1.weight are the same parameter: what an example contributes to it by "
            "both is not known",
        ),
        (nn.ReLU, "gradients of single examples: the model has no trainable parameter"),
    ],
)
def test_models_whose_gradients_are_not_known(make: Any, words: str) -> None:
    with pytest.raises(UserError) as error:
        train.per_sample_measure(make())
    assert str(error.value) == words


def test_a_batch_that_is_no_pair() -> None:
    with pytest.raises(UserError, match=r"batch must be a pair \(images, labels\)"):
        train.per_sample_gradient_norms(nn.Linear(2, 2), cr.zeros((3, 2)))


# ---- suspects


def with_wrong_labels(folder: Path, count: int) -> set[int]:
    """Patterns in an IDX folder; the labels of ``count`` training images are wrong."""
    idx_folder(folder, training=400, test=40)
    path = next(folder.glob("train-labels*"))
    content = bytearray(path.read_bytes())
    wrong = np.random.default_rng(0).choice(400, count, replace=False)
    for place in wrong:
        classes = max(content[8:]) + 1
        content[8 + place] = (content[8 + place] + 1) % classes
    path.write_bytes(content)
    return {int(place) for place in wrong}


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[int]]:
    folder = tmp_path_factory.mktemp("suspects")
    wrong = with_wrong_labels(folder / "patterns", 12)
    done("train", "--data", folder / "patterns", "--epochs", 3, "--batch-size", 16, "--lr", 0.03, "--out", folder / "run")
    return folder / "run", wrong


def test_wrong_labels_have_the_largest_losses(mistaken: tuple[Path, set[int]]) -> None:
    run, wrong = mistaken
    shown = done("blame", run, "--count", 15)
    assert "The 15 of 400 images with the largest loss" in shown
    assert max(map(len, shown.splitlines()[:-1])) <= 80  # the last line is the folder, to be copied whole
    rows = list(csv.DictReader((run / "suspects" / "suspects.csv").read_text().splitlines()))
    assert len(rows) == 15
    assert len({int(row["place"]) for row in rows} & wrong) >= 11
    assert [float(row["loss"]) for row in rows] == sorted((float(row["loss"]) for row in rows), reverse=True)
    with Image.open(run / "suspects" / "suspects.png") as sheet:
        assert sheet.width > 1000


def test_by_gradient_and_as_json(mistaken: tuple[Path, set[int]], tmp_path: Path) -> None:
    run, _ = mistaken
    found = json.loads(done("blame", run, "--by", "gradient", "--count", 7, "--json", "--out", tmp_path / "out"))
    assert (found["by"], found["images"], len(found["suspects"])) == ("gradient", 400, 7)
    norms = [one["gradient"] for one in found["suspects"]]
    assert norms == sorted(norms, reverse=True)
    assert norms[-1] > 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["suspects.csv", "suspects.png"]
    tested = json.loads(done("blame", run, "--split", "test", "--count", 1000, "--json", "--out", tmp_path / "out"))
    assert (tested["images"], len(tested["suspects"])) == (40, 40)


def test_refused(mistaken: tuple[Path, set[int]], tmp_path: Path) -> None:
    run, _ = mistaken
    assert refused("blame", run, "--by", "size") == "unknown order of suspects 'size': Known: gradient, loss"
    assert refused("blame", run, "--split", "tset") == "unknown split 'tset': did you mean 'test'? Known: test, train"
    assert "no such run" in refused("blame", tmp_path / "nowhere") or "nowhere" in refused("blame", tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert "file" in refused("blame", run, "--out", tmp_path / "file")
    assert command("blame").status == 2
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), np.zeros((3, 1, 2, 2), np.float32)
    loader = Loader(ArrayDataset(images, np.zeros(3, np.int64), classes=["a", "b"]), 2)
    with pytest.raises(UserError, match="the loader shuffles, so that places of images mean nothing"):
        train.find_suspects(model, loader)


def test_a_model_without_known_gradients_has_losses() -> None:
    model = nn.Sequential(nn.Flatten(), nn.LayerNorm(4), nn.Linear(4, 2))
    images = np.random.default_rng(0).standard_normal((5, 1, 2, 2)).astype(np.float32)
    dataset = ArrayDataset(images, np.array([0, 1, 0, 1, 0]), classes=["a", "b"])
    found = train.find_suspects(model, Loader(dataset, 2, shuffle=False), most=3)
    assert [one.gradient for one in found.found] == [None] * 3
    assert "1 is a LayerNorm" in str(found)
    with pytest.raises(UserError, match="1 is a LayerNorm"):
        train.find_suspects(model, Loader(dataset, 2, shuffle=False), by="gradient")
