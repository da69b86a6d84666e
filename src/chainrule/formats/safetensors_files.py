"""Tensors in safetensors files: the weights format of the field, which holds numbers and never code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.arguments import explained
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats.atomic import write_atomically

Arrays = dict[str, np.ndarray[Any, Any]]


@explained
def save_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``tensors`` (name to array) and ``metadata`` (text to text) as one file, atomically."""
    from safetensors.numpy import save

    if not isinstance(tensors, Mapping) or not all(isinstance(name, str) for name in tensors):
        raise UserError(
            f"save_safetensors: tensors must be a dict of names and arrays, got a {type(tensors).__name__}: pass "
            "model.state_dict()"
        )
    arrays = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.kind in "OSU":
            raise UserError(f"save_safetensors: {name!r} holds no numbers, but {array.dtype.name}")
    if metadata is not None and not all(isinstance(one, str) for item in metadata.items() for one in item):
        raise UserError(f"save_safetensors: metadata must be texts by texts, got {metadata!r}")
    write_atomically(path, save(arrays, metadata=dict(metadata) if metadata else None))


@explained
def load_safetensors(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, str]]:
    """The tensors and the metadata of a file.

    Raises:
        UserError: there is no such file, or it is cut off, damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    if not isinstance(path, str | os.PathLike):
        raise UserError(f"load_safetensors: path must be the path of a file, got {path!r}")
    source = Path(path)
    if not source.is_file():
        raise UserError(f"{displayed(source)} does not exist: expected a safetensors file")
    try:
        with safe_open(str(source), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except AttributeError as error:  # module 'numpy' has no attribute 'float8_e4m3fn'
        raise UserError(
            f"{displayed(source)} holds numbers of a type that NumPy lacks ({str(error).split()[-1]}): convert them to another"
        ) from error
    except (SafetensorError, KeyError, ValueError) as error:
        size = source.stat().st_size
        raise UserError(
            f"{displayed(source)} ({size:,} bytes) is no whole safetensors file ({error}): "
            "it was cut off, damaged or is of another kind; "
            "use another copy"
        ) from error
    except OSError as error:
        raise UserError(f"{displayed(source)} cannot be read: {error.strerror or error}") from error
