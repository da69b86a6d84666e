"""What the files of a run say of it, for whoever compares runs: nothing is loaded but small files and facts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats.schema import Field, different, number, several, text, validated, whole
from chainrule.train.checkpoint import checkpoint_data
from chainrule.train.config import Config
from chainrule.train.diagnosis.health_record import HealthRecord, read_health
from chainrule.train.evaluation_files import ANSWERS, KeptAnswers, kept_answers
from chainrule.train.run_folder import RunFolder

_RESULT = (
    Field("loss", number(0)),
    Field("accuracy", number(0, high=1)),
    Field("images", whole(1)),
    Field("epoch", whole(1)),
    Field("training_seconds", number(0)),
    Field("classes", different(several(text(), "texts", least=2))),
)
"""What is used of ``result.json``, beside its confusions."""


@dataclass(frozen=True)
class RunRecord:
    """A run as its files tell.

    Attributes:
        name: its folder, as it was given.
        config: its options.
        rows: the rows of its metrics of kind "train".
        epochs: those of kind "test", one for each epoch that was judged.
        accuracy, loss: of the model that it has now, on the test images; None if it was not judged yet.
        right, images: how many of how many test images are recognised; None where nothing tells that.
        seconds: time spent training.
        classes: their names; none where nothing tells them.
        labels_checksum: that of the labels of the test images, or how many images each class has; empty where unknown.
        answers: what each test image was taken for, if `chainrule evaluate` kept that for the weights of now.
        finished: whether the training came to its end.
        health: the recording of its health; None where there is none.
        notes: what is missing or damaged.
    """

    name: str
    config: Config
    rows: Sequence[dict[str, Any]]
    epochs: Sequence[dict[str, Any]]
    accuracy: float | None
    loss: float | None
    right: int | None
    images: int | None
    seconds: float
    classes: Sequence[str]
    labels_checksum: str
    answers: KeptAnswers | None
    finished: bool
    health: HealthRecord | None = field(default=None, repr=False)
    notes: Sequence[str] = field(default=())

    @property
    def judged(self) -> int:
        """How many epochs were judged."""
        return max((row["epoch"] for row in self.epochs), default=0)

    @property
    def steps_per_epoch(self) -> float | None:
        """Steps of an epoch; None before the first one is done."""
        return next((row["step"] / row["epoch"] for row in self.epochs if row["epoch"]), None)

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "run": self.name,
            "finished": self.finished,
            "epochs": self.judged,
            "accuracy": self.accuracy,
            "loss": self.loss,
            "right": self.right,
            "images": self.images,
            "training_seconds": self.seconds,
        }


def read_run(path: Path) -> RunRecord:
    """What the files in a run's folder say; a UserError if it is no run, or its options are damaged."""
    folder = RunFolder.open(path)
    notes: list[str] = []
    rows = _rows(folder, notes)
    epochs = [row for row in rows if row["kind"] == "test"]
    result = _result(folder, notes)
    data = _data(folder, notes)
    last = epochs[-1] if epochs else None
    seconds = last["seconds"] if last else 0.0
    if result is None:
        if not folder.result.exists():  # otherwise it is damaged, which is noted
            unfinished = "no epoch is finished yet"
            if last is not None:
                unfinished = f"it is not finished: {last['epoch']} of {folder.config.epochs} epochs are compared"
            notes.append(unfinished)
        classes, images = data.get("classes", ()), data.get("test images")
        accuracy, loss = (last["accuracy"], last["loss"]) if last else (None, None)
        confusion = None
    else:
        classes, images, accuracy, loss = result["classes"], result["images"], result["accuracy"], result["loss"]
        seconds, confusion = result["training_seconds"], result["confusion"]
    checksum = data.get("checksum of the test labels")
    return RunRecord(
        name=str(path),
        config=folder.config,
        rows=[row for row in rows if row["kind"] == "train"],
        epochs=epochs,
        accuracy=accuracy,
        loss=loss,
        right=None if accuracy is None or images is None else round(accuracy * images),
        images=images,
        seconds=seconds,
        classes=tuple(classes),
        labels_checksum="" if checksum is None else str(checksum),
        answers=_answers(folder, confusion, notes),
        finished=result is not None,
        health=_health(folder, notes),
        notes=notes,
    )


def _health(folder: RunFolder, notes: list[str]) -> HealthRecord | None:
    try:
        return read_health(folder.health) if folder.health.exists() else None
    except UserError as error:
        notes.append(f"its health is not compared: {error}")
        return None


def _rows(folder: RunFolder, notes: list[str]) -> list[dict[str, Any]]:
    try:
        lines = folder.metrics.read_bytes().splitlines() if folder.metrics.exists() else []
        rows = [row for row in folder.read_metrics() if _makes_sense(row)]
    except OSError as error:
        notes.append(f"{displayed(folder.metrics.name)} cannot be read ({error.strerror})")
        return []
    lost = len(lines) - len(rows)
    if lost and not (lost == 1 and not folder.result.exists()):  # a last line may be cut off by a kill
        notes.append(f"{lost:,} of {len(lines):,} lines of {folder.metrics.name} are damaged and left out of the curves")
    if not lines and folder.result.exists():
        notes.append(f"{folder.metrics.name} is missing: there are no curves")
    return rows


def _makes_sense(row: dict[str, Any]) -> bool:
    """Whether the numbers of a row can be those of a training."""
    numbers = [value for value in row.values() if isinstance(value, int | float)]
    whole = all(type(row[name]) is int and row[name] > 0 for name in ("step", "epoch"))
    return whole and all(map(math.isfinite, numbers)) and row["accuracy"] <= 1


def _result(folder: RunFolder, notes: list[str]) -> dict[str, Any] | None:
    if not folder.result.exists():
        return None
    try:
        found = json.loads(folder.result.read_text(encoding="utf-8"))
        confusion = np.array(found["confusion"], np.int64)
        facts = validated("result.json", {one.name: found[one.name] for one in _RESULT}, _RESULT, "it was edited or damaged")
        right, images, count = int(np.trace(confusion)), int(confusion.sum()), len(facts["classes"])
        if confusion.shape != (count, count) or images != facts["images"] or abs(right / images - facts["accuracy"]) > 1e-9:
            raise UserError("its confusions do not add up to its accuracy")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, UserError) as error:
        notes.append(f"result.json is damaged ({displayed(error)}): what metrics.jsonl says is compared")
        return None
    return {**facts, "confusion": confusion}


def _data(folder: RunFolder, notes: list[str]) -> dict[str, Any]:
    """Facts about the data, from the checkpoint."""
    if not folder.checkpoint.exists():
        return {}
    try:
        return checkpoint_data(folder.checkpoint)
    except UserError as error:
        notes.append(f"its checkpoint is damaged: {error}")
        return {}


def _answers(folder: RunFolder, confusion: Any, notes: list[str]) -> KeptAnswers | None:
    """What each image was taken for, if it was kept and comes to the confusions of the run's result."""
    if confusion is None:
        return None
    path = folder.path / "evaluation" / ANSWERS
    if not path.exists():
        return None
    found = kept_answers(path)
    if found is None:
        notes.append(f"evaluation/{ANSWERS} is damaged: `chainrule evaluate` writes it anew")
        return None
    counted = np.zeros_like(confusion)
    fits = max(found.labels.max(initial=0), found.taken.max(initial=0)) < len(confusion)
    if fits:
        np.add.at(counted, (found.labels, found.taken), 1)
    if not fits or (counted != confusion).any():
        notes.append(f"evaluation/{ANSWERS} is of other weights or images: `chainrule evaluate` writes it anew")
        return None
    return found
