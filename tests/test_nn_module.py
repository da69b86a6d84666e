"""Modules: names, walking, state, modes, containers, copies, and the paths that they give to nodes and messages."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, models, nn
from chainrule.errors import ChainruleWarning
from chainrule.nn import conversion
from chainrule.nn import functional as F
from chainrule.tensor import Tensor
from expected import cases


class Block(nn.Module):
    """Parameters of its own, between and after its children."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(np.ones(3, np.float32))
        self.first = nn.Linear(3, 3)
        self.shift = nn.Parameter(np.zeros(3, np.float32))
        self.second = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        return self.second(self.first(x) * self.scale + self.shift)


class Tied(nn.Module):
    """One layer in two places, and one parameter in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = self.a
        self.c = nn.Linear(3, 3, bias=False)
        self.c.weight = self.a.weight

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        return self.c(self.b(self.a(x)))


def names(found: Any) -> list[str]:
    return [name for name, _ in found]


# ---- walking


def test_parameters_come_own_first_then_the_childrens_in_order() -> None:
    assert names(Block().named_parameters()) == [
        "scale",
        "shift",
        "first.weight",
        "first.bias",
        "second.1.weight",
        "second.1.bias",
    ]
    assert [parameter.shape for parameter in Block().parameters()] == [(3,), (3,), (3, 3), (3,), (2, 3), (2,)]


def test_modules_come_outside_in_and_children_only_one_level_deep() -> None:
    block = Block()
    assert names(block.named_modules()) == ["", "first", "second", "second.0", "second.1"]
    assert names(block.named_modules("net")) == ["net", "net.first", "net.second", "net.second.0", "net.second.1"]
    assert list(block.modules()) == [block, block.first, block.second, block.second[0], block.second[1]]
    assert names(block.named_children()) == ["first", "second"]
    assert list(block.children()) == [block.first, block.second]


def test_buffers_are_no_parameters() -> None:
    norm = nn.Sequential(nn.BatchNorm2d(2))
    assert names(norm.named_parameters()) == ["0.weight", "0.bias"]
    assert names(norm.named_buffers()) == ["0.running_mean", "0.running_var", "0.num_batches_tracked"]
    assert [buffer.shape for buffer in norm.buffers()] == [(2,), (2,), ()]


def test_what_is_shared_counts_once() -> None:
    tied = Tied()
    assert names(tied.named_modules()) == ["", "a", "c"]
    assert names(tied.named_parameters()) == ["a.weight", "a.bias"]
    assert list(tied.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias", "c.weight"]  # as PyTorch's


def test_gradients_of_shared_parameters_are_added_up() -> None:
    tied, x = Tied(), cr.tensor(np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32))
    tied(x).sum().backward()

    def loss(weight: cr.Tensor, bias: cr.Tensor) -> cr.Tensor:
        return F.linear(F.linear(F.linear(x, weight, bias), weight, bias), weight).sum()

    weight, bias = (cr.tensor(one, requires_grad=True) for one in tied.parameters())
    loss(weight, bias).backward()
    np.testing.assert_allclose(tied.a.weight.grad, weight.grad, rtol=1e-6)
    np.testing.assert_allclose(tied.a.bias.grad, bias.grad, rtol=1e-6)


def test_apply_visits_every_module_innermost_first() -> None:
    seen: list[nn.Module] = []
    block = Block()
    assert block.apply(seen.append) is block
    assert sorted(map(id, seen)) == sorted(map(id, block.modules()))
    assert seen.index(block.second[1]) < seen.index(block.second) < seen.index(block)


# ---- attributes


def test_a_module_that_forgets_super_init_is_told_so() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(1, 1)

    class Empty(nn.Module):
        def __init__(self) -> None:
            pass

    with pytest.raises(UserError, match=r"^Forgetful.__init__ must call super\(\).__init__\(\) before it sets 'layer'$"):
        Forgetful()
    with pytest.raises(UserError, match=r"^Empty.__init__ must call super\(\).__init__\(\)$"):
        Empty()(cr.zeros((1,)))


def test_a_module_without_forward_is_told_so() -> None:
    with pytest.raises(UserError, match="ModuleList has no forward method: define what it computes"):
        nn.ModuleList()(cr.zeros((1,)))


def test_an_attribute_may_become_a_layer_a_parameter_or_neither() -> None:
    module = nn.Module()
    module.part = None
    module.part = nn.Linear(2, 2)
    assert isinstance(module.part, nn.Linear)
    assert names(module.named_parameters()) == ["part.weight", "part.bias"]
    module.part = nn.Parameter(np.zeros(2))
    assert names(module.named_parameters()) == ["part"]
    module.part = 3
    assert module.part == 3
    assert list(module.parameters()) == []
    module.part = nn.Buffer(np.zeros(2))
    assert names(module.named_buffers()) == ["part"]
    del module.part
    with pytest.raises(AttributeError, match="Module has no attribute 'part'"):
        _ = module.part
    with pytest.raises(AttributeError, match="Module has no attribute 'part'"):
        del module.part


# ---- modes


def test_train_and_eval_reach_every_layer_and_give_back_the_model() -> None:
    model = cases.nested(nn)
    assert all(module.training for module in model.modules())
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    model.blocks[0].train()
    assert [module.training for module in model.blocks[0].modules()] == [True] * 7
    assert not model.training
    assert model.train(False) is model
    assert not any(module.training for module in model.modules())


def test_zero_grad_forgets_gradients() -> None:
    block = Block()
    block(cr.ones((2, 3))).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())
    block.zero_grad()
    assert all(parameter.grad is None for parameter in block.parameters())


# ---- state


def test_a_state_dict_loads_into_another_model() -> None:
    one, other = cases.nested(nn), cases.nested(nn)
    other.load_state_dict(one.state_dict())
    for (name, ours), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert (ours == theirs).all(), name
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype(np.float32)
    assert (one.eval()(cr.tensor(x)).numpy() == other.eval()(cr.tensor(x)).numpy()).all()


def test_a_state_dict_keeps_what_it_had_when_the_model_goes_on() -> None:
    linear = nn.Linear(2, 2)
    state = linear.state_dict()
    before = {name: array.copy() for name, array in state.items()}
    linear.weight.assign(np.zeros((2, 2)))
    assert (state["weight"] == before["weight"]).all()
    with pytest.raises(ValueError, match="read-only"):
        state["weight"][0, 0] = 1


def test_loading_converts_dtypes_and_copies() -> None:
    given = np.ones((2, 2), np.float16)
    linear = nn.Linear(2, 2, bias=False)
    linear.load_state_dict({"weight": given})
    given[:] = 7
    assert linear.weight.dtype == np.float32
    assert (linear.weight.numpy() == 1).all()


def test_a_state_that_does_not_fit_is_told_in_full_and_nothing_is_assigned() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {
        "0.weight": np.zeros((4, 3)),
        "2.weight": np.zeros((2, 5)),
        "2.bias": np.zeros(()),
        "3.weight": np.zeros(1),
        "head": np.zeros(1),
    }
    with pytest.raises(UserError) as caught:
        model.load_state_dict(state)
    assert str(caught.value) == (
        "load_state_dict: the state does not fit this Sequential:\n"
        "  missing: 0.bias\n"
        "  unexpected: 3.weight, head\n"
        "  2.weight: the model has shape (2, 4), the state (2, 5)\n"
        "  2.bias: the model has shape (2,), the state ()"
    )
    for name, array in model.state_dict().items():
        assert (array == before[name]).all(), name


def test_loading_what_is_there_tolerates_names_but_never_shapes() -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    bias = model[0].bias.numpy().copy()
    model.load_state_dict({"0.weight": np.zeros((4, 3)), "head": np.zeros(1)}, strict=False)
    assert (model[0].weight.numpy() == 0).all()
    assert (model[0].bias.numpy() == bias).all()
    with pytest.raises(UserError, match=r"this Sequential:\n  0.bias: the model has shape \(4,\), the state \(5,\)$"):
        model.load_state_dict({"0.weight": np.ones((4, 3)), "0.bias": np.zeros(5)}, strict=False)
    assert (model[0].weight.numpy() == 0).all()


class Twice(nn.Module):
    """A layer that is used at two places, and a parameter that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.blocks = nn.Sequential(nn.BatchNorm1d(2), self.first)
        self.last = nn.Linear(2, 2, bias=False)
        self.last.weight = self.first.weight


