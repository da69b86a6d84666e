"""A training as its folder tells of it, also while it goes on: losses row by row, gradients and units, and what stands out.

Files are read again only where they changed: of ``metrics.jsonl`` what was added, of ``health.bin`` all, which stays small.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chainrule import forks
from chainrule.errors import UserError
from chainrule.graph import PARAMETER, Array
from chainrule.lens.server.refusals import Refusal, sentence
from chainrule.lens.tracing import Pass
from chainrule.train import RunFolder
from chainrule.train import health as health_of
from chainrule.train.diagnosis.findings import Finding
from chainrule.train.diagnosis.flow_findings import layer_labels, unit_labels
from chainrule.train.diagnosis.health import Health
from chainrule.train.diagnosis.observing import rows_of
from chainrule.train.run_folder import metrics_row

_DIGITS = 8  # of numbers of float32, which have a little more than 7


class Places(NamedTuple):
    """The nodes that rows of a recording are about: layers and units by path and operation, parameters by name."""

    layers: Mapping[tuple[str, str], int]
    units: Mapping[tuple[str, str], int]
    parameters: Mapping[str, int]


NOWHERE = Places({}, {}, {})


def places_of(example: Pass) -> Places:
    """Where in the graph of an image's loss the rows of a training of the same model are."""
    graph = example.graph
    layers, units = rows_of(graph)
    return Places(
        {name: graph.index[node] for name, node in layers},
        {name: graph.index[node] for name, node in units},
        {node.label: place for place, node in enumerate(graph.nodes) if node.operation is PARAMETER},
    )


class History:
    """What the files of a run tell up to now. Several threads may ask."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._lock = forks.renewed(threading.Lock())
        self._rows: list[dict[str, Any]] = []
        self._read = 0
        self._file: int | None = None
        self._health: Health | None = None
        self._note = ""
        self._stamp: object = None
        self.version = 0  # it grows with each change of what ``health`` gives

    def __repr__(self) -> str:
        return f"<History of {self._run!r}>"

    def rows(self) -> list[dict[str, Any]]:
        """All rows so far, in the order in which they were written; fewer than before if the run went back to a checkpoint."""
        with self._lock:
            try:
                self._read_on()
            except OSError as error:
                raise UserError(f"{self._run.metrics} cannot be read ({error.strerror}): mend that first") from error
            return list(self._rows)

    def _read_on(self) -> None:
        path = self._run.metrics
        if not path.exists():
            self._rows, self._read, self._file = [], 0, None
            return
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_size < self._read or found.st_ino != self._file:
                self._rows, self._read = [], 0
            self._file = found.st_ino
            file.seek(self._read)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._read += len(whole)
        self._rows += [_row(row) for row in map(metrics_row, whole.splitlines()) if row is not None]

    def health(self) -> Health | None:
        """What is recorded of gradients and units; None where there is nothing yet, or it cannot be read: see ``note``."""
        with self._lock:
            stamp = stamp_of(self._run.health), self._run.result.exists()
            if stamp != self._stamp or self.version == 0:
                self._stamp, self._note = stamp, ""
                self.version += 1
                try:
                    self._health = health_of(self._run)
                except UserError as error:
                    self._health, self._note = None, str(error)
            return self._health

    @property
    def note(self) -> str:
        """Why there is no health, or what is missing from it, in a sentence; empty if all is there."""
        found = self.health()
        return sentence(self._note or ("" if found is None else found.damage()))


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the metrics as the page has it. One of kind "test" has no numbers of the training: it knows the means of the
    epoch, which do not belong into a line of single batches."""
    tested = row["kind"] == "test"
    return {
        "step": row["step"],
        "epoch": row["epoch"],
        "loss": None if tested else row["loss"],
        "accuracy": None if tested else row["accuracy"],
        "test_loss": row["loss"] if tested else None,
        "test_accuracy": row["accuracy"] if tested else None,
        "lr": None if tested else row["lr"],
    }


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


# ---- what stands out


def finding_facts(finding: Finding, health: Health, places: Places) -> dict[str, Any]:
    """A finding in sentences, with the node that it leads to."""
    node, layer = _whereabouts(finding.place, health, places)
    return {
        "name": finding.name,
        "sentence": sentence(f"{_kind_of(finding.place, health)}{finding.place}: {finding.what}"),
        "remedy": sentence(finding.remedy),
        "node": node,
        "layer": layer,
    }


def _kind_of(place: str, health: Health) -> str:
    """What is put before a name that is a number, as it is in a Sequential."""
    if not place[:1].isdecimal():
        return ""
    return "Parameter " if place in {one.name for one in health.record.plan.parameters} else "Layer "


