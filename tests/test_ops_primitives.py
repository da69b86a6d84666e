"""Every primitive, by walking the registry: its fields, its shape rule, its reference, its role's law, its gradients."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from chainrule import ops
from chainrule.cpu.kernels.emitters import EMITTERS, has_emitter
from chainrule.cpu.kernels.operations import has_kernels
from chainrule.cpu.runtime.program import Program
from chainrule.grad import backprop, gradcheck
from chainrule.graph import Graph, Node, Role, TensorType, check, leaf
from chainrule.graph.dtypes import bool_, is_float
from chainrule.ops import OUTPUT, REGISTRY, Blocked, EachInput, Primitive, Spec
from specs import assert_as_reference, drawn

CASES = [
    pytest.param(primitive, spec, id=f"{name}-{i}")
    for name, primitive in sorted(REGISTRY.items())
    for i, spec in enumerate(primitive.spec)
]
SMOOTH_GRADIENT_CASES = [case for case in CASES if case.values[0].role is not Role.BLOCKER]  # type: ignore[union-attr]


def draw(spec: Spec, *, wide: bool = False) -> list[np.ndarray]:
    """Random inputs for one row; distinct floats, so that no tie and no kink is near; ``wide``: floats as float64."""
    rng = np.random.default_rng(5)
    arrays: list[np.ndarray] = []
    for position, shape in enumerate(spec.inputs):
        dtype, size = spec.dtype_of(position), int(np.prod(shape))
        if is_float(dtype):
            low, high = spec.domain
            grid = low + (high - low) * (np.arange(size) + rng.uniform(0.3, 0.7, size)) / max(size, 1)
            arrays.append(rng.permutation(grid).reshape(shape).astype(np.float64 if wide else dtype))
        elif dtype == bool_:
            arrays.append(rng.integers(0, 2, shape).astype(bool))
        else:
            arrays.append(rng.integers(*spec.integers, shape).astype(dtype))
    return arrays


def nodes_of(arrays: list[np.ndarray]) -> list[Node]:
    return [leaf(array, requires_grad=True) for array in arrays]


def apply(primitive: Primitive, spec: Spec, *nodes: Node) -> Node:
    return primitive(*nodes, **spec.attributes)


@pytest.mark.parametrize("primitive", REGISTRY.values(), ids=list(REGISTRY))
def test_every_primitive_declares_everything(primitive: Primitive) -> None:
    assert callable(primitive.shape)
    assert callable(primitive.reference)
    assert primitive.spec, "no rows to try it on"
    assert "->" in primitive.doc, "the docstring gives no shapes"
    assert isinstance(primitive.vjp, Blocked | EachInput) or len(primitive.vjp) == len(primitive.spec[0].inputs)
    assert isinstance(primitive.vjp, EachInput) or len(primitive.local) == len(primitive.spec[0].inputs)
    if isinstance(primitive.vjp, Blocked):
        assert primitive.vjp.reason
        assert primitive.role is Role.BLOCKER
    if isinstance(primitive.vjp, tuple):
        for rule in primitive.vjp:
            assert rule is None or len(inspect.signature(rule).parameters) == 2
    dtypes = {dtype for spec in primitive.spec for dtype in spec.dtypes}
    assert len(dtypes) >= 2 or dtypes == {"bool"} or primitive is ops.random_bits, "only one dtype is tried"


@pytest.mark.parametrize(("primitive", "spec"), CASES)
def test_shape_rule_agrees_with_the_reference(primitive: Primitive, spec: Spec) -> None:
    arrays = draw(spec)
    node = apply(primitive, spec, *nodes_of(arrays))
    raw = np.asarray(
        primitive.reference(*(a.astype(np.float32) if a.dtype.name == "bfloat16" else a for a in arrays), **spec.attributes)
    )
    assert raw.shape == node.shape
    assert node.value is not None
    assert (node.value.shape, node.value.dtype) == (node.shape, node.dtype)
    if raw.dtype != node.dtype:  # only bfloat16, which is computed in float32
        assert node.dtype.name == "bfloat16"
        assert raw.dtype == np.float32
    check(Graph(node))


@pytest.mark.parametrize(("primitive", "spec"), CASES)
def test_tracing_gives_the_same_types_without_values(primitive: Primitive, spec: Spec) -> None:
    arrays = draw(spec)
    ran = apply(primitive, spec, *nodes_of(arrays))
    with ops.running_on(None):
        traced = apply(primitive, spec, *(leaf(TensorType(a.shape, a.dtype)) for a in arrays))
    assert traced.value is None
    assert traced.type == ran.type


def float_inputs(node: Node) -> list[int]:
    primitive = node.operation
    assert isinstance(primitive, Primitive)
    return [i for i, one in enumerate(node.inputs) if is_float(one.dtype) and primitive.passes_gradient_to(i)]


def ran(primitive: Primitive, spec: Spec) -> Node:
    with ops.history("everything"):
        return apply(primitive, spec, *nodes_of(draw(spec, wide=True)))


def downstream(node: Node, upstream: np.ndarray, position: int) -> Node:
    with ops.history("everything"):
        found = node.operation.downstream(node, leaf(upstream.astype(node.dtype), label="upstream"), position)  # type: ignore[attr-defined]
    assert found is not None
    return found


@pytest.mark.parametrize(("primitive", "spec"), SMOOTH_GRADIENT_CASES)
def test_rules_read_only_what_they_declare(primitive: Primitive, spec: Spec) -> None:
    node = ran(primitive, spec)
    allowed = {id(node) if one == OUTPUT else id(node.inputs[int(one)]) for one in primitive.saves}
    upstream = np.ones(node.shape)
    for position in float_inputs(node):
        forward = {id(one) for one in (node, *node.inputs)}
        read = set()
        stack, seen = [downstream(node, upstream, position)], set()
        while stack:
            one = stack.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            if id(one) in forward:
                read.add(id(one))
            else:
                stack.extend(one.inputs)
        assert read <= allowed, f"the rule for input {position} reads more than saves={primitive.saves}"


@pytest.mark.parametrize(("primitive", "spec"), SMOOTH_GRADIENT_CASES)
def test_the_law_of_the_role(primitive: Primitive, spec: Spec) -> None:
    node = ran(primitive, spec)
    if not is_float(node.dtype):
        return
    assert node.value is not None
    rng = np.random.default_rng(1)
    u = rng.standard_normal(node.shape)
    passed = {i: downstream(node, u, i).value for i in float_inputs(node)}
    if primitive.role is Role.DISTRIBUTOR:
        assert primitive.saves == ()
    elif primitive.role is Role.MOVER:  # <u, move(x)> = <move back(u), x>, and no float is read
        assert all(not is_float(node.inputs[int(one)].dtype) for one in primitive.saves)
        moved = node.value - ran_on_zeros(primitive, spec)
        back = sum(np.vdot(passed[i], node.inputs[i].value) for i in passed)
        assert np.vdot(u, moved) == pytest.approx(back, rel=1e-9, abs=1e-12)
    elif primitive.role is Role.SWITCHER:  # changing an input changes the other's gradient and not its own
        assert primitive.saves == (0, 1)
        for i in (0, 1):
            arrays = [np.asarray(one.value).copy() for one in node.inputs]
            arrays[i] = arrays[i] + 1.0
            other = apply(primitive, spec, *nodes_of(arrays))
            np.testing.assert_array_equal(downstream(other, u, i).value, passed[i])
            if node.size and u.size and passed[1 - i].size:
                assert not np.array_equal(downstream(other, u, 1 - i).value, passed[1 - i])
    elif primitive.role is Role.ROUTER:  # what arrives is handed on, no more and no less
        covering = sum(float(np.sum(value)) for value in passed.values())
        assert covering == pytest.approx(routed_total(primitive, node, u), rel=1e-9, abs=1e-12)
    elif (
        primitive.role is Role.NORMALISER
    ):  # what is common to all along the axis changes nothing, so nothing is passed on there
        for value in passed.values():
            np.testing.assert_allclose(np.sum(value, primitive_axis(spec)), 0, atol=1e-12)
    elif primitive.role is Role.SCALER:  # a diagonal Jacobian: where u is zero, so is what is passed on
        hole = u.copy().reshape(-1)
        hole[: len(hole) // 2] = 0
        for i in passed:
            value = np.asarray(downstream(node, hole.reshape(u.shape), i).value).reshape(-1)
            assert not value[: len(hole) // 2].any()


def primitive_axis(spec: Spec) -> int:
    axis: int = spec.attributes["axis"]
    return axis


def ran_on_zeros(primitive: Primitive, spec: Spec) -> np.ndarray:
    """What a mover makes of zeros: the constant that pad may fill in."""
    arrays = [np.zeros_like(a) if is_float(a.dtype) else a for a in draw(spec, wide=True)]
    value = apply(primitive, spec, *nodes_of(arrays)).value
    assert value is not None
    return value


def routed_total(primitive: Primitive, node: Node, u: np.ndarray) -> float:
    """The whole upstream gradient; of max_pool2d_route, whose output has a place for losers too, the winners' part."""
    if primitive.name == "max_pool2d_route":
        picked = ops.max_pool2d_pick(node.inputs[0], leaf(u), **node.attributes)
        return float(np.sum(picked.value))  # type: ignore[arg-type]
    return float(u.sum())


