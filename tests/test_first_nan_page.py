"""The page on the first nan: what it shows is what is printed."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from unittest import mock

import pytest

from running import command

PAGE = (Path(__file__).parents[1] / "docs" / "first-nan.md").read_text(encoding="utf-8")
OUTPUTS = re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S)


def without_numbers(text: str) -> str:
    """The words: where weights diverge, a last bit that another processor rounds otherwise changes numbers, and their width."""
    return " ".join(re.sub(r"-{2,}|[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", text).split()).replace("# ", "")


def test_the_training_prints_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (typed,) = re.findall(r"^    chainrule (train .*)", PAGE, re.M)
    with mock.patch.dict("running.WIDE", {"COLUMNS": "80"}):
        ended = command(*typed.split())
        again = command("replay", "runs/nan/capsule.safetensors")
    report = ended.out[ended.out.index("The first cause") :]
    assert without_numbers(f"{report}{ended.err}") == without_numbers(OUTPUTS[0])
    assert report in again.out


def test_the_loop_prints_what_the_page_shows() -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "loop.py", "exec"), {"__name__": "loop"})
    assert printed.getvalue() == OUTPUTS[1]
