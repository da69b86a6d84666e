"""Names of files and classes that would command a terminal, or turn and hide what is read: they are shown written out."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from chainrule.data import image_folder
from chainrule.display import displayed
from chainrule.errors import UserError, warn
from chainrule.graph.names import display_width
from chainrule.lens.server.subject import Subject
from chainrule.train import Config, Evaluation, RunFolder, next_folder
from chainrule.train.command_line import command_line
from lens_server import served
from recordings import failing
from running import Ended, command, pictures
from systems import needs
from test_command import on_terminal

ESCAPE, BIDI, LINE, BELL, C1, BYTE = "\x1b[31;1mred", "a\u202egnp.b", "two\nerror: fake", "\x07\b\r", "\x9b2Jgone", "caf\udce9"
SHOWN = {
    ESCAPE: r"\x1b[31;1mred",
    BIDI: r"a\u202egnp.b",
    LINE: r"two\nerror: fake",
    BELL: r"\x07\x08\r",
    C1: r"\x9b2Jgone",
    BYTE: r"caf\xe9",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images under such a name, with classes and files of such names, some damaged and some of no image."""
    root = tmp_path_factory.mktemp("names") / f"data{ESCAPE}{LINE}"
    classes = [ESCAPE, BIDI, LINE, C1, BYTE]
    images, labels = pictures(60, len(classes), (12, 12))
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / classes[label] / f"{number}{BELL}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (root / ESCAPE / f"{LINE}{ESCAPE}.png").write_text("no image")
    (root / C1 / f"{BYTE}.png").write_bytes((root / C1 / f"3{BELL}.png").read_bytes()[:90])
    (root / BIDI / f"notes{BIDI}{LINE}.txt").write_text("no image")
    return root


@pytest.fixture(scope="module")
def run(folder: Path) -> tuple[Path, Ended]:
    """A run on it, in a folder of such a name, and what was printed."""
    path = folder.parent / f"run{ESCAPE}{LINE}"
    return path, command("train", "--data", folder, "--epochs", 1, "--batch-size", 8, "--out", path)


def assert_harmless(text: str) -> None:
    """Nothing but text, and no line that begins with what a name says."""
    odd = {one for one in text if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}
    assert not odd, [text[max(0, text.index(one) - 60) : text.index(one) + 60] for one in odd]
    assert "\nerror: fake" not in text


# ---- the function


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_terminal_obeys_is_written_out(name: str) -> None:
    assert displayed(name) == SHOWN[name]
    assert displayed(Path("x") / name) == f"x/{SHOWN[name]}"


def test_what_is_text_stays_as_it_is() -> None:
    for name in (
        "plain.png",
        "mit Leerzeichen",
        "naïve",
        "写真",
        "صورة",
        "می\u200cخواهم",
        "👩\u200d🚀",
        "3.04\u202fPM",
        "C:\\x1b",
        "",
    ):
        assert displayed(name) == name
    assert displayed("a\nb\x1b", lines=True) == "a\nb\\x1b"
    assert displayed("\u2066\u200b\ufeff\U000e0041\u2028\u00ad\x7f") == (r"\u2066\u200b\ufeff\U000e0041\u2028\xad\x7f")


def test_errors_and_warnings_of_the_library_are_harmless_too(tmp_path: Path) -> None:
    assert str(UserError(f"{ESCAPE}\nremedy")) == SHOWN[ESCAPE] + "\nremedy"
    with pytest.warns(UserWarning, match=re.escape(SHOWN[ESCAPE])):
        warn(ESCAPE)
    with pytest.raises(UserError) as error:
        image_folder(tmp_path / f"{ESCAPE}{LINE}")
    assert_harmless(str(error.value))


def test_a_command_to_copy_is_one_for_bash_and_zsh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["chainrule"])
    assert command_line("train", "--resume", f"it's {ESCAPE}\\{LINE}") == (
        "chainrule train --resume $'it\\'s \\x1b[31;1mred\\\\two\\nerror: fake'"
    )


