"""Where the recordings of two trainings part: the first samples at which layers or parameters differ by a factor of 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.display import displayed
from chainrule.train.diagnosis.flow_findings import layer_labels, number_text, update_ratios
from chainrule.train.diagnosis.health_record import HealthRecord

Array = np.ndarray[Any, Any]

_FACTOR = 2.0
"""Another seed, order or augmentation makes single numbers differ by tenths; twice as much in two samples one after the other
is another course."""


@dataclass(frozen=True)
class Parting:
    """Where the recordings of two runs part in a kind of numbers.

    Attributes:
        kind: "updates", "activations" or "gradients".
        step: the first sample at which a row differs by the factor, and still does at the next one.
        place: the row that differs most there.
        run, base: the number of each run.
    """

    kind: str
    step: int
    place: str
    run: float
    base: float

    def sentence(self) -> str:
        """In words."""
        what = {
            "updates": "the update/weight of",
            "activations": "the root mean square of the outputs of",
            "gradients": "the norm of the gradient at",
        }[self.kind]
        return (
            f"{self.kind} part at step {self.step}: {what} {displayed(self.place)} is {number_text(self.run)}, not "
            f"{number_text(self.base)}"
        )


@dataclass(frozen=True)
class HealthDifference:
    """How the health of a run differs from that of another one.

    Attributes:
        run, base: the places of both among the runs that are compared.
        partings: where each kind of numbers parts, the earliest first.
        samples: how many samples both have.
        missing: why nothing is compared; empty if it is.
    """

    run: int
    base: int
    partings: Sequence[Parting]
    samples: int
    missing: str = ""

    def sentence(self) -> str:
        """What differs first, in words."""
        if self.missing:
            return self.missing
        if not self.partings:
            return f"no layer or parameter differs by a factor of {_FACTOR:.0f} in two samples in a row, of {self.samples}"
        return "; ".join(one.sentence() for one in self.partings)


def health_difference(place: int, base: HealthRecord | None, run: HealthRecord | None) -> HealthDifference:
    """The difference of the recording of the run at ``place`` from that of the first one."""
    if base is None or run is None:
        which = "both lack" if base is None and run is None else "the first lacks" if base is None else "the second lacks"
        return HealthDifference(place, 0, (), 0, f"not compared, as {which} a recording of it")
    steps, ours, theirs = np.intersect1d(run.flow.steps, base.flow.steps, return_indices=True)
    kinds = list(_kinds(base, run))
    if not len(steps) or not any(names for _, names, _, _ in kinds):
        what = "no sampled step" if not len(steps) else "no layer and no parameter"
        return HealthDifference(place, 0, (), len(steps), f"not compared, as they have {what} in common")
    found = [_parting(kind, names, steps, mine[ours], other[theirs]) for kind, names, mine, other in kinds if names]
    partings = sorted((one for one in found if one is not None), key=lambda one: one.step)
    return HealthDifference(place, 0, tuple(partings), len(steps))


def _kinds(base: HealthRecord, run: HealthRecord) -> Iterator[tuple[str, list[str], Array, Array]]:
    """Each kind of numbers: the rows that both have, and the numbers (S,R) of the run and of the first one.

    Without biases, which are few and small at first, so that their ratios differ by factors from seed to seed.
    """
    layers = [layer_labels(one) for one in (run, base)]
    parameters = [[row.name for row in one.plan.parameters] for one in (run, base)]
    for kind, (ours, theirs), mine, other in (
        ("updates", parameters, update_ratios(run), update_ratios(base)),
        ("activations", layers, run.flow.activation, base.flow.activation),
        ("gradients", layers, run.flow.gradient, base.flow.gradient),
    ):
        names = [name for name in ours if name in set(theirs) and not name.endswith("bias")]
        yield kind, names, mine[:, [ours.index(name) for name in names]], other[:, [theirs.index(name) for name in names]]


def _parting(kind: str, names: Sequence[str], steps: Array, run: Array, base: Array) -> Parting | None:
    with np.errstate(all="ignore"):
        factors = np.abs(np.log(run.astype(np.float64) / base.astype(np.float64)))
    factors[(run == 0) & (base == 0)] = 0.0
    factors[np.isnan(run) | np.isnan(base)] = 0.0
    apart = factors >= np.log(_FACTOR)
    lasting = apart.copy()
    lasting[:-1] &= apart[1:]
    where = np.flatnonzero(lasting.any(1))
    if not len(where):
        return None
    sample = int(where[0])
    row = int(np.argmax(np.where(lasting[sample], factors[sample], -1.0)))
    return Parting(kind, int(steps[sample]), names[row], float(run[sample, row]), float(base[sample, row]))
