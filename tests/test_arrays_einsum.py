"""Sums of products by subscripts against NumPy's, with gradients of first and second order, and what they are lowered to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from array_functions import agree, drawn, gradients_are_right
from chainrule import UserError

CASES: list[tuple[str, list[tuple[int, ...]]]] = [
    ("i->i", [(4,)]),
    ("i->", [(4,)]),
    ("ij->ji", [(2, 3)]),
    ("ij", [(2, 3)]),
    ("ji", [(2, 3)]),
    ("ijk->kj", [(2, 3, 4)]),
    ("ii->i", [(3, 3)]),
    ("ii", [(3, 3)]),
    ("iij->ij", [(3, 3, 2)]),
    ("iji->j", [(3, 2, 3)]),
    ("iii->i", [(3, 3, 3)]),
    ("ijij->ij", [(2, 3, 2, 3)]),
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("ij,jk", [(2, 3), (3, 4)]),
    ("ij,kj->ik", [(2, 3), (4, 3)]),
    ("ij,kj->ki", [(2, 3), (4, 3)]),
    ("ji,jk->ik", [(3, 2), (3, 4)]),
    ("i,i", [(5,), (5,)]),
    ("i,j->ij", [(2,), (3,)]),
    ("i,j->ji", [(2,), (3,)]),
    ("i,ij->j", [(2,), (2, 3)]),
    ("ij,ij->ij", [(2, 3), (2, 3)]),
    ("ij,ij->i", [(2, 3), (2, 3)]),
    ("ij,j->ij", [(2, 3), (3,)]),
    ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
    ("bij,jk->bik", [(2, 3, 4), (4, 5)]),
    ("bhqd,bhkd->bhqk", [(2, 3, 4, 2), (2, 3, 5, 2)]),
    ("bhqk,bhkd->bqhd", [(2, 3, 4, 5), (2, 3, 5, 2)]),
    ("nchw,oc->nohw", [(2, 3, 2, 2), (4, 3)]),
    ("ijk,ijl->kl", [(2, 3, 4), (2, 3, 5)]),
    ("ijk,jil->kl", [(2, 3, 4), (3, 2, 5)]),
    ("ij,kl->", [(2, 3), (2, 2)]),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
    ("ij,jk,k", [(2, 3), (3, 4), (4,)]),
    ("i,i,i->i", [(3,), (3,), (3,)]),
    ("i,i,i", [(3,), (3,), (3,)]),
    ("ab,cd,ef->eca", [(2, 3), (2, 3), (2, 3)]),
    ("ii,ij->j", [(3, 3), (3, 2)]),
    ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 5)]),
    ("...ij,...jk->...ik", [(2, 2, 3), (3, 2)]),
    ("...ij,...jk", [(5, 1, 2, 3), (4, 3, 2)]),
    ("...i,i->...", [(2, 3, 4), (4,)]),
    ("i...->...i", [(2, 3, 4)]),
    ("...ii->...i", [(2, 3, 3)]),
    ("...,...", [(2, 3), (3,)]),
    ("i...j,j->...", [(2, 3, 4), (4,)]),
    ("ij,jk->ik", [(2, 1), (3, 4)]),  # an axis of size 1 goes with any
    ("ij,ij->ij", [(1, 3), (2, 3)]),
    ("ij,jk->ik", [(2, 0), (0, 4)]),
    ("ij,jk->ik", [(0, 3), (3, 4)]),
    ("ij->i", [(2, 0)]),
    (",ij->ij", [(), (2, 3)]),
    (",", [(), ()]),
    ("", [()]),
    (" i j , j k -> i k ", [(2, 3), (3, 4)]),
    ("AbB,BA->b", [(2, 3, 4), (4, 2)]),
]


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(("subscripts", "shapes"), CASES)
def test_sums_of_products(subscripts: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = [drawn(shape, "float64", seed) for seed, shape in enumerate(shapes)]
    expected = np.einsum(subscripts, *arrays)
    agree(lambda *x: cr.einsum(subscripts, *x), arrays, expected, absolute=1e-12)
    if all(array.size for array in arrays):
        gradients_are_right(lambda *x: cr.einsum(subscripts, *x), *arrays)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "int32", "uint8"])
def test_sums_of_products_in_every_dtype(dtype: str) -> None:
    for subscripts, shapes in (("ij,jk->ki", [(3, 5), (5, 4)]), ("iij->j", [(3, 3, 5)]), ("i,i,j", [(7,), (7,), (2,)])):
        arrays = [drawn(shape, dtype, seed) for seed, shape in enumerate(shapes)]
        wide = [array.astype(np.int64 if "int" in dtype else np.float64) for array in arrays]
        expected = np.einsum(subscripts, *wide).astype(arrays[0].dtype)
        agree(lambda *x, s=subscripts: cr.einsum(s, *x), arrays, expected, absolute=0.5 if dtype == "bfloat16" else 1e-5)
    assert cr.einsum("i,i->i", cr.arange(3), cr.tensor([0.5, 1, 2])).dtype == cr.float32
    assert cr.einsum("i,i->i", [1, 2], np.array([0.5, 1.0])).tolist() == [0.5, 2]


@st.composite
def subscripts_and_shapes(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    sizes = dict(zip("abcde", (2, 3, 1, 4, 2), strict=True))
    texts = draw(st.lists(st.text("abcde", max_size=4), min_size=1, max_size=4))
    letters = sorted(set("".join(texts)))
    output = "".join(draw(st.permutations(letters)))[: draw(st.integers(0, len(letters)))]
    arrow = draw(st.sampled_from(["", f"->{output}"]))
    return ",".join(texts) + arrow, [tuple(sizes[letter] for letter in text) for text in texts]


@given(subscripts_and_shapes())
@settings(max_examples=300, deadline=None)
def test_whatever_the_subscripts_are(case: tuple[str, list[tuple[int, ...]]]) -> None:
    subscripts, shapes = case
    arrays = [drawn(shape, "float64", seed) for seed, shape in enumerate(shapes)]
    expected = np.einsum(subscripts, *arrays)
    found = cr.einsum(subscripts, *arrays)
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-10)


def operations(subscripts: str, *shapes: tuple[int, ...]) -> Counter[str]:
    traced = cr.trace(lambda *x: cr.einsum(subscripts, *x), *map(cr.ones, shapes))
    return Counter(node.operation.name for node in traced.nodes if not node.is_leaf)


def test_products_of_matrices_are_just_that() -> None:
    assert operations("ij,jk->ik", (2, 3), (3, 4)) == {"matmul": 1}
    assert operations("bij,bjk->bik", (2, 3, 4), (2, 4, 5)) == {"matmul": 1}
    assert operations("ij,kj->ik", (2, 3), (4, 3)) == {"transpose": 1, "matmul": 1}
    assert operations("ij,ij->ij", (2, 3), (2, 3)) == {"multiply": 1}
    assert operations("ij->ij", (2, 3)) == {}
    assert operations("ijk->ik", (2, 3, 4)) == {"sum": 1}


def test_the_cheapest_pair_comes_first() -> None:
    """(9 x 9) (9 x 9) (9): the vector is multiplied from the right, so there is no product of two matrices."""
    graph = cr.trace(lambda *x: cr.einsum("ij,jk,k->i", *x), cr.ones((9, 9)), cr.ones((9, 9)), cr.ones((9,)))
    products = [node for node in graph.nodes if node.operation.name == "matmul"]
    assert [node.size for node in products] == [9, 9]


def test_what_cannot_be_read() -> None:
    x, y = cr.ones((2, 3)), cr.ones((3, 4))
    unreadable = " cannot be read: subscripts are letters, an ellipsis (...) once for each operand, commas and one arrow (->)"
    for text in ("i1,jk", "ij->i->j", "ij.,jk", "......ij,jk", "ij;jk", "i\u0131,jk"):
        assert refused(lambda text=text: cr.einsum(text, x, y)) == f"einsum: {text!r}{unreadable}"  # type: ignore[misc]
    for text, message in (
        ("ij", "einsum: 'ij' describes 1 operands, got 2"),
        ("ij,jk,kl", "einsum: 'ij,jk,kl' describes 3 operands, got 2"),
        ("ijk,jk", "einsum: operand 0 of 'ijk,jk' is float32[2, 3], with 2 axes, but 'ijk' names 3"),
        ("ij,j->i", "einsum: operand 1 of 'ij,j->i' is float32[3, 4], with 2 axes, but 'j' names 1"),
        ("ij,...jkl->i", "einsum: operand 1 of 'ij,...jkl->i' is float32[3, 4], with 2 axes, but '...jkl' names 3"),
        ("ij,jk->il", "einsum: label 'l' in the output of 'ij,jk->il' is in no input"),
        ("ij,jk->ii", "einsum: label 'i' is twice in the output of 'ij,jk->ii'"),
        ("ij,ik->jk", "einsum: label 'i' of 'ij,ik->jk' stands for axes of 2 and 3 elements"),
        ("ii,jk->jk", "einsum: label 'i' of 'ii,jk->jk' stands for axes of 2 and 3 elements"),
        ("i...,j...->ij", "einsum: the output of 'i...,j...->ij' lacks the axes of the ellipsis: write ... in it"),
        ("...,...->...", "einsum: the ellipsis of '...,...->...' stands for axes of 2 and 3 elements"),
    ):
        assert refused(lambda text=text: cr.einsum(text, x, y)) == message  # type: ignore[misc]
    assert refused(lambda: cr.einsum(x, "ij")) == (  # type: ignore[arg-type]
        "einsum: subscripts must be a text, such as 'ij,jk->ik', got a Tensor"
    )
    assert refused(lambda: cr.einsum("i", x[0] > 0)) == (
        "einsum: is not defined for bool: cast to int32 first to count, or to float32"
    )
