"""Whatever the command prints fits the width that there is: 120, 80, 60 and 40 columns, and 80 where there is no terminal.

A line may be wider only where it holds what is to be copied whole: a path, or a command on a line of its own.
"""

from __future__ import annotations

import contextlib
import io
import itertools
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
from chainrule.cli.help import broken_command
from chainrule.cli.messages import message_lines
from chainrule.cli.tables import _MOST_IN_MATRIX, confusion_table, worst_classes_table
from chainrule.cli.width import columns, settle
from chainrule.graph.fitting import Column, fitted_table, table
from chainrule.graph.names import display_width, shortened_within
from chainrule.graph.wrapping import wrapped
from chainrule.lens import explain_expression
from chainrule.lens.rendering import equation
from chainrule.train import Evaluation
from recordings import LONG_LAYERS, Recording, failing
from running import COMMAND, ENVIRONMENT, command, done, idx_folder, image_folder, pictures
from systems import needs
from terminal import on_terminal, plain

WIDTHS = (120, 80, 60, 40)
NUMBER = re.compile(r"(?<![\w.,])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?%?(?![\w.])")
TO_COPY = re.compile(
    r"^ *((Resume|Look at it again|Go on without it) with:|use it:|test it:|weights:|curves:|run folder:|drawing:|/"
    r"|\S+ -m chainrule )"
)

