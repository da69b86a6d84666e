"""The files of the lens's page: small modules that a browser loads as they are, without a network and under a strict policy."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import chainrule

PAGE = Path(chainrule.__file__).parent / "lens" / "page"
MODULES = sorted(file for file in PAGE.rglob("*.js"))
OURS = [file for file in MODULES if "vendor" not in file.parts]
IMPORT = re.compile(r"""\b(?:import|export)\b[^;"'`]*?\bfrom\s*["']([^"']+)["']|^import\s*["']([^"']+)["']""", re.MULTILINE)

VENDORED = {
    "preact.js": "72284e8e9079c87817145df1110f74e8a2aa040b2fc384922e18dfcb46fc1fd7",
    "uplot.js": "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba",
    "uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""The files of others, as they are in the packages that vendor/README.md names."""


def name(file: Path) -> str:
    return file.relative_to(PAGE).as_posix()


@pytest.mark.parametrize("file", OURS, ids=name)
def test_a_module_imports_files_that_are_there_by_relative_paths(file: Path) -> None:
    """A browser resolves nothing else without an import map, which would be an inline script."""
    for first, second in IMPORT.findall(file.read_text(encoding="utf-8")):
        path = first or second
        assert path.startswith(("./", "../")), f"{name(file)} imports {path!r}"
        assert (file.parent / path).is_file(), f"{name(file)} imports {path!r}, which is not there"


def test_every_module_is_reached_from_the_first_one() -> None:
    open_, reached = [PAGE / "main.js"], set()
    while open_:
        file = open_.pop().resolve()
        if file not in reached:
            reached.add(file)
            found = IMPORT.findall(file.read_text(encoding="utf-8"))
            open_ += [file.parent / (first or second) for first, second in found]
    assert {file.resolve() for file in MODULES} == reached


def test_the_page_has_no_inline_scripts_and_styles_and_names_no_other_host() -> None:
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\bsrc=)", text)
    sources = re.findall(r"""(?:src|href)="([^"]+)\"""", text)
    assert len(sources) >= 5
    for source in sources:
        assert source.startswith("page/")
        assert (PAGE / source.removeprefix("page/")).is_file(), source
    for file in [*OURS, *PAGE.glob("*.css"), PAGE / "index.html"]:
        hosts = set(re.findall(r"https?://[^\s\"'`)]+", file.read_text(encoding="utf-8")))
        assert not hosts, f"{name(file)} names {hosts}"


def test_every_module_begins_by_saying_what_it_is_for() -> None:
    for file in OURS:
        assert file.read_text(encoding="utf-8").startswith("/**"), name(file)


@pytest.mark.parametrize("file", sorted(VENDORED))
def test_the_files_of_others_are_those_that_the_table_names(file: str) -> None:
    assert hashlib.sha256((PAGE / "vendor" / file).read_bytes()).hexdigest() == VENDORED[file]
    table = (PAGE / "vendor" / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {file} |")]
    for licence in re.findall(r"LICENSE-\w+", row):
        assert (PAGE / "vendor" / licence).stat().st_size > 500
