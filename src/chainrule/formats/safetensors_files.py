"""Tensors in safetensors files: the weights format of the field, which holds numbers and never code."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.arguments import explained
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats.atomic import write_atomically

_LENGTH = struct.Struct("<Q")

CHECKSUM = "checksum"
"""The entry of the metadata with the checksum of everything else."""

BEGINNING = 9
"""How many bytes of a file ``begins_as_safetensors`` asks for."""

Arrays = dict[str, np.ndarray[Any, Any]]


@explained
def save_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``tensors`` (name to array) and ``metadata`` (text to text) as one file, atomically.

    A checksum of everything is added to the metadata, and ``load_safetensors`` verifies it, as bits do flip on disks.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save

    if not isinstance(tensors, Mapping) or not all(isinstance(name, str) for name in tensors):
        raise UserError(
            f"save_safetensors: tensors must be a dict of names and arrays, got a {type(tensors).__name__}: pass "
            "model.state_dict()"
        )
    arrays = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in tensors.items()}
    for name, array in arrays.items():
        _check_name(name)
        if array.dtype.kind in "OSU":
            raise UserError(f"save_safetensors: {name!r} holds no numbers, but {array.dtype.name}")
    if metadata is not None and not all(isinstance(text, str) for item in metadata.items() for text in item):
        raise UserError(f"save_safetensors: metadata must be texts by texts, got {metadata!r}")
    said = dict(metadata or {})
    if CHECKSUM in said:
        raise UserError(f"save_safetensors: the metadata cannot have {CHECKSUM!r}, which is added here: leave it out")
    said[CHECKSUM] = checksum(arrays, said)
    try:
        content = save(arrays)
    except SafetensorError as error:  # the format has no such dtype
        raise UserError(f"save_safetensors: {error}: convert the array to another") from None
    write_atomically(path, _with_metadata(content, said))


def _check_name(name: str) -> None:
    """A UserError for a name that no tensor of a safetensors file can have."""
    if name == "__metadata__":  # in the header, this is the place of the metadata
        raise UserError("save_safetensors: no tensor of a safetensors file can be named '__metadata__': give it another name")
    if any("\ud800" <= sign <= "\udfff" for sign in name):  # halves of surrogate pairs, as names in damaged files may hold
        raise UserError(f"save_safetensors: {displayed(repr(name))} cannot be written in UTF-8: give the tensor another name")


@explained
def load_safetensors(path: str | os.PathLike[str]) -> tuple[Arrays, dict[str, str]]:
    """The tensors (name to array) and the metadata (text to text) of a file.

    Raises:
        UserError: there is no such file, or it is cut off, damaged (if it has a checksum, by a single bit) or of another kind.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"load_safetensors: path must be the path of a file, got {path!r}")
    source = Path(path)
    with opened_safetensors(source) as file:
        try:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except AttributeError as error:  # module 'numpy' has no attribute 'float8_e4m3fn'
            raise UserError(
                f"{displayed(source)} holds numbers of a type that NumPy lacks ({str(error).split()[-1]}): convert them to "
                "another"
            ) from error
        except (KeyError, ValueError) as error:
            raise _no_whole_file(source, error) from error
        metadata = dict(file.metadata() or {})
    expected = metadata.pop(CHECKSUM, None)
    if expected is not None and expected != checksum(tensors, metadata):
        raise UserError(
            f"{displayed(source)} is damaged: its checksum says that what it holds is not what was written; use another copy"
        )
    return tensors, metadata


def opened_safetensors(path: Path) -> Any:
    """The file as the safetensors library opens it, with its header checked and its tensors yet to be read.

    Raises:
        UserError: there is no such file, or it is cut off, damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise no_file(path, "a safetensors file")
    try:
        return safe_open(str(path), framework="numpy")
    except (SafetensorError, KeyError, ValueError) as error:
        raise _no_whole_file(path, error) from error
    except OSError as error:
        raise UserError(f"{displayed(path)} cannot be read: {error.strerror or error}") from error


def no_file(path: Path, expected: str) -> UserError:
    """What is said of a ``path`` at which there is no regular file, where ``expected`` should be."""
    there = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
    return UserError(f"{displayed(path)} {there}: expected {expected}")


def begins_as_safetensors(start: bytes) -> bool:
    """Whether a file with these first ``BEGINNING`` bytes is meant as a safetensors file, and nothing else.

    It begins with the length of its header, eight bytes, the lowest first, and the header with a brace. By their first bytes
    alone, many are mistaken: a header of 128, 384 or 640 bytes begins as a pickle does. Neither a pickle nor a zip archive of
    ``torch.save`` has four zeros and a brace there.
    """
    return len(start) >= BEGINNING and start[4:8] == bytes(4) and start[8:9] == b"{"


def _no_whole_file(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{displayed(path)} ({path.stat().st_size:,} bytes) is no whole safetensors file ({error}): "
        "it was cut off, damaged or is of another kind; use another copy"
    )


def _with_metadata(content: bytes, metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """The parts of the file ``content`` with ``metadata`` added to its header, sorted by name.

    The safetensors library writes metadata in any order, but equal runs must write equal files.
    """
    (length,) = _LENGTH.unpack_from(content)
    header = json.loads(content[_LENGTH.size : _LENGTH.size + length])
    text = json.dumps({"__metadata__": dict(sorted(metadata.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [_LENGTH.pack(len(text)), text, memoryview(content)[_LENGTH.size + length :]]


def checksum(tensors: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, str]) -> str:
    """A checksum of the names, dtypes, shapes and bytes of all tensors, and of the metadata.

    It is BLAKE2b, which takes about 0.1 s for 100 MB even on processors without instructions for SHA.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(metadata):
        digest.update(repr((name, metadata[name])).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)  # in the order of bytes that the file has
        digest.update(repr((name, array.dtype.name, np.shape(tensors[name]))).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return f"blake2b:{digest.hexdigest()}"
