"""Every model that torchvision has: the same parameters, and on the same weights the same scores and gradients.

What torchvision says lies in ``tests/expected`` (see ``scripts/models_from_torch.py``), so nothing here needs it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import chainrule as cr
from chainrule import models, nn, optim
from chainrule.tensor import tracing
from expected import zoo

FOLDER = Path(__file__).parent / "expected"
TABLES: dict[str, dict[str, Any]] = json.loads((FOLDER / "models.json").read_text())
EXPECTED = load_file(FOLDER / "models.safetensors")
LEAST = 4e-6
"""Relative distance of a float32 tensor from the float64 one that is always allowed: Winograd's convolutions round more often
than direct ones (2.0e-6 was seen in the gradients of SqueezeNet 1.0, where PyTorch has 2.7e-7)."""

ROUNDINGS = 2e-3
"""The largest distance that roundings alone bring between PyTorch's float32 and float64 gradients (1e-3 in GoogLeNet). A
larger one means that a value in front of a ReLU is so close to 0 that float32 has it on the other side. What passes there is of
another size, and five times that distance would allow anything: ``zoo.SEEDS`` chooses images without such a value."""


def model(name: str) -> nn.Module:
    with tracing():  # no values are drawn, as they would only be replaced
        made = models.MODELS[name].model(3, zoo.CLASSES, (zoo.side(name),) * 2)
    for module in made.modules():
        if isinstance(module, nn.Dropout | nn.StochasticDepth):
            module.p = 0.0
    return made


def weights(made: nn.Module) -> dict[str, np.ndarray]:
    cells = [*made.named_parameters(), *made.named_buffers()]
    return {path: np.zeros((), np.int64) if path.endswith("tracked") else zoo.value(path, cell.shape) for path, cell in cells}


def computed(made: nn.Module, name: str, dtype: str, compiled: bool) -> dict[str, np.ndarray]:
    """Scores and gradients of parameters and images; ``compiled`` in a step that updates the weights."""
    images = cr.tensor(zoo.images(name, 3).astype(dtype), requires_grad=True)
    upstream = cr.tensor(zoo.upstream(name).astype(dtype))
    optimizer = optim.SGD(list(made.parameters()), 1e-3)

    def passes(images: cr.Tensor) -> cr.Tensor:
        optimizer.zero_grad()
        scores = made(images)
        (scores * upstream).sum().backward()
        if compiled:
            optimizer.step()
        return scores

    scores = (cr.compile(passes) if compiled else passes)(images)
    assert images.grad is not None
    found = {"scores": scores, "images": images.grad}
    found |= {path: parameter.grad for path, parameter in made.named_parameters()}
    return {path: value.numpy() for path, value in found.items()}


def trains_otherwise(made: nn.Module) -> bool:
    """Whether a pass in training is another one than in evaluation, where nothing is left out at random."""
    return any(isinstance(module, nn.BatchNorm2d) for module in made.modules())


def distance(rough: np.ndarray, exact: np.ndarray) -> float:
    """The norm of the difference, block by block: 100 million differences at once would take longer to store than to add."""
    one, other = rough.ravel(), exact.ravel()
    parts = range(0, one.size, 1 << 18)
    return float(np.sqrt(sum(np.square(other[at : at + (1 << 18)] - one[at : at + (1 << 18)]).sum() for at in parts)))


def check_exact(name: str, form: str, exact: dict[str, np.ndarray]) -> None:
    """The norms and the kept entries of float64 tensors are those that torchvision gave."""
    names, digests = names_of(name, form), EXPECTED[f"{name}/{form}/digests"]
    assert sorted(exact) == sorted(names)
    begin, most = 0, largest(exact)
    for path in names:
        found = zoo.digest(path, exact[path])
        expected = digests[begin : begin + found.size]
        begin += found.size
        assert np.abs(found - expected).max() <= 1e-9 * expected[0] + 1e-14 * most, path
    assert begin == digests.size


def check_rough(name: str, form: str, rough: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> None:
    """Tensors of float32 are at most five times as far from float64 as PyTorch's are."""
    least_norm = 1e-9 * largest(exact)
    for path, theirs in zip(names_of(name, form), EXPECTED[f"{name}/{form}/distances"], strict=False):
        norm = np.linalg.norm(exact[path])
        if path in rough and norm > least_norm:  # what is 0 but for roundings, such as of a bias in front of a
            ours = distance(rough[path], exact[path]) / norm  # normalisation, has no distance
            assert ours <= max(5 * theirs, LEAST), f"{path}: {ours:.1e}, PyTorch {theirs:.1e}"
            assert theirs <= ROUNDINGS, path


def names_of(name: str, form: str) -> list[str]:
    return bytes(EXPECTED[f"{name}/{form}/names"]).decode().split("\n")


def largest(exact: dict[str, np.ndarray]) -> float:
    return max(float(np.linalg.norm(value)) for path, value in exact.items() if path not in ("scores", "images"))


@pytest.mark.parametrize("name", TABLES)
def test_scores_and_gradients_are_torchvisions(name: str) -> None:
    """In float64 on the reference engine, without compiling what runs once; in float32 compiled, as people train."""
    made = model(name)
    given = weights(made)
    exact = {}
    for form in ("evaluation", "training"):
        double = made.astype("float64").train(form == "training")
        if form == "evaluation" or trains_otherwise(made):
            double.load_state_dict(given)
            with cr.engine("reference"):
                exact[form] = computed(double, name, "float64", compiled=False)
        else:
            exact[form] = exact["evaluation"]
        check_exact(name, form, exact[form])

    single = made.astype("float32").eval()
    single.load_state_dict(given)
    scores = cr.compile(single.forward)(zoo.images(name, 3).astype(np.float32))
    check_rough(name, "evaluation", {"scores": scores.numpy()}, exact["evaluation"])
    check_rough(name, "training", computed(single.train(), name, "float32", compiled=True), exact["training"])


@pytest.mark.parametrize("name", TABLES)
def test_parameters_and_buffers_are_torchvisions(name: str) -> None:
    with tracing():
        made = models.MODELS[name].model(3, 1000, (224, 224))
        found = {path: list(cell.shape) for path, cell in [*made.named_parameters(), *made.named_buffers()]}
    assert found == TABLES[name]["state"]
    assert sum(parameter.size for parameter in made.parameters()) == TABLES[name]["parameters"]
