"""What the lens shows: a run, over or still training, a model, or the LeNet that ships with chainrule; with its images, if
there are."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from chainrule import forks
from chainrule.data import Dataset, load_dataset
from chainrule.data.folder_scan import look_at
from chainrule.data.image_files import CHANNELS
from chainrule.data.image_folders import split_of
from chainrule.data.named import KNOWN, folder_of_images
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.graph import Array
from chainrule.lens.server.history import NOWHERE, History, Places, places_of, stamp_of
from chainrule.lens.server.refusals import Refusal
from chainrule.lens.tracing import Pass, Tracer
from chainrule.lens.tracing.image_of_file import image_of_file
from chainrule.tensor import Tensor
from chainrule.train import RunFolder, TrainedModel, command_line, model_of_run, shipped_model
from chainrule.train.opening import check_data_of_run

Kind = Literal["run", "model", "shipped"]
T = TypeVar("T")


class Shown(NamedTuple):
    """An image that can be chosen by its number: ``pixels`` (C, H, W), bytes, or numbers from 0 to 1; its ``label``, the number
    of its class, if that is known; and ``notes`` on what was done to it."""

    pixels: Array
    label: int | None
    notes: Sequence[str] = ()


class Subject:
    """What is shown. Everything that computes or reads images belongs to one thread at a time: see ``holding``.

    Attributes:
        kind: "run", "model" for one without its run, or "shipped" for the LeNet that ships.
        title: what it is called on the page.
        run: its folder; None where there is none.
        history: what its files tell of the training; None where there is no run.
    """

    def __init__(self, kind: Kind, title: str, run: RunFolder | None = None) -> None:
        self.kind, self.title, self.run = kind, title, run
        self._lock = forks.renewed(threading.RLock())
        self.history = None if run is None else History(run)
        self._places = NOWHERE
        self._trained: TrainedModel | None = None
        self._stamp: object = None
        self._tracer: Tracer | None = None
        self._traced_model: TrainedModel | None = None
        self._example: Pass | None = None
        self._dataset: Dataset | None = None
        self._own: Shown | None = None  # an image that somebody named
        self._own_name = ""

    def __repr__(self) -> str:
        return f"<Subject {self.title}>"

    @classmethod
    def shipped(cls) -> Subject:
        """The LeNet that ships with chainrule, on MNIST's test images."""
        return cls("shipped", "the LeNet that ships with chainrule")

    @classmethod
    def of_run(cls, run: RunFolder) -> Subject:
        """A run. A UserError if its model is damaged, or of another version; it may have none yet."""
        subject = cls("run", displayed(run.path), run)
        _ = subject.trained
        return subject

    @classmethod
    def of_model(cls, trained: TrainedModel) -> Subject:
        """A trained model without its run."""
        subject = cls("model", displayed(trained.source))
        subject._trained = trained
        return subject

    def holding(self, compute: Callable[[], T]) -> T:
        """What ``compute`` gives, while nobody else computes."""
        with self._lock:
            return compute()

    # ---- the model

    @property
    def live(self) -> bool:
        """Whether the training goes on now."""
        return self.run is not None and self.run.is_training

    @property
    def trained(self) -> TrainedModel | None:
        """The model, as of the latest epoch; None for a run that has not finished one."""
        if self.run is None:
            self._trained = self._trained or shipped_model()
        elif (stamp := stamp_of(self.run.model)) is not None and stamp != self._stamp:
            self._trained, self._stamp = model_of_run(self.run), stamp
        return self._trained

    @property
    def model(self) -> TrainedModel:
        """The same; a Refusal if there is none yet."""
        found = self.trained
        if found is None:
            matter = f"{self.title} holds no trained model yet, as that is written after the first epoch."
            if self.live:
                raise Refusal(409, matter, "Wait until the first epoch is over; its history can be seen meanwhile.")
            assert self.run is not None  # whatever has no run has its model
            again = command_line("train", "--resume", self.run.path)
            raise Refusal(409, matter, f"The training does not run any more: go on with it by `{again}`.")
        return found

    @property
    def tracer(self) -> Tracer:
        """What sends images through a copy of the model; a Refusal if there is no model yet."""
        trained = self.model
        if self._tracer is None or self._traced_model is not trained:
            self._tracer, self._traced_model, self._example = Tracer(trained), trained, None
        return self._tracer

    @property
    def example(self) -> Pass:
        """The pass of an image that is all black, whose graph has the same nodes in the same places as that of any other."""
        tracer = self.tracer
        if self._example is None:
            self._example = tracer.trace(np.zeros(tracer.image_shape, np.uint8), 0)
        return self._example

    @property
    def places(self) -> Places:
        """Where the rows of its history are in the graph; nowhere as long as there is no model, or if it cannot be traced."""
        if self._places is NOWHERE and (self.run is None or self.run.model.exists()):
            with contextlib.suppress(UserError):
                self._places = self.holding(lambda: places_of(self.example))
        return self._places

    # ---- images

    @property
    def data(self) -> str:
        """What the model was trained on, a name or a path; empty if that is not known or not there any more."""
        given = self.trained.data if self.trained is not None else self.run.config.data if self.run is not None else ""
        return given if given in KNOWN or (given and Path(given).exists()) else ""

    @property
    def dataset(self) -> Dataset:
        """The test images; a Refusal where there are none."""
        if self._dataset is None:
            trained = self.model
            if not self.data:
                raise Refusal(
                    404,
                    f"The images that {self.title} was trained on are not where they were.",
                    "Open an image of your own, or put the images back there.",
                )
            self._dataset = _test_images(self.data, trained.image_shape)
        return self._dataset

    @property
    def images(self) -> tuple[str, int] | None:
        """What the images are called that can be chosen by their numbers, and how many there are; None if there are none."""
        own = self._own is not None
        if self.trained is None or not (self.data or own):
            return None
        if not self.data:
            return self._own_name, 1
        return self.dataset.name, len(self.dataset) + own

    def image(self, index: int) -> Shown:
        """The image of a number: a test image, or, behind the last one, the file that ``show`` was given.

        Raises:
            UserError: there is no image of that number.
        """
        if self._own is not None and index == (len(self.dataset) if self.data else 0):
            return self._own
        pixels, label = self.dataset[index]
        return Shown(pixels, label)

    def show(self, image: str) -> int:
        """The number of the image that a person means, by its number (counted from the end, if it is below 0) or by the name
        of a file, which gets a number thereby.

        Raises:
            UserError: there is no such image, or no model to show it to.
        """
        if self.run is not None and self.trained is None:
            model_of_run(self.run)  # which says what is missing
        if image.removeprefix("-").isdecimal() and len(image) < 10:
            if self.run is not None:
                check_data_of_run(self.title, self.run.config.data, "put its images back there, or give a file of an image")
            self.image(int(image))
            return int(image) + len(self.dataset) * image.startswith("-")
        path = Path(image)
        remedy = "give the name of an image file, or the number of a test image"
        try:
            if path.exists() and not path.is_file():  # to read a pipe or a device might never end
                raise UserError(f"{displayed(path)} is no file: {remedy}")
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{displayed(path)} cannot be read ({error.strerror}): {remedy}") from error
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{displayed(path)} is no name of a file: {remedy}") from error
        pixels, notes = image_of_file(self.tracer, content, path.name)
        self._own, self._own_name = Shown(pixels, None, tuple(notes)), displayed(path.name)
        return len(self.dataset) if self.data else 0

    def show_pixels(self, pixels: Any, label: int | None = None) -> int:
        """The number that an image (C, H, W) gets thereby, of bytes or of numbers from 0 to 1, with the number of its class.

        Raises:
            UserError: it does not fit the model, or there is no such class.
        """
        own = pixels.numpy() if isinstance(pixels, Tensor) else pixels
        known = None if label is None else self.tracer.label_of(label)
        self._own, self._own_name = Shown(self.tracer.pixels_of(own), known), "an array"
        return len(self.dataset) if self.data else 0

    def died(self, node: int, channels: int) -> list[int | None]:
        """For each channel of a unit the last step at which it was above 0 in the training; None where it is alive, or where
        nothing is known of it."""
        health = None if self.history is None else self.history.health()
        for one in () if health is None else health.units:
            row = one.row
            if self.places.units.get((row.path, row.operation)) == node and row.channels == channels:
                return [int(last) if off else None for last, off in zip(one.last, one.dead | one.silent, strict=True)]
        return [None] * channels

    def class_name(self, label: int | None) -> str | None:
        """The name of a class."""
        return None if label is None else self.model.classes[label]


def _test_images(data: str, image_shape: tuple[int, int, int]) -> Dataset:
    """The test images of a data set; those of a folder are decoded one by one when they are asked for."""
    folder = folder_of_images(data)
    if folder is None:
        return load_dataset(data, "test")
    channels, *size = image_shape
    mode = next(name for name, count in CHANNELS.items() if count == channels)
    return split_of(look_at(folder, "test"), "test", (size[0], size[1]), mode)


def in_unit_range(pixels: Array) -> Array:
    """Pixels as float32: those of 8 bits from 0 to 1, others as they are."""
    return (pixels / np.float32(255)).astype(np.float32) if pixels.dtype == np.uint8 else pixels.astype(np.float32)
