"""Anything made of numbers, saved and read: tensors, arrays and numbers in dicts and lists, in one safetensors file.

The tensors of the file are named by their place, ``model.conv1.weight``, so that any program that reads safetensors finds
them. How they are put together, and all that is no array, is JSON in the metadata. It is never a pickle: reading runs nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.arguments import explained
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import WeightFile, save_safetensors
from chainrule.formats.safetensors_files import CHECKSUM
from chainrule.tensor import Tensor, tensor

_ENTRY = "chainrule.tree"  # of the metadata
_DEEPEST = 100
_KINDS = {"list": list, "tuple": tuple}
_DTYPES = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("bfloat16", "float16", "float32", "float64", "complex64"),
)
_DTYPES_ARE = f"convert it to one of {', '.join(_DTYPES)}"
_REMEDY = "keep numbers, texts, arrays and tensors, in dicts, lists and tuples"


@explained
def save(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` into a safetensors file, atomically: what was there before is lost only when all is written.

    ``value`` is an array, a tensor, a number, a text, None, or a dict, list or tuple of such, as deep as may be: for example
    ``{"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}``. Parameters are saved as tensors.

    Raises:
        UserError: something in it is none of these; or the file cannot be written.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"save: the path comes first, got a {type(path).__name__}: write cr.save(path, value)")
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = _taken_apart(value, "", arrays, ())
    save_safetensors(path, arrays, {_ENTRY: json.dumps(tree, separators=(",", ":"))})


@explained
def load(path: str | os.PathLike[str]) -> Any:
    """What ``save`` wrote, of the same types and bits: tensors, arrays and numbers, in dicts, lists and tuples.

    Of any other safetensors file (or index of shards, ``*.safetensors.index.json``), a dict of names and arrays.

    Raises:
        UserError: there is no such file, or it is damaged or of another kind, such as a pickle.
    """
    file = WeightFile(path)
    file.verify()
    written = file.metadata.get(_ENTRY)
    if written is None:
        return {name: file[name] for name in file}
    try:
        if CHECKSUM not in file.metadata:
            raise ValueError("without a checksum")
        return _put_together(json.loads(written), file)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{displayed(file.path)} says in a way that is not understood how its tensors belong together ({error}): it was "
            f"edited, or written by another version of chainrule; its tensors are in chainrule.formats.WeightFile(path)"
        ) from None


def _taken_apart(value: Any, place: str, arrays: dict[str, np.ndarray[Any, Any]], above: tuple[int, ...]) -> Any:
    """``value`` as JSON, with its arrays named there and put into ``arrays``."""
    if value is None or isinstance(value, bool | str):
        return value
    if type(value) is int:
        return value if value.bit_length() < 64 else {"int": hex(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        return {"tensor": _named(place, value.numpy(), arrays)}
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind in "OSUMm" or value.dtype.names is not None:
            raise UserError(f"save: {_at(place)} holds no numbers, but {value.dtype}: {_REMEDY}")
        if value.dtype.name not in _DTYPES:
            raise UserError(f"save: {_at(place)} is of {value.dtype.name}, which a file cannot hold: {_DTYPES_ARE}")
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {kind: _named(place, np.asarray(value), arrays)}
    if id(value) in above or len(above) >= _DEEPEST:
        raise UserError(f"save: {_at(place)} holds itself, or is nested more than {_DEEPEST} deep: {_REMEDY}")
    above = (*above, id(value))
    if isinstance(value, Mapping):
        if not all(type(key) in (str, int) for key in value):
            key = next(key for key in value if type(key) not in (str, int))
            raise UserError(f"save: {_at(place)} has the key {key!r}: keys must be texts or whole numbers")
        return {"dict": [[key, _taken_apart(one, _below(place, key), arrays, above)] for key, one in value.items()]}
    if type(value) in (list, tuple):
        members = [_taken_apart(one, _below(place, number), arrays, above) for number, one in enumerate(value)]
        return {type(value).__name__: members}
    raise UserError(
        f"save: {_at(place)} is of class {type(value).__name__}, which is not made of numbers: {_REMEDY}{_hint(value)}"
    )


def _hint(value: Any) -> str:
    return "; pass its state_dict()" if callable(getattr(value, "state_dict", None)) else ""


def _at(place: str) -> str:
    return displayed(repr(place)) if place else "the value"


def _below(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _named(place: str, array: np.ndarray[Any, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> str:
    """Put an array among the others, under the name of its place; the same place may be written in two ways."""
    name, number = place or "value", 2
    while name in arrays or name == "__metadata__":
        name, number = f"{place}#{number}", number + 1
    arrays[name] = array
    return name


def _put_together(tree: Any, file: WeightFile) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, said),) = tree.items()
    if kind == "dict":
        return {key: _put_together(one, file) for key, one in said}
    if kind in _KINDS:
        return _KINDS[kind](_put_together(one, file) for one in said)
    if kind == "int":
        return int(said, 16)
    if kind == "float":
        return float(said)
    array = file[said]
    if kind == "tensor":
        return tensor(array, array.dtype)
    if kind not in ("array", "scalar"):
        raise ValueError(f"unknown kind {kind!r}")
    return array if kind == "array" else array[()]
