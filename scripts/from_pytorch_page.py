"""Write `docs/from-pytorch.md`: `python scripts/from_pytorch_page.py`, from the repository root. A test compares the two.

Names and arguments of PyTorch are those of `tests/expected/pytorch_names.json` (see `scripts/names_of_pytorch.py`); names here
are read from the library, what is written in place of others from `chainrule.habits`, all else from `from_pytorch_facts.py`.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import chainrule as cr
from chainrule import data, habits, nn, optim
from chainrule.nn import functional as F
from chainrule.nn import init

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import from_pytorch_facts as facts  # noqa: E402 - found through the line above

PAGE = ROOT / "docs" / "from-pytorch.md"
NAMES: dict[str, Any] = json.loads((ROOT / "tests" / "expected" / "pytorch_names.json").read_text(encoding="utf-8"))
WIDTH = 128
NOT_COMPARED = {"args", "kwargs", "dtype", "_stacklevel", "_weight", "_freeze"}
FIRST = {"input", "input1", "input2", "tensor", "self"}  # PyTorch's names of what a function is about


def filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def in_words(remedy: str) -> str:
    """What a table of ``habits`` says, with its code as code: ``write x @ y`` is the code, and words may follow."""
    if not remedy.startswith("write "):
        return remedy
    code = re.split(r", or |; |, the new|, which|, as |: \(", remedy.removeprefix("write "))[0]
    rest = remedy.removeprefix(f"write {code}").removeprefix("; ")
    return f"`{code}`{rest if rest.startswith(',') else f' ({rest})' if rest else ''}"


def by_remedy(names: Iterable[str], said: Mapping[str, str]) -> list[tuple[str, str]]:
    """A row for each remedy, with all names that have it, in the order of the first of them."""
    rows: dict[str, list[str]] = {}
    for name in names:
        rows.setdefault(said[name], []).append(name)
    return [(listed(several), in_words(remedy)) for remedy, several in rows.items()]


def grouped(names: Iterable[str], groups: Iterable[facts.Group]) -> list[str]:
    """A line for each group of names that are not here; names that fit no group are a group of their own."""
    left = list(names)
    lines = []
    for group in [*groups, facts.Group("Others", r".*")]:
        members = [name for name in left if re.fullmatch(group.pattern, name)]
        left = [name for name in left if name not in members]
        if members:
            nearest = f" *Nearest: {group.nearest}.*" if group.nearest else ""
            shown = f": {len(members)} names, such as {group.such_as}." if group.such_as else f": {listed(members)}."
            lines.append(filled(f"- **{group.heading}**{shown}{nearest}", "  "))
    return lines


def arguments(of: Any) -> dict[str, Any] | None:
    try:
        parameters = inspect.signature(of).parameters.values()
    except (TypeError, ValueError):
        return None
    return {one.name: None if one.default is one.empty else repr(one.default) for one in parameters if one.name != "self"}


def plain(default: str | None) -> Any:
    """A default as it is compared: 0 and 0.0 are the same, and so are an empty tuple and None."""
    try:
        return float(default) if default not in (None, "True", "False") else default  # type: ignore[arg-type]
    except ValueError:
        return {"()": "None", "'float32'": "None"}.get(str(default), default)


def differing(name: str, there: list[list[str | None]] | None, here: Any) -> str:
    """What is different about the arguments of a function or class of the same name; empty if nothing is."""
    own = arguments(here)
    if there is None or own is None:
        return ""
    known = {str(key): default for key, default in there if key not in NOT_COMPARED}
    if known and own and next(iter(known)) in FIRST:  # what the function is about
        known.pop(next(iter(known)))
        own.pop(next(iter(own)))
    gone = [key for key in known if key not in own and key not in habits._LEFT_OUT]
    names = {}
    for key in gone:
        place = list(known).index(key)
        same_place = list(own)[place : place + 1]
        new = next(
            (
                one
                for one in (*habits._RENAMED.get(key, ()), *same_place)
                if one in own and one not in known and one not in NOT_COMPARED
            ),
            None,
        )
        if new is not None:
            names[key] = new
    renamed = [f"`{key}` is called `{new}`" for key, new in names.items()]
    gone = [key for key in gone if key not in names]
    changed = [
        f"`{new}={own[new]}` by default, not `{default}`" if own[new] is not None else f"`{new}` must be given"
        for key, default in known.items()
        for new in [names.get(key, key)]
        if new in own and plain(own[new]) != plain(default)
    ]
    without = [f"without {listed(gone)}"] if gone else []
    return "; ".join([*without, *renamed, *changed])


def area(title: str, key: str, owner: Any, said: Mapping[str, str], groups: Iterable[facts.Group], note: str = "") -> list[str]:
    """The section of one area: what has the same name, what is said differently, and what is not here."""
    names: dict[str, Any] = NAMES[key]
    here = set(dir(owner))
    same = [name for name in names if name in here]
    other = [name for name in names if name not in here and name in said]
    differences = [(f"`{name}`", differing(name, names[name], getattr(owner, name))) for name in same]
    differences = [row for row in differences if row[1]]
    lines = [f"## {title}", ""]
    if note:
        lines += [filled(note), ""]
    if same:
        lines += [filled(f"**The same name ({len(same)} of {len(names)}):** {listed(same)}."), ""]
    if differences:
        lines += ["Their arguments are PyTorch's, but for these:", "", table(("name", "here"), differences), ""]
    if other:
        lines += ["**Said differently:**", "", table(("PyTorch", "here"), by_remedy(other, said)), ""]
    absent = grouped([name for name in names if name not in same and name not in other], groups)
    return [*lines, "**Not here:**", "", *absent, ""] if absent else lines


def tensors() -> list[str]:
    """The section of methods of tensors and functions of torch, which are mostly the same."""
    methods, functions = NAMES["methods of tensors"], NAMES["functions"]
    names = sorted({*methods, *functions})
    ours = {name for name in cr.__all__ if callable(getattr(cr, name))}
    is_method = {name for name in names if name in dir(cr.Tensor)}
    other_meaning = {"trace"}  # listed above
    is_function = {name for name in names if name in ours and name not in other_meaning}
    layers = {name for name in names if name in dir(F)} - is_method - is_function
    only_function = sorted((is_function - is_method) & methods.keys())
    only_method = sorted((is_method - is_function) & functions.keys())
    same = sorted(is_method | is_function)
    said = {**habits.TENSOR, **{name: remedy for name, remedy in habits.LIBRARY.items() if name not in habits.TENSOR}}
    other = [name for name in names if name in said and name not in same and name not in layers]
    left = [name for name in names if name not in same and name not in layers and name not in other]
    return [
        "## Tensors: methods, and functions of `torch`",
        "",
        filled(f"**The same name ({len(same)}):** {listed(same)}."),
        "",
        filled(f"Only functions here, no methods: {listed(only_function)}. Only methods: {listed(only_method)}."),
        "",
        filled(f"In `nn.functional`: {listed(sorted(layers))}."),
        "",
        "**Said differently:**",
        "",
        table(("PyTorch", "here"), by_remedy(other, said)),
        "",
        "**Not here:**",
        "",
        *grouped(left, facts.TENSORS),
        "",
    ]


def page() -> str:
    """The whole page."""
    left_out: dict[str, list[str]] = {}
    for name, remedy in habits._LEFT_OUT.items():
        left_out.setdefault(remedy, []).append(name)
    count = sum(len(found) for name, found in NAMES.items() if name != "version")
    lines = [
        "<!-- Made by scripts/from_pytorch_page.py: change that, or chainrule/habits.py, and run it again. -->",
        "# From PyTorch to chainrule",
        "",
        filled(
            "For whoever moves a training script. Layers, their functions, losses, optimizers and schedules have PyTorch's "
            "names, arguments, defaults, initial values and names of parameters; tensors have NumPy's. A name of PyTorch that "
            "is not here, or an argument, is an error, which for the usual ones says what to write instead, so a script can be "
            "moved by running it. "
            f"This page compares {count:,} public names of PyTorch {NAMES['version']}."
        ),
        "",
        "## A whole script",
        "",
        "In PyTorch:",
        "",
        "```python",
        facts.IN_PYTORCH.rstrip(),
        "```",
        "",
        "Here (a test runs it):",
        "",
        "```python",
        facts.HERE.rstrip(),
        "```",
        "",
        table(("PyTorch", "here", "why"), facts.CHANGED),
        "",
        "## The same name, another meaning",
        "",
        filled("Where a silent difference would give other numbers, an ambiguous call is refused. A test holds each row."),
        "",
        table(("", "in PyTorch", "here"), [(f"`{row.code}`", row.there, row.here) for row in facts.DIFFERENCES]),
        "",
        "## Arguments",
        "",
        filled(
            "What a function is about is called `input` in PyTorch and `x` here (`logits`, `log_probabilities`, `parameter`, "
            "where a name says more). Methods of tensors say `axis`, `keepdims` and `ddof`; layers and their functions say "
            "`dim`, as PyTorch does. What to do where one of these arguments is refused:"
        ),
        "",
        table(("argument", "what to do"), [(listed(several), in_words(remedy)) for remedy, several in left_out.items()]),
        "",
        "## Whole parts",
        "",
        table(("PyTorch", "here"), facts.PARTS),
        "",
        *tensors(),
        *area("Layers: `torch.nn`", "layers", nn, habits.LAYERS, facts.LAYERS),
        *area("Methods of layers", "methods of layers", nn.Module, habits.MODULE, facts.MODULE),
        *area("Functions of layers: `torch.nn.functional`", "functions of layers", F, habits.FUNCTIONAL, facts.FUNCTIONAL),
        *area("Initial values: `torch.nn.init`", "initial values", init, habits.INIT, facts.INIT),
        *area("Optimizers: `torch.optim`", "optimizers", optim, habits.OPTIM, facts.OPTIMIZERS),
        *area("Methods of optimizers", "methods of optimizers", optim.Optimizer, habits.OPTIMIZER, facts.OPTIMIZER),
        *area(
            "Schedules: `torch.optim.lr_scheduler`",
            "schedules",
            optim,
            habits.OPTIM,
            [],
            "They are beside the optimizers, in `optim`.",
        ),
        *area("Data: `torch.utils.data`", "data", data, habits.DATA, facts.DATA),
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(page().splitlines())} lines")
