"""MNIST as shipped: the original bytes, and clear words when the installed files are damaged."""

from __future__ import annotations

import hashlib
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.data import mnist_files
from chainrule.data.mnist_files import CHECKSUMS, FOLDER, MNIST_SAMPLES, mnist
from chainrule.errors import UserError

# As published with the original files, uncompressed.
PUBLISHED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


@pytest.mark.parametrize("name", CHECKSUMS)
def test_unpacked_files_are_the_original_ones(name: str) -> None:
    data = lzma.decompress((FOLDER / f"{name}.xz").read_bytes())
    assert hashlib.md5(data).hexdigest() == PUBLISHED_MD5[name]
    assert hashlib.sha256(data).hexdigest() == CHECKSUMS[name]


def test_packed_files_are_below_ten_megabytes_and_licensed() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 10_000_000
    text = (FOLDER / "LICENSE-MNIST").read_text()
    assert "CC BY-SA 3.0" in text
    assert "Cortes" in text
    assert all(f"{checksum}  {name}" in text for name, checksum in PUBLISHED_MD5.items())


def test_three_test_images_are_there_as_files() -> None:
    """Small, licensed beside them, and the same pixels."""
    test = mnist("test")
    for place, (path, label) in enumerate(zip(MNIST_SAMPLES, (7, 2, 1), strict=True)):
        assert path.stat().st_size < 1000
        assert path.name in (path.parent / "LICENSE-MNIST").read_text()
        np.testing.assert_array_equal(np.asarray(Image.open(path)), test.images([place])[0, 0])
        assert test.labels[place] == label


@pytest.mark.parametrize(
    ("split", "counts"),
    [
        ("train", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("test", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_counts_per_class(split: str, counts: list[int]) -> None:
    digits = mnist(split)
    assert np.bincount(digits.labels).tolist() == counts
    assert len(digits) == sum(counts)
    assert digits.labels.dtype == np.int64
    assert digits.image_shape == (1, 28, 28)
    assert digits.classes == list("0123456789")
    images = digits.images([0, len(digits) - 1])
    assert images.shape == (2, 1, 28, 28)
    assert images.dtype == np.uint8
    assert repr(digits) == f"<ArrayDataset mnist {split}: {len(digits)} images 1×28×28, 10 classes>"


def test_first_training_digit_is_a_five() -> None:
    digits = mnist("train")
    assert digits.labels[0] == 5
    assert int(digits.images([0]).sum()) == 27525


def test_unknown_split() -> None:
    with pytest.raises(UserError) as error:
        mnist("tset")
    assert str(error.value) == "unknown split 'tset': did you mean 'test'? Known: test, train"


REMEDY = "reinstall the package with `pip install --force-reinstall chainrule`"


def other_content(path: Path) -> None:
    path.write_bytes(lzma.compress(b"something else"))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def one_bit_flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Path.unlink, "cannot be read (No such file or directory)"),
        (other_content, "is damaged (its SHA-256 is not the expected one)"),
        (cut_short, "is damaged (Compressed data ended before the end-of-stream marker was reached)"),
        (one_bit_flipped, "is damaged (Corrupt input data)"),
    ],
)
def test_damaged_files_are_named(damage, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in FOLDER.glob("t10k*"):
        shutil.copy(file, tmp_path)
    labels = tmp_path / "t10k-labels-idx1-ubyte.xz"
    damage(labels)
    monkeypatch.setattr(mnist_files, "FOLDER", tmp_path)
    with pytest.raises(UserError) as error:
        mnist("test")
    assert str(error.value) == f"{labels} {words}: {REMEDY}"
