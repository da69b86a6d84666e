"""What a person gives that cannot work: one message with the place, the values and the remedy, status 2, nothing lost."""

from __future__ import annotations

import ast
import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import chainrule
from chainrule import nn
from chainrule.data import ImageFolder, write_idx
from chainrule.errors import UserError
from chainrule.formats import load_safetensors, save_safetensors
from chainrule.models import MODELS, build
from chainrule.tensor import tensor
from chainrule.tensor.random import default_generator
from chainrule.train import Config, Evaluation, RunFolder, Trainer, opening, room, trainer
from chainrule.train.augmentations import AUGMENTATIONS
from chainrule.train.diagnosis.health_record import read_health
from chainrule.train.optimization import SCHEDULES
from running import COMMAND, ENVIRONMENT, TYPED, command, done, idx_folder, image_folder, noted, outcome, pictures, refused
from systems import name_of_open_file, needs

KNOWN = ", ".join(sorted(MODELS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return idx_folder(tmp_path_factory.mktemp("bad") / "patterns")


@pytest.fixture(scope="module")
def finished(data: Path) -> Path:
    """A run of two epochs of 6 steps."""
    done("train", "--data", data, "--epochs", 2, "--batch-size", 8, "--out", data.parent / "finished")
    return data.parent / "finished"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- options


LR_OF = "lr-of must be patterns, each with its learning rate above 0, such as 'fc=0.1,layer4=0.01'"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("model", "lennet", f"unknown model 'lennet': did you mean 'lenet'? Known: {KNOWN}"),
        ("model", "transformer", f"unknown model 'transformer': Known: {KNOWN}"),
        (
            "optimizer",
            "sdg",
            "unknown optimizer 'sdg': did you mean 'sgd'? Known: adagrad, adam, adamw, nadam, radam, rmsprop, sgd",
        ),
        (
            "schedule",
            "cosin",
            f"unknown schedule 'cosin': did you mean 'cosine'? Known: {', '.join(sorted(SCHEDULES))}",
        ),
        ("precision", "float23", "unknown precision 'float23': did you mean 'float32'? Known: bfloat16, float32, float64"),
        ("precision", "bf16", "unknown precision 'bf16': did you mean 'bfloat16'? Known: bfloat16, float32, float64"),
        (
            "augment",
            "flop",
            f"unknown augmentation 'flop': did you mean 'flip'? Known: {', '.join(sorted(AUGMENTATIONS))}",
        ),
        (
            "augment",
            "shift=2,flp",
            f"unknown augmentation 'flp': did you mean 'flip'? Known: {', '.join(sorted(AUGMENTATIONS))}",
        ),
        (
            "augment",
            "flip,auto",
            "augmentation 'auto' stands alone, got 'flip,auto': leave it out, or pass it by itself",
        ),
        ("augment", "crop=²", "augmentation 'crop=²': the number of pixels must be whole, for example crop=2"),
        ("augment", "crop=x", "augmentation 'crop=x': the number of pixels must be whole, for example crop=2"),
        ("augment", "flip=2", "augmentation flip takes no number, got 'flip=2'"),
        ("image-mode", "rgb", "unknown image mode 'rgb': did you mean 'RGB'? Known: L, RGB"),
        ("image-size", "32", "image size must be height x width, for example 32x32, got '32'"),
        ("image-size", "3²x32", "image size must be height x width, for example 32x32, got '3²x32'"),
        (
            "data",
            "mnits",
            "unknown data set 'mnits': did you mean 'mnist'? Known: mnist, or the path of a folder of images, IDX files or "
            "CIFAR-10's binary files",
        ),
        (
            "data",
            "nowhere/at/all",
            "nowhere/at/all does not exist: expected a folder of images, IDX files or CIFAR-10's binary files",
        ),
        ("epochs", 0, "epochs must be a whole number of at least 1, got 0"),
        ("batch-size", -1, "batch size must be a whole number of at least 1, got -1"),
        ("seed", -1, "seed must be a whole number of at least 0, got -1"),
        ("limit", -1, "limit must be a whole number of at least 0, got -1"),
        ("workers", -1, "workers must be a whole number of at least 0, got -1"),
        ("checkpoint-every", -1, "checkpoint-every must be a whole number of at least 0, got -1"),
        ("lr", 0, "learning rate must be a finite number above 0, got 0.0"),
        ("lr", "nan", "learning rate must be a finite number above 0, got nan"),
        ("momentum", 1, "momentum must be at least 0 and under 1, got 1.0"),
        ("weight-decay", "-0.1", "weight decay must be a finite number of at least 0, got -0.1"),
        ("label-smoothing", 1.5, "label smoothing must be from 0 to 1, got 1.5"),
        ("ema", 1, "ema must be at least 0 and under 1, got 1.0"),
        ("clip-norm", "inf", "clip-norm must be a finite number of at least 0, got inf"),
        ("clip-value", -1, "clip-value must be a finite number of at least 0, got -1.0"),
        *(
            (
                option,
                1e-320,
                f"{called} must be 0 or at least 1.2e-38, as native code takes smaller float32 numbers for 0, got 1e-320",
            )
            for option, called in (("clip-value", "clip-value"), ("clip-norm", "clip-norm"), ("weight-decay", "weight decay"))
        ),
        ("lr", 1e-40, "learning rate must be at least 1.2e-38, as native code takes smaller float32 numbers for 0, got 1e-40"),
        ("augment", "flip,", "augment has an empty place, got 'flip,': leave out the comma that is too much"),
        ("mixup", "nan", "mixup must be a finite number of at least 0, got nan"),
        ("cutmix", -2, "cutmix must be a finite number of at least 0, got -2.0"),
        ("accumulate", 0, "accumulate must be a whole number of at least 1, got 0"),
        ("patience", -1, "patience must be a whole number of at least 0, got -1"),
        ("warm-up", 1.5, "warm-up must be a whole number of steps, or, below 1, their share of all steps, got 1.5"),
        ("warm-up", -0.1, "warm-up must be a whole number of steps, or, below 1, their share of all steps, got -0.1"),
        (
            "freeze",
            "(",
            "freeze: '(' is no regular expression (missing ), unterminated subpattern at position 0): see Python's re",
        ),
        ("freeze", "a[[b]]", "freeze: 'a[[b]]' is no regular expression (Possible nested set at position 2): see Python's re"),
        (
            "freeze",
            "a{9999999999}",
            "freeze: 'a{9999999999}' is no regular expression (the repetition number is too large): see Python's re",
        ),
        ("lr-of", "fc", f"{LR_OF}, got 'fc'"),
        ("lr-of", "fc=0", f"{LR_OF}, got 'fc=0'"),
        ("lr-of", "fc=0.1,", f"{LR_OF}, got 'fc=0.1,'"),
        ("lr-of", "fc=0.1,layer4", f"{LR_OF}, got 'fc=0.1,layer4'"),
        ("lr-of", "[=0.1", "lr-of: '[' is no regular expression (unterminated character set at position 0): see Python's re"),
        (
            "augment",
            "cutout=0",
            "augmentation 'cutout=0': the number of pixels must be whole, and at least 1, for example cutout=2",
        ),
        ("augment", "jitter=-1", "augmentation 'jitter=-1': the amount must be a number from 0 to 10, for example jitter=0.2"),
        ("augment", "erase=2", "augmentation 'erase=2': the amount must be a number above 0 to 1, for example erase=0.25"),
        (
            "augment",
            "resized=x",
            "augmentation 'resized=x': the amount must be a number above 0 to 1, for example resized=0.35",
        ),
    ],
)
def test_a_value_that_no_option_takes(option: str, value: object, message: str, tmp_path: Path) -> None:
    assert refused("train", f"--{option}", value, "--out", tmp_path / "run") == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--clip-norm", 1, "--clip-value", 1],
            "clip-norm and clip-value are two ways to clip gradients: give one of them",
        ),
        (["--optimizer", "adam", "--no-nesterov"], "no-nesterov is an option of sgd, not of adam: leave it out"),
        (["--optimizer", "adagrad", "--momentum", 0.5], "adagrad has no momentum: leave it out, got 0.5"),
        (
            ["--augment", "cutout=30"],
            "augmentation 'cutout=30' covers more than images of 28 x 28 pixels: give at most 28, for example cutout=2",
        ),
        (
            ["--freeze", "convolution"],
            "freeze: the pattern 'convolution' fits no parameter: it must fit the whole name of a parameter, or of a part "
            "above it; the parts of this model are 0, 3, 7, 9, 11",
        ),
        (
            ["--freeze", ".*"],
            "freeze: the pattern '.*' fits every parameter, so that nothing would be trained: leave out a part of the model, "
            "such as the last one, '11'",
        ),
        (["--freeze", "0|33"], "freeze: the pattern '33' fits no parameter: did you mean '3'? It must fit the whole name of a"),
        (["--freeze", "0", "--lr-of", "0=1"], "lr-of: all parameters that the pattern '0' fits are frozen: leave it out"),
    ],
)
def test_options_that_do_not_go_together(options: list[object], message: str, tmp_path: Path) -> None:
    assert refused("train", "--limit", 20, *options, "--out", tmp_path / "run").startswith(message)
    assert not (tmp_path / "run").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_seed_beyond_64_bits_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    message = refused("train", "--data", data, "--seed", 10**20, "--out", tmp_path / "run")
    assert message == "seed must be from 0 to 2^63 - 1, got 100000000000000000000"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--modle", "lenet"], "--model"),
        (["trian"], "train"),
        (["convert"], "file"),
        (["predict", "run", "x.png", "--top", "0"], "--top"),
        (["summary", "--classes", "1"], "--classes"),
    ],
)
def test_a_command_line_that_cannot_be_read(arguments: list[str], hint: str) -> None:
    ended = command(*arguments)
    assert ended.status == 2
    assert hint in ended.err.lower()
    assert "Traceback" not in ended.err


