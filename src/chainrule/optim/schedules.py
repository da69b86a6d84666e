"""Schedules of the learning rate, with PyTorch's names, arguments and values.

Each is a function of the number of steps taken, which is its only state: ``schedule.values(step, group)`` returns a group's
options at any step, and to resume a training, ``schedule.steps`` is set.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from chainrule.arguments import explained, explained_methods, members_of, real_number, whole_number
from chainrule.errors import UserError
from chainrule.optim.optimizers import Group, Optimizer
from chainrule.tensor import active_trace
from chainrule.tensor.watched import Watched


@explained_methods
class Schedule(Watched, ABC):
    """Base of the schedules: ``step()`` counts a step and sets the options of every group to ``values(step, group)``."""

    shown: tuple[str, ...] = ()
    """The attributes that ``repr`` shows."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise UserError(f"{type(self).__name__}: needs an optimizer, got a {type(optimizer).__name__}")
        self.optimizer = optimizer
        self._steps = 0
        self._apply(0)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__.startswith("chainrule.optim."):
            cls.__init__ = explained(cls.__init__)  # type: ignore[method-assign]

    @abstractmethod
    def values(self, step: int, group: Group) -> dict[str, float]:
        """The options of a group after ``step`` steps."""

    @property
    def steps(self) -> int:
        """The number of steps taken; setting it also sets the options to those of that step."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        trace = active_trace()
        if trace is not None and trace.notes is not None:
            raise UserError(
                f"{type(self).__name__}: the schedule takes a step inside a compiled function, where it would count only while "
                "it is traced: call schedule.step() after the compiled function"
            )
        taken = whole_number("schedule.steps", steps, 0)
        self._apply(taken)
        self._steps = taken

    def step(self) -> None:
        """Count a step; call it after every optimizer step, or after every epoch if the arguments count epochs."""
        self.steps = self._steps + 1

    def __repr__(self) -> str:
        given = [f"{name}={getattr(self, name)!r}" for name in self.shown]
        now = [f"{name}={value:g}" for name, value in self.values(self._steps, self.optimizer.groups[0]).items()]
        return f"{type(self).__name__}({', '.join([*given, f'steps={self._steps}', *now])})"

    def _apply(self, steps: int) -> None:
        for group in self.optimizer.groups:
            for name, value in self.values(steps, group).items():
                group.set(name, value)


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


class SequentialLR(Schedule):
    """Schedules one after another: at each of the ``milestones`` (steps, ascending) the next begins, from its own step 0."""

    shown = ("schedules", "milestones")

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int]) -> None:
        schedules: list[Schedule] = members_of("SequentialLR: schedulers", schedulers, "pass one schedule for each part")
        for schedule in schedules:
            if not isinstance(schedule, Schedule):
                raise UserError(f"SequentialLR: schedulers must be schedules, got a {type(schedule).__name__}")
        steps = members_of("SequentialLR: milestones", milestones, "pass the step at which each schedule but the first begins")
        milestones = [whole_number("SequentialLR: a milestone", step, 0) for step in steps]
        if len(schedules) != len(milestones) + 1 or milestones != sorted(milestones):
            raise UserError(
                f"SequentialLR: {len(schedules)} schedules need {len(schedules) - 1} ascending milestones, got {milestones}"
            )
        self.schedules, self.milestones = schedules, milestones
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The options that the schedule in charge at ``step`` gives."""
        which = sum(step >= milestone for milestone in self.milestones)
        begin = self.milestones[which - 1] if which else 0
        return self.schedules[which].values(step - begin, group)
