"""Repetitions, rolls, parts, triangles, borders, masks and elements taken along an axis.

They are held against NumPy in every dtype, node by node, by NumPy alone and compiled; gradients against finite differences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from array_functions import agree, drawn, gradients_are_right
from chainrule import UserError

DTYPES = ["float64", "float32", "bfloat16", "int64", "int32", "uint8", "bool"]


def some(cases: tuple[Any, ...], dtype: str) -> tuple[Any, ...]:
    """All cases in float64, three of them in other dtypes: a move does not look at what it moves."""
    return cases if dtype == "float64" else cases[:3]


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


def exactly(f: Callable[..., cr.Tensor], arrays: list[Any], expected: Any, smooth: bool = True) -> None:
    """Values and, of small arrays of floats, gradients."""
    agree(f, arrays, expected, exact=True)
    if smooth and arrays[0].dtype == np.float64 and 0 < arrays[0].size < 100 and np.size(expected):
        gradients_are_right(lambda x: f(x, *arrays[1:]) ** 2, arrays[0])


# ---- repeat, tile, roll


@pytest.mark.parametrize("dtype", DTYPES)
def test_repeated_elements(dtype: str) -> None:
    for shape in some(((3, 5), (0,), (4,), (2, 0, 3), (2, 3, 4)), dtype):
        x = drawn(shape, dtype)
        for axis in (None, *range(x.ndim), -1):
            size = x.size if axis is None else x.shape[axis]
            for repeats in some((3, list(range(size)), 0, 1, [2], np.full(size, 2)), dtype):
                expected = np.repeat(x, repeats, axis)
                exactly(lambda x, r=repeats, a=axis: x.repeat(r, axis=a), [x], expected)
            exactly(lambda x, a=axis: cr.repeat(x, 2, axis=a), [x], np.repeat(x, 2, axis))
    exactly(lambda x: x.repeat(3, axis=None), [drawn((), dtype)], np.repeat(drawn((), dtype), 3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiles(dtype: str) -> None:
    for shape in some(((3, 5), (0,), (), (7,), (2, 3, 4)), dtype):
        x = drawn(shape, dtype)
        for times in some(((2, 1), 3, (2, 1, 3), 1, 0, (2,), (1, 1, 1, 2), ()), dtype):
            exactly(lambda x, t=times: x.tile(t), [x], np.tile(x, times))
        exactly(lambda x: cr.tile(x, (2, 2)), [x], np.tile(x, (2, 2)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rolls(dtype: str) -> None:
    for shape in some(((3, 5), (0,), (), (7,), (2, 3, 4), (5, 1117)), dtype):
        x = drawn(shape, dtype)
        for shift in some((1, -1000, 0, -1, 12345), dtype):
            for axis in (None, *range(x.ndim), *range(-x.ndim, 0)[:1]):
                exactly(lambda x, s=shift, a=axis: x.roll(s, a), [x], np.roll(x, shift, axis), smooth=shift in (1, -1))
        if x.ndim > 1:
            exactly(lambda x: cr.roll(x, (1, 2), (0, 1)), [x], np.roll(x, (1, 2), (0, 1)))
            exactly(lambda x: cr.roll(x, (1, 2), (-1, -1)), [x], np.roll(x, (1, 2), (-1, -1)))


def test_what_cannot_be_repeated_or_rolled() -> None:
    x = cr.ones((2, 3))
    text = "repeat: repeats must be a whole number of at least 0, or one for each of the 3 elements along axis 1, got "
    for wrong in (-1, 1.5, [1, 2], [1, -2, 0], None, "ab"):
        assert refused(lambda wrong=wrong: x.repeat(wrong, axis=1)) == text + repr(wrong)  # type: ignore[misc]
    habit = "; repeat(2, axis=1) repeats each element, as in NumPy; PyTorch's x.repeat(2, 1) is x.tile((2, 1))"
    assert refused(lambda: x.repeat(2, 1)).endswith(habit)  # type: ignore[call-arg]
    assert refused(lambda: x.repeat(2)).endswith(habit)  # type: ignore[call-arg]
    assert refused(lambda: x.repeat(2, axis=2)) == "repeat: axis 2 is outside a tensor with 2 axes: give -2 to 1"
    for times in (-1, 1.5, (2, -1), "a"):
        assert refused(lambda times=times: x.tile(times)) == (  # type: ignore[misc]
            f"tile: times must be whole numbers of at least 0, such as (2, 1), got {times!r}"
        )
    for shift, axis in ((1.5, 0), ((1, 2), 0), (1, (0, 1)), (None, None), ((1, 2), None)):
        text = f"roll: shift must be a whole number for each axis, got shift {shift!r} and axis {axis!r}"
        assert refused(lambda shift=shift, axis=axis: x.roll(shift, axis)) == text  # type: ignore[misc]


# ---- parts


def parts_agree(f: Callable[[Any], list[cr.Tensor]], x: np.ndarray, expected: list[np.ndarray]) -> None:
    for place, part in enumerate(expected):
        exactly(lambda x, p=place: f(x)[p], [x], part, smooth=place == 0)
    assert len(f(cr.tensor(x))) == len(expected)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "int32", "bool"])
def test_parts(dtype: str) -> None:
    x = drawn((7, 6), dtype)
    parts_agree(lambda x: x.split(sizes=3), x, [x[:3], x[3:6], x[6:]])
    parts_agree(lambda x: x.split(sizes=3, axis=1), x, [x[:, :3], x[:, 3:]])
    parts_agree(lambda x: x.split(sizes=9), x, [x])
    parts_agree(lambda x: cr.split(x, sizes=[2, 0, 5]), x, [x[:2], x[:0], x[2:]])
    parts_agree(lambda x: cr.split(x, sizes=(6,), axis=-1), x, [x])
    for places in ([1, 3], [0, 7], [2], [], [3, 3], [-2], [5, 100]):
        parts_agree(lambda x, p=places: x.split(places=p), x, np.split(x, places))
        parts_agree(lambda x, p=places: np.split(x, p, 1), x, np.split(x, places, 1))
    parts_agree(lambda x: np.split(x, 3, axis=1), x, np.split(x, 3, axis=1))
    parts_agree(lambda x: x.chunk(3), x, [x[:3], x[3:6], x[6:]])
    parts_agree(lambda x: cr.chunk(x, 4, axis=1), x, [x[:, :2], x[:, 2:4], x[:, 4:]])  # as in PyTorch, fewer than asked for
    parts_agree(lambda x: x.chunk(100), x, list(x[:, None].swapaxes(0, 1)[0][:, None].reshape(7, 1, 6)))
    empty = drawn((0, 2), dtype)
    parts_agree(lambda x: x.chunk(2), empty, [empty])
    parts_agree(lambda x: x.split(sizes=2), empty, [empty])


def test_every_part_passes_its_gradient() -> None:
    def f(x: cr.Tensor) -> cr.Tensor:
        first, second, third = x.split(sizes=[1, 2, 1], axis=1)
        return (first * second).sum() + (third**3).sum()

    gradients_are_right(f, drawn((3, 4), "float64"))


def test_what_is_no_way_to_split() -> None:
    x = cr.ones((4, 3))
    habit = "a number means parts in NumPy and a size in PyTorch: write split(sizes=2), split(places=[1, 3]) or chunk(2)"
    assert refused(lambda: x.split(2)).endswith("; " + habit)  # type: ignore[call-arg]
    assert refused(lambda: cr.split(x, [1, 3])).endswith("; " + habit)  # type: ignore[call-arg]
    either = "split: pass either sizes, such as sizes=2 or sizes=[1, 3], or places, such as places=[1, 3]"
    assert refused(lambda: x.split()) == either
    assert refused(lambda: x.split(sizes=2, places=[1])) == either
    assert refused(lambda: x.split(sizes=0)) == ("split: sizes must be a whole number of at least 1, or a list of sizes, got 0")
    for sizes in ([1, 2], [5, -1], [1.5, 2.5], "ab"):
        text = f"split: sizes must be whole numbers that add up to 4, the size of the axis, got {sizes!r}"
        assert refused(lambda sizes=sizes: x.split(sizes=sizes)) == text  # type: ignore[misc]
    assert refused(lambda: x.split(places=[3, 1])) == "split: places must ascend, got [3, 1]"
    assert refused(lambda: x.split(places=2)) == (  # type: ignore[arg-type]
        "split: places must be whole numbers, such as [1, 3], got 2"
    )
    assert refused(lambda: x.chunk(0)) == "chunk: parts must be a whole number of at least 1, got 0"
    assert refused(lambda: np.split(x, 3)) == "np.split: the 4 elements along axis 0 cannot be split into 3 equal parts"


# ---- triangles


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tril", "triu"])
def test_triangles(name: str, dtype: str) -> None:
    for shape in some(((3, 3), (2, 5), (0, 3), (5, 2), (1, 1), (2, 3, 4), (2, 0, 0), (40, 70)), dtype):
        x = drawn(shape, dtype)
        for k in some((0, 1, -1, 3, -100, 100), dtype):
            exactly(lambda x, k=k: getattr(x, name)(k), [x], getattr(np, name)(x, k))
        exactly(getattr(cr, name), [x], getattr(np, name)(x))
    assert (
        refused(lambda: getattr(cr, name)(cr.ones((3,)))) == f"{name}: needs a matrix or several, (..., m, n), got float32[3]"
    )
    assert refused(lambda: getattr(cr.ones((3, 3)), name)(0.5)) == f"{name}: k must be a whole number, got 0.5"


def test_a_triangle_keeps_nan_and_infinity_out() -> None:
    x = np.array([[1.0, np.nan], [2.0, np.inf]])
    agree(lambda x: x.tril(-1), [x], [[0.0, 0.0], [2.0, 0.0]], exact=True)
    given = cr.tensor(x, requires_grad=True)
    (found,) = cr.grad(given.tril(-1).sum(), given)
    assert found is not None
    assert found.tolist() == [[0, 0], [1, 0]]


# ---- borders


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
def test_borders(mode: Any, dtype: str) -> None:
    cases = (
        ((3, 4), [(1, 0), (2, 3)]),
        ((2, 3, 4, 5), [(0, 0), (0, 0), (1, 1), (2, 2)]),
        ((2,), [(40, 40)]),
        ((5,), [(0, 0)]),
        ((5,), [(2, 3)]),
        ((5,), [(0, 1)]),
        ((1,), [(2, 3)]),
        ((2,), [(5, 4)]),
        ((3, 4), [(9, 8), (0, 7)]),
        ((0, 3), [(0, 0), (1, 1)]),
    )
    for shape, width in some(cases, dtype):
        x = drawn(shape, dtype)
        exactly(lambda x, w=width: x.pad(w, mode=mode), [x], np.pad(x, width, mode))
        if dtype != "bool":
            exactly(lambda x, w=width: np.pad(x, w, mode), [x], np.pad(x, width, mode))


def test_a_border_that_is_none() -> None:
    x = cr.ones((2, 3))
    ones = [(1, 1), (1, 1)]
    assert refused(lambda: x.pad(ones, mode="replicate")) == "pad: mode 'replicate' is called 'edge' here, as in NumPy"
    assert refused(lambda: x.pad(ones, mode="circular")) == "pad: mode 'circular' is called 'wrap' here, as in NumPy"
    assert refused(lambda: x.pad(ones, mode="reflekt")) == (
        "unknown mode of pad 'reflekt': did you mean 'reflect'? Known: constant, edge, reflect, wrap"
    )
    assert refused(lambda: x.pad([(1, 1), (-1, 0)], mode="edge")) == (
        "pad: widths must not be negative, got ((1, 1), (-1, 0)): slice to cut"
    )
    assert refused(lambda: cr.ones((2, 0)).pad(ones, mode="wrap")) == (
        "pad: axis 1 of float32[4, 0] has no elements to repeat: only mode 'constant' adds some"
    )
    assert refused(lambda: x.pad([(1, 1)], mode="edge")) == (
        "pad: width must give two whole numbers, (before, after), for each of the 2 axes of float32[2, 3], got [(1, 1)]"
    )
    np.testing.assert_array_equal(x.pad(ones, 7.0).numpy(), np.pad(np.ones((2, 3)), 1, constant_values=7))


# ---- masks


@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_where_the_numbers_are_known(dtype: str) -> None:
    for shape in ((7,), (3, 5), (0,), (2, 3, 4)):
        x = drawn(shape, dtype)
        for mask in (x > 1, x > 100, x == x, (drawn(shape, "float64", 1) > 0)):
            expected = x[mask]
            for engine in ("native", "reference"):
                with cr.engine(engine):
                    for given in (mask, cr.tensor(mask), mask.tolist() if mask.size else mask):
                        np.testing.assert_array_equal(cr.tensor(x)[given].numpy(), expected)
            agree(lambda x, m=mask: x[m], [x], expected, exact=True)  # a constant of a compiled function
    rows = np.array([True, False, True])
    x = drawn((3, 5, 2), dtype)
    exactly(lambda x: x[rows], [x], x[rows])
    exactly(lambda x: x[rows, 1:], [x], x[rows, 1:])
    exactly(lambda x: x[:, [True, False, True, False, False]], [x], x[:, [True, False, True, False, False]])


def test_gradients_through_masks() -> None:
    x = drawn((4, 5), "float64")
    gradients_are_right(lambda x: x[np.eye(4, 5, dtype=bool)] ** 3, x)
    given = cr.tensor(x, requires_grad=True)
    (found,) = cr.grad((given[given > 0] ** 2).sum(), given)  # a mask of the tensor's own numbers
    assert found is not None
    np.testing.assert_allclose(found.numpy(), np.where(x > 0, 2 * x, 0))


def test_a_mask_whose_numbers_are_not_known_is_refused_with_the_remedy() -> None:
    text = (
        "a bool array as an index gives a result whose size depends on its numbers, which a compiled function does not know: "
        "write cr.where(mask, x, 0), which keeps the shape"
    )
    assert refused(lambda: cr.compile(lambda x: x[x > 0])(np.ones(3))) == text
    assert refused(lambda: cr.trace(lambda x: x[x > 0], cr.ones((3,)))) == text
    found = cr.compile(lambda x: cr.where(x > 0, x, 0).sum())(np.array([1.0, -5.0, 2.0]))
    assert found.item() == 3


# ---- elements along an axis


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_taken_along_an_axis(dtype: str) -> None:
    for shape, sizes, axis in (
        ((5,), (3,), 0),
        ((3, 5), (3, 2), 1),
        ((3, 5), (3, 7), -1),
        ((3, 5), (4, 5), 0),
        ((3, 5), (1, 2), 1),
        ((1, 5), (4, 2), 1),
        ((2, 3, 4), (2, 6, 4), 1),
        ((2, 3, 4), (2, 3, 0), 2),
        ((3, 5), (9,), None),
    ):
        x = drawn(shape, dtype)
        length = x.size if axis is None else shape[axis]
        places = np.random.default_rng(1).integers(-length, length, sizes)
        expected = np.take_along_axis(x, places, axis)
        exactly(lambda x, p=places, a=axis: cr.take_along_axis(x, p, a), [x], expected)
        for index_dtype in ("int64", "int32"):
            agree(lambda x, p, a=axis: cr.take_along_axis(x, p, a), [x, places.astype(index_dtype)], expected, exact=True)


def test_gradients_of_an_element_that_is_taken_twice_add_up() -> None:
    x = cr.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    (found,) = cr.grad(cr.take_along_axis(x, [[1, 1, -2, 0]], 1).sum(), x)
    assert found is not None
    assert found.tolist() == [[1, 3, 0]]


def test_what_cannot_be_taken_along_an_axis() -> None:
    x = cr.ones((2, 3))
    text = "take_along_axis: indices must be integers in the shape of float32[2, 3], of any size along axis 1, got "
    assert refused(lambda: cr.take_along_axis(x, [0, 1], 1)) == text + "int64[2]"
    assert refused(lambda: cr.take_along_axis(x, [[0], [1], [2]], 1)) == text + "int64[3, 1]"
    assert refused(lambda: cr.take_along_axis(x, [[0.0], [1.0]], 1)) == text + "float32[2, 1]"
    assert refused(lambda: cr.take_along_axis(x, [[0], [3]], 1)) == "index 3 at [1, 0] is outside axis 1, which has 3 elements"
    compiled = cr.compile(lambda x, p: cr.take_along_axis(x, p, 1))
    assert refused(lambda: compiled(x, np.array([[0], [-4]]))) == "index -4 at [1, 0] is outside axis 1, which has 3 elements"
