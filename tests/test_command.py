"""The command as a person meets it: help, what it shows on a terminal and elsewhere, and its other subcommands."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import chainrule
from chainrule.cli import reading
from chainrule.cli.console import fitted, loss_text, time_left
from chainrule.cli.reading import ReadingProgress
from chainrule.data import MNIST_SAMPLES
from running import ENVIRONMENT, TYPED, command, done, idx_folder, image_folder, pictures, process, refused
from systems import needs
from terminal import on_terminal, plain

LIVE = re.compile(r"loss (\d+\.\d{4})  accuracy (\d+\.\d\d)%  ([\d,]+) images/s  (\d+:\d\d) left")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on dark images of stripes and checks that recognises them, and the images."""
    folder = tmp_path_factory.mktemp("command")
    idx_folder(folder / "patterns", training=96, test=40)
    done("train", "--data", folder / "patterns", "--epochs", 8, "--batch-size", 8, "--lr", 0.05, "--out", folder / "run")
    images, _ = pictures(4, 4, (12, 12), seed=5)
    for label, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{label}.png")
    return folder / "run"


# ---- on a terminal


@needs("signals", "shell", "terminals")
def test_train_without_arguments_trains_lenet_on_mnist(tmp_path: Path) -> None:
    """With a live line; Ctrl-C on the keyboard stops it, saved."""
    status, shown = on_terminal("train", width=100, keys="\x03", after=r"images/s .* left", cwd=tmp_path)
    assert status == -signal.SIGINT, "which a shell calls 130"
    text = plain(shown)
    assert "lenet, 61,706 parameters, float32" in text
    assert "mnist train: 10 classes, 60,000 training and 10,000 test images, grey, 28 x 28" in text
    assert "3 epochs of 938 steps of 64 images" in text
    assert "run folder: runs/lenet-mnist-1   (Ctrl-C saves and stops)" in text
    assert LIVE.search(text)
    assert f"Resume with: {TYPED} train --resume runs/lenet-mnist-1" in text
    assert {"checkpoint.safetensors", "config.json"} <= set(os.listdir(tmp_path / "runs/lenet-mnist-1"))


@pytest.mark.parametrize("width", [100, 60, 30])
@needs("shell", "terminals")
def test_the_live_line_fits_the_terminal(width: int, tmp_path: Path) -> None:
    idx_folder(tmp_path / "patterns", training=320, test=300)
    options = ("--data", "patterns", "--epochs", 2, "--batch-size", 16)
    status, shown = on_terminal("train", *options, width=width, cwd=tmp_path)
    assert status == 0
    drawn = [line for line in plain(shown).split("\n") if " left" in line]
    assert drawn, "it is shown"
    assert all(len(line) <= width for line in drawn)
    if width >= 60:
        assert all(LIVE.search(line) for line in drawn), "loss, accuracy, speed and time left, whatever the width"
    if width == 100:
        assert all("━" in line for line in drawn), "with a bar where there is room"
    assert any("testing: 250 of 300 images" in line for line in plain(shown).split("\n")) or width < 60
    assert "\x1b[2K" in shown, "it is redrawn in its place"
    after = plain(shown.rpartition("\x1b[2K")[2])
    assert " left" not in after, "and gone at the end"


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
@needs("shell", "terminals")
def test_terminals_without_colour(variables: dict[str, str], tmp_path: Path) -> None:
    idx_folder(tmp_path / "patterns")
    status, shown = on_terminal(
        "train", "--data", "patterns", "--epochs", 1, "--batch-size", 8, width=100, cwd=tmp_path, **variables
    )
    assert status == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown), "no colour"
    assert LIVE.search(plain(shown))
    if "TERM" in variables:
        assert "\x1b" not in shown


@needs("shell", "terminals")
def test_messages_stay_whole_where_they_are_to_be_copied(tmp_path: Path) -> None:
    idx_folder(tmp_path / "patterns")
    name = "a-name-that-is-longer-than-the-terminal-is-wide"
    _, shown = on_terminal("train", "--data", "patterns", "--epochs", 1, "--out", name, width=40, cwd=tmp_path)
    assert f"use it:  {TYPED} predict {name} IMAGE..." in shown


# ---- elsewhere


