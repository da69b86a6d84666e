"""What a trained model makes of single image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.arguments import explained, explained_methods
from chainrule.data import ImageFolder, Normalize
from chainrule.errors import UserError
from chainrule.models import build
from chainrule.nn import Module
from chainrule.nn import functional as F
from chainrule.ops import precision
from chainrule.tensor import functions, tensor
from chainrule.train.checkpoint import load_model, model_description
from chainrule.train.command_line import command_line
from chainrule.train.run_folder import RunFolder

_BATCH = 250  # images that go through the model at a time, so that memory does not grow with their number


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, (class, probability), best first; ``note`` warns of an unlikely input."""

    path: str
    top: tuple[tuple[str, float], ...]
    note: str = ""


@explained_methods
class TrainedModel:
    """The model of a run, ready for use: weights, classes, and how its images were normalised."""

    @explained
    def __init__(self, run: RunFolder) -> None:
        if not run.model.exists():
            raise UserError(
                f"{run.path} holds no trained model yet: it is written after the first epoch; continue with "
                f"`{command_line('train', '--resume', run.path)}`"
            )
        facts: dict[str, Any] = model_description(run.model)
        self.classes: list[str] = facts["classes"]
        self.image_shape: tuple[int, int, int] = tuple(facts["image_shape"])
        self.normalise = Normalize(facts["mean"], facts["std"])
        channels, height, width = self.image_shape
        self.model: Module = build(facts["model"], channels, len(self.classes), (height, width)).astype(facts["dtype"])
        load_model(run.model, self.model)
        self.model.eval()
        self.dtype, self.precision = facts["dtype"], run.config.precision
        self._dark_background = channels == 1 and facts["mean"][0] < 0.35

    def __repr__(self) -> str:
        size = "×".join(map(str, self.image_shape))
        return f"<TrainedModel {type(self.model).__name__} for images {size}: {len(self.classes)} classes>"

    def predict(self, paths: Sequence[str | Path], top: int = 3, invert: bool = False) -> list[Prediction]:
        """The ``top`` classes of each image file, resized and converted to what the model was trained on.

        ``invert`` turns light into dark, for a dark digit on white paper.
        """
        channels, height, width = self.image_shape
        files = [(Path(path), 0) for path in paths]
        images = ImageFolder(files, [""], "the images", (height, width), "L" if channels == 1 else "RGB")
        found = []
        for start in range(0, len(files), _BATCH):
            pixels = images.images(np.arange(start, min(start + _BATCH, len(files))))
            if invert:
                pixels = 255 - pixels
            scaled = self.normalise(pixels, np.random.default_rng(0))
            with functions.no_grad(), precision(self.precision):
                probabilities = F.softmax(self.model(tensor(scaled, self.dtype))).numpy()
            found += [
                Prediction(str(path), self._best(row, top), self._doubt(image))
                for (path, _), row, image in zip(files[start:], probabilities, pixels, strict=False)
            ]
        return found

    def _best(self, row: np.ndarray[Any, Any], top: int) -> tuple[tuple[str, float], ...]:
        best = np.argsort(-row, kind="stable")[: max(1, top)]
        return tuple((self.classes[i], float(row[i])) for i in best)

    def _doubt(self, image: np.ndarray[Any, Any]) -> str:
        border = np.concatenate([image[:, 0].ravel(), image[:, -1].ravel(), image[:, :, 0].ravel(), image[:, :, -1].ravel()])
        if self._dark_background and border.mean() > 127:
            return "light background, but the model was trained on light strokes on black: try --invert"
        return ""
