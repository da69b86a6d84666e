"""``health``: what the recording of a training says of its gradients, updates and units, as tables and in sentences."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from chainrule.arguments import explained
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.graph.tables import Contents, Table
from chainrule.train.diagnosis.dead_units import UnitsHealth, dead_unit_findings, number_of_json, units_health
from chainrule.train.diagnosis.findings import Findings
from chainrule.train.diagnosis.flow_findings import (
    PLAIN,
    Aim,
    flow_findings,
    layer_labels,
    number_text,
    unit_labels,
    update_ratios,
)
from chainrule.train.diagnosis.health_record import HealthRecord, read_health
from chainrule.train.run_folder import RunFolder

Array = np.ndarray[Any, Any]

_CAUSES_OF_ZEROS = ("no-gradient", "dead-units")
_MOST_EPOCHS = 3  # columns of the table of units


@dataclass(frozen=True, repr=False)
class Health(Table):
    """How healthy a training is, up to now. Prints as sentences on what stands out, and tables by layer.

    Attributes:
        run: the folder, as it was given.
        record: all that was recorded: NumPy arrays of samples (``record.flow``) and censuses (``record.census``).
        units: what became of the units of each ReLU and the like, by the last census; empty before the first epoch is over.
        findings: what stands out, causes before what follows from them.
        ended: whether the training is over.
    """

    run: str
    record: HealthRecord
    units: Sequence[UnitsHealth]
    findings: Findings
    ended: bool = False

    @property
    def step(self) -> int:
        """The last step of which anything is recorded."""
        flow, census = self.record.flow, self.record.census
        return int(max([0, *flow.steps[-1:], *census.steps[-1:]]))

    def sentences(self) -> list[str]:
        """What stands out, a sentence each."""
        return [one.sentence() for one in self.findings] or ["nothing stands out"]

    def about(self) -> str:
        """What was recorded, in a line."""
        plan, samples = self.record.plan, len(self.record.flow.steps)
        over = "; the training is over" if self.ended and self.step < plan.steps else ""
        return f"{samples:,} samples up to step {self.step:,} of {plan.steps:,}, one every {plan.every} steps{over}"

    def damage(self) -> str:
        """Where the recording is damaged, in a sentence; empty if it is whole."""
        damage = self.record.damage
        return f"only what lies before the damage is shown: {damage}" if damage else ""

    def contents(self) -> Contents:
        """A row for each layer, from the input to the output: its numbers at the first, the middle and the last sample."""
        flow, shown = self.record.flow, self.shown
        activation, gradient = (_triples(values[shown]) for values in (flow.activation, flow.gradient))
        zeros = _aligned([[f"{100 * value:.0f}%" for value in row] for row in flow.zeros[shown].T])
        rows = list(zip(layer_labels(self.record), activation, zeros, gradient, strict=True))
        header = ("layer", "activation>", "zeros>", "gradient>")
        return Contents(f"Layers {self._at()}", header, rows, least=("zeros",), copied=("layer",))

    def parameters_table(self) -> Contents:
        """A row for each parameter: the norms of its value and gradient, and the ratio of update to value."""
        flow, shown = self.record.flow, self.shown
        weight, gradient = (_triples(values[shown]) for values in (flow.weight, flow.parameter_gradient))
        update = _triples(update_ratios(self.record)[shown])
        names = [displayed(row.name) for row in self.record.plan.parameters]
        header = ("parameter", "weight>", "gradient>", "update/weight>")
        rows = list(zip(names, weight, gradient, update, strict=True))
        notes = ("- where the parameter is about 0 yet",) if any("-" in cell.split() for cell in update) else ()
        return Contents(f"Parameters {self._at()}", header, rows, notes, least=("gradient",), copied=("parameter",))

    def units_table(self) -> Contents:
        """A row for each ReLU and the like: how many of its units are dead, and since when."""
        census = self.record.census
        epochs = census.epochs[census.epochs > 0]
        places = sorted({round(place) for place in np.linspace(0, len(epochs) - 1, min(_MOST_EPOCHS, len(epochs)))})
        rows = []
        shown = _aligned([[f"{one.counts[place]:,}" for place in places] for one in self.units])
        for one, counts in zip(self.units, shown, strict=True):
            last = one.last[one.died]
            died = "" if not len(last) else f"{last.min()}" if last.min() == last.max() else f"{last.min()} - {last.max()}"
            others = [str(count) if count else "" for count in (int(one.silent.sum()), int(one.never.sum()), one.revived)]
            rows.append((one.label, f"{one.row.channels:,}", counts, *others, died))
        after = (
            f"after epoch {epochs[places[0]]}" if len(places) == 1 else f"after epochs {_listed([epochs[i] for i in places])}"
        )
        header = ("layer", "units>", "dead>", "silent>", "never alive>", "came back>", "died after step>")
        notes = ("dead: not above 0 in the last epoch; silent: not in the last half of one",)
        least = ("came back", "never alive", "silent")
        return Contents(f"Dead units {after}", header, rows, notes, least=least, copied=("layer",))

    @property
    def shown(self) -> list[int]:
        """The samples that tables show: the first one, that of half the steps, and the last one."""
        steps = self.record.flow.steps
        if not len(steps):
            return []
        return sorted({0, int(np.argmin(np.abs(steps - steps[-1] / 2))), len(steps) - 1})

    def _at(self) -> str:
        steps = self.record.flow.steps[self.shown].tolist()
        return f"at step {steps[0]}" if len(steps) == 1 else f"at steps {_listed(steps)}"

    def tables(self) -> list[Contents]:
        """All tables that have rows."""
        tables = [self.contents(), self.parameters_table()] if len(self.record.flow.steps) else []
        return [table for table in [*tables, *([self.units_table()] if self.units else [])] if table.rows]

    def __str__(self) -> str:
        said = str(self.findings) if self.findings else "nothing stands out"
        begin = [f"{displayed(self.run)}: {self.about()}", *([self.damage()] if self.damage() else []), said]
        return "\n\n".join([*begin, *(one.text() for one in self.tables())])

    def _repr_html_(self) -> str:
        sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.sentences())
        return sentences + self.contents().html()

    def facts(self) -> dict[str, Any]:
        """As JSON has it: layers and parameters at ``shown``, a number that is not finite as None."""
        plan, flow, shown = self.record.plan, self.record.flow, self.shown
        ratios = update_ratios(self.record)
        layers = [
            {
                "layer": row.path,
                "operation": row.operation,
                **{name: _numbers(getattr(flow, name)[shown, place]) for name in ("activation", "zeros", "gradient")},
            }
            for place, row in enumerate(plan.layers)
        ]
        parameters = [
            {
                "parameter": row.name,
                "weight": _numbers(flow.weight[shown, place]),
                "gradient": _numbers(flow.parameter_gradient[shown, place]),
                "update_to_weight": _numbers(ratios[shown, place]),
            }
            for place, row in enumerate(plan.parameters)
        ]
        return {
            "run": self.run,
            "step": self.step,
            "steps": plan.steps,
            "every": plan.every,
            "samples": len(flow.steps),
            "ended": self.ended,
            "damage": self.record.damage,
            "findings": [
                {"name": one.name, "place": one.place, "what": one.what, "remedy": one.remedy} for one in self.findings
            ],
            "shown_steps": flow.steps[shown].tolist(),
            "layers": layers,
            "parameters": parameters,
            "units": [one.facts() for one in self.units],
            "census_epochs": self.record.census.epochs.tolist(),
        }


@explained
def health(run: RunFolder | str | os.PathLike[str]) -> Health:
    """What the recording in a run's folder says, up to now if it is still training, and up to a record that is damaged.

    Raises:
        UserError: it is no run, has no recording, or one without a sample yet, or whose beginning is damaged, or of another
            version.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    shown = displayed(folder.path)
    if not folder.health.exists():
        raise UserError(
            f"{shown} has no recording of its health ({folder.health.name}): it was trained with --no-health, by an older "
            f"chainrule, or on the reference engine, which records none, or its {folder.health.name} was removed: train it "
            "again"
        )
    record = read_health(folder.health, up_to_damage=True)
    if record.damage and not len(record.flow.steps):
        raise UserError(record.damage)
    if not len(record.flow.steps):
        raise UserError(f"the recording in {shown} has no sample yet: wait until the first step is done")
    config = folder.config
    aim = Aim(config.label_smoothing, bool(config.mixup or config.cutmix))
    return judged(str(folder.path), record, aim, ended=folder.result.exists())


