"""What a graph keeps: the values that gradient rules read, until ``backward()`` has gone through it. Counted, not timed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, ops, optim
from chainrule.errors import UserError
from chainrule.graph import Array, Node, Role, leaf, topological_order
from chainrule.graph.dtypes import is_float
from chainrule.lens import explain
from chainrule.ops import OUTPUT, Primitive, Spec
from chainrule.tensor import backward
from specs import CASES, drawn

F = nn.functional


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def wanted(*shape: int, seed: int = 0) -> cr.Tensor:
    return cr.tensor(random(*shape, seed=seed), requires_grad=True)


def stored(nodes: list[Node]) -> int:
    """Bytes of the arrays that these nodes hold, shared memory once."""
    memory: dict[int, int] = {}
    for node in nodes:
        array = node.value
        while isinstance(array, np.ndarray):
            last, array = array, array.base
        if node.value is not None:
            memory[last.__array_interface__["data"][0]] = last.nbytes
    return sum(memory.values())


def alive() -> tuple[int, int]:
    """How many nodes there are in the process, and the bytes of their arrays."""
    gc.collect()
    nodes = [one for one in gc.get_objects() if isinstance(one, Node)]
    return len(nodes), stored(nodes)


@pytest.fixture
def _however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value is worth to be forgotten."""
    monkeypatch.setattr(ops.primitive, "_LARGE", 0)


# ---- what is left of steps whose losses are kept


def small_step() -> Callable[[], cr.Tensor]:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, labels = cr.tensor(random(32, 1, 16, 16)), cr.tensor(np.arange(32) % 10)

    def step() -> cr.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.fixture(params=["node by node", "as a program"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(backward, "_WORTH_A_PROGRAM", 0 if request.param == "as a program" else 1 << 60)
    backward._programs.clear()
    yield
    backward._programs.clear()


@pytest.mark.usefixtures("_both_ways")
def test_a_list_of_losses_keeps_numbers_and_no_graphs() -> None:
    step = small_step()
    losses = [step() for _ in range(3)]
    count, nbytes = alive()
    losses += [step() for _ in range(20)]
    later, more = alive()
    assert later - count <= 3 * 20
    assert more - nbytes <= 1000 * 20
    assert len({loss.item() for loss in losses}) == 23  # the numbers are all there


@pytest.mark.usefixtures("_both_ways")
def test_a_sum_of_losses_keeps_numbers_and_no_graphs() -> None:
    step = small_step()
    expected = [step().item() for _ in range(23)]
    step = small_step()
    total = step() + step() + step()
    count, nbytes = alive()
    for _ in range(20):
        total = total + step()
    later, more = alive()
    assert later - count <= 6 * 20
    assert more - nbytes <= 1000 * 20
    assert total.item() == pytest.approx(sum(expected), rel=1e-5)
    with pytest.raises(UserError, match="is freed"):
        total.backward()


@pytest.mark.usefixtures("_both_ways")
def test_hidden_values_that_are_kept_keep_their_numbers_and_no_graph() -> None:
    kept = []

    def step() -> None:
        x, w = cr.tensor(random(50, 40)), wanted(40, 30, seed=1)
        hidden = (x @ w).tanh()
        (hidden * hidden).sum().backward()
        kept.append(hidden)

    step()
    count, nbytes = alive()
    for _ in range(10):
        step()
    later, more = alive()
    assert later - count <= 5 * 10
    assert more - nbytes <= 10 * (50 * 30 * 4 + 1000)
    np.testing.assert_allclose(kept[0].numpy(), np.tanh(random(50, 40) @ random(40, 30, seed=1)), rtol=1e-4, atol=1e-6)


# ---- going back twice


@pytest.mark.usefixtures("_both_ways")
def test_a_second_backward_says_so_with_the_remedy() -> None:
    x = wanted(5)
    loss = (x * x).sum()
    loss.backward()
    message = (
        r"^backward: the graph that led to float32\[\], from sum at test_graph_memory.py:\d+, is freed: backward\(\) went "
        r"through it already; let that call keep it with backward\(retain_graph=True\), or add "
        r"up the errors and go backward once$"
    )
    for again in (loss, loss * 2.0, loss + (x * 3.0).sum()):
        with pytest.raises(UserError, match=message):
            again.backward()
        with pytest.raises(UserError, match=message):
            cr.grad(again, [x])
    np.testing.assert_array_equal(x.grad.numpy(), 2 * x.numpy())  # nothing was added
    assert "from sum at test_graph_memory.py" in repr(loss)


@pytest.mark.usefixtures("_both_ways")
def test_two_errors_over_one_trunk() -> None:
    x = wanted(4)
    trunk = x.exp() * x
    first, second = trunk.sum(), (trunk * trunk).sum()
    first.backward()
    with pytest.raises(UserError, match=r"backward: the graph that led to float32\[4\], from multiply at .* is freed"):
        second.backward()
    x.grad = None
    trunk = x.exp() * x
    first, second = trunk.sum(), (trunk * trunk).sum()
    first.backward(retain_graph=True)
    second.backward()
    e = np.exp(x.numpy())
    np.testing.assert_allclose(x.grad.numpy(), (e * x.numpy() + e) * (1 + 2 * e * x.numpy()), rtol=1e-4)


@pytest.mark.usefixtures("_both_ways")
def test_a_retained_graph_gives_the_same_again_and_goes_with_the_last() -> None:
    x = wanted(4)
    loss = (x.sin() * x).sum()
    loss.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    loss.backward(retain_graph=False)
    np.testing.assert_array_equal(x.grad.numpy(), 2 * once)
    with pytest.raises(UserError, match="is freed"):
        loss.backward()


def test_gradients_of_gradients_retain_the_graph_unless_told_otherwise() -> None:
    x = wanted(3)
    loss = (x**3).sum()
    loss.backward(create_graph=True)
    slope, x.grad = x.grad, None
    assert slope is not None
    loss.backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * x.numpy() ** 2, rtol=1e-6)
    x.grad = None
    slope.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * x.numpy(), rtol=1e-6)
    loss = (x**3).sum()
    loss.backward(create_graph=True, retain_graph=False)
    with pytest.raises(UserError, match="is freed"):
        loss.backward()


