"""What the README shows must be so."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import chainrule as cr
from running import done
from systems import needs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_first_program_is_short_and_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(program.strip().splitlines()) <= 24
    (tmp_path / "first.py").write_text(program)
    ran = subprocess.run([sys.executable, "-W", "error", "first.py"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("step 0: loss 2.")
    assert "conv2d(" in ran.stdout


def test_the_lines_on_weights_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = re.findall(r"```py\n(.*?)```", README, re.S)
    monkeypatch.chdir(tmp_path)
    cr.models.resnet20(num_classes=1000).save("resnet18.safetensors")  # which is smaller
    model = cr.models.resnet20()
    names = {"cr": cr, "model": model, "optimizer": cr.optim.SGD(model.parameters(), lr=0.1)}
    exec(program, names)
    assert names["loaded"].missing == ("fc.weight", "fc.bias")
    assert names["state"]["epoch"] == 3
    assert Path("mine.safetensors").exists()


def test_the_explained_example_is_what_the_command_prints() -> None:
    (shown,) = re.findall(r"```\n(node .*?)```", README, re.S)
    (typed,) = re.findall(r"^    \.venv/bin/(chainrule explain .*)", README, re.M)
    assert shlex.split(typed) == [
        *("chainrule", "explain", "(w @ x - y)**2", "w=[1,2]", "x=[3,4]", "y=5", "--step", "0.1"),
    ]
    narrow = {**os.environ, "COLUMNS": "80"}
    line = [sys.executable, "-m", *shlex.split(typed)]
    assert subprocess.run(line, capture_output=True, text=True, env=narrow).stdout == shown


def test_what_is_shown_of_the_commands_output_fits_80_columns() -> None:
    shown = re.findall(r"^```\n(.*?)^```", re.sub(r"^```\w.*?^```", "", README, flags=re.S | re.M), re.S | re.M)
    assert len(shown) == 1, "a block without a language is output, which the test above compares"
    assert max(len(line) for block in shown for line in block.splitlines()) <= 80


def brackets_outside_quotes(line: str) -> str:
    """What is left of a shell's line without its quoted parts and comment, if there is a bracket in it."""
    bare = re.sub(r"\s#.*", "", re.sub(r"\"[^\"]*\"|'[^']*'", "", line))
    return bare if "[" in bare or "]" in bare else ""


def test_brackets_in_commands_are_quoted() -> None:
    """An unquoted w=[1,2] is a pattern to zsh, and no file matches it."""
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
    sources = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    names = [
        "",
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
    ]
    for name in names:
        texts[f"help of {name}"] = done(*([name] if name else []), "--help")
    found = [
        f"{place}: {line}"
        for place, text in texts.items()
        for line in text.splitlines()
        if re.search(r"\b(chainrule|pip|pytest)\b.*[\[\]]", line) and not line.strip().startswith("Usage:")
        if re.match(r"\s*(python|\.venv|chainrule|bash)", line) and brackets_outside_quotes(line)
    ]
    assert found == []
    hints = re.findall(r"(?<![\w'\"([ ])\b\w=\[\d", sources) + re.findall(r"such as \w=\[", sources)
    assert hints == [], "hints of errors"
    assert brackets_outside_quotes('chainrule explain "a[0]" a=[1,2]')


def test_the_picture_is_what_the_command_draws(tmp_path: Path) -> None:
    picture = tmp_path / "explain.svg"
    command = ["explain", "(w @ x - y)**2", "w=[1,2]", "x=[3,4]", "y=5", "--svg", str(picture)]
    subprocess.run([sys.executable, "-m", "chainrule", *command], check=True, capture_output=True)
    assert picture.read_text() == (ROOT / "docs/pictures/explain.svg").read_text()


def test_the_files_it_points_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@needs("shell", "file modes")
def test_ci_checks_style_and_types_and_then_runs_exactly_the_test_command(tmp_path: Path) -> None:
    block = README.split("<!-- test command -->")[1].split("<!-- end -->")[0]
    lines = [line[4:] for line in block.splitlines() if line.startswith("    ")]
    assert len(lines) == 1
    assert lines[0].endswith(".venv/bin/python -m pytest")
    (tmp_path / ".ci").mkdir()
    for name in ("README.md", ".ci/run"):
        shutil.copy(ROOT / name, tmp_path / name)
    log, stubs = tmp_path / "log", tmp_path / "stubs"
    stubs.mkdir()
    tool = f'#!/bin/sh\necho "$0 $*" >> "{log}"\n'
    makes_environment = f'mkdir -p "$3/bin"; for one in pip python ruff mypy; do cp "{stubs}/tool" "$3/bin/$one"; done\n'
    for name, script in (("tool", tool), ("python3", tool + makes_environment)):
        (stubs / name).write_text(script)
        (stubs / name).chmod(0o755)
    search = f"{stubs}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", tmp_path / ".ci/run"], check=True, capture_output=True, env={**os.environ, "PATH": search})
    ran = [line.replace(f"{stubs}/", "").strip() for line in log.read_text().splitlines()]
    assert ran[:7] == [
        "python3 -m venv .ci/venv",
        ".ci/venv/bin/pip install --quiet --editable .[dev]",
        ".ci/venv/bin/ruff format --check",
        ".ci/venv/bin/ruff check",
        *(f".ci/venv/bin/mypy --platform {platform}" for platform in ("linux", "darwin", "win32")),
    ]
    assert ran[7:] == lines[0].replace('"', "").split(" && ")


def test_a_warning_is_an_error_here() -> None:
    with pytest.raises(UserWarning, match=r"^a warning$"):
        warnings.warn("a warning", stacklevel=1)
