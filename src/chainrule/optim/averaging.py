"""Averages of weights over the steps of a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from chainrule.arguments import explained, explained_methods, real_number, whole_number
from chainrule.errors import UserError
from chainrule.graph.dtypes import float32, float64, is_float, promote
from chainrule.ops import is_tracing
from chainrule.tensor import Buffer, Cell, Parameter, functions, making, no_grad, tensor
from chainrule.tensor.watched import Watched, WatchedDict

_COUNT = "n_averaged"
_MODULE = "module."


class Model(Protocol):
    """What ``EMA`` needs of a model; every ``nn.Module`` has it."""

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its path."""
        ...

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Every buffer with its path."""
        ...


@explained_methods
class EMA(Watched):
    """An exponential moving average of the weights of a model: average <- decay average + (1 - decay) weight.

    ``update()`` goes after ``optimizer.step()``, in a compiled step too, and ``applied()`` puts the averages into the model for
    as long as it is evaluated or saved:

        ema = optim.EMA(model, decay=0.999)
        ...
        with ema.applied():
            evaluate(model)

    The first update takes the weights as they are. With ``warmup``, the decay begins low: in update n, counted from 0, it is
    (1 + n) / (10 + n) as long as that is less than ``decay``, so that the weights of the beginning are soon forgotten. Averages
    are float32 or wider. Buffers, such as running means, are copied at each update; with ``use_buffers``, those that are floats
    are averaged, too. The names and the numbers are those of PyTorch's ``AveragedModel`` with ``get_ema_multi_avg_fn(decay)``.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992).
    """

    @explained
    def __init__(self, model: Model, decay: float = 0.999, warmup: bool = False, use_buffers: bool = False) -> None:
        if not hasattr(model, "named_parameters") or not hasattr(model, "named_buffers"):
            raise UserError(f"EMA: needs a model, got a {type(model).__name__}")
        self.decay = real_number("EMA: decay", decay)
        if not 0 <= self.decay <= 1:
            raise UserError(f"EMA: decay must be from 0 to 1, got {decay}")
        self.warmup, self.use_buffers = warmup, use_buffers
        self.cells: WatchedDict[str, Cell] = WatchedDict({**dict(model.named_parameters()), **dict(model.named_buffers())})
        if not self.cells:
            raise UserError(f"EMA: this {type(model).__name__} has no parameters and no buffers")
        self.averages = WatchedDict({name: _average_of(cell) for name, cell in self.cells.items()})
        self._count = Buffer(np.array(0, np.int64))
        self._applied = False

    @property
    def n_averaged(self) -> int:
        """The number of updates so far."""
        return int(self._count.numbers())

    def update(self) -> None:
        """Take the present weights into the averages; call it once after each ``optimizer.step()``."""
        if self._applied:
            raise UserError("EMA: the averages themselves are in the model now: call update() outside of applied()")
        with no_grad():
            past = self._count.astype(float64)
            decay = making.full((), self.decay, float64)
            if self.warmup:
                decay = functions.minimum((1 + past) / (10 + past), decay)
            share = functions.where(past > 0, 1 - decay, 1.0)
            for name, cell in self.cells.items():
                average = self.averages[name]
                if isinstance(cell, Parameter) or (self.use_buffers and is_float(cell.dtype)):
                    value = cell.astype(average.dtype)
                    moved = average + (value - average) * share.astype(average.dtype)
                    average.assign(functions.where(past > 0, moved, value))
                else:
                    average.assign(cell)
            self._count.assign(self._count + 1)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the model has the averages for its weights and buffers; at its end it gets its own back.

        What is assigned to parameters and buffers meanwhile is lost.
        """
        if self._applied:
            raise UserError("EMA: the averages are in the model already: leave applied() before it is entered again")
        own = [(cell, cell.detach()) for cell in self.cells.values()]
        self._mark(True)
        try:
            for name, cell in self.cells.items():
                cell.assign(self.averages[name])
            yield
        finally:
            for cell, value in own:
                cell.assign(value)
            self._mark(False)

    def _mark(self, applied: bool) -> None:
        """Note whether the averages are in the model. A compiled function leaves the mark as it was, so it does not set it."""
        if is_tracing():
            object.__setattr__(self, "_applied", applied)
        else:
            self._applied = applied

    # ---- saving

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """All state as arrays: ``n_averaged``, and each average as ``module.<path in the model>``."""
        averages = {f"{_MODULE}{name}": average.numpy() for name, average in self.averages.items()}
        return {_COUNT: self._count.numpy(), **averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned.

        Raises:
            UserError: the message names what does not fit; nothing was changed.
        """
        if not isinstance(state, Mapping):
            raise UserError(f"EMA: the state must be a dict, as state_dict() gives it, got a {type(state).__name__}")
        averages = {f"{_MODULE}{name}": average for name, average in self.averages.items()}
        for key, value in state.items():
            if key != _COUNT and key not in averages:
                raise UserError(f"state {key!r} of the EMA does not belong to this model")
            if key != _COUNT and np.shape(value) != averages[key].shape:
                raise UserError(f"state {key!r} of the EMA has shape {np.shape(value)}, this model needs {averages[key].shape}")
        missing = [key for key in (_COUNT, *averages) if key not in state]
        if missing:
            raise UserError(f"the state of the EMA lacks {', '.join(missing)}: was it saved for another model?")
        count = whole_number(f"state {_COUNT!r} of the EMA", state[_COUNT], 0)
        values = {key: tensor(state[key], average.dtype) for key, average in averages.items()}  # all, before any is assigned
        self._count.assign(count)
        for key, average in averages.items():
            average.assign(values[key])

    def __repr__(self) -> str:
        parameters = sum(isinstance(cell, Parameter) for cell in self.cells.values())
        given = f"decay={self.decay}, warmup={self.warmup}, use_buffers={self.use_buffers}"
        return f"EMA({given}, n_averaged={self.n_averaged}, {parameters} parameters)"


def _average_of(cell: Cell) -> Buffer:
    """A buffer with the present value of ``cell``, float32 or wider if it is a float."""
    return Buffer(cell.numpy(), promote(cell.dtype, float32) if is_float(cell.dtype) else cell.dtype)
