"""What a recording says: each sentence where its fault is, and none where it is not. The recordings are made up."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chainrule import UserError
from chainrule.train import Config, Health, RunFolder, diagnosis, health
from chainrule.train.diagnosis.dead_units import silences
from chainrule.train.diagnosis.findings import Finding
from chainrule.train.diagnosis.flow_findings import Aim, number_text
from chainrule.train.diagnosis.health import judged
from chainrule.train.diagnosis.health_record import HealthFile, HealthRecord, RecordedParameter, read_health
from chainrule.train.pictures.drawing import Box, Words
from chainrule.train.pictures.health_picture import AROUND_USUAL, SHARES, VIRIDIS, health_picture
from recordings import LAYERS, Recording, failing, plan
from running import done, idx_folder, noted, refused


def of(path: Path, **changed: Any) -> Health:
    """What is said of a training that is healthy but for what is changed."""
    path.mkdir(exist_ok=True)
    return judged("run", read_health(Recording(**changed).write(path / "health.bin")))


def the(found: Health, name: str) -> Finding:
    """The only finding, which has this name."""
    (one,) = found.findings
    assert one.name == name
    return one


def until(step: int, value: float, after: float) -> Any:
    """``value`` up to and with a step, then another."""
    return lambda now: value if now <= step else after


# ---- a healthy training


def test_of_a_healthy_training_nothing_is_said(tmp_path: Path) -> None:
    found = of(tmp_path)
    assert found.findings == ()
    assert found.sentences() == ["nothing stands out"]
    assert found.about() == "45 samples up to step 1,000 of 1,000, one every 25 steps"
    assert str(found).startswith(
        "run: 45 samples up to step 1,000 of 1,000, one every 25 steps\n\nnothing stands out\n\nLayers at "
    )
    assert [one.dead.sum() for one in found.units] == [0, 0]


def test_what_good_trainings_do_is_no_finding(tmp_path: Path) -> None:
    """A warm-up and an end at 0; biases that begin at 0; activations that grow tenfold; some dead units; noise; no shortcut."""

    def rate(step: int) -> float:
        return 0.02 * math.sin(math.pi * step / 1001)

    noise = np.random.default_rng(0).standard_normal(1001) * 0.1
    names = [row.name for row in plan().parameters]
    found = of(
        tmp_path,
        plan=plan(channels=16),
        update=dict.fromkeys(names, rate),
        weight={name: (lambda step: rate(step) * 3) for name in names if name.endswith("bias")},
        activation={"fc": lambda step: 0.1 + step / 100},
        gradient={"conv1": lambda step: 0.1 / 40},
        parameter_gradient={name: (lambda step: 2.0 if step == 200 else 0.1) for name in names},
        alive={3: lambda step: min(step, 60), 20: lambda step: 0},
        loss=lambda step: 0.5 + 1.8 * 0.99**step + noise[step],
    )
    assert found.findings == ()
    assert [one.dead.sum() for one in found.units] == [1, 1]


# ---- updates


def test_an_update_of_half_the_weights(tmp_path: Path) -> None:
    found = of(tmp_path, update={"conv2.weight": lambda step: 0.7 if step == 100 else 0.01})
    one = the(found, "large-updates")
    assert one.place == "conv2.weight"
    assert one.what == "updates are too large: at step 100 it was 0.7 times the weights, where about 0.001 is usual"
    assert not of(tmp_path / "a", update={"conv2.weight": lambda step: 0.4 if step == 100 else 0.01}).findings
    assert not of(tmp_path / "b", update={"conv2.bias": lambda step: 0.7}).findings


def test_updates_of_a_tenth_that_go_on(tmp_path: Path) -> None:
    large = {name: until(200, 0.15, 0.01) for name in ("conv1.weight", "fc.weight")}
    one = the(of(tmp_path, update=large), "large-updates")
    assert "and 1 more parameter had such updates" in one.what
    assert not of(tmp_path / "few", update={"fc.weight": until(2, 0.15, 0.01)}).findings
    assert not of(tmp_path / "early", update={"fc.weight": until(99, 0.15, 0.01)}).findings, "the beginning alone"
    short = dataclasses.replace(plan(), steps=32)
    assert not of(tmp_path / "short", plan=short, update={"fc.weight": lambda step: 0.15}).findings, "few steps, all early"


NORMALISED = ("conv1 Conv2d", "pool MaxPool2d", "bn1 BatchNorm2d", "relu ReLU", "fc Linear")


def test_weights_in_front_of_a_normalisation_may_begin_with_large_updates(tmp_path: Path) -> None:
    """They become large, and updates small in proportion."""
    network = plan(layers=NORMALISED)
    network = dataclasses.replace(
        network,
        parameters=[RecordedParameter(f"{name}.weight", 50) for name in ("conv1", "bn1", "fc")],
    )
    begin = {"conv1.weight": lambda step: 36 / step**2}
    assert not of(tmp_path, plan=network, update=begin, activation={"conv1": lambda step: 200.0 * step}).findings
    one = the(of(tmp_path / "a", plan=network, update={"conv1.weight": lambda step: 0.2}), "large-updates")
    assert one.what.startswith("updates are too large: at step 525 it was 0.2 times")
    assert (
        the(of(tmp_path / "b", plan=network, update={"fc.weight": begin["conv1.weight"]}), "large-updates").place == "fc.weight"
    )
    exploding = of(tmp_path / "c", plan=network, activation={"fc": lambda step: 200.0 * step})
    assert the(exploding, "exploding-activations").place == "fc (Linear)"
    assert not of(tmp_path / "d", plan=network, update={"bn1.weight": lambda step: 1e-7}).findings, "it may stay as it is"


def test_weights_that_begin_at_zero_are_not_judged_by_their_updates(tmp_path: Path) -> None:
    """What is added to 0 is infinitely large."""
    grown = {"fc.weight": lambda step: 0.01 * (step - 1)}
    assert not of(tmp_path, weight=grown, update={"fc.weight": lambda step: 0.01}).findings


def test_small_updates_of_all(tmp_path: Path) -> None:
    names = [row.name for row in plan().parameters]
    one = the(of(tmp_path, update={name: lambda step: 1e-7 for name in names}), "small-updates")
    assert one.sentence() == (
        "all weights: updates are too small: in nine of ten samples at most 1e-7 times the weights of conv1.weight, where "
        "about 0.001 is usual; by step 1000, they moved by at most 0.01% of their size; take a larger learning rate "
        "(`chainrule lr` proposes one)"
    )
    long = dataclasses.replace(plan(), steps=1_000, every=1)
    assert not of(tmp_path / "more", plan=long, update={name: lambda step: 3e-5 for name in names}).findings
    warming = {name: lambda step: 1e-7 for name in names}
    assert not of(tmp_path / "begin", update=warming, until=150).findings, "that may be a warm-up"


def test_small_updates_of_some(tmp_path: Path) -> None:
    one = the(of(tmp_path, update={"conv1.weight": lambda step: 1e-6}), "small-updates")
    assert one.place == "conv1.weight"
    assert one.remedy.endswith("give these a rate of their own (--lr-of)")


def test_parameters_that_never_change(tmp_path: Path) -> None:
    nothing = {"conv1.weight": lambda step: 0.0, "conv1.bias": lambda step: 0.0}
    one = the(of(tmp_path, update=nothing, parameter_gradient=nothing), "no-updates")
    assert one.place == "conv1.weight, conv1.bias"
    assert one.what == "no step changes them: their updates are 0 at every sample, and so are the gradients"
    one = the(of(tmp_path / "a", update={"fc.bias": lambda step: 0.0}), "no-updates")
    assert one.sentence() == (
        "fc.bias: no step changes it: its updates are 0 at every sample, though its gradient is not: what a step would add is "
        "too small to change float32 numbers of its size; take a larger learning rate (`chainrule lr` proposes one)"
    )
    nothing = {"fc.bias": lambda step: 0.0}
    one = the(of(tmp_path / "c", update=nothing, weight=nothing), "no-updates")
    assert one.remedy == "see whether the optimizer holds it and its rate is above 0", "anything changes a 0"
    assert not of(tmp_path / "b", update={"fc.bias": until(900, 0.001, 0.0)}).findings


# ---- activations


def test_exploding_activations(tmp_path: Path) -> None:
    grown = {"conv2": until(99, 0.5, 2000), "relu2": until(99, 0.3, 1500)}
    one = the(of(tmp_path, activation=grown), "exploding-activations")
    assert one.place == "conv2 (conv2d)"
    assert one.what == "activations explode: their root mean square is 0.5 at step 1 and 2000 at step 100"
    assert not of(tmp_path / "a", activation={"conv2": until(99, 0.5, 90)}).findings
    assert not of(tmp_path / "b", activation={"conv1": until(99, 120, 200)}).findings, "the images go from 0 to 255"
    one = the(of(tmp_path / "c", activation={"conv2": until(400, 0.5, math.nan)}), "exploding-activations")
    assert "- at step 425" in one.what


def test_vanishing_activations(tmp_path: Path) -> None:
    weak = {"conv2": until(300, 1.0, 1e-6), "relu2": until(300, 1.0, 1e-6)}
    one = the(of(tmp_path, activation=weak), "vanishing-activations")
    assert one.sentence().startswith(
        "conv2 (conv2d): activations vanish from step 325 on: their root mean square is 1e-6, and 1 at conv1 (conv2d); "
    )
    assert not of(tmp_path / "a", activation={"conv1": lambda step: 100.0, "conv2": lambda step: 1e-3}).findings


def test_outputs_of_zeros(tmp_path: Path) -> None:
    one = the(of(tmp_path, zeros={"relu1": until(99, 0.5, 1.0), "conv2": until(99, 0.0, 1.0)}), "zero-outputs")
    assert (one.place, one.what) == ("relu1 (relu)", "all outputs are 0 from step 100 on")
    one = the(of(tmp_path / "a", zeros={"relu1": lambda step: 0.9995}), "zero-outputs")
    assert one.what == "nearly all outputs are 0 from the beginning on"
    assert not of(tmp_path / "b", zeros={"relu1": lambda step: 0.99}).findings
    assert not of(tmp_path / "c", zeros={"relu1": until(500, 1.0, 0.5)}).findings, "that is over"


# ---- gradients


def test_vanishing_gradients(tmp_path: Path) -> None:
    factors = dict(zip([row.split()[0] for row in LAYERS], [1e-9, 1e-8, 1e-4, 1e-3, 0.1], strict=True))
    weak = {
        name: (lambda step, value=value: value * (0.5 if step == 50 and value == 1e-9 else 1))
        for name, value in factors.items()
    }
    one = the(of(tmp_path, gradient=weak), "vanishing-gradients")
    assert one.place == "conv1 (conv2d) to fc (matmul)"
    assert one.what == (
        "gradients vanish towards the input: their norm falls from 0.1 at fc (matmul) to 5e-10 at conv1 (conv2d), by a "
        "factor of 2e8, at step 50, where it is worst"
    )
    assert not of(tmp_path / "a", gradient={"conv1": lambda step: 2e-4}).findings
    assert not of(tmp_path / "b", gradient={"conv1": until(200, 1e-9, 0.05)}).findings, "that was the beginning only"


def test_where_gradients_vanish_most(tmp_path: Path) -> None:
    weak = {name: lambda step: 1e-6 for name in ("conv1", "relu1")}
    assert the(of(tmp_path, gradient=weak), "vanishing-gradients").what.endswith(
        "where it is worst, most of it (1e5) from conv2 (conv2d) to relu1 (relu)"
    )


def test_gradients_that_explode_towards_the_input(tmp_path: Path) -> None:
    one = the(of(tmp_path, gradient={"conv1": lambda step: 2e4, "relu1": lambda step: 500.0}), "exploding-gradients")
    assert one.what.startswith(
        "gradients explode towards the input: their norm grows from 0.1 at fc (matmul) to 20000 at conv1"
    )


def test_gradients_that_explode_at_a_step(tmp_path: Path) -> None:
    jump = {"conv2.weight": lambda step: 50.0 if step == 300 else 0.1}
    one = the(of(tmp_path, parameter_gradient=jump), "exploding-gradients")
    assert one.place == "conv2.weight"
    assert one.what == "gradients explode at step 300: the norm of all of them, 0.24 until then, is 50"
    assert not of(tmp_path / "a", parameter_gradient={"conv2.weight": lambda step: 5.0 if step == 300 else 0.1}).findings
    falling = {row.name: (lambda step: 0.1 if step in (1, 900) else 1e-5) for row in plan().parameters}
    assert not of(tmp_path / "b", parameter_gradient=falling).findings, "it is as at the beginning again"


def test_gradients_that_nobody_measured_do_not_explode(tmp_path: Path) -> None:
    names = [row.name for row in plan().parameters]
    assert not of(tmp_path, parameter_gradient={name: lambda step: math.nan for name in names}).findings
    infinite = {"fc.weight": until(200, 0.1, math.inf)}
    assert the(of(tmp_path / "a", parameter_gradient=infinite), "exploding-gradients").what.endswith("until then, is inf")


def test_a_gradient_that_goes_no_further(tmp_path: Path) -> None:
    none = {name: until(99, 0.1, 0.0) for name in ("conv1", "relu1", "conv2")}
    behind = {f"{name}.{kind}": until(99, 0.1, 0.0) for name in ("conv1", "conv2") for kind in ("weight", "bias")}
    relu2 = {"relu2": until(99, 0.5, 1.0)}
    one = the(of(tmp_path, gradient=none, parameter_gradient=behind, zeros=relu2), "no-gradient")
    assert one.place == "relu2 (relu)"
    assert one.what == (
        "no gradient passes it from step 100 on, so that nothing in front of it is trained: all its outputs are 0"
    )
    assert not of(tmp_path / "a", gradient={"conv2": lambda step: 0.0}).findings, "a branch alone"
    frozen = {name: lambda step: math.nan for name in ("conv1", "relu1")}
    assert not of(tmp_path / "b", gradient=frozen).findings, "none arrives at frozen layers"
    assert not of(tmp_path / "c", gradient=none).findings, "the parameters behind it are trained, on another way"


def test_a_layer_beside_one_that_gets_no_gradient_does_not_stop_it(tmp_path: Path) -> None:
    """As in relu(a(x)).sum(1) * 0.3 * onehot + c(x): nothing says that c reads the images, but that it learns."""
    none = {"conv1": lambda step: 0.0}
    behind = {f"conv1.{kind}": lambda step: 0.0 for kind in ("weight", "bias")}
    beside = plan(layers=("conv1 conv2d", "c matmul"))
    assert not of(tmp_path, plan=beside, gradient=none, parameter_gradient=behind).findings
    reads_zeros = {**behind, "c.weight": lambda step: 0.0}
    one = the(of(tmp_path / "a", plan=beside, gradient=none, parameter_gradient=reads_zeros), "no-gradient")
    assert one.place == "c (matmul)"


# ---- the loss


def test_a_plateau(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(1001) * 0.02
    one = the(of(tmp_path, loss=lambda step: max(2.3 - step / 500, 1.9) + noise[step]), "plateau")
    assert one.place == "loss"
    assert "at step 1000, it is no better than at about step 2" in one.what
    assert one.what.endswith("now, 2.295 at the first steps")
    one = the(of(tmp_path / "a", loss=lambda step: 2.3 + noise[step]), "plateau")
    assert one.what.startswith("at step 1000, it is no better than it was at the beginning: 2.298 now, ")
    one = the(of(tmp_path / "b", loss=lambda step: (0.5 if 300 < step < 500 else 2.3) + noise[step]), "plateau")
    assert one.what.endswith(", 0.4882 at about step 375")


def test_a_loss_with_label_smoothing_or_mixtures_does_not_fall_to_zero(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(1001) * 0.02
    network = dataclasses.replace(plan(), layers=[*plan().layers[:-1], dataclasses.replace(plan().layers[-1], size=10)])

    def record(name: str, least: float) -> HealthRecord:
        recording = Recording(plan=network, loss=lambda step: max(2.316 - step / 100, least) + noise[step])
        return read_health(recording.write(tmp_path / name))

    low, high = record("low", 1.6), record("high", 2.2)
    assert judged("run", low).findings.names == ("plateau",)
    assert not judged("run", low, Aim(smoothing=0.4)).findings, "at least 1.44 with these labels"
    assert not judged("run", low, Aim(mixed=True)).findings
    assert not judged("run", low, Aim(0.4, mixed=True)).findings
    one = the(judged("run", high, Aim(smoothing=0.4)), "plateau")
    assert one.what.endswith("; this is the loss that is minimised, with a label smoothing of 0.4, which is at least 1.444")
    one = the(judged("run", high, Aim(0.1, mixed=True)), "plateau")
    assert one.what.endswith("minimised, with a label smoothing of 0.1 and mixtures of images")
    assert not judged("run", high, Aim(smoothing=1)).findings, "there is nothing to learn"
    assert Aim(0.4).least_loss(low) == pytest.approx(-(0.64 * math.log(0.64) + 0.36 * math.log(0.04)))


def test_the_options_of_a_run_say_which_loss_it_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(1001) * 0.02
    network = dataclasses.replace(plan(), layers=[*plan().layers[:-1], dataclasses.replace(plan().layers[-1], size=10)])
    for smoothing, names in ((0.4, ()), (0.0, ("plateau",))):
        run = RunFolder.new(tmp_path / str(smoothing), Config(label_smoothing=smoothing))
        run.make()
        run.lock.release()
        Recording(plan=network, loss=lambda step: max(2.3 - step / 100, 1.6) + noise[step]).write(run.health)
        assert health(run.path).findings.names == names


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("learning goes on", lambda step: 2.3 - step / 2000),
        ("it is learned", lambda step: 2.3 * 0.97**step + 0.5),
        ("it begins late", lambda step: 2.3 if step < 700 else 2.3 * 0.99 ** (step - 700)),
    ],
)
def test_no_plateau(name: str, losses: Any, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(1001) * 0.02
    assert not of(tmp_path, loss=lambda step: losses(step) + noise[step]).findings, name


def test_the_first_steps_are_no_plateau(tmp_path: Path) -> None:
    assert not of(tmp_path, loss=lambda step: 2.3, until=100).findings


# ---- dead units


def dead(path: Path, units: list[int], at: Any, **more: Any) -> Finding:
    """What is said of units that are alive up to a step, which may depend on the unit."""
    alive = {unit: (lambda step, unit=unit: min(step, at(unit) if callable(at) else at)) for unit in units}
    return the(of(path, alive=alive, **more), "dead-units")


def test_units_that_died_together(tmp_path: Path) -> None:
    large = {"conv2.weight": lambda step: 0.4 if step == 50 else 0.001}
    one = dead(tmp_path, [8, 9, 10, 12], lambda unit: 47 + unit % 3, update=large)
    assert one.place == "relu2 (relu)"
    assert one.what == (
        "4 of 8 units are dead (above 0 for no image of the last epoch); after epochs 1, 2, 3, 4 it was 0, 4, 4, 4; 4 died "
        "together, after steps 47 to 49, when updates were large (that of conv2.weight at step 50, the nearest sample, was 0.4 "
        "times its norm): --step=50 names its images"
    )
    assert one.remedy == (
        "take a smaller learning rate, a longer warm-up or --clip-norm, normalise (BatchNorm), or take LeakyReLU"
    )
    in_front = {"conv1.weight": lambda step: 0.4 if step == 50 else 0.001}
    one = dead(tmp_path / "front", [8, 9, 10, 12], 48, update=in_front)
    assert "when updates were large (that of conv1.weight at step 50, the nearest sample," in one.what


def test_a_large_update_is_named_where_there_was_one(tmp_path: Path) -> None:
    """Not for units that only died within a few steps, whose cause may be anything."""
    one = dead(tmp_path, [8, 9, 10], 337)
    assert one.what.endswith(
        "; 3 died after step 337; the median of their biases went from 0.1 to 0.1, which does not explain it"
    )
    far = {"conv2.weight": lambda step: 0.4 if step == 325 else 0.001}
    assert "together" not in dead(tmp_path / "far", [8, 9, 10], 337, update=far).what
    behind = {"fc.weight": lambda step: 0.4 if step == 325 else 0.001}
    assert "together" not in dead(tmp_path / "behind", [8, 9, 10], 325, update=behind).what
    jump = {"conv2.weight": lambda step: 0.02 if step == 325 else 0.001}
    assert "--step=325 names" in dead(tmp_path / "jump", [8, 9, 10], 325, update=jump).what
    warming = {"conv2.weight": lambda step: min(step, 16) * 0.002}
    assert "together" not in dead(tmp_path / "warm-up", [8, 9, 10], 16, update=warming).what


def test_in_short_epochs_nearly_all_units_die_together(tmp_path: Path) -> None:
    """So that is no evidence: within an eighth of an epoch is."""
    short = {"plan": dataclasses.replace(plan(), steps=32), "update": {"conv2.weight": lambda step: 0.06}}
    one = dead(tmp_path, [8, 9, 10, 11], lambda unit: unit - 6, **short)
    assert "; 4 died after steps 2 to 5; " in one.what
    assert "died together, after step 4, as by" in dead(tmp_path / "at once", [8, 9, 10], 4, **short).what


def test_a_few_dead_units_of_a_training_that_goes_well(tmp_path: Path) -> None:
    one = dead(tmp_path, [8], 337)
    assert one.remedy == "not rare, and the training goes well: its loss fell from 2.33 to 0.0766"
    assert dead(tmp_path / "many", [8, 9], 337).remedy.startswith("take a smaller learning rate")
    stays = of(tmp_path / "stays", alive={8: lambda step: min(step, 337)}, loss=lambda step: 2.3, until=500)
    assert stays.findings[0].remedy.startswith("take a smaller learning rate")


def test_units_whose_bias_drifted(tmp_path: Path) -> None:
    drift = {unit: (lambda step: 0.1 - step / 1000) for unit in (0, 1, 2)}
    one = dead(tmp_path, [0, 1, 2], lambda unit: 300 + 100 * unit, bias=drift)
    assert one.place == "relu1 (relu)"
    assert one.what.startswith("3 of 8 units are dead (above 0 for no image of the last epoch); ")
    assert "after epochs 1, 2, 3, 4 it was 0, 0, 3, 3; " in one.what
    assert "it was 0, 0, 1, 2, and rising; " in dead(tmp_path / "rising", [0, 1], lambda unit: 300 + 400 * unit).what
    assert one.what.endswith("3 died after steps 300 to 500; the median of their biases drifted from 0.1 to -0.4")
    one = dead(tmp_path / "a", [0, 1, 2], lambda unit: 300 + 100 * unit)
    assert one.what.endswith("the median of their biases went from 0.1 to 0.1, which does not explain it")
    one = dead(tmp_path / "b", [3], 400, bias={3: lambda step: 0.1 - step / 1000})
    assert one.what.endswith("one died after step 400; its bias drifted from 0.1 to -0.4")
    none = {unit: (lambda step: math.nan) for unit in range(8)}
    assert dead(tmp_path / "c", [0, 1], lambda unit: 300 + 100 * unit, bias=none).what.endswith("2 died after steps 300 to 400")


def test_units_whose_filters_grew(tmp_path: Path) -> None:
    """Up to the first census after their death: later, weight decay makes them small."""
    grown = {unit: (lambda step: 1 + step / 100 if step <= 500 else 0.1) for unit in (0, 1, 2)}
    one = dead(tmp_path, [0, 1, 2], lambda unit: 300 + 100 * unit, norm=grown)
    assert one.what.endswith(
        "the median of their biases went from 0.1 to 0.1, and the median of the norms of their filters grew from 1 to 6"
    )
    none = {unit: (lambda step: math.nan) for unit in range(8)}
    one = dead(tmp_path / "a", [0, 1, 2], lambda unit: 300 + 100 * unit, norm=grown, bias=none)
    assert one.what.endswith("3 died after steps 300 to 500; the median of the norms of their filters grew from 1 to 6")
    one = dead(tmp_path / "b", [1], 400, norm=grown, bias={1: lambda step: 0.1 - step / 1000})
    assert one.what.endswith("its bias drifted from 0.1 to -0.4, and the norm of its filter grew from 1 to 6")
    (drift,) = of(tmp_path / "c", alive={1: lambda step: min(step, 400)}, norm=grown).facts()["units"][0]["drift"]
    assert drift == {"unit": 1, "died_after": 400, "bias_before": 0.1, "bias": 0.1, "weight_before": 1.0, "weight": 6.0}


def test_units_that_never_were_alive(tmp_path: Path) -> None:
    one = dead(tmp_path, [1, 2], 0)
    assert one.what == (
        "2 of 8 units are dead (above 0 for no image of the last epoch); they were never alive since the initialisation, by "
        "the weights that they began with"
    )
    assert one.remedy.startswith("begin with biases of 0")
    one = dead(tmp_path / "a", [1], 0, bias={1: lambda step: -100.0})
    assert one.what == (
        "1 of 8 units is dead (above 0 for no image of the last epoch); one was never alive since the initialisation, with "
        "biases of about -100"
    )


def test_a_layer_behind_one_that_is_dead(tmp_path: Path) -> None:
    alive = {unit: lambda step: 0 for unit in (*range(8), 9, 10)}
    zeros = {"relu1": lambda step: 1.0}
    first, second = of(tmp_path, alive=alive, zeros=zeros).findings
    assert (first.name, second.name) == ("dead-units", "dead-units"), "the zeros are explained by the dead units"
    assert first.what.startswith("8 of 8 units are dead")
    assert second.what.endswith("as relu1 (relu) before it is dead as a whole, or by the weights that they began with")
    assert second.remedy == "see to relu1 (relu) first"


def test_units_that_died_in_the_last_epoch(tmp_path: Path) -> None:
    one = dead(tmp_path, [0, 1, 2], 800)
    assert one.what.startswith("3 of 8 units are silent (not above 0 for half an epoch or longer); 3 died after step 800; ")
    assert not of(tmp_path / "a", alive={unit: (lambda step: min(step, 900)) for unit in (0, 1, 2)}).findings
    both = of(tmp_path / "b", alive={0: lambda step: min(step, 500), 1: lambda step: min(step, 800)}).findings
    assert "; 1 more is silent" in both[0].what


def test_units_that_came_back(tmp_path: Path) -> None:
    alive = {0: lambda step: min(step, 200) if step < 1000 else 1000, 1: lambda step: min(step, 100)}
    one = the(of(tmp_path, alive=alive), "dead-units")
    assert "; 1 that had been dead came back;" in one.what
    found = of(tmp_path / "a", alive={0: alive[0]})
    assert not found.findings
    assert [row.revived for row in found.units] == [1, 0]
    again = {0: lambda step: min(step, 100) if step < 750 else 510}
    (row, _) = of(tmp_path / "c", alive=again).units
    assert (row.revived, int(row.silent.sum()), int(row.dead.sum())) == (0, 0, 1)
    again = {0: lambda step: min(step, 100) if step < 1000 else 760}
    (row, _) = of(tmp_path / "d", alive=again).units
    assert (row.revived, int(row.silent.sum())) == (0, 1), "it is silent again"
    assert [row.counts.tolist() for row in found.units] == [[0, 1, 1, 0], [0, 0, 0, 0]]


def test_many_layers_with_dead_units(tmp_path: Path) -> None:
    rows = tuple(
        f"{kind}{place} {operation}" for place in range(6) for kind, operation in (("conv", "conv2d"), ("relu", "relu"))
    )
    found = of(tmp_path, plan=plan(layers=rows), alive={unit: (lambda step: 0) for unit in range(0, 48, 2)})
    assert [one.place for one in found.findings] == ["relu0 (relu)", "relu1 (relu)", "relu2 (relu)", "further layers"]
    assert found.findings[-1].what == "so it is in 3 more layers; in all, 24 of 48 units are dead"


def test_silences_are_known_times(tmp_path: Path) -> None:
    alive = {
        0: lambda step: min(step, 200) if step < 1000 else 990,
        1: lambda step: 0,
        2: lambda step: min(step, 800),
        3: lambda step: min(step, 900),
    }
    record = read_health(Recording(alive=alive).write(tmp_path / "health.bin"))
    assert silences(record).tolist() == [[0, 200, 750], [1, 0, 1000], [2, 800, 1000]]


def test_before_the_first_epoch_is_over_nothing_is_known_of_units(tmp_path: Path) -> None:
    found = of(tmp_path, until=200, alive={0: lambda step: 0})
    assert list(found.units) == []
    assert not found.findings
    assert silences(found.record).shape == (0, 3)
    assert "Dead units" not in str(found)


# ---- tables and facts


def test_tables_by_layer(tmp_path: Path) -> None:
    found = of(tmp_path, activation={"fc": lambda step: float(step)}, gradient={"conv1": lambda step: math.nan})
    layers, parameters, units = found.tables()
    assert layers.title == "Layers at steps 1, 500 and 1000"
    assert layers.rows[0] == ("conv1 (conv2d)", "1   1    1", "30% 30% 30%", "  -   -   -")
    assert layers.rows[-1][1] == "1 500 1000"
    assert parameters.rows[0] == ("conv1.weight", "1 1 1", "0.1 0.1 0.1", "0.001 0.001 0.001")
    assert units.title == "Dead units after epochs 1, 3 and 4"
    assert units.rows[1][:3] == ("relu2 (relu)", "8", "0 0 0")
    many = of(tmp_path / "many", plan=plan(channels=16), alive={unit: (lambda step: min(step, 600)) for unit in range(12)})
    assert [row[2] for row in many.units_table().rows] == ["0 0 12", "0 0  0"]
    assert all(len(line) <= 80 for line in str(found).splitlines())


def test_numbers_are_written_in_one_way() -> None:
    assert [number_text(value) for value in (4e7, 0.012, 110, 260, math.nan, math.inf)] == [
        "4e7",
        "0.012",
        "110",
        "260",
        "-",
        "inf",
    ]
    assert [number_text(value, 4) for value in (2.29634, 123456.7, 1.2344e-9)] == ["2.296", "1.235e5", "1.234e-9"]


def test_a_layer_that_runs_twice_has_two_names(tmp_path: Path) -> None:
    found = of(tmp_path, plan=plan(layers=("a conv2d", "b relu", "c conv2d", "b relu")), zeros={"b": lambda step: 1.0})
    assert [row[0] for row in found.contents().rows] == ["a (conv2d)", "b (relu)", "c (conv2d)", "b (relu, 2)"]
    assert [one.label for one in found.units] == ["b (relu)", "b (relu, 2)"]


def test_facts_are_json(tmp_path: Path) -> None:
    found = of(tmp_path, gradient={"conv1": lambda step: math.nan}, alive={0: lambda step: min(step, 300)})
    facts = json.loads(json.dumps(found.facts(), allow_nan=False))
    assert facts["shown_steps"] == [1, 500, 1000]
    assert facts["layers"][0] == {
        "layer": "conv1",
        "operation": "conv2d",
        "activation": [1, 1, 1],
        "zeros": [0.3, 0.3, 0.3],
        "gradient": [None, None, None],
    }
    assert facts["parameters"][0]["update_to_weight"] == [0.001] * 3
    assert facts["units"][0]["last_alive"] == {"0": 300}
    assert facts["findings"][0]["name"] == "dead-units"


# ---- runs


def test_a_run_and_its_path(tmp_path: Path) -> None:
    run = RunFolder.new(tmp_path / "run", Config())
    run.make()
    try:
        with pytest.raises(UserError, match=r"has no recording of its health \(health.bin\): it was trained with --no-health"):
            health(run)
        HealthFile(run.health, plan()).append_census(0, 0, alive=np.zeros(16, int), bias=np.zeros(16), weight=np.zeros(16))
        with pytest.raises(UserError, match="has no sample yet: wait until the first step is done"):
            health(run.path)
        run.health.unlink()
        Recording(until=8).write(run.health)
        found = health(str(run.path))
        assert (found.run, found.step) == (str(run.path), 8)
        assert found.about() == "4 samples up to step 8 of 1,000, one every 25 steps"
        assert found.sentences() == ["nothing stands out"]
        with pytest.raises(UserError, match="there is no run folder"):
            health(tmp_path / "nowhere")
    finally:
        run.lock.release()


def test_the_page_tells_of_each_finding() -> None:
    folder = Path(diagnosis.__file__).parent
    sources = [(folder / f"{name}.py").read_text() for name in ("flow_findings", "dead_units")]
    said = {name for source in sources for name in re.findall(r'Finding\("([a-z-]+)"|name, what = "([a-z-]+)"', source)}
    page = (Path(__file__).parents[1] / "docs" / "health.md").read_text()
    assert {one or other for one, other in said} == set(re.findall(r"^\| ([a-z]+-[a-z]+|plateau) \|", page, re.MULTILINE))


# ---- the picture


def test_the_picture_shows_all_parts(tmp_path: Path) -> None:
    found = judged("runs/x", read_health(failing().write(tmp_path / "health.bin")))
    drawing = health_picture(found)
    words = [one.text for one in drawing.shapes if isinstance(one, Words)]
    assert words[0] == "Health of runs/x"
    assert words[2].startswith("stands out: large-updates at conv2.weight, exploding-activations at conv2 (conv2d)")
    for part in (
        "loss of the batch",
        "conv1 (conv2d)",
        "conv1.weight",
        "relu2 (relu)",
        "60 of 120",
        "80 of 120",
        "1,000",
        "1e-7",
    ):
        assert part in words, part
    assert "conv1.bias" not in words
    assert drawing.svg().startswith("<svg")
    assert all(one.x >= 0 and one.x + one.width <= drawing.width for one in drawing.shapes if isinstance(one, Box))
    assert all(one.y >= 0 and one.y + one.height <= drawing.height for one in drawing.shapes if isinstance(one, Box))


def test_colours_of_the_picture_are_read_without_colours() -> None:
    """Brightness goes one way along a scale from which numbers are read, and away from the middle of the one with a middle."""

    def brightness(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    for colours, direction in ((VIRIDIS, 1), (SHARES, -1), (AROUND_USUAL[:4], 1), (AROUND_USUAL[3:], -1)):
        levels = [direction * brightness(colour) for colour in colours]
        assert levels == sorted(levels)


def test_many_samples_and_layers_are_drawn_as_far_as_there_is_room(tmp_path: Path) -> None:
    rows = tuple(
        f"block{place}.{kind} {operation}" for place in range(60) for kind, operation in (("conv", "conv2d"), ("relu", "relu"))
    )
    recording = Recording(
        plan=plan(steps=10_000, layers=rows), update={"block3.conv.weight": lambda step: 0.3 if step == 5025 else 0}
    )
    found = judged("run", read_health(recording.write(tmp_path / "health.bin")))
    drawing = health_picture(found)
    words = [one.text for one in drawing.shapes if isinstance(one, Words)]
    assert any("a column shows the largest of up to 3" in one for one in words)
    assert any("(60 of 120 layers)" in one for one in words)
    assert {"block0.conv (conv2d)", "block59.conv (conv2d)"} <= set(words), "the first and the last row have their names"
    assert len(drawing.svg()) < 1_000_000
    usual = Recording(plan=plan(steps=10_000, layers=rows)).write(tmp_path / "usual.bin")
    assert health_picture(judged("run", read_health(usual))).svg() != drawing.svg(), "a single sample is seen"


def test_the_picture_of_a_training_that_diverges_shows_the_healthy_part(tmp_path: Path) -> None:
    recording = Recording(
        gradient={row.path: (lambda step: 0.05 if step < 20 else 1e12 * step) for row in plan().layers},
        loss=lambda step: 2.3 if step < 20 else 1e12,
    )
    drawing = health_picture(judged("run", read_health(recording.write(tmp_path / "health.bin"))))
    words = [one.text for one in drawing.shapes if isinstance(one, Words)]
    assert {"1e8 or more", "0.01"} <= set(words)
    assert "loss of the batch, on a logarithmic axis" in words
    weak = Recording(gradient={row.path: (lambda step: 0.05 if step < 20 else 1e-20) for row in plan().layers})
    drawing = health_picture(judged("run", read_health(weak.write(tmp_path / "weak.bin"))))
    words = [one.text for one in drawing.shapes if isinstance(one, Words)]
    assert {"1e-11 or less", "0.1", "loss of the batch"} <= set(words)


def test_a_picture_of_hardly_anything(tmp_path: Path) -> None:
    none = dataclasses.replace(plan(), units=())
    for place, recording in enumerate(
        (
            Recording(until=1),
            Recording(plan=none),
            Recording(gradient={row.path: lambda step: math.nan for row in plan().layers}),
            Recording(gradient={row.path: lambda step: 0.0 for row in plan().layers}, loss=lambda step: math.nan),
        )
    ):
        found = judged("run", read_health(recording.write(tmp_path / f"{place}.bin")))
        assert "nan" not in health_picture(found).svg()


# ---- the command


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a run that is over."""
    run = RunFolder.new(tmp_path / "run", Config())
    run.make()
    run.lock.release()
    run.result.write_text("{}")
    return run.path


