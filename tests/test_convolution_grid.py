"""Convolution and pooling over a grid of geometries: values against a slow definition, gradients against differences."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from chainrule import ops
from chainrule.errors import UserError
from chainrule.grad import backprop, gradcheck
from chainrule.graph import Array, Node, leaf

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
Geometry = tuple[Pair, Pair, Padding, Pair]  # kernel, stride, padding, dilation

KERNELS: tuple[Pair, ...] = ((1, 1), (2, 2), (3, 3), (5, 5), (1, 3), (5, 2))
STRIDES: tuple[Pair, ...] = ((1, 1), (2, 2), (3, 3), (1, 2))
PADDINGS: tuple[Padding, ...] = (((0, 0), (0, 0)), ((1, 1), (1, 1)), ((2, 2), (2, 2)), ((0, 2), (1, 0)))
DILATIONS: tuple[Pair, ...] = ((1, 1), (2, 2), (1, 2))
GROUPS = (1, 2, 4)
CHANNELS, OUTPUTS = 4, {1: 3, 2: 6, 4: 4}  # groups = channels is a depthwise convolution

GRID = list(product(KERNELS, STRIDES, PADDINGS, DILATIONS))


def name(geometry: Geometry) -> str:
    kernel, stride, padding, dilation = geometry
    sides = ".".join(str(side) for pair in padding for side in pair)
    return f"kernel{kernel[0]}x{kernel[1]}-stride{stride[0]}x{stride[1]}-padding{sides}-dilation{dilation[0]}x{dilation[1]}"


on_the_grid = pytest.mark.parametrize("geometry", GRID, ids=map(name, GRID))
with_groups = pytest.mark.parametrize("groups", GROUPS, ids=lambda groups: f"groups{groups}")


# ---- the definition: tap i of the window at place y meets the pixel y * stride - before + i * dilation


def meets(size: int, kernel: int, stride: int, padding: Pair, dilation: int) -> Array:
    """1 at [y, i, h] where tap i of the window at place y meets pixel h: (places, taps, pixels)."""
    reach = dilation * (kernel - 1) + 1
    places = range(0, size + padding[0] + padding[1] - reach + 1, stride)
    found = np.zeros((len(places), kernel, size))
    for (y, begin), i in product(enumerate(places), range(kernel)):
        pixel = begin - padding[0] + i * dilation
        if 0 <= pixel < size:
            found[y, i, pixel] = 1
    return found


def meetings(size: Pair, geometry: Geometry) -> tuple[Array, Array]:
    rows, columns = (meets(*one) for one in zip(size, *geometry, strict=True))
    return rows, columns


def image_size(geometry: Geometry) -> Pair:
    """About 7 x 6, which strides 2 and 3 do not divide; where the dilated kernel is larger, just large enough."""
    kernel, _, padding, dilation = geometry
    reach = [d * (k - 1) + 1 - sum(p) for k, p, d in zip(kernel, padding, dilation, strict=True)]
    return max(7, reach[0] + 1), max(6, reach[1])


def convolution(geometry: Geometry, groups: int) -> tuple[Array, Array, Array, dict[str, object]]:
    """Image, weight, upstream gradient and attributes for one point of the grid."""
    rng = np.random.default_rng(sum(geometry[0]) + groups)
    size = image_size(geometry)
    rows, columns = meetings(size, geometry)
    image = rng.standard_normal((2, CHANNELS, *size))
    weight = rng.standard_normal((OUTPUTS[groups], CHANNELS // groups, *geometry[0]))
    upstream = rng.standard_normal((2, OUTPUTS[groups], len(rows), len(columns)))
    _, stride, padding, dilation = geometry
    return image, weight, upstream, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


@with_groups
@on_the_grid
def test_convolution_and_its_gradients_equal_the_definition(geometry: Geometry, groups: int) -> None:
    image, weight, upstream, attributes = convolution(geometry, groups)
    rows, columns = meetings(image_size(geometry), geometry)
    x = image.reshape(2, groups, -1, *image.shape[2:])
    w = weight.reshape(groups, -1, *weight.shape[1:])
    u = upstream.reshape(2, groups, -1, *upstream.shape[2:])
    forward = np.einsum("yih,xjw,ngchw,gocij->ngoyx", rows, columns, x, w, optimize="greedy")
    for_image = np.einsum("yih,xjw,ngoyx,gocij->ngchw", rows, columns, u, w, optimize="greedy")
    for_weight = np.einsum("yih,xjw,ngchw,ngoyx->gocij", rows, columns, x, u, optimize="greedy")

    nodes = leaf(image, requires_grad=True), leaf(weight, requires_grad=True)
    output = ops.conv2d(*nodes, **attributes)
    gradients = backprop(output, nodes, leaf(upstream))
    close(output, forward.reshape(upstream.shape))
    close(gradients[0], for_image.reshape(image.shape))
    close(gradients[1], for_weight.reshape(weight.shape))
    transposed = ops.conv2d_input_gradient(leaf(upstream), leaf(weight), size=image_size(geometry), **attributes)
    close(transposed, for_image.reshape(image.shape))


def close(node: Node | None, expected: Array) -> None:
    assert node is not None
    np.testing.assert_allclose(node.value, expected, rtol=0, atol=1e-10)  # type: ignore[arg-type]


@with_groups
@on_the_grid
def test_convolution_gradients_to_second_order(geometry: Geometry, groups: int) -> None:
    image, weight, _, attributes = convolution(geometry, groups)
    result = gradcheck(lambda x, w: ops.conv2d(x, w, **attributes), image, weight, order=2, tolerance=1e-7)
    assert result.kinks == 0


@with_groups
@on_the_grid
def test_transposed_convolution_gradients_to_second_order(geometry: Geometry, groups: int) -> None:
    _, weight, upstream, attributes = convolution(geometry, groups)
    attributes["size"] = image_size(geometry)
    result = gradcheck(lambda u, w: ops.conv2d_input_gradient(u, w, **attributes), upstream, weight, order=2, tolerance=1e-7)
    assert result.kinks == 0


# ---- pooling

POOL_SIZES: tuple[Pair, ...] = ((7, 6), (8, 7))
WINDOWS: tuple[Pair, ...] = ((1, 1), (2, 2), (3, 3), (5, 5), (3, 2))


def to_the_end(size: Pair, window: Pair, stride: Pair, dilation: Pair) -> Padding:
    """Padding after the image, as ceil_mode adds it: so that windows reach every pixel."""
    lacking = [(r - n) % s for n, s, r in zip(size, stride, reaches(window, dilation), strict=True)]
    return (0, lacking[0]), (0, lacking[1])


def reaches(window: Pair, dilation: Pair) -> list[int]:
    return [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]


def legal(size: Pair, geometry: Geometry) -> bool:
    """At most half a window of padding before the image; windows fit; none has all its taps in the border."""
    window, _, padding, dilation = geometry
    if any(before > k // 2 for (before, _), k in zip(padding, window, strict=True)):
        return False
    if any(r > n + sum(p) for r, n, p in zip(reaches(window, dilation), size, padding, strict=True)):
        return False
    return all(axis.any(axis=(1, 2)).all() for axis in meetings(size, geometry))


def pool_grid(dilations: tuple[Pair, ...]) -> list[tuple[Pair, Geometry]]:
    found = []
    for size, window, stride, dilation in product(POOL_SIZES, WINDOWS, STRIDES, dilations):
        paddings = dict.fromkeys((*PADDINGS, ((0, 1), (1, 0)), to_the_end(size, window, stride, dilation)))
        found += [(size, (window, stride, padding, dilation)) for padding in paddings]
    return [(size, geometry) for size, geometry in found if legal(size, geometry)]


def pool_name(case: tuple[Pair, Geometry]) -> str:
    (h, w), geometry = case
    return f"{h}x{w}-{name(geometry)}"


MAX_GRID, SUM_GRID = pool_grid(DILATIONS), pool_grid(DILATIONS[:1])
on_the_max_grid = pytest.mark.parametrize("case", MAX_GRID, ids=map(pool_name, MAX_GRID))
on_the_sum_grid = pytest.mark.parametrize("case", SUM_GRID, ids=map(pool_name, SUM_GRID))


def well_separated(size: Pair) -> Array:
    """An image (2, 3, h, w) whose values differ by 0.1 at least: no tie and no kink is near."""
    count = 6 * size[0] * size[1]
    return 0.1 * np.random.default_rng(3).permutation(np.arange(count) - count // 2).reshape(2, 3, *size)


def max_attributes(geometry: Geometry) -> dict[str, object]:
    window, stride, padding, dilation = geometry
    return {"window": window, "stride": stride, "padding": padding, "dilation": dilation}


def sum_attributes(geometry: Geometry) -> dict[str, object]:
    window, stride, padding, _ = geometry
    return {"window": window, "stride": stride, "padding": padding}


def test_the_pooling_grid_holds_what_it_should() -> None:
    geometries = [geometry for _, geometry in MAX_GRID]
    assert {window for window, *_ in geometries} == set(WINDOWS)
    assert {dilation for *_, dilation in geometries} == set(DILATIONS)
    assert any(stride[0] < window[0] for window, stride, *_ in geometries), "no windows overlap"
    assert any(padding == ((2, 2), (2, 2)) for _, _, padding, _ in geometries)
    assert any(padding[0][0] < padding[0][1] for _, _, padding, _ in geometries), "no padding is asymmetric"
    assert len(SUM_GRID) > 100


@on_the_max_grid
def test_max_pooling_and_its_gradient_equal_the_definition(case: tuple[Pair, Geometry]) -> None:
    size, geometry = case
    image = well_separated(size)
    rows, columns = meetings(size, geometry)
    expected = np.empty((2, 3, len(rows), len(columns)))
    upstream = np.random.default_rng(4).standard_normal(expected.shape)
    routed = np.zeros_like(image)
    for y, x in np.ndindex(expected.shape[2:]):
        met = np.outer(rows[y].any(axis=0), columns[x].any(axis=0))
        inside = np.where(met, image, -np.inf).reshape(6, -1)
        expected[:, :, y, x] = inside.max(axis=1).reshape(2, 3)
        routed.reshape(6, -1)[np.arange(6), inside.argmax(axis=1)] += upstream[:, :, y, x].reshape(6)

    node = leaf(image, requires_grad=True)
    pooled = ops.max_pool2d(node, **max_attributes(geometry))
    (gradient,) = backprop(pooled, [node], leaf(upstream))
    np.testing.assert_array_equal(pooled.value, expected)  # type: ignore[arg-type]
    close(gradient, routed)


@on_the_max_grid
def test_max_pooling_gradients_to_second_order(case: tuple[Pair, Geometry]) -> None:
    size, geometry = case

    def squared(x: Node) -> Node:  # the gradient of max pooling itself is constant nearly everywhere
        return ops.power(ops.max_pool2d(x, **max_attributes(geometry)), exponent=2.0)

    assert gradcheck(squared, well_separated(size), order=2).kinks == 0


@on_the_sum_grid
def test_sum_pooling_and_its_gradient_equal_the_definition(case: tuple[Pair, Geometry]) -> None:
    size, geometry = case
    image = well_separated(size)
    rows, columns = (axis.sum(axis=1) for axis in meetings(size, geometry))
    upstream = np.random.default_rng(4).standard_normal((2, 3, len(rows), len(columns)))
    node = leaf(image, requires_grad=True)
    pooled = ops.sum_pool2d(node, **sum_attributes(geometry))
    (gradient,) = backprop(pooled, [node], leaf(upstream))
    close(pooled, np.einsum("yh,xw,nchw->ncyx", rows, columns, image))
    close(gradient, np.einsum("yh,xw,ncyx->nchw", rows, columns, upstream))


@on_the_sum_grid
def test_average_pooling_gradients_to_second_order(case: tuple[Pair, Geometry]) -> None:
    size, geometry = case
    window = geometry[0]

    def squared_average(x: Node) -> Node:
        average = ops.scaled(ops.sum_pool2d(x, **sum_attributes(geometry)), 1 / (window[0] * window[1]))
        return ops.power(average, exponent=2.0)

    assert gradcheck(squared_average, well_separated(size), order=2).kinks == 0


@pytest.mark.parametrize(
    ("window", "stride", "padding", "what"),
    [
        ((1, 1), (1, 1), ((1, 0), (0, 0)), "window 0 along height .size 6. lies wholly in the padding .1, 0."),
        ((2, 2), (2, 2), ((0, 0), (2, 1)), "window 0 along width .size 7. lies wholly in the padding .2, 1."),
        ((2, 2), (1, 1), ((0, 2), (0, 0)), "window 6 along height .size 6. lies wholly in the padding .0, 2."),
    ],
)
def test_a_window_wholly_in_the_border_is_refused(window: Pair, stride: Pair, padding: Padding, what: str) -> None:
    with pytest.raises(UserError, match=f"^max_pool2d: {what}: use padding of at most half of kernel_size"):
        ops.max_pool2d(leaf(np.zeros((1, 1, 6, 7))), window=window, stride=stride, padding=padding, dilation=(1, 1))


def test_a_window_that_does_not_fit_is_explained_with_the_sum() -> None:
    with pytest.raises(UserError) as caught:
        ops.conv2d(
            leaf(np.zeros((1, 1, 6, 7))),
            leaf(np.zeros((1, 1, 3, 5))),
            stride=(1, 1),
            padding=((0, 0), (1, 0)),
            dilation=(1, 2),
            groups=1,
        )
    assert str(caught.value) == (
        "conv2d: a window of 9 (kernel 5, dilation 2) does not fit the width 7 + padding 1 + 0 = 8: "
        "enlarge the image or padding, or choose a smaller kernel_size"
    )
