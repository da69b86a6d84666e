"""load_dataset and CIFAR-10: from a name or a folder to a data set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.data import idx_files
from chainrule.data.cifar import cifar10
from chainrule.data.named import load_dataset
from chainrule.errors import UserError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def refused(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    return str(error.value)


@pytest.fixture
def cifar_folder(tmp_path: Path) -> Path:
    """Three records per file; the first byte of each image tells file and record."""
    (tmp_path / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    for number, name in enumerate([f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]):
        records = np.zeros((3, 3073), np.uint8)
        records[:, 0] = (number + np.arange(3)) % 10
        records[:, 1] = 10 * number + np.arange(3)
        records[:, 1 + 1024 + 32] = 200  # green, row 1, column 0
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    return tmp_path


def write_mnist_like(folder: Path, names: str, zipped: bool = False) -> None:
    """Four files, names by the pattern; the largest label occurs in the test split only."""
    for prefix, count, largest in (("train", 5, 2), ("t10k", 3, 3)):
        end = ".gz" if zipped else ""
        images = np.full((count, 4, 4), count, np.uint8)
        idx_files.write_idx(folder / (names.format(prefix, "images", 3) + end), images)
        labels = np.full(count, largest, np.uint8)
        idx_files.write_idx(folder / (names.format(prefix, "labels", 1) + end), labels)


def test_mnist_by_name() -> None:
    assert len(load_dataset("mnist", "test")) == 10_000


@pytest.mark.parametrize("names", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte"])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_folder(names: str, zipped: bool, tmp_path: Path) -> None:
    write_mnist_like(tmp_path, names, zipped)
    train, test = (load_dataset(str(tmp_path), split) for split in ("train", "test"))
    assert (len(train), len(test)) == (5, 3)
    assert (train.images([0]) == 5).all()
    assert train.classes == test.classes == ["0", "1", "2", "3"]


def test_idx_folder_that_lacks_a_file(tmp_path: Path) -> None:
    write_mnist_like(tmp_path, "{}-{}-idx{}-ubyte")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert refused(load_dataset, tmp_path) == (
        f"{tmp_path} lacks t10k-labels-idx1-ubyte (or t10k-labels.idx1-ubyte, t10k-labels-idx1-ubyte.gz, "
        "t10k-labels.idx1-ubyte.gz): all four IDX files are needed"
    )


def test_cifar_folder(cifar_folder: Path) -> None:
    train, test = (load_dataset(cifar_folder, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (15, 3)
    assert train.classes == NAMES
    assert train.image_shape == (3, 32, 32)
    assert train.labels.tolist() == [0, 1, 2, 1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 6]
    images = train.images(range(15))
    assert images.dtype == np.uint8
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42]
    assert (images[:, 1, 1, 0] == 200).all()
    assert test.images([1])[0, 0, 0, 0] == 51


def test_cifar_truncated_and_foreign_files(cifar_folder: Path) -> None:
    path = cifar_folder / "data_batch_3.bin"
    content = path.read_bytes()
    for wrong in (content[:-1], b""):
        path.write_bytes(wrong)
        assert refused(cifar10, cifar_folder) == (
            f"{path} holds {len(wrong)} bytes, which is no whole number of records of 3073 bytes: "
            "it is truncated or no CIFAR-10 file; unpack the archive again"
        )
    path.write_bytes(content[:3073] + b"\x0a" + content[3074:])
    assert refused(cifar10, cifar_folder) == (
        f"{path}: record 1 has label 10, with 10 classes a label is 0 to 9: it is damaged or no CIFAR-10 file"
    )


def test_cifar_missing_files(cifar_folder: Path) -> None:
    missing = (
        "{} is missing: expected the unpacked CIFAR-10 binary version (cifar-10-binary.tar.gz); "
        "the Python version cannot be read, since it holds pickles"
    )
    (cifar_folder / "data_batch_5.bin").unlink()
    assert refused(cifar10, cifar_folder) == missing.format(cifar_folder / "data_batch_5.bin")
    names = cifar_folder / "batches.meta.txt"
    names.write_text("\n")
    assert refused(cifar10, cifar_folder) == f"{names} is empty: expected one class name per line"
    names.write_bytes(b"\xff\xfe\xff")
    assert refused(cifar10, cifar_folder) == f"{names} is no text file: expected one class name per line"


def test_python_version_of_cifar_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"pickle")
    assert "the Python version cannot be read, since it holds pickles" in refused(load_dataset, tmp_path)


def test_image_folder_with_size_and_mode(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        Image.new("L", (5, 4), 7).save(tmp_path / split / "cat" / "1.png")
    data = load_dataset(tmp_path, "test", size=(2, 2), mode="RGB")
    assert data.image_shape == (3, 2, 2)
    assert (data.images([0]) == 7).all()


def test_size_is_for_image_folders(cifar_folder: Path) -> None:
    words = "{}: size and mode are for folders of image files; leave them out here"
    assert refused(load_dataset, "mnist", size=(32, 32)) == words.format("mnist")
    assert refused(load_dataset, cifar_folder, mode="L") == words.format(cifar_folder)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            "mnits",
            "unknown data set 'mnits': did you mean 'mnist'? Known: mnist, "
            "or the path of a folder of images, IDX files or CIFAR-10's binary files",
        ),
        (
            "",
            "unknown data set '': Known: mnist, or the path of a folder of images, IDX files or CIFAR-10's binary files",
        ),
        (
            "no/such/folder",
            "no/such/folder does not exist: expected a folder of images, IDX files or CIFAR-10's binary files",
        ),
        (
            Path("mnist"),
            "mnist does not exist: expected a folder of images, IDX files or CIFAR-10's binary files",
        ),
    ],
)
def test_unknown_names(spec, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(load_dataset, spec) == words


def test_unknown_split() -> None:
    assert refused(load_dataset, "mnist", "validation").startswith("unknown split 'validation': ")


def test_importing_the_package_leaves_pillow_alone() -> None:
    code = "import sys, chainrule.data; sys.exit('PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