def test_the_command(finished: Path) -> None:
    failing().write(finished / "health.bin")
    out = done("health", finished)
    assert out.startswith(
        "45 samples up to step 1,000 of 1,000, one every 25 steps\n\nlarge-updates\n  conv2.weight: updates are "
    )
    for title in ("Layers at steps 1, 500 and 1000\n", "Parameters at steps ", "Dead units after epochs 1, 3 and 4\n"):
        assert f"\n{title}" in out
    assert out.endswith(f"\ndrawing: {finished}/health/health.svg\n")
    with Image.open(finished / "health" / "health.png") as picture:
        assert picture.width == 1920
    facts = json.loads(done("health", finished, "--json", "--out", finished / "mine"))
    assert facts["folder"] == str(finished / "mine")
    assert facts["findings"][0]["name"] == "large-updates"
    kept = json.loads((finished / "mine" / "health.json").read_text())
    assert {**kept, "folder": facts["folder"]} == {"kind": "chainrule health report", **facts}
    assert done("health", finished) == out, "an earlier look is replaced"


def test_the_command_of_a_healthy_training_that_still_runs(finished: Path) -> None:
    (finished / "result.json").unlink()
    Recording(until=310).write(finished / "health.bin")
    content = (finished / "health.bin").read_bytes()
    (finished / "health.bin").write_bytes(content[:-7])
    out = done("health", finished)
    assert out.startswith(
        "16 samples up to step 275 of 1,000, one every 25 steps\n\nnothing stands out\n\nLayers at steps 1, 125 and 275"
    )


