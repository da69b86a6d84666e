"""What stands out in the samples of a training: updates, activations and gradients out of range, and a loss that stays.

Each rule has a threshold, and the reason stands beside it. They were tried on recordings of LeNet, multi-layer perceptrons,
residual and mobile networks, good ones and broken ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.display import displayed
from chainrule.train.diagnosis.findings import Finding
from chainrule.train.diagnosis.health_record import HealthRecord

Array = np.ndarray[Any, Any]

_HUGE, _LARGE, _SMALL = 0.5, 0.1, 1e-5
"""Ratios of the norm of an update to that of the weights. About 1e-3 is usual (A. Karpathy, CS231n notes, "Ratio of
weights:updates"); with momentum, at the peak of a one-cycle, 0.02 was seen in good trainings, and in those of 50 steps up to
0.4 at one sample. One update of half the weights' size undoes what was learned; a tenth is a finding if it goes on. Below 1e-5,
1,000 steps in the same direction move the weights by 1%.

Weights in front of a normalisation, which divides by their size, are judged by the second half of the steps: a large update
makes them large, and the next ones small in proportion (S. Arora, Z. Li and K. Lyu, "Theoretical analysis of auto rate-tuning
by batch normalization", 2019). A good training was seen to begin with 36 times the weights."""

_OFTEN, _LEAST_OFTEN = 0.05, 3  # share of samples, and samples, at which an update of a tenth goes on
_EARLY, _LEAST_LATE = 0.1, 2
"""Steps before a tenth of all, and those that are sampled closely at the beginning, say nothing of what goes on: so many of the
others must agree."""

_MOVED = 0.02  # of the weights' size, by all updates together, if they all went the same way: less is no training
_JUDGED_FROM = 0.2  # of the steps: earlier, small updates may be a warm-up

_ROOT_AT_ZERO = 1e-3
"""Root of the mean square below which a parameter counts as one that begins at 0, such as biases of a normalisation: whatever
is added to 0 is infinitely many times as large."""

_EXPLODES = 100.0
"""Factor by which activations or gradients grow beyond what they were (or, for activations, beyond 1, which normalised layers
have). Good trainings were seen to grow by 10."""

_VANISHES = 1e3
"""Factor between the norms of the gradient at both ends of a network, in the middle of all samples. LeNet was seen with up to
30, residual networks with up to 10, ten sigmoid layers, whose slope is at most 1/4, with 8e8 (X. Glorot and Y. Bengio,
"Understanding the difficulty of training deep feedforward neural networks", 2010)."""

_WEAK = 1e-4  # of the first layer's activation, or of 1, if that is less
_ALL_ZEROS = 0.999
_LASTING = 3  # samples up to the last one that must agree on what is said of the end of the training

_STAYS, _HIGH, _BETTER = 0.4, 0.5, 0.01
"""A plateau is 40% of the steps up to now without a loss that is better by 1% of the first one. Only losses above half of the
first one are looked at: below that, a loss that stays may be the end of learning. Both count from the least loss that there can
be, which is above 0 with label smoothing."""

_LEAST_RANGE = 0.05  # of the first loss: with a label smoothing near 1 there is nothing to learn

_HIGH_MIXED = 0.9
"""The same for trainings with mixtures of images (mixup, cutmix): nobody can tell exactly which share each image has, so their
loss stays far above its bound, and only one that hardly fell at all says something."""

_LEAST_SAMPLES = 16
_LEAST_FALLING = 4  # samples from which on a loss is said to fall


def layer_labels(record: HealthRecord) -> list[str]:
    """The layers in words, ``conv1 (conv2d)``; where a layer runs several times, those after the first are numbered."""
    return _labels([(row.path, row.operation) for row in record.plan.layers])


def unit_labels(record: HealthRecord) -> list[str]:
    """The rows of units in the same words."""
    return _labels([(row.path, row.operation) for row in record.plan.units])


def _labels(rows: Sequence[tuple[str, str]]) -> list[str]:
    seen: dict[tuple[str, str], int] = {}
    found = []
    for path, operation in rows:
        time = seen[path, operation] = seen.get((path, operation), 0) + 1
        again = f", {time}" if time > 1 else ""
        found.append(displayed(f"{path} ({operation}{again})" if path else f"{operation}{again}"))
    return found


def update_ratios(record: HealthRecord) -> Array:
    """The norm of each update divided by that of what it was added to (S,P); NaN where a parameter is about 0 yet."""
    flow = record.flow
    least = _ROOT_AT_ZERO * np.sqrt([row.size for row in record.plan.parameters])
    with np.errstate(all="ignore"):
        ratios: Array = np.where(flow.weight > least, flow.update / flow.weight, np.nan)
    return ratios


def number_text(value: float, digits: int = 2) -> str:
    """A number with so many digits: 0.012, 110, 3.5e7; - for NaN."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else f"{value:g}"
    rounded = float(f"{value:.{digits}g}")
    if rounded and not 1e-4 <= abs(rounded) < 1e5:
        front, power = f"{rounded:.{digits - 1}e}".split("e")
        return f"{float(front):g}e{int(power)}"
    return f"{rounded:g}"


@dataclass(frozen=True)
class Aim:
    """What a training minimises, beyond the cross-entropy: the label ``smoothing``, and whether images are ``mixed`` (mixup,
    cutmix). Both keep the loss from falling to 0."""

    smoothing: float = 0.0
    mixed: bool = False

    def least_loss(self, record: HealthRecord) -> float:
        """The least loss there can be, the entropy of the targets; with mixtures, a bound: that of halves of two classes."""
        classes = record.plan.layers[-1].size if record.plan.layers else 0  # the last layer gives the scores of an image
        if classes < 2 or not (self.smoothing or self.mixed):
            return 0.0
        others = self.smoothing / classes
        shares = [(1 - self.smoothing) / 2 + others] * 2 if self.mixed else [1 - self.smoothing + others]
        shares += [others] * (classes - len(shares))
        return -sum(share * math.log(share) for share in shares if share > 0)

    def words(self, record: HealthRecord) -> str:
        """Which loss it is, if not the cross-entropy alone: the end of a sentence."""
        parts = [f"a label smoothing of {self.smoothing:g}"] if self.smoothing else []
        parts += ["mixtures of images"] if self.mixed else []
        if not parts:
            return ""
        least = "" if self.mixed else f", which is at least {number_text(self.least_loss(record), 4)}"
        return f"; this is the loss that is minimised, with {' and '.join(parts)}{least}"


PLAIN = Aim()


def loss_falls(record: HealthRecord, aim: Aim = PLAIN) -> bool:
    """Whether the loss has fallen by half of the way from its beginning to the least that there can be."""
    losses = record.flow.losses
    if len(losses) < _LEAST_FALLING or not np.isfinite(losses).all():
        return False
    first, last = first_and_last_loss(record)
    least = aim.least_loss(record)
    return last - least < (_HIGH_MIXED if aim.mixed else _HIGH) * (first - least)


def first_and_last_loss(record: HealthRecord) -> tuple[float, float]:
    """The loss of the first samples, and the mean of the last fifth of them."""
    losses = record.flow.losses
    return float(np.median(losses[:3])), float(losses[-len(losses) // 5 :].mean())


def _followed_by_normalisation(record: HealthRecord) -> Array:
    """Whether what each layer gives (L,) is normalised next, perhaps after pooling."""
    operations = [row.operation.lower() for row in record.plan.layers]
    found = np.zeros(len(operations), bool)
    for place in range(len(operations)):
        after = next((operation for operation in operations[place + 1 :] if "pool" not in operation), "")
        found[place] = "norm" in after
    return found


def _owner(parameter: str) -> str:
    """The path of the layer that a parameter belongs to."""
    return parameter.rpartition(".")[0]


def flow_findings(record: HealthRecord, aim: Aim = PLAIN) -> Iterator[Finding]:
    """All findings, causes before what follows from them."""
    if not len(record.flow.steps):
        return
    with np.errstate(all="ignore"):
        yield from _large_updates(record)
        yield from _explosions(record)
        yield from _gradients_along_layers(record)
        yield from _zero_outputs(record)
        yield from _small_updates(record)
        yield from _plateau(record, aim)


# ---- updates


def _judged(record: HealthRecord) -> Array:
    """``update_ratios`` of weights that do not begin at 0 (S,P), else NaN: biases are small, and change much."""
    ratios = update_ratios(record)
    for place, row in enumerate(record.plan.parameters):
        if row.name.rpartition(".")[2] == "bias" or not np.isfinite(ratios[0, place]):
            ratios[:, place] = np.nan
    return ratios


def _large_updates(record: HealthRecord) -> Iterator[Finding]:
    ratios, steps = np.nan_to_num(_judged(record), posinf=np.inf), record.flow.steps
    if not ratios.size:
        return
    normalised = {
        row.path
        for row, is_normalised in zip(record.plan.layers, _followed_by_normalisation(record), strict=True)
        if is_normalised
    }
    for place, row in enumerate(record.plan.parameters):
        if _owner(row.name) in normalised:
            ratios[steps <= steps[-1] / 2, place] = 0
    late = (steps >= _EARLY * record.plan.steps) & (steps % record.plan.every == 0)
    often = (ratios >= _LARGE).sum(0) >= max(_LEAST_OFTEN, _OFTEN * len(steps))
    often &= (ratios[late] >= _LARGE).sum(0) >= _LEAST_LATE
    places = np.flatnonzero(often | (ratios >= _HUGE).any(0))
    if not len(places):
        return
    largest = ratios[:, places].max(0)
    worst = places[int(np.argmax(largest))]
    sample = int(np.argmax(ratios[:, worst]))
    what = f"updates are too large: at step {steps[sample]} it was {number_text(ratios[sample, worst])} times the weights"
    what += f"{_and_others(len(places) - 1)}, where about 0.001 is usual"
    remedy = "take a smaller learning rate (`chainrule lr` proposes one), a longer warm-up, or --clip-norm"
    yield Finding("large-updates", displayed(record.plan.parameters[worst].name), what, remedy)


def _and_others(others: int) -> str:
    return f", and {others} more parameter{'s' * (others > 1)} had such updates" if others else ""


def _small_updates(record: HealthRecord) -> Iterator[Finding]:
    """Parameters that are not changed at all, and weights that are changed so little that they learn nothing. The scale of a
    normalisation may stay as it is."""
    flow, names = record.flow, [displayed(row.name) for row in record.plan.parameters]
    if len(flow.steps) < _LASTING or flow.steps[-1] < _JUDGED_FROM * record.plan.steps:
        return
    never = np.flatnonzero((flow.update == 0).all(0))
    if len(never):
        what = "no step changes " + ("it" if len(never) == 1 else "them") + ": its updates are 0 at every sample"
        what = what.replace("its", "their") if len(never) > 1 else what
        gradients = flow.parameter_gradient[:, never]
        if (gradients == 0).all():
            what += ", and so are the gradients"
            remedy = "see what stops the gradient"
        elif (gradients > 0).any(0).all() and (flow.weight[:, never] > 0).all():
            several = len(never) > 1
            what += (
                f", though {'their gradients are' if several else 'its gradient is'} not: what a step would add is too small "
            )
            what += f"to change float32 numbers of {'their' if several else 'its'} size"
            remedy = "take a larger learning rate (`chainrule lr` proposes one)"
        else:
            remedy = "see whether the optimizer holds it and its rate is above 0"
        yield Finding("no-updates", _several([names[place] for place in never]), what, remedy)
    ratios = _judged(record)
    scales = {row.path for row in record.plan.layers if "norm" in row.operation.lower()}
    weights = [place for place, row in enumerate(record.plan.parameters) if _owner(row.name) not in scales]
    seen = [place for place in weights if place not in never and np.isfinite(ratios[:, place]).any()]
    high = {place: float(np.nanquantile(ratios[:, place], 0.9)) for place in seen}
    moved = {place: float(np.nanmean(ratios[:, place])) * float(flow.steps[-1]) for place in seen}
    small = [place for place in seen if high[place] < _SMALL and moved[place] < _MOVED]
    if not small:
        return
    least = min(small, key=lambda place: high[place])
    what = f"updates are too small: in nine of ten samples at most {number_text(high[least])} times the weights of "
    what += f"{names[least]}, where about 0.001 is usual; by step {flow.steps[-1]}, they moved by at most "
    what += f"{number_text(100 * moved[least])}% of their size"
    if len(small) == len(seen):
        remedy = "take a larger learning rate (`chainrule lr` proposes one)"
        yield Finding("small-updates", "all weights", what, remedy)
    else:
        remedy = "see whether gradients vanish on the way there; else give these a rate of their own (--lr-of)"
        yield Finding("small-updates", _several([names[place] for place in small]), what, remedy)


def _several(names: Sequence[str]) -> str:
    """The names of parameters, or the first and the last of many."""
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]} ({len(names)} parameters)"


# ---- explosions, at some step


def _explosions(record: HealthRecord) -> Iterator[Finding]:
    flow, labels = record.flow, layer_labels(record)
    steps = flow.steps
    begin = np.fmax(np.nan_to_num(flow.activation[:1], nan=1.0), 1.0)
    beyond = ~(flow.activation <= _EXPLODES * begin) & ~np.isnan(flow.activation[:1]) & ~_followed_by_normalisation(record)
    if beyond.any():
        sample = int(np.argmax(beyond.any(1)))
        layer = int(np.argmax(beyond[sample]))
        what = (
            f"activations explode: their root mean square is {number_text(flow.activation[0, layer])} at step {steps[0]} and "
        )
        what += f"{number_text(flow.activation[sample, layer])} at step {steps[sample]}"
        worst = int(np.argmax(np.nan_to_num(flow.activation[:, layer], nan=np.inf)))
        if worst != sample:
            what += f", at most {number_text(flow.activation[worst, layer])} (step {steps[worst]})"
        yield Finding("exploding-activations", labels[layer], what, "take a smaller learning rate, or normalise (BatchNorm)")
    total = np.sqrt(np.nansum(flow.parameter_gradient.astype(np.float64) ** 2, 1))  # NaN, where there was none
    for sample in range(1, len(steps)):
        usual = max(float(total[0]), float(np.median(total[:sample])))
        if not total[sample] <= _EXPLODES * usual and usual > 0:
            growth = flow.parameter_gradient[sample] / np.fmax(flow.parameter_gradient[:sample].max(0), 1e-30)
            parameter = displayed(record.plan.parameters[int(np.argmax(np.nan_to_num(growth, nan=np.inf)))].name)
            what = f"gradients explode at step {steps[sample]}: the norm of all of them, {number_text(usual)} until then, is "
            what += f"{number_text(total[sample])}"
            remedy = "take a smaller learning rate or --clip-norm, and look at the batch (`chainrule blame`)"
            yield Finding("exploding-gradients", parameter, what, remedy)
            return


# ---- along the layers, from the output to the input


def _gradients_along_layers(record: HealthRecord) -> Iterator[Finding]:
    flow, labels = record.flow, layer_labels(record)
    known = np.flatnonzero(np.isfinite(flow.gradient).any(0))
    if len(known) < 2:
        return
    first, last = int(known[0]), int(known[-1])
    at_input, at_output = flow.gradient[:, first].astype(np.float64), flow.gradient[:, last].astype(np.float64)
    yield from _cut(record, labels, known)
    measured = np.flatnonzero((at_input > 0) & (at_output > 0))
    if not len(measured):
        return
    falls = at_output[measured] / at_input[measured]
    middle = float(np.median(falls))
    if middle >= _VANISHES:
        sample = int(measured[int(np.argmax(falls))])
        name, what = "vanishing-gradients", "gradients vanish towards the input: their norm falls"
        remedy = (
            "initialise the weights by their fan-in (nn.init.kaiming_normal_), normalise (BatchNorm), take ReLU for sigmoid, "
        )
        remedy += "or build shortcuts"
    elif middle <= 1 / _VANISHES:
        sample = int(measured[int(np.argmin(falls))])
        name, what = "exploding-gradients", "gradients explode towards the input: their norm grows"
        remedy = (
            "initialise the weights by their fan-in (nn.init.kaiming_normal_), normalise (BatchNorm), or clip (--clip-norm)"
        )
    else:
        return
    ratio = float(at_output[sample] / at_input[sample])
    what += f" from {number_text(at_output[sample])} at {labels[last]} to {number_text(at_input[sample])} at {labels[first]}, "
    what += f"by a factor of {number_text(max(ratio, 1 / ratio))}, at step {flow.steps[sample]}, where it is worst"
    what += _steepest(flow.gradient[sample, known], [labels[place] for place in known], ratio)
    yield Finding(name, f"{labels[first]} to {labels[last]}", what, remedy)


def _steepest(norms: Array, labels: Sequence[str], ratio: float) -> str:
    """Where most of a change of norms happens, if it happens in one place; ``labels`` from the input to the output."""
    logs = np.log(norms.astype(np.float64))
    changes = np.diff(logs) * math.copysign(1.0, math.log(ratio))
    if not np.isfinite(changes).all():
        return ""
    place = int(np.argmax(changes))
    factor = math.exp(changes[place])
    return (
        f", most of it ({number_text(factor)}) from {labels[place + 1]} to {labels[place]}"
        if factor**2 > max(ratio, 1 / ratio)
        else ""
    )


def _cut(record: HealthRecord, labels: Sequence[str], known: Array) -> Iterator[Finding]:
    """Where the gradient ends: what lies behind that way is no longer trained.

    Layers stand in the order in which they are computed, which says nothing of branches. The gradients of parameters tell a
    layer that stops the gradient from one beside it: all in front of it get none, and neither do its own weights, as what it
    reads is 0, or it has none.
    """
    flow = record.flow
    gradient = flow.gradient[:, known]
    none = (gradient[:, 0] == 0) & (gradient[:, -1] > 0)
    since = _since(none)
    if since is None:
        return
    zero = gradient[-1] == 0
    ends = int(np.argmin(zero))  # the first layer, from the input, at which one arrives
    if not zero[:ends].all():
        return
    place = int(known[ends])
    paths = [row.path for row in record.plan.layers]
    before = set(paths[:place]) - set(paths[place:])
    owners = [_owner(row.name) for row in record.plan.parameters]
    in_front = [i for i, owner in enumerate(owners) if owner in before]
    own = [
        i for i, row in enumerate(record.plan.parameters) if owners[i] == paths[place] and row.name.rpartition(".")[2] != "bias"
    ]
    if not in_front or (flow.parameter_gradient[since:, in_front + own] > 0).any():
        return
    what = f"no gradient passes it {_from(record, since)}, so that nothing in front of it is trained"
    if flow.zeros[-1, place] >= _ALL_ZEROS:
        what += ": all its outputs are 0"
    yield Finding("no-gradient", labels[place], what, "see dead units and updates")


def _zero_outputs(record: HealthRecord) -> Iterator[Finding]:
    """Layers whose outputs are all 0, or nearly so; only the first one of a row of such layers is named."""
    flow, labels = record.flow, layer_labels(record)
    zeros = flow.zeros >= _ALL_ZEROS
    before = False
    for place, label in enumerate(labels):
        since = _since(zeros[:, place])
        if since is not None and not before:
            shown = "all" if (flow.zeros[since:, place] == 1).all() else "nearly all"
            what = f"{shown} outputs are 0 {_from(record, since)}"
            yield Finding("zero-outputs", label, what, "see dead units and updates")
        before = since is not None
    weak = flow.activation < _WEAK * np.fmin(flow.activation[:, :1], 1.0)
    for place, label in enumerate(labels):
        since = _since(weak[:, place] & ~zeros[:, place])
        if since is not None:
            what = f"activations vanish {_from(record, since)}: their root mean square is "
            what += f"{number_text(flow.activation[-1, place])}, and {number_text(flow.activation[-1, 0])} at {labels[0]}"
            remedy = "initialise the weights by their fan-in (nn.init.kaiming_normal_), or normalise (BatchNorm)"
            yield Finding("vanishing-activations", label, what, remedy)
            return


def _since(holds: Array) -> int | None:
    """The sample from which on something holds up to the last one; None if that is for too few samples."""
    broken = np.flatnonzero(~holds)
    since = int(broken[-1]) + 1 if len(broken) else 0
    return since if len(holds) - since >= _LASTING else None


def _from(record: HealthRecord, sample: int) -> str:
    return f"from step {record.flow.steps[sample]} on" if sample else "from the beginning on"


# ---- the loss


def _plateau(record: HealthRecord, aim: Aim) -> Iterator[Finding]:
    steps, losses = record.flow.steps, record.flow.losses
    if len(steps) < _LEAST_SAMPLES or not np.isfinite(losses).all():
        return
    window = max(5, len(steps) // 10)
    means = np.convolve(losses, np.full(window, 1 / window), "valid")
    first, last = first_and_last_loss(record)
    range_of_loss = first - aim.least_loss(record)
    if range_of_loss <= _LEAST_RANGE * first or loss_falls(record, aim):
        return
    noise = float(np.median(np.abs(np.diff(losses)))) / 0.954 / math.sqrt(window)  # of a mean, whatever trend there is
    same = last + max(2 * noise, _BETTER * range_of_loss)
    since = int(np.argmax(means <= same))
    middle = min(since + window // 2, len(steps) - 1)
    if means[since] > same or steps[middle] > (1 - _STAYS) * steps[-1]:
        return
    when = "it was at the beginning" if since == 0 else f"at about step {steps[middle]}"
    what = f"at step {steps[-1]}, it is no better than {when}: {number_text(last, 4)} now, "
    what += f"{number_text(first, 4)} at the first steps"
    least = int(np.argmin(means))
    if means[least] < 0.8 * last:
        what += f", {number_text(means[least], 4)} at about step {steps[least + window // 2]}"
    what += aim.words(record)
    remedy = "see what stands before this; else try a larger learning rate (`chainrule lr`), and look at images and labels"
    yield Finding("plateau", "loss", what, remedy)
