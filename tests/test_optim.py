"""Optimizers, schedules, clipping: what they refuse, resuming bit for bit, schedules as functions of the number of steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, nn, optim
from chainrule.optim import optimizer as optimizer_module

OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "SGD with momentum": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01),
    "SGD with Nesterov's": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.05, weight_decay=0.1),
    "SGD, dampened": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.5, maximize=True),
    "Adam, amsgrad": lambda parameters: optim.Adam(parameters, lr=0.05, betas=(0.5, 0.6), amsgrad=True),
    "NAdam": lambda parameters: optim.NAdam(parameters, lr=0.05, weight_decay=0.1),
    "RAdam": lambda parameters: optim.RAdam(parameters, lr=0.05, betas=(0.8, 0.9)),
    "Adagrad": lambda parameters: optim.Adagrad(parameters, lr=0.05, lr_decay=0.1, initial_accumulator_value=0.1),
    "AdamW": lambda parameters: optim.AdamW(parameters, lr=0.05),
    "RMSprop": lambda parameters: optim.RMSprop(parameters, lr=0.01),
    "RMSprop, centered, with momentum": lambda parameters: optim.RMSprop(parameters, lr=0.01, centered=True, momentum=0.5),
    "groups": lambda parameters: optim.SGD(
        [{"params": one, "lr": 0.1 / (place + 1)} for place, one in enumerate(parameters)], momentum=0.5
    ),
}


def model() -> nn.Sequential:
    cr.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


def train(network: nn.Module, optimizer: optim.Optimizer, steps: int, schedule: optim.Schedule | None = None) -> None:
    rng = np.random.default_rng(1)
    x, y = cr.tensor(rng.standard_normal((8, 3)).astype(np.float32)), rng.standard_normal((8, 2)).astype(np.float32)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(x), y).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


def parameter(*shape: int) -> cr.Parameter:
    return cr.Parameter(np.zeros(shape, np.float32))


# ---- saving and resuming


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_run_goes_on_bit_for_bit(name: str) -> None:
    through = model()
    optimizer = OPTIMIZERS[name](through.parameters())
    train(through, optimizer, 4)
    saved = {key: array.copy() for key, array in optimizer.state_dict().items()}
    weights = {key: array.copy() for key, array in through.state_dict().items()}
    train(through, optimizer, 5)

    resumed = model()
    again = OPTIMIZERS[name](resumed.parameters())
    train(resumed, again, 2)  # it has a history of its own, which loading must replace
    resumed.load_state_dict(weights)
    again.load_state_dict(saved)
    assert same(again.state_dict(), saved)
    train(resumed, again, 5)
    assert same(resumed.state_dict(), through.state_dict())
    assert same(again.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_loading_a_state_from_before_the_first_step_begins_again(name: str) -> None:
    fresh, used = model(), model()
    first, second = OPTIMIZERS[name](fresh.parameters()), OPTIMIZERS[name](used.parameters())
    start, weights = first.state_dict(), fresh.state_dict()
    train(used, second, 3)
    used.load_state_dict(weights)
    second.load_state_dict(start)
    train(fresh, first, 3)
    train(used, second, 3)
    assert same(fresh.state_dict(), used.state_dict())


def test_a_run_with_a_schedule_resumes_with_the_number_of_steps() -> None:
    through, resumed = model(), model()
    optimizer = optim.SGD(through.parameters(), lr=0.1, momentum=0.9)
    schedule = optim.OneCycleLR(optimizer, 0.5, total_steps=10)
    train(through, optimizer, 4, schedule)
    saved, weights, steps = optimizer.state_dict(), through.state_dict(), schedule.steps
    train(through, optimizer, 5, schedule)

    again = optim.SGD(resumed.parameters(), lr=0.1, momentum=0.9)
    resumed.load_state_dict(weights)
    again.load_state_dict(saved)
    later = optim.OneCycleLR(again, 0.5, total_steps=10)
    later.steps = steps
    train(resumed, again, 5, later)
    assert same(resumed.state_dict(), through.state_dict())


def test_the_state_lists_slots_by_place_and_options_by_group() -> None:
    optimizer = OPTIMIZERS["Adam"]([parameter(2, 3)])
    assert list(optimizer.state_dict()) == ["group.0.lr", "group.0.beta1"]
    optimizer.parameters[0].grad = cr.ones((2, 3))
    optimizer.step()
    assert {key: array.shape for key, array in optimizer.state_dict().items()} == {
        "0.count": (),
        "0.mean": (2, 3),
        "0.square": (2, 3),
        "group.0.lr": (),
        "group.0.beta1": (),
    }


def stepped(make: Any, shape: tuple[int, ...] = (2, 3)) -> optim.Optimizer:
    optimizer = make([parameter(*shape)])
    optimizer.parameters[0].grad = cr.ones(shape)
    optimizer.step()
    return optimizer


ADAM_STATE = {**stepped(optim.Adam).state_dict()}
SGD_STATE = {**stepped(lambda params: optim.SGD(params, momentum=0.9)).state_dict()}
FOREIGN: list[tuple[Any, dict[str, Any], str]] = [
    (optim.SGD, ADAM_STATE, "optimizer state '0.mean' does not belong to this SGD"),
    (
        optim.SGD,
        SGD_STATE,
        "optimizer state '0.momentum' does not belong to this SGD(lr=0.001, momentum=0.0, dampening=0.0, weight_decay=0.0, "
        "nesterov=False, maximize=False): was it saved by one with other options?",
    ),
    (
        lambda params: optim.Adam(params, amsgrad=True),
        ADAM_STATE,
        "optimizer state lacks 0.largest: was it saved by another Adam, or another optimizer?",
    ),
    (
        lambda params: optim.RAdam(params),
        {**stepped(optim.NAdam).state_dict()},
        "optimizer state '0.correction' does not belong to this RAdam",
    ),
    (
        optim.Adam,
        {**stepped(lambda params: optim.Adam(params, amsgrad=True)).state_dict()},
        "optimizer state '0.largest' does not belong to this Adam(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08, "
        "weight_decay=0.0, amsgrad=False, maximize=False, decoupled_weight_decay=False): was it saved by one with other "
        "options?",
    ),
    (optim.Adam, SGD_STATE, "optimizer state '0.momentum' does not belong to this Adam"),
    (
        optim.RMSprop,
        SGD_STATE,
        "optimizer state lacks 0.square: was it saved by another RMSprop, or another optimizer?",
    ),
    (optim.Adam, {**ADAM_STATE, "1.mean": np.zeros(3)}, "optimizer state '1.mean' does not belong to this Adam"),
    (optim.Adam, {**ADAM_STATE, "group.1.lr": np.array(0.1)}, "optimizer state 'group.1.lr' does not belong to this Adam"),
    (optim.Adam, {**ADAM_STATE, "speed": np.array(0.1)}, "optimizer state 'speed' does not belong to this Adam"),
    (
        optim.Adam,
        {**ADAM_STATE, "0.square": np.zeros((3, 2))},
        "optimizer state '0.square' has shape (3, 2), this Adam needs (2, 3)",
    ),
    (optim.Adam, {**ADAM_STATE, "0.mean": np.zeros(())}, "optimizer state '0.mean' has shape (), this Adam needs (2, 3)"),
    (optim.Adam, {**ADAM_STATE, "0.count": np.zeros((2, 3))}, "optimizer state '0.count' has shape (2, 3), this Adam needs ()"),
    (
        optim.Adam,
        {key: value for key, value in ADAM_STATE.items() if key not in ("0.mean", "group.0.beta1")},
        "optimizer state lacks group.0.beta1, 0.mean: was it saved by another Adam, or another optimizer?",
    ),
]


@pytest.mark.parametrize(("kind", "state", "text"), FOREIGN)
@pytest.mark.parametrize("used", [False, True])
def test_a_foreign_state_is_refused_and_changes_nothing(kind: Any, state: dict[str, Any], text: str, used: bool) -> None:
    optimizer = stepped(kind) if used else kind([parameter(2, 3)])
    before = {key: array.copy() for key, array in optimizer.state_dict().items()}
    with pytest.raises(UserError) as caught:
        optimizer.load_state_dict(state)
    assert str(caught.value) == text
    assert same(optimizer.state_dict(), before)


def test_adam_and_adamw_can_take_over_from_each_other() -> None:
    optimizer = optim.AdamW([parameter(2, 3)])
    optimizer.load_state_dict(ADAM_STATE)
    assert same(optimizer.state_dict(), ADAM_STATE)


# ---- what optimizers refuse


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: optim.SGD([]), "SGD: got no parameters: pass model.parameters()"),
        (lambda: optim.Adam(nn.ReLU().parameters()), "Adam: got no parameters: pass model.parameters()"),
        (lambda: optim.SGD([parameter(1)], lr=-0.1), "SGD: lr must be at least 0, got -0.1"),
        (lambda: optim.Adam([parameter(1)], lr=math.nan), "Adam: lr must be at least 0, got nan"),
        (lambda: optim.AdamW([parameter(1)], weight_decay=-1.0), "AdamW: weight_decay must be at least 0, got -1.0"),
        (lambda: optim.Adam([parameter(1)], betas=(0.9, 1.0)), "Adam: beta2 must be at least 0 and under 1, got 1.0"),
        (lambda: optim.RMSprop([parameter(1)], alpha=1.5), "RMSprop: alpha must be at least 0 and under 1, got 1.5"),
        (lambda: optim.SGD([parameter(1)], momentum=-0.5), "SGD: momentum must be at least 0 and under 1, got -0.5"),
        (
            lambda: optim.SGD([parameter(1)], nesterov=True),
            "SGD: nesterov=True needs a momentum above 0, for example momentum=0.9",
        ),
        (
            lambda: optim.SGD([{"params": [parameter(1)], "momentun": 0.9}]),
            "SGD: unknown option 'momentun' of a group. Known: lr, momentum, dampening, weight_decay, nesterov, maximize",
        ),
        (
            lambda: optim.SGD([parameter(1)], momentum=0.9, dampening=0.5, nesterov=True),
            "SGD: nesterov=True needs dampening=0, got 0.5",
        ),
        (
            lambda: optim.SGD([parameter(1)], momentum=0.9, dampening=-0.5),
            "SGD: dampening must be at least 0 and under 1, got -0.5",
        ),
        (
            lambda: optim.SGD([parameter(1)], 0.1, 0.9, 0.0, 0.0, True, True),
            "SGD: too many positional arguments: it is called as",
        ),
        (lambda: optim.SGD([parameter(1)], maximize=1), "SGD: maximize must be True or False, got 1"),
        (
            lambda: optim.SGD([parameter(1)], foreach=True),
            "SGD: there is no argument 'foreach': leave it out: all parameters are",
        ),
        (
            lambda: optim.StepLR(optim.SGD([parameter(1)]), 3, last_epoch=7),
            "StepLR: there is no argument 'last_epoch': leave it out: to resume, write schedule.load_state_dict(state), or",
        ),
        (lambda: optim.Adam([parameter(1)], amsgrad="yes"), "Adam: amsgrad must be True or False, got 'yes'"),
        (lambda: optim.Adagrad([parameter(1)], lr_decay=-1), "Adagrad: lr_decay must be at least 0, got -1"),
        (
            lambda: optim.Adagrad([parameter(1)], initial_accumulator_value=math.inf),
            "Adagrad: initial_accumulator_value must be at least 0, got inf",
        ),
        (lambda: optim.NAdam([parameter(1)], momentum_decay=-0.1), "NAdam: momentum_decay must be at least 0, got -0.1"),
        (lambda: optim.RAdam([parameter(1)], betas=0.9), "RAdam: betas must be a list, got a float: pass two numbers"),
        (
            lambda: optim.Adam([{"params": [parameter(1)], "betas": (0.9, -1.0)}]),
            "Adam: beta2 must be at least 0 and under 1, got -1.0",
        ),
        (
            lambda: optim.SGD([{"parameters": []}]),
            "SGD: a group must be a dict with 'params' and options, got {'parameters': []}",
        ),
        (lambda: optim.SGD(nn.Sequential(nn.ReLU())), "SGD: can only update parameters, got ReLU"),
        (
            lambda: optim.SGD([cr.zeros((2,))]),
            "SGD: float32[2] asks for no gradient: make it with requires_grad=True, or a Parameter",
        ),
        (lambda: optim.SGD([nn.Buffer(np.zeros(2))]), "SGD: can only update parameters, got Buffer"),
        (lambda: optim.clip_grad_norm_([parameter(1)], 0.0), "clip_grad_norm_: max_norm must be above 0, got 0.0"),
        (
            lambda: optim.clip_grad_norm_([parameter(1)], 1.0, 0),
            "clip_grad_norm_: norm_type must be above 0, such as 1, 2 or math.inf, got 0",
        ),
        (lambda: optim.clip_grad_norm_([parameter(1)], 1.0, "inf"), "clip_grad_norm_: norm_type must be a number, got 'inf'"),
        (lambda: optim.clip_grad_value_([parameter(1)], -1.0), "clip_grad_value_: clip_value must be at least 0, got -1.0"),
        (lambda: optim.clip_grad_value_([], 1.0), "clip_grad_value_: got no parameters, so nothing would be clipped: pass"),
        (lambda: optim.clip_grad_value_([3], 1.0), "clip_grad_value_: element 0 must be a parameter, got a int: pass model."),
    ],
)
def test_what_does_not_fit_is_named(make: Any, text: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value).startswith(text)


def test_a_parameter_given_twice_is_named_by_its_path() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    network(cr.zeros((1, 2)))  # a model that has run knows the paths of its parameters
    with pytest.raises(UserError, match=r"^SGD: parameter 0\.bias is given twice$"):
        optim.SGD([{"params": network.parameters()}, {"params": [network[0].bias]}])


def test_an_option_that_is_no_argument_is_named() -> None:
    with pytest.raises(UserError, match="SGD: unknown argument 'momentun': did you mean 'momentum'"):
        optim.SGD([parameter(1)], momentun=0.9)  # type: ignore[call-arg]


# ---- steps


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_without_a_gradient_are_left_alone(name: str) -> None:
    used, idle = cr.Parameter(np.ones(2, np.float32)), cr.Parameter(np.ones(2, np.float32))
    optimizer = OPTIMIZERS[name]([used, idle])
    (used * used).sum().backward()
    optimizer.step()
    assert (used.numpy() != 1).all()
    assert (idle.numpy() == 1).all()
    assert not any(key.startswith("1.") for key in optimizer.state_dict())


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_keep_their_dtype_and_state_has_at_least_float32(name: str, dtype: str) -> None:
    one = cr.Parameter(np.ones(3), dtype)
    optimizer = OPTIMIZERS[name]([one])
    (one * one).sum().backward()
    optimizer.step()
    assert one.dtype.name == dtype
    state = {key[2:]: array.dtype.name for key, array in optimizer.state_dict().items()}
    wide = "float32" if dtype == "bfloat16" else dtype
    assert {state[slot] for slot in ("mean", "momentum", "square") if slot in state} <= {wide}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_update_as_a_program_is_the_one_node_by_node(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for worth in (1 << 30, 0):
        monkeypatch.setattr(optimizer_module, "_WORTH_A_PROGRAM", worth)
        network = model().astype("float64")
        optimizer = OPTIMIZERS[name](network.parameters())
        train(network, optimizer, 7)
        states.append({**network.state_dict(), **optimizer.state_dict()})
    assert list(states[0]) == list(states[1])
    for key, array in states[0].items():
        np.testing.assert_allclose(states[1][key], array, rtol=1e-12, atol=1e-14, err_msg=key)


def test_radam_takes_five_plain_steps_by_default() -> None:
    one = cr.Parameter(np.zeros(1))
    optimizer = optim.RAdam([one], lr=1.0)
    moves = []
    for gradient in (4.0,) * 7:
        one.grad = cr.tensor([gradient], "float64")
        before = one.item()
        optimizer.step()
        moves.append(before - one.item())
    np.testing.assert_allclose(moves[:5], 4.0, rtol=1e-12)
    assert max(moves[5:]) < 0.1


def textbook(name: str, gradients: np.ndarray) -> np.ndarray:
    """Where the weights are after each gradient, from 0 on, by the formulas of the papers: (steps, weights)."""
    w, places = np.zeros(gradients.shape[1]), []
    m, v, largest, product = w * 0, w * 0, w * 0, 1.0
    for t, g in enumerate(gradients, 1):
        if name == "dampened":
            m = 0.9 * m + 0.6 * g if t > 1 else g
            w = w - 0.1 * m
        elif name == "Adagrad":
            v = v + g * g
            w = w - 0.1 / (1 + (t - 1) * 0.3) * g / (np.sqrt(v + 0.7) + 1e-10)
        else:
            m, v = 0.7 * m + 0.3 * g, 0.8 * v + 0.2 * g * g
            largest = np.maximum(largest, v)
            correction = 1 - 0.8**t
            if name == "amsgrad":
                w = w - 0.1 * m / (1 - 0.7**t) / (np.sqrt(largest / correction) + 1e-8)
            elif name == "NAdam":
                now, then = (0.7 * (1 - 0.5 * 0.96 ** (step * 0.3)) for step in (t, t + 1))
                product *= now
                move = (1 - now) * g / (1 - product) + then * m / (1 - product * then)
                w = w - 0.1 * move / (np.sqrt(v / correction) + 1e-8)
            else:
                longest = 2 / 0.2 - 1
                length = longest - 2 * t * 0.8**t / correction
                root = np.sqrt(max(0.0, (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)))
                factor = root * np.sqrt(correction) / (np.sqrt(v) + 1e-8) if length > 5 else 1.0
                w = w - 0.1 * m / (1 - 0.7**t) * factor
        places.append(w)
    return np.stack(places)


IN_TEXTBOOKS: dict[str, Any] = {
    "dampened": lambda one: optim.SGD([one], 0.1, 0.9, 0.4),
    "Adagrad": lambda one: optim.Adagrad([one], 0.1, 0.3, initial_accumulator_value=0.7),
    "amsgrad": lambda one: optim.Adam([one], 0.1, (0.7, 0.8), amsgrad=True),
    "NAdam": lambda one: optim.NAdam([one], 0.1, (0.7, 0.8), momentum_decay=0.3),
    "RAdam": lambda one: optim.RAdam([one], 0.1, (0.7, 0.8)),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("name", IN_TEXTBOOKS)
def test_in_float64_the_formulas_of_the_papers_are_met_to_the_last_digits(name: str, compiled: bool) -> None:
    gradients = np.random.default_rng(2).standard_normal((20, 5)) * [1, 3, 1e-3, 100, 0.1]
    one = cr.Parameter(np.zeros(5))
    optimizer = IN_TEXTBOOKS[name](one)

    def step(gradient: cr.Tensor) -> None:
        one.grad = gradient
        optimizer.step()

    run = cr.compile(step) if compiled else step
    for gradient, expected in zip(gradients, textbook(name, gradients), strict=True):
        run(cr.tensor(gradient))
        np.testing.assert_allclose(one.numpy(), expected, rtol=1e-12, atol=1e-14)


def test_dampening_is_not_rounded_to_float32() -> None:
    """1 - 0.9 is no float32: rounded to it, the second step would differ in the eighth digit."""
    for compiled in (False, True):
        one = cr.Parameter(np.ones(1))
        optimizer = optim.SGD([one], lr=1.0, momentum=0.5, dampening=0.9)

        def step(one: cr.Parameter = one, optimizer: optim.SGD = optimizer) -> None:
            optimizer.zero_grad()
            (3.0 * one).sum().backward()
            optimizer.step()

        taken = cr.compile(step) if compiled else step
        taken()
        taken()
        np.testing.assert_allclose(one.numpy(), [1.0 - 3.0 - (0.5 * 3.0 + 3.0 * (1 - 0.9))], rtol=1e-15)


def test_dampening_does_not_diminish_the_first_gradient() -> None:
    one = cr.Parameter(np.zeros(1))
    optimizer = optim.SGD([one], lr=1.0, momentum=0.5, dampening=0.75)
    found = []
    for _ in range(3):
        one.grad = cr.ones((1,), "float64")
        optimizer.step()
        found.append(one.item())
    assert found == [-1.0, -1.75, -2.375]  # velocities 1, 0.75 and 0.625


def test_setting_the_rate_sets_it_for_all_groups() -> None:
    optimizer = optim.SGD([{"params": parameter(1), "lr": 0.2}, {"params": parameter(1)}], lr=0.1)
    assert [group.value("lr") for group in optimizer.groups] == [0.2, 0.1]
    optimizer.lr = 0.05
    assert optimizer.lr == 0.05
    assert [group.value("lr") for group in optimizer.groups] == [0.05, 0.05]


def test_zero_grad_forgets_gradients() -> None:
    one = cr.Parameter(np.ones(2))
    optimizer = optim.SGD([one])
    one.sum().backward()
    optimizer.zero_grad()
    assert one.grad is None


def test_updates_leave_no_history() -> None:
    network = model()
    train(network, optim.Adam(network.parameters()), 3)
    assert all(one.node.is_leaf for one in network.parameters())


def test_an_optimizer_shows_its_options() -> None:
    assert (
        repr(optim.SGD([parameter(1)], lr=0.5, momentum=0.9))
        == "SGD(lr=0.5, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False)"
    )
    assert repr(optim.Adam([parameter(1)])) == (
        "Adam(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.0, amsgrad=False, maximize=False, "
        "decoupled_weight_decay=False)"
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_variance_of_centered_rmsprop_is_never_negative(dtype: str) -> None:
    rng = np.random.default_rng(3)
    gradients = {
        "constant": np.full((400, 3), [0.1, -7.3, 1e-3]),
        "alternating": np.where(np.arange(400)[:, None] % 2, 1.0, 1.0 + 1e-6) * [0.3, 100.0, 1e-8],
        "noise on a large mean": 1000 + rng.standard_normal((400, 3)),
    }
    for name, several in gradients.items():
        one = cr.Parameter(np.zeros(3, dtype))
        optimizer = optim.RMSprop([one], lr=1e-3, alpha=0.9, centered=True)
        mean, variance = np.zeros(3), np.zeros(3)
        for gradient in several:
            one.grad = cr.tensor(gradient.astype(dtype))
            optimizer.step()
            exact = gradient.astype(dtype).astype(np.float64)
            variance = 0.9 * (variance + 0.1 * (exact - mean) ** 2)
            mean = 0.9 * mean + 0.1 * exact
            assert np.isfinite(one.numpy()).all(), name
            assert (optimizer.state[one]["variance"].numpy() >= 0).all(), name
        if "noise" in name:  # about 0.9; a difference of squares near 1e6 has an error of 0.06 in float32
            np.testing.assert_allclose(optimizer.state[one]["variance"].numpy(), variance, rtol=1e-3)


def test_a_state_of_plain_rmsprop_is_none_of_the_centered_kind() -> None:
    plain, centered = (optim.RMSprop([parameter(1)], centered=kind) for kind in (False, True))
    for optimizer, other, lacking in ((plain, centered, "0.variance, 0.mean"), (centered, plain, "0.square")):
        optimizer.parameters[0].grad = cr.tensor([1.0])
        optimizer.step()
        with pytest.raises(UserError, match=f"^optimizer state lacks {lacking}: was it saved by another RMSprop"):
            other.load_state_dict(optimizer.state_dict())


# ---- clipping


def test_clipping_scales_all_gradients_by_one_factor_and_returns_the_length_before() -> None:
    first, second = parameter(2), parameter(3)
    first.grad, second.grad = cr.tensor([3.0, 0.0]), cr.tensor([0.0, 4.0, 0.0])
    assert optim.clip_grad_norm_([first, second, parameter(2)], 1.0).item() == pytest.approx(5.0)
    np.testing.assert_allclose(first.grad, [0.6, 0.0], rtol=1e-5)
    np.testing.assert_allclose(second.grad, [0.0, 0.8, 0.0], rtol=1e-5)


def test_clipping_leaves_short_gradients_as_they_are() -> None:
    one = parameter(2)
    one.grad = cr.tensor([0.3, 0.4])
    assert optim.clip_grad_norm_([one], 1.0).item() == pytest.approx(0.5)
    assert one.grad.tolist() == cr.tensor([0.3, 0.4]).tolist()


def test_clipping_without_gradients_finds_length_zero() -> None:
    assert optim.clip_grad_norm_([parameter(2)], 1.0).item() == 0.0


LENGTHS: dict[str, tuple[str, list[float], float, list[float]]] = {
    "squares overflow": ("float32", [3e19, 4e19], 5e19, [0.6, 0.8]),
    "squares vanish": ("float32", [3e-30, 4e-30], 5e-30, [3e-30, 4e-30]),
    "bfloat16": ("bfloat16", [3e19, 4e19], 5e19, [0.6, 0.8]),
    "float64 overflows": ("float64", [3e200, 4e200], 5e200, [0.6, 0.8]),
    "float64 vanishes": ("float64", [3e-200, 4e-200], 5e-200, [3e-200, 4e-200]),
    "zeros": ("float64", [0.0, -0.0], 0.0, [0.0, -0.0]),
    "nothing": ("float64", [], 0.0, []),
    "infinite": ("float32", [math.inf, 2.0], math.inf, [math.nan, 0.0]),
    "infinite, float64": ("float64", [-math.inf, 2.0], math.inf, [math.nan, 0.0]),
    "nan": ("float32", [math.nan, 2.0], math.nan, [math.nan, math.nan]),
    "nan, float64": ("float64", [2.0, math.nan], math.nan, [math.nan, math.nan]),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", LENGTHS)
def test_clipping_knows_the_length_whatever_the_size_of_its_squares(name: str, compiled: bool) -> None:
    dtype, numbers, length, clipped = LENGTHS[name]
    one = cr.Parameter(cr.tensor([1.0] * len(numbers), dtype).numpy())

    def clip(gradient: cr.Tensor) -> tuple[cr.Tensor, cr.Tensor]:
        one.grad = gradient
        found = optim.clip_grad_norm_(one, 1.0)
        assert one.grad is not None
        return found, one.grad

    found = (cr.compile(clip) if compiled else clip)(cr.tensor(numbers, dtype))
    tolerance = 1e-2 if dtype == "bfloat16" else 1e-6
    for have, wanted in zip(found, (length, clipped), strict=True):
        assert have.dtype == cr.tensor(numbers, dtype).dtype
        np.testing.assert_allclose(have.astype("float64").numpy(), wanted, rtol=tolerance)


def clipped_by(call: Any, numbers: Any, dtype: str, compiled: bool) -> tuple[Any, cr.Tensor]:
    """What ``call`` gives for a parameter whose gradient is ``numbers``, and the gradient after it."""
    one = cr.Parameter(np.ones(np.shape(numbers)), dtype)

    def clip(gradient: cr.Tensor) -> tuple[Any, cr.Tensor]:
        one.grad = gradient
        found = call(one)
        assert one.grad is not None
        return found, one.grad

    return (cr.compile(clip) if compiled else clip)(cr.tensor(numbers, dtype))


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("order", [0.5, 1, 1.5, 2, 3, 9.5, 100, math.inf])
@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e-30), ("float32", 1e30), ("float64", 1e-200), ("float64", 1e200)])
def test_a_norm_of_any_order_neither_overflows_nor_underflows(order: float, dtype: str, size: float, compiled: bool) -> None:
    shares = np.array([3.0, -4.0, 0.0, 1.0])
    norm, gradient = clipped_by(lambda one: optim.clip_grad_norm_(one, max(size, 1.0), order), shares * size, dtype, compiled)
    expected = np.linalg.norm(shares, order)
    np.testing.assert_allclose(norm.numpy() / size, expected, rtol=1e-6 if dtype == "float32" else 1e-12)
    factor = min(1.0, 1 / expected) if size > 1 else 1.0
    np.testing.assert_allclose(gradient.numpy() / size, shares * factor, rtol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("order", [0.5, 1, 3, math.inf])
def test_an_infinite_element_and_a_nan_do_to_any_norm_what_they_do_in_pytorch(order: float, compiled: bool) -> None:
    for numbers, expected, clipped in (
        ([math.inf, 2.0], math.inf, [math.nan, 0.0]),
        ([math.nan, 2.0], math.nan, [math.nan, math.nan]),
        ([0.0, 0.0], 0.0, [0.0, 0.0]),
        ([], 0.0, []),
    ):
        norm, gradient = clipped_by(lambda one: optim.clip_grad_norm_(one, 1.0, order), numbers, "float32", compiled)
        np.testing.assert_array_equal(norm.numpy(), np.float32(expected))
        np.testing.assert_array_equal(gradient.numpy(), np.float32(clipped))


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_clipping_by_value_bounds_each_element(dtype: str, compiled: bool) -> None:
    numbers = [0.25, -0.25, 0.5, -3.0, math.inf, -math.inf, math.nan, 0.0]
    _, gradient = clipped_by(lambda one: optim.clip_grad_value_(one, 0.5), numbers, dtype, compiled)
    assert gradient.dtype.name == dtype
    expected = [0.25, -0.25, 0.5, -0.5, 0.5, -0.5, math.nan, 0.0]
    np.testing.assert_array_equal(gradient.astype("float64").numpy(), expected)


def test_gradients_of_frozen_parameters_are_not_clipped() -> None:
    one, frozen = parameter(2), parameter(2)
    one.grad, frozen.grad = cr.tensor([3.0, 0.0]), cr.tensor([4.0, 4.0])
    frozen.requires_grad = False
    assert optim.clip_grad_norm_([one, frozen], 1.0, 1).item() == 3.0
    optim.clip_grad_value_([one, frozen], 0.5)
    assert one.grad.tolist() == [0.5, 0.0]
    assert frozen.grad.tolist() == [4.0, 4.0]


def test_clipping_what_an_exhausted_generator_gives_says_so() -> None:
    network = model()
    parameters = (one for one in network.parameters())
    optim.SGD(parameters)
    with pytest.raises(UserError) as caught:
        optim.clip_grad_norm_(parameters, 1.0)
    assert str(caught.value) == (
        "clip_grad_norm_: got no parameters, so nothing would be clipped: pass model.parameters() anew, as a generator gives "
        "its parameters only once, or a list of them"
    )


# ---- schedules

SCHEDULES: dict[str, Any] = {
    "StepLR": lambda optimizer: optim.StepLR(optimizer, 4, 0.5),
    "CosineAnnealingLR": lambda optimizer: optim.CosineAnnealingLR(optimizer, 12, 0.01),
    "LinearLR": lambda optimizer: optim.LinearLR(optimizer, 0.1, total_iters=5),
    "ConstantLR": lambda optimizer: optim.ConstantLR(optimizer, 0.2, 5),
    "CosineAnnealingWarmRestarts": lambda optimizer: optim.CosineAnnealingWarmRestarts(optimizer, 3, 2, 0.01),
    "CyclicLR": lambda optimizer: optim.CyclicLR(optimizer, [0.1, 0.2], 0.5, 3, 2, "triangular2"),
    "ExponentialLR": lambda optimizer: optim.ExponentialLR(optimizer, 0.9),
    "LambdaLR": lambda optimizer: optim.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "MultiStepLR": lambda optimizer: optim.MultiStepLR(optimizer, [7, 2, 2], 0.5),
    "PolynomialLR": lambda optimizer: optim.PolynomialLR(optimizer, 10, 2.0),
    "OneCycleLR": lambda optimizer: optim.OneCycleLR(optimizer, 0.5, 15),
    "OneCycleLR, three phases": lambda optimizer: optim.OneCycleLR(optimizer, [0.5, 0.1], 15, three_phase=True),
    "SequentialLR": lambda optimizer: optim.SequentialLR(
        optimizer, [optim.LinearLR(optimizer, 0.1, total_iters=5), optim.StepLR(optimizer, 3)], [5]
    ),
}


def options(optimizer: optim.Optimizer) -> list[tuple[float, float]]:
    return [(group.value("lr"), group.value("momentum")) for group in optimizer.groups]


def two_groups() -> optim.SGD:
    return optim.SGD([{"params": parameter(1)}, {"params": parameter(1), "lr": 0.02}], lr=0.2, momentum=0.9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_setting_the_steps_is_as_good_as_taking_them(name: str) -> None:
    stepping, jumping = two_groups(), two_groups()
    one, other = SCHEDULES[name](stepping), SCHEDULES[name](jumping)
    for step in (*range(15), 3, 0, 7):
        if step == one.steps + 1:
            one.step()
        else:
            one.steps = step
        other.steps = 14
        other.steps = step
        assert other.steps == step
        assert options(stepping) == options(jumping)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_saved_and_resumed(name: str) -> None:
    stepping, fresh = two_groups(), two_groups()
    one = SCHEDULES[name](stepping)
    for _ in range(7):
        one.step()
    state = one.state_dict()
    assert {key: (value.dtype, value.shape, value.item()) for key, value in state.items()} == {"steps": (np.int64, (), 7)}
    other = SCHEDULES[name](fresh)
    other.load_state_dict(state)
    for _ in range(4):
        assert options(stepping) == options(fresh)
        one.step()
        other.step()
    assert options(stepping) == options(fresh)


def test_a_schedule_has_a_case_here_if_it_is_a_function_of_its_steps() -> None:
    kinds = {name.partition(",")[0] for name in SCHEDULES}
    assert kinds == {name for name in optim.__all__ if name.endswith("LR") or "Cosine" in name}


METRICS = (1.0, 0.9, 0.95, 0.96, 0.97, 0.98, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.4, math.nan, 0.41, 0.42, 0.43, 0.44, 0.45)


@pytest.mark.parametrize("kept", range(len(METRICS)))
def test_a_plateau_goes_on_where_it_was_saved_whatever_rate_the_optimizer_has_meanwhile(kept: int) -> None:
    def made() -> tuple[optim.SGD, optim.ReduceLROnPlateau]:
        optimizer = two_groups()
        return optimizer, optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=2, min_lr=[0.0, 0.008])

    through, one = made()
    for metric in METRICS[:kept]:
        one.step(metric)
    state = {name: array.copy() for name, array in one.state_dict().items()}
    resumed, other = made()
    other.step(0.1)
    other.step(0.2)
    other.load_state_dict(state)
    assert {name: array.tolist() for name, array in other.state_dict().items()} == {
        name: array.tolist() for name, array in state.items()
    }
    for metric in METRICS[kept:]:
        assert options(through) == options(resumed)
        one.step(cr.tensor(metric, "float64"))
        other.step(np.float64(metric))
    assert options(through) == options(resumed)
    assert options(through)[1][0] == 0.008


def test_a_plateau_shows_where_it_stands() -> None:
    schedule = optim.ReduceLROnPlateau(two_groups(), patience=2)
    schedule.step(0.5)
    schedule.step(0.6)
    assert repr(schedule) == (
        "ReduceLROnPlateau(mode='min', factor=0.1, patience=2, best=0.5, num_bad_epochs=1, cooldown_counter=0, steps=2, lr=0.2)"
    )
    assert {name: array.tolist() for name, array in schedule.state_dict().items()} == {
        **{"steps": 2, "num_bad_epochs": 1, "cooldown_counter": 0, "best": 0.5},
        **{"group.0.lr": 0.2, "group.1.lr": 0.02},
    }


def test_a_plateau_reduces_the_rate_that_a_warm_up_has_set() -> None:
    optimizer = optim.SGD([parameter(1)], lr=0.4)
    warm_up, plateau = optim.LinearLR(optimizer, 0.25, 1.0, 3), optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    plateau.step(1.0)
    warm_up.step()
    assert optimizer.lr == pytest.approx(0.2)
    plateau.step(2.0)
    assert optimizer.lr == pytest.approx(0.1)


PLATEAU_STATE = optim.ReduceLROnPlateau(two_groups(), patience=3).state_dict()


@pytest.mark.parametrize(
    ("make", "state", "text"),
    [
        (
            lambda o: optim.StepLR(o, 2),
            [3],
            "StepLR: the state must be a dict, as state_dict() gives it, got a list",
        ),
        (lambda o: optim.StepLR(o, 2), {}, "schedule state lacks steps: was it saved by another schedule?"),
        (lambda o: optim.StepLR(o, 2), {"steps": 3, "best": 1.0}, "schedule state 'best' does not belong to this StepLR"),
        (
            lambda o: optim.StepLR(o, 2),
            {"steps": np.array(-1)},
            "StepLR: state 'steps' must be a whole number of at least 0, got array(-1)",
        ),
        (
            lambda o: optim.StepLR(o, 2),
            {"steps": 1.5},
            "StepLR: state 'steps' must be a whole number of at least 0, got 1.5",
        ),
        (
            lambda o: optim.ReduceLROnPlateau(o),
            {"steps": 3},
            "schedule state lacks num_bad_epochs, cooldown_counter, best, group.0.lr, group.1.lr: was it saved by another "
            "schedule?",
        ),
        (
            lambda o: optim.ReduceLROnPlateau(o, patience=1),
            {**PLATEAU_STATE, "num_bad_epochs": 2},
            "ReduceLROnPlateau: state 'num_bad_epochs' is 2, more than the 1 that this one goes up to: was it saved by one "
            "with other arguments?",
        ),
        (
            lambda o: optim.ReduceLROnPlateau(o),
            {**PLATEAU_STATE, "best": "a"},
            "ReduceLROnPlateau: state 'best' must be a number, got 'a'",
        ),
        (
            lambda o: optim.ReduceLROnPlateau(o),
            {**PLATEAU_STATE, "group.1.lr": -0.5},
            "ReduceLROnPlateau: state 'group.1.lr' must be at least 0, got -0.5",
        ),
    ],
)
def test_a_foreign_state_of_a_schedule_is_refused_and_changes_nothing(make: Any, state: Any, text: str) -> None:
    optimizer = two_groups()
    schedule = make(optimizer)
    before = options(optimizer), {name: array.tolist() for name, array in schedule.state_dict().items()}
    with pytest.raises(UserError) as caught:
        schedule.load_state_dict(state)
    assert str(caught.value) == text
    assert (options(optimizer), {name: array.tolist() for name, array in schedule.state_dict().items()}) == before


def test_a_plateau_takes_no_step_inside_a_compiled_function() -> None:
    plateau = optim.ReduceLROnPlateau(two_groups())

    @cr.compile
    def step(x: cr.Tensor) -> cr.Tensor:
        plateau.step(1.0)
        return x

    with pytest.raises(UserError, match=r"^ReduceLROnPlateau: the schedule takes a step inside a compiled function"):
        step(np.ones(1, np.float32))
    assert plateau.steps == 0


def test_a_compiled_step_reads_what_a_schedule_sets() -> None:
    for compiled in (False, True):
        one = cr.Parameter(np.zeros(1))
        optimizer = optim.SGD([one], lr=1.0)
        schedules = optim.MultiStepLR(optimizer, [2]), optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)

        def step(one: cr.Parameter = one, optimizer: optim.Optimizer = optimizer) -> cr.Tensor:
            one.grad = cr.ones((1,), "float64")
            optimizer.step()
            return one * 1

        run = cr.compile(step) if compiled else step
        found = []
        for metric in (1.0, 2.0, 0.5):
            found.append(run().item())
            schedules[0].step()
            schedules[1].step(metric)
        assert found == [-1.0, -2.0, pytest.approx(-2.05)]
        if compiled:
            assert run.explain_retrace().count("tracing") == 1  # type: ignore[attr-defined]


def test_groups_are_scheduled_from_their_own_rates() -> None:
    optimizer = two_groups()
    schedule = optim.StepLR(optimizer, 1, 0.5)
    schedule.step()
    assert [rate for rate, _ in options(optimizer)] == [0.1, 0.01]


def test_a_scheduled_rate_is_what_the_next_step_uses() -> None:
    one = cr.Parameter(np.zeros(1))
    optimizer = optim.SGD([one], lr=1.0)
    schedule = optim.StepLR(optimizer, 1, 0.5)
    for expected in (-1.0, -1.5, -1.75):
        one.grad = cr.ones((1,), "float64")
        optimizer.step()
        schedule.step()
        assert one.item() == expected


def test_a_cycle_ends_where_it_should_and_not_later() -> None:
    optimizer = optim.SGD([parameter(1)], lr=0.1, momentum=0.9)
    schedule = optim.OneCycleLR(optimizer, 1.0, total_steps=4, div_factor=10.0, final_div_factor=100.0)
    assert optimizer.lr == pytest.approx(0.1)
    for _ in range(4):
        schedule.step()
    assert optimizer.lr == pytest.approx(0.001)
    with pytest.raises(UserError, match=r"^OneCycleLR: step 5 lies beyond total_steps=4: give it more steps$"):
        schedule.step()
    assert optimizer.lr == pytest.approx(0.001)
    assert schedule.steps == 4


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_cycle_of_any_proportions_stays_within_its_limits(share: float, steps: int) -> None:
    optimizer = optim.SGD([parameter(1)], lr=0.1, momentum=0.9)
    schedule = optim.OneCycleLR(optimizer, 1.0, total_steps=steps, pct_start=share)
    for _ in range(steps):
        schedule.step()
        assert 0 < optimizer.lr <= 1.0
        assert 0.85 <= optimizer.groups[0].value("momentum") <= 0.95


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda o: optim.StepLR(o, 0), "StepLR: step_size must be a whole number of at least 1, got 0"),
        (lambda o: optim.CosineAnnealingLR(o, 0), "CosineAnnealingLR: T_max must be a whole number of at least 1, got 0"),
        (lambda o: optim.LinearLR(o, total_iters=0), "LinearLR: total_iters must be a whole number of at least 1, got 0"),
        (lambda o: optim.LinearLR(o, start_factor=0.0), "LinearLR: factors must lie in (0, 1], got 0.0 and 1.0"),
        (lambda o: optim.OneCycleLR(o, 1.0, 0), "OneCycleLR: total_steps must be a whole number of at least 1, got 0"),
        (lambda o: optim.OneCycleLR(o, 1.0, 5, pct_start=2.0), "OneCycleLR: pct_start must be from 0 to 1, got 2.0"),
        (
            lambda o: optim.OneCycleLR(o, 1.0, 5, anneal_strategy="cosine"),
            "OneCycleLR: anneal_strategy must be 'cos' or 'linear', got 'cosine'",
        ),
        (
            lambda o: optim.OneCycleLR(o, 1.0, 5),
            "OneCycleLR: cycle_momentum=True needs an optimizer with momentum: pass one, or cycle_momentum=False",
        ),
        (lambda o: optim.OneCycleLR(o, 1.0), "OneCycleLR: pass total_steps, or epochs and steps_per_epoch"),
        (lambda o: optim.OneCycleLR(o, 1.0, epochs=3), "OneCycleLR: pass total_steps, or epochs and steps_per_epoch"),
        (
            lambda o: optim.OneCycleLR(o, [1.0, 2.0], 5),
            "OneCycleLR: max_lr must be a number, or one for each of the 1 groups, got 2",
        ),
        (lambda o: optim.OneCycleLR(o, ["a"], 5), "OneCycleLR: max_lr of group 0 must be a number, got 'a'"),
        (lambda o: optim.MultiStepLR(o, 3), "MultiStepLR: milestones must be a list, got a int: pass the steps at which the"),
        (lambda o: optim.MultiStepLR(o, [1.5]), "MultiStepLR: a milestone must be a whole number of at least 0, got 1.5"),
        (lambda o: optim.ExponentialLR(o, None), "ExponentialLR: gamma must be a number, got None"),
        (lambda o: optim.ConstantLR(o, 2.0), "ConstantLR: factor must be from 0 to 1, got 2.0"),
        (lambda o: optim.ConstantLR(o, 0.5, 0), "ConstantLR: total_iters must be a whole number of at least 1, got 0"),
        (lambda o: optim.PolynomialLR(o, 0), "PolynomialLR: total_iters must be a whole number of at least 1, got 0"),
        (lambda o: optim.PolynomialLR(o, 5, 0.0), "PolynomialLR: power must be above 0, got 0.0"),
        (
            lambda o: optim.CosineAnnealingWarmRestarts(o, 0),
            "CosineAnnealingWarmRestarts: T_0 must be a whole number of at least 1, got 0",
        ),
        (
            lambda o: optim.CosineAnnealingWarmRestarts(o, 2, 1.5),
            "CosineAnnealingWarmRestarts: T_mult must be a whole number of at least 1, got 1.5",
        ),
        (
            lambda o: optim.LambdaLR(o, 0.5),
            "LambdaLR: lr_lambda must be a function of the step, got a float: such as lambda step: 0.95**step",
        ),
        (
            lambda o: optim.LambdaLR(o, [abs, abs]),
            "LambdaLR: lr_lambda must be a function, or one for each of the 1 groups, got 2",
        ),
        (
            lambda o: optim.LambdaLR(o, lambda step: None),
            "LambdaLR: what lr_lambda gives for step 0 must be a number, got None",
        ),
        (
            lambda o: optim.CyclicLR(o, 0.1, 0.5),
            "CyclicLR: cycle_momentum=True needs an optimizer with momentum: pass one, or cycle_momentum=False",
        ),
        (lambda o: optim.CyclicLR(o, 0.1, 0.5, 0), "CyclicLR: step_size_up must be a whole number of at least 1, got 0"),
        (
            lambda o: optim.CyclicLR(o, 0.1, 0.5, mode="square"),
            "CyclicLR: mode must be 'triangular', 'triangular2' or 'exp_range', got 'square'",
        ),
        (
            lambda o: optim.CyclicLR(o, 0.1, 0.5, scale_mode="step"),
            "CyclicLR: scale_mode must be 'cycle' or 'iterations', got 'step'",
        ),
        (lambda o: optim.CyclicLR(o, 0.1, 0.5, scale_fn=1), "CyclicLR: scale_fn must be a function of a number, got a int"),
        (
            lambda o: optim.CyclicLR(o, 0.1, 0.5, scale_fn=str, cycle_momentum=False),
            "CyclicLR: what scale_fn gives for 1 must be a number, got '1'",
        ),
        (
            lambda o: optim.ReduceLROnPlateau(o, "fall"),
            "ReduceLROnPlateau: mode must be 'min' or 'max', got 'fall'",
        ),
        (
            lambda o: optim.ReduceLROnPlateau(o, threshold_mode="both"),
            "ReduceLROnPlateau: threshold_mode must be 'rel' or 'abs', got 'both'",
        ),
        (lambda o: optim.ReduceLROnPlateau(o, factor=1), "ReduceLROnPlateau: factor must be at least 0 and under 1, got 1"),
        (
            lambda o: optim.ReduceLROnPlateau(o, patience=-1),
            "ReduceLROnPlateau: patience must be a whole number of at least 0, got -1",
        ),
        (
            lambda o: optim.ReduceLROnPlateau(o).step("a"),
            "ReduceLROnPlateau: metrics must be a number, got 'a'",
        ),
        (
            lambda o: setattr(optim.ReduceLROnPlateau(o), "steps", 3),
            "ReduceLROnPlateau: the rate depends on the metrics, not on the number of steps: restore it with load_state_dict()",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1), optim.ReduceLROnPlateau(o)], [3]),
            "SequentialLR: ReduceLROnPlateau needs a metric at each step, which SequentialLR does not get: call its "
            "step(metrics) by itself, after the steps of the others",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1), optim.StepLR(optim.SGD([parameter(1)]), 1)], [3]),
            "SequentialLR: StepLR is a schedule of another optimizer: make it for this one",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1), optim.StepLR(o, 2)], [3, 5]),
            "SequentialLR: 2 schedules need 1 ascending milestones, got [3, 5]",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1), optim.StepLR(o, 2), optim.StepLR(o, 2)], [5, 3]),
            "SequentialLR: 3 schedules need 2 ascending milestones, got [5, 3]",
        ),
    ],
)
def test_what_does_not_fit_a_schedule_is_named(make: Any, text: str) -> None:
    with pytest.raises(UserError) as caught:
        make(optim.SGD([parameter(1)], lr=0.1))
    assert str(caught.value).startswith(text)


def test_running_means_of_bfloat16_parameters_decay() -> None:
    parameter = cr.Parameter(np.ones(3), "bfloat16")
    optimizer = optim.Adam([parameter], lr=0.01, betas=(0.9, 0.99))
    parameter.grad = cr.ones(3, "bfloat16")
    optimizer.step()
    first = optimizer.state[parameter]["square"].numpy()[0]
    parameter.grad = cr.zeros(3, "bfloat16")
    for _ in range(100):
        optimizer.step()
    assert parameter.dtype == cr.bfloat16
    assert optimizer.state[parameter]["square"].numpy()[0] == pytest.approx(first * 0.99**100, rel=1e-3)


def test_one_parameter_alone_is_clipped() -> None:
    parameter = cr.Parameter([3.0, 4.0])
    parameter.grad = cr.tensor([3.0, 4.0])
    assert optim.clip_grad_norm_(parameter, 1.0).item() == 5
    np.testing.assert_allclose(parameter.grad.numpy(), [0.6, 0.8], rtol=1e-5)


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize(
    ("numbers", "limit"),
    [([2e38, 2e38], 1.0), ([1e38], 1.0), ([1e19], 1e-20), ([3e10, 4e10], 1e-30), ([3.0, 4.0], 1.0), ([1e-20], 1.0)],
)
def test_clipping_by_any_factor_gives_the_length_that_was_asked_for(numbers: list[float], limit: float, compiled: bool) -> None:
    """Also by a factor that no normal float32 is: native code takes those for 0."""
    parameter = cr.Parameter(np.zeros(len(numbers), np.float32))

    def clipped(g: Any) -> Any:
        (parameter * g).sum().backward()
        return optim.clip_grad_norm_([parameter], limit)

    (cr.compile(clipped) if compiled else clipped)(cr.tensor(np.array(numbers, np.float32)))
    exact = np.array(numbers, np.float64)
    length = np.hypot.reduce(exact)
    np.testing.assert_allclose(parameter.grad.numpy(), exact * min(1.0, limit / (length + 1e-6)), rtol=1e-6)
