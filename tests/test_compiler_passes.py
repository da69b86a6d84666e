"""The compiler's passes on small graphs: before and after; and every primitive through all passes, run with NumPy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, ops, optim
from chainrule.compiler import pipeline
from chainrule.compiler.arena import Span, plan_memory
from chainrule.compiler.fuse import Fusion, fuse
from chainrule.compiler.layout import CHANNELS_LAST, choose_layout
from chainrule.compiler.lower import lower
from chainrule.compiler.nest import collapsed
from chainrule.compiler.pipeline import Compilation
from chainrule.compiler.schedule import schedule
from chainrule.compiler.simplify import simplify
from chainrule.compiler.tasks import Buffer, HeavyTask, LoopTask
from chainrule.compiler.values import COPY
from chainrule.compiler.widening import in_supported_dtypes
from chainrule.errors import InternalError
from chainrule.graph import Graph, Node, TensorType, leaf
from chainrule.graph.dtypes import as_dtype, float32, int64, is_float
from chainrule.ops import Primitive, Spec
from chainrule.tensor import Tensor, placeholder, tracing
from plan_interpreter import run_plan
from specs import CASES, drawn


@pytest.fixture(autouse=True)
def checks_between_passes() -> Iterator[None]:
    pipeline.check_between = True
    yield
    pipeline.check_between = False


def traced(f: Callable[..., Any], *shapes: tuple[int, ...], dtype: str = "float32") -> tuple[Graph, list[Node]]:
    with tracing():
        inputs = [placeholder(shape, dtype) for shape in shapes]
        found = f(*inputs)
    outputs = found if isinstance(found, tuple) else (found,)
    return Graph(*(one.node for one in outputs)), [one.node for one in inputs]


def names(graph: Graph) -> Counter[str]:
    return Counter(node.operation.name for node in graph.nodes if not node.is_leaf)


def simplified(f: Callable[..., Any], *shapes: tuple[int, ...], dtype: str = "float32") -> Counter[str]:
    return names(simplify(traced(f, *shapes, dtype=dtype)[0])[0])


# ---- simplify


@pytest.mark.parametrize(
    ("f", "left"),
    [
        (lambda x: x + -0.0, {}),
        (lambda x: -0.0 + x, {}),
        (lambda x: x - 0, {}),
        (lambda x: x + 0, {"add": 1, "broadcast": 1}),  # -0 + 0 is 0, which 1 / x tells from -0
        (lambda x: x - -0.0, {"subtract": 1, "broadcast": 1}),
        (lambda x: x.astype("int32") + 0, {"cast": 1}),
        (lambda x: x * 1, {}),
        (lambda x: x / 1, {}),
        (lambda x: 0 - (0 - x), {"subtract": 2, "broadcast": 1}),
        (lambda x: x**1, {}),
        (lambda x: x**2, {"multiply": 1}),
        (lambda x: x.astype("float32"), {}),
        (lambda x: x.detach(), {}),
        (lambda x: x.T.T, {}),
        (lambda x: x.reshape(15).reshape(5, 3).reshape(3, 5), {}),
        (lambda x: (x * 2) * 3, {"multiply": 1, "broadcast": 1}),
        (lambda x: (x * 1e-30) * 1e-30, {"multiply": 2, "broadcast": 1}),  # 1e-60 is no float32, but 1e38 times it is one
        (lambda x: (x * 1e30) * 1e30, {"multiply": 2, "broadcast": 1}),
        (lambda x: x.exp() + x.exp(), {"exp": 1, "add": 1}),
        (lambda x: x * x.exp() + x.exp() * x, {"exp": 1, "multiply": 1, "add": 1}),
        (lambda x: (-x).sum(0), {"sum": 1, "negative": 1}),
    ],
)
def test_simplify_removes_what_changes_nothing(f: Callable[[Tensor], Tensor], left: dict[str, int]) -> None:
    assert simplified(f, (3, 5)) == Counter(left)


def test_simplify_keeps_what_could_change_something() -> None:
    assert simplified(lambda x: x * 0, (3, 5))["multiply"] == 1, "0 * nan is nan"
    assert simplified(lambda x: x - x, (3, 5))["subtract"] == 1, "inf - inf is nan"


def test_simplify_folds_constants_and_keeps_broadcasts_of_one_number() -> None:
    graph, _ = traced(lambda x: x * (cr.tensor([1.0, 2.0]) * 3 + 1), (4, 2))
    found = simplify(graph)[0]
    assert names(found) == Counter(multiply=1, broadcast=1)
    (constant,) = (node for node in found.leaves if node.value is not None)
    np.testing.assert_array_equal(constant.value, [4, 7])  # type: ignore[arg-type]


def test_simplify_takes_a_constant_factor_out_of_a_sum() -> None:
    graph, (x, w) = traced(lambda x, w: (x * w.reshape(1, 3)).sum(0), (50, 3), (3,))
    found = simplify(graph)[0]
    (total,) = (node for node in found.nodes if node.operation is ops.sum_)
    assert total.inputs == (x,), "the sum is over x alone"
    (product,) = found.outputs
    assert product.operation is ops.multiply
    assert set(product.inputs) == {total, w}


def test_a_sum_of_differences_is_not_a_difference_of_sums() -> None:
    """Taken apart, it would keep nothing of 13.2 from sums of 10^8."""
    rng = np.random.default_rng(0)
    offset = rng.uniform(1e4, 2e4, 4).astype(np.float32)
    x = (offset + rng.standard_normal((10_000, 4)) * 0.1).astype(np.float32)
    apart = x.astype(np.float64) - offset
    found = cr.compile(lambda x, offset: ((x - offset).sum(0), ((x - offset) * offset).sum(0)))(x, offset)
    np.testing.assert_allclose(found[0].numpy(), apart.sum(0), rtol=1e-4)
    np.testing.assert_allclose(found[1].numpy(), (apart * offset).sum(0), rtol=1e-4)


def test_a_number_stays_in_a_sum_that_would_overflow_without_it() -> None:
    x = np.full(3, 3e38, np.float32)
    found = cr.compile(lambda x: ((x / 3).sum(), (x * 0.25).sum(), (x * 0.1 * x.sign()).sum()))(x)
    np.testing.assert_allclose([one.item() for one in found], [3e38, 2.25e38, 0.9e38], rtol=1e-6)


def test_what_a_mean_leaves_adds_up_to_nothing() -> None:
    x = np.random.default_rng(0).uniform(1e6, 2e6, (100, 3)).astype(np.float32)
    x[7, 2] = np.inf
    with np.errstate(invalid="ignore"):
        found = cr.compile(lambda x: (x - x.mean(0)).sum(0))(x).numpy()
    np.testing.assert_array_equal(found, [0, 0, np.nan])


def test_simplify_leaves_batch_normalisation_two_sums_backward() -> None:
    network = nn.BatchNorm2d(4)

    def both(x: Tensor, upstream: Tensor) -> tuple[Any, ...]:
        y = network(x)
        y.backward(upstream)
        return x.grad, network.weight.grad, network.bias.grad

    with tracing():
        x = placeholder((2, 4, 5, 5), requires_grad=True)
        outputs = both(x, placeholder((2, 4, 5, 5)))
    found = simplify(Graph(*(one.node for one in outputs)))[0]
    images = [node for node in found.nodes if node.operation is ops.sum_ and node.inputs[0].ndim == 4]
    assert len(images) == 4, "mean, variance; sum of the upstream gradient, and of it times x - mean"


def test_simplify_asks_the_relu_itself_for_its_mask() -> None:
    with tracing():
        x = placeholder((3, 5), requires_grad=True)
        y = nn.functional.relu(x * 2)
        y.backward(placeholder((3, 5)))
    assert x.grad is not None
    found = simplify(Graph(y.node, x.grad.node))[0]
    (mask,) = (node for node in found.nodes if node.operation is ops.less)
    assert mask.inputs[1].operation is ops.maximum


def test_simplify_changes_nothing_in_a_long_chain_that_is_simple() -> None:
    def chain(x: Tensor) -> Tensor:
        for _ in range(3000):
            x = x.sin()
        return x

    assert simplified(chain, (2,))["sin"] == 3000


# ---- precision


def test_precision_widens_contractions_of_bfloat16_and_rounds_once() -> None:
    graph, _ = traced(lambda a, b: a @ b, (3, 4), (4, 2), dtype="bfloat16")
    found, changed = in_supported_dtypes(graph)
    assert changed > 0
    (product,) = (node for node in found.nodes if node.operation is ops.matmul)
    assert product.dtype == float32
    assert found.outputs[0].dtype == as_dtype("bfloat16")


def test_precision_leaves_float32_alone() -> None:
    graph, _ = traced(lambda a, b: a @ b, (3, 4), (4, 2))
    assert in_supported_dtypes(graph) == (graph, 0)


# ---- layout


def conv(x: Tensor, w: Tensor) -> Tensor:
    return nn.functional.conv2d(x, w, padding=1)


def test_layout_stores_images_channels_last_and_copies_where_it_must() -> None:
    graph, (x, _) = traced(lambda x, w: nn.functional.relu(conv(conv(x, w), w)).flatten(1), (2, 3, 4, 4), (3, 3, 3, 3))
    layout = choose_layout(graph, set())
    copies = [node for node in layout.graph.nodes if node.operation is COPY]
    assert [layout.orders[one] for one in copies] == [CHANNELS_LAST, (0, 1, 2, 3)], "the input, and what is flattened"
    assert copies[0].inputs == (x,)
    for node in layout.graph.nodes:
        if node.operation in (ops.conv2d, ops.maximum):
            assert layout.orders[node] == CHANNELS_LAST


def test_layout_needs_no_copy_of_images_with_one_channel_or_one_pixel() -> None:
    graph, _ = traced(lambda x, w: conv(x, w).mean((2, 3)) @ cr.ones((3, 2)), (2, 1, 4, 4), (3, 1, 3, 3))
    assert choose_layout(graph, set()).copies == 0
    graph, _ = traced(lambda x, w: nn.functional.conv2d(x, w).flatten(1), (2, 1, 3, 3), (3, 1, 3, 3))
    assert choose_layout(graph, set()).copies == 0


def test_layout_turns_a_product_so_that_the_weight_needs_no_packing() -> None:
    graph, _ = traced(lambda x, w: x @ w.T, (64, 784), (512, 784))
    layout = choose_layout(graph, set())
    assert layout.orders[graph.outputs[0]] == (1, 0), "packing 64 x 784 is less than 512 x 784"


def test_layout_leaves_a_weight_gradient_as_the_weight_lies() -> None:
    w = cr.Parameter(np.zeros((512, 256), np.float32))
    with tracing() as trace:
        (placeholder((64, 256)) @ w.T).sum().backward()
        w.assign(w - w.grad * 0.1)  # type: ignore[operator]
    new = trace.writes[w]
    graph = simplify(Graph(new))[0]
    layout = choose_layout(graph, set(graph.outputs))
    (product,) = (node for node in layout.graph.nodes if node.operation is ops.matmul)
    places = layout.strides(layout.graph.outputs[0])
    assert places is not None
    assert places[1] == (256, 1)
    assert layout.orders[product] in ((0, 1), (1, 0))
    assert layout.copies == 0


def test_an_output_that_is_an_input_is_copied() -> None:
    graph, _ = traced(lambda x: x.T, (3, 4))
    assert choose_layout(graph, set()).copies == 1


# ---- fuse


def fused(f: Callable[..., Any], *shapes: tuple[int, ...]) -> Fusion:
    return fuse(choose_layout(simplify(traced(f, *shapes)[0])[0], set()))


def test_fuse_makes_one_loop_of_a_chain() -> None:
    assert len(fused(lambda x, y: ((x + y).exp() * y).tanh(), (40, 50), (40, 50)).clusters) == 1


def test_fuse_computes_again_what_is_cheap_and_reads_little() -> None:
    found = fused(lambda x, y: ((x * 2).sum(0), ((x * 2) @ y)), (40, 50), (50, 3))
    assert sum(one.is_heavy for one in found.clusters) == 1


def test_fuse_lets_reductions_over_the_same_values_share_a_loop() -> None:
    found = fused(lambda x, y: ((x * y).sum(0), x.sum(0), (x * x).sum(0)), (400, 50), (400, 50))
    assert len(found.clusters) == 1
    assert len(found.clusters[0].roots) == 3


def test_fuse_keeps_apart_what_needs_a_whole_reduction() -> None:
    found = fused(lambda x: x - x.mean(0, keepdims=True), (400, 50))
    order = [root.operation.name for one in found.clusters for root in one.roots]
    assert order.index("sum") < order.index("subtract")
    assert len(found.clusters) >= 2


def test_fuse_stores_a_value_where_it_is_also_gathered() -> None:
    found = fused(lambda x, y: (x.exp() * y, (x.exp() * y).sum(0)), (400, 50), (400, 50))
    assert len(found.clusters) == 1, "the sum takes the value from the register that is stored"


def test_softmax_takes_three_loops() -> None:
    found = fused(lambda x: nn.functional.softmax(x, dim=1), (300, 50))
    assert [one.space for one in found.clusters].count((300, 50)) == 3, "largest; sum of exponentials; their share in it"
    assert sum(one.points for one in found.clusters) == 3 * 300 * 50 + 300, "and a logarithm per row"


# ---- lower, schedule, memory


def test_lower_leaves_partial_sums_per_unit_and_adds_them_in_order() -> None:
    lowered = lower(fused(lambda x: x.sum((0, 2, 3)), (64, 8, 64, 64)))
    first, second = lowered.tasks
    assert isinstance(first, LoopTask)
    assert isinstance(second, LoopTask)
    (partial,) = first.partials
    assert partial.finish is second
    assert partial.buffer.elements == first.nest.units * 8
    first.divide(2)
    assert partial.buffer.elements == first.nest.units * 8
    assert second.nest.sizes[0] == first.nest.units


@pytest.mark.parametrize("batch", [16, 13])
def test_the_spread_about_a_mean_needs_no_second_wait_and_is_as_exact(batch: int) -> None:
    """Batch statistics of values far from 0, over units of which the last may be smaller."""
    x = np.random.default_rng(1).standard_normal((batch, 8, 24, 24)).astype(np.float32) + 100
    graph, (leaf_of_x,) = traced(lambda x: nn.functional.normalised(x, (0, 2, 3), 0.0)[1:], x.shape)
    plan = pipeline.plan(graph, [])
    (follower,) = (one for one in plan.schedule.tasks if isinstance(one, LoopTask) and one.follows)
    assert follower.nest.units > 2
    mean, variance = run_plan(plan, {leaf_of_x: x})
    np.testing.assert_allclose(mean.reshape(-1), x.mean((0, 2, 3), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(variance.reshape(-1), x.var((0, 2, 3), dtype=np.float64), rtol=1e-4)


def test_collapsed_axes_are_those_that_every_map_walks_as_one() -> None:
    assert collapsed((2, 3, 4), [(12, 4, 1)]) == ((24,), [(1,)])
    assert collapsed((2, 3, 4), [(12, 4, 1), (0, 0, 1)]) == ((6, 4), [(4, 1), (0, 1)])
    assert collapsed((2, 3, 4), [(12, 1, 3)]) == ((2, 3, 4), [(12, 1, 3)])
    assert collapsed((1, 1), [(5, 7)]) == ((1,), [(0,)])


def planned(f: Callable[[], None], cells: list[cr.Buffer]) -> tuple[Compilation, dict[Node, np.ndarray], list[np.ndarray]]:
    """The plan of what ``f`` does to cells; the cells' arrays; and the values that they should have afterwards."""
    with tracing() as trace:
        f()
    outputs = list(trace.writes.values())
    for cell in trace.writes:
        trace.old_value(cell)
    state = [(trace.reads[cell], place) for place, cell in enumerate(trace.writes)]
    plan = pipeline.plan(Graph(*outputs), state)
    leaves = {node: cell.numpy().copy() for cell, node in trace.reads.items()}
    f()
    return plan, leaves, [leaves[trace.reads[cell]] for cell in cells]


