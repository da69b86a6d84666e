"""Files are whole or not there; tensors come back from safetensors files as they went in."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from chainrule.errors import UserError
from chainrule.formats import leftovers, load_safetensors, save_safetensors, temporary_name, write_atomically
from chainrule.graph import dtypes
from systems import name_of_open_file, needs

DTYPES = ["float32", "float64", "bfloat16", "int32", "int64", "uint8", "bool"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- whole or not there


def test_writes_text_and_bytes(tmp_path: Path) -> None:
    write_atomically(tmp_path / "text", "ä\n")
    write_atomically(str(tmp_path / "bytes"), b"\0\xff")
    assert (tmp_path / "text").read_bytes() == b"\xc3\xa4\n"
    assert (tmp_path / "bytes").read_bytes() == b"\0\xff"
    assert names(tmp_path) == ["bytes", "text"]


def test_the_file_appears_flushed_and_by_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment of renaming, the new content is on the disk under another name and the old one is untouched."""
    target = tmp_path / "file"
    target.write_text("old")
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(handle: int) -> None:
        events.append("flush " + name_of_open_file(handle, tmp_path))
        fsync(handle)

    def renamed(source: Path, destination: Path) -> None:
        assert Path(source).read_text() == "new"
        assert target.read_text() == "old"
        events.append("rename")
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    write_atomically(target, "new")
    assert events == [f"flush {temporary_name(target).name}", "rename", f"flush {tmp_path.name}"]
    assert target.read_text() == "new"


