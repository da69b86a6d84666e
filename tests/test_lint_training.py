"""What a training says before and after its first step, and that saying it changes no bit of what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.data import ArrayDataset, mnist
from chainrule.errors import UserError
from chainrule.train import Config, Evaluation, Findings, RunFolder, StepReport, Stopped, Trainer
from chainrule.train.diagnosis.first_step import FirstStep
from chainrule.train.run_data import limited
from running import command, image_folder

NETWORK = """
from chainrule import nn
import chainrule as cr


class Net(nn.Module):
    def __init__(self, classes, inputs):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, classes))
        self.extra = nn.Linear(3, 3)

    def forward(self, x):
        return nn.functional.softmax(self.body(x), 1)


def net(channels, num_classes, size):
    return Net(num_classes, channels * size[0] * size[1])
"""


class Listener:
    """Hears what is found, and stops after ``stop`` steps; 0 for never."""

    def __init__(self, stop: int = 0) -> None:
        self.stop, self.steps = stop, 0
        self.heard: list[tuple[int, Findings]] = []

    def on_findings(self, findings: Findings) -> None:
        self.heard.append((self.steps, findings))

    def on_step(self, report: StepReport) -> None:
        self.steps += 1

    def on_remark(self, remark: str) -> None: ...
    def on_evaluation(self, images: int, total: int) -> None: ...
    def on_epoch(
        self, epoch: int, train_loss: float, train_accuracy: float, evaluation: Evaluation, seconds: float
    ) -> None: ...

    def should_stop(self) -> bool:
        return self.steps == self.stop != 0


@pytest.fixture
def network(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(NETWORK)
    return f"{tmp_path / 'own.py'}:net"


def trainer(folder: Path, **options: Any) -> Trainer:
    rng = np.random.default_rng(0)
    images = ArrayDataset(rng.integers(0, 256, (20, 6, 6), np.uint8), np.arange(20) % 3)
    run = RunFolder.new(folder, Config(batch_size=6, epochs=2, **options))
    run.make()
    return Trainer(run, training=images, test=images)


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"mixup": 0.3}, {"precision": "bfloat16"}])
def test_looking_changes_no_bit(options: dict[str, Any], network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looking = Listener()
    trainer(tmp_path / "looking", model=network, **options).train(looking)
    before, after = looking.heard
    assert (before[0], before[1].names) == (0, ("softmax-before-cross-entropy",))
    assert before[1][0].place == "layer Net (own.py:13)"
    assert (after[0], after[1].names) == (0, ("no-path-to-loss",))
    assert after[1][0].place == "extra.weight, extra.bias"
    monkeypatch.setattr(FirstStep, "before", lambda self, images, labels: Findings())
    blind = Listener()
    trainer(tmp_path / "blind", model=network, **options).train(blind)
    assert blind.heard == []
    for name in ("checkpoint.safetensors", "model.safetensors"):
        parts = [(tmp_path / run / name).read_bytes() for run in ("looking", "blind")]
        assert _tensors(parts[0]) == _tensors(parts[1])


def _tensors(file: bytes) -> bytes:
    """What stands behind the header of a safetensors file, which holds times."""
    return file[8 + int.from_bytes(file[:8], "little") :]


def test_a_resumed_run_says_nothing_again(network: str, tmp_path: Path) -> None:
    first = Listener(stop=2)
    run = trainer(tmp_path / "run", model=network)
    with pytest.raises(Stopped):
        run.train(first)
    assert len(first.heard) == 2
    again = Trainer(RunFolder.open(tmp_path / "run"), training=run.loader.dataset, test=run.loader.dataset)
    again.resume()
    second = Listener()
    again.train(second)
    assert second.heard == []


def test_findings_of_a_run_are_silenced_by_name(network: str, tmp_path: Path) -> None:
    listener = Listener(stop=1)
    with pytest.raises(Stopped):
        trainer(tmp_path / "run", model=network, silence="softmax-before-cross-entropy,no-path-to-loss").train(listener)
    assert listener.heard == []


def test_nothing_is_said_of_the_default_run_nor_of_frozen_parts_and_biases_of_the_paper(tmp_path: Path) -> None:
    digits = limited(mnist("train"), 640)
    for options in ({}, {"freeze": "0"}, {"model": "vgg_small"}):
        run = RunFolder.new(tmp_path / str(len(options)) / options.get("model", "lenet"), Config(**options))
        run.make()
        made = Trainer(run, training=digits, test=digits)
        images, labels = next(iter(made.loader))
        assert made._first.before(images, labels) == Findings()
        if not options:
            made.step(images, labels)
            assert made._first.after() == Findings()
            assert not made._first.is_due


def test_what_a_network_freezes_by_itself_is_said_and_what_an_option_freezes_is_not(network: str, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(path.read_text() + "\n\ndef frozen(*arguments):\n    made = net(*arguments)\n")
    path.write_text(path.read_text() + "    made.body[1].requires_grad_(False)\n    return made\n")
    silence = "softmax-before-cross-entropy,no-path-to-loss"
    said = []
    for model, options in ((f"{path}:frozen", {}), (f"{path}:frozen", {"freeze": "body.1"}), (network, {"freeze": "body.1"})):
        listener = Listener(stop=1)
        with pytest.raises(Stopped):
            trainer(tmp_path / str(len(said)), model=model, silence=silence, **options).train(listener)
        said.append([(finding.name, finding.place) for _, findings in listener.heard for finding in findings])
    assert said == [[("frozen", "body.1.weight, body.1.bias")], [], []]


def test_the_command_says_it_in_notes_beside(network: str, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos")
    line = ["train", "--model", network, "--data", str(folder), "--epochs", "1", "--batch-size", "8", "--out"]
    told = command(*line, str(tmp_path / "a"))
    assert told.status == 0
    said = " ".join(told.err.split())
    assert "note: layer Net (own.py:13): the scores are the results of a softmax" in said
    assert "cross_entropy takes scores (--silence softmax-before-cross-entropy)" in said
    assert "note: extra.weight, extra.bias: no gradient: not read in this step; call the layer in forward" in said
    quiet = command(*line, str(tmp_path / "b"), "--silence", "all")
    assert (quiet.status, "softmax" in quiet.err) == (0, False)
    wrong = command(*line, str(tmp_path / "c"), "--silence", "softmax")
    assert wrong.status != 0
    assert "unknown finding in silence 'softmax': did you mean 'softmax-before-cross-entropy'?" in " ".join(wrong.err.split())


@pytest.mark.parametrize("model", ["lenet", "mlp", "own"])
def test_images_with_their_channels_last(model: str, tmp_path: Path) -> None:
    """A network that can be built for them is remarked on, and of one that cannot it is said why."""
    (tmp_path / "own.py").write_text(
        "from chainrule import nn\ndef net(c, k, s):\n"
        "    return nn.Sequential(nn.Conv2d(c, 2, 5), nn.Flatten(), nn.Linear(48, k))\n"
    )
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28, 3)).astype(np.uint8)
    data = ArrayDataset(images, np.arange(12) % 3, name="photos")
    config = Config(model=f"{tmp_path}/own.py:net" if model == "own" else model, epochs=1, batch_size=6)
    folder = RunFolder.new(tmp_path / "run", config)
    if model == "mlp":
        folder.make()
        heard = Listener()
        Trainer(folder, training=data, test=data).train(heard)
        (said,) = [one for one in heard.heard[0][1] if one.name == "channels-last"]
        assert "looks like that of 6 images of 28 x 28 with 3 channels in the last place" in said.what
        return
    with pytest.raises(UserError) as error:
        Trainer(folder, training=data, test=data)
    first, second = str(error.value).split("\n")
    assert second == (
        "photos looks like images of 28 x 28 with their channels last: data sets have them first, (N, C, H, W), so give it "
        "images.transpose(0, 3, 1, 2)"
    )
    assert "28 x 28 x 3" in first or "does not fit the width 3" in first
