"""The learning rate finder: a short training in which the rate grows, and what its losses say of the rate to choose.

L. N. Smith, "Cyclical learning rates for training neural networks" (2017): the rate grows from step to step by the same factor.
Where it is too small the loss stays as it is, then it falls, and where the rate is too large it rises again.

    loss of a step ──> cut off ──> mean of its neighbours ──> falls from here ... least ... diverges from here
                                                               └── the range ──┘
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.arguments import explained, real_number, whole_number
from chainrule.data import Dataset
from chainrule.data.loader import Batch, Loader
from chainrule.errors import UserError
from chainrule.formats import temporary_name
from chainrule.graph.tables import Contents, Table
from chainrule.optim import Optimizer
from chainrule.tensor.random import default_generator
from chainrule.train.config import Config
from chainrule.train.optimization import OPTIMIZERS, make_schedule
from chainrule.train.parts import LEAST_RATE, MOST_RATE
from chainrule.train.run_folder import RunFolder
from chainrule.train.trainer import Trainer

Array = np.ndarray[Any, Any]

STEPS = 300
LEAST_STEPS, MOST_STEPS = 30, 10_000

_FROM, _TO = 1e-3, 100.0
"""Where a sweep begins and ends unless it is told otherwise, as multiples of the optimizer's own default rate."""

_FIRST = 0.1  # share of the steps whose loss counts as that at the beginning
_EITHER_SIDE = 50  # a mean takes a 50th of all steps before a step, and as many after it
_BEGINS, _DIVERGES = 0.1, 0.5  # of the fall: how much of it is done where it begins, and undone where it diverges
_BELOW = 1.5  # the range ends at the rate where the loss diverges, divided by this
_PATIENCE = 15  # a sweep ends when a 15th of all steps had such losses: a peak of a few steps may be got over
_SLIGHT = 0.03  # of the loss at the beginning: less is no fall
_ROWS = 12


@dataclass(frozen=True, repr=False)
class RateSweep(Table):
    """What a sweep of learning rates found. Prints as a table of a dozen of its steps.

    Attributes:
        rates: the learning rate of each step (N,), growing.
        losses: the mean cross-entropy of the batch of each step (N,), without label smoothing; the last one may be infinite.
        smoothed: ``losses`` cut off at twice the first, and averaged with those of neighbouring steps (N,).
        present: the learning rate of the configuration.
        low, high: the range of rates to choose from; None where the loss did not fall.
        proposal: the rate at which the loss fell most steeply; None where it did not fall.
        least: the rate at which the smoothed loss was least.
        diverges: the rate from which on the loss rises; None where it did not rise up to the last rate.
        reason: why this is proposed, or why nothing is, in a sentence.
    """

    rates: Array
    losses: Array
    smoothed: Array
    present: float
    low: float | None
    high: float | None
    proposal: float | None
    least: float
    diverges: float | None
    reason: str

    @property
    def holds_present(self) -> bool:
        """Whether the rate of the configuration lies within the range."""
        return self.low is not None and self.high is not None and self.low <= self.present <= self.high

    def contents(self) -> Contents:
        """A dozen steps with their rates and losses, and the steps at which something begins or ends."""
        places = {int(place) for place in np.linspace(0, len(self.rates) - 1, min(_ROWS, len(self.rates)))}
        marks: dict[int, list[str]] = {}
        for rate, what in (
            (self.low, "the range begins"),
            (self.proposal, "proposed"),
            (self.high, "the range ends"),
            (self.least, "lowest"),
            (self.diverges, "diverges"),
        ):
            if rate is not None:
                marks.setdefault(int(np.argmin(np.abs(np.log(self.rates / rate)))), []).append(what)
        rows = [
            (str(i + 1), f"{self.rates[i]:.2g}", _loss_text(self.losses[i]), _loss_text(self.smoothed[i]), _listed(marks, i))
            for i in sorted(places | set(marks))
        ]
        header = ("step>", "rate>", "loss>", "smoothed>", "")
        return Contents(f"Learning rates over {len(self.rates)} steps", header, rows, least=("step", "loss"))

    def facts(self) -> dict[str, Any]:
        """All of it, as JSON has it; a loss that is not finite is None."""
        return {
            "present": self.present,
            "within_range": self.holds_present,
            "low": self.low,
            "high": self.high,
            "proposal": self.proposal,
            "least": self.least,
            "diverges": self.diverges,
            "reason": self.reason,
            "rates": [float(f"{rate:.6g}") for rate in self.rates],
            "losses": [float(loss) if math.isfinite(loss) else None for loss in self.losses],
            "smoothed": [float(loss) for loss in self.smoothed],
        }


