"""What is looked at before and in the first step of a run, of which the watcher is told what looks wrong."""

from __future__ import annotations

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

_OF_THE_PAPER = frozenset({"bias-before-batch-norm"})
"""What is not said of the catalogue's networks: their layers are those of the paper, and of other people's files of weights."""
_ASKED_FOR = frozenset({"frozen"})
"""What is not said after the first step, as an option asked for it."""


class FirstStep:
    """Looks at the first step of a run, and changes nothing by looking."""

    def __init__(self, step: TrainingStep, optimizer: Optimizer, loader: Loader) -> None:
        self.step, self.optimizer, self.loader = step, optimizer, loader
        self._traced: LossTrace | None = None
        self._untrained = Findings()

    def before(self, images: Array, labels: Array) -> Findings:
        """What looks wrong before the step; afterwards ``is_due`` until ``at_gradients`` was called."""
        config = self.step.config
        silenced = silenced_names("silence", config.silence)
        order = Order.of(self.loader, config.batch_size)
        batch = self.step.first_part(images, labels)
        silenced |= frozenset() if is_own(config.model) else _OF_THE_PAPER
        findings, self._traced = inspected(self.step.loss, batch, (self.optimizer,), order, silenced)
        return findings

    @property
    def is_due(self) -> bool:
        """Whether the step comes next whose gradients are to be looked at."""
        return self._traced is not None

    def at_gradients(self) -> None:
        """Find what the step does not train, while the gradients are there."""
        traced, self._traced = self._traced, None
        if traced is not None:
            silenced = silenced_names("silence", self.step.config.silence) | _ASKED_FOR
            parameters = dict(self.step.model.named_parameters())
            self._untrained = left_out(traced, parameters, (self.optimizer,), silenced)

    def after(self) -> Findings:
        """What the step has not trained; nothing when asked again."""
        findings, self._untrained = self._untrained, Findings()
        return findings
