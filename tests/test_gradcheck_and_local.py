"""The gradient check finds wrong rules and steps over kinks; local gradients are rows of the Jacobian."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import chainrule as cr
from chainrule import ops
from chainrule.errors import UserError
from chainrule.grad import Gradcheck, LocalKind, gradcheck, local_diagonal, local_kind, local_row
from chainrule.graph import Array, Node, Role, TensorType, leaf

Rule = Callable[[Node, Node], Node]
GEOMETRY = {"stride": (1, 2), "padding": ((1, 0), (0, 1)), "dilation": (1, 1)}
POOL = {"window": (2, 3), **GEOMETRY}


@contextmanager
def primitive(reference: Callable[..., object], *rules: Rule, elementwise: bool = True) -> Iterator[ops.Primitive]:
    """A primitive of a test's own, which the registry forgets afterwards."""
    made = ops.Primitive(
        "made_up",
        Role.SCALER,
        "z = f(x): (...) -> (...).",
        shape=lambda *types: types[0],
        reference=reference,
        vjp=rules,
        local=("f'(x)",) * len(rules),
        saves=tuple(range(len(rules))),
        spec=(ops.Spec(((3,),) * len(rules)),),
        elementwise=elementwise,
    )
    try:
        yield made
    finally:
        del ops.REGISTRY["made_up"]


def times(u: Node, slope: Node) -> Node:
    return ops.multiply(u, slope)


def relu(x: Node) -> Node:
    return ops.maximum(ops.zeros_like(x), x)


WORST = re.compile(
    r"gradcheck: the (?P<what>gradient(?: of the gradient)?) is wrong, "
    r"worst at (?:(?P<place>\[.*?\]) of )?input (?P<input>\d+): "
    r"backprop says (?P<analytic>\S+), finite differences say (?P<numeric>\S+) "
    r"\(relative error (?P<error>\S+), tolerance (?P<tolerance>\S+)\)"
)


def refused(f: Callable[..., Node], *inputs: Array, **options: int | float) -> dict[str, str | None]:
    """What the check says of a wrong gradient."""
    with pytest.raises(UserError) as caught:
        gradcheck(f, *inputs, **options)  # type: ignore[arg-type]
    found = WORST.fullmatch(str(caught.value))
    assert found is not None, str(caught.value)
    return found.groupdict()


# ---- right gradients pass


def test_a_right_gradient_passes_and_says_how_well() -> None:
    rng = np.random.default_rng(0)
    result = gradcheck(ops.matmul, rng.standard_normal((3, 4)), rng.standard_normal((4, 2)), order=2)
    assert (result.order, result.kinks) == (2, 0)
    assert result.error < 1e-8


def test_float32_inputs_are_checked_in_float64() -> None:
    assert gradcheck(ops.exp, np.linspace(-1, 1, 5, dtype=np.float32)).error < 1e-8


def test_integers_and_bools_are_passed_as_they_are() -> None:
    index, flag = np.array([2, 0, 2]), np.array([True, False, True])

    def f(x: Node, i: Node, c: Node) -> Node:
        assert (i.dtype, c.dtype) == (np.int64, np.bool_)
        picked = ops.gather(x, i, axis=0)
        return ops.where(c, ops.exp(picked), picked)

    assert gradcheck(f, np.array([0.1, 0.2, 0.3]), index, flag, order=2).kinks == 0


def test_an_input_without_influence_has_gradient_zero() -> None:
    assert gradcheck(lambda x, y: ops.exp(x), np.ones(2), np.ones(3), order=2).error < 1e-8
    assert gradcheck(lambda x: ops.stop_gradient(leaf(np.ones(2))), np.ones(2), order=2).error < 1e-8


def test_a_stopped_gradient_is_a_wrong_gradient() -> None:
    assert refused(lambda x: ops.multiply(ops.stop_gradient(x), x), np.array([3.0]))["place"] == "[0]"


# ---- wrong gradients do not


def test_a_wrong_rule_is_found_with_its_worst_element_input_and_numbers() -> None:
    """z = x * y^2; the rule for y is wrong by a tenth, most where x * y is largest."""
    square = lambda x, y: x * y * y  # noqa: E731
    with primitive(
        square,
        lambda z, u: times(u, times(z.inputs[1], z.inputs[1])),
        lambda z, u: times(u, ops.scaled(times(z.inputs[0], z.inputs[1]), 2.2)),
    ) as wrong:
        x, y = np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([[1.0, 1.0], [2.0, -1.0]])
        said = refused(lambda a, b: ops.sum_(wrong(a, b), axes=(0, 1)), x, y)
    assert (said["what"], said["place"], said["input"]) == ("gradient", "[1, 0]", "1")
    analytic, numeric = float(said["analytic"] or 0), float(said["numeric"] or 0)
    assert analytic / numeric == pytest.approx(1.1, rel=1e-6)
    assert float(said["error"] or 0) == pytest.approx(abs(analytic - numeric) / max(abs(analytic), abs(numeric)), rel=0.1)


