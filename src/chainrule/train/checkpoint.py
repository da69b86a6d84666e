"""Checkpoints: everything that a training needs to go on as if nothing had happened, in one safetensors file.

Tensors: ``model.<name>`` (parameters and buffers), ``optimizer.<place>.<slot>``, ``random.state``, ``ema.<name>`` where weights
are averaged, and ``health.alive`` where units are watched. Metadata ``chainrule``: JSON with the step, the loader's cursor, the
sums of the running epoch, the best epoch so far, the size of the metrics file, what tells the run from others (its options and
facts about its data), and what is needed to use its weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import load_safetensors, save_safetensors
from chainrule.formats.schema import Field, different, number, several, shown, text, validated, whole
from chainrule.models import MODELS
from chainrule.models.own import is_own
from chainrule.nn import Module
from chainrule.optim import EMA, Optimizer
from chainrule.tensor.random import default_generator

_FORMAT = "chainrule checkpoint 1"
_MODEL_FORMAT = "chainrule model 1"


@dataclass
class Sums:
    """Sums over some batches."""

    loss: float = 0.0
    correct: int = 0
    images: int = 0

    def add(self, mean_loss: float, correct: int, images: int) -> None:
        """Count a batch: its number of images, their mean loss, and how many of them were recognised."""
        self.loss += mean_loss * images
        self.correct += correct
        self.images += images

    @property
    def mean_loss(self) -> float:
        """The mean loss of an image."""
        return self.loss / self.images

    @property
    def accuracy(self) -> float:
        """The share of images that were recognised."""
        return self.correct / self.images


@dataclass(frozen=True)
class Best:
    """The epoch whose weights are kept as the model, counted from 1 (0: none yet), and how good it was on the test images."""

    epoch: int = 0
    accuracy: float = 0.0
    loss: float = 0.0


@dataclass
class Progress:
    """How far a run has come; ``seconds`` is time spent training, ``waiting_seconds`` how much of it the loader was waited for,
    and ``metrics_checksum`` that of the metrics file so far.

    ``epoch`` sums over the epoch that is running, ``row`` over the steps since the last "train" row of the metrics. ``judged``
    is the number of epochs that were evaluated, ``skipped`` the steps, counted from 1, that were left out as they were not
    finite. ``alive`` has for each unit that is watched the last step at which it was above 0 (see ``diagnosis.recorder``); None
    where none is, or none was yet.
    """

    step: int = 0
    cursor: dict[str, int] | None = None
    epoch: Sums = field(default_factory=Sums)
    row: Sums = field(default_factory=Sums)
    judged: int = 0
    best: Best = field(default_factory=Best)
    seconds: float = 0.0
    waiting_seconds: float = 0.0
    metrics_size: int = 0
    metrics_checksum: str = ""
    skipped: list[int] = field(default_factory=list)
    alive: np.ndarray[Any, Any] | None = None


def _object(value: Any) -> str | None:
    return None if isinstance(value, dict) else "an object"


def _model(value: Any) -> str | None:
    known = isinstance(value, str) and (value in MODELS or is_own(value))
    return None if known else f"one of {', '.join(sorted(MODELS))}, or FILE.py:FUNCTION"


def _digest(value: Any) -> str | None:
    fits = isinstance(value, str) and re.fullmatch(r"([0-9a-f]{64})?", value)
    return None if fits else "a SHA-256 in hexadecimal digits, or empty"


_REMEDY = "it was edited or damaged; use another copy"

_MODEL = (
    Field("model", _model),
    Field("model_digest", _digest),
    Field("image_shape", several(whole(1, 1 << 20), "whole numbers of at least 1", 3)),
    Field("classes", different(several(text(), "texts", least=2))),
    Field("mean", several(number(), "finite numbers", least=1)),
    Field("std", several(number(above=0), "numbers above 0", least=1)),
    Field("dtype", text(("float32", "float64"))),
)
"""What the metadata of a model say."""

_SUMS = (Field("loss", number(0)), Field("correct", whole()), Field("images", whole()))
_CHECKPOINT = (
    Field("run", fields=(Field("options", _object), Field("data", _object), Field("weights", fields=_MODEL))),
    Field("step", whole()),
    Field(
        "cursor",
        fields=(Field("seed", whole(0, 2**64 - 1)), Field("epoch", whole()), Field("batch", whole())),
        may_be_null=True,
    ),
    Field("epoch", fields=_SUMS),
    Field("row", fields=_SUMS),
    Field("judged", whole()),
    Field("best", fields=(Field("epoch", whole()), Field("accuracy", number(0, high=1)), Field("loss", number(0)))),
    Field("seconds", number(0)),
    Field("waiting_seconds", number(0)),
    Field("metrics_size", whole()),
    Field("metrics_checksum", text()),
    Field("skipped", different(several(whole(1), "whole numbers of at least 1"))),
)
"""What the metadata of a checkpoint say."""

Run = Mapping[str, Mapping[str, Any]]
"""What a checkpoint belongs to: "options" of the run and facts about its "data", as JSON has them, and what it takes to use its
"weights"."""


def save_checkpoint(
    path: Path, model: Module, optimizer: Optimizer, progress: Progress, run: Run, ema: EMA | None = None
) -> None:
    """Write all that ``load_checkpoint`` needs, atomically."""
    tensors, facts = state_of(model, optimizer, ema), asdict(progress)
    alive = facts.pop("alive")
    if alive is not None:
        tensors["health.alive"] = alive
    save_safetensors(path, tensors, {"chainrule": json.dumps({"format": _FORMAT, "run": run, **facts})})


def state_of(model: Module, optimizer: Optimizer, ema: EMA | None = None) -> dict[str, Any]:
    """All that a step changes, as arrays, by the names that a checkpoint has for them."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizer.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in (ema.state_dict() if ema else {}).items()}
    tensors["random.state"] = default_generator.state.numpy()
    return tensors


