"""Hooks of modules, called as plain code and compiled; and the modules that hold parameters."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import UserError
from chainrule.tensor import Tensor

X = np.array([[1.0, -2.0, 3.0], [0.5, 1.5, -1.0]], np.float32)


def network() -> nn.Sequential:
    cr.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


Run = Callable[[nn.Module], Tensor]


def plain(model: nn.Module) -> Tensor:
    return model(X)


def compiled(model: nn.Module) -> Tensor:
    return cr.compile(lambda x: model(x))(X)


def both(test: Callable[..., Any]) -> Any:
    return pytest.mark.parametrize("run", [plain, compiled])(test)


@both
def test_a_hook_sees_what_passes_and_may_replace_the_output(run: Run) -> None:
    model, seen = network(), []
    expected = run(model).numpy()
    model[1].register_forward_hook(lambda module, inputs, output: seen.append((module, len(inputs), output.shape)))
    np.testing.assert_array_equal(run(model).numpy(), expected)
    assert seen == [(model[1], 1, (2, 4))]
    model[2].register_forward_hook(lambda module, inputs, output: output * 2 + inputs[0].sum())
    hidden = model[1](model[0](X)).numpy()
    np.testing.assert_allclose(run(model).numpy(), 2 * expected + hidden.sum(), rtol=1e-5)


@both
def test_a_hook_before_may_replace_the_input(run: Run) -> None:
    model = network()
    half = model(X / 2).numpy()
    model.register_forward_pre_hook(lambda module, inputs: inputs[0] / 2)
    np.testing.assert_allclose(run(model).numpy(), half, rtol=1e-6)
    model.register_forward_pre_hook(lambda module, inputs: (inputs[0].numpy() * 0 if run is plain else inputs[0] * 0,))
    np.testing.assert_array_equal(run(model).numpy(), model(X * 0).numpy())  # an array is made a tensor again


def test_hooks_run_in_the_order_in_which_they_were_registered_until_they_are_removed() -> None:
    layer, order = nn.Linear(3, 2), []
    handles = [layer.register_forward_hook(lambda *_, name=name: order.append(name)) for name in "abc"]
    layer(X)
    handles[1].remove()
    handles[1].remove()
    layer(X)
    assert order == [*"abc", *"ac"]
    assert repr(handles[0]) == "HookHandle(<lambda>)"
    assert repr(handles[1]) == "HookHandle(<lambda>, removed)"
    with layer.register_forward_pre_hook(lambda *_: order.append("before")):
        layer(X)
    layer(X)
    assert order[5:] == ["before", *"ac", *"ac"]


def test_gradients_pass_through_what_a_hook_computes() -> None:
    for run in (False, True):
        model = network()
        model[0].register_forward_hook(lambda module, inputs, output: output * 3)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x: Any, model: nn.Module = model, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        (cr.compile(step) if run else step)(cr.tensor(X))
        if not run:
            expected = model.state_dict()
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7)


def test_a_compiled_function_is_traced_again_when_a_hook_comes_goes_or_reads_another_number() -> None:
    model, scale = network(), {"by": 2.0}
    f = cr.compile(lambda x: model(x))
    expected = f(X).numpy()
    handle = model[1].register_forward_hook(lambda module, inputs, output: output * scale["by"])
    twice = f(X).numpy()
    np.testing.assert_allclose(twice, model(X).numpy(), rtol=1e-6)
    assert f.explain_retrace().endswith("ReLU.hooks changed from None to a tuple of 1")
    scale["by"] = 0.0
    np.testing.assert_allclose(f(X).numpy(), model(X).numpy(), rtol=1e-6)
    assert not np.allclose(f(X).numpy(), twice)
    handle.remove()
    np.testing.assert_array_equal(f(X).numpy(), expected)
    assert len(f.explain_retrace().splitlines()) == 3  # the first program is used again


def test_a_tensor_that_a_hook_stores_while_a_function_is_compiled_says_that_it_has_no_numbers() -> None:
    model, kept = network(), []
    model[0].register_forward_hook(lambda module, inputs, output: kept.append(output))
    cr.compile(lambda x: model(x))(X)
    with pytest.raises(UserError, match="inside a traced function a tensor has a shape and a dtype but no numbers yet"):
        kept[0].numpy()


def test_what_a_hook_computes_belongs_to_the_layer_and_its_errors_name_it() -> None:
    model = network()
    model[1].register_forward_hook(lambda module, inputs, output: output * 2)
    assert model(X).node.inputs[0].inputs[0].origin.module == "1"
    model[1].register_forward_hook(lambda module, inputs, output: output @ output)
    with pytest.raises(UserError, match=r"^layer 1 \(ReLU\): "):
        model(X)


def test_the_summary_counts_what_hooks_do() -> None:
    model = network()
    model[0].register_forward_hook(lambda module, inputs, output: output[:, :4])
    assert "26 parameters" in str(model.summary((2, 3)))


def test_copies_have_the_hooks_of_the_model() -> None:
    model, calls = network(), []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    copied = copy.deepcopy(model)
    copied(X)
    assert calls == [1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda layer: layer.register_forward_hook(3),
            "register_forward_hook: needs a function that is called as hook(module, inputs, output), got a int",
        ),
        (
            lambda layer: layer.register_forward_hook(lambda module, output: output),
            "register_forward_hook: the hook is called as hook(module, inputs, output), which <lambda> does not take: too many",
        ),
        (
            lambda layer: layer.register_forward_pre_hook(lambda module: None),
            "register_forward_pre_hook: the hook is called as hook(module, inputs), which <lambda> does not take: too many",
        ),
        (lambda layer: layer.register_forward_hook(print, with_kwargs=True), "unknown argument 'with_kwargs'"),
    ],
)
def test_what_is_no_hook_is_refused_when_it_is_registered(call: Callable[[nn.Module], Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        call(nn.ReLU())
    assert words in str(caught.value)


# ---- parameters in lists and dicts


class Scaled(nn.Module):
    """Two layers' worth of parameters, which are held by a list and by a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ParameterList([np.float32([2, 1, 0]), cr.Parameter([3.0])])
        self.shifts = nn.ParameterDict({"low": cr.ones(3), "high": cr.Parameter([0.5, 0, 0])})

    def forward(self, x: Tensor) -> Tensor:
        for scale in self.scales:
            x = x * scale
        return x + self.shifts["low"] - self.shifts["high"]


