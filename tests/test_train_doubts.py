"""What a training finds out about a folder of images: what it does with it, and what looks wrong, each in both directions."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.data.folder_scan import look_at
from chainrule.train import Config, open_datasets, open_images
from chainrule.train.opening import Opened
from running import done, image_folder, noted


def opened(folder: Path, **options: object) -> Opened:
    return open_datasets(Config(model="mlp", data=str(folder), **options))


def said(folder: Path, **options: object) -> list[str]:
    return [note.text() for note in opened(folder, **options).notes]


def random_image(path: Path, size: tuple[int, ...] = (12, 12)) -> Path:
    """Another one for each split, class and name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32("/".join(path.parts[-3:]).encode()))
    Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(path)
    return path


def test_what_is_done_with_a_folder_is_said_in_a_sentence(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", ("cat", "dog", "owl"), each=20, shape=(14, 12, 3))
    found = opened(folder)
    held_out = "a tenth of each class, drawn with seed 0, is held out to test on"
    assert found.about == f"{folder}: 3 classes, 54 training and 6 test images, colour, 14 x 12; {held_out}"
    assert (found.measured, found.notes) == ("test", [])
    assert opened(folder, seed=5).test.labels.tolist() == found.test.labels.tolist()
    random_image(folder / "cat" / "large.png", (200, 300, 3))
    assert opened(folder, image_mode="L", limit=10).about == (
        f"{folder}: 3 classes, 10 training and 6 test images, grey, 28 x 28 (of files of 14 x 12 to 200 x 300; --image-size "
        f"HxW chooses another); {held_out}"
    )


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_a_folder_beside_train_is_tested_on(name: str, tmp_path: Path) -> None:
    image_folder(tmp_path / "train")
    random_image(tmp_path / name / "cat" / "1.png")
    random_image(tmp_path / name / "dog" / "1.png")
    how = "" if name == "test" else f"; {name}/ is what is tested on"
    assert opened(tmp_path).about == f"{tmp_path}: 2 classes, 20 training and 2 test images, grey, 12 x 12{how}"
    assert [str(path) for path in look_at(tmp_path, "test").names.values()] == [str(tmp_path / "train"), str(tmp_path / name)]


def test_train_alone_is_split(tmp_path: Path) -> None:
    image_folder(tmp_path / "train", each=20)
    assert opened(tmp_path).about.endswith(
        "36 training and 4 test images, grey, 12 x 12; a tenth of each class, drawn with seed 0, is held out to test on"
    )
    assert len(open_images(str(tmp_path), (1, 12, 12))[0]) == 4


def three_folders(root: Path, validation: str = "val") -> Path:
    image_folder(root / "train")
    for name in ("cat", "dog"):
        random_image(root / validation / name / "v.png")
        for extra in range(2):
            random_image(root / "test" / name / f"{extra}.png")
    return root


def test_with_validation_and_test_the_test_images_are_left_for_evaluate(tmp_path: Path) -> None:
    folder = three_folders(tmp_path / "photos", "valid")
    (folder / "validation").mkdir()
    found = opened(folder)
    assert found.about == (
        f"{folder}: 2 classes, 20 training, 2 validation and 4 test images, grey, 12 x 12; valid/ is measured on after each "
        "epoch, test/ is left for `chainrule evaluate`"
    )
    assert (found.measured, len(found.test)) == ("validation", 2)
    assert len(open_images(str(folder), (1, 12, 12))[0]) == 4
    assert [note.text() for note in found.notes] == [
        "not read: 1 other entry\n  validation is not used: valid/ is for validation"
    ]
    out, _ = noted("train", "--model", "mlp", "--data", folder, "--epochs", 1, "--out", tmp_path / "run")
    assert found.about in out
    assert "; validation loss " in out
    assert "validation accuracy" in out
    assert " of 2 validation images right: accuracy " in out
    assert " of 4 test images right: accuracy " in done("evaluate", tmp_path / "run")


def test_images_of_test_are_looked_at_though_they_are_left_for_evaluate(tmp_path: Path) -> None:
    folder = three_folders(tmp_path)
    assert said(folder) == []
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "test" / "cat" / "copy.jpg")
    (folder / "test" / "dog" / "cut.png").write_bytes((folder / "test" / "dog" / "0.png").read_bytes()[:120])
    first, second = said(folder)
    assert first.startswith("left out: 1 of 28 images\n  test/dog/cut.png is damaged (image file is truncated")
    assert second == (
        "warning: 1 of 5 test images is among the training images: accuracy looks better than it is; remove the copies\n"
        "  test/cat/copy.jpg is also train/cat/0.png"
    )


