"""Base of the schedules of the learning rate, which have PyTorch's names, arguments and values; and ``SequentialLR``.

A schedule is a function of the number of steps taken, which is its only state: ``schedule.values(step, group)`` returns the
options of a group at any step. To resume a training, ``schedule.steps`` is set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from chainrule.arguments import explained, explained_methods, members_of, whole_number
from chainrule.errors import UserError
from chainrule.optim.optimizer import Group, Optimizer
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
        """The options that the schedule that ``step`` belongs to gives."""
        current = sum(step >= milestone for milestone in self.milestones)
        begin = self.milestones[current - 1] if current else 0
        return self.schedules[current].values(step - begin, group)