def test_two_real_trainings(tmp_path: Path) -> None:
    """The same network with a good learning rate, and with one that is far too large."""
    idx_folder(tmp_path / "patterns", training=96)
    options = ("--data", tmp_path / "patterns", "--model", "lenet", "--batch-size", 8, "--epochs", 4)
    done("train", *options, "--lr", 0.02, "--out", tmp_path / "good")
    noted("train", *options, "--lr", 10, "--out", tmp_path / "hot")
    assert set(health(tmp_path / "good").findings.names) <= {"dead-units"}, "four patterns make few units live"
    found = health(tmp_path / "hot")
    assert {"large-updates", "dead-units"} <= set(found.findings.names)
    assert found.findings[0].place.endswith(".weight")
    assert "died" in str(found)
    done("health", tmp_path / "hot")


def test_what_the_command_refuses(finished: Path) -> None:
    assert refused("health", finished) == (
        f"{finished} has no recording of its health (health.bin): it was trained with --no-health, by an older chainrule, or "
        "on the reference engine, which records none, or its health.bin was removed: train it again"
    )
    Recording().write(finished / "health.bin")
    assert refused("health", finished, "--out", finished).startswith(
        f"{finished} contains files that are not of a health report"
    )
    content = bytearray((finished / "health.bin").read_bytes())
    content[content.index(b"\n") + 20] ^= 1
    (finished / "health.bin").write_bytes(content)
    assert "health.bin, record 1, is damaged" in refused("health", finished)
    content[40] ^= 1
    (finished / "health.bin").write_bytes(content)
    assert "health.bin, its first line is damaged" in refused("health", finished)
    assert not (finished / "health").exists()