def judged(run: str, record: HealthRecord, aim: Aim = PLAIN, ended: bool = False) -> Health:
    """What a recording says of a training with that ``aim``, which has ``ended`` or not; ``run`` names the folder."""
    units = units_health(record, unit_labels(record))
    dead = list(dead_unit_findings(record, units, aim))
    flow = list(flow_findings(record, aim))
    explained_zeros = {one.place for one in flow if one.name == "no-gradient"}
    explained_zeros |= {
        one.label for one in units if (one.dead | one.silent).all() and one.label in {two.place for two in dead}
    }
    flow = [one for one in flow if one.name != "zero-outputs" or one.place not in explained_zeros]
    order = ("large-updates", "exploding-activations", "exploding-gradients")
    before = [one for one in flow if one.name in order]
    after = [one for one in flow if one.name not in order]
    return Health(run, record, units, Findings([*before, *dead, *after]), ended)


# ---- numbers in tables


def _triples(values: Array) -> list[str]:
    """A cell for each column of ``values`` with its numbers beside each other."""
    return _aligned([[number_text(value) for value in column] for column in values.T])


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column), default=0) for column in zip(*cells, strict=True)]
    return [" ".join(part.rjust(width) for part, width in zip(cell, widths, strict=True)) for cell in cells]


def _listed(numbers: Sequence[Any]) -> str:
    *first, last = (str(number) for number in numbers)
    return f"{', '.join(first)} and {last}" if first else last


def _numbers(values: Array) -> list[float | None]:
    return [number_of_json(value) for value in values.tolist()]
