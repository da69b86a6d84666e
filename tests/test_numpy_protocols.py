"""NumPy's functions on tensors: what stays in the graph, what only looks, and that nothing else takes a gradient away."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.fft
import numpy.lib.recfunctions
import pytest
from numpy.testing import overrides

import chainrule as cr
from chainrule import UserError
from chainrule.tensor import Tensor
from chainrule.tensor.numpy_protocols import FUNCTIONS, INSTEAD, LOOKING_FUNCTIONS, LOOKING_UFUNCS, UFUNCS

X = np.array([[0.5, 2.0, 0.25], [1.5, 0.75, 3.0]], np.float32)
Y = np.array([[2.0, 1.0, 0.5]], np.float32)


def asking(array: Any) -> cr.Parameter:
    return cr.Parameter(np.asarray(array, np.float32))


# ---- 1. what the library has is in the graph

BOOLS = (np.array([True, False, True]), np.array([[True], [False]]))
UFUNC_CALLS: dict[np.ufunc, tuple[Any, ...]] = {
    **{one: (X, Y) for one in UFUNCS if one.nin == 2},
    **{one: (X,) for one in UFUNCS if one.nin == 1},
    np.bitwise_and: BOOLS,
    np.bitwise_or: BOOLS,
    np.invert: BOOLS[:1],
    np.matmul: (X, Y.T),
}
FUNCTION_CALLS: dict[Any, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    np.all: [((X,), {}), ((X, 1), {"keepdims": True})],
    np.amax: [((X,), {"axis": 0})],
    np.amin: [((X,), {"axis": 0})],
    np.any: [((X,), {}), ((X, 1), {})],
    np.argmax: [((X,), {}), ((X, 1), {}), ((X,), {"axis": 0, "out": None})],
    np.argmin: [((X,), {}), ((X, 1), {})],
    np.argsort: [((X,), {}), ((X, 0), {"kind": "stable"}), ((X,), {"axis": None})],
    np.astype: [((X, np.float64), {})],
    np.broadcast_to: [((Y, (4, 1, 3)), {}), ((Y[0, 0], 3), {})],
    np.clip: [((X, 0.4, 1.2), {}), ((X,), {"max": 1}), ((X, None, 2.5), {}), ((X,), {"a_min": 1, "a_max": 2})],
    np.concatenate: [(([X, Y],), {}), (([X, X], 1), {}), (([X, Y],), {"axis": None})],
    np.copy: [((X,), {}), ((X,), {"order": "K"})],
    np.cumsum: [((X,), {}), ((X, 1), {}), ((X,), {"axis": -2})],
    np.dot: [((X, Y.T), {}), ((X, Y[0]), {}), ((Y[0, 0], X), {}), ((np.stack([X, X]), Y[0]), {})],
    np.einsum: [(("ij,kj->ik", X, Y), {}), (("ij,ij", X, X), {"optimize": True}), (("ij->ji", X), {})],
    np.expand_dims: [((X, 1), {})],
    np.flip: [((X,), {}), ((X, 1), {})],
    np.full_like: [((X, 2.5), {}), ((X,), {"fill_value": Y, "dtype": np.float64})],
    np.linalg.norm: [
        ((X,), {}),
        ((X, "fro"), {}),
        ((X, 1, 0), {}),
        ((X,), {"axis": (0, 1), "keepdims": True}),
        ((X[0], 2), {}),
    ],
    np.max: [((X,), {}), ((X, (0, 1)), {"keepdims": True})],
    np.mean: [((X,), {}), ((X, 1), {}), ((X,), {"axis": (0, 1), "keepdims": True, "where": True})],
    np.min: [((X,), {}), ((X,), {"axis": -1, "keepdims": np._NoValue})],
    np.ndim: [((X,), {})],
    np.ones_like: [((X,), {}), ((X,), {"dtype": np.int64})],
    np.pad: [
        ((X, 1), {}),
        ((X, ((0, 1), (2, 0))), {"constant_values": 0.5}),
        ((X, (1, 2), "constant"), {}),
        ((X, 1, "edge"), {}),
    ],
    np.prod: [((X,), {}), ((X, 1), {"keepdims": True})],
    np.ravel: [((X,), {}), ((X[0, 0],), {"order": "C"})],
    np.repeat: [((X, 2), {}), ((X, [1, 2]), {"axis": 0})],
    np.reshape: [((X, (3, 2)), {}), ((X, -1), {})],
    np.roll: [((X, 1), {}), ((X, -1), {"axis": 1})],
    np.round: [((X,), {}), ((X, 1), {}), ((X,), {"decimals": -1})],
    np.shape: [((X,), {})],
    np.size: [((X,), {}), ((X, 1), {})],
    np.sort: [((X,), {}), ((X, 0), {}), ((X,), {"axis": None})],
    np.split: [((X, 2), {}), ((X, [1]), {"axis": 1})],
    np.squeeze: [((Y,), {}), ((Y, 0), {})],
    np.stack: [(([X, X],), {}), (([X, X], -1), {})],
    np.std: [((X,), {}), ((X, 1), {"ddof": 1, "keepdims": True})],
    np.sum: [((X,), {}), ((X, 0), {}), ((X,), {"axis": -1, "keepdims": True, "dtype": None, "out": None})],
    np.swapaxes: [((X, 0, 1), {})],
    np.take_along_axis: [((X, np.array([[1], [0]])), {"axis": 1}), ((X, np.array([1]), None), {})],
    np.tile: [((X, (2, 1)), {}), ((X, 2), {})],
    np.transpose: [((X,), {}), ((X, (1, 0)), {})],
    np.tril: [((X,), {}), ((X, -1), {})],
    np.triu: [((X,), {}), ((X,), {"k": 1})],
    np.var: [((X,), {}), ((X, 1), {"ddof": 1, "keepdims": True})],
    np.where: [((X > 1, X, Y), {}), ((X > 1, X, 0.0), {})],
    np.zeros_like: [((X,), {})],
}
CONSTANTS = {np.ceil, np.floor, np.floor_divide, np.full_like, np.ones_like, np.rint, np.round, np.sign, np.zeros_like}
"""Whose derivative is 0."""


def with_tensors(value: Any) -> Any:
    """Float arrays as parameters, bool ones as tensors."""
    if isinstance(value, np.ndarray | np.generic):
        return asking(value) if value.dtype.kind == "f" else cr.tensor(value)
    return [with_tensors(one) for one in value] if isinstance(value, list) else value


def check_answer(answer: Any, expected: Any, constant: bool = False) -> None:
    if isinstance(expected, list):
        for one, other in zip(answer, expected, strict=True):
            check_answer(one, other, constant)
        return
    if not isinstance(expected, np.ndarray | np.generic):
        assert type(answer) is type(expected)
        assert answer == expected
        return
    assert type(answer) is Tensor
    assert answer.shape == expected.shape
    np.testing.assert_allclose(answer.numpy(), expected, rtol=1e-6)
    assert answer.requires_grad == (expected.dtype.kind == "f" and not constant)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda ufunc: ufunc.__name__)
def test_a_ufunc_that_the_library_has_gives_a_tensor_in_the_graph_with_numpys_numbers(ufunc: np.ufunc) -> None:
    arrays = UFUNC_CALLS[ufunc]
    if ufunc is np.sign:
        arrays = (X - 1,)
    tensors = [with_tensors(one) for one in arrays]
    expected, constant = ufunc(*arrays), ufunc in CONSTANTS
    check_answer(ufunc(*tensors), expected, constant)
    check_answer(ufunc(*tensors, out=None, casting="same_kind"), expected, constant)
    if len(arrays) == 2:  # an array on either side
        check_answer(ufunc(arrays[0], tensors[1]), expected, constant)
        check_answer(ufunc(tensors[0], arrays[1]), expected, constant)


def test_the_calls_above_are_of_all_functions_that_the_library_has() -> None:
    assert set(FUNCTION_CALLS) == set(FUNCTIONS)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_function_that_the_library_has_gives_a_tensor_in_the_graph_with_numpys_numbers(function: Callable[..., Any]) -> None:
    for args, options in FUNCTION_CALLS[function]:
        expected = function(*args, **options)
        tensors, tensor_options = [with_tensors(one) for one in args], {key: with_tensors(one) for key, one in options.items()}
        fill_is_tensor = any(isinstance(one, Tensor) for one in tensor_options.values())
        answer = function(*tensors, **tensor_options)
        check_answer(answer, expected, constant=function in CONSTANTS and not fill_is_tensor)


def test_gradients_arrive_through_numpys_functions() -> None:
    w = asking([0.5, -1.0, 2.0])
    loss = np.sum(np.exp(w) * np.maximum(w, 0)) + np.mean(np.stack([w, w * 3])) + np.dot(np.float32([1, 2, 3]), w)
    loss.backward()
    x = np.array([0.5, -1.0, 2.0])
    by_hand = np.where(x > 0, np.exp(x) * (x + 1), 0) + 4 / 6 + np.array([1, 2, 3])
    np.testing.assert_allclose(w.grad, by_hand, rtol=1e-6)


def test_operators_with_an_array_or_a_numpy_scalar_on_the_left() -> None:
    w = asking([1.0, 2.0])
    array = np.array([3.0, 4.0], np.float32)
    for answer, expected in (
        (array + w, [4, 6]),
        (array - w, [2, 2]),
        (array * w, [3, 8]),
        (array / w, [3, 2]),
        (array**w, [3, 16]),
        (array @ w, 11),
        (np.float32(2) * w, [2, 4]),
        (np.float64(2) ** w, [2, 4]),  # weak, as any Python float: the result is float32
        (np.int64(2) - w, [1, 0]),
    ):
        assert isinstance(answer, Tensor)
        assert answer.requires_grad
        np.testing.assert_allclose(answer, expected, rtol=1e-6)
    assert (np.float64(2) ** w).dtype == cr.float32
    assert (array == w).tolist() == [False, False]
    assert (array > w).tolist() == [True, True]


def test_numpys_functions_are_traced_and_compiled() -> None:
    w = asking([[1.0, -2.0], [0.5, 3.0]])

    @cr.compile
    def f(x: Tensor) -> Tensor:
        assert np.shape(x) == (2, 2)
        loss = np.sum(np.where(np.maximum(x @ w, 0) > 1, np.exp(-w), np.zeros_like(x)))
        loss.backward()
        return loss

    x = np.eye(2, dtype=np.float32)
    loss = f(x)
    np.testing.assert_allclose(loss, np.exp(-3.0), rtol=1e-6)
    np.testing.assert_allclose(w.grad, [[0, 0], [0, -np.exp(-3.0)]], rtol=1e-6)


# ---- 2. what only looks

LOOKING_CALLS: dict[Any, tuple[Any, ...]] = {
    **dict.fromkeys((np.signbit,), (X,)),
    **dict.fromkeys((np.allclose, np.array_equal, np.array_equiv, np.isclose, np.isin), (X, X)),
    **dict.fromkeys((np.iscomplex, np.iscomplexobj, np.isneginf, np.isposinf, np.isreal, np.isrealobj), (X,)),
    **dict.fromkeys((np.argwhere, np.count_nonzero, np.flatnonzero, np.lexsort, np.nonzero), (X,)),
    **dict.fromkeys((np.nanargmax, np.nanargmin, np.tril_indices_from, np.triu_indices_from), (X,)),
    **dict.fromkeys((np.common_type, np.min_scalar_type, np.result_type, np.linalg.matrix_rank), (X,)),
    **dict.fromkeys((np.array2string, np.array_repr, np.array_str), (X,)),
    np.argpartition: (X[0], 1),
    np.can_cast: (X, np.float64),
    np.diag_indices_from: (X[:, :2],),
    np.digitize: (X, np.float32([0, 1, 2])),
    np.einsum_path: ("ij,kj->ik", X, X),
    np.may_share_memory: (X, Y),
    np.searchsorted: (np.float32([1, 2, 3]), X),
    np.shares_memory: (X, Y),
}
SAVING = {np.save, np.savetxt, np.savez, np.savez_compressed}


def test_the_calls_above_are_of_all_functions_that_look() -> None:
    assert set(LOOKING_CALLS) | SAVING | {np.isnat} == LOOKING_FUNCTIONS | LOOKING_UFUNCS


@pytest.mark.parametrize("function", LOOKING_CALLS, ids=lambda function: function.__name__)
def test_a_function_that_looks_answers_as_for_an_array(function: Callable[..., Any]) -> None:
    args = LOOKING_CALLS[function]
    answer, expected = function(*map(with_tensors, args)), function(*args)
    assert holds_no_floats(answer)
    assert repr(answer) == repr(expected)
    assert repr(np.where(asking(X))) == repr(np.where(X))


def test_what_saves_takes_the_numbers(tmp_path: Path) -> None:
    w = asking(X)
    np.save(tmp_path / "a.npy", w)
    np.savetxt(tmp_path / "a.txt", w)
    np.savez(tmp_path / "a.npz", w, w=w)
    np.savez_compressed(tmp_path / "b.npz", w=w)
    for saved in (
        np.load(tmp_path / "a.npy"),
        np.loadtxt(tmp_path / "a.txt"),
        np.load(tmp_path / "a.npz")["w"],
        np.load(tmp_path / "b.npz")["w"],
    ):
        np.testing.assert_array_equal(saved, X)


def test_a_time_is_asked_of_the_numbers_too_and_refused_by_numpy() -> None:
    with pytest.raises(TypeError, match="ufunc 'isnat' is only defined for"):
        np.isnat(asking(X))


def test_numpys_own_tests_take_tensors() -> None:
    w = asking(X)
    np.testing.assert_allclose(w, X)
    np.testing.assert_array_equal(w, X)
    np.testing.assert_equal(w, X)
    np.testing.assert_array_almost_equal(w, X)
    np.testing.assert_array_less(w - 1, X)
    np.testing.assert_array_max_ulp(w.numpy(), w)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        np.testing.assert_allclose(w, X + 1)
    assert w.numpy() == pytest.approx(w)
    np.testing.assert_array_equal(np.asarray(w), X)
    np.testing.assert_array_equal(np.array([w, w]), [X, X])
    assert np.mean([w, w]) == pytest.approx(X.mean())  # NumPy converts the list before anybody is asked


# ---- 3. nothing else takes a gradient away


def holds_no_floats(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return all(map(holds_no_floats, value))
    return not isinstance(value, float | np.inexact) and not (isinstance(value, np.ndarray) and value.dtype.kind in "fcOV")


def stays(function: Any, value: Any) -> bool:
    """Whether what a call gave is in the graph, or has no gradient."""
    if isinstance(value, Tensor):
        return value.requires_grad or value.dtype.kind in "biu" or function in CONSTANTS
    return holds_no_floats(value)


UFUNC_USES: list[Callable[[np.ufunc, Tensor], Any]] = [
    lambda u, w: u(*([w] * u.nin)),
    lambda u, w: u(w, *([w.numpy()] * (u.nin - 1))),
    lambda u, w: u(*([w.numpy()] * (u.nin - 1)), w),
    lambda u, w: u.reduce(w),
    lambda u, w: u.accumulate(w),
    lambda u, w: u.reduceat(w, [0, 1]),
    lambda u, w: u.outer(w, w),
    lambda u, w: u.outer(w.numpy(), w),
    lambda u, w: u.at(w.numpy().copy(), [0], w[:1]),
    lambda u, w: u(*([w] * u.nin), out=(w.numpy().copy(),) * u.nout),
]


@pytest.mark.parametrize("ufunc", sorted(overrides.get_overridable_numpy_ufuncs(), key=lambda one: one.__name__), ids=str)
def test_no_ufunc_takes_the_gradient_of_a_parameter_away(ufunc: np.ufunc) -> None:
    w, answers = asking([[0.5, 0.25], [0.75, 0.1]]), []
    for use in UFUNC_USES:
        try:
            answers.append(use(ufunc, w))
        except (TypeError, ValueError, RuntimeError):  # a UserError, which is a ValueError, or NumPy knows no such method of it
            continue
    assert all(stays(ufunc, one) for one in answers)
    on_floats = ufunc not in (np.bitwise_and, np.bitwise_or, np.invert)
    assert bool(answers) == ((ufunc in UFUNCS and on_floats) or ufunc in LOOKING_UFUNCS - {np.isnat})


PATTERNS: list[Callable[[Any, Any], tuple[Any, ...]]] = [
    lambda v, m: (v,),
    lambda v, m: (m,),
    lambda v, m: (v, v),
    lambda v, m: (m, m),
    lambda v, m: (v, v, v),
    lambda v, m: (v, v, v, v),
    lambda v, m: ([v, v],),
    lambda v, m: ([m, m],),
    lambda v, m: (v.numpy(), v),
    lambda v, m: (v, v.numpy()),
    lambda v, m: (v.numpy().copy(), [0], v[:1]),
    lambda v, m: (v.numpy().copy(), v.numpy() > 0, v),
    lambda v, m: (v.numpy() > 0, v),
    lambda v, m: (v, 1),
    lambda v, m: (m, 1),
    lambda v, m: (v, 1, 0),
    lambda v, m: (m, 0, 1),
    lambda v, m: (v, [0]),
    lambda v, m: (v, [0], 0),
    lambda v, m: (v, 1, v),
    lambda v, m: (1, v),
    lambda v, m: (v, 2, 1),
    lambda v, m: ([0, 1, 0], v),
    lambda v, m: ([v.numpy() > 0, v.numpy() < 0], [v, v]),
    lambda v, m: (np.zeros((2, 2), int), m, 0),
    lambda v, m: ("i,i", v, v),
    lambda v, m: (np.sum, 0, m),
    lambda v, m: (np.sum, m, [0]),
    lambda v, m: (v, [v.numpy() > 0], [v]),
    lambda v, m: (m.numpy().copy(), np.zeros((2, 2), int), m, 0),
]
NO_TENSORS = {  # they take none: they make arrays of numbers, texts or files, or are about dates
    *(
        "arange",
        "array",
        "asanyarray",
        "asarray",
        "ascontiguousarray",
        "asfortranarray",
        "empty",
        "eye",
        "frombuffer",
        "fromfile",
    ),
    *("fromfunction", "fromiter", "fromstring", "full", "genfromtxt", "identity", "loadtxt", "ones", "require", "tri", "zeros"),
}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The functions of NumPy that asked a tensor."""
    asked: list[Any] = []
    protocol = Tensor.__array_function__

    def noting(self: Tensor, function: Any, *rest: Any) -> Any:
        asked.append(function)
        return protocol(self, function, *rest)

    monkeypatch.setattr(Tensor, "__array_function__", noting)
    return asked


