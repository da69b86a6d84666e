"""The recording of a training's health while it runs: what each step's observations are made to, for ``health_record``.

    step ──> units: at which step each was last above 0            in each step ──> census, after an epoch
        └──> layers and parameters: norms, zeros, updates     in sampled steps ──> sample

Nothing that is recorded changes the training: see ``tensor.observing``. Norms of parameters are taken between two steps, from
copies of the weights before and after a sampled one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.display import displayed
from chainrule.graph import Observed
from chainrule.nn import Module
from chainrule.tensor.observing import ObservedFunction
from chainrule.tensor.tracing import Trace
from chainrule.train.diagnosis.alive_units import AliveUnits
from chainrule.train.diagnosis.dead_units import WORTH_SAYING
from chainrule.train.diagnosis.health_record import (
    HealthFile,
    Plan,
    RecordedParameter,
    census_interval,
    is_sampled,
    read_health,
    sampling_interval,
)
from chainrule.train.diagnosis.observing import LAYERS, UNITS, Observation, observation_of, same_rows

Array = np.ndarray[Any, Any]

_BLOCK = 1 << 13  # numbers


class Recorder:
    """Records the health of the training of ``model``, ``epochs`` of ``per_epoch`` steps, into a file at ``path``; nothing, if
    it is not ``wanted``. ``check_place`` is called before anything is written, and raises an error if it may not be.

    A step is ``begun``, ``taken`` in one part or several, and ``ended``. What the reference engine computes is not recorded.

    Attributes:
        detail: how closely the step that comes is looked at.
        alive: for each unit the last step at which it was above 0 for any image, counted from 1; None until one was taken.
        dead: how many units were not above 0 in the whole of the last epoch, if they are many of a layer; otherwise 0.
    """

    def __init__(
        self,
        path: Path,
        model: Module,
        epochs: int,
        per_epoch: int,
        wanted: bool = True,
        check_place: Callable[[], None] = lambda: None,
    ) -> None:
        self.path, self.model, self.epochs, self.per_epoch = path, model, epochs, per_epoch
        self._wanted, self._check_place = wanted, check_place
        self.every = sampling_interval(epochs * per_epoch)
        self.parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self.detail = 0
        self.dead = 0
        self._observation: Observation | None = None
        self._plan: Plan | None = None
        self._file: HealthFile | None = None
        self._alive: AliveUnits | None = None
        self._alive_before: Array | None = None  # as a checkpoint says
        self._seen: list[Array] = []  # the observations of the last part, and the sums among them, each in one axis
        self._sums: list[Array] = []
        self._step = 0  # that comes, or is being taken
        self._numbers: Array | None = None  # of the layers in this step, where it is sampled
        self._images = 0
        self._before: dict[str, Array] = {}
        self._at_first: tuple[Array, Array] | None = None  # biases and norms of filters before the first step
        self._gradients: list[float] = []

    def __repr__(self) -> str:
        return f"<Recorder to {displayed(self.path)}: every {self.every} of {self.epochs * self.per_epoch} steps>"

    @property
    def alive(self) -> Array | None:
        """See the class."""
        return self._alive_before if self._alive is None else self._alive.last()

    @property
    def channels(self) -> int:
        """The number of units; 0 before the step was traced."""
        return 0 if self._plan is None else self._plan.channels

    def observer(self, trace: Trace) -> list[Observed]:
        """What is observed of a traced step: nothing if it is not wanted. A network that computes something else for another
        number of images is not observed there."""
        if not self._wanted:
            return []
        names = {trace.reads[one]: name for name, one in self.model.named_parameters() if one in trace.reads}
        made = observation_of(trace, names)
        if self._observation is None:
            self._observation = made
            parameters = tuple(RecordedParameter(name, one.size) for name, one in self.parameters.items())
            steps = self.epochs * self.per_epoch
            self._plan = Plan(tuple(made.layers), parameters, tuple(made.units), self.every, steps)
        return made.observed if same_rows(self._observation, made) else []

    # ---- step by step

    def begun(self, step: int) -> None:
        """Step ``step``, counted from 1, comes next."""
        self._step, self._numbers, self._images, self._gradients = step, None, 0, []
        if self._alive is not None:
            self._alive.begin()
        if self._observation is None or not self._wanted:
            self.detail = 0
            return
        sampled = is_sampled(step, self.every)
        self.detail = LAYERS if sampled else UNITS if self.channels else 0
        self._before = {name: one.numbers() for name, one in self.parameters.items()} if sampled else {}
        if self._file is None and self._at_first is None:
            self._at_first = self._units()

    def taken(self, function: ObservedFunction, images: int) -> None:
        """A part of the step, of so many images, was computed by ``function``."""
        seen, observation = function.observations(), self._observation
        if not seen or not self.detail or observation is None:
            return
        if observation.sums:
            if seen is not self._seen:
                self._seen, self._sums = seen, [seen[place].reshape(-1) for place in observation.sums]
            if self._alive is None:
                self._alive = AliveUnits([seen[place] for place in observation.sums], self._alive_before)
            self._alive.put(self._step, self._sums)
        if self.detail == LAYERS:
            numbers = np.array([np.nan if place is None else seen[place] for row in observation.places for place in row])
            self._numbers = numbers if self._numbers is None else self._numbers + numbers
            self._images += images

    def at_gradients(self) -> None:
        """Take the norms of the gradients of parameters, while they are there, if the step is sampled."""
        if self.detail != LAYERS:
            return
        with np.errstate(all="ignore"):
            for one in self.parameters.values():
                gradient = one.grad
                self._gradients.append(np.nan if gradient is None else norm(gradient.numpy()))

    def ended(self, step: int, loss: float) -> None:
        """Step ``step`` is done, with that loss."""
        if self._at_first is not None and self._plan is not None:
            self._check_place()
            self._file = HealthFile(self.path, self._plan)
            self._file.rewind(-1)  # a process that was killed before its first checkpoint wrote something
            self._census(0, 0, *self._at_first)
            self._at_first = None
        if self._alive is not None:
            self._alive.end()
        if self._numbers is not None and self._file is not None and self._observation is not None:
            self._check_place()
            sizes = [row.size * self._images for row in self._observation.layers]
            squares, zeros, gradients = self._numbers.reshape(-1, 3).T
            with np.errstate(all="ignore"):  # weights may be inf, and norms beyond float32
                weights = [norm(value) for value in self._before.values()]
                updates = [norm(one.numbers(), self._before[name]) for name, one in self.parameters.items()]
                self._file.append_sample(
                    step,
                    loss,
                    activation=np.sqrt(squares / sizes),
                    zeros=zeros / sizes,
                    gradient=np.sqrt(gradients),
                    weight=np.array(weights),
                    parameter_gradient=np.array(self._gradients or [np.nan] * len(weights)),
                    update=np.array(updates),
                )
        self._before = {}

    def epoch_ended(self, epoch: int, step: int) -> None:
        """Epoch ``epoch``, counted from 1, ended with that step: count the dead units, and take a census where one is due."""
        alive = self.alive
        if alive is not None and self._plan is not None:
            dead = alive <= step - self.per_epoch
            layers = np.split(dead, np.cumsum([row.channels for row in self._plan.units])[:-1])
            self.dead = int(dead.sum()) if max(layer.mean() for layer in layers) >= WORTH_SAYING else 0
        if epoch % census_interval(self.epochs, self.channels) == 0 or epoch == self.epochs:
            self._check_place()
            self._census(epoch, step, *self._units())

    def _census(self, epoch: int, step: int, bias: Array, weight: Array) -> None:
        if self._file is None or not self.channels:
            return
        alive = np.zeros(self.channels, np.int64) if epoch == 0 or self.alive is None else self.alive
        self._file.append_census(epoch, step, alive=alive, bias=bias, weight=weight)

    def _units(self) -> tuple[Array, Array]:
        """The bias of each unit, and the norm of its filter; NaN where there is none."""
        parameters = dict(self.model.named_parameters())
        biases: list[Array] = [np.empty(0, np.float32)]
        weights: list[Array] = [np.empty(0, np.float32)]
        for row in () if self._plan is None else self._plan.units:
            nothing = np.full(row.channels, np.nan, np.float32)
            biases.append(nothing if row.bias is None else parameters[row.bias].numbers())
            filters = None if row.weight is None else parameters[row.weight].numbers().reshape(row.channels, -1)
            weights.append(nothing if filters is None else np.sqrt((filters.astype(np.float64) ** 2).sum(1)))
        return np.concatenate(biases), np.concatenate(weights)

    # ---- with checkpoints

    def flush(self) -> None:
        """Write what is recorded to the disk for good, before a checkpoint."""
        if self._file is not None:
            self._file.flush()

    def go_back(self, step: int, alive: Array | None) -> None:
        """Forget what was recorded after ``step``, up to which units were alive as ``alive`` says.

        A training that began without a recording goes on without: nobody knows which units were alive.
        """
        self._alive, self._alive_before = None, alive
        if step and self._wanted and not self.path.exists():
            self._wanted = False
        if step and self._wanted and self._file is None:
            self._plan = read_health(self.path).plan
            self._file = HealthFile(self.path, self._plan)
        if self._file is not None:
            self._file.rewind(step)


def norm(values: Array, before: Array | None = None) -> float:
    """The L2 norm of an array, or of what it has become since it was ``before``.

    Block by block, so that what is in between stays in the cache and NumPy's dot uses no threads of its own, which would be in
    the way of those of the training; in float64 where squares would be too small or too large.
    """
    flat, old = values.reshape(-1), None if before is None else before.reshape(-1)
    total = 0.0
    for begin in range(0, flat.size, _BLOCK):
        block = flat[begin : begin + _BLOCK]
        if old is not None:
            block = block - old[begin : begin + _BLOCK]
        squares = float(np.dot(block, block))
        if not 1e-30 < squares < 1e30 and block.any():
            wide = block.astype(np.float64)
            squares = float(np.dot(wide, wide))
        total += squares
    return math.sqrt(total) if total >= 0 else math.nan
