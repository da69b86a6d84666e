"""Schedules in which the learning rate falls in steps or along a cosine, or rises linearly at the beginning."""

from __future__ import annotations

import math

from chainrule.arguments import real_number, whole_number
from chainrule.errors import UserError
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.optim.schedule import Schedule


class StepLR(Schedule):
    """The initial rate times ``gamma`` for every ``step_size`` steps taken."""

    shown = ("step_size", "gamma")

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = whole_number("StepLR: step_size", step_size, 1), real_number("StepLR: gamma", gamma)
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps."""
        return {"lr": group.initial["lr"] * self.gamma ** (step // self.step_size)}


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
