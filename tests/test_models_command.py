"""Models in the command: their list, a network of one's own from training to prediction, image sizes that suit a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.formats import load_safetensors
from chainrule.models import MODELS
from chainrule.train import Config, open_datasets
from running import command, done, idx_folder, outcome, pictures, refused, tensors

NET = """
from chainrule import nn

def make_net(channels, classes, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))
"""


def test_the_list_of_models() -> None:
    lines = done("models").splitlines()
    assert lines[0].split("  ")[0] == "model"
    assert [line.split()[0] for line in lines[1 : 1 + len(MODELS)]] == list(MODELS)
    assert lines[1 + list(MODELS).index("resnet50")].split() == [
        *("resnet50", "25.6M", "4.09G", "3x224x224", "1", "427", "He", "et", "al.", "2015")
    ]
    assert "multiplications, each with its addition, for one image" in " ".join(lines[1 + len(MODELS) :])


def test_some_of_the_models_and_their_facts_as_json() -> None:
    assert [line.split()[0] for line in done("models", "vgg1").splitlines()[1:9]] == [
        *("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn")
    ]
    (row,) = json.loads(done("models", "densenet", "--json"))
    assert row == {
        "name": "densenet121",
        "image": [3, 224, 224],
        "classes": 1000,
        "least": 29,
        "parameters": 7_978_856,
        "multiply_adds": 2_834_161_664,
        "receptive_field": 2071,
        "paper": "Huang et al. 2017",
    }
    assert refused("models", "resmet18").startswith("unknown model 'resmet18': did you mean 'resnet18'?")


def test_a_summary_takes_the_images_that_a_model_is_made_for() -> None:
    assert done("summary", "squeezenet1_1").splitlines()[-1].endswith("for an input of 1 x 3 x 224 x 224")
    assert "61,706 parameters, 416,520 multiply-adds for an input of 1 x 1 x 28 x 28" in done("summary")
    assert "11,181,642 parameters" in done("summary", "resnet18", "--classes", 10)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NET)
    idx_folder(tmp_path / "patterns")
    return tmp_path


def test_a_network_of_ones_own_is_trained_resumed_evaluated_and_predicted(place: Path) -> None:
    warning = f"note: the network is made by running {place}/nets.py:make_net (SHA-256 "
    options = ("--data", "patterns", "--model", "nets.py:make_net", "--epochs", 2)
    ended = command("train", *options)
    assert (ended.status, ended.err.startswith(warning)) == (0, True), ended
    run = place / "runs" / "make_net-patterns-1"
    config = json.loads((run / "config.json").read_text())
    assert config["model"] == f"{place}/nets.py:make_net"
    assert len(config["model_digest"]) == 64
    trained = outcome(run)  # before evaluate leaves its pictures there
    for arguments in (("train", "--resume", run), ("evaluate", run), ("predict", run, place / "one.png")):
        image = pictures(1, 4, (12, 12))[0][0]
        Image.fromarray(image).save(place / "one.png")
        ended = command(*arguments)
        assert (ended.status, ended.err.startswith(warning)) == (0, True), (arguments, ended)

    again = command("train", *options, "--out", "again")
    assert again.status == 0
    assert outcome(place / "again") == trained

    (place / "nets.py").write_text(NET + "\nopen('ran', 'w')\n")
    for arguments in (("train", "--resume", run), ("evaluate", run), ("predict", run, place / "one.png")):
        ended = command(*arguments)
        assert ended.status == 2
        assert "nets.py is not the file that the run was trained with (SHA-256 " in ended.err
        assert "put it back as it was, or train anew" in ended.err
    assert not (place / "ran").exists()


def test_nothing_in_a_run_folder_is_run(place: Path) -> None:
    command("train", "--data", "patterns", "--model", "nets.py:make_net", "--epochs", 1, "--out", "run")
    config = Config(model="nets.py:make_net", data="patterns", epochs=1)
    sent = shutil.copytree(place / "run", place / "sent")
    (sent / "nets.py").write_text(NET + f"\nopen({str(place / 'ran')!r}, 'w')\n")
    inside = Config(**{**vars(config), "model": f"{sent}/nets.py:make_net", "model_digest": ""})
    (sent / "config.json").write_text(inside.to_json())
    for arguments in (("train", "--resume", sent), ("evaluate", sent), ("predict", sent, "one.png")):
        assert "as the code of its model, which lies in the folder itself: nothing in a run folder is run" in refused(
            *arguments
        )
    assert not (place / "ran").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("missing.py:make_net", "model missing.py:make_net: there is no file missing.py: give FILE.py:FUNCTION"),
        ("nets.py:make_nett", "unknown function 'make_nett': did you mean 'make_net'?"),
        ("resnet19", "unknown model 'resnet19': did you mean 'resnet18'?"),
        ("nets.py", "unknown model 'nets.py'"),
    ],
)
def test_a_model_that_there_is_not(place: Path, model: str, message: str) -> None:
    ended = command("train", "--data", "patterns", "--model", model, "--out", "run")
    assert ended.status == 2
    assert message in ended.err
    assert not (place / "run").exists()


@pytest.mark.parametrize(
    ("model", "sizes", "expected"),
    [
        ("lenet", [(300, 400)], "64x64"),
        ("resnet18", [(300, 400)], "224x224"),
        ("resnet18", [(200, 400)], "192x192"),
        ("resnet18", [(32, 32)], "32x32"),
        ("resnet20", [(300, 400)], "64x64"),
        ("alexnet", [(32, 32)], "63x63"),
        ("alexnet", [(30, 40), (50, 30)], "63x63"),
        ("efficientnet_b3", [(500, 500)], "300x300"),
    ],
)
def test_the_size_that_is_proposed_suits_the_model(
    model: str, sizes: list[tuple[int, int]], expected: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = sizes[number % len(sizes)]
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(path)
    opened = open_datasets(Config(model=model, data=str(tmp_path / "photos"), batch_size=2))
    assert opened.config.image_size == expected


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import sys\nsys.exit()",
            "called sys.exit() (line 2) while it was read: put what it is to do as a program below if __n",
        ),
        ("raise SystemExit('done')", "called sys.exit('done') (line 1) while it was read: "),
        ("1 / 0", "does not run: ZeroDivisionError: division by zero (line 1)"),
        ("def make_net(*_):\n    raise SystemExit(3)", "make_net called sys.exit(3) (line 2): it must return an nn.Module"),
        (
            "from chainrule import nn\nclass make_net(nn.Linear):\n    def __init__(self, *_):\n"
            "        super().__init__(1, 1)\n    def forward(self, images):\n        raise SystemExit(0)",
            "make_net called sys.exit(0) (line 6) on images ",
        ),
    ],
)
def test_a_file_of_ones_own_that_ends_the_program(place: Path, code: str, message: str) -> None:
    """Otherwise the command would end without a word, and as if it had done what it was asked for."""
    (place / "nets.py").write_text(code + "\n")
    ended = command("train", "--data", "patterns", "--model", "nets.py:make_net", "--epochs", 1, "--out", "run")
    assert ended.status == 2
    assert ended.err.splitlines()[-1].startswith("error: ")
    assert message in ended.err
    assert not (place / "run").exists()


FROZEN = """
from chainrule import nn

