"""Predicting whole folders and patterns, and the files that predictions are written to."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.data.folder_contents import LeftOut
from chainrule.data.image_paths import find_images
from chainrule.train import Prediction, RunFolder, model_of_run
from chainrule.train.prediction_files import written
from running import command, done, idx_folder, refused
from systems import needs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("many")
    data = idx_folder(place / "patterns")
    done("train", "--data", data, "--model", "mlp", "--epochs", 1, "--out", place / "run")
    return place / "run"


def images(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12), np.uint8)
        Image.fromarray(pixels).save(path, "PNG")
    return folder


def found(*names: object) -> list[str]:
    return [str(one.path) + " " + one.reason if isinstance(one, LeftOut) else str(one) for one in find_images(names)]


# ---- which files are meant


def test_a_folder_means_all_images_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path, "b/2.png", "b/10.JPG", "a/x/deep.png", "top.png", ".hidden/1.png", "b/.hidden.png", "[odd]/*.png")
    (tmp_path / "b" / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    all_files = ["top.png", "[odd]/*.png", "a/x/deep.png", "b/10.JPG", "b/2.png"]
    assert found(tmp_path) == [str(tmp_path / name) for name in all_files]
    assert found("b", "top.png", "b/notes.txt", "[odd]", "[odd]/*.png") == [
        *("b/10.JPG", "b/2.png", "top.png", "b/notes.txt", "[odd]/*.png", "[odd]/*.png")
    ]
    assert found("empty", "gone.png", "") == [
        "empty contains no file that is named like an image (.png, .jpg, ...)",
        "gone.png",
        ". is an empty name: give a file, a folder or a pattern",
    ]


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path, "b/2.png", "b/10.png", "a/x/deep.png", "top.png", "a/y.jpg")
    (tmp_path / "b" / "notes.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert found("b/*.png", "?op.png") == ["b/10.png", "b/2.png", "top.png"]
    assert found("**/*.png") == ["a/x/deep.png", "b/10.png", "b/2.png", "top.png"]
    assert sorted(found("**")) == ["a/x/deep.png", "a/y.jpg", "b/10.png", "b/2.png", "top.png"], "each once"
    assert found("[ab]") == ["a/y.jpg", "a/x/deep.png", "b/10.png", "b/2.png"], "folders are searched"
    assert found("~/top.p*", "~/top.png") == [str(tmp_path / "top.png")] * 2
    assert found("b/*.txt", "c/*", "b/*.tx?", "b/*") == [
        "b/*.txt matches 1 file or folder, but none with the name of an image: name such files themselves",
        "c/* matches no file",
        "b/*.tx? matches 1 file or folder, but none with the name of an image: name such files themselves",
        "b/10.png",
        "b/2.png",
    ]


@needs("links and pipes")
def test_links_to_folders_are_followed_only_if_they_are_named(tmp_path: Path) -> None:
    images(tmp_path, "real/1.png")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert found(tmp_path / "real") == [str(tmp_path / "real/1.png")]
    assert list(map(str, find_images(tmp_path / "link"))) == [str(tmp_path / "link/1.png")]


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path, "a/1.png", "b/1.png")
    scan = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert found(tmp_path) == [str(tmp_path / "a/1.png"), f"{tmp_path / 'b'} cannot be read (Permission denied)"]


# ---- what is written


def text(form: str, *predictions: Prediction, top: int = 2) -> str:
    return "".join(written(predictions, form, top))


def rows(table: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(table, newline="")))


def test_csv_is_read_back_whatever_the_names_are() -> None:
    name = 'a "b", c\nd.png'
    table = text(
        "csv", Prediction(name, (("cät", 0.75), ("dog", 0.25)), note="x, y"), Prediction("bad.png", error="is damaged")
    )
    assert rows(table) == [
        ["image", "class", "probability", "class_2", "probability_2", "note", "error"],
        [name, "cät", "0.75", "dog", "0.25", "x, y", ""],
        ["bad.png", "", "", "", "", "", "is damaged"],
    ]
    assert table.startswith("image,class,")
    assert rows(text("csv", Prediction("1.png", (("cat", 1 / 3),)), top=1))[1] == ["1.png", "cat", "0.333333", "", ""]


@pytest.mark.parametrize(
    ("path", "name", "cells"),
    [
        ("=1+1.png", "=cmd|x", ["./=1+1.png", "'=cmd|x"]),
        ("+1.png", "+x", ["./+1.png", "'+x"]),
        ("-1.png", "-x", ["./-1.png", "'-x"]),
        ("@a.png", "@x", ["./@a.png", "'@x"]),
        ("\t=1.png", "\rx", ["./\t=1.png", "'\rx"]),
        ("a=1.png", "-1", ["a=1.png", "-1"]),
        ("/=1.png", "+2.5", ["/=1.png", "+2.5"]),
    ],
)
def test_no_cell_is_a_formula(path: str, name: str, cells: list[str]) -> None:
    """Which a spreadsheet would compute; and the path still names the file, and a number is one."""
    assert rows(text("csv", Prediction(path, ((name, 1.0),)), top=1))[1][:2] == cells


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """In CSV, which is UTF-8, such bytes are written out; JSON has them as Python has them."""
    name = os.fsdecode(b"caf\xe9.png") if os.name != "nt" else "caf\udce9.png"
    one = Prediction(name, (("a", 1.0),))
    assert rows(text("csv", one).encode().decode("utf-8"))[1][0] == "caf\\xe9.png"
    (row,) = json.loads(text("json", one).encode("ascii"))
    assert row["image"] == name


def test_json_of_none_one_and_several() -> None:
    one = Prediction("1.png", (("a", 0.5),), note="odd")
    row = {"image": "1.png", "top": [{"class": "a", "probability": 0.5}], "note": "odd", "error": ""}
    for count in range(3):
        assert json.loads(text("json", *[one] * count)) == [row] * count
    assert text("json", one, one).count("\n") == 2, "a line each"


# ---- the command


def test_a_folder_is_predicted_into_a_file(run: Path, tmp_path: Path) -> None:
    folder = images(tmp_path / "in", "=a.png", "sub/b.png", "sub/c.png")
    (folder / "sub" / "cut.png").write_bytes((folder / "=a.png").read_bytes()[:90])
    ended = command("predict", run, folder, "--out", tmp_path / "p.csv")
    assert (ended.status, ended.out) == (1, f"predictions of 3 images: {tmp_path / 'p.csv'}\n")
    assert ended.err.startswith(f"error: 1 of 4 images cannot be read:\n  {folder / 'sub/cut.png'} is damaged (")
    table = rows((tmp_path / "p.csv").read_text(encoding="utf-8"))
    assert [row[0] for row in table[1:]] == [str(folder / name) for name in ("=a.png", "sub/b.png", "sub/c.png", "sub/cut.png")]
    assert [bool(row[-1]) for row in table[1:]] == [False, False, False, True]
    assert {len(row) for row in table} == {9}
    (folder / "sub" / "cut.png").unlink()
    assert done("predict", run, str(folder / "**" / "*.png"), "--out", tmp_path / "p.json", "--top", 1).endswith("p.json\n")
    found = json.loads((tmp_path / "p.json").read_text())
    assert {one["image"]: one["top"][0]["class"] for one in found} == {row[0]: row[1] for row in table[1:4]}
    assert json.loads(done("predict", run, folder, "--json", "--top", 1)) == sorted(found, key=lambda one: one["image"])
    printed = done("predict", run, folder, "--csv")
    assert rows(printed) == table[:4]
    assert len(rows(done("predict", run, folder, "--csv", "--top", 99))[0]) == 3 + 2 * 4, "there are four classes"


def test_images_are_read_batch_by_batch(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory does not grow with their number."""
    folder = images(tmp_path, *(f"{number}.png" for number in range(7)))
    monkeypatch.setattr("chainrule.train.predict._BATCH", 3)
    told: list[tuple[str, int, int]] = []
    trained = model_of_run(RunFolder.open(run))
    stream = trained.predictions(find_images([folder]), watch=lambda *one: told.append(one))
    first = [next(stream) for _ in range(4)]
    assert told == [("predicting", 3, 7)]
    assert [*first, *stream] == trained.predict([folder / f"{number}.png" for number in range(7)])
    assert told[1:] == [("predicting", 6, 7), ("predicting", 7, 7)]


