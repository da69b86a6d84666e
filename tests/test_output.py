"""Output that cannot be written: a full disk, a pipe that nobody reads, a closed stream, an encoding without the characters."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from chainrule import cli
from chainrule.cli.output import Output, OutputError, UnreadError, noticed_output
from chainrule.display import displayed
from running import COMMAND, ENVIRONMENT, TYPED, WIDE, done, idx_folder, noted, outcome, pictures
from systems import needs

FULL = "standard output cannot be written (No space left on device)"
LOST = f"warning: {FULL}: the training goes on without it"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a run, a picture."""
    folder = tmp_path_factory.mktemp("output")
    idx_folder(folder / "patterns")
    done(*training(folder, folder / "whole"))
    shutil.copytree(folder / "whole", folder / "judged")  # in which evaluate leaves its pictures
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(folder / "picture.png")
    return folder


def training(place: Path, run: Path) -> list[Any]:
    return ["train", "--data", place / "patterns", "--epochs", 2, "--batch-size", 8, "--out", run]


def others(place: Path) -> dict[str, list[Any]]:
    """The commands that only show something."""
    return {
        "evaluate": ["evaluate", place / "judged"],
        "evaluate as JSON": ["evaluate", place / "judged", "--json"],
        "predict": ["predict", place / "whole", place / "picture.png"],
        "predict as JSON": ["predict", place / "whole", place / "picture.png", "--json"],
        "summary": ["summary"],
        "explain": ["explain", "w * 2", "w=1"],
        "explain as JSON": ["explain", "w * 2", "w=1", "--json"],
        "help": ["--help"],
        "help of a command": ["train", "--help"],
        "version": ["--version"],
    }


