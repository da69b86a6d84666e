"""The census of units: which channels of ReLUs and the like are dead, since when, and as far as it can be told, why.

A unit is *dead* if no image of a whole epoch made it greater than 0: then no gradient passes it, and only something in front of
it can bring it back. As the last step at which it was alive is known, one that stopped in the middle of an epoch is seen before
that is over: it is *silent* from half an epoch on.

    alive at step 7 ──┬── silent ──┬── dead ──────────── census after epoch 3
                      └ 1/2 epoch ─┴ 1/2 epoch
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.display import displayed
from chainrule.train.diagnosis.findings import Finding
from chainrule.train.diagnosis.flow_findings import PLAIN, Aim, first_and_last_loss, loss_falls, number_text, update_ratios
from chainrule.train.diagnosis.health_record import HealthRecord, RecordedUnits

Array = np.ndarray[Any, Any]

_SILENT = 0.5  # of an epoch
WORTH_SAYING = 0.1
"""Share of the units of a layer from which on dead ones are a finding. A few die in good trainings; with a rate that is too
high it may be 40% of a network (A. Karpathy, CS231n notes, "Commonly used activation functions")."""

_CALM = 0.25
"""Share of the units of a layer below which dead ones are a remark, as long as the loss falls."""

_MOST_LAYERS, _MOST_EPOCHS = 3, 5  # that are named, and that a trend is shown of
_TOGETHER, _LEAST_TOGETHER, _STEPS_TOGETHER = 0.005, 3, 4
_MOST_TOGETHER = 0.125
"""Units that died within so many epochs or steps of each other, but at most an eighth of an epoch, and at least so many units,
died together. If half of those of a layer did, and an update was large there, it was one event: deaths that come by drift lie
scattered over an epoch."""

_LARGE_UPDATE = 0.05  # of the norm of the weights, fifty times the usual 0.001
_JUMP, _LEAST_JUMP, _LEAST_BEFORE = 4.0, 0.01, 3
"""An update is large, too, that is so many times the largest one at the samples before, of which there are at least so many,
and not below ten times the usual. In a warm-up updates grow from sample to sample, too, but only twofold while steps double."""

_GREW = 1.5  # the norm of filters, by so much, is said
_DRIFT = 0.2, 0.05
"""A bias drifted if it fell by a fifth of what it was, or by 0.05 where it was less than a quarter: biases begin at about 0."""


@dataclass(frozen=True)
class UnitsHealth:
    """What became of the units of a row of the plan, by the last census.

    Attributes:
        row: the row.
        label: its layer and operation in words.
        dead: which units (C,) were above 0 for no image of the last epoch.
        silent: which of the others (C,) were not for the last half of an epoch or longer.
        last: the last step at which each was alive (C,); 0 for never.
        revived: how many are alive that were dead at an earlier census.
        counts: how many were dead at each census but the first (E,).
        bias, bias_before: the bias of each unit (C,) at the first census after its death, or now if it is alive, and at the
            first census. Later ones tell nothing of its death: no gradient moves a dead unit, but weight decay does.
        weight, weight_before: the norms of the filters (C,) at the same censuses.
    """

    row: RecordedUnits
    label: str
    dead: Array
    silent: Array
    last: Array
    revived: int
    counts: Array
    bias: Array
    bias_before: Array
    weight: Array
    weight_before: Array

    @property
    def never(self) -> Array:
        """Which of the dead and silent ones (C,) never were alive."""
        off: Array = (self.dead | self.silent) & (self.last == 0)
        return off

    @property
    def died(self) -> Array:
        """Which of them (C,) were alive once."""
        off: Array = (self.dead | self.silent) & (self.last > 0)
        return off

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "layer": self.row.path,
            "operation": self.row.operation,
            "channels": self.row.channels,
            "dead": np.flatnonzero(self.dead).tolist(),
            "silent": np.flatnonzero(self.silent).tolist(),
            "never_alive": np.flatnonzero(self.never).tolist(),
            "last_alive": {str(unit): int(self.last[unit]) for unit in np.flatnonzero(self.dead | self.silent)},
            "revived": self.revived,
            "dead_at_each_census": self.counts.tolist(),
            "drift": [
                {
                    "unit": int(unit),
                    "died_after": int(self.last[unit]),
                    **{
                        name: number_of_json(float(getattr(self, name)[unit]))
                        for name in ("bias_before", "bias", "weight_before", "weight")
                    },
                }
                for unit in np.flatnonzero(self.dead | self.silent)
            ],
        }


def number_of_json(value: float) -> float | None:
    """A number with six digits; None if it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def steps_per_epoch(record: HealthRecord) -> float | None:
    """Steps of an epoch; None before the first census after one."""
    census = record.census
    ended = np.flatnonzero(census.epochs)
    return float(census.steps[ended[-1]] / census.epochs[ended[-1]]) if len(ended) else None