# What torch.nn.Module.state_dict() (2.13) lists for the same model, in its order.
NAMES_OF_TWICE = [
    *("first.weight", "first.bias"),
    *(f"blocks.0.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    *("blocks.1.weight", "blocks.1.bias"),
    "last.weight",
]


def test_a_layer_that_is_used_twice_is_in_the_state_by_both_names_as_in_pytorch() -> None:
    model, other = Twice(), Twice()
    state = model.state_dict()
    assert list(state) == NAMES_OF_TWICE
    other.load_state_dict({name: array.copy() for name, array in state.items()})
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    assert names(model.named_parameters()) == ["first.weight", "first.bias", "blocks.0.weight", "blocks.0.bias"]


def test_one_of_the_names_of_a_layer_that_is_used_twice_is_enough() -> None:
    state = {name: array + 1 for name, array in Twice().state_dict().items()}
    for left_out in (["first.weight", "last.weight", "blocks.1.bias"], ["blocks.1.weight", "first.weight", "first.bias"]):
        model = Twice()
        model.load_state_dict({name: array for name, array in state.items() if name not in left_out})
        np.testing.assert_array_equal(model.last.weight.numpy(), state["first.weight"])
        np.testing.assert_array_equal(model.first.bias.numpy(), state["first.bias"])
    with pytest.raises(UserError, match=r"Twice:\n  missing: first.weight, blocks.1.weight, last.weight$"):
        model.load_state_dict({name: array for name, array in state.items() if "weight" not in name or "0" in name})


def test_two_values_for_one_layer_are_refused_and_nothing_is_loaded() -> None:
    model = Twice()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    state["first.weight"] = state["last.weight"] = state["blocks.1.weight"] = np.full((2, 2), np.nan)
    state["blocks.1.bias"] = state["blocks.1.bias"] + 1
    for strict in (True, False):
        with pytest.raises(UserError) as caught:
            model.load_state_dict(state, strict)
        assert str(caught.value) == (
            "load_state_dict: the state does not fit this Twice:\n"
            "  first.bias and blocks.1.bias differ in the state, but are one parameter of the model"
        )
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# ---- copies and dtypes


def test_a_deep_copy_is_a_model_of_its_own() -> None:
    model = cases.nested(nn)
    model.blocks[1].eval()
    twin = copy.deepcopy(model)
    assert names(twin.named_parameters()) == names(model.named_parameters())
    assert [module.training for module in twin.modules()] == [module.training for module in model.modules()]
    before = {name: array.copy() for name, array in twin.state_dict().items()}
    model.head.weight.assign(np.zeros((3, 4)))
    model(cr.ones((2, 3, 9, 9))).sum().backward()
    for name, array in twin.state_dict().items():
        assert (array == before[name]).all(), name
    assert all(parameter.grad is None for parameter in twin.parameters())


def test_what_is_shared_stays_shared_in_copies_and_conversions() -> None:
    for tied in (copy.deepcopy(Tied()), Tied().astype("float64")):
        assert tied.b is tied.a
        assert tied.c.weight is tied.a.weight
        assert names(tied.named_parameters()) == ["a.weight", "a.bias"]


def test_a_model_in_float64_computes_in_float64_and_keeps_counts_whole() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    assert model.astype("float64") is model
    for name, array in model.state_dict().items():
        assert array.dtype == (np.int64 if name.endswith("num_batches_tracked") else np.float64)
        assert (array == before[name]).all()
    output = model(cr.tensor(np.random.default_rng(0).standard_normal((2, 1, 4, 4))))
    output.sum().backward()
    assert output.dtype == np.float64
    assert {parameter.grad.dtype for parameter in model.parameters()} == {np.dtype(np.float64)}
    assert model[1].running_mean.dtype == np.float64


@pytest.mark.parametrize("make", [lambda: nn.Linear(2, 2, dtype="float64"), lambda: nn.BatchNorm1d(2, dtype="float64")])
def test_layers_can_be_made_in_float64(make: Any) -> None:
    layer = make()
    assert {parameter.dtype for parameter in layer.parameters()} == {np.dtype(np.float64)}
    assert layer(cr.ones((3, 2), "float64")).dtype == np.float64


# ---- batch norm's buffers


def test_batch_norm_counts_batches_in_training_only() -> None:
    norm, x = nn.BatchNorm2d(2), cr.tensor(np.random.default_rng(0).standard_normal((3, 2, 4, 4)), "float32")
    norm(x)
    norm(x)
    mean = norm.running_mean.numpy().copy()
    norm.eval()(x)
    assert norm.num_batches_tracked.item() == 2
    assert (norm.running_mean.numpy() == mean).all()


def test_running_statistics_carry_no_gradient() -> None:
    norm = nn.BatchNorm1d(2)
    x = cr.tensor(np.random.default_rng(0).standard_normal((3, 2)), "float32", requires_grad=True)
    norm(x).sum().backward()
    assert not norm.running_mean.requires_grad
    assert norm.running_mean.node.is_leaf


# ---- containers


def test_sequential_slices_appends_and_indexes() -> None:
    layers = [nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3)]
    model = nn.Sequential(*layers)
    assert len(model) == 3
    assert list(model) == layers
    assert model[-1] is layers[2]
    part = model[1:]
    assert isinstance(part, nn.Sequential)
    assert list(part) == layers[1:]
    assert names(part.named_parameters()) == ["1.weight", "1.bias"]
    model.append(nn.Tanh())
    assert names(model.named_children()) == ["0", "1", "2", "3"]
    assert model(cr.ones((1, 2))).shape == (1, 3)
    with pytest.raises(IndexError, match="Sequential has 4 elements, there is no 4"):
        _ = model[4]


