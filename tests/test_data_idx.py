"""IDX files: written and read back, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.data.idx_files import idx, read_idx, write_idx
from chainrule.errors import UserError

TYPES = [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64]
ARRAYS = st.sampled_from(TYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
)


@settings(max_examples=60, deadline=None)
@given(array=ARRAYS, name=st.sampled_from(["a.idx", "a.idx.gz"]))
def test_round_trip(array: np.ndarray, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        write_idx(path, array)
        back = read_idx(path)
        assert [file.name for file in Path(folder).iterdir()] == [name]
        assert path.read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_bytes_are_as_published(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.array([[1, -2, 3]], np.int16))
    assert (tmp_path / "a").read_bytes() == bytes.fromhex("00000b02 00000001 00000003 0001 fffe 0003")


def test_either_byte_order_can_be_written(tmp_path: Path) -> None:
    for order in "<>":
        write_idx(tmp_path / "a", np.array([1, 2], f"{order}i4"))
        assert read_idx(tmp_path / "a").tolist() == [1, 2]


def test_equal_arrays_give_equal_gzip_files(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, np.arange(100, dtype=np.uint8))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


HEADER = bytes.fromhex("00000802 00000002 00000003")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no IDX file: it starts with the bytes (none)"),
        (b"\x89PNG\r\n", "is no IDX file: it starts with the bytes 89 50 4e 47"),
        (b"\0\0\x0a\x01\0\0\0\0", "is no IDX file: it starts with the bytes 00 00 0a 01"),
        (b"\0\0\x08\x00", "is no IDX file: it starts with the bytes 00 00 08 00"),
        (HEADER[:7], "is truncated: it ends in its header, after 7 bytes; download it again"),
        (HEADER + b"12345", "is truncated: uint8 of shape (2, 3) takes 18 bytes, it holds 17; download it again"),
        (HEADER + b"1234567", "is damaged: uint8 of shape (2, 3) takes 18 bytes, it holds 19; download it again"),
        (
            b"\0\0\x0e\x02" + b"\xff" * 8,
            "is truncated: float64 of shape (4294967295, 4294967295) takes 147573952520956936212 bytes, it holds 12; "
            "download it again",
        ),
        (
            gzip.compress(HEADER + b"123456", mtime=0)[:-9],
            "is a damaged gzip file (Compressed file ended before the end-of-stream marker was reached): download it again",
        ),
    ],
)
def test_wrong_files(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_idx(path)
    assert str(error.value) == f"{path} {words}"


def test_gzip_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(HEADER + b"123456")
    (tmp_path / "packed").write_bytes(gzip.compress(HEADER + b"123456"))
    assert np.array_equal(read_idx(tmp_path / "plain.gz"), read_idx(tmp_path / "packed"))


def test_damaged_gzip_checksum(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(HEADER + b"123456"))
    data[-8] ^= 1
    (tmp_path / "a.gz").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.gz is a damaged gzip file \(CRC check failed.*\): download it again$"):
        read_idx(tmp_path / "a.gz")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_idx(tmp_path / "nothing")
    assert str(error.value) == f"{tmp_path / 'nothing'} cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (
            np.zeros(2, np.int64),
            "an IDX file cannot hold int64: convert the array to one of uint8, int8, int16, int32, float32, float64",
        ),
        (np.uint8(3), "an IDX file has 1 to 255 dimensions, the array has 0"),
    ],
)
def test_what_cannot_be_written(array, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        write_idx(tmp_path / "a", array)
    assert str(error.value) == f"{tmp_path / 'a'}: {words}"
    assert not list(tmp_path.iterdir())


def test_writing_into_a_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a"
    with pytest.raises(UserError) as error:
        write_idx(path, np.zeros(1, np.uint8))
    assert str(error.value) == f"{path} cannot be written: No such file or directory"


IMAGES = np.arange(4 * 2 * 3).reshape(4, 2, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64])
def test_data_set_of_each_element_type(dtype: type, tmp_path: Path) -> None:
    write_idx(tmp_path / "images.gz", IMAGES.astype(dtype))
    write_idx(tmp_path / "labels", np.array([0, 2, 1, 2], np.int32))
    data = idx(tmp_path / "images.gz", tmp_path / "labels")
    images = data.images(range(4))
    assert images.dtype == (np.float32 if np.dtype(dtype).kind == "f" else np.uint8)
    assert np.array_equal(images[:, 0], IMAGES)
    assert data.labels.tolist() == [0, 2, 1, 2]
    assert data.classes == ["0", "1", "2"]
    assert data.name == str(tmp_path / "images.gz")


def test_colour_images(tmp_path: Path) -> None:
    write_idx(tmp_path / "i", np.zeros((2, 3, 5, 4), np.uint8))
    write_idx(tmp_path / "l", np.array([0, 1], np.uint8))
    assert idx(tmp_path / "i", tmp_path / "l", classes=["cat", "dog"]).image_shape == (3, 5, 4)


def poisoned(value: float, dtype: type) -> np.ndarray:
    images = np.zeros((4, 2, 3), dtype)
    images[2, 1, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (
            np.zeros((4, 2, 2), np.uint8),
            np.zeros(3, np.uint8),
            "{i} holds 4 images but {l} holds 3 labels: they do not belong together",
        ),
        (
            np.zeros(4, np.uint8),
            np.zeros((4, 2, 2), np.uint8),
            "{i} holds an array of shape (4,): expected images (N, H, W) or (N, C, H, W) (are the two paths swapped?)",
        ),
        (
            np.zeros((4, 2), np.uint8),
            np.zeros(4, np.uint8),
            "{i} holds an array of shape (4, 2): expected images (N, H, W) or (N, C, H, W)",
        ),
        (
            np.zeros((4, 2, 2), np.uint8),
            np.zeros(4, np.float32),
            "{l} holds float32 of shape (4,): expected labels, one whole number per image",
        ),
        (
            poisoned(np.nan, np.float32),
            np.zeros(4, np.uint8),
            "{i}: image 2 holds nan in channel 0, row 1, column 0: repair or remove this image",
        ),
        (
            poisoned(300, np.int16),
            np.zeros(4, np.uint8),
            "{i}: image 2 holds 300 at (1, 0): pixels of type int16 must be 0 to 255; store other values as float32",
        ),
        (
            np.zeros((4, 2, 2), np.uint8),
            np.array([0, 0, -1, 0], np.int8),
            "{l}: labels[2] is -1: classes are counted from 0, to at most 99999",
        ),
        (
            np.zeros((0, 2, 2), np.uint8),
            np.zeros(0, np.uint8),
            "{l}: there are no labels",
        ),
    ],
)
def test_files_that_form_no_data_set(images, labels, words: str, tmp_path: Path) -> None:
    paths = tmp_path / "images", tmp_path / "labels"
    write_idx(paths[0], images)
    write_idx(paths[1], labels)
    with pytest.raises(UserError) as error:
        idx(*paths)
    assert str(error.value) == words.format(i=paths[0], l=paths[1])
