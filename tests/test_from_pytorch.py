"""The page for those who come from PyTorch: it is what its script writes, its program runs, and what it says is so."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import data, nn, optim
from chainrule.errors import UserError
from chainrule.nn import functional as F

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def script(name: str) -> ModuleType:
    """A script as a module; what stands behind ``__main__`` is not run."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FACTS, PAGE = script("from_pytorch_facts"), script("from_pytorch_page")


def test_the_page_is_what_the_script_writes() -> None:
    assert PAGE.PAGE.read_text(encoding="utf-8") == PAGE.page(), "run python scripts/from_pytorch_page.py"


def test_the_program_of_the_page_learns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mnist = data.mnist

    def few(split: str) -> data.ArrayDataset:
        whole = mnist(split)
        places = np.arange(64 * 20 if split == "train" else 500)  # whole batches: a last, smaller one would be compiled too
        return data.ArrayDataset(whole.images(places), whole.labels[places])

    monkeypatch.setattr(data, "mnist", few)
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", PAGE.PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    exec(compile(code, "the page", "exec"), {})
    accuracies = [float(number) for number in re.findall(r"([\d.]+)% of the test images", capsys.readouterr().out)]
    assert len(accuracies) == 3
    assert accuracies[-1] > 90
    assert (tmp_path / "digits.safetensors").is_file()


def test_both_programs_have_the_same_steps() -> None:
    """Only the lines that the table below the programs is about differ."""
    there, here = (set(code.splitlines()) for code in (FACTS.IN_PYTORCH, FACTS.HERE))
    words = r"import|Loader|as_tensor|optim\.(lr|Cos)|clip_grad|no_grad|argmax|print|manual_seed|save|load|@cr"
    assert len(there & here) > 20
    assert [line for line in there ^ here if not re.search(words, line)] == []


def refused(call: Callable[[], Any]) -> bool:
    with pytest.raises((UserError, TypeError)):
        call()
    return True


def gradient(f: Callable[[Any], Any], values: list[float]) -> Any:
    x = cr.tensor(values, requires_grad=True)
    f(x).backward()
    assert x.grad is not None
    return x.grad.tolist()


class Own(data.Dataset):
    """A data set of one's own, of what the page says that it has."""

    name, classes, labels, image_shape = "own", ["a", "b"], np.array([0, 1, 0]), (1, 2, 2)

    def images(self, indices: Any) -> Any:
        return np.asarray(indices, np.float32)[:, None, None, None] * np.ones(self.image_shape, np.float32)


def test_a_data_set_of_ones_own_gives_batches() -> None:
    (images, labels), (last, _) = data.Loader(Own(), 2, shuffle=False)
    assert (images.mean(axis=(1, 2, 3)).tolist(), np.asarray(labels).tolist(), last.shape) == ([0, 1], [0, 1], (1, 1, 2, 2))
    with pytest.raises(UserError, match=r"Lacking has no method images: a data set gives whole batches, .*ArrayDataset"):
        type("Lacking", (data.Dataset,), {"__getitem__": lambda self, i: i})()


@pytest.mark.parametrize("row", FACTS.DIFFERENCES, ids=[row.code for row in FACTS.DIFFERENCES])
def test_what_means_another_thing_here_is_so(row: Any) -> None:
    names = {"cr": cr, "np": np, "nn": nn, "F": F, "optim": optim, "data": data, "refused": refused, "gradient": gradient}
    names["own"] = Own()
    assert eval(row.check, names)


def test_what_the_page_names_exists() -> None:
    """All names with a part in front of them that stand beside PyTorch's, and those that come nearest to what is not here."""
    nearest = [
        group.nearest
        for value in vars(FACTS).values()
        if isinstance(value, list)
        for group in value
        if hasattr(group, "nearest")
    ]
    said = [
        *nearest,
        *(line[1] for line in FACTS.PARTS),
        *(line[1] for line in FACTS.CHANGED),
        *(row.here for row in FACTS.DIFFERENCES),
    ]
    named = {
        name
        for text in said
        for code in re.findall(r"`(.*?)`", text)
        for name in re.findall(r"\b(?:cr|nn|optim|data)(?:\.\w+)+", code)
    }
    assert len(named) > 30
    assert {"cr.take_along_axis", "optim.EMA", "data.RandomCrop"} <= named
    for name in named - {"optim.X"}:
        value: Any = {"cr": cr, "nn": nn, "optim": optim, "data": data}[name.split(".")[0]]
        for part in name.split(".")[1:]:
            value = getattr(value, part)


def test_every_name_of_pytorch_is_on_the_page_or_counted() -> None:
    text = PAGE.PAGE.read_text(encoding="utf-8")
    areas = {area: set(names) for area, names in PAGE.NAMES.items() if area != "version"}
    areas["functions"] -= areas["methods of tensors"]  # they have one section
    assert len(areas["functions"]) > 200
    missing = sum(f"`{name}`" not in text for names in areas.values() for name in names)
    counted = sum(int(number) for number in re.findall(r"\*\*: (\d+) names", text))
    assert 400 < missing <= counted < 550


def test_what_is_said_to_have_the_same_name_has_it() -> None:
    """The lists are read from the page, so they hold for whoever reads it."""
    text = " ".join(PAGE.PAGE.read_text(encoding="utf-8").split())
    owners: dict[str, Any] = {
        "Layers: `torch.nn`": nn,
        "Methods of layers": nn.Module,
        "Functions of layers: `torch.nn.functional`": F,
        "Initial values: `torch.nn.init`": nn.init,
        "Optimizers: `torch.optim`": optim,
        "Schedules: `torch.optim.lr_scheduler`": optim,
    }
    for title, owner in owners.items():
        section = re.split(r" ## ", text.split(f"## {title} ")[1])[0]
        same, _, rest = section.partition(":** ")[2].partition(". ")
        names = re.findall(r"`(\w+)`", same)
        assert len(names) >= 7
        for name in names:
            assert hasattr(owner, name), name
        absent = re.findall(r"`(\w+)`", re.sub(r"\*Nearest:.*?\.\*", "", rest.partition("**Not here:** ")[2]))
        for name in absent:
            assert not hasattr(owner, name), name


def test_differences_of_arguments_are_seen() -> None:
    def here(x: Any, value: Any, dim: int = -1, low: float = 0.0) -> None: ...

    there = [["input", None], ["val", None], ["dim", "None"], ["inplace", "False"], ["low", "0"], ["extra", "1"]]
    assert PAGE.differing("f", there, here) == "without `extra`; `val` is called `value`; `dim=-1` by default, not `None`"
    assert PAGE.differing("f", None, here) == ""