def units_health(record: HealthRecord, labels: Sequence[str]) -> list[UnitsHealth]:
    """What became of each row of units, named by ``labels``; nothing before the first epoch is over."""
    census, epoch = record.census, steps_per_epoch(record)
    if epoch is None:
        return []
    found = []
    begin = 0
    ended = census.epochs > 0
    for row, label in zip(record.plan.units, labels, strict=True):
        here = slice(begin, begin + row.channels)
        begin += row.channels
        alive, steps = census.alive[ended, here], census.steps[ended]
        dead = alive <= steps[:, None] - epoch
        last, off = alive[-1], steps[-1] - alive[-1] >= _SILENT * epoch
        revived = (dead & (last > steps[:, None])).any(0) & ~dead[-1] & ~off
        then = np.where(dead[-1] | off, (census.steps[:, None] < last).sum(0), len(census.steps) - 1)
        found.append(
            UnitsHealth(
                row,
                label,
                dead[-1],
                off & ~dead[-1],
                last,
                int(revived.sum()),
                dead.sum(1),
                *(
                    values[kind, range(row.channels)]
                    for values in (census.bias[:, here], census.weight[:, here])
                    for kind in (then, 0)
                ),
            )
        )
    return found


def silences(record: HealthRecord) -> Array:
    """All times of at least half an epoch during which a unit is known not to have been above 0, int64 (N,3): the place of the
    unit among all channels, the last step before the time, and the last step of it."""
    census, epoch = record.census, steps_per_epoch(record)
    found = [np.zeros((0, 3), np.int64)]
    for place, (step, alive) in enumerate(zip(census.steps, census.alive, strict=True)):
        ends = np.ones(len(alive), bool) if place + 1 == len(census.steps) else census.alive[place + 1] != alive
        units = np.flatnonzero(ends & (step - alive >= _SILENT * (epoch or math.inf)))
        found.append(np.stack([units, alive[units], np.full(len(units), step)], 1))
    return np.concatenate(found)


# ---- in words


def dead_unit_findings(record: HealthRecord, rows: Sequence[UnitsHealth], aim: Aim = PLAIN) -> Iterator[Finding]:
    """A finding for each layer of which many units are dead or silent; for the worst ones, if there are many such layers. It is
    a remark, if the training learns all the same and the units are not that many."""
    learns = loss_falls(record, aim)
    worth = [one for one in rows if (one.dead | one.silent).mean() >= WORTH_SAYING]
    said = sorted(worth, key=lambda one: -(one.dead | one.silent).mean())[:_MOST_LAYERS]
    left_out = len(worth) - len(said)
    for one in worth:
        if any(one is other for other in said):
            before = next((other for other in rows[: rows.index(one)] if (other.dead | other.silent).all()), None)
            what = "; ".join([_how_many(record, one), *_causes(record, one, before)])
            calm = learns and (one.dead | one.silent).mean() < _CALM
            yield Finding("dead-units", one.label, what, _calming(record) if calm else _remedy(one, before))
    if left_out:
        dead = sum(int(one.dead.sum()) for one in rows)
        total = record.plan.channels
        what = f"so it is in {left_out} more layers; in all, {dead:,} of {total:,} units are dead"
        yield Finding("dead-units", "further layers", what, "see the table of units")


