"""What ``chainrule evaluate`` writes: pictures and tables of confusions, accuracy by class, and the worst images."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chainrule.cli import reading
from chainrule.data import ArrayDataset
from chainrule.train.evaluation import Answers, Evaluation, wilson_interval
from chainrule.train.evaluation_files import MOST_SHOWN, check_folder, worst_images, write_evaluation
from chainrule.train.pictures.confusion_picture import confusion_picture
from chainrule.train.pictures.contact_sheet import contact_sheet
from chainrule.train.pictures.drawing import Box, Words, can_be_written, fitting
from running import command, done, idx_folder, image_folder, refused

WRITTEN = [
    "answers.csv",
    "classes.csv",
    "confusion.csv",
    "confusion.png",
    "confusion.svg",
    "evaluation.json",
    "worst.csv",
    "worst.png",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on photographs, so to say."""
    place = tmp_path_factory.mktemp("evaluated")
    image_folder(place / "photos", ("cat", "=dog", "owl"), each=20, shape=(12, 12, 3))
    done("train", "--data", place / "photos", "--model", "mlp", "--epochs", 1, "--out", place / "run")
    return place / "run"


def table(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def evaluation(classes: list[str], images: int = 60, shape: tuple[int, ...] = (3, 12, 12)) -> tuple[Evaluation, ArrayDataset]:
    rng = np.random.default_rng(0)
    labels = np.arange(images) % len(classes)
    taken = np.where(rng.random(images) < 0.7, labels, rng.integers(0, len(classes), images))
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, taken), 1)
    answers = Answers(labels, taken, rng.random(images), rng.exponential(1, images))
    pixels = rng.integers(0, 256, (images, *shape), np.uint8)
    return Evaluation(0.5, confusion, classes, answers), ArrayDataset(pixels, labels, classes)


# ---- intervals


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_wilson(right: int, images: int, low: float, high: float) -> None:
    """As R. G. Newcombe printed them (Statistics in Medicine 17, 1998, 857-872, table I, method 3)."""
    assert wilson_interval(right, images) == pytest.approx((low, high), abs=6e-5)
    assert wilson_interval(images - right, images) == pytest.approx((1 - high, 1 - low), abs=6e-5)


def test_bounds_are_shares_of_which_what_was_seen_is_just_not_improbable() -> None:
    """That is what they mean: |seen - p| = z sqrt(p (1 - p) / n)."""
    for right, images in ((1, 2), (7, 9), (950, 1000)):
        for bound in wilson_interval(right, images, z=2.0):
            assert abs(right / images - bound) == pytest.approx(2 * np.sqrt(bound * (1 - bound) / images))


def test_intervals_hold_the_share_95_times_of_100() -> None:
    """Tried: of 4,000 networks that are right with probability 0.9 on 50 images."""
    rights = np.random.default_rng(0).binomial(50, 0.9, 4000)
    held = np.mean([low <= 0.9 <= high for low, high in (wilson_interval(int(right), 50) for right in rights)])
    assert 0.93 < held < 0.98
    assert wilson_interval(0, 0) == (0.0, 1.0)


# ---- the command


def test_evaluate_writes_pictures_and_tables(run: Path) -> None:
    out = done("evaluate", run)
    folder = run / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == WRITTEN
    assert out.endswith(f"\npictures and tables of confusions, classes and the 6 worst images: {folder}\n")
    assert "Accuracy by class, the worst first" in out
    assert "95% interval" in out
    facts = json.loads((folder / "evaluation.json").read_text())
    assert facts == json.loads(done("evaluate", run, "--json"))
    confusion = np.array(facts["confusion"])
    assert confusion.sum(axis=1).tolist() == [2, 2, 2]
    assert facts["accuracy"] == np.trace(confusion) / 6
    assert facts["interval"] == list(wilson_interval(int(np.trace(confusion)), 6))
    assert [one["right"] for one in facts["by_class"]] == np.diag(confusion).tolist()
    assert table(folder / "confusion.csv") == [
        ["class", "'=dog", "cat", "owl"],
        *([name, *map(str, row)] for name, row in zip(["'=dog", "cat", "owl"], facts["confusion"], strict=True)),
    ]
    header, *rows = table(folder / "classes.csv")
    assert header == ["number", "class", "images", "right", "accuracy", "low", "high"]
    assert [float(row[4]) for row in rows] == [one["accuracy"] for one in facts["by_class"]]
    assert [[float(x) for x in row[5:]] for row in rows] == [
        pytest.approx(one["interval"], abs=1e-4) for one in facts["by_class"]
    ]


