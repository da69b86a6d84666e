"""Every option of every command, every environment variable, with values that nobody meant: one message, never a traceback."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer.main

import chainrule as cr
from chainrule import ops
from chainrule.cli import commands
from chainrule.cli.app import app
from chainrule.cli.training_options import OPTIONS
from chainrule.cli.watching import ConsoleWatcher
from chainrule.cpu.codegen.cores import available_cores
from chainrule.cpu.runtime.memory import aligned_memory
from chainrule.errors import UserError
from chainrule.lens.server.serving import LensServer
from chainrule.tensor import engines
from chainrule.train import Config
from recordings import Recording
from running import COMMAND, ENVIRONMENT, command, done, idx_folder, image_folder, refused
from systems import needs

DIGITS = "9" * 5000  # of which Python makes no number
HUGE = "9" * 30


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a folder of images, a run and a file."""
    folder = tmp_path_factory.mktemp("odd")
    idx_folder(folder / "patterns")
    image_folder(folder / "photos")
    done("train", "--data", folder / "patterns", "--model", "mlp", "--epochs", 1, "--out", folder / "run")
    Recording().write(folder / "run" / "health.bin")
    (folder / "file").write_text("text")
    worst = ("--model", "mlp", "--epochs", 2, "--batch-size", 8, "--lr", 1e30, "--out", folder / "bad")
    assert "Look at it again with: " in command("train", "--data", folder / "patterns", *worst).err
    return folder


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a relative path does no harm; and a training that begins is long enough after its first step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ConsoleWatcher, "should_stop", lambda self: True)
    monkeypatch.setattr("chainrule.cli.commands.train.tell", lambda message: None)
    monkeypatch.setattr("chainrule.lens.server.serving.LensServer.run", LensServer.stop)  # which would serve for ever


def odd_values(place: Path) -> list[str]:
    """Values that no option of most kinds takes."""
    numbers = ["nan", "inf", "-inf", "-1", "0", "-0", "1e999", "1.5", "0x10", "1_000", "²", "٣", HUGE, DIGITS]
    texts = ["", " ", "\0", "a\0b", "\udcff", "\x1b[31m", "\n", "💥" * 50, "x" * 300, "%s", "{}", "[bold]", "true", "None"]
    marks = ["--", "-", ",", "=", "a=b=c", "~", "$HOME"]
    sizes = ["1x1", "1x0x0", f"1x{HUGE}", f"{DIGITS}x1", f"1x1x{DIGITS}", f"{HUGE}x1x1"]
    lists = [f"crop={HUGE}", f"crop={DIGITS}", f"shift={HUGE}", "w=" + DIGITS, "w=1e999", "w=" + "[" * 500 + "]" * 500]
    # not "/": folders are looked through, and how much lies in all of a system is nobody's to say
    paths = [place / "photos", place / "file", place / "file" / "below", "/dev/null", ".", ".."]
    return [*numbers, *texts, *marks, *sizes, *lists, *map(str, paths)]


PICKLED = Path(__file__).parent / "expected" / "torch_files" / "views.pth"
COMMANDS = (
    "train",
    "lr",
    "evaluate",
    "health",
    "compare",
    "blame",
    "predict",
    "models",
    "summary",
    "explain",
    "lens",
    "replay",
    "convert",
)


def usual(place: Path) -> dict[str, dict[str, str]]:
    """For each command its options and arguments, by name."""
    return {
        "train": {"--data": str(place / "patterns"), "--model": "mlp", "--epochs": "1", "--out": "new"},
        "lr": {"run": str(place / "run"), "--steps": "30", "--out": "sweep"},
        "evaluate": {"run": str(place / "run")},
        "health": {"run": str(place / "run"), "--out": "looked"},
        "compare": {"runs": str(place / "run"), "--out": "compared"},
        "blame": {"run": str(place / "run")},
        "predict": {"run": str(place / "run"), "images": str(place / "photos/cat/0.png")},
        "models": {},
        "summary": {},
        "replay": {"capsule": str(place / "bad" / "capsule.safetensors")},
        "explain": {"expression": "w * 2", "values": "w=1"},
        "lens": {"run": str(place / "run"), "--port": "0"},
        "convert": {"file": str(PICKLED), "out": "converted.safetensors"},
    }