def _how_many(record: HealthRecord, one: UnitsHealth) -> str:
    dead, silent, all_of_them = int(one.dead.sum()), int(one.silent.sum()), one.row.channels
    parts = []
    if dead:
        verb = "is" if dead == 1 else "are"
        parts.append(f"{dead:,} of {all_of_them:,} units {verb} dead (above 0 for no image of the last epoch)")
    if silent:
        verb = "is" if silent == 1 else "are"
        of_all = f"{silent:,} more" if dead else f"{silent:,} of {all_of_them:,} units"
        parts.append(f"{of_all} {verb} silent (not above 0 for half an epoch or longer)")
    if one.revived:
        parts.append(f"{one.revived:,} that had been dead came back")
    counts, epochs = one.counts, record.census.epochs[record.census.epochs > 0]
    if len(set(counts.tolist())) > 1:
        places = sorted({round(place) for place in np.linspace(0, len(counts) - 1, min(_MOST_EPOCHS, len(counts)))})
        shown = ", ".join(f"{counts[place]:,}" for place in places)
        after = ", ".join(str(epochs[place]) for place in places)
        parts.append(f"after epochs {after} it was {shown}{', and rising' if counts[-1] > counts[-2] else ''}")
    return "; ".join(parts)


def _causes(record: HealthRecord, one: UnitsHealth, before: UnitsHealth | None) -> Iterator[str]:
    """When they died, and why, as far as the recording tells."""
    never, died = int(one.never.sum()), int(one.died.sum())
    if never:
        many = _many(never, died)
        began_with = float(np.median(one.bias_before[one.never]))
        why = "by the weights that they began with"
        if before is not None:
            why = f"as {before.label} before it is dead as a whole, or by the weights that they began with"
        if began_with < -1:
            why = f"with biases of about {number_text(began_with, 3)}"
        yield f"{many} never alive since the initialisation, {why}"
    if not died:
        return
    steps = one.last[one.died]
    epoch = steps_per_epoch(record) or 0.0
    window = max(1.0, min(max(_STEPS_TOGETHER, _TOGETHER * epoch), _MOST_TOGETHER * epoch))
    first, last, together = _most_together(steps, window)
    if together >= max(_LEAST_TOGETHER, died / 2):
        update = _large_update(record, one, first, last, window)
        if update is not None:
            step, words = update
            when = f"step {first}" if first == last else f"steps {first} to {last}"
            yield f"{together:,} died together, after {when}, {words}: --step={step} names its images"
            return
    yield f"{'one' if died == 1 else f'{died:,}'} died after {_range(steps)}"
    yield from _drift(one)


def _drift(one: UnitsHealth) -> Iterator[str]:
    """How biases and filters of the units that died changed from the first census to the one after their death."""
    single = one.died.sum() == 1
    bias_before, bias, weight_before, weight = (
        float(np.median(values[one.died])) for values in (one.bias_before, one.bias, one.weight_before, one.weight)
    )
    grew = weight_before > 0 and weight > _GREW * weight_before
    norm = "the norm of its filter" if single else "the median of the norms of their filters"
    norms = f"{norm} grew from {number_text(weight_before)} to {number_text(weight)}"
    if math.isfinite(bias) and math.isfinite(bias_before):
        share, least = _DRIFT
        drifted = bias_before - bias > max(share * abs(bias_before), least) and bias < 0
        which = "its bias" if single else "the median of their biases"
        verb = "drifted" if drifted else "went"
        more = f", and {norms}" if grew else "" if drifted else ", which does not explain it"
        yield f"{which} {verb} from {number_text(bias_before)} to {number_text(bias)}{more}"
    elif grew:
        yield norms