def test_schedule_updates_a_cell_in_place_after_its_last_reader() -> None:
    w, kept = cr.Buffer(np.arange(12.0).reshape(3, 4)), cr.Buffer(np.zeros((3, 3)))

    def f() -> None:
        old = w * 1.5
        w.assign(w - 1)
        kept.assign(old @ old.T)

    plan, leaves, memory = planned(f, [w, kept])
    assert len(plan.schedule.takes_over) == 2
    run_plan(plan, leaves)
    np.testing.assert_allclose(memory[0], w.numpy())
    np.testing.assert_allclose(memory[1], kept.numpy())


def test_schedule_copies_where_two_cells_swap() -> None:
    a, b = cr.Buffer([1.0, 2.0, 3.0]), cr.Buffer([4.0, 5.0, 6.0])

    def f() -> None:
        old = a.copy()
        a.assign(b)
        b.assign(old)

    plan, leaves, memory = planned(f, [a, b])
    run_plan(plan, leaves)
    np.testing.assert_array_equal(memory[0], [4, 5, 6])
    np.testing.assert_array_equal(memory[1], [1, 2, 3])


def test_schedule_does_not_write_over_what_the_same_loop_reads_elsewhere() -> None:
    w = cr.Buffer(np.arange(16.0).reshape(4, 4))
    plan, leaves, memory = planned(lambda: w.assign(w + w.T * 2), [w])
    assert not plan.schedule.takes_over
    run_plan(plan, leaves)
    np.testing.assert_array_equal(memory[0], w.numpy())