def lines_with(name: str, place: Path, value: str) -> Iterator[list[str]]:
    """A command line for every parameter of a command, with ``value`` for it."""
    group: Any = typer.main.get_command(app)
    assert set(group.commands) == set(COMMANDS)
    for parameter in group.commands[name].params:
        if getattr(parameter, "is_flag", False) or (name == "lr" and parameter.name in OPTIONS):  # those of train
            continue
        called = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name
        given = {called: value} if called == "--resume" else {**usual(place)[name], called: value}
        options = [f"{key}={one}" for key, one in given.items() if key.startswith("-")]
        yield [name, *options, *(one for key, one in given.items() if not key.startswith("-"))]


@pytest.mark.parametrize("name", COMMANDS)
def test_odd_values_for_every_parameter_of_a_command(name: str, place: Path) -> None:
    """Refused with a message, or taken for what they are; a training stops after a step as if nobody read on: 141."""
    for value in odd_values(place):
        for line in lines_with(name, place, value):
            ended = command(*line)  # what is not caught reaches the test
            shown = [one[:60] for one in line]
            assert ended.status in (0, 1, 2, 128 + 13), (shown, ended)
            assert "Traceback" not in ended.out + ended.err, (shown, ended)
            assert "bug in chainrule" not in ended.err, (shown, ended)
            assert "\x1b" not in ended.err, (shown, ended)
            assert ended.status != 2 or ended.err, shown


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            ["summary", "--input", f"1x{DIGITS}x1"],
            f"--input must be channels x height x width, for example 3x32x32, got '1x{DIGITS}x1'",
        ),
        (["train", "--image-size", f"{DIGITS}x1"], f"image size must be height x width, for example 32x32, got '{DIGITS}x1'"),
        (["train", "--augment", f"crop={DIGITS}"], f"augmentation 'crop={DIGITS}': the number of pixels must be whole, for "),
        (
            ["train", "--weight-decay", "1e300"],
            "weight decay must be a finite number of at least 0 and at most 3.4e+38, as it is a float32, got 1e+300",
        ),
        (
            ["train", "--lr", "1e300"],
            "learning rate must be a finite number above 0 and at most 3.4e+38, as it is a float32, got 1e+300",
        ),
        (["train", "--seed", HUGE], f"seed must be from 0 to 2^63 - 1, got {HUGE}"),
        (["explain", "w * 2", "w=1", "--svg", "."], ". is a folder: give the name of a file"),
        (["explain", "w * 2", "w=1", "--svg", ""], ". is a folder: give the name of a file"),
        (
            ["explain", "w * 2", "w=1", "--svg", "none/graph.svg"],
            "none/graph.svg cannot be written (No such file or directory): mend that, or choose another place",
        ),
        (
            ["explain", "w * 2", "w=1", "--svg", "/dev/null/graph.svg"],
            "/dev/null/graph.svg cannot be written (Not a directory): mend that, or choose another place",
        ),
        pytest.param(
            ["explain", "w * 2", "w=1", "--svg", "/dev/full"],
            "no space left to write /dev/full: free some space or choose another folder; what was there before is untouched",
            marks=needs("full device"),
        ),
        (["explain", "w * 2", "w=1", "--step", "inf"], "step: the learning rate must be a finite number, got inf"),
        (
            ["summary", "mlp", "--classes", HUGE],
            f"model mlp cannot be built for images of 1 x 28 x 28: Parameter: float32[{HUGE}, 256] is too large: ",
        ),
    ],
)
def test_odd_values_are_named(line: list[str], message: str, tmp_path: Path) -> None:
    assert " ".join(refused(*line).split()).startswith(message)
    assert list(tmp_path.iterdir()) == []


def numbers_of_commands(kind: type) -> set[tuple[str, str]]:
    """Command and option of every number of a type that is typed."""
    return {
        (name, "--" + option.replace("_", "-"))
        for name in COMMANDS
        if name != "lr"  # whose own numbers are in test_lr_finder, and the others those of train
        for option, hint in get_type_hints(getattr(getattr(commands, name), name)).items()
        if hint in (kind, kind | None)
    }


