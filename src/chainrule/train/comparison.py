"""Runs beside each other: what differs in their options, how good they became, and whether that is more than chance.

Nothing is computed again: what is said comes from the files of the runs, and what these cannot tell is said, too.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chainrule.arguments import explained, members_of
from chainrule.display import displayed
from chainrule.errors import InternalError, UserError
from chainrule.graph.tables import Contents, Table
from chainrule.train.chance import mcnemar, newcombe_interval
from chainrule.train.config import Config
from chainrule.train.diagnosis.health_difference import HealthDifference, health_difference
from chainrule.train.evaluation import wilson_interval
from chainrule.train.run_record import RunRecord, read_run


@dataclass(frozen=True)
class Difference:
    """How the accuracy of a run differs from that of the first one, as far as the test images tell.

    Attributes:
        run, base: places of the two runs.
        points: the difference of the accuracies, as a share.
        interval: its 95% bounds, by ``newcombe_interval``.
        p: of McNemar's test, where both runs kept what each image was taken for; else None.
        only_run, only_base: how many images one run alone got right, where that is known.
        since: the first epoch from which on the runs are further apart than chance, in each epoch that both have; None if there
            is none.
    """

    run: int
    base: int
    points: float
    interval: tuple[float, float]
    p: float | None = None
    only_run: int = 0
    only_base: int = 0
    since: int | None = None

    @property
    def more_than_chance(self) -> bool:
        """Whether so large a difference would be rare (less than one time in 20) between networks that are equally good."""
        return self.p < 0.05 if self.p is not None else self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True, repr=False)
class Comparison(Table):
    """Runs beside each other. Prints as a table of their results.

    Attributes:
        runs: what the files of each run say.
        options: for each option in which they differ, its values, run by run.
        differences: of each run that was tested on the images of the first one, from that.
        health: of each run but the first one, where its recording parts from that of the first.
        notes: what is missing or damaged, and what cannot be compared therefore.
    """

    runs: Sequence[RunRecord]
    options: dict[str, list[str]]
    differences: Sequence[Difference]
    health: Sequence[HealthDifference] = field(default=())
    notes: Sequence[str] = field(default=())

    def contents(self) -> Contents:
        """A row for each run: how far it came, how good it is, and how long it took."""
        rows = []
        for run in self.runs:
            accuracy, interval = "", ""
            if run.accuracy is not None:
                accuracy = f"{100 * run.accuracy:.2f}%"
            if run.right is not None and run.images:
                low, high = wilson_interval(run.right, run.images)
                interval = f"{100 * low:.2f} - {100 * high:.2f}"
            loss = "" if run.loss is None else f"{run.loss:.4f}"
            epochs = f"{run.judged} of {run.config.epochs}"
            rows.append((displayed(run.name), epochs, accuracy, interval, loss, f"{run.seconds:,.1f} s"))
        header = ("run", "epochs>", "accuracy>", "95% interval>", "loss>", "training>")
        return Contents("Results on the test images", header, rows, least=("loss", "95% interval", "epochs"), copied=("run",))

    def options_table(self) -> Contents:
        """A row for each option that differs, a column for each run."""
        names = [displayed(run.name) for run in self.runs]
        rows = [(option, *(displayed(value) for value in values)) for option, values in self.options.items()]
        return Contents("What differs in the options", ("option", *names), rows)

    def sentences(self) -> list[str]:
        """What can be said of the differences: of the accuracies, and then of the health."""
        names = [displayed(run.name) for run in self.runs]
        health = [f"health of {names[one.run]} against {names[one.base]}: {one.sentence()}" for one in self.health]
        return [*(self._sentence(one) for one in self.differences), *health]

    def _sentence(self, one: Difference) -> str:
        run, base = (displayed(self.runs[place].name) for place in (one.run, one.base))
        low, high = (100 * bound for bound in one.interval)
        if one.p is None:
            basis = f"95% interval {low:+.2f} to {high:+.2f}"
        else:
            basis = f"{one.only_run:,} images are right in the one run alone, {one.only_base:,} in the other; "
            basis += f"McNemar's test: p = {one.p:.2g}"
        verdict = "more than chance" if one.more_than_chance else "no more than chance"
        sentence = f"{run} against {base}: {100 * one.points:+.2f} percentage points ({basis}), {verdict}"
        if one.since is not None:
            sentence += f"; of the epochs that both have, they are further apart than chance in each from epoch {one.since} on"
        elif one.more_than_chance and self.runs[one.run].epochs and self.runs[one.base].epochs:
            sentence += "; no epoch is known from which on they differ by more than chance"
        return sentence

    def facts(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {
            "runs": [run.facts() for run in self.runs],
            "options": self.options,
            "differences": [
                {
                    "run": self.runs[one.run].name,
                    "base": self.runs[one.base].name,
                    "points": one.points,
                    "interval": list(one.interval),
                    "p": one.p,
                    "only_run": one.only_run if one.p is not None else None,
                    "only_base": one.only_base if one.p is not None else None,
                    "more_than_chance": one.more_than_chance,
                    "since_epoch": one.since,
                }
                for one in self.differences
            ],
            "health": [
                {
                    "run": self.runs[one.run].name,
                    "base": self.runs[one.base].name,
                    "samples": one.samples,
                    "missing": one.missing,
                    "partings": [dataclasses.asdict(parting) for parting in one.partings],
                }
                for one in self.health
            ],
            "notes": list(self.notes),
        }


@explained
def compare(runs: Sequence[str | os.PathLike[str]]) -> Comparison:
    """Compare the runs in these folders, of which there are at least two; accuracies with that of the first one.

    Runs that are not finished are compared as far as they came. A folder that is no run, or whose options are damaged, is left
    out, as long as two others are left, and ``notes`` says so.

    Raises:
        UserError: fewer than two folders, the same one twice, or fewer than two that are runs.
    """
    paths = [Path(path) for path in members_of("runs to compare", runs, "give the folders of at least two runs")]
    if len(paths) < 2:
        raise UserError(f"a comparison needs at least two runs, got {len(paths)}")
    places = [path.resolve() for path in paths]
    for one, other in itertools.combinations(range(len(paths)), 2):
        if places[one] == places[other]:
            raise UserError(f"{displayed(paths[other])} is given twice: give different runs")
    records: list[RunRecord] = []
    notes: list[str] = []
    refusals: list[UserError] = []
    for path in paths:
        try:
            records.append(read_run(path))
        except UserError as error:
            refusals.append(error)
            notes.append(f"{displayed(path)} is left out: {error}")
    if len(records) < 2:
        raise refusals[0]
    for record in records:
        notes += [f"{displayed(record.name)}: {note}" for note in record.notes]
    differences = []
    for place in range(1, len(records)):
        why = _why_not(records[0], records[place])
        if why:
            notes.append(f"the accuracies of {displayed(records[0].name)} and {displayed(records[place].name)} {why}")
        else:
            differences.append(_difference(records, place))
    health = [health_difference(place, records[0].health, one.health) for place, one in enumerate(records) if place]
    return Comparison(records, _options(records), differences, health, notes)


def _options(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """The options that differ, as texts, in the order in which a configuration has them."""
    found = {}
    for option in (one.name for one in dataclasses.fields(Config)):
        values = [_written(record.config, option) for record in records]
        if len(set(values)) > 1:
            found[option.replace("_", "-").replace("-digest", " (SHA-256)")] = values
    return found


def _written(config: Config, option: str) -> str:
    value = config.peak_lr if option == "lr" else getattr(config, option)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if option.endswith("_digest"):
        return f"{value[:12]}..." if value else "-"
    return "-" if value is None or value == "" else str(value)


def _why_not(base: RunRecord, run: RunRecord) -> str:
    """Why the accuracies of two runs cannot be compared; an empty text if they can."""
    for one in (base, run):
        if one.accuracy is None:
            return f"cannot be compared: {displayed(one.name)} has not been tested yet"
        if one.images is None:
            return f"cannot be compared: nothing tells any more on how many images {displayed(one.name)} was tested"
    if base.classes != run.classes:
        return "are not compared, as the runs have different classes"
    if base.config.data != run.config.data:
        return f"are not compared, as the data are others: {displayed(base.config.data)} and {displayed(run.config.data)}"
    if (base.images, base.labels_checksum) != (run.images, run.labels_checksum):
        return f"are not compared, as the test images changed in between ({base.images:,} and {run.images:,})"
    return ""


def _difference(records: Sequence[RunRecord], place: int) -> Difference:
    base, run = records[0], records[place]
    if base.right is None or run.right is None or base.images is None or run.images is None:
        raise InternalError("accuracies are compared only where the number of images is known")
    interval = newcombe_interval(run.right, run.images, base.right, base.images)
    points = run.right / run.images - base.right / base.images
    since = _apart_since(base, run)
    ours, theirs = run.answers, base.answers
    if ours is None or theirs is None or (ours.labels != theirs.labels).any():
        return Difference(place, 0, points, interval, since=since)
    right, base_right = ours.taken == ours.labels, theirs.taken == theirs.labels
    only_run, only_base = int((right & ~base_right).sum()), int((base_right & ~right).sum())
    return Difference(place, 0, points, interval, mcnemar(only_run, only_base), only_run, only_base, since)


def _apart_since(base: RunRecord, run: RunRecord) -> int | None:
    """The first epoch from which on the accuracies are further apart than chance, always in the same direction."""
    ours, theirs = ({row["epoch"]: row["accuracy"] for row in one.epochs} for one in (run, base))
    since, direction = None, 0
    for epoch in sorted(set(ours) & set(theirs)):
        images = run.images or 0
        low, high = newcombe_interval(round(ours[epoch] * images), images, round(theirs[epoch] * images), images)
        now = 1 if low > 0 else -1 if high < 0 else 0
        if now != direction:
            since, direction = (epoch if now else None), now
    return since
