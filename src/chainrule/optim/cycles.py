"""Schedules in which the learning rate rises and falls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from chainrule.arguments import real_number, whole_number
from chainrule.errors import UserError
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.optim.schedule import Schedule, checked_optimizer, for_each_group


def _momentum_name(kind: str, optimizer: Optimizer, cycle_momentum: bool) -> str | None:
    """The name of the option that is the optimizer's momentum; None if it has none.

    Raises:
        UserError: it is to be scheduled, but a group has none, or 0, with which it was made without room for one.
    """
    name = next((name for name in ("momentum", "beta1") if name in optimizer.changing), None)
    if cycle_momentum and any(name is None or group.initial[name] == 0 for group in optimizer.groups):
        raise UserError(f"{kind}: cycle_momentum=True needs an optimizer with momentum: pass one, or cycle_momentum=False")
    return name


class OneCycleLR(Schedule):
    """The rate rises to ``max_lr`` and then falls almost to 0, in ``total_steps`` steps, or ``epochs * steps_per_epoch``.

    It rises from ``max_lr / div_factor`` in the share ``pct_start`` of the steps, and falls to
    ``max_lr / div_factor / final_div_factor``; with ``three_phase`` it first falls to where it began, in as many steps as it
    rose. With ``cycle_momentum``, the momentum (beta1 of Adam) meanwhile falls from ``max_momentum`` to ``base_momentum`` and
    rises again. ``max_lr`` and both momenta are numbers, or one for each group. A step beyond ``total_steps`` is a UserError.

    Smith and Topin, "Super-convergence" (2018).
    """

    shown = ("max_lr", "total_steps", "pct_start", "anneal_strategy", "cycle_momentum")

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        checked_optimizer("OneCycleLR", optimizer)
        self.max_lrs = for_each_group("OneCycleLR: max_lr", max_lr, optimizer)
        self.max_lr = self.max_lrs if isinstance(max_lr, list | tuple) else self.max_lrs[0]
        if not 0 <= real_number("OneCycleLR: pct_start", pct_start) <= 1:
            raise UserError(f"OneCycleLR: pct_start must be from 0 to 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise UserError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        self.pct_start, self.anneal_strategy, self.three_phase = pct_start, anneal_strategy, three_phase
        if total_steps is not None:
            self.total_steps = whole_number("OneCycleLR: total_steps", total_steps, 1)
        elif epochs is None or steps_per_epoch is None:
            raise UserError("OneCycleLR: pass total_steps, or epochs and steps_per_epoch")
        else:
            self.total_steps = whole_number("OneCycleLR: epochs", epochs, 1)
            self.total_steps *= whole_number("OneCycleLR: steps_per_epoch", steps_per_epoch, 1)
        self.base_momenta = for_each_group("OneCycleLR: base_momentum", base_momentum, optimizer)
        self.max_momenta = for_each_group("OneCycleLR: max_momentum", max_momentum, optimizer)
        self.div_factor = real_number("OneCycleLR: div_factor", div_factor)
        self.final_div_factor = real_number("OneCycleLR: final_div_factor", final_div_factor)
        self.cycle_momentum = cycle_momentum
        self.momentum_name = _momentum_name("OneCycleLR", optimizer, cycle_momentum)
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps and, with ``cycle_momentum``, its momentum or beta1."""
        if step > self.total_steps:
            raise UserError(f"OneCycleLR: step {step} lies beyond total_steps={self.total_steps}: give it more steps")
        peak, low, high = (self._own(each, group) for each in (self.max_lrs, self.base_momenta, self.max_momenta))
        first = peak / self.div_factor
        last, rising, end = first / self.final_div_factor, self.pct_start * self.total_steps, self.total_steps - 1
        # of each phase the step that it ends with, the rates it goes from and to, and the momenta
        phases = [(rising - 1, first, peak, high, low)]
        if self.three_phase:
            phases += [(2 * rising - 2, peak, first, low, high), (end, first, last, high, high)]
        else:
            phases += [(end, peak, last, low, high)]
        before = 0.0
        while step > phases[0][0] and len(phases) > 1:
            before = phases.pop(0)[0]
        stop, rate, next_rate, momentum, next_momentum = phases[0]
        share = min((step - before) / (stop - before), 1.0) if stop > before else 1.0
        options = {"lr": self._between(rate, next_rate, share)}
        if self.cycle_momentum and self.momentum_name is not None:
            options[self.momentum_name] = self._between(momentum, next_momentum, share)
        return options

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * share
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