def test_the_worst_images_come_first_and_can_be_opened(run: Path) -> None:
    facts = json.loads(done("evaluate", run, "--json"))
    losses = [one["loss"] for one in facts["worst"]]
    assert losses == sorted(losses, reverse=True)
    assert np.mean(losses) == pytest.approx(facts["loss"], rel=1e-6)
    predicted = json.loads(done("predict", run, *(one["image"] for one in facts["worst"]), "--json"))
    for one, again in zip(facts["worst"], predicted, strict=True):
        best = again["top"][0]
        assert (one["taken_for"], Path(one["image"]).parent.name) == (best["class"], one["class"])
        assert one["probability"] == pytest.approx(best["probability"], rel=1e-4)
        true = next(other["probability"] for other in again["top"] if other["class"] == one["class"])
        assert one["loss"] == pytest.approx(-np.log(true), rel=1e-3)
    rows = table(run / "evaluation" / "worst.csv")[1:]
    assert [row[1] for row in rows] == [one["image"] for one in facts["worst"]]
    with Image.open(run / "evaluation" / "worst.png") as sheet, Image.open(facts["worst"][0]["image"]) as first:
        enlarged = np.asarray(first.convert("RGB").resize((120, 120), Image.Resampling.NEAREST))
        pixels = np.asarray(sheet)
    places = [(y, x) for y in range(30, 80) for x in range(5, 40) if (pixels[y : y + 120, x : x + 120] == enlarged).all()]
    assert len(places) == 1, "the worst image is the first on the sheet, its pixels enlarged"


def test_images_without_files_go_by_their_numbers(tmp_path: Path) -> None:
    data = idx_folder(tmp_path / "patterns", training=16, test=8)
    done("train", "--data", data, "--model", "mlp", "--epochs", 1, "--out", tmp_path / "run")
    facts = json.loads(done("evaluate", tmp_path / "run", "--json", "--out", tmp_path / "there"))
    assert sorted(int(one["image"]) for one in facts["worst"]) == list(range(8))
    assert not (tmp_path / "run" / "evaluation").exists()


def test_nothing_of_somebody_else_is_overwritten(run: Path, tmp_path: Path) -> None:
    taken, ours = tmp_path / "taken", tmp_path / "ours"
    taken.mkdir()
    (taken / "confusion.csv").write_text("mine")
    words = (
        "contains files that are not of an evaluation, and nothing there is to be overwritten: give an empty or a new folder"
    )
    assert refused("evaluate", run, "--out", taken) == f"{taken} {words} with --out"
    (taken / "evaluation.json").write_text('{"kind": "mine"}')
    assert refused("evaluate", run, "--out", taken) == f"{taken} {words} with --out"
    assert (taken / "confusion.csv").read_text() == "mine"
    assert refused("evaluate", run, "--out", taken / "confusion.csv") == (
        f"{taken / 'confusion.csv'} is a file: give another folder for the evaluation with --out"
    )
    ours.mkdir()
    for _ in range(2):  # a new one replaces an earlier one
        done("evaluate", run, "--out", ours)
        assert sorted(path.name for path in ours.iterdir()) == WRITTEN
        (ours / "confusion.csv").write_text("old")
    check_folder(tmp_path / "none")


def test_an_evaluation_that_another_process_begins_at_the_same_time_is_nobody_elses(run: Path, tmp_path: Path) -> None:
    (tmp_path / ".evaluation.json.4242.tmp").write_text('{"ki')
    done("evaluate", run, "--out", tmp_path)
    (tmp_path / "evaluation.json").unlink()
    assert "contains files that are not of an evaluation" in refused("evaluate", run, "--out", tmp_path)


def test_figures_are_shown_though_they_cannot_be_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run folder that only others may write."""

    def refusing(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refusing)
    ended = command("evaluate", run)
    assert (ended.status, "Accuracy by class" in ended.out) == (2, True)
    assert ended.err == (
        f"error: {run / 'evaluation'} cannot be written (Permission denied): mend that, or choose another place\n"
    )


def test_progress_is_shown(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what takes longer than a second; here, of what takes longer than no time."""
    monkeypatch.setattr(reading, "_QUIET", -1.0)
    monkeypatch.setattr(reading, "_BETWEEN_LINES", 0.0)
    monkeypatch.setattr("chainrule.cli.commands.evaluate._BATCH", 2)
    photos = run.parent / "photos"
    said = command("evaluate", run, "--out", tmp_path / "e").err
    assert [line for line in said.splitlines() if line.startswith("judging")] == [
        f"judging {photos} test: {done:,} of 6 images" for done in (2, 4)
    ]
    monkeypatch.setattr("chainrule.train.predict._BATCH", 25)
    assert command("predict", run, photos, "--out", tmp_path / "p.csv").err == (
        "predicting: 25 of 60 images\npredicting: 50 of 60 images\n"
    )


# ---- pictures