def test_classes_must_be_those_of_all_folders(tmp_path: Path) -> None:
    folder = three_folders(tmp_path)
    random_image(folder / "val" / "emu" / "1.png")
    with pytest.raises(Exception, match=r"val holds the class 'emu' but .*train does not: both need the same classes"):
        look_at(folder)


def test_a_class_with_a_single_image(tmp_path: Path) -> None:
    folder = three_folders(tmp_path)
    random_image(folder / "train" / "emu" / "1.png")
    for split in ("val", "test"):
        random_image(folder / split / "emu" / "1.png")
    assert said(folder) == ["warning: 1 class has a single image to train on, from which little can be learned\n  emu"]
    random_image(folder / "train" / "emu" / "2.png")
    assert said(folder) == []
    for name in ("emu", "owl"):
        for split in ("val", "test"):
            random_image(folder / split / name / "1.png")
    (folder / "train" / "emu" / "2.png").unlink()
    random_image(folder / "train" / "owl" / "1.png")
    assert said(folder) == [
        "warning: 2 classes have a single image to train on, from which little can be learned\n  emu\n  owl"
    ]


@pytest.mark.parametrize("size", [0, 200], ids=["no image", "cut off"])
def test_a_class_of_which_every_test_image_is_damaged(size: int, tmp_path: Path) -> None:
    """The image that is held out of each class may be the one that cannot be read, which the header may tell or not."""
    folder = image_folder(tmp_path / "photos", each=4, shape=(40, 40))
    held_out = next(path for path in look_at(folder).splits["test"] if path.path.parent.name == "dog").path
    whole = random_image(held_out, (40, 40)).read_bytes()
    held_out.write_bytes(whole[:size])
    untested = "warning: 1 class has no image to test on: how well it is recognised stays unknown\n  dog"
    expected = [untested, f"left out: 1 of 8 images\n  dog/{held_out.name} is "]
    notes = said(folder)
    assert (notes[0], notes[1][: len(expected[1])], len(notes)) == (*expected, 2)
    assert open_images(str(folder), (1, 40, 40)).notes[0].text() == untested
    held_out.write_bytes(whole)
    assert said(folder) == []


