"""Image folders: classes, splits, decoding, and bad files named before training starts."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chainrule.data import image_files
from chainrule.data.folder_contents import LeftOut
from chainrule.data.folder_scan import look_at
from chainrule.data.image_folders import image_folder, split_image_folder
from chainrule.errors import UserError
from systems import needs


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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_grey_or_colour(mode: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    name = "1.jpg" if mode == "CMYK" else "1.png"
    image = Image.new("RGB", (3, 2), (50, 50, 50) if mode in ("1", "L", "LA") else (200, 0, 0))
    stored = image.convert("L") if mode in ("LA", "I;16") else image
    stored.convert(mode).save(tmp_path / "a" / name)
    assert image_folder(tmp_path).image_shape[0] == (1 if mode in ("1", "L", "LA", "I;16") else 3)
    assert image_folder(tmp_path, mode="L").images([0]).shape == (1, 1, 2, 3)
    assert image_folder(tmp_path, mode="RGB").images([0]).shape == (1, 3, 2, 3)
    if mode == "CMYK":
        red, green, blue = image_folder(tmp_path).images([0])[0, :, 0, 0].tolist()
        assert red > 150 > 60 > max(green, blue)


def test_a_palette_of_greys_is_grey(tmp_path: Path) -> None:
    """As drawing programs store what has few shades."""
    (tmp_path / "a").mkdir()
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 90, 90, 90])
    image.putdata([0, 1])
    image.save(tmp_path / "a" / "1.png")
    assert image_folder(tmp_path).images([0]).tolist() == [[[[0, 90]]]]


STROKE = np.array([[0, 255, 255], [0, 0, 255]], np.uint8)  # black on white


def with_alpha(mode: str) -> Image.Image:
    """Black strokes on nothing."""
    ink = Image.fromarray(255 - STROKE)
    if mode == "P":
        image = Image.new("P", (3, 2))
        image.putpalette([0, 0, 0] * 2)
        image.putdata((STROKE.ravel() // 255).tolist())
        image.info["transparency"] = bytes([255, 0])
        return image
    if mode == "I;16":
        deep = Image.fromarray(STROKE.astype(np.uint16) * 3)
        deep.info["transparency"] = 765
        return deep
    if mode in ("L", "RGB"):  # one level or colour stands for nothing
        image = Image.fromarray(np.where(STROKE == 255, 7, 0).astype(np.uint8)).convert(mode)
        image.info["transparency"] = 7 if mode == "L" else (7, 7, 7)
        return image
    image = Image.new(mode.removesuffix("A"), (3, 2))
    image.putalpha(ink)
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "I;16"])
def test_what_is_transparent_lies_on_white(mode: str, tmp_path: Path) -> None:
    """Black strokes on nothing are black on white, not all black."""
    (tmp_path / "a").mkdir()
    image = with_alpha(mode)
    image.save(
        tmp_path / "a" / "1.png", **({"transparency": image.info["transparency"]} if "transparency" in image.info else {})
    )
    for wanted in ("L", "RGB"):
        found = image_folder(tmp_path, mode=wanted).images([0])[0]
        assert all(np.array_equal(channel, STROKE) for channel in found)
    assert image_folder(tmp_path).read().transparent == [tmp_path / "a" / "1.png"]
    Image.new("RGBA", (3, 2), (1, 2, 3, 255)).save(tmp_path / "a" / "1.png")
    assert image_folder(tmp_path).read().transparent == []


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGBA", (1, 1), (0, 0, 200, 51)).save(tmp_path / "a" / "1.png")
    assert image_folder(tmp_path).images([0])[0, :, 0, 0].tolist() == [204, 204, 244]
    image = Image.new("P", (3, 2))
    image.putpalette([10, 20, 30] * 256)
    image.save(tmp_path / "a" / "1.png", transparency=bytes([0, 128]))
    assert image_folder(tmp_path).images([0])[0, :, 0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("ending", [".png", ".tif", ".pgm"])
def test_grey_levels_of_16_bits_are_scaled(ending: str, tmp_path: Path) -> None:
    """Pillow itself would clip them at 255, and almost every pixel would be white."""
    (tmp_path / "a").mkdir()
    levels = np.array([[0, 128, 129, 25_700, 65_535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "a" / f"1{ending}")
    assert image_folder(tmp_path).images([0]).tolist() == [[[[0, 0, 1, 100, 255]]]]


def test_grey_levels_of_32_bits_have_no_scale(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("F", (3, 2)).save(tmp_path / "a" / "1.tif")
    assert "1.tif, which has grey levels of 32 bits (mode F): convert it to 8 or 16 bits" in refused(image_folder, tmp_path)


TURNED = {  # a 1 at the upper left, 2 to its right, 3 below: as each EXIF orientation stores it
    1: [[1, 2], [3, 4], [5, 6]],
    2: [[2, 1], [4, 3], [6, 5]],
    3: [[6, 5], [4, 3], [2, 1]],
    4: [[5, 6], [3, 4], [1, 2]],
    5: [[1, 3, 5], [2, 4, 6]],
    6: [[2, 4, 6], [1, 3, 5]],
    7: [[6, 4, 2], [5, 3, 1]],
    8: [[5, 3, 1], [6, 4, 2]],
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_images_stand_as_they_were_held(orientation: int, ending: str, tmp_path: Path) -> None:
    """Whatever way a phone stored them; size and pixels agree."""
    stored = np.kron(np.array(TURNED[orientation], np.uint8) * 40, np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[274] = orientation
    (tmp_path / "a").mkdir()
    options = {"lossless": True} if ending == "webp" else {"quality": 100} if ending == "jpg" else {}
    Image.fromarray(stored).save(tmp_path / "a" / f"1.{ending}", exif=exif, **options)
    upright = np.array(TURNED[1])
    data = image_folder(tmp_path, mode="L")
    assert data.image_shape == (1, 48, 32)
    assert np.array_equal((data.images([0])[0, 0, 8::16, 8::16].astype(int) + 20) // 40, upright)
    small = image_folder(tmp_path, size=(3, 2), mode="L").images([0])[0, 0]
    assert np.array_equal((small.astype(int) + 20) // 40, upright) or ending == "jpg"
    assert np.array_equal(np.sort(small.ravel()), small.ravel()), "resizing turns nothing"


def chunks(png: bytes) -> list[bytes]:
    """What follows the signature."""
    found, at = [], 8
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        found.append(png[at:end])
        at = end
    return found


def test_exif_data_may_stand_behind_the_pixels(tmp_path: Path) -> None:
    """As the PNG standard allows, and some programs do."""
    path, exif = tmp_path / "a" / "1.png", Image.Exif()
    path.parent.mkdir()
    exif[274] = 6
    Image.fromarray(np.array(TURNED[6], np.uint8)).save(path, exif=exif)
    png = path.read_bytes()
    found = chunks(png)
    (late,) = [one for one in found if one[4:8] == b"eXIf"]
    found.remove(late)
    path.write_bytes(png[:8] + b"".join([*found[:-1], late, found[-1]]))
    for data in (image_folder(tmp_path), image_folder(tmp_path, size=(3, 2))):
        assert data.images([0])[0, 0].tolist() == TURNED[1]
    path.write_bytes(png[:8] + b"".join([*found[:-1], late[:14]]))
    assert image_folder(tmp_path).image_shape == (1, 2, 3), "cut off, they say nothing"


def test_damaged_exif_data_say_nothing_of_the_pixels(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 6), 9, np.uint8)).save(tmp_path / "a" / "1.png", exif=b"Exif\0\0MM\0*\0\0\xff")
    assert image_folder(tmp_path).images([0]).max() == 9


@pytest.mark.parametrize(
    "name",
    ["1.png", "1.PNG", "1.jpg", "1.JPEG", "1.webp", "1.bmp", "1.tif", "1.TIFF", "1.gif", "1.ppm", "1.pgm", "1.jp2", "1.pcx"],
)
def test_what_pillow_reads_is_read(name: str, tmp_path: Path) -> None:
    save(tmp_path / "a" / name, 200)
    data = image_folder(tmp_path)
    assert data.left_out == []
    assert abs(int(data.images([0])[0, 0, 0, 0]) - 200) <= 1


def test_of_an_animation_the_first_picture_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first, second = (Image.new("L", (4, 4), value) for value in (10, 240))
    first.save(tmp_path / "a" / "1.gif", save_all=True, append_images=[second])
    assert image_folder(tmp_path, mode="L").images([0]).max() == 10


def test_a_large_jpeg_is_decoded_at_a_fraction(tmp_path: Path) -> None:
    """Which is fast, and still averages over all of its pixels."""
    pixels = np.kron(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8), np.ones((100, 100, 1), np.uint8))
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "1.jpg", quality=95)
    small = image_folder(tmp_path, size=(16, 16)).images([0])[0].transpose(1, 2, 0).astype(int)
    whole = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.abs(small - np.asarray(whole)).max() < 12


def test_mixed_modes_are_read_as_colour(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", 5)
    save(tmp_path / "b" / "1.png", 5, mode="RGB")
    assert (image_folder(tmp_path).images([0, 1]) == np.full((2, 3, 4, 6), 5)).all()
    assert image_folder(tmp_path, mode="L").image_shape == (1, 4, 6)
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
    (tmp_path / "dog" / "1.doc").write_text("")
    assert refused(image_folder, tmp_path) == (
        f"{tmp_path / 'dog'} is a class folder without images (.png, .jpg, ...); its 1.doc has no name of an image, which "
        "leaves a single class, 'cat': add images; a classifier needs at least 2 classes"
    )
    (tmp_path / "cat" / "1.png").unlink()
    assert refused(image_folder, tmp_path) == (
        f"{tmp_path / 'cat'} is a class folder without images (.png, .jpg, ...), which leaves no class: add images; "
        "a classifier needs at least 2 classes"
    )


# ---- what is no image


def left_out(folder: Path, call: Callable[..., Any] = image_folder) -> tuple[str, Any]:
    """The warning of what is left out, and the data set."""
    with pytest.warns(UserWarning, match="left out: ") as warned:
        data = call(folder)
    (one,) = warned
    return str(one.message), data


@pytest.mark.parametrize("content", [b"", b"just text", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_files_that_are_no_image_are_left_out_with_a_warning(content: bytes, tmp_path: Path) -> None:
    """No program runs on them: Pillow gives PostScript, whatever its name, to an interpreter."""
    for number in (1, 3):
        save(tmp_path / "a" / f"{number}.png", number)
    (tmp_path / "a" / "2.png").write_bytes(content)
    message, data = left_out(tmp_path)
    reason = "is no image of a format that is read, whatever its name says" if content else "is empty, 0 bytes"
    assert message == f"{tmp_path}, left out: 1 of 3 images\n  a/2.png {reason}"
    assert [path.name for path in data.paths] == ["1.png", "3.png"]
    assert data.left_out == [LeftOut(tmp_path / "a" / "2.png", reason)]


def test_a_damaged_header_is_left_out(tmp_path: Path) -> None:
    path = noisy_jpeg(tmp_path / "a" / "1.jpg")
    path.write_bytes(path.read_bytes()[:100])
    for number in (2, 3):
        noisy_jpeg(tmp_path / "a" / f"{number}.jpg")
    assert len(left_out(tmp_path)[1]) == 2


def test_half_of_a_class_is_too_much_to_leave_out(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "a" / f"{number}.png")
        save(tmp_path / "b" / f"{number}.png")
    for number in (1, 2):
        (tmp_path / "b" / f"{number}.png").write_text("x")
    assert refused(image_folder, tmp_path) == (
        f"{tmp_path / 'b'}: 2 of 4 images cannot be read, such as 1.png, which is no image of a format that is read, whatever "
        "its name says: repair or remove them, or remove the folder"
    )
    save(tmp_path / "b" / "1.png")
    assert len(left_out(tmp_path)[1]) == 7


def test_of_many_files_that_are_left_out_a_few_are_named(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / "a" / f"{number:02}.png")
        if number < 9:
            (tmp_path / "a" / f"{number:02}.png").write_text("x")
    message, data = left_out(tmp_path)
    assert message.startswith(f"{tmp_path}, left out: 9 of 20 images\n  a/00.png is no image ")
    named, _, rest = message.rpartition("\n  ")
    assert named.endswith("a/04.png is no image of a format that is read, whatever its name says")
    assert rest == "and 4 more, named in the attribute left_out of the data set"
    assert len(data.left_out) == 9


def test_truncated_pixels_are_named_when_decoded_and_left_out_by_read(tmp_path: Path) -> None:
    """The header is whole. ``read`` decodes everything once, so that nothing is found in the middle of a training."""
    for number in (1, 3):
        save(tmp_path / "a" / f"{number}.png", number, size=(64, 64))
    path = noisy_jpeg(tmp_path / "a" / "2.jpg")
    path.write_bytes(path.read_bytes()[:-800])
    data = image_folder(tmp_path)
    message = refused(data.images, [0, 1])
    assert message.startswith(f"{path} is damaged (image file is truncated")
    assert message.endswith("): repair or remove it")
    told: list[tuple[str, int, int]] = []
    for in_memory in (True, False):
        reading = data.read(in_memory, lambda *one: told.append(one))
        assert [one.path for one in reading.damaged] == [path]
        assert reading.dataset.in_memory is in_memory
        assert reading.dataset.images([0, 1])[:, 0, 0, 0].tolist() == [1, 3]
        assert reading.dataset.labels.tolist() == [0, 0]
        assert told == [(f"reading {tmp_path}", done, 3) for done in (1, 2, 3)]
        told.clear()


def test_a_broken_png_is_named_when_decoded(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[600:700] = bytes(100)
    path = tmp_path / "a" / "1.png"
    path.parent.mkdir()
    path.write_bytes(content)
    data = image_folder(tmp_path)
    message = refused(data.images, [0])
    assert message.startswith(f"{path} is damaged (")
    assert message.endswith("): repair or remove it")
    assert refused(data.read).startswith(f"{tmp_path}: none of the 1 images can be read: a/1.png is damaged (")


def test_an_image_that_would_fill_the_memory_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    for number in range(3):
        save(tmp_path / "a" / f"{number}.png", size=(20, 20) if number == 1 else (4, 6))
    message, _ = left_out(tmp_path)
    assert message.endswith("a/1.png has more than 80 pixels, which could fill the memory: make it smaller")


@needs("links and pipes")
def test_nothing_but_files_is_opened(tmp_path: Path) -> None:
    """A pipe would be waited for, for ever; links in a circle and folders are told apart from images."""
    for number in range(8):
        save(tmp_path / "a" / f"{number}.png")
    (tmp_path / "a" / "folder.png").mkdir()
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "circle.png").symlink_to("circle.png")
    (tmp_path / "a" / "nowhere.png").symlink_to("gone.png")
    (tmp_path / "a" / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "a" / "linked.png").symlink_to("1.png")
    for name in ("notes.txt", "phone.HEIC", ".hidden"):
        (tmp_path / "a" / name).write_text("x")
    (tmp_path / "a" / "more").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "itself").symlink_to(".")
    (tmp_path / "above").symlink_to("..")
    (tmp_path / "loose.jpg").write_text("x")
    (tmp_path / "labels.csv").write_text("x")
    with pytest.warns(UserWarning, match="left out: "):
        data = image_folder(tmp_path)
    assert data.classes == ["a"]
    assert len(data) == 9
    assert {one.path.name: one.reason for one in data.left_out} == {
        "circle.png": "cannot be read (Too many levels of symbolic links)",
        "folder.png": "is a folder",
        "nowhere.png": "cannot be read (No such file or directory)",
        "pipe.png": "is no file but a pipe or a device",
        "zero.png": "is no file but a pipe or a device",
        "more": "is a folder within a class",
        "notes.txt": "has no name of an image",
        "phone.HEIC": "is a photo in a format that is not read: save it as JPEG",
        "circle": "is a link that leads nowhere",
        "itself": "is a link to a folder that it is in itself",
        "above": "is a link to a folder that it is in itself",
        "loose.jpg": "lies in no class folder",
    }
    with pytest.warns(UserWarning, match="left out: "):
        assert split_image_folder(tmp_path, "test").classes == ["a"]


def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, as the superuser may read everything."""
    for number in range(3):
        save(tmp_path / "a" / f"{number}.png")
    forbidden, status, scan = tmp_path / "a" / "1.png", os.stat, os.scandir

    def no_file(path: Path, **options: Any) -> Any:
        if path == forbidden:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return status(path, **options)

    monkeypatch.setattr(os, "stat", no_file)
    assert left_out(tmp_path)[0].endswith("1 of 3 images\n  a/1.png cannot be read (Permission denied)")

    def no_folder(path: Path) -> Any:
        if path == tmp_path / "a":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", no_folder)
    assert refused(image_folder, tmp_path) == (
        f"{tmp_path / 'a'} cannot be read (Permission denied): mend that, or remove the folder"
    )


