"""The graph: its order, what can be asked of it, its check, dtypes, and where nodes come from."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops
from chainrule.errors import InternalError, UserError
from chainrule.grad import backprop
from chainrule.graph import (
    INPUT,
    Graph,
    Node,
    Origin,
    Role,
    TensorType,
    check,
    current_module,
    inside_module,
    leaf,
    originating_from,
    topological_order,
)
from chainrule.graph.dtypes import PROMOTION_CHAIN, as_dtype, bfloat16, bool_, float32, float64, int64
from chainrule.graph.groups import module_groups


def here() -> int:
    """The line of the caller."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def small() -> tuple[Node, Node, Node, Node]:
    """x, x * x, x * x + x, and its sum."""
    x = leaf(np.array([1.0, 2.0]), requires_grad=True, label="x")
    square = ops.multiply(x, x)
    both = ops.add(square, x)
    return x, square, both, ops.sum_(both, axes=(0,))


# ---- order and structure


def test_every_node_stands_once_and_after_its_inputs() -> None:
    x, square, both, total = small()
    assert topological_order([total]) == [x, square, both, total]
    assert topological_order([square, total, square]) == [x, square, both, total]
    assert topological_order([]) == []


def test_only_what_is_followed_is_listed() -> None:
    _, _, both, total = small()
    assert topological_order([total], follow=lambda node: node.operation.name in ("sum", "add")) == [both, total]
    assert topological_order([total], follow=lambda node: False) == []


def test_a_deep_chain_and_a_wide_sum_are_ordered() -> None:
    node = leaf(np.zeros(()), requires_grad=True)
    for _ in range(20_000):
        node = ops.negative(node)
    wide = ops.concatenate(*(ops.reshape(node, shape=(1,)) for _ in range(1000)), axis=0)
    graph = Graph(wide)
    assert len(graph) == 20_001 + 1000 + 1
    check(graph)


def test_a_graph_knows_its_nodes_places_leaves_and_consumers() -> None:
    x, square, both, total = small()
    graph = Graph(total, square)
    assert list(graph) == graph.nodes == [x, square, both, total]
    assert len(graph) == 4
    assert graph.outputs == (total, square)
    assert graph.leaves == [x]
    assert [graph.index[node] for node in graph] == [0, 1, 2, 3]
    assert graph.consumers() == {x: [square, square, both], square: [both], both: [total], total: []}


def test_how_a_graph_and_its_nodes_print() -> None:
    x, square, _, total = small()
    assert repr(Graph(total)) == "<Graph of 4 nodes: 1 constant, 1 multiply, 1 add, 1 sum>"
    assert repr(x) == "<Node constant 'x' float64[2]>"
    assert repr(square) == "<Node multiply float64[2]>"
    assert repr(total) == "<Node sum float64[]>"


def test_a_type_knows_its_size() -> None:
    type_ = TensorType((2, 3), bfloat16)
    assert (type_.size, type_.nbytes, str(type_)) == (6, 12, "bfloat16[2, 3]")
    assert (TensorType((), float64).size, TensorType((2, 0), float64).nbytes) == (1, 0)


def test_a_leaf_of_integers_asks_for_no_gradient() -> None:
    assert not leaf(np.array([1, 2]), requires_grad=True).requires_grad
    assert not leaf(TensorType((2,), bool_), INPUT, requires_grad=True).requires_grad
    assert leaf(TensorType((2,), float32), INPUT, requires_grad=True).requires_grad
    assert INPUT.role is Role.LEAF
    with pytest.raises(TypeError, match="input is a leaf: its type is given, not derived"):
        INPUT.shape()


# ---- check


def test_a_right_graph_passes() -> None:
    x, _, _, total = small()
    (gradient,) = backprop(total, [x])
    assert gradient is not None
    check(Graph(total, gradient))
    check(cr.trace(lambda t: (t @ t.T).tanh().mean(axis=0), cr.zeros((3, 4))), after="trace")
    check(Graph())


def broken(graph: Graph, after: str = "") -> str:
    with pytest.raises(InternalError) as caught:
        check(graph, after)
    return str(caught.value)


def test_check_finds_an_input_that_stands_after_its_user() -> None:
    graph = Graph(small()[-1])
    nodes = graph.nodes
    nodes[1], nodes[2] = nodes[2], nodes[1]
    graph.index = {node: place for place, node in enumerate(nodes)}
    said = broken(graph, "fuse")
    assert said.startswith("after fuse: node 1 (add, made at test_graph.py:")
    assert said.endswith("): its input <Node multiply float64[2]> does not stand before it")


