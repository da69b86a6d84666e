"""Training that begins with weights of a file: a classifier for other classes is replaced, and what does not fit is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.cli import reading
from chainrule.formats import WeightFile, load_safetensors, save_safetensors
from chainrule.models import build
from chainrule.models.weights import classes_of, load_weights
from chainrule.tensor.random import manual_seed
from chainrule.train import Config, RunFolder, Stopped, Trainer, open_datasets
from running import command, done, idx_folder, image_folder, outcome, refused
from test_train_run import Stopper


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of how far files are read, however long that takes on a busy machine."""
    monkeypatch.setattr(reading, "_QUIET", 600.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in 2 and 3 classes, and files of weights of resnet20 for 3 classes and for 7."""
    folder = tmp_path_factory.mktemp("transfer")
    image_folder(folder / "three", ("cat", "dog", "owl"), each=8, shape=(8, 8, 3))
    image_folder(folder / "grey", ("cat", "dog"), each=8, shape=(8, 8))
    for classes in (3, 7):
        manual_seed(classes)
        save_safetensors(folder / f"{classes}.safetensors", build("resnet20", 3, classes, (8, 8)).state_dict(), {})
    return folder


def options(place: Path, out: Path, weights: str = "7.safetensors", data: str = "three") -> list[object]:
    given = ["--model", "resnet20", "--data", place / data, "--epochs", 1, "--batch-size", 8, "--augment", "none"]
    return ["train", *given, "--weights", place / weights, "--out", out]


FROZEN = ["--freeze", "conv1|bn1|layer[1-3]"]


def weights(run: Path) -> dict[str, np.ndarray]:
    return load_safetensors(run / "model.safetensors")[0]


def test_the_classifier_is_replaced_and_all_else_is_the_files(place: Path, tmp_path: Path) -> None:
    out = done(*options(place, tmp_path / "run"), *FROZEN)
    assert "weights of 7.safetensors: the classifier fc has new weights, for 3 classes: the file's is for 7 classes\n" in out
    assert "trained are 195 of " in out
    assert "; frozen, all or in part: conv1, bn1, layer1, layer2, layer3\n" in out
    file, found = load_safetensors(place / "7.safetensors")[0], weights(tmp_path / "run")
    assert found["fc.weight"].shape == (3, 64)
    for name, array in found.items():
        assert name.startswith("fc.") or np.array_equal(array, file[name]), name
    noted = json.loads((tmp_path / "run/config.json").read_text())
    assert noted["weights"] == str(place / "7.safetensors")
    expected = hashlib.sha256()
    for name in sorted(file):
        dtype = "float32" if file[name].dtype == np.float32 else "I64"
        expected.update(f"{name} {dtype} {file[name].shape}\n".encode() + file[name].tobytes())
    assert noted["weights_digest"] == expected.hexdigest()


def test_a_classifier_for_as_many_classes_is_kept(place: Path, tmp_path: Path) -> None:
    out = done(*options(place, tmp_path / "run", "3.safetensors"), "--freeze", "conv1|bn1|layer[1-3]|fc.bias", "--lr", 1e-30)
    assert "weights of 3.safetensors: the classifier fc is the file's, as that is for 3 classes, too\n" in out
    file = load_safetensors(place / "3.safetensors")[0]
    for name, array in weights(tmp_path / "run").items():
        np.testing.assert_array_equal(array, file[name], err_msg=name)


def test_a_run_begins_with_another_run(place: Path, tmp_path: Path) -> None:
    done(*options(place, tmp_path / "first", "3.safetensors"))
    done(*options(place, tmp_path / "second", str(tmp_path / "first")), *FROZEN, "--lr", 1e-30)
    first, second = (weights(tmp_path / name) for name in ("first", "second"))
    assert all(np.array_equal(array, second[name]) for name, array in first.items())


def test_it_resumes_without_the_file_once_there_is_a_checkpoint(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "seven.safetensors"
    file.write_bytes((place / "7.safetensors").read_bytes())
    given: dict[str, Any] = {"model": "resnet20", "data": str(place / "three"), "batch_size": 8, "epochs": 1, "augment": "none"}
    (whole := RunFolder.new(tmp_path / "whole", Config(**given, weights=str(file)))).make()
    (part := RunFolder.new(tmp_path / "part", Config(**given, weights=str(file)))).make()

    def trainer(folder: RunFolder) -> Trainer:
        opened = open_datasets(folder.config)
        folder.config = opened.config
        return Trainer(folder, training=opened.training, test=opened.test)

    trainer(whole).train(Stopper())
    with pytest.raises(Stopped):
        trainer(part).train(Stopper(1))
    file.unlink()
    resumed = trainer(RunFolder.open(part.path))
    resumed.resume()
    resumed.train(Stopper())
    assert outcome(part.path) == outcome(whole.path)


def test_another_file_of_that_name_is_refused(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes((place / "7.safetensors").read_bytes())
    (run := RunFolder.new(tmp_path / "run", Config(model="resnet20", data=str(place / "three"), weights=str(file)))).make()
    run.lock.release()
    file.write_bytes((place / "3.safetensors").read_bytes())
    message = f"{file} is not the file of weights that the run began with: put that back, or begin a new run"
    assert refused("train", "--resume", run.path) == message


def test_what_does_not_fit_is_refused_and_nothing_is_made(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    wrong = refused(*options(place, run), "--model", "resnet32")
    assert wrong.startswith(f"{place}/7.safetensors does not fit this ")
    assert wrong.endswith("\nIt fits resnet20 of 7 classes: use that model")
    grey = refused(*options(place, run, data="grey"))
    assert "\n  " in grey
    assert grey.endswith("The file is for images of 3 channels: --image-mode RGB reads a folder's images so")
    assert refused(*options(place, run, "none.safetensors")).startswith(f"{place}/none.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    assert refused(*options(place, run, str(tmp_path / "x.safetensors"))).startswith(f"{tmp_path}/x.safetensors")
    assert not run.exists()
    done(*options(place, run, data="grey"), "--image-mode", "RGB")


def test_images_that_are_too_small_say_what_the_model_needs(tmp_path: Path) -> None:
    idx_folder(tmp_path / "tiny", shape=(12, 12))
    message = refused("train", "--data", tmp_path / "tiny", "--model", "densenet121", "--out", tmp_path / "run")
    assert message == (
        "model densenet121 cannot be built for images of 1 x 12 x 12: it needs at least 29 x 29 pixels: use larger images, "
        "or a smaller model"
    )
    folder = image_folder(tmp_path / "photos", shape=(40, 40, 3))
    message = refused("train", "--data", folder, "--model", "alexnet", "--image-size", "40x40", "--out", tmp_path / "run")
    assert "it needs at least 63 x 63 pixels" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("layers", "scores"), [("nn.Linear(4, 5)", "(N, 5)"), ("nn.Unflatten(1, (2, 2))", "(N, 2, 2)")])
def test_a_network_of_ones_own_with_another_number_of_scores(layers: str, scores: str, place: Path, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    body = "nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()"
    file.write_text(
        f"from chainrule import nn\n\n\ndef net(channels, classes, size):\n    return nn.Sequential({body}, {layers})\n"
    )
    ended = command("train", "--model", f"{file}:net", "--data", place / "three", "--out", tmp_path / "run")
    assert ended.status == 2
    assert ended.err.splitlines()[-1] == (
        f"error: model {file}:net gives scores {scores} for N images of 3 x 8 x 8, and there are 3 classes: its last layer "
        "must give (N, 3)"
    )
    assert not (tmp_path / "run").exists()


OWN = """from chainrule import nn


class Net(nn.Module):
    def __init__(self, channels, classes, size):
        super().__init__()
        self.fc = nn.Linear(6, classes)
        self.conv = nn.Conv2d(channels, 6, 3)

    def forward(self, images):
        return self.fc(self.conv(images).mean((2, 3)))


class Pair(Net):
    def forward(self, images):
        return super().forward(images), 1


class Misspelt(Net):
    def forward(self, images):
        return self.cf(images)


def nothing(channels, classes, size):
    return nn.Flatten()


def frozen(channels, classes, size):
    return Net(channels, classes, size).requires_grad_(False)
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pair", "gives a tuple for its images: it must return its scores, a tensor (N, classes)"),
        ("Misspelt", "failed on images (8, 3, 8, 8): AttributeError: "),
        ("nothing", "nothing returned a network without parameters: nothing can learn"),
        ("frozen", "no parameter of this Net is to be trained: all of them have requires_grad=False"),
    ],
)
def test_a_network_of_ones_own_that_cannot_be_trained(name: str, message: str, place: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(OWN)
    given = ("--model", f"{tmp_path / 'net.py'}:{name}", "--data", place / "three", "--batch-size", 8)
    ended = command("train", *given, "--out", tmp_path / "run")
    note, error = ended.err.splitlines()
    assert ended.status == 2
    assert note.startswith("note: the network is made by running "), "before it is run"
    assert error.startswith("error: ")
    assert message in error
    assert not name.startswith("Mis") or error.endswith("(line 21)")
    assert not (tmp_path / "run").exists()


def test_a_network_whose_last_layer_is_not_its_classifier(place: Path, tmp_path: Path) -> None:
    """Nothing of it begins anew where the file is for as many classes, and for others it is refused."""
    (tmp_path / "net.py").write_text(OWN)
    given = ("train", "--model", f"{tmp_path / 'net.py'}:Net", "--epochs", 1, "--lr", 1e-30)
    assert command(*given, "--data", place / "three", "--out", tmp_path / "first").status == 0
    again = command(*given, "--data", place / "three", "--weights", tmp_path / "first", "--out", tmp_path / "second")
    assert again.status == 0
    assert "new weights" not in again.out
    assert weights(tmp_path / "first").keys() == {"fc.weight", "fc.bias", "conv.weight", "conv.bias"}
    for name, array in weights(tmp_path / "first").items():
        np.testing.assert_array_equal(array, weights(tmp_path / "second")[name], err_msg=name)
    options = ("--image-mode", "RGB", "--weights", tmp_path / "first", "--out", tmp_path / "third")
    refusal = command(*given, "--data", place / "grey", *options)
    assert refusal.status == 2
    assert "  fc.weight: the model has shape (2, 6), the file (3, 6)\n" in refusal.err
    assert refusal.err.endswith(
        "\nIts last layer, conv, gives no 2 scores: for other classes than the file's, the layer that gives them must be the "
        "last that the network has\n"
    )


def test_weights_for_images_of_another_size_say_which(place: Path, tmp_path: Path) -> None:
    build("lenet", 1, 10, (28, 28)).save(tmp_path / "lenet.safetensors")
    given = ("train", "--weights", tmp_path / "lenet.safetensors", "--data", place / "grey", "--epochs", 1)
    assert refused(*given, "--image-size", "12x12", "--out", tmp_path / "run") == (
        f"{tmp_path}/lenet.safetensors does not fit this Sequential:\n"
        "  7.weight: the model has shape (120, 16), the file (120, 400)\n"
        "It fits lenet of 10 classes for images of 28 x 28: use images of that size\n"
        "--image-size 28x28 reads a folder's images so"
    )
    done(*given, "--image-size", "28x28", "--out", tmp_path / "run")


def test_classes_of_a_file_with_a_prefix_and_without_a_classifier(place: Path, tmp_path: Path) -> None:
    model = build("resnet20", 3, 10, (8, 8))
    arrays = load_safetensors(place / "7.safetensors")[0]
    assert classes_of(model, WeightFile(place / "7.safetensors")) == 7
    save_safetensors(tmp_path / "prefix.safetensors", {f"module.{name}": array for name, array in arrays.items()}, {})
    assert classes_of(model, WeightFile(tmp_path / "prefix.safetensors")) == 7
    headless = {name: array for name, array in arrays.items() if not name.startswith("fc")}
    save_safetensors(tmp_path / "headless.safetensors", headless, {})
    assert classes_of(model, WeightFile(tmp_path / "headless.safetensors")) is None
    out = done(*options(place, tmp_path / "run", str(tmp_path / "headless.safetensors")))
    assert "the classifier fc has new weights, for 3 classes: the file has none\n" in out


# ---- which of the weights, and how images are normalised


def settings(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text())


def facts(run: Path) -> dict[str, Any]:
    return json.loads(load_safetensors(run / "model.safetensors")[1]["chainrule"])


@pytest.fixture(scope="module")
def averaged(place: Path) -> Path:
    """A run of resnet20 on three classes whose weights are averaged, and are far from their averages."""
    options = ["--model", "resnet20", "--data", place / "three", "--epochs", 1, "--batch-size", 8, "--ema", 0.999, "--lr", 0.05]
    command("train", *options, "--out", place / "averaged")
    return place / "averaged"


def test_a_checkpoint_gives_the_averages_as_all_else_of_its_run_does(averaged: Path, place: Path, tmp_path: Path) -> None:
    checkpoint = averaged / "checkpoint.safetensors"
    both, tested = load_safetensors(checkpoint)[0], weights(averaged)
    assert not np.allclose(both["model.fc.weight"], tested["fc.weight"]), "else nothing is shown"
    model = build("resnet20", 3, 3, (8, 8))
    loaded = load_weights(model, checkpoint)
    assert loaded.notes[0].startswith(
        "names in the file begin with 'ema.module.', which is left out: they are the averages of the weights, which its "
        "training tested; what does not is not used: ema.n_averaged, "
    )
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, tested[name], err_msg=name)
    out = done(*options(place, tmp_path / "run", str(checkpoint)), *FROZEN)
    assert "begin with 'ema.module.', which is left out: they are the averages" in out
    np.testing.assert_array_equal(weights(tmp_path / "run")["conv1.weight"], tested["conv1.weight"])


