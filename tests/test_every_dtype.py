"""What is compiled against the reference engine, in every dtype that it takes: the whole registry, and what is composed of it.

Each program runs on 1, 2, 3 and 5 threads, several times, in memory full of rubbish between guards, and leaves the same bits.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, ops
from chainrule.cpu.runtime import threads
from chainrule.cpu.runtime.memory import SAME_PLACE
from chainrule.cpu.runtime.program import Program
from chainrule.graph import Graph, Node, TensorType, leaf
from chainrule.graph.dtypes import PROMOTION_CHAIN, DType, as_dtype, bool_, is_float
from chainrule.nn import functional as F
from chainrule.ops import REGISTRY, Primitive, Spec, run_reference, running_on
from chainrule.tensor import Tensor, placeholder, tracing
from kernels import assert_guards_hold, guarded
from specs import drawn

DTYPES = [dtype.name for dtype in PROMOTION_CHAIN]
RELATIVE = {"float64": 1e-11, "float32": 5e-6, "bfloat16": 2e-2}
SMALLEST = {"float64": 1e-307, "float32": 1e-37, "bfloat16": 1e-37}
"""What is smaller counts as 0 in kernels."""


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = threads.thread_count()
    yield
    threads.set_threads(before)


def compiled(graph: Graph, given: Mapping[Node, np.ndarray]) -> list[np.ndarray]:
    """The outputs of ``graph`` as a program gives them, whatever the number of threads and whatever memory held before."""
    program = Program(graph)
    arena = guarded(program.arena_bytes, align=SAME_PLACE)
    program.lend(arena)
    for node, array in given.items():
        if program.needs(node):
            program.bind(node, np.ascontiguousarray(array))
    first: list[np.ndarray] = []
    for count, rubbish in itertools.product((1, 2, 3, 5), (0xFF, 0x7F)):
        threads.set_threads(count)
        arena[:] = rubbish  # nan and -1; large numbers
        program.run()
        outputs = [program.output(number).copy() for number in range(len(graph.outputs))]
        assert_guards_hold(arena, "the arena")
        first = first or outputs
        for one, other in zip(first, outputs, strict=True):
            assert one.tobytes() == other.tobytes(), f"other bits with {count} threads"
    return first


def assert_equal(found: np.ndarray, expected: np.ndarray, what: str, absolute: float = 0.0, signs: bool = False) -> None:
    """In type, and in value up to rounding: nan and infinities where they should be; ``signs``: of zeros too."""
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype), what
    if not is_float(expected.dtype):
        np.testing.assert_array_equal(found, expected, what)
        if expected.dtype == bool_:
            assert (found.view(np.uint8) <= 1).all(), f"{what}: a bool is 0 or 1"
        return
    name = expected.dtype.name
    one, other = found.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_allclose(one, other, RELATIVE[name], max(absolute, SMALLEST[name]), err_msg=what)
    if signs:
        zero = (other == 0) & (one == 0)
        np.testing.assert_array_equal(np.signbit(one[zero]), np.signbit(other[zero]), f"{what}: signs of zeros")


# ---- elementwise: special values

ATTRIBUTES: dict[str, list[dict[str, Any]]] = {
    "cast": [{"dtype": dtype} for dtype in PROMOTION_CHAIN],
    "round_to": [{"dtype": dtype} for dtype in PROMOTION_CHAIN],
    "power": [{"exponent": p} for p in (0.0, 1.0, 2.0, 3.0, 7.0, 65.0, -1.0, -2.0, 0.5, -0.5, 1.7)],
}
LIMITS = [
    0.5,
    1.5,
    255,
    256,
    -1,
    -0.5,
    300,
    2.0**31,
    -(2.0**31),
    2.0**31 - 1,
    3e9,
    -3e9,
    2.0**63,
    -(2.0**63),
    1e19,
    1e38,
    1e300,
]
SPECIAL = [0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, *LIMITS]


def special(shape: tuple[int, ...], dtype: DType, seed: int) -> np.ndarray:
    """Random numbers, and many of those at which something ends."""
    rng = np.random.default_rng(seed)
    if dtype == bool_:
        return np.asarray(rng.integers(0, 2, shape).astype(bool))
    if is_float(dtype):
        numbers, ends = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape), np.array(SPECIAL)
        with np.errstate(over="ignore"):
            return np.where(rng.random(shape) < 0.5, rng.choice(ends, shape), numbers).astype(dtype)
    limits = np.iinfo(dtype)
    anything = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    ends = np.array([limits.min, limits.max, 0, 1, 2, 3, limits.max // 2 + 1], dtype)
    return np.where(rng.random(shape) < 0.5, rng.choice(ends, shape), anything)


def elementwise_nodes(dtype: DType, shape: tuple[int, ...]) -> tuple[list[Node], dict[Node, np.ndarray]]:
    """Every elementwise primitive that takes ``dtype``, of the same few inputs."""
    with running_on(None):
        flag, *inputs = [leaf(TensorType(shape, one)) for one in (bool_, dtype, dtype, dtype)]
        nodes = []
        for name, primitive in REGISTRY.items():
            if not primitive.elementwise:
                continue
            count = len(primitive.spec[0].inputs)
            operands = [flag, *inputs][:count] if name == "where" else inputs[:count]
            for attributes in ATTRIBUTES.get(name) or [dict(primitive.spec[0].attributes)]:
                try:
                    nodes.append(primitive(*operands, **attributes))
                except UserError:
                    assert (name, dtype.name) not in MUST_BE_TAKEN
    values = {node: special(shape, node.dtype, seed) for seed, node in enumerate((flag, *inputs))}
    return nodes, values


MUST_BE_TAKEN = {(name, dtype) for name in ("add", "maximum", "less", "where") for dtype in DTYPES if dtype != "bool"}


@pytest.mark.parametrize("shape", [(7,), (3, 5, 1117)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_elementwise_primitives_at_special_values(dtype: str, shape: tuple[int, ...]) -> None:
    nodes, values = elementwise_nodes(as_dtype(dtype), shape)
    found = compiled(Graph(*nodes), values)
    for node, one in zip(nodes, found, strict=True):
        assert isinstance(node.operation, Primitive)
        expected = run_reference(node.operation, [values[i] for i in node.inputs], node.attributes, node.type)
        name = node.operation.name
        assert_equal(one, expected, f"{name} {dict(node.attributes)}", signs=name not in ("maximum", "minimum"))


# ---- all other primitives


def variants(spec: Spec) -> Iterator[Spec]:
    """The row in all dtypes: inputs that have one dtype in common keep one in common."""
    groups = sorted(set(spec.dtypes))
    for chosen in itertools.product(DTYPES, repeat=len(groups)):
        renamed = dict(zip(groups, chosen, strict=True))
        for dtype in PROMOTION_CHAIN if "dtype" in spec.attributes else [None]:
            attributes = {**spec.attributes, **({} if dtype is None else {"dtype": dtype})}
            yield dataclasses.replace(spec, dtypes=tuple(renamed[one] for one in spec.dtypes), attributes=attributes)


@pytest.mark.parametrize("name", [name for name, one in REGISTRY.items() if not one.elementwise])
def test_every_other_primitive_in_every_dtype(name: str) -> None:
    primitive, values, nodes = REGISTRY[name], {}, []
    largest = sorted(primitive.spec, key=lambda spec: -sum(map(math.prod, spec.inputs)))[:3]
    distinct = {repr(one): one for spec in largest for one in variants(spec)}
    for spec in distinct.values():
        arrays = drawn(spec)
        with running_on(None):
            inputs = [leaf(TensorType(one.shape, one.dtype)) for one in arrays]
            try:
                nodes.append(primitive(*inputs, **spec.attributes))
            except UserError:
                continue
        values.update(zip(inputs, arrays, strict=True))
    for node, one in zip(nodes, compiled(Graph(*nodes), values), strict=True):
        expected = run_reference(primitive, [values[i] for i in node.inputs], node.attributes, node.type)
        assert_equal(one, expected, str(node.inputs), absolute=RELATIVE.get(node.dtype.name, 0))


# shape, axis: in vectors and less, along the last axis and across, by one unit of work and by many
REDUCED = [
    ((1, 3), 1),
    ((5, 7), 0),
    ((3, 17), 1),
    ((5, 4099), 0),
    ((5, 4099), 1),
    ((4099, 5), 0),
    ((4099, 5), 1),
    ((9, 7, 333), 1),
    ((40000,), 0),
]


def summands(shape: tuple[int, ...], dtype: DType, seed: int) -> np.ndarray:
    """All integers there are; of floats, a few that are not finite."""
    if not is_float(dtype):
        return special(shape, dtype, seed)
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal(shape)
    numbers.reshape(-1)[rng.integers(0, numbers.size, 4)] = [np.nan, np.inf, -np.inf, -0.0]
    return numbers.astype(dtype)


@pytest.mark.parametrize("dtype", [one for one in DTYPES if one != "bool"])
def test_reductions_over_every_axis(dtype: str) -> None:
    values, nodes = {}, []
    with running_on(None):
        for seed, (shape, axis) in enumerate(REDUCED):
            x = leaf(TensorType(shape, as_dtype(dtype)))
            values[x] = summands(shape, x.dtype, seed)
            nodes.append(ops.sum_(x, axes=(axis,)))
            nodes += [reduction(x, axis=axis) for reduction in (ops.max_, ops.min_, ops.argmax, ops.argmin)]
    for node, found in zip(nodes, compiled(Graph(*nodes), values), strict=True):
        assert isinstance(node.operation, Primitive)
        expected = run_reference(node.operation, [values[node.inputs[0]]], node.attributes, node.type)
        what = f"{node.operation.name} {node.inputs[0].type} {dict(node.attributes)}"
        assert_equal(found, expected, what, absolute=1e-3 * (node.operation is ops.sum_))


# ---- compositions, with their gradients

IMAGE, LABELS = (2, 4, 7, 5), "labels"
Shape = tuple[int, ...] | str
COMPOSED: dict[str, tuple[list[Shape], Callable[..., Any]]] = {
    "adaptive_avg_pool1d": ([(2, 3, 7)], lambda x: F.adaptive_avg_pool1d(x, 3)),
    "adaptive_avg_pool2d": ([IMAGE], lambda x: F.adaptive_avg_pool2d(x, (3, 2))),
    "adaptive_max_pool1d": ([(2, 3, 7)], lambda x: F.adaptive_max_pool1d(x, 3)),
    "adaptive_max_pool2d": ([IMAGE], lambda x: F.adaptive_max_pool2d(x, (3, 2))),
    "affine": ([(3, 5), (5,), (5,)], lambda x, w, b: F.affine(x, w, b, (1, 5))),
    "avg_pool1d": ([(2, 3, 7)], lambda x: F.avg_pool1d(x, 3, 2, 1)),
    "avg_pool2d": ([IMAGE], lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    "batch_norm": ([IMAGE, (4,), (4,)], lambda x, w, b: F.batch_norm(x, None, None, w, b)),
    "binary_cross_entropy": ([(3, 5), (3, 5)], lambda x, t: F.binary_cross_entropy(x.sigmoid(), t.sigmoid())),
    "binary_cross_entropy_with_logits": ([(3, 5), (3, 5)], lambda x, t: F.binary_cross_entropy_with_logits(x, t.sigmoid())),
    "celu": ([(3, 5)], lambda x: F.celu(x, 1.5)),
    "channel_shuffle": ([IMAGE], lambda x: F.channel_shuffle(x, 2) * 2),
    "conv1d": ([(2, 3, 9), (4, 3, 2), (4,)], lambda x, w, b: F.conv1d(x, w, b, padding=1)),
    "conv2d": ([IMAGE, (6, 2, 3, 2), (6,)], lambda x, w, b: F.conv2d(x, w, b, (2, 1), 1, groups=2)),
    "conv3d": ([(1, 4, 4, 5, 3), (6, 2, 2, 3, 2), (6,)], lambda x, w, b: F.conv3d(x, w, b, (2, 1, 1), 1, groups=2)),
    "conv_transpose1d": ([(2, 3, 5), (3, 2, 3)], lambda x, w: F.conv_transpose1d(x, w, None, 2, 1)),
    "conv_transpose2d": ([(2, 3, 3, 2), (3, 2, 2, 3)], lambda x, w: F.conv_transpose2d(x, w, None, 2, 1, 2, dilation=3)),
    "cosine_similarity": ([(3, 5), (3, 5)], F.cosine_similarity),
    "cross_entropy": ([(6, 5), LABELS], lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1)),
    "dropout": ([(3, 5)], lambda x: F.dropout(x, 0.5, False) * 2),
    "dropout2d": ([IMAGE], lambda x: F.dropout2d(x, 0.5, False) * 2),
    "elu": ([(3, 5)], lambda x: F.elu(x, 1.5)),
    "embedding": ([LABELS, (5, 4)], F.embedding),
    "flatten": ([IMAGE], lambda x: F.flatten(x) * 2),
    "gelu": ([(3, 5)], lambda x: (F.gelu(x), F.gelu(x, "tanh"))),
    "glu": ([(3, 6)], F.glu),
    "group_norm": ([IMAGE, (4,), (4,)], lambda x, w, b: F.group_norm(x, 2, w, b)),
    "hardsigmoid": ([(3, 5)], lambda x: F.hardsigmoid(x * 3)),
    "hardswish": ([(3, 5)], lambda x: F.hardswish(x * 3)),
    "hardtanh": ([(3, 5)], F.hardtanh),
    "huber_loss": ([(3, 5), (3, 5)], F.huber_loss),
    "instance_norm": ([IMAGE, (4,), (4,)], lambda x, w, b: F.instance_norm(x, None, None, w, b)),
    "interpolate": ([IMAGE], lambda x: (F.interpolate(x, (7, 9), mode="bilinear"), F.interpolate(x, scale_factor=2))),
    "kl_div": ([(3, 5), (3, 5)], lambda x, t: F.kl_div(F.log_softmax(x), F.softmax(t), reduction="sum")),
    "l1_loss": ([(3, 5), (3, 5)], F.l1_loss),
    "layer_norm": ([(3, 37), (37,), (37,)], lambda x, w, b: F.layer_norm(x, 37, w, b)),
    "leaky_relu": ([(3, 5)], F.leaky_relu),
    "linear": ([(3, 5), (4, 5), (4,)], F.linear),
    "local_response_norm": ([IMAGE], lambda x: F.local_response_norm(x, 3, 0.5)),
    "log_softmax": ([(3, 5)], F.log_softmax),
    "logsigmoid": ([(3, 5)], F.logsigmoid),
    "max_pool1d": ([(2, 3, 7)], lambda x: F.max_pool1d(x, 3, 2, 1)),
    "max_pool2d": ([IMAGE], lambda x: F.max_pool2d(x, 3, 2, 1)),
    "mish": ([(3, 5)], F.mish),
    "mse_loss": ([(3, 5), (3, 5)], F.mse_loss),
    "nll_loss": ([(6, 5), LABELS], lambda x, y: F.nll_loss(F.log_softmax(x), y, reduction="sum")),
    "normalised": ([(3, 5)], lambda x: F.normalised(x, (1,), 1e-5)),
    "normalize": ([(3, 5)], F.normalize),
    "pad": ([IMAGE], lambda x: (F.pad(x, (1, 2)), F.pad(x, (1, 2, 2, 1), "reflect"))),
    "pixel_shuffle": ([IMAGE], lambda x: F.pixel_shuffle(x, 2) * 2),
    "pixel_unshuffle": ([(2, 3, 4, 6)], lambda x: F.pixel_unshuffle(x, 2) * 2),
    "prelu": ([IMAGE, (4,)], F.prelu),
    "relu": ([(3, 5)], F.relu),
    "relu6": ([(3, 5)], lambda x: F.relu6(x * 5)),
    "rms_norm": ([(3, 37), (37,)], lambda x, w: F.rms_norm(x, 37, w)),
    "scaled_dot_product_attention": ([(2, 3, 4), (2, 5, 4), (2, 5, 4)], F.scaled_dot_product_attention),
    "selu": ([(3, 5)], F.selu),
    "sigmoid": ([(3, 5)], F.sigmoid),
    "silu": ([(3, 5)], F.silu),
    "smooth_l1_loss": ([(3, 5), (3, 5)], F.smooth_l1_loss),
    "softmax": ([(3, 5)], F.softmax),
    "softplus": ([(3, 5)], lambda x: F.softplus(x * 5, 2.0)),
    "softsign": ([(3, 5)], F.softsign),
    "stochastic_depth": ([IMAGE], lambda x: F.stochastic_depth(x, 0.5, "row", False) * 2),
    "tanh": ([(3, 5)], F.tanh),
    "unfold": ([IMAGE], lambda x: F.unfold(x, 3, padding=1)),
}


def numbers(shape: Shape, dtype: DType, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if isinstance(shape, str):  # labels of six rows and five classes, in an integer type of their own for each float
        return rng.integers(0, 5, 6).astype({"float32": "int64", "float64": "int32", "bfloat16": "uint8"}[dtype.name])
    return rng.standard_normal(shape).astype(dtype)


def with_gradients(f: Callable[..., Any], inputs: Sequence[Tensor]) -> list[Node]:
    """The outputs, and the gradients of a weighted sum of them with respect to the inputs."""
    found = f(*inputs)
    outputs = list(found) if isinstance(found, tuple) else [found]
    weights = [np.cos(np.arange(one.size)).reshape(one.shape) for one in outputs]
    total = functools.reduce(
        operator.add, [(one * cr.tensor(w, one.dtype)).sum() for one, w in zip(outputs, weights, strict=True)]
    )
    gradients = cr.grad(total, [one for one in inputs if one.requires_grad])
    return [one.node for one in (*outputs, *gradients) if one is not None]


def test_every_function_is_tried() -> None:
    assert sorted(COMPOSED) == sorted(F.__all__)


@pytest.mark.parametrize("name", COMPOSED)
def test_compositions_in_every_float(name: str) -> None:
    shapes, f = COMPOSED[name]
    nodes: list[Node] = []
    values: dict[Node, np.ndarray] = {}
    expected: list[Node] = []
    for dtype in filter(is_float, PROMOTION_CHAIN):
        arrays = [numbers(shape, dtype, seed) for seed, shape in enumerate(shapes)]
        with cr.engine("reference"):
            expected += with_gradients(f, [cr.tensor(one, requires_grad=is_float(one.dtype)) for one in arrays])
        with tracing():
            inputs = [placeholder(one.shape, one.dtype, requires_grad=is_float(one.dtype)) for one in arrays]
            nodes += with_gradients(f, inputs)
        values.update(zip([one.node for one in inputs], arrays, strict=True))
    for number, (one, other) in enumerate(zip(compiled(Graph(*nodes), values), expected, strict=True)):
        assert other.value is not None
        size = float(np.abs(other.value.astype(np.float64)).max())
        assert_equal(one, other.value, f"{name}, {number}", absolute=RELATIVE[other.dtype.name] * size)


METHODS: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "sums": [
        lambda x: x.sum(),
        lambda x: x.sum((0, 2)),
        lambda x: x.mean(1),
        lambda x: x.mean(),
        lambda x: x.var(0, ddof=1),
        lambda x: x.any(1),
        lambda x: x.all((0, 1)),
        lambda x: x.std(1),
        lambda x: x.prod((0, 1)),
        lambda x: x.cumsum(2),
        lambda x: x.norm(axis=1),
        lambda x: x.logsumexp(0),
    ],
    "extremes": [
        lambda x: x.max(),
        lambda x: x.max((0, 2)),
        lambda x: x.min(1, True),
        lambda x: x.min(),
        lambda x: x.argmax(),
        lambda x: x.argmin(2),
        lambda x: x.clip(1, 3),
    ],
    "places": [
        lambda x: x[1:, ::2],
        lambda x: x[[1, 0, 1]],
        lambda x: x[:, -1],
        lambda x: x.flip(1),
        lambda x: x.swapaxes(0, 2),
        lambda x: x.pad([(0, 1)] * 3, 1),
        lambda x: x.pad([(2, 1)] * 3, mode="reflect"),
        lambda x: x.repeat([1, 0, 2], axis=0),
        lambda x: x.tile((2, 1, 2)),
        lambda x: x.roll((1, 2), (0, 2)),
        lambda x: x.tril(1),
        lambda x: x.sort(1),
        lambda x: x.argsort(0, descending=True),
        lambda x: x.topk(2)[0],
        lambda x: x.chunk(2, 1)[1],
        lambda x: cr.take_along_axis(x, x.argmax(1)[:, None], 1),
        lambda x: cr.concatenate([x, x[:, :2]], 1),
        lambda x: cr.stack([x, x > 1]),
    ],
    "arithmetic": [
        lambda x: x * 3 - 1,
        lambda x: -x,
        lambda x: abs(x),
        lambda x: x**3,
        lambda x: 2 / (x + 1),
        lambda x: 7 - x,
        lambda x: x.sign(),
        lambda x: x @ x.swapaxes(1, 2),
        lambda x: x[0, 0] @ x[1, 1],
    ],
}


@pytest.mark.parametrize("name", METHODS)
def test_what_a_tensor_does_in_every_dtype(name: str) -> None:
    nodes: list[Node] = []
    values: dict[Node, np.ndarray] = {}
    expected: list[Tensor] = []
    for dtype in PROMOTION_CHAIN:
        array = np.random.default_rng(5).integers(0, 5, (3, 4, 5)).astype(dtype)
        for f in METHODS[name]:
            try:
                with cr.engine("reference"):
                    expected.append(f(cr.tensor(array)))
            except UserError:
                continue
            with tracing():
                x = placeholder(array.shape, dtype)
                nodes.append(f(x).node)
            values[x.node] = array
    assert len(nodes) > 20
    for number, (one, other) in enumerate(zip(compiled(Graph(*nodes), values), expected, strict=True)):
        assert_equal(one, other.numpy(), f"{name}, {number}", absolute=RELATIVE.get(other.dtype.name, 0))


# ---- numbers in the program: each is the one that was written

WRITTEN: list[tuple[str, list[float], Callable[[Tensor], Tensor]]] = [
    ("int64", [1, 2, 3], lambda x: x + (2**53 + 1)),
    ("int64", [1, 2, 3], lambda x: x * (2**62 + 1)),
    ("int64", [2**53, 2**53 + 1], lambda x: x == 2**53 + 1),
    ("int64", [1, 2, 3], lambda x: cr.where(x > 1, 2**62 + 1, x)),
    ("int64", [5, 2**62 + 3], lambda x: cr.maximum(x, 2**62 + 1)),
    ("bfloat16", [1, 2], lambda x: x.pad([(1, 2)], 0.1)),
    ("float32", [-0.0, 0.0], lambda x: 1 / (x + 0.0)),
    ("float32", [-0.0, 0.0], lambda x: 1 / (x - -0.0)),
    ("float32", [1, -1], lambda x: 1 / cr.where(x > 0, 0.0, -0.0) + 1 / cr.where(x > 0, -0.0, x)),
    ("float32", [1e38, 1e-10], lambda x: x * 1e-30 * 1e-30),
    ("float32", [1e-37, -1e-35], lambda x: x * 1e30 * 1e30),
]


@pytest.mark.parametrize(("dtype", "numbers", "f"), WRITTEN)
def test_a_number_is_the_one_that_was_written(dtype: str, numbers: list[float], f: Callable[[Tensor], Tensor]) -> None:
    x = cr.tensor(np.array(numbers).astype(as_dtype(dtype)))
    with cr.engine("reference"):
        expected = f(x).numpy()
    np.testing.assert_array_equal(cr.compile(f)(x).numpy(), expected)


def test_a_border_of_a_number_that_no_float_holds() -> None:
    for pad in (cr.Tensor.pad, cr.compile(cr.Tensor.pad)):
        assert pad(cr.tensor([7]), [(1, 0)], 2**53 + 1).tolist() == [2**53 + 1, 7]


def test_floats_that_no_integer_holds() -> None:
    """On every processor as NumPy has it on x86, from both engines."""
    x = [np.nan, np.inf, -np.inf, 2.0**31, -3e9, 2.0**63, -1e19, 300, -1, 255.9]
    least, lowest = -(2**31), -(2**63)
    expected = {
        "int32": [least, least, least, least, least, least, least, 300, -1, 255],
        "int64": [lowest, lowest, lowest, 2**31, -3 * 10**9, lowest, lowest, 300, -1, 255],
        "uint8": [0, 0, 0, 0, 0, 0, 0, 44, 255, 255],
    }
    for dtype, numbers in expected.items():
        f = cr.compile(lambda x, dtype=dtype: x.astype(dtype))
        for engine in ("native", "reference"):
            with cr.engine(engine):
                assert f(np.array(x)).numpy().tolist() == numbers
                assert f(np.array(x * 5)).numpy().tolist() == numbers * 5, "in vectors"


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        ("uint8", -1, "pad: -1 does not fit dtype uint8: pad with a number that does, or cast to a wider dtype first"),
        ("uint8", 0.5, "pad: 0.5 does not fit dtype uint8: pad with a number that does, or cast to a wider dtype first"),
        ("int64", 2**63, f"pad: {2**63} does not fit dtype int64: pad with a number that does, or cast to a wider dtype first"),
        ("int32", np.nan, "pad: nan does not fit dtype int32: pad with a number that does, or cast to a wider dtype first"),
        ("bool", 2, "pad: 2 does not fit dtype bool: pad with a number that does, or cast to a wider dtype first"),
        ("float32", 1e39, "pad: 1e+39 does not fit dtype float32: pad with a number that does, or cast to a wider dtype first"),
    ],
)
def test_pad_refuses_a_number_that_does_not_fit(dtype: str, value: float, text: str) -> None:
    with pytest.raises(UserError) as caught:
        cr.zeros((2,), dtype).pad([(1, 1)], value)
    assert str(caught.value) == text


def test_scatter_add_refuses_bool() -> None:
    with pytest.raises(UserError) as caught:
        ops.scatter_add(leaf(np.ones(3, bool)), leaf(np.zeros(3, np.int64)), axis=0, size=2)
    assert str(caught.value) == "scatter_add: is not defined for bool, got bool[3]: cast to int32 first to count"