def test_a_class_of_which_a_single_training_image_is_whole(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", each=4, shape=(40, 40))
    next((folder / "cat").iterdir()).unlink()
    cut = next(file.path for file in look_at(folder).splits["train"] if file.path.parent.name == "cat")
    assert said(folder) == []
    cut.write_bytes(random_image(cut, (40, 40)).read_bytes()[:200])
    assert said(folder)[0] == "warning: 1 class has a single image to train on, from which little can be learned\n  cat"


def test_classes_of_very_different_sizes(tmp_path: Path) -> None:
    folder = three_folders(tmp_path)
    for number in range(190):
        random_image(folder / "train" / "cat" / f"more{number}.png")
    words = (
        "warning: cat has 200 images to train on, dog 10: 20 times as many, so accuracy says little of small classes; "
        "`chainrule evaluate` gives it class by class"
    )
    assert said(folder) == [words]
    assert said(folder, limit=20) == [words], "which images are used of them is no matter"
    (folder / "train" / "cat" / "more7.png").unlink()
    assert said(folder) == []


def test_an_image_in_two_classes(tmp_path: Path) -> None:
    """Whatever its name and format are, and whichever the split."""
    folder = three_folders(tmp_path)
    with Image.open(folder / "train" / "cat" / "2.png") as image:
        image.save(folder / "train" / "dog" / "other.bmp")
    assert said(folder) == [
        "warning: 1 image lies in more than one class: remove what is in the wrong one\n"
        "  train/dog/other.bmp is also train/cat/2.png"
    ] or said(folder) == [
        "warning: 1 image lies in more than one class: remove what is in the wrong one\n"
        "  train/cat/2.png is also train/dog/other.bmp"
    ]
    shutil.copy(folder / "val" / "cat" / "v.png", folder / "test" / "dog" / "v.png")
    assert said(folder)[0].startswith("warning: 2 images lie in more than one class: remove what is in the wrong one\n")
    (folder / "train" / "dog" / "other.bmp").unlink()
    (folder / "test" / "dog" / "v.png").unlink()
    assert said(folder) == []


def test_training_images_in_the_test_set(tmp_path: Path) -> None:
    folder = three_folders(tmp_path)
    for number in (0, 2):
        shutil.copy(folder / "train" / "cat" / f"{number}.png", folder / "val" / "cat" / f"copy{number}.png")
    assert said(folder) == [
        "warning: 2 of 4 validation images are among the training images: accuracy looks better than it is; remove the copies\n"
        "  val/cat/copy0.png is also train/cat/0.png\n  val/cat/copy2.png is also train/cat/2.png"
    ]


def test_images_several_times_in_a_class(tmp_path: Path) -> None:
    folder = three_folders(tmp_path)
    for name in ("x", "y"):
        shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / "cat" / f"{name}.png")
    assert said(folder) == [
        "2 of 22 training images repeat others of the same class\n  train/cat/x.png is also train/cat/0.png\n"
        "  train/cat/y.png is also train/cat/0.png"
    ]
    (folder / "train" / "cat" / "y.png").unlink()
    assert said(folder)[0].startswith("1 of 21 training images repeats another of the same class\n")


def test_a_class_of_nothing_but_one_image(tmp_path: Path) -> None:
    folder = three_folders(tmp_path)
    for path in sorted((folder / "train" / "dog").iterdir())[1:]:
        shutil.copy(folder / "train" / "dog" / "1.png", path)
    repeats, alike = said(folder)
    assert repeats.startswith("9 of 20 training images repeat others of the same class\n")
    assert alike == "warning: 1 class has nothing but copies of one image\n  dog: 10 images"


def test_blank_images_are_no_copies(tmp_path: Path) -> None:
    """Of each is said that it is blank, and two classes that are all blank are worth a warning."""
    folder = three_folders(tmp_path)
    for name in ("cat", "dog"):
        for path in (folder / "train" / name).iterdir():
            Image.new("L", (12, 12), 7).save(path)
    blank, alike = said(folder)
    assert blank.startswith("20 images are blank: all pixels of each are alike\n")
    assert alike == "warning: 2 classes have nothing but copies of one image\n  cat: 10 images\n  dog: 10 images"


def test_of_images_that_are_not_used_nothing_is_said(tmp_path: Path) -> None:
    """With --limit only some are read."""
    folder = three_folders(tmp_path)
    for path in sorted((folder / "train" / "cat").iterdir()):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    assert said(folder)[0].startswith("10 of 30 training images repeat others")
    assert said(folder, limit=2) == []


def test_digests_are_of_all_bits(tmp_path: Path) -> None:
    """Images that differ in one pixel by one level are not the same, and the order of files does not matter."""
    folder = image_folder(tmp_path, each=30)
    pixels = np.array(Image.open(folder / "cat" / "0.png"))
    pixels[5, 5] ^= 1
    Image.fromarray(pixels).save(folder / "cat" / "almost.png")
    assert said(folder) == []