def test_ties_go_to_the_first() -> None:
    x, y = leaf(np.array([1.0, 2.0]), requires_grad=True), leaf(np.array([1.0, 3.0]), requires_grad=True)
    for node in (ops.maximum(x, y), ops.minimum(y, x)):
        first, second = node.inputs
        found = backprop(node, [first, second], leaf(np.array([1.0, 1.0])))
        assert found[0].value[0] == 1  # type: ignore[union-attr, index]
        assert found[1].value[0] == 0  # type: ignore[union-attr, index]
    row = leaf(np.array([[3.0, 5.0, 5.0]]), requires_grad=True)
    (gradient,) = backprop(ops.max_(row, axis=1), [row], leaf(np.array([2.0])))
    np.testing.assert_array_equal(gradient.value, [[0, 2, 0]])  # type: ignore[union-attr]
    image = leaf(np.ones((1, 1, 2, 2)), requires_grad=True)
    pooled = ops.max_pool2d(image, window=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0)), dilation=(1, 1))
    (gradient,) = backprop(pooled, [image], leaf(np.ones((1, 1, 1, 1))))
    np.testing.assert_array_equal(gradient.value, [[[[1, 0], [0, 0]]]])  # type: ignore[union-attr]


@pytest.mark.parametrize(("primitive", "spec"), SMOOTH_GRADIENT_CASES)
def test_gradients_against_finite_differences_to_second_order(primitive: Primitive, spec: Spec) -> None:
    arrays = draw(spec, wide=True)
    if not any(is_float(a.dtype) for a in arrays) or not is_float(ran(primitive, spec).dtype):
        return
    attributes: dict[str, Any] = dict(spec.attributes)
    if attributes.get("dtype") is not None:
        attributes["dtype"] = np.dtype(np.float64)  # a cast to a narrow float is a step function for differences
    result = gradcheck(lambda *nodes: primitive(*nodes, **attributes), *arrays, order=2)
    assert result.kinks == 0
    assert result.error < 1e-6


