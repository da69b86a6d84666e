"""The lecture, statement by statement: each test is named after the line of the lecture that it holds the library to."""
# ruff: noqa: N802 - L1 to L13 are the lecture's own numbers

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops, optim
from chainrule.errors import UserError
from chainrule.grad import LocalKind, local_kind, local_row
from chainrule.graph import Array, Graph, Role
from chainrule.graph.show import svg, text
from chainrule.lens import explain
from chainrule.nn import functional as F
from chainrule.tensor import tracing


def wanted(array: object, dtype: str = "float64") -> cr.Tensor:
    return cr.tensor(np.array(array), dtype=dtype, requires_grad=True)


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


# ---- L1: SGD updates each parameter, w_k <- w_k - eta * de/dw_k


def lecture_model() -> tuple[nn.Linear, cr.Tensor, cr.Tensor]:
    """h1 = w1^T x with w1 = [1, 2], x = [3, 4], and y = 5."""
    model = nn.Linear(2, 1, bias=False)
    model.weight.assign(np.array([[1.0, 2.0]]))
    return model, cr.tensor([[3.0, 4.0]]), cr.tensor([[5.0]])


def test_L1_sgd_takes_a_step_against_the_gradient_of_each_parameter() -> None:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        before = {name: np.array(p.numpy()) for name, p in model.named_parameters()}
        optimizer.zero_grad()
        ((model(cr.tensor(random(5, 3).astype("float32"))) - 1.0) ** 2).mean().backward()
        optimizer.step()
        for name, p in model.named_parameters():
            eta = np.float32(0.1)
            assert p.grad is not None
            np.testing.assert_array_equal(p.numpy(), before[name] - p.grad.numpy() * eta)
            assert (p.numpy() != before[name]).any()


def test_L1_the_lectures_step() -> None:
    model, x, y = lecture_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    ((model(x) - y) ** 2).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(model.weight.numpy(), [[-2.6, -2.8]], rtol=1e-6)


def test_L1_the_update_is_nodes_of_the_same_graph() -> None:
    model, x, y = lecture_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with tracing() as trace:
        optimizer.zero_grad()
        error = ((model(x) - y) ** 2).sum()
        error.backward()
        optimizer.step()
    optimizer.zero_grad()
    old, assigned = trace.reads[model.weight], trace.writes[model.weight]
    (new,) = assigned.inputs  # assigning cuts the history
    assert new.operation is ops.subtract
    assert new.inputs[0] is old  # w - eta * de/dw
    shared = Graph(new).index.keys() & Graph(error.node).index.keys()
    assert {"matmul", "subtract"} <= {node.operation.name for node in shared}  # de/dw = 2 (h1 - y) x reads h1 - y itself
    assert {x.node, y.node, old} <= shared
    np.testing.assert_array_equal(model.weight.numpy(), [[1, 2]])  # tracing computes nothing


# ---- L2: a network is a computation graph, e is the error at its end


def test_L2_a_network_is_a_graph_with_the_error_at_its_end() -> None:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    error = F.cross_entropy(model(cr.tensor(random(5, 3).astype("float32"))), cr.tensor([0, 1, 0, 1, 1]))
    graph = error.graph
    assert graph.nodes[-1] is error.node
    assert graph.outputs == (error.node,)
    for node in graph:  # walked: inputs come first, and everything leads to e
        assert all(graph.index[one] < graph.index[node] for one in node.inputs)
    assert [node for node, users in graph.consumers().items() if not users] == [error.node]
    assert {node.label for node in graph.leaves if node.label} == {name for name, _ in model.named_parameters()}


def test_L2_the_graph_can_be_drawn_and_written_down() -> None:
    model, x, y = lecture_model()
    graph = ((model(x) - y) ** 2).sum().graph
    assert [line.split()[1] for line in text(graph).splitlines()].count("matmul") == 1
    assert len(ET.fromstring(svg(graph)).findall(".//*[@data-nodes]")) == len(graph)