def test_no_array_function_takes_the_gradient_of_a_parameter_away(called: list[Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    v, m = asking([0.5, 0.25, 0.75, 0.1]), asking([[2.0, 0.25], [0.25, 3.0]])
    functions = [one for one in overrides.get_overridable_numpy_array_functions() if one not in SAVING]
    lost, reached = [], set()
    for function in functions:
        for pattern in PATTERNS:
            args = pattern(v, m)
            called.clear()
            try:
                with np.errstate(all="ignore"):
                    answer = function(*args)
            except (TypeError, ValueError, IndexError, AttributeError, OSError, Warning):  # a UserError, or NumPy's own
                answer = None
            reached.update(called)
            is_dtype = function is np.astype and not isinstance(args[0], Tensor)  # of the tensor only the dtype is asked
            if function in called and not stays(function, answer) and not is_dtype:
                lost.append((function.__module__, function.__name__, args, answer))
    assert not lost, "\n".join(map(str, lost))
    assert {one.__name__ for one in functions if one not in reached} <= NO_TENSORS


def test_what_is_refused_names_what_to_use() -> None:
    w = asking([1.0, 2.0])
    for call, text in (
        (
            lambda: np.cosh(w),
            "np.cosh: is no function of chainrule, and float32[2], which asks for a gradient, would leave the graph: "
            "use (cr.exp(x) + cr.exp(-x)) / 2, or np.cosh(x.numpy()) for the numbers alone",
        ),
        (
            lambda: np.linalg.norm(asking(X), 1),
            "np.linalg.norm: ord=1 is a norm of matrices for float32[2, 3]: that of all elements is x.norm(1)",
        ),
        (
            lambda: np.linalg.norm(asking(X), 2, (0, 1)),
            "np.linalg.norm: ord=2 is a norm of matrices for float32[2, 3]: that of all elements is x.norm(2)",
        ),
        (
            lambda: np.cumprod(w),
            "np.cumprod: is no function of chainrule, and float32[2], which asks for a gradient, would leave the graph: "
            "compute it with functions of chainrule, or use np.cumprod(x.numpy()) for the numbers alone",
        ),
        (
            lambda: np.add.reduce(w),
            "np.add.reduce: is no function of chainrule, and float32[2], which asks for a gradient, would leave the graph: "
            "use x.sum(axis=0), or np.add.reduce(x.numpy()) for the numbers alone",
        ),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value) == text


@pytest.mark.parametrize("shape", [(4,), (2, 2), (2, 2, 2)], ids=str)
@pytest.mark.parametrize("name", INSTEAD)
def test_what_is_named_instead_gives_the_same_numbers_and_a_gradient(name: str, shape: tuple[int, ...]) -> None:
    """With several axes too: some functions flatten, and some go along the last axis."""
    rng = np.random.default_rng(0)
    x, y = (0.25 + rng.random(shape) for _ in range(2))
    if name == "inner" and len(shape) == 3:  # a product of matrices for every pair
        return
    expression, indices = INSTEAD[name], np.array([2, 0])
    known = {"erf": np.vectorize(math.erf), "expit": lambda x: 1 / (1 + np.exp(-x))}
    if name in known:
        expected = known[name](x)
    elif name == "take":
        expected = np.take(x, indices)
    elif "." in name:
        ufunc, method = name.split(".")
        expected = getattr(getattr(np, ufunc), method)(x)
    elif name in ("hstack", "vstack"):
        expected = getattr(np, name)([x, y])
    else:
        function = getattr(np, name, None) or getattr(np.linalg, name)
        expected = function(x, y) if "y" in re.findall(r"\w+", expression) else function(x)
    tensor = cr.tensor(x, requires_grad=True)
    answer = eval(expression, {"cr": cr, "math": math, "x": tensor, "y": cr.tensor(y), "indices": indices, "np": np})
    np.testing.assert_allclose(answer, expected, rtol=1e-12)
    assert answer.shape == np.shape(expected)
    assert answer.requires_grad or name == "heaviside"


@pytest.mark.parametrize("name", ["fmax", "fmin", "nan_to_num"])
def test_what_is_named_instead_treats_numbers_that_are_none_alike(name: str) -> None:
    x, y = np.array([np.nan, 1.0, np.nan, np.inf, -np.inf]), np.array([2.0, np.nan, np.nan, 1.0, 1.0])
    expected = np.nan_to_num(x) if name == "nan_to_num" else getattr(np, name)(x, y)
    answer = eval(INSTEAD[name], {"cr": cr, "x": cr.tensor(x), "y": cr.tensor(y), "np": np})
    np.testing.assert_array_equal(answer.numpy(), expected)


# ---- a tensor without a gradient, options, and writing


def test_a_tensor_that_asks_for_no_gradient_is_an_array_to_what_the_library_does_not_have() -> None:
    x, w = cr.tensor(X), asking(X)
    for answer in (np.median(x), np.cumprod(x, axis=1), np.cosh(x), np.linalg.det(x @ x.T), np.add.reduce(x)):
        assert isinstance(answer, np.ndarray | np.generic)
    assert np.median(x) == np.median(X)
    np.testing.assert_array_equal(np.add.outer(x, x), np.add.outer(X, X))
    quotient, rest = np.divmod(X, x)
    assert np.all(quotient == 1)
    assert np.all(rest == 0)
    with cr.no_grad():
        assert np.median(w) == np.median(X)
        np.testing.assert_array_equal(np.histogram(w, 2)[0], np.histogram(X, 2)[0])
    np.testing.assert_array_equal(np.rint(w.detach()), np.rint(X))


def test_a_traced_tensor_has_no_numbers_to_look_at() -> None:
    @cr.compile
    def f(x: Tensor) -> Any:
        return np.median(x)

    with pytest.raises(UserError, match="was asked for while tracing"):
        f(X)


def test_an_array_is_written_by_tensors_that_ask_for_no_gradient_and_by_no_others() -> None:
    w, x = asking([1.0, 2.0]), cr.tensor([1.0, 2.0])
    array = np.array([3.0, 4.0], np.float32)
    before = array
    array += x
    array -= np.float32(2) * x
    assert array is before
    assert array.tolist() == [2, 2]
    np.multiply(array, x, out=array)
    np.add.at(array, [0, 0], x)
    np.sum(np.stack([x, x]), axis=0, out=before[:])
    assert array.tolist() == [2, 4]
    for write in (
        lambda: array.__iadd__(w),
        lambda: np.multiply(array, w, out=array),
        lambda: np.exp(w, out=array),
        lambda: np.add.at(array, [0, 1], w),
    ):
        with pytest.raises(
            UserError, match=r"np\.\w+(\.at)?: would write float32\[2\], which asks for a gradient, into an array"
        ):
            write()
    with pytest.raises(UserError, match=r"np\.sum: would write float32\[2\], which asks for a gradient, into out="):
        np.sum(w, axis=0, out=np.zeros((), np.float32))
    with pytest.raises(UserError, match=r"np\.copyto: is no function of chainrule, and float32\[2\], which asks"):
        np.copyto(array, w)
    assert array.tolist() == [2, 4]


def test_a_tensor_is_never_written() -> None:
    x = cr.tensor([1.0, 2.0])
    for write in (lambda: np.add(x, 1, out=x), lambda: np.exp(np.ones(2), out=x), lambda: np.add.at(x, [0], 1)):
        with pytest.raises(UserError, match=r"would write into float32\[2\], but a tensor never changes: use what it returns"):
            write()
    with pytest.raises((ValueError, TypeError)):
        np.copyto(x, np.ones(2))
    with pytest.raises((ValueError, TypeError)):
        np.sum(np.ones((2, 2)), axis=0, out=x)
    assert x.tolist() == [1, 2]


def test_options_that_the_library_does_not_have_are_refused() -> None:
    w = asking([1.0, 2.0])
    for call, text in (
        (lambda: np.exp(w, where=np.array([True, False])), "np.exp: where= is not taken .*: choose with cr.where"),
        (lambda: np.add(w, 1, dtype=np.float64), r"np.add: dtype= is not taken .*: convert with .astype\(dtype\)"),
        (lambda: np.sum(w, dtype=np.float64), r"np.sum: dtype= is not taken .*: convert with .astype\(dtype\)"),
        (lambda: np.max(w, initial=0.0), r"np.max: initial= is not taken .*: leave it away, or take x.numpy\(\)"),
        (lambda: np.mean(np.ones(2), where=w > 1), "np.mean: where= is not taken .*: choose with cr.where"),
        (lambda: np.sum(w, 0, np.float64), "np.sum: takes a, axis, keepdims where .*, got 3 positional ones: give options by"),
        (lambda: np.pad(w, 1, "symmetric"), "unknown mode of pad 'symmetric': .*Known: constant, edge, reflect, wrap"),
        (lambda: np.reshape(w, (1, 2), order="F"), "np.reshape: order= is not taken"),
        (lambda: np.dot(w, np.ones((2, 2, 2))), r"np.dot: the second operand is float64\[2, 2, 2\]: .* use x @ y"),
        (lambda: np.zeros(3, like=w), r"np.zeros: makes no tensors, like= or not: use cr.zeros\(...\)"),
        (lambda: np.asarray([1.0], like=w), r"np.asarray: makes no tensors, like= or not: use cr.tensor\(...\)"),
    ):
        with pytest.raises(UserError, match=text):
            call()


def test_another_library_with_the_protocol_decides_about_its_own() -> None:
    class Other:
        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> str:
            return f"other {ufunc.__name__}"

        def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> str:
            return f"other {function.__name__}"

    w = asking([1.0])
    assert np.add(w, Other()) == "other add"
    assert np.concatenate([w, Other()]) == "other concatenate"