def shell(redirection: str, *arguments: Any, before: str = "", **variables: str) -> subprocess.Popen[str]:
    """The command with its output redirected."""
    return subprocess.Popen(
        ["sh", "-c", f'{before} "$@" {redirection}', "sh", *COMMAND, *map(str, arguments)],
        env={**ENVIRONMENT, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = running.communicate(timeout=120)
    return running.returncode, out, err


# ---- commands that only show something


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize(
    ("redirection", "expected"),
    [
        ("> /dev/full", (2, "", f"error: {FULL}\n")),
        ("> /dev/full 2>&1", (2, "", "")),
        (">&-", (0, "", "")),
        ("2> /dev/full > /dev/null", (0, "", "")),
        ("2>&- > /dev/null", (0, "", "")),
        (">&- 2>&- <&-", (0, "", "")),
    ],
)
@needs("full device", "shell")
def test_commands_whose_output_cannot_be_written(
    redirection: str, expected: tuple[int, str, str], buffered: str, place: Path
) -> None:
    running = {name: shell(redirection, *words, PYTHONUNBUFFERED=buffered) for name, words in others(place).items()}
    assert {name: ended(one) for name, one in running.items()} == dict.fromkeys(running, expected)


def test_commands_whose_output_nobody_reads(place: Path) -> None:
    """As in ``chainrule evaluate run | head -1``: the status is that of SIGPIPE."""
    for name, words in others(place).items():
        read, write = os.pipe()
        os.close(read)
        one = subprocess.run(
            [*COMMAND, *map(str, words)], env=ENVIRONMENT, stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(write)
        assert (name, one.returncode, one.stderr) == (name, 141, "")


@pytest.mark.parametrize("redirection", ["2> /dev/full", "2>&-", "> /dev/full 2> /dev/full"])
@needs("full device", "shell")
def test_complaints_that_cannot_be_written(redirection: str, place: Path) -> None:
    """The status says so."""
    lines = [["evaluate", place / "none"], ["nonsense"], ["train", "--epochs", "x"], ["explain", "w *", "w=1"]]
    running = [shell(redirection, *words) for words in lines]
    assert [ended(one) for one in running] == [(2, "", "")] * len(lines)


@needs("shell")
def test_characters_that_the_encoding_does_not_have_are_written_out(place: Path, tmp_path: Path) -> None:
    picture = tmp_path / "höhle.png"
    picture.write_bytes((place / "picture.png").read_bytes())
    line = ["predict", place / "whole", picture]
    status, out, err = ended(shell("", *line, PYTHONIOENCODING="ascii:strict"))
    assert (status, err) == (0, "")
    assert "h\\xf6hle.png" in out
    status, out, err = ended(shell("", "explain", "ö", "w=1", PYTHONIOENCODING="ascii:strict"))
    assert (status, out) == (2, "")
    assert "unknown name '\\xf6'" in err


GREEK, KANJI, ROCKET, BYTE = "ελληνικά", "写真", "👩\u200d🚀", "caf\udce9"
FOREIGN = (GREEK, KANJI, ROCKET, BYTE, "naïve")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with classes and files of names beyond Latin-1, some no images, and a run on them; all lie below such a name."""
    root = tmp_path_factory.mktemp("foreign") / f"λ{BYTE}"
    images, labels = pictures(50, len(FOREIGN), (12, 12))
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / "data" / FOREIGN[label] / f"{number}{FOREIGN[label]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    for name in FOREIGN:
        (root / "data" / name / f"broken{name}.png").write_text("no image")
        (root / "data" / name / f"{name}.txt").write_text("no image")
    (root / "data" / f"empty{GREEK}").mkdir()
    noted("train", "--data", root / "data", "--epochs", 1, "--batch-size", 8, "--out", root / f"run{KANJI}")
    return root


FOREIGN_LINES: dict[str, tuple[list[str], int]] = {
    "train": (["train", "--data", "DATA", "--epochs", "1", "--out", "NEW"], 0),
    "resume": (["train", "--resume", "RUN"], 0),
    "evaluate": (["evaluate", "RUN"], 0),
    "evaluate as JSON": (["evaluate", "RUN", "--json"], 0),
    "evaluate on it": (["evaluate", "RUN", "--data", "DATA"], 0),
    "predict": (["predict", "RUN", "GOOD"], 0),
    "predict as JSON": (["predict", "RUN", "GOOD", "--json"], 0),
    "predict what is no image": (["predict", "RUN", "GOOD", "BROKEN"], 1),
    "predict without an image": (["predict", "RUN"], 2),
    "summary": (["summary", "RUN"], 0),
    "explain": (["explain", f"{GREEK} * 2", f"{GREEK}=1", "--svg", "DRAWING"], 0),
    "explain with a mistake": (["explain", f"w * {GREEK}", "w=1"], 2),
    "an unknown model": (["train", "--model", KANJI], 2),
    "no such data": (["train", "--data", f"{ROCKET}{BYTE}"], 2),
    "no number": (["train", "--epochs", GREEK], 2),
    "an unknown option": (["predict", "RUN", f"--{KANJI}{BYTE}"], 2),
    "an unknown subcommand": ([f"{ROCKET}{BYTE}"], 2),
    "a folder that exists": (["train", "--data", "DATA", "--out", "RUN"], 2),
    "help": (["train", "--help"], 0),
}


@pytest.mark.parametrize("encoding", ["ascii", "latin1", "utf-8"])
@pytest.mark.parametrize("case", FOREIGN_LINES)
def test_names_beyond_the_encoding_in_every_subcommand(case: str, encoding: str, foreign: Path, tmp_path: Path) -> None:
    """What the encoding has is written as it is, the rest is written out; JSON stays JSON."""
    words, status = FOREIGN_LINES[case]
    places = {
        "DATA": [foreign / "data"],
        "RUN": [foreign / f"run{KANJI}"],
        "NEW": [tmp_path / f"new{ROCKET}{BYTE}"],
        "GOOD": [foreign / "data" / name / f"{number}{name}.png" for number, name in enumerate(FOREIGN)],
        "BROKEN": [foreign / "data" / name / f"broken{name}.png" for name in FOREIGN],
        "DRAWING": [tmp_path / f"{GREEK}{BYTE}.svg"],
    }
    line = [str(one) for word in words for one in places.get(word, [word])]
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors="strict", write_through=True) for _ in range(2)]
    with (
        mock.patch.object(sys, "argv", ["chainrule", *line]),
        mock.patch.dict(os.environ, WIDE),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
    ):
        try:
            cli.main()
            ended: Any = 0
        except SystemExit as exit:
            ended = exit.code or 0
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)  # type: ignore[attr-defined]
    assert ended == status, err
    if "--json" in words:
        json.loads(out)
        return
    named = [one for one in FOREIGN if any(one in word for word in line)]
    shown = out + err
    for name in named if case not in ("summary", "resume", "evaluate", "no number") else []:
        written = displayed(name).encode(encoding, "backslashreplace").decode(encoding)
        assert written in shown or repr(name)[1:-1].encode(encoding, "backslashreplace").decode(encoding) in shown
    if case == "predict what is no image":
        for name in FOREIGN:
            written = displayed(name).encode(encoding, "backslashreplace").decode(encoding)
            assert f"broken{written}.png is no image of a format that is read" in err
            assert f"{written}.png" in out


def test_a_signal_is_answered_in_the_encoding(foreign: Path, tmp_path: Path) -> None:
    """Which is written past Python's streams."""
    code = f"from chainrule.signals import tell; tell({'saved in ' + GREEK + ' naïve'!r})"
    for encoding in ("ascii", "latin1", "utf-8"):
        environment = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert ran.stderr == f"saved in {GREEK} naïve\n".encode(encoding, "backslashreplace")


# ---- trainings


@pytest.mark.parametrize(
    ("redirection", "told"),
    [
        ("> /dev/full", [LOST, "The training is complete, and everything is saved in {run}."]),
        ("> /dev/full 2> /dev/full", []),
        (">&-", []),
        ("2>&- > /dev/null", []),
    ],
)
@needs("full device", "shell")
def test_a_training_goes_on_without_its_output(redirection: str, told: list[str], place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    status, out, err = ended(shell(redirection, *training(place, run)))
    assert (status, out, err.splitlines()) == (0, "", [line.format(run=run) for line in told])
    assert outcome(run) == outcome(place / "whole")


@needs("full device", "shell")
def test_a_disk_that_is_full_for_the_output_and_for_the_run(place: Path, tmp_path: Path) -> None:
    """The first snapshot does not fit either: one sentence for each, and how to go on when there is room again."""
    run = tmp_path / "run"
    status, out, err = ended(shell("> /dev/full", *training(place, run), "--checkpoint-every", 4, before="ulimit -f 100;"))
    snapshot = run / "snapshots" / "000000000.safetensors"
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        LOST,
        f"error: {snapshot} cannot be written (File too large): mend that, or choose another place",
        f"Then resume with: {TYPED} train --resume {run}",
    ]
    done("train", "--resume", run)
    whole, resumed = outcome(place / "whole"), outcome(run)
    assert resumed["model"] == whole["model"]


def test_a_training_whose_output_nobody_reads_is_saved(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    read, write = os.pipe()
    os.close(read)
    line = [*COMMAND, *map(str, training(place, run))]
    one = subprocess.run(line, env=ENVIRONMENT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert one.returncode == 141
    assert one.stderr.splitlines() == [
        "Stopped after step 1 of 12, as nobody reads the output any more; everything is saved.",
        f"Resume with: {TYPED} train --resume {run}",
    ]
    done("train", "--resume", run)
    assert outcome(run) == outcome(place / "whole")


# ---- the stream


class Full(io.StringIO):
    """A stream that takes so many texts."""

    def __init__(self, takes: int, error: OSError) -> None:
        super().__init__()
        self.takes, self.error = takes, error

    def write(self, text: str) -> int:
        self.takes -= 1
        if self.takes < 0:
            raise self.error
        return super().write(text)


def test_the_stream_notices_once(capfd: pytest.CaptureFixture[str]) -> None:
    stream = Full(1, OSError(28, "No space left on device"))
    output = Output(stream)
    assert output.write("one") == 3
    with pytest.raises(OutputError, match="No space left on device"):
        output.write("two")
    assert output.write("three") == 5, "and leads nowhere from then on"
    assert (stream.getvalue(), output.lost, output.unread) == ("one", True, False)
    output = Output(Full(0, BrokenPipeError(32, "Broken pipe")))
    with pytest.raises(UnreadError, match="nobody reads standard output any more") as caught:
        output.write("one")
    assert caught.value.errno is None, "by which the libraries that print would know it"
    assert (output.lost, output.unread) == (True, True)
    output = Output(Full(0, OSError(28, "No space left on device")))
    output.goes_on = True
    output.write("one")
    output.write("two")
    assert capfd.readouterr().err == f"{LOST}\n"


def test_the_stream_is_a_text_stream_and_no_more() -> None:
    """Libraries try what a stream is, and would write to what is below it."""
    output = Output(io.TextIOWrapper(io.BytesIO(), "ascii"))
    with pytest.raises(TypeError, match="text is written here, not bytes"):
        output.write(b"one")  # type: ignore[arg-type]
    assert not hasattr(output, "buffer")
    assert (output.encoding, output.isatty()) == ("ascii", False)
    refusing = Output(Full(0, OSError(28, "No space left on device")))
    assert refusing.write("") == 0
    assert not refusing.lost
    with pytest.raises(OutputError):
        refusing.write("one")


def test_a_program_gets_its_streams_back(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    with noticed_output() as output:
        print("said")
        print(json.dumps([output.lost]))
    import sys

    assert (sys.stdout, sys.stderr) == streams
    assert streams[0].getvalue() == "said\n[false]\n"
