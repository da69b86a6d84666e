"""Write the public names of PyTorch, and the arguments of what has any: `python scripts/names_of_pytorch.py`.

Run it from the repository root, where torch is installed (`pip install torch`). It leaves `tests/expected/pytorch_names.json`,
from which `scripts/from_pytorch_page.py` makes `docs/from-pytorch.md`; neither that script nor the tests need torch. An entry
is a name with its arguments, each with its default as text, or null where it has none; null in place of the arguments means
that Python cannot tell them. Takes a few seconds.
"""

from __future__ import annotations

import inspect
import json
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim
from torch.utils import data

FILE = Path(__file__).resolve().parent.parent / "tests" / "expected" / "pytorch_names.json"
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)


def arguments(value: Any) -> list[list[str | None]] | None:
    """The arguments of a function or a class, without ``self``."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    found = [[one.name, None if one.default is one.empty else repr(one.default)] for one in parameters if one.name != "self"]
    return None if [name for name, _ in found] == ["args", "kwargs"] else found


def names(owner: Any, wanted: Callable[[str, Any], bool]) -> dict[str, Any]:
    """The public names of ``owner`` that are ``wanted``, sorted, with their arguments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        public = {name: inspect.getattr_static(owner, name) for name in sorted(dir(owner)) if not name.startswith("_")}
        return {name: arguments(getattr(owner, name)) for name, value in public.items() if wanted(name, value)}


def function(_: str, value: Any) -> bool:
    return isinstance(value, FUNCTIONS)


def layer(_: str, value: Any) -> bool:
    return isinstance(value, type) and value.__module__.startswith("torch.nn")


def of(module: str) -> Callable[[str, Any], bool]:
    """Classes and functions that are defined in ``module`` or below it."""
    return lambda _, value: isinstance(value, (type, *FUNCTIONS)) and value.__module__.startswith(module)


AREAS = {
    "methods of tensors": names(torch.Tensor, lambda name, value: True),
    "functions": names(torch, function),
    "layers": names(nn, layer),
    "functions of layers": names(nn.functional, lambda name, value: isinstance(value, FUNCTIONS) and name[0].islower()),
    "initial values": names(nn.init, of("torch.nn.init")),
    "methods of layers": names(nn.Module, function),
    "optimizers": names(optim, of("torch.optim")),
    "methods of optimizers": names(optim.Optimizer, function),
    "schedules": names(optim.lr_scheduler, of("torch.optim.lr_scheduler")),
    "data": names(data, of("torch.utils.data")),
}

if __name__ == "__main__":
    lines = [
        f"  {json.dumps(area)}: {{\n"
        + ",\n".join(f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
        + "\n  }"
        for area, found in AREAS.items()
    ]
    FILE.write_text("{\n" + ",\n".join([f'  "version": {json.dumps(torch.__version__.split("+")[0])}', *lines]) + "\n}\n")
    print({area: len(found) for area, found in AREAS.items()})