def test_mending_a_file_moves_no_other_from_one_split_to_the_other(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / "a" / f"{number:02}.png")
    before = [split_image_folder(tmp_path, split).paths for split in ("train", "test")]
    for number in (3, 11, 30):
        (tmp_path / "a" / f"{number:02}.png").write_text("x")
    gone = {tmp_path / "a" / f"{number:02}.png" for number in (3, 11, 30)}
    with pytest.warns(UserWarning, match="left out: "):
        after = [split_image_folder(tmp_path, split).paths for split in ("train", "test")]
    assert after == [[path for path in paths if path not in gone] for paths in before]


def test_files_that_change_after_opening(tmp_path: Path) -> None:
    path = save(tmp_path / "a" / "1.png")
    data = image_folder(tmp_path)
    save(path, size=(3, 3))
    assert refused(data.images, [0]) == (
        f"{path} is now 3×3 (height × width), it was 4×6 when the data set was opened: "
        "leave the files as they are while they are read"
    )
    path.unlink()
    assert refused(data.images, [0]) == f"{path} cannot be read (No such file or directory): repair or remove it"


# ---- splits


@pytest.mark.parametrize("beside", ["test", "val", "valid", "validation"])
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


def test_size_and_mode_are_the_same_in_both_splits(tmp_path: Path) -> None:
    first = save(tmp_path / "train" / "a" / "1.png", size=(4, 6))
    other = save(tmp_path / "test" / "a" / "1.png", size=(5, 5))
    for split in ("train", "test"):
        assert refused(split_image_folder, tmp_path, split) == (
            f"{other} is 5×5 (height × width), but {first} is 4×6: pass size=(4, 6) (--image-size 4x6) to resize all images"
        )
    save(other, size=(4, 6), mode="RGB")
    assert [split_image_folder(tmp_path, split).image_shape for split in ("train", "test")] == [(3, 4, 6)] * 2


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
    """A tenth of it is held out."""
    for number in range(20):
        save(tmp_path / "train" / "cat" / f"{number}.png")
    inside = [split_image_folder(tmp_path / "train", split) for split in ("train", "test")]
    assert [one.paths for one in inside] == [split_image_folder(tmp_path, split).paths for split in ("train", "test")]
    assert [len(one) for one in inside] == [18, 2]


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


