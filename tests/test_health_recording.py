"""What a training records of its health: it changes nothing, and the numbers are right, also after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.data import ArrayDataset
from chainrule.models import MODELS, build
from chainrule.nn import functional as F
from chainrule.tensor.engines import engine
from chainrule.tensor.observing import ObservedFunction
from chainrule.tensor.random import manual_seed
from chainrule.tensor.tracing import Trace
from chainrule.train import Config, RunFolder, Stopped, Trainer
from chainrule.train.diagnosis.health_record import HealthRecord, read_health
from chainrule.train.diagnosis.observing import Observation, observation_of
from chainrule.train.diagnosis.recorder import norm
from test_train_run import Stopper

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
LABELS = RNG.integers(0, 3, 60)


class Net(nn.Module):
    """Two convolutions, the first with batch normalisation, the second with a bias and a functional ReLU; dropout; scores."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.conv1, self.norm1, self.relu1 = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.drop, self.fc = nn.Dropout(0.2), nn.Linear(6, 3)
        self.conv2.bias.assign(np.array([0, 0, bias, 0, bias, 0], np.float32))  # type: ignore[union-attr]

    def forward(self, x: Any) -> Any:
        """Images (N, 1, 8, 8) -> scores (N, 3)."""
        x = self.relu1(self.norm1(self.conv1(x)))
        return self.fc(self.drop(F.relu(self.conv2(x)).mean((2, 3))))


def trainer_in(folder: Path, monkeypatch: pytest.MonkeyPatch, network: Any = 0.0, **options: Any) -> Trainer:
    """A training of what ``network`` makes, or of ``Net`` with that bias, in 4 batches an epoch."""
    given: dict[str, Any] = {"batch_size": 16, "epochs": 2, "momentum": 0.5, "augment": "none", "lr": 0.05} | options
    monkeypatch.setattr("chainrule.train.trainer.build", lambda *_: network() if callable(network) else Net(network))
    run = RunFolder.new(folder, Config(**given))
    data = ArrayDataset(IMAGES, LABELS, ("a", "b", "c"))
    made = Trainer(run, training=data, test=data)
    run.make()
    return made


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, bias: float = 0.0, **options: Any) -> tuple[Trainer, bytes]:
    """The trainer after its training, and the weights and averages that it left."""
    made = trainer_in(folder, monkeypatch, bias, **options)
    made.train(Stopper())
    return made, made.folder.model.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 50},
        {"batch_size": 7, "accumulate": 3, "ema": 0.9, "mixup": 0.3, "clip_norm": 0.5, "epochs": 8},
        {"optimizer": "adamw", "precision": "bfloat16", "freeze": "conv1|norm1", "epochs": 8},
        {"precision": "float64", "epochs": 4},
    ],
    ids=str,
)
def test_recording_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """With ``epochs`` 50, after 200 steps."""
    _, recorded = trained(tmp_path / "recorded", monkeypatch, **options)
    _, plain = trained(tmp_path / "plain", monkeypatch, health=False, **options)
    assert recorded == plain
    assert (tmp_path / "recorded/health.bin").exists()
    assert not (tmp_path / "plain/health.bin").exists()


def test_the_rows_are_layers_and_units_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path / "run", monkeypatch)
    plan = read_health(tmp_path / "run/health.bin").plan
    assert [(row.path, row.operation, row.size) for row in plan.layers] == [
        ("conv1", "Conv2d", 144),
        ("norm1", "BatchNorm2d", 144),
        ("relu1", "ReLU", 144),
        ("conv2", "Conv2d", 96),
        ("Net", "multiply", 6),
        ("drop", "Dropout", 6),
        ("fc", "Linear", 3),
    ]
    assert [(row.path, row.operation, row.channels, row.weight, row.bias) for row in plan.units] == [
        ("relu1", "ReLU", 4, "conv1.weight", "norm1.bias"),
        ("Net", "relu", 6, "conv2.weight", "conv2.bias"),
    ]
    assert [row.name for row in plan.parameters] == [name for name, _ in Net().named_parameters()]
    assert (plan.every, plan.steps) == (25, 8)