def _many(number: int, others: int) -> str:
    if number == 1:
        return "one was"
    return f"{number:,} were" if others else "they were"


def _range(steps: Array) -> str:
    low, high = int(steps.min()), int(steps.max())
    return f"step {low}" if low == high else f"steps {low} to {high}"


def _most_together(steps: Array, window: float) -> tuple[int, int, int]:
    """The first and the last step within ``window`` steps at which most units died, and how many those were."""
    counts = Counter(steps.tolist())
    ordered = sorted(counts)
    best = (0, 0, 0)
    for first in ordered:
        within = [step for step in ordered if first <= step < first + window]
        total = sum(counts[step] for step in within)
        if total > best[2]:
            best = (first, within[-1], total)
    return best


def _large_update(record: HealthRecord, one: UnitsHealth, first: int, last: int, window: float) -> tuple[int, str] | None:
    """The step of a sample within ``window`` of these steps at which an update of the weights of the layer, or of one in front
    of it, was large, and that update in words. None if there is none. The nearest sample comes first."""
    steps, places = record.flow.steps, _weights_up_to(record, one)
    if not places or not len(steps):
        return None
    ratios = np.nan_to_num(update_ratios(record)[:, places], posinf=np.inf)
    distance = np.maximum(np.maximum(first - steps, steps - last), 0)
    for sample in sorted(np.flatnonzero(distance < max(window, 1)).tolist(), key=lambda i: (distance[i], -ratios[i].max())):
        before = ratios[:sample].max(0) if sample >= _LEAST_BEFORE else np.full(len(places), np.inf)
        large = (ratios[sample] >= _LARGE_UPDATE) | (ratios[sample] >= np.maximum(_JUMP * before, _LEAST_JUMP))
        if large.any():
            column = int(np.argmax(np.where(large, ratios[sample], -1.0)))
            name, ratio = displayed(record.plan.parameters[places[column]].name), number_text(float(ratios[sample, column]))
            if distance[sample]:  # it is not the one by which they died, but tells of its like
                begin, at = "when updates were large", f"at step {steps[sample]}, the nearest sample,"
            else:
                begin, at = "as by one large update", f"at step {steps[sample]}"
            return int(steps[sample]), f"{begin} (that of {name} {at} was {ratio} times its norm)"
    return None


def _weights_up_to(record: HealthRecord, one: UnitsHealth) -> list[int]:
    """The places of the weights of the layer that feeds the units, and of those in front of it."""
    owners = [row.name.rpartition(".")[0] for row in record.plan.parameters]
    weights = [i for i, row in enumerate(record.plan.parameters) if row.name.rpartition(".")[2] != "bias"]
    feeding = "" if one.row.weight is None else one.row.weight.rpartition(".")[0]
    paths = [row.path for row in record.plan.layers]
    end = paths.index(feeding) + 1 if feeding in paths else 0
    in_front = set(paths[:end])
    return [i for i in weights if owners[i] in in_front or record.plan.parameters[i].name == one.row.weight]


def _calming(record: HealthRecord) -> str:
    first, last = first_and_last_loss(record)
    return f"not rare, and the training goes well: its loss fell from {number_text(first, 3)} to {number_text(last, 3)}"


def _remedy(one: UnitsHealth, before: UnitsHealth | None) -> str:
    never, died = int(one.never.sum()), int(one.died.sum())
    if never > died:
        if before is not None:
            return f"see to {before.label} first"
        return (
            "begin with biases of 0 and weights by their fan-in (nn.init.kaiming_normal_), normalise inputs, or take LeakyReLU"
        )
    return "take a smaller learning rate, a longer warm-up or --clip-norm, normalise (BatchNorm), or take LeakyReLU"