def make_net(channels, classes, size):
    body = nn.Sequential(nn.Conv2d(channels, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    body.requires_grad_(False)
    return nn.Sequential(body, nn.Linear(3, classes))
"""


def test_a_network_that_freezes_parts_itself(place: Path) -> None:
    """What it freezes is frozen as by --freeze: running statistics stay as they are, too."""
    (place / "nets.py").write_text(FROZEN)
    given = ("train", "--data", "patterns", "--model", "nets.py:make_net", "--epochs", 1, "--batch-size", 16)
    first, second = command(*given, "--out", "first"), command(*given, "--freeze", "0", "--out", "second")
    for ended in (first, second):
        assert ended.status == 0
        assert "trained are 16 of 52 parameters; frozen, all or in part: 0\n" in ended.out
    assert tensors(place / "first/model.safetensors") == tensors(place / "second/model.safetensors")
    trained = load_safetensors(place / "first/model.safetensors")[0]
    np.testing.assert_array_equal(trained["0.1.running_mean"], 0)
    assert trained["0.1.num_batches_tracked"] == 0
    message = command(*given, "--freeze", "1", "--out", "third").err.splitlines()[-1]
    assert message == (
        "error: freeze: the pattern '1' fits every parameter that is not frozen already, as 0.0.weight, 0.0.bias, 0.1.weight, "
        "0.1.bias, so that nothing would be trained: leave out a part of the model, such as '1'"
    )
    assert not (place / "third").exists()