def test_a_single_image_is_trained_on(tmp_path: Path) -> None:
    words = "no image to test on: how well"
    save(tmp_path / "cat" / "1.png")
    assert refused(split_image_folder, tmp_path) == (
        f"{tmp_path} test: no class has an image to test on, as none has more than one: add images"
    )
    save(tmp_path / "dog" / "1.png")
    save(tmp_path / "dog" / "2.png")
    for split, labels in (("train", [0, 1]), ("test", [1])):
        with pytest.warns(UserWarning, match="no image to test on") as warned:
            data = split_image_folder(tmp_path, split)
        assert [str(one.message) for one in warned] == [
            f"{tmp_path}, warning: 1 class has {words} it is recognised stays unknown\n  cat"
        ]
        assert (data.classes, data.labels.tolist()) == (["cat", "dog"], labels)
    assert image_folder(tmp_path).labels.tolist() == [0, 1, 1], "where nothing is held out there is nothing to say"


def test_empty_class_folders_of_splits(tmp_path: Path) -> None:
    """One without training images is left out of both; one without test images is not tested."""
    train, test = tmp_path / "train", tmp_path / "test"
    for path in (train / "cat" / "1.png", train / "dog" / "1.png", test / "cat" / "1.png", test / "ant" / "1.png"):
        save(path)
    (train / "ant").mkdir()
    (test / "dog").mkdir()
    (train / "ant" / "notes.txt").write_text("x")
    contents = look_at(tmp_path)
    assert (contents.classes, contents.untested) == (["cat", "dog"], ["dog"])
    assert [(file.path, file.label) for file in contents.files] == [
        (train / "cat" / "1.png", 0),
        (train / "dog" / "1.png", 1),
        (test / "cat" / "1.png", 0),
    ]
    notes = [note.text() for note in contents.notes()]
    assert notes == [
        "left out: 1 of 3 classes\n  train/ant is a class folder without images (.png, .jpg, ...); its notes.txt has no name "
        "of an image",
        "warning: 1 class has no image to test on: how well it is recognised stays unknown\n  dog",
        "not read: 2 other entries\n  train/ant/notes.txt has no name of an image\n  test/ant holds 1 image to test on, of a "
        "class that has none to train on",
    ]
    assert [note.text() for note in look_at(tmp_path, "test").notes()][-1].startswith(
        "not read: 1 other entry\n  test/ant holds"
    )
    (test / "cat" / "1.png").unlink()
    assert refused(look_at, tmp_path) == f"{test}: no class has an image to test on: add images"