def test_an_empty_sequential_passes_its_input_on() -> None:
    x = cr.ones((2,))
    assert nn.Sequential()(x) is x


def test_containers_take_layers_only() -> None:
    with pytest.raises(UserError, match="Sequential: element 1 must be a layer, got function"):
        nn.Sequential(nn.ReLU(), F.relu)
    with pytest.raises(UserError, match="ModuleList: element 0 must be a layer, got int"):
        nn.ModuleList([3])


def test_a_dict_of_layers_is_a_dict_of_the_owners_layers() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleDict({"small": nn.Linear(3, 1), "large": nn.Linear(3, 5)})

        def forward(self, x: cr.Tensor, head: str) -> cr.Tensor:
            return self.heads[head](x)

    model = Model()
    heads = model.heads
    assert names(model.named_parameters()) == [
        f"heads.{name}.{cell}" for name in ("small", "large") for cell in ("weight", "bias")
    ]
    assert [model(cr.ones((2, 3)), head).shape for head in ("small", "large")] == [(2, 1), (2, 5)]
    assert (list(heads), list(heads.keys()), len(heads), "small" in heads, "tiny" in heads) == (
        *(["small", "large"],) * 2,
        *(2, True, False),
    )
    assert [*heads.values()] == [layer for _, layer in heads.items()] == [heads["small"], heads["large"]]
    small = heads.pop("small")
    assert isinstance(small, nn.Linear)
    heads.update([("tiny", small), ("relu", nn.ReLU())])
    heads.update(nn.ModuleDict({"relu": nn.Tanh()}))
    del heads["large"]
    assert [(name, type(layer).__name__) for name, layer in heads.items()] == [("tiny", "Linear"), ("relu", "Tanh")]
    heads.clear()
    assert (len(heads), list(model.parameters())) == (0, [])
    assert len(nn.ModuleDict()) == 0


