"""Backpropagation: the chain rule over a graph, and what backward() does with it."""

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import ops
from chainrule.errors import UserError
from chainrule.grad import backprop
from chainrule.graph import Array, Graph, Node, leaf, topological_order


def wanting(value: object) -> Node:
    return leaf(np.array(value, dtype=np.float64), requires_grad=True)


def value_of(node: Node | None) -> Array:
    assert node is not None
    assert node.value is not None
    return node.value


def gradient_of(tensor: cr.Tensor) -> Array:
    assert tensor.grad is not None
    return tensor.grad.numpy()


# ---- the chain rule


def test_backprop_is_one_page() -> None:
    """At most 120 lines with its documentation: the page that a reader opens first."""
    assert len(Path(inspect.getfile(backprop)).read_text(encoding="utf-8").splitlines()) <= 120


def test_the_lecture_example() -> None:
    """L3: e = (w x - y)^2, de/dw = 2 (h1 - y) x."""
    w, x, y = wanting(3.0), leaf(np.array(2.0)), leaf(np.array(1.0))
    error = ops.power(ops.subtract(ops.multiply(w, x), y), exponent=2.0)
    (gradient,) = backprop(error, [w])
    assert value_of(gradient) == 2 * (3 * 2 - 1) * 2


def test_a_chain_of_100_000_nodes() -> None:
    x = wanting(0.5)
    node = x
    for _ in range(100_000):
        node = ops.negative(node)
    (gradient,) = backprop(node, [x])
    assert value_of(gradient) == 1
    assert len(Graph(node)) == 100_001
    del node, gradient
    gc.collect()  # taking the chain apart does not recurse either


def test_a_value_that_feeds_several_nodes_adds_up_what_comes_back() -> None:
    x = wanting([2.0, 3.0])
    total = ops.multiply(x, x)
    for _ in range(3):
        total = ops.add(total, x)
    (gradient,) = backprop(ops.sum_(total, axes=(0,)), [x])
    np.testing.assert_array_equal(value_of(gradient), 2 * np.array([2.0, 3.0]) + 3)


def test_a_residual_diamond() -> None:
    """y = x + tanh(x); e = y * y: the skip and the branch both count."""
    x = wanting(0.7)
    y = ops.add(x, ops.tanh(x))
    (gradient,) = backprop(ops.multiply(y, y), [x])
    expected = 2 * (0.7 + np.tanh(0.7)) * (1 + 1 - np.tanh(0.7) ** 2)
    assert value_of(gradient) == pytest.approx(expected, rel=1e-14)


def test_a_tower_of_diamonds_takes_one_visit_per_node() -> None:
    """2^60 paths lead back; each node is visited once."""
    x = wanting(1.0)
    node = x
    for _ in range(60):
        node = ops.add(node, node)
    (gradient,) = backprop(node, [x])
    assert value_of(gradient) == 2.0**60


def test_gradients_of_several_inputs_come_in_the_order_asked() -> None:
    x, y = wanting(2.0), wanting(5.0)
    product = ops.multiply(x, y)
    assert [float(value_of(one)) for one in backprop(product, [y, x, product, y])] == [2, 5, 1, 2]


def test_an_inner_node_can_be_wanted() -> None:
    x = wanting(2.0)
    inner = ops.power(x, exponent=3.0)
    gradients = backprop(ops.multiply(inner, inner), [inner, x])
    assert [float(value_of(one)) for one in gradients] == [2 * 8, 2 * 8 * 3 * 4]


def test_an_input_that_is_not_used_gets_none() -> None:
    x, unused, constant = wanting(2.0), wanting(3.0), leaf(np.array(4.0))
    output = ops.multiply(x, constant)
    assert backprop(output, [unused, constant]) == [None, None]


def test_a_path_through_a_blocker_gives_none() -> None:
    x = wanting([1.0, -2.0])
    y = wanting([3.0, 4.0])
    output = ops.sum_(ops.multiply(ops.stop_gradient(x), y), axes=(0,))
    assert backprop(output, [x]) == [None]
    sign = ops.sum_(ops.add(ops.sign(x), y), axes=(0,))
    for_x, for_y = backprop(sign, [x, y])
    assert for_x is None
    np.testing.assert_array_equal(value_of(for_y), [1, 1])


def test_the_condition_of_where_gets_no_gradient() -> None:
    x = wanting([1.0, -2.0])
    output = ops.where(ops.less(x, ops.zeros_like(x)), ops.negative(x), ops.scaled(x, 3.0))
    (gradient,) = backprop(output, [x], leaf(np.ones(2)))
    np.testing.assert_array_equal(value_of(gradient), [3, -1])