def test_the_function_grad_leaves_the_graph_alone() -> None:
    x = wanted(4)
    loss = (x.sin() * x).sum()
    for _ in range(2):
        (slope,) = cr.grad(loss, [x])
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), slope.numpy())
    with pytest.raises(UserError, match="is freed"):
        cr.grad(loss, [x])
    np.testing.assert_allclose(slope.numpy(), np.cos(x.numpy()) * x.numpy() + np.sin(x.numpy()), rtol=1e-5)


def test_compiled_functions_refuse_a_second_backward_as_plain_ones_do() -> None:
    w = cr.Parameter([1.0, 2.0])

    def twice(retain: bool) -> cr.Tensor:
        w.grad = None
        loss = (w * w * w).sum()
        loss.backward(retain_graph=retain)
        loss.backward()
        return loss

    def slope_after() -> cr.Tensor | None:
        loss = (w * w).sum()
        loss.backward()
        return cr.grad(loss, [w])[0]

    for f, g in ((twice, slope_after), (cr.compile(twice), cr.compile(slope_after))):
        with pytest.raises(UserError, match=r"backward: the graph that led to .* is freed"):
            f(False)
        with pytest.raises(UserError, match=r"backward: the graph that led to .* is freed"):
            g()
        f(True)
        np.testing.assert_array_equal(w.grad.numpy(), [6, 24])


def test_the_graph_of_what_went_backward_is_not_drawn_as_if_it_were_whole() -> None:
    loss = wanted(3).exp().sum()
    loss.backward()
    with pytest.raises(UserError, match=r"^graph: .* is freed: .*retain_graph=True\), or look at the graph before$"):
        _ = loss.graph
    with pytest.raises(UserError, match=r"^explain: .* is freed: .*retain_graph=True\), or explain before$"):
        explain(loss)


# ---- what a graph keeps while it stands


