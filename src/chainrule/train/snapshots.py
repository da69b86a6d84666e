"""Snapshots: the numbers of a model at some steps of its training, small enough to be kept, for whoever looks back at it.

    snapshots/000000000.safetensors    before the first step
    snapshots/000000013.safetensors    after step 13, and so on: about twenty, close together at first, when most is learned

Each holds parameters and buffers by their names in the model. Of a large network only the smallest ones are kept, as many as
fit: so filters of first layers, biases and normalisations rather than the matrices at the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import cannot_write, leftovers, load_safetensors, save_safetensors
from chainrule.formats.schema import Field, text, validated, whole
from chainrule.nn import Module

MOST_SNAPSHOTS = 20
MOST_BYTES = 64_000_000
"""What all snapshots of a run may take together."""

_FORMAT = "chainrule snapshot 1"
_FACTS = (Field("format", text((_FORMAT,))), Field("step", whole()), Field("all", text(("yes", "no"))))
_NAME = re.compile(r"(\d{9,})\.safetensors")

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Snapshot:
    """Parameters and buffers after ``step`` steps, by name; ``whole`` if these are all that the model has."""

    step: int
    values: Arrays
    whole: bool


def snapshot_steps(steps: int) -> list[int]:
    """The steps of a training of so many at which snapshots are taken: 0, the last one, and between them ever fewer."""
    last = MOST_SNAPSHOTS - 1
    return sorted({round(steps * (place / last) ** 2) for place in range(last + 1)})


class Snapshots:
    """Takes the snapshots of a training in ``folder``, if they are ``wanted``; ``check_place`` is called before it writes."""

    def __init__(
        self,
        folder: Path,
        model: Module,
        steps: int,
        wanted: bool = True,
        check_place: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._model, self._check_place = folder, model, check_place
        self._due = frozenset(snapshot_steps(steps)) if wanted else frozenset()
        self._at_first: tuple[Arrays, bool] | None = None

    def __repr__(self) -> str:
        return f"<Snapshots in {displayed(self._folder)} at {len(self._due)} steps>"

    def begun(self, step: int) -> None:
        """The step after ``step`` comes next. What there is before the first one is written once that is done."""
        if step == 0 and self._due:
            self._at_first = self._chosen()

    def ended(self, step: int) -> None:
        """Step ``step``, counted from 1, is done: write a snapshot if one is due."""
        if self._at_first is not None:
            self._write(0, *self._at_first)
            self._at_first = None
        if step in self._due:
            self._write(step, *self._chosen())

    def go_back(self, step: int) -> None:
        """Forget snapshots of later steps than ``step``, which the training goes back to, and files that are unfinished."""
        for path in [*leftovers(self._folder), *(path for at, path in _files(self._folder).items() if not step or at > step)]:
            path.unlink(missing_ok=True)

    def _chosen(self) -> tuple[Arrays, bool]:
        """What fits of the state of the model, the smallest first, and whether that is all."""
        state = self._model.state_dict()
        room, chosen = MOST_BYTES // MOST_SNAPSHOTS, {}
        for name, value in sorted(state.items(), key=lambda item: (item[1].nbytes, item[0])):
            room -= value.nbytes
            if room < 0:
                break
            chosen[name] = np.array(value)
        return chosen, len(chosen) == len(state)

    def _write(self, step: int, values: Arrays, everything: bool) -> None:
        self._check_place()
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        facts = {"format": _FORMAT, "step": step, "all": "yes" if everything else "no"}
        save_safetensors(self._folder / f"{step:09}.safetensors", values, {"chainrule": json.dumps(facts)})


def kept_steps(folder: Path) -> list[int]:
    """The steps of which there are snapshots in a ``folder``, which need not exist."""
    return sorted(_files(folder))


def read_snapshot(folder: Path, step: int) -> Snapshot:
    """The snapshot after ``step`` steps.

    Raises:
        UserError: there is none, or it is damaged.
    """
    known = _files(folder)
    if step not in known:
        listed = ", ".join(map(str, sorted(known))) or "none: it was trained with --no-health, or by an older chainrule"
        raise UserError(f"there is no snapshot of step {step} in {displayed(folder)}: there are {listed}")
    values, metadata = load_safetensors(known[step])
    facts = _facts(known[step], metadata)
    if facts["step"] != step:
        raise UserError(f"{displayed(known[step])} is of step {facts['step']}: it was renamed; use another copy")
    return Snapshot(step, values, facts["all"] == "yes")


def _facts(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        facts = json.loads(metadata.get("chainrule", ""))
    except (ValueError, RecursionError):
        raise UserError(f"{displayed(path)} is a safetensors file, but no snapshot that chainrule wrote") from None
    return validated(f"snapshot {displayed(path)}", facts, _FACTS, "it was edited or damaged; use another copy")


def _files(folder: Path) -> dict[int, Path]:
    try:
        named = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir())
        return {int(match[1]): path for path, match in named if match}
    except OSError:  # there is none
        return {}
