"""docs/lint.md: it has every finding, and each example gives it, and the one without the fault gives nothing."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import chainrule
from chainrule.train import Findings
from chainrule.train.diagnosis.findings import AFTER, AT_THE_END, BEFORE, NAMES

ROOT = Path(chainrule.__file__).parents[2]
PAGE = (ROOT / "docs" / "lint.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def run(code: str, names: dict[str, Any]) -> Any:
    """The value of the last expression of ``code``."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "page.py", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "page.py", "eval"), names)


def sections() -> dict[str, str]:
    parts = re.split(r"^## ([\w-]+)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_has_each_finding_where_it_belongs() -> None:
    assert tuple(sections()) == NAMES
    before, rest = PAGE.split("# Before the first step\n")[1].split("# After the first step\n")
    after, at_the_end = rest.split("# At the end\n")
    assert re.findall(r"^## ([\w-]+)$", before, re.MULTILINE) == list(BEFORE)
    assert re.findall(r"^## ([\w-]+)$", after, re.MULTILINE) == list(AFTER)
    assert re.findall(r"^## ([\w-]+)$", at_the_end, re.MULTILINE) == list(AT_THE_END)
    assert "docs/lint.md" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def begun() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in BLOCK.findall(PAGE.split("# Before the first step\n")[0]):
        run(block, names)
    return names


def test_the_example_at_the_beginning_prints_what_the_page_says(
    begun: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    first = BLOCK.findall(PAGE)[0]
    run(first, {})
    assert capsys.readouterr().out == "nothing looks wrong\nnothing looks wrong\n"


@pytest.mark.parametrize("name", NAMES)
def test_an_example_gives_its_finding_and_nothing_is_said_without_the_fault(name: str, begun: dict[str, Any]) -> None:
    faulty, healthy = BLOCK.findall(sections()[name])
    names = dict(begun)
    found = run(faulty, names)
    assert isinstance(found, Findings)
    assert name in found.names
    one = next(one for one in found if one.name == name)
    assert one.place
    assert one.remedy
    assert all(len(line) <= 80 for line in str(found).splitlines())
    assert run(healthy, names) == Findings()