def test_where_there_is_no_image(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = command("predict", run, tmp_path / "empty", tmp_path / "*.png", "--out", tmp_path / "p.json")
    assert (ended.status, ended.err) == (
        1,
        f"error: 2 of 2 images cannot be read:\n  {tmp_path / 'empty'} contains no file that is named like an image (.png, "
        f".jpg, ...)\n  {tmp_path / '*.png'} matches no file\n",
    )
    assert [one["error"] for one in json.loads((tmp_path / "p.json").read_text())][1] == "matches no file"


def test_wrong_options(run: Path, tmp_path: Path) -> None:
    """Said before any image is read."""
    image = images(tmp_path, "1.png") / "1.png"
    assert refused("predict", run, image, "--csv", "--json") == (
        "--csv and --json print the same in two formats: leave one of them out"
    )
    assert refused("predict", run, image, "--out", "p.txt") == (
        "--out p.txt: the name must end with .csv or .json, which says what is written"
    )
    assert refused("predict", run, image, "--out", "p.csv", "--json") == (
        "--json prints, and --out writes what its name ends with: leave one of them out"
    )
    assert refused("predict", run, image, "--out", tmp_path / "none" / "p.csv") == (
        f"--out {tmp_path / 'none' / 'p.csv'}: there is no folder {tmp_path / 'none'}: make it, or choose another"
    )
    (tmp_path / "f.csv").mkdir()
    assert refused("predict", run, image, "--out", tmp_path / "f.csv") == (
        f"{tmp_path / 'f.csv'} is a folder: give the name of a file"
    )


def test_a_full_disk_leaves_the_old_file(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated."""
    image = images(tmp_path, "1.png") / "1.png"
    target = tmp_path / "p.csv"
    target.write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert refused("predict", run, image, "--out", target) == (
        f"no space left to write {target}: free some space or choose another folder; what was there before is untouched"
    )
    assert (target.read_text(), sorted(path.name for path in tmp_path.iterdir())) == ("before", ["1.png", "p.csv"])
