"""The schedule that follows a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from chainrule.arguments import explained_methods, real_number, whole_number
from chainrule.errors import UserError
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.optim.schedule import Schedule, checked_optimizer, for_each_group


@explained_methods
class ReduceLROnPlateau(Schedule):
    """The rate is multiplied by ``factor`` when a metric has not improved for more than ``patience`` steps.

    ``step(metric)`` is called with the loss of an evaluation, for example, which is to fall (``mode="min"``), or an accuracy,
    which is to rise (``mode="max"``). Better means better than the best so far by ``threshold``: a share of it
    (``threshold_mode="rel"``) or an amount ("abs"). After a reduction, ``cooldown`` steps pass before bad ones count again.
    No rate falls below ``min_lr``, a number or one for each group, and none by less than ``eps``.

    It multiplies whatever rate the optimizer has, so another schedule may have set it before. A nan is never better.
    """

    shown = ("mode", "factor", "patience", "best", "num_bad_epochs", "cooldown_counter")
    follows_steps = False

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        checked_optimizer("ReduceLROnPlateau", optimizer)
        self.factor = real_number("ReduceLROnPlateau: factor", factor)
        if not 0 <= self.factor < 1:
            raise UserError(f"ReduceLROnPlateau: factor must be at least 0 and under 1, got {factor}")
        for name, value, known in (("mode", mode, ("min", "max")), ("threshold_mode", threshold_mode, ("rel", "abs"))):
            if value not in known:
                raise UserError(f"ReduceLROnPlateau: {name} must be {known[0]!r} or {known[1]!r}, got {value!r}")
        self.mode, self.threshold_mode = mode, threshold_mode
        self.patience = whole_number("ReduceLROnPlateau: patience", patience, 0)
        self.cooldown = whole_number("ReduceLROnPlateau: cooldown", cooldown, 0)
        self.threshold = real_number("ReduceLROnPlateau: threshold", threshold)
        self.min_lrs = for_each_group("ReduceLROnPlateau: min_lr", min_lr, optimizer)
        self.eps = real_number("ReduceLROnPlateau: eps", eps)
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0
        super().__init__(optimizer)

    def values(self, step: int, group: Group) -> dict[str, float]:
        """The present learning rate of a group. Later rates depend on later metrics, so ``step`` has no effect."""
        return {"lr": group.value("lr")}

    @property
    def steps(self) -> int:
        """The number of steps taken. It cannot be set, as the rate depends on the metrics of these steps."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        raise UserError(
            "ReduceLROnPlateau: the rate depends on the metrics, not on the number of steps: restore it with load_state_dict()"
        )

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Take note of a metric, one number, such as the loss of the evaluation after an epoch."""
        self._refuse_in_compiled_functions()
        metric = real_number("ReduceLROnPlateau: metrics", metrics)
        self._steps += 1
        if self._is_better(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            for group, least in zip(self.optimizer.groups, self.min_lrs, strict=True):
                rate = group.value("lr")
                reduced = max(rate * self.factor, least)
                if rate - reduced > self.eps:
                    group.set("lr", reduced)

    def _is_better(self, metric: float) -> bool:
        if self.mode == "min":
            return metric < (self.best * (1 - self.threshold) if self.threshold_mode == "rel" else self.best - self.threshold)
        return metric > (self.best * (1 + self.threshold) if self.threshold_mode == "rel" else self.best + self.threshold)

    # ---- saving

    def _state(self) -> dict[str, int | float]:
        counts = {"steps": self._steps, "num_bad_epochs": self.num_bad_epochs, "cooldown_counter": self.cooldown_counter}
        rates = {f"group.{place}.lr": group.value("lr") for place, group in enumerate(self.optimizer.groups)}
        return {**counts, "best": self.best, **rates}

    def _restore(self, state: Mapping[str, Any]) -> None:
        counts = {}
        for name, most in (("steps", None), ("num_bad_epochs", self.patience), ("cooldown_counter", self.cooldown)):
            counts[name] = whole_number(f"ReduceLROnPlateau: state {name!r}", state[name], 0)
            if most is not None and counts[name] > most:
                raise UserError(
                    f"ReduceLROnPlateau: state {name!r} is {counts[name]}, more than the {most} that this one goes up to: "
                    "was it saved by one with other arguments?"
                )
        best = real_number("ReduceLROnPlateau: state 'best'", state["best"])
        rates = []
        for place, _ in enumerate(self.optimizer.groups):
            rates.append(real_number(f"ReduceLROnPlateau: state 'group.{place}.lr'", state[f"group.{place}.lr"]))
            if not 0 <= rates[-1] < math.inf:
                raise UserError(f"ReduceLROnPlateau: state 'group.{place}.lr' must be at least 0, got {rates[-1]}")
        self._steps, self.best = counts["steps"], best
        self.num_bad_epochs, self.cooldown_counter = counts["num_bad_epochs"], counts["cooldown_counter"]
        for group, rate in zip(self.optimizer.groups, rates, strict=True):
            group.set("lr", rate)