def _whereabouts(place: str, health: Health, places: Places) -> tuple[int | None, str | None]:
    """The node and the path of the layer that a finding's place names; None where it names none."""
    record = health.record
    rows: dict[str, tuple[int | None, str]] = {}
    for label, row in zip(layer_labels(record), record.plan.layers, strict=True):
        rows[label] = places.layers.get((row.path, row.operation)), row.path
    for label, unit in zip(unit_labels(record), record.plan.units, strict=True):
        rows.setdefault(label, (places.units.get((unit.path, unit.operation)), unit.path))
    for parameter in record.plan.parameters:
        rows.setdefault(parameter.name, (places.parameters.get(parameter.name), parameter.name.rpartition(".")[0]))
    first = place.split(", ")[0].split(" to ")[0]
    return rows.get(place) or rows.get(first) or (None, None)


def worst_finding(health: Health, places: Callable[[], Places]) -> dict[str, Any] | None:
    """What is said at the top of the page: the first finding, as causes come first, unless it is a mere remark."""
    serious = [one for one in health.findings if not one.remedy.startswith("not rare")]
    if not serious:
        return None
    facts = finding_facts(serious[0], health, places())
    return {**facts, "sentence": sentence(facts["sentence"].partition("; ")[0]), "whole": facts["sentence"]}


# ---- as JSON


def health_facts(health: Health, places: Places) -> dict[str, Any]:
    """All samples and censuses, a list for each step."""
    record = health.record
    plan, flow, census = record.plan, record.flow, record.census
    dead = {one.row: one for one in health.units}
    units = []
    begin = 0
    for row in plan.units:
        here, found = slice(begin, begin + row.channels), dead.get(row)
        begin += row.channels
        units.append(
            {
                "path": row.path,
                "op": row.operation,
                "channels": row.channels,
                "node": places.units.get((row.path, row.operation)),
                "dead": None if found is None else found.dead.tolist(),
                "silent": None if found is None else found.silent.tolist(),
                "censuses": [
                    {"epoch": int(epoch), "step": int(step), "alive": alive.tolist()}
                    for epoch, step, alive in zip(census.epochs, census.steps, census.alive[:, here], strict=True)
                ],
            }
        )
    return {
        "every": plan.every,
        "total": plan.steps,
        "steps": flow.steps.tolist(),
        "loss": rounded(flow.losses),
        "layers": [
            {"path": row.path, "op": row.operation, "node": places.layers.get((row.path, row.operation))} for row in plan.layers
        ],
        "activation": rounded(flow.activation),
        "zeros": rounded(flow.zeros),
        "gradient": rounded(flow.gradient),
        "parameters": [{"name": row.name, "node": places.parameters.get(row.name)} for row in plan.parameters],
        "weight": rounded(flow.weight),
        "parameter_gradient": rounded(flow.parameter_gradient),
        "update": rounded(flow.update),
        "units": units,
        "findings": [finding_facts(one, health, places) for one in health.findings],
    }


def rounded(array: Array) -> Any:
    """An array as lists of numbers of 8 digits, which hold all that float32 knows and are short in JSON."""
    wide = array.astype(np.float64)
    with np.errstate(all="ignore"):
        power = np.floor(np.log10(np.abs(wide)))
        factor = 10.0 ** (_DIGITS - 1 - np.where(np.isfinite(power), power, 0))
        short = np.round(wide * factor) / factor
    return np.where(np.isfinite(short), short, wide).tolist()


def history_facts(history: History, live: bool, places: Places, since: str) -> dict[str, Any]:
    """What happened after ``since``, which is 0 or what the last answer gave as ``next``; all of it if rows were taken back."""
    place, known = _since(since)
    rows, health = history.rows(), history.health()
    version = 2 * history.version + (places is not NOWHERE)
    begun_anew = place > len(rows)
    changed = health is not None and known != version
    return {
        "live": live,
        "next": f"{len(rows)}.{version}",
        "restarted": begun_anew,
        "rows": rows if begun_anew else rows[place:],
        "health": health_facts(health, places) if health is not None and changed else None,
        "note": history.note or None,
    }


def _since(text: str) -> tuple[int, int]:
    """How many rows are known, and which version of the health: ``0``, or what ``next`` said."""
    parts: Sequence[str] = text.split(".")
    if len(parts) > 2 or not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise Refusal(400, "since must be what the last answer gave as next.", "Ask with since=0 for the whole history.")
    return int(parts[0]), int(parts[1]) if len(parts) == 2 else 0
