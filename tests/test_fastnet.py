"""The network that begins with what can be known without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import models, nn
from chainrule.formats import load_safetensors
from chainrule.models.fastnet import FastNet
from running import done, idx_folder, noted


def patterned(count: int, channels: int = 3, side: int = 12) -> np.ndarray:
    """Images whose neighbouring pixels and channels are alike."""
    drawn = np.random.default_rng(0).standard_normal((count, channels, side, side)).astype(np.float32)
    return drawn + np.roll(drawn, 1, 2) + np.roll(drawn, 1, 3) + 2 * drawn.mean(1, keepdims=True)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_layer_whitens_the_images(channels: int) -> None:
    made = models.build("fastnet", channels, 10, (12, 12))
    assert isinstance(made, FastNet)
    images = patterned(50, channels)
    made.initialise_from(images)
    count = channels * 4
    values = made.whiten(images).numpy().transpose(0, 2, 3, 1).reshape(-1, 2 * count).astype(np.float64)
    np.testing.assert_array_equal(values[:, :count], -values[:, count:])
    whitened = values[:, :count].T @ values[:, :count] / len(values)
    np.testing.assert_allclose(whitened, np.eye(count), atol=0.02)
    assert not made.whiten.weight.requires_grad


def test_the_same_images_give_the_same_filters_whatever_sign_the_library_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = np.linalg.eigh

    def other_signs(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        variances, components = usual(matrix)
        return variances, -components

    first, second = models.fastnet(), models.fastnet()
    first.initialise_from(patterned(20))
    monkeypatch.setattr(np.linalg, "eigh", other_signs)
    second.initialise_from(patterned(20))
    np.testing.assert_array_equal(first.whiten.weight.numpy(), second.whiten.weight.numpy())


@pytest.mark.parametrize("shape", [(5, 1, 12, 12), (5, 3, 1, 12), (0, 3, 12, 12), (3, 12, 12)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(cr.UserError, match=r"initialise_from: got images of shape .*expected \(N, 3, H, W\)"):
        models.fastnet().initialise_from(np.zeros(shape, np.float32))


def test_convolutions_begin_by_passing_on_what_they_are_given() -> None:
    block = models.fastnet().blocks[1]
    x = np.random.default_rng(0).standard_normal((1, 64, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(block.conv1(x).numpy()[:, :64], x)
    assert np.abs(block.conv1(x).numpy()[:, 64:]).max() > 0.1


def test_biases_learn_64_times_as_fast() -> None:
    made = models.fastnet().train()
    norm = made.blocks[0].norm1
    x = np.random.default_rng(0).standard_normal((4, 64, 3, 3)).astype(np.float32)
    (norm(x) * 1.0).sum().backward()
    before = norm(x).numpy()
    norm.bias.assign(norm.bias - 0.01 * norm.bias.grad)  # a step with learning rate 0.01; the slope of the sum is 4 * 9
    np.testing.assert_allclose(norm(x).numpy(), before - 0.01 * 64 * 36, rtol=1e-4)


def test_the_command_shows_it_the_training_images(tmp_path: Path) -> None:
    idx_folder(tmp_path / "patterns", training=64, test=20)
    line = ("--data", tmp_path / "patterns", "--model", "fastnet", "--batch-size", 16, "--out")
    done("train", *line, tmp_path / "run", "--epochs", 2)
    weights, _ = load_safetensors(tmp_path / "run" / "model.safetensors")
    whiten = weights["whiten.weight"].reshape(8, 4)
    np.testing.assert_array_equal(whiten[:4], -whiten[4:])
    gram = whiten[:4] @ whiten[:4].T
    np.testing.assert_allclose(gram, np.diag(gram.diagonal()), atol=1e-4)  # components of patches are at right angles


OWN = """
from chainrule import nn

class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.fc = nn.Linear(channels * 144, classes)

    def initialise_from(self, images):
        print("shown", images.shape, abs(float(images.mean())) < 0.2)

    def forward(self, x):
        return self.fc(x.flatten(1))

def make(channels, classes, size):
    return Net(channels, classes)
"""


def test_a_network_of_ones_own_may_ask_for_images(tmp_path: Path) -> None:
    idx_folder(tmp_path / "patterns", training=64, test=20)
    (tmp_path / "nets.py").write_text(OWN)
    line = ("--data", tmp_path / "patterns", "--model", f"{tmp_path / 'nets.py'}:make", "--epochs", 1)
    out, _ = noted("train", *line, "--out", tmp_path / "run")
    assert "shown (64, 1, 12, 12) True" in out


def test_it_is_a_module_with_the_published_number_of_parameters() -> None:
    learning = [one for one in models.fastnet().parameters() if one.requires_grad]
    assert isinstance(models.fastnet(), nn.Module)
    assert sum(one.size for one in learning) == 1_971_640 - 24 * 12