@pytest.mark.parametrize("count", [2, 10, 40, 130])
def test_the_picture_shows_each_number_where_it_belongs(count: int) -> None:
    """Up to a hundred classes in words, of more as fields alone; the darker, the larger the share of the row."""
    found, _ = evaluation([f"class {i}" for i in range(count)], 6 * count)
    drawing = confusion_picture(found)
    ElementTree.fromstring(drawing.svg())
    fields = [one for one in drawing.shapes if isinstance(one, Box) and one.width == one.height and one.fill != "#ffffff"][:-4]
    numbers = [one for one in drawing.shapes if isinstance(one, Words) and one.anchor == "middle"]
    assert len(fields) == np.count_nonzero(found.confusion)
    if count > 100:
        assert numbers == []
        return
    side = fields[0].width
    xs, ys = (sorted({getattr(one, axis) for one in numbers}) for axis in "xy")
    shown = {(ys.index(one.y), xs.index(one.x)): int(one.text) for one in numbers}
    assert len(xs) == len(ys) == count
    assert shown == {(i, j): int(n) for (i, j), n in np.ndenumerate(found.confusion) if n}
    share_of, by_share = found.confusion / found.confusion.sum(axis=1, keepdims=True), []
    for one in numbers:
        under = next(field for field in fields if abs(field.x + side / 2 - one.x) < 1 and abs(field.y + side / 2 - one.y) < 1)
        assert abs(int(under.fill[1:3], 16) - int(one.fill[1:3], 16)) > 90, "black on light, white on dark"
        by_share.append((share_of[ys.index(one.y), xs.index(one.x)], -int(under.fill[1:3], 16)))
    assert [dark for _, dark in sorted(by_share)] == sorted(dark for _, dark in by_share)


def test_long_and_foreign_names_have_room(tmp_path: Path) -> None:
    names = ["n02123045 tabby, tabby cat, a domestic animal with whiskers", "\u732b", "Ærøskøbing", '<b>&"x', "a\x1b[2Jb"]
    found, data = evaluation(names, shape=(1, 300, 400))
    drawing = confusion_picture(found)
    svg = drawing.svg()
    ElementTree.fromstring(svg)
    assert "\u732b" in svg
    assert "\x1b" not in svg
    written = [one for one in drawing.shapes if isinstance(one, Words)]
    assert {one.instead for one in written if one.text == "\u732b"} == {"class 1"}
    assert all(0 <= one.x <= drawing.width and 0 <= one.y <= drawing.height for one in drawing.shapes)
    unwritten = confusion_picture(evaluation(["cat", "\U0010fffd", "dog"])[0]).shapes
    notes = [one.text for one in unwritten if isinstance(one, Words) and "font" in one.text]
    assert notes == ["class 1: no font here has the letters of the name; see classes.csv"]
    plain = confusion_picture(evaluation(["cat", "dog"])[0]).shapes
    assert not any("font" in one.text for one in plain if isinstance(one, Words))
    assert fitting("abcdefghij" * 5, 12, 60).count("…") == 1
    assert can_be_written("Ærø")
    assert not can_be_written("\U0010fffd")
    write_evaluation(tmp_path / "e", found, worst_images(found, None), data)
    for name in ("worst.png", "confusion.png"):
        with Image.open(tmp_path / "e" / name) as image:
            assert min(image.size) > 300
    assert json.loads((tmp_path / "e" / "evaluation.json").read_text())["classes"] == names


@pytest.mark.parametrize("shape", [(1, 3, 5), (3, 12, 12), (3, 200, 90), (1, 500, 500)])
def test_images_of_any_size_and_kind_are_shown(shape: tuple[int, int, int]) -> None:
    """Floats too, of which a sheet is the same as of bytes of the same brightness."""
    found, data = evaluation(["a", "b"], 3, shape)
    worst = worst_images(found, None)
    pixels = data.images([one.place for one in worst])
    pixels[:, :, 0, 0], pixels[:, :, -1, -1] = 0, 255
    floats = pixels.astype(np.float32)
    sheets = [contact_sheet("three", images, worst) for images in (pixels, floats / 255, floats - 128)]
    of_bytes, of_floats, beyond = (np.asarray(Image.open(io.BytesIO(sheet))).astype(int) for sheet in sheets)
    assert of_bytes.std() > 20
    assert np.abs(of_bytes - of_floats).max() <= 2
    assert np.abs(of_bytes - beyond).max() <= 2


def test_of_many_images_the_worst_are_shown() -> None:
    found, _ = evaluation(["a", "b"], 100)
    worst = worst_images(found, [f"{place}.png" for place in range(100)])
    assert len(worst) == MOST_SHOWN
    assert found.answers is not None
    assert [one.name for one in worst[:2]] == [f"{place}.png" for place in np.argsort(-found.answers.losses)[:2]]