def test_L2_the_graph_can_be_kept_without_computing_it() -> None:
    model, x, y = lecture_model()

    def error(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        return ((model(x) - y) ** 2).sum()

    kept = cr.trace(error, x, y)
    assert all(node.value is None for node in kept if not node.is_leaf)
    assert [node.operation.name for node in kept] == [node.operation.name for node in cr.trace(error, x, y)]
    assert [str(node.type) for node in kept if not node.is_leaf] == [
        str(node.type) for node in error(x, y).graph if not node.is_leaf
    ]


# ---- L3: e = (h1 - y)^2, h1 = w1^T x: de/dh1 = 2 (h1 - y), dh1/dw1 = x, de/dw1 = 2 (h1 - y) x


def test_L3_the_numbers_of_the_example() -> None:
    w, x, y = wanted([1, 2]), cr.tensor([3.0, 4.0], dtype="float64"), cr.tensor(5.0, dtype="float64")
    h1 = w @ x
    e = (h1 - y) ** 2
    assert h1.item() == 11
    assert e.item() == 36
    de_dh1, de_dw = cr.grad(e, [h1, w])
    assert de_dh1 is not None
    assert de_dw is not None
    assert de_dh1.item() == 2 * (11 - 5) == 12
    assert local_row(h1.node, 0, ()).tolist() == [3, 4]  # dh1/dw1 = x
    assert de_dw.tolist() == [36, 48]  # 2 (h1 - y) x
    e.backward()
    assert w.grad is not None
    assert w.grad.tolist() == [36, 48]


def test_L3_explain_shows_both_factors_of_each_node() -> None:
    w, x, y = wanted([1, 2]), cr.tensor([3.0, 4.0], dtype="float64"), cr.tensor(5.0, dtype="float64")
    explanation = explain(((w @ x) - y) ** 2)
    h1, difference, e = (explanation[name] for name in ("h1", "h2", "e"))
    assert (h1.value, difference.value, e.value) == (11, 6, 36)
    assert (h1.upstream, difference.upstream, e.upstream) == (12, 12, 1)
    assert h1.edges[0].local.tolist() == [3, 4]
    assert e.edges[0].local == 12  # 2 (h1 - y)
    assert h1.edges[0].downstream.tolist() == [36, 48]


@pytest.mark.parametrize("seed", range(5))
def test_L3_holds_for_any_numbers(seed: int) -> None:
    a, b, y = random(4, seed=seed), random(4, seed=seed + 50), random(seed=seed + 100).item()
    w = wanted(a)
    (w @ cr.tensor(b) - y).__pow__(2).backward()
    assert w.grad is not None
    np.testing.assert_allclose(w.grad.numpy(), 2 * (a @ b - y) * b, rtol=1e-12)


# ---- L4: de/dw_k = de/dh_K * dh_K/dh_(K-1) * ... * dh_(k+1)/dh_k * dh_k/dw_k


@pytest.mark.parametrize("depth", [1, 2, 7, 60, 3000])
def test_L4_the_product_of_local_gradients_is_backprop(depth: int) -> None:
    rng = np.random.default_rng(depth)
    weights = [wanted(rng.uniform(0.8, 1.4)) for _ in range(depth)]
    h = cr.tensor(0.3, dtype="float64")
    for w in weights:
        h = (w * h).sin()
    explanation = explain((h - 1) ** 2)
    rows = {row.node: row for row in explanation.rows}
    so_far, product = explanation.rows[-1], np.float64(1)  # de/de
    by_product = []
    while so_far.edges:
        by_product += [product * edge.local for edge in so_far.edges if edge.input.is_leaf]
        onwards = [edge for edge in so_far.edges if not edge.input.is_leaf]
        if not onwards:
            break
        product = product * onwards[0].local  # the upstream gradient of the next node, by the chain rule alone
        so_far = rows[onwards[0].input]
        np.testing.assert_allclose(product, so_far.upstream, rtol=1e-9)
    assert len(by_product) == depth
    found = [float(rows[w.node].upstream) for w in reversed(weights)]
    np.testing.assert_allclose(by_product, found, rtol=1e-9)


def test_L4_for_vectors_the_factors_are_jacobians() -> None:
    x, weights = cr.tensor(random(3)), [wanted(random(3, 3, seed=k + 1)) for k in range(5)]
    h = x
    layers = []
    for w in weights:
        h = (w @ h).tanh()
        layers.append(h.node)
    rows = {row.node: row for row in explain((h * h).sum()).rows}
    product = rows[layers[-1]].upstream  # de/dh_K
    for node in reversed(layers[1:]):
        inner = node.inputs[0]  # W h, before tanh
        diagonal, matrix = rows[node].edges[0].local, rows[inner].edges[1].local
        product = (product * diagonal) @ matrix
        np.testing.assert_allclose(product, rows[inner.inputs[1]].upstream, rtol=1e-10)
    first = rows[layers[0].inputs[0]]
    into_w = np.tensordot(product * rows[layers[0]].edges[0].local, first.edges[0].local, 1)
    np.testing.assert_allclose(into_w, rows[weights[0].node].upstream, rtol=1e-10)


def test_L4_both_factors_can_be_read_at_every_node_of_a_real_network() -> None:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3))
    error = F.cross_entropy(model(cr.tensor(random(2, 1, 6, 6).astype("float32"))), cr.tensor([0, 2]))
    checked = 0
    for row in explain(error).rows:
        for edge in row.edges:
            assert row.upstream is not None
            rows = [edge.row(unit) * row.upstream[unit] for unit in np.ndindex(row.node.shape)]
            np.testing.assert_allclose(np.sum(rows, axis=0), edge.downstream, rtol=1e-4, atol=1e-6, err_msg=row.formula)
            checked += 1
    assert checked >= 15