def test_plain_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    idx_folder(tmp_path / "patterns", training=320, test=40)
    running = process("train", "--data", "patterns", "--epochs", 2, "--batch-size", 8, "--out", "run", cwd=tmp_path)
    out, err = running.communicate()
    assert (running.returncode, err) == (0, "")
    assert "\x1b" not in out
    assert "\r" not in out
    live = [line for line in out.splitlines() if LIVE.search(line)]
    assert [line.split()[1] for line in live] == [f"{step}/80" for step in range(4, 81, 4)], "ten an epoch"
    assert re.search(
        r"^epoch 1/2: training loss \d\.\d{4}, accuracy \d+\.\d\d%; "
        r"test loss \d\.\d{4}, accuracy \d+\.\d\d%; 0:0\d of training$",
        out,
        re.MULTILINE,
    ), "an evaluation after each epoch"
    tables = out[out.index("\nEpochs") :].splitlines()
    header = re.split(r"  +", tables[2].strip())
    assert header == ["epoch", "training loss", "training accuracy", "test loss", "test accuracy", "training time"]
    assert [line.split()[0] for line in tables[3:5]] == ["1", "2"]
    assert tables[5] == (
        "training: mean over the epoch, on augmented images; test: after the epoch; "
        "losses are without the label smoothing of 0.1"
    )
    first = tables.index("Worst classes") + 2
    assert re.split(r"  +", tables[first - 1].strip()) == ["class", "images", "right", "taken for"]
    worst = [line.split() for line in tables[first : first + 3]]
    assert [row[1] for row in worst] == ["10"] * 3, "the confusion of the three worst classes"
    confusion = np.array(json.loads((tmp_path / "run/result.json").read_text())["confusion"])
    assert [float(row[2][:-1]) for row in worst] == sorted(100 * np.diag(confusion) / confusion.sum(1))[:3]
    assert re.search(r"^\d+ of 40 test images right: accuracy \d+\.\d\d%$", out, re.MULTILINE)
    assert f"use it:  {TYPED} predict run IMAGE..." in out


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """chainrule train | head -1: it ends without a traceback, says so where it can, and the run can be resumed."""
    idx_folder(tmp_path / "patterns", training=320)
    running = process("train", "--data", "patterns", "--out", "run", "--batch-size", 2, cwd=tmp_path, bufsize=1)
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.readline()
    running.stdout.close()
    stopped, again = running.stderr.read().splitlines()
    running.stderr.close()
    assert running.wait() == 141
    assert re.fullmatch(r"Stopped after step \d+ of 480, as nobody reads the output any more; everything is saved\.", stopped)
    assert again == f"Resume with: {TYPED} train --resume run"
    out, err = process("train", "--resume", "run", cwd=tmp_path).communicate()
    assert (f"resuming after step {stopped.split()[3]} of 480" in out, err) == (True, "")


def test_the_smaller_parts_of_the_line() -> None:
    assert [time_left(seconds) for seconds in (0, 64.6, 7389, -3)] == ["0:00", "1:05", "2:03:09", "0:00"]
    assert [loss_text(loss) for loss in (0.12345, 99_999.0, 1.23456e30)] == ["0.1235", "99999.0000", "1.23e+30"]
    assert [fitted(["aa", "bb", "cc"], width) for width in (10, 9, 2, 1)] == ["aa  bb  cc", "bb  cc", "cc", "cc"]
    parts = ["step", "epoch", "loss", "time"]
    assert [fitted(parts, width, (1, 0)) for width in (23, 22, 16, 10, 4)] == [
        "step  epoch  loss  time",
        "step  loss  time",
        "step  loss  time",
        "loss  time",
        "time",
    ]


# ---- help and version


@pytest.mark.parametrize(
    "subcommand", ["train", "lr", "evaluate", "health", "compare", "blame", "predict", "summary", "explain", "lens", "convert"]
)
def test_help_has_examples(subcommand: str) -> None:
    text = done(subcommand, "--help")
    examples = re.findall(rf"^ *chainrule {subcommand}\b.*", text[text.index("Examples:") :], re.MULTILINE)
    assert len(examples) >= 2
    assert text == done(subcommand, "-h")


def test_help_names_every_subcommand_and_nothing_at_all_shows_it() -> None:
    text = done("--help")
    for subcommand in (
        "train",
        "lr",
        "evaluate",
        "health",
        "compare",
        "blame",
        "predict",
        "summary",
        "explain",
        "lens",
        "convert",
    ):
        assert re.search(rf"│ {subcommand} ", text)
    assert "train" in command().out + command().err


