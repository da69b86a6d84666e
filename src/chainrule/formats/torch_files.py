"""The tensors in a file that ``torch.save`` wrote, without PyTorch and without running any of it.

Since PyTorch 1.6 such a file is a zip archive: ``NAME/data.pkl`` is a pickle that says what there is, ``NAME/data/KEY`` the
numbers of a storage, as they lie in memory. Before, it was one file: five pickles (a magic number, a version, facts about the
system, what there is, the keys of the storages), then each storage behind its length.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from chainrule.arguments import explained
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats.pickles import STORAGES, Name, Refused, Storage, StoredTensor, read_pickle
from chainrule.formats.safetensors_files import begins_as_safetensors, no_file

_MAGIC = 0x1950A86A20F9469CFC6C
_BEFORE_ZIP = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number, pickled
_TAR = (257, b"ustar")
_MOST_STRUCTURE = 64 << 20  # bytes of a pickle, which holds names and sizes, and no numbers
_DEEPEST = 50
_ANOTHER_COPY = "it was cut off, damaged or made to deceive; use another copy"

Array = np.ndarray[Any, Any]
Reader = Callable[[Storage], Array]
"""What gives the numbers of a storage."""


@explained
def load_torch_file(path: str | os.PathLike[str]) -> Any:
    """What is in a file of ``torch.save``: dicts, lists, tuples, numbers and texts as they are, tensors as arrays.

    Nothing in the file is run: it is read by ``chainrule.formats.pickles``, which knows nothing but tensors and containers.
    Arrays that shared their numbers still do; sets come as lists.

    Raises:
        UserError: there is no such file, it is of another kind, damaged, or names anything but tensors and containers.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"load_torch_file: path must be the path of a file, got {path!r}")
    source = Path(path)
    shown = displayed(source)
    if not source.is_file():
        raise no_file(source, "a file of torch.save")
    try:
        with open(source, "rb") as file:
            start = file.read(512)
            if start[:4] == b"PK\3\4":
                return _read_archive(source)
            if start.startswith(_BEFORE_ZIP):
                return _read_sequence(source)
    except Refused as refused:
        if not refused.name:
            raise UserError(f"{shown} cannot be converted: {refused}") from None
        raise UserError(
            f"{shown} holds {displayed(refused.name)}, which is neither a tensor nor a container: reading it would be running "
            "code, so nothing of it was read. Where you trust the file, load it with PyTorch and save the tensors alone: "
            "torch.save(model.state_dict(), 'weights.pth')"
        ) from None
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror or error}") from error
    if start[_TAR[0] :].startswith(_TAR[1]):
        kind = "in the format of PyTorch before 0.2, a tar archive: load it with PyTorch and save it again with torch.save"
    elif begins_as_safetensors(start):
        kind = "a safetensors file already: it needs no conversion"
    elif start[:1] == b"\x80":
        kind = "a pickle, but not of torch.save: save the tensors with torch.save, or arrays with safetensors"
    else:
        kind = "no file of torch.save: give a .pth or .pt file of PyTorch"
    raise UserError(f"{shown} is {kind}")


# ---- since PyTorch 1.6


def _read_archive(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist()]
            beginnings = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
            if len(beginnings) != 1:
                raise Refused(
                    "it is a zip archive, but not of torch.save (which has one data.pkl): give a .pth file of PyTorch"
                )
            (beginning,) = beginnings
            if beginning + "constants.pkl" in names:
                raise Refused(
                    "it is a program of TorchScript (torch.jit.save): load it with torch.jit.load, and save its tensors: "
                    "torch.save(program.state_dict(), 'weights.pth')"
                )
            entries = _checked_entries(archive, path.stat().st_size)
            order = "<"
            if beginning + "byteorder" in entries and archive.read(beginning + "byteorder").strip() == b"big":
                order = ">"

            def numbers(storage: Storage) -> Array:
                name = f"{beginning}data/{storage.key}"
                if name not in entries:
                    raise Refused(f"the numbers of storage {storage.key!r} are missing: {_ANOTHER_COPY}")
                return _as_numbers(storage, archive.read(name), order)

            if entries[beginning + "data.pkl"].file_size > _MOST_STRUCTURE:
                raise Refused(f"its structure is absurdly large (more than {_MOST_STRUCTURE >> 20} MB): {_ANOTHER_COPY}")
            tree = read_pickle(io.BytesIO(archive.read(beginning + "data.pkl")), _storage)
            return _with_arrays(tree, _remembered(numbers))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, UnicodeError) as error:
        raise Refused(f"it is no whole zip archive ({error}): {_ANOTHER_COPY}") from None