def test_a_wrong_number_without_axes_is_named_by_its_input_alone() -> None:
    with primitive(np.exp, lambda z, u: u) as wrong:
        said = refused(wrong, np.array(1.0))
    assert (said["place"], said["input"]) == (None, "0")


def test_one_wrong_element_among_ten_thousand_is_found() -> None:
    slope = np.ones(10_000)
    slope[1234] = 1.05
    with primitive(lambda x: x, lambda z, u: times(u, leaf(slope))) as wrong:
        said = refused(wrong, np.linspace(-1, 1, 10_000))
    assert said["place"] == "[1234]"


def test_a_gradient_that_is_not_a_number_is_wrong() -> None:
    with primitive(lambda x: x, lambda z, u: times(u, leaf(np.array([1.0, np.nan])))) as wrong:
        said = refused(wrong, np.array([1.0, 2.0]))
    assert (said["place"], said["analytic"], said["error"]) == ("[1]", "nan", "inf")
    assert np.isfinite(float(said["numeric"] or "nan"))


def test_a_function_that_is_not_a_number_cannot_be_checked() -> None:
    assert refused(ops.log, np.array([1.0, -2.0]))["numeric"] == "nan"


def test_a_wrong_second_derivative_is_found_though_the_first_is_right() -> None:
    """z = x^2, whose rule 2 x u is right, but made of a primitive z = 2 x with the rule 3 u."""
    with primitive(lambda x: 2 * x, lambda z, u: ops.scaled(u, 3.0)) as twice:
        made = ops.REGISTRY.pop("made_up")
        with primitive(lambda x: x * x, lambda z, u: times(u, twice(z.inputs[0]))) as square:
            x = np.array([0.5, -1.5])
            assert gradcheck(square, x).error < 1e-8
            said = refused(square, x, order=2)
        ops.REGISTRY["made_up"] = made
    assert (said["what"], said["input"]) == ("gradient of the gradient", "0")
    assert float(said["analytic"] or 0) / float(said["numeric"] or 0) == pytest.approx(1.5, rel=1e-6)


# ---- kinks


@pytest.mark.parametrize(
    ("f", "points", "kinks"),
    [
        (relu, [[0.0, 1.0, -1.0]], 1),
        (relu, [[3e-6, 1.0, -1.0]], 1),
        (relu, [[-3e-6, 1.0, -1.0]], 1),
        (ops.abs_, [[2e-6, 1.0, -3e-6]], 2),
        (ops.maximum, [[1.0, 2.0], [1.0, 2.0]], 4),
        (lambda x: ops.max_(x, axis=0), [[1.0, 1.0, 0.0]], 2),
        (lambda x: ops.max_pool2d(x, **POOL), [[[[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]]]], None),
    ],
    ids=["relu at 0", "relu right of 0", "relu left of 0", "abs near 0", "maximum on ties", "max on a tie", "pooling on ties"],
)
def test_a_kink_is_stepped_over(f: Callable[..., Node], points: list[object], kinks: int | None) -> None:
    found = gradcheck(f, *map(np.array, points)).kinks
    assert found == kinks or (kinks is None and found > 0)
    squared = gradcheck(lambda *x: ops.power(f(*x), exponent=2.0), *map(np.array, points), order=2)
    assert isinstance(squared, Gradcheck)


def test_where_the_gradient_itself_jumps_there_is_no_second_derivative_to_be_wrong() -> None:
    assert gradcheck(ops.abs_, np.array([0.0, 1.0])).kinks == 0, "0 is the mean of the slopes -1 and 1"
    assert gradcheck(ops.abs_, np.array([0.0, 1.0]), order=2).kinks == 1


@pytest.mark.parametrize("at", [0.0, 3e-6, -3e-6])
def test_a_wrong_slope_at_or_near_a_kink_is_found(at: float) -> None:
    """relu whose slope is 2 around 0 and right elsewhere."""

    def slope(z: Node, u: Node) -> Node:
        x = z.inputs[0]
        near = ops.less(ops.abs_(x), ops.full(x.type, 1e-3))
        right = ops.where(ops.less(ops.zeros_like(x), x), u, ops.zeros_like(u))
        return ops.where(near, ops.scaled(u, 2.0), right)

    with primitive(lambda x: np.maximum(x, 0), slope) as wrong:
        said = refused(wrong, np.array([1.0, at, -1.0]))
        assert gradcheck(wrong, np.array([1.0, -1.0])).error < 1e-8
    assert (said["place"], said["input"]) == ("[1]", "0")