def test_schedule_keeps_the_order_that_values_need() -> None:
    lowered = lower(fused(lambda x, y: (x @ y).exp() @ y, (5, 5), (5, 5)))
    tasks = schedule(lowered, []).tasks
    written: set[Buffer] = set()
    inputs = {place.buffer for node, place in lowered.places.items() if node.is_leaf}
    for task in tasks:
        assert task.reads <= written | inputs
        written |= task.writes
    assert sum(isinstance(task, HeavyTask) for task in tasks) == 2


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(1, 5000)), min_size=1, max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_memory_never_gives_two_living_values_one_place(rows: list[tuple[int, int, int]]) -> None:
    spans = {Buffer(float32, size, str(i)): Span(first, first + length) for i, (first, length, size) in enumerate(rows)}
    arena = plan_memory(spans)
    assert set(arena.offsets) == set(spans)
    items = [(arena.offsets[one], one, span) for one, span in spans.items()]
    for i, (offset, one, span) in enumerate(items):
        assert offset % 64 == 0
        assert offset + one.nbytes <= arena.nbytes
        for other_offset, other, other_span in items[i + 1 :]:
            if span.meets(other_span):
                assert offset + one.nbytes <= other_offset or other_offset + other.nbytes <= offset


def test_memory_is_used_again() -> None:
    spans = {Buffer(float32, 1000, str(i)): Span(i, i + 1) for i in range(10)}
    assert plan_memory(spans).nbytes <= 2 * (4000 + 128)