@pytest.mark.parametrize(
    "option",
    [
        "model",
        "data",
        "epochs",
        "batch-size",
        "optimizer",
        "lr",
        "schedule",
        "seed",
        "precision",
        "out",
        "resume",
        "momentum",
        "weight-decay",
        "augment",
        "limit",
        "label-smoothing",
        "image-size",
        "image-mode",
        "workers",
        "checkpoint-every",
        "on-nan",
    ],
)
def test_help_of_train_names_every_option(option: str) -> None:
    assert f"--{option} " in done("train", "--help")


def test_help_names_every_status() -> None:
    text = done("--help")
    assert re.findall(r"^ +(\d+)  +\S", text[text.index("Exit status:") :], re.MULTILINE) == [
        *("0", "1", "2", "70", "129", "130", "141", "143"),
    ]


def test_version() -> None:
    assert done("--version") == f"chainrule {chainrule.__version__}\n"


# ---- evaluate and predict


def test_evaluate_shows_accuracy_and_the_worst_classes(run: Path) -> None:
    out = done("evaluate", run)
    result = json.loads((run / "result.json").read_text())
    right = round(result["accuracy"] * 40)
    assert out.startswith(f"{right} of 40 test images right: accuracy {100 * right / 40:.2f}%, loss {result['loss']:.4f}\n")
    assert "Accuracy by class, the worst first" in out


def test_evaluate_on_other_data(run: Path, tmp_path: Path) -> None:
    """The test split of another data set of the same classes, also as a folder of images of another size."""
    idx_folder(tmp_path / "idx", training=8, test=12)
    assert json.loads(done("evaluate", run, "--data", tmp_path / "idx", "--json"))["images"] == 12
    folder = image_folder(tmp_path / "photos", ("0", "1", "2", "3"), each=10, shape=(15, 13, 3))
    assert json.loads(done("evaluate", run, "--data", folder, "--json"))["images"] == 4


def test_predict_shows_a_table(run: Path) -> None:
    files = [run.parent / f"{label}.png" for label in range(4)]
    lines = done("predict", run, *files).splitlines()
    assert lines[0].split() == ["image", "best", "2.", "3."]
    for label, (file, line) in enumerate(zip(files, lines[1:], strict=True)):
        cells = line.split()
        assert cells[:2] == [str(file), str(label)], "each pattern is recognised, and its path is whole"
        assert float(cells[2][:-1]) > 50
        assert len(cells) == 7