# ---- L5: addition distributes the gradient, multiplication switches it, max routes it


def test_L5_addition_distributes() -> None:
    x, y, u = wanted(random(4)), wanted(random(4, seed=1)), random(4, seed=2)
    total = x + y
    assert total.node.operation.role is Role.DISTRIBUTOR
    total.backward(u)
    for one in (x, y):
        assert one.grad is not None
        np.testing.assert_array_equal(one.grad.numpy(), u)


def test_L5_multiplication_switches() -> None:
    x, y, u = wanted(random(4)), wanted(random(4, seed=1)), random(4, seed=2)
    product = x * y
    assert product.node.operation.role is Role.SWITCHER
    product.backward(u)
    assert x.grad is not None
    assert y.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), u * y.numpy())
    np.testing.assert_array_equal(y.grad.numpy(), u * x.numpy())


@pytest.mark.parametrize(
    "largest",
    [
        lambda x: cr.maximum(x[0], x[1]),
        lambda x: x.max(axis=0),
        lambda x: x.max(axis=1),
        lambda x: F.max_pool2d(x.reshape(1, 1, 2, 6), 2),
    ],
    ids=["maximum", "max over axis 0", "max over axis 1", "max pooling"],
)
def test_L5_max_routes(largest: Callable[[cr.Tensor], cr.Tensor]) -> None:
    x = wanted(random(2, 6))
    found = largest(x)
    assert found.node.operation.role is Role.ROUTER
    u = random(*found.shape, seed=1)
    found.backward(u)
    assert x.grad is not None
    winners = np.isin(x.numpy(), found.numpy())
    assert winners.sum() == found.size
    assert (x.grad.numpy()[~winners] == 0).all()  # who lost gets exactly nothing
    assert sorted(x.grad.numpy()[winners]) == sorted(u.reshape(-1))  # who won gets all of it


# ---- L6: the Jacobian of ReLU is diagonal, 1 where z_i > 0, else 0


def test_L6_the_jacobian_of_relu_is_diagonal() -> None:
    z = wanted([-1.5, 2.0, 0.0, -0.0, 1e-300, -1e-300, 7.0])
    node = F.relu(z).node
    position = node.inputs.index(z.node)
    assert local_kind(node, position) is LocalKind.DIAGONAL
    jacobian = np.array([local_row(node, position, unit) for unit in np.ndindex(node.shape)])
    np.testing.assert_array_equal(jacobian, np.diag([0, 1, 0, 0, 1, 0, 1]))
    np.testing.assert_array_equal(F.relu(z).numpy(), [0, 2, 0, 0, 1e-300, 0, 7])


def test_L6_explain_shows_the_mask() -> None:
    edge = explain(F.relu(wanted([-1.0, 2.0])).sum())["h1"].edges[0]
    assert edge.kind is LocalKind.DIAGONAL
    assert edge.formula == "1 where x1 > 0, else 0"
    assert edge.local.tolist() == [0, 1]