# ---- everything through all passes


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    if not is_float(expected.dtype):
        np.testing.assert_array_equal(found, expected)
        return
    tolerance = {"float64": 1e-12, "float32": 2e-6, "bfloat16": 1e-2}[expected.dtype.name]
    np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("primitive", "spec"), CASES)
def test_every_primitive_comes_through_all_passes(primitive: Primitive, spec: Spec) -> None:
    arrays = drawn(spec)
    with ops.running_on(None):
        inputs = [leaf(TensorType(a.shape, a.dtype)) for a in arrays]
        node = primitive(*inputs, **spec.attributes)
    plan = pipeline.plan(Graph(node), [])
    (found,) = run_plan(plan, dict(zip(inputs, arrays, strict=True)))
    expected = ops.run_reference(primitive, arrays, spec.attributes, node.type)
    assert found.dtype == expected.dtype
    assert_close(found, expected)


def network_and_optimizer() -> tuple[nn.Module, optim.Optimizer]:
    cr.manual_seed(4)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    return network, optim.AdamW(network.parameters(), lr=0.01)


def test_a_training_step_comes_through_all_passes() -> None:
    network, optimizer = network_and_optimizer()
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((6, 2, 8, 8)).astype(np.float32), rng.integers(0, 5, 6)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step(cr.tensor(images), cr.tensor(labels))
    with tracing() as trace:
        x, y = placeholder(images.shape), placeholder(labels.shape, int64)
        loss = step(x, y)
    outputs = [loss.node, *trace.writes.values()]
    plan = pipeline.plan(Graph(*outputs), [(trace.reads[cell], 1 + i) for i, cell in enumerate(trace.writes)])
    assert len(plan.schedule.takes_over) == len(trace.writes), "every cell is updated in place"
    leaves = {node: cell.numpy().copy() for cell, node in trace.reads.items()} | {x.node: images, y.node: labels}
    found = run_plan(plan, leaves)[0]
    plain = step(cr.tensor(images), cr.tensor(labels))
    np.testing.assert_allclose(found, plain.numpy(), rtol=1e-5)
    for cell in trace.writes:
        np.testing.assert_allclose(leaves[trace.reads[cell]], cell.numpy(), rtol=2e-4, atol=2e-5, err_msg=cell.name)


