"""Functions with a gradient rule of their user's own: ``cr.custom_gradient``."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import UserError, nn, optim
from chainrule.graph import Role
from chainrule.graph.show import svg
from pages import programs

PAGE = Path(__file__).parent.parent / "docs" / "custom-gradients.md"
F = nn.functional


def straight_through(upstream: cr.Tensor) -> cr.Tensor:
    return upstream


@cr.custom_gradient(straight_through, exact=False)
def rounded(x: cr.Tensor) -> Any:
    return cr.round(x), ()


def product_backward(upstream: cr.Tensor, x: cr.Tensor, y: cr.Tensor) -> Any:
    return upstream * y, upstream * x


@cr.custom_gradient(product_backward)
def product(x: cr.Tensor, y: cr.Tensor) -> Any:
    return x * y, (x, y)


def softplus_backward(upstream: cr.Tensor, x: cr.Tensor) -> cr.Tensor:
    return upstream * cr.sigmoid(x)


@cr.custom_gradient(softplus_backward)
def softplus(x: cr.Tensor) -> Any:
    return cr.log1p(cr.exp(x)), (x,)


def tanh_backward(upstream: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
    return upstream * (1 - y * y)


@cr.custom_gradient(tanh_backward)
def tanh(x: cr.Tensor) -> Any:
    y = cr.tanh(x)
    return y, (y,)


def powers_backward(upstreams: Any, x: cr.Tensor, square: cr.Tensor) -> cr.Tensor:
    of_square, of_cube = upstreams
    return of_square * 2 * x + of_cube.reshape(x.shape) * 3 * square


@cr.custom_gradient(powers_backward)
def powers(x: cr.Tensor) -> Any:
    square = x * x
    return (square, x.argmax(), (square * x).reshape(-1)), (x, square)


def conv_backward(upstream: cr.Tensor, x: cr.Tensor, w: cr.Tensor) -> Any:
    """Of a convolution without padding: the full correlation for the image, a convolution over the batch for the weight."""
    reach = w.shape[2] - 1
    image = F.conv2d(F.pad(upstream, (reach,) * 4), w.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
    weight = F.conv2d(x.transpose(1, 0, 2, 3), upstream.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)
    return image, weight


@cr.custom_gradient(conv_backward)
def conv(x: cr.Tensor, w: cr.Tensor) -> Any:
    return F.conv2d(x, w), (x, w)


def several(x: cr.Tensor) -> cr.Tensor:
    square, _, cube = powers(x)
    return cr.sin(square).sum() + cr.cos(cube * 0.5).sum()


RIGHT: list[tuple[Callable[..., cr.Tensor], list[tuple[int, ...]]]] = [
    (lambda x, y: (product(x, y) * 0.5).sum(), [(2, 3), (2, 3)]),
    (lambda x: product(x, x).sum(), [(4,)]),
    (lambda x: (softplus(x) * cr.sin(x)).sum(), [(3, 1)]),
    (lambda x: tanh(softplus(x)).sum(), [(2, 2)]),
    (several, [(2, 3)]),
    (lambda x, w: (conv(x, w) ** 2).sum(), [(2, 2, 5, 4), (3, 2, 3, 3)]),
]
NAMES = ["product", "square", "softplus", "chain", "several outputs", "convolution"]


def drawn(shapes: list[tuple[int, ...]], dtype: Any = np.float64) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.uniform(-1.5, 1.5, shape).astype(dtype) for shape in shapes]


def leaves(arrays: list[np.ndarray]) -> list[cr.Tensor]:
    return [cr.tensor(one, requires_grad=True) for one in arrays]


# ---- right rules give right gradients


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize(("f", "shapes"), RIGHT, ids=NAMES)
def test_gradients_and_their_gradients_agree_with_finite_differences(f: Any, shapes: Any, engine: str) -> None:
    with cr.engine(engine):
        assert cr.gradcheck(f, *drawn(shapes), order=2).error < 1e-5


@pytest.mark.parametrize(("f", "shapes"), RIGHT, ids=NAMES)
def test_a_compiled_function_computes_the_same(f: Any, shapes: Any) -> None:
    arrays = drawn(shapes)
    plain, compiled = leaves(arrays), leaves(arrays)
    loss = f(*plain)
    loss.backward()

    @cr.compile
    def step(*xs: cr.Tensor) -> cr.Tensor:
        loss = f(*xs)
        loss.backward()
        return loss

    np.testing.assert_allclose(step(*compiled).numpy(), loss.numpy(), rtol=1e-12)
    for one, other in zip(plain, compiled, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        np.testing.assert_allclose(other.grad.numpy(), one.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("f", "shapes"), RIGHT, ids=NAMES)
def test_gradients_of_gradients_compile(f: Any, shapes: Any) -> None:
    arrays = drawn(shapes)

    def second(*xs: cr.Tensor) -> list[cr.Tensor]:
        first = cr.grad(f(*xs), list(xs), create_graph=True)
        total = sum((one**2).sum() for one in first if one is not None)
        assert isinstance(total, cr.Tensor)
        return [one for one in cr.grad(total, list(xs)) if one is not None]

    compiled = cr.compile(second)(*leaves(arrays))
    for one, other in zip(second(*leaves(arrays)), compiled, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-10, atol=1e-12)


def test_a_wrong_rule_is_used_as_it_is_and_gradcheck_finds_it() -> None:
    @cr.custom_gradient(lambda upstream, x: upstream * 3 * x)
    def square(x: cr.Tensor) -> Any:
        return x * x, (x,)

    (x,) = leaves([np.array([1.0, 2.0])])
    square(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 6.0]
    with pytest.raises(UserError, match="the gradient is wrong"):
        cr.gradcheck(lambda x: square(x).sum(), np.array([1.0, 2.0]))


@given(
    shape=st.lists(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from(["float32", "float64", "bfloat16"]),
    compiled=st.booleans(),
    passed=st.lists(st.booleans(), min_size=2, max_size=2),
)
def test_the_rule_gets_and_gives_the_types_of_the_tensors(
    shape: list[int], dtype: str, compiled: bool, passed: list[bool]
) -> None:
    seen = []

    def backward(upstream: cr.Tensor, x: cr.Tensor, y: cr.Tensor, number: int, output: cr.Tensor) -> Any:
        seen.append((upstream.node.type, x.node.type, output.node.type, number))
        return upstream * number, upstream * y if y.requires_grad or passed[1] else None

    @cr.custom_gradient(backward)
    def f(x: cr.Tensor, number: int, y: cr.Tensor) -> Any:
        output = x * number + 0.5 * y * y
        return output, (x, y, number, output)

    x = cr.zeros(tuple(shape)).astype(dtype)
    x = cr.tensor(x, requires_grad=passed[0])
    y = cr.tensor(cr.ones(tuple(shape)).astype(dtype), requires_grad=passed[1])

    def run(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        output = f(x, 3, y)
        if any(passed):
            output.sum().backward()
        return output

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the list of what was seen is changed while it is traced
        output = (cr.compile(run) if compiled else run)(x, y)
    np.testing.assert_array_equal(output.astype("float32").numpy(), np.full(shape, 0.5))
    for one, asks, slope in zip((x, y), passed, (3.0, 1.0), strict=True):
        assert (one.grad is not None) == asks
        if one.grad is not None:
            assert one.grad.node.type == one.node.type
            np.testing.assert_array_equal(one.grad.astype("float32").numpy(), np.full(shape, slope))
    assert set(seen) == ({(x.node.type, x.node.type, x.node.type, 3)} if any(passed) else set())
    assert len(seen) == (1 if any(passed) else 0), "the rule is asked once"


# ---- what is passed, returned, saved


def test_several_outputs_are_one_call_of_the_rule_with_zeros_where_nothing_arrives() -> None:
    calls = []

    @cr.custom_gradient(lambda upstreams, x: (calls.append(upstreams), upstreams[0] + 2 * upstreams[1].sum())[1])
    def both(x: cr.Tensor) -> Any:
        return [x * 1, (2 * x).sum()], [x]

    (x,) = leaves([np.array([1.0, 5.0])])
    same, total = both(x)
    assert (same.tolist(), total.item()) == ([1.0, 5.0], 12.0)
    same.sum().backward(retain_graph=True)
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0]
    ((of_same, of_total),) = calls
    assert (of_same.tolist(), of_total.item()) == ([1.0, 1.0], 0.0)
    (total + same[0]).backward()
    assert x.grad.tolist() == [4.0, 3.0]
    assert len(calls) == 2


def test_outputs_of_different_floats_keep_their_dtypes() -> None:
    @cr.custom_gradient(lambda upstreams: upstreams[0].astype("float32") + upstreams[1])
    def two(x: cr.Tensor) -> Any:
        return (x.astype("float64"), x + 1), ()

    x = cr.tensor([0.1], requires_grad=True)
    wide, narrow = two(x)
    assert (wide.dtype, narrow.dtype) == (np.float64, np.float32)
    assert (wide.item(), narrow.item()) == (float(np.float32(0.1)), float(np.float32(1.1)))
    (wide.astype("float32") * 2 + narrow).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0]


def test_arguments_by_name_with_defaults_and_none_are_passed_on() -> None:
    def backward(upstream: cr.Tensor, y: cr.Tensor, mode: str) -> Any:
        assert mode == "twice"
        return upstream * y, upstream

    @cr.custom_gradient(backward)
    def f(x: cr.Tensor, y: cr.Tensor, bias: Any = None, *, mode: str = "once") -> Any:
        assert bias is None
        return x * y, (y, mode)

    x, y = leaves([np.array([2.0]), np.array([3.0])])
    f(y=y, x=x, mode="twice").sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert (x.grad.item(), y.grad.item()) == (3.0, 1.0)
    assert f.__name__ == "f"
    assert "f, backward by backward (test_custom_gradient.py:" in repr(f)


def test_arrays_are_tensors_without_a_gradient() -> None:
    @cr.custom_gradient(lambda upstream, x, y: (upstream * y, None))
    def f(x: Any, y: Any) -> Any:
        return x * y, (x, y)

    (x,) = leaves([np.array([2.0])])
    f(x, np.array([3.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.item() == 3.0
    assert f(np.array([2.0]), np.array([3.0])).tolist() == [6.0]


def test_without_a_gradient_no_graph_is_kept() -> None:
    assert not rounded(cr.tensor([0.6])).requires_grad
    with cr.no_grad():
        output = rounded(cr.tensor([0.6], requires_grad=True))
    assert output.tolist() == [1.0]
    assert output.node.is_leaf


def test_values_that_no_rule_reads_are_freed() -> None:
    x = cr.tensor(np.ones((100, 100), np.float32), requires_grad=True)
    hidden = x * 2
    gone = weakref.ref(hidden.node.value)
    output = rounded(hidden)
    del hidden
    gc.collect()
    assert gone() is None, "straight_through saves nothing"
    kept = cr.exp(output)
    again = product(kept, kept)
    del kept
    again.sum().backward()
    assert x.grad is not None
    assert np.allclose(x.grad.numpy(), 4 * np.exp(4.0))


def test_a_rule_reads_what_is_outside_each_time_however_large_the_graph() -> None:
    scale = [1.0]

    @cr.custom_gradient(lambda upstream: upstream * scale[0])
    def scaled(x: cr.Tensor) -> Any:
        return x * 1, ()

    w = cr.tensor(np.ones((160, 160), np.float32), requires_grad=True)
    for scale[0] in (1.0, 2.0, 3.0):
        w.grad = None
        scaled(w @ w).sum().backward()
        assert w.grad is not None
        assert w.grad[0, 0].item() == 320 * scale[0]


factor = 1.0


def test_a_compiled_function_notices_what_either_function_reads() -> None:
    global factor

    @cr.custom_gradient(lambda upstream: upstream * factor)
    def scaled(x: cr.Tensor) -> Any:
        return x * factor, ()

    @cr.compile
    def step(x: cr.Tensor) -> cr.Tensor:
        loss = scaled(x).sum()
        loss.backward()
        return loss

    for factor in (1.0, 2.0):
        x = cr.tensor([1.0], requires_grad=True)
        assert step(x).item() == factor
        assert x.grad is not None
        assert x.grad.item() == factor
    assert "the global factor changed from 1.0 to 2.0" in step.explain_retrace()


# ---- in a network


class Quantised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.scale = nn.Parameter(cr.ones((2, 1, 1)))
        self.out = nn.Linear(2 * 4 * 4, 3)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        hidden = self.conv(x)
        hidden = product(rounded(hidden * 4) / 4, self.scale + cr.zeros_like(hidden))
        return self.out(hidden.flatten(1))


def test_a_network_with_it_trains_the_same_compiled_and_plain() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((8, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, 8)
    results = []
    for wrap in (lambda f: f, cr.compile):
        cr.manual_seed(1)
        model = Quantised()
        optimizer = optim.SGD(model.parameters(), lr=0.2)

        def step(images: Any, labels: Any, model: Any = model, optimizer: Any = optimizer) -> cr.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            return loss

        run = wrap(step)
        results.append([run(images, labels).item() for _ in range(12)])
        assert all(parameter.grad is not None and parameter.grad.numpy().any() for parameter in model.parameters())
    assert results[0][-1] < results[0][0] * 0.6
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4)


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter([2.0, 3.0])
        self.rounded = rounded
        self.slope = 2.0

    @cr.custom_gradient(lambda upstream, x, w, slope: (upstream * w * slope, upstream * x * slope), exact=False)
    def scaled(self, x: cr.Tensor, w: cr.Tensor) -> Any:
        return x * w, (x, w, self.slope)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        return self.rounded(self.scaled(x, self.weight))


def test_it_can_be_a_method_and_an_attribute_copied_and_pickled() -> None:
    model = Gain()
    for one in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert one.rounded is rounded
        x = cr.tensor([1.0, 1.0], requires_grad=True)
        one(x).sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [4.0, 6.0]

    @cr.compile
    def step(x: cr.Tensor) -> cr.Tensor:
        loss = model(x).sum()
        loss.backward()
        return loss

    for model.slope in (1.0, 5.0):  # the program follows
        x = cr.tensor([1.0, 1.0], requires_grad=True)
        step(x)
        assert x.grad is not None
        assert x.grad.tolist() == [2 * model.slope, 3 * model.slope]


def test_it_is_seen_by_its_name() -> None:
    model = Quantised()
    summary = model.summary((1, 1, 4, 4))
    assert [(row.name, row.kind) for row in summary.rows] == [
        ("conv", "Conv2d"),
        ("Quantised.rounded", "custom gradient"),
        ("Quantised.product", "custom gradient"),
        ("out", "Linear"),
    ]
    assert summary.rows[1].receptive_field == (3, 3)
    assert summary.rows[2].output_shape == (1, 2, 4, 4)
    loss = model(cr.zeros((1, 1, 4, 4))).sum()
    rows = [row for row in cr.explain(loss).rows if row.role is Role.CUSTOM]
    assert [row.operation for row in rows] == ["rounded", "product"]
    assert "its own rule" in str(cr.explain(rounded(cr.tensor([1.2], requires_grad=True)).sum()))
    drawn_by_layers = svg(cr.trace(model, cr.zeros((1, 1, 4, 4))), detail="module")
    assert "Quantised.rounded" in drawn_by_layers
    assert "custom gradient" in drawn_by_layers
    assert ">custom<" in svg(cr.trace(model, cr.zeros((1, 1, 4, 4))))


def test_history_of_everything_shows_what_is_inside() -> None:
    from chainrule import ops

    x = cr.tensor([0.3], requires_grad=True)
    with ops.history("everything"):
        loss = softplus(x).sum()
    names = [node.operation.name for node in loss.graph]
    assert "log1p" in names
    assert "softplus" in names
    (gradient,) = cr.grad(loss, [x])
    assert gradient is not None
    assert np.isclose(gradient.item(), 1 / (1 + np.exp(-0.3)))


# ---- what does not fit

X = cr.tensor([1.0, 2.0], requires_grad=True)
WEIGHT = cr.Parameter([3.0, 4.0])
HERE = r"test_custom_gradient\.py:\d+"


def with_backward(backward: Callable[..., Any]) -> Callable[[], Any]:
    @cr.custom_gradient(backward)
    def f(x: cr.Tensor) -> Any:
        return x * 1, (x,)

    return lambda: f(X).sum().backward()


def two_arguments(result: Any) -> Callable[[], Any]:
    @cr.custom_gradient(lambda upstream: result)
    def f(x: cr.Tensor, w: cr.Tensor) -> Any:
        return x * w, ()

    return lambda: f(X, WEIGHT).sum().backward()


def with_forward(forward: Callable[..., Any], *args: Any, **options: Any) -> Callable[[], Any]:
    forward.__name__ = "f"
    return lambda: cr.custom_gradient(straight_through)(forward)(*(args or (X,)), **options)


BACK = rf"f: its backward function <lambda> \({HERE}\) "
FORE = rf"f, whose forward function is at {HERE}, "
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "wrong shape": (
        with_backward(lambda u, x: u.sum()),
        BACK + r"returned float32\[\] for the argument x, float32\[2\]: a gra",
    ),
    "wrong dtype": (
        with_backward(lambda u, x: u.astype("float64")),
        BACK + r"returned float64\[2\] for the argument x, float32",
    ),
    "none": (with_backward(lambda u, x: None), BACK + r"returned None for the argument x, .* return cr.zeros_like\(x\)"),
    "array": (with_backward(lambda u, x: np.ones(2, np.float32)), BACK + "returned a ndarray for the argument x"),
    "number": (with_backward(lambda u, x: 0.0), BACK + "returned a float for the argument x"),
    "too many": (with_backward(lambda u, x: (u, u)), BACK + "must return a gradient for each .* floats, which are x; got 2"),
    "too few": (two_arguments(X), BACK + "must return a gradient for each .* which are x, w; got 1"),
    "none of two": (two_arguments((X, None)), BACK + r"returned None for the argument w, float32\[2\]"),
    "takes too few": (with_backward(lambda u: u), BACK + "gets the upstream gradient and 1 saved values: backward: too many"),
    "takes too many": (with_backward(lambda u, x, y: u), BACK + "gets the .* 1 saved values: backward: missing a required"),
    "no pair": (with_forward(lambda x: x * 1), FORE + r"must return two things: .* which is \(\) if .*; got a Tensor"),
    "three": (with_forward(lambda x: (x, x, x)), FORE + "must return two things: .*; got a tuple of 3"),
    "saved no tuple": (with_forward(lambda x: (x, x)), FORE + "must return two things: .*; got saved as a Tensor"),
    "no tensor": (with_forward(lambda x: (1.0, ())), FORE + "must return tensors, got a float as output"),
    "no output": (with_forward(lambda x: ((), ())), FORE + "returned no output"),
    "captured": (
        with_forward(lambda x: (x * WEIGHT, ())),
        FORE + r"uses the parameter, float32\[2\], which asks for a gradient",
    ),
    "captured input": (
        with_forward(lambda x: (x * X, ())),
        FORE + "uses the input, .* but is no argument, so it would get none",
    ),
    "captured, saved": (with_forward(lambda x: (x * 1, (WEIGHT * 2,))), FORE + "uses the parameter"),
    "captured, frozen input": (with_forward(lambda x: (x * X, ()), np.ones(2)), FORE + "uses the input"),
    "list": (
        with_forward(lambda x: (x[0], ()), [X]),
        "f: the argument x is a list with a tensor in it: make each tensor an arg",
    ),
    "NumPy number": (with_forward(lambda x, y: (x, ()), X, np.float64(2)), "f: the argument y is a number of NumPy: pass 2.0"),
    "by name only": (
        with_forward(lambda x, *, y: (x, ()), X, y=X),
        "f: the argument y, which can only be passed by name, is or ",
    ),
    "misfit": (with_forward(lambda x: (x, ()), X, 1, 2), "f: too many positional arguments"),
    "no function": (lambda: cr.custom_gradient(3), "custom_gradient: backward must be a function, got a int"),  # type: ignore
    "no arguments": (
        lambda: cr.custom_gradient(lambda x: (x, ()))(X),
        "what is decorated must be a function, got a Tensor: wri",
    ),  # type: ignore
    "exact": (lambda: cr.custom_gradient(straight_through, exact="no"), "custom_gradient: exact must be True or False"),  # type: ignore
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named(name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(UserError, match=message):
        call()
    if "backward function" in message or "forward function" in message:
        with pytest.raises(UserError, match=message):  # while it is traced, too
            cr.compile(call)() if "input" not in name else call()


def test_a_saved_value_of_the_forward_pass_is_differentiated_once_only() -> None:
    @cr.custom_gradient(lambda upstream, slope: upstream * slope)
    def sine(x: cr.Tensor) -> Any:
        return cr.sin(x), (cr.cos(x),)

    (x,) = leaves([np.array([0.5])])
    assert cr.gradcheck(lambda x: sine(x).sum(), np.array([0.5])).error < 1e-5
    (first,) = cr.grad(sine(x).sum(), [x], create_graph=True)
    assert first is not None
    assert np.isclose(first.item(), np.cos(0.5))
    with pytest.raises(UserError, match=rf"sine: its .* <lambda> \({HERE}\) cannot be differentiated again, .* saved value 0"):
        cr.grad(first.sum(), [x])

    @cr.custom_gradient(lambda upstream, mask: upstream * mask)
    def relu(x: cr.Tensor) -> Any:
        return cr.maximum(x, 0), ((x > 0).astype(x.dtype),)  # on which no slope depends, so it may be used

    (first,) = cr.grad((relu(x) ** 2).sum(), [x], create_graph=True)
    assert first is not None
    (second,) = cr.grad(first.sum(), [x])
    assert second is not None
    assert second.item() == 2.0


def test_the_page_shows_what_happens() -> None:
    names: dict[str, Any] = {}
    for printed, shown in programs(PAGE, names):
        assert printed == shown
    assert cr.gradcheck(names["form"], *drawn([(2,), (2, 3), (3,)]), order=2).error < 1e-5