@pytest.mark.usefixtures("_however_small")
def test_what_no_rule_reads_is_freed_while_the_graph_stands() -> None:
    x = wanted(1000)
    doubled = x + x
    unread = weakref.ref(doubled.node.value)
    shifted = doubled.sum()
    del doubled
    assert unread() is None
    shifted.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full(1000, 2.0))


def test_a_product_with_a_constant_keeps_the_constant_alone() -> None:
    x, mask = wanted(100, 100), random(100, 100, seed=1)
    hidden = x.exp() + 1.0
    unread = weakref.ref(hidden.node.value)
    error = (hidden * cr.tensor(mask)).sum()
    del hidden
    assert unread() is None
    error.backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp(x.numpy()) * mask, rtol=1e-5)


def test_large_constants_that_no_rule_reads_are_freed() -> None:
    x, noise = wanted(200, 200), cr.tensor(random(200, 200, seed=1))
    unread = weakref.ref(noise.node.value)
    error = ((x + noise) - noise).sum()
    del noise
    assert unread() is None
    error.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones((200, 200)))


def test_what_a_convolutional_block_keeps() -> None:
    """Of convolution, batch normalisation and ReLU, whose seven values are as large as the image, three."""
    cr.manual_seed(0)
    layers = [[nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()] for _ in range(4)]
    model = nn.Sequential(*[one for several in layers for one in several])
    x = cr.tensor(random(4, 8, 16, 16))
    output = model(x)
    image = 4 * 8 * 16 * 16 * 4
    kept = stored([node for node in output.graph if node.operation.role is not Role.LEAF])
    assert 4 * image <= kept <= 4 * 3 * image + 10_000


