"""Schedules in which the learning rate rises and falls."""

from __future__ import annotations

import math

from chainrule.arguments import real_number, whole_number
from chainrule.errors import UserError
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.optim.schedule import Schedule


class OneCycleLR(Schedule):
    """The rate rises to ``max_lr`` and then falls almost to 0, in ``total_steps`` steps.

    It rises from ``max_lr / div_factor`` in the share ``pct_start`` of the steps, and falls to
    ``max_lr / div_factor / final_div_factor``. With ``cycle_momentum``, the momentum (beta1 of Adam) meanwhile falls from
    ``max_momentum`` to ``base_momentum`` and rises again. A step beyond ``total_steps`` is a UserError.

    Smith and Topin, "Super-convergence" (2018).
    """

    shown = ("max_lr", "total_steps", "pct_start", "anneal_strategy", "cycle_momentum")

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float,
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        max_lr = real_number("OneCycleLR: max_lr", max_lr)
        if not 0 <= real_number("OneCycleLR: pct_start", pct_start) <= 1:
            raise UserError(f"OneCycleLR: pct_start must be from 0 to 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise UserError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        self.max_lr, self.pct_start, self.anneal_strategy = max_lr, pct_start, anneal_strategy
        self.total_steps = whole_number("OneCycleLR: total_steps", total_steps, 1)
        self.base_momentum, self.max_momentum = base_momentum, max_momentum
        self.first_lr = max_lr / div_factor
        self.last_lr = self.first_lr / final_div_factor
        self.momentum_name = next((name for name in ("momentum", "beta1") if name in optimizer.changing), None)
        self.cycle_momentum = cycle_momentum
        if cycle_momentum and any(
            self.momentum_name is None or group.initial[self.momentum_name] == 0 for group in optimizer.groups
        ):
            raise UserError(
                "OneCycleLR: cycle_momentum=True needs an optimizer with momentum: pass one, or cycle_momentum=False"
            )
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps and, with ``cycle_momentum``, its momentum or beta1."""
        if step > self.total_steps:
            raise UserError(f"OneCycleLR: step {step} lies beyond total_steps={self.total_steps}: give it more steps")
        top = self.pct_start * self.total_steps - 1  # the step at which the peak is reached
        end = self.total_steps - 1
        if step <= top:
            share = step / top if top else 1.0
            options = {"lr": self._between(self.first_lr, self.max_lr, share)}
            momentum = self._between(self.max_momentum, self.base_momentum, share)
        else:
            share = min((step - top) / (end - top), 1.0) if end > top else 1.0
            options = {"lr": self._between(self.max_lr, self.last_lr, share)}
            momentum = self._between(self.base_momentum, self.max_momentum, share)
        if self.cycle_momentum and self.momentum_name is not None:
            options[self.momentum_name] = momentum
        return options

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * share
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
