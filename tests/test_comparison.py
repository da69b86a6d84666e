"""Runs beside each other: what differs, what is more than chance, and what cannot be compared."""

from __future__ import annotations

import json
import shutil
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chainrule.errors import UserError
from chainrule.train import compare
from chainrule.train.chance import mcnemar, newcombe_interval
from chainrule.train.pictures.chart import COLOURS, DASHES, ticks
from chainrule.train.pictures.comparison_picture import comparison_picture
from running import done, idx_folder, noted, refused


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs a and b on the same data, which ended after two epochs, and c on other data with other classes."""
    place = tmp_path_factory.mktemp("compared")
    idx_folder(place / "patterns")
    idx_folder(place / "others", classes=3)
    given = ("--model", "mlp", "--epochs", 2, "--batch-size", 8)
    done("train", "--data", place / "patterns", *given, "--out", place / "a")
    done("train", "--data", place / "patterns", *given, "--lr", 0.0001, "--no-nesterov", "--out", place / "b")
    done("train", "--data", place / "others", *given, "--out", place / "c")
    return place


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Copies of them, to be damaged."""
    return tuple(Path(shutil.copytree(finished / name, tmp_path / name)) for name in "abc")  # type: ignore[return-value]


# ---- chance


@given(one=st.integers(0, 40), other=st.integers(0, 40))
def test_mcnemars_test_is_the_binomial_one(one: int, other: int) -> None:
    total = one + other
    tail = sum(comb(total, k) for k in range(min(one, other) + 1))
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail / 2**total), rel=1e-9)


def test_mcnemars_test_of_many_images() -> None:
    assert mcnemar(0, 0) == mcnemar(7, 7) == 1.0
    assert mcnemar(5, 0) == pytest.approx(2 / 2**5)
    assert mcnemar(5200, 5000) == mcnemar(5000, 5200) == pytest.approx(0.0488, abs=0.0005)  # z = 199 / sqrt(10200) = 1.970
    assert mcnemar(0, 5000) == 0.0


