"""What is looked at before and in the first step of a run, of which the watcher is told what looks wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.data import Loader
from chainrule.models.own import is_own
from chainrule.optim import Optimizer
from chainrule.train.diagnosis.batch_faults import Order
from chainrule.train.diagnosis.findings import Findings, silenced_names
from chainrule.train.diagnosis.linting import inspected
from chainrule.train.diagnosis.untraining import left_out

if TYPE_CHECKING:
    from chainrule.train.diagnosis.loss_trace import LossTrace
    from chainrule.train.step import TrainingStep

Array = np.ndarray[Any, Any]

_OF_THE_PAPER = frozenset({"bias-before-batch-norm", "frozen"})
"""What is not said of the catalogue's networks: their layers are those of the paper, and of other people's files of weights."""


class FirstStep:
    """Looks at the first step of a run, and changes nothing by looking. Of parameters ``asked_for`` it is not said that they
    are frozen, as an option of the run asked for that."""

    def __init__(self, step: TrainingStep, optimizer: Optimizer, loader: Loader, asked_for: Iterable[str] = ()) -> None:
        self.step, self.optimizer, self.loader, self.asked_for = step, optimizer, loader, frozenset(asked_for)
        own = is_own(step.config.model)
        self._silenced = silenced_names("silence", step.config.silence) | (frozenset() if own else _OF_THE_PAPER)
        self._traced: LossTrace | None = None
        self._untrained = Findings()

    def before(self, images: Array, labels: Array) -> Findings:
        """What looks wrong before the step; afterwards ``is_due`` until ``at_gradients`` was called."""
        config = self.step.config
        order = Order.of(self.loader, config.batch_size)
        batch = self.step.first_part(images, labels)
        findings, self._traced = inspected(self.step.loss, batch, (self.optimizer,), order, self._silenced)
        return findings

    @property
    def is_due(self) -> bool:
        """Whether the step comes next whose gradients are to be looked at."""
        return self._traced is not None

    def at_gradients(self) -> None:
        """Find what the step does not train, while the gradients are there."""
        traced, self._traced = self._traced, None
        if traced is not None:
            named = self.step.model.named_parameters()
            parameters = {name: parameter for name, parameter in named if name not in self.asked_for}
            self._untrained = left_out(traced, parameters, (self.optimizer,), self._silenced)

    def after(self) -> Findings:
        """What the step has not trained; nothing when asked again."""
        findings, self._untrained = self._untrained, Findings()
        return findings