# ---- L7: where every x_i < 0 the gradient is 0: a dead ReLU


def test_L7_where_all_are_negative_the_gradient_is_exactly_zero() -> None:
    w = wanted([1.0, -2.0])
    x = cr.tensor(-np.abs(random(5, 2)), dtype="float64")
    scores = x @ w - 100.0
    error = (F.relu(scores) - 1.0).__pow__(2).sum()
    error.backward(retain_graph=True)
    assert w.grad is not None
    assert w.grad.tolist() == [0, 0]
    assert explain(error).notes == [
        "the gradient ends at h3 = maximum(0, h2): its local gradient for h2 is 0",
    ]


def test_L7_a_dead_relu_stays_dead() -> None:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    bias = np.array(model[0].bias.numpy())
    bias[2] = -100.0
    model[0].bias.assign(bias)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    start = {name: np.array(p.numpy()) for name, p in model.named_parameters()}
    images = cr.tensor(random(16, 3).astype("float32"))
    for _ in range(30):
        optimizer.zero_grad()
        ((model(images) - 1.0) ** 2).mean().backward()
        assert (model[0].weight.grad.numpy()[2] == 0).all()
        optimizer.step()
    np.testing.assert_array_equal(model[0].weight.numpy()[2], start["0.weight"][2])
    np.testing.assert_array_equal(model[0].bias.numpy()[2], np.float32(-100))
    assert (F.relu(model[0](images)).numpy()[:, 2] == 0).all()
    alive = [0, 1, 3]
    assert (model[0].weight.numpy()[alive] != start["0.weight"][alive]).any(axis=1).all()


# ---- L8: the computation graph of a multi-layer perceptron, drawn


def test_L8_the_graph_of_a_perceptron_is_drawn_as_in_a_textbook() -> None:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    error = ((model(cr.tensor([[3.0, 4.0]])) - 5.0) ** 2).sum()
    drawing = ET.fromstring(explain(error).svg(detail="node", title="a perceptron"))
    boxes = {
        tuple(map(int, one.get("data-nodes", "").split())): one for one in drawing.iter() if one.get("data-nodes") is not None
    }
    graph = error.graph
    assert set(boxes) == {(index,) for index in range(len(graph))}  # every node has its box
    edges = {(one.get("data-from"), one.get("data-to")) for one in drawing.iter() if one.get("data-from") is not None}
    assert edges == {(str(graph.index[one]), str(graph.index[node])) for node in graph for one in node.inputs}
    for node in graph:
        box = boxes[(graph.index[node],)]
        assert node.operation.role.value in (box.get("class") or "").split()  # coloured by role
        if not node.is_leaf:
            words = "".join(box.itertext())
            assert node.operation.name in words
            assert re.search(r"de/d\w+ = ", words)  # the gradient below the value
    by_layer = explain(error).svg(detail="module")
    assert {"0 Linear", "1 ReLU", "2 Linear"} <= {
        "".join(one.itertext()) for one in ET.fromstring(by_layer).iter() if one.tag.endswith("text")
    }


# ---- L9: Flatten: a fully connected layer works on the vectorised image and fits templates


def test_L9_the_scores_are_dot_products_with_templates() -> None:
    cr.manual_seed(0)
    layer = nn.Linear(2 * 5 * 4, 3, dtype="float64")
    images = wanted(random(6, 2, 5, 4))
    scores = layer(nn.Flatten()(images))
    templates = layer.weight.numpy().reshape(3, 2, 5, 4)  # each is a picture of the size of the image
    expected = [[(template * image).sum() for template in templates] for image in images.numpy()] + layer.bias.numpy()
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-12)
    (slope,) = cr.grad(scores[2, 1], [images])
    assert slope is not None
    np.testing.assert_allclose(slope.numpy()[2], templates[1], rtol=1e-12)  # what raises a score most is its template
    assert not slope.numpy()[[0, 1, 3, 4, 5]].any()


# ---- L10: a convolution limits the receptive field, tiles it over the image and shares the weights


