"""Whatever the command prints fits the width that there is: 120, 80, 60 and 40 columns, and 80 where there is no terminal.

A line may be wider only where it holds what is to be copied whole: a path, or a command on a line of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from chainrule import cli
from chainrule.cli.console import _MOST_IN_MATRIX
from chainrule.cli.help import broken_command
from chainrule.cli.messages import message_lines
from chainrule.cli.width import columns, settle
from chainrule.graph.fitting import Column, fitted_table, table, wrapped
from chainrule.graph.names import display_width
from chainrule.lens import explain_expression
from chainrule.lens.rendering import equation
from chainrule.train import Evaluation
from running import COMMAND, ENVIRONMENT, command, done, idx_folder, pictures
from systems import needs
from terminal import on_terminal, plain

WIDTHS = (120, 80, 60, 40)
NUMBER = re.compile(r"(?<![\w.,])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?%?(?![\w.])")
TO_COPY = re.compile(r"^ *(Resume with:|use it:|test it:|weights:|curves:|run folder:|drawing:|/|\S+ -m chainrule )")

LECTURE = ["explain", "(w @ x - y)**2", "w=[1,2]", "x=[3,4]", "y=5", "--step", "-0.1"]
MATRIX = [
    "explain",
    "sum(relu(W @ x))*-2 + mean(exp(W)**0.333)",
    "W=[[1.2345,-2.3456],[3.25,4]]",
    "x=[1.5,1]",
    "--step",
    "0.01",
]
FAN_OUT = ["explain", "w*w + max(0, w) * 2 + exp(w/4) + sin(w)*tanh(w) - log(w)", "w=4.123456", "--step", "1e-3"]
LARGE = ["explain", "sum(a * softmax(a)) + log(b)", f"a={list(range(20))}", "b=0", "unused=1"]
ERRORS = [
    ["explain", "(w @ x - weigth)**2 + " + "w + " * 50 + "1", "w=[1,2]", "x=[3,4]", "weight=5"],
    ["explain", "2 * sigmoit(w)", "w=1"],
    ["explain", "w", "w=[1,2"],
    ["explain", "w", "--nonsense"],
    ["explain"],
    ["train", "--model", "resnet18"],
    ["train", "--lr", "-1"],
    ["train", "--data", "nowhere"],
    ["train", "--epochs", "many"],
    ["evaluate", "nowhere"],
    ["predict", "run", "nothing.png"],
    ["summary", "lenett"],
    ["summary", "--input", "28x28"],
    ["nonsense"],
]
PRINTED = [LECTURE, MATRIX, FAN_OUT, LARGE, ["summary"], ["summary", "mlp", "--input", "3x224x224"], ["summary", "run"]]
PRINTED += [["evaluate", "run"], ["predict", "run", "0.png", "1.png", "2.png"], ["predict", "run", "0.png", "--top", "4"]]
PRINTED += [["--help"], *([name, "--help"] for name in ("train", "evaluate", "predict", "summary", "explain")), ["--version"]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with a run on patterns and images to predict."""
    folder, before = tmp_path_factory.mktemp("widths"), Path.cwd()
    os.chdir(folder)
    idx_folder(folder / "patterns", training=96, test=40)
    done("train", "--data", "patterns", "--epochs", 2, "--batch-size", 8, "--lr", 0.05, "--out", "run")
    for label, image in enumerate(pictures(4, 4, (12, 12), seed=5)[0]):
        Image.fromarray(image).save(folder / f"{label}.png")
    yield folder
    os.chdir(before)


def shown(monkeypatch: pytest.MonkeyPatch, width: int, arguments: list[str]) -> str:
    """What the command prints where COLUMNS says ``width``."""
    monkeypatch.setattr("running.WIDE", {"COLUMNS": str(width)})
    ended = command(*arguments)
    return ended.out + ended.err


def check(text: str, width: int) -> None:
    wide = [line for line in text.splitlines() if display_width(line) > width and not TO_COPY.match(line)]
    assert wide == [], f"wider than {width}"


def numbers(text: str) -> list[str]:
    return NUMBER.findall(re.sub(r"[│╭╰─]", " ", text))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("arguments", [*PRINTED, *ERRORS], ids=lambda line: " ".join(line)[:40])