def test_a_run_gets_a_name_that_can_be_typed() -> None:
    assert next_folder(Config(data=f"photos/{ESCAPE}{LINE}{BYTE}")) == Path("runs/lenet-_[31;1mredtwo_error: fakecaf_-1")
    assert next_folder(Config(data="photos/my été")) == Path("runs/lenet-my été-1")


# ---- the command


def test_training(folder: Path, run: tuple[Path, Ended]) -> None:
    path, ended = run
    assert ended.status == 0
    assert_harmless(ended.out + "\n" + ended.err)
    for shown in SHOWN.values():
        if shown != SHOWN[BELL]:
            assert shown in ended.out + ended.err
    assert r"\x1b[31;1mred/two\nerror: fake\x1b[31;1mred.png is no image" in ended.err
    assert r"\x9b2Jgone/caf\xe9.png is damaged" in ended.err
    assert r"a\u202egnp.b/notesa\u202egnp.btwo\nerror: fake.txt has no name of an image" in ended.err
    assert (path / "notes.txt").read_text() == ended.err


WALK: dict[str, Any] = {
    "evaluate": (["evaluate", "RUN"], 0),
    "evaluate as JSON": (["evaluate", "RUN", "--json"], 0),
    "blame": (["blame", "RUN"], 0),
    "blame as JSON": (["blame", "RUN", "--json"], 0),
    "evaluate on it": (["evaluate", "RUN", "--data", "FOLDER"], 0),
    "predict": (["predict", "RUN", "GOOD"], 0),
    "predict what is damaged": (["predict", "RUN", "GOOD", "BAD", "MISSING"], 1),
    "predict as JSON": (["predict", "RUN", "GOOD", "BAD", "--json"], 1),
    "predict without an image": (["predict", "RUN"], 2),
    "summary": (["summary", "RUN"], 0),
    "nothing to convert": (["convert", "MISSING"], 2),
    "an image to convert": (["convert", "GOOD"], 2),
    "resume": (["train", "--resume", "RUN"], 0),
    "a folder that exists": (["train", "--data", "FOLDER", "--out", "RUN"], 2),
    "no run": (["evaluate", "MISSING"], 2),
    "no data": (["train", "--data", "MISSING"], 2),
    "a file as data": (["train", "--data", "GOOD"], 2),
    "an unknown model": (["train", "--model", f"{ESCAPE}{LINE}"], 2),
    "an unknown option": (["predict", "RUN", f"--{ESCAPE}{BIDI}.png"], 2),
    "an unknown subcommand": ([f"{ESCAPE}{BIDI}"], 2),
    "too many words": (["train", f"{C1}{BIDI}"], 2),
    "no number": (["train", "--epochs", f"{ESCAPE}{BIDI}"], 2),
    "no formula": (["explain", f"{ESCAPE} {BIDI}"], 2),
    "no drawing": (["explain", "a*a", "a=1", "--svg", "MISSING/x.svg"], 2),
}


@pytest.mark.parametrize("case", WALK)
def test_every_subcommand(case: str, folder: Path, run: tuple[Path, Ended]) -> None:
    words, status = WALK[case]
    places = {
        "RUN": str(run[0]),
        "FOLDER": str(folder),
        "GOOD": str(folder / BYTE / f"4{BELL}.png"),
        "BAD": str(folder / ESCAPE / f"{LINE}{ESCAPE}.png"),
        "MISSING": str(folder / f"{BELL}{LINE}"),
    }
    line = [re.sub("^(RUN|FOLDER|GOOD|BAD|MISSING)", lambda found: places[found[0]], word) for word in words]
    ended = command(*line)
    assert ended.status == status, ended
    assert_harmless(ended.out + "\n" + ended.err)
    if "--json" in words:
        json.loads(ended.out)


def test_the_health_of_a_network_with_such_names(tmp_path: Path, run: tuple[Path, Ended]) -> None:
    """The names of layers and parameters come from a file."""
    path = tmp_path / f"{ESCAPE}{LINE}"
    shutil.copytree(run[0], path)
    names = [part.replace(" ", "_").replace("\n", "\x85") for part in (ESCAPE, BELL, BIDI, C1)]
    failing(
        (*(f"{name} {kind}" for name, kind in zip(names, ("conv2d", "relu", "conv2d", "relu"), strict=True)), "fc matmul")
    ).write(path / "health.bin")
    ended = command("health", path)
    assert ended.status == 0
    assert_harmless(ended.out + "\n" + ended.err)
    assert r"\x1b[31;1mred" in ended.out
    assert_harmless((path / "health" / "health.svg").read_text())
    json.loads(command("health", path, "--json").out)