def test_the_report_says_what_each_pass_changed() -> None:
    graph, _ = traced(lambda x: (x + 0).exp().sum(), (3, 4))
    reports = pipeline.plan(graph, []).reports
    assert [one.name for one in reports] == ["simplify", "widen", "layout", "fuse", "lower", "schedule"]
    assert "nodes >" in str(reports[0])


def test_the_check_names_the_pass_that_broke_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(graph: Graph) -> tuple[Graph, int]:
        node = graph.outputs[0]
        return Graph(Node(node.operation, node.inputs, TensorType((9,), float32), node.attributes)), 1

    monkeypatch.setattr(pipeline, "PASSES", [pipeline._over_graph("vandal", breaks)])
    with pytest.raises(InternalError, match="after vandal"):
        pipeline.plan(traced(lambda x: x.exp(), (3,))[0], [])


# ---- random graphs


UNARY = ["exp", "sin", "negative", "square", "transpose", "flip", "relu", "reshape", "slice", "pad"]
BINARY = ["add", "multiply", "maximum", "matmul", "concatenate", "subtract_mean"]


def grown(choices: list[tuple[str, int, int]], x: Tensor, y: Tensor) -> Tensor:
    values = [x, y]
    for name, i, j in choices:
        a, b = values[i % len(values)], values[j % len(values)]
        values.append(applied(name, a, b))
    total = values[-1].sum()
    for one in values[2:]:
        total = total + (one * one).mean()
    return total


