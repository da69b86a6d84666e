"""Files of weights, of chainrule and of others: safetensors in one file or in several, read tensor by tensor.

A large set of weights is shared out among several files (shards), with an index beside them, ``*.safetensors.index.json``, that
says in which shard each tensor lies. Files are mapped into memory: a tensor is read from the disk when it is asked for, so
no more than a single tensor is in memory twice while weights are loaded.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.arguments import explained, explained_methods
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats.safetensors_files import BEGINNING, CHECKSUM, begins_as_safetensors, checksum, opened_safetensors

INDEX = ".safetensors.index.json"
"""The ending of the name of an index."""

_USUAL = ("model.safetensors.index.json", "model.safetensors")  # the names that most libraries give such files in a folder
_PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
_SHORT = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16"}


@explained_methods
class WeightFile(Mapping[str, Any]):
    """The tensors of a file, or of an index and its shards: a mapping of names to arrays, each read when it is asked for.

    ``path`` is a safetensors file, an index (``*.safetensors.index.json``), or a folder that holds either. ``shapes`` and
    ``dtypes`` (float32, float16, bfloat16, or safetensors' own names, such as I64) are known without reading a tensor;
    ``metadata`` are the texts in the header of a file that stands alone.

    Raises:
        UserError: there is no such file, it is damaged or of another kind, or a shard is missing or not the index's.
    """

    @explained
    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike):
            raise UserError(f"weights: path must be the path of a file, got {path!r}")
        if "\0" in os.fspath(path):
            raise UserError(f"weights: no file has a name with a null character, got {os.fspath(path)!r}")
        self.path = _chosen(Path(path))
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self.metadata: dict[str, str] = {}
        self._places: dict[str, Any] = {}
        if self.path.name.endswith(INDEX):
            self._open_shards()
            return
        _check_kind(self.path)
        file = opened_safetensors(self.path)
        self.metadata = dict(file.metadata() or {})
        self._take(file, file.keys())

    def _take(self, file: Any, names: Any) -> None:
        for name in names:
            part = file.get_slice(name)
            self._places[name] = file
            self.shapes[name] = tuple(part.get_shape())
            self.dtypes[name] = _SHORT.get(part.get_dtype(), part.get_dtype())

    def _open_shards(self) -> None:
        places = _weight_map(self.path)
        for shard, count in Counter(places.values()).items():
            path = self.path.parent / shard
            if not path.is_file():
                raise UserError(
                    f"{displayed(self.path)} says that {count:,} of {len(places):,} tensors are in {displayed(shard)}, which "
                    f"is not in {displayed(self.path.parent)}: put it beside the index"
                )
            try:
                file = opened_safetensors(path)
            except UserError as error:
                raise UserError(f"{error} (it is one of the shards of {displayed(self.path)})") from error
            names = [name for name, place in places.items() if place == shard]
            lacking = sorted(set(names) - set(file.keys()))
            if lacking:
                raise UserError(
                    f"{displayed(self.path)} says that {displayed(lacking[0])} is in {displayed(shard)}, which does not hold it"
                    f"{f' (nor {len(lacking) - 1:,} others)' if len(lacking) > 1 else ''}: index and shards are of different "
                    "versions; use another copy of all of them"
                )
            self._take(file, names)

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        file = self._places[name]
        try:
            array: np.ndarray[Any, Any] = file.get_tensor(name)
        except (AttributeError, TypeError, KeyError):
            raise UserError(
                f"{displayed(self.path)}: {displayed(name)} holds numbers of type {self.dtypes[name]}, which NumPy lacks: "
                "convert them to another"
            ) from None
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<WeightFile {displayed(self.path)}: {len(self):,} tensors>"

    def verify(self) -> None:
        """Compare the tensors with the checksum in the metadata, which files have that chainrule wrote.

        Raises:
            UserError: the file differs from what was written.
        """
        said = dict(self.metadata)
        expected = said.pop(CHECKSUM, None)
        if expected is not None and expected != checksum(self, said):
            raise UserError(
                f"{displayed(self.path)} is damaged: its checksum says that what it holds is not what was written; "
                "use another copy"
            )


def _chosen(path: Path) -> Path:
    """The file that ``path`` means; in a folder, its only index or its only safetensors file."""
    if not path.is_dir():
        return path
    for name in _USUAL:
        if (path / name).is_file():
            return path / name
    found = sorted([*path.glob("*" + INDEX), *path.glob("*.safetensors")])
    indices = [one for one in found if one.name.endswith(INDEX)]
    for choice in (indices, found):
        if len(choice) == 1:
            return choice[0]
    if not found:
        raise UserError(f"{displayed(path)} is a folder without a safetensors file: give a file of weights")
    shown = ", ".join(displayed(one.name) for one in found[:5]) + (", ..." if len(found) > 5 else "")
    raise UserError(f"{displayed(path)} is a folder with several files of weights ({shown}): name the one that is meant")


def _check_kind(path: Path) -> None:
    """A UserError for a pickle, which says what to do with it."""
    try:
        with open(path, "rb") as file:
            start = file.read(BEGINNING)
    except OSError:
        return  # whatever opens the file next has a message for this
    if begins_as_safetensors(start):  # whatever its name is
        return
    if start[:4] == b"PK\3\4" or start[:1] == b"\x80" or path.suffix.lower() in _PICKLED:
        raise UserError(
            f"{displayed(path)} is a pickle, as torch.save writes it, which may run code when it is read, so it is not: "
            f"`chainrule convert {displayed(path)}` takes the tensors out of it into a safetensors file"
        )


def _weight_map(path: Path) -> dict[str, str]:
    """The name of the shard for the name of each tensor, as an index says."""
    remedy = "it was cut off, damaged or is of another kind; use another copy"
    try:
        said = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{displayed(path)} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{displayed(path)} is no index of shards ({error}): {remedy}") from None
    places = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise UserError(f'{displayed(path)} is no index of shards (it has no "weight_map" of names and files): {remedy}')
    for name, shard in places.items():
        if not shard or shard in (".", "..") or any(sign in shard for sign in "/\\:\0"):
            raise UserError(
                f"{displayed(path)} says that {displayed(name)} is in {displayed(shard)}: shards are files in the folder of "
                "the index, and nothing outside of it is read"
            )
    return places
