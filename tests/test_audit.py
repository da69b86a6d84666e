"""``cr.audit``: what each node passes back, against finite differences."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import UserError, lens, nn
from chainrule.graph import Role
from expected import cases
from pages import programs

PAGE = Path(__file__).parent.parent / "docs" / "audit.md"
F = nn.functional
NUMBER = r"-?\d[\d,]*\.?\d*(?:e[+-]\d+)?"


def verdicts(result: lens.Audit) -> set[str]:
    return {row.verdict for row in result.rows}


def of_leaf(f: Callable[[cr.Tensor], cr.Tensor], values: Any, **options: Any) -> lens.Audit:
    return cr.audit(lambda x: f(x).sum(), cr.tensor(values, requires_grad=True), **options)


# ---- it finds what is wrong


def test_the_page_shows_what_happens() -> None:
    names: dict[str, Any] = {}
    for printed, shown in programs(PAGE, names):
        assert re.sub(rf"{NUMBER}|-+|\s+", " ", printed) == re.sub(rf"{NUMBER}|-+|\s+", " ", shown)
        ours, theirs = ([float(n.replace(",", "")) for n in re.findall(NUMBER, text)] for text in (printed, shown))
        np.testing.assert_allclose(ours, theirs, rtol=0.06)  # accuracies and projections: rounding differs by processor
        assert max(map(len, printed.splitlines()), default=0) <= 80
    right, flipped, unpadded = (names["audited"](names[name]) for name in ("right", "flipped", "unpadded"))
    assert right.passed
    assert [(row.node, row.input, row.layer) for row in flipped.wrong] == [
        ("conv3x3", "weight", "0"),
        ("conv3x3", "weight", "3"),
    ]
    assert unpadded.worst.node == "conv3x3"
    assert {row.node for row in unpadded.wrong} == {"conv3x3"}


def scaled_rule(factor: float) -> cr.tensor:
    @cr.custom_gradient(lambda upstream, x, w: (upstream * w, factor * upstream * x))
    def product(x: Any, w: Any) -> Any:
        return x * w, (x, w)

    return product


class Scaling(nn.Module):
    def __init__(self, factor: float, dtype: str) -> None:
        super().__init__()
        self.weight = nn.Parameter([0.5, -1.0, 2.0], dtype)
        self.product = scaled_rule(factor)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        return self.product(x, self.weight)


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_smallest_fault_is_found_in_any_float(dtype: str, engine: str, compiled: bool) -> None:
    x = np.array([1.0, 2.0, -3.0])
    for factor in (1.0, 1 + 2**-7):  # which bfloat16 holds
        model = nn.Sequential(nn.Identity(), Scaling(factor, dtype))

        def loss(x: Any, model: nn.Module = model) -> cr.Tensor:
            return (model(x) ** 2).mean()

        with cr.engine(engine):
            result = cr.audit(cr.compile(loss) if compiled else loss, cr.tensor(x, dtype))
        assert result.passed == (factor == 1)
        if factor != 1:
            row = result.worst
            assert result.wrong == (row,)
            assert (row.node, row.input, row.layer, row.role) == ("product", "w", "1", Role.CUSTOM)
            assert re.fullmatch(r"test_audit\.py:\d+", row.line)
            assert 1e-3 < row.error < 2e-2
            assert row.passed_back == pytest.approx(factor * row.expected)


def test_each_of_several_inputs_and_outputs_is_looked_at() -> None:
    def backward(upstreams: Any, x: cr.Tensor, y: cr.Tensor) -> Any:
        of_sum, of_product = upstreams
        return of_sum + of_product * y, of_sum - of_product * x  # the second sign is wrong

    @cr.custom_gradient(backward)
    def both(x: cr.Tensor, y: cr.Tensor) -> Any:
        return (x + y, x * y), (x, y)

    def loss(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        total, product = both(x, y)
        return (total * product).sum()

    x, y = (cr.tensor(np.random.default_rng(i).standard_normal(5), requires_grad=True) for i in range(2))
    result = cr.audit(loss, x, y)
    assert [(row.node, row.input) for row in result.wrong] == [("both", "y")]
    assert f"{result}".startswith("audit: 1 of ")


def test_a_gradient_that_is_not_finite_or_missing_is_wrong() -> None:
    for rule in (lambda u, x: u / 0.0, lambda u, x: u * float("nan"), lambda u, x: cr.zeros_like(x)):

        @cr.custom_gradient(rule)
        def double(x: cr.Tensor) -> Any:
            return 2 * x, (x,)

        result = of_leaf(double, [1.0, 2.0])
        assert (result.worst.node, result.worst.verdict) == ("double", "wrong")


OPERATIONS: dict[str, Callable[[cr.Tensor], cr.Tensor]] = {
    "exp": lambda x: cr.exp(-abs(x)),
    "log": lambda x: cr.log(abs(x)),
    "sqrt": lambda x: cr.sqrt(abs(x)),
    "divide": lambda x: 1 / x,
    "cube": lambda x: x**3,
    "sin": cr.sin,
    "relu": lambda x: cr.maximum(x, 0),
    "softmax": lambda x: F.softmax(x, -1),
    "normalised": lambda x: (x - x.mean()) / cr.sqrt(x.var() + 1e-5 * (x**2).mean()),
    "largest": lambda x: x.max(-1, keepdims=True) * x,
    "sorted": lambda x: cr.cumsum(cr.sort(x), -1),
}


@given(
    names=st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=3),
    size=st.sampled_from([1e-6, 1e-2, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
@example(names=["log", "log", "divide"], size=1e-6, seed=0)
@example(names=["relu", "cube"], size=1e-6, seed=62)  # a slope of 0 that differences only come close to
@settings(max_examples=60)
def test_what_is_right_is_never_called_wrong(names: list[str], size: float, seed: int) -> None:
    def f(x: cr.Tensor) -> cr.Tensor:
        for name in names:
            x = OPERATIONS[name](x)
        return x

    x = np.random.default_rng(seed).standard_normal(7) * size
    assume(np.abs(f(cr.tensor(x)).numpy()).max() < 1e30)  # beyond, right rules overflow
    result = of_leaf(f, x, seed=seed)
    assert not result.wrong, str(result)


@given(
    name=st.sampled_from(sorted(OPERATIONS)),
    size=st.sampled_from([1e-4, 1.0, 30.0]),
    seed=st.integers(0, 1000),
    factor=st.sampled_from([-1.0, 0.5, 0.999, 1.01, 3.0]),
)
@settings(max_examples=40)
def test_what_is_wrong_is_never_called_right(name: str, size: float, seed: int, factor: float) -> None:
    @cr.custom_gradient(lambda upstream: factor * upstream)
    def same(x: cr.Tensor) -> Any:
        return 1 * x, ()

    x = np.random.default_rng(seed).standard_normal(7) * size
    result = of_leaf(lambda x: OPERATIONS[name](same(x)), x)
    assert [row.node for row in result.wrong] == ["same"]


# ---- it is silent on what is right


@pytest.mark.parametrize(
    ("name", "size"), [("lenet", 28), ("mlp", 28), ("resnet20", 8), ("mobilenet_v3_small", 32), ("squeezenet1_1", 32)]
)
def test_it_is_silent_on_healthy_models(name: str, size: int) -> None:
    cr.manual_seed(0)
    model = getattr(cr.models, name)(num_classes=4)
    channels = 1 if size == 28 else 3
    images = np.random.default_rng(0).standard_normal((2, channels, size, size)).astype(np.float32)
    result = cr.audit(lambda x, y: F.cross_entropy(model(x), y), images, np.array([1, 3]))
    assert verdicts(result) == {"right"}
    assert len(result.rows) > 15


@pytest.mark.parametrize("case", cases.LAYERS, ids=lambda case: case.name)
def test_it_is_silent_on_every_layer(case: cases.Layer) -> None:
    rng = np.random.default_rng(1)
    layer = getattr(nn, case.layer)(**case.arguments)
    layer.train(case.training)
    images = rng.integers(0, 5, case.shape) if case.values == "places" else rng.standard_normal(case.shape).astype(np.float32)
    x = cr.tensor(images, requires_grad=case.values != "places")
    assert verdicts(cr.audit(lambda x: cr.sin(layer(x)).sum(), x)) == {"right"}


def test_nothing_changes_and_chance_is_that_of_the_next_call() -> None:
    cr.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 2))
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    before = {name: one.copy() for name, one in model.state_dict().items()}

    def loss(x: Any) -> cr.Tensor:
        return (model(x) ** 2).sum()

    first, second = cr.audit(loss, x), cr.audit(loss, x)
    assert first == second
    assert first.passed
    assert "where" in {row.node for row in first.rows} or "multiply" in {row.node for row in first.rows}
    for name, one in model.state_dict().items():
        np.testing.assert_array_equal(one, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    drawn = cr.random.uniform((3,)).numpy()
    cr.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 2))
    np.testing.assert_array_equal(cr.random.uniform((3,)).numpy(), drawn)


def test_a_loss_that_uses_gradients_and_batches_of_any_structure() -> None:
    w = cr.Parameter([2.0, 3.0])
    w.grad = cr.tensor([0.5, 0.25])

    def loss(batch: dict[str, Any], scale: float, penalty: float = 0.0) -> cr.Tensor:
        assert w.grad is not None
        return (w * batch["x"][0] * w.grad).sum() * scale + penalty * (w**2).sum()

    result = cr.audit(loss, {"x": [np.ones(2, np.float32)]}, 0.5, 0.1)
    assert result.passed
    assert result.nodes >= 5


# ---- where there is nothing to decide


def test_kinks_are_stepped_over_and_counted() -> None:
    result = of_leaf(lambda x: cr.maximum(x, 0) * 2, [-1.0, 0.0, 2.0])
    (row,) = (row for row in result.rows if row.node == "maximum")
    assert (row.verdict, row.kinks, row.elements) == ("right", 1, 3)
    assert "1 of 7 elements stand at a kink or a jump" in str(result)


def test_where_there_is_no_slope_nothing_is_decided() -> None:
    for f in (lambda x: cr.maximum(x, 0), lambda x: x.max(keepdims=True), abs, cr.sqrt):
        result = of_leaf(f, [0.0, 0.0])
        assert result.worst.verdict == "not decidable", result
        assert result.passed
        assert str(result).startswith(
            f"audit: of {len(result.rows)} gradients, {len(result.rows) - 1} right, 1 not decidable\n"
        )


def test_what_is_lost_in_values_that_are_not_finite_does_not_pass() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    images, labels = np.ones((2, 2, 2), np.float32), np.array([0, 2])
    for made, first in (
        (lambda x: cr.log(model(x) - 100), "that of log, test_audit.py:"),
        (lambda x: cr.exp(model(x) + 1000), "that of exp, test_audit.py:"),
        (lambda x: model(x * np.inf), "that of matmul in 1, test_audit.py:"),
    ):
        result = cr.audit(lambda x, y, made=made: F.cross_entropy(made(x), y), images, labels)
        assert not result.passed
        assert not result.wrong
        assert result.worst.verdict == "not finite"
        assert result.first_not_finite.startswith(first)
        count, lost = len(result.rows), sum(row.verdict == "not finite" for row in result.rows)
        assert str(result).startswith(f"audit: of {count} gradients, {count - lost} right, {lost} not finite")
        assert re.search(r"elements are nan or infinite: they were left out; the first\s+such\s+value\s+is", str(result))
        assert "kink" not in str(result)
    images[0] = np.nan
    assert cr.audit(lambda x, y: F.cross_entropy(model(x), y), images, labels).first_not_finite == "x"


def test_a_gradient_that_is_nan_though_the_loss_is_not_does_not_pass() -> None:
    """What ``where`` does not choose gets a gradient of 0, and 0 times an infinite slope is nan."""
    result = of_leaf(lambda x: cr.where(x > 0, cr.sqrt(x), 0.0), [-1.0, 4.0])
    assert [(row.node, row.verdict) for row in result.rows if row.verdict != "right"] == [("sqrt", "not finite")]
    assert not result.passed


def test_a_mask_of_minus_infinity_passes() -> None:
    mask = np.tri(3, dtype=bool)
    result = of_leaf(lambda x: F.softmax(cr.where(mask, x, -np.inf), -1) ** 2, np.arange(9.0).reshape(3, 3) / 9)
    assert result.passed
    assert {row.node: row.verdict for row in result.rows}["log_softmax"] == "right"
    assert result.first_not_finite == ""


def test_numbers_of_a_wrong_gradient_have_the_digits_that_tell_them_apart() -> None:
    for error in (1e-4, 3e-5, 0.5):

        @cr.custom_gradient(lambda upstream, error=error: (1 + error) * upstream)
        def same(x: cr.Tensor) -> Any:
            return 1 * x, ()

        said = " ".join(str(of_leaf(same, [0.3, 1.1, 2.0])).split())
        ((ours, theirs),) = re.findall(rf"is ({NUMBER}), finite differences say ({NUMBER})", said)
        assert ours != theirs
        assert float(ours) / float(theirs) == pytest.approx(1 + error, abs=1e-3)


def test_a_wrong_rule_beside_kinks_is_found() -> None:
    @cr.custom_gradient(lambda upstream, x: upstream * (x > 0).astype(x.dtype) * 1.5)
    def relu(x: cr.Tensor) -> Any:
        return cr.maximum(x, 0), (x,)

    assert of_leaf(relu, [0.0, 1.0, -2.0]).worst.verdict == "wrong"
    assert of_leaf(relu, [0.0, 0.0]).worst.verdict == "not decidable"


def test_what_is_meant_to_differ_is_named_and_passes() -> None:
    @cr.custom_gradient(lambda upstream: upstream, exact=False)
    def rounded(x: cr.Tensor) -> Any:
        return cr.round(x), ()

    result = of_leaf(lambda x: rounded(x * 3) ** 2, [0.3, 1.1])
    assert result.passed
    assert (result.worst.node, result.worst.verdict) == ("rounded", "on purpose")
    assert result.ends == ()
    assert str(result).startswith("audit: of 4 gradients, 3 right, 1 wrong on purpose\n")
    inexact = cr.custom_gradient(lambda upstream: upstream)(rounded._forward)
    assert of_leaf(inexact, [0.3, 1.1]).worst.verdict == "wrong"


def test_it_says_where_the_code_ends_a_gradient() -> None:
    result = of_leaf(lambda x: x * cr.stop_gradient(x) + (x * 2).detach(), [1.0, 2.0])
    assert result.passed
    assert len(result.ends) == 1
    assert re.fullmatch(r"stop_gradient, test_audit\.py:\d+", result.ends[0])
    assert "the gradient ends, as the code says, at stop_gradient" in str(result)


# ---- what does not fit

X = cr.tensor([1.0, 2.0], requires_grad=True)
HIDDEN = X * 2
COMPILED = cr.compile(lambda x: x * 2)(X)


def double(x: Any) -> Any:
    return (x * 2).sum()


@cr.custom_gradient(lambda upstream, x: upstream.sum())
def misshapen(x: cr.Tensor) -> Any:
    return x * 2, (x,)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a loss": (lambda: cr.audit(double(X)), "audit: loss_function must be a function of the batch .*, got a Tensor: cr.audit"),
    "no batch": (lambda: cr.audit(double), r"double: missing a required argument: 'x': it is called as double\(x\)"),
    "no tensor": (lambda: cr.audit(lambda x: 3.0, X), "audit: <lambda> must return the loss, a tensor, got a float"),
    "no number": (lambda: cr.audit(lambda x: x, X), r"audit: <lambda> must return .*, but this is float32\[2\]: reduce it"),
    "an integer": (lambda: cr.audit(lambda x: x.argmax(), X), r"one float number, but this is int64\[\]"),
    "nothing asks": (
        lambda: cr.audit(double, [1.0, 2.0] * cr.ones(2)),
        "that double returns depends on nothing that asks for a",
    ),
    "reads": (lambda: cr.audit(lambda x: x.sum() * float(x.sum()), X), "was asked for while tracing"),
    "tolerance": (lambda: cr.audit(double, X, tolerance=0), "audit: tolerance must be between 0 and 1, got 0.0"),
    "tolerance nan": (lambda: cr.audit(double, X, tolerance=float("nan")), "audit: tolerance must be between 0 and 1, got nan"),
    "tolerance text": (lambda: cr.audit(double, X, tolerance="x"), "audit: tolerance must be a number"),  # type: ignore
    "seed": (lambda: cr.audit(double, X, seed=0.5), "audit: seed"),  # type: ignore
    "seed below 0": (lambda: cr.audit(double, X, seed=-1), "audit: seed must be a whole number of at least 0, got -1"),
    "traced": (lambda: cr.compile(lambda x: cr.audit(double, x).passed)(X), "audit: needs numbers, and a traced function has"),
    "outside": (lambda: cr.audit(lambda: HIDDEN.sum()), "audit: <lambda> uses float32.*, computed outside at"),
    "compiled": (lambda: cr.audit(lambda: COMPILED.sum()), "audit: the gradient would be lost at"),
    "misshapen": (lambda: cr.audit(lambda x: misshapen(x).sum(), X), r"misshapen: its backward function <lambda> \(test_audit"),
    "labels": (
        lambda: cr.audit(lambda x, y: F.cross_entropy(x, y), cr.zeros((2, 3)) * X[0], np.array([0, 7])),
        "7",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named(name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(UserError, match=message):
        call()


def test_the_table_fits_80_columns_whatever_the_names_are() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a_layer_with_quite_a_long_name_of_its_own = nn.Sequential(nn.Sequential(Scaling(2.0, "float32")))

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            return self.a_layer_with_quite_a_long_name_of_its_own(x)

    model = Deep()
    result = cr.audit(lambda x: model(x).sum(), np.ones(3, np.float32))
    text = str(result)
    assert max(map(len, text.splitlines())) <= 80, text
    assert "wrong" in text
    assert "product" in result._repr_html_()