def test_a_dict_of_layers_says_what_it_lacks_and_what_it_cannot_take() -> None:
    heads = nn.ModuleDict([("a", nn.ReLU())])
    for missing in (lambda: heads["b"], lambda: heads.pop("b"), lambda: heads.__delitem__("b")):
        with pytest.raises(KeyError) as caught:
            missing()
        assert isinstance(caught.value, UserError)
        assert str(caught.value) == "ModuleDict has no element 'b': it has a"
    for call, text in (
        (
            lambda: heads.__setitem__("x.y", nn.ReLU()),
            "ModuleDict: 'x.y' cannot be the name of a layer: it must be a text without",
        ),
        (
            lambda: heads.update({"keys": nn.ReLU()}),
            "ModuleDict: 'keys' cannot be the name of a layer: it must be a text without",
        ),
        (lambda: nn.ModuleDict({"a": 3}), "ModuleDict: element a must be a layer, got int"),
        (lambda: nn.ModuleDict([nn.ReLU()]), "ModuleDict: needs a dict of layers, or pairs (name, layer)"),
    ):
        with pytest.raises(UserError) as wrong:
            call()
        assert str(wrong.value).startswith(text)
    with pytest.raises(UserError, match="ModuleDict has no forward method"):
        heads(cr.ones((1,)))