def test_every_line_fits_and_no_number_is_split(
    arguments: list[str], width: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(monkeypatch, width, arguments)
    check(text, width)
    if arguments[0] != "explain" or arguments in ERRORS:
        whole = set(numbers(shown(monkeypatch, 400, arguments)))
        assert set(numbers(text)) <= whole | {str(i) for i in range(10)}, "only numbers that are there on a wide terminal"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("arguments", [LECTURE, MATRIX, FAN_OUT, LARGE], ids=["lecture", "matrix", "fan-out", "large"])
def test_a_narrow_explanation_says_all_that_a_wide_one_says(
    arguments: list[str], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value, upstream, local and downstream gradient, in numbers that are whole."""
    text = " ".join(shown(monkeypatch, width, arguments).split())
    values = [one for one in arguments[2:] if "=" in one]
    explanation, _ = explain_expression(arguments[1], values)
    for row in explanation.cells()[1]:
        for cell in row[3:7]:
            assert " ".join(cell.split()) in text
        assert row[1] in text or row[1] == "input"


def test_the_lecture_at_80_columns_has_every_column() -> None:
    text = explain_expression(LECTURE[1], LECTURE[2:5])[0].table(80)
    assert text == str(explain_expression(LECTURE[1], LECTURE[2:5])[0])
    assert max(map(len, text.splitlines())) == 78


def test_a_block_per_node_where_a_table_is_too_wide() -> None:
    explanation, notes = explain_expression(LECTURE[1], LECTURE[2:5], step=-0.1)
    assert "left out, as it is too narrow here: role" in explanation.table(70)
    assert explanation.table(40).splitlines()[4:10] == [
        "h1 = w @ x = 11  (switcher)",
        "  upstream de/dh1 = 12",
        "  local dh1/dw = x = [3, 4]",
        "    downstream [36, 48]",
        "  local dh1/dx = w = [1, 2]",
        "    downstream [12, 24]",
    ]
    assert notes[0] == "w <- w - (-0.1) * de/dw = [1, 2] - (-0.1) * [36, 48] = [4.6, 6.8]"


@pytest.mark.parametrize("width", WIDTHS)
@needs("shell", "terminals")
def test_a_training_on_a_terminal_of_that_size(width: int, place: Path, tmp_path: Path) -> None:
    """With its live line, which has a bar from 80 columns on."""
    options = ("--data", place / "patterns", "--epochs", 40, "--batch-size", 32, "--out", "run")
    status, sent = on_terminal("train", *options, width=width, cwd=tmp_path)
    text = plain(sent)
    assert status == 0
    check(text, width)
    live = [line for line in text.splitlines() if re.search(r"\d:\d\d left$", line)]
    assert live
    assert all(re.search(r"loss \d+\.\d{4}  (accuracy \d+\.\d\d%)?.* left", line) for line in live)
    if width >= 80:
        assert all(line.lstrip().startswith(("━", "╸", "╺")) for line in live)
    assert re.search(r"^epoch +(training +)?(loss|test)", text[text.index("Epochs") :], re.MULTILINE) or width < 80


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("arguments", [LECTURE, MATRIX, ["summary"], ["evaluate", "run"], ["train", "-h"], ERRORS[0]])
@needs("shell", "terminals")
def test_on_a_real_terminal(arguments: list[str], width: int, place: Path) -> None:
    _, sent = on_terminal(*arguments, width=width, cwd=place)
    assert len(sent) > 100
    check(plain(sent), width)


@pytest.mark.parametrize(
    "arguments", [*PRINTED[:10], ["train", "--data", "patterns", "--epochs", "1", "--out", "again"], *ERRORS[:3]]
)
def test_without_a_terminal_there_are_80_columns(arguments: list[str], place: Path) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in ("COLUMNS", "LINES")}
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=environment, cwd=place)
    assert "Traceback" not in ended.stderr
    check(ended.stdout + ended.stderr, 80)


@pytest.mark.parametrize(
    ("given", "found"), [("100", "100"), ("5", "20"), ("0", "80"), ("-1", "80"), ("many", "80"), ("", "80")]
)
def test_columns_that_make_no_sense(given: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", given)
    settle()
    assert os.environ["COLUMNS"] == found
    assert columns() == int(found)
    assert cli.main


# ---- the parts


def test_confusions_are_a_matrix_where_it_fits_and_pairs_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from chainrule.cli.console import confusion_table

    def printed(classes: list[str], width: int, count: int = 1000) -> list[str]:
        confusion = np.eye(len(classes), dtype=np.int64) * count
        confusion[0, 1], confusion[2, 0] = 3, 14
        monkeypatch.setenv("COLUMNS", str(width))
        confusion_table(Evaluation(0.5, confusion, classes), "chainrule evaluate run --json")
        lines = capsys.readouterr().out.splitlines()
        assert all(len(line) <= width for line in lines)
        return lines

    digits = printed(list("0123456789"), 80)
    assert digits[2].split() == ["class", *"0123456789"]
    assert digits[3].split() == ["0", "1000", "3", *"........"]
    assert digits[5].split() == ["2", "14", ".", "1000", *"......."]
    assert printed([f"number {i}" for i in range(12)], 80)[2].split() == ["class", *map(str, range(12))], "columns are numbered"
    assert printed([f"number {i}" for i in range(12)], 80)[3].startswith("0 number 0   1000    3    .")
    for lines in (printed(list("0123456789"), 40), printed([f"{i}" for i in range(_MOST_IN_MATRIX + 1)], 80)):
        assert lines[1] == "Confused most often"
        assert lines[2].split() == ["class", "taken", "for", "images", "of", "the", "class"]
        assert [line.split() for line in lines[3:5]] == [["2", "0", "14", "1.4%"], ["0", "1", "3", "0.3%"]]
        assert lines[-2:] == ["the whole matrix as JSON:", "  chainrule evaluate run --json"]


def test_lines_are_broken_between_words_only() -> None:
    assert wrapped("a bb ccc dddd", 6) == ["a bb", "  ccc", "  dddd"]
    assert wrapped("/a/long/path/that/is/wide and more", 10) == ["/a/long/path/that/is/wide", "  and more"]
    assert wrapped("a b", None) == ["a b"]
    assert wrapped("x = 1", 4, "  ") == ["  x", "    =", "    1"]
    assert wrapped("日本 日本", 6) == ["日本", "  日本"]


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 130), st.sampled_from([LECTURE, MATRIX, FAN_OUT, LARGE]))
def test_an_explanation_at_any_width(width: int, arguments: list[str]) -> None:
    explanation, notes = explain_expression(arguments[1], [one for one in arguments[2:] if "=" in one], 0.1)
    lines = explanation.table(width).splitlines() + [line for note in notes for line in equation(note, width)]
    assert all(display_width(line) <= width or " " not in line.strip() for line in lines)


def test_a_table_narrows_its_header_then_its_lists_then_loses_columns_then_becomes_blocks() -> None:
    given = [
        Column("class", ["cat", "dog"]),
        Column("taken for", ["dog (12), cow (3)", "cat (4)"], listed=True),
        Column("training time", ["1:05", "10:07"], right=True),
    ]
    assert table(given, None, ruler=False) == (
        ["class  taken for          training time"],
        ["cat    dog (12), cow (3)           1:05", "dog    cat (4)                    10:07"],
    )
    assert table(given, 34, ruler=False) == (
        ["class  taken for          training", "                              time"],
        ["cat    dog (12), cow (3)      1:05", "dog    cat (4)               10:07"],
    )
    assert table(given, 28, ruler=False) == (
        ["class  taken for    training", "                        time"],
        ["cat    dog (12),        1:05", "       cow (3)", "dog    cat (4)         10:07"],
    )
    assert fitted_table(given, 20, ["training time"], ruler=False) == (
        ["class  taken for"],
        ["cat    dog (12),", "       cow (3)", "dog    cat (4)"],
        ["training time"],
    )
    assert table(given, 20) is None
    assert fitted_table(given, 20)[1][:5] == ["cat", "  taken for      dog", "    (12), cow (3)", "  training time", "    1:05"]


def test_an_error_keeps_commands_whole_and_its_caret_in_place() -> None:
    message = f"expression: what\n  {'x' * 50}q{'y' * 50}\n  {' ' * 50}^\nResume with: chainrule train --resume a-long-name"
    first, text, caret, command_line = message_lines(message, 40)
    assert first == "expression: what"
    assert len(text) <= 40
    assert text[len(caret) - 1] == "q"
    assert text.startswith("  …x")
    assert text.endswith("y…")
    assert command_line == "Resume with: chainrule train --resume a-long-name"
    quoted = "give the folder that `chainrule train` printed"
    assert message_lines(quoted, 32) == ["give the folder that", "`chainrule train` printed"]
    assert message_lines(quoted, 12)[2:4] == ["`chainrule", "train`"], "there is no room for it"
    assert message_lines("two images:\n  a.png cannot be read\n  b.png", 16) == [
        *("two images:", "  a.png cannot", "    be read", "  b.png"),
    ]
    assert message_lines("  abc\n   ^", 40) == ["  abc", "   ^"]


def test_examples_of_help_can_be_copied() -> None:
    lines = broken_command("chainrule explain \"(w @ x - y)**2\" 'w=[1,2]' 'x=[3,4]' y=5 --step 0.1", 40)
    assert lines == ['  chainrule explain "(w @ x - y)**2" \\', "      'w=[1,2]' 'x=[3,4]' y=5 --step 0.1"]


@pytest.mark.parametrize("width", [80, 40])
@needs("shell", "terminals")
def test_the_words_at_ctrl_c_fit_too(width: int, place: Path, tmp_path: Path) -> None:
    options = ("--data", place / "patterns", "--epochs", 5000, "--out", "run")
    _, sent = on_terminal("train", *options, width=width, keys="\x03", after=r"\d left", cwd=tmp_path)
    text = plain(sent)
    check(text, width)
    assert re.search(r"Stopped after step \d+ of", text)
    assert re.search(r"^Resume with: \S+ -m chainrule train --resume run$", text, re.MULTILINE)
