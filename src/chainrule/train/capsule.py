"""A capsule: one training step with all that it needs, in one file, so that it can be looked at again, on another machine too.

A safetensors file. Tensors: ``model.<name>``, ``optimizer.<place>.<slot>``, ``random.state`` and, where weights are averaged,
``ema.<name>`` as they were before the step, as a checkpoint has them; ``images`` (B,C,H,W), normalised, augmented and not yet
mixed, ``labels`` (B,), and ``numbers`` (B,), which images of the training images they are. Metadata ``chainrule``: JSON with
the options of the run, the place of the step in it, and what was noticed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.arguments import explained, explained_methods
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import load_safetensors, save_safetensors
from chainrule.formats.schema import Field, different, several, shown, text, validated, whole
from chainrule.models import build
from chainrule.models.own import is_own
from chainrule.tensor.random import default_generator
from chainrule.train.checkpoint import set_state
from chainrule.train.config import Config, check_code, elsewhere
from chainrule.train.diagnosis.bad_node import BadNode
from chainrule.train.diagnosis.first_bad_node import first_bad
from chainrule.train.optimization import average_of, make_optimizer
from chainrule.train.parts import freeze, freeze_statistics
from chainrule.train.step import TrainingStep

_FORMAT = "chainrule capsule 1"
_REMEDY = "it was edited or damaged; use another copy"
_PART_NAMES = ("images", "labels", "the share of the part", "the other labels", "the share of the labels")
_FIELDS = (
    Field("options", text()),
    Field("classes", different(several(text(), "texts", least=2))),
    Field("step", whole(1)),
    Field("epoch", whole()),
    Field("batch", whole()),
    Field("noticed", text()),
    Field("data", text()),
)
"""What the metadata of a capsule say."""


@explained_methods
@dataclass(frozen=True, repr=False)
class Capsule:
    """A step as it was before it was taken.

    Attributes:
        config: the options of the run.
        classes: the names of the classes.
        step: the number of the step in the run, counted from 1.
        epoch: the epoch, counted from 0.
        batch: the number of the batch in the epoch, counted from 0.
        noticed: what was not finite, in words.
        data: the name of the training images.
        numbers: which of the training images are in the batch, int64 (B,).
        images: float32 (B,C,H,W), as the loader gave them.
        labels: int64 (B,).
        state: weights, buffers, state of the optimizer and the random counter, by the names that a checkpoint has for them.
    """

    config: Config
    classes: list[str]
    step: int
    epoch: int
    batch: int
    noticed: str
    data: str
    numbers: np.ndarray[Any, Any]
    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    state: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<Capsule of step {self.step} of a training of {displayed(self.config.model)}: {displayed(self.noticed)}>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the capsule, atomically."""
        said = {name.name: getattr(self, name.name) for name in _FIELDS if name.name != "options"}
        metadata = {"format": _FORMAT, "options": self.config.to_json(), **said}
        tensors = {**self.state, "images": self.images, "labels": self.labels, "numbers": self.numbers}
        save_safetensors(path, tensors, {"chainrule": json.dumps(metadata)})

    def first_bad_node(self) -> BadNode | None:
        """The first node of the step whose value is not finite, found by NumPy, node by node; None if it finds none.

        Raises:
            UserError: the network cannot be built, or is not that of the capsule.
        """
        config, random = self.config, default_generator.state.numpy()
        try:
            model = build(config.model, self.images.shape[1], len(self.classes), self.images.shape[2:], config.model_digest)
            model = model.astype(config.dtype).train()
            if config.freeze:
                freeze(model, config.freeze)
            freeze_statistics(model)
            optimizer, ema = make_optimizer(config, model), average_of(config, model)
            try:
                set_state(self.state, model, optimizer, ema)
            except UserError as error:
                raise UserError(f"this capsule is of another network or optimizer: {error}") from None
            step = TrainingStep(model, optimizer, config, ema)
            return first_bad(
                lambda *part: step.loss(*part)[0],
                list(step.parts(step.mixed(self.images, self.labels, (self.epoch, self.batch)))),
                _PART_NAMES,
                optimizer,
                step.update,
                config.precision,
                config.model.rpartition(":")[0] if is_own(config.model) else "",
            )
        finally:
            default_generator.state.assign(random)

    def image(self, row: int) -> str:
        """The image in a row of the batch, in words: its number and its class."""
        mixed = "; it is mixed with others of the batch" if self.config.mixup or self.config.cutmix else ""
        return (
            f"row {row} of the batch is image {int(self.numbers[row])} of {displayed(self.data)}, of class "
            f"'{displayed(self.classes[int(self.labels[row])])}'{mixed}"
        )


@explained
def open_capsule(path: str | os.PathLike[str], model: str = "") -> Capsule:
    """The capsule in a file. ``model`` says where the file of a network of one's own is now, as ``FILE.py:FUNCTION``.

    Raises:
        UserError: there is no such file, it is damaged, no capsule, or one of another version.
    """
    path = Path(path)
    tensors, metadata = load_safetensors(path)
    try:
        facts = json.loads(metadata.get("chainrule", ""))
        found = facts.pop("format")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{displayed(path)} is a safetensors file, but no capsule that chainrule wrote") from None
    if found != _FORMAT:
        raise UserError(f"{displayed(path)} is a {shown(found)}, expected a {_FORMAT!r}")
    source = f"capsule {displayed(path)}"
    facts = validated(source, facts, _FIELDS, _REMEDY)
    config = Config.from_json(facts.pop("options"), source)
    if model:
        config = elsewhere(config, model)
    elif is_own(config.model):
        file = Path(config.model.rpartition(":")[0])
        if file.absolute().parent == path.absolute().parent:
            raise UserError(
                f"{displayed(path)} names {displayed(file)}, which lies beside it, as the code of its network: whoever sent "
                "both to you could run code here; if you trust it, give --model FILE.py:FUNCTION"
            )
        check_code(displayed(path), config)
    _check_batch(source, tensors, len(facts["classes"]))
    batch: dict[str, Any] = {name: tensors.pop(name) for name in ("images", "labels", "numbers")}
    return Capsule(config, state=tensors, **facts, **batch)


def _check_batch(source: str, tensors: Mapping[str, Any], classes: int) -> None:
    """UserError unless images, labels and their numbers are there and fit each other."""
    kinds = {"images": ("f", 4), "labels": ("i", 1), "numbers": ("i", 1)}
    for name, (kind, axes) in kinds.items():
        if name not in tensors:
            raise UserError(f"{source} has no {name}: {_REMEDY}")
        array = tensors[name]
        if array.dtype.kind != kind or array.ndim != axes or len(array) != len(tensors["images"]) or not len(array):
            raise UserError(f"{source}: {name} is {array.dtype.name} {array.shape}, which is no batch: {_REMEDY}")
    labels = tensors["labels"]
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"{source}: labels are {labels.min()} to {labels.max()} for {classes} classes: {_REMEDY}")
    if "random.state" not in tensors or tensors["random.state"].shape != (2,):
        raise UserError(f"{source} lacks the state of the random numbers: {_REMEDY}")