def test_what_lies_before_a_damaged_record_is_shown(finished: Path) -> None:
    Recording().write(finished / "health.bin")
    content = bytearray((finished / "health.bin").read_bytes())
    content[-100] ^= 1
    (finished / "health.bin").write_bytes(content)
    out = done("health", finished)
    assert out.startswith(
        "45 samples up to step 1,000 of 1,000, one every 25 steps\n\nonly what lies before the damage is shown: "
    )
    assert "health.bin, record 50, is damaged, as its checksum is not that of its numbers: " in out
    facts = json.loads(done("health", finished, "--json"))
    assert (facts["samples"], facts["census_epochs"]) == (45, [0, 1, 2, 3])
    assert "record 50, is damaged" in facts["damage"]
    assert "only what lies before the damage is shown" in str(health(finished))


def test_a_run_that_nothing_can_be_written_into(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even root may write into a folder of any mode, so the error is made."""

    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    Recording().write(finished / "health.bin")
    monkeypatch.setattr(Path, "mkdir", read_only)
    out = done("health", finished)
    assert "\nLayers at steps " in out
    assert "\nno drawing: " in out
    assert out.endswith(": name another folder with --out\n")
    facts = json.loads(done("health", finished, "--json"))
    assert (facts["samples"], facts["folder"]) == (45, None)
    assert not (finished / "health").exists()
    refused("health", finished, "--out", finished / "mine")


def test_a_training_that_ended_between_two_samples(tmp_path: Path) -> None:
    short = dataclasses.replace(plan(), steps=64, units=())
    record = read_health(Recording(plan=short, epochs=1, until=63).write(tmp_path / "health.bin"))
    about = "7 samples up to step 50 of 64, one every 25 steps"
    assert judged("run", record).about() == about
    assert judged("run", record, ended=True).about() == f"{about}; the training is over"