def test_a_compiled_function_sees_a_dict_of_layers_change() -> None:
    layers = nn.ModuleDict({"a": nn.ReLU()})

    @cr.compile
    def run(x: cr.Tensor) -> cr.Tensor:
        for layer in layers.values():
            x = layer(x)
        return x

    x = cr.tensor([-1.0, 3.0])
    assert run(x).tolist() == [0, 3]
    layers["b"] = nn.Hardtanh(0.0, 2.0)
    assert run(x).tolist() == [0, 2]
    del layers["a"], layers["b"]
    assert run(x).tolist() == [-1, 3]


def test_layers_of_a_module_list_count_as_the_owners() -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList(nn.Linear(2, width) for width in (1, 3))
            self.branches.append(nn.Linear(2, 2))

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            return cr.concatenate([branch(x) for branch in self.branches], axis=1)

    model = Parallel()
    assert model(cr.ones((4, 2))).shape == (4, 6)
    assert names(model.named_parameters())[::2] == ["branches.0.weight", "branches.1.weight", "branches.2.weight"]
    assert len(model.branches[:2]) == 2


def test_a_model_shows_its_layers_and_their_arguments() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1, bias=False),
        nn.BatchNorm2d(8, momentum=None),
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2)),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Conv2d(3, 8, kernel_size=(3, 3), stride=2, padding=1, bias=False)\n"
        "  (1): BatchNorm2d(8, eps=1e-05, momentum=None, affine=True)\n"
        "  (2): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): MaxPool2d(kernel_size=2, stride=2, padding=0)\n"
        "    (2): Dropout(p=0.2)\n"
        "  )\n"
        "  (3): Flatten()\n"
        "  (4): Linear(in_features=32, out_features=10, bias=True)\n"
        ")"
    )


@pytest.mark.parametrize("case", cases.LAYERS, ids=lambda case: case.name)
def test_every_layer_shows_on_one_line(case: cases.Layer) -> None:
    shown = repr(getattr(nn, case.layer)(**case.arguments))
    assert shown.startswith(f"{case.layer}(")
    assert "\n" not in shown