def test_L10_each_output_is_a_dot_product_of_filter_and_patch() -> None:
    image, weight = random(2, 3, 6, 7), random(4, 3, 3, 2, seed=1)
    found = F.conv2d(cr.tensor(image), cr.tensor(weight)).numpy()
    assert found.shape == (2, 4, 4, 6)
    for n, o, y, x in np.ndindex(found.shape):
        patch = image[n, :, y : y + 3, x : x + 2]
        assert found[n, o, y, x] == pytest.approx((patch * weight[o]).sum(), rel=1e-10, abs=1e-12)


def test_L10_a_unit_sees_its_receptive_field_and_nothing_else() -> None:
    image, weight = wanted(random(1, 2, 8, 8)), wanted(random(3, 2, 3, 3, seed=1))
    node = F.conv2d(image, weight, stride=2, padding=1).node
    row = local_row(node, 0, (0, 1, 2, 1))
    window = np.zeros((2, 8, 8))
    window[:, 3:6, 1:4] = weight.numpy()[1]  # rows 2 * 2 - 1 to 5, columns 2 * 1 - 1 to 3
    np.testing.assert_allclose(row[0], window, rtol=1e-12)
    changed = np.array(image.numpy())
    changed[0][window == 0] = 99.0
    again = F.conv2d(cr.tensor(changed), weight, stride=2, padding=1)
    assert again[0, 1, 2, 1].item() == node.value[0, 1, 2, 1]


def test_L10_two_layers_see_further() -> None:
    image = wanted(random(1, 1, 9, 9))
    first, second = cr.tensor(np.abs(random(1, 1, 3, 3))), cr.tensor(np.abs(random(1, 1, 3, 3, seed=1)))
    unit = F.conv2d(F.conv2d(image, first), second)[0, 0, 2, 2]
    (slope,) = cr.grad(unit, [image])
    assert slope is not None
    seen = slope.numpy()[0, 0] != 0
    assert seen.sum() == 25  # 5 x 5
    assert seen[2:7, 2:7].all()


def test_L10_the_weights_are_shared() -> None:
    image, weight = cr.tensor(random(1, 1, 8, 8)), wanted(random(1, 1, 3, 3, seed=1))
    found = F.conv2d(image, weight)
    moved = F.conv2d(cr.tensor(np.roll(image.numpy(), (1, 2), axis=(2, 3))), weight)
    np.testing.assert_array_equal(moved.numpy()[:, :, 1:, 2:], found.numpy()[:, :, :-1, :-2])  # shift in, shift out
    u = random(1, 1, 6, 6, seed=2)
    found.backward(u)
    places = [u[0, 0, y, x] * image.numpy()[0, 0, y : y + 3, x : x + 3] for y in range(6) for x in range(6)]
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad.numpy()[0, 0], np.sum(places, axis=0), rtol=1e-10)  # every place teaches it


# ---- L11: padding adds a border of zeros, stride is the step


@pytest.mark.parametrize(
    ("padding", "stride", "size"),
    [(0, 1, 26), (1, 1, 28), (2, 1, 30), (0, 2, 13), (1, 2, 14), (0, 3, 9), ("same", 1, 28), (((0, 2), (1, 0)), 1, (28, 27))],
)
def test_L11_more_padding_larger_output_larger_stride_smaller_output(padding: object, stride: int, size: object) -> None:
    out = nn.Conv2d(1, 1, 3, stride=stride, padding=padding)(cr.zeros((1, 1, 28, 28)))
    assert out.shape[2:] == (size if isinstance(size, tuple) else (size, size))


def test_L11_padding_is_a_border_of_zeros() -> None:
    image, weight = random(1, 2, 5, 5), cr.tensor(random(3, 2, 3, 3, seed=1))
    by_hand = np.zeros((1, 2, 9, 9))
    by_hand[:, :, 2:7, 2:7] = image
    np.testing.assert_allclose(
        F.conv2d(cr.tensor(image), weight, padding=2).numpy(), F.conv2d(cr.tensor(by_hand), weight).numpy(), rtol=1e-12
    )


def test_L11_stride_skips_places() -> None:
    image, weight = cr.tensor(random(1, 2, 9, 8)), cr.tensor(random(3, 2, 3, 3, seed=1))
    every, some = F.conv2d(image, weight).numpy(), F.conv2d(image, weight, stride=(3, 2)).numpy()
    np.testing.assert_allclose(some, every[:, :, ::3, ::2], rtol=1e-12)