def test_any_slope_between_left_and_right_is_right_at_a_kink() -> None:
    for number in (0.0, 0.3, 1.0):
        with primitive(lambda x: np.maximum(x, 0), lambda z, u, number=number: ops.scaled(u, number)) as relu_at_zero:
            assert gradcheck(relu_at_zero, np.array([0.0])).kinks <= 1


# ---- what cannot be checked


def test_what_cannot_be_checked_is_explained() -> None:
    with pytest.raises(UserError, match=r"^gradcheck: order must be 1 or 2, got 3$"):
        gradcheck(ops.exp, np.ones(2), order=3)
    with pytest.raises(UserError, match=r"^gradcheck: none of the inputs is a float, so there is no gradient to check$"):
        gradcheck(ops.exp, np.array([1, 2]))


def test_gradcheck_of_tensors() -> None:
    assert cr.gradcheck(lambda x: (x @ x.T).tanh().mean(), cr.tensor([[1.0, 2.0], [0.5, -1.0]]), order=2).order == 2
    with pytest.raises(UserError, match=r"the gradient is wrong, worst at \[0\] of input 0: backprop says 0, finite diff"):
        cr.gradcheck(lambda x: cr.stop_gradient(x).sum() + 0 * x.sum(), [1.0])


# ---- local gradients


def separated(*shape: int) -> Array:
    size = int(np.prod(shape))
    return np.random.default_rng(1).permutation(0.1 + 0.2 * np.arange(size)).reshape(shape)


LOCALS: list[tuple[str, Callable[..., Node], list[Array], list[LocalKind]]] = [
    ("tanh", ops.tanh, [separated(2, 3)], [LocalKind.DIAGONAL]),
    ("multiply", ops.multiply, [separated(4), separated(4) + 1], [LocalKind.DIAGONAL] * 2),
    ("divide", ops.divide, [separated(4), separated(4) + 1], [LocalKind.DIAGONAL] * 2),
    ("maximum", ops.maximum, [separated(6), separated(6)[::-1].copy() + 0.05], [LocalKind.DIAGONAL] * 2),
    (
        "where",
        ops.where,
        [np.array([True, False, True]), separated(3), separated(3)],
        [LocalKind.BLOCKED, LocalKind.DIAGONAL, LocalKind.DIAGONAL],
    ),
    ("add", ops.add, [separated(3), separated(3)], [LocalKind.CONSTANT] * 2),
    ("subtract", ops.subtract, [separated(3), separated(3)], [LocalKind.CONSTANT] * 2),
    ("sum", lambda x: ops.sum_(x, axes=(0,)), [separated(2, 3)], [LocalKind.CONSTANT]),
    ("broadcast", lambda x: ops.broadcast(x, shape=(3, 2), axes=(0,)), [separated(2)], [LocalKind.CONSTANT]),
    ("transpose", lambda x: ops.transpose(x, axes=(1, 0)), [separated(2, 3)], [LocalKind.CONSTANT]),
    (
        "gather",
        lambda x, i: ops.gather(x, i, axis=0),
        [separated(3), np.array([2, 0, 2])],
        [LocalKind.CONSTANT, LocalKind.BLOCKED],
    ),
    (
        "concatenate",
        lambda x, y: ops.concatenate(x, y, axis=0),
        [separated(2), separated(3)],
        [LocalKind.CONSTANT] * 2,
    ),
    (
        "sum_pool2d",
        lambda x: ops.sum_pool2d(x, **{k: v for k, v in POOL.items() if k != "dilation"}),
        [separated(1, 2, 3, 4)],
        [LocalKind.CONSTANT],
    ),
    ("max", lambda x: ops.max_(x, axis=1), [separated(2, 3)], [LocalKind.ROUTING]),
    ("max_pool2d", lambda x: ops.max_pool2d(x, **POOL), [separated(1, 2, 3, 4)], [LocalKind.ROUTING]),
    ("matmul", ops.matmul, [separated(2, 3), separated(3, 2)], [LocalKind.DENSE] * 2),
    (
        "conv2d",
        lambda x, w: ops.conv2d(x, w, groups=1, **GEOMETRY),
        [separated(1, 2, 3, 4), separated(2, 2, 2, 2)],
        [LocalKind.DENSE] * 2,
    ),
    ("sign", ops.sign, [separated(3)], [LocalKind.BLOCKED]),
    ("less", ops.less, [separated(3), separated(3) + 0.1], [LocalKind.BLOCKED] * 2),
]


def test_every_kind_of_local_gradient_is_tried() -> None:
    assert {kind for *_, kinds in LOCALS for kind in kinds} == set(LocalKind)


def run(f: Callable[..., Node], inputs: list[Array]) -> Node:
    with ops.history("everything"):
        return f(*(leaf(x, requires_grad=True) for x in inputs))