def test_newcombes_interval_is_that_of_his_paper() -> None:
    """56 of 70 and 48 of 80: 0.2, from 0.0524 to 0.3339 (his table II, case a, method 10)."""
    assert newcombe_interval(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe_interval(10, 10, 0, 10) == pytest.approx((0.6075, 1.0), abs=5e-5)


@given(images=st.integers(1, 10_000), data=st.data())
def test_an_interval_holds_the_difference(images: int, data: st.DataObject) -> None:
    one, other = (data.draw(st.integers(0, images)) for _ in range(2))
    low, high = newcombe_interval(one, images, other, images)
    assert -1 - 1e-9 <= low <= (one - other) / images + 1e-12
    assert (one - other) / images - 1e-12 <= high <= 1 + 1e-9
    assert newcombe_interval(other, images, one, images) == pytest.approx((-high, -low))


# ---- what is compared


def test_options_accuracies_and_the_epoch(runs: tuple[Path, Path, Path]) -> None:
    a, b, _ = runs
    found = compare([b, a])
    assert found.options == {"lr": ["0.0001", "0.1"], "nesterov": ["no", "yes"]}
    assert found.notes == []
    (one,) = found.differences
    results = [json.loads((run / "result.json").read_text()) for run in (b, a)]
    assert one.points == pytest.approx(results[1]["accuracy"] - results[0]["accuracy"])
    assert one.points > 0.3
    assert (one.p, one.more_than_chance) == (None, True)
    assert one.since is not None
    assert compare([a, b]).differences[0].points == -one.points
    assert [run.seconds for run in found.runs] == [result["training_seconds"] for result in results]
    assert str(found).startswith("Results on the test images\nrun ")
    assert found.sentences()[0].startswith(f"{a} against {b}: +")
    assert f"in each from epoch {one.since} on" in found.sentences()[0]


def test_answers_that_are_kept_are_compared_image_by_image(runs: tuple[Path, Path, Path]) -> None:
    a, b, _ = runs
    for run in (a, b):
        done("evaluate", run)
    answers = [[line.split(",") for line in (run / "evaluation/answers.csv").read_text().split()[1:]] for run in (a, b)]
    right = [[label == taken for label, taken in one] for one in answers]
    only = [sum(one and not two for one, two in zip(*pair, strict=True)) for pair in (right, right[::-1])]
    (one,) = compare([a, b]).differences
    assert [one.only_base, one.only_run] == only
    assert one.p == mcnemar(*only)
    assert f"McNemar's test: p = {one.p:.2g}" in compare([a, b]).sentences()[0]

    lines = (a / "evaluation/answers.csv").read_text().splitlines()
    label, taken = lines[1].split(",")
    (a / "evaluation/answers.csv").write_text("\n".join([lines[0], f"{label},{(int(taken) + 1) % 4}", *lines[2:]]))
    stale = compare([a, b])
    assert stale.differences[0].p is None
    assert stale.notes == [f"{a}: evaluation/answers.csv is of other weights or images: `chainrule evaluate` writes it anew"]
    (a / "evaluation/answers.csv").write_text("class,taken_for\nx,y\n")
    assert compare([a, b]).notes == [f"{a}: evaluation/answers.csv is damaged: `chainrule evaluate` writes it anew"]


def test_other_data_and_other_classes_are_not_compared(runs: tuple[Path, Path, Path], finished: Path) -> None:
    a, _, c = runs
    found = compare([a, c])
    assert found.differences == []
    assert found.notes == [f"the accuracies of {a} and {c} are not compared, as the runs have different classes"]
    assert list(found.options) == ["data"]
    moved = Path(shutil.copytree(finished / "patterns", finished / "moved", dirs_exist_ok=True))
    done("train", "--data", moved, "--model", "mlp", "--epochs", 1, "--out", a.with_name("d"))
    assert compare([a, a.with_name("d")]).notes == [
        f"the accuracies of {a} and {a.with_name('d')} are not compared, as the data are others: {finished}/patterns and "
        f"{moved}"
    ]


def test_runs_that_are_not_finished_or_damaged(runs: tuple[Path, Path, Path]) -> None:
    a, b, _ = runs
    (a / "result.json").unlink()
    rows = (a / "metrics.jsonl").read_text().splitlines(keepends=True)
    first_epoch = next(i for i, row in enumerate(rows) if '"test"' in row) + 1
    (a / "metrics.jsonl").write_text("".join(rows[:first_epoch]) + rows[first_epoch][:20])
    found = compare([a, b])
    assert found.notes == [f"{a}: it is not finished: 1 of 2 epochs are compared"]
    assert found.runs[0].accuracy == json.loads(rows[first_epoch - 1])["accuracy"]
    assert len(found.differences) == 1
    (a / "metrics.jsonl").write_text("")
    found = compare([a, b])
    assert found.notes == [
        f"{a}: no epoch is finished yet",
        f"the accuracies of {a} and {b} cannot be compared: {a} has not been tested yet",
    ]
    comparison_picture(found).svg()
    (b / "result.json").write_text((b / "result.json").read_text().replace('"accuracy": 0.', '"accuracy": 0.9'))
    (b / "checkpoint.safetensors").write_bytes(b"x")
    lines = (b / "metrics.jsonl").read_text().splitlines()
    (b / "metrics.jsonl").write_text(
        "\n".join([lines[0], "{}", lines[2].replace('"loss": ', '"loss": Infinity, "x": ')]) + "\n"
    )
    notes = compare([a, b]).notes
    assert f"{b}: 2 of 3 lines of metrics.jsonl are damaged and left out of the curves" in notes
    assert any(f"{b}: result.json is damaged (its confusions do not add up to its accuracy)" in note for note in notes)
    assert any(f"{b}: its checkpoint is damaged: " in note for note in notes)


def test_what_is_no_run_is_left_out(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, c = runs
    (c / "config.json").write_text("{}")
    found = compare([a, c, b])
    assert [run.name for run in found.runs] == [str(a), str(b)]
    assert found.notes[0].startswith(f"{c} is left out: {c}/config.json is no configuration of a run")
    with pytest.raises(UserError, match=r"config\.json is no configuration"):
        compare([a, c])
    with pytest.raises(UserError, match="a comparison needs at least two runs, got 1"):
        compare([a])
    with pytest.raises(UserError, match="is given twice: give different runs"):
        compare([a, b, tmp_path / "." / "a"])
    with pytest.raises(UserError, match="runs to compare must be a list"):
        compare("runs")


# ---- the command


def test_the_command(runs: tuple[Path, Path, Path]) -> None:
    a, b, c = runs
    before = {path: path.read_bytes() for run in runs for path in run.iterdir() if path.is_file()}
    out = done("compare", a, b)
    folder = a.with_name("comparison")
    assert "What differs in the options\noption " in out
    assert "evaluate each run with `chainrule evaluate`" in out
    assert f"drawing: {folder}/comparison.svg\n" in out
    with Image.open(folder / "comparison.png") as picture:
        assert picture.width == 1600
    assert {path: path.read_bytes() for path in before} == before
    told, notes = noted("compare", a, b, c, "--json", "--out", a.with_name("mine"))
    facts = json.loads(told)
    assert [run["run"] for run in facts["runs"]] == [str(a), str(b), str(c)]
    assert facts["options"] == json.loads((a.with_name("mine") / "comparison.json").read_text())["options"]
    assert notes.startswith("note: the accuracies of ")
    assert done("compare", a, b) == out  # an earlier comparison is replaced
    assert refused("compare", a) == "a comparison needs at least two runs, got 1"
    assert refused("compare", a, b, "--out", a).startswith(f"{a} contains files that are not of a comparison, and ")
    same = a.with_name("same")
    shutil.copytree(a, same)
    assert "The options are the same.\n" in done("compare", a, same)


def test_curves_are_told_apart_without_colours(runs: tuple[Path, Path, Path]) -> None:
    svg = comparison_picture(compare(runs[:2])).svg()
    assert svg.count(f'stroke="{COLOURS[0]}"') > 3
    assert svg.count(f'stroke="{COLOURS[1]}" stroke-width="1.8" stroke-dasharray="8 4"') > 3
    assert len(set(COLOURS)) == len(set(DASHES)) == len(COLOURS) == len(DASHES)
    assert str(runs[0].name) in svg


@given(low=st.floats(0, 1e6), span=st.floats(0, 1e6))
def test_ticks_are_round_and_hold_what_is_drawn(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 7
    assert found[0] <= low * (1 + 1e-6) + 1e-6
    assert found[-1] >= (low + span) * (1 - 1e-6)
    assert found == sorted(set(found))