@pytest.mark.parametrize("place", ["open", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_error_at_any_point_leaves_the_old_file(
    place: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        if place == "open":
            patch.setattr("builtins.open", fail)
        else:
            patch.setattr(os, place, fail)
        with pytest.raises(UserError if isinstance(error, OSError) else KeyboardInterrupt):
            write_atomically(target, "new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_full_disk_is_named_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as error:
        write_atomically(tmp_path / "file", bytes(2_500_000))
    assert str(error.value) == (
        f"no space left to write {tmp_path / 'file'} (2.5 MB needed): free some space or choose another folder; "
        "what was there before is untouched"
    )
    assert isinstance(error.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing/file", "No such file or directory"), ("plain/file", "Not a directory")],
)
def test_a_place_that_cannot_be_written_is_named(path: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(UserError) as error:
        write_atomically(tmp_path / path, "new")
    assert str(error.value) == f"{tmp_path / path} cannot be written ({reason}): mend that, or choose another place"
    assert names(tmp_path) == ["plain"]


def test_what_can_be_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (".", "..", "", tmp_path, f"{tmp_path}/"):
        with pytest.raises(UserError) as error:
            write_atomically(path, "new")
        assert str(error.value) == f"{Path(path)} is a folder: give the name of a file"
    with pytest.raises(UserError, match=r"a\\x00b cannot be the name of a file: choose another place"):
        write_atomically("a\0b", "new")
    assert names(tmp_path) == []


@needs("links and pipes")
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("old")
    (tmp_path / "link").symlink_to("folder/file")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_text() == "new"
    assert names(tmp_path / "folder") == ["file"]


@needs("full device", "links and pipes", "file modes")
def test_devices_and_pipes_are_written_and_stay(tmp_path: Path) -> None:
    """To the superuser ``/dev/null`` is a file as any other: to be replaced by a drawing, for everybody."""
    before = os.stat("/dev/null")
    write_atomically("/dev/null", "new")
    assert stat.S_ISCHR(before.st_mode)
    assert os.stat("/dev/null").st_ino == before.st_ino
    with pytest.raises(UserError, match="no space left to write /dev/full"):
        write_atomically("/dev/full", "new")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(tmp_path / "pipe", "new")
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert names(tmp_path) == ["pipe"]


def test_leftovers_are_those_of_processes_that_are_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ours, theirs = tmp_path / f".a.{gone.pid}.tmp", tmp_path / f".a.{os.getppid()}.tmp"
    for path in (ours, theirs, tmp_path / ".a.tmp", tmp_path / "a.1.tmp", tmp_path / "a", temporary_name(tmp_path / "b")):
        path.write_text("")
    # a number that came round again, as in containers, is this process's: nothing of it is being written now
    assert sorted(leftovers(tmp_path)) == sorted([ours, temporary_name(tmp_path / "b")])
    assert leftovers(tmp_path / "missing") == []


# ---- safetensors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4), (1,)])
def test_tensors_come_back_bit_for_bit(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    wanted = dtypes.as_dtype(dtype)
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 2 if dtype == "bool" else 256, (*shape, wanted.itemsize), np.uint8)
    array = np.frombuffer(raw.tobytes(), wanted).reshape(shape)  # any bits: NaN and subnormal numbers too
    save_safetensors(tmp_path / "file", {"a": array})
    found = load_safetensors(tmp_path / "file")[0]["a"]
    assert (found.dtype, found.shape, found.tobytes()) == (wanted, shape, array.tobytes())


def test_all_seven_dtypes_are_tested() -> None:
    assert {str(dtype) for dtype in dtypes.PROMOTION_CHAIN} == set(DTYPES)


def test_bfloat16_is_what_other_programs_call_so(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "file", {"a": np.array([1.5, -2], ml_dtypes.bfloat16)})
    header = (tmp_path / "file").read_bytes()
    assert b'"dtype":"BF16"' in header
    assert header.endswith(b"\xc0\x3f\x00\xc0")


def test_views_that_are_not_contiguous_are_saved_as_they_look(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-1].T
    save_safetensors(tmp_path / "file", {"a": array, "big-endian": np.arange(3, dtype=">f4")})
    found, _ = load_safetensors(tmp_path / "file")
    np.testing.assert_array_equal(found["a"], array)
    np.testing.assert_array_equal(found["big-endian"], [0, 1, 2])


def test_metadata_comes_back(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "file", {}, {"one": "ä", "two": '{"a": 1}'})
    assert load_safetensors(tmp_path / "file") == ({}, {"one": "ä", "two": '{"a": 1}'})


def test_equal_tensors_give_equal_files(tmp_path: Path) -> None:
    first, second = np.ones(3, np.float32), np.zeros((2, 2))
    save_safetensors(tmp_path / "a", {"x": first, "y": second})
    save_safetensors(tmp_path / "b", {"y": second, "x": first})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 60, -1])
def test_a_file_that_was_cut_off_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_safetensors(path, {"a": np.ones(100)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="is no whole safetensors file") as error:
        load_safetensors(path)
    assert str(error.value).startswith(f"{path} ({path.stat().st_size:,} bytes) is no whole safetensors file (")
    assert str(error.value).endswith("): it was cut off, damaged or is of another kind; use another copy")


@pytest.mark.parametrize(
    "content",
    [
        b"no tensors",
        bytes(1000),
        b"\xff" * 1000,
        (8).to_bytes(8, "little") + b"not json",
        (2).to_bytes(8, "little") + b"[]",
        (50).to_bytes(8, "little") + b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}',
    ],
)
def test_a_foreign_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is no whole safetensors file"):
        load_safetensors(path)


def test_dtypes_that_chainrule_lacks(tmp_path: Path) -> None:
    """What NumPy has is read as NumPy has it; the rest is refused."""
    path = tmp_path / "file"
    save_safetensors(path, {"a": np.ones(2, np.float16)})
    assert load_safetensors(path)[0]["a"].dtype == np.float16
    header = b'{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(UserError) as error:
        load_safetensors(path)
    assert str(error.value) == f"{path} holds numbers of a type that NumPy lacks ('float8_e4m3fn'): convert them to another"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_safetensors(tmp_path / "file")
    assert str(error.value) == f"{tmp_path / 'file'} does not exist: expected a safetensors file"