def test_the_averages_in_files_of_others_are_taken(place: Path, tmp_path: Path) -> None:
    """As those that torchvision's and timm's training programs keep."""
    plain = load_safetensors(place / "7.safetensors")[0]
    zero = {name: np.zeros_like(array) for name, array in plain.items()}
    for prefix in ("model_ema.module.", "state_dict_ema."):
        both = {f"model.{name}": array for name, array in zero.items()} | {prefix + name: plain[name] for name in plain}
        save_safetensors(tmp_path / "both.safetensors", both, {})
        load_weights(model := build("resnet20", 3, 7, (8, 8)), tmp_path / "both.safetensors")
        np.testing.assert_array_equal(model.state_dict()["conv1.weight"], plain["conv1.weight"])


def test_a_checkpoint_says_what_its_weights_are_for(averaged: Path, place: Path) -> None:
    image = place / "three/cat/0.png"
    of_run = json.loads(done("predict", averaged, image, "--json"))
    ended = command("predict", "--weights", averaged / "checkpoint.safetensors", image, "--json")
    assert ended.err.startswith("note: names in the file begin with 'ema.module.', ")
    assert json.loads(ended.out) == of_run


def test_images_are_normalised_as_the_weights_were_trained(averaged: Path, place: Path, tmp_path: Path) -> None:
    def trained(*given: object, weights: str = "7.safetensors") -> tuple[dict[str, Any], dict[str, Any], str]:
        run = tmp_path / str(len(list(tmp_path.iterdir())))
        out = done(*options(place, run, weights), *given)
        return settings(run), facts(run), out

    noted, beside, out = trained()
    assert noted["normalise"] == "imagenet"
    assert (beside["mean"], beside["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert "\nimages are normalised as those of ImageNet (--normalise chooses another way)\n" in out

    own = facts(averaged)["mean"], facts(averaged)["std"]
    noted, beside, out = trained("--normalise", "images")
    assert noted["normalise"] == "images"
    assert (beside["mean"], beside["std"]) == own
    assert "images are normalised" not in out

    noted, beside, out = trained("--normalise", "0.5/0.25")
    assert (beside["mean"], beside["std"]) == ([0.5] * 3, [0.25] * 3)
    assert "\nimages are normalised by mean 0.5 and standard deviation 0.25 (--normalise chooses another way)\n" in out

    done("train", "--model", "resnet20", "--data", place / "three", "--epochs", 1, "--limit", 9, "--out", tmp_path / "few")
    assert settings(tmp_path / "few")["normalise"] == ""
    of_few = facts(tmp_path / "few")["mean"], facts(tmp_path / "few")["std"]
    assert of_few != own, "else nothing is shown"
    for file in ("", "/model.safetensors", "/checkpoint.safetensors"):
        noted, beside, out = trained(weights=f"{tmp_path}/few{file}")
        assert (beside["mean"], beside["std"]) == of_few, "to the last bit"
        assert "\nimages are normalised by mean " in out


def test_weights_of_others_for_grey_images_leave_them_to_their_own_mean(place: Path, tmp_path: Path) -> None:
    build("lenet", 1, 2, (28, 28)).save(tmp_path / "grey.safetensors")
    given = ("train", "--weights", tmp_path / "grey.safetensors", "--data", place / "grey", "--image-size", "28x28")
    done(*given, "--epochs", 1, "--out", tmp_path / "run")
    assert settings(tmp_path / "run")["normalise"] == "images"
    assert refused(*given, "--normalise", "imagenet", "--out", tmp_path / "no") == (
        "normalise imagenet is for images of 3 channels, these have 1: --image-mode RGB reads a folder's images so"
    )
    for wrong in ("imagnet", "0.5", "0.5/0", "0.5/nan", "0.5,0.5/0.2", "/", "0.5/x"):
        assert refused(*given, "--normalise", wrong, "--out", tmp_path / "no") == (
            "normalise must be images, imagenet, or MEAN/STD of pixels from 0 to 1, with one number or one for each channel, "
            f"such as 0.5/0.5 or 0.49,0.48,0.45/0.2,0.2,0.2, got {wrong!r}"
        )


def test_what_the_network_gets_is_normalised_so(place: Path, tmp_path: Path) -> None:
    (folder := RunFolder.new(tmp_path / "run", Config(data=str(place / "three"), normalise="imagenet", augment="none"))).make()
    opened = open_datasets(folder.config)
    folder.config = opened.config
    trainer = Trainer(folder, training=opened.training, test=opened.test)
    images, _ = next(iter(trainer.test_loader))
    pixels = opened.test.images(np.arange(len(opened.test))).astype(np.float32) / 255
    mean, std = (np.array(three, np.float32).reshape(3, 1, 1) for three in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    np.testing.assert_allclose(images, (pixels - mean) / std, atol=1e-5)
    folder.lock.release()
