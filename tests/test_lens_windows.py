"""The windows of a convolution, forwards and on both ways back, add up to the numbers that the nodes have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import UserError, nn
from chainrule.lens.tracing import Pass, Tracer, windows
from chainrule.ops.windows import output_size, padded
from chainrule.train import TrainedModel, shipped_model

Pair = tuple[int, int]


def pass_of(model: nn.Module, shape: tuple[int, int, int], dtype: str = "float64") -> Pass:
    facts = {
        "classes": ["0", "1", "2"],
        "image_shape": list(shape),
        "mean": [0.25] * shape[0],
        "std": [0.5] * shape[0],
        "dtype": dtype,
    }
    tracer = Tracer(TrainedModel(model.astype(dtype), facts, "the network of the test"))
    return tracer.trace(np.random.default_rng(0).random(shape), 1)


def of_convolution(
    shape: tuple[int, int, int], outputs: int, kernel: Pair, dtype: str = "float64", **options: Any
) -> tuple[Pass, int]:
    """A pass through a single convolution, and the number of its node."""
    cr.manual_seed(0)
    conv = nn.Conv2d(shape[0], outputs, kernel, **options)
    stride, padding, dilation = (options.get(name, usual) for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1)))
    sides = padding if isinstance(padding, tuple) else ((padding, padding),) * 2
    steps, dilated = (one if isinstance(one, tuple) else (one, one) for one in (stride, dilation))
    height, width = (output_size(shape[1 + i], kernel[i], steps[i], sides[i], dilated[i]) for i in (0, 1))
    found = pass_of(nn.Sequential(conv, nn.Flatten(), nn.Linear(outputs * height * width, 3)), shape, dtype)
    return found, next(row.index for row in found.explanation.rows if row.operation == "conv2d")


sizes = st.integers(1, 3)
pairs = st.tuples(sizes, sizes)


@settings(max_examples=25)
@given(
    pairs,  # kernel
    pairs,  # stride
    st.tuples(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3))),
    pairs,  # dilation
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.sampled_from([(1, 1, 1), (3, 2, 1), (4, 2, 2), (3, 6, 3)]),  # channels, outputs, groups
    st.booleans(),
)
@example((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), (6, 6), (4, 2, 2), True)  # rows that no window meets
@example((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), (3, 3), (3, 6, 3), False)  # 1 x 1
@example((2, 3), (3, 1), ((3, 0), (0, 3)), (2, 1), (4, 5), (2, 3, 1), True)  # more padding than kernel
def test_windows_add_up_to_what_the_nodes_have(
    kernel: Pair, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair, size: Pair, channels: Any, bias: bool
) -> None:
    inputs, outputs, groups = channels
    assume(all(output_size(size[i], kernel[i], stride[i], padding[i], dilation[i]) >= 1 for i in (0, 1)))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
    found, number = of_convolution((inputs, *size), outputs, kernel, **options)
    node, rng = found.node(number), np.random.default_rng(1)
    image, weight = (one.value for one in node.inputs)
    upstream = found.tensor(number, "upstream")
    to_image, to_weight = (found.tensor(number, "downstream", position) for position in (0, 1))
    assert image is not None
    assert weight is not None

    # forwards
    for _ in range(3):
        o, y, x = (int(rng.integers(0, count)) for count in node.shape[1:])
        seen = windows.window(found, number, o, (y, x))
        assert seen.sum == pytest.approx(found.tensor(number)[o, y, x], rel=1e-9, abs=1e-12)
        assert seen.value == pytest.approx(seen.sum + (seen.bias or 0.0), rel=1e-9, abs=1e-12)
        assert (seen.bias is not None) == bias
        np.testing.assert_array_equal(seen.products, seen.patch * seen.kernel)
        np.testing.assert_array_equal(seen.kernel, weight[o])
        whole = padded(image, padding)[0][list(seen.channels)]
        top, left = seen.place.top + padding[0][0], seen.place.left + padding[1][0]
        patch = whole[:, top : top + seen.place.height : dilation[0], left : left + seen.place.width : dilation[1]]
        np.testing.assert_array_equal(seen.patch, patch)
        ones = padded(np.ones((1, 1, *size)), padding)[0, 0]
        met = ones[top : top + seen.place.height : dilation[0], left : left + seen.place.width : dilation[1]]
        np.testing.assert_array_equal(seen.inside, met == 1)

    # towards the weight: patches, weighted by the upstream gradient, summed over places
    o = int(rng.integers(0, outputs))
    first = o // (outputs // groups) * (inputs // groups)
    i = first + int(rng.integers(0, inputs // groups))
    towards = windows.weight_gradient(found, number, o, i)
    total = np.zeros(kernel)
    surrounded = padded(towards.image[np.newaxis, np.newaxis], towards.padding)[0, 0]
    for (y, x), u in np.ndenumerate(towards.upstream):
        top, left = y * stride[0], x * stride[1]
        total += (
            u
            * surrounded[top : top + (kernel[0] - 1) * dilation[0] + 1 : dilation[0]][
                :, left : left + (kernel[1] - 1) * dilation[1] + 1 : dilation[1]
            ]
        )
    np.testing.assert_allclose(total, towards.gradient, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(towards.gradient, to_weight[o, i - first])
    np.testing.assert_array_equal(towards.upstream, upstream[o])

    # towards the image: the flipped filter over the stuffed upstream gradient, stride 1
    parts = [windows.input_gradient(found, number, i, one) for one in windows.input_gradient(found, number, i).outputs]
    np.testing.assert_allclose(sum(one.part for one in parts), to_image[i], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(parts[0].downstream, to_image[i])
    for one in parts:
        slid = np.zeros(size)
        for y, x in np.ndindex(size):
            met = one.stuffed[y : y + (kernel[0] - 1) * dilation[0] + 1 : dilation[0]]
            slid[y, x] = (met[:, x : x + (kernel[1] - 1) * dilation[1] + 1 : dilation[1]] * one.flipped).sum()
        np.testing.assert_allclose(slid, one.part, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(one.flipped[::-1, ::-1], weight[one.output, i - first])
        assert set(one.stuffed[one.stuffed != 0]) <= set(upstream[one.output].ravel())
        assert one.shares[parts.index(one)] == pytest.approx(np.linalg.norm(one.part), abs=1e-12)
    strongest = windows.input_gradient(found, number, i)
    assert strongest.shares.max() == pytest.approx(np.linalg.norm(strongest.part))


def test_stuffing_by_heart() -> None:
    found, number = of_convolution((1, 4, 4), 1, (3, 3), stride=2, padding=1)
    u, seen = found.tensor(number, "upstream")[0], windows.input_gradient(found, number, 0)
    expected = [
        [0, 0, 0, 0, 0, 0],
        [0, u[0, 0], 0, u[0, 1], 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, u[1, 0], 0, u[1, 1], 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(seen.stuffed, expected)


def test_a_depthwise_filter_looks_at_its_own_channel() -> None:
    found, number = of_convolution((3, 5, 5), 3, (3, 3), padding=1, groups=3, dtype="float32")
    seen = windows.window(found, number, 2, (0, 0))
    assert seen.channels == (2,)
    assert seen.place == windows.Place(-1, -1, 3, 3)
    np.testing.assert_array_equal(seen.inside, [[False, False, False], [False, True, True], [False, True, True]])
    assert windows.input_gradient(found, number, 1).outputs == (1,)


def test_windows_of_the_lenet_that_ships() -> None:
    found = Tracer(shipped_model()).trace(np.random.default_rng(0).random((1, 28, 28)), 3)
    second = [row.index for row in found.explanation.rows if row.operation == "conv2d"][1]
    seen = windows.window(found, second, 7, (4, 9))
    assert seen.bias == pytest.approx(found.parameter("3.bias").value[7])
    assert seen.value == pytest.approx(seen.sum + (seen.bias or 0), rel=1e-4)
    towards = windows.input_gradient(found, second, 2)
    total = sum(windows.input_gradient(found, second, 2, one).part for one in towards.outputs)
    np.testing.assert_allclose(total, towards.downstream, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda p, n: windows.window(p, n + 1, 0, (0, 0)), r"is no convolution: convolutions are the nodes \d+ \(0\)"),
        (lambda p, n: windows.window(p, n, 4, (0, 0)), "the output channel must be at most 3, got 4"),
        (lambda p, n: windows.window(p, n, 0, (3, 0)), "the row y must be at most 2, got 3"),
        (lambda p, n: windows.window(p, n, 0, (0, -1)), "the column x must be a whole number of at least 0, got -1"),
        (
            lambda p, n: windows.weight_gradient(p, n, 3, 1),
            "groups=2 output 3 looks at the input channels 2 to 3 only, not at 1",
        ),
        (lambda p, n: windows.weight_gradient(p, n, 0, 4), "the input channel must be at most 3, got 4"),
        (lambda p, n: windows.input_gradient(p, n, 1, 2), "input channel 1 is looked at by the outputs 0 to 1 only, not by 2"),
    ],
)
def test_windows_that_are_not_there(asked: Any, message: str) -> None:
    found, number = of_convolution((4, 5, 5), 4, (3, 3), groups=2)
    with pytest.raises(UserError, match=message):
        asked(found, number)


def test_a_network_without_convolutions_says_so() -> None:
    found = pass_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2))
    with pytest.raises(UserError, match="is no convolution: this network has none"):
        windows.window(found, len(found.graph) - 1, 0, (0, 0))
