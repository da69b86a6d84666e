"""The folder that an evaluation leaves: pictures, tables, and all figures as JSON.

evaluation.json   loss, accuracy and confusions, accuracy by class, and the worst images
confusion.svg     the confusion matrix as a picture, and confusion.png
confusion.csv     the same as a table: a row for each class, a column for each that its images were taken for
classes.csv       accuracy of each class with its interval of confidence
worst.png         the images with the highest losses
worst.csv         their files, in the same order
answers.csv       the number of its class and of that which it was taken for, image by image, in the order of the data set
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data import Dataset
from chainrule.formats import write_atomically
from chainrule.train.csv_lines import csv_line, harmless
from chainrule.train.evaluation import Answers, Evaluation
from chainrule.train.pictures.confusion_picture import confusion_picture
from chainrule.train.pictures.contact_sheet import Judged, contact_sheet
from chainrule.train.result_folder import ResultFolder

MOST_SHOWN = 40
"""Images on the contact sheet."""

ANSWERS = "answers.csv"
_ANSWERS_HEADER = ["class", "taken_for"]

_FOLDER = ResultFolder("evaluation", "an", "evaluation.json")


def check_folder(folder: Path) -> None:
    """UserError if ``folder`` contains anything, but no earlier evaluation whose files may be replaced."""
    _FOLDER.check(folder)


def worst_images(evaluation: Evaluation, names: Sequence[str] | None) -> list[Judged]:
    """The images with the highest losses, the highest first; ``names`` are of all images, else they go by their numbers."""
    answers, classes = evaluation.answers, evaluation.classes
    if answers is None:
        return []
    order = np.argsort(-answers.losses, kind="stable")[:MOST_SHOWN].tolist()
    return [
        Judged(
            place=place,
            name=str(place) if names is None else names[place],
            number=int(answers.labels[place]),
            taken=int(answers.taken[place]),
            true_class=classes[answers.labels[place]],
            taken_for=classes[answers.taken[place]],
            probability=float(answers.probabilities[place]),
            loss=float(answers.losses[place]),
        )
        for place in order
    ]


def facts_of(evaluation: Evaluation, worst: Sequence[Judged], data: str) -> dict[str, Any]:
    """All figures, as JSON has them."""
    return {
        "kind": _FOLDER.kind,
        "data": data,
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "interval": evaluation.interval,
        "images": evaluation.images,
        "classes": list(evaluation.classes),
        "confusion": evaluation.confusion.tolist(),
        "by_class": [
            {"class": one.name, "images": one.images, "right": one.right, "accuracy": one.accuracy, "interval": one.interval}
            for one in evaluation.by_class()
        ],
        "worst": [
            {
                "image": one.name,
                "class": one.true_class,
                "taken_for": one.taken_for,
                "probability": one.probability,
                "loss": one.loss,
            }
            for one in worst
        ],
    }


def write_evaluation(folder: Path, evaluation: Evaluation, worst: Sequence[Judged], test: Dataset) -> None:
    """Write the files of an evaluation into ``folder``, which is made if need be; each is whole or as it was.

    Raises:
        UserError: the folder contains something else, or cannot be written.
    """
    _FOLDER.begin(folder, facts_of(evaluation, worst, test.name))
    picture = confusion_picture(evaluation)
    write_atomically(folder / "confusion.svg", picture.svg())
    write_atomically(folder / "confusion.png", picture.png(2 if max(picture.width, picture.height) < 3_000 else 1))
    write_atomically(folder / "confusion.csv", _confusion_csv(evaluation))
    write_atomically(folder / "classes.csv", _classes_csv(evaluation))
    write_atomically(folder / "worst.csv", _worst_csv(worst))
    if evaluation.answers is not None:
        write_atomically(folder / ANSWERS, _answers_csv(evaluation.answers))
    title = f"The {len(worst)} worst of {evaluation.images:,} images, the highest loss first"
    write_atomically(folder / "worst.png", contact_sheet(title, test.images([one.place for one in worst]), worst))


@dataclass(frozen=True)
class KeptAnswers:
    """The class of each test image (N,), and that which it was taken for (N,), as numbers."""

    labels: np.ndarray[Any, np.dtype[np.int64]]
    taken: np.ndarray[Any, np.dtype[np.int64]]


def kept_answers(path: Path) -> KeptAnswers | None:
    """What ``write_evaluation`` kept of each image; None if the file is damaged."""
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        numbers = np.array([line.split(",") for line in lines]).astype(np.int64)
    except (OSError, ValueError, OverflowError):
        return None
    if header != ",".join(_ANSWERS_HEADER) or numbers.ndim != 2 or numbers.shape[1] != 2 or numbers.min() < 0:
        return None
    return KeptAnswers(numbers[:, 0], numbers[:, 1])


def _answers_csv(answers: Answers) -> str:
    rows = np.stack([answers.labels, answers.taken], 1).tolist()
    return "".join(map(csv_line, [_ANSWERS_HEADER, *([str(one) for one in row] for row in rows)]))


def _confusion_csv(evaluation: Evaluation) -> str:
    names = [harmless(name, "'") for name in evaluation.classes]
    lines = [["class", *names], *([name, *map(str, row)] for name, row in zip(names, evaluation.confusion, strict=True))]
    return "".join(map(csv_line, lines))


def _classes_csv(evaluation: Evaluation) -> str:
    lines = [["number", "class", "images", "right", "accuracy", "low", "high"]]
    for number, one in enumerate(evaluation.by_class()):
        figures = ["", "", ""] if one.accuracy is None else [f"{value:.4f}" for value in (one.accuracy, *one.interval)]
        lines.append([str(number), harmless(one.name, "'"), str(one.images), str(one.right), *figures])
    return "".join(map(csv_line, lines))


def _worst_csv(worst: Sequence[Judged]) -> str:
    lines = [["place", "image", "class", "taken_for", "probability", "loss"]]
    for place, one in enumerate(worst, 1):
        names = [harmless(name, "'") for name in (one.true_class, one.taken_for)]
        lines.append([str(place), harmless(one.name, "./"), *names, f"{one.probability:.6g}", f"{one.loss:.6g}"])
    return "".join(map(csv_line, lines))