RECTIFIERS: dict[str, Any] = {
    "product": lambda x: x * (x > 0),
    "product, the mask first": lambda x: (x > 0.0) * x,
    "product with a cast": lambda x: x * (x >= 0).astype(x.dtype),
    "where": lambda x: cr.where(x > 0, x, 0.0),
    "where with zeros": lambda x: cr.where(x >= 0, x, cr.zeros_like(x)),
    "where, the other way round": lambda x: cr.where(x < 0, 0.0, x),
    "maximum with zeros": lambda x: cr.maximum(x, cr.zeros_like(x)),
}
OTHERS: dict[str, Any] = {
    "leaky": lambda x: cr.where(x > 0, x, 0.1 * x),
    "elu": F.elu,
    "tanh": cr.tanh,
    "of another value": lambda x: x * (x.mean() > 0),
    "above 1": lambda x: x * (x > 1),
    "below 0": lambda x: cr.where(x < 0, x, 0.0),
    "silu": lambda x: x * cr.sigmoid(x),
}


class Rectified(nn.Module):
    """A linear layer, two of whose units have a bias of -100, behind it a function, and scores."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.fc1, self.fc2 = function, nn.Linear(64, 5), nn.Linear(5, 3)
        self.fc1.bias.assign(np.array([0, -100, 0, -100, 0], np.float32))  # type: ignore[union-attr]

    def forward(self, x: Any) -> Any:
        """Images (N, 1, 8, 8) -> scores (N, 3)."""
        return self.fc2(self.function(self.fc1(x.flatten(1))))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", RECTIFIERS)
def test_a_rectifier_has_units_however_it_is_written(
    name: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer_in(tmp_path / "run", monkeypatch, lambda: Rectified(RECTIFIERS[name]), precision=precision, epochs=1)
    made.train(Stopper())
    record = read_health(tmp_path / "run/health.bin")
    rows = [(row.path, row.operation, row.channels, row.weight, row.bias) for row in record.plan.units]
    assert rows == [("Rectified", "relu", 5, "fc1.weight", "fc1.bias")]
    assert (record.census.alive[-1, [1, 3]] == 0).all()
    assert (record.census.alive[-1, [0, 2, 4]] > 0).any()


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_rectifier_has_no_units(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer_in(tmp_path / "run", monkeypatch, lambda: Rectified(OTHERS[name]), epochs=1)
    with pytest.raises(Stopped):
        made.train(Stopper(1))
    assert read_health(tmp_path / "run/health.bin").plan.units == ()


def numbers_of(record: HealthRecord) -> list[np.ndarray[Any, Any]]:
    flow, census = record.flow, record.census
    return [
        *(getattr(flow, name) for name in ("steps", "losses", "activation", "zeros", "gradient", "weight")),
        *(flow.parameter_gradient, flow.update, census.epochs, census.steps, census.alive, census.bias, census.weight),
    ]


@pytest.mark.parametrize("stops", [[1], [3, 2], [4], [2, 1, 1, 3], [8]], ids=str)
def test_an_interrupted_training_leaves_the_same_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: list[int]
) -> None:
    trained(tmp_path / "whole", monkeypatch, bias=-100.0)
    made = trainer_in(tmp_path / "run", monkeypatch, -100.0)
    for stop in stops:
        with pytest.raises(Stopped):
            made.train(Stopper(stop))
        made = Trainer(RunFolder.open(tmp_path / "run"), training=made.loader.dataset, test=made.test_loader.dataset)
        made.resume()
    made.train(Stopper())
    assert (tmp_path / "run/health.bin").read_bytes() == (tmp_path / "whole/health.bin").read_bytes()


def test_a_killed_training_repeats_what_it_had_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recording is ahead of the checkpoint, or there is no checkpoint yet."""
    trained(tmp_path / "whole", monkeypatch)
    for kept in (0, 2):
        folder = tmp_path / f"run{kept}"
        made = trainer_in(folder, monkeypatch, checkpoint_every=kept or 1000)

        class Killed(Stopper):
            def on_step(self, report: Any) -> None:
                if report.step == 3:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            made.train(Killed(None))
        assert read_health(folder / "health.bin").flow.steps.tolist() == [1, 2]
        again = Trainer(RunFolder.open(folder), training=made.loader.dataset, test=made.test_loader.dataset)
        again.resume()
        again.train(Stopper())
        assert (folder / "health.bin").read_bytes() == (tmp_path / "whole/health.bin").read_bytes()