# ---- shapes that do not fit


def test_images_that_are_too_small_for_the_model(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "tiny", shape=(10, 28))
    message = "model lenet cannot be built for images of 1 x 10 x 28: its two 5 x 5 convolutions and poolings need at least "
    message += "12 x 12 pixels: use larger images, or the model mlp"
    assert refused("train", "--data", folder, "--out", tmp_path / "run") == message
    assert not (tmp_path / "run").exists()
    assert refused("summary", "lenet", "--input", "1x10x28") == message
    assert build("lenet", 1, 10, (12, 12))(tensor(np.zeros((1, 1, 12, 12), np.float32))).shape == (1, 10)
    done("summary", "mlp", "--input", "1x1x1")


def test_images_of_another_size_than_the_model_was_built_for() -> None:
    model = build("lenet", 1, 10, (28, 28))
    with pytest.raises(UserError) as error:
        model(tensor(np.zeros((2, 1, 32, 32), np.float32)))
    assert "layer 7 (Linear) got shape (2, 576)" in str(error.value)
    assert "in_features=400: pass in_features=576" in str(error.value)


def test_images_of_another_number_of_channels() -> None:
    model = build("lenet", 1, 10, (28, 28))
    with pytest.raises(UserError) as error:
        model(tensor(np.zeros((2, 3, 28, 28), np.float32)))
    assert str(error.value) == (
        "layer 0 (Conv2d) got shape (2, 3, 28, 28) with 3 channels, but in_channels=1: "
        "pass in_channels=3, or an input of 1 channels"
    )