def _listed(marks: dict[int, list[str]], place: int) -> str:
    return ", ".join(marks.get(place, ()))


def _loss_text(loss: float) -> str:
    return f"{loss:.4f}" if loss < 1e4 else f"{loss:.3g}"


@explained
def find_lr(
    config: Config,
    training: Dataset,
    test: Dataset,
    *,
    lowest: float | None = None,
    highest: float | None = None,
    steps: int = STEPS,
    on_step: Callable[[int, int, float, float], None] | None = None,
) -> RateSweep:
    """Try learning rates from ``lowest`` to ``highest`` in at most ``steps`` steps of a training of its own, and propose one.

    By default they go from a thousandth of the optimizer's own default rate to a hundred times that.

    Network, optimizer and order of the images are made anew as ``config`` says, as a training would begin with them, weights of
    a file included; nothing is written, and the counter of random numbers is put back. Each step has its rate; other options of
    the optimizer are those that the schedule has where its rate is highest, such as the lower momentum of a one-cycle. Rates of
    parts (``lr_of``) grow in proportion. The sweep ends early once the loss is as bad as at the beginning again, or infinite.

    ``on_step`` is told after each step how many are done and how many there are at most, the rate and the loss.

    Raises:
        UserError: the rates or the number of steps make no sense, or data and configuration do not fit each other.
    """
    lowest, highest = sweep_limits(config, lowest, highest, steps)
    before = default_generator.state.numpy()
    try:
        constant = dataclasses.replace(config, schedule="constant", warm_up=0.0, ema=0.0)
        nowhere = RunFolder(temporary_name(Path("sweep")), constant)  # which is never made
        trainer = Trainer(nowhere, training=training, test=test)
        rates, losses = _sweep(trainer, config, lowest * (highest / lowest) ** (np.arange(steps) / (steps - 1)), on_step)
    finally:
        default_generator.state.assign(before)
    return judged(rates, losses, config.peak_lr)


def sweep_limits(config: Config, lowest: float | None, highest: float | None, steps: int) -> tuple[float, float]:
    """The lowest and the highest rate of a sweep; a UserError if these, or its number of steps, make no sense."""
    usual = OPTIMIZERS[config.optimizer].rate
    lowest = _FROM * usual if lowest is None else real_number("lowest learning rate", lowest)
    highest = _TO * usual if highest is None else real_number("highest learning rate", highest)
    whole_number("steps of a sweep", steps, LEAST_STEPS, MOST_STEPS)
    if not LEAST_RATE <= lowest < highest <= MOST_RATE:
        raise UserError(
            f"a sweep needs rates from at least {LEAST_RATE} to at most {MOST_RATE}, the lowest below the highest, got "
            f"{lowest:g} to {highest:g}"
        )
    return lowest, highest


def _sweep(
    trainer: Trainer, config: Config, rates: Array, on_step: Callable[[int, int, float, float], None] | None
) -> tuple[Array, Array]:
    """The rates that were tried, and the loss at each."""
    groups, parts = trainer.optimizer.groups, [group.value("lr") / config.peak_lr for group in trainer.optimizer.groups]
    _as_at_the_peak(config, trainer.optimizer)
    losses: list[float] = []
    stops = _Stops(len(rates))
    for rate, (images, labels) in zip(rates.tolist(), _endless(trainer.loader), strict=False):
        for group, part in zip(groups, parts, strict=True):
            group.set("lr", rate * part)
        loss = trainer.training_step(images, labels, divmod(len(losses), len(trainer.loader))).cross_entropy
        losses.append(loss)
        if on_step is not None:
            on_step(len(losses), len(rates), rate, loss)
        if stops.after(loss):
            break
    return rates[: len(losses)], np.array(losses)


def _as_at_the_peak(config: Config, optimizer: Optimizer) -> None:
    """Give the optimizer all options, but the rate, that the schedule of ``config`` has where its rate is highest."""
    rates = [group.value("lr") for group in optimizer.groups]
    schedule = make_schedule(config, optimizer, 100)
    for group in optimizer.groups:
        peak = max((schedule.values(step, group) for step in range(100)), key=lambda values: values["lr"])
        for name, value in peak.items():
            group.set(name, value)
    for group, rate in zip(optimizer.groups, rates, strict=True):
        group.set("lr", rate)


