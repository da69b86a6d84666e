"""What the README shows must be so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_first_program_has_fifteen_lines_and_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(program.strip().splitlines()) == 15
    (tmp_path / "first.py").write_text(program)
    ran = subprocess.run([sys.executable, "-W", "error", "first.py"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("step 0: loss 2.")
    assert "conv2d(" in ran.stdout


def test_the_explained_example_is_what_the_command_prints() -> None:
    (shown,) = re.findall(r"```\n(node .*?)```", README, re.S)
    command = ["explain", "(w @ x - y)**2", "w=[1,2]", "x=[3,4]", "y=5", "--step", "0.1"]
    ran = subprocess.run([sys.executable, "-m", "chainrule", *command], capture_output=True, text=True)
    assert ran.stdout == shown


def test_the_picture_is_what_the_command_draws(tmp_path: Path) -> None:
    picture = tmp_path / "explain.svg"
    command = ["explain", "(w @ x - y)**2", "w=[1,2]", "x=[3,4]", "y=5", "--svg", str(picture)]
    subprocess.run([sys.executable, "-m", "chainrule", *command], check=True, capture_output=True)
    assert picture.read_text() == (ROOT / "docs/pictures/explain.svg").read_text()


def test_the_files_it_points_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_ci_runs_exactly_the_test_command() -> None:
    block = README.split("<!-- test command -->")[1].split("<!-- end -->")[0]
    lines = [line[4:] for line in block.splitlines() if line.startswith("    ")]
    assert len(lines) == 1
    assert lines[0].endswith(".venv/bin/python -m pytest")
    assert "<!-- test command -->" in (ROOT / ".ci/run").read_text()