def test_norms_are_those_that_numpy_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first step, whose weights are known, in float64."""
    options: dict[str, Any] = {"precision": "float64", "epochs": 1, "label_smoothing": 0.0, "momentum": 0.0, "batch_size": 60}
    made = trainer_in(tmp_path / "run", monkeypatch, -100.0, **options)
    before = {name: np.array(one.numpy()) for name, one in made.model.named_parameters()}
    images, _ = next(iter(made.loader))
    made.loader.seek({"seed": 0, "epoch": 0, "batch": 0})
    made.train(Stopper())
    record = read_health(tmp_path / "run/health.bin")
    flow, plan = record.flow, record.plan
    manual_seed(0)
    model = Net(-100.0).astype("float64").train()
    model.load_state_dict(before | {name: value for name, value in model.state_dict().items() if name not in before})
    outputs: dict[str, Any] = {}
    for path in ("conv1", "norm1", "relu1", "conv2"):
        getattr(model, path).register_forward_hook(lambda _, __, output, path=path: outputs.update({path: output}))
    with engine("reference"):
        model.drop.eval()
        model(images.astype(np.float64))
    rows = {row.path: number for number, row in reversed(list(enumerate(plan.layers)))}
    for path, output in outputs.items():
        values = output.numpy()
        assert flow.activation[0, rows[path]] == pytest.approx(np.sqrt((values**2).mean()), rel=1e-6)
        assert flow.zeros[0, rows[path]] == pytest.approx((values == 0).mean(), rel=1e-6)
    after = dict(made.model.named_parameters())
    for number, row in enumerate(plan.parameters):
        step = after[row.name].numpy() - before[row.name]
        assert flow.weight[0, number] == pytest.approx(np.linalg.norm(before[row.name]), rel=1e-6)
        assert flow.update[0, number] == pytest.approx(np.linalg.norm(step), rel=1e-5, abs=1e-12)
        rate = np.linalg.norm(step) / max(float(flow.parameter_gradient[0, number]), 1e-30)
        assert flow.parameter_gradient[0, number] == 0 or 0 < rate < 1
    assert flow.losses[0] == pytest.approx(made.folder.read_metrics()[0]["loss"], rel=1e-6)


def test_the_census_knows_who_never_lived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = trained(tmp_path / "run", monkeypatch, bias=-100.0)
    census = read_health(tmp_path / "run/health.bin").census
    assert census.epochs.tolist() == [0, 1, 2]
    assert census.steps.tolist() == [0, 4, 8]
    assert census.alive[0].tolist() == [0] * 10
    assert (census.alive[1:, [6, 8]] == 0).all()
    assert (census.alive[2, [4, 5, 7, 9]] > 0).any()
    assert census.bias[0, [6, 8]].tolist() == [-100, -100]
    assert made._recorder.dead >= 2
    weights = dict(made.model.named_parameters())
    assert census.weight[2, :4] == pytest.approx(
        np.linalg.norm(weights["conv1.weight"].numpy().reshape(4, -1), axis=1), rel=1e-5
    )


def test_a_training_that_began_without_a_recording_goes_on_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer_in(tmp_path / "run", monkeypatch, health=False)
    with pytest.raises(Stopped):
        made.train(Stopper(3))
    config = (tmp_path / "run/config.json").read_text()
    folder = RunFolder.open(tmp_path / "run")
    folder.config = Config(**{**vars(folder.config), "health": True})
    again = Trainer(folder, training=made.loader.dataset, test=made.test_loader.dataset)
    again.resume()
    again.train(Stopper())
    assert not (tmp_path / "run/health.bin").exists()
    assert '"health": false' in config


def test_the_reference_engine_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine("reference"):
        trained(tmp_path / "run", monkeypatch, epochs=1)
    assert not (tmp_path / "run/health.bin").exists()


@pytest.mark.parametrize("scale", [1e-40, 1e-25, 1.0, 1e25, 0.0])
def test_a_norm_is_neither_lost_nor_infinite(scale: float) -> None:
    values = (np.random.default_rng(2).normal(size=20_001) * scale).astype(np.float32)
    with np.errstate(all="ignore"):
        assert norm(values) == pytest.approx(float(np.linalg.norm(values.astype(np.float64))), rel=1e-5)
        assert norm(values, values) == 0
        assert norm(2 * values, values) == pytest.approx(norm(values), rel=1e-5)
        assert np.isnan(norm(np.array([1.0, np.nan], np.float32)))
        assert norm(np.array([1.0, np.inf], np.float32)) == np.inf


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_looked_into(name: str) -> None:
    """All of its layers with weights are rows, and each unit has a bias or a weight that decides on it."""
    entry = MODELS[name]
    side = max(32, entry.least)
    made: list[Observation] = []

    class TracedError(Exception):
        """Ends it here, before anything is compiled."""

    model = build(name, entry.image[0], 5, (side, side)).train()

    def step(images: Any, labels: Any) -> Any:
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        return loss

    def observer(trace: Trace) -> Any:
        names = {trace.reads[one]: name for name, one in model.named_parameters() if one in trace.reads}
        made.append(observation_of(trace, names))
        raise TracedError

    with pytest.raises(TracedError):
        ObservedFunction(step, observer).prepare(np.zeros((2, entry.image[0], side, side), np.float32), np.zeros(2, np.int64))
    (observation,) = made
    rows = {row.path for row in observation.layers}
    layers = {
        path
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and not path.startswith("aux")
    }
    assert layers <= rows
    assert all(place.gradient is not None for place in observation.places)
    assert all(row.weight or row.bias for row in observation.units)
    assert len({(row.path, row.operation) for row in observation.layers}) == len(observation.layers)


@pytest.mark.parametrize(
    ("size", "pooling", "alive"), [(8, 2, [True]), (9, 2, [True]), (8, 3, [True]), (8, 2, [False])], ids=str
)
def test_a_unit_in_front_of_a_pooling_is_alive_wherever_it_is(size: int, pooling: int, alive: list[bool]) -> None:
    """In the last row, too, which a pooling that does not divide the image leaves out."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.MaxPool2d(pooling), nn.Flatten())
    model[0].weight.assign(np.ones((1, 1, 1, 1), np.float32))  # type: ignore[union-attr]
    model[0].bias.assign(np.zeros(1, np.float32))  # type: ignore[union-attr]
    images = -np.ones((2, 1, size, size), np.float32)
    if alive == [True]:
        images[1, 0, -1, -1] = 1.0

    def step(images: Any) -> Any:
        loss = (model(images) * 1.0).sum()
        loss.backward()
        return loss

    made: list[Observation] = []

    def observer(trace: Trace) -> Any:
        made.append(observation_of(trace, {}))
        return made[0].observed

    observed = ObservedFunction(step, observer)
    observed.look(1)
    observed(images)
    (place,) = made[0].sums
    assert [bool(observed.observations()[place].sum() > 0)] == alive


def test_a_step_that_is_left_out_does_not_count_as_one_at_which_units_were_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = trained(tmp_path / "run", monkeypatch)
    recorder = made._recorder
    recorder.begun(9)
    recorder.taken(made.training_step._whole, 16)  # type: ignore[arg-type]
    recorder.begun(10)
    assert recorder.alive is not None
    assert recorder.alive.max() == 8
