"""Schedules that multiply the initial learning rate by a factor, a function of the number of steps."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from chainrule.arguments import members_of, real_number, whole_number
from chainrule.errors import UserError
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.optim.schedule import Schedule, checked_optimizer


class StepLR(Schedule):
    """The initial rate times ``gamma`` for every ``step_size`` steps taken."""

    shown = ("step_size", "gamma")

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = whole_number("StepLR: step_size", step_size, 1), real_number("StepLR: gamma", gamma)
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps."""
        return {"lr": group.initial["lr"] * self.gamma ** (step // self.step_size)}


class MultiStepLR(Schedule):
    """The initial rate times ``gamma`` for every one of the ``milestones`` (numbers of steps, in any order) that is reached.

    A milestone that is given twice counts twice.
    """

    shown = ("milestones", "gamma")

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1) -> None:
        given = members_of("MultiStepLR: milestones", milestones, "pass the steps at which the rate falls, such as [30, 80]")
        self.milestones = sorted(whole_number("MultiStepLR: a milestone", step, 0) for step in given)
        self.gamma = real_number("MultiStepLR: gamma", gamma)
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps."""
        return {"lr": group.initial["lr"] * self.gamma ** bisect_right(self.milestones, step)}


class ExponentialLR(Schedule):
    """The initial rate times ``gamma`` for every step taken."""

    shown = ("gamma",)

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = real_number("ExponentialLR: gamma", gamma)
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps."""
        return {"lr": group.initial["lr"] * self.gamma**step}


class ConstantLR(Schedule):
    """The initial rate times ``factor`` for ``total_iters`` steps, then the initial rate."""

    shown = ("factor", "total_iters")

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5) -> None:
        self.factor = real_number("ConstantLR: factor", factor)
        if not 0 <= self.factor <= 1:
            raise UserError(f"ConstantLR: factor must be from 0 to 1, got {factor}")
        self.total_iters = whole_number("ConstantLR: total_iters", total_iters, 1)
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps."""
        return {"lr": group.initial["lr"] * (self.factor if step < self.total_iters else 1.0)}


class CosineAnnealingLR(Schedule):
    """Half a cosine from the initial rate down to ``eta_min`` in ``T_max`` steps; after that it rises again.

    Loshchilov and Hutter, "SGDR" (2017), without its restarts.
    """

    shown = ("T_max", "eta_min")

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:  # noqa: N803 - PyTorch's name
        self.T_max = whole_number("CosineAnnealingLR: T_max", T_max, 1)
        self.eta_min = real_number("CosineAnnealingLR: eta_min", eta_min)
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps."""
        share = (1 + math.cos(math.pi * step / self.T_max)) / 2
        return {"lr": self.eta_min + (group.initial["lr"] - self.eta_min) * share}


class CosineAnnealingWarmRestarts(Schedule):
    """Half a cosine from the initial rate down to ``eta_min`` in ``T_0`` steps, and then from the start again.

    Each run takes ``T_mult`` times as many steps as the one before.

    Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts" (2017).
    """

    shown = ("T_0", "T_mult", "eta_min")

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:  # noqa: N803 - PyTorch's
        self.T_0 = whole_number("CosineAnnealingWarmRestarts: T_0", T_0, 1)
        self.T_mult = whole_number("CosineAnnealingWarmRestarts: T_mult", T_mult, 1)
        self.eta_min = real_number("CosineAnnealingWarmRestarts: eta_min", eta_min)
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps."""
        length = self.T_0
        if self.T_mult == 1:
            step %= length
        while step >= length:
            step, length = step - length, length * self.T_mult
        share = (1 + math.cos(math.pi * step / length)) / 2
        return {"lr": self.eta_min + (group.initial["lr"] - self.eta_min) * share}


class LinearLR(Schedule):
    """Linear warm-up: from ``start_factor`` to ``end_factor`` times the initial rate in ``total_iters`` steps, then flat."""

    shown = ("start_factor", "end_factor", "total_iters")

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        start_factor = real_number("LinearLR: start_factor", start_factor)
        end_factor = real_number("LinearLR: end_factor", end_factor)
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise UserError(f"LinearLR: factors must lie in (0, 1], got {start_factor} and {end_factor}")
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = whole_number("LinearLR: total_iters", total_iters, 1)
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps."""
        share = min(step, self.total_iters) / self.total_iters
        return {"lr": group.initial["lr"] * (self.start_factor + (self.end_factor - self.start_factor) * share)}


class PolynomialLR(Schedule):
    """The initial rate times (1 - step / total_iters)^power, which is 0 after ``total_iters`` steps and from then on."""

    shown = ("total_iters", "power")

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0) -> None:
        self.total_iters = whole_number("PolynomialLR: total_iters", total_iters, 1)
        self.power = real_number("PolynomialLR: power", power)
        if not self.power > 0:
            raise UserError(f"PolynomialLR: power must be above 0, got {power}")
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps."""
        return {"lr": group.initial["lr"] * (1 - min(step, self.total_iters) / self.total_iters) ** self.power}


class LambdaLR(Schedule):
    """The initial rate times ``lr_lambda(step)``, a function of the number of steps taken.

    ``lr_lambda`` may be a list of functions, one for each group of the optimizer. The state does not contain the functions: to
    resume, make the schedule with the same ones.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]) -> None:
        groups = len(checked_optimizer("LambdaLR", optimizer).groups)
        functions: list[Any] = list(lr_lambda) if isinstance(lr_lambda, list | tuple) else [lr_lambda] * groups
        for function in functions:
            if not callable(function):
                raise UserError(
                    f"LambdaLR: lr_lambda must be a function of the step, got a {type(function).__name__}: "
                    "such as lambda step: 0.95**step"
                )
        if len(functions) != groups:
            raise UserError(
                f"LambdaLR: lr_lambda must be a function, or one for each of the {groups} groups, got {len(functions)}"
            )
        self.lr_lambdas: list[Callable[[int], float]] = functions
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps."""
        factor = self._own(self.lr_lambdas, group)(step)
        return {"lr": group.initial["lr"] * real_number(f"LambdaLR: what lr_lambda gives for step {step}", factor)}
