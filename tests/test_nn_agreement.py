"""Every layer and loss against PyTorch: the same parameters and inputs, outputs and gradients to 1e-5.

What PyTorch says lies in ``tests/expected`` (see ``scripts/expected_from_torch.py``), so nothing here needs it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import chainrule as cr
from chainrule import models, nn, optim
from expected import cases

FOLDER = Path(__file__).parent / "expected"
NAMES = json.loads((FOLDER / "names.json").read_text())
STATES: dict[str, list[list[Any]]] = NAMES["states"]
SIGNATURES: dict[str, list[list[Any]]] = NAMES["signatures of nn"]
Arrays = dict[str, np.ndarray]

CONTAINERS = {"Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"}  # they compute nothing themselves
TORCHVISIONS = {"StochasticDepth"}  # tested in test_nn_layers.py
DEFAULTS_OF_OUR_OWN = {
    (name, "dim"): "PyTorch has no default and guesses; ours is the last axis" for name in ("Softmax", "LogSoftmax")
}


def by_case(file: str) -> dict[str, Arrays]:
    """The arrays of a file: case -> name -> array."""
    found: dict[str, Arrays] = {}
    for key, array in load_file(FOLDER / file).items():
        case, _, name = key.partition("/")
        found.setdefault(case, {})[name] = array
    return found


LAYERS, LOSSES, LENET = by_case("layers.safetensors"), by_case("losses.safetensors"), by_case("lenet.safetensors")["lenet"]
FUNCTIONS = by_case("functions.safetensors")


def below(arrays: Arrays, folder: str) -> Arrays:
    return {name.removeprefix(folder + "/"): array for name, array in arrays.items() if name.startswith(folder + "/")}


def close(found: Any, expected: np.ndarray, what: str) -> None:
    values = np.asarray(found)
    assert values.dtype == expected.dtype, f"{what}: {values.dtype}, PyTorch {expected.dtype}"
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5, err_msg=what)


def gradients(model: nn.Module) -> Arrays:
    return {name: np.asarray(parameter.grad) for name, parameter in model.named_parameters()}


def all_close(found: Arrays, expected: Arrays) -> None:
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        close(found[name], array, name)


def by_reference(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` on NumPy alone."""

    def run(*inputs: Any) -> Any:
        with cr.engine("reference"):
            return f(*inputs)

    return run


all_ways = pytest.mark.parametrize("way", [lambda f: f, cr.compile, by_reference], ids=["plain", "compiled", "reference"])


@all_ways
@pytest.mark.parametrize("case", cases.LAYERS, ids=lambda case: case.name)
def test_layer_agrees_with_pytorch(case: cases.Layer, way: Callable[..., Any]) -> None:
    expected = LAYERS[case.name]
    layer = getattr(nn, case.layer)(**case.arguments)
    layer.load_state_dict(below(expected, "state"))
    for batch in expected.get("earlier", ()):
        layer(cr.tensor(batch))
    layer.train(case.training)
    x = cr.tensor(expected["input"], requires_grad=case.values != "places")

    @way
    def step(x: cr.Tensor, upstream: cr.Tensor) -> cr.Tensor:
        output = layer(x)
        output.backward(upstream)
        return output

    close(step(x, cr.tensor(expected["upstream"])), expected["output"], "output")
    of_input = {"input": np.asarray(x.grad)} if x.requires_grad else {}
    all_close({**of_input, **gradients(layer)}, below(expected, "gradient"))
    all_close({name: buffer.numpy() for name, buffer in layer.named_buffers()}, below(expected, "after"))


@all_ways
@pytest.mark.parametrize("case", cases.FUNCTIONS, ids=lambda case: case.name)
def test_function_agrees_with_pytorch(case: cases.Function, way: Callable[..., Any]) -> None:
    expected = FUNCTIONS[case.name]
    given = below(expected, "input")
    inputs = [cr.tensor(given[str(place)], requires_grad=kind == "normal") for place, (kind, _) in enumerate(case.inputs)]

    @way
    def step(upstream: cr.Tensor, *inputs: cr.Tensor) -> cr.Tensor:
        output = getattr(nn.functional, case.function)(*inputs, **case.arguments)
        output.backward(upstream)
        return output

    close(step(cr.tensor(expected["upstream"]), *inputs), expected["output"], "output")
    all_close(
        {str(place): np.asarray(one.grad) for place, one in enumerate(inputs) if one.requires_grad}, below(expected, "gradient")
    )


