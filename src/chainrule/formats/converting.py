"""From a file of ``torch.save`` to a safetensors file: which of its tensors are meant, and under which names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.arguments import explained, explained_methods
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats.safetensors_files import save_safetensors
from chainrule.formats.torch_files import load_torch_file

_USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params", "model_state")
"""Where people put the weights in a checkpoint, the most usual first."""


@explained_methods
@dataclass(frozen=True)
class Converted:
    """What was written: the file, how many tensors and numbers of which dtypes are in it, of which entry of the file that was
    read they are (empty: of the file itself), and what else that file held."""

    path: Path
    tensors: int
    numbers: int
    dtypes: tuple[str, ...]
    entry: str = ""
    left_out: tuple[str, ...] = ()


Converted.__init__ = explained(Converted.__init__)  # type: ignore[method-assign]


@explained
def convert_torch_file(path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, entry: str = "") -> Converted:
    """Write the tensors of a file of ``torch.save`` into a safetensors file, atomically; nothing in the file is run.

    ``out`` is by default the same name with the ending ``.safetensors``; no file is replaced. If the file holds several things,
    the usual entry (``state_dict``, ``model``, ...) is taken; ``entry`` names another one, with dots between levels.

    Raises:
        UserError: the file cannot be read or holds no tensors, the entry is not there, or ``out`` is there already.
    """
    source = Path(path)
    target = source.with_suffix(".safetensors") if out is None else Path(out)
    if target.exists():
        raise UserError(f"{displayed(target)} exists already: delete it, or give another name for what is to be written")
    tree = load_torch_file(source)
    chosen, name = _entry_of(source, tree, entry) if entry else _weights_of(source, tree, ())
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    left_out = [displayed(other) for other in _beside(tree, name)]
    for place, value in _leaves(chosen, ""):
        if not isinstance(value, np.ndarray):
            left_out.append(displayed(f"{place} ({_kind(value)})"))
        elif arrays.setdefault(place, value) is not value:
            raise UserError(f"{displayed(source)} has two tensors that would both be named {displayed(place)}: give --entry")
    if not arrays:
        raise UserError(f"{displayed(source)} holds no tensors: save model.state_dict() with PyTorch")
    save_safetensors(target, arrays, {"format": "pt"})
    dtypes = tuple(sorted({array.dtype.name for array in arrays.values()}))
    return Converted(target, len(arrays), sum(array.size for array in arrays.values()), dtypes, ".".join(name), tuple(left_out))


def _weights_of(source: Path, tree: Any, above: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """The part of what a file holds that is a state: a container that itself holds tensors; and the names that lead to it."""
    members = _members(tree)
    if isinstance(tree, np.ndarray) or any(isinstance(value, np.ndarray) for value in members.values()):
        return tree, above
    holding = [key for key, value in members.items() if any(isinstance(leaf, np.ndarray) for _, leaf in _leaves(value, ""))]
    usual = [key for key in _USUAL if key in holding]
    if len(holding) == 1 or usual:
        key = usual[0] if usual else holding[0]
        return _weights_of(source, members[key], (*above, key))
    if not holding:
        raise UserError(f"{displayed(source)} holds no tensors{_says(tree)}: save model.state_dict() with PyTorch")
    shown = ", ".join(displayed(".".join((*above, key))) for key in holding[:8])
    raise UserError(f"{displayed(source)} holds tensors at several places ({shown}): name the one that is meant with --entry")


def _entry_of(source: Path, tree: Any, entry: str) -> tuple[Any, tuple[str, ...]]:
    """What lies at an entry: a key, or keys with dots between them."""
    names: list[str] = []
    rest = entry
    while rest:
        members = _members(tree)
        key = max((key for key in members if rest == key or rest.startswith(f"{key}.")), key=len, default=None)
        if key is None:
            known = ", ".join(map(displayed, list(members)[:8])) + (", ..." if len(members) > 8 else "") or "nothing"
            raise UserError(f"{displayed(source)} has no entry {displayed(entry)!r}: there is {known}")
        tree, rest = members[key], rest[len(key) + 1 :]
        names.append(key)
    return tree, tuple(names)


def _members(tree: Any) -> dict[str, Any]:
    if isinstance(tree, dict):
        return {str(key): value for key, value in tree.items()}
    return {str(number): value for number, value in enumerate(tree)} if isinstance(tree, list | tuple) else {}


def _leaves(tree: Any, place: str) -> Iterator[tuple[str, Any]]:
    """All that is no container, by the names that lead to it; a tensor by itself is named "tensor"."""
    if not isinstance(tree, dict | list | tuple):
        yield place or "tensor", tree
        return
    for key, value in _members(tree).items():
        yield from _leaves(value, f"{place}.{key}" if place else key)


def _beside(tree: Any, names: tuple[str, ...]) -> Iterator[str]:
    """What stands beside the entry that was taken, with what it is."""
    for depth, name in enumerate(names):
        members = _members(tree)
        for key, value in members.items():
            if key != name:
                yield f"{'.'.join((*names[:depth], key))} ({_kind(value)})"
        tree = members[name]


def _kind(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return f"{len(value):,} entries"
    if isinstance(value, np.ndarray):
        return "a tensor"
    return "nothing" if value is None else repr(value) if len(repr(value)) <= 24 else f"a {type(value).__name__}"


def _says(tree: Any) -> str:
    members = list(_members(tree))
    return f", but {', '.join(map(displayed, members[:6]))}" + (", ..." if len(members) > 6 else "") if members else ""
