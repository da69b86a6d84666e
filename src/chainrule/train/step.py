"""One step of a training: forward, backward and update, compiled, with all that the options put between them.

images ──> mixed ──> forward ──> loss ──> backward ──> clipped ──> update ──> averaged
                     └──── once for each part, where gradients are accumulated ────┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chainrule import optim
from chainrule.data import CutMix, Mixup
from chainrule.data.mixing import Mixed
from chainrule.data.sampling import generator
from chainrule.nn import Module
from chainrule.nn import functional as F
from chainrule.ops import precision
from chainrule.tensor import CompiledFunction, Tensor, compile, no_grad
from chainrule.tensor.backend import Program
from chainrule.tensor.engines import is_reference
from chainrule.tensor.observing import ObservedFunction

if TYPE_CHECKING:
    from chainrule.train.config import Config
    from chainrule.train.diagnosis.recorder import Recorder

Array = np.ndarray[Any, Any]

_MIXING = 1 << 63
"""The first of the streams of random numbers that batches are mixed by; those of the loader lie below it."""


class Outcome(NamedTuple):
    """What a step did: the mean loss as it is minimised, the mean cross-entropy without label smoothing, and how many images
    were taken for what they are (where two are mixed, for the larger part)."""

    loss: float
    cross_entropy: float
    correct: int


class TrainingStep:
    """A step on a batch of images. ``ema`` is updated with the weights, and ``recorder`` told what is observed, if there is
    one.

    With ``accumulate`` N, a batch is N batches of ``batch_size`` that go through the model one after the other, each image with
    the same weight in the mean, also those of a last, smaller batch: the gradient is that of the whole batch, up to rounding,
    unless layers look at other images of the batch (batch normalisation) or draw random numbers (dropout).
    """

    def __init__(
        self,
        model: Module,
        optimizer: optim.Optimizer,
        config: Config,
        ema: optim.EMA | None,
        recorder: Recorder | None = None,
    ) -> None:
        self.model, self.optimizer, self.config, self.ema, self._recorder = model, optimizer, config, ema, recorder
        self.learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._mixers = [make(alpha) for make, alpha in ((Mixup, config.mixup), (CutMix, config.cutmix)) if alpha]
        self._whole, self._part, self._finish = self._made(self._step), self._made(self._gradient), compile(self.update)

    def _made(self, function: Callable[..., Any]) -> CompiledFunction[..., Any]:
        return compile(function) if self._recorder is None else ObservedFunction(function, self._recorder.observer)

    def __call__(
        self,
        images: Array,
        labels: Array,
        place: tuple[int, int] = (0, 0),
        on_gradients: Callable[[], None] | None = None,
    ) -> Outcome:
        """Take a step. ``place``, the epoch and the number of the batch in it, decides, with the seed, on how it is mixed.

        ``on_gradients`` is called when the gradients of the whole batch are there, in ``grad`` of the parameters.
        """
        batch = self.mixed(images, labels, place)
        parts = list(self.parts(batch))
        if len(parts) == 1:
            found = [self._run(self._whole, parts[0])]
            if on_gradients is not None and self.config.accumulate == 1:  # otherwise they are forgotten
                on_gradients()
        else:
            found = [self._run(self._part, part) for part in parts]
            if on_gradients is not None:
                on_gradients()
            self._finish()
        sums = np.sum([[loss.item(), cross_entropy.item()] for loss, cross_entropy, _ in found], 0)
        taken_for = np.concatenate([scores.numpy().argmax(1) for _, _, scores in found])
        larger = batch.labels if batch.share >= 0.5 else batch.others
        return Outcome(float(sums[0]), float(sums[1]), int((taken_for == larger).sum()))

    def _run(self, function: CompiledFunction[..., Any], part: tuple[Any, ...]) -> Any:
        if self._recorder is None or not isinstance(function, ObservedFunction):
            return function(*part)
        function.look(self._recorder.detail)
        found = function(*part)
        self._recorder.taken(function, len(part[0]))
        return found

    def first_part(self, images: Array, labels: Array, place: tuple[int, int] = (0, 0)) -> tuple[Any, ...]:
        """What ``loss`` gets of a batch, or of its first part."""
        return next(self.parts(self.mixed(images, labels, place)))

    def prepare(self, images: Array, labels: Array) -> Program | None:
        """Compile what a batch like this takes, so that it does not count as the time of the first step; the program, if there
        are programs."""
        if is_reference():
            return None
        parts = list(self.parts(Mixed(images, labels, labels, 1.0)))
        return (self._whole if len(parts) == 1 else self._part).prepare(*parts[0])

    def mixed(self, images: Array, labels: Array, place: tuple[int, int]) -> Mixed:
        """The batch as it is trained on; where both mixup and cutmix are asked for, one of them, drawn for each batch."""
        images = images.astype(np.float32, copy=False)
        if not self._mixers:
            return Mixed(images, labels, labels, 1.0)
        epoch, batch = place
        rng = generator(self.config.seed, epoch, _MIXING + batch)
        return self._mixers[int(rng.integers(len(self._mixers)))](images, labels, rng)

    def parts(self, batch: Mixed) -> Iterator[tuple[Any, ...]]:
        """The parts that go through the model, each with its images, labels and share of the batch; in a mixture, also the
        other labels and the share of the first."""
        total, size, dtype = len(batch.images), self.config.batch_size, self.config.dtype
        for start in range(0, total, size):
            here = slice(start, start + size)
            images = batch.images[here].astype(dtype, copy=False)
            of_batch = np.array(len(images) / total, dtype)
            mixture = (batch.others[here], np.array(batch.share, dtype)) if self._mixers else ()
            yield images, batch.labels[here], of_batch, *mixture

    # ---- what is compiled

    def _step(self, *part: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The whole step, which gives the loss, the cross-entropy and the scores."""
        self.optimizer.zero_grad()
        found = self._gradient(*part)
        self.update()
        return found

    def _gradient(self, *part: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Forward and backward. Gradients are added to those that are there; loss and cross-entropy are parts of the mean."""
        with precision(self.config.precision):
            found = self.loss(*part)
            found[0].backward()
        return found

    def loss(
        self, images: Any, labels: Any, of_batch: Any, others: Any = None, share: Any = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Forward, from the images and labels of a part of the batch, its share of it, and, where images are mixed, the labels
        of the others and the share of the first: the loss, the cross-entropy without label smoothing, and the scores."""

        def mean(scores: Tensor, smoothing: float) -> Tensor:
            loss = F.cross_entropy(scores, labels, label_smoothing=smoothing)
            if others is not None:
                loss = share * loss + (1 - share) * F.cross_entropy(scores, others, label_smoothing=smoothing)
            return loss * of_batch if self.config.accumulate > 1 else loss

        with precision(self.config.precision):
            scores = self.model(images)
            loss = cross_entropy = mean(scores, self.config.label_smoothing)
            if self.config.label_smoothing:
                with no_grad():
                    cross_entropy = mean(scores, 0.0)
        return loss, cross_entropy, scores

    def update(self) -> None:
        """Clip, update the weights, forget the gradients, and take the weights into their average."""
        if self.config.clip_norm:
            optim.clip_grad_norm_(self.learning, self.config.clip_norm)
        if self.config.clip_value:
            optim.clip_grad_value_(self.learning, self.config.clip_value)
        self.optimizer.step()
        if self.config.accumulate > 1:
            self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update()