@pytest.mark.parametrize(("primitive", "spec"), [case for case in CASES if case.values[0].role is Role.BLOCKER])  # type: ignore[union-attr]
def test_blockers_pass_nothing(primitive: Primitive, spec: Spec) -> None:
    node = apply(primitive, spec, *nodes_of(draw(spec)))
    assert not node.requires_grad
    assert node.operation.role is Role.LEAF, "what needs no gradient forgets its inputs"


# ---- what engines and the compiler know of each


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_primitive_has_somebody_who_computes_it_natively(name: str) -> None:
    """An emitter, or kernels of its own, or a way that the compiler takes: whoever adds a primitive is told here what lacks."""
    primitive = REGISTRY[name]
    if primitive.elementwise:
        assert has_emitter(name), f"{name} is elementwise: give it a line in EMITTERS of cpu/kernels/emitters.py"
    assert has_kernels(primitive) == primitive.heavy, f"{name}: `heavy` and the table of cpu/kernels/operations.py differ"
    if not primitive.elementwise and not primitive.heavy:
        for spec in primitive.spec:
            arrays = drawn(spec)
            inputs = [leaf(TensorType(one.shape, one.dtype)) for one in arrays]
            with ops.running_on(None):
                program = Program(Graph(primitive(*inputs, **spec.attributes)))
            for one, array in zip(inputs, arrays, strict=True):
                if program.needs(one):
                    program.bind(one, np.ascontiguousarray(array))
            program.run()
            expected = ops.run_reference(
                primitive, arrays, spec.attributes, primitive.shape(*(o.type for o in inputs), **spec.attributes)
            )
            assert_as_reference(np.array(program.output(0)), expected)


def test_an_emitter_stands_for_each_elementwise_primitive_and_for_nothing_else() -> None:
    assert set(EMITTERS) == {name for name, one in REGISTRY.items() if one.elementwise}


@pytest.mark.parametrize("name", sorted(name for name, one in REGISTRY.items() if one.multiply_adds is not None))
def test_multiply_adds_are_what_the_reference_multiplies(name: str) -> None:
    """Counted: how often a product enters an output, with ones for inputs and, for convolutions, borders counted as inside."""
    primitive = REGISTRY[name]
    for spec in primitive.spec:
        if any(any(pair) for pair in spec.attributes.get("padding", ())):
            continue  # the definition counts the border's products, which ones do not show
        types = [TensorType(shape, spec.dtype_of(place)) for place, shape in enumerate(spec.inputs)]
        output = primitive.shape(*types, **spec.attributes)
        ones = [np.ones(one.shape, np.float64) for one in types]
        counted = primitive.reference(*ones, **spec.attributes).sum()
        assert primitive.multiply_adds(*types, output) == counted


def test_images_have_four_axes_wherever_a_primitive_speaks_of_them() -> None:
    for primitive in REGISTRY.values():
        for spec in primitive.spec if primitive.images else ():
            types = [TensorType(shape, spec.dtype_of(place)) for place, shape in enumerate(spec.inputs)]
            output = primitive.shape(*types, **spec.attributes)
            for place in primitive.images:
                assert len((output if place == OUTPUT else types[int(place)]).shape) == 4, primitive