def test_L11_an_output_that_would_be_empty_is_explained() -> None:
    with pytest.raises(UserError) as error:
        nn.Sequential(nn.Conv2d(1, 1, 5, padding=1, dilation=2))(cr.zeros((1, 1, 6, 28)))
    assert (
        "a window of 9 (kernel 5, dilation 2) does not fit the height 6 + padding 1 + 1 = 8: "
        "enlarge the image or padding, or choose a smaller kernel_size"
    ) in str(error.value)
    assert str(error.value).startswith("layer 0 (Conv2d): ")


# ---- L12: 1x1 and depthwise convolutions


def test_L12_a_1x1_convolution_is_a_matrix_product_at_each_pixel() -> None:
    layer = nn.Conv2d(3, 5, 1, dtype="float64")
    image = random(2, 3, 4, 6)
    matrix = layer.weight.numpy().reshape(5, 3)
    expected = np.einsum("oc,nchw->nohw", matrix, image) + layer.bias.numpy().reshape(1, 5, 1, 1)
    np.testing.assert_allclose(layer(cr.tensor(image)).numpy(), expected, rtol=1e-12)
    assert sum(p.size for p in layer.parameters()) == 3 * 5 + 5


def test_L12_a_depthwise_convolution_filters_each_channel_alone() -> None:
    layer = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False, dtype="float64")
    image = random(2, 4, 6, 5)
    found = layer(cr.tensor(image)).numpy()
    for channel in range(4):
        one = slice(channel, channel + 1)
        alone = F.conv2d(cr.tensor(image[:, one]), cr.tensor(layer.weight.numpy()[one]), padding=1).numpy()
        np.testing.assert_allclose(found[:, one], alone, rtol=1e-12)
    assert layer.weight.shape == (4, 1, 3, 3)
    assert sum(p.size for p in layer.parameters()) == 4 * 9  # a full convolution has 4 * 4 * 9


def test_L12_depthwise_then_1x1_needs_far_fewer_parameters() -> None:
    full = nn.Conv2d(32, 64, 3, bias=False)
    separable = nn.Sequential(nn.Conv2d(32, 32, 3, groups=32, bias=False), nn.Conv2d(32, 64, 1, bias=False))
    counts = [sum(p.size for p in model.parameters()) for model in (full, separable)]
    assert counts == [32 * 64 * 9, 32 * 9 + 32 * 64]


def test_L12_parameters_and_operations_are_counted_layer_by_layer() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.Conv2d(8, 16, 1, bias=False))
    depthwise, pointwise = model.summary((1, 8, 6, 6)).rows
    assert (depthwise.parameters, depthwise.multiply_adds) == (8 * 9, 8 * 9 * 36)
    assert (pointwise.parameters, pointwise.multiply_adds) == (8 * 16, 8 * 16 * 36)
    assert depthwise.receptive_field == pointwise.receptive_field == (3, 3)


# ---- L13: the backward pass of a convolution


def slopes(f: Callable[[Array], float], at: Array, step: float = 1e-4) -> Array:
    """df/dx element by element, by central differences in float64."""
    found = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        moved = [at.copy(), at.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        found[place] = (f(moved[0]) - f(moved[1])) / (2 * step)
    return found


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, ((0, 2), (1, 0))], ids=["0", "1", "sides"])
@pytest.mark.parametrize("stride", [1, 2, (2, 1)], ids=["1", "2", "2x1"])
def test_L13_the_gradients_of_a_convolution_are_those_of_finite_differences(
    stride: object, padding: object, dilation: int, groups: int
) -> None:
    arrays = [random(2, 2, 5, 6), random(4, 2 // groups, 3, 2, seed=1), random(4, seed=2)]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    upstream = random(*F.conv2d(*map(cr.tensor, arrays), **options).shape, seed=3)
    tensors = [wanted(array) for array in arrays]
    F.conv2d(*tensors, **options).backward(upstream)
    for position, tensor in enumerate(tensors):

        def error(x: Array, position: int = position) -> float:
            given = [*arrays[:position], x, *arrays[position + 1 :]]
            return float((F.conv2d(*map(cr.tensor, given), **options).numpy() * upstream).sum())

        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad.numpy(), slopes(error, arrays[position]), rtol=1e-7, atol=1e-8)
