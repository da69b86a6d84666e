"""Every optimizer and schedule against PyTorch, step by step: parameters to 1e-5 (float64 ones to the precision of float32, in
which PyTorch's are kept), learning rates to 1e-12.

What PyTorch says lies in ``tests/expected`` (see ``scripts/expected_from_torch.py``), so nothing here needs it.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import chainrule as cr
from chainrule import nn, optim
from expected import cases

FOLDER = Path(__file__).parent / "expected"
NAMES = json.loads((FOLDER / "names.json").read_text())
SIGNATURES: dict[str, list[list[Any]]] = {**NAMES["signatures of optim"], **NAMES["signatures of schedules"]}
OPTIMIZERS = load_file(FOLDER / "optimizers.safetensors")
SCHEDULES = load_file(FOLDER / "schedules.safetensors")


TOLERANCES = {"float32": 1e-5, "float64": 1e-7}


def problem(dtype: str = "float32") -> tuple[dict[str, cr.Parameter], dict[str, Any]]:
    """The parameters, and all values that ``cases.error`` reads."""
    given = {name: OPTIMIZERS[f"problem/{name}"] for name in cases.PROBLEM}
    parameters = {name: cr.Parameter(given[name], dtype) for name in cases.PARAMETERS}
    return parameters, {**{name: cr.tensor(values, dtype) for name, values in given.items()}, **parameters}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", cases.OPTIMIZERS, ids=lambda case: f"{case.optimizer}, {case.name}")
def test_optimizer_takes_pytorchs_steps(case: cases.Optimizer, dtype: str) -> None:
    parameters, values = problem(dtype)
    tolerance = TOLERANCES[dtype]
    groups = [{**group, "params": [parameters[name] for name in group["params"]]} for group in case.groups]
    optimizer = getattr(optim, case.optimizer)(groups if len(groups) > 1 else groups[0]["params"], **case.arguments)
    expected = {name: OPTIMIZERS[f"{case.optimizer}, {case.name}/{name}"] for name in parameters}
    for step in range(1, cases.STEPS + 1):
        optimizer.zero_grad()
        cases.error(values).backward()
        optimizer.step()
        for name, parameter in parameters.items():
            np.testing.assert_allclose(
                parameter, expected[name][step], rtol=tolerance, atol=tolerance, err_msg=f"{name}, step {step}"
            )
            assert parameter.dtype == dtype


@pytest.mark.parametrize("length", cases.CLIPPED_LENGTHS)
def test_clipped_gradients_agree_with_pytorch(length: float) -> None:
    parameters, values = problem()
    cases.error(values).backward()
    before = optim.clip_grad_norm_(parameters.values(), length)
    np.testing.assert_allclose(before, OPTIMIZERS[f"clipped to {length}/length"], rtol=1e-5)
    for name, parameter in parameters.items():
        np.testing.assert_allclose(
            parameter.grad, OPTIMIZERS[f"clipped to {length}/{name}"], rtol=1e-5, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("order", "length"), cases.NORMS)
def test_gradients_clipped_by_other_norms_agree_with_pytorch(order: float, length: float, dtype: str) -> None:
    parameters, values = problem(dtype)
    cases.error(values).backward()
    before = optim.clip_grad_norm_(parameters.values(), length, norm_type=order)
    case, tolerance = f"clipped to {length} by norm {order}", TOLERANCES[dtype]
    np.testing.assert_allclose(before, OPTIMIZERS[f"{case}/length"], rtol=tolerance)
    for name, parameter in parameters.items():
        np.testing.assert_allclose(parameter.grad, OPTIMIZERS[f"{case}/{name}"], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("largest", cases.CLIPPED_VALUES)
def test_gradients_clipped_by_value_agree_with_pytorch(largest: float, dtype: str) -> None:
    parameters, values = problem(dtype)
    cases.error(values).backward()
    assert optim.clip_grad_value_(parameters.values(), largest) is None  # type: ignore[func-returns-value]
    for name, parameter in parameters.items():
        expected = OPTIMIZERS[f"clipped to values of {largest}/{name}"]
        np.testing.assert_allclose(parameter.grad, expected, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype], err_msg=name)


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize(("decay", "buffers"), cases.AVERAGES)
def test_averages_of_weights_agree_with_pytorch_by_name_and_number(decay: float, buffers: bool, compiled: bool) -> None:
    case = f"averages, decay {decay}, {buffers}/"
    given = {key.removeprefix(case): values for key, values in OPTIMIZERS.items() if key.startswith(case)}
    model = cases.averaged(nn).astype("float64")
    model.load_state_dict({key.removeprefix("before/"): values for key, values in given.items() if key.startswith("before/")})
    optimizer, ema = optim.SGD(model.parameters(), lr=0.1), optim.EMA(model, decay, use_buffers=buffers)

    def step(x: cr.Tensor, y: cr.Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        ema.update()

    run = cr.compile(step) if compiled else step
    for _ in range(cases.AVERAGED_STEPS):
        run(cr.tensor(given["x"], "float64"), cr.tensor(given["y"], "float64"))
    theirs = {key.removeprefix("after/"): values for key, values in given.items() if key.startswith("after/")}
    found = ema.state_dict()
    assert set(found) == set(theirs)
    for name, values in theirs.items():
        if buffers and name.endswith("num_batches_tracked"):  # PyTorch averages this count, too, and rounds it down
            assert found[name] == cases.AVERAGED_STEPS
        else:
            np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-7, err_msg=name)
    again = optim.EMA(cases.averaged(nn).astype("float64"), decay, use_buffers=buffers)
    again.load_state_dict(theirs)
    assert again.n_averaged == cases.AVERAGED_STEPS


@pytest.mark.parametrize("case", cases.SCHEDULES, ids=lambda case: case.name)
def test_schedule_sets_pytorchs_values(case: cases.Schedule) -> None:
    groups = [{"params": cr.Parameter(np.zeros(1)), **options} for options in case.groups]
    optimizer = getattr(optim, case.optimizer)(groups, **case.options)
    parts = [getattr(optim, name)(optimizer, **options) for name, options in case.parts]
    schedule = getattr(optim, case.schedule)(optimizer, *([parts] if parts else []), **case.arguments)
    momentum_name = "beta1" if case.optimizer.startswith("Adam") else "momentum"
    for step in range(case.steps):
        for name, option in (("lr", "lr"), ("momentum", momentum_name)):
            for group, expected in zip(optimizer.groups, SCHEDULES[f"{case.name}/{name}"][step], strict=True):
                assert group.value(option) == pytest.approx(expected, rel=1e-12, abs=1e-12), f"{name}, step {step}"
        schedule.step(*case.metrics[step : step + 1])


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_have_pytorchs_names_and_defaults(name: str) -> None:
    theirs = {argument[0]: argument[1:] for argument in SIGNATURES[name]}
    for parameter in list(inspect.signature(getattr(optim, name).__init__).parameters.values())[1:]:
        assert parameter.name in theirs
        expected = [tuple(one) if isinstance(one, list) else one for one in theirs[parameter.name]]
        assert ([] if parameter.default is parameter.empty else [parameter.default]) == expected, parameter.name


def public(base: type) -> set[str]:
    return {
        name
        for name in optim.__all__
        if inspect.isclass(getattr(optim, name)) and issubclass(getattr(optim, name), base) and getattr(optim, name) is not base
    }


def test_every_public_optimizer_and_schedule_has_a_case() -> None:
    assert {case.optimizer for case in cases.OPTIMIZERS} == public(optim.Optimizer)
    assert {case.schedule for case in cases.SCHEDULES} == public(optim.Schedule)
    assert public(object) - public(optim.Optimizer) - public(optim.Schedule) == {"EMA", "Optimizer", "Schedule"}


def test_every_case_has_its_numbers_and_every_number_its_case() -> None:
    optimizers = {f"{case.optimizer}, {case.name}" for case in cases.OPTIMIZERS}
    clipped = {f"clipped to {length}" for length in cases.CLIPPED_LENGTHS}
    clipped |= {f"clipped to {length} by norm {order}" for order, length in cases.NORMS}
    clipped |= {f"clipped to values of {largest}" for largest in cases.CLIPPED_VALUES}
    assert len(optimizers) == len(cases.OPTIMIZERS)
    averages = {f"averages, decay {decay}, {buffers}" for decay, buffers in cases.AVERAGES}
    assert {key.partition("/")[0] for key in OPTIMIZERS} == {"problem"} | optimizers | clipped | averages
    assert {key.partition("/")[0] for key in SCHEDULES} == {case.name for case in cases.SCHEDULES}
