"""Who asks for a gradient: parameters that are frozen, hidden values whose gradient is kept, computed values that ask, tensors
that optimizers learn. In plain code, node by node and as programs, and in compiled functions."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops, optim
from chainrule.errors import UserError
from chainrule.graph import Array, Node
from chainrule.optim import optimizer as optimizer_module
from chainrule.tensor import backward

F = nn.functional
WORLDS = ("node by node", "as a program", "compiled")


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable], Callable]]:
    """Runs a function in one of three ways."""
    if request.param == "as a program":
        monkeypatch.setattr(backward, "_WORTH_A_PROGRAM", 0)
        monkeypatch.setattr(optimizer_module, "_WORTH_A_PROGRAM", 0)
        monkeypatch.setattr(ops.primitive, "_LARGE", 0)
    yield cr.compile if request.param == "compiled" else lambda function: function
    backward._programs.clear()


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def numbers(tensor: cr.Tensor | None) -> Array:
    assert tensor is not None
    return tensor.numpy()


# ---- frozen parameters


def test_no_gradient_passes_to_a_frozen_parameter_and_the_others_get_theirs(world: Callable) -> None:
    v, w, x = cr.Parameter(random(4)), cr.Parameter(random(4, seed=1)), cr.tensor(random(4, seed=2))

    @world
    def step() -> cr.Tensor:
        v.grad = w.grad = None
        loss = (v * w * w * x).sum()
        loss.backward()
        return loss

    w.requires_grad = False
    step()
    assert w.grad is None
    np.testing.assert_allclose(numbers(v.grad), w.numpy() ** 2 * x.numpy(), rtol=1e-6)
    w.requires_grad, v.requires_grad = True, False
    step()
    assert v.grad is None
    np.testing.assert_allclose(numbers(w.grad), 2 * v.numpy() * w.numpy() * x.numpy(), rtol=1e-6)
    v.requires_grad_()
    step()
    np.testing.assert_allclose(numbers(v.grad), w.numpy() ** 2 * x.numpy(), rtol=1e-6)
    np.testing.assert_allclose(numbers(w.grad), 2 * v.numpy() * w.numpy() * x.numpy(), rtol=1e-6)


def test_nothing_is_computed_for_frozen_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(12, 2))
    model[0].requires_grad_(False)
    made: list[str] = []
    emitted = ops.Primitive.__call__

    def noting(self: ops.Primitive, *inputs: Node, **attributes: object) -> Node:
        made.append(self.name)
        return emitted(self, *inputs, **attributes)

    features = model[0](cr.tensor(random(1, 2, 6, 6)))
    assert not features.requires_grad
    loss = model(cr.tensor(random(1, 2, 6, 6))).sum()
    monkeypatch.setattr(ops.Primitive, "__call__", noting)
    loss.backward()
    assert made.count("conv2d_weight_gradient") == 1
    assert "conv2d_input_gradient" not in made


@pytest.mark.parametrize(
    "make",
    [
        lambda params: optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda params: optim.Adam(params, lr=0.1, weight_decay=0.1),
        lambda params: optim.AdamW(params, lr=0.1),
        lambda params: optim.RMSprop(params, lr=0.1, momentum=0.5),
    ],
)
def test_optimizers_leave_a_frozen_parameter_alone_whatever_its_gradient(world: Callable, make: Callable) -> None:
    v, w = cr.Parameter(random(40)), cr.Parameter(random(40, seed=1))
    optimizer = make([v, w])

    @world
    def step(clear: bool) -> cr.Tensor:
        if clear:
            optimizer.zero_grad()
        loss = ((v - 1.0) ** 2 + (w + 1.0) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    step(True)
    w.requires_grad = False
    stale, before, other = numbers(w.grad).copy(), w.numpy().copy(), v.numpy().copy()
    state = {name: cell.numpy().copy() for name, cell in optimizer.state[w].items()}
    for _ in range(3):
        step(False)
    np.testing.assert_array_equal(w.numpy(), before)
    np.testing.assert_array_equal(numbers(w.grad), stale)
    for name, cell in optimizer.state[w].items():
        np.testing.assert_array_equal(cell.numpy(), state[name])
    assert not np.array_equal(v.numpy(), other)
    w.requires_grad = True
    step(True)
    assert not np.array_equal(w.numpy(), before)


def test_the_stale_gradient_of_a_frozen_parameter_is_not_clipped_with_the_others() -> None:
    v, w = cr.Parameter([1.0, 1.0]), cr.Parameter([1.0])
    v.grad, w.grad = cr.tensor([3.0, 4.0]), cr.tensor([100.0])
    w.requires_grad_(False)
    assert optim.clip_grad_norm_([v, w], 2.5).item() == pytest.approx(5)
    np.testing.assert_allclose(numbers(v.grad), [1.5, 2.0], rtol=1e-5)
    np.testing.assert_array_equal(numbers(w.grad), [100])


def test_compiled_functions_are_traced_again_and_keep_both_programs() -> None:
    model = nn.Linear(3, 2)

    @cr.compile
    def step(x: cr.Tensor) -> cr.Tensor:
        model.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        return loss

    x = cr.tensor(random(4, 3))
    for frozen in (False, True, False, True):
        model.weight.requires_grad_(not frozen)
        step(x)
        assert (model.weight.grad is None) == frozen
        assert model.bias.grad is not None
    reasons = step.explain_retrace().splitlines()
    assert len(reasons) == 2
    assert "weight.requires_grad changed from True to False" in reasons[1]


def test_a_whole_model_is_frozen_and_learns_again() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 1)))
    assert model.requires_grad_(False) is model
    assert not any(one.requires_grad for one in model.parameters())
    x = cr.tensor(random(4, 2))
    with pytest.raises(UserError, match="depends on nothing that asks for a gradient"):
        model(x).sum().backward()
    model[2].requires_grad_()
    loss = model(x).sum()
    loss.backward()
    with_gradient = [name for name, one in model.named_parameters() if one.grad is not None]
    assert with_gradient == ["2.0.weight", "2.0.bias"]
    model.requires_grad_()
    assert all(one.requires_grad for one in model.parameters())


def test_frozen_parameters_are_not_reported_as_unused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    loss = model[1](model[0](cr.tensor(random(1, 2)))).sum()
    assert model.unused_parameters(loss) == ["2.weight", "2.bias"]


def test_copies_stay_frozen() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), copy.deepcopy(model).astype("float64")):
        assert [one.requires_grad for one in twin.parameters()] == [False, False, True, True]


def test_a_parameter_that_is_frozen_and_learns_again_within_one_step(world: Callable) -> None:
    """As the critic of a generative pair, which the generator's loss passes through."""
    critic, generator = cr.Parameter([2.0, 3.0]), cr.Parameter([0.5, -1.0])

    @world
    def step() -> cr.Tensor:
        critic.grad = generator.grad = None
        critic.requires_grad_(False)
        (critic * generator).sum().backward()
        untouched = critic.grad is None
        critic.requires_grad_()
        (critic * critic * generator.detach()).sum().backward()
        return cr.tensor([float(untouched)])

    for _ in range(2):
        assert step().tolist() == [1.0]
        np.testing.assert_array_equal(numbers(generator.grad), [2, 3])
        np.testing.assert_array_equal(numbers(critic.grad), [2, -6])
    assert critic.requires_grad