def line_with(name: str, option: str, value: str, place: Path) -> list[str]:
    """A command line with ``value`` for one of its options."""
    given = {**usual(place)[name], option: value}
    if (name, option) == ("health", "--step"):
        del given["--out"]  # of a picture, which a step has not
    return [name, *(f"{key}={one}" if key.startswith("-") else one for key, one in given.items())]


BILLION = "must be at most 1,000,000,000, got "
INTEGERS = {
    ("train", "--epochs"): ("epochs", 1),
    ("train", "--batch-size"): ("batch size", 1),
    ("train", "--accumulate"): ("accumulate", 1),
    ("train", "--patience"): ("patience", 0),
    ("train", "--seed"): ("seed", 0),
    ("train", "--limit"): ("limit", 0),
    ("train", "--workers"): ("workers", 0),
    ("train", "--checkpoint-every"): ("checkpoint-every", 0),
    ("blame", "--count"): ("count", 1),
    ("health", "--step"): ("step", 1),
    ("predict", "--top"): ("top", 1),
    ("summary", "--classes"): ("classes", 2),
    ("lens", "--port"): ("port", 0),
}
"""What messages call each whole number that is typed, and the least of it."""

FLOATS = {
    ("train", "--lr"): "learning rate must be a finite number above 0, got {}",
    ("train", "--momentum"): "momentum must be at least 0 and under 1, got {}",
    ("train", "--weight-decay"): "weight decay must be a finite number of at least 0, got {}",
    ("train", "--label-smoothing"): "label smoothing must be from 0 to 1, got {}",
    ("train", "--clip-norm"): "clip-norm must be a finite number of at least 0, got {}",
    ("train", "--clip-value"): "clip-value must be a finite number of at least 0, got {}",
    ("train", "--warm-up"): "warm-up must be a whole number of steps, or, below 1, their share of all steps, got {}",
    ("train", "--ema"): "ema must be at least 0 and under 1, got {}",
    ("train", "--mixup"): "mixup must be a finite number of at least 0, got {}",
    ("train", "--cutmix"): "cutmix must be a finite number of at least 0, got {}",
    ("explain", "--step"): "step: the learning rate must be a finite number, got {}",
}


def test_every_number_that_is_typed_is_here() -> None:
    assert numbers_of_commands(int) == set(INTEGERS)
    assert numbers_of_commands(float) == set(FLOATS)


@pytest.mark.parametrize(("name", "option"), INTEGERS)
def test_whole_numbers_that_make_no_sense(name: str, option: str, place: Path, tmp_path: Path) -> None:
    what, least = INTEGERS[name, option]
    for value in ("99999999999999999999", HUGE, "1000000001"):
        if (option, value) in (("--seed", "1000000001"), ("--classes", "1000000001")):
            continue
        message = refused(*line_with(name, option, value, place))
        if option == "--seed":
            assert message == f"seed must be from 0 to 2^63 - 1, got {value}"
        elif option == "--port":
            assert message == f"port must be at most 65,535, got {value}"
        elif option == "--classes":
            assert message.startswith("model lenet cannot be built for images of 1 x 28 x 28: Parameter: float32[")
        else:
            assert message == f"{what} {BILLION}{value}"
    for value in ("-1", str(least - 1), "-99999999999999999999"):
        ended = command(*line_with(name, option, value, place))
        said = " ".join(ended.err.replace("│", " ").split())
        assert ended.status == 2
        assert (
            said == f"error: {what} must be a whole number of at least {least}, got {value}"
            or f"Invalid value for '{option}': " in said
        )
    for value in ("1.5", "nan", "inf", "1e3", "x", "", DIGITS):
        ended = command(*line_with(name, option, value, place))
        assert ended.status == 2
        assert f"Invalid value for '{option}': " in " ".join(ended.err.split()), ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "option"), FLOATS)