def _checked_entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The entries by name. ``torch.save`` never compresses, so that no entry can be larger than the file that it is in."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        if entry.filename in entries:
            raise Refused(f"{entry.filename!r} is in the archive twice: {_ANOTHER_COPY}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise Refused(f"{entry.filename!r} is compressed in the archive, which torch.save never does: {_ANOTHER_COPY}")
        entries[entry.filename] = entry
    if sum(entry.file_size for entry in entries.values()) > size:
        raise Refused(f"its entries say that they are larger than the file ({size:,} bytes): {_ANOTHER_COPY}")
    return entries


def _storage(identifier: Any) -> Storage:
    """What the identifier of a storage says: ("storage", class, key, place, count), and in older files the part of it."""
    if isinstance(identifier, tuple) and identifier[:1] == ("module",) and len(identifier) > 1:
        raise Refused("", str(identifier[1]))  # a class with its source
    if not isinstance(identifier, tuple) or len(identifier) < 5 or identifier[0] != "storage":
        raise Refused(f"a storage is named in an unknown way: {_ANOTHER_COPY}")
    _, kind, key, _, count, *rest = identifier
    if not isinstance(kind, Name) or kind.name not in STORAGES or not isinstance(key, str):
        raise Refused(f"a storage is of no known class: {_ANOTHER_COPY}")
    start = 0
    if rest and rest[0] is not None:
        view = rest[0]
        if not isinstance(view, tuple) or len(view) != 3:
            raise Refused(f"a storage is part of another in an unknown way: {_ANOTHER_COPY}")
        _, start, _ = view
    if type(count) is not int or type(start) is not int or count < 0 or start < 0:
        raise Refused(f"a storage has no size: {_ANOTHER_COPY}")
    return Storage(STORAGES[kind.name], key, count, start)


# ---- before PyTorch 1.6


def _read_sequence(path: Path) -> Any:
    size = path.stat().st_size
    with open(path, "rb") as file:
        structure = io.BytesIO(file.read(_MOST_STRUCTURE))

        sizes: dict[str, int] = {}  # of a number of each storage, in bytes

        def noted(identifier: Any) -> Storage:
            storage = _storage(identifier)
            sizes[storage.key] = np.dtype(_dtype(storage.dtype)).itemsize
            return storage

        def next_value() -> Any:
            return read_pickle(structure, noted)

        next_value(), next_value()
        system = next_value()
        order = ">" if isinstance(system, dict) and system.get("little_endian") is False else "<"
        tree, keys = next_value(), next_value()
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise Refused(f"the keys of its storages are no list of texts: {_ANOTHER_COPY}")
        places: dict[str, tuple[int, int]] = {}
        place = structure.tell()
        for key in keys:
            file.seek(place)
            count = int.from_bytes(file.read(8), "little" if order == "<" else "big")
            place += 8
            places[key] = (place, count)
            place += count * sizes.get(key, 1)
            if place > size:
                raise Refused(f"the numbers of storage {key!r} end behind the end of the file: {_ANOTHER_COPY}")

        def numbers(storage: Storage) -> Array:
            if storage.key not in places:
                raise Refused(f"the numbers of storage {storage.key!r} are missing: {_ANOTHER_COPY}")
            start, count = places[storage.key]
            file.seek(start)
            content = file.read(count * sizes[storage.key])
            whole = replace(storage, count=len(content) // np.dtype(_dtype(storage.dtype)).itemsize)
            return _as_numbers(whole, content, order)

        return _with_arrays(tree, _remembered(numbers))


# ---- tensors


def _dtype(name: str) -> Any:
    return {"": np.uint8}.get(name) or getattr(ml_dtypes, name, None) or name


def _as_numbers(storage: Storage, content: bytes, order: str) -> Array:
    kind = np.dtype(_dtype(storage.dtype))
    if len(content) != storage.count * kind.itemsize:
        raise Refused(
            f"storage {storage.key!r} is said to hold {storage.count:,} numbers of {kind.itemsize} bytes, and has "
            f"{len(content):,} bytes: {_ANOTHER_COPY}"
        )
    numbers: Array = np.frombuffer(content, kind) if content else np.empty(0, kind)
    if storage.dtype == "bool" and (numbers.view(np.uint8) > 1).any():
        raise Refused(f"storage {storage.key!r} holds what is neither true nor false: {_ANOTHER_COPY}")
    return numbers.byteswap() if order == ">" else numbers


def _remembered(read: Reader) -> Reader:
    """A reader that reads each storage once, so that tensors share what they shared."""
    known: dict[tuple[str, str], Array] = {}

    def numbers(storage: Storage) -> Array:
        place = (storage.key, storage.dtype)
        if place not in known:
            known[place] = read(storage)
        return known[place]

    return numbers


def _array(tensor: StoredTensor, read: Reader) -> Array:
    """The tensor as a view of its storage, which nothing of it may leave, and in which no two of its elements may be one."""
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    if not storage.dtype:  # the storage counts bytes
        size = np.dtype(_dtype(tensor.dtype)).itemsize
        if storage.count % size:
            raise Refused(f"storage {storage.key!r} of {storage.count:,} bytes holds no whole numbers: {_ANOTHER_COPY}")
        storage = replace(storage, dtype=tensor.dtype, count=storage.count // size)
    numbers = read(storage)
    said = f"a tensor of shape {list(shape)}, offset {tensor.offset:,} and strides {list(strides)}"
    if len(shape) != len(strides):
        raise Refused(f"{said} has not a stride for each axis: {_ANOTHER_COPY}")
    offset = storage.start + tensor.offset
    if math.prod(shape) == 0:
        return np.empty(shape, numbers.dtype) if max(shape) < 1 << 40 else _beyond(said, len(numbers))
    reach = 0
    for stride, side in sorted((stride, side) for stride, side in zip(strides, shape, strict=True) if side > 1):
        if stride <= reach:
            raise Refused(f"{said} overlaps itself, as expanded tensors do: save it with .contiguous() from PyTorch")
        reach += (side - 1) * stride
    if offset + reach >= len(numbers):
        _beyond(said, len(numbers))
    size = numbers.dtype.itemsize
    return np.ndarray(shape, numbers.dtype, numbers, offset * size, tuple(stride * size for stride in strides))


def _beyond(said: str, count: int) -> Any:
    raise Refused(f"{said} reaches beyond its storage of {count:,} numbers: {_ANOTHER_COPY}")


def _with_arrays(tree: Any, numbers: Reader) -> Any:
    """The tree with an array for each tensor."""

    def made(value: Any, above: tuple[int, ...]) -> Any:
        if isinstance(value, StoredTensor):
            return _array(value, numbers)
        if isinstance(value, dict | list | tuple):
            _check_depth(value, above)
            below = (*above, id(value))
            if isinstance(value, dict):
                return {key: made(one, below) for key, one in value.items()}
            return type(value)(made(one, below) for one in value)
        if isinstance(value, Name | Storage):
            return str(value) if isinstance(value, Name) else numbers(value)
        return value

    _check_size(tree)
    return made(tree, ())


def _check_depth(value: Any, above: tuple[int, ...]) -> None:
    if len(above) > _DEEPEST or id(value) in above:
        raise Refused(f"its containers hold themselves, or are nested more than {_DEEPEST} deep: {_ANOTHER_COPY}")


def _check_size(tree: Any) -> None:
    """A container that is held at many places is written out at each: a short file could have no end."""
    sizes: dict[int, int] = {}

    def size(value: Any, above: tuple[int, ...]) -> int:
        if not isinstance(value, dict | list | tuple):
            return 1
        _check_depth(value, above)
        if id(value) not in sizes:
            below = (*above, id(value))
            sizes[id(value)] = 1 + sum(size(one, below) for one in (value.values() if isinstance(value, dict) else value))
        return sizes[id(value)]

    if size(tree, ()) > 10_000_000:
        raise Refused(f"its containers hold each other without end: {_ANOTHER_COPY}")