def set_state(state: Mapping[str, Any], model: Module, optimizer: Optimizer, ema: EMA | None = None) -> None:
    """Put back what ``state_of`` gave; averages and random numbers only if they are in it.

    Raises:
        UserError: it is of another model or optimizer.
    """
    parts = _parts_of(state)
    model.load_state_dict(parts["model"])
    optimizer.load_state_dict(parts["optimizer"])
    if ema is not None:
        ema.load_state_dict(parts["ema"])
    if "state" in parts["random"]:
        default_generator.state.assign(parts["random"]["state"])


def _parts_of(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The tensors of each part of a state, by what their names begin with."""
    parts: dict[str, dict[str, Any]] = {"model": {}, "optimizer": {}, "ema": {}, "random": {}}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    return parts


def load_checkpoint(path: Path, model: Module, optimizer: Optimizer, run: Run, ema: EMA | None = None) -> Progress:
    """Take model, optimizer, random counter and, if there are any, averages over from a file.

    Raises:
        UserError: it is no checkpoint of chainrule, or one of another run, data, model or optimizer; then nothing is changed.
    """
    tensors, metadata = load_safetensors(path)
    facts = _facts(path, metadata, _FORMAT, "checkpoint")
    saved, epoch, row, best = facts.pop("run"), Sums(**facts.pop("epoch")), Sums(**facts.pop("row")), Best(**facts.pop("best"))
    progress = Progress(**facts, epoch=epoch, row=row, best=best, alive=_alive(path, tensors, facts["step"]))
    _check_sums(path, progress)
    _check_run(path, saved, run)
    parts = _parts_of(tensors)
    if "state" not in parts["random"] or np.shape(parts["random"]["state"]) != (2,):
        raise UserError(f"{displayed(path)} lacks the state of the random numbers: it is no whole checkpoint")
    before = model.state_dict(), optimizer.state_dict()
    _load_model(path, model, parts["model"])
    try:
        optimizer.load_state_dict(parts["optimizer"])
        if ema is not None:
            ema.load_state_dict(parts["ema"])
    except UserError as error:
        model.load_state_dict(before[0])
        optimizer.load_state_dict(before[1])
        what = "with other averages" if str(error).startswith(("state", "the state")) else "of another optimizer"
        raise UserError(f"{displayed(path)} is {what}: {error}") from None
    default_generator.state.assign(parts["random"]["state"])
    return progress


def _alive(path: Path, tensors: Mapping[str, Any], step: int) -> np.ndarray[Any, Any] | None:
    """At which step each unit was last above 0, where that is noted."""
    alive = tensors.get("health.alive")
    if alive is None:
        return None
    array = np.asarray(alive)
    if array.dtype != np.int64 or array.ndim != 1 or ((array < 0) | (array > step)).any():
        raise UserError(f"{displayed(path)}: health.alive does not hold steps up to {step}: {_REMEDY}")
    return array


def checkpoint_data(path: Path) -> dict[str, Any]:
    """The facts about the data of the run that a checkpoint belongs to; a UserError if it is damaged."""
    _, metadata = load_safetensors(path)
    facts: dict[str, Any] = _facts(path, metadata, _FORMAT, "checkpoint")["run"]["data"]
    return facts


def _check_sums(path: Path, progress: Progress) -> None:
    """Refuse facts each of which is in range, but which cannot all be true."""
    for name, sums in (("epoch", progress.epoch), ("row", progress.row)):
        if sums.correct > sums.images:
            raise UserError(
                f"checkpoint {displayed(path)}: {name}.correct is {sums.correct}, more than {name}.images, {sums.images}: "
                f"{_REMEDY}"
            )
    if progress.best.epoch > progress.judged:
        raise UserError(
            f"checkpoint {displayed(path)}: best.epoch is {progress.best.epoch}, more than judged, {progress.judged}: {_REMEDY}"
        )
    cursor = progress.cursor or {"epoch": 0, "batch": 0}
    ended = cursor["epoch"]  # the last of them is judged after its last step, and a stop may come in between
    if progress.judged not in (ended, ended - (cursor["batch"] == 0 < ended)):
        raise UserError(
            f"checkpoint {displayed(path)}: judged is {progress.judged}, but the epochs that have ended are {ended}: {_REMEDY}"
        )
    if progress.step and progress.cursor is None:
        raise UserError(f"checkpoint {displayed(path)}: cursor is null at step {progress.step}: {_REMEDY}")


def _check_run(path: Path, saved: Run, run: Run) -> None:
    """Refuse a checkpoint of other options or data than the run's: going on, its weights would be those of neither."""
    for part in ("options", "data"):
        for name in run[part]:
            if name not in saved[part]:
                raise UserError(f"checkpoint {displayed(path)}: run.{part}.{name} is missing: {_REMEDY}")
    for name, now in run["options"].items():
        then = saved["options"][name]
        if then != now:
            raise UserError(
                f"{displayed(path)} was written with {name} {then!r}, this run has {name} {now!r}: "
                "put the files of the run back as they were, or begin a new run"
            )
    for part in ("data", "weights"):
        for name, now in run[part].items():
            then = saved[part][name]
            if name != "model" and _rounded(then) != _rounded(now):  # which may have been moved
                raise UserError(
                    f"the data are not those of {displayed(path)}: {name} {_short(then)} then, {_short(now)} now: "
                    "put the data back as they were, or begin a new run"
                )


def _rounded(value: Any) -> Any:
    """A list of floats without their last digits, which another processor may round in another way; anything else as it is."""
    floats = isinstance(value, list) and all(isinstance(number, float) for number in value)
    return [float(f"{number:.9g}") for number in value] if floats else value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def save_model(path: Path, model: Module, description: Mapping[str, Any]) -> None:
    """Write the weights alone, by their names in the model, with what is needed to use them in the metadata."""
    metadata = {"chainrule": json.dumps({"format": _MODEL_FORMAT, **description})}
    save_safetensors(path, model.state_dict(), metadata)


def load_model(path: Path, model: Module) -> None:
    """Load weights that ``save_model`` wrote into a model of the same kind."""
    tensors, metadata = load_safetensors(path)
    _facts(path, metadata, _MODEL_FORMAT, "model")
    _load_model(path, model, tensors)


def is_model(metadata: Mapping[str, str]) -> bool:
    """Whether the metadata of a safetensors file say that ``save_model`` wrote it."""
    return f'"format": "{_MODEL_FORMAT}"' in metadata.get("chainrule", "")


def model_description(path: Path) -> dict[str, Any]:
    """What ``save_model`` noted beside the weights."""
    _, metadata = load_safetensors(path)
    return _facts(path, metadata, _MODEL_FORMAT, "model")


def is_checkpoint(metadata: Mapping[str, str]) -> bool:
    """Whether the metadata of a safetensors file say that ``save_checkpoint`` wrote it."""
    return f'"format": "{_FORMAT}"' in metadata.get("chainrule", "")


def weights_description(path: Path) -> dict[str, Any]:
    """What is needed to use the weights of a file that ``save_model`` or ``save_checkpoint`` wrote."""
    _, metadata = load_safetensors(path)
    if is_model(metadata):
        return _facts(path, metadata, _MODEL_FORMAT, "model")
    facts: dict[str, Any] = _facts(path, metadata, _FORMAT, "checkpoint")["run"]["weights"]
    return facts


def _load_model(path: Path, model: Module, tensors: Mapping[str, Any]) -> None:
    try:
        model.load_state_dict(tensors)
    except UserError as error:
        raise UserError(f"{displayed(path)} is of another model: {error}") from None


def _facts(path: Path, metadata: Mapping[str, str], wanted: str, what: str) -> dict[str, Any]:
    try:
        facts = json.loads(metadata.get("chainrule", ""))
        found = facts.pop("format")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{displayed(path)} is a safetensors file, but no {what} that chainrule wrote") from None
    if found != wanted:
        raise UserError(f"{displayed(path)} is a {shown(found)}, expected a {wanted!r}")
    source = f"{what} {displayed(path)}"
    facts = validated(source, facts, _CHECKPOINT if what == "checkpoint" else _MODEL, _REMEDY)
    described = facts if what == "model" else facts["run"]["weights"]
    channels = described["image_shape"][0]
    for name in ("mean", "std"):
        if len(described[name]) != channels:
            raise UserError(
                f"{source}: {name} has {len(described[name])} numbers, image_shape has {channels} channels: {_REMEDY}"
            )
    return facts
