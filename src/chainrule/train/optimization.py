"""Optimizers and schedules by name, and which parameters have a learning rate of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chainrule import optim
from chainrule.errors import UserError
from chainrule.nn import Module
from chainrule.optim import Optimizer, Schedule
from chainrule.train.parts import chosen, no_part, rates_by_pattern

if TYPE_CHECKING:
    from chainrule.train.config import Config

Parameters = list[Any]


@dataclass(frozen=True)
class Kind:
    """An optimizer by its name: the learning rate that it has unless told otherwise (the peak of a one-cycle), how many numbers
    it keeps beside a weight, and how it is made for a configuration of parameters or groups of them. ``momentum`` says whether
    it has one (or a beta1)."""

    rate: float
    state: int
    make: Callable[[Config, Parameters], Optimizer]
    momentum: bool = True


OPTIMIZERS = {
    "sgd": Kind(
        0.1,
        1,
        lambda c, p: optim.SGD(p, c.peak_lr, c.momentum, weight_decay=c.weight_decay, nesterov=c.nesterov and c.momentum > 0),
    ),
    "adam": Kind(0.005, 2, lambda c, p: optim.Adam(p, c.peak_lr, (c.momentum, 0.999), weight_decay=c.weight_decay)),
    "adamw": Kind(0.005, 2, lambda c, p: optim.AdamW(p, c.peak_lr, (c.momentum, 0.999), weight_decay=c.weight_decay)),
    "nadam": Kind(0.005, 2, lambda c, p: optim.NAdam(p, c.peak_lr, (c.momentum, 0.999), weight_decay=c.weight_decay)),
    "radam": Kind(0.005, 2, lambda c, p: optim.RAdam(p, c.peak_lr, (c.momentum, 0.999), weight_decay=c.weight_decay)),
    "adagrad": Kind(0.01, 1, lambda c, p: optim.Adagrad(p, c.peak_lr, weight_decay=c.weight_decay), momentum=False),
    "rmsprop": Kind(0.002, 2, lambda c, p: optim.RMSprop(p, c.peak_lr, momentum=c.momentum, weight_decay=c.weight_decay)),
}
"""Every optimizer that the command knows."""


def make_optimizer(config: Config, model: Module) -> Optimizer:
    """The optimizer that a configuration names, over the parameters of a model that are not frozen.

    With ``lr_of``, a parameter belongs to the first pattern that fits it, and each pattern is a group with its own rate.

    Raises:
        UserError: a pattern is left without a parameter, or all parameters are frozen.
    """
    learning = {name: one for name, one in model.named_parameters() if one.requires_grad}
    if not learning:
        raise UserError(f"no parameter of this {type(model).__name__} is to be trained: all of them have requires_grad=False")
    if not config.lr_of:
        return OPTIMIZERS[config.optimizer].make(config, list(learning.values()))
    groups: list[dict[str, Any]] = []
    pairs = rates_by_pattern(config.lr_of)
    for place, (pattern, rate) in enumerate(pairs):
        named = chosen(pattern, learning)
        if not named:
            raise no_part("lr-of", pattern, model, [one for one, _ in pairs[:place]])
        groups.append({"params": [learning.pop(name) for name in named], "lr": rate})
    rest = [{"params": list(learning.values())}] if learning else []
    return OPTIMIZERS[config.optimizer].make(config, [*rest, *groups])


SCHEDULES = ("one-cycle", "cosine", "restarts", "linear", "step", "exponential", "constant")
"""Every schedule that the command knows."""

_RISE = 0.3  # of a one-cycle, unless told otherwise
_LEAST_OF_WARM_UP = 0.01  # of the rate, at its first step
_FALL = 0.01  # what an exponential schedule leaves of the rate at the end


def make_schedule(config: Config, optimizer: Optimizer, steps: int) -> Schedule:
    """The learning rate over ``steps`` steps, of every group in proportion to its own.

    A warm-up rises in a line from a hundredth of the rate, and the schedule has the steps after it; a one-cycle has a rise of
    its own, whose length the warm-up then is.
    """
    first = min(config.warm_up_steps(steps), steps)
    if config.schedule == "one-cycle":
        rise = first / steps if first else _RISE
        peaks = [group.value("lr") for group in optimizer.groups]
        cycled = config.momentum > 0 and OPTIMIZERS[config.optimizer].momentum
        return optim.OneCycleLR(optimizer, peaks, steps, pct_start=rise, cycle_momentum=cycled)
    if not first:
        return _SHAPES[config.schedule](optimizer, steps)
    warm = optim.LinearLR(optimizer, _LEAST_OF_WARM_UP, 1.0, first)
    if first == steps:
        return warm
    return optim.SequentialLR(optimizer, [warm, _SHAPES[config.schedule](optimizer, steps - first)], [first])


_SHAPES: dict[str, Callable[[Optimizer, int], Schedule]] = {
    "cosine": lambda optimizer, steps: optim.CosineAnnealingLR(optimizer, steps),
    "restarts": lambda optimizer, steps: optim.CosineAnnealingWarmRestarts(optimizer, max(1, -(-steps // 7)), 2),
    "linear": lambda optimizer, steps: optim.PolynomialLR(optimizer, steps),
    "step": lambda optimizer, steps: optim.StepLR(optimizer, max(1, -(-steps // 3))),
    "exponential": lambda optimizer, steps: optim.ExponentialLR(optimizer, _FALL ** (1 / steps)),
    "constant": lambda optimizer, steps: optim.LinearLR(optimizer, 1.0, 1.0, 1),
}
"""Each schedule but the one-cycle, for so many steps: three cosines that last a seventh, two and four of the steps; a tenth of
the rate less in each third; a hundredth of it in the end."""


def average_of(config: Config, model: Module) -> optim.EMA | None:
    """The averages of the weights of ``model`` that a configuration asks for, if it does."""
    return optim.EMA(model, config.ema, warmup=True, use_buffers=True) if config.ema else None