def test_classes_a_level_deeper(tmp_path: Path) -> None:
    """An archive often unpacks to a folder within a folder, or to training and testing: the message says what to do."""
    for name in ("cat", "dog"):
        save(tmp_path / "archive" / "photos" / name / "1.png")
        save(tmp_path / "archive" / "photos" / name / "2.png")
        save(tmp_path / "splits" / "testing" / name / "1.png")
        save(tmp_path / "splits" / "training" / name / "1.png")
    empty = "is a class folder without images (.png, .jpg, ...); its cat is a folder within a class, which leaves no class"
    photos, test = tmp_path / "archive" / "photos", tmp_path / "splits" / "testing"
    assert refused(look_at, photos.parent) == (
        f"{photos} {empty}: add images, or, if the folders in {photos} are the classes, take {photos}; a classifier needs at "
        "least 2 classes"
    )
    assert refused(look_at, test.parent) == (
        f"{test} {empty}: call the folders of training and test images train and test (or val); a classifier needs at least 2 "
        "classes"
    )
    test.rename(tmp_path / "splits" / "test")
    (tmp_path / "splits" / "training").rename(tmp_path / "splits" / "train")
    assert look_at(photos).classes == look_at(test.parent).classes == ["cat", "dog"]


# ---- formats


def test_every_format_that_pillow_knows_is_read_or_has_a_reason() -> None:
    """A new one is read; one that is to be left out needs a sentence."""
    Image.init()
    endings = image_files.image_endings()
    for ending, name in Image.EXTENSION.items():
        left_out = name in image_files._NOT_READ or (name not in Image.OPEN and name != "MPO")
        assert (ending in endings) is not left_out, (ending, name)
        reason = image_files.why_not_read(ending)
        assert (
            reason.endswith(
                (": save it as PNG", ": save pictures of it as PNG", ": save images as PNG", ": save its image as PNG")
            )
            is left_out
        )
    assert {".png", ".jpg", ".ico", ".tga", ".psd", ".mpo", ".icns", ".dds", ".xbm", ".sgi"} <= endings
    assert not endings & {
        ".eps",
        ".ps",
        ".pdf",
        ".wmf",
        ".emf",
        ".mpg",
        ".fli",
        ".h5",
        ".grib",
        ".iim",
        ".svg",
        ".heic",
        ".txt",
    }
    readers = set(image_files._readers())
    assert not readers & {"EPS", "WMF", "IPTC", "MPEG", "FLI", "BUFR", "GRIB", "HDF5"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1.eps", "is a document (PostScript), which another program would have to draw: save it as PNG"),
        ("1.PDF", "is a document (PDF), which another program would have to draw: save it as PNG"),
        ("1.emf", "is a drawing (WMF), which only Windows can draw: save it as PNG"),
        ("1.svg", "is a drawing (SVG), which another program would have to draw: save it as PNG"),
        ("1.mpeg", "is a video: save pictures of it as PNG"),
        ("1.mov", "is a video: save pictures of it as PNG"),
        ("1.flc", "is an animation (FLI): save pictures of it as PNG"),
        ("1.h5", "holds measurements, not an image of a format that is read: save images as PNG"),
        ("1.iim", "is a record of news agencies (IPTC), which may hold a file of any kind: save its image as PNG"),
        ("1.palm", "is of a format that Pillow does not read here: save it as PNG"),
        ("1.heif", "is a photo in a format that is not read: save it as JPEG"),
        ("1.txt", "has no name of an image"),
        ("png", "has no name of an image"),
    ],
)
def test_what_is_left_out_is_said_with_its_reason(name: str, reason: str, tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / name).write_text("x")
    assert image_folder(tmp_path).left_out == [LeftOut(tmp_path / "a" / name, reason)]