class CyclicLR(Schedule):
    """The rate rises from ``base_lr`` to ``max_lr`` in ``step_size_up`` steps, falls back in ``step_size_down``, and so on.

    ``mode`` says how high it rises: always as high ("triangular"), half as high in each cycle ("triangular2"), or
    gamma^step as high ("exp_range"). ``scale_fn`` is a function of one's own instead: of the number of the cycle, from 1, or
    with ``scale_mode="iterations"`` of the number of steps. With ``cycle_momentum``, the momentum (beta1 of Adam) meanwhile
    falls from ``max_momentum`` towards ``base_momentum`` and rises again. Rates and momenta are numbers, or one for each group;
    ``step_size_down=None`` means as many steps as up.

    Smith, "Cyclical learning rates for training neural networks" (2017).
    """

    shown = ("base_lr", "max_lr", "step_size_up", "step_size_down", "mode", "cycle_momentum")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
    ) -> None:
        checked_optimizer("CyclicLR", optimizer)
        self.base_lrs = for_each_group("CyclicLR: base_lr", base_lr, optimizer)
        self.max_lrs = for_each_group("CyclicLR: max_lr", max_lr, optimizer)
        self.base_lr, self.max_lr = (each if len(set(each)) > 1 else each[0] for each in (self.base_lrs, self.max_lrs))
        self.step_size_up = whole_number("CyclicLR: step_size_up", step_size_up, 1)
        down = step_size_up if step_size_down is None else step_size_down
        self.step_size_down = whole_number("CyclicLR: step_size_down", down, 1)
        if scale_fn is None and mode not in ("triangular", "triangular2", "exp_range"):
            raise UserError(f"CyclicLR: mode must be 'triangular', 'triangular2' or 'exp_range', got {mode!r}")
        if scale_fn is not None and not callable(scale_fn):
            raise UserError(f"CyclicLR: scale_fn must be a function of a number, got a {type(scale_fn).__name__}")
        if scale_mode not in ("cycle", "iterations"):
            raise UserError(f"CyclicLR: scale_mode must be 'cycle' or 'iterations', got {scale_mode!r}")
        self.mode, self.scale_fn, self.scale_mode = mode, scale_fn, scale_mode
        self.gamma = real_number("CyclicLR: gamma", gamma)
        self.base_momenta = for_each_group("CyclicLR: base_momentum", base_momentum, optimizer)
        self.max_momenta = for_each_group("CyclicLR: max_momentum", max_momentum, optimizer)
        self.cycle_momentum = cycle_momentum
        self.momentum_name = _momentum_name("CyclicLR", optimizer, cycle_momentum)
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The learning rate of a group after ``step`` steps and, with ``cycle_momentum``, its momentum or beta1."""
        cycle, place = divmod(step, self.step_size_up + self.step_size_down)
        up = place <= self.step_size_up
        share = place / self.step_size_up if up else 1 - (place - self.step_size_up) / self.step_size_down
        share *= self._scale(cycle + 1, step)
        low, high = self._own(self.base_lrs, group), self._own(self.max_lrs, group)
        options = {"lr": low + (high - low) * share}
        if self.cycle_momentum and self.momentum_name is not None:
            low, high = self._own(self.base_momenta, group), self._own(self.max_momenta, group)
            options[self.momentum_name] = high - (high - low) * share
        return options

    def _scale(self, cycle: int, step: int) -> float:
        """How high the rate rises in a cycle, as a share of the difference of ``max_lr`` and ``base_lr``."""
        if self.scale_fn is not None:
            argument = cycle if self.scale_mode == "cycle" else step
            return real_number(f"CyclicLR: what scale_fn gives for {argument}", self.scale_fn(argument))
        if self.mode == "triangular2":
            return 0.5 ** (cycle - 1)
        return self.gamma**step if self.mode == "exp_range" else 1.0