PARTED = re.compile(r"\b(accuracy|loss|seed|step|epoch|rate|got|x)$|[=*(]$|\[default:$")
LONG_NAMES = (
    "a-class-with-a-very-long-name-that-somebody-made-from-a-spreadsheet",
    "Felis silvestris catus (domestic short-haired cat, grey)",
    "dog",
    "n02123045_tabby_cat_and_more_words_joined_by_underscores",
)

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
MODULE = str(Path(__file__).parent / "expected" / "torch_files" / "module.pth")
ERRORS = [
    ["explain", "(w @ x - weigth)**2 + " + "w + " * 50 + "1", "w=[1,2]", "x=[3,4]", "weight=5"],
    ["explain", "2 * sigmoit(w)", "w=1"],
    ["explain", "w", "w=[1,2"],
    ["explain", "w", "--nonsense"],
    ["explain"],
    ["train", "--model", "resnet19"],
    ["train", "--lr", "-1"],
    ["train", "--data", "nowhere"],
    ["train", "--epochs", "many"],
    ["lr", "--steps", "3"],
    ["lr", "nowhere"],
    ["compare", "run"],
    ["health", "other"],
    ["health", "run", "--step", "1"],
    ["evaluate", "nowhere"],
    ["predict", "run", "nothing.png"],
    ["summary", "lenett"],
    ["summary", "--input", "28x28"],
    ["convert", "nothing.pth"],
    ["convert", MODULE, "out.safetensors"],
    ["nonsense"],
]
PRINTED = [LECTURE, MATRIX, FAN_OUT, LARGE, ["summary"], ["summary", "mlp", "--input", "3x224x224"], ["summary", "run"]]
PRINTED += [["evaluate", "run"], ["predict", "run", "0.png", "1.png", "2.png"], ["predict", "run", "0.png", "--top", "4"]]
PRINTED += [["lr", "run", "--steps", "60"], ["compare", "run", "long"], ["compare", "run", "other"]]
PRINTED += [["health", "run"], ["health", "long"]]
PRINTED += [
    ["blame", "run"],
    ["blame", "long", "--by", "gradient"],
    ["evaluate", "long"],
    ["predict", "long", "0.png", "1.png"],
]
PRINTED += [
    ["--help"],
    *(
        [name, "--help"]
        for name in (
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
            "replay",
            "convert",
        )
    ),
    ["--version"],
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with a run on patterns and images to predict."""
    folder, before = tmp_path_factory.mktemp("widths"), Path.cwd()
    os.chdir(folder)
    idx_folder(folder / "patterns", training=96, test=40)
    done("train", "--data", "patterns", "--epochs", 2, "--batch-size", 8, "--lr", 0.05, "--out", "run")
    done("train", "--data", "patterns", "--epochs", 1, "--batch-size", 8, "--out", "other")
    image_folder(folder / "photos", LONG_NAMES)
    done("train", "--data", "photos", "--epochs", 1, "--out", "long")
    Recording().write(folder / "run" / "health.bin")
    failing(LONG_LAYERS).write(folder / "long" / "health.bin")
    (folder / "other" / "health.bin").write_bytes(b"not one\n")
    for label, image in enumerate(pictures(4, 4, (12, 12), seed=5)[0]):
        Image.fromarray(image).save(folder / f"{label}.png")
    yield folder
    os.chdir(before)


def shown(monkeypatch: pytest.MonkeyPatch, width: int, arguments: list[str]) -> str:
    """What the command prints where COLUMNS says ``width``."""
    monkeypatch.setattr("running.WIDE", {"COLUMNS": str(width)})
    ended = command(*arguments)
    assert (ended.status != 0) == (arguments in ERRORS), "an error here is refused at once, and nothing else is"
    return ended.out + ended.err


def check(text: str, width: int) -> None:
    wide = [line for line in text.splitlines() if display_width(line) > width and not TO_COPY.match(line)]
    assert wide == [], f"wider than {width}"
    lines = [line.strip() for line in text.splitlines()]
    parted = [
        (line, after)
        for line, after in itertools.pairwise(lines)
        if re.match(r"[-\d.(]*\d", after) and "  " not in line and PARTED.search(line)
    ]
    assert parted == [], "a number is not on the line of what it belongs to"


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
    assert "left out, as there is no room for it: role" in explanation.table(70)
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
def test_the_lines_of_an_epoch(width: int, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line where it fits, also at 80 columns, else two; whatever the width, steps come with loss and accuracy."""
    options = ["--data", str(place / "patterns"), "--epochs", "10", "--batch-size", "16", "--out", str(tmp_path / "run")]
    text = shown(monkeypatch, width, ["train", *options])
    check(text, width)
    loss, share = r"\d\.\d{4}", r"\d+\.\d\d%"
    form = {
        120: rf"training loss {loss}, accuracy {share}; test loss {loss}, accuracy {share}; \d:\d\d of training",
        80: rf"loss {loss}, accuracy {share}; test loss {loss}, accuracy {share}",
        60: rf"loss {loss}, accuracy {share}\n  test loss {loss}, accuracy {share}",
        40: rf"loss {loss},(?: |\n  )accuracy {share}\n  test loss {loss}, accuracy {share}",
    }[width]
    assert len(re.findall(rf"^epoch \d+/10: {form}$", text, re.MULTILINE)) == 10
    accuracy = f"  accuracy {share}" if width > 40 else ""
    steps = re.findall(rf"^step \d+/60  .*loss {loss}{accuracy}.*$", text, re.MULTILINE)
    assert len(steps) == 60
    assert all(("left" in line) == (width > 40) for line in steps)
    assert "lenet, 15,116 parameters, float32, seed 0" in " ".join(text.split())


def test_long_names_of_classes_are_shortened_in_their_middles_before_columns_go(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confusion = np.array([[5, 0, 0, 3], [0, 6, 0, 2], [0, 0, 8, 0], [1, 0, 0, 7]])
    found = Evaluation(0.5, confusion, LONG_NAMES)

    def printed(width: int, table: str) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            worst_classes_table(found) if table == "worst" else confusion_table(found, "chainrule evaluate run --json")
        return stream.getvalue().splitlines()[2:]

    assert printed(160, "worst")[1].startswith(LONG_NAMES[0] + "  ")
    assert printed(80, "worst")[:2] == [
        "class                          images   right  taken for",
        "a-class-with-a…-a-spreadsheet       8  62.50%  n02123045_tabb…by_underscores (3)",
    ]
    assert printed(60, "worst")[-1] == "left out, as there is no room for it: images"
    assert printed(40, "worst")[:5] == [
        "a-class-with…spreadsheet",
        "  images     8",
        "  right      62.50%",
        "  taken for",
        "    n02123045_ta…underscores (3)",
    ]
    assert printed(80, "confusion")[1:3] == [
        "0 a-class-with-a-very-long-name-th…-somebody-made-from-a-spreadsheet  5  .  .  3",
        "1 Felis silvestris catus (domestic short-haired cat, grey)            .  6  .  2",
    ]
    assert printed(40, "confusion")[3:5] == [
        "0 a-class-with…a-spreadsheet  5  .  .  3",
        "1 Felis silves…ed cat, grey)  .  6  .  2",
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_paths_of_images_stay_whole_to_be_copied(width: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those with spaces; where there is no room beside them they stand on lines of their own."""
    path = "photos/Felis silvestris catus (domestic short-haired cat, grey)/1.png"
    text = shown(monkeypatch, width, ["predict", "long", path])
    check(text.replace(path, "path"), width)
    assert path in text.splitlines()
    assert text.count("%") == 3


@pytest.mark.parametrize("width", WIDTHS)
def test_a_step_with_a_matrix_is_broken_between_its_rows(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, width, MATRIX)
    for line in text.splitlines():
        inside = line.count("[") - line.count("]")
        assert inside in (-1, 0, 1), f"within a row: {line}"
    if width == 80:
        assert text.splitlines()[-5:-1] == [
            "W <- W - 0.01 * de/dW",
            "  = [[1.2345, -2.3456], [3.25, 4]]",
            "    - 0.01 * [[0.125579, 0.0381209], [-2.7543, -1.6846]]",
            "  = [[1.23324, -2.34598], [3.27754, 4.01685]]",
        ]


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
    def printed(classes: list[str], width: int, count: int = 1000) -> list[str]:
        confusion = np.eye(len(classes), dtype=np.int64) * count
        confusion[0, 1], confusion[2, 0] = 3, 14
        monkeypatch.setenv("COLUMNS", str(width))
        confusion_table(Evaluation(0.5, confusion, classes), "run/evaluation/confusion.csv")
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
        assert lines[-2:] == ["the whole matrix:", "  run/evaluation/confusion.csv"]


def test_lines_are_broken_between_words_only() -> None:
    assert wrapped("a bb ccc dddd", 6) == ["a bb", "  ccc", "  dddd"]
    assert wrapped("/a/long/path/that/is/wide and more", 10) == ["/a/long/path/that/is/wide", "  and more"]
    assert wrapped("a b", None) == ["a b"]
    assert wrapped("x = 1", 4, "  ") == ["  x", "    =", "    1"]
    assert wrapped("日本 日本", 6) == ["日本", "  日本"]


@pytest.mark.parametrize(
    ("line", "width", "lines"),
    [
        (
            "test loss 0.25, accuracy 93.83%; 0:13 of training",
            24,
            ["test loss 0.25,", "  accuracy 93.83%;", "  0:13 of training"],
        ),
        ("3 epochs of 94 steps of 64 images, seed 0", 24, ["3 epochs of 94 steps of", "  64 images, seed 0"]),
        ("stopped after step 5 of 9; all is saved", 20, ["stopped after", "  step 5 of 9; all", "  is saved"]),
        ("an input of 1 x 3 x 32 x 32", 20, ["an input of", "  1 x 3 x 32 x 32"]),
        ("height x width, such as 32x32", 14, ["height", "  x width,", "  such", "  as 32x32"]),
        ("trained on (3, 12, 12): give", 20, ["trained", "  on (3, 12, 12):", "  give"]),
        ("[[1, 2], [3, 4]] - 0.1 * [5, 6]", 18, ["[[1, 2], [3, 4]]", "  - 0.1 * [5, 6]"]),
        ("w = [[1, 2], [3, 4]]", 14, ["w", "  = [[1, 2],", "  [3, 4]]"]),
        ("w = [[1, 2], [3, 4]]", 9, ["w", "  = [[1,", "  2],", "  [3, 4]]"]),
        ("'[1,2' is open: [3, 4]", 16, ["'[1,2' is open:", "  [3, 4]"]),
        ("give `chainrule train` a folder", 20, ["give", "  `chainrule train`", "  a folder"]),
        ("[20], 0 to 19, mean |.| 9.5, 5% zeros", 22, ["[20], 0 to 19,", "  mean |.| 9.5,", "  5% zeros"]),
        ("Batch size. [default: 64]", 20, ["Batch size.", "  [default: 64]"]),
    ],
)
def test_what_belongs_together_stays_together(line: str, width: int, lines: list[str]) -> None:
    assert wrapped(line, width) == lines
    assert wrapped(line, None) == [line]


@given(st.text("ab1[](), x=-*`日", max_size=60), st.integers(1, 40))
def test_wrapping_loses_nothing(line: str, width: int) -> None:
    lines = wrapped(line, width)
    assert " ".join(lines).split() == line.split()
    assert all(display_width(one) <= width or " " not in one.strip() for one in lines)


def test_a_name_is_shortened_in_its_middle() -> None:
    assert shortened_within("n02123045_tabby", 20) == "n02123045_tabby"
    assert shortened_within("n02123045_tabby", 9) == "n021…abby"
    assert shortened_within("short-haired cat (grey)", 10) == "short…rey)"
    assert shortened_within("日本日本日本", 7) == "日本…本"
    for most in range(3, 20):
        assert display_width(shortened_within("日本 tabby 日本 cat 日本", most)) <= most


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
    assert fitted_table(given, 20)[1][:5] == ["cat", "  taken for", "    dog (12),", "    cow (3)", "  training time"]


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
    lines = broken_command("chainrule train --data photos/ --augment flip --out runs/photos", 50)
    assert lines == ["  chainrule train --data photos/ --augment flip \\", "      --out runs/photos"], (
        "an option with its value"
    )


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "subcommand",
    ["train", "lr", "evaluate", "health", "compare", "blame", "predict", "summary", "explain", "lens", "replay", "convert"],
)
def test_examples_below_panels_can_be_copied(subcommand: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, width, [subcommand, "--help"])
    examples = text[text.index(" Examples:\n") :].splitlines()[1:]
    continued = False
    for line in filter(None, examples):
        assert line.startswith("       " if continued else f"   chainrule {subcommand}")
        continued = line.endswith(" \\")
    assert not continued


@pytest.mark.parametrize("width", [80, 40])
@needs("shell", "terminals")
def test_the_words_at_ctrl_c_fit_too(width: int, place: Path, tmp_path: Path) -> None:
    options = ("--data", place / "patterns", "--epochs", 5000, "--out", "run")
    _, sent = on_terminal("train", *options, width=width, keys="\x03", after=r"\d left", cwd=tmp_path)
    text = plain(sent)
    check(text, width)
    assert re.search(r"Stopped after step \d+ of", text)
    assert re.search(r"^Resume with: \S+ -m chainrule train --resume run$", text, re.MULTILINE)