@pytest.mark.filterwarnings("ignore:.* image format is deprecated:DeprecationWarning")
def test_every_format_that_pillow_writes_comes_back(tmp_path: Path) -> None:
    """Of the formats that are read: grey or in colour, whichever the format has, in 32 x 32 pixels."""
    Image.init()
    came_back = set()
    for ending in sorted(image_files.image_endings()):
        name = Image.EXTENSION[ending]
        if name not in Image.SAVE:
            continue
        folder = tmp_path / ending[1:]
        (folder / "a").mkdir(parents=True)
        for mode in ("RGB", "L", "RGBA", "1", "F"):
            image = Image.new("RGB", (32, 32), (200, 200, 200) if mode != "1" else (255, 255, 255)).convert(mode)
            try:
                image.save(folder / "a" / f"1{ending}")
            except (OSError, ValueError, KeyError):
                continue
            break
        if mode == "F":  # of which no levels are known
            continue
        found = image_folder(folder, mode="L").images([0])[0, 0]
        assert found.shape == ((1024, 1024) if name == "ICNS" else (32, 32)), ending
        assert np.abs(found.astype(int) - (255 if mode == "1" else 200)).max() <= 2, (ending, mode)
        came_back.add(name)
    assert came_back >= {
        "BMP",
        "DDS",
        "DIB",
        "GIF",
        "ICO",
        "IM",
        "JPEG",
        "MSP",
        "PCX",
        "PNG",
        "PPM",
        "QOI",
        "SGI",
        "TGA",
        "TIFF",
    }


