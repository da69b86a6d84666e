"""Faults that show when a training is over: a loss that went far above that of guessing, and test images that are recognised no
better than by always giving the same answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from chainrule.arguments import explained
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.train.chance import is_guessing, loss_of_guessing
from chainrule.train.diagnosis.findings import Finding, Findings, silenced_names
from chainrule.train.evaluation import Evaluation

_FAR_ABOVE = 10.0
"""How many times the loss of guessing a training loss must have been. Large weights to begin with make it 3 or 5 times that."""

_ALMOST_ALL = 0.9
"""The share of answers from which on a network gives always the same."""

_FEW_STEPS = 5
"""Of a training with fewer steps nobody expects anything: somebody tries whether the command works."""

_MEMORISED = 0.2
"""By how much more of the training images than of the test images must be right to say that they are known by heart."""


@explained
def outcome(
    evaluation: Evaluation,
    losses: Mapping[int, float] | None = None,
    training_accuracy: float | None = None,
    silence: str | Iterable[str] = (),
) -> Findings:
    """What looks wrong with a training that is over, of which ``evaluation`` is what ``train.evaluate`` gives for test images.

    ``losses`` are means of the training loss by the number of the step, and ``training_accuracy`` is the share of training
    images that were right in the last epoch. ``silence`` names findings that are not to be made.

        print(train.outcome(train.evaluate(model, test_loader), losses={1: 2.31, 100: 0.42}))

    Raises:
        UserError: ``evaluation`` is none, or ``losses`` are not numbers by step.
    """
    silenced = silenced_names("outcome: silence", silence)
    if not isinstance(evaluation, Evaluation):
        raise UserError(f"outcome: evaluation must be what train.evaluate gives, got a {type(evaluation).__name__}")
    if losses is not None and not isinstance(losses, Mapping):
        raise UserError(f"outcome: losses must be a dict of losses by step, got a {type(losses).__name__}")
    found = list(_diverged(losses or {}, len(evaluation.classes)))
    found = found or list(_nothing_learned(evaluation, training_accuracy))
    return Findings(one for one in found if one.name not in silenced)


def outcome_of_run(metrics: Sequence[Mapping[str, Any]], evaluation: Evaluation, silence: str) -> Findings:
    """``outcome`` of a run, with the rows of its metrics."""
    losses = {row["step"]: row["loss"] for row in metrics if row["kind"] == "train"}
    accuracies = [row["train_accuracy"] for row in metrics if row["kind"] == "test"]
    if max((row["step"] for row in metrics), default=0) < _FEW_STEPS:
        return Findings()
    return outcome(evaluation, losses, accuracies[-1] if accuracies else None, silence)


def _diverged(losses: Mapping[int, float], classes: int) -> Iterator[Finding]:
    """What is said of a training whose loss went far above that of guessing, and did not come back far below it."""
    guessing = math.log(max(classes, 2))
    if not losses:
        return
    worst = max(losses, key=lambda step: losses[step])
    last = losses[max(losses)]
    if losses[worst] > _FAR_ABOVE * guessing and last > guessing / 2:
        yield Finding(
            "diverged",
            "the training loss",
            f"it was {losses[worst]:.3g} at step {worst} and {last:.3g} at the end, where guessing among {classes} classes has "
            f"{guessing:.2f}: steps were so large that the training diverged",
            "take a smaller learning rate, such as `chainrule lr` or train.find_lr proposes",
        )


def _nothing_learned(evaluation: Evaluation, training_accuracy: float | None) -> Iterator[Finding]:
    """What is said of a network that is no better than guessing."""
    of_class, answers = evaluation.confusion.sum(axis=1), evaluation.confusion.sum(axis=0)
    names, images = evaluation.classes, evaluation.images
    if not is_guessing(of_class, evaluation.correct, evaluation.loss):
        return
    most = int(answers.argmax())
    taken = answers[most] / images
    same = ""
    if taken > _ALMOST_ALL:
        same = f", and {'all' if taken == 1 else f'{100 * taken:.0f}%'} are taken for {displayed(names[most])}"
    commonest, most_frequent = displayed(names[int(of_class.argmax())]), of_class.max() / images
    what = (
        f"{100 * evaluation.accuracy:.2f}% are right{same}, with a loss of {evaluation.loss:.4g}; always answering {commonest} "
        f"would be right for {100 * most_frequent:.2f}%, and guessing has a loss of {loss_of_guessing(of_class):.4g}, so "
        "nothing was learned of them"
    )
    remedy = (
        "look at the notes on the first step and at `chainrule health`; if they find nothing, try another learning rate "
        "(`chainrule lr`), and look whether the labels belong to the images"
    )
    if training_accuracy is not None and training_accuracy > evaluation.accuracy + _MEMORISED:
        what += f", though {100 * training_accuracy:.0f}% of the training images are right, as if known by heart"
        remedy = "look whether the labels belong to the images, and whether the test images are of the same kind"
    yield Finding("nothing-learned", "the test images", what, remedy)
