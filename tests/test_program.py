"""Programs as they run: the same bits on any number of threads, constant memory, what a profile and a plan say."""

from __future__ import annotations

import hashlib
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler.lower import LoopTask
from chainrule.compiler.pipeline import plan
from chainrule.cpu import threads
from chainrule.cpu.loops import MEMORY_TYPES
from chainrule.cpu.program import Program
from chainrule.graph import Graph, Node, TensorType, leaf
from chainrule.graph.dtypes import bool_, is_float
from chainrule.ops import REGISTRY, Primitive, Spec, run_reference, running_on
from chainrule.tensor import Tensor, placeholder, tracing


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = threads.thread_count()
    yield
    threads.set_threads(before)


# ---- every primitive, natively

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


@pytest.mark.parametrize(("primitive", "spec"), CASES)
def test_every_primitive_gives_the_reference_natively(primitive: Primitive, spec: Spec) -> None:
    arrays = drawn(spec)
    with running_on(None):
        inputs = [leaf(TensorType(a.shape, a.dtype)) for a in arrays]
        node = primitive(*inputs, **spec.attributes)
    program = Program(Graph(node))
    for one, array in zip(inputs, arrays, strict=True):
        if program.needs(one):
            program.bind(one, array)
    program.run()
    found, expected = program.output(0), run_reference(primitive, arrays, spec.attributes, node.type)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if not is_float(expected.dtype):
        np.testing.assert_array_equal(found, expected)
        return
    tolerance = {"float64": 1e-12, "float32": 3e-6, "bfloat16": 1e-2}[expected.dtype.name]
    np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance)


def test_every_dtype_has_a_place_in_memory() -> None:
    assert set(MEMORY_TYPES) == {"bool", "uint8", "int32", "int64", "bfloat16", "float32", "float64"}


# ---- threads


def trained_weights(count: int, steps: int) -> str:
    threads.set_threads(count)
    cr.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.ReLU6(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, stride=2, padding=1),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(24 * 16, 10),
    )
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((32, 3, 16, 16)).astype(np.float32), rng.integers(0, 10, 32)

    @cr.compile
    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(steps):
        step(images, labels)
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.tobytes())
    return digest.hexdigest()


def test_the_same_bits_at_any_number_of_threads() -> None:
    assert len({trained_weights(count, 50) for count in (1, 2, 3, 5)}) == 1


def test_the_same_bits_from_run_to_run() -> None:
    assert trained_weights(2, 10) == trained_weights(2, 10)


def test_two_python_threads_may_run_programs() -> None:
    cells = [cr.Buffer(np.zeros(1000)) for _ in range(2)]
    steps = [cr.compile(lambda cell=cell: cell.assign(cell + 1)) for cell in cells]

    def work(step: Callable[[], None]) -> None:
        for _ in range(200):
            step()

    both = [threading.Thread(target=work, args=(step,)) for step in steps]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert all(np.array_equal(cell.numpy(), np.full(1000, 200)) for cell in cells)


def test_ctrl_c_is_heard_within_a_step() -> None:
    code = (
        "import chainrule as cr, numpy as np\n"
        "w = cr.Buffer(np.ones((64, 64)))\n"
        "f = cr.compile(lambda: w.assign((w @ w) * 0.01))\n"
        "f()\nprint('ready', flush=True)\n"
        "try:\n    while True: f()\n"
        "except KeyboardInterrupt: print('heard', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        assert process.stdout.readline() == "heard\n"
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - begin < 5


# ---- memory


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_memory_is_constant_over_ten_thousand_steps() -> None:
    w, v = cr.Parameter(np.ones((40, 30), np.float32)), cr.Buffer(np.zeros((40, 30), np.float32))

    @cr.compile
    def step(x: Tensor) -> Tensor:
        w.grad = None
        error = ((x @ w) ** 2).mean()
        error.backward()
        assert w.grad is not None
        v.assign(v * 0.9 + w.grad)
        w.assign(w - v * 1e-4)
        return error

    x = np.random.default_rng(0).standard_normal((16, 40)).astype(np.float32)
    for _ in range(500):
        step(x)
    before = resident_bytes()
    for _ in range(10_000):
        step(x)
    assert resident_bytes() - before < 2 << 20


def test_memory_is_bounded_over_fifty_shapes() -> None:
    w = cr.Parameter(np.ones((64, 32), np.float32))
    f = cr.compile(lambda x: (x @ w).tanh().sum())
    sizes: list[int] = []
    for rows in range(1, 51):
        f(np.ones((2000 + rows, 64), np.float32))
        sizes.append(resident_bytes())
    assert sizes[-1] - sizes[24] < 24 << 20, "a shape takes over 1 MB of arena here; old programs are forgotten"


# ---- looking


class Block(nn.Module):
    """A basic block of a ResNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu(self.bn1(self.conv1(x)))
        return nn.functional.relu(self.bn2(self.conv2(y)) + x)


def test_a_residual_block_reads_and_writes_each_activation_as_rarely_as_can_be() -> None:
    """Forward and backward through a block; counted are the loops and heavy operations that read or write each image."""
    block = Block(16)
    with tracing():
        x = placeholder((16, 16, 32, 32), requires_grad=True)
        y = block(x)
        y.backward(placeholder((16, 16, 32, 32)))
    assert x.grad is not None
    gradients = [one.grad.node for one in block.parameters() if one.grad is not None]
    nodes: list[Node] = [y.node, x.grad.node, *gradients]
    tasks = plan(Graph(*nodes), []).schedule.tasks
    size = 16 * 16 * 32 * 32
    loops = [task for task in tasks if isinstance(task, LoopTask)]
    found = [
        (sum(one.elements == size for one in task.reads), sum(one.elements == size for one in task.writes)) for task in loops
    ]
    large = [one for one in found if one != (0, 0)]
    copies = [
        one
        for task, one in zip(loops, found, strict=True)
        if one != (0, 0) and len(task.nest.body) == 1 and not task.nest.reductions
    ]
    large = [one for one in large if True]
    assert len(copies) <= 4, "x, its gradient, the result and the upstream gradient change layout at the border"
    inner = sorted(large)
    forward_statistics = [(1, 0)] * 4  # per normalisation: the sum, and the spread, both as the convolution leaves its units
    assert inner.count((1, 0)) == len(forward_statistics)
    assert inner.count((2, 0)) == 1, "backward, first normalisation: two sums over gradient and convolution in one pass"
    assert inner.count((2, 1)) >= 3, "ReLU of sum and residual; the gradients of both normalisations"


def test_a_profile_names_kernels_and_changes_nothing() -> None:
    w = cr.Parameter(np.ones((64, 64), np.float32))
    f = cr.compile(lambda x: w.assign(w + (x @ w).exp().mean(0)))
    f(np.zeros((32, 64), np.float32))
    before = w.numpy().copy()
    profile = f.program.profile(2)
    np.testing.assert_array_equal(w.numpy(), before)
    assert {row.family for row in profile.kernels} >= {"loops"}
    assert profile.seconds > 0
    text = str(profile)
    assert "Gflop/s" in text
    assert "test_program.py" in text
