"""The recording of a training's health: ``health.bin`` in the folder of a run, written step by step and read by ``health``.

    {"format": "chainrule health 1", "checksum": ..., "plan": {...}}      one line of JSON: what is recorded, row by row
    FLOW  step  loss   activation zeros gradient (layers)   weight gradient update (parameters)   checksum
    UNIT  epoch step   alive bias weight (channels of all units)                                  checksum
    ...

Both kinds of records have a fixed size each, which follows from the plan; numbers are little-endian. So the file is read while
it grows: a last record that is not whole yet is left out. Each record has a CRC-32 of what stands before it: one flipped bit is
named, never used; what lies before it can be read. A plan says how often is measured, so that a file stays small however long a
training takes.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.display import displayed
from chainrule.errors import InternalError, UserError
from chainrule.formats import cannot_write, write_atomically
from chainrule.formats.schema import Check, Field, or_nothing, shown, text, validated, whole

Array = np.ndarray[Any, Any]

_FORMAT = "chainrule health 1"
_FLOW, _UNIT = b"FLOW", b"UNIT"
_REMEDY = "put another copy in its place, or delete it to go on without"

_LEAST_INTERVAL, _USUAL_INTERVAL = 25, 100  # steps
_LEAST_SAMPLES, _MOST_SAMPLES = 30, 300
_MOST_CENSUSES, _MOST_CENSUS_BYTES = 100, 16 << 20
_MOST_ROWS, _MOST_CHANNELS = 1 << 16, 1 << 24  # of a plan that is believed: what a file says gets memory


def sampling_interval(steps: int) -> int:
    """The steps between two samples of a training of ``steps`` steps: 25 of a short one, 100 of a longer one, so that samples
    take little of its time, and more where there would be more than 300 of them."""
    usual = min(_USUAL_INTERVAL, max(_LEAST_INTERVAL, steps // _LEAST_SAMPLES))
    return max(usual, -(-steps // _MOST_SAMPLES))


def is_sampled(step: int, every: int) -> bool:
    """Whether a step, counted from 1, is one of the samples: each ``every``-th one, and 1, 2, 4, 8, ... before the first of
    these, as most goes wrong at the beginning."""
    return step % every == 0 or (0 < step < every and step & (step - 1) == 0)


def census_interval(epochs: int, channels: int) -> int:
    """The epochs between two censuses of ``channels`` units, for at most 100 of them, in at most 16 MiB."""
    most = max(2, min(_MOST_CENSUSES, _MOST_CENSUS_BYTES // (16 * max(1, channels))))
    return max(1, -(-epochs // most))


# ---- the plan


@dataclass(frozen=True)
class RecordedLayer:
    """An operation whose outputs are looked at: the ``path`` of its layer (such as "layer1.0.conv1"), the ``operation`` (such
    as "conv2d") and the ``size`` of its outputs for each image, in numbers."""

    path: str
    operation: str
    size: int


@dataclass(frozen=True)
class RecordedParameter:
    """A parameter that learns: its ``name`` and its ``size`` in numbers."""

    name: str
    size: int


@dataclass(frozen=True)
class RecordedUnits:
    """The channels of an operation like ReLU, each a unit: ``weight`` and ``bias`` name the parameters that decide on them, the
    bias perhaps that of a normalisation; None where there is none."""

    path: str
    operation: str
    channels: int
    weight: str | None
    bias: str | None


@dataclass(frozen=True)
class Plan:
    """What is recorded of a training of ``steps`` steps, and every how many steps; ``layers`` in the order in which they are
    computed."""

    layers: Sequence[RecordedLayer]
    parameters: Sequence[RecordedParameter]
    units: Sequence[RecordedUnits]
    every: int
    steps: int

    @cached_property
    def channels(self) -> int:
        """How many units there are, over all rows."""
        return sum(row.channels for row in self.units)

    @cached_property
    def flow_type(self) -> np.dtype[Any]:
        """A record of a sample."""
        layers, parameters = (len(self.layers),), (len(self.parameters),)
        return np.dtype(
            [
                ("kind", "S4"),
                ("step", "<i8"),
                ("loss", "<f8"),
                ("activation", "<f4", layers),
                ("zeros", "<f4", layers),
                ("gradient", "<f4", layers),
                ("weight", "<f4", parameters),
                ("parameter_gradient", "<f4", parameters),
                ("update", "<f4", parameters),
                ("checksum", "<u4"),
            ]
        )

    @cached_property
    def census_type(self) -> np.dtype[Any]:
        """A record of a census."""
        channels = (self.channels,)
        return np.dtype(
            [
                ("kind", "S4"),
                ("epoch", "<i8"),
                ("step", "<i8"),
                ("alive", "<i8", channels),
                ("bias", "<f4", channels),
                ("weight", "<f4", channels),
                ("checksum", "<u4"),
            ]
        )

    def header(self) -> bytes:
        """The first line of a file with this plan."""
        plan = asdict(self)
        return json.dumps({"format": _FORMAT, "checksum": _plan_checksum(plan), "plan": plan}).encode() + b"\n"


def _plan_checksum(plan: Any) -> int:
    return zlib.crc32(json.dumps(plan).encode())


def _rows(*fields: Field) -> Check:
    def check(value: Any) -> str | None:
        fits = isinstance(value, list) and len(value) <= _MOST_ROWS and all(map(fits_row, value))
        names = ", ".join(field.name for field in fields)
        return None if fits else f"a list of at most {_MOST_ROWS:,} objects with {names}"

    def fits_row(row: Any) -> bool:
        same = isinstance(row, dict) and set(row) == {field.name for field in fields}
        return same and all(field.check(row[field.name]) is None for field in fields)

    return check


_SIZE = whole(1, 1 << 48)
_PLAN = (
    Field("layers", _rows(Field("path", text()), Field("operation", text()), Field("size", _SIZE))),
    Field("parameters", _rows(Field("name", text()), Field("size", _SIZE))),
    Field(
        "units",
        _rows(
            Field("path", text()),
            Field("operation", text()),
            Field("channels", whole(1, _MOST_CHANNELS)),
            Field("weight", or_nothing(text())),
            Field("bias", or_nothing(text())),
        ),
    ),
    Field("every", whole(1)),
    Field("steps", whole(1)),
)
"""What the header says of a plan."""


def _begins_like_one(content: bytes) -> bool:
    """Whether a file begins like a recording, but for at most one wrong byte."""
    begin = json.dumps({"format": _FORMAT})[:-1].encode()
    wrong = sum(one != other for one, other in zip(content, begin, strict=False))
    return len(content) > len(begin) and wrong <= 1


def _plan_of(path: Path, content: bytes) -> tuple[Plan, int]:
    """The plan in the header of a file, and where its records begin."""
    end = content.find(b"\n") + 1
    source = f"{displayed(path)}, its first line"
    try:
        facts = json.loads(content[:end])
        found = facts["format"]
        known = isinstance(found, str) and found.startswith(_FORMAT.rpartition(" ")[0])
    except (ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known and _begins_like_one(content):
        raise UserError(f"{source} is damaged: {_REMEDY}")
    if not known:
        raise UserError(f"{displayed(path)} is no recording of a training's health: {_REMEDY}")
    if found != _FORMAT:
        raise UserError(
            f"{displayed(path)} is a {shown(found)}, expected a {_FORMAT!r}: read it with the chainrule that wrote it"
        )
    try:
        if facts.get("checksum") != _plan_checksum(facts.get("plan")):
            raise UserError(f"{source} is damaged, as its checksum is not that of its plan: {_REMEDY}")
        plan = validated(source, facts["plan"], _PLAN, _REMEDY)
    except (KeyError, RecursionError):
        raise UserError(f"{source} is damaged: {_REMEDY}") from None
    if sum(row["channels"] for row in plan["units"]) > _MOST_CHANNELS:
        raise UserError(f"{source} is damaged, as it tells of more than {_MOST_CHANNELS:,} units: {_REMEDY}")
    layers = tuple(RecordedLayer(**row) for row in plan["layers"])
    parameters = tuple(RecordedParameter(**row) for row in plan["parameters"])
    units = tuple(RecordedUnits(**row) for row in plan["units"])
    return Plan(layers, parameters, units, plan["every"], plan["steps"]), end


# ---- reading


@dataclass(frozen=True)
class Flow:
    """Samples of a training, S of them, of L layers and P parameters.

    Attributes:
        steps: the step of each sample, int64 (S,), growing.
        losses: that of the batch, float64 (S,).
        activation: the root of the mean square of the outputs of each layer (S,L).
        zeros: the share of them that are 0 (S,L).
        gradient: the L2 norm, over the whole batch, of the gradient of the mean loss with respect to the outputs (S,L); NaN
            where no gradient arrives.
        weight, parameter_gradient, update: L2 norms of each parameter before the step, of its gradient and of what the step
            added to it (S,P).
    """

    steps: Array
    losses: Array
    activation: Array
    zeros: Array
    gradient: Array
    weight: Array
    parameter_gradient: Array
    update: Array


@dataclass(frozen=True)
class Census:
    """Censuses of a training, E of them, of C channels: those of all rows of ``Plan.units``, one row behind the other.

    Attributes:
        epochs, steps: how many of each were done, int64 (E,), growing; 0 before the first step.
        alive: the last step up to then, counted from 1, at which a unit was above 0 for any example, int64 (E,C); 0 for never.
        bias: that of the unit (E,C); NaN where there is none.
        weight: the L2 norm of its filter (E,C); NaN where there is none.
    """

    epochs: Array
    steps: Array
    alive: Array
    bias: Array
    weight: Array


@dataclass(frozen=True)
class HealthRecord:
    """All that a file holds: what was to be recorded, and what was; ``damage`` says where it is damaged, if what lies behind is
    left out."""

    plan: Plan
    flow: Flow
    census: Census
    damage: str = ""


def read_health(path: str | os.PathLike[str], up_to_damage: bool = False) -> HealthRecord:
    """The recording in a file, as far as it is written; ``up_to_damage`` takes what lies before a damaged record.

    Raises:
        UserError: there is no such file, it is damaged, no recording, or one of another version.
    """
    path = Path(path)
    plan, content, begin = _read(path)
    flows: list[Any] = []
    censuses: list[Any] = []
    damage = ""
    try:
        for record, _ in _records(path, plan, content, begin):
            (flows if record["kind"] == _FLOW else censuses).append(record)
    except UserError as error:
        if not up_to_damage:
            raise
        damage = str(error)
    flow = np.array(flows, plan.flow_type)
    census = np.array(censuses, plan.census_type)
    names = [name for name in plan.flow_type.names or () if name not in ("kind", "step", "loss", "checksum")]
    return HealthRecord(
        plan,
        Flow(flow["step"], flow["loss"], **{name: flow[name] for name in names}),
        Census(census["epoch"], census["step"], census["alive"], census["bias"], census["weight"]),
        damage,
    )


def _read(path: Path) -> tuple[Plan, bytes, int]:
    """The plan of a file, its whole content, and where its records begin."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{displayed(path)} cannot be read ({displayed(error.strerror or error)})") from None
    plan, begin = _plan_of(path, content)
    return plan, content, begin