def test_the_lens_of_a_run_with_such_names(run: tuple[Path, Ended], tmp_path: Path) -> None:
    """JSON may hold any character: what reaches the page is what a terminal would be shown."""
    path = tmp_path / f"{ESCAPE}{LINE}"
    shutil.copytree(run[0], path)
    names = [part.replace(" ", "_").replace("\n", "\x85") for part in (ESCAPE, BELL, BIDI, C1)]
    failing(
        (*(f"{name} {kind}" for name, kind in zip(names, ("conv2d", "relu", "conv2d", "relu"), strict=True)), "fc matmul")
    ).write(path / "health.bin")
    with served(Subject.of_run(RunFolder.open(path))) as lens:
        for asked in ("/api/meta", "/api/graph", "/api/history", "/api/image?index=x", "/api/image?index=0"):
            answer = lens.ask(asked)
            text = answer.headers.get("x-chainrule-tensor") or answer.body.decode()
            for one in strings(json.loads(text)):
                assert_harmless(one)
        meta = lens.get("/api/meta")
    assert meta["title"] == str(path).replace(path.name, SHOWN[ESCAPE] + SHOWN[LINE])
    assert set(meta["classes"]) == {SHOWN[one] for one in (ESCAPE, BIDI, LINE, C1, BYTE)}


def strings(value: Any) -> Iterator[str]:
    """All texts in what JSON gives."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from (name, *strings(one))
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def test_data_that_changed(folder: Path, run: tuple[Path, Ended], tmp_path: Path) -> None:
    """What a checkpoint says of classes, in the message that refuses others."""
    extra = folder / f"{BELL}{ESCAPE}"
    shutil.copytree(folder / BYTE, extra)
    try:
        for line in (["train", "--resume", run[0]], ["evaluate", run[0], "--data", folder]):
            ended = command(*line)
            assert ended.status == 2
            assert_harmless(ended.out + "\n" + ended.err)
    finally:
        shutil.rmtree(extra)


@needs("shell", "terminals")
def test_on_a_terminal(folder: Path, run: tuple[Path, Ended], tmp_path: Path) -> None:
    """Where colours and the redrawn line are the command's own: of the names' nothing arrives."""
    for words in (
        ["train", "--data", folder, "--epochs", 1, "--batch-size", 8, "--out", tmp_path / f"x{ESCAPE}"],
        ["evaluate", run[0]],
        ["predict", run[0], folder / BYTE / f"4{BELL}.png", folder / ESCAPE / f"{LINE}{ESCAPE}.png"],
    ):
        _, shown = on_terminal(*words, width=80, cwd=tmp_path)
        for raw in ("\x1b[31;1mred", "\u202e", "\x07", "\x9b", "\b", "\nerror: fake"):
            assert raw not in shown.replace("\r", ""), raw
        assert r"\x1b[31;1mred" in re.sub(r"\s", "", shown) or words[0] == "evaluate"


def test_tables_in_a_program_are_harmless_and_straight() -> None:
    import numpy as np

    evaluation = Evaluation(0.5, np.eye(2, dtype=np.int64) + 1, [f"{ESCAPE}{LINE}", BIDI])
    text = str(evaluation)
    assert_harmless(text)
    assert len({display_width(line) for line in text.splitlines()[2:3]}) == 1
    assert SHOWN[BIDI] in text


def test_warnings_of_pillow_are_not_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """They name no file, and speak of what stands beside the pixels."""
    from chainrule.cli.saying import warn

    monkeypatch.setattr(warnings, "showwarning", warn)
    for place, expected in ((f"x{os.sep}PIL{os.sep}TiffImagePlugin.py", ""), ("x/other.py", "warning: said\n")):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = warn
            warnings.warn_explicit("said", UserWarning, place, 1)
        assert capsys.readouterr().err == expected
