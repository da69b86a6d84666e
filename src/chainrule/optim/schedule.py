"""Base of the schedules of the learning rate, which have PyTorch's names, arguments and values; and ``SequentialLR``.

A schedule is a function of the number of steps taken, which is its only state: ``schedule.values(step, group)`` returns the
options of a group at any step. To resume a training, ``schedule.steps`` is set, or ``load_state_dict()`` is called.
``ReduceLROnPlateau`` is the exception: it depends on a metric and has more state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from chainrule.arguments import explained, explained_methods, members_of, real_number, whole_number
from chainrule.errors import UserError
from chainrule.habits import SCHEDULE, absent
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.tensor import active_trace
from chainrule.tensor.watched import Watched

T = TypeVar("T")


@explained_methods
class Schedule(Watched, ABC):
    """Base of the schedules: ``step()`` counts a step and sets the options of every group to ``values(step, group)``."""

    shown: tuple[str, ...] = ()
    """The attributes that ``repr`` shows."""
    follows_steps = True
    """Whether the options are a function of the number of steps taken."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = checked_optimizer(type(self).__name__, optimizer)
        self._steps = 0
        self._apply(0)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__.startswith("chainrule.optim."):
            cls.__init__ = explained(cls.__init__)  # type: ignore[method-assign]

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise absent(type(self).__name__, name, SCHEDULE)

    @abstractmethod
    def values(self, step: int, group: Group) -> dict[str, float]:
        """The options of a group after ``step`` steps."""

    @property
    def steps(self) -> int:
        """The number of steps taken; setting it also sets the options to those of that step."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self._refuse_in_compiled_functions()
        taken = whole_number("schedule.steps", steps, 0)
        self._apply(taken)
        self._steps = taken

    def step(self) -> None:
        """Count a step; call it after every optimizer step, or after every epoch if the arguments count epochs."""
        self.steps = self._steps + 1

    # ---- saving

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """All state as arrays: ``steps``, the number of steps taken."""
        return {name: np.array(value) for name, value in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned, and set the options of the optimizer to those of that state.

        Raises:
            UserError: the message names what does not fit; nothing was changed.
        """
        self._refuse_in_compiled_functions()
        kind, known = type(self).__name__, self._state()
        if not isinstance(state, Mapping):
            raise UserError(f"{kind}: the state must be a dict, as state_dict() gives it, got a {type(state).__name__}")
        for name in state:
            if name not in known:
                raise UserError(f"schedule state {name!r} does not belong to this {kind}")
        missing = [name for name in known if name not in state]
        if missing:
            raise UserError(f"schedule state lacks {', '.join(missing)}: was it saved by another schedule?")
        self._restore(state)

    def _state(self) -> dict[str, int | float]:
        """All state by name."""
        return {"steps": self._steps}

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state that has the right names; a UserError where a value does not fit, and then nothing is changed."""
        self.steps = whole_number(f"{type(self).__name__}: state 'steps'", state["steps"], 0)

    def __repr__(self) -> str:
        given = [f"{name}={getattr(self, name)!r}" for name in self.shown]
        now = [f"{name}={value:g}" for name, value in self.values(self._steps, self.optimizer.groups[0]).items()]
        return f"{type(self).__name__}({', '.join([*given, f'steps={self._steps}', *now])})"

    def _apply(self, steps: int) -> None:
        for group in self.optimizer.groups:
            for name, value in self.values(steps, group).items():
                group.set(name, value)

    def _own(self, each: Sequence[T], group: Group) -> T:
        """What belongs to ``group`` in ``each``, which has a member for each group of the optimizer."""
        return each[next(place for place, one in enumerate(self.optimizer.groups) if one is group)]

    def _refuse_in_compiled_functions(self) -> None:
        trace = active_trace()
        if trace is not None and trace.notes is not None:
            raise UserError(
                f"{type(self).__name__}: the schedule takes a step inside a compiled function, where it would count only while "
                "it is traced: call schedule.step() after the compiled function"
            )


def checked_optimizer(kind: str, optimizer: object) -> Optimizer:
    """``optimizer``, if it is one; else a UserError that begins with ``kind``, the name of the schedule."""
    if not isinstance(optimizer, Optimizer):
        raise UserError(f"{kind}: needs an optimizer, got a {type(optimizer).__name__}")
    return optimizer


def for_each_group(what: str, value: object, optimizer: Optimizer) -> list[float]:
    """A number for each group of ``optimizer``: ``value`` may be one for all, or a list of them.

    Raises:
        UserError: there are more or fewer than groups, or what is there is no number; the message begins with ``what``.
    """
    groups = len(checked_optimizer(what.partition(":")[0], optimizer).groups)
    if not isinstance(value, list | tuple):
        return [real_number(what, value)] * groups
    if len(value) != groups:
        raise UserError(f"{what} must be a number, or one for each of the {groups} groups, got {len(value)}")
    return [real_number(f"{what} of group {place}", one) for place, one in enumerate(value)]


class SequentialLR(Schedule):
    """Schedules one after another: at each of the ``milestones`` (steps, ascending) the next begins, from its own step 0.

    A warm-up of 500 steps: ``SequentialLR(o, [LinearLR(o, 0.1, 1.0, 500), PolynomialLR(o, 9500)], [500])`` for an optimizer o.
    ``ReduceLROnPlateau``, which needs a metric at each step, cannot be one of the schedules.
    """

    shown = ("schedules", "milestones")

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int]) -> None:
        schedules: list[Schedule] = members_of("SequentialLR: schedulers", schedulers, "pass one schedule for each part")
        for schedule in schedules:
            if not isinstance(schedule, Schedule):
                raise UserError(f"SequentialLR: schedulers must be schedules, got a {type(schedule).__name__}")
            if not schedule.follows_steps:
                raise UserError(
                    f"SequentialLR: {type(schedule).__name__} needs a metric at each step, which SequentialLR does not get: "
                    "call its step(metrics) by itself, after the steps of the others"
                )
            if schedule.optimizer is not optimizer:
                raise UserError(
                    f"SequentialLR: {type(schedule).__name__} is a schedule of another optimizer: make it for this one"
                )
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