def test_check_finds_an_input_that_is_missing() -> None:
    graph = Graph(small()[-1])
    gone = graph.nodes.pop(0)
    graph.index = {node: place for place, node in enumerate(graph.nodes)}
    assert broken(graph).endswith(f"): its input {gone!r} does not stand before it")


def test_check_finds_a_type_that_the_shape_rule_does_not_give() -> None:
    _, square, _, total = small()
    for wrong in (TensorType((3,), float64), TensorType((2,), float32)):
        square.type = wrong
        said = broken(Graph(total), "simplify")
        assert said.startswith("after simplify: node 1 (multiply, made at test_graph.py:")
        assert said.endswith(f"): claims {wrong}, its shape rule gives float64[2]")


def test_check_finds_inputs_that_the_shape_rule_refuses() -> None:
    x, square, both, total = small()
    both.inputs = (square, leaf(np.ones(3)))
    said = broken(Graph(total), "layout")
    assert said.startswith("after layout: node 3 (add, made at test_graph.py:")
    assert said.endswith("its shape rule refuses: add: inputs must agree in shape and dtype, got float64[2] and float64[3]")
    both.inputs = (square, x)
    both.attributes = {"axis": 3}
    assert "(add, made at test_graph.py:" in broken(Graph(total))


def test_check_finds_a_value_that_is_not_of_the_nodes_type() -> None:
    for wrong, have in ((np.ones(3), "float64[3]"), (np.ones(2, np.float32), "float32[2]")):
        x, _, _, total = small()
        x.value = wrong
        said = broken(Graph(total))
        assert said.startswith("node 0 (constant, made at test_graph.py:")
        assert said.endswith(f"): claims float64[2], its value is {have}")


def test_check_finds_a_leaf_with_attributes() -> None:
    x, _, _, total = small()
    x.attributes = {"axis": 0}
    assert "node 0 (constant" in broken(Graph(total))


# ---- dtypes


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        *((dtype.name, dtype) for dtype in PROMOTION_CHAIN),
        *((dtype, dtype) for dtype in PROMOTION_CHAIN),
        *((dtype.type, dtype) for dtype in PROMOTION_CHAIN),
        (float, float32),
        (int, int64),
        (bool, bool_),
        (ml_dtypes.bfloat16, bfloat16),
        (np.dtype(">f4"), float32),
    ],
    ids=str,
)
def test_what_stands_for_a_dtype(given: object, expected: object) -> None:
    assert as_dtype(given) == expected


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            "float23",
            "unknown dtype 'float23': did you mean 'float32'? Known: bfloat16, bool, float32, float64, int32, int64, uint8",
        ),
        ("half", "unknown dtype 'half': Known: bfloat16, bool, float32, float64, int32, int64, uint8"),
        (None, "unknown dtype None: Known: bfloat16, bool, float32, float64, int32, int64, uint8"),
        (3.5, "unknown dtype 3.5: Known: bfloat16, bool, float32, float64, int32, int64, uint8"),
        (
            np.float16,
            "dtype float16 is not supported: convert to one of bool, uint8, int32, int64, bfloat16, float32, float64 first",
        ),
        (
            np.dtype("U3"),
            "dtype str96 is not supported: convert to one of bool, uint8, int32, int64, bfloat16, float32, float64 first",
        ),
    ],
    ids=["misspelt", "unknown", "None", "a number", "float16", "text"],
)
def test_what_is_no_dtype_is_explained(given: object, text: str) -> None:
    with pytest.raises(UserError) as caught:
        as_dtype(given)
    assert str(caught.value) == text


def test_the_chain_is_the_documented_one() -> None:
    assert [dtype.name for dtype in PROMOTION_CHAIN] == ["bool", "uint8", "int32", "int64", "bfloat16", "float32", "float64"]


# ---- origin


def test_a_node_knows_its_module_and_line() -> None:
    with inside_module("features.0"):
        assert current_module() == "features.0"
        node, line = ops.negative(leaf(np.ones(2), requires_grad=True)), here()
        with inside_module("features.0.conv"):
            inner = ops.negative(node)
        after = ops.negative(node)
    assert current_module() == ""
    assert node.origin == Origin("features.0", __file__, line)
    assert str(node.origin) == f"features.0 (test_graph.py:{line})"
    assert (inner.origin.module, after.origin.module) == ("features.0.conv", "features.0")
    assert str(Origin("", "/somewhere/a.py", 3)) == "a.py:3"
    assert str(Origin("", "", 0)) == "unknown line"


def test_a_module_is_left_when_an_error_leaves_it() -> None:
    with pytest.raises(ZeroDivisionError), inside_module("a"):
        raise ZeroDivisionError
    assert current_module() == ""


