"""Weights that a training begins with: of a file, with a new classifier where that is for other classes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import WeightFile
from chainrule.formats.places import settled
from chainrule.models import MODELS, classifier, load_weights, nearest_model
from chainrule.models.weights import classes_of
from chainrule.nn import Module


def located(weights: str) -> str:
    """The absolute path of the file that ``weights`` names, or of the one in the folder that it names."""
    return str(settled(WeightFile(os.path.expanduser(weights)).path))


def digest(weights: str) -> str:
    """The SHA-256 of all tensors of a file (or of an index and its shards), by name, in hexadecimal digits."""
    file, found = WeightFile(weights), hashlib.sha256()
    for name in sorted(file):
        found.update(f"{name} {file.dtypes[name]} {file.shapes[name]}\n".encode())
        found.update(np.ascontiguousarray(file[name]).view(np.uint8).data)
    return found.hexdigest()


def begin_with(model: Module, weights: str, expected: str, channels: int, classes: int) -> tuple[str, ...]:
    """Assign the weights of a file to ``model``, which is for images of so many ``channels`` and so many ``classes``; its last
    layer keeps its new weights if that of the file is for another number of classes, or missing.

    Where the last of the model's layers is not for so many classes, it is no classifier, and all of the file is taken.

    Returns sentences on what was done. ``expected`` is the digest that the file must have.

    Raises:
        UserError: the file does not fit the model, or is no longer the one that the run began with; then nothing is changed.
    """
    file = WeightFile(weights)
    if digest(weights) != expected:
        raise UserError(
            f"{displayed(weights)} is not the file of weights that the run began with: put that back, or begin a new run"
        )
    there, last = classes_of(model, file), classifier(model)
    known = any(cell.shape[:1] == (classes,) for name, cell in model.named_parameters() if name.rpartition(".")[0] == last)
    new = known and there != classes
    first = next(name for name, _ in model.named_parameters())
    try:
        loaded = load_weights(model, file, new_classifier=new)
    except UserError as error:
        taken = [shape[1] for name, shape in file.shapes.items() if name.endswith(first) and len(shape) == 4]
        mode = {1: "L", 3: "RGB"}.get(taken[0]) if taken and taken[0] != channels else None
        hint = (
            f"\nThe file is for images of {taken[0]} channels: --image-mode {mode} reads a folder's images so" if mode else ""
        )
        fit = None if hint else nearest_model(file)
        if fit is not None and fit.whole and set(file.shapes) == set(model.state_cells()):
            height, width = MODELS[fit.name].image[1:]
            hint = f"\n--image-size {height}x{width} reads a folder's images so"
        elif not known and not hint:
            hint = (
                f"\nIts last layer, {displayed(last)}, gives no {classes} scores: for other classes than the file's, the layer "
                "that gives them must be the last that the network has"
            )
        raise UserError(f"{error}{hint}") from None
    notes = loaded.notes
    if known and not new:
        notes = (*notes, f"the classifier {last} is the file's, as that is for {classes:,} classes, too")
    return tuple(f"weights of {displayed(Path(weights).name)}: {note}" for note in notes)