def _records(path: Path, plan: Plan, content: bytes, begin: int) -> Iterator[tuple[Any, int]]:
    """The whole records of a file in their order, and where each ends.

    Raises:
        UserError: at a record that is damaged.
    """
    types = {_FLOW: plan.flow_type, _UNIT: plan.census_type}
    number, last = 0, {_FLOW: 0, _UNIT: -1}
    while begin + 4 <= len(content):
        number += 1
        kind = content[begin : begin + 4]
        if kind not in types:
            raise _damaged(path, number, "it is of no kind that there is")
        end = begin + types[kind].itemsize
        if end > len(content):
            return
        record = np.frombuffer(content, types[kind], 1, begin)[0]
        if zlib.crc32(content[begin : end - 4]) != record["checksum"]:
            raise _damaged(path, number, "its checksum is not that of its numbers")
        place = int(record["step"] if kind == _FLOW else record["epoch"])
        if place <= last[kind] or not 0 <= record["step"] <= plan.steps:
            raise _damaged(path, number, f"it is of step {int(record['step'])}, and does not follow those before it")
        last[kind] = place
        yield record, end
        begin = end


def _damaged(path: Path, number: int, why: str) -> UserError:
    return UserError(f"{displayed(path)}, record {number}, is damaged, as {why}: {_REMEDY}")


