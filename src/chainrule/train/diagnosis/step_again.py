"""A step of a finished or running training, taken again: how far it went, and which images of its batch pulled most.

A training is a function of its options, bit for bit. So the steps up to the one that is asked for are taken again from the
beginning, in memory, without a file of the run being touched; where the run recorded its losses, they are held against these.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.arguments import explained, whole_number
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import load_safetensors
from chainrule.graph.tables import Contents, Table
from chainrule.tensor.random import default_generator
from chainrule.train.config import MOST_COUNTED
from chainrule.train.diagnosis.flow_findings import number_text
from chainrule.train.diagnosis.health_record import read_health
from chainrule.train.diagnosis.per_sample import per_sample_gradient_norms
from chainrule.train.diagnosis.recorder import norm
from chainrule.train.opening import open_datasets
from chainrule.train.recovery import NotFiniteError
from chainrule.train.run_folder import RunFolder
from chainrule.train.trainer import Trainer

_SHOWN, _NAMED = 10, 5
_MUCH = 3.0
"""Times the median gradient of a batch from which on an image stands out."""


@dataclass(frozen=True)
class PullingImage:
    """An image of a batch: its ``number`` in the training images, its class, and the ``gradient`` of its loss alone, the norm
    over all parameters; None where that is not known."""

    number: int
    true_class: str
    gradient: float | None


@dataclass(frozen=True, repr=False)
class StepAgain(Table):
    """A step that was taken again.

    Attributes:
        step: which, counted from 1; ``epoch`` and ``batch``, counted from 1, are where it lies.
        loss: that of the batch, before the step.
        update: the norm of what the step added to all weights, divided by theirs; None for a step that is not finite, which is
            not taken.
        images: those of the batch, first those whose gradient is not finite, then the largest gradient first.
        data: the name of the training images.
        unknown: why the gradients of single images are not known; empty if they are.
    """

    step: int
    epoch: int
    batch: int
    loss: float
    update: float | None
    images: tuple[PullingImage, ...]
    data: str
    unknown: str

    def sentence(self) -> str:
        """What the step did, and which images stand out."""
        did = (
            "not taken, as it is not finite"
            if self.update is None
            else f"an update of {number_text(self.update)} times the weights"
        )
        loss = "nan" if math.isnan(self.loss) else number_text(self.loss, 4)
        begin = f"step {self.step}, batch {self.batch} of epoch {self.epoch}: loss {loss} before it, {did}"
        known = [one.gradient for one in self.images if one.gradient is not None]
        if not known:
            return f"{begin}; {self.unknown}"
        bad = [one for one in self.images if one.gradient is not None and not np.isfinite(one.gradient)]
        if bad:
            each = "the gradient of each image is" if len(bad) == len(self.images) else f"the {_gradients_of(bad)}"
            return f"{begin}; {each} not finite"
        usual = float(np.median(known))
        out = [one for one in self.images if one.gradient is not None and one.gradient > _MUCH * usual]
        if not out:
            return f"{begin}; no image stands out: the largest gradient is {known[0] / max(usual, 1e-300):.1f} times the median"
        return f"{begin}; {_listed(out)} pulled more than {_MUCH:.0f} times as hard as the median of {number_text(usual, 3)}"

    def contents(self) -> Contents:
        """A row for each image, with its share of the sum of all norms."""
        total = sum(one.gradient or 0.0 for one in self.images) or 1.0  # nan where one of them is
        rows = [
            (
                str(one.number),
                displayed(one.true_class),
                "" if one.gradient is None else number_text(one.gradient, 3),
                "" if one.gradient is None else f"{100 * one.gradient / total:.1f}%",
            )
            for one in self.images[:_SHOWN]
        ]
        title = f"Images in step {self.step}, the largest gradients first"
        notes = [
            f"image: its number, counted from 0, in {displayed(self.data)}",
            "gradient: of the image alone, over all parameters, with the weights before the step, in evaluation form",
        ]
        if len(self.images) > _SHOWN:
            notes.append(f"{len(self.images) - _SHOWN} more images are in the batch")
        return Contents(title, ("image>", "class", "gradient>", "share>"), rows, notes)

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)


def _listed(images: Sequence[PullingImage]) -> str:
    numbers = ", ".join(str(one.number) for one in images[:_NAMED])
    more = f" and {len(images) - _NAMED} more" if len(images) > _NAMED else ""
    return f"{'image' if len(images) == 1 else 'images'} {numbers}{more}"


def _gradients_of(images: Sequence[PullingImage]) -> str:
    return f"gradient of {_listed(images)} is" if len(images) == 1 else f"gradients of {_listed(images)} are"


@explained
def step_again(
    run: RunFolder | str | os.PathLike[str], step: int, on_step: Callable[[int, int], None] | None = None
) -> StepAgain:
    """Take the steps of a run up to ``step``, counted from 1, again, and look at that one. Nothing of the run is changed.

    ``on_step`` is told how many of them are done, and of how many.

    Raises:
        UserError: it is no run, it has no such step, its data are not there or others, or the steps come out differently.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    step = whole_number("step", step, 1, MOST_COUNTED)
    config = dataclasses.replace(folder.config, health=False, on_nan="stop")
    opened = open_datasets(config)
    losses, skipped = _recorded(folder), _skipped(folder)
    before = default_generator.state.numpy()
    try:
        nowhere = RunFolder(folder.path / "nothing is written here", dataclasses.replace(opened.config, health=False))
        trainer = Trainer(nowhere, training=opened.training, test=opened.test)
        if step > trainer.steps:
            raise UserError(f"step {step} is not in {displayed(folder.path)}, which has {trainer.steps:,} steps")
        while True:
            for images, labels in trainer.loader:
                now = trainer.progress.step + 1
                if now == step:
                    return _looked_at(trainer, images, labels, losses.get(now))
                if now in skipped:
                    trainer.leave_out()
                else:
                    _same(folder.path, now, trainer.step(images, labels), losses)
                if on_step is not None:
                    on_step(now, step)
                if now % len(trainer.loader) == 0:
                    break
    finally:
        default_generator.state.assign(before)