@all_ways
@pytest.mark.parametrize("case", cases.LOSSES, ids=lambda case: case.name)
def test_loss_agrees_with_pytorch(case: cases.Loss, way: Callable[..., Any]) -> None:
    expected = LOSSES[case.name]
    x = cr.tensor(expected["input"], requires_grad=True)

    @way
    def step(x: cr.Tensor, target: cr.Tensor, upstream: cr.Tensor) -> cr.Tensor:
        loss = getattr(nn, case.loss)(**case.arguments)(x, target)
        loss.backward(upstream)
        return loss

    loss = step(x, cr.tensor(expected["target"]), cr.tensor(expected["upstream"]))
    close(loss, expected["output"], "loss")
    close(x.grad, expected["gradient/input"], "gradient")


def test_lenet_agrees_with_pytorch_over_three_steps() -> None:
    model = models.lenet(size=cases.LENET_SIZE)
    model.load_state_dict(below(LENET, "before"))
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    images, labels = cr.tensor(LENET["images"]), cr.tensor(LENET["labels"])
    for step, expected in enumerate(LENET["losses"]):
        optimizer.zero_grad()
        scores = model(images)
        loss = nn.functional.cross_entropy(scores, labels)
        loss.backward()
        close(loss, expected, f"loss of step {step}")
        if step == 0:
            close(scores, LENET["scores"], "scores")
            all_close(gradients(model), below(LENET, "gradient"))
        optimizer.step()
    all_close(model.state_dict(), below(LENET, "after"))


def test_the_lenet_of_the_cases_is_the_one_of_the_package() -> None:
    assert repr(cases.lenet(nn)) == repr(models.lenet(size=cases.LENET_SIZE))


# ---- names


def listed(model: nn.Module) -> list[list[Any]]:
    return [[name, list(array.shape), array.dtype.name] for name, array in model.state_dict().items()]


@pytest.mark.parametrize("case", cases.LAYERS, ids=lambda case: case.name)
def test_state_dict_of_a_layer_has_pytorchs_names_and_shapes(case: cases.Layer) -> None:
    assert listed(getattr(nn, case.layer)(**case.arguments)) == STATES[case.name]


def test_state_dicts_of_models_have_pytorchs_names_shapes_and_order() -> None:
    assert listed(models.lenet()) == STATES["lenet"]
    assert listed(cases.nested(nn)) == STATES["nested"]


def test_state_of_a_model_from_pytorch_loads_as_it_is() -> None:
    state = {name: np.full(shape, 3, dtype) for name, shape, dtype in STATES["nested"]}
    model = cases.nested(nn)
    model.load_state_dict(state)
    assert all((array == 3).all() for array in model.state_dict().values())


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_have_pytorchs_names_order_and_defaults(name: str) -> None:
    theirs = {argument[0]: argument[1:] for argument in SIGNATURES[name]}
    ours = [
        parameter
        for parameter in list(inspect.signature(getattr(nn, name).__init__).parameters.values())[1:]
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name != "dtype"
    ]
    assert [parameter.name for parameter in ours] == [one for one in theirs if one in {parameter.name for parameter in ours}]
    for parameter in ours:
        if (name, parameter.name) not in DEFAULTS_OF_OUR_OWN:
            default = [] if parameter.default is parameter.empty else [parameter.default]
            assert default == theirs[parameter.name], parameter.name


# ---- completeness


def public_modules() -> set[str]:
    found = {name for name in nn.__all__ if inspect.isclass(getattr(nn, name)) and issubclass(getattr(nn, name), nn.Module)}
    return found - CONTAINERS - TORCHVISIONS - {"Module"}


def test_every_public_layer_and_loss_has_a_case() -> None:
    assert {case.layer for case in cases.LAYERS} | {case.loss for case in cases.LOSSES} == public_modules()


def test_every_case_has_its_numbers_and_every_number_its_case() -> None:
    assert [case.name for case in cases.LAYERS] == list(dict.fromkeys(case.name for case in cases.LAYERS))
    assert [case.name for case in cases.LOSSES] == list(dict.fromkeys(case.name for case in cases.LOSSES))
    assert {case.name for case in cases.LAYERS} == set(LAYERS)
    assert {case.name for case in cases.LOSSES} == set(LOSSES)
    assert sorted(case.name for case in cases.FUNCTIONS) == sorted(FUNCTIONS)


@pytest.mark.parametrize("name", sorted({case.loss for case in cases.LOSSES}))
def test_every_loss_has_all_reductions(name: str) -> None:
    found = {case.arguments.get("reduction", "mean") for case in cases.LOSSES if case.loss == name}
    assert found == {"mean", "sum", "none"} | ({"batchmean"} if name == "KLDivLoss" else set())