# ---- writing


class HealthFile:
    """The file that a training writes. It is made with the first record; one that is there already is gone on with.

    Each append leaves a file that can be read. Steps are counted from 1 and must grow: whoever goes back says so (``rewind``).
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = path, plan
        self._end: int | None = None  # where the next record begins; None as long as nobody has looked
        self._last = {_FLOW: 0, _UNIT: -1}

    def __repr__(self) -> str:
        return f"<HealthFile {displayed(self.path)}: every {self.plan.every} of {self.plan.steps} steps>"

    def append_sample(
        self,
        step: int,
        loss: float,
        *,
        activation: Array,
        zeros: Array,
        gradient: Array,
        weight: Array,
        parameter_gradient: Array,
        update: Array,
    ) -> None:
        """Add a sample of a step, counted from 1: see ``Flow``. A UserError if it cannot be written."""
        layers, parameters = (activation, zeros, gradient), (weight, parameter_gradient, update)
        self._append(np.array([(_FLOW, step, loss, *layers, *parameters, 0)], self.plan.flow_type), step)

    def append_census(self, epoch: int, step: int, *, alive: Array, bias: Array, weight: Array) -> None:
        """Add a census after an epoch, of which ``step`` is the last step; epoch and step 0 are before the first step: see
        ``Census``. A UserError if it cannot be written."""
        self._append(np.array([(_UNIT, epoch, step, alive, bias, weight, 0)], self.plan.census_type), epoch)

    def _append(self, record: Array, place: int) -> None:
        kind = bytes(record["kind"][0])
        if self._end is None:
            self.rewind(self.plan.steps)
        if place <= self._last[kind]:
            raise InternalError(f"a health record of {kind.decode()} {place} comes after that of {self._last[kind]}")
        record["checksum"] = zlib.crc32(record.tobytes()[:-4])
        try:
            if not self.path.exists():  # or somebody removed it in the meantime
                write_atomically(self.path, self.plan.header())
                self._end = len(self.plan.header())
            with open(self.path, "r+b") as file:
                file.seek(self._end or 0)
                file.write(record.tobytes())
                file.truncate()  # what an earlier try left, on a disk that was full
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._end = (self._end or 0) + record.nbytes
        self._last[kind] = place

    def rewind(self, step: int) -> None:
        """Drop what was recorded after ``step``, the step of the checkpoint from which a training goes on.

        What a crash of the system left behind that step, such as a record of zeros, is dropped as well.

        Raises:
            UserError: an earlier record is damaged, or the file is of another plan, such as that of another network.
        """
        self._last = {_FLOW: 0, _UNIT: -1}
        self._end = 0
        if not self.path.exists():
            return
        plan, content, self._end = _read(self.path)
        if plan.header() != self.plan.header():
            raise UserError(f"{displayed(self.path)} is the recording of another training, or of another chainrule: {_REMEDY}")
        try:
            for record, end in _records(self.path, plan, content, self._end):
                if record["step"] > step:
                    break
                kind, self._end = bytes(record["kind"]), end
                self._last[kind] = int(record["step"] if kind == _FLOW else record["epoch"])
        except UserError:
            if any(is_sampled(later, plan.every) for later in range(self._last[_FLOW] + 1, step + 1)):
                raise  # for the damaged record is not behind the step, or others that should lie before it are gone
        try:
            os.truncate(self.path, self._end)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def flush(self) -> None:
        """Write all records so far to the disk for good, as must happen before a checkpoint that relies on them."""
        if not self.path.exists():
            return
        try:
            with open(self.path, "r+b") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from error
