"""Image folders: classes, splits, decoding, and bad files named before training starts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.data.image_folders import image_folder, split_image_folder
from chainrule.errors import UserError


def save(path: Path, value: int = 0, size: tuple[int, int] = (4, 6), mode: str = "L") -> Path:
    """An image of one value, height and width ``size``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode in ("L", "I;16", "F", "I") else (value,) * len(Image.new(mode, (1, 1)).getbands())
    Image.new(mode, size[::-1], colour).save(path)
    return path


def noisy_jpeg(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def refused(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    return str(error.value)


def test_classes_and_files_are_sorted_and_others_ignored(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "b.PNG", 1)
    save(tmp_path / "dog" / "a.jpeg", 2)
    save(tmp_path / "cat" / "c.JpG", 3)
    for name in ("dog/notes.txt", "readme.md", "dog/.hidden.png", "Thumbs.db"):
        (tmp_path / name).write_text("no image")
    (tmp_path / ".git").mkdir()
    data = image_folder(tmp_path)
    assert data.classes == ["cat", "dog"]
    assert [path.name for path in data.paths] == ["c.JpG", "a.jpeg", "b.PNG"]
    assert data.labels.tolist() == [0, 1, 1]
    assert data.labels.dtype == np.int64
    assert data.image_shape == (1, 4, 6)
    images = data.images([2, 0])
    assert images.dtype == np.uint8
    assert images.shape == (2, 1, 4, 6)
    assert images.max(axis=(1, 2, 3)).tolist() == [1, 3]
    assert data.images([]).shape == (0, 1, 4, 6)
    assert repr(data) == f"<ImageFolder {tmp_path}: 3 images 1×4×6, 2 classes>"


def test_pixels_and_channels_are_where_they_belong(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "1.png")
    data = image_folder(tmp_path)
    assert data.image_shape == (3, 5, 7)
    assert np.array_equal(data.images([0])[0], pixels.transpose(2, 0, 1))
    assert data.images([0]).flags.c_contiguous


def test_resizing_is_bilinear(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", 9, (4, 6))
    pixels = np.array([[0, 100]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a" / "2.png")
    data = image_folder(tmp_path, size=(2, 4))
    assert data.image_shape == (1, 2, 4)
    assert data.images([0, 1])[:, 0].tolist() == [[[9] * 4] * 2, [[0, 25, 75, 100]] * 2]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_becomes_grey_or_colour(mode: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    name = "1.jpg" if mode == "CMYK" else "1.png"
    Image.new("L", (3, 2)).convert("RGB").convert("L" if mode == "LA" else "RGB").convert(mode).save(tmp_path / "a" / name)
    assert image_folder(tmp_path).image_shape[0] == (1 if mode in ("1", "L", "LA") else 3)
    assert image_folder(tmp_path, mode="L").images([0]).shape == (1, 1, 2, 3)
    assert image_folder(tmp_path, mode="RGB").images([0]).shape == (1, 3, 2, 3)


def test_transparency_of_a_palette_is_dropped_in_silence(tmp_path: Path) -> None:
    image = Image.new("P", (3, 2))
    image.putpalette([10, 20, 30] * 256)
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "1.png", transparency=bytes([0, 128]))
    assert image_folder(tmp_path).images([0])[0, :, 0, 0].tolist() == [10, 20, 30]


def test_mixed_modes(tmp_path: Path) -> None:
    grey, colour = save(tmp_path / "a" / "1.png", 5), save(tmp_path / "b" / "1.png", 5, mode="RGB")
    assert refused(image_folder, tmp_path) == (
        f"{colour} has mode 'RGB', but {grey} has mode 'L': "
        "pass mode='L' (grey) or mode='RGB' (--image-mode RGB) to convert all images"
    )
    assert (image_folder(tmp_path, mode="RGB").images([0, 1]) == 5).all()
    assert refused(image_folder, tmp_path, mode="RGBA") == ("unknown image mode 'RGBA': did you mean 'RGB'? Known: L, RGB")


def test_mixed_sizes(tmp_path: Path) -> None:
    first, other = save(tmp_path / "a" / "1.png"), save(tmp_path / "a" / "2.png", size=(6, 4))
    assert refused(image_folder, tmp_path) == (
        f"{other} is 6×4 (height × width), but {first} is 4×6: pass size=(4, 6) (--image-size 4x6) to resize all images"
    )
    assert len(image_folder(tmp_path, size=(4, 6))) == 2


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (28, "size is 28: expected (height, width) in pixels"),
        ((28, 0), "width in size must be a whole number of at least 1, got 0"),
        ((2.5, 3), "height in size must be a whole number of at least 1, got 2.5"),
    ],
)
def test_wrong_size_argument(size, words: str, tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    assert refused(image_folder, tmp_path, size=size) == words


def test_deep_images_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a" / "1.png", 1000, mode="I;16")
    assert refused(image_folder, tmp_path) == (f"{path} has more than 8 bits per pixel (mode I;16): convert it to 8 bits")


def test_missing_empty_and_misplaced_folders(tmp_path: Path) -> None:
    assert refused(image_folder, tmp_path / "no") == (
        f"{tmp_path / 'no'} does not exist: expected a folder that holds one folder of images per class"
    )
    assert refused(image_folder, tmp_path) == f"{tmp_path} is empty: expected one folder of images per class"
    (tmp_path / "x.txt").write_text("text")
    assert refused(image_folder, tmp_path) == (f"{tmp_path} holds no class folders: expected one folder of images per class")
    assert refused(image_folder, tmp_path / "x.txt") == (
        f"{tmp_path / 'x.txt'} is a file: expected a folder that holds one folder of images per class"
    )
    save(tmp_path / "1.png")
    assert refused(image_folder, tmp_path) == (
        f"{tmp_path} holds images (1.png) but no class folders: put each image into a folder named after its class"
    )
    save(tmp_path / "cat" / "1.png")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "1.gif").write_text("")
    assert refused(image_folder, tmp_path) == (
        f"{tmp_path / 'dog'} is a class folder without images (.png, .jpg, .jpeg): add images or remove the folder"
    )


@pytest.mark.parametrize("content", [b"", b"just text", b"GIF89a\1\0\1\0\0\0\0;"])
def test_files_that_are_no_image_are_found_at_opening(content: bytes, tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    bad = tmp_path / "a" / "2.png"
    bad.write_bytes(content)
    assert refused(image_folder, tmp_path) == (f"{bad} is no PNG or JPEG image, whatever its name says: remove or replace it")


def test_damaged_header_is_found_at_opening(tmp_path: Path) -> None:
    path = noisy_jpeg(tmp_path / "a" / "1.jpg")
    path.write_bytes(path.read_bytes()[:100])
    message = refused(image_folder, tmp_path)
    assert message.startswith(f"{path} is ")
    assert message.endswith(": remove or replace it")


def test_truncated_image_is_named_when_decoded(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", size=(64, 64))
    path = noisy_jpeg(tmp_path / "a" / "2.jpg")
    path.write_bytes(path.read_bytes()[:-800])
    data = image_folder(tmp_path)
    message = refused(data.images, [0, 1])
    assert message.startswith(f"{path} is a damaged image (image file is truncated")
    assert message.endswith("): remove or replace it")


def test_broken_png_is_named_when_decoded(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[600:700] = bytes(100)
    path = tmp_path / "a" / "1.png"
    path.parent.mkdir()
    path.write_bytes(content)
    message = refused(image_folder(tmp_path).images, [0])
    assert message.startswith(f"{path} is a damaged image (")
    assert message.endswith("): remove or replace it")


def test_files_that_change_after_opening(tmp_path: Path) -> None:
    path = save(tmp_path / "a" / "1.png")
    data = image_folder(tmp_path)
    save(path, size=(3, 3))
    assert refused(data.images, [0]) == (
        f"{path} is now 3×3 (height × width), it was 4×6 when the data set was opened: "
        "leave the files as they are while they are read"
    )
    path.unlink()
    assert refused(data.images, [0]) == f"{path} cannot be read: No such file or directory"


@pytest.mark.parametrize("beside", ["test", "val", "valid"])
def test_train_and_test_folders(beside: str, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save(tmp_path / "train" / name / "1.png", 1)
        save(tmp_path / beside / name / "1.png", 2)
        save(tmp_path / beside / name / "2.png", 2)
    train, test = (split_image_folder(tmp_path, split) for split in ("train", "test"))
    assert train.classes == test.classes == ["cat", "dog"]
    assert train.labels.tolist() == [0, 1]
    assert test.labels.tolist() == [0, 0, 1, 1]
    assert (train.images([0, 1]) == 1).all()
    assert (test.images(range(4)) == 2).all()
    assert test.name == str(tmp_path / beside)


def test_training_images_decide_size_and_mode_of_both_splits(tmp_path: Path) -> None:
    first = save(tmp_path / "train" / "a" / "1.png", size=(4, 6))
    other = save(tmp_path / "test" / "a" / "1.png", size=(5, 5))
    assert refused(split_image_folder, tmp_path, "test") == (
        f"{other} is 5×5 (height × width), but {first} is 4×6: pass size=(4, 6) (--image-size 4x6) to resize all images"
    )
    save(other, size=(4, 6), mode="RGB")
    assert refused(split_image_folder, tmp_path, "test").startswith(f"{other} has mode 'RGB', but {first} has mode 'L'")


def test_splits_must_have_the_same_classes(tmp_path: Path) -> None:
    train, test = tmp_path / "train", tmp_path / "test"
    for path in (train / "cat", train / "dog", test / "cat"):
        save(path / "1.png")
    words = "{} holds the class {!r} but {} does not: both need the same classes"
    assert refused(split_image_folder, tmp_path, "train") == words.format(train, "dog", test)
    save(test / "dog" / "1.png")
    save(test / "ant" / "1.png")
    assert refused(split_image_folder, tmp_path, "train") == words.format(test, "ant", train)


def test_train_without_test(tmp_path: Path) -> None:
    save(tmp_path / "train" / "cat" / "1.png")
    assert refused(split_image_folder, tmp_path) == (
        f"{tmp_path} holds train/ but none of test/, val/, valid/: add one, or pass {tmp_path / 'train'} itself "
        "to have a tenth of it held out"
    )


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "car"):
        save(tmp_path / name / "1.png")
        save(tmp_path / name / "2.png")
    assert split_image_folder(tmp_path).classes == ["car", "train"]


def test_plain_folder_holds_out_a_tenth_of_each_class(tmp_path: Path) -> None:
    counts = {"few": 3, "many": 40}
    for name, count in counts.items():
        for number in range(count):
            save(tmp_path / name / f"{number:03}.png")
    train, test = (split_image_folder(tmp_path, split) for split in ("train", "test"))
    assert np.bincount(test.labels).tolist() == [1, 4]
    assert sorted(train.paths + test.paths) == image_folder(tmp_path).paths
    assert test.paths == split_image_folder(tmp_path, "test").paths
    assert [int(path.stem) // 10 for path in test.paths if path.parent.name == "many"] == [0, 1, 2, 3]
    assert test.name == f"{tmp_path} test"


def test_a_single_image_cannot_be_split(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "1.png")
    assert refused(split_image_folder, tmp_path) == (
        f"{tmp_path / 'cat'} holds a single image, too few to hold one out for testing: add images, "
        "or make train/ and test/ folders"
    )
