"""What a message tells people to type is the command as they called it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chainrule.train import command_line
from running import refused
from systems import needs


def called(monkeypatch: pytest.MonkeyPatch, *words: str, program: str = "", path: Path | str = "") -> str:
    """What is suggested where ``words`` began the command; ``program`` is what Python ran."""
    monkeypatch.setattr(sys, "orig_argv", list(words))
    monkeypatch.setattr(sys, "argv", [program or words[0], "train"])
    monkeypatch.setenv("PATH", str(path))
    return command_line("predict", "runs/my digits", "IMAGE...")


def script(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "chainrule"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@needs("file modes")
def test_a_path_stays_as_it_was_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    script(tmp_path / ".venv/bin")
    elsewhere = script(tmp_path / "elsewhere").parent  # another chainrule is on the PATH
    for path in ("", elsewhere):
        line = called(monkeypatch, ".venv/bin/chainrule", path=path)
        assert line == ".venv/bin/chainrule predict 'runs/my digits' IMAGE..."
    assert called(monkeypatch, "./chainrule").startswith("./chainrule predict ")
    assert called(monkeypatch, "./my tools/chainrule").startswith("'./my tools/chainrule' predict ")


@needs("file modes")
def test_what_the_shell_finds_needs_no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = script(tmp_path / "bin")
    line = called(monkeypatch, "chainrule", program=str(found), path=found.parent)
    assert line == "chainrule predict 'runs/my digits' IMAGE..."


def test_the_module_is_called_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    line = called(monkeypatch, ".venv/bin/python", "-W", "error", "-m", "chainrule", program="/x/chainrule/__main__.py")
    assert line == ".venv/bin/python -m chainrule predict 'runs/my digits' IMAGE..."


@pytest.mark.parametrize("program", ["train.py", "chainrule.py", "/x/pytest/__main__.py", "-c", ""])
def test_in_another_program_the_command_has_its_own_name(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert command_line("train") == "chainrule train"


def test_messages_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused("evaluate", tmp_path / "none").endswith("give the folder that `chainrule train` printed")
    options = {"capture_output": True, "text": True, "env": {**os.environ, "COLUMNS": "1000"}}
    ended = subprocess.run([sys.executable, "-m", "chainrule", "evaluate", "none"], cwd=tmp_path, **options)
    assert ended.stderr.endswith(f"give the folder that `{sys.executable} -m chainrule train` printed\n")
