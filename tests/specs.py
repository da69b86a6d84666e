"""Every primitive with the examples that its page gives, and numbers for them."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.graph.dtypes import bool_, is_float
from chainrule.ops import REGISTRY, Spec

CASES = [
    pytest.param(primitive, spec, id=f"{name}-{i}")
    for name, primitive in sorted(REGISTRY.items())
    for i, spec in enumerate(primitive.spec)
]


def drawn(spec: Spec, seed: int = 12) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays: list[np.ndarray] = []
    for place, shape in enumerate(spec.inputs):
        dtype = spec.dtype_of(place)
        if is_float(dtype):
            arrays.append(np.asarray(rng.uniform(*spec.domain, shape)).astype(dtype))
        elif dtype == bool_:
            arrays.append(np.asarray(rng.integers(0, 2, shape)).astype(bool))
        else:
            arrays.append(np.asarray(rng.integers(*spec.integers, shape)).astype(dtype))
    return arrays


def assert_as_reference(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal in shape and dtype; floats up to the rounding of another order of the same sums."""
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if not is_float(expected.dtype):
        np.testing.assert_array_equal(found, expected)
        return
    tolerance = {"float64": 1e-12, "float32": 3e-6, "bfloat16": 1e-2}[expected.dtype.name]
    np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance)