def _recorded(folder: RunFolder) -> dict[int, float]:
    """The losses of the steps that the run sampled."""
    if not folder.health.exists():
        return {}
    flow = read_health(folder.health, up_to_damage=True).flow
    return dict(zip(flow.steps.tolist(), flow.losses.tolist(), strict=True))


def _skipped(folder: RunFolder) -> list[int]:
    """The steps that the run left out, as they were not finite."""
    try:
        if folder.result.exists():
            facts, name = json.loads(folder.result.read_text()), "skipped_steps"
        elif folder.checkpoint.exists():
            facts, name = json.loads(load_safetensors(folder.checkpoint)[1]["chainrule"]), "skipped"
        else:
            return []
        return [int(step) for step in facts[name]]
    except (ValueError, KeyError, TypeError, OSError):
        return []


def _same(path: Path, step: int, loss: float, recorded: dict[int, float]) -> None:
    if step in recorded and loss != recorded[step]:
        raise UserError(
            f"the steps of {displayed(path)} come out differently here: the loss of step {step} was {recorded[step]!r} then "
            f"and is {loss!r} now: the data, the code of the network or the kind of processor are others"
        )


def _looked_at(trainer: Trainer, images: Any, labels: Any, recorded: float | None) -> StepAgain:
    epoch, batch = divmod(trainer.progress.step, len(trainer.loader))
    numbers, unknown = trainer.loader.numbers(epoch, batch), ""
    gradients: list[float | None]
    try:
        measured = per_sample_gradient_norms(trainer.model, (images.astype(trainer.config.dtype, copy=False), labels))
        gradients = [float(value) for value in measured]
    except UserError as error:
        unknown, gradients = str(error), [None] * len(labels)
    weights = {name: np.array(one.numpy()) for name, one in trainer.model.named_parameters() if one.requires_grad}
    progress = trainer.progress.step + 1
    try:
        loss, update = trainer.step(images, labels), 0.0
    except NotFiniteError:
        loss, update = float("nan"), None
    if update is not None and recorded is not None:
        _same(trainer.folder.path.parent, progress, loss, {progress: recorded})
    with np.errstate(all="ignore"):
        changed = [norm(one.numpy(), weights[name]) for name, one in trainer.model.named_parameters() if name in weights]
        size = np.linalg.norm([norm(value) for value in weights.values()])
    rows = [
        PullingImage(int(number), str(trainer.classes[int(label)]), gradient)
        for number, label, gradient in zip(numbers, labels, gradients, strict=True)
    ]
    rows.sort(key=lambda row: -np.inf if row.gradient is None or not np.isfinite(row.gradient) else -row.gradient)
    if update is not None:
        update = float(np.linalg.norm(changed) / size) if size else float("nan")
    return StepAgain(progress, epoch + 1, batch + 1, float(loss), update, tuple(rows), trainer.loader.dataset.name, unknown)