@pytest.mark.parametrize(("primitive", "spec"), [one for one in CASES if one.values[0].role is not Role.BLOCKER])
def test_every_primitive_keeps_what_its_rules_read_and_goes_back_the_same(
    primitive: Primitive, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over inputs that nobody holds: node by node and as a program, as where everything is kept."""
    monkeypatch.setattr(backward, "_WORTH_A_PROGRAM", 0)
    monkeypatch.setattr(ops.primitive, "_LARGE", 0)
    arrays = drawn(spec)

    def ran(history: ops.History, engine: str, upstream: Array | None) -> tuple[Node, list[cr.Tensor]]:
        with cr.engine(engine), ops.history(history):
            given = [cr.tensor(one, requires_grad=is_float(one.dtype)) for one in arrays]
            hidden = [ops.negative(ops.negative(one.node)) if one.requires_grad else one.node for one in given]
            node = primitive(*hidden, **spec.attributes)
            del hidden
            if not node.requires_grad:
                return node, []
            if upstream is None:
                return node, given
            cr.Tensor(node).backward(upstream)
            return node, given

    node, given = ran("gradients", "reference", None)
    if not node.requires_grad:
        return
    switched = primitive.role is Role.SWITCHER
    for place, one in enumerate(node.inputs):
        read = place in primitive.saves and (not switched or given[1 - place].requires_grad)
        if one.requires_grad:
            assert (one.value is not None) == read, f"input {place}"
    (taken,) = ops.negative(node).inputs
    assert (taken.value is not None) == (OUTPUT in primitive.saves)
    upstream = np.asarray(random(*node.shape, seed=5)).astype(node.dtype)
    expected = [one.grad for one in ran("everything", "reference", upstream)[1]]
    for engine in ("reference", "native"):
        found = [one.grad for one in ran("gradients", engine, upstream)[1]]
        for mine, theirs in zip(found, expected, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                scale = float(np.abs(theirs.numpy().astype(np.float64)).max(initial=1e-30))
                tolerance = {8: 1e-12, 4: 2e-6, 2: 2e-2}[mine.dtype.itemsize] * scale
                np.testing.assert_allclose(mine.numpy().astype(float), theirs.numpy().astype(float), rtol=0, atol=tolerance)


UNARY = [
    lambda x: x.tanh(),
    lambda x: x.sin() + 1.0,
    lambda x: (x * 0.5).exp(),
    lambda x: x.reshape(3, 2).T.reshape(2, 3),
    lambda x: F.relu(x) - 0.1,
    lambda x: F.softmax(x),
    lambda x: x - x.mean(1, keepdims=True),
    lambda x: (x**2 + 1.0).rsqrt(),
    lambda x: x / (x.abs() + 1.0),
    lambda x: x.detach() * x,
]
BINARY = [
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x - y,
    lambda x, y: cr.maximum(x, y),
    lambda x, y: cr.where(x > y, x, y * 0.5),
    lambda x, y: (x @ y.T) @ y,
    lambda x, y: cr.concatenate([x, y])[1:3],
]


@pytest.mark.usefixtures("_however_small")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12), st.booleans())
def test_random_graphs_go_back_the_same_whatever_is_held(steps: list[tuple[int, int, int]], held: bool) -> None:
    """As with a history of everything, in which no value is freed."""

    def gradients(history: ops.History, hold: bool) -> list[Array | None]:
        with ops.history(history):
            leaves = [cr.tensor(random(2, 3, seed=seed), dtype="float64", requires_grad=True) for seed in range(2)]
            values = list(leaves)
            for kind, first, second in steps:
                if kind % 2:
                    made = UNARY[kind // 2 % len(UNARY)](values[first % len(values)])
                else:
                    made = BINARY[kind // 2 % len(BINARY)](values[first % len(values)], values[second % len(values)])
                values.append(made)
            error = sum((one * one).sum() for one in values)
            if not hold:
                values.clear()
            error.backward()
        return [None if one.grad is None else one.grad.numpy() for one in leaves]

    for mine, theirs in zip(gradients("gradients", held), gradients("everything", True), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


# ---- values that are looked at


def test_a_value_that_a_tensor_holds_keeps_its_number() -> None:
    x = wanted(3)
    hidden = x + 1.0
    error = (hidden + 2.0).sum()
    before = hidden.tolist()
    error.backward()
    assert hidden.tolist() == before == (x.numpy() + 1).tolist()
    assert (hidden * 2.0).tolist() == (2 * (x.numpy() + 1)).tolist()


@pytest.mark.usefixtures("_however_small")
def test_a_freed_value_says_how_to_keep_it() -> None:
    error = (wanted(3) + 1.0).sum()
    freed = next(node for node in error.graph if node.operation is ops.add)
    message = (
        r"was computed at test_graph_memory.py:\d+ and is freed: its own tensor is gone, and no gradient rule reads it; hold "
        r"on to the tensor, or compute it within chainrule.ops.history\('everything'\)"
    )
    with pytest.raises(UserError, match=f"^the value of <Node add float32\\[3\\]> {message}"):
        cr.Tensor(freed).numpy()
    with pytest.raises(UserError, match=f"^exp: an input {message}"):
        cr.Tensor(freed).exp()
    with ops.history("everything"):
        error = (wanted(3) + 1.0).sum()
    assert all(node.value is not None for node in error.graph)


@pytest.mark.usefixtures("_however_small")
def test_explain_computes_freed_values_again() -> None:
    def on_the_way() -> list[tuple[str, list[float]]]:
        cr.manual_seed(0)
        model, x = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)), cr.tensor(random(5, 4))
        error = F.cross_entropy(model(x), cr.tensor([0, 1, 0, 1, 1]))
        return [(row.operation, row.value.ravel().tolist()) for row in explain(error).rows if row.upstream is not None]

    found = on_the_way()
    with ops.history("everything"):
        assert found == on_the_way()
    assert len(found) > 20


def test_explain_says_which_constant_is_freed() -> None:
    error = ((wanted(200, 200) + cr.tensor(random(200, 200))) ** 2).sum()
    with pytest.raises(UserError, match=r"^explain: a constant was computed at .* and is freed: .*history\('everything'\)$"):
        explain(error)


@pytest.mark.usefixtures("_however_small")
def test_nodes_of_a_graph_are_the_same_for_all_their_users() -> None:
    x = wanted(3)
    hidden = x.exp()
    error = (hidden * hidden + hidden).sum() + (hidden - 1.0).sum()
    assert [node.operation.name for node in topological_order([error.node])].count("exp") == 1
    assert leaf(np.ones(3)).remembered is None