def test_a_graph_of_before_passes_its_gradient_as_it_was_computed() -> None:
    w = cr.Parameter([2.0])
    loss = (w * w).sum()
    w.requires_grad = False
    assert not (w * w).requires_grad
    loss.backward()
    assert numbers(w.grad).tolist() == [4]


def test_buffers_cannot_ask() -> None:
    with pytest.raises(UserError, match=r"^requires_grad: buffer is not learned: make it a Parameter$"):
        cr.Buffer([1.0]).requires_grad = True
    with pytest.raises(UserError, match=r"buffer 'running_mean' is not learned"):
        nn.BatchNorm1d(2).running_mean.requires_grad_()
    assert not cr.Buffer([1.0]).requires_grad_(False).requires_grad


# ---- gradients of hidden values


@pytest.mark.parametrize("large", [False, True])
def test_the_gradient_of_a_hidden_value_is_kept_where_asked_for(world: Callable, large: bool) -> None:
    size = 5000 if large else 5
    w, x = cr.Parameter(random(size)), cr.tensor(random(size, seed=1))

    @world
    def step() -> tuple[cr.Tensor | None, ...]:
        w.grad = None
        early = w * x
        early.retain_grad()
        used = early.sin() + early
        used.retain_grad()
        loss = (used * early).sum()
        early.retain_grad()  # again: nothing changes
        loss.retain_grad()
        loss.backward()
        return early.grad, used.grad, loss.grad

    for _ in range(2):
        early, used, loss = step()
        e = w.numpy() * x.numpy()
        into_early = (np.cos(e) + 1) * e + np.sin(e) + e
        np.testing.assert_allclose(numbers(used), e, rtol=1e-5)
        np.testing.assert_allclose(numbers(early), into_early, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(numbers(w.grad), into_early * x.numpy(), rtol=1e-4, atol=1e-5)
        assert numbers(loss).tolist() == 1


def test_a_hidden_value_may_be_asked_for_its_gradient_after_it_was_taken() -> None:
    x = cr.tensor(random(6000), requires_grad=True)
    hidden = x * 2.0
    loss = (hidden + 1.0).sum() + hidden.sum()
    hidden.retain_grad()
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_array_equal(numbers(hidden.grad), np.full(6000, 4.0))  # added up, as anybody's
    hidden.grad = None
    assert hidden.grad is None


def test_who_asks_a_hidden_value_that_kept_no_gradient_is_told_how() -> None:
    x = cr.tensor([1.0], requires_grad=True)
    hidden = x * 2.0
    hidden.sum().backward()
    message = (
        r"^grad: this float32\[1\], from multiply at test_freezing.py:\d+, is a hidden value, whose gradient is not kept: call "
        r"retain_grad\(\) on it before backward\(\)$"
    )
    with pytest.warns(UserWarning, match=message):
        assert hidden.grad is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for quiet in (
            x,
            x.detach(),
            x.detach() * 2.0,
            cr.tensor([1.0]),
            cr.tensor([1.0], requires_grad=True),
            cr.Parameter([1.0]),
        ):
            _ = quiet.grad


def test_only_what_a_gradient_passes_can_keep_it() -> None:
    message = r"^retain_grad: no gradient passes float32\[1\]: it depends on nothing that asks for one$"
    for one in (cr.tensor([1.0]), cr.tensor([1.0]) * 2.0, cr.Parameter([1.0]).requires_grad_(False), cr.Buffer([1.0])):
        with pytest.raises(UserError, match=message):
            one.retain_grad()
    w = cr.Parameter([1.0])
    w.retain_grad()  # it is kept anyway
    (w * 3.0).sum().backward()
    assert numbers(w.grad).tolist() == [3]


# ---- computed values that ask


def test_a_gradient_penalty(world: Callable) -> None:
    """(|d score / d mixed| - 1)^2 for score = sum (a mixed)^2: the slope is 2 a^2 mixed, of length L, and the gradient of the
    penalty for a is 2 (L - 1) 8 a^3 mixed^2 / L."""
    a, real, fake = cr.Parameter(random(6)), cr.tensor(random(6, seed=1)), cr.tensor(random(6, seed=2))

    @world
    def step(share: cr.Tensor) -> tuple[cr.Tensor, ...]:
        mixed = real * share + fake * (1.0 - share)
        assert not mixed.requires_grad
        assert mixed.requires_grad_() is mixed
        assert mixed.requires_grad
        ((a * mixed) ** 2).sum().backward(create_graph=True)
        slope = mixed.grad
        assert slope is not None
        penalty = ((slope * slope).sum().sqrt() - 1.0) ** 2
        a.grad = None
        penalty.backward()
        return penalty, slope

    for share in (0.25, 0.75):
        penalty, slope = step(cr.tensor(np.float32(share)))
        mixed = share * real.numpy() + (1 - share) * fake.numpy()
        expected = 2 * a.numpy() ** 2 * mixed
        length = np.sqrt((expected**2).sum())
        np.testing.assert_allclose(slope.numpy(), expected, rtol=1e-4, atol=1e-6)
        assert penalty.item() == pytest.approx((length - 1) ** 2, rel=1e-4)
        into_a = 2 * (length - 1) * 8 * a.numpy() ** 3 * mixed**2 / length
        np.testing.assert_allclose(numbers(a.grad), into_a, rtol=1e-3, atol=1e-5)


def test_an_argument_that_asks_within_the_function(world: Callable) -> None:
    @world
    def step(x: cr.Tensor) -> cr.Tensor:
        before = x * 3.0
        x.requires_grad_()
        loss = (x * x + before).sum()
        loss.backward()
        return loss

    x = cr.tensor([1.0, 2.0])
    assert step(x).item() == 14
    assert x.requires_grad
    assert numbers(x.grad).tolist() == [2, 4]


def test_compiled_functions_take_arrays_that_ask_within() -> None:
    @cr.compile
    def slope(x: cr.Tensor) -> cr.Tensor | None:
        x.requires_grad_()
        (x * x).sum().backward()
        return x.grad

    assert numbers(slope(np.array([1.0, 2.0], np.float32))).tolist() == [2, 4]


def test_what_has_a_gradient_passing_already_stays_as_it_is() -> None:
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    hidden = x * x
    assert hidden.requires_grad_() is hidden
    hidden.sum().backward()
    assert numbers(x.grad).tolist() == [2, 4]


def test_a_leaf_may_stop_asking(world: Callable) -> None:
    w = cr.Parameter([3.0])

    @world
    def step(x: cr.Tensor) -> cr.Tensor:
        w.grad = None
        x.requires_grad_()
        x.requires_grad = False
        loss = (x * w).sum()
        loss.backward()
        return loss

    x = cr.tensor([2.0])
    assert step(x).item() == 6
    assert numbers(w.grad).tolist() == [2]
    assert x.grad is None


def test_a_hidden_value_cannot_stop_asking() -> None:
    hidden = cr.tensor([1.0], requires_grad=True) * 2.0
    message = r"^requires_grad_: float32\[1\], from multiply at .*, depends on what asks for a gradient: use detach\(\)"
    with pytest.raises(UserError, match=message):
        hidden.requires_grad_(False)
    with pytest.raises(UserError, match=message):
        hidden.requires_grad = False


def test_only_floats_can_ask() -> None:
    with pytest.raises(UserError, match=r"^requires_grad_: only floats can require a gradient, this is int64\[2\]: use astype"):
        cr.tensor([1, 2]).requires_grad_()


# ---- tensors that are learned


@pytest.mark.parametrize(
    "make",
    [
        lambda params: optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda params: optim.Adam(params, lr=0.1),
        lambda params: optim.AdamW(params, lr=0.1),
        lambda params: optim.RMSprop(params, lr=0.1, centered=True, momentum=0.5),
    ],
)
def test_optimizers_learn_leaf_tensors_as_they_learn_parameters(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_module, "_WORTH_A_PROGRAM", 0)

    def learned(x: cr.Tensor) -> list[float]:
        optimizer = make([x])
        for _ in range(5):
            optimizer.zero_grad()
            ((x - 1.0) ** 4).sum().backward()
            optim.clip_grad_norm_(x, 3.0)
            optimizer.step()
        assert x.requires_grad
        return x.tolist()

    np.testing.assert_allclose(learned(cr.tensor(random(9), requires_grad=True)), learned(cr.Parameter(random(9))), rtol=1e-5)


def test_a_leaf_that_is_assigned_leaves_what_was_computed_alone() -> None:
    x = cr.tensor([1.0, 2.0], requires_grad=True, label="x")
    loss, view = (x * x).sum(), x.numpy()
    x.assign([5.0, 6.0])
    assert (view.tolist(), x.tolist(), x.node.label) == ([1, 2], [5, 6], "x")
    loss.backward()
    assert numbers(x.grad).tolist() == [2, 4]
    with pytest.raises(UserError, match=r"^assign: this tensor is float32\[2\], the value has shape \(3,\)"):
        x.assign([1.0, 2.0, 3.0])
    for other in (cr.tensor([1.0]), x * 2.0):
        with pytest.raises(UserError, match=r"^assign: float32\[\d\] is no leaf that asks for a gradient, and all other"):
            other.assign([1.0])


def test_what_optimizers_do_not_take() -> None:
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    for wrong, message in (
        (x, r"^SGD: got one tensor, float32\[2\]: put it into a list$"),
        ([x * 2.0], r"^SGD: float32\[2\], from multiply at .*, is computed from others: pass those, or detach"),
        ([cr.tensor([1.0])], r"^SGD: float32\[1\] asks for no gradient: make it with requires_grad=True, or a Parameter$"),
        ([cr.Buffer([1.0])], r"^SGD: can only update parameters, got Buffer$"),
        ([np.ones(3)], r"^SGD: can only update parameters, got ndarray$"),
        ([x, x], r"^SGD: parameter \(2,\) is given twice$"),
    ):
        with pytest.raises(UserError, match=message):
            optim.SGD(wrong)
    optim.SGD([cr.Parameter([1.0]).requires_grad_(False)])


def test_compiled_functions_refuse_to_learn_leaf_tensors() -> None:
    x = cr.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([x])

    @cr.compile
    def step() -> None:
        optimizer.step()

    with pytest.raises(UserError, match=r"^SGD: a compiled function cannot update float32\[1\], .*: make it a Parameter$"):
        step()

    @cr.compile
    def assign() -> None:
        x.assign([2.0])

    with pytest.raises(UserError, match=r"^assign: a compiled function cannot assign float32\[1\], .*: make it a Parameter$"):
        assign()