# ---- paths


def test_nodes_know_the_layer_that_made_them_forward_and_backward() -> None:
    model = cases.nested(nn)
    x = cr.tensor(np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype(np.float32), requires_grad=True)
    loss = model(x).sum()
    forward = {(node.operation.name, node.origin.module) for node in loss.graph.nodes}
    assert {path for name, path in forward if name == "conv2d"} == {
        "stem.0",
        "blocks.0.conv",
        "blocks.0.inner.0",
        "blocks.1.conv",
        "blocks.1.inner.0",
    }
    assert ("matmul", "head") in forward
    assert ("add", "blocks.1") in forward, "the sum of the shortcut"
    assert ("sum", "Model") in forward, "the mean over the image, made by the model itself"
    (gradient,) = cr.grad(loss, [x], create_graph=True)
    assert gradient is not None
    backward = {(node.operation.name, node.origin.module) for node in gradient.graph.nodes} - forward
    assert ("conv2d_input_gradient", "stem.0") in backward
    assert ("conv2d_input_gradient", "blocks.0.conv") in backward


def test_nodes_know_the_line_of_the_users_program() -> None:
    output = nn.Sequential(nn.Linear(2, 2))(cr.ones((1, 2)))
    assert output.node.origin.module == "0"
    assert output.node.origin.file == __file__


def test_parameters_are_labelled_with_their_paths() -> None:
    model = Block()
    output = model(cr.ones((1, 3)))
    labels = {node.label for node in output.graph.leaves if node.label}
    assert labels == set(names(model.named_parameters()))
    assert model.second[1].weight.name == "second.1.weight"


def test_names_follow_a_model_that_changes_between_calls() -> None:
    def assert_named(model: nn.Module) -> None:
        model(cr.ones((1, 2)))
        for name, cell in model.named_parameters():
            assert cell.name == name
        for path, layer in model.named_modules():
            assert layer._path == path

    row = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    other = nn.Sequential(nn.Sequential(row))
    assert_named(row)
    assert_named(row)
    assert_named(other)  # everything in ``row`` has another name now
    assert_named(row)
    assert_named(row[1])
    assert_named(row)
    row.append(nn.Linear(2, 2))
    assert_named(row)
    setattr(row[1], "0", nn.Linear(2, 2))
    assert_named(row)
    row[0].bias = None
    row[0].bias = cr.Parameter(np.zeros(2, np.float32))
    assert_named(row)
    del row[1]._children["0"], row._children["2"]  # behind its back ...
    setattr(row[1], "1", nn.Linear(2, 2))  # ... and before it
    assert_named(row)
    row.astype("float32")
    assert_named(row)
    assert_named(copy.deepcopy(row))