def test_parameters_in_lists_and_dicts_belong_to_the_model() -> None:
    model = Scaled()
    assert [name for name, _ in model.named_parameters()] == ["scales.0", "scales.1", "shifts.low", "shifts.high"]
    expected = X * [6, 3, 0] + [0.5, 1, 1]
    np.testing.assert_allclose(model(X).numpy(), expected)
    step = cr.compile(lambda x: model(x).sum().backward())
    step(cr.tensor(X))
    np.testing.assert_allclose(model.scales[0].grad.numpy(), 3 * X.sum(0), rtol=1e-6)
    np.testing.assert_allclose(model.shifts["high"].grad.numpy(), [-2, -2, -2])
    other = Scaled()
    other.load_state_dict({name: value * 0 for name, value in model.state_dict().items()})
    assert not other(X).numpy().any()
    assert not pickle.loads(pickle.dumps(other)).scales[-1].numpy().any()


def test_a_compiled_function_sees_a_parameter_that_is_put_into_a_list_or_a_dict() -> None:
    model = Scaled()
    f = cr.compile(lambda x: model(x))
    f(X)
    model.scales.append([2.0])
    np.testing.assert_allclose(f(X).numpy(), model(X).numpy())
    model.shifts["low"] = cr.zeros(3)
    np.testing.assert_allclose(f(X).numpy(), X * [12, 6, 0] - [0.5, 0, 0])


def test_lists_and_dicts_of_parameters_behave_as_those_of_python() -> None:
    row = nn.ParameterList()
    assert (repr(row), len(row)) == ("ParameterList()", 0)
    first = cr.Parameter([1.0, 2.0])
    assert row.append(first).extend([[3.0]]) is row
    assert row[0] is row[-2] is next(iter(row)) is row[:1][0] is first
    row[-1] = cr.ones((2, 2))
    assert repr(row) == "ParameterList(\n  (0): float32[2]\n  (1): float32[2, 2]\n)"
    named = nn.ParameterDict({"a": first})
    named.update({"b": [1.0]})
    assert "a" in named
    assert list(named) == list(named.keys()) == ["a", "b"]
    assert named.values()[0] is dict(named.items())["a"] is first
    del named["a"]
    assert (len(named), repr(named)) == (1, "ParameterDict(\n  (b): float32[1]\n)")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nn.ParameterList(3), "ParameterList: needs a list of parameters, got a int"),
        (lambda: nn.ParameterList([nn.ReLU()]), "ParameterList: element 0 must be a parameter or an array, got a ReLU"),
        (lambda: nn.ParameterList([cr.Buffer([1.0])]), "element 0 must be a parameter or an array, got a Buffer"),
        (lambda: nn.ParameterList([[1]]), "Parameter: only floats can be learned"),
        (lambda: nn.ParameterList([[1.0]])[1], "ParameterList has 1 elements, there is no 1"),
        (lambda: nn.ParameterDict([1]), "ParameterDict: needs a dict of parameters, got a list"),
        (lambda: nn.ParameterDict({"a.b": [1.0]}), "ParameterDict: 'a.b' cannot be the name of a parameter"),
        (lambda: nn.ParameterDict({"keys": [1.0]}), "ParameterDict: 'keys' cannot be the name of a parameter"),
        (lambda: nn.ParameterDict({"a": [1.0]})["b"], "ParameterDict has no element 'b': it has a"),
        (lambda: nn.ParameterList()(X), "ParameterList has no forward method"),
    ],
)
def test_what_cannot_be_held_is_refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert words in str(caught.value)
