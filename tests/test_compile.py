"""``cr.compile``: the compiled function means what the plain one means."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.cpu.runtime import memory
from chainrule.errors import UserError
from chainrule.models import build
from chainrule.ops import precision
from chainrule.tensor import CompiledFunction, Tensor
from chainrule.tensor.random import default_generator

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((6, 3, 12, 12)).astype(np.float32)
LABELS = RNG.integers(0, 5, 6)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),  # a bias before a normalisation has gradient 0, and noise for Adam
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(72, 5),
    )


OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "sgd": lambda model: optim.SGD(model.parameters(), lr=0.05),
    "momentum": lambda model: optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda model: optim.Adam(model.parameters(), lr=1e-3),
    "dampened": lambda model: optim.SGD(model.parameters(), lr=0.05, momentum=0.9, dampening=0.5),
    "amsgrad": lambda model: optim.Adam(model.parameters(), lr=1e-3, betas=(0.5, 0.6), amsgrad=True),
    "nadam": lambda model: optim.NAdam(model.parameters(), lr=1e-3),
    "radam": lambda model: optim.RAdam(model.parameters(), lr=1e-3, betas=(0.9, 0.8)),
    "adagrad": lambda model: optim.Adagrad(model.parameters(), lr=1e-3, lr_decay=0.1),
    "adamw": lambda model: optim.AdamW(model.parameters(), lr=1e-3),
    "rmsprop": lambda model: optim.RMSprop(model.parameters(), lr=1e-3, centered=True, momentum=0.5),
}


def make_step(model: nn.Module, optimizer: optim.Optimizer) -> Callable[..., Tensor]:
    def step(images: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels, label_smoothing=0.1)
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return loss

    return step


def state_of(model: nn.Module, optimizer: optim.Optimizer) -> dict[str, np.ndarray[Any, Any]]:
    found = {**model.state_dict(), **{f"optimizer {k}": v for k, v in optimizer.state_dict().items()}}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        found[f"gradient of {name}"] = parameter.grad.numpy()
    found["random counter"] = default_generator.state.numpy()
    return found


def trained(name: str, dtype: str, compiled: bool, steps: int = 3) -> tuple[list[float], dict[str, np.ndarray[Any, Any]]]:
    cr.manual_seed(7)
    model = network().astype(dtype)
    optimizer = OPTIMIZERS[name](model)
    step = make_step(model, optimizer)
    if compiled:
        step = cr.compile(step)
    losses = [float(step(cr.tensor(IMAGES, dtype), cr.tensor(LABELS))) for _ in range(steps)]
    return losses, state_of(model, optimizer)


def assert_same(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        scale = max(float(np.max(np.abs(value), initial=0)), 1e-3)
        np.testing.assert_allclose(other[name], value, rtol=0, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_compiled_steps_equal_plain_ones_in_float64(name: str) -> None:
    losses, state = trained(name, "float64", compiled=False)
    compiled_losses, compiled_state = trained(name, "float64", compiled=True)
    np.testing.assert_allclose(compiled_losses, losses, rtol=1e-10)
    assert_same(state, compiled_state, 1e-9 if name in ("adam", "adamw", "rmsprop") else 1e-10)


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_compiled_steps_equal_plain_ones_in_float32(name: str) -> None:
    losses, state = trained(name, "float32", compiled=False)
    compiled_losses, compiled_state = trained(name, "float32", compiled=True)
    np.testing.assert_allclose(compiled_losses, losses, rtol=2e-5)
    assert_same(state, compiled_state, 5e-4)


@pytest.mark.parametrize("model", ["mlp", "lenet"])
def test_models_train_the_same_compiled_and_plain(model: str) -> None:
    images, labels = RNG.standard_normal((16, 1, 28, 28)), RNG.integers(0, 10, 16)
    found = []
    for compiled in (False, True):
        cr.manual_seed(2)
        made = build(model, 1, 10, (28, 28)).astype("float64")
        optimizer = optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
        step = make_step(made, optimizer)
        step = cr.compile(step) if compiled else step
        losses = [float(step(images if compiled else cr.tensor(images), cr.tensor(labels))) for _ in range(3)]
        found.append((losses, state_of(made, optimizer)))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-10)
    assert_same(found[0][1], found[1][1], 1e-10)


# ---- signatures and guards


class Calls:
    """How often a function was called; its count is no attribute that anybody names."""

    def __init__(self) -> None:
        self._counted = ctypes.c_long(0)

    def note(self) -> None:
        self._counted.value += 1

    def __len__(self) -> int:
        return self._counted.value


def counted(f: Callable[..., Any]) -> tuple[CompiledFunction[Any, Any], Calls]:
    calls = Calls()

    def counting(*args: Any, **options: Any) -> Any:
        calls.note()
        return f(*args, **options)

    return cr.compile(counting), calls


def test_traced_once_per_signature() -> None:
    f, calls = counted(lambda x: x * 2)
    for shape in ((3,), (3,), (4,), (3,), (4,)):
        np.testing.assert_array_equal(f(np.ones(shape, np.float32)).numpy(), np.full(shape, 2))
    assert len(calls) == 2, "Python runs at tracing, and only then"
    f(np.ones(3, np.float64))
    assert len(calls) == 3
    assert f.explain_retrace().splitlines() == [
        "tracing 1: the first call: args[0] float32[3]",
        "tracing 2: the argument args[0] changed from float32[3] to float32[4]",
        "tracing 3: the argument args[0] changed from float32[4] to float64[3]",
    ]


def test_other_arguments_are_frozen_by_value() -> None:
    f, calls = counted(lambda x, power=1, names=(): x * power)
    x = cr.tensor([1.0, 2.0])
    assert f(x, power=3).tolist() == [3, 6]
    assert f(x, power=4).tolist() == [4, 8]
    assert f(x, power=3).tolist() == [3, 6]
    assert f(x, power=3, names=("a", "b")).tolist() == [3, 6]
    assert len(calls) == 3


def test_a_changed_training_flag_traces_again_and_says_so() -> None:
    model = network()
    f, calls = counted(lambda x: model(x))
    f(IMAGES)
    f(IMAGES)
    model.eval()
    evaluated = f(IMAGES)
    np.testing.assert_allclose(evaluated.numpy(), model(cr.tensor(IMAGES)).numpy(), rtol=1e-4, atol=1e-5)
    model.train()
    f(IMAGES)
    assert len(calls) == 2, "the program of the first mode is still there"
    assert f.explain_retrace().splitlines()[-1] == "tracing 2: BatchNorm2d.training changed from True to False"


def test_gradients_that_were_there_before_are_added_to() -> None:
    def both(compiled: bool) -> list[list[float]]:
        w = cr.Parameter([1.0, 2.0])

        def f(x: Tensor) -> Tensor:
            error = (w * x).sum()
            error.backward()
            return error

        call = cr.compile(f) if compiled else f
        found = []
        for _ in range(3):
            call(cr.tensor([3.0, 4.0]))
            assert w.grad is not None
            found.append(w.grad.tolist())
        w.grad = None
        call(cr.tensor([1.0, 1.0]))
        return [*found, w.grad.tolist()]

    assert both(True) == both(False) == [[3, 4], [6, 8], [9, 12], [1, 1]]


def test_gradients_arrive_at_arguments_that_ask_for_them() -> None:
    f = cr.compile(lambda x: (x * x).sum().backward())
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    f(x)
    assert x.grad is not None
    assert x.grad.tolist() == [2, 4]
    f(x)
    assert x.grad.tolist() == [4, 8]


def test_a_gradient_read_later_is_the_one_of_its_step() -> None:
    w = cr.Parameter([1.0])

    @cr.compile
    def f(x: Tensor) -> None:
        w.grad = None
        (w * x).sum().backward()

    f(cr.tensor([3.0]))
    first = w.grad
    f(cr.tensor([5.0]))
    assert first is not None
    assert w.grad is not None
    assert first.tolist() == [3]
    assert w.grad.tolist() == [5]


def test_structures_come_back_as_they_were() -> None:
    f = cr.compile(lambda pair, scale: {"sum": pair[0] + pair[1], "rest": [pair[0] * scale["by"], None, "text"]})
    found = f((cr.tensor([1.0]), cr.tensor([2.0])), {"by": 3})
    assert found["sum"].tolist() == [3]
    assert found["rest"][0].tolist() == [3]
    assert found["rest"][1:] == [None, "text"]


def test_tensors_stay_immutable_though_programs_write_in_place() -> None:
    w = cr.Buffer([1.0, 2.0])
    f = cr.compile(lambda: w.assign(w * 2))
    before, copied = w.numpy(), w.copy()
    f()
    between = w.numpy()
    f()
    assert before.tolist() == copied.tolist() == [1, 2]
    assert between.tolist() == [2, 4]
    assert w.tolist() == [4, 8]
    w.assign([10.0, 20.0])
    f()
    assert w.tolist() == [20, 40]


def test_programs_share_cells() -> None:
    w = cr.Buffer(np.zeros(3))
    add, double = cr.compile(lambda x: w.assign(w + x)), cr.compile(lambda: w.assign(w * 2))
    add(np.ones(3))
    double()
    add(np.ones(3))
    assert w.tolist() == [3, 3, 3]


def test_random_numbers_go_on_where_they_were() -> None:
    draws = []
    for compiled in (False, True):
        cr.manual_seed(5)
        draw = lambda: cr.random.uniform((5,))  # noqa: E731
        call = cr.compile(draw) if compiled else draw
        draws.append([call().tolist(), call().tolist(), default_generator.state.tolist()])
    assert draws[0] == draws[1]


def test_a_compiled_function_inside_another_is_part_of_it() -> None:
    inner, calls = counted(lambda x: x + 1)
    outer = cr.compile(lambda x: inner(x) * 2)
    assert outer(cr.tensor([1.0])).tolist() == [4]
    assert len(calls) == 1


def test_precision_is_part_of_the_signature() -> None:
    f, calls = counted(lambda x: x @ x)
    x = cr.tensor(RNG.standard_normal((4, 4)), "float32")
    exact = f(x)
    with precision("bfloat16"):
        rounded = f(x)
        np.testing.assert_allclose(rounded.numpy(), (x @ x).numpy(), rtol=1e-5, atol=1e-6)
    assert not np.array_equal(exact.numpy(), rounded.numpy())
    assert len(calls) == 2


def test_many_signatures_are_forgotten_in_the_end() -> None:
    f, calls = counted(lambda x: x * 2)
    for size in range(1, 30):
        f(np.ones(size, np.float32))
    assert len(f._traced) == 16
    f(np.ones(29, np.float32))
    assert len(calls) == 29
    f(np.ones(1, np.float32))
    assert len(calls) == 30
    gc.collect()


def test_nothing_to_compute() -> None:
    assert cr.compile(lambda: None)() is None
    assert cr.compile(lambda x: x)(cr.tensor([1.0, 2.0])).tolist() == [1, 2]
    assert cr.compile(lambda x: x.sum())(np.zeros((0, 3), np.float32)).item() == 0
    assert cr.compile(lambda: cr.tensor([1.0]) * 2)().tolist() == [2]


# ---- bad input


def test_reading_a_value_while_tracing_names_the_line_and_the_way_out() -> None:
    f = cr.compile(lambda x: x if x.sum().item() > 0 else -x)
    with pytest.raises(UserError, match=r"asked for while tracing, at test_compile.py:\d+") as caught:
        f(cr.tensor([1.0]))
    assert "choose with where()" in str(caught.value)
    assert f.explain_retrace()


def test_a_failed_trace_changes_nothing() -> None:
    w = cr.Parameter([1.0])

    @cr.compile
    def f(x: Tensor) -> None:
        w.assign(w * 2)
        w.grad = None
        float(x.sum())

    w.grad = cr.tensor([9.0])
    with pytest.raises(UserError):
        f(cr.tensor([1.0]))
    assert w.tolist() == [1]
    assert w.grad.tolist() == [9]


def test_labels_out_of_range_are_refused_before_anything_runs() -> None:
    model = nn.Linear(4, 3)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    step = cr.compile(make_step(model, optimizer))
    x = RNG.standard_normal((2, 4)).astype(np.float32)
    step(x, np.array([0, 2]))
    before = model.weight.numpy().copy()
    with pytest.raises(UserError, match="the label 3 in row 1 is out of range: the scores have 3 classes"):
        step(x, np.array([0, 3]))
    np.testing.assert_array_equal(model.weight.numpy(), before)


def test_an_index_out_of_range_is_refused() -> None:
    f = cr.compile(lambda x, i: x[i])
    x = cr.tensor([1.0, 2.0, 3.0])
    assert f(x, cr.tensor([2, 0])).tolist() == [3, 1]
    for index in (3, -11):
        with pytest.raises(UserError, match=rf"^index {index} at \[1\] is outside axis 0, which has 3 elements"):
            f(x, cr.tensor([0, index]))
    assert f(x, cr.tensor([2, 0])).tolist() == [3, 1]


def test_more_memory_than_allowed_is_refused_with_the_largest_values() -> None:
    f = cr.compile(lambda x: (x @ x).exp() @ x, max_memory=1000)
    with pytest.raises(UserError, match=r"needs [\d,]+ bytes, max_memory allows 1,000: use a smaller batch") as caught:
        f(np.ones((40, 40), np.float32))
    assert "matmul" in str(caught.value)


def test_a_foreign_tensor_that_asks_for_gradients_is_refused() -> None:
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(UserError, match="made outside with requires_grad=True: pass it as an argument"):
        cr.compile(lambda x: (w * x).sum().backward())(cr.tensor([1.0, 1.0]))
    assert w.grad is None


def test_what_compile_cannot_take() -> None:
    with pytest.raises(UserError, match="compile: needs a function, got int"):
        cr.compile(3)
    with pytest.raises(UserError, match="has not run yet"):
        _ = cr.compile(lambda x: x).program
    with pytest.raises(UserError, match="dtype complex128 is not supported"):
        cr.compile(lambda x: x)(np.ones(2, complex))


# ---- looking at a program


def test_a_program_can_be_looked_at_before_it_runs() -> None:
    w = cr.Parameter(np.ones((30, 20), np.float32))
    f = cr.compile(lambda x: w.assign(w + (x @ w).sum()))
    program = f.prepare(np.ones((10, 30), np.float32))
    assert program.passes[0].name == "simplify"
    rows = program.plan()
    assert any(row.label == "matmul" and row.nbytes == 10 * 20 * 4 for row in rows)
    assert program.arena_bytes >= max(row.offset + row.nbytes for row in rows)
    np.testing.assert_array_equal(w.numpy(), np.ones((30, 20)))


def test_the_reference_engine_runs_compiled_functions_node_by_node() -> None:
    f, calls = counted(lambda x: x * 2)
    with cr.engine("reference"):
        assert f(np.ones(2, np.float32)).tolist() == [2, 2]
        f(np.ones(2, np.float32))
        assert len(calls) == 2
    f(np.ones(2, np.float32))
    f(np.ones(2, np.float32))
    assert len(calls) == 3


def test_engines_have_names() -> None:
    with pytest.raises(UserError, match="engine"):
        cr.engine("fast")


def test_numbers_in_the_other_order_of_bytes_are_taken_for_what_they_are() -> None:
    @cr.compile
    def doubled(x: cr.Tensor) -> cr.Tensor:
        return x * 2

    for code in ("<f4", ">f4", ">i8", "<f8"):
        np.testing.assert_array_equal(doubled(np.arange(5).astype(code)).numpy(), np.arange(5) * 2)


def test_a_compiled_step_keeps_one_copy_of_each_cell() -> None:
    cr.manual_seed(0)
    model = nn.Linear(40, 30)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @cr.compile
    def step(x: cr.Tensor) -> cr.Tensor:
        optimizer.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    expected = model.weight.numbers().copy()  # without a node, as nobody looks at it
    step.prepare(np.ones((3, 40), np.float32))
    cells = [*model.parameters(), *(cell for slots in optimizer.state.values() for cell in slots.values())]
    assert len(cells) == 4
    assert all(cell._value_now is None for cell in cells)
    np.testing.assert_array_equal(model.weight.numpy(), expected)
    assert not optimizer.state[model.weight]["momentum"].numpy().any()


def test_memory_of_operations_that_ran_at_once_goes_back_when_a_program_is_made() -> None:
    x = cr.tensor(np.ones((300, 300), np.float32))
    for _ in range(2):
        x @ x
    assert memory._idle.nbytes > 0
    cr.compile(lambda x: x + 1).prepare(x)
    assert memory._idle.nbytes == 0


def test_named_tuples_come_back_as_what_they_are() -> None:
    class Pair(NamedTuple):
        first: Tensor
        second: Any

    @cr.compile
    def swapped(pair: Pair) -> Pair:
        return Pair(pair.second, pair.first * 2.0)

    found = swapped(Pair(cr.tensor([1.0]), cr.tensor([3.0])))
    assert type(found) is Pair
    assert (found.first.item(), found.second.item()) == (3.0, 2.0)
