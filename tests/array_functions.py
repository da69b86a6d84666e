"""What tests of array functions share: random arrays, and one answer from every way to compute it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import chainrule as cr
from chainrule.graph.dtypes import as_dtype, is_float

SHAPES: list[tuple[int, ...]] = [(), (1,), (7,), (3, 5), (0,), (2, 0, 3), (2, 3, 4), (5, 1117)]
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.75, -2.5, 1e300, -1e300, 1e-300]
RELATIVE = {"float64": 1e-13, "float32": 2e-6, "bfloat16": 1e-2}


def drawn(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Random numbers: floats of a few units, integers from -9 to 9 (of uint8 from 0 to 9)."""
    rng = np.random.default_rng(seed)
    if is_float(as_dtype(dtype)):
        return np.asarray(rng.standard_normal(shape) * 3).astype(as_dtype(dtype))
    return np.asarray(rng.integers(0 if dtype in ("uint8", "bool") else -9, 10, shape)).astype(as_dtype(dtype))


def agree(
    f: Callable[..., cr.Tensor], arrays: Sequence[Any], expected: Any, exact: bool = False, absolute: float = 0.0
) -> np.ndarray:
    """``f`` of the arrays node by node, by NumPy alone, and compiled, each held against ``expected``; the last one's answer."""
    expected = np.asarray(expected)
    found = expected
    for engine, call in (("native", f), ("reference", f), ("native", cr.compile(lambda *given: f(*given)))):
        with cr.engine(engine):
            answer = call(*map(cr.tensor, arrays))
        assert type(answer) is cr.Tensor
        found = np.asarray(answer.numpy())
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        if not is_float(answer.dtype):
            np.testing.assert_array_equal(found, expected)
        elif exact:
            np.testing.assert_array_equal(found.astype(np.float64), expected.astype(np.float64))
        else:
            tolerance = RELATIVE[answer.dtype.name]
            one, other = found.astype(np.float64), expected.astype(np.float64)
            np.testing.assert_allclose(one, other, rtol=tolerance, atol=max(absolute, 1e-300))
    return found


def gradients_are_right(f: Callable[..., cr.Tensor], *arrays: np.ndarray, order: int = 2) -> None:
    """Against finite differences in float64, of first and second order, and compiled as node by node."""
    checked = cr.gradcheck(f, *arrays, order=order, tolerance=1e-6)
    assert checked.kinks == 0

    def gradients(*given: cr.Tensor) -> list[cr.Tensor]:
        found = f(*given)
        weights = np.cos(np.arange(found.size)).reshape(found.shape)
        return [one for one in cr.grad((found * weights).sum(), given) if one is not None]

    expected = gradients(*(cr.tensor(one, "float64", requires_grad=True) for one in arrays))

    @cr.compile
    def compiled(*given: cr.Tensor) -> list[cr.Tensor]:
        return gradients(*(one.requires_grad_() for one in given))

    for engine in ("native", "reference"):
        with cr.engine(engine):
            found = compiled(*(cr.tensor(one, "float64") for one in arrays))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-11, atol=1e-12)
