"""Predictions of a trained model for single image files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.arguments import explained, explained_methods
from chainrule.data import Normalize
from chainrule.data.folder_contents import LeftOut, Watch
from chainrule.data.image_files import TRANSPARENT, UNFILLED, Decoded, UnreadableImage, decode
from chainrule.nn import Module
from chainrule.nn import functional as F
from chainrule.ops import precision
from chainrule.tensor import no_grad, tensor
from chainrule.train.evaluation import scores_of

_BATCH = 50  # images that go through the model at a time, so that memory does not grow with their number


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, (class, probability), best first; ``note`` warns of an unlikely input.

    ``error`` says why a file gave no image, and then there are no classes.
    """

    path: str
    top: tuple[tuple[str, float], ...] = ()
    note: str = ""
    error: str = ""


@explained_methods
class TrainedModel:
    """A model with its weights, ready for use: its classes, and how its images are normalised.

    ``chainrule.train`` makes them: ``model_of_run``, ``model_of_weights``, ``shipped_model``. ``facts`` are what is noted
    beside the weights of a run; ``source`` says in messages what it is, ``data`` what it was trained on ("" if nobody knows).
    With ``flip_test`` each image is judged together with its mirror image. ``named`` is False where nobody knows the names of
    the classes, which are numbers then; ``notes`` are sentences about what was assumed.
    """

    @explained
    def __init__(
        self,
        model: Module,
        facts: Mapping[str, Any],
        source: str,
        precision: str = "float32",
        flip_test: bool = False,
        data: str = "",
        named: bool = True,
        notes: Sequence[str] = (),
    ) -> None:
        self.classes: list[str] = facts["classes"]
        self.image_shape: tuple[int, int, int] = tuple(facts["image_shape"])
        self.normalise = Normalize(facts["mean"], facts["std"])
        self.model: Module = model.eval()
        self.dtype, self.precision, self.flip_test = facts["dtype"], precision, flip_test
        self.source, self.data, self.named, self.notes = source, data, named, tuple(notes)
        self._dark_background = named and self.image_shape[0] == 1 and facts["mean"][0] < 0.35  # else the mean is assumed

    def __repr__(self) -> str:
        size = "×".join(map(str, self.image_shape))
        return f"<TrainedModel {type(self.model).__name__} for images {size}: {len(self.classes)} classes>"

    def predict(
        self, paths: Sequence[str | Path | LeftOut], top: int = 3, invert: bool = False, watch: Watch | None = None
    ) -> list[Prediction]:
        """The ``predictions`` as a list."""
        return list(self.predictions([paths] if isinstance(paths, str | Path) else paths, top, invert, watch))

    def predictions(
        self, paths: Sequence[str | Path | LeftOut], top: int = 3, invert: bool = False, watch: Watch | None = None
    ) -> Iterator[Prediction]:
        """The ``top`` classes of each image file, read as the training images were (turned as its EXIF orientation says, on
        white where it is transparent), and resized and converted to what the model was trained on.

        Images are read batch by batch as their predictions are asked for, so any number of them takes little memory. A file
        that gives no image, or what ``chainrule.data.image_paths.find_images`` left out, is no reason to lose the others: its
        prediction has an ``error``. ``invert`` turns light into dark, for a dark digit on white paper. ``watch`` is told after
        each batch of files.
        """
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="chainrule-reader") as readers:
            for start in range(0, len(paths), _BATCH):
                batch = paths[start : start + _BATCH]
                yield from self._predict_batch([_named(one) for one in batch], readers.map(self._decoded, batch), top, invert)
                if watch is not None:
                    watch("predicting", start + len(batch), len(paths))

    def _decoded(self, path: str | Path | LeftOut) -> Decoded | str:
        """The image of a file, or the reason why it gives none."""
        if isinstance(path, LeftOut):
            return path.reason
        channels, height, width = self.image_shape
        try:
            return decode(Path(path), (height, width), "L" if channels == 1 else "RGB")
        except UnreadableImage as error:
            return error.reason

    def _predict_batch(self, paths: Sequence[str], read: Iterable[Decoded | str], top: int, invert: bool) -> list[Prediction]:
        images: dict[int, Decoded] = {}
        errors: dict[int, str] = {}
        for place, found in enumerate(read):
            if isinstance(found, str):
                errors[place] = found
            else:
                images[place] = found
        if not images:
            return [Prediction(path, error=errors[place]) for place, path in enumerate(paths)]
        pixels = np.stack([one.pixels.transpose(2, 0, 1) for one in images.values()])
        if invert:
            pixels = 255 - pixels
        scaled = self.normalise(pixels, np.random.default_rng(0))
        with no_grad(), precision(self.precision):
            probabilities = F.softmax(scores_of(self.model, tensor(scaled, self.dtype), self.flip_test)).numpy()
        predictions = {
            place: Prediction(paths[place], self._best(row, top), self._doubt(image, decoded, invert))
            for (place, decoded), row, image in zip(images.items(), probabilities, pixels, strict=True)
        }
        return [
            predictions[place] if place in predictions else Prediction(path, error=errors[place])
            for place, path in enumerate(paths)
        ]

    def _best(self, row: np.ndarray[Any, Any], top: int) -> tuple[tuple[str, float], ...]:
        best = np.argsort(-row, kind="stable")[: max(1, top)]
        return tuple((self.classes[i], float(row[i])) for i in best)

    def _doubt(self, image: np.ndarray[Any, Any], decoded: Decoded, inverted: bool) -> str:
        converted = [*([TRANSPARENT] if decoded.transparent else []), *([UNFILLED] if decoded.unfilled else [])]
        if decoded.blank:
            return "; ".join([*converted, "nothing is seen on it: all pixels are alike"])
        border = np.concatenate([image[:, 0].ravel(), image[:, -1].ravel(), image[:, :, 0].ravel(), image[:, :, -1].ravel()])
        trained, light = "but the model was trained on light strokes on black", ""
        if self._dark_background and border.mean() > 127:
            light = (
                f"dark background, {trained}: leave --invert out" if inverted else f"light background, {trained}: try --invert"
            )
        return "; ".join([*converted, *([light] if light else [])])


def _named(path: str | Path | LeftOut) -> str:
    return str(path.path if isinstance(path, LeftOut) else path)
