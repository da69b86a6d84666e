"""What is done about a step with numbers that are not finite: the step is found again, kept, explained, left out.

    loss is nan ──> back to the last checkpoint ──> the same steps, each looked at ──> the first bad one ──> capsule
                                                                                              │
                                                  explain: its first bad node, and stop  ◄────┴────►  skip: go on without it

Nothing is kept or checked from step to step but the loss, which is there anyway, so a step costs what it costs. That is enough,
as what is not finite stays so: a weight that became nan or infinite is so at the next checkpoint, which is not written then. A
training is a function of its options, bit for bit, so the steps since the last checkpoint can be done again, with a copy of the
state before each. It takes the time since that checkpoint, half a minute at most where nobody asked for fewer checkpoints, and
memory only then; a copy in each step would take the memory and the time of a second update always.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.graph.dtypes import is_float
from chainrule.train.capsule import Capsule
from chainrule.train.checkpoint import Progress, set_state, state_of
from chainrule.train.command_line import command_line
from chainrule.train.diagnosis.bad_node import BadNode
from chainrule.train.watching import Watcher

if TYPE_CHECKING:
    from chainrule.train.trainer import Trainer

Array = np.ndarray[Any, Any]

_MOST_NAMED = 3
"""Bad rows of a batch: of more, none is remarkable."""

_MOST_IN_A_ROW = 10
"""Steps that are skipped one after the other: if more are bad, it is not their images."""


class NotFiniteError(UserError):
    """A number of a step is not finite. ``step`` counts from 1, ``noticed`` says what. When the step was looked at, ``capsule``
    has it, and ``cause`` its first bad node, if NumPy finds one."""

    def __init__(self, message: str, step: int, noticed: str) -> None:
        super().__init__(message)
        self.step, self.noticed = step, noticed
        self.capsule: Capsule | None = None
        self.cause: BadNode | None = None


class Recovery:
    """Looks at steps of a trainer once one of them was not finite."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._until = 0  # steps up to this one are looked at
        self._found = False  # whether one of them was bad
        self._first: NotFiniteError | None = None  # why
        self._before: tuple[dict[str, Any], Progress, Array, Array] | None = None
        self._in_vain = 0

    @property
    def looks(self) -> bool:
        """Whether the next step is one that was taken before, and is looked at now."""
        return self.trainer.progress.step < self._until

    def before_step(self, images: Array, labels: Array) -> None:
        """Keep what the step needs, if it is to be looked at."""
        trainer = self.trainer
        if self.looks:
            state = state_of(trainer.model, trainer.optimizer, trainer.ema)
            self._before = state, copy.deepcopy(trainer.progress), images, labels

    def after_step(self, watcher: Watcher) -> None:
        """Look at what the step left. Raises the error if it is not finite."""
        if self._before is None:
            return
        trainer = self.trainer
        step = trainer.progress.step
        trainer.refuse_unsound()
        self._before = None
        if step == self._until and not self._found:
            assert self._first is not None
            self._in_vain += 1
            what = (
                f"{self._first.noticed}, but not when the steps since the last checkpoint were repeated, which gives the same "
                "bits on a sound machine"
            )
            if self._in_vain > 1:
                raise UserError(f"{what}, for the second time: have its memory tested")
            watcher.on_remark(f"{what}; training goes on from here")

    def unsound(self) -> str:
        """What is not finite among the weights, the buffers and the state of the optimizer, in words; empty if nothing is."""
        trainer = self.trainer
        for name, value in state_of(trainer.model, trainer.optimizer, trainer.ema).items():
            array = np.asarray(value)
            if (
                is_float(array.dtype)
                and not np.isfinite(array.astype(np.float32 if array.dtype.itemsize < 4 else array.dtype)).all()
            ):
                part, _, rest = name.partition(".")
                return {"model": rest, "ema": f"the average {rest}"}.get(
                    part, "the state of the optimizer"
                ) + " became nan or inf"
        return ""

    def take(self, error: NotFiniteError, watcher: Watcher) -> bool:
        """Go back to find the first bad step; at that step, leave it out, or raise the error with the cause.

        Whether it was left out.
        """
        trainer, before = self.trainer, self._before
        if trainer.config.on_nan == "stop":
            raise error
        if self._first is None or before is None:
            back = trainer.progress.step
            try:
                trainer.go_back()
            except UserError as obstacle:
                raise UserError(f"{error}\nIts cause cannot be looked for: {obstacle}") from error
            self._first, self._until, self._found = error, error.step, False
            steps = max(1, back - trainer.progress.step)
            watcher.on_remark(
                f"{error.noticed}: going back to step {trainer.progress.step} to find where it begins "
                f"({steps:,} {'step' if steps == 1 else 'steps'})"
            )
            return False
        self._found = True
        self._put_back(before)
        self._explain(error, before)
        if trainer.config.on_nan == "explain":
            raise error
        self._skip(error, watcher)
        return True

    def _put_back(self, before: tuple[dict[str, Any], Progress, Array, Array]) -> None:
        trainer = self.trainer
        seconds, waiting = trainer.progress.seconds, trainer.progress.waiting_seconds
        set_state(before[0], trainer.model, trainer.optimizer, trainer.ema)
        trainer.progress = copy.deepcopy(before[1])
        trainer.progress.seconds, trainer.progress.waiting_seconds = seconds, waiting
        self._before = None

    def _explain(self, error: NotFiniteError, before: tuple[dict[str, Any], Progress, Array, Array]) -> None:
        """Keep the step in a capsule, and find its first bad node. Of several steps, the first is kept."""
        trainer, (state, progress, images, labels) = self.trainer, before
        if trainer.config.on_nan == "skip" and progress.skipped:
            return
        epoch, batch = divmod(progress.step, len(trainer.loader))
        numbers = trainer.loader.numbers(epoch, batch)
        place = (trainer.config, list(trainer.classes), progress.step + 1, epoch, batch)
        capsule = error.capsule = Capsule(*place, error.noticed, trainer.loader.dataset.name, numbers, images, labels, state)
        trainer.keep(capsule)
        error.cause = capsule.first_bad_node()
        error.args = (self._message(error, capsule),)

    def _message(self, error: NotFiniteError, capsule: Capsule) -> str:
        folder, cause, first = self.trainer.folder, error.cause, self._first
        diverged = cause is None or not (cause.phase == "batch" or cause.remedy or cause.masked)
        words = [f"{error}." if diverged else f"{error.noticed}."]
        if first is not None and first.step != error.step:
            words.append(f"It was noticed at step {first.step}: {first.noticed}.")
        if cause is None:
            words.append("NumPy, which computes the step node by node, finds nothing in it that is not finite.")
        else:
            words.append(cause.sentence())
            if cause.row is not None and len(cause.rows) <= _MOST_NAMED:
                place = capsule.image(cause.row)
                words.append(f"{place[0].upper()}{place[1:]}.")
            if cause.remedy:
                words.append(cause.remedy)
        lines = [
            " ".join(words),
            *([f"Find a rate with: {command_line('lr', folder.path)}"] if diverged else []),
            f"Look at it again with: {command_line('replay', folder.capsule)}",
            f"Go on without it with: {command_line('train', '--resume', folder.path, '--on-nan', 'skip')}",
        ]
        return displayed("\n".join(lines), lines=True)

    def _skip(self, error: NotFiniteError, watcher: Watcher) -> None:
        trainer = self.trainer
        trainer.leave_out()
        self._until = max(self._until, error.step + 1)  # the next is often bad, too
        skipped = trainer.progress.skipped
        most = min(_MOST_IN_A_ROW, len(trainer.loader))
        if skipped[-most:] == list(range(error.step - most + 1, error.step + 1)):
            raise UserError(
                f"{error}\n{most} steps in a row were not finite, so it is not the images of one batch: training stopped"
            )
        trainer.save()
        watcher.on_remark(f"step {error.step} is left out, as {error.noticed}; training goes on with the weights before it")