@pytest.mark.parametrize(("f", "inputs", "kinds"), [one[1:] for one in LOCALS], ids=[one[0] for one in LOCALS])
def test_a_local_row_is_a_row_of_the_jacobian(f: Callable[..., Node], inputs: list[Array], kinds: list[LocalKind]) -> None:
    node = run(f, inputs)
    step = 1e-6
    for position, (one, kind) in enumerate(zip(inputs, kinds, strict=True)):
        assert local_kind(node, position) is kind
        if one.dtype != np.float64:
            assert not local_row(node, position, (0,) * node.ndim).any()
            continue
        jacobian = np.empty((*node.shape, *one.shape))
        for place in np.ndindex(one.shape):
            shifted = []
            for by in (step, -step):
                moved = [x.copy() for x in inputs]
                moved[position][place] += by
                shifted.append(np.asarray(run(f, moved).value, dtype=np.float64))
            jacobian[(..., *place)] = (shifted[0] - shifted[1]) / (2 * step)
        for unit in np.ndindex(node.shape):
            row = local_row(node, position, unit)
            assert row.shape == one.shape
            np.testing.assert_allclose(row, jacobian[unit], atol=1e-8)
        if kind is LocalKind.ROUTING:  # one winner each
            assert set(np.unique(jacobian.round(6))) == {0, 1}
            assert (jacobian.reshape(node.size, -1).round(6).sum(axis=1) == 1).all()


def test_the_local_gradient_of_a_relu_is_a_diagonal_mask() -> None:
    """L6: 1 where x_i > 0, else 0."""
    x = leaf(np.array([1.5, -0.5, 0.25, 0.0]), requires_grad=True)
    node = relu(x)
    np.testing.assert_array_equal(local_diagonal(node, 1), [1, 0, 1, 0])
    np.testing.assert_array_equal(local_row(node, 1, (2,)), [0, 0, 1, 0])


@pytest.mark.parametrize(("f", "inputs"), [(f, inputs) for _, f, inputs, kinds in LOCALS if kinds[-1] is LocalKind.DIAGONAL])
def test_the_local_diagonal_holds_the_rows_diagonal(f: Callable[..., Node], inputs: list[Array]) -> None:
    node = run(f, inputs)
    for position, one in enumerate(inputs):
        diagonal = local_diagonal(node, position)
        assert diagonal.shape == one.shape
        for unit in np.ndindex(one.shape):
            row = local_row(node, position, unit)
            assert row[unit] == diagonal[unit]
            row = row.copy()
            row[unit] = 0
            assert not row.any()


def test_what_has_no_local_gradient_is_explained() -> None:
    x = leaf(np.ones(3), requires_grad=True)
    node = ops.multiply(x, x)
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: local_row(node, 0, (3,)), "unit [3] is outside the output float64[3]: give 1 indices from 0"),
        (lambda: local_row(node, 0, ()), "unit [] is outside the output float64[3]: give 1 indices from 0"),
        (lambda: local_row(node, 2, (0,)), "multiply has 2 inputs, there is no input 2"),
        (lambda: local_row(x, 0, (0,)), "a constant has no inputs, hence no local gradient"),
        (lambda: local_diagonal(ops.sum_(x, axes=(0,)), 0), "sum is not elementwise: ask for the row of one unit"),
    ]
    for ask, text in cases:
        with pytest.raises(UserError) as caught:
            ask()
        assert str(caught.value) == text


def test_the_local_gradient_of_a_traced_node_is_explained() -> None:
    with ops.running_on(None):
        x = leaf(TensorType((3,), np.dtype(np.float64)), requires_grad=True)
        node = ops.multiply(x, x)
    with pytest.raises(UserError, match=r"multiply.* traced at test_gradcheck_and_local\.py:\d+ .*no value"):
        local_row(node, 0, (0,))
    with (
        ops.running_on(None),
        pytest.raises(
            UserError, match=r"^multiply at test_gradcheck_and_local\.py:\d+ was only traced: a local gradient needs"
        ),
    ):
        local_row(node, 0, (0,))


def test_a_wrong_gradient_is_found_however_small_it_is() -> None:
    a = np.linspace(0.5, 1.5, 4)
    with pytest.raises(UserError, match="gradcheck: the gradient is wrong"):
        cr.gradcheck(lambda a: ((a * a).detach() * 1e-2 + a * 0).sum(), a)
    with pytest.raises(UserError, match="gradcheck: the gradient is wrong"):
        cr.gradcheck(lambda a: ((a * a).detach() * 1e-3 + a * 0).sum(), a)
    assert cr.gradcheck(lambda a: (a * a * 1e-3).sum(), a).error < 1e-6


def test_it_checks_inside_no_grad_too() -> None:
    with cr.no_grad():
        assert cr.gradcheck(lambda a: (a * a).sum(), np.array([1.0, 2.0]), order=2).error < 1e-6