def _endless(loader: Loader) -> Iterator[Batch]:
    """Batches of one epoch after the other."""
    return itertools.chain.from_iterable(iter(loader) for _ in itertools.count())


class _Stops:
    """Whether a sweep has seen enough: it is told each loss, and looks at the mean of the last few."""

    def __init__(self, steps: int) -> None:
        self.first, self.few = max(3, round(_FIRST * steps)), max(3, steps // _PATIENCE)
        self.losses: list[float] = []
        self.best = math.inf

    def after(self, loss: float) -> bool:
        """Whether to stop after a step with this loss."""
        self.losses.append(loss)
        if not math.isfinite(loss):
            return True
        if len(self.losses) < self.first + self.few:
            return False
        begin = float(np.median(self.losses[: self.first]))
        now = float(np.minimum(self.losses[-self.few :], 2 * begin + 1).mean())
        self.best = min(self.best, now)
        fallen = begin - self.best > 0.2 * begin
        return now > (begin if fallen else 1.5 * begin + 0.5)


def judged(rates: Array, losses: Array, present: float) -> RateSweep:
    """What the losses of a sweep say.

    The loss begins to fall where the smoothed loss has done a tenth of its whole fall; it diverges where half of the fall is
    undone for good. The range goes from the first to two thirds of the second rate. The proposal is the rate within it at which
    the smoothed loss falls most for a factor of the rate.
    """
    count = max(3, round(_FIRST * len(losses)))
    begin = float(np.median(losses[: min(count, len(losses))]))
    begin = begin if math.isfinite(begin) else 0.0
    cut = np.minimum(np.where(np.isfinite(losses), losses, np.inf), 2 * begin + 1)
    side = max(1, len(losses) // _EITHER_SIDE)
    smoothed = _averaged(cut, side)
    least = int(np.argmin(smoothed))
    fall = begin - float(smoothed[least])
    noise = float(np.std(cut[: min(count, len(cut))])) / math.sqrt(2 * side + 1)
    risen = smoothed > smoothed[least] + max(_DIVERGES * fall, 4 * noise, _SLIGHT * begin)
    last_low = int(np.flatnonzero(~risen)[-1])
    diverges = float(rates[min(last_low + 1, len(rates) - 1)]) if risen[-1] or not np.isfinite(losses[-1]) else None
    found = RateSweep(rates, losses, smoothed, present, None, None, None, float(rates[least]), diverges, "")
    if fall < max(4 * noise, _SLIGHT * begin):
        return dataclasses.replace(found, reason=_why_nothing(found, begin))
    first = int(np.flatnonzero(smoothed <= begin - max(_BEGINS * fall, 2 * noise))[0])
    low = float(rates[first])
    high = float(rates[least]) if diverges is None else max(low, diverges / _BELOW)
    within = np.arange(first, max(first + 1, int(np.searchsorted(rates, min(high, rates[least]), "right"))))
    slopes = [_slope(rates, smoothed, int(place), side) for place in within]
    proposal = float(f"{rates[within[int(np.argmin(slopes))]]:.2g}")
    ends = f"up to the rate of the least loss, as it did not rise again up to {rates[-1]:.2g}"
    if diverges is not None:
        ends = f"to {high:.2g}, two thirds of {diverges:.2g}, where it rises again"
    reason = (
        f"at {proposal:g} the loss falls most steeply; rates worth a try go from {low:.2g}, where it begins to fall, {ends}"
    )
    return dataclasses.replace(found, low=low, high=high, proposal=min(max(proposal, low), high), reason=reason)


def _why_nothing(found: RateSweep, begin: float) -> str:
    rises = "" if found.diverges is None else f", and rises from {found.diverges:.2g} on"
    return (
        f"no rate is proposed, as the loss, {begin:.4g} at the beginning, falls at none of them{rises}: the network may be "
        "trained already, what is trained too small a part of it, or the rates tried too large or too small"
    )


def _averaged(values: Array, side: int) -> Array:
    """The mean of each value and of up to ``side`` on either side, as many before it as after it, so that nothing lags."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    reach = np.minimum(np.minimum(places, len(values) - 1 - places), side)
    means: Array = (sums[places + reach + 1] - sums[places - reach]) / (2 * reach + 1)
    return means


def _slope(rates: Array, smoothed: Array, place: int, side: int) -> float:
    """By how much the smoothed loss changes around a place when the rate grows by a factor of e."""
    low, high = max(0, place - side), min(len(rates) - 1, place + side)
    return float((smoothed[high] - smoothed[low]) / math.log(rates[high] / rates[low])) if high > low else 0.0
