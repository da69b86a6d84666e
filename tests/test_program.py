"""Programs as they run: the same bits on any number of threads, constant memory, what a profile and a plan say."""

from __future__ import annotations

import gc
import hashlib
import mmap
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler.pipeline import plan
from chainrule.compiler.tasks import LoopTask
from chainrule.cpu.codegen.machine_code import assembly
from chainrule.cpu.codegen.target import AVX512, NEON, Target, host_target
from chainrule.cpu.kernels.emitters import MEMORY_TYPES
from chainrule.cpu.kernels.loops import loop_kernel
from chainrule.cpu.runtime import threads
from chainrule.cpu.runtime.program import Program
from chainrule.graph import Graph, Node, TensorType, leaf
from chainrule.ops import Primitive, Spec, run_reference, running_on
from chainrule.tensor import Tensor, placeholder, tracing
from specs import CASES, assert_as_reference, drawn
from systems import needs


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = threads.thread_count()
    yield
    threads.set_threads(before)


# ---- every primitive, natively


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
    assert_as_reference(program.output(0), run_reference(primitive, arrays, spec.attributes, node.type))


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


@needs("signals")
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
        return int(file.read().split()[1]) * mmap.PAGESIZE


@needs("procfs")
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


def test_a_program_is_freed_as_soon_as_nobody_has_it() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @cr.compile
    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), np.arange(2))
        loss.backward()
        optimizer.step()
        return loss

    gc.disable()
    try:
        step(np.ones((2, 1, 8, 8), np.float32))
        program = weakref.ref(step.program)
        optimizer.zero_grad()  # a gradient lies in its program
        del step
        assert program() is None, "a cycle of references keeps it until the next garbage collection, hundreds of MB later"
    finally:
        gc.enable()


@needs("procfs")
def test_memory_is_bounded_over_fifty_shapes() -> None:
    w = cr.Parameter(np.ones((16, 256), np.float32))
    f = cr.compile(lambda x: ((x @ w).tanh() @ w.T).sum())
    sizes: list[int] = []
    for rows in range(1, 51):
        f(np.ones((10_000 + rows, 16), np.float32))
        sizes.append(resident_bytes())
    assert sizes[-1] - sizes[24] < 120 << 20, "a shape takes over 10 MB of arena here; old programs are forgotten"


# ---- other processors


def test_a_processor_with_narrow_vectors_gives_the_same_losses() -> None:
    code = (
        "import numpy as np, chainrule as cr\n"
        "from chainrule import nn, optim\n"
        "cr.manual_seed(1)\n"
        "model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(45, 3))\n"
        "optimizer = optim.SGD(model.parameters(), lr=0.1)\n"
        "x, y = np.random.default_rng(0).standard_normal((7, 1, 8, 8)).astype('f'), np.arange(7) % 3\n"
        "def step(x, y):\n"
        "    optimizer.zero_grad(); loss = nn.functional.cross_entropy(model(x), y); loss.backward(); optimizer.step()\n"
        "    return loss\n"
        "step = cr.compile(step)\n"
        "print([round(step(x, y).item(), 4) for _ in range(5)])\n"
    )
    found = {
        target: subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={**os.environ, "CHAINRULE_TARGET": target},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for target in ("", *(("neon",) if host_target().name == "neon" else ("avx2", "sse2")))
    }
    assert len(set(found.values())) == 1, found


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


def loops_of_a_block() -> list[LoopTask]:
    """Of forward and backward through a block, on images of 16 x 16 x 32 x 32."""
    block = Block(16)
    with tracing() as trace:
        x = placeholder((16, 16, 32, 32), requires_grad=True)
        y = block(x)
        y.backward(placeholder((16, 16, 32, 32)))
    assert x.grad is not None
    gradients = [one.node for one in trace.gradients.values() if one is not None]
    assert len(gradients) == 6
    nodes: list[Node] = [y.node, x.grad.node, *gradients]
    return [task for task in plan(Graph(*nodes), []).schedule.tasks if isinstance(task, LoopTask)]


EXPECTED = {(1, 0): 4, (1, 1): 2, (2, 0): 1, (2, 1): 3, (3, 2): 1}


def test_a_residual_block_reads_and_writes_each_activation_as_rarely_as_can_be() -> None:
    """Forward and backward through a block; counted are the loops and heavy operations that read or write each image."""
    loops, size = loops_of_a_block(), 16 * 16 * 32 * 32
    found = [
        (sum(one.elements == size for one in task.reads), sum(one.elements == size for one in task.writes)) for task in loops
    ]
    large = sorted(one for one in found if one != (0, 0))
    # (1, 0) four times: sum and spread of both normalisations, read while the convolution's units are in the cache.
    # (1, 1) twice: the first normalisation with its ReLU; and x, brought into the compiler's order at the border.
    # (3, 2): the second normalisation, the residual, ReLU, the mask of the upstream gradient and its two sums, all in one.
    # (2, 1) three times: the gradient of the second normalisation; of the first, its mask computed again from the
    # convolution; the sum of both branches' gradients. (2, 0): the two sums of the first normalisation.
    assert {one: large.count(one) for one in large} == EXPECTED


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
    assert profile.flushing == profile.subnormals == 0
    assert "subnormal" not in text


def test_a_profile_counts_subnormal_numbers() -> None:
    f = cr.compile(lambda x, y: (x * 1e-30, y * 2.0, (y + 1.0).exp()))
    x, y = np.full(100, 1e-10, np.float32), np.ones(100, np.float32)
    y[:3] = 1e-40
    small, zero, _ = f(x, y)
    assert small.numpy().max() == zero.numpy()[:3].max() == 0
    profile = f.program.profile(1)
    assert profile.subnormals == 3
    assert profile.flushing == 1
    assert "subnormal numbers, which count as zero: 3 among inputs and cells; among the results of 1 kernels" in str(profile)
    assert ", subnormal results set to zero" in str(profile)


# ---- the code of loops for other processors


@pytest.mark.parametrize(("target", "register"), [(NEON, r"\bq\d+"), (AVX512, r"%zmm\d+")], ids=["neon", "avx512"])
def test_inner_loops_of_a_residual_block_stay_in_registers(target: Target, register: str) -> None:
    inner = 0
    for task in loops_of_a_block():
        kernel = loop_kernel(task.nest, target).named(target)
        text = assembly(kernel.text(target), target, kernel.name)
        for block in re.split(r"\n(?=\.LBB\d+_\d+:)", text)[1:]:
            label = block.partition(":")[0]
            loop = re.match(rf"[\s\S]*?\n\s+(?:b\.\w+|j\w+|cbn?z\s+\w+,|tbn?z\s+\w+, #\d+,)\s+{re.escape(label)}\n", block)
            if loop is None or not re.search(register.replace("q", "[qv]"), loop[0]):
                continue
            inner += 1
            assert not re.search(rf"(?:\(%rsp\)|\[sp)[^\n]*{register}|{register}[^\n]*(?:\(%rsp\)|\[sp)", loop[0]), loop[0]
    assert inner >= len(loops_of_a_block()) / 2