@pytest.mark.parametrize(
    ("f", "derivatives"),
    [
        (
            lambda x: ops.power(x, exponent=4.0),
            (lambda x: 4 * x**3, lambda x: 12 * x**2, lambda x: 24 * x, lambda x: 24 + 0 * x),
        ),
        (
            ops.tanh,
            (
                lambda x: 1 - np.tanh(x) ** 2,
                lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2),
                lambda x: (1 - np.tanh(x) ** 2) * (6 * np.tanh(x) ** 2 - 2),
            ),
        ),
        (ops.sin, (np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin)),
        (
            lambda x: ops.multiply(ops.exp(x), ops.divide(x, ops.sqrt(x))),
            (lambda x: np.exp(x) * (np.sqrt(x) + 0.5 / np.sqrt(x)),),
        ),
        (ops.log, (lambda x: 1 / x, lambda x: -(x**-2), lambda x: 2 * x**-3)),
    ],
    ids=["x^4", "tanh", "sin", "e^x sqrt(x)", "log"],
)
def test_higher_derivatives(f: Callable[[Node], Node], derivatives: Sequence[Callable[[Array], Array]]) -> None:
    points = np.array([0.3, 0.9, 1.7])
    x = wanting(points)
    node: Node | None = f(x)
    for derivative in derivatives:
        assert node is not None
        (node,) = backprop(ops.sum_(node, axes=(0,)), [x])
        np.testing.assert_allclose(value_of(node), derivative(points), rtol=1e-12)


# ---- where it starts


def test_the_upstream_gradient_multiplies_through() -> None:
    x = wanting([1.0, 2.0, 3.0])
    (gradient,) = backprop(ops.power(x, exponent=2.0), [x], leaf(np.array([1.0, 0.0, -2.0])))
    np.testing.assert_array_equal(value_of(gradient), [2, 0, -12])


def test_an_error_of_one_number_needs_no_upstream_gradient_whatever_its_axes() -> None:
    x = wanting([[2.0]])
    (gradient,) = backprop(ops.power(x, exponent=2.0), [x])
    np.testing.assert_array_equal(value_of(gradient), [[4.0]])


def test_starting_at_many_numbers_is_explained() -> None:
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(UserError) as caught:
        (x * x).backward()
    assert str(caught.value) == (
        "backward: starts at the error, one float number, but this is float32[2]: "
        "reduce it first (sum, mean, a loss) or pass the upstream gradient"
    )


def test_an_upstream_gradient_of_another_shape_is_explained() -> None:
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(UserError) as caught:
        (x * x).backward(cr.ones(3))
    assert str(caught.value) == ("backward: the upstream gradient is float32[3], the output is float32[2]: they must be alike")


def test_going_backwards_from_what_asks_for_nothing_is_explained() -> None:
    with pytest.raises(UserError) as caught:
        (cr.tensor([1.0]) * 2).backward()
    assert str(caught.value) == (
        "backward: float32[1] depends on nothing that asks for a gradient: was it computed under no_grad(), "
        "or from tensors made without requires_grad=True?"
    )


# ---- backward() and .grad


def test_backward_twice_adds_up_and_each_time_is_right() -> None:
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    error = (x**3).sum()
    error.backward(retain_graph=True)
    np.testing.assert_array_equal(gradient_of(x), [3, 12])
    error.backward()
    np.testing.assert_array_equal(gradient_of(x), [6, 24])
    x.grad = None
    (x * 5).sum().backward()
    np.testing.assert_array_equal(gradient_of(x), [5, 5])


def test_backward_reaches_parameters_and_inputs_and_nothing_else() -> None:
    w, b, x = cr.Parameter([[1.0, 2.0]]), cr.Buffer([3.0]), cr.tensor([1.0, -1.0], requires_grad=True)
    hidden = w @ x + b
    (hidden * hidden).sum().backward(create_graph=False)
    np.testing.assert_array_equal(gradient_of(w), [[4, -4]])
    np.testing.assert_array_equal(gradient_of(x), [4, 8])
    assert b.grad is None
    with pytest.warns(UserWarning, match="is a hidden value, whose gradient is not kept"):
        assert hidden.grad is None


def test_gradients_have_the_shape_and_dtype_of_what_they_belong_to() -> None:
    w = cr.Parameter(np.ones((2, 1)), dtype="bfloat16")
    (w * cr.ones((3, 2, 4))).sum().backward()
    assert w.grad is not None
    assert (w.grad.shape, w.grad.dtype) == (w.shape, w.dtype)
    np.testing.assert_array_equal(w.grad.tolist(), [[12.0], [12.0]])


