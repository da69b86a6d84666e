"""What a compiled function remembers: each sentence of docs/compiled-functions.md, and a table of what may change."""

from __future__ import annotations

import array
import contextvars
import enum
import gc
import itertools
import operator
import random
import re
import textwrap
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ChainruleWarning, UserError
from chainrule.tensor import CompiledFunction, Tensor
from chainrule.tensor.surroundings import Surroundings
from sharing import share_one_state

PAGE = Path(__file__).parent.parent / "docs" / "compiled-functions.md"
X = np.array([1.0, 2.0, 3.0], np.float32)
SAID: dict[str, Callable[..., Any]] = {}


def says(sentence: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The test holds this sentence of the page."""

    def noted(test: Callable[..., Any]) -> Callable[..., Any]:
        SAID[" ".join(sentence.split())] = test
        return test

    return noted


def tracings(f: CompiledFunction[Any, Any]) -> int:
    return 0 if f.explain_retrace() == "not traced yet" else len(f.explain_retrace().splitlines())


def reason(f: CompiledFunction[Any, Any]) -> str:
    return f.explain_retrace().splitlines()[-1].partition(": ")[2]


# ---- inputs


class Convertible:
    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values, np.float32)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return np.array(self.values, dtype=dtype)


@says("Tensors and NumPy arrays among the arguments are inputs of the program, and so is whatever NumPy takes for an array.")
def test_arrays_are_inputs() -> None:
    total = cr.compile(lambda x: x.sum())
    for scale in range(1, 5):
        for made in (cr.tensor, np.asarray, Convertible):
            assert total(made(X * np.float32(scale))).item() == 6 * scale
    assert tracings(total) == 1


@says("NumPy scalars are inputs, so a number that changes at each call belongs into one: `np.float32(rate)`.")
def test_numpy_scalars_are_inputs() -> None:
    ratio = cr.compile(lambda x, s: x / s)
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for _ in range(50):
            x = rng.standard_normal(7).astype(dtype)
            np.testing.assert_allclose(ratio(x, x.std()).numpy(), x / x.std(), rtol=1e-6)
    assert tracings(ratio) == 2, "one for each dtype"


@pytest.mark.parametrize("scalar", [np.float64(0.3), np.float32(0.3), np.int64(2), np.uint8(3)], ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int64"])
def test_a_numpy_scalar_meets_a_tensor_as_it_does_outside(scalar: Any, dtype: str) -> None:
    def f(x: Any, s: Any) -> Any:
        return x * s, (s * 2) * x, x + s * s

    x = cr.tensor([1, 2, 3], dtype)
    for found, expected in zip(cr.compile(f)(x, scalar), f(x, scalar), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found.astype("float64").numpy(), expected.astype("float64").numpy(), rtol=1e-6)


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass
class Batch:
    images: Any
    scale: float = 1.0
    extras: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Frozen:
    images: Any


class Ordered(list[Any]):
    pass


@says(
    "Lists, tuples, dicts, named tuples and dataclasses among the arguments are taken apart, and the tensors in them are "
    "inputs."
)
@pytest.mark.parametrize(
    ("made", "inside"),
    [
        (lambda x: [x], lambda a: a[0]),
        (lambda x: (0, [x]), lambda a: a[1][0]),
        (lambda x: {"x": x}, lambda a: a["x"]),
        (lambda x: Pair(x, "text"), lambda a: a.first),
        (lambda x: Batch(x), lambda a: a.images),
        (lambda x: Batch(0, extras={"x": [x]}), lambda a: a.extras["x"][0]),
        (lambda x: Frozen(x), lambda a: a.images),
        (lambda x: Ordered([x]), lambda a: a[0]),
    ],
)
def test_trees_of_arguments_are_taken_apart(made: Callable[[Any], Any], inside: Callable[[Any], Any]) -> None:
    def f(argument: Any) -> Any:
        return {"sum": inside(argument).sum(), "again": type(argument)}

    compiled = cr.compile(f)
    for scale in (1, 2, 3):
        found = compiled(made(X * np.float32(scale)))
        assert found["sum"].item() == 6 * scale
        assert found["again"] is type(made(X))
    assert tracings(compiled) == 1


def test_dataclasses_come_back_as_what_they_are() -> None:
    @cr.compile
    def doubled(batch: Batch) -> Batch:
        return Batch(batch.images * 2, batch.scale, {**batch.extras, "more": batch.images + 1})

    found = doubled(Batch(X, 3.0, {"a": X}))
    assert type(found) is Batch
    assert found.images.tolist() == [2, 4, 6]
    assert found.scale == 3.0
    assert [*found.extras] == ["a", "more"]
    assert found.extras["more"].tolist() == [2, 3, 4]


def test_results_that_are_arguments_or_parameters_are_the_very_ones() -> None:
    w = cr.Parameter([1.0])
    f = cr.compile(lambda x: (x, w, x + 1))
    x = cr.tensor([2.0], requires_grad=True)
    same, cell, _ = f(x)
    assert same is x
    assert cell is w


# ---- state


@says(
    "Parameters, buffers, optimizer state, the learning rate of an optimizer and the random counter of `cr.random` are read "
    "and written as in the plain function."
)
def test_state_is_read_and_written() -> None:
    states = []
    for compiled in (False, True):
        cr.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        schedule = optim.StepLR(optimizer, 1, 0.5)

        def step(x: Any, y: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        call: Any = cr.compile(step) if compiled else step
        rng = np.random.default_rng(1)
        for _ in range(4):
            call(cr.tensor(rng.standard_normal((6, 3)), "float32"), cr.tensor(rng.integers(0, 2, 6)))
            schedule.step()
        state = {**model.state_dict(), **{f"optimizer.{k}": v for k, v in optimizer.state_dict().items()}}
        states.append({**state, "random": cr.random.default_generator.state.numpy()})
        if compiled:
            assert tracings(call) == 1
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        np.testing.assert_allclose(states[1][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@says("Gradients arrive in `.grad` of parameters, and of arguments that ask for them.")
def test_gradients_arrive() -> None:
    w = cr.Parameter([2.0])
    f = cr.compile(lambda x: (w * x * x).sum().backward())
    x = cr.tensor([3.0], requires_grad=True)
    f(x)
    assert w.grad is not None
    assert x.grad is not None
    assert (w.grad.tolist(), x.grad.tolist()) == ([9.0], [12.0])


@says("Gradients add up over calls until they are cleared, so several small batches can share one update.")
def test_gradients_add_up_over_calls() -> None:
    w = cr.Parameter([2.0])
    optimizer = optim.SGD([w], lr=0.5)
    add = cr.compile(lambda x: (w * x).sum().backward())

    @cr.compile
    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    for expected in (-2.0, -6.0):
        for value in (1.0, 3.0, 4.0):
            add(np.array([value], np.float32))
        assert w.grad is not None
        assert w.grad.tolist() == [8.0]
        update()
        assert w.grad is None
        assert w.tolist() == [expected]
    assert (tracings(add), tracings(update)) == (2, 1)


@says("`model.train()` and `model.eval()` inside the function take effect at each call.")
def test_two_functions_that_set_the_mode_and_alternate_are_traced_once_each() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))

    @cr.compile
    def train(x: Any) -> Any:
        model.train()
        return model(x)

    @cr.compile
    def judge(x: Any) -> Any:
        model.eval()
        return model(x)

    @cr.compile
    def judge_in_between(x: Any) -> Any:
        with model.evaluating():
            return model(x)

    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    for _ in range(4):
        train(x)
        assert all(one.training for one in model.modules())
        judge_in_between(x)
        assert all(one.training for one in model.modules())
        found = judge(x)
        assert not any(one.training for one in model.modules())
        np.testing.assert_allclose(found.numpy(), model(cr.tensor(x)).numpy(), rtol=1e-5)
    assert tracings(train) == tracings(judge) == tracings(judge_in_between) == 1


def test_a_mode_set_while_tracing_only_is_not_left_behind() -> None:
    model = nn.Dropout(0.5)

    @cr.compile
    def judge(x: Any) -> Any:
        model.eval()
        return model(x)

    judge.prepare(X)
    assert model.training, "nothing has run yet"


@says("Freezing a parameter inside the function, or letting it learn, takes effect at each call.")
def test_requires_grad_that_is_set_inside_is_set_by_each_run() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))

    @cr.compile
    def head_only(x: Any) -> Any:
        model.requires_grad_(False)
        model[1].requires_grad_()
        model(x).sum().backward()

    x = np.ones((5, 3), np.float32)
    for _ in range(3):
        model.requires_grad_()
        model.zero_grad()
        head_only(x)
        assert [one.requires_grad for one in model.parameters()] == [False, False, True, True]
        assert [one.grad is None for one in model.parameters()] == [True, True, False, False]
    assert tracings(head_only) == 1


# ---- guards


@says(
    "Numbers, strings and other hashable arguments count by type and value: 1 is not True, 0.0 is not -0.0, and a NaN is "
    "itself; objects with an `==` of their own, by their attributes too."
)
def test_other_arguments_count_by_type_and_value() -> None:
    class Kind(enum.Enum):
        ONE = 1
        TWO = 2

    values = [
        0.0,
        -0.0,
        0,
        False,
        1,
        1.0,
        True,
        "1",
        b"1",
        None,
        float("nan"),
        Fraction(1, 2),
        Kind.ONE,
        Kind.TWO,
        (1,),
        (True,),
    ]
    values += [
        float("inf"),
        -float("inf"),
        1e308,
        5e-324,
        complex(0.0, -0.0),
        complex(0.0, 0.0),
        frozenset({1}),
        frozenset({True}),
    ]
    seen: list[str] = []

    def f(x: Any, value: Any) -> Any:
        return x + 1, value

    compiled = cr.compile(f)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so many values are what the warning is for
        for value in values:
            seen.append(repr(compiled(X, value)[1]))
    assert seen == [repr(one) for one in values]
    assert tracings(compiled) == len(values)
    before = tracings(compiled)
    for value in values[-10:]:
        assert repr(compiled(X, value)[1]) == repr(value)
    compiled(X, float("nan"))
    assert tracings(compiled) == before, "the last 16 are kept"


def test_dividing_by_zeros_of_both_signs() -> None:
    f = cr.compile(lambda x, zero: x / zero)
    assert f(X, 0.0).tolist() == [np.inf] * 3
    assert f(X, -0.0).tolist() == [-np.inf] * 3


class Holder:
    """An object without a value of its own."""

    def __init__(self, factor: Any) -> None:
        self.factor = factor


@says("Any other argument counts by identity, and is kept alive as long as its program.")
def test_objects_made_in_turn_are_told_apart() -> None:
    f = cr.compile(lambda x, holder: x * holder.factor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for factor in range(1, 30):  # without keeping them alive, their addresses would come again
            assert f(X, Holder(factor)).tolist() == [factor, 2 * factor, 3 * factor]
    cells = cr.compile(lambda cell: cell + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for factor in range(30):
            assert cells(cr.Buffer([float(factor)])).tolist() == [factor + 1]


@dataclass
class Case:
    """Something that a compiled function reads, how it is changed, and how what changed is called."""

    name: str
    function: Callable[[Any], Any]
    change: Callable[[], Any]
    said: str


class Net(nn.Module):
    scale = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.blocks = [nn.Linear(2, 2)]
        self.factor = 1.0
        self.settings = {"shift": 2.0}
        self.options = SimpleNamespace(power=1.0)

    def forward(self, x: Any) -> Any:
        x = self.head(x)
        for block in self.blocks:
            x = block(x)
        return self.scaled(x) * self.scale + self.settings["shift"] ** self.options.power

    def scaled(self, x: Any) -> Any:
        return x * self.factor * GLOBAL_IN_A_METHOD


GLOBAL = 2.0
GLOBAL_LIST = [1.0]
GLOBAL_IN_A_METHOD = 1.0
CONFIG = SimpleNamespace(scale=2.0, deeper=SimpleNamespace(shift=1.0))


class Settings:
    factor = 2.0
    unrelated = 1.0


def global_function(x: Any) -> Any:
    return x * GLOBAL


class Slotted:
    __slots__ = ("factor",)

    def __init__(self) -> None:
        self.factor = 2.0


class WithProperty:
    def __init__(self) -> None:
        self._hidden = 2.0

    @property
    def factor(self) -> float:
        return self._hidden

    def __call__(self, x: Any) -> Any:
        return x * self._hidden


def cases() -> Iterator[Case]:
    cr.manual_seed(0)
    dropout = nn.Dropout(0.5)
    yield Case(
        "the p of a dropout", lambda x: dropout(x), lambda: setattr(dropout, "p", 0.0), "Dropout.p changed from 0.5 to 0.0"
    )

    norm = nn.BatchNorm1d(3)
    wide = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    yield Case(
        "the momentum of a batch normalisation",
        lambda x: (norm(x + wide), norm.running_mean * 1)[1],
        lambda: setattr(norm, "momentum", 0.5),
        "BatchNorm1d.momentum changed from 0.1 to 0.5",
    )

    w = cr.Parameter(X)
    optimizer = optim.SGD([w], lr=0.1)

    def decay(x: Any) -> Any:
        w.assign(x)
        w.grad = cr.ones(3)
        optimizer.step()
        return w * 1

    yield Case(
        "an option of a group", decay, lambda: optimizer.groups[0].set("weight_decay", 1.0), "Group.options changed from"
    )
    yield Case(
        "an option in its dict", decay, lambda: optimizer.groups[0].options.update(weight_decay=2.0), "Group.options changed"
    )
    second = cr.Parameter(X)

    def update_all(x: Any) -> Any:
        second.assign(x)
        second.grad = cr.ones(3)
        optimizer.step()
        return second * 1

    yield Case(
        "parameters of a group", update_all, lambda: optimizer.groups[0].parameters.append(second), "Group.parameters changed"
    )

    momentum = optim.SGD([cr.Parameter(X)], lr=0.1, momentum=0.9)

    def with_momentum(x: Any) -> Any:
        (one,) = momentum.parameters
        one.assign(x)
        one.grad = cr.ones(3)
        momentum.step()
        return one * 1

    yield Case("state that was dropped", with_momentum, lambda: momentum.state.clear(), "SGD.state changed from")

    net = Net()
    yield Case(
        "a list of layers that grew", lambda x: net(x), lambda: net.blocks.append(nn.Linear(2, 2)), "Net.blocks changed from"
    )
    yield Case("a plain attribute", lambda x: net(x), lambda: setattr(net, "factor", 3.0), "Net.factor changed from 1.0 to 3.0")
    yield Case(
        "a dict of a module",
        lambda x: net(x),
        lambda: net.settings.update(shift=5.0),
        "Net.settings changed from {'shift': 2.0}",
    )
    yield Case(
        "an object of a module",
        lambda x: net(x),
        lambda: setattr(net.options, "power", 3.0),
        "Net.options.power changed from 1.0",
    )
    yield Case(
        "an attribute of the class", lambda x: net(x), lambda: setattr(Net, "scale", 4.0), "Net.scale changed from 1.0 to 4.0"
    )
    yield Case(
        "a replaced layer",
        lambda x: net(x),
        lambda: setattr(net, "head", nn.Linear(3, 2)),
        "Net.head changed from a Linear to another Linear",
    )
    yield Case(
        "a replaced parameter",
        lambda x: net(x),
        lambda: setattr(net.head, "bias", cr.Parameter([5.0, 6.0])),
        "Linear.bias changed",
    )
    yield Case(
        "a removed parameter",
        lambda x: net(x),
        lambda: setattr(net.head, "bias", None),
        "Linear.bias changed from a Parameter to None",
    )
    alone = nn.Linear(3, 2)
    yield Case(
        "parameters made anew", lambda x: alone(x), lambda: alone.astype("float64"), "Linear.weight changed from a Parameter to"
    )
    yield Case(
        "a global read in a method",
        lambda x: net(x),
        lambda: globals().update(GLOBAL_IN_A_METHOD=7.0),
        "the global GLOBAL_IN_A_METHOD",
    )

    row = nn.Sequential(nn.Linear(3, 3))
    yield Case("a row that grew", lambda x: row(x), lambda: row.append(nn.ReLU()), "Sequential.children changed from")

    yield Case(
        "a global", lambda x: x * GLOBAL, lambda: globals().update(GLOBAL=3.0), "the global GLOBAL changed from 2.0 to 3.0"
    )
    yield Case(
        "a global of a called function", lambda x: global_function(x), lambda: globals().update(GLOBAL=4.0), "the global GLOBAL"
    )
    yield Case(
        "a global list",
        lambda x: x * len(GLOBAL_LIST),
        lambda: GLOBAL_LIST.append(2.0),
        "the global GLOBAL_LIST changed from [1.0] to [1.0, 2.0]",
    )
    yield Case(
        "an attribute of a global",
        lambda x: x * CONFIG.scale,
        lambda: setattr(CONFIG, "scale", 3.0),
        "CONFIG.scale changed from 2.0 to 3.0",
    )
    yield Case(
        "an attribute further in",
        lambda x: x + CONFIG.deeper.shift,
        lambda: setattr(CONFIG.deeper, "shift", 3.0),
        "CONFIG.deeper.shift changed",
    )
    yield Case(
        "an attribute of a class",
        lambda x: x * Settings.factor,
        lambda: setattr(Settings, "factor", 5.0),
        "Settings.factor changed from 2.0 to 5.0",
    )

    number = 2.0

    def set_number(value: float) -> None:
        nonlocal number
        number = value

    yield Case(
        "a variable",
        lambda x: x * number,
        lambda: set_number(3.0),
        "the variable number of the enclosing function changed from 2.0 to 3.0",
    )
    factors = np.array([1.0, 2.0, 3.0], np.float32)
    yield Case(
        "an array written in place",
        lambda x: x * factors,
        lambda: factors.__setitem__(0, 9.0),
        "the variable factors of the enclosing function",
    )
    numbers = {"a": [1.0, 2.0]}
    yield Case(
        "a number deep in a dict",
        lambda x: x * numbers["a"][1],
        lambda: numbers["a"].__setitem__(1, 7.0),
        "the variable numbers",
    )
    holders = [Holder(2.0), Holder(3.0)]
    yield Case(
        "an object in a list",
        lambda x: x * holders[1].factor,
        lambda: setattr(holders[1], "factor", 5.0),
        "holders[1].factor changed from 3.0 to 5.0",
    )
    slotted = Slotted()
    yield Case(
        "an attribute in a slot",
        lambda x: x * slotted.factor,
        lambda: setattr(slotted, "factor", 5.0),
        "slotted.factor changed from 2.0",
    )
    hidden = WithProperty()
    yield Case(
        "what a property reads",
        lambda x: x * hidden.factor,
        lambda: setattr(hidden, "_hidden", 5.0),
        "hidden._hidden changed from 2.0",
    )
    called = WithProperty()
    yield Case(
        "what a callable object reads",
        lambda x: called(x),
        lambda: setattr(called, "_hidden", 5.0),
        "called._hidden changed from 2.0",
    )
    tensors = [cr.tensor([2.0])]
    yield Case(
        "a tensor in a list", lambda x: x * tensors[0], lambda: tensors.__setitem__(0, cr.tensor([3.0])), "the variable tensors"
    )
    kinds = {"relu"}
    yield Case(
        "a set",
        lambda x: -x if "relu" in kinds else x * 2,
        lambda: kinds.clear(),
        "the variable kinds of the enclosing function changed",
    )
    inner = cr.compile(lambda x: x * CONFIG.scale)
    yield Case(
        "what a compiled function inside reads",
        lambda x: inner(x),
        lambda: setattr(CONFIG, "scale", 9.0),
        "CONFIG.scale changed from",
    )


NAMES = [case.name for case in cases()]


@says(
    "Attributes of layers, optimizers, their groups and schedules that the function reads are guarded, and so are layers and "
    "parameters that are replaced, added or removed."
)
@says("Globals, variables of enclosing functions and defaults of arguments that the code names are guarded.")
@says(
    "Attributes that the code names are guarded on every object that it can reach from there, from `self` or from an argument."
)
@says("Lists, dicts, sets and NumPy arrays that it reads in one of these ways are guarded by their content.")
@pytest.mark.parametrize("place", range(len(NAMES)), ids=NAMES)
def test_what_changed_is_seen(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOBAL", "GLOBAL_IN_A_METHOD"):
        monkeypatch.setitem(globals(), name, globals()[name])
    monkeypatch.setattr(Net, "scale", 1.0)
    monkeypatch.setattr(Settings, "factor", 2.0)
    monkeypatch.setitem(globals(), "GLOBAL_LIST", [1.0])
    monkeypatch.setitem(globals(), "CONFIG", SimpleNamespace(scale=2.0, deeper=SimpleNamespace(shift=1.0)))
    case = next(one for number, one in enumerate(cases()) if number == place)
    compiled = cr.compile(case.function)
    x = cr.tensor(X)

    def both() -> tuple[Tensor, Tensor]:
        cr.manual_seed(1)
        found = compiled(x)
        cr.manual_seed(1)
        return found, case.function(x)

    cells = [one for one in gc.get_objects() if isinstance(one, nn.BatchNorm1d)]
    for layer in cells:  # both begin from the same running means
        layer.running_mean.assign(np.zeros(layer.num_features))
    before, _ = both()
    settled = tracings(compiled)
    compiled(x)
    assert tracings(compiled) == settled, "nothing changed"
    case.change()
    for layer in cells:
        layer.running_mean.assign(np.zeros(layer.num_features))
    found = compiled(x)
    for layer in cells:
        layer.running_mean.assign(np.zeros(layer.num_features))
    if case.name == "state that was dropped":
        case.change()  # the compiled call has made new state
    if case.name != "the p of a dropout":
        np.testing.assert_allclose(found.numpy(), case.function(x).numpy(), rtol=1e-5)
    else:
        assert found.tolist() == X.tolist()
    assert case.said in reason(compiled)
    if case.name != "state that was dropped":
        assert not np.array_equal(found.numpy(), before.numpy()), "the case shows nothing"
        after = tracings(compiled)
        compiled(x)
        assert tracings(compiled) == after, "and then nothing changes any more"


def test_attributes_of_arguments_and_of_self() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.factor = 2.0

        def scaled(self, x: Any) -> Any:
            return x * self.factor

    trainer = Trainer()
    bound, passed = cr.compile(trainer.scaled), cr.compile(lambda x, trainer: x * trainer.factor)
    for factor in (2.0, 3.0, 2.0):
        trainer.factor = factor
        assert bound(X).tolist() == passed(X, trainer).tolist() == [factor, 2 * factor, 3 * factor]
    assert reason(bound) == "self.factor changed from 2.0 to 3.0"
    assert reason(passed) == "trainer.factor changed from 2.0 to 3.0"


def test_defaults_of_arguments() -> None:
    def f(x: Any, factors: list[float] = [2.0]) -> Any:  # noqa: B006 - that is what is tested
        return x * factors[0]

    compiled, defaults = cr.compile(f), f.__defaults__
    assert compiled(X).tolist() == [2, 4, 6]
    assert defaults is not None
    defaults[0][0] = 3.0
    assert compiled(X).tolist() == [3, 6, 9]


@says("Whether a parameter has a gradient, `cr.precision` and `cr.no_grad()` at the call are guarded.")
def test_what_else_is_guarded() -> None:
    w = cr.Parameter(X)

    def f(x: Any) -> Any:
        return w.grad is None, (w * x).sum()

    compiled = cr.compile(f)
    assert compiled(X)[0] is True
    w.grad = cr.ones(3)
    assert compiled(X)[0] is False
    assert reason(compiled) == "a cell has gradient, unlike when the function was traced"
    assert compiled(X)[1].requires_grad
    with cr.no_grad():
        assert not compiled(X)[1].requires_grad
    assert reason(compiled) == "what is remembered for gradients changed from gradients to nothing"
    with cr.precision("bfloat16"):
        compiled(X)
    assert reason(compiled).startswith("the precision changed from float32 to bfloat16")


@says("Programs of earlier states are kept, the last 16 of a function, so going back to one traces nothing.")
def test_earlier_programs_are_kept() -> None:
    holder = Holder(0.0)
    f = cr.compile(lambda x: x * holder.factor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for factor in range(20):
            holder.factor = float(factor)
            f(X)
    assert tracings(f) == 20
    for factor in range(19, 3, -1):
        holder.factor = float(factor)
        assert f(X).tolist() == [factor, 2 * factor, 3 * factor]
    assert tracings(f) == 20
    holder.factor = 3.0
    f(X)
    assert tracings(f) == 21


def test_why_it_was_traced_again_names_the_argument_and_both_values() -> None:
    def f(x: Any, rate: float, *rest: Any, mode: str = "a", **more: Any) -> Any:
        return x * rate

    compiled = cr.compile(f)
    compiled(X, 0.1)
    compiled(X, 0.2)
    assert reason(compiled) == "the argument rate changed from 0.1 to 0.2"
    compiled(X, 0.2, mode="b")
    assert reason(compiled) == "the arguments have another structure"
    compiled(X, 0.2, mode="c")
    assert reason(compiled) == "the argument mode changed from 'b' to 'c'"
    compiled({"a": [X]}["a"][0][:2], -0.0, mode="c")
    assert reason(compiled) == (
        "the argument x changed from float32[3] to float32[2]; the argument rate changed from 0.2 to -0.0"
    )
    trees = cr.compile(lambda batch: batch.images * batch.scale)
    trees(Batch(X, 2.0))
    trees(Batch(X, 3.0))
    assert reason(trees) == "the argument batch.scale changed from 2.0 to 3.0"


# ---- refused, and warned of


@says("A value that the function needs while it is traced, as in `if loss > 1`, is refused with the line that asks for it.")
def test_values_are_not_there_while_tracing() -> None:
    with pytest.raises(UserError, match=r"asked for while tracing, at test_compiled_guards.py:\d+"):
        cr.compile(lambda x: x if x.sum() > 1 else -x)(X)


GENERATOR = np.random.default_rng(0)
OLD_GENERATOR = np.random.RandomState(0)
PYTHONS_GENERATOR = random.Random(0)
BITS = np.random.PCG64(0)


@says(
    "Drawing from `np.random`, `random` or a generator of theirs that the code names is refused: the numbers would be frozen."
)
@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("np.random", lambda: np.random.rand(3)),
        ("np.random", lambda: np.random.standard_normal()),
        ("random", lambda: random.random()),
        ("random", lambda: random.gauss(0, 1)),
        ("GENERATOR", lambda: GENERATOR.random()),
        ("OLD_GENERATOR", lambda: OLD_GENERATOR.rand()),
        ("PYTHONS_GENERATOR", lambda: PYTHONS_GENERATOR.random()),
        ("BITS", lambda: BITS.random_raw()),
    ],
)
def test_random_numbers_of_others_are_refused(name: str, draw: Callable[[], Any]) -> None:
    f = cr.compile(lambda x: x * draw())
    with pytest.raises(UserError, match=rf"<lambda> draws from {name} while it is traced.*: draw with cr.random, or pass"):
        f(X)


def test_a_generator_among_the_arguments_is_refused_too() -> None:
    for generator in (np.random.default_rng(0), np.random.RandomState(0), random.Random(0)):
        with pytest.raises(UserError, match="draws from generator while it is traced"):
            cr.compile(lambda x, generator: x * generator.random())(X, generator)


@says("Taking from an iterator that the code names is warned of.")
@pytest.mark.parametrize("several", [iter([1.0, 2.0]), itertools.count(), (one for one in range(9)), map(float, range(9))])
def test_taking_from_an_iterator_is_warned_of(several: Any) -> None:
    f = cr.compile(lambda x: x * next(several))
    with pytest.warns(ChainruleWarning, match="names an iterator, several: what it takes from that is frozen into the program"):
        f(X)


@says("A step of a schedule inside the function is refused: it belongs after the call.")
def test_a_schedule_inside_is_refused() -> None:
    optimizer = optim.SGD([cr.Parameter(X)], lr=0.1)
    schedule = optim.StepLR(optimizer, 1, 0.5)
    with pytest.raises(
        UserError, match=r"StepLR: the schedule takes a step inside .*call schedule.step\(\) after the compiled"
    ):
        cr.compile(lambda: schedule.step())()
    assert (schedule.steps, optimizer.lr) == (0, 0.1)


@says("Making parameters, buffers, layers or optimizers inside the function is refused.")
@pytest.mark.parametrize(
    "make",
    [
        lambda: cr.Parameter([1.0]),
        lambda: cr.Buffer([1.0]),
        lambda: nn.Linear(2, 2),
        lambda: nn.BatchNorm2d(2, affine=False),
        lambda: optim.SGD([PARAMETER], lr=0.1),
        lambda: cr.random.Generator(0),
    ],
)
def test_cells_made_inside_are_refused(make: Callable[[], Any]) -> None:
    def f(x: Any) -> Any:
        make()
        return x + 1

    with pytest.raises(UserError, match="a compiled function makes it, which happens only while it is traced: make parameters"):
        cr.compile(f)(X)


PARAMETER = cr.Parameter([1.0])


@says("Changing an argument in place, such as a dict that was passed, is refused.")
def test_arguments_changed_in_place_are_refused() -> None:
    def fill(x: Any, found: dict[str, Any]) -> None:
        found["sum"] = x.sum()

    def replace(x: Any, batch: Batch) -> None:
        batch.images = x

    with pytest.raises(
        UserError, match="fill changes an argument in place, which its caller would not see: return the new value"
    ):
        cr.compile(fill)(X, {})
    with pytest.raises(UserError, match=r"replace changes an argument, batch.images, in place"):
        cr.compile(replace)(X, Batch(X))


@says("A gradient that would have to go back into a compiled function from outside is refused where it is asked for.")
def test_gradients_are_not_lost_at_results() -> None:
    w = cr.Parameter([2.0, 3.0])
    square = cr.compile(lambda w: w * w)
    message = (
        r"the gradient would be lost at float32\[2\], a result of the compiled function <lambda>.*compute the error inside"
    )
    for y in (square(w), cr.compile(lambda: w * w)()):
        loss = (w * cr.tensor([5.0, 7.0]) + y * y).sum()
        with pytest.raises(UserError, match=f"backward: {message}"):
            loss.backward()
        with pytest.raises(UserError, match=f"grad: {message}"):
            cr.grad(loss, [w])
        with pytest.raises(UserError, match=f"explain: {message}"):
            cr.explain(loss)
        (gradient,) = cr.grad(loss, [y])
        assert gradient is not None
        np.testing.assert_allclose(gradient.numpy(), 2 * y.numpy(), err_msg="of the results themselves")
    (w * cr.tensor([5.0, 7.0]) + y.detach() * y.detach()).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [5.0, 7.0]
    with cr.no_grad():
        y = square(w)
    assert not y.requires_grad


def test_a_value_with_a_history_from_outside_is_refused() -> None:
    w = cr.Parameter([2.0, 3.0])
    outside = w * w
    for function in (lambda x: x + outside, lambda x: (x * outside).sum().backward()):
        with pytest.raises(
            UserError, match=r"uses float32\[2\], computed outside at test_compiled_guards.py:\d+.*pass it as an argument"
        ):
            cr.compile(function)(cr.tensor([1.0, 1.0]))
    fixed = outside.detach()
    assert cr.compile(lambda x: x + fixed)(cr.tensor([1.0, 1.0])).tolist() == [5, 10]
    assert cr.compile(lambda x: x + x)(outside).tolist() == [8, 18]


def test_a_tensor_that_an_optimizer_learns_is_read_anew() -> None:
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    f = cr.compile(lambda: x.detach() * 2)
    assert f().tolist() == [2, 4]
    optimizer = optim.SGD([x], lr=1.0)
    (x * x).sum().backward()
    optimizer.step()
    assert x.tolist() == [-1, -2]
    assert f().tolist() == [-2, -4]


def test_losses_of_compiled_steps_can_be_added_up_and_kept() -> None:
    w = cr.Parameter([2.0, 3.0])

    @cr.compile
    def step(x: Any) -> Any:
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        return loss

    total = sum(step(np.ones(2, np.float32)) for _ in range(5))
    assert float(total) == 25


@says("A label or an index that is out of range is refused, and then nothing has changed.")
@pytest.mark.parametrize("threads", [1, 2])
def test_refused_values_change_nothing(threads: int) -> None:
    before_threads = cr.thread_count()
    cr.set_threads(threads)
    try:
        cr.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        optimizer = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        table = cr.Parameter(np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32))

        @cr.compile
        def by_labels(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y - 1)
            loss.backward()
            optimizer.step()
            return loss

        @cr.compile
        def by_index(rows: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(table[rows]), y)
            loss.backward()
            optimizer.step()
            return loss

        def state() -> dict[str, Any]:
            found = {**model.state_dict(), **{f"optimizer.{k}": v for k, v in optimizer.state_dict().items()}}
            gradients = {f"gradient {i}": one.grad for i, one in enumerate(model.parameters())}
            return {**found, "random": cr.random.default_generator.state.numpy(), **gradients}

        x = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
        by_labels(x, np.array([1, 2, 3, 1]))
        by_index(np.array([0, 1, 2, 4]), np.array([0, 1, 2, 0]))
        before = state()
        with pytest.raises(UserError, match="the label -1 in row 2 is out of range"):
            by_labels(x, np.array([1, 2, 0, 1]))
        with pytest.raises(UserError, match=r"index 5 at \[1\] is outside axis 0, which has 5 elements"):
            by_index(np.array([0, 5, 2, 4]), np.array([0, 1, 2, 0]))
        after = state()
        for name, value in before.items():
            np.testing.assert_array_equal(np.asarray(after[name]), np.asarray(value), err_msg=name)
        by_labels(x, np.array([1, 2, 3, 1]))
        assert not np.array_equal(state()["0.weight"], before["0.weight"])
    finally:
        cr.set_threads(before_threads)


COUNT = 0


@says(
    "Changing anything else outside of the function, such as a global or an attribute of a layer, is warned of; it happens "
    "while the function is traced, which is then at each call that finds it changed."
)
def test_side_effects_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "COUNT", 0)
    kept: list[Any] = []
    model = nn.Linear(3, 3)
    model.calls = 0

    def counting(x: Any) -> Any:
        global COUNT
        COUNT += 1
        return x * COUNT

    def keeping(x: Any) -> Any:
        kept.append(x)
        return x + len(kept)

    class Noting(nn.Module):
        def forward(self, x: Any) -> Any:
            self.last = x
            return x * 2

    compiled = cr.compile(counting)
    for number in range(1, 4):
        with pytest.warns(UserWarning, match="counting changes the global COUNT, which a compiled function does only while"):
            assert compiled(X).tolist() == [number, 2 * number, 3 * number]
    compiled = cr.compile(keeping)
    with pytest.warns(UserWarning, match="keeping changes the variable kept of the enclosing function"):
        assert compiled(X).tolist() == [2, 3, 4]
    with pytest.warns(UserWarning, match="keeping changes"):
        assert compiled(X).tolist() == [3, 4, 5]
    with pytest.warns(UserWarning, match="Noting changes Noting.last"):
        cr.compile(Noting())(X)


def test_layers_made_inside_without_parameters_are_no_side_effect() -> None:
    f = cr.compile(lambda x, y: nn.CrossEntropyLoss(label_smoothing=0.1)(nn.Sequential(nn.ReLU())(x), y))
    y = np.array([1])
    first = f(X[None], y)
    assert f(X[None], y).item() == first.item()
    assert tracings(f) == 1


@says("A function that is traced for the same reason for the fifth time says so, with what to do about it.")
def test_a_value_that_changes_at_each_call_is_warned_of() -> None:
    holder = Holder(0.0)

    def f(x: Any, rate: Any) -> Any:
        return x * rate * holder.factor

    by_argument, by_attribute = cr.compile(f), cr.compile(f)
    for step in range(5):
        by_argument(X, 0.1 * step)
        holder.factor = float(step)
        by_attribute(X, 1.0)
    with pytest.warns(UserWarning, match="compile: f was traced 6 times") as caught:
        by_argument(X, 0.75)
    assert [str(one.message) for one in caught] == [
        "compile: f was traced 6 times, 5 of them because the argument rate changed from 0.4 to 0.75. Each value is a program "
        "of its own: pass it as a tensor or a NumPy scalar, such as np.float32(...), and it is an input of one program"
    ]
    assert caught[0].filename == __file__
    holder.factor = 0.75
    with pytest.warns(UserWarning, match=r"5 of them because holder.factor changed from .* to 0.75.*keep it in a cr.Buffer"):
        by_attribute(X, 1.0)
    for step in range(10):
        by_argument(X, np.float32(step))
    for step in range(10, 15):
        by_argument(X, 0.01 * step)  # once said is enough


@says(
    "What comes from outside of the program, such as the clock, a file, an environment variable or a generator that was just "
    "made from fresh entropy, is frozen without a word."
)
def test_what_is_not_noticed() -> None:
    f = cr.compile(lambda x: x * 0 + time.perf_counter_ns() % 1000003 + np.random.default_rng().integers(1000))
    assert f(X).tolist() == f(X).tolist()


@says("A function that gets other code or other defaults, and a context variable, are not looked at again.")
def test_other_code_of_the_same_function_is_not_looked_at() -> None:
    def scaled(x: Any, by: float = 1.0) -> Any:
        return x * by

    variable = contextvars.ContextVar("variable", default=1.0)
    f = cr.compile(lambda x: scaled(x) * variable.get())
    f(X)
    scaled.__defaults__ = (9.0,)
    variable.set(9.0)
    assert f(X).tolist() == X.tolist()


@says("The code and the globals of installed packages are taken for granted.")
def test_installed_packages_are_taken_for_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: Any) -> Any:
        assert x is not None  # with which pytest puts a module of its own among the globals
        return x * len(pytest.__version__)

    compiled = cr.compile(f)
    before = compiled(X).tolist()
    monkeypatch.setattr(pytest, "__version__", "a longer version than that")
    assert compiled(X).tolist() == before
    assert len(Surroundings(f).guards) < 5


# ---- what is not there yet


class Scaled:
    scale = 2.0

    def by(self) -> float:
        return self.scale


class ScaledLayer(nn.Module):
    scale = 2.0

    def by(self) -> float:
        return self.scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by()


@says(
    "An attribute that an object gets later, in the place of one of its class or where the code asks whether there is one, is "
    "noticed too."
)
@pytest.mark.parametrize("kind", [Scaled, ScaledLayer, SimpleNamespace])
@pytest.mark.parametrize("how", ["closure", "argument", "method"])
def test_attributes_that_come_later_are_noticed(kind: type, how: str) -> None:
    if kind is SimpleNamespace and how == "method":
        kind = type("Namespace", (SimpleNamespace,), {})
    one = kind()

    def f(x: Any, one: Any = one) -> Any:
        factor = one.by() if hasattr(one, "by") else 2.0
        return x * factor * getattr(one, "further", 1.0) * (3.0 if hasattr(one, "third") else 1.0)

    if how == "method":
        kind.times = cr.compile(lambda self, x: f(x, self))  # type: ignore[attr-defined]
    compiled = cr.compile(f)

    def both() -> tuple[float, float]:
        now = {"closure": lambda: compiled(X), "argument": lambda: compiled(X, one), "method": lambda: one.times(X)}[how]()
        return now[0].item(), f(cr.tensor(X), one)[0].item()

    try:
        assert both() == (2.0, 2.0)
        one.scale = 5.0
        assert both() == ((2.0, 2.0) if isinstance(one, SimpleNamespace) else (5.0, 5.0))
        one.by = lambda: 7.0
        assert both() == (7.0, 7.0)
        one.further = 10.0
        assert both() == (70.0, 70.0)
        one.third = None
        assert both() == (210.0, 210.0)
        del one.further
        assert both() == (21.0, 21.0)
        del one.by
        one.third = None
        assert both()[0] == both()[1]
    finally:
        if how == "method":
            del kind.times  # type: ignore[attr-defined]


def test_a_replaced_forward_is_noticed() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    f = cr.compile(model)
    f(X)
    model[1].forward = lambda x: x * 100  # type: ignore[method-assign]
    np.testing.assert_array_equal(f(X).numpy(), model(cr.tensor(X)).numpy())
    model[1] = nn.Tanh()
    np.testing.assert_allclose(f(X).numpy(), model(cr.tensor(X)).numpy(), rtol=1e-6)


def test_attributes_are_reached_by_their_names_as_text() -> None:
    holder = SimpleNamespace(k=1.0)
    read: list[Callable[[], Any]] = [
        lambda: getattr(holder, "k"),  # noqa: B009
        lambda: vars(holder)["k"],
        lambda: holder.__dict__["k"],
        lambda: operator.attrgetter("k")(holder),
    ]
    for how in read:
        holder.k = 1.0
        f = cr.compile(lambda x, how=how: x * how())
        assert f(X)[0].item() == 1
        holder.k = 4.0
        assert f(X)[0].item() == 4


def test_attributes_of_functions_and_views_of_dicts_are_noticed() -> None:
    def scaled(x: Any) -> Any:
        return x * scaled.factor * view["k"] * numbers[0]  # type: ignore[attr-defined]

    content = {"k": 1.0}
    view, numbers = MappingProxyType(content), array.array("f", [1.0])
    scaled.factor = 1.0  # type: ignore[attr-defined]
    f = cr.compile(lambda x: scaled(x))
    expected = 1.0
    assert f(X)[0].item() == expected
    scaled.factor = 2.0  # type: ignore[attr-defined]
    assert f(X)[0].item() == 2
    content["k"] = 3.0
    assert f(X)[0].item() == 6
    numbers[0] = 5.0
    assert f(X)[0].item() == 30


# ---- arguments that are equal and yet differ


class Equal:
    def __init__(self, value: float) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        return 1


class FloatWithMore(float):
    more: float


class DictWithMore(dict[str, Any]):
    more: float


class ListWithMore(list[Any]):
    more: float


def with_more(value: Any, more: float) -> Any:
    value.more = more
    return value


@pytest.mark.parametrize(
    ("f", "first", "second", "expected"),
    [
        (lambda x, one: x * one.value, Equal(1.0), Equal(2.0), (1, 2)),
        (lambda x, one: x * one.more, with_more(FloatWithMore(2), 3.0), with_more(FloatWithMore(2), 5.0), (3, 5)),
        (lambda x, one: x * one.more, with_more(DictWithMore(), 3.0), with_more(DictWithMore(), 5.0), (3, 5)),
        (lambda x, one: x * one.more, with_more(ListWithMore([1]), 3.0), with_more(ListWithMore([1]), 5.0), (3, 5)),
        (lambda x, one: x * one.more, with_more(Batch(X), 3.0), with_more(Batch(X), 5.0), (3, 5)),
        (lambda x, one: x / float(one), Decimal("0.0"), Decimal("-0.0"), (np.inf, -np.inf)),
        (lambda x, one: x * len(one), {1}, {1, 2}, (1, 2)),
        (lambda x, one: x * one[0], bytearray([1]), bytearray([2]), (1, 2)),
        (lambda x, one: x * one[0], deque([1.0]), deque([2.0]), (1, 2)),
    ],
    ids=["equal", "float", "dict", "list", "dataclass", "Decimal", "set", "bytearray", "deque"],
)
def test_equal_arguments_that_differ_otherwise_are_told_apart(
    f: Callable[..., Any], first: Any, second: Any, expected: tuple[float, float]
) -> None:
    compiled = cr.compile(f)
    for _ in range(2):
        assert (compiled(X, first)[0].item(), compiled(X, second)[0].item()) == expected
    assert tracings(compiled) == 2


def test_arguments_that_change_in_place_are_looked_at_anew() -> None:
    one = {1}
    f = cr.compile(lambda x, one: x * (2 if 7 in one else 3))
    assert f(X, one)[0].item() == 3
    one.add(7)
    assert f(X, one)[0].item() == 2
    row = deque([1.0, cr.tensor(2.0)], maxlen=3)
    g = cr.compile(lambda x, row: x * row[0] * row[1])
    assert g(X, row)[0].item() == 2
    row[0] = 5.0
    row[1] = cr.tensor(3.0)
    assert g(X, row)[0].item() == 15


# ---- methods and models


class Trainer:
    def __init__(self, factor: float) -> None:
        self.w = cr.Parameter([factor])

    @cr.compile
    def loss(self, x: Tensor, power: int = 1) -> Tensor:
        """The loss."""
        return (self.w * x**power).sum()

    @staticmethod
    @cr.compile
    def doubled(x: Tensor) -> Tensor:
        return x * 2


def test_methods_are_compiled_for_each_instance() -> None:
    x = cr.tensor([3.0])
    trainers = [Trainer(1.0), Trainer(2.0)]
    assert [one.loss(x).item() for one in trainers] == [3, 6]
    assert [one.loss(x, power=2).item() for one in trainers] == [9, 18]
    assert trainers[0].loss.program is trainers[0].loss.program
    assert trainers[0].loss.program is not trainers[1].loss.program
    assert Trainer.loss(trainers[1], x).item() == 6
    assert Trainer.doubled(x).item() == trainers[0].doubled(x).item() == 6
    assert (Trainer.loss.__name__, Trainer.loss.__doc__) == ("loss", "The loss.")
    assert trainers[0].loss.explain_retrace().splitlines()[1] == "tracing 2: the arguments have another structure"


def test_a_compiled_method_of_a_temporary_object_keeps_it_as_long_as_python_would() -> None:
    x = cr.tensor([3.0])
    assert Trainer(2.0).loss(x).item() == 6
    bound = Trainer(4.0).loss
    assert bound(x).item() == bound(x).item() == 12
    assert tracings(bound) == 1


def test_a_compiled_model_hands_on_what_is_set_on_it() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2))
    compiled = cr.compile(model)
    compiled.training = False
    assert model.training is False
    compiled[1].weight = nn.Parameter(np.zeros((2, 3), np.float32))
    model[1].bias = None
    model.eval()
    assert compiled(X).tolist() == [0, 0]
    compiled[0] = nn.Identity()
    assert isinstance(model[0], nn.Identity)
    assert len(compiled) == 2
    assert [type(one) for one in compiled] == [nn.Identity, nn.Linear]
    with pytest.raises(UserError, match="Linear: len\\(\\) means nothing for a compiled Linear"):
        len(cr.compile(nn.Linear(2, 2)))
    with pytest.raises(UserError, match="compile: Linear is a class: compile an object of it, or one of its methods"):
        cr.compile(nn.Linear)


def test_a_compiled_method_does_not_keep_its_object_alive() -> None:
    trainer = Trainer(2.0)
    trainer.loss(cr.tensor([3.0]))
    gone, number = weakref.ref(trainer), id(trainer)
    gc.disable()
    try:
        del trainer
        assert gone() is None, "without waiting for a collection"
    finally:
        gc.enable()
    assert number not in Trainer.loss._methods


def test_a_layer_may_have_a_compiled_forward() -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        @cr.compile
        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x) * 2

    model = Doubling()
    np.testing.assert_allclose(model(X).numpy(), 2 * model.linear(cr.tensor(X)).numpy(), rtol=1e-6)


def test_objects_without_weak_references_are_refused() -> None:
    class Small:
        __slots__ = ()

        @cr.compile
        def f(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(UserError, match="f is a method of Small, whose __slots__ allow no weak references: add '__weakref__'"):
        Small().f(cr.tensor([1.0]))


def test_a_compiled_model_has_what_the_model_has() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    compiled = cr.compile(model)
    assert [one.shape for one in compiled.parameters()] == [(2, 3), (2,)]
    assert compiled.state_dict().keys() == model.state_dict().keys()
    compiled.eval()
    assert not model.training
    np.testing.assert_allclose(compiled(X).numpy(), model(cr.tensor(X)).numpy(), rtol=1e-6)
    assert compiled.__name__ == "Sequential"
    with pytest.raises(AttributeError, match="Sequential has no attribute 'wight'"):
        _ = compiled.wight
    with pytest.raises(AttributeError, match="CompiledFunction has no attribute 'parameters'"):
        _ = cr.compile(lambda x: x).parameters


def test_a_compiled_model_knows_its_layers() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    compiled = cr.compile(model)
    before = compiled(X)
    model[0].weight = cr.Parameter(np.zeros((2, 3), np.float32))
    after = compiled(X)
    assert not np.array_equal(before.numpy(), after.numpy())
    np.testing.assert_array_equal(after.numpy(), model[0].bias.numpy())


@says(
    "Several threads may call compiled functions, also ones that share parameters: each call sees the state before or after "
    "the call of another thread, never in between, and so does whoever looks at a parameter or a gradient."
)
def test_threads_that_share_parameters_see_one_state() -> None:
    share_one_state(threads=2)


def test_threads_share_a_compiled_function() -> None:
    f = cr.compile(lambda x: x * 2)
    wrong: list[Any] = []

    def work(number: int) -> None:
        for size in range(1, 6):
            x = np.full(size, number, np.float32)
            if f(x).tolist() != [2 * number] * size:
                wrong.append((number, size))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


@says("Hooks of layers are part of the function: one that is registered, removed or reads another value is noticed.")
def test_hooks_are_guarded() -> None:
    layer, number = nn.ReLU(), [2.0]
    f = cr.compile(lambda x: layer(x))
    assert f(X).tolist() == [1, 2, 3]
    with layer.register_forward_hook(lambda module, inputs, output: output * number[0]):
        assert f(X).tolist() == [2, 4, 6]
        number[0] = 3.0
        assert f(X).tolist() == [3, 6, 9]
    assert f(X).tolist() == [1, 2, 3]


# ---- the page


def test_the_page_and_the_tests_say_the_same() -> None:
    text = PAGE.read_text(encoding="utf-8")
    bullets = re.findall(r"^- (.*?)(?=^- |^#|\Z)", text, re.MULTILINE | re.DOTALL)
    sentences = [" ".join(textwrap.dedent(one).split()) for one in bullets]
    assert len(sentences) > 20
    assert sorted(sentences) == sorted(SAID)
