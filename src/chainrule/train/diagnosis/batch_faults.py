"""Faults of a batch, of the order of batches and of optimizers, which need no graph or only what stands at its ends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.data import Loader
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.graph import Array
from chainrule.graph.dtypes import is_integer
from chainrule.optim import Optimizer
from chainrule.tensor import Parameter
from chainrule.train.diagnosis.findings import Finding, place_of
from chainrule.train.diagnosis.graph_faults import batch_statistics
from chainrule.train.diagnosis.loss_trace import Given, LossTrace

_ENOUGH = 16
"""The least number of examples of one class only that are no chance."""


@dataclass(frozen=True, eq=False)
class Order:
    """The data that batches are taken of: the labels of all examples, the classes, how many examples go through the model at
    once, whether a smaller last batch is left out, and whether their order is drawn anew."""

    labels: Array
    classes: Sequence[str]
    batch_size: int
    drop_last: bool
    shuffle: bool

    @classmethod
    def of(cls, loader: Loader, batch_size: int = 0) -> Order:
        """That of a loader; ``batch_size`` counts where its batches go through the model in parts."""
        dataset = loader.dataset
        size = batch_size or loader.batch_size
        return cls(np.asarray(dataset.labels), dataset.classes, size, loader.drop_last, loader.shuffle)


def has_channels_last(image_shape: Sequence[int]) -> bool:
    """Whether the shape of an image looks like (H, W, C), where (C, H, W) is meant."""
    height, width, channels = image_shape
    return channels in (1, 3, 4) and min(height, width) > 4


def batch_faults(given: Sequence[Given], order: Order | None) -> Iterator[Finding]:
    """Faults of the numbers of a batch."""
    for one in given:
        numbers = one.numbers
        if numbers.ndim == 4 and has_channels_last(numbers.shape[1:]):
            n, height, width, channels = numbers.shape
            yield Finding(
                "channels-last",
                f"argument {one.name}",
                f"its shape {numbers.shape} looks like that of {n} images of {height} x {width} with {channels} "
                f"{'channel' if channels == 1 else 'channels'} in the last place, and convolutions take them in the second",
                f"pass {one.name}.transpose(0, 3, 1, 2)",
            )
        if numbers.ndim >= 3 and len(numbers) > 1 and (numbers[1:] == numbers[:1]).all():
            yield Finding(
                "identical-images",
                f"argument {one.name}",
                f"all {len(numbers)} examples of the batch are the same",
                "look at what reads them: there is nothing to tell them apart by",
            )
        if numbers.ndim == 1 and is_integer(numbers.dtype):
            yield from _one_class(one, order)


def _one_class(labels: Given, order: Order | None) -> Iterator[Finding]:
    numbers, place = labels.numbers, f"argument {labels.name}"
    if order is None:
        if len(numbers) >= _ENOUGH and (numbers == numbers[0]).all():
            yield Finding(
                "one-class-only",
                place,
                f"all {len(numbers)} labels of the batch are {int(numbers[0])}",
                "shuffle the examples before they are put into batches",
            )
        return
    if len(order.labels) and (order.labels == order.labels[0]).all():
        what = f"all {len(order.labels):,} labels of the data are {int(order.labels[0])}"
        yield Finding("one-class-only", place, what, "add examples of other classes")
    elif not order.shuffle and order.batch_size > 1:
        size = order.batch_size
        batches = [order.labels[i : i + size] for i in range(0, len(order.labels) - size + 1, size)]
        alike = sum(bool((batch == batch[0]).all()) for batch in batches)
        if 2 * alike > len(batches):
            what = f"{alike:,} of {len(batches):,} batches have examples of one class only, as the data are not shuffled"
            yield Finding("one-class-only", place, what, "make the loader with shuffle=True")


def label_faults(traced: LossTrace, order: Order | None) -> Iterator[Finding]:
    """Labels that the loss cannot take, of the batch and, where they are known, of all data; and classes that nobody has."""
    given = {one.leaf: one for one in traced.inputs}
    for node, check in traced.trace.checks:
        if node not in given:
            continue
        numbers = [given[node].numbers]
        if order is not None and order.labels.ndim == numbers[0].ndim == 1:
            numbers.append(order.labels)
        for labels, of in zip(numbers, ("", " of all data"), strict=False):
            try:
                check(labels)
            except UserError as error:
                what, _, remedy = str(error).partition("; ")
                place = f"argument {given[node].name}{of}"
                yield Finding("labels-out-of-range", place, what, remedy or "mend the labels")
                break
    for node in traced.graph.nodes:
        scored = node.attributes["classes"] if node.operation.name == "one_hot" else 0
        if order is not None and node.inputs[:1] and node.inputs[0] in given and scored > len(order.classes) > 0:
            yield Finding(
                "labels-count",
                place_of(node.origin),
                f"there are scores for {scored:,} classes, and the data have {len(order.classes):,}",
                f"make the last layer with {len(order.classes):,} outputs",
            )
            return


def size_faults(traced: LossTrace, order: Order | None) -> Iterator[Finding]:
    """A batch of one example, this one or the last of an epoch, whose own statistics a layer normalises by."""
    examples = traced.examples
    last = 0 if order is None or order.drop_last else len(order.labels) % order.batch_size
    if examples != 1 and last != 1:
        return
    for node, value, axes in batch_statistics(traced.graph):
        if 0 not in axes or value.shape[0] != examples:
            continue
        single = math.prod(value.shape[axis] for axis in axes) == examples
        what, remedy = "the batch has one example", "train on batches of at least 2"
        if examples != 1:
            assert order is not None
            what = f"of {len(order.labels):,} examples in batches of {order.batch_size}, the last batch has one"
            remedy = "make the loader with drop_last=True, or choose another batch size"
        why = "a single value has no variance, so that it is refused" if single else "it is normalised by its own statistics"
        yield Finding("batch-of-one", place_of(node.origin), f"{what}: {why}", remedy)
        return


def optimizer_faults(optimizers: Sequence[Optimizer]) -> Iterator[Finding]:
    """Learning rates of 0, and parameters that several optimizers hold."""
    holders: dict[int, str] = {}
    for number, optimizer in enumerate(optimizers):
        kind = type(optimizer).__name__
        mine = f"{kind}, the {number + 1}. optimizer" if len(optimizers) > 1 else f"optimizer {kind}"
        for place, group in enumerate(optimizer.groups):
            if group.value("lr") == 0 == group.initial["lr"]:
                of_group = f", group {place}" if len(optimizer.groups) > 1 else ""
                yield Finding("learning-rate-zero", f"{mine}{of_group}", "its learning rate is 0", "set one above 0, lr=0.1")
        shared = []
        for parameter in optimizer.parameters:
            if id(parameter) in holders:
                shared.append((parameter, holders[id(parameter)]))
            holders.setdefault(id(parameter), mine)
        if shared:
            first, other = shared[0]
            name = displayed(first.name) if isinstance(first, Parameter) and first.name else f"of shape {first.shape}"
            more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            are = "are" if more else "is"
            yield Finding(
                "parameter-twice",
                mine,
                f"parameter {name}{more} {are} updated by {other}, too: in a step both change it",
                "give each parameter to one optimizer, with groups for different options",
            )