def test_names_are_given_again_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    usual = nn.Module._walk

    def interrupted(self: nn.Module, prefix: str = "") -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(nn.Module, "_walk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model(cr.ones((1, 2)))
    monkeypatch.setattr(nn.Module, "_walk", usual)
    model(cr.ones((1, 2)))
    assert [one.name for one in model.parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_model_in_use_can_be_pickled() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = cr.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = cr.ones((5, 3))
    (model(x) ** 2).sum().backward()
    optimizer.step()
    expected = model(x).numpy()
    again, steps = pickle.loads(pickle.dumps((model, optimizer)))
    np.testing.assert_array_equal(again(x).numpy(), expected)
    assert [id(one) for one in steps.parameters] == [id(one) for one in again.parameters()]
    for one in (model, again):
        one.zero_grad()
        (one(x) ** 2).sum().backward()
    optimizer.step()
    steps.step()
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_parameters_that_no_gradient_can_reach_are_listed() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle, self.cut = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            return self.used(x) + self.cut(x).detach()

    model = Half()
    assert model.unused_parameters(model(cr.ones((1, 2))).sum()) == ["idle.weight", "idle.bias", "cut.weight", "cut.bias"]
    lenet = models.lenet()
    assert lenet.unused_parameters(lenet(cr.zeros((1, 1, 28, 28))).sum()) == []


def test_a_flag_set_on_one_layer_stays_with_it_through_an_evaluation() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    model[0].training = False
    with model.evaluating():
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, False, True]
    model[1].training = False
    assert model.training


def test_a_model_takes_numpy_arrays() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    images = np.ones((3, 1, 2, 2), np.float32)
    np.testing.assert_array_equal(model(images).numpy(), model(cr.tensor(images)).numpy())


def test_a_part_called_on_its_own_shares_its_parameters_with_the_whole() -> None:
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    x = cr.ones((1, 2))
    for loss in (model(x).sum() + model[0](x).sum(), model[0](x).sum() + model(x).sum()):
        (gradient,) = cr.grad(loss, list(model.parameters()))
        assert gradient is not None
        np.testing.assert_array_equal(gradient.numpy(), [[2, 2]])
    loss = model(x).sum()
    model[0](x)
    assert cr.grad(loss, list(model.parameters()))[0] is not None


def test_nothing_is_loaded_if_a_value_is_no_array_of_numbers() -> None:
    model = nn.Linear(2, 1)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match="dtype object is not supported"):
        model.load_state_dict({"weight": np.ones((1, 2)), "bias": np.array([None])})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_nodes_know_the_innermost_line_of_the_program_also_between_layers_of_both() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            y = x * 2.0
            return self.inner(y).exp()

    model = nn.Sequential(nn.Linear(3, 3), Own(), nn.Tanh())
    called = inspect.currentframe().f_lineno + 1
    output = model(cr.tensor(np.ones((1, 3), np.float32), requires_grad=True))
    begin = inspect.getsourcelines(Own.forward)[1]
    lines = {node.operation.name: node.origin.line for node in output.graph if not node.is_leaf}
    assert lines["tanh"] == called
    assert lines["multiply"] == begin + 1
    assert (lines["maximum"], lines["exp"]) == (begin + 2, begin + 2)
    products = [node.origin for node in output.graph if node.operation.name == "matmul"]
    assert [(one.module, one.line) for one in products] == [("0", called), ("1.inner.0", begin + 2)]
    assert cr.tensor([1.0]).node.origin.line == inspect.currentframe().f_lineno


def test_a_layer_of_a_row_is_replaced_or_inserted_by_its_place() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model[1] = nn.Tanh()
    model[-2] = nn.Linear(2, 3)
    assert [type(one).__name__ for one in model] == ["Linear", "Tanh"]
    assert model.insert(1, nn.Sigmoid()) is model
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    assert [type(one).__name__ for one in model] == ["Linear", "Sigmoid", "Tanh"]
    named = nn.Sequential({"first": nn.ReLU()})
    named[0] = nn.Tanh()
    assert isinstance(named.first, nn.Tanh)
    with pytest.raises(UserError, match="Sequential: insert needs numbered layers, these have names: first"):
        named.insert(0, nn.ReLU())


def test_a_parameter_may_be_made_frozen() -> None:
    assert nn.Parameter(np.ones(2, np.float32), requires_grad=False).requires_grad is False
    with pytest.raises(UserError, match="Parameter: requires_grad must be True or False, got 0"):
        nn.Parameter(np.ones(2, np.float32), requires_grad=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.BatchNorm1d(3), (2, 3)), (nn.BatchNorm2d(3), (2, 3, 2, 2)), (nn.LayerNorm(3), (2, 3)), (nn.GroupNorm(1, 3), (2, 3))],
)
def test_a_float64_array_into_a_normalisation_is_said(layer: nn.Module, shape: tuple[int, ...]) -> None:
    conversion._warned.clear()
    with pytest.warns(ChainruleWarning, match=f"{type(layer).__name__} got float64, but the parameters are float32"):
        layer(np.ones(shape))