def test_gradients_remember_nothing_unless_asked() -> None:
    x = cr.tensor(2.0, requires_grad=True)
    (x**3).backward()
    assert x.grad is not None
    assert not x.grad.requires_grad
    x.grad = None
    (x**3).backward(create_graph=True)
    first = x.grad
    assert first is not None
    x.grad = None
    first.backward()
    assert gradient_of(x) == 12


def test_grad_leaves_dot_grad_alone() -> None:
    x = cr.tensor(2.0, requires_grad=True)
    y = cr.tensor(3.0, requires_grad=True)
    first, nothing = cr.grad(x**3, [x, y], create_graph=True)
    assert nothing is None
    assert first is not None
    (second,) = cr.grad(first, [x])
    assert second is not None
    assert (first.item(), second.item()) == (12, 12)
    assert x.grad is None


def test_no_grad_remembers_nothing() -> None:
    x = cr.tensor([1.0], requires_grad=True)
    with cr.no_grad():
        y = x * 2
    assert not y.requires_grad
    assert y.node.is_leaf
    assert (x * 2).requires_grad

    @cr.no_grad()
    def decorated() -> cr.Tensor:
        return x * 2

    assert not decorated().requires_grad


def test_backward_works_under_no_grad() -> None:
    x = cr.tensor(3.0, requires_grad=True)
    error = x * x
    with cr.no_grad():
        error.backward()
    assert gradient_of(x) == 6


@pytest.mark.parametrize("stop", [cr.stop_gradient, cr.Tensor.detach], ids=["stop_gradient", "detach"])
def test_a_stopped_factor_is_a_constant(stop: Callable[[cr.Tensor], cr.Tensor]) -> None:
    x = cr.tensor(3.0, requires_grad=True)
    (stop(x) * x).backward()
    assert gradient_of(x) == 3
    assert stop(x).item() == 3
    assert not stop(x).requires_grad


def test_assigning_a_parameter_between_forward_and_backward_keeps_the_old_numbers_in_the_gradient() -> None:
    w = cr.Parameter([2.0, 3.0])
    error = (w * w).sum()
    w.assign([10.0, 20.0])
    error.backward()
    np.testing.assert_array_equal(gradient_of(w), [4, 6])
    np.testing.assert_array_equal(w.numpy(), [10, 20])
    (w * w).sum().backward()
    np.testing.assert_array_equal(gradient_of(w), [24, 46])


def test_the_gradient_of_a_tensor_that_is_gone_is_dropped() -> None:
    w = cr.Parameter([2.0])
    error = (w * cr.tensor([3.0], requires_grad=True)).sum()
    gc.collect()
    error.backward()
    np.testing.assert_array_equal(gradient_of(w), [3])


def test_the_gradient_of_a_deep_copy_is_its_own() -> None:
    import copy

    for original in (cr.tensor([1.0, 2.0], requires_grad=True), cr.Parameter([1.0, 2.0])):
        twin = copy.deepcopy(original)
        (twin * twin).sum().backward()
        assert original.grad is None
        np.testing.assert_array_equal(gradient_of(twin), [2, 4])


# ---- no work where none is needed


def test_the_first_layer_computes_no_gradient_for_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    emitted = ops.Primitive.__call__

    def noting(self: ops.Primitive, *inputs: Node, **attributes: object) -> Node:
        made.append(self.name)
        return emitted(self, *inputs, **attributes)

    geometry = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    rng = np.random.default_rng(0)
    image = leaf(rng.standard_normal((2, 3, 5, 5)))
    first, second = wanting(rng.standard_normal((4, 3, 3, 3))), wanting(rng.standard_normal((2, 4, 3, 3)))
    hidden = ops.conv2d(image, first, **geometry)
    error = ops.sum_(ops.conv2d(hidden, second, **geometry), axes=(0, 1, 2, 3))
    monkeypatch.setattr(ops.Primitive, "__call__", noting)
    assert None not in backprop(error, [first, second])
    assert made.count("conv2d_input_gradient") == 1, "one for the hidden layer, none for the image"
    assert made.count("conv2d_weight_gradient") == 2


def test_only_what_lies_on_the_way_is_visited() -> None:
    x, y = wanting(2.0), wanting(3.0)
    beside = ops.exp(ops.exp(y))
    on_the_way = ops.sin(x)
    output = ops.multiply(on_the_way, beside)
    visited: list[Node] = []
    backprop(output, [x], visit=lambda node, upstream, downstream: visited.append(node))
    assert visited == [output, on_the_way, x]