def applied(name: str, a: Tensor, b: Tensor) -> Tensor:
    """Always 4 x 4 again, so that anything meets anything."""
    return {
        "exp": lambda: (a * 0.1).exp(),
        "sin": lambda: a.sin(),
        "negative": lambda: -a,
        "square": lambda: a**2 * 0.1,
        "transpose": lambda: a.T,
        "flip": lambda: a.flip(0),
        "relu": lambda: nn.functional.relu(a),
        "reshape": lambda: a.reshape(2, 8).reshape(8, 2).T.reshape(4, 4),
        "slice": lambda: cr.concatenate([a[1:], a[:1]], 0),
        "pad": lambda: a[:3, 1:].pad([(1, 0), (0, 1)]),
        "add": lambda: a + b,
        "multiply": lambda: a * b * 0.3,
        "maximum": lambda: cr.maximum(a, b),
        "matmul": lambda: a @ b * 0.2,
        "concatenate": lambda: cr.concatenate([a[:, :2], b[:, 2:]], 1),
        "subtract_mean": lambda: a - b.mean(0, keepdims=True),
    }[name]()


@given(st.lists(st.tuples(st.sampled_from(UNARY + BINARY), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_random_graphs_and_their_gradients_come_through_all_passes(choices: list[tuple[str, int, int]]) -> None:
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal((4, 4)) for _ in range(2)]
    with tracing():
        inputs = [placeholder((4, 4), "float64", requires_grad=True) for _ in range(2)]
        error = grown(choices, *inputs)
        error.backward()
    outputs = [error.node, *(one.grad.node for one in inputs if one.grad is not None)]
    plan = pipeline.plan(Graph(*outputs), [])
    found = run_plan(plan, {one.node: array for one, array in zip(inputs, arrays, strict=True)})
    plain = [cr.tensor(array, requires_grad=True) for array in arrays]
    expected = grown(choices, *plain)
    expected.backward()
    wanted = [expected.numpy(), *(one.grad.numpy() for one in plain if one.grad is not None)]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
