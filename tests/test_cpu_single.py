"""Programs of one operation: right however their stand_ins lie, and in memory that is used again but never while it is seen."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops, optim
from chainrule.cpu.runtime import lent, memory, single
from chainrule.graph import TensorType, leaf
from chainrule.ops import Primitive, Spec, run_reference, running_on
from chainrule.tensor import Buffer, engines
from chainrule.tensor.cells import written
from specs import CASES, assert_as_reference, drawn


def row_major(a: np.ndarray) -> np.ndarray:
    return a


def axes_turned_round(a: np.ndarray) -> np.ndarray:
    return np.asfortranarray(a) if a.ndim else a


def channels_last(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1) if a.ndim > 2 else a


def part_of_more(a: np.ndarray) -> np.ndarray:
    return np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a


def repeated(a: np.ndarray) -> np.ndarray:
    return np.broadcast_to(a[:1], a.shape) if a.ndim and a.shape[0] else a


@pytest.mark.parametrize("lies", [row_major, axes_turned_round, channels_last, part_of_more, repeated])
@pytest.mark.parametrize(("primitive", "spec"), CASES)
def test_every_primitive_takes_its_operands_as_they_lie(
    primitive: Primitive, spec: Spec, lies: Callable[[np.ndarray], np.ndarray]
) -> None:
    arrays = [lies(one) for one in drawn(spec)]
    with running_on(None):
        type_ = primitive(*[leaf(TensorType(one.shape, one.dtype)) for one in arrays], **spec.attributes).type
    expected = run_reference(primitive, arrays, spec.attributes, type_)
    for _ in range(2):  # the second time from the table
        assert_as_reference(single.run(primitive, arrays, spec.attributes), expected)


def test_an_image_that_lies_channels_last_stays_so() -> None:
    image = channels_last(np.random.default_rng(0).standard_normal((2, 3, 5, 5)).astype(np.float32))
    weight = np.ones((4, 3, 3, 3), np.float32)
    attributes = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    convolved = single.run(ops.conv2d, [image, weight], attributes)
    masked = single.run(ops.maximum, [convolved, convolved], {})
    assert np.moveaxis(convolved, 1, -1).flags.c_contiguous
    assert np.moveaxis(masked, 1, -1).flags.c_contiguous


# ---- memory


def test_memory_comes_back_when_the_last_view_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_idle", memory._Idle())
    first, address = memory.recycled(1 << 21)
    assert first.ctypes.data == address
    view = first[5:].view()
    del first
    assert memory.recycled(1 << 21)[1] != address, "somebody still looks at it"
    del view
    gc.collect()
    assert memory.recycled(1 << 21)[1] == address


def test_idle_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MOST_IDLE_BYTES", 3 << 20)
    monkeypatch.setattr(memory, "_idle", memory._Idle())
    blocks = [memory.recycled((1 << 20) + 4096 * i) for i in range(6)]
    assert memory._idle.nbytes == 0
    blocks.clear()
    gc.collect()
    assert 2 << 20 < memory._idle.nbytes <= 3 << 20


# ---- plain training steps


def losses_and_weights(engine: str) -> tuple[list[float], list[np.ndarray]]:
    with cr.engine(engine):
        cr.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.1),
            nn.Conv2d(8, 8, 3, groups=8),
            nn.Flatten(),
            nn.Linear(8 * 36, 96),
            nn.Tanh(),
            nn.Linear(96, 10),
        )
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        rng = np.random.default_rng(0)
        images, labels = rng.standard_normal((32, 3, 16, 16)).astype(np.float32), rng.integers(0, 10, 32)
        losses = []
        for number in range(4):
            optimizer.lr = 0.05 / (number + 1)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(cr.tensor(images)), cr.tensor(labels))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, [one.numpy() for one in model.parameters()]


def test_plain_steps_are_the_same_on_both_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, weights = losses_and_weights("reference")
    monkeypatch.setattr(engines, "_WORTH_A_PROGRAM", 0)  # everything that may run natively does
    found, native = losses_and_weights("native")
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    for one, other in zip(native, weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


# ---- the optimizer's update as one program


@pytest.mark.parametrize("method", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
def test_a_large_update_is_one_program_and_means_the_same(method: type[optim.Optimizer]) -> None:
    def updated(engine: str) -> list[np.ndarray]:
        with cr.engine(engine):
            weight, unused = (
                cr.Parameter(np.linspace(-1, 1, 200 * 100).reshape(200, 100).astype(np.float32)),
                cr.Parameter([1.0]),
            )
            optimizer = method([weight, unused], lr=0.1)
            for number in range(4):
                weight.grad = cr.tensor(np.cos(weight.numpy().T * (number + 1)).T)  # lies turned round
                if number == 2:
                    unused.grad = cr.tensor(np.ones(1, np.float32))
                optimizer.lr = 0.1 / (number + 1)
                optimizer.step()
            assert bool(len(optimizer._updates._programs)) == (engine == "native")
            return [weight.numpy(), unused.numpy(), *optimizer.state_dict().values()]

    for found, expected in zip(updated("native"), updated("reference"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


def test_an_update_leaves_earlier_values_as_they_were() -> None:
    weight = cr.Parameter(np.ones((200, 100), np.float32))
    optimizer = optim.SGD([weight], lr=0.5, momentum=0.9)
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(4):
        before = weight * 1.0  # its graph has the weight as it is now
        weight.grad = cr.tensor(np.ones((200, 100), np.float32))
        seen += [(one, one.copy()) for one in (before.graph.leaves[0].value, weight.numpy(), weight.grad.numpy())]
        seen += [(one, one.copy()) for one in optimizer.state_dict().values()]
        optimizer.step()
    for now, then in seen:
        np.testing.assert_array_equal(now, then)
    expected = 1.0
    for velocity in (1.0, 1.9, 2.71, 3.439):
        expected -= 0.5 * velocity
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6)


def test_an_update_follows_a_parameter_that_is_assigned() -> None:
    weight = cr.Parameter(np.ones((200, 100), np.float32))
    optimizer = optim.SGD([weight], lr=1.0)
    for value in (np.full((100, 200), 3, np.float32).T, np.full((200, 100), 5, np.float32)):
        weight.assign(value)
        weight.grad = cr.tensor(np.ones((200, 100), np.float32))
        optimizer.step()
        np.testing.assert_array_equal(weight.numpy(), value - 1)
        assert weight.numpy().flags.c_contiguous


def large(value: float) -> cr.Parameter:
    made = cr.Parameter(np.full((200, 100), value, np.float32))
    made.grad = cr.tensor(np.ones((200, 100), np.float32))
    return made


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_an_update_follows_what_is_exchanged_or_dropped(engine: str) -> None:
    with cr.engine(engine):
        first, second = large(1), large(1)
        optimizer = optim.SGD([first, second], lr=1.0, momentum=0.5)
        optimizer.step()
        optimizer.state.clear()  # the next step begins again without momentum
        optimizer.step()
        assert [float(one.numpy()[0, 0]) for one in (first, second)] == [-1, -1]
        assert len(optimizer.state) == 2
        third = optimizer.groups[0].parameters[0] = large(10)
        optimizer.step()
        assert [float(one.numpy()[0, 0]) for one in (first, second, third)] == [-1, -2.5, 9]


def test_state_takes_memory_of_programs_only_where_one_uses_it() -> None:
    state = Buffer.zeros((300, 300), "float32")
    assert state._memory is None
    np.testing.assert_array_equal(state.numpy(), np.zeros((300, 300), np.float32))
    assert state._memory is None
    state.memory()[:] = 1
    written([state])
    np.testing.assert_array_equal(state.numpy(), np.ones((300, 300), np.float32))
    untouched = Buffer.zeros((300, 300), "float32")
    assert not untouched.memory().any()
    assert untouched._value_now is None, "one copy is enough"


def test_a_signal_handler_between_the_lock_and_its_owners_name_waits_for_nobody() -> None:
    x = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    found = []

    def interrupted() -> None:
        with lent._lock:  # taken, and then the handler came
            found.append((cr.tensor(x) @ cr.tensor(x)).numpy())

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    np.testing.assert_allclose(found[0], x @ x, atol=1e-2)


def test_an_optimizer_and_its_model_go_without_a_collection() -> None:
    weight = large(0)
    optimizer = optim.Adam([weight], lr=0.1)
    optimizer.step()
    seen = weakref.ref(weight), weakref.ref(optimizer)
    gc.disable()
    try:
        del weight, optimizer
        assert [one() for one in seen] == [None, None]
    finally:
        gc.enable()


def test_options_may_be_numbers_of_numpy() -> None:
    weight, other = large(1), large(1)
    optim.SGD([weight], lr=1.0, weight_decay=np.array(0.5)).step()
    optim.SGD([other], lr=1.0, weight_decay=0.5).step()
    np.testing.assert_array_equal(weight.numpy(), other.numpy())


def test_a_users_own_method_runs_as_it_is_written() -> None:
    calls = []

    class Counting(optim.SGD):
        def _update(self, *given: object) -> None:
            calls.append(1)
            super()._update(*given)  # type: ignore[arg-type]

    weight = cr.Parameter(np.ones((200, 100), np.float32))
    optimizer = Counting([weight], lr=0.1)
    for _ in range(3):
        weight.grad = cr.tensor(np.ones((200, 100), np.float32))
        optimizer.step()
    assert len(calls) == 3


def test_a_large_operation_within_a_large_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a signal handler: both are right, whatever the outer one had prepared."""
    x = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    seen = []
    usual = lent.recycled

    def interrupted(nbytes: int) -> np.ndarray:
        if not seen:
            seen.append(None)
            t = cr.tensor(x, requires_grad=True)
            (t @ t).sum().backward()
            seen[0] = (t.numpy() @ t.numpy(), t.grad.numpy())
        return usual(nbytes)

    cr.tensor(x) @ cr.tensor(x)
    monkeypatch.setattr(lent, "recycled", interrupted)
    outer = (cr.tensor(x) @ cr.tensor(2 * x)).numpy()
    np.testing.assert_allclose(outer, x @ (2 * x), atol=1e-2)
    np.testing.assert_allclose(seen[0][1], np.ones_like(x) @ x.T + x.T @ np.ones_like(x), atol=1e-2)
