"""``lint``: what looks wrong with a training before its first step, from the graph of its loss and one batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from chainrule.arguments import explained
from chainrule.data import Loader
from chainrule.errors import UserError
from chainrule.graph import INPUT, leaf
from chainrule.optim import Optimizer
from chainrule.tensor.calls import Call
from chainrule.train.diagnosis.batch_faults import Order, batch_faults, label_faults, optimizer_faults, size_faults
from chainrule.train.diagnosis.findings import BEFORE, Finding, Findings, silenced_names
from chainrule.train.diagnosis.graph_faults import graph_faults
from chainrule.train.diagnosis.loss_trace import Given, LossTrace, as_optimizers, cut, state_kept, trace_loss
from chainrule.train.diagnosis.scale_faults import scale_faults, work

_MOST_WORK = 2_000_000
"""Multiply-adds of the forward pass that signals are measured by, if that leaves two examples."""
_LEAST_EXAMPLES = 2


@explained
def lint(
    function: Callable[..., Any],
    *batch: Any,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    loader: Loader | None = None,
    silence: str | Iterable[str] = (),
) -> Findings:
    """What looks wrong with a training before its first step, such as a softmax in front of cross_entropy.

    ``function(*batch)`` gives the loss of a batch, alone or among other results; a whole training step that returns its loss
    will do, compiled or not. It is traced, which computes nothing and changes nothing, and then the loss of a few examples is
    computed once, to see how strong the signals are. ``optimizer`` is the one that is used, or several. From ``loader`` come
    the labels of all examples, their classes and the order of batches. ``silence`` names findings that are not to be made, in a
    list or with commas between them. ``docs/lint.md`` lists all of them.

        print(train.lint(step, images, labels, optimizer=optimizer))

    Raises:
        UserError: the function is none, does not take the batch, or returns no loss. An error that it raises itself is a
            finding.
    """
    optimizers = as_optimizers("lint", optimizer)
    silenced = silenced_names("lint: silence", silence)
    if loader is not None and not isinstance(loader, Loader):
        raise UserError(f"lint: loader must be a chainrule.data.Loader, got a {type(loader).__name__}: leave it out")
    order = None if loader is None else Order.of(loader)
    return inspected(function, batch, optimizers, order, silenced)[0]


def inspected(
    function: Callable[..., Any],
    batch: tuple[Any, ...],
    optimizers: Sequence[Optimizer],
    order: Order | None,
    silenced: frozenset[str],
) -> tuple[Findings, LossTrace | None]:
    """The findings of ``lint``, and what tracing left; None if the function raised an error."""
    found: list[Finding] = []
    traced = None
    try:
        with state_kept(optimizers):
            traced = trace_loss("lint", function, batch)
    except UserError as error:
        if str(error).startswith("lint: ") or isinstance(error, TypeError):
            raise
        found.append(Finding("does-not-run", "the loss", str(error), "mend this first: what else is wrong may not be found"))
    if traced is not None:
        found += graph_faults(traced)
        found += size_faults(traced, order)
        found += label_faults(traced, order)
        found += _after_a_forward_pass(function, batch, optimizers, traced, silenced)
    found += batch_faults(_given(function, batch) if traced is None else traced.inputs, order)
    found += optimizer_faults(optimizers)
    ranks = list(BEFORE)
    found.sort(key=lambda finding: ranks.index(finding.name))
    return Findings(dict.fromkeys(one for one in found if one.name not in silenced)), traced


def _given(function: Callable[..., Any], batch: tuple[Any, ...]) -> list[Given]:
    """The arguments, for what is seen in their numbers alone."""
    call = Call(batch, {})
    names = call.input_names(inspect.unwrap(function))
    leaves = [leaf(given.key.type, INPUT, label=name) for given, name in zip(call.inputs, names, strict=True)]
    return [Given(one.label, one, given.array) for one, given in zip(leaves, call.inputs, strict=True)]


def _after_a_forward_pass(
    function: Callable[..., Any],
    batch: tuple[Any, ...],
    optimizers: Sequence[Optimizer],
    traced: LossTrace,
    silenced: frozenset[str],
) -> Iterator[Finding]:
    """What takes a forward pass: of as many examples as it takes moderate work for."""
    if {"unnormalised-inputs", "vanishing-activations", "exploding-activations"} <= silenced:
        return
    examples = traced.examples
    most = max(_LEAST_EXAMPLES, _MOST_WORK * examples // max(work(traced), 1))
    if most < examples:
        try:
            with state_kept(optimizers):
                traced = trace_loss("lint", function, cut(batch, examples, most))
        except UserError:
            return  # a function that takes batches of one size only
    yield from scale_faults(traced)
