"""A step of a run that is taken again: bit for bit, without a file of the run being touched; what its images pulled."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.errors import UserError
from chainrule.formats import load_safetensors
from chainrule.train import Config, RunFolder, Trainer, open_datasets, step_again
from chainrule.train.diagnosis.health_record import read_health
from running import command, done, idx_folder, refused
from test_train_run import Stopper


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return idx_folder(tmp_path_factory.mktemp("again") / "patterns", training=40, test=20)


def trained(folder: Path, data: Path, **options: Any) -> Trainer:
    config = Config(**{"model": "mlp", "data": str(data), "epochs": 2, "batch_size": 16, "lr": 0.05, **options})
    run = RunFolder.new(folder, config)
    opened = open_datasets(config)
    run.config = opened.config
    made = Trainer(run, training=opened.training, test=opened.test)
    run.make()
    made.train(Stopper())
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "lenet", "augment": "shift", "mixup": 0.4, "ema": 0.9, "optimizer": "adamw"},
        {"batch_size": 4, "accumulate": 4, "clip_norm": 0.5, "schedule": "cosine"},
    ],
    ids=["plain", "mixed", "accumulated"],
)
def test_the_same_losses_come_back_and_nothing_is_changed(tmp_path: Path, data: Path, options: dict[str, Any]) -> None:
    trained(tmp_path / "run", data, **options)
    before = contents(tmp_path / "run")
    flow = read_health(tmp_path / "run/health.bin").flow
    done_so_far: list[tuple[int, int]] = []
    for step, loss in zip(flow.steps.tolist(), flow.losses.tolist(), strict=True):
        done_so_far.clear()
        found = step_again(tmp_path / "run", step, lambda *how_far: done_so_far.append(how_far))
        assert found.loss == loss
        assert (found.step, found.epoch, found.batch) == (step, (step - 1) // 3 + 1, (step - 1) % 3 + 1)
        assert done_so_far == [(number, step) for number in range(1, step)]
        assert len(found.images) == (8 if found.batch == 3 else 16)
        assert found.unknown == ""
        norms = [image.gradient for image in found.images]
        assert norms == sorted(norms, reverse=True)  # type: ignore[type-var]
    assert contents(tmp_path / "run") == before
    with pytest.raises(UserError, match=r"step 7 is not in .*run, which has 6 steps"):
        step_again(tmp_path / "run", 7)


def test_an_image_with_a_wrong_label_pulls_harder(tmp_path: Path) -> None:
    """After some epochs, when the others pull no more."""
    data = idx_folder(tmp_path / "patterns", training=40, test=20)
    (labels,) = (path for path in data.iterdir() if "train-labels" in path.name)
    content = bytearray(labels.read_bytes())
    content[8 + 5] = (content[8 + 5] + 1) % 4
    labels.write_bytes(bytes(content))
    made = trained(tmp_path / "run", data, epochs=8, label_smoothing=0.0, lr=0.1)
    step = next(step for step in range(16, 25) if 5 in made.loader.numbers(*divmod(step - 1, 3)))
    found = step_again(tmp_path / "run", step)
    assert found.images[0].number == 5
    assert found.sentence().startswith(f"step {step}, batch ")
    assert re.search(r"; images? 5\b.* pulled more than 3 times as hard as the median of ", found.sentence())
    assert [line.split()[0] for line in str(found).splitlines()[3:5]] == ["5", str(found.images[1].number)]
    early = step_again(tmp_path / "run", 1)
    assert "; no image stands out: the largest gradient is " in early.sentence()


def test_steps_that_come_out_differently_are_refused(tmp_path: Path, data: Path) -> None:
    trained(tmp_path / "run", data)
    folder = RunFolder.open(tmp_path / "run")
    folder.config = Config(**{**vars(folder.config), "seed": 5})
    with pytest.raises(UserError, match=r"come out differently here: the loss of step 1 was 1\.\d+ then and is"):
        step_again(folder, 3)


def test_a_network_without_known_gradients_says_so(tmp_path: Path, data: Path) -> None:
    own = tmp_path / "net.py"
    own.write_text(
        "from chainrule import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, classes, size):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(size[0] * size[1], classes)\n\n    def forward(self, x):\n"
        "        return self.fc(x.flatten(1)) + 0 * self.fc(x.flatten(1))\n\n\n"
        "def make_net(channels, classes, size):\n    return Net(classes, size)\n"
    )
    trained(tmp_path / "run", data, model=f"{own}:make_net")
    found = step_again(tmp_path / "run", 2)
    if found.unknown:
        assert all(image.gradient is None for image in found.images)
        assert found.unknown in found.sentence()


def test_the_command(tmp_path: Path, data: Path) -> None:
    trained(tmp_path / "run", data)
    out = done("health", tmp_path / "run", "--step", 4)
    assert out.startswith("step 4, batch 1 of epoch 2: loss ")
    assert "Images in step 4, the largest gradients first" in out
    facts = json.loads(done("health", tmp_path / "run", "--step", 4, "--json"))
    assert facts["step"] == 4
    assert len(facts["images"]) == 16
    assert not (tmp_path / "run" / "health").exists(), "nothing is drawn"
    assert refused("health", tmp_path / "run", "--step", 4, "--out", "x").startswith("--out is where the picture goes")
    assert refused("health", tmp_path / "run", "--step", 99).endswith("which has 6 steps")
    assert command("health", tmp_path / "run", "--step", 0).status == 2


def poisoned(folder: Path) -> Path:
    """Images of which one is blank, and a network that stretches each to its range: that one becomes nan."""
    data = idx_folder(folder / "patterns", training=40, test=20)
    (images,) = (path for path in data.iterdir() if "train-images" in path.name)
    content = bytearray(images.read_bytes())
    content[16 + 7 * 144 : 16 + 8 * 144] = bytes(144)
    images.write_bytes(bytes(content))
    (folder / "net.py").write_text(
        "from chainrule import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, classes, size):\n"
        "        super().__init__()\n        self.fc = nn.Linear(size[0] * size[1], classes)\n\n"
        "    def forward(self, x):\n        x = x.flatten(1)\n        low, high = x.min(1), x.max(1)\n"
        "        return self.fc((x - low.reshape(-1, 1)) / (high - low).reshape(-1, 1))\n\n\n"
        "def make_net(channels, classes, size):\n    return Net(classes, size)\n"
    )
    return data


def test_steps_that_were_left_out_are_left_out_again_and_can_be_looked_at(tmp_path: Path) -> None:
    data = poisoned(tmp_path)
    made = trained(tmp_path / "run", data, model=f"{tmp_path / 'net.py'}:make_net", augment="none", on_nan="skip", epochs=3)
    first, *others = made.progress.skipped
    assert len(others) == 2, "once an epoch"
    bad = step_again(tmp_path / "run", first)
    assert (bad.images[0].number, bad.update) == (7, None)
    assert np.isnan(bad.loss)
    assert bad.sentence().endswith("loss nan before it, not taken, as it is not finite; the gradient of image 7 is not finite")
    assert "  nan" in str(bad)
    assert others[0] + 1 <= made.steps
    later = step_again(tmp_path / "run", others[0] + 1)
    assert later.update is not None
    assert np.isfinite(later.loss)


def test_the_step_at_which_a_training_ended_can_be_looked_at(tmp_path: Path) -> None:
    data = poisoned(tmp_path)
    with pytest.raises(UserError, match="the loss became nan at step"):
        trained(tmp_path / "run", data, model=f"{tmp_path / 'net.py'}:make_net", augment="none")
    step = json.loads(load_safetensors(tmp_path / "run/capsule.safetensors")[1]["chainrule"])["step"]
    assert step_again(tmp_path / "run", step).images[0].number == 7