def test_visit_sees_each_node_once_from_the_error_backwards() -> None:
    x, w = wanting([[0.2, -0.4]]), wanting([[0.5], [0.3]])
    hidden = ops.tanh(ops.matmul(x, w))
    output = ops.sum_(ops.multiply(ops.add(hidden, ops.power(hidden, exponent=2.0)), hidden), axes=(0, 1))
    visited: list[Node] = []
    backprop(output, [x, w], visit=lambda node, upstream, downstream: visited.append(node))
    order = topological_order([output])
    assert len(visited) == len(set(visited)) == len(order)
    place = {node: i for i, node in enumerate(visited)}
    assert all(place[one] > place[node] for node in order for one in node.inputs)


def test_visit_sees_downstream_as_upstream_times_local() -> None:
    """At every node, the downstream gradients are those of its own rule; per input they add up to its upstream."""
    x, w = wanting([0.2, -0.4, 0.9]), wanting([0.5, 0.3, -0.8])
    product = ops.multiply(x, w)
    output = ops.sum_(ops.add(ops.tanh(product), ops.multiply(product, x)), axes=(0,))
    upstreams: dict[Node, Array] = {}
    arriving: dict[Node, Array] = {output: np.array(1.0)}
    jacobians: dict[str, Callable[[Node, int], Array]] = {
        "multiply": lambda node, i: np.diag(value_of(node.inputs[1 - i])),
        "tanh": lambda node, i: np.diag(1 - value_of(node) ** 2),
        "add": lambda node, i: np.eye(3),
        "sum": lambda node, i: np.ones((1, 3)),
    }

    def visit(node: Node, upstream: Node, downstream: Sequence[Node | None]) -> None:
        upstreams[node] = value_of(upstream)
        assert len(downstream) == len(node.inputs)
        for i, (one, passed) in enumerate(zip(node.inputs, downstream, strict=True)):
            expected = np.atleast_1d(value_of(upstream)) @ jacobians[node.operation.name](node, i)
            np.testing.assert_allclose(value_of(passed), expected, rtol=1e-14)
            arriving[one] = arriving.get(one, np.zeros(one.shape)) + value_of(passed)

    gradients = backprop(output, [x, w], visit=visit)
    assert upstreams.keys() == set(topological_order([output]))
    for node, upstream in upstreams.items():
        np.testing.assert_allclose(upstream, arriving[node], rtol=1e-14)
    np.testing.assert_array_equal(value_of(gradients[0]), upstreams[x])


# ---- memory


def test_what_needs_no_gradient_keeps_no_inputs() -> None:
    first = cr.tensor(np.ones(10)) * 2
    gone = weakref.ref(first.node.value)
    last = (first + 1).exp()
    del first
    gc.collect()
    assert gone() is None
    assert last.node.is_leaf


def test_what_needs_a_gradient_keeps_its_inputs_until_it_is_dropped() -> None:
    x = cr.tensor(np.ones(10), requires_grad=True)
    first = x * 2
    kept = weakref.ref(first.node.value)
    last = first.exp()
    del first
    gc.collect()
    assert kept() is not None
    last.sum().backward()
    assert kept() is None


def test_backward_leaves_no_graph_behind_its_gradients() -> None:
    x = cr.tensor(np.ones(10), requires_grad=True)
    hidden = x * 2
    kept = weakref.ref(hidden.node.value)
    (hidden * hidden).sum().backward()
    del hidden
    gc.collect()
    assert kept() is None
    assert x.grad is not None
    assert x.grad.node.is_leaf


def test_grad_of_a_parameter_that_was_assigned_since() -> None:
    parameter = cr.Parameter([1.0, 2.0])
    loss = (parameter * parameter).sum()
    parameter.assign([5.0, 5.0])
    (gradient,) = cr.grad(loss, [parameter])
    assert gradient is not None
    np.testing.assert_array_equal(gradient.numpy(), [2, 4])


def test_grad_takes_an_upstream_gradient_and_refuses_inputs_that_ask_for_none() -> None:
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    (gradient,) = cr.grad(x * 3, [x], [1.0, 10.0])
    assert gradient is not None
    np.testing.assert_array_equal(gradient.numpy(), [3, 30])
    with pytest.raises(UserError, match=r"grad: input 1, float32\[\], asks for no gradient: make it with requires_grad=True"):
        cr.grad(x.sum(), [x, cr.tensor(1.0)])


def test_the_precision_of_products_does_not_round_gradients() -> None:
    rng = np.random.default_rng(0)
    w = cr.tensor(rng.standard_normal((5, 3)).astype(np.float32), requires_grad=True)
    with cr.precision("bfloat16"):
        (cr.tensor(rng.standard_normal((4, 5)).astype(np.float32)) @ w).sum().backward()
    assert w.grad is not None
    rounded = w.grad.astype("bfloat16").astype("float32").numpy()
    assert (w.grad.numpy() != rounded).any()
