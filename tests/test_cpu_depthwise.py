"""Depthwise convolution and its gradients against the NumPy reference, over odd geometries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule import ops
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernels import depthwise
from chainrule.cpu.kernels.geometry import Geometry
from chainrule.ops import output_size
from kernels import HOST, NARROW, run_steps


def geometry(
    batch: int,
    channels: int,
    image: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
) -> Geometry:
    h, w = (output_size(image[i], kernel[i], stride[i], padding[i], dilation[i]) for i in (0, 1))
    return Geometry(batch, channels, channels, image, (h, w), kernel, stride, padding, dilation, channels)


ONE = ((1, 1), (1, 1))
CASES = [
    geometry(2, 8, (6, 7), (3, 3), padding=ONE),
    geometry(1, 1, (1, 1), (1, 1)),
    geometry(2, 3, (5, 5), (3, 3), (2, 2), ONE),
    geometry(1, 17, (9, 13), (3, 3), (2, 2), ONE),
    geometry(2, 16, (12, 11), (3, 3), (2, 2), ((0, 1), (0, 1))),
    geometry(1, 9, (8, 8), (5, 5), padding=((2, 2), (2, 2))),
    geometry(1, 5, (7, 9), (3, 2), (1, 3), ((1, 0), (1, 1))),
    geometry(2, 7, (9, 9), (3, 3), padding=((2, 2), (2, 2)), dilation=(2, 2)),
    geometry(1, 8, (11, 7), (3, 3), (3, 3)),
    geometry(3, 33, (4, 3), (3, 3), padding=ONE),
    geometry(1, 4, (2, 2), (3, 3), padding=ONE),
    geometry(1, 12, (10, 30), (1, 5), padding=((0, 0), (2, 2))),
    geometry(1, 10, (15, 29), (7, 7), padding=((3, 3), (3, 3))),
    geometry(1, 4, (5, 60), (3, 41), padding=((1, 1), (20, 20))),  # the taps are a loop
    geometry(1, 3, (5, 60), (2, 41), (1, 3), ((0, 1), (20, 19))),
    geometry(1, 6, (4, 5), (3, 3), padding=((4, 5), (5, 3))),  # places that see the border only
    geometry(2, 6, (9, 11), (2, 2), (4, 3)),  # pixels that no place sees
    geometry(3, 40, (21, 17), (3, 3), (2, 2), ONE),  # units of several rows of two images
    geometry(1, 64, (8, 15), (3, 3), (2, 2), ((0, 1), (0, 1)), (2, 3)),
    geometry(0, 4, (5, 5), (3, 3), padding=ONE),
]


def attributes(g: Geometry) -> dict[str, object]:
    return {"stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}


def nhwc(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def check(g: Geometry, target: Target, dtype: str) -> None:
    assert depthwise.suits(g)
    rng = np.random.default_rng(1)
    image = rng.standard_normal((g.batch, g.channels, *g.image))
    weight = rng.standard_normal((g.filters, 1, *g.kernel))
    upstream = rng.standard_normal((g.batch, g.filters, *g.output))
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    passes = {
        "convolution": ({"image": nhwc(image), "weight": weight}, ops.conv2d.reference(image, weight, **attributes(g)), True),
        "input_gradient": (
            {"upstream": nhwc(upstream), "weight": weight},
            ops.conv2d_input_gradient.reference(upstream, weight, size=g.image, **attributes(g)),
            True,
        ),
        "weight_gradient": (
            {"image": nhwc(image), "upstream": nhwc(upstream)},
            ops.conv2d_weight_gradient.reference(image, upstream, kernel=g.kernel, **attributes(g)),
            False,
        ),
    }
    for name, (operands, expected, is_image) in passes.items():
        steps = getattr(depthwise, name)(target, dtype, g)
        wanted = nhwc(expected) if is_image else expected
        found = run_steps(steps, {k: v.astype(dtype) for k, v in operands.items()}, wanted.shape, dtype, target)
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * 10, err_msg=name)


@pytest.mark.parametrize("g", CASES, ids=str)
def test_against_the_reference(g: Geometry) -> None:
    check(g, HOST, "float32")


@pytest.mark.parametrize("g", CASES[::4], ids=str)
def test_float64_and_narrow_vectors(g: Geometry) -> None:
    check(g, HOST, "float64")
    check(g, NARROW, "float32")


@given(
    st.integers(1, 2),
    st.integers(1, 20),
    st.tuples(st.integers(3, 12), st.integers(3, 12)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
@settings(max_examples=8, deadline=None)
def test_any_geometry_that_suits(
    batch: int,
    channels: int,
    image: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> None:
    g = geometry(batch, channels, image, kernel, stride, ((pads[0], pads[1]), (pads[2], pads[3])), dilation)
    if min(g.output) >= 1 and depthwise.suits(g):
        check(g, HOST, "float64")


def test_what_does_not_suit() -> None:
    assert not depthwise.suits(Geometry(1, 4, 8, (5, 5), (5, 5), (3, 3), padding=ONE, groups=4)), "two filters a channel"
    assert not depthwise.suits(Geometry(1, 4, 4, (5, 5), (5, 5), (3, 3), padding=ONE)), "not depthwise"
