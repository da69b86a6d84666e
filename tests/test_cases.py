"""docs/cases.md: trainings that fail, run as the page says; what is printed is what it shows, and holds the answer."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
CLOSE = 0.3
"""By how much, relatively, a number may differ: bits depend on the kind of processor, and trainings of two epochs on them."""


def script() -> ModuleType:
    """The script that writes the page; what stands behind ``__main__`` is not run."""
    spec = importlib.util.spec_from_file_location("cases_page", ROOT / "scripts" / "cases_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["cases_page"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = script()
SECTIONS = PAGE.sections(PAGE.PAGE.read_text(encoding="utf-8"))

ANSWERS: dict[str, list[tuple[str, ...]]] = {
    "A learning rate of 10": [
        ("steps were so large that the training diverged; take a smaller learning rate, such as `chainrule lr`",),
        (
            "large-updates 3.weight: updates are too large",
            "exploding-activations",
            "4 (ReLU): 16 of 16 units are dead",
            "16 died together",
            "10 (ReLU): 84 of 84 units are dead",
            "take a smaller learning rate",
        ),
        (
            "training diverged; nothing was saved yet. Try a smaller learning rate than --lr 10. The first cause is in",
            "Find a rate with: chainrule lr runs/hotter",
        ),
        ("the rate of the options, 10, lies outside of that range",),
    ],
    "A bias of -100": [
        (
            "note: 1.weight, 1.bias: the gradient is 0 in every element: all units at layer 2, ReLU are dead: maximum gives 0",
            "without 1.bias, -100, they would go from",
            "begin with 1.bias at 0",
            "so nothing was learned of them",
        ),
        (
            "2 (ReLU): 64 of 64 units are dead",
            "they were never alive since the initialisation, with biases of about -100",
            "1.weight, 1.bias, 3.weight: no step changes them",
        ),
        (),
    ],
    "Ten sigmoid layers": [
        (
            "note: layer 9, Linear: the deviation between examples",
            "hardly anything of an example gets through, nor of a gradient on its way back",
            "take ReLU for sigmoid (--silence vanishing-activations)",
            "so nothing was learned of them",
        ),
        (
            "vanishing-gradients 1 (Linear) to 21 (Linear): gradients vanish towards the input",
            "normalise (BatchNorm), take ReLU for sigmoid",
            "small-updates",
        ),
        (),
    ],
    "A division by a zero variance": [
        (
            "The first cause is in the forward pass: divide in layer 3 (Normalise) at by_hand.py:8 gives nan",
            "of the batch (64 of 64, counted from 0)",
            "It divides by 0: add a small number, such as 1e-5, to what it divides by.",
        ),
        (),
    ],
    "A frozen layer": [
        ("note: 1.0.weight, 1.0.bias, 1.2.weight and 1 more: frozen, as requires_grad is False; set it to True",),
        (),
    ],
    "Shuffled labels": [
        (
            "so nothing was learned of them",
            "look whether the labels belong to the images",
            "no better than guessing: it learned nothing of them, or their labels are in disorder",
        ),
        ("The 100 of 4,000 images with the largest loss",),
        ("of the 60 wrong labels are among the 100",),
        (),
    ],
    "Ten damaged images": [
        ("left out: 10 of 600 images",),
        (
            *(f"{name}.png is damaged (" for name in ("0/0001", "1/0003", "4/0002", "5/0000")),
            *(f"{name}.png is no image of a format that is read" for name in ("1/0006", "2/0005", "9/0004")),
            *(f"{name}.png is empty, 0 bytes" for name in ("1/0008", "3/0007", "4/0009")),
        ),
        ("of the 10 images of noise are among the 100",),
    ],
}
"""What the outputs of each section must say, in order."""


def words(text: str) -> str:
    """The words of an output: numbers and rules of tables say less, and how lines break depends on their width."""
    return " ".join(re.sub(r"-{2,}", " ", NUMBER.sub("#", text)).split())


def numbers(text: str) -> list[float]:
    return [float(one.replace(",", "")) for one in NUMBER.findall(text)]


def accuracy(text: str) -> float:
    """The share of test images that are right, the last that is said."""
    right, images = re.findall(r"([\d,]+) of ([\d,]+) test images right", text)[-1]
    return int(right.replace(",", "")) / int(images.replace(",", ""))


def test_the_page_has_the_cases_and_is_named_where_one_looks_for_it() -> None:
    assert list(SECTIONS) == ["", *ANSWERS]
    assert "docs/cases.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    anchors = re.findall(r"\]\(#([^)]+)\)", SECTIONS[""])
    assert sorted(anchors) == sorted(re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in ANSWERS)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_case_prints_what_the_page_shows(name: str, tmp_path: Path) -> None:
    shown = list(PAGE.outputs(SECTIONS[name], tmp_path))
    for one in shown:
        assert words(one.new) == words(one.old), "run python scripts/cases_page.py"
        if one.same_numbers:
            assert numbers(one.new) == [pytest.approx(number, rel=CLOSE, abs=1e-3) for number in numbers(one.old)]
        assert all(len(line) <= PAGE.WIDTH or "chainrule " in line for line in one.new.splitlines())
    for one, answers in zip(shown, ANSWERS[name], strict=True):
        for answer in answers:
            assert answer in " ".join(one.whole.split())
    if "damaged" not in name:
        assert accuracy(shown[-1].whole) > 0.75  # mended
    if name == "Shuffled labels":
        assert numbers(shown[2].new)[0] >= 50
        assert accuracy(shown[0].whole) < 0.2 < 0.9 < accuracy(shown[1].whole)
    if name == "Ten damaged images":
        assert numbers(shown[-1].new)[-3] >= 8


def test_what_is_cut_out_of_an_output_is_shown_by_dots() -> None:
    printed = "one\ntwo\n\nthree\nfour\nfive\nsix\n"
    assert PAGE.cut(printed, "two | four ... five") == "...\ntwo\n...\nfour\nfive\n...\n"
    assert PAGE.cut(printed, "one ... six") == printed
    assert PAGE.cut("one\n\n", "one") == "one\n"
    with pytest.raises(LookupError, match="no line has 'two' from line 5 on"):
        PAGE.cut(printed, "three | two")


def test_only_chainrule_is_typed() -> None:
    with pytest.raises(ValueError, match="must be chainrule, got 'ls -l'"):
        PAGE.typed("ls -l")
