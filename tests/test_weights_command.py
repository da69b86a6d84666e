"""--weights FILE in the command, and the LeNet that ships with the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import chainrule as cr
from chainrule import data, models
from chainrule.data import MNIST_SAMPLES
from chainrule.data.image_files import decode
from chainrule.formats import load_safetensors
from chainrule.models import TRAINED_LENET, trained_lenet
from chainrule.train import model_of_weights, shipped_model
from running import command, done, idx_folder, image_folder, noted, refused

NET = """
from chainrule import nn

def make_net(channels, classes, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights of others: of a model of three classes, saved as PyTorch's are."""
    folder = tmp_path_factory.mktemp("weights")
    cr.manual_seed(0)
    models.resnet20(num_classes=3).save(folder / "net.safetensors")
    image_folder(folder / "photos", ("cat", "cow", "dog"), each=4, shape=(32, 32, 3))
    return folder


# ---- the LeNet that ships


def test_the_lenet_that_ships_reads_digits() -> None:
    model = trained_lenet()
    assert not model.training
    test = data.mnist("test")
    images = test.images(np.arange(1000)).astype(np.float32)
    with cr.no_grad():
        found = model((images / 255 - 0.1307) / 0.3081).argmax(1).numpy()
    right = int((found == test.labels[:1000]).sum())
    assert right >= 990
    assert [one.top[0][0] for one in shipped_model().predict(MNIST_SAMPLES)] == ["7", "2", "1"]


def test_its_file_is_small_and_says_what_it_is() -> None:
    assert 240_000 < TRAINED_LENET.stat().st_size < 260_000
    tensors, metadata = load_safetensors(TRAINED_LENET)
    assert {name: value.shape for name, value in tensors.items()} == {
        name: value.shape for name, value in models.lenet().state_dict().items()
    }
    facts = json.loads(metadata["chainrule"])
    assert (facts["model"], facts["image_shape"], facts["classes"]) == ("lenet", [1, 28, 28], list("0123456789"))
    readme = (TRAINED_LENET.parent / "README.md").read_text()
    assert "scripts/trained_lenet.py" in readme
    assert "Apache-2.0" in readme


def test_without_a_run_the_lenet_that_ships_predicts_and_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(MNIST_SAMPLES[0], "seven.png")
    lines = done("predict", "seven.png").splitlines()
    assert lines[0] == "taken for digits by the LeNet that ships with chainrule:"
    assert lines[2].split()[:2] == ["seven.png", "7"]
    assert [one["top"][0]["class"] for one in json.loads(done("predict", "seven.png", MNIST_SAMPLES[1], "--json"))] == [
        "7",
        "2",
    ]
    assert done("predict").splitlines()[-1].split()[:2] == ["one.png", "1"]
    assert json.loads(done("predict", "*.png", "--json"))[0]["image"] == "seven.png"
    ended = command("predict", "missing.png")
    assert (ended.status, ended.out) == (1, "")
    assert "missing.png cannot be read (No such file or directory)" in ended.err
    assert refused("predict", "missing").startswith("there is no run folder missing")
    idx_folder(tmp_path / "digits", classes=10, shape=(28, 28))
    assert json.loads(done("evaluate", "--data", "digits", "--json"))["images"] == 20


# ---- weights of others


def test_weights_of_others_predict_by_numbers_and_what_was_assumed_is_said(place: Path) -> None:
    image = place / "photos" / "cat" / "0.png"
    out, err = noted("predict", "--weights", place / "net.safetensors", image)
    assert err == (
        f"note: {place}/net.safetensors is taken for resnet20 of 3 classes; it does not say more, so classes are numbers, and "
        "images are resized to 32 x 32 and normalised as those of ImageNet\n"
    )
    assert str(image) in out
    (row,) = json.loads(noted("predict", "--weights", place / "net.safetensors", image, "--json")[0])
    assert {one["class"] for one in row["top"]} == {"0", "1", "2"}
    model = models.resnet20(num_classes=3)
    models.load_weights(model, place / "net.safetensors")
    pixels = np.asarray(Image.open(image), np.float32).transpose(2, 0, 1)[None] / 255
    mean, std = (np.array(three, np.float32).reshape(3, 1, 1) for three in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with cr.no_grad():
        expected = cr.nn.functional.softmax(model.eval()((pixels - mean) / std)).numpy()[0]
    assert {int(one["class"]): one["probability"] for one in row["top"]} == pytest.approx(dict(enumerate(expected)), rel=1e-4)


def test_weights_of_others_are_evaluated_on_data_with_as_many_classes(place: Path) -> None:
    weights = place / "net.safetensors"
    facts = json.loads(noted("evaluate", "--weights", weights, "--data", place / "photos", "--json")[0])
    assert facts["classes"] == ["cat", "cow", "dog"]
    message = command("evaluate", "--weights", weights).err
    assert f"error: {weights} does not say what it was trained on: give --data, a data set with its classes" in message
    image_folder(place / "two", ("cat", "dog"), each=4, shape=(32, 32, 3))
    message = command("evaluate", "--weights", weights, "--data", place / "two").err
    assert f"error: {weights} is for 3 classes, {place / 'two'} test has 2: give data with the classes that it was" in message


def test_the_summary_of_a_file_is_that_of_the_model_that_it_fits(place: Path) -> None:
    out, _ = noted("summary", "--weights", place / "net.safetensors")
    assert out.splitlines()[-1].startswith("269,267 parameters, ")
    assert out.splitlines()[-1].endswith("for an input of 1 x 3 x 32 x 32")
    message = refused("summary", "--weights", place / "net.safetensors", "--classes", 4)
    assert message == "--weights says itself for which images and classes it is: leave --input and --classes out"


def test_a_model_that_is_named_must_be_that_of_the_file(place: Path) -> None:
    weights = place / "net.safetensors"
    assert noted("summary", "resnet20", "--weights", weights)[0] == noted("summary", "--weights", weights)[0]
    message = refused("predict", "--weights", weights, "--model", "resnet32", "a.png")
    assert message.startswith(f"{weights} does not fit this CifarResNet:\n")
    assert message.endswith("It fits resnet20 of 3 classes: use that model")
    message = refused("predict", "--weights", weights, "--model", "resnet21", "a.png")
    assert message.startswith("unknown model 'resnet21': did you mean 'resnet20'?")


def test_a_model_needs_weights_and_weights_need_no_run(place: Path) -> None:
    for name in ("predict", "evaluate"):
        message = refused(name, "--model", "resnet20")
        assert message == "--model resnet20 needs --weights, the file with its weights: a run says itself what it is of"
    message = refused("evaluate", "some-run", "--weights", place / "net.safetensors")
    assert message == "--weights takes the place of the run some-run: leave one of them out"
    message = command("predict", "--weights", place / "net.safetensors").err
    assert "error: no image is given: `chainrule predict --weights " in message
    assert message.endswith(f"and {place}/net.safetensors does not say what it was trained on\n")


def test_a_file_that_fits_nothing_asks_for_its_model(place: Path) -> None:
    file = place / "own.safetensors"
    cr.nn.Sequential(cr.nn.Linear(3, 4)).save(file)
    message = refused("predict", "--weights", file, "a.png")
    assert message == f"{file} fits no model of the catalogue: name its model with --model"
    (place / "nets.py").write_text(NET)
    message = command("predict", "--weights", file, "--model", f"{place}/nets.py:make_net", "a.png").err
    assert message.startswith(f"note: the network is made by running {place}/nets.py:make_net (SHA-256 ")
    assert message.endswith(f"error: {file} does not say for images of which size it is: give it, as --image-size HxW\n")
    sized = ("--image-size", "2x2")
    message = command("predict", "--weights", file, "--model", f"{place}/nets.py:make_net", "a.png", *sized).err
    assert f"error: {file} does not fit this Sequential:\n" in message
    assert message.endswith("\nNo model of the catalogue is near: give the network that it was made for, as FILE.py:FUNCTION\n")
    assert refused("predict", "--weights", place / "gone.safetensors", "a.png").endswith("expected a safetensors file")


def test_the_weights_of_a_run_say_all_that_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    idx_folder(tmp_path / "patterns")
    done("train", "--data", "patterns", "--epochs", 1, "--batch-size", 8, "--out", "run")
    file = shutil.copy("run/model.safetensors", "sent.safetensors")
    assert done("evaluate", "--weights", file, "--data", "patterns", "--json") == done("evaluate", "run", "--json")
    assert model_of_weights(file).classes == ["0", "1", "2", "3"]


def test_code_is_only_run_if_its_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    idx_folder(tmp_path / "patterns")
    (tmp_path / "nets.py").write_text(NET)
    command("train", "--data", "patterns", "--model", "nets.py:make_net", "--epochs", 1, "--out", "run")
    file = shutil.copy("run/model.safetensors", "sent.safetensors")
    (tmp_path / "nets.py").write_text(NET + "\nimport pathlib; pathlib.Path('ran').touch()\n")
    message = refused("evaluate", "--weights", file, "--data", "patterns")
    assert message == (
        f"{file} is of a network of somebody's own, {tmp_path}/nets.py:make_net: name it with --model FILE.py:FUNCTION, as "
        "that file will be run"
    )
    assert not (tmp_path / "ran").exists()
    ended = command("evaluate", "--weights", file, "--model", "nets.py:make_net", "--data", "patterns", "--json")
    assert ended.status == 0, ended
    assert "which may do whatever a program can: run only code that you trust" in ended.err
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_converted_weights_of_a_network_of_ones_own(channels: int, place: Path, tmp_path: Path) -> None:
    """For how many classes and channels they are is told by their shapes, for which size by an option."""
    (place / "nets.py").write_text(NET)
    own = ("--model", f"{place}/nets.py:make_net", "--image-size", "6x5")
    network = cr.nn.Sequential(cr.nn.Flatten(), cr.nn.Linear(channels * 6 * 5, 3))
    network.save(tmp_path / "own.safetensors")
    image = place / "photos/cat/0.png"
    weights = ("--weights", tmp_path / "own.safetensors")
    ended = command("predict", *weights, *own, "--normalise", "0.5/0.25", image, "--json")
    assert ended.status == 0, ended
    assert ended.err.splitlines()[1] == (
        f"note: {tmp_path}/own.safetensors is taken for {place}/nets.py:make_net of 3 classes; it does not say more, so "
        "classes are numbers, and images are resized to 6 x 5 and normalised by mean "
        f"{', '.join(['0.5'] * channels)} and standard deviation {', '.join(['0.25'] * channels)}"
    )
    pixels = decode(image, (6, 5), "L" if channels == 1 else "RGB").pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
    with cr.no_grad():
        expected = cr.nn.functional.softmax(network.eval()((pixels - 0.5) / 0.25)).numpy()[0]
    (row,) = json.loads(ended.out)
    assert {int(one["class"]): one["probability"] for one in row["top"]} == pytest.approx(dict(enumerate(expected)), rel=1e-4)
    assert not row.get("note"), "nobody knows what was light and dark"
    ended = command("evaluate", *weights, *own, "--data", place / "photos", "--json")
    assert ended.err.splitlines()[1].endswith(
        " and not normalised" if channels == 1 else " and normalised as those of ImageNet"
    )
    assert json.loads(ended.out)["classes"] == ["cat", "cow", "dog"]


def test_how_images_are_read_is_said_of_weights_of_others_alone(place: Path, tmp_path: Path) -> None:
    image, weights = place / "photos/cat/0.png", ("--weights", place / "net.safetensors")
    err = noted("predict", *weights, image, "--image-size", "16x24", "--normalise", "0.5/0.5")[1]
    assert err.endswith("resized to 16 x 24 and normalised by mean 0.5, 0.5, 0.5 and standard deviation 0.5, 0.5, 0.5\n")
    assert refused("predict", *weights, image, "--normalise", "images") == (
        f"{place}/net.safetensors does not say on which images it was trained: normalise must be imagenet or MEAN/STD"
    )
    assert refused("predict", *weights, image, "--image-size", "16") == (
        "image size must be height x width, for example 32x32, got '16'"
    )
    assert refused("predict", image, "--image-size", "16x16") == (
        "--image-size belongs to --weights: a run says itself how its images are read, so leave it out"
    )
    assert refused("evaluate", "--weights", TRAINED_LENET, "--data", "mnist", "--normalise", "imagenet") == (
        f"{TRAINED_LENET} is of a run, which notes how images are read: leave --normalise out"
    )