def test_formats_without_a_signature_are_looked_for_by_name_alone(tmp_path: Path) -> None:
    """They would take any file for one of theirs."""
    (tmp_path / "a").mkdir()
    Image.new("RGB", (5, 4), (10, 20, 30)).save(tmp_path / "a" / "1.tga")
    assert image_folder(tmp_path).images([0])[0, :, 0, 0].tolist() == [10, 20, 30]
    (tmp_path / "a" / "1.tga").rename(tmp_path / "a" / "1.png")
    assert "1.png, which is no image of a format that is read" in refused(image_folder, tmp_path)


def test_all_of_one_colour_is_blank(tmp_path: Path) -> None:
    """Whatever the colour, and by whatever compression."""
    for number, colour in enumerate([(200, 30, 40), (0, 0, 0), (255, 255, 255), (7, 7, 8)]):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), colour).save(tmp_path / "a" / f"{number}.jpg")
    noisy = noisy_jpeg(tmp_path / "a" / "noisy.jpg")
    reading = image_folder(tmp_path, size=(8, 8)).read()
    assert [path.name for path in reading.blank] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert noisy not in reading.blank


def test_16_bits_that_are_hardly_filled(tmp_path: Path) -> None:
    """Grey and in colour, with and without transparency; what is black all over is blank, no more."""
    folder = tmp_path / "a"
    folder.mkdir()
    rng = np.random.default_rng(0)
    grey = rng.integers(1, 8191, (6, 5)).astype(np.uint16)
    grey[0, 0], bright = 8191, grey.copy()
    bright[0, 0] = 8192
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(grey).save(folder / "grey.tif")
    Image.fromarray(grey).save(folder / "grey.pgm")
    Image.fromarray(bright).save(folder / "bright.tif")
    Image.fromarray(np.zeros((6, 5), np.uint16)).save(folder / "black.tif")
    Image.fromarray(np.full((6, 5), 9, np.uint8)).save(folder / "of8bits.png")
    ink = np.where(rng.random((6, 5)) < 0.5, grey, 60_000).astype(np.uint16)
    Image.fromarray(ink).save(folder / "ink.png", transparency=60_000)
    for name, most in (("colour.png", 4096), ("bright.png", 65_536)):
        (folder / name).write_bytes(png_of_16_bits(rng.integers(0, most, (6, 5, 3)).astype(">u2")))
    reading = image_folder(tmp_path).read()
    assert [path.name for path in reading.unfilled] == ["colour.png", "grey.pgm", "grey.png", "grey.tif", "ink.png"]
    grey_again = image_folder(tmp_path, mode="L").images([4])[0, 0]
    assert grey_again.max() == round(8191 * 255 / 65_535), "nothing is rescaled silently"


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """Big-endian colours (H, W, 3) as a PNG, which Pillow reads and does not write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_12_bits_that_a_file_says_it_has_are_scaled(tmp_path: Path) -> None:
    """A TIFF may pack them, two values in three bytes: their range is known, and nothing is to be said."""
    levels, (height, width) = [0, 16, 2048, 4095], (2, 2)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in zip(levels[::2], levels[1::2], strict=True))
    tags = [
        (256, width),
        (257, height),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, len(packed)),
    ]
    start = 8 + len(packed)
    directory = (
        struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.tif").write_bytes(b"II*\0" + struct.pack("<I", start) + packed + directory)
    reading = image_folder(tmp_path).read()
    assert reading.dataset.images([0])[0, 0].tolist() == [[0, 1], [128, 255]]
    assert reading.unfilled == []


def test_the_folders_of_the_splits_may_be_in_capitals(tmp_path: Path) -> None:
    for split in ("Train", "TEST", "Validation"):
        for name in ("cat", "dog"):
            save(tmp_path / split / name / "1.png")
    contents = look_at(tmp_path)
    assert contents.names == {
        "train": f"{tmp_path}/Train",
        "test": f"{tmp_path}/TEST",
        "validation": f"{tmp_path}/Validation",
    }
    assert not contents.notes()
    assert look_at(tmp_path, only="test").splits["test"][0].path.parent.parent == tmp_path / "TEST"


def test_of_two_folders_of_a_name_the_one_without_capitals_is_taken(tmp_path: Path) -> None:
    for split in ("Train", "train", "test"):
        for name in ("cat", "dog"):
            save(tmp_path / split / name / "1.png")
    if (tmp_path / "TRAIN").exists():  # names that differ by capitals alone are the same here
        return
    contents = look_at(tmp_path)
    assert contents.names["train"] == f"{tmp_path}/train"
    assert contents.told(contents.others) == ("Train is not used",)


def test_a_class_that_is_called_train_is_no_split(tmp_path: Path) -> None:
    for name in ("Train", "bus"):
        for number in range(3):
            save(tmp_path / name / f"{number}.png")
    assert look_at(tmp_path).classes == ["Train", "bus"]


def test_what_lies_beside_the_splits_is_told(tmp_path: Path) -> None:
    for split in ("train", "test", "val", "valid", "extra"):
        for name in ("cat", "dog"):
            save(tmp_path / split / name / "1.png")
    save(tmp_path / "loose.png")
    save(tmp_path / "train/inner.png")
    (tmp_path / "readme.txt").write_text("no image")
    contents = look_at(tmp_path)
    assert sorted(contents.told(contents.others)) == [
        "extra is not used",
        "loose.png lies in no class folder",
        "train/inner.png lies in no class folder",
        "valid is not used: val/ is for validation",
    ]
    for name in ("test", "extra"):
        (tmp_path / name).rename(tmp_path.parent / f"{tmp_path.name}-{name}")
    assert "valid is not used: val/ is for testing" in look_at(tmp_path).told(look_at(tmp_path).others)
    for name in ("val", "valid"):
        (tmp_path / name).rename(tmp_path.parent / f"{tmp_path.name}-{name}")
    for number in range(2, 5):
        save(tmp_path / "train/cat" / f"{number}.png")
    assert "../loose.png" not in str(look_at(tmp_path).told(look_at(tmp_path).others))
    assert "loose.png lies in no class folder" in str(look_at(tmp_path).told(look_at(tmp_path).others))
