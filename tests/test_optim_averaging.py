"""Averages of the weights: their formula, the model that has them for a while, resuming, and what is refused.

That they are PyTorch's is held in ``test_optim_agreement.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, nn, optim

X = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((8, 2)).astype(np.float32)


def network() -> nn.Sequential:
    cr.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


class Training:
    """A network that is trained with averages of its weights, by plain or compiled steps."""

    def __init__(self, compiled: bool = False, dtype: str = "float32", **options: Any) -> None:
        self.model = network().astype(dtype)
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.05)
        self.ema = optim.EMA(self.model, **options)
        self.step: Callable[[], Any] = cr.compile(self._step) if compiled else self._step

    def _step(self) -> cr.Tensor:
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self.model(cr.tensor(X, "float32")), cr.tensor(Y))
        loss.backward()
        self.optimizer.step()
        self.ema.update()
        return loss


def copied(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in state.items()}


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert set(one) == set(other)
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        np.testing.assert_array_equal(other[name], array, err_msg=name)


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("warmup", [False, True], ids=["constant", "warm-up"])
def test_an_average_follows_the_weights_with_its_decay(warmup: bool, compiled: bool) -> None:
    training = Training(compiled, "float64", decay=0.6, warmup=warmup)
    averages: dict[str, np.ndarray] = {}
    for past in range(12):
        training.step()
        decay = min(0.6, (1 + past) / (10 + past)) if warmup else 0.6
        for name, weight in training.model.state_dict().items():
            learned = name.endswith(("weight", "bias"))
            averages[name] = decay * averages[name] + (1 - decay) * weight if past and learned else weight.copy()
    state = training.ema.state_dict()
    assert state.pop("n_averaged") == training.ema.n_averaged == 12
    assert set(state) == {f"module.{name}" for name in averages}
    for name, expected in averages.items():
        np.testing.assert_allclose(state[f"module.{name}"], expected, rtol=1e-12, atol=1e-15, err_msg=name)


def test_weights_that_stand_still_are_their_average_bit_for_bit() -> None:
    model = network()
    ema = optim.EMA(model, 0.9)
    for _ in range(20):
        ema.update()
    assert_equal({name.removeprefix("module."): one for name, one in list(ema.state_dict().items())[1:]}, model.state_dict())


def test_averages_of_bfloat16_weights_are_float32() -> None:
    parameter = cr.Parameter([1.0], "bfloat16")
    model = nn.Module()
    model.w = parameter
    ema = optim.EMA(model, 0.999)
    ema.update()
    parameter.assign([2.0])
    for _ in range(100):
        ema.update()
    average = ema.state_dict()["module.w"]
    assert average.dtype == np.float32
    assert average[0] == pytest.approx(2 - 0.999**100, rel=1e-5)
    with ema.applied():
        assert parameter.dtype == cr.bfloat16
        assert parameter.item() == pytest.approx(2 - 0.999**100, rel=2**-8)


def test_frozen_weights_are_averaged_as_they_are() -> None:
    training = Training(decay=0.5)
    training.model[0].requires_grad_(False)
    for _ in range(3):
        training.step()
    np.testing.assert_array_equal(training.ema.state_dict()["module.0.weight"], training.model[0].weight.numpy())


# ---- the model with its averages


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_the_model_has_its_averages_for_a_while_and_then_its_own_weights_bit_for_bit(compiled: bool) -> None:
    training = Training(compiled, decay=0.5)
    judge = cr.compile(training.model) if compiled else training.model
    for _ in range(3):
        training.step()
        own = copied(training.model.state_dict())
        with training.ema.applied(), training.model.evaluating():
            averages = training.ema.state_dict()
            assert_equal(
                {f"module.{name}": one for name, one in training.model.state_dict().items()}, dict(list(averages.items())[1:])
            )
            shown = judge(X).numpy()
        assert_equal(training.model.state_dict(), own)
        apart = network()
        apart.load_state_dict({name.removeprefix("module."): one for name, one in averages.items() if name != "n_averaged"})
        np.testing.assert_allclose(shown, apart.eval()(X).numpy(), rtol=1e-5, atol=1e-6)


def test_evaluating_with_the_averages_changes_nothing_of_the_training() -> None:
    through, interrupted = Training(True, decay=0.9), Training(True, decay=0.9)
    for _ in range(5):
        through.step()
        interrupted.step()
        with interrupted.ema.applied(), interrupted.model.evaluating():
            interrupted.model(X)
    assert_equal(through.model.state_dict(), interrupted.model.state_dict())
    assert_equal(through.optimizer.state_dict(), interrupted.optimizer.state_dict())
    assert_equal(through.ema.state_dict(), interrupted.ema.state_dict())
    assert interrupted.step.explain_retrace().count("tracing") == 1  # type: ignore[attr-defined]


def test_a_compiled_function_may_evaluate_with_the_averages() -> None:
    training = Training(decay=0.5)

    @cr.compile
    def judge(x: cr.Tensor) -> cr.Tensor:
        with training.ema.applied(), training.model.evaluating():
            return training.model(x)

    for _ in range(3):
        training.step()
        own = copied(training.model.state_dict())
        found = judge(X).numpy()
        assert_equal(training.model.state_dict(), own)
        with training.ema.applied(), training.model.evaluating():
            np.testing.assert_allclose(found, training.model(X).numpy(), rtol=1e-5, atol=1e-6)
    assert judge.explain_retrace().count("tracing") == 1


def test_the_weights_come_back_after_an_error_too() -> None:
    training = Training(decay=0.5)
    training.step()
    training.step()
    own = copied(training.model.state_dict())
    with pytest.raises(ZeroDivisionError), training.ema.applied():
        1 / 0  # noqa: B018
    assert_equal(training.model.state_dict(), own)
    training.step()


# ---- saving


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("options", [{"decay": 0.9}, {"decay": 0.9, "warmup": True}, {"decay": 0.5, "use_buffers": True}])
def test_averages_resume_bit_for_bit(options: dict[str, Any], compiled: bool) -> None:
    through, resumed = Training(compiled, **options), Training(compiled, **options)
    for _ in range(4):
        through.step()
    saved = [copied(one.state_dict()) for one in (through.model, through.optimizer, through.ema)]
    for _ in range(2):
        resumed.step()  # it has a history of its own, which loading must replace
    for one, state in zip((resumed.model, resumed.optimizer, resumed.ema), saved, strict=True):
        one.load_state_dict(state)  # type: ignore[attr-defined]
    assert_equal(resumed.ema.state_dict(), saved[2])
    for _ in range(4):
        through.step()
        resumed.step()
    assert_equal(through.model.state_dict(), resumed.model.state_dict())
    assert_equal(through.ema.state_dict(), resumed.ema.state_dict())
    assert resumed.ema.n_averaged == 8


STATE = optim.EMA(nn.Linear(3, 2)).state_dict()


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ([1], "EMA: the state must be a dict, as state_dict() gives it, got a list"),
        ({**STATE, "module.scale": 1.0}, "state 'module.scale' of the EMA does not belong to this model"),
        (
            {**STATE, "module.bias": np.zeros(3)},
            "state 'module.bias' of the EMA has shape (3,), this model needs (2,)",
        ),
        (
            {"module.bias": np.zeros(2)},
            "the state of the EMA lacks n_averaged, module.weight: was it saved for another model?",
        ),
        ({**STATE, "n_averaged": -1}, "state 'n_averaged' of the EMA must be a whole number of at least 0, got -1"),
        ({**STATE, "n_averaged": 1.5}, "state 'n_averaged' of the EMA must be a whole number of at least 0, got 1.5"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(state: Any, text: str) -> None:
    ema = optim.EMA(nn.Linear(3, 2))
    ema.update()
    before = copied(ema.state_dict())
    with pytest.raises(UserError) as caught:
        ema.load_state_dict(state)
    assert str(caught.value) == text
    assert_equal(ema.state_dict(), before)


# ---- what is refused


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: optim.EMA([cr.Parameter([1.0])]), "EMA: needs a model, got a list"),
        (lambda: optim.EMA(nn.ReLU()), "EMA: this ReLU has no parameters and no buffers"),
        (lambda: optim.EMA(nn.Linear(2, 2), 1.5), "EMA: decay must be from 0 to 1, got 1.5"),
        (lambda: optim.EMA(nn.Linear(2, 2), "a"), "EMA: decay must be a number, got 'a'"),
        (lambda: optim.EMA(nn.Linear(2, 2), warmup=1), "EMA: warmup must be True or False, got 1"),
    ],
)
def test_what_cannot_be_averaged_is_named(make: Any, text: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value) == text


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_while_the_model_has_its_averages_they_are_not_averaged_themselves(compiled: bool) -> None:
    training = Training(compiled, decay=0.5)
    training.step()
    with training.ema.applied():
        with pytest.raises(UserError, match=r"^EMA: the averages themselves are in the model now: call update\(\) outside of"):
            training.step()
        text = r"^EMA: the averages are in the model already: leave applied\(\) before it is entered again$"
        with pytest.raises(UserError, match=text), training.ema.applied():
            pass
    training.step()
    assert training.ema.n_averaged == 2


def test_it_shows_its_options_also_while_tracing() -> None:
    ema = optim.EMA(network(), 0.99, warmup=True)
    expected = "EMA(decay=0.99, warmup=True, use_buffers=False, n_averaged=0, 6 parameters)"
    assert repr(ema) == expected

    @cr.compile
    def step(x: cr.Tensor) -> cr.Tensor:
        assert repr(ema) == expected
        return x

    step(X)


def test_another_decay_counts_in_a_compiled_step() -> None:
    training = Training(True, decay=0.0)
    for _ in range(3):
        training.step()
    training.ema.decay = 1.0
    before = copied(training.ema.state_dict())
    training.step()
    np.testing.assert_array_equal(training.ema.state_dict()["module.0.weight"], before["module.0.weight"])
    assert "EMA.decay changed from 0.0 to 1.0" in training.step.explain_retrace()  # type: ignore[attr-defined]
