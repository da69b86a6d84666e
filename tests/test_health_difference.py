"""Where the recordings of two trainings part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.train.diagnosis.health_difference import HealthDifference, health_difference
from chainrule.train.diagnosis.health_record import (
    HealthFile,
    HealthRecord,
    Plan,
    RecordedLayer,
    RecordedParameter,
    is_sampled,
    read_health,
)

LAYERS = ("conv1", "relu1", "fc")
PARAMETERS = ("conv1.weight", "fc.weight", "fc.bias")
Change = Mapping[tuple[str, str], Callable[[int], float]]


def recording(path: Path, change: Change | None = None, layers: tuple[str, ...] = LAYERS, steps: int = 200) -> HealthRecord:
    """1 for each layer and 0.001 for each update, times what ``change`` gives for (kind, row) at a step."""
    rows = tuple(RecordedLayer(name, "Conv2d", 10) for name in layers)
    parameters = tuple(RecordedParameter(name, 100) for name in PARAMETERS)
    file = HealthFile(path, Plan(rows, parameters, (), 25, steps))
    change = change or {}
    for step in range(1, steps + 1):
        if not is_sampled(step, 25):
            continue

        def values(kind: str, names: tuple[str, ...], usual: float, step: int = step) -> np.ndarray[Any, Any]:
            return np.array([usual * change.get((kind, name), lambda _: 1.0)(step) for name in names], np.float32)

        file.append_sample(
            step,
            2.0,
            activation=values("activations", layers, 1.0),
            zeros=np.zeros(len(layers), np.float32),
            gradient=values("gradients", layers, 0.1),
            weight=np.full(len(PARAMETERS), 10, np.float32),
            parameter_gradient=np.ones(len(PARAMETERS), np.float32),
            update=values("updates", PARAMETERS, 0.01),
        )
    return read_health(path)


def between(folder: Path, change: Change, **options: Any) -> HealthDifference:
    return health_difference(1, recording(folder / "base"), recording(folder / "run", change, **options))


@pytest.mark.parametrize("factor", [0.49, 2.01, 1000.0, 1e-30, 0.0, np.inf])
def test_the_first_sample_from_which_on_a_row_differs_is_named(tmp_path: Path, factor: float) -> None:
    found = between(tmp_path, {("gradients", "relu1"): lambda step: factor if step >= 50 else 1.0})
    (parting,) = found.partings
    assert (parting.kind, parting.step, parting.place) == ("gradients", 50, "relu1 (Conv2d)")
    assert parting.run == pytest.approx(0.1 * factor)
    assert found.samples == 13
    assert found.sentence().startswith("gradients part at step 50: the norm of the gradient at relu1 (Conv2d) is ")
    assert found.sentence().endswith(", not 0.1")


def test_each_kind_is_named_the_earliest_first_and_the_row_that_differs_most(tmp_path: Path) -> None:
    found = between(
        tmp_path,
        {
            ("activations", "fc"): lambda step: 3.0 if step >= 25 else 1.0,
            ("updates", "conv1.weight"): lambda step: 5.0,
            ("updates", "fc.weight"): lambda step: 40.0,
        },
    )
    assert found.sentence() == (
        "updates part at step 1: the update/weight of fc.weight is 0.04, not 0.001; activations part at step 25: the root mean "
        "square of the outputs of fc (Conv2d) is 3, not 1"
    )


@pytest.mark.parametrize(
    "change",
    [
        {},
        {("gradients", "relu1"): lambda step: 1.9},
        {("gradients", "relu1"): lambda step: 50.0 if step == 75 else 1.0},
        {("gradients", "relu1"): lambda step: np.nan},
        {("updates", "fc.bias"): lambda step: 50.0},
    ],
    ids=["nothing", "less than twice", "a single sample", "no number", "a bias"],
)
def test_what_is_no_other_course(tmp_path: Path, change: Change) -> None:
    found = between(tmp_path, change)
    assert found.partings == ()
    assert found.sentence() == "no layer or parameter differs by a factor of 2 in two samples in a row, of 13"


def test_rows_and_samples_that_both_have_are_compared(tmp_path: Path) -> None:
    found = between(tmp_path, {("activations", "fc"): lambda _: 4.0}, layers=("stem", "fc"), steps=60)
    assert [(one.kind, one.step, one.place) for one in found.partings] == [("activations", 1, "fc (Conv2d)")]
    assert found.samples == 7


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    one = recording(tmp_path / "one")
    assert health_difference(1, one, None).sentence() == "not compared, as the second lacks a recording of it"
    assert health_difference(1, None, one).sentence() == "not compared, as the first lacks a recording of it"
    assert health_difference(1, None, None).sentence() == "not compared, as both lack a recording of it"
    HealthFile(tmp_path / "empty", one.plan).rewind(0)
    other = Plan(one.plan.layers, one.plan.parameters, (), 7, 6)
    file = HealthFile(tmp_path / "other", other)
    zeros = np.zeros(3, np.float32), np.zeros(3, np.float32)
    file.append_sample(
        3, 1.0, activation=zeros[0], zeros=zeros[0], gradient=zeros[0], weight=zeros[1], parameter_gradient=zeros[1],
        update=zeros[1],
    )  # fmt: skip
    nothing = health_difference(1, one, read_health(tmp_path / "other"))
    assert nothing.sentence() == "not compared, as they have no sampled step in common"
