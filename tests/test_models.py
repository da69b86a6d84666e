"""Every model by its name: facts of the catalogue, a step and an evaluation, too small images; networks of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import models, nn, optim
from chainrule.models import MODELS, build
from chainrule.tensor import tracing

CLASSES = 7
TABLES = json.loads((Path(__file__).parent / "expected" / "models.json").read_text())


def on_images(name: str, side: int) -> nn.Module:
    """The model for images of that size, without memory for its weights: for looking, not for computing."""
    entry = MODELS[name]
    with tracing():
        return build(name, entry.image[0], entry.classes, (side, side))


@pytest.mark.parametrize("name", MODELS)
def test_what_the_catalogue_says_is_so(name: str) -> None:
    entry = MODELS[name]
    summary = on_images(name, entry.image[1]).summary((1, *entry.image))
    assert (summary.parameters, summary.multiply_adds) == (entry.parameters, entry.multiply_adds)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("mlp", "lenet")])
def test_the_receptive_field_is_that_in_front_of_the_classifier(name: str) -> None:
    entry = MODELS[name]
    side = 3000  # more than any of them sees
    rows = on_images(name, entry.image[1]).summary((1, entry.image[0], side, side)).rows
    fields = [
        row.receptive_field[0]
        for row in rows
        if row.receptive_field and row.kind in ("Conv2d", "MaxPool2d", "AvgPool2d") and row.output_shape[2] > 1
        if "classifier" not in row.name and ".fc" not in row.name
    ]
    assert max(fields) == (entry.receptive_field or side)


@pytest.mark.parametrize("name", MODELS)
def test_the_smallest_images_work_and_smaller_ones_are_refused(name: str) -> None:
    entry = MODELS[name]
    least, channels = entry.least, entry.image[0]
    assert on_images(name, least).summary((1, channels, least, least)).rows[-1].output_shape[:2] == (1, entry.classes)
    if least > 1:
        with pytest.raises(cr.UserError, match=f"model {name} cannot be built for images of .*at least {least} x {least}"):
            build(name, channels, 10, (least - 1, least))
        with tracing():
            model = entry.model(channels, 10, (least, least))
        with pytest.raises(cr.UserError):  # or ``least`` is too large
            model.summary((1, channels, least - 1, least - 1))


@pytest.mark.parametrize("name", [name for name in MODELS if name not in TABLES])  # the others: test_models_agreement.py
def test_a_compiled_step_learns_and_an_evaluation_gives_scores(name: str) -> None:
    entry = MODELS[name]
    side = max(entry.least, 28)
    cr.manual_seed(0)
    model = build(name, 2, CLASSES, (side, side))
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.StochasticDepth):
            module.p = 0.0
    optimizer = optim.SGD(list(model.parameters()), 0.001)
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((2, 2, side, side)).astype(np.float32), np.array([1, 5])

    @cr.compile
    def step(images: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    first, *_, last = [step(images, labels).item() for _ in range(3)]
    assert np.isfinite(first)
    assert last < first
    for path, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, path
        assert parameter.grad is None or np.isfinite(parameter.grad.numpy()).all(), path
    with model.evaluating():
        scores = cr.compile(model.forward)(images)
    assert scores.shape == (2, CLASSES)
    assert np.isfinite(scores.numpy()).all()


def test_initial_values_keep_the_size_of_activations() -> None:
    cr.manual_seed(1)
    images = cr.random.normal((2, 3, 64, 64))
    for name in ("resnet18", "vgg11_bn", "densenet121", "mobilenet_v2", "googlenet"):
        model = build(name, 3, 10, (64, 64)).train()
        with cr.engine("reference"):  # nothing needs to be compiled for one look
            scores = model(images).numpy()
        assert 1e-3 < np.abs(scores).max() < 100, name


def test_googlenet_gives_the_scores_of_all_classifiers_in_training() -> None:
    model = models.googlenet(num_classes=5)
    images = np.zeros((2, 3, 48, 48), np.float32)
    scores = model.train()(images)
    assert [one.shape for one in scores] == [(2, 5)] * 3
    assert scores._fields == ("logits", "aux_logits2", "aux_logits1")
    assert model.eval()(images).shape == (2, 5)


def test_a_residual_network_may_begin_as_the_identity() -> None:
    model = models.resnet18(10, zero_init_residual=True)
    assert not model.layer1[0].bn2.weight.numpy().any()
    assert model.layer1[0].bn1.weight.numpy().all()


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(cr.UserError, match=r"unknown model 'resnet19'.*resnet18"):
        build("resnet19", 3, 10, (32, 32))


# ---- networks of one's own

OWN = """
from chainrule import nn

class Net(nn.Module):
    def __init__(self, channels, classes, size):
        super().__init__()
        self.fc = nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, x):
        return self.fc(x.flatten(1))

def make_net(channels, classes, size):
    return Net(channels, classes, size)

def fails(channels, classes, size):
    return {}["missing"]

def refuses(channels, classes, size):
    return nn.Linear(0, classes)

def returns_text(channels, classes, size):
    return "no network"

number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(OWN)
    return str(tmp_path / "nets.py")


def test_a_network_of_ones_own_is_made_by_its_function(own: str) -> None:
    model = build(f"{own}:make_net", 2, 5, (3, 4))
    assert model(np.zeros((1, 2, 3, 4), np.float32)).shape == (1, 5)
    assert type(build(f"{own}:make_net", 1, 2, (1, 1))) is type(model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails", r"fails\(channels=1, classes=2, size=\(4, 4\)\) failed: KeyError: 'missing' \(line 16\)"),
        ("refuses", "cannot be built for images of 1 x 4 x 4: Linear: in_features must be a whole number of at least 1, got 0"),
        ("returns_text", r"returns_text returned a str: it must return an nn.Module"),
        ("make_nett", "unknown function 'make_nett'.*make_net"),
        ("number", "number is a int: name a function that makes the network"),
    ],
)
def test_what_is_wrong_with_a_network_of_ones_own_is_said(own: str, name: str, message: str) -> None:
    with pytest.raises(cr.UserError, match=message):
        build(f"{own}:{name}", 1, 2, (4, 4))


def test_a_file_that_does_not_run_or_is_not_there_is_said(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import chainrule\n\nraise ValueError('not today')\n")
    with pytest.raises(cr.UserError, match=r"broken.py does not run: ValueError: not today \(line 3\)"):
        build(f"{file}:make_net", 1, 2, (4, 4))
    file.write_text("def broken(:\n")
    with pytest.raises(cr.UserError, match=r"broken.py does not run: SyntaxError"):
        build(f"{file}:make_net", 1, 2, (4, 4))
    with pytest.raises(cr.UserError, match=r"missing.py cannot be read: No such file or directory: give FILE.py:FUNCTION"):
        build(f"{tmp_path}/missing.py:make_net", 1, 2, (4, 4))


def test_a_file_that_changed_is_not_run(own: str) -> None:
    digest = models.own.digest(f"{own}:make_net")
    build(f"{own}:make_net", 1, 2, (4, 4), digest)
    marker = Path(own).with_name("ran")
    Path(own).write_text(OWN + f"\nopen({str(marker)!r}, 'w')\n")
    with pytest.raises(cr.UserError, match=r"nets.py is not the file that the run was trained with \(SHA-256 .*put it back"):
        build(f"{own}:make_net", 1, 2, (4, 4), digest)
    assert not marker.exists()