def test_numbers_that_make_no_sense(name: str, option: str, place: Path, tmp_path: Path) -> None:
    for value, shown in (
        ("nan", "nan"),
        ("inf", "inf"),
        ("-inf", "-inf"),
        ("1e400", "inf"),
        ("-1e400", "-inf"),
        ("-1", "-1.0"),
    ):
        if (option, value) == ("--step", "-1"):  # which goes up the hill
            assert "w <- w - (-1) * de/dw = 1 - (-1) * 2 = 3" in done(*line_with(name, option, value, place))
        else:
            assert refused(*line_with(name, option, value, place)) == FLOATS[name, option].format(shown)
    ended = command(*line_with(name, option, "x", place))
    assert (ended.status, f"Invalid value for '{option}': " in " ".join(ended.err.split())) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_a_program_that_are_longer_than_python_writes() -> None:
    for value, told in ((10**400, repr(10**400)), (10**5000, "a whole number of about 5,000 digits")):
        for options, words in (
            ({"epochs": value}, f"epochs {BILLION}{told}"),
            ({"epochs": -value}, f"epochs must be a whole number of at least 1, got {told if value > 10**999 else -value}"),
            ({"lr": value}, f"learning rate must be a number that a float holds, at most 1.8e+308 in size, got {told}"),
        ):
            with pytest.raises(UserError) as error:
                Config(**options)
            assert str(error.value) == words


