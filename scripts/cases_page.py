"""Run what `docs/cases.md` shows, and put the outputs into it: `python scripts/cases_page.py`, from the repository root.

The page itself says what is run. In each section, from top to bottom, in an empty folder of its own:

    ```python        a program, which goes on with the names of those above it; or, if its first line is a comment such as
                     `# net.py`, a file, which is written and not run
    ```sh            commands, one a line; of `chainrule` alone
    <!-- shown: first line ... last line | another line -->
    ```text          what was printed since the last such block, and of that the lines named above

A line is named by some of its words; dots in between stand for all lines from the first that has these words to the next that
has the others. What is left out is shown as a line of three dots. `numbers differ` in place of `shown` says the same where
another processor, which rounds otherwise, may give other numbers; the test of the page then compares the words alone.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from chainrule import cli

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cases.md"
WIDTH = 80
GAP = "..."

_RUN = r"^```(?P<language>python|sh)\n(?P<code>.*?)^```$"
_SHOWN = r"^<!-- (?P<kind>shown|numbers differ): (?P<lines>.*?) -->\n```text\n(?P<old>.*?)^```$"
_BLOCK = re.compile(f"{_RUN}|{_SHOWN}", re.M | re.S)
_PASSING = re.compile(r"^(step \d+/|(reading|measuring|testing|learning rate) .*: [\d,]+ of [\d,]+ \w+$)")
"""Lines that come and go with the speed of the machine: how far something is."""


class Shown(NamedTuple):
    """An output of the page: what stands there, what of it is printed now, and all; whether numbers are the same anywhere."""

    old: str
    new: str
    whole: str
    same_numbers: bool


def sections(page: str) -> dict[str, str]:
    """The sections of the page, with their headings, by what the headings say; what stands in front of them is ''."""
    parts = re.split(r"^(?=## )", page, flags=re.M)
    return {"": parts[0]} | {part.split("\n", 1)[0].removeprefix("## "): part for part in parts[1:]}


def outputs(section: str, folder: Path) -> Iterator[Shown]:
    """Run a section in ``folder``, which is empty, and give its outputs in order."""
    printed, names = "", {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for block in _BLOCK.finditer(section):
            if block["kind"]:
                new = cut(printed, block["lines"])
                yield Shown(block["old"], new, printed, block["kind"] == "shown")
                printed = ""
            elif block["language"] == "sh":
                for line in block["code"].splitlines():
                    printed += typed(line)
            elif file := re.match(r"# (\w+\.py)\n", block["code"]):
                Path(file[1]).write_text(block["code"], encoding="utf-8")
            else:
                printed += run(block["code"], names)


def typed(line: str) -> str:
    """What a command prints on a terminal that is 80 columns wide, both streams together."""
    program, *arguments = line.split()
    if program != "chainrule":
        raise ValueError(f"a command of the page must be chainrule, got {line!r}")
    surroundings = {"COLUMNS": str(WIDTH), "LINES": "100"}
    with (
        mock.patch.object(sys, "argv", ["chainrule", *arguments]),
        mock.patch.dict(os.environ, surroundings),
        _captured() as text,
    ):
        try:
            cli.main()
        except SystemExit as ended:
            if ended.code not in (0, 2, None):
                raise RuntimeError(f"{line!r} ended with status {ended.code}:\n{text.getvalue()}") from ended
    return "".join(one for one in text.getvalue().splitlines(keepends=True) if not _PASSING.match(one))


def run(code: str, names: dict[str, Any]) -> str:
    """What a program prints, which goes on with the ``names`` of those before it."""
    with _captured() as text:
        exec(compile(code, "program.py", "exec"), names)
    return text.getvalue()


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        yield text


def cut(printed: str, named: str) -> str:
    """The lines of ``printed`` that are ``named``, with a gap for each that is left out in between."""
    lines = printed.splitlines()
    kept: list[str] = []
    place = 0
    for part in named.split(" | "):
        first, _, last = part.partition(" ... ")
        begin = _find(lines, first, place)
        end = _find(lines, last, begin) if last else begin
        if any(line.strip() for line in lines[place:begin]):
            kept.append(GAP)
        kept += lines[begin : end + 1]
        place = end + 1
    if any(line.strip() for line in lines[place:]):
        kept.append(GAP)
    return "".join(f"{line}\n" for line in kept)


def _find(lines: Sequence[str], words: str, start: int) -> int:
    for place in range(start, len(lines)):
        if words in lines[place]:
            return place
    raise LookupError(f"no line has {words!r} from line {start + 1} on in:\n" + "\n".join(lines))


def page_with_outputs(page: str) -> str:
    """The page with what is printed now."""
    made = []
    for section in sections(page).values():
        with tempfile.TemporaryDirectory() as folder:
            new = iter([shown.new for shown in outputs(section, Path(folder))])
        made.append(_BLOCK.sub(lambda block, new=new: _filled(block, new), section))
    return "".join(made)


def _filled(block: re.Match[str], new: Iterator[str]) -> str:
    return f"<!-- {block['kind']}: {block['lines']} -->\n```text\n{next(new)}```" if block["kind"] else block[0]


if __name__ == "__main__":
    PAGE.write_text(page_with_outputs(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(PAGE.read_text(encoding='utf-8').splitlines())} lines")
