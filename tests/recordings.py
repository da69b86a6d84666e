"""Recordings of trainings that never were: health.bin with the numbers that a test wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.train.diagnosis.health_record import (
    HealthFile,
    Plan,
    RecordedLayer,
    RecordedParameter,
    RecordedUnits,
    is_sampled,
)

Numbers = Callable[[int], float]
"""A number for each step."""

LAYERS = ("conv1 conv2d", "relu1 relu", "conv2 conv2d", "relu2 relu", "fc matmul")


def plan(steps: int = 1000, every: int = 25, channels: int = 8, layers: tuple[str, ...] = LAYERS) -> Plan:
    """The plan of a small network: two convolutions with their ReLUs, and a linear layer."""
    rows = [RecordedLayer(*layer.split(), 100) for layer in layers]
    owners = [row.path for row in rows if row.operation in ("conv2d", "matmul")]
    parameters = [RecordedParameter(f"{path}.{kind}", 50) for path in owners for kind in ("weight", "bias")]
    units = [
        RecordedUnits(row.path, "relu", channels, f"{owner}.weight", f"{owner}.bias")
        for owner, row in zip(owners, [row for row in rows if row.operation == "relu"], strict=False)
    ]
    return Plan(rows, parameters, units, every, steps)


@dataclass
class Recording:
    """A healthy training, but for what is changed: the ``loss`` at each step; by names of layers or parameters, any of their
    numbers at each step; by places of units, the last step at which they were ``alive``, the ``bias`` and the ``norm`` of the
    filter, at each end of an epoch. It has come to step ``until``, by default to its end.
    """

    plan: Plan = field(default_factory=plan)
    epochs: int = 4
    loss: Numbers = lambda step: 2.3 * 0.995**step + 0.05
    activation: Mapping[str, Numbers] = field(default_factory=dict)
    zeros: Mapping[str, Numbers] = field(default_factory=dict)
    gradient: Mapping[str, Numbers] = field(default_factory=dict)
    weight: Mapping[str, Numbers] = field(default_factory=dict)
    parameter_gradient: Mapping[str, Numbers] = field(default_factory=dict)
    update: Mapping[str, Numbers] = field(default_factory=dict)
    alive: Mapping[int, Numbers] = field(default_factory=dict)
    bias: Mapping[int, Numbers] = field(default_factory=dict)
    norm: Mapping[int, Numbers] = field(default_factory=dict)
    until: int | None = None

    def write(self, path: Path) -> Path:
        """Write the file, in the place of any other; returns its path."""
        path.unlink(missing_ok=True)
        file, steps, last = HealthFile(path, self.plan), self.plan.steps, self.until or self.plan.steps
        per_epoch = steps // self.epochs
        for step in range(last + 1):
            if step and is_sampled(step, self.plan.every):
                self._sample(file, step)
            if step % per_epoch == 0:
                self._census(file, step // per_epoch, step)
        return path

    def _sample(self, file: HealthFile, step: int) -> None:
        layers = [row.path for row in self.plan.layers]
        parameters = [row.name for row in self.plan.parameters]

        def row(names: list[str], usual: float, changed: Mapping[str, Numbers]) -> np.ndarray[Any, Any]:
            return np.array([changed[name](step) if name in changed else usual for name in names], np.float32)

        file.append_sample(
            step,
            self.loss(step),
            activation=row(layers, 1.0, self.activation),
            zeros=row(layers, 0.3, self.zeros),
            gradient=row(layers, 0.1, self.gradient),
            weight=row(parameters, 1.0, self.weight),
            parameter_gradient=row(parameters, 0.1, self.parameter_gradient),
            update=row(parameters, 1e-3, self.update),
        )

    def _census(self, file: HealthFile, epoch: int, step: int) -> None:
        units = range(self.plan.channels)
        alive = [self.alive[unit](step) if unit in self.alive else step for unit in units]
        bias = [self.bias[unit](step) if unit in self.bias else 0.1 for unit in units]
        norms = [self.norm[unit](step) if unit in self.norm else 1.0 for unit in units]
        file.append_census(
            epoch, step, alive=np.array(alive), bias=np.array(bias, np.float32), weight=np.array(norms, np.float32)
        )


LONG_LAYERS = (
    "stage1.block0.depthwise conv2d",
    "stage1.block0.activation relu",
    "stage2.block17.expansion conv2d",
    "stage2.block17.activation relu",
    "classifier matmul",
)


def failing(layers: tuple[str, ...] = LAYERS) -> Recording:
    """A training with much that stands out: updates, gradients, activations and units."""
    first, relu, second, _, classifier = (layer.split()[0] for layer in layers)
    return Recording(
        plan=plan(layers=layers, channels=120),
        loss=lambda step: 2.3,
        update={f"{second}.weight": lambda step: 5.9 if step == 8 else 0.01, f"{first}.weight": lambda step: 1e-7},
        gradient={first: lambda step: 1.3e-10, relu: lambda step: 2e-9},
        activation={second: lambda step: 0.5 if step < 8 else 35_000.0},
        zeros={relu: lambda step: 1.0},
        parameter_gradient={f"{classifier}.weight": lambda step: 300.0 if step == 100 else 0.1},
        alive={unit: (lambda step, unit=unit: min(step, 7 + unit % 3)) for unit in range(0, 120, 2)}
        | {unit: (lambda step, unit=unit: min(step, unit)) for unit in range(120, 200)},
        bias={unit: (lambda step: 0.1 - step / 1000) for unit in range(120, 200)},
    )