@pytest.mark.parametrize("name", ["crop", "shift"])
def test_an_augmentation_beyond_the_image(name: str, place: Path, tmp_path: Path) -> None:
    line = ["train", "--data", place / "patterns", "--out", "run", "--augment", f"flip,{name}=13"]
    assert refused(*line) == (
        f"augmentation '{name}=13' moves images of 12 x 12 pixels beyond their own size: give at most 12, for example {name}=2"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("amount", [12, 13])
def test_a_border_that_mirrors_more_than_there_is(amount: int, place: Path, tmp_path: Path) -> None:
    assert refused("train", "--data", place / "patterns", "--out", "run", "--augment", f"mirror={amount}") == (
        f"augmentation 'mirror={amount}': images of 12 x 12 pixels can be mirrored by at most 11 pixels beyond their border, "
        "for example mirror=2"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_first_word_that_is_too_long_for_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("running.WIDE", {"COLUMNS": "80"})
    ended = command("explain", "w * 2", "w=1", "--svg", f"{'x' * 100}/y")
    assert ended.err.splitlines() == [
        "error: ",
        f"{'x' * 100}/y",
        "cannot be written (No such file or directory): mend that, or choose another",
        "place",
    ]


# ---- sizes without bounds


def test_a_summary_takes_no_memory_whatever_the_size() -> None:
    begin = time.monotonic()
    assert "15,360,000,134,410 parameters, " in done("summary", "mlp", "--input", "3x100000x100000")
    assert "1,199,808,021,686 parameters, " in done("summary", "lenet", "--input", "3x100000x100000")
    assert time.monotonic() - begin < 10


def test_memory_that_there_is_not_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(text: str) -> Any:
        raise MemoryError("Unable to allocate 1. TiB")

    monkeypatch.setattr("chainrule.cli.commands.summary._image_shape", too_much)
    assert (
        refused("summary", "--input", "1x1x1")
        == "there is not enough memory (Unable to allocate 1. TiB): smaller sizes would need less"
    )


# ---- environment variables


VARIABLES = {
    "CHAINRULE_CACHE",
    "CHAINRULE_ENGINE",
    "CHAINRULE_SHOW",
    "CHAINRULE_TARGET",
    "CHAINRULE_THREADS",
    "COLUMNS",
    "DISPLAY",  # that and WAYLAND_DISPLAY say that there is a screen, whatever their value is
    "HOME",
    "LOCALAPPDATA",
    "TERM",
    "WAYLAND_DISPLAY",
    "XDG_CACHE_HOME",
}


def test_every_variable_that_is_read_is_here() -> None:
    """A new one gets its cases below."""
    package = Path(cr.__file__).parent
    text = "\n".join(path.read_text() for path in package.rglob("*.py"))
    read = set(re.findall(r"(?:environ(?:\.get|\.setdefault|\.pop)?[(\[]|getenv\(|\bin os\.environ.*?)[\"'](\w+)[\"']", text))
    constants = set(re.findall(r"environ(?:\.get)?[(\[]([A-Z_]+)", text))
    read |= {value for name in constants for value in re.findall(rf"^{name} = \"(\w+)\"", text, re.MULTILINE)}
    assert read == VARIABLES


THREADS = "the environment variable CHAINRULE_THREADS must be"
MOST = f"at most {max(256, 4 * available_cores())}"
CORES = "1 core" if available_cores() == 1 else f"{available_cores()} cores"
KNOWN_PASSES = "Known: all, fuse, layout, "


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        *[
            ("THREADS", value, f"{THREADS} a whole number of 1 or more, got {value!r}")
            for value in ("0", "-1", "two", "1.5", "٣")
        ],
        *[
            (
                "THREADS",
                value,
                f"{THREADS} {MOST}, got {value}: this process may use {CORES}, and one thread for each is fastest",
            )
            for value in ("100000", "99999999999999999999", HUGE)
        ],
        ("THREADS", DIGITS, f"{THREADS} {MOST}, got {'9' * 29}…: this process may use "),
        ("TARGET", "avx3", "unknown target (CHAINRULE_TARGET) 'avx3': "),
        ("TARGET", "\x1b[31m", "unknown target (CHAINRULE_TARGET) '\\x1b[31m': Known: avx2, avx512, neon, sse2"),
        ("SHOW", "fues", "unknown pass (CHAINRULE_SHOW) 'fues': did you mean 'fuse'? Known: "),
    ],
)
def test_variables_that_mean_nothing(
    variable: str, value: str, message: str, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Said before anything is read or made; what needs no native code does not mind."""
    monkeypatch.setenv(f"CHAINRULE_{variable}", value)
    cr.set_threads(None)
    try:
        assert refused("evaluate", place / "run").startswith(message)
        assert refused("predict", place / "run", place / "photos/cat/0.png").startswith(message)
        assert refused("train", "--data", place / "patterns", "--out", tmp_path / "run").startswith(message)
        done("summary")
        with cr.engine("reference"):
            done("evaluate", place / "run")
    finally:
        monkeypatch.undo()
        cr.set_threads(None)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("line", [["summary"], ["train"], ["explain", "w * 2", "w=1"]])
def test_an_engine_that_there_is_not(line: list[str]) -> None:
    """In a process of its own, as it is read when the package is imported."""
    environment = {**ENVIRONMENT, "CHAINRULE_ENGINE": "bogus"}
    ended = subprocess.run([*COMMAND, *line], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        2,
        "",
        "error: the environment variable CHAINRULE_ENGINE is 'bogus': set it to one of native, reference\n",
    )


def test_an_engine_that_there_is_not_in_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing that is computed says so; choosing one helps."""
    code = (
        "import chainrule as cr\n"
        "for attempt in (lambda: cr.tensor([1.0]) * 2, lambda: cr.compile(lambda x: x * 2)(cr.tensor([1.0]))):\n"
        "    try: attempt()\n"
        "    except cr.UserError as error: print(error)\n"
        "cr.engine('native')\n"
        "print((cr.tensor([1.0]) * 2).item())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**ENVIRONMENT, "CHAINRULE_ENGINE": "bogus"},
        capture_output=True,
        text=True,
        check=False,
    )
    message = "the environment variable CHAINRULE_ENGINE is 'bogus': set it to one of native, reference\n"
    assert (ran.stdout, ran.stderr) == (2 * message + "2.0\n", "")
    before = ops.default_engine()
    try:
        for value, chosen in (("", engines.native), (" Reference ", ops.run_reference), ("native", engines.native)):
            monkeypatch.setenv("CHAINRULE_ENGINE", value)
            engines._from_environment()
            assert ops.default_engine() is chosen
    finally:
        ops.set_default_engine(before)


@pytest.mark.parametrize("count", [100_000, 10**20, int("9" * 400)])
def test_more_threads_than_make_sense_are_refused_at_once(count: int) -> None:
    before, begin = cr.thread_count(), time.monotonic()
    with pytest.raises(
        UserError, match=f"^set_threads: the number of threads must be {MOST}, got 9*1?0*…?: this process may use "
    ):
        cr.set_threads(count)
    assert cr.thread_count() == before
    assert time.monotonic() - begin < 1


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "5", HUGE, DIGITS])
@pytest.mark.parametrize("variable", ["COLUMNS", "LINES", "TERMINAL_WIDTH"])
def test_sizes_of_terminals_that_are_none(variable: str, value: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("running.WIDE", {variable: value})
    for line in (["--help"], ["train", "--help"], ["summary"], ["evaluate", place / "run"]):
        assert done(*line)
    assert command("evaluate", "none").status == 2


PLACES: dict[str, str] = {
    "": "",
    "relative": "relative",
    ".": ".",
    "a/../b": "b",
    "a\nb": "a\nb",
    "\udcff": "\udcff",
    "\x1b[31m": "\x1b[31m",
    "~": "home",
    "~/below": "home/below",
    "/dev/null": "",
    "/proc/cache": "",
    DIGITS: "",
}
"""Values for the folder of compiled code, and where it lies then; "": nowhere."""


def evaluated(run: Path, folder: Path, **variables: str) -> str:
    """What an evaluation in ``folder`` writes to standard error."""
    (folder / "home").mkdir(mode=0o700)
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in ("CHAINRULE_CACHE", "XDG_CACHE_HOME")}
    ended = subprocess.run(
        [sys.executable, "-m", "chainrule", "evaluate", str(run)],
        env={**environment, "HOME": str(folder / "home"), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    return ended.stderr


@pytest.mark.parametrize("value", PLACES)
def test_places_of_the_code_cache(value: str, place: Path, tmp_path: Path) -> None:
    """One that cannot be is a warning, and all works. Nothing is made anywhere else."""
    said = evaluated(place / "run", tmp_path, CHAINRULE_CACHE=value)
    kept = {path.parent for path in tmp_path.rglob("*.o")}
    assert kept == ({tmp_path / PLACES[value]} if PLACES[value] else set())
    if PLACES[value] or not value:
        assert said == ""
    else:
        words = " ".join(said.split())  # a path of 5,000 characters breaks the line
        assert words.startswith(f"warning: compiled code cannot be kept in {tmp_path / value} (")
        assert words.endswith("): every start compiles anew. Set CHAINRULE_CACHE to another folder, or to nothing to keep none")
        assert words.count("warning") == 1


@pytest.mark.parametrize(
    ("variables", "at_fault", "folder"),
    [
        ({}, "", "home/.cache/chainrule"),
        ({"XDG_CACHE_HOME": ""}, "", "home/.cache/chainrule"),
        ({"XDG_CACHE_HOME": "rel"}, "XDG_CACHE_HOME is 'rel'", ""),
        ({"HOME": "rel"}, "HOME is 'rel'", ""),
        ({"HOME": ""}, "HOME is ''", ""),
        ({"HOME": "a\nb\x1b[31m"}, "HOME is 'a\\nb\\x1b[31m'", ""),
        ({"HOME": "rel", "CHAINRULE_CACHE": "~/kept"}, "HOME is 'rel'", ""),
        ({"HOME": "rel", "CHAINRULE_CACHE": "kept"}, "", "kept"),
        ({"HOME": "rel", "CHAINRULE_CACHE": ""}, "", ""),
    ],
)
def test_homes_that_are_none(variables: dict[str, str], at_fault: str, folder: str, place: Path, tmp_path: Path) -> None:
    """A relative one would be another folder wherever the command is started: nothing is made there."""
    said = evaluated(place / "run", tmp_path, **variables)
    assert {path.parent for path in tmp_path.rglob("*.o")} == ({tmp_path / folder} if folder else set())
    made = {folder.partition("/")[0]} if folder else set()
    assert {path.name for path in tmp_path.iterdir()} == {"home", *made}
    variable = at_fault.partition(" ")[0]
    assert said == (
        at_fault
        and f"warning: compiled code is not kept, as the environment variable {at_fault}, no absolute path: "
        f"every start compiles anew. Set {variable} to one, or CHAINRULE_CACHE to a folder, or to nothing to keep none\n"
    )


def test_memory_of_programs_that_there_is_not() -> None:
    """As NumPy says it, whatever the system calls it."""
    for nbytes in (1 << 60, 1 << 80):
        with pytest.raises(MemoryError, match=r"^Unable to allocate [\d,]+\.\d GB$"):
            aligned_memory(nbytes)
    with pytest.raises(MemoryError):
        cr.zeros((1 << 28, 1 << 28))
