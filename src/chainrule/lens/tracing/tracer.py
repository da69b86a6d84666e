"""Sends images through a trained model, forwards and backwards, on a copy of the model: nothing of the model itself changes."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.arguments import explained_methods, whole_number
from chainrule.errors import UserError
from chainrule.graph import INPUT, Array, Graph, Node, leaf
from chainrule.graph.dtypes import as_dtype, is_float
from chainrule.lens.tracing.image_pass import Pass
from chainrule.nn import Module
from chainrule.nn import functional as F
from chainrule.ops import history, precision
from chainrule.tensor import Tensor, no_grad, placeholder, tracing
from chainrule.tensor.graphs import grad
from chainrule.train.predict import TrainedModel
from chainrule.train.room import available_memory, size_text

IMAGE = "image"
"""The label of the node that stands for the network's input."""

MOST_SIDE = 1024
"""The most pixels that a drawing may have along an axis."""


@explained_methods
class Tracer:
    """A copy of a trained model, in evaluation form, and all that is needed to send single images through it.

    ``memory`` is how many bytes a pass may take; None stands for what is free at that moment.
    """

    def __init__(self, trained: TrainedModel, memory: int | None = None) -> None:
        self.model: Module = copy.deepcopy(trained.model).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad = True  # a frozen parameter has a gradient too, which can be looked at
        self.classes = tuple(trained.classes)
        self.image_shape = trained.image_shape
        self.dtype = as_dtype(trained.dtype)
        self.source = trained.source
        self.mirrored = trained.flip_test
        self._normalise, self._precision, self._memory = trained.normalise, trained.precision, memory

    def __repr__(self) -> str:
        size = "×".join(map(str, self.image_shape))
        return f"<Tracer of {type(self.model).__name__} for images {size}: {len(self.classes)} classes>"

    def with_values(self, values: Mapping[str, Array]) -> Tracer:
        """The same of a model with other values of its parameters and buffers, by name: all of them.

        Raises:
            UserError: they are of another model.
        """
        other = copy.copy(self)
        vars(other).pop("_judging", None)
        other.model = copy.deepcopy(self.model)
        other.model.load_state_dict(values)
        return other

    @property
    def deviations(self) -> Array:
        """By what the pixels (0 to 1) of each channel are divided on their way into the network: (C, 1, 1)."""
        return np.array(self._normalise.std, np.float64)[:, np.newaxis, np.newaxis]

    @property
    def notes(self) -> tuple[str, ...]:
        """What differs from how the model judges images elsewhere, in sentences."""
        if not self.mirrored:
            return ()
        return ("the model judges an image together with its mirror image (--flip-test); here the image goes through alone",)

    def pixels_of(self, pixels: Any) -> Array:
        """An image (C, H, W), of bytes or of numbers from 0 to 1, checked, as an array of bytes or float32.

        Raises:
            UserError: it has another shape than the images of the model, or numbers that are not finite.
        """
        try:
            given = np.asarray(pixels)
            image = given if given.dtype == np.uint8 else given.astype(np.float32)
        except (TypeError, ValueError):
            raise UserError("an image is an array of numbers (channels, height, width), with rows of equal lengths") from None
        if image.shape != self.image_shape:
            raise UserError(
                f"the image has the shape {list(image.shape)}, and {self.source} takes {list(self.image_shape)} (channels, "
                "height, width): resize it"
            )
        if not np.isfinite(image).all():
            raise UserError("the image has pixels that are not finite: pixels are numbers from 0 to 1")
        return image

    def input_of(self, pixels: Array) -> Array:
        """What the network gets for an image (C, H, W): (1, C, H, W), normalised as the images that it was trained on."""
        normalised = self._normalise(pixels[np.newaxis], np.random.default_rng(0))
        return np.ascontiguousarray(normalised.astype(self.dtype))

    def image_of_drawing(self, drawing: Any) -> Array:
        """The image (C, H, W) for a drawing (H, W), whose strokes are 1 on 0 as those of MNIST's digits.

        A drawing of another size is resized, and a network that takes colours gets the same in each of them.

        Raises:
            UserError: it has not two axes, or numbers that are not from 0 to 1.
        """
        try:
            drawn = np.asarray(drawing, np.float32)
        except (TypeError, ValueError):
            raise UserError("a drawing is an array of numbers (height, width), with rows of equal lengths") from None
        if drawn.ndim != 2 or not 1 <= min(drawn.shape) <= max(drawn.shape) <= MOST_SIDE:
            raise UserError(
                f"a drawing is an array of numbers (height, width) of at most {MOST_SIDE:,} x {MOST_SIDE:,}, got the shape "
                f"{list(drawn.shape)}"
            )
        if not ((drawn >= 0) & (drawn <= 1)).all():
            raise UserError("a drawing has numbers from 0, where nothing is drawn, to 1, and this one has others")
        channels, height, width = self.image_shape
        if drawn.shape != (height, width):
            from PIL import Image

            drawn = np.asarray(Image.fromarray(drawn).resize((width, height), Image.Resampling.BILINEAR), np.float32).clip(0, 1)
        return np.repeat(drawn[np.newaxis], channels, axis=0)

    def label_of(self, label: Any) -> int:
        """The number of a class; a UserError if there is no such class."""
        return whole_number("the class of the loss", label, 0, len(self.classes) - 1)

    def trace(self, pixels: Any, label: int | None = None) -> Pass:
        """The pass of an image (C, H, W), of bytes or of numbers from 0 to 1, with the loss of the class ``label``.

        Without a label it is the loss of the class that the network takes for the most probable one.

        Raises:
            UserError: the image does not fit, there is no such class, or the pass does not fit into memory.
        """
        image = self.pixels_of(pixels)
        return self.traced(self.model, self.input_of(image), image, label)

    def traced(self, model: Module, given: Array, pixels: Array, label: int | None = None) -> Pass:
        """The pass of what the network is ``given`` (1, C, H, W) for an image, through this model or a changed copy of it."""
        self._check_room()
        wanted = None if label is None else self.label_of(label)
        image = Tensor(leaf(given, INPUT, requires_grad=True, label=IMAGE))
        with history("everything"), precision(self._precision):
            scores = model(image)
            self._check_scores(scores)
            probabilities = _probabilities(scores)
            chosen = int(probabilities.argmax()) if wanted is None else wanted
            loss = _loss(scores, chosen)
        return Pass(
            loss=loss.node,
            scores=scores.node,
            image=image.node,
            pixels=pixels,
            label=chosen,
            labelled=wanted is not None,
            probabilities=probabilities,
            precision=self._precision,
        )

    def judge(self, pixels: Any, label: int | None = None) -> tuple[Array, float, Array]:
        """The probabilities (classes,) of an image, the loss of the class ``label``, and its gradient on the pixels (C, H, W).

        That is less than a pass, and faster: for images that change while one looks. Pixels are numbers from 0 to 1; without a
        label the class is the most probable one.
        """
        wanted = None if label is None else self.label_of(label)
        image = Tensor(leaf(self.input_of(self.pixels_of(pixels)), INPUT, requires_grad=True, label=IMAGE))
        with precision(self._precision):
            scores = self._judging(image)
            self._check_scores(scores)
            probabilities = _probabilities(scores)
            loss = _loss(scores, int(probabilities.argmax()) if wanted is None else wanted)
            gradient = _gradient(loss, image)
        return probabilities, float(loss), gradient[0].astype(np.float64) / self.deviations

    @functools.cached_property
    def _judging(self) -> Module:
        """A copy whose parameters ask for no gradients, so that only the image gets one."""
        return copy.deepcopy(self.model).requires_grad_(False)

    def _check_scores(self, scores: Any) -> None:
        if not isinstance(scores, Tensor) or scores.shape != (1, len(self.classes)):
            got = list(scores.shape) if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
            raise UserError(
                f"{self.source} gives {got} for an image, where scores [1, {len(self.classes)}] were expected, one a class"
            )

    # ---- memory

    @functools.cached_property
    def needed(self) -> int:
        """Bytes that a pass takes: all forward values and all gradients. Found by a trace that computes nothing."""
        with tracing(), history("everything"), precision(self._precision):
            image = placeholder((1, *self.image_shape), self.dtype, requires_grad=True, label=IMAGE)
            scores = self.model(image)
            self._check_scores(scores)
            graph = Graph(_loss(scores, 0).node)
        return sum(map(_bytes_of, graph.nodes))

    def _check_room(self) -> None:
        free = available_memory() if self._memory is None else self._memory
        if free is None or self.needed <= free:
            return
        _, height, width = self.image_shape
        weights = 2 * sum(parameter.type.nbytes for parameter in self.model.parameters())
        scale = math.sqrt(max(0, free - weights) / max(1, self.needed - weights))
        fitting = f"{math.floor(height * scale)} x {math.floor(width * scale)}"
        remedy = "free some memory"
        if math.floor(min(height, width) * scale) >= 8:
            remedy += f", or look at a model of images of at most about {fitting} pixels"
        raise UserError(
            f"a pass of an image of {height} x {width} through {self.source} takes about {size_text(self.needed)} of memory, "
            f"for all values and gradients, and {size_text(free)} are free: {remedy}"
        )


def _bytes_of(node: Node) -> int:
    """Bytes of a node's value and of its gradient."""
    own = 0 if node.is_leaf or node.operation.name == "broadcast" else node.type.nbytes
    return own + (node.type.nbytes if node.requires_grad and is_float(node.dtype) else 0)


def _loss(scores: Tensor, label: int) -> Tensor:
    return F.cross_entropy(scores, np.array([label]))


def _probabilities(scores: Tensor) -> Array:
    with no_grad():
        return F.softmax(Tensor(leaf(scores.numpy())))[0].numpy().astype(np.float64)


def _gradient(loss: Tensor, image: Tensor) -> Array:
    found = grad(loss, image)[0] if loss.requires_grad else None
    return np.zeros(image.shape) if found is None else found.numpy()