def test_predict_without_an_image(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run on MNIST, the samples that ship; of another, a word on what to give."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reading, "_QUIET", 600.0)  # a busy machine may take more than a second to read three images
    out = done("train", "--limit", 2000, "--epochs", 2, "--out", "digits")
    assert "use it:  chainrule predict digits\n         (on three sample digits; add IMAGE... for files of your own)\n" in out
    lines = done("predict", "digits").splitlines()
    assert lines[0] == f"three of MNIST's test images, which ship in {MNIST_SAMPLES[0].parent}:"
    assert [line.split()[:2] for line in lines[-3:]] == [["seven.png", "7"], ["two.png", "2"], ["one.png", "1"]]
    found = json.loads(done("predict", "digits", "--json"))
    assert [one["image"] for one in found] == list(map(str, MNIST_SAMPLES))
    assert refused("predict", run) == (
        f"no image is given: `chainrule predict {run} IMAGE...` takes files; the samples that ship with chainrule are digits "
        f"of MNIST, and {run} was trained on {run.parent / 'patterns'}"
    )


@needs("links and pipes")
def test_a_name_that_begins_with_a_minus(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken for options gets a word on how names are given; what is none and is no file does not."""
    monkeypatch.chdir(tmp_path)
    advice = "If it is the name of a file or a folder, put -- before it: -- "
    for line in (["predict", run, "-dash.png"], ["predict", run, "-h.png"], ["evaluate", "-run"], ["summary", "-run"]):
        ended = command(*line)
        assert (ended.status, f"No such option: {line[-1]}. {advice}{line[-1]}" in ended.err) == (2, True), ended.err
    for word in ("-x", "--jsn", "--dash.png"):
        complaint = command("predict", run, word).err
        assert (f"No such option: {word}" in complaint, "If it is" in complaint) == (True, False)
    Image.open(run.parent / "2.png").save(tmp_path / "--dash.png")
    (tmp_path / "-dash.png").write_bytes((tmp_path / "--dash.png").read_bytes())
    (tmp_path / "-x").symlink_to(tmp_path / "-dash.png")
    for word in ("-x", "--dash.png"):
        assert f"{advice}{word}" in command("predict", run, word).err
    assert command("predict", run, "--top", "many").err.count("If it is") == 0
    found = json.loads(done("predict", run, "--json", "--", "-dash.png", "--dash.png", "-x"))
    assert [one["image"] for one in found] == ["-dash.png", "--dash.png", "-x"]
    assert [one["top"][0]["class"] for one in found] == ["2"] * 3


def test_predict_as_json(run: Path) -> None:
    file = run.parent / "2.png"
    (found,) = json.loads(done("predict", run, file, "--json", "--top", 4))
    assert (found["image"], found["note"]) == (str(file), "")
    assert found["top"][0]["class"] == "2"
    shares = [one["probability"] for one in found["top"]]
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)


def test_predict_takes_many_images(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches, with the same result."""
    monkeypatch.setattr("chainrule.train.predict._BATCH", 3)
    files = [run.parent / f"{label % 4}.png" for label in range(8)]
    found = json.loads(done("predict", run, *files, "--json"))
    assert [one["top"][0]["class"] for one in found] == list("01230123")
    assert [one["image"] for one in found] == [str(file) for file in files]


def test_predict_resizes_converts_and_inverts(tmp_path: Path, run: Path) -> None:
    """A photograph of a dark pattern on white: a note says what to do, and doing it helps."""
    image = Image.open(run.parent / "1.png")
    dark = np.zeros((14, 14), np.uint8)
    dark[1:-1, 1:-1] = np.asarray(image)
    Image.fromarray(255 - dark).resize((140, 140)).convert("RGB").save(tmp_path / "photo.jpg")
    model = tmp_path / "run"
    idx_folder(tmp_path / "idx", training=8, test=4)
    for split in ("train", "t10k"):  # strokes on black, as MNIST has them
        images = chainrule.data.read_idx(tmp_path / f"idx/{split}-images-idx3-ubyte") // 4
        chainrule.data.write_idx(tmp_path / f"idx/{split}-images-idx3-ubyte", images)
    done("train", "--data", tmp_path / "idx", "--epochs", 1, "--out", model)
    (found,) = json.loads(done("predict", model, tmp_path / "photo.jpg", "--json"))
    assert found["note"] == "light background, but the model was trained on light strokes on black: try --invert"
    assert f"note: {tmp_path / 'photo.jpg'}: {found['note']}" in done("predict", model, tmp_path / "photo.jpg")
    (found,) = json.loads(done("predict", model, tmp_path / "photo.jpg", "--json", "--invert"))
    assert found["note"] == ""
    Image.fromarray(dark).save(tmp_path / "scan.png")
    (found,) = json.loads(done("predict", model, tmp_path / "scan.png", "--json", "--invert"))
    assert found["note"] == "dark background, but the model was trained on light strokes on black: leave --invert out"
    out = done("predict", model, *[tmp_path / "photo.jpg"] * 3, tmp_path / "scan.png")
    assert out.count("note: ") == 1
    assert f"note: {tmp_path / 'photo.jpg'} and 2 more (--csv names each): light background, but" in out


# ---- images as a person sees them


@pytest.fixture(scope="module")
def strokes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A model that tells light strokes on black, upright (class 0) from lying (class 1); and an upright one, dark on white."""
    folder = tmp_path_factory.mktemp("strokes")
    rng = np.random.default_rng(0)
    upright = np.zeros((80, 20, 20), np.uint8)
    for image in upright:
        column = rng.integers(4, 14)
        image[2:18, column : column + 3] = rng.integers(180, 256)
    images = np.concatenate([upright, upright.transpose(0, 2, 1)])
    labels = np.repeat([0, 1], 80).astype(np.uint8)
    for prefix, places in (("train", slice(None)), ("t10k", slice(None, None, 8))):
        chainrule.data.write_idx(folder / f"{prefix}-images-idx3-ubyte", images[places])
        chainrule.data.write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels[places])
    done("train", "--data", folder, "--model", "mlp", "--epochs", 12, "--augment", "none", "--out", folder / "run")
    return folder / "run", np.kron(255 - upright[0], np.ones((10, 10), np.uint8))


def predicted(*arguments: object) -> tuple[str, float, str]:
    """Best class of one image, its probability, and the note."""
    (found,) = json.loads(done("predict", *arguments, "--json"))
    return found["top"][0]["class"], found["top"][0]["probability"], found["note"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_predict_turns_a_photo_as_it_was_held(orientation: int, strokes: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    run, paper = strokes
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image, exif = Image.fromarray(paper), Image.Exif()
    stored = image.transpose(undo[orientation]) if orientation in undo else image
    exif[274] = orientation
    image.save(tmp_path / "upright.jpg", quality=95)
    stored.save(tmp_path / "stored.jpg", exif=exif, quality=95)
    best, share, _ = predicted(run, tmp_path / "stored.jpg", "--invert")
    assert best == "0"
    assert share > 0.9
    assert share == pytest.approx(predicted(run, tmp_path / "upright.jpg", "--invert")[1], abs=0.01)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_predict_lays_strokes_on_nothing_on_white(mode: str, strokes: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """Black strokes on nothing are what black strokes on white are, which --invert is for; the note says what was done."""
    run, paper = strokes
    ink = Image.new("L", paper.shape[::-1])
    ink.putalpha(Image.fromarray(255 - paper))
    image = ink.convert("RGBA")
    if mode == "P":
        image = image.quantize(8)
    (image if mode != "LA" else ink).save(tmp_path / "ink.png")
    light = "light background, but the model was trained on light strokes on black: try --invert"
    assert predicted(run, tmp_path / "ink.png")[2] == f"transparent in parts, where white is put behind; {light}"
    best, share, note = predicted(run, tmp_path / "ink.png", "--invert")
    assert (best, note) == ("0", "transparent in parts, where white is put behind")
    assert share > 0.9


def test_predict_says_where_nothing_is_seen(strokes: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """White strokes on nothing, on white."""
    run, paper = strokes
    chalk = Image.new("L", paper.shape[::-1], 255)
    chalk.putalpha(Image.fromarray(255 - paper))
    chalk.save(tmp_path / "chalk.png")
    blank = "nothing is seen on it: all pixels are alike"
    for options in ([], ["--invert"]):
        note = predicted(run, tmp_path / "chalk.png", *options)[2]
        assert note == f"transparent in parts, where white is put behind; {blank}"
    Image.new("L", (30, 30), 255).save(tmp_path / "paper.png")
    assert predicted(run, tmp_path / "paper.png", "--invert")[2] == blank


@pytest.mark.parametrize("name", ["p.webp", "p.bmp", "p.TIF", "p.gif", "p.pgm", "p.JPG", "deep.png"])
def test_predict_reads_what_training_reads(name: str, strokes: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    run, paper = strokes
    image = Image.fromarray(paper.astype(np.uint16) * 257 if name == "deep.png" else paper)
    image.save(tmp_path / name)
    best, share, note = predicted(run, tmp_path / name, "--invert")
    assert (best, note) == ("0", "")
    assert share > 0.9


# ---- files are read


def progress(width: int, terminal: bool) -> tuple[io.StringIO, ReadingProgress]:
    """What is written, and the progress that writes it."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=width, highlight=False, color_system=None)
    return stream, ReadingProgress(console)


def test_progress_of_reading_is_shown_from_the_first_second_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(reading.time, "monotonic", lambda: now)
    stream, shown = progress(80, terminal=False)
    with shown:
        for number in range(1, 251):
            now = number / 10
            shown("reading photos train", number, 60_000)
    assert stream.getvalue().splitlines() == [
        f"reading photos train: {number} of 60,000 images" for number in (11, 111, 211)
    ], "after a second, then every ten"
    shown("reading photos train", 1, 60_000)
    now += 100
    shown("reading photos train", 60_000, 60_000)
    assert stream.getvalue().count("\n") == 3, "nothing of what is over"


@pytest.mark.parametrize("width", [80, 30])
def test_progress_of_reading_is_one_line_on_a_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(reading.time, "monotonic", lambda: now)
    stream, shown = progress(width, terminal=True)
    with shown:
        for number in range(1, 31):
            now = number / 10
            shown("reading photos train", number, 60_000)
    drawn = [line for line in plain(stream.getvalue()).split("\n") if line]
    assert len(drawn) >= 15
    assert all(len(line) <= width for line in drawn)
    assert drawn[0].startswith("reading photos train: 11 of")
    assert stream.getvalue().endswith("\x1b[1A\x1b[2K"), "it is gone at the end"


# ---- summary and explain


def test_summary() -> None:
    lines = done("summary").splitlines()
    assert re.split(r"  +", lines[0]) == ["layer", "kind", "output shape", "parameters", "multiply-adds", "receptive field"]
    assert re.split(r"  +", lines[1].strip()) == ["0", "Conv2d", "1 x 6 x 28 x 28", "156", "117,600", "5 x 5"]
    assert len(lines) == 14
    assert lines[-1] == "61,706 parameters, 416,520 multiply-adds for an input of 1 x 1 x 28 x 28"


def test_summary_of_other_sizes_and_of_a_run(run: Path) -> None:
    assert "for an input of 1 x 3 x 40 x 32" in done("summary", "mlp", "--input", "3x40x32", "--classes", 7)
    assert re.search(r"^5 +Linear +1 x 7 ", done("summary", "mlp", "--classes", 7), re.MULTILINE)
    assert "for an input of 1 x 1 x 12 x 12" in done("summary", run)


EXPLAIN: list[Any] = ["explain", "(w @ x - y)**2", "w=[1,2]", "x=[3,4]", "y=5"]


def test_explain_the_error_of_the_lecture(tmp_path: Path) -> None:
    """e = (w x - y)^2 = 36: every gradient, one step of gradient descent, and a drawing."""
    out = done(*EXPLAIN, "--step", 0.1, "--svg", tmp_path / "graph.svg")
    rows = {line.split("  ")[0]: re.split(r"  +", line.strip()) for line in out.splitlines() if line}
    assert rows["node"] == ["node", "formula", "role", "value", "upstream", "local gradient", "downstream"]
    assert rows["w"] == ["w", "input", "leaf", "[1, 2]", "[36, 48]"]
    assert rows["h1"] == ["h1", "w @ x", "switcher", "11", "12", "dh1/dw = x = [3, 4]", "[36, 48]"]
    assert rows["e"] == ["e", "h2 ** 2", "scaler", "36", "1", "de/dh2 = 2 * h2 = 12", "12"]
    assert "w <- w - 0.1 * de/dw = [1, 2] - 0.1 * [36, 48] = [-2.6, -2.8]" in out
    assert out.endswith(f"drawing: {tmp_path / 'graph.svg'}\n")
    assert ElementTree.parse(tmp_path / "graph.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (["-a", "a=3"], -3),
        (["-a**2", "a=-3"], -9),
        (["--a", "a=3"], 3),
        (["-(a + 1)", "a=1"], -2),
        (["-2*a", "a=1", "--step", "-0.1"], -2),
        (["--step=-0.1", "-a", "a=1"], -1),
        (["--step", "-0.1", "-a", "a=1"], -1),
        (["-h", "h=3"], -3),
        (["-h**2", "h=3"], -9),
        (["-step*2", "step=1", "--step", "0.1"], -2),
        (["--", "-a", "a=3"], -3),
        (["-a", "--", "a=3"], -3),
        (["-a - b", "a=1", "b=2"], -3),
    ],
)
def test_an_expression_that_begins_with_a_minus(line: list[str], error: float) -> None:
    assert json.loads(done("explain", "--json", *line))["error"]["numbers"] == error
    if "--" not in line:
        assert json.loads(done("explain", *line, "--json"))["error"]["numbers"] == error


def test_options_of_explain_are_still_options() -> None:
    for help_option in ("-h", "--help"):
        assert "Usage: chainrule explain" in done("explain", help_option)
        assert "Usage: chainrule explain" in done("explain", "a", "a=3", help_option)
    for line, complaint in (
        (["--jsn", "a=3"], "No such option: --jsn"),
        (["a", "a=3", "-b"], "No such option: -b"),
        (["-a", "a=3", "--step"], "Option '--step' requires an argument"),
        ([], "Missing argument 'expression'"),
    ):
        ended = command("explain", *line)
        assert (ended.status, complaint in ended.err) == (2, True), ended.err
    assert command("explain", "-a").err.startswith("error: expression, column 2: unknown name 'a'")


def test_explain_as_json() -> None:
    assert {"36", "12"} <= set(re.findall(r"\d+", done(*EXPLAIN, "--json")))
    json.loads(done(*EXPLAIN, "--json"))


def test_a_folder_that_cannot_keep_compiled_code_is_one_plain_warning(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    line = [sys.executable, "-m", "chainrule", "train", "--limit", "64", "--epochs", "1", "--out", str(tmp_path / "run")]
    environment = {**ENVIRONMENT, "CHAINRULE_CACHE": str(blocked / "cache")}
    ended = subprocess.run(line, capture_output=True, text=True, env=environment, check=True, timeout=300)
    assert ended.stderr.startswith(f"warning: compiled code cannot be kept in {blocked / 'cache'} (Not a directory)")
    assert ended.stderr.count("warning") == 1
    assert ".py" not in ended.stderr