def test_test_images_of_another_size(data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    write_idx(folder / "t10k-images-idx3-ubyte", np.zeros((20, 14, 14), np.uint8))
    message = "training images are (1, 12, 12) (C, H, W), test images (1, 14, 14): they must be alike"
    assert refused("train", "--data", folder, "--out", tmp_path / "run") == message


@pytest.mark.parametrize("text", ["8", "1x8", "1x0x8", "1xax8", "1x²x8", ""])
def test_a_size_that_is_none(text: str) -> None:
    message = f"--input must be channels x height x width, for example 3x32x32, got {text!r}"
    assert refused("summary", "--input", text) == message


# ---- data


def test_labels_out_of_range(tmp_path: Path) -> None:
    """In files that say how many classes there are; in IDX files, which do not; and in a program."""
    (tmp_path / "batches.meta.txt").write_text("frog\nship\n")
    for name in [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]:
        records = np.zeros((4, 3073), np.uint8)
        records[3, 0] = 2 * (name == "data_batch_4")
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    assert refused("train", "--data", tmp_path, "--out", tmp_path / "run") == (
        f"{tmp_path / 'data_batch_4.bin'}: record 3 has label 2, with 2 classes a label is 0 to 1: "
        "it is damaged or no CIFAR-10 file"
    )
    folder = idx_folder(tmp_path / "idx")
    path = folder / "train-labels-idx1-ubyte"
    write_idx(path, np.array([0, 1, -3] * 16, np.int8))
    assert refused("train", "--data", folder, "--out", tmp_path / "run") == (
        f"{path}: labels[2] is -3: classes are counted from 0, to at most 99999"
    )
    with pytest.raises(UserError) as error:
        nn.functional.cross_entropy(tensor(np.zeros((2, 4), np.float32)), np.array([1, 4]))
    assert "the label 4 in row 1 is out of range: the scores have 4 classes, so labels go from 0 to 3" in str(error.value)


def test_fewer_labels_than_images(data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    write_idx(folder / "train-labels-idx1-ubyte", np.zeros(40, np.uint8))
    assert refused("train", "--data", folder, "--out", tmp_path / "run") == (
        f"{folder}/train-images-idx3-ubyte holds 48 images but {folder}/train-labels-idx1-ubyte holds 40 labels: "
        "they do not belong together"
    )


@needs("links and pipes")
def test_an_image_that_is_no_image_is_left_out(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos")
    (folder / "cat" / "notes.png").write_text("no image")
    (folder / "dog" / "9999.png").touch()
    (folder / "dog" / "notes.txt").write_text("no image")
    said = (
        "left out: 2 of 22 images\n  cat/notes.png is no image of a format that is read, whatever its name says\n"
        "  dog/9999.png is empty, 0 bytes\n"
        "not read: 1 other entry\n  dog/notes.txt has no name of an image\n"
    )
    out, err = noted("train", "--data", folder, "--epochs", 1, "--out", tmp_path / "run")
    assert err == said == (tmp_path / "run/notes.txt").read_text()
    assert "notes" not in out
    (folder / "dog" / "9999.png").unlink()
    for name in ("one.png", "two.png"):
        (folder / "dog" / name).symlink_to(name)
    for number in range(12):
        (folder / "dog" / f"x{number}.jpg").write_bytes(b"x")
    assert refused("train", "--data", folder, "--out", tmp_path / "other") == (
        f"{folder / 'dog'}: 14 of 24 images cannot be read, such as one.png, which cannot be read "
        "(Too many levels of symbolic links): repair or remove them, or remove the folder"
    )
    assert not (tmp_path / "other").exists()


def test_an_image_that_is_damaged_is_left_out_and_the_run_goes_on_only_with_the_same_images(tmp_path: Path) -> None:
    """Its header is whole, its pixels are not: it is found before the training. Images are read once, at the beginning."""
    folder = image_folder(tmp_path / "photos", each=30)
    wrong = folder / "cat" / "20.png"
    whole = wrong.read_bytes()
    wrong.write_bytes(whole[:100])
    options = ("--data", folder, "--batch-size", 4, "--epochs", 2, "--checkpoint-every", 1)
    out, err = noted("train", *options, "--out", tmp_path / "whole")
    assert err.startswith("left out: 1 of 60 images\n  cat/20.png is damaged (image file is truncated")
    assert "53 training and 6 test images" in out
    run, save = tmp_path / "run", trainer.Trainer.save

    def mended(self: Trainer) -> None:
        save(self)
        wrong.write_bytes(whole)
        raise UserError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "save", mended)
        assert command("train", *options, "--out", run).err == f"{err}error: stopped\n"
    assert refused("train", "--resume", run) == (
        f"the data are not those of {run / 'checkpoint.safetensors'}: training images 53 then, 54 now: "
        "put the data back as they were, or begin a new run"
    )
    wrong.write_bytes(whole[:100])
    assert noted("train", "--resume", run)[1] == err == (run / "notes.txt").read_text()
    assert outcome(run) == outcome(tmp_path / "whole")


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert refused("train", "--data", tmp_path / "photos", "--out", tmp_path / "run") == (
        f"{tmp_path / 'photos'} is empty: expected one folder of images per class"
    )


def test_a_class_without_images(tmp_path: Path) -> None:
    """It is left out, as long as there are two others."""
    folder = image_folder(tmp_path / "photos")
    (folder / "owl").mkdir()
    (folder / "ape").mkdir()
    (folder / "ape" / "1.HEIC").write_text("x")
    out, err = noted("train", "--data", folder, "--epochs", 1, "--out", tmp_path / "run")
    empty = "is a class folder without images (.png, .jpg, ...)"
    heic = "is a photo in a format that is not read: save it as JPEG"
    assert err == (
        f"left out: 2 of 4 classes\n  ape {empty}; its 1.HEIC {heic}\n  owl {empty}\n"
        f"not read: 1 other entry\n  ape/1.HEIC {heic}\n"
    )
    assert "2 classes" in out
    assert noted("evaluate", tmp_path / "run")[1] == err
    shutil.rmtree(folder / "dog")
    (folder / "dog").mkdir()
    assert refused("train", "--data", folder, "--out", tmp_path / "other") == (
        f"{folder / 'ape'} {empty}; its 1.HEIC {heic}, which leaves a single class, 'cat': add images; "
        "a classifier needs at least 2 classes"
    )
    assert not (tmp_path / "other").exists()


def test_a_class_with_a_single_image(tmp_path: Path) -> None:
    """It is trained on, and not tested, which is said; the run goes on, and is evaluated, with the same classes."""
    folder = image_folder(tmp_path / "photos")
    image_folder(folder, ("emu", "owl"), each=1, shape=(13, 12))
    options = ("--epochs", 1, "--image-size", "12x12")
    out, err = noted("train", "--data", folder, *options, "--out", tmp_path / "run")
    untested = "warning: 2 classes have no image to test on: how well they are recognised stays unknown\n  emu\n  owl\n"
    assert err == (
        f"warning: 2 classes have a single image to train on, from which little can be learned\n  emu\n  owl\n{untested}"
    )
    assert "4 classes, 20 training and 2 test images, grey, 12 x 12 (of files of 12 x 12 to 13 x 12; " in out
    found, said = noted("evaluate", tmp_path / "run", "--json")
    assert (json.loads(found)["classes"], said) == (["cat", "dog", "emu", "owl"], untested)
    assert noted("train", "--resume", tmp_path / "run")[1] == err
    shutil.rmtree(folder / "emu")
    for name in ("cat", "dog"):
        for number in range(2, 20):
            (folder / name / f"{number}.png").unlink(missing_ok=True)
    (folder / "dog" / "1.png").rename(folder / "dog" / "only.png")
    assert refused("train", "--data", folder, "--out", tmp_path / "other") == (
        f"{folder} test: no class has an image to test on, as none has more than one: add images"
    )


def test_a_class_of_test_images_without_training_images(data: Path, tmp_path: Path) -> None:
    """IDX files do not say how many classes there are: one damaged label makes more of them."""
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    labels = np.arange(20) % 4
    labels[7] = 9
    write_idx(folder / "t10k-labels-idx1-ubyte", labels.astype(np.uint8))
    assert refused("train", "--data", folder, "--out", tmp_path / "run") == (
        f"{folder}/t10k-images-idx3-ubyte: image 7 is of class '9', of which {folder}/train-images-idx3-ubyte has no image "
        "(it has 4 of the 10 classes): mend the label, or add training images of that class"
    )
    assert not (tmp_path / "run").exists()


def test_a_single_class(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", ("cat",))
    assert refused("train", "--data", folder, "--out", tmp_path / "run") == (
        f"{folder} train has a single class, 'cat': a classifier needs at least 2"
    )
    assert not (tmp_path / "run").exists()


def test_a_file_as_data(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK")
    assert refused("train", "--data", tmp_path / "photos.zip", "--out", tmp_path / "run") == (
        f"{tmp_path / 'photos.zip'} is a file: expected a folder that holds one folder of images per class"
    )


# ---- sizes of photos


def photo(path: Path, height: int, width: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, (width, height), 7 if mode == "L" else (9, 8, 7))
    light = 200 - 9 * int(path.stem)  # no two are alike
    image.paste(light if mode == "L" else (light, 90, 7), (0, 0, width // 2, height))
    image.save(path)


def image_options(run: Path) -> tuple[str, str]:
    facts = json.loads((run / "config.json").read_text())
    return facts["image_size"], facts["image_mode"]


def test_a_size_is_proposed_for_photos_used_and_kept(tmp_path: Path) -> None:
    """The README's own line on eight photos: no option needed, and resume, evaluate and predict take what was decided."""
    folder = tmp_path / "photos"
    for number in range(8):
        photo(folder / "ab"[number % 2] / f"{number}.jpg", 1200, 1600)
    run = tmp_path / "run"
    out = done("train", "--data", folder, "--epochs", 1, "--out", run)
    assert out.startswith("lenet, 389,646 parameters")
    assert "6 training and 2 test images, colour, 64 x 64 (of files of 1200 x 1600; --image-size HxW chooses another); " in out
    assert image_options(run) == ("64x64", "RGB")
    assert sum(path.stat().st_size for path in run.rglob("*")) < 10e6
    assert "colour, 64 x 64 (of files of 1200 x 1600; " in done("train", "--resume", run)
    assert not (run / "notes.txt").exists()
    done("evaluate", run)
    assert "cannot" not in done("predict", run, folder / "a" / "0.jpg")


@pytest.mark.parametrize(
    ("sizes", "proposed"),
    [
        ([(12, 12)], "12x12"),
        ([(96, 40)], "96x40"),
        ([(97, 40)], "32x32"),
        ([(200, 300)], "64x64"),
        ([(12, 12), (15, 12)], "28x28"),
        ([(40, 50), (35, 60), (1000, 3000)], "32x32"),
    ],
)
def test_the_size_that_is_proposed(sizes: list[tuple[int, int]], proposed: str, tmp_path: Path) -> None:
    """Small images of one size stay as they are; others become squares that hardly any has to be enlarged to."""
    for number in range(3):
        for name in ("cat", "dog"):
            photo(tmp_path / "photos" / name / f"{number + 3 * (name == 'dog')}.png", *sizes[number % len(sizes)])
    ended = command("train", "--data", tmp_path / "photos", "--model", "mlp", "--epochs", 1, "--out", tmp_path / "run")
    assert (ended.status, image_options(tmp_path / "run")) == (0, (proposed, "RGB"))
    assert ended.err == ""
    assert f"colour, {proposed.replace('x', ' x ')}" in ended.out
    assert ("--image-size HxW chooses another" in ended.out) is (proposed != "x".join(map(str, sizes[0])))
    if len(sizes) == 3:
        assert "32 x 32 (of files of 40 x 50 to 1000 x 3000; " in ended.out


def test_grey_and_coloured_photos_together(tmp_path: Path) -> None:
    for number in range(6):
        photo(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", 20, 20, "L" if number == 1 else "RGB")
    _, err = noted("train", "--data", tmp_path / "photos", "--epochs", 1, "--out", tmp_path / "run")
    assert err == "1 of 6 images is grey: all are read as colour (RGB); --image-mode L takes grey\n"
    assert image_options(tmp_path / "run") == ("20x20", "RGB")
    out = done("train", "--data", tmp_path / "photos", "--epochs", 1, "--out", tmp_path / "grey", "--image-mode", "L")
    assert "images, grey, 20 x 20; " in out


def test_strokes_on_nothing_are_said_to_lie_on_white(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (20, 20), (0, 0, 0, 0 if number < 2 else 255)).save(path)
    _, err = noted("train", "--data", tmp_path / "photos", "--epochs", 1, "--out", tmp_path / "run")
    blank = "6 images are blank: all pixels of each are alike\n  a/0.png\n  a/2.png\n  a/4.png\n  b/1.png\n  b/3.png\n"
    assert err == (
        "2 images are transparent in parts, where white is put behind\n"
        f"{blank}  and 1 more, named in notes.txt of the run folder\n"
    )
    assert (tmp_path / "run/notes.txt").read_text() == (
        "2 images are transparent in parts, where white is put behind\n"
        "  a/0.png is transparent in parts, where white is put behind\n"
        f"  b/1.png is transparent in parts, where white is put behind\n{blank}  b/5.png\n"
    )


def test_a_single_image_that_is_blank_or_transparent(tmp_path: Path) -> None:
    """Of one colour, which is not one level."""
    folder = image_folder(tmp_path / "photos", shape=(12, 12, 3))
    Image.new("RGBA", (12, 12), (200, 30, 40, 128)).save(folder / "cat" / "red.png")
    _, err = noted("train", "--data", folder, "--epochs", 1, "--out", tmp_path / "run")
    assert err == (
        "1 image is transparent in parts, where white is put behind\n"
        "1 image is blank: all of its pixels are alike\n  cat/red.png\n"
    )


def test_values_of_12_bits_in_16_are_said_to_be_nearly_black(tmp_path: Path) -> None:
    """They are read as they stand: only a person knows what they are."""
    folder, rng = image_folder(tmp_path / "photos"), np.random.default_rng(0)
    for number, most in enumerate((4096, 4096, 65536)):
        Image.fromarray(rng.integers(0, most, (12, 12)).astype(np.uint16)).save(folder / "cat" / f"deep{number}.tif")
    eighth = "values stay below an eighth of what 16 bits hold; if they have 12 bits, multiply them by 16"
    _, err = noted("train", "--data", folder, "--epochs", 1, "--out", tmp_path / "run")
    assert err == f"2 images are nearly black: their {eighth}\n"
    assert f"  cat/deep1.tif is nearly black: its {eighth}\n" in (tmp_path / "run/notes.txt").read_text()
    Image.new("RGBA", (12, 12), (0, 0, 0, 9)).save(folder / "dog" / "ink.png")
    (folder / "cat" / "deep1.tif").unlink()
    _, err = noted("train", "--data", folder, "--epochs", 1, "--out", tmp_path / "other", "--image-mode", "L")
    assert err.startswith(
        f"1 image is transparent in parts, where white is put behind; 1 image is nearly black: its {eighth}\n"
    )
    (found,) = json.loads(done("predict", tmp_path / "run", folder / "cat" / "deep0.tif", "--json"))
    assert found["note"] == f"nearly black: its {eighth}"


@pytest.mark.parametrize(
    ("options", "cost"),
    [
        (("--image-size", "80x80"), ""),
        (("--image-size", "128x128"), "takes about 77 MB of memory and 17,751,048 multiply-adds per image, 4 times as many"),
        (
            ("--image-size", "128x192", "--model", "mlp", "--image-mode", "L", "--batch-size", 2),
            "takes about 458 MB of memory and 12,714,496 multiply-adds per image, 6 times as many",
        ),
    ],
)
def test_what_a_large_size_costs_is_said(options: tuple[object, ...], cost: str, tmp_path: Path) -> None:
    for number in range(8):
        photo(tmp_path / "photos" / "ab"[number % 2] / f"{number}.jpg", 120, 160)
    ended = command("train", "--data", tmp_path / "photos", "--epochs", 1, "--out", tmp_path / "run", *options)
    model = "mlp" if "mlp" in options else "lenet"
    said = f"{model} at {str(options[1]).replace('x', ' x ')} {cost} as at the proposed 64 x 64\n" if cost else ""
    assert (ended.status, ended.err) == (0, said)


def test_what_cannot_fit_is_refused_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = image_folder(tmp_path / "photos")
    monkeypatch.setattr(ImageFolder, "read", None)
    options = ("train", "--data", folder, "--out", tmp_path / "run", "--image-size", "30000x40000")
    message = refused(*options)
    weights = (16 * 7498 * 9998 + 1) * 120 + (1 * 25 + 1) * 6 + (6 * 25 + 1) * 16 + 121 * 84 + 85 * 2
    assert re.fullmatch(
        r"lenet on images of 30000 x 40000 needs about [\d,]+\.\d GB of memory "
        rf"\([\d,.]+ GB for {weights:,} weights and what goes with them, [\d,.]+ GB "
        r"for a batch of 18\), and [\d,.]+ GB are free: a smaller --image-size would help",
        message,
    ), message
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(room, "available_memory", lambda: 100_000_000)
    message = refused(*options[:-1], "600x600", "--image-mode", "L")
    assert message.endswith("MB are free: a smaller --image-size would help")
    message = refused("train", "--out", tmp_path / "run", "--batch-size", 50000)
    assert re.fullmatch(
        r"lenet on images of 28 x 28 needs about [\d.]+ GB of memory "
        r"\(2 MB for 61,706 weights and what goes with them, [\d.]+ GB "
        r"for a batch of 50000\), and 100 MB are free: a smaller --batch-size would help",
        message,
    ), message


def test_an_estimate_allocates_nothing_and_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = default_generator.state.numpy().tolist()
    monkeypatch.setattr(room, "available_memory", lambda: 10**9)
    with pytest.raises(UserError, match=r"mlp on images of 100000 x 100000 needs about 553,200\.0 GB"):
        room.check_room(Config(model="mlp", batch_size=1), (3, 100_000, 100_000), 10, 1, 0)
    assert default_generator.state.numpy().tolist() == before
    monkeypatch.setattr(room, "available_memory", lambda: None)
    room.check_room(Config(model="mlp", batch_size=1), (3, 100_000, 100_000), 10, 1, 0)


def test_images_that_would_fill_the_memory_are_decoded_when_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same result."""
    folder = image_folder(tmp_path / "photos")
    (folder / "cat" / "x.png").write_bytes((folder / "cat" / "0.png").read_bytes()[:90])
    noted("train", "--data", folder, "--epochs", 1, "--out", tmp_path / "kept")
    monkeypatch.setattr(opening, "_MOST_KEPT", 0)
    assert "x.png is damaged" in noted("train", "--data", folder, "--epochs", 1, "--out", tmp_path / "again")[1]
    assert outcome(tmp_path / "kept") == outcome(tmp_path / "again")


def test_only_as_many_images_are_read_as_are_used(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", each=30)
    silence = ("--silence", "one-class-only")  # of which a single image is
    out = done("train", "--data", folder, "--limit", 1, "--epochs", 1, "--out", tmp_path / "run", *silence)
    assert f"{folder}: 2 classes, 1 training and 6 test images, grey, 12 x 12; " in out


def test_nan_in_the_data(data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    images = np.zeros((48, 12, 12), np.float32)
    images[7, 3, 5] = np.nan
    write_idx(folder / "train-images-idx3-ubyte", images)
    assert refused("train", "--data", folder, "--out", tmp_path / "run") == (
        f"{folder}/train-images-idx3-ubyte: image 7 holds nan in channel 0, row 3, column 5: repair or remove this image"
    )


def test_splits_with_other_classes() -> None:
    from chainrule.data import ArrayDataset

    images, labels = pictures(8, 2, (12, 12))
    training = ArrayDataset(images, labels, ["cat", "dog"], "photos")
    for classes, text in ((["cat", "owl"], "class 1 is 'dog' and 'owl'"), (["cat", "dog", "owl"], "2 and 3")):
        with pytest.raises(UserError) as error:
            Trainer(RunFolder("run", Config()), training=training, test=ArrayDataset(images, labels, classes, "others"))
        assert str(error.value) == f"photos and others have different classes: {text}"


# ---- training that goes wrong


def test_a_loss_that_becomes_nan(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--lr", 1e9, "--batch-size", 8, "--out", tmp_path / "run", "--epochs", 2, "--on-nan", "stop")
    message = refused("train", *options)
    assert message.startswith("the loss became nan at step ")
    assert message.endswith(": training diverged; nothing was saved yet. Try a smaller learning rate than --lr 1e+09")
    shutil.rmtree(tmp_path / "run")
    message = refused("train", *options, "--lr-of", "11=0.1,9.weight=1e10")
    assert message.endswith(" Try a smaller learning rate than --lr 1e+09 and --lr-of 11=0.1,9.weight=1e10")
    shutil.rmtree(tmp_path / "run")
    message = refused("train", *options, "--checkpoint-every", 1)
    assert f"training diverged; the last checkpoint is in {tmp_path / 'run'}. " in message
    assert all(np.isfinite(array).all() for array in load_safetensors(tmp_path / "run/checkpoint.safetensors")[0].values())


def test_weights_that_diverge_in_the_last_step(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the evaluation sees it: no such weights are saved as the model."""
    step = trainer.Trainer.step

    def last(self: Trainer, *batch: Any) -> float:
        loss = step(self, *batch)
        if self.finished:
            for parameter in self.model.parameters():
                parameter.assign(np.full(parameter.shape, np.inf))
        return loss

    monkeypatch.setattr(trainer.Trainer, "step", last)
    options = ("--epochs", 2, "--batch-size", 24, "--on-nan", "stop")
    message = refused("train", "--data", data, "--out", tmp_path / "run", *options)
    assert message.startswith(
        "the loss on the test images became nan after epoch 2: training diverged; the last checkpoint is in"
    )
    assert np.isfinite(load_safetensors(tmp_path / "run/model.safetensors")[0]["0.weight"]).all()


def test_a_batch_of_one_for_batch_normalisation(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last batch of each epoch holds 48 - 47 images; what was saved before stays."""

    def normalised(num_classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
        inputs = channels * size[0] * size[1]
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))

    monkeypatch.setitem(MODELS, "normalised", dataclasses.replace(MODELS["mlp"], make=normalised))
    options = ("--model", "normalised", "--data", data, "--checkpoint-every", 1, "--batch-size", 47)
    message = refused("train", *options, "--out", tmp_path / "run", "--silence", "batch-of-one")
    assert message == (
        "layer 2 (BatchNorm1d) got shape (1, 8): one value per channel has no variance to normalise by; "
        "train on batches of at least 2 (drop a last batch of one), or call eval()"
    )
    assert json.loads(load_safetensors(tmp_path / "run/checkpoint.safetensors")[1]["chainrule"])["step"] == 1


# ---- places to write to


@needs("links and pipes")
def test_an_output_folder_that_exists(run: Path, data: Path, tmp_path: Path) -> None:
    before = contents(run)
    assert refused("train", "--data", data, "--out", run) == (
        f"the output folder {run} exists already: continue it with --resume {run}, or choose another name with --out"
    )
    assert contents(run) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("mine", "file", "link"):
        message = f"the output folder {tmp_path / name} exists already: choose another name with --out"
        assert refused("train", "--data", data, "--out", tmp_path / name) == message
    assert (tmp_path / "file").read_text() == "mine"


def test_an_output_folder_that_another_process_makes_meanwhile(data: Path, tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path / "run", Config())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("theirs")
    with pytest.raises(UserError, match=f"the output folder {tmp_path / 'run'} exists already: continue it with --resume"):
        folder.make()
    assert contents(tmp_path / "run") == {"config.json": b"theirs"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_place_that_cannot_be_written(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refused("train", "--data", data, "--out", tmp_path / "file" / "run") == (
        f"{tmp_path / 'file' / 'run'} cannot be written (Not a directory): mend that, or choose another place"
    )


def test_a_parent_without_permission(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, as the superuser may write everywhere."""

    def forbidden(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    assert refused("train", "--data", data, "--out", tmp_path / "run") == (
        f"{tmp_path / 'run'} cannot be written (Permission denied): mend that, or choose another place"
    )
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """Nothing can be written any more from the ``after``-th flush on of files below ``folder`` named like ``name``."""

    def __init__(self, folder: Path, name: str, after: int) -> None:
        self.folder, self.name, self.left, self.fsync = folder, name, after, os.fsync

    def __call__(self, handle: int) -> None:
        self.left -= self.name in name_of_open_file(handle, self.folder)
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.fsync(handle)


@pytest.mark.parametrize(
    ("name", "after"), [("checkpoint", 1), ("checkpoint", 3), ("metrics", 2), ("curves", 1), ("model", 0), ("result", 0)]
)
def test_a_disk_that_fills_up(name: str, after: int, data: Path, finished: Path, tmp_path: Path) -> None:
    """The message says so; the checkpoint before is untouched, and from it the run goes on to the same weights."""
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", FullDisk(tmp_path, name, after))
        options = ("--data", data, "--epochs", 2, "--batch-size", 8, "--checkpoint-every", 4)
        message = refused("train", *options, "--out", run)
    first, _, second = message.partition("\n")
    assert first.startswith("no space left to write ") or first.endswith(" cannot be written (No space left on device)")
    assert str(run / name) in first
    assert "free some space or choose another folder; what was there before is untouched" in first
    assert second == f"Then resume with: chainrule train --resume {run}"
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []
    if (run / "checkpoint.safetensors").exists():
        load_safetensors(run / "checkpoint.safetensors")
    done("train", "--resume", run)
    ours, theirs = outcome(run), outcome(finished)
    assert ours == theirs


MOMENTS = {"the first step": (Trainer, "step", 1), "a step": (Trainer, "step", 6), "the end": (trainer, "evaluate", 2)}
"""Of two epochs of 6 steps: what is called, for which time, when somebody touches the folder."""


def struck_folder(moment: str, strike: Callable[[], object], *line: object) -> str:
    """The message of a training whose folder is touched at that moment."""
    owner, name, count = MOMENTS[moment]
    left, usual = [count], getattr(owner, name)

    def struck(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            strike()
        return usual(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, struck)
        return refused(*line)


@pytest.mark.parametrize(
    ("moment", "step", "saved"),
    [
        ("the first step", 1, "it holds no checkpoint yet, so that a resumed training begins anew"),
        ("a step", 6, "its last checkpoint is of step 4"),
        ("the end", 12, "its last checkpoint is of step 8"),
    ],
)
@pytest.mark.parametrize("replaced", [False, True])
def test_a_run_folder_that_is_renamed_meanwhile(
    moment: str,
    step: int,
    saved: str,
    replaced: bool,
    data: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is found again, and from there the training goes on; nothing is written to what has taken its place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()

    def rename() -> None:
        Path("run").rename("old/it's run")
        if replaced:
            Path("run").mkdir()
            Path("run/.lock").write_text("of another")

    options = ("--data", data, "--epochs", 2, "--batch-size", 8, "--checkpoint-every", 4)
    assert struck_folder(moment, rename, "train", *options, "--out", "run") == (
        f"the run folder run was renamed to old/it's run: training stopped after step {step} of 12; {saved}.\n"
        "Resume with: chainrule train --resume 'old/it'\"'\"'s run'"
    )
    if replaced:
        assert contents(Path("run")) == {".lock": b"of another"}
    else:
        assert not Path("run").exists()
    done("train", "--resume", "old/it's run")
    assert outcome(Path("old/it's run")) == outcome(finished)


@pytest.mark.parametrize(
    ("moment", "step", "saved"),
    [
        ("the first step", 1, "nothing had been saved yet"),
        (
            "a step",
            6,
            "the last checkpoint, of step 4, was in it. If there is a copy, resume with `chainrule train --resume COPY`",
        ),
    ],
)
def test_a_run_folder_that_is_removed_meanwhile(moment: str, step: int, saved: str, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--data", data, "--epochs", 2, "--batch-size", 8, "--checkpoint-every", 4)
    assert struck_folder(moment, lambda: shutil.rmtree(run), "train", *options, "--out", run) == (
        f"the run folder {run} was removed, or moved to another disk: training stopped after step {step} of 12; {saved}"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_that_vanishes_before_a_stop_or_a_result(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a resumed run the last checkpoint is the one that it went on from."""
    run = tmp_path / "run"
    done("train", "--data", data, "--epochs", 2, "--batch-size", 8, "--out", run)
    monkeypatch.setattr(trainer, "evaluate", lambda *_: shutil.rmtree(run) or Evaluation(1.0, np.eye(4, dtype=int), "abcd"))
    assert refused("train", "--resume", run) == (
        f"the run folder {run} was removed, or moved to another disk: training stopped after step 12 of 12; the last "
        "checkpoint, of step 12, was in it. If there is a copy, resume with `chainrule train --resume COPY`"
    )


@needs("shell")
def test_a_disk_that_is_really_full(data: Path, finished: Path, tmp_path: Path) -> None:
    """A file system with room for one checkpoint and a half, beside the snapshots that come before it, where we may mount one;
    else a limit on the size of a file."""
    disk = tmp_path / "disk"
    disk.mkdir()
    earlier = sum((finished / f"snapshots/{step:09}.safetensors").stat().st_size // 1024 + 4 for step in range(5))
    mounting = f'mount -t tmpfs -o size={216 + earlier}k none "$0" && touch "$0/mounted"'
    ways = [
        way
        for way in (["unshare", "-m"], ["unshare", "-rm"])
        if shutil.which("unshare") and _works([*way, "sh", "-c", mounting], disk)
    ]
    limit = mounting if ways else "ulimit -f 100"
    script = f'{limit}; "$@"; status=$?; cp -r "$0/run" "$0.after"; exit $status'
    options = ["--data", data, "--epochs", 2, "--batch-size", 8, "--checkpoint-every", 4, "--out", disk / "run"]
    ended = subprocess.run(
        [*(ways[0] if ways else []), "sh", "-c", script, str(disk), *COMMAND, "train", *map(str, options)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    run = tmp_path / "disk.after"
    first, _, second = ended.stderr.partition("\n")
    checkpoint = disk / "run" / "checkpoint.safetensors"
    assert ended.returncode == 2, ended.stderr
    if ways:
        assert first.startswith(f"error: no space left to write {disk / 'run'}/")
        assert first.endswith("free some space or choose another folder; what was there before is untouched")
        assert json.loads(load_safetensors(run / checkpoint.name)[1]["chainrule"])["step"] == 4
    else:
        assert first == f"error: {checkpoint} cannot be written (File too large): mend that, or choose another place"
    assert second == f"Then resume with: {TYPED} train --resume {disk / 'run'}\n"
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []
    done("train", "--resume", run)
    assert outcome(run) == outcome(finished)


def _works(command: list[str], *arguments: object) -> bool:
    return subprocess.run([*command, *map(str, arguments)], capture_output=True).returncode == 0


# ---- runs that cannot be used


def test_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (["train", "--resume"], ["evaluate"]):
        assert refused(*arguments, tmp_path / "none") == (
            f"there is no run folder {tmp_path / 'none'}: give the folder that `chainrule train` printed"
        )
        assert refused(*arguments, tmp_path / "empty") == f"{tmp_path / 'empty'} is no run folder: it holds no config.json"
    assert refused("predict", tmp_path / "none", "x.png").startswith("there is no run folder ")
    assert (
        refused("summary", "lenett") == f"unknown model 'lenett': did you mean 'lenet'? Known: {KNOWN}, or the folder of a run"
    )


def test_a_run_that_is_not_trained_yet(data: Path, tmp_path: Path) -> None:
    RunFolder.new(tmp_path / "run", Config(data=str(data))).make()
    for arguments in (["evaluate", tmp_path / "run"], ["predict", tmp_path / "run", "x.png"], ["summary", tmp_path / "run"]):
        assert refused(*arguments) == (
            f"{tmp_path / 'run'} holds no trained model yet: it is written after the first epoch; continue with "
            f"`chainrule train --resume {tmp_path / 'run'}`"
        )


@pytest.mark.parametrize("option", [["--epochs", 5], ["--weights", "x"], ["--out", "x"]])
def test_resume_with_other_options(option: list[Any], run: Path) -> None:
    before = contents(run)
    assert refused("train", "--resume", run, *option) == (
        f"{option[0]} cannot be changed by --resume, which takes the run's own options: leave it out"
    )
    assert contents(run) == before


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ('{"model": "lenet"', "Expecting ',' delimiter: line 1 column 18 (char 17)"),
        ("{}", "model is missing"),
        ("[1]", "model is missing"),
        ("5", "argument of type 'int' is not iterable"),
        ({"model": "lennet"}, f"unknown model 'lennet': did you mean 'lenet'? Known: {KNOWN}"),
        ({"epochs": "two"}, "epochs must be a whole number of at least 1, got 'two'"),
        ({"augment": 7}, "augment must be a text, got 7"),
        ({"colour": "red"}, f"Config: unknown argument 'colour': Known: {', '.join(sorted(Config.__dataclass_fields__))}"),
    ],
)
def test_a_damaged_configuration(damage: Any, reason: str, run: Path) -> None:
    path = run / "config.json"
    whole = json.loads(path.read_text())
    path.write_text(damage if isinstance(damage, str) else json.dumps(whole | damage))
    before = contents(run)
    message = refused("train", "--resume", run)
    if damage != "5":  # the words are Python's, and not the same in all of its versions
        assert f"({reason})" in message
    assert message.startswith(f"{path} is no configuration of a run (")
    assert message.endswith("): it was edited or damaged; put it back, or begin a new run")
    assert contents(run) == before


def test_a_configuration_that_is_no_text(run: Path) -> None:
    (run / "config.json").write_bytes(b"\xff\xfe")
    assert refused("evaluate", run).startswith(f"{run / 'config.json'} cannot be read (")


def test_options_that_were_changed_in_the_configuration(run: Path) -> None:
    """But for those that do not touch the weights."""
    path = run / "config.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | {"seed": 9}))
    assert refused("train", "--resume", run) == (
        f"{path} is no configuration of a run (its checksum is of other options): it was edited or damaged; put it back, or "
        "begin a new run"
    )
    other = Config(**{name: value for name, value in whole.items() if name in Config.__dataclass_fields__} | {"seed": 9})
    path.write_text(other.to_json())  # of another run, and whole
    assert refused("train", "--resume", run) == (
        f"{run / 'checkpoint.safetensors'} was written with seed 0, this run has seed 9: "
        "put the files of the run back as they were, or begin a new run"
    )
    path.write_text(json.dumps(whole | {"workers": 9, "silence": "all", "checkpoint_every": 2}))
    done("train", "--resume", run)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is no whole safetensors file ("),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "is no whole safetensors file ("),
        (lambda path: path.write_bytes(b""), "(0 bytes) is no whole safetensors file ("),
        (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "(5,000 bytes) is no whole safetensors file ("),
        (
            lambda path: save_safetensors(path, {"weight": np.zeros(3)}),
            "is a safetensors file, but no checkpoint that chainrule wrote",
        ),
        (
            lambda path: shutil.copy(path.with_name("model.safetensors"), path),
            "is a 'chainrule model 1', expected a 'chainrule checkpoint 1'",
        ),
    ],
)
def test_a_checkpoint_that_is_damaged_or_foreign(damage: Any, text: str, run: Path) -> None:
    path = run / "checkpoint.safetensors"
    damage(path)
    before = contents(run)
    message = refused("train", "--resume", run)
    assert message.startswith(f"{path} ")
    assert text in message
    assert contents(run) == before


def test_a_checkpoint_of_another_model(run: Path, data: Path, tmp_path: Path) -> None:
    done("train", "--data", data, "--model", "mlp", "--epochs", 1, "--out", tmp_path / "other")
    shutil.copy(tmp_path / "other/checkpoint.safetensors", run)
    before = contents(run)
    assert refused("train", "--resume", run) == (
        f"{run / 'checkpoint.safetensors'} was written with model 'mlp', this run has model 'lenet': "
        "put the files of the run back as they were, or begin a new run"
    )
    assert contents(run) == before
    shutil.copy(tmp_path / "other/model.safetensors", run)
    done("evaluate", run)  # weights say themselves what they are of


def test_a_model_file_that_is_foreign(run: Path) -> None:
    shutil.copy(run / "checkpoint.safetensors", run / "model.safetensors")
    assert refused("evaluate", run) == (
        f"{run / 'model.safetensors'} is a 'chainrule checkpoint 1', expected a 'chainrule model 1'"
    )


REMEDY = "put the file back, or delete it to continue without its rows"


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda raw: raw[:300], " holds 300 bytes, the checkpoint knows of {size:,}: rows are missing"),
        (lambda raw: b"", " holds 0 bytes, the checkpoint knows of {size:,}: rows are missing"),
        (lambda raw: b"\xff\xfe" + raw[2:], ", line 1, is no row of metrics ('\ufffd\ufffdkind\": "),
        (lambda raw: raw.replace(b'"step": 2', b'"stop": 2'), ', line 2, is no row of metrics (\'{{"kind": "train", '),
        (lambda raw: b"x" * len(raw), ", line 1, is no row of metrics ('" + "x" * 40 + "')"),
    ],
)
def test_damaged_metrics(damage: Any, text: str, run: Path) -> None:
    path = run / "metrics.jsonl"
    raw = path.read_bytes()
    path.write_bytes(damage(raw))
    before = contents(run)
    message = refused("train", "--resume", run)
    assert message.startswith(str(path) + text.format(size=len(raw)))
    assert message.endswith(REMEDY)
    assert contents(run) == before
    path.unlink()
    done("train", "--resume", run)
    done("train", "--resume", run)


def test_metrics_that_were_given_up_stay_given_up(data: Path, tmp_path: Path) -> None:
    """A run that goes on without its first rows can itself be stopped and resumed."""
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", FullDisk(tmp_path, "checkpoint", 5))
        refused("train", "--data", data, "--epochs", 3, "--batch-size", 8, "--checkpoint-every", 1, "--out", run)
    (run / "metrics.jsonl").unlink()
    for after in (0, 1):  # the save when it is resumed, and the next one
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", FullDisk(tmp_path, "checkpoint", after))
            assert "no space left to write" in refused("train", "--resume", run)
    done("train", "--resume", run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(6, 19))


def test_data_that_have_vanished_or_changed(tmp_path: Path) -> None:
    folder, run = idx_folder(tmp_path / "data"), tmp_path / "run"
    done("train", "--data", folder, "--epochs", 1, "--out", run)
    before = contents(run)
    checkpoint = run / "checkpoint.safetensors"
    labels = folder / "train-labels-idx1-ubyte"

    def changed(what: str) -> str:
        return f"the data are not those of {checkpoint}: {what}: put the data back as they were, or begin a new run"

    idx_folder(folder, training=40)
    assert refused("train", "--resume", run) == changed("training images 48 then, 40 now")
    idx_folder(folder, test=24)
    assert refused("train", "--resume", run) == changed("test images 20 then, 24 now")
    idx_folder(folder, classes=5)
    assert refused("train", "--resume", run) == changed("classes ['0', '1', '2', '3'] then, ['0', '1', '2', '3', '4'] now")
    idx_folder(folder, shape=(13, 12))
    assert refused("train", "--resume", run) == changed("image shape [1, 12, 12] then, [1, 13, 12] now")
    idx_folder(folder)
    images = folder / "train-images-idx3-ubyte"
    raw = images.read_bytes()
    images.write_bytes(raw[:-1] + bytes([raw[-1] ^ 128]))
    assert f"{checkpoint}: mean of the pixels [" in refused("train", "--resume", run), "one pixel is enough"
    images.write_bytes(raw)
    write_idx(labels, np.roll(np.arange(48) % 4, 1).astype(np.uint8))
    assert "checksum of the training labels" in refused("train", "--resume", run)
    shutil.move(folder, tmp_path / "moved")
    gone = f"{run} was trained on {folder}, which does not exist: "
    assert refused("train", "--resume", run) == f"{gone}put it there again, or give --data, where it is now"
    assert refused("evaluate", run) == f"{gone}give --data, where its images are now"
    assert contents(run) == before
    idx_folder(folder)
    done("train", "--resume", run)


EXECUTES = {"eval", "exec", "compile", "__import__", "importlib.import_module", "marshal.load", "marshal.loads", "np.load"}
"""Calls that may run, or unpack as code, what they are given."""


def test_nothing_that_a_run_folder_holds_is_executed(run: Path) -> None:
    """It holds JSON, drawings and tensors, which are read by what reads nothing else; and the package never runs data."""
    files = [path for path in run.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert kinds == {".bin", ".json", ".jsonl", ".svg", ".safetensors"}
    assert len(read_health(run / "health.bin").flow.steps), "numbers behind a line of JSON"
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines())
        elif path.suffix == ".bin":
            continue
        elif path.suffix == ".svg":
            drawing = path.read_text()
            assert ElementTree.fromstring(drawing).tag.endswith("svg")
            assert not re.search(r"<script|<foreignObject|\bon\w+=|href=|javascript:", drawing)
        else:
            load_safetensors(path)
    package = Path(chainrule.__file__).parent
    found: set[tuple[str, str]] = set()
    for file in package.rglob("*.py"):
        tree = ast.parse(file.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not names & {"pickle", "shelve", "dill", "joblib", "runpy", "code", "yaml"}, file
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in EXECUTES:
                    found.add((str(file.relative_to(package)), called))
    assert found == {
        ("__init__.py", "importlib.import_module"),  # parts of the package by names that it has
        ("train/__init__.py", "importlib.import_module"),
        ("train/step.py", "compile"),  # chainrule's own
        ("tensor/compiled.py", "compile"),
        ("models/own.py", "exec"),  # a network of somebody's own, whose file was named, and is no part of a run folder
        ("models/own.py", "compile"),
    }


# ---- evaluate, predict, explain


def test_evaluate_on_other_classes_or_sizes(run: Path, tmp_path: Path) -> None:
    five = idx_folder(tmp_path / "five", classes=5)
    name = f"{five}/t10k-images-idx3-ubyte"
    assert refused("evaluate", run, "--data", five) == (
        f"{run} and {name} have different classes: 4 and 5: give data with the classes that it was trained on"
    )
    photos = image_folder(tmp_path / "photos", ("0", "1", "2", "owl"))
    assert refused("evaluate", run, "--data", photos) == (
        f"{run} and {photos} test have different classes: class 3 is '3' and 'owl': "
        "give data with the classes that it was trained on"
    )
    larger = idx_folder(tmp_path / "larger", shape=(20, 20))
    assert refused("evaluate", run, "--data", larger) == (
        f"{larger}/t10k-images-idx3-ubyte has images (1, 20, 20) (C, H, W), {run} was trained on (1, 12, 12): "
        "give data with images of that size"
    )
    assert refused("evaluate", run, "--data", "").startswith("unknown data set ''")


@needs("links and pipes")
def test_predict_on_what_is_no_image(run: Path, tmp_path: Path) -> None:
    """The others are predicted; what gave no image is counted and named, and the status is 1."""
    good = tmp_path / "good.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12)).astype(np.uint8)).save(good)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:90])
    (tmp_path / "circle.png").symlink_to("circle.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty").mkdir()
    wrong = ["missing.png", "text.png", "cut.png", "circle.png", "pipe.png", "empty"]
    paths = [tmp_path / name for name in wrong]
    ended = command("predict", run, good, *paths, good)
    assert ended.status == 1
    assert [line.split()[0] for line in ended.out.splitlines()] == ["image", str(good), str(good)]
    lines = ended.err.splitlines()
    assert lines[0] == "error: 6 of 8 images cannot be read:"
    assert lines[3].startswith(f"  {tmp_path / 'cut.png'} is damaged (")
    assert [*lines[1:3], *lines[4:]] == [
        f"  {tmp_path / 'missing.png'} cannot be read (No such file or directory)",
        f"  {tmp_path / 'text.png'} is no image of a format that is read, whatever its name says",
        f"  {tmp_path / 'circle.png'} cannot be read (Too many levels of symbolic links)",
        f"  {tmp_path / 'pipe.png'} is no file but a pipe or a device",
        f"  {tmp_path / 'empty'} contains no file that is named like an image (.png, .jpg, ...)",
    ]
    ended = command("predict", run, good, *paths, "--json")
    rows = json.loads(ended.out)
    assert ended.status == 1
    assert [bool(row["top"]) for row in rows] == [True] + [False] * 6
    assert [row["error"] for row in rows][:3] == [
        "",
        "cannot be read (No such file or directory)",
        lines[2].partition(".png ")[2],
    ]
    ended = command("predict", run, *paths)
    assert (ended.status, ended.out) == (1, "")
    ended = command("predict", run, *[tmp_path / "text.png"] * 30)
    assert ended.err.splitlines()[0] == "error: 30 of 30 images cannot be read:"
    assert len(ended.err.splitlines()) == 31, "each is named"
    assert command("predict", run).status == 2


def test_explain_what_is_no_expression(tmp_path: Path) -> None:
    assert refused("explain", "w * ", "w=1").startswith("expression, column ")
    assert "unknown name 'x': give it a value, such as x=1. Given: w" in refused("explain", "w * x", "w=1")
    assert refused("explain", "w * w", "w=2", "--svg", tmp_path / "none" / "g.svg") == (
        f"{tmp_path / 'none' / 'g.svg'} cannot be written (No such file or directory): mend that, or choose another place"
    )