def test_an_error_inside_a_module_names_the_layer_once() -> None:
    class Head(nn.Module):
        def forward(self, x: cr.Tensor, run: Callable[[cr.Tensor], cr.Tensor]) -> cr.Tensor:
            return run(x)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = Head()

        def forward(self, x: cr.Tensor, run: Callable[[cr.Tensor], cr.Tensor]) -> cr.Tensor:
            return self.head(x, run)  # type: ignore[no-any-return]

    model, x = Model(), cr.ones(2)
    with pytest.raises(UserError, match=r"^layer head \(Head\): add: shapes \(2,\) and \(3,\) do not broadcast"):
        model(x, lambda x: x + cr.ones(3))
    with pytest.raises(UserError, match=r"^layer head \(Head\): index 2 at \[0\] is outside axis 0"):
        model(x, lambda x: x[[2]])


def test_the_line_is_the_users_wherever_in_the_package_a_node_is_made() -> None:
    x = cr.tensor(np.ones((2, 3)), requires_grad=True)
    y, line = (x.var(axis=0) + x @ cr.ones(3)[:, None]).clip(0.0, 1.0), here()
    made = [node for node in y.graph if not node.is_leaf]
    assert len(made) > 5
    assert {(node.origin.file, node.origin.line) for node in made} == {(__file__, line)}


def test_each_thread_has_its_own_module() -> None:
    seen = []
    with inside_module("here"):
        thread = threading.Thread(target=lambda: seen.append(current_module()))
        thread.start()
        thread.join()
    assert seen == [""]


def test_gradient_nodes_carry_the_origin_of_their_forward_node() -> None:
    x = leaf(np.array([0.5, 2.0]), requires_grad=True)
    with inside_module("first"):
        hidden, first = ops.tanh(x), here()
    with inside_module("second"):
        output, second = ops.sum_(ops.add(ops.multiply(hidden, hidden), hidden), axes=(0,)), here()
    seed = leaf(np.array(1.0))
    with ops.history("everything"):
        (gradient,) = backprop(output, [x], seed)
    assert gradient is not None
    forward = set(topological_order([output]))
    made = [node for node in topological_order([gradient]) if node not in forward and node is not seed]
    origins = {(node.origin.module, node.origin.line) for node in made}
    assert origins == {("first", first), ("second", second)}
    accumulated = [node for node in made if node.operation.name == "add"]
    assert [node.origin.module for node in accumulated] == ["first", "first"], "what comes back to hidden belongs to hidden"
    assert all(node.origin.file == __file__ for node in made)


def test_a_fixed_origin_holds_inside_and_ends_outside() -> None:
    origin = Origin("somewhere", "a.py", 7)
    with originating_from(origin):
        inside = leaf(np.ones(1))
    assert inside.origin is origin
    assert leaf(np.ones(1)).origin.file == __file__


# ---- functions of several nodes


def test_nodes_of_a_function_outside_of_a_model_know_its_call() -> None:
    x = cr.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    first, second = (nn.functional.cross_entropy(x, np.array([0, 2])) for _ in range(2))
    origins = [{node.origin for node in Graph(loss.node).nodes if not node.is_leaf} for loss in (first, second)]
    assert [{one.function for one in each} for each in origins] == [{"cross_entropy"}] * 2
    calls = [{one.call for one in each} for each in origins]
    assert len(calls[0]) == len(calls[1]) == 1
    assert calls[0] != calls[1]
    assert "cross_entropy" not in str(first.node.origin)
    assert (x * 2).node.origin.function == ""


def test_a_function_within_a_layer_belongs_to_the_layer() -> None:
    class Net(nn.Module):
        def forward(self, x: cr.Tensor) -> cr.Tensor:
            return nn.functional.gelu(x)

    model = nn.Sequential(Net())
    found = Graph(model(cr.tensor(np.ones((2, 3), np.float32), requires_grad=True)).node)
    assert {(node.origin.module, node.origin.function) for node in found.nodes if not node.is_leaf} == {("0", "")}


def test_calls_of_a_function_are_groups_and_a_single_node_is_none() -> None:
    x = cr.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    y = nn.functional.gelu(nn.functional.gelu(nn.functional.relu(x)))
    graph = Graph((y * 2).node)
    groups = [(group.path, [node.operation.name for node in group.nodes if not node.is_leaf]) for group in module_groups(graph)]
    gelu = ("gelu", ["multiply", "multiply", "erfc", "multiply"])
    assert [group for group in groups if group[1]] == [("", ["maximum"]), gelu, gelu, ("", ["multiply"])]
