"""Another number of images, such as that of an epoch's last batch, needs hardly any new machine code: kernels share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, optim
from chainrule.cpu.codegen import assembler, code_cache
from chainrule.cpu.codegen.emit import Module
from chainrule.cpu.kernel import Kernel, KernelSteps
from chainrule.cpu.kernels import contraction, depthwise, pooling, winograd
from chainrule.cpu.kernels.geometry import Geometry
from chainrule.models import build
from kernels import HOST, NARROW, run_steps

TARGETS = {"host": HOST, "narrow": NARROW}


def square(batch: int, channels: int, filters: int, side: int, kernel: int, stride: int = 1, groups: int = 1) -> Geometry:
    padding = kernel // 2
    out = (side + 2 * padding - kernel) // stride + 1
    return Geometry(
        batch, channels, filters, (side, side), (out, out), (kernel, kernel), (stride, stride),
        ((padding, padding), (padding, padding)), (1, 1), groups,
    )  # fmt: skip


def convolutions(family: object, *sizes: int, **options: int) -> list[Callable[[int], KernelSteps]]:
    def of(name: str) -> Callable[[int], KernelSteps]:
        return lambda batch: getattr(family, name)(HOST, "float32", square(batch, *sizes, **options))

    return [of(name) for name in ("convolution", "input_gradient", "weight_gradient")]


OPERATIONS: dict[str, list[Callable[[int], KernelSteps]]] = {
    "3 x 3": convolutions(winograd, 32, 48, 28, 3),
    "1 x 1": convolutions(contraction, 32, 48, 28, 1),
    "7 x 7, stride 2": convolutions(contraction, 3, 64, 64, 7, stride=2),
    "groups": convolutions(contraction, 32, 64, 28, 3, stride=2, groups=4),
    "depthwise": convolutions(depthwise, 48, 48, 28, 3, groups=48),
    "pooling": [
        lambda batch: pooling.max_pool(HOST, "float32", batch, 32, (28, 28), (14, 14), (2, 2), (2, 2), ((0, 0), (0, 0))),
        lambda batch: pooling.max_pool_route(HOST, "float32", batch, 32, (28, 28), (14, 14), (2, 2), (2, 2), ((0, 0), (0, 0))),
        lambda batch: pooling.sum_pool(HOST, "float32", batch, 32, (28, 28), (14, 14), (2, 2), (2, 2), ((0, 0), (0, 0))),
        lambda batch: pooling.sum_pool_gradient(
            HOST, "float32", batch, 32, (28, 28), (14, 14), (2, 2), (2, 2), ((0, 0), (0, 0))
        ),
    ],
    "linear": [
        lambda batch: contraction.matmul(HOST, "float32", 1, batch, 100, 300, (0, 300, 1), (0, 100, 1)),
        lambda batch: contraction.matmul(HOST, "float32", batch, 17, 100, 300, (5100, 300, 1), (30000, 100, 1)),
    ],
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_code_of_a_heavy_operation_does_not_depend_on_the_number_of_images(name: str) -> None:
    for make in OPERATIONS[name]:
        names, parameters = [], []
        for batch in (64, 57, 96):
            kernels = [step.kernel.named(HOST) for step in make(batch).steps]
            names.append([one.name for one in kernels])
            parameters.append([(one.parameters, one.units) for one in kernels])
        assert names[0] == names[1] == names[2]
        assert parameters[0] != parameters[1]


def compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that LLVM is given from now on."""
    names: list[str] = []
    assemble_all = assembler.assemble_all

    def noting(modules: list[tuple[str, str]], *rest: object) -> list[bytes]:
        given = list(modules)
        names.extend(name for name, _ in given)
        return assemble_all(given, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(assembler, "assemble_all", noting)
    return names


@pytest.mark.parametrize("model", ["resnet20", "mobilenet_small", "fastnet"])
def test_the_last_batch_of_an_epoch_compiles_at_most_a_quarter_of_the_kernels(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    code_cache.forget()
    names = compiled_kernels(monkeypatch)
    cr.manual_seed(0)
    network = build(model, 3, 10, (32, 32)).train()
    optimizer = optim.SGD([one for one in network.parameters() if one.requires_grad], lr=0.1, momentum=0.9)

    @cr.compile
    def step(images: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    counts = []
    for batch in (64, 40):
        names.clear()
        step.prepare(cr.zeros((batch, 3, 32, 32)), cr.zeros((batch,), dtype=cr.int64))
        counts.append(len(names))
    assert 4 * counts[1] <= counts[0], f"{counts}: {Counter(name.rpartition('_')[0] for name in names)}"


@settings(max_examples=40, deadline=None)
@given(
    batches=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    sizes=st.tuples(*[st.sampled_from([1, 3, 8, 17])] * 2),
    side=st.integers(3, 19),
    kernel=st.sampled_from([1, 3]),
    target=st.sampled_from(list(TARGETS)),
)
def test_shared_code_gives_each_batch_its_own_numbers(
    batches: tuple[int, int], sizes: tuple[int, int], side: int, kernel: int, target: str
) -> None:
    """The images of a small batch come first in a larger batch: what is computed of them is the same, bit by bit or nearly."""
    rng = np.random.default_rng(0)
    few, many = sorted(batches)
    image = rng.integers(-3, 4, (many, side, side, sizes[0])).astype(np.float32)
    weight = rng.integers(-3, 4, (sizes[1], sizes[0], kernel, kernel)).astype(np.float32)
    family = winograd if kernel == 3 else contraction
    results = []
    for batch in (few, many):
        geometry = square(batch, *sizes, side, kernel)
        steps = family.convolution(TARGETS[target], "float32", geometry)
        operands = {"image": image[:batch], "weight": weight}
        results.append(run_steps(steps, operands, (batch, side, side, sizes[1]), "float32", TARGETS[target]))
    np.testing.assert_allclose(results[0], results[1][:few], atol=2e-4)


def test_a_kernel_has_a_name_only_when_its_code_is_known() -> None:
    def generate(target: object, name: str) -> Module:
        module = Module()
        f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
        f.store(f.parameter(number), f.load(f["args"], "ptr"))
        return module

    kernels = []
    for number in (3, 5):
        kernel = Kernel("test_parameter", f"{number}", generate, 1)
        assert (kernel.name, kernel.parameters) == ("", ())
        kernels.append(kernel.named(HOST))
        assert kernels[-1].named(HOST) is kernels[-1]
        number = -1  # what the generator would now see must not matter: code and parameters are those of the signature
        assert kernel.named(HOST) == kernels[-1]
    assert kernels[0].name == kernels[1].name
    assert [one.parameters for one in kernels] == [(3,), (5,)]
