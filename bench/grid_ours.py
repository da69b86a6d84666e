"""chainrule's side of the grid: one JSON line, seconds by case and pass."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

import chainrule as cr
from bench.grid import CASES, Case
from chainrule import nn
from chainrule.cpu.runtime.limits import measure_limits
from chainrule.tensor import CompiledFunction

F = nn.functional
LIMITS = measure_limits()


def passes(case: Case) -> dict[str, float]:
    """Seconds per pass: of the kernels of the convolution, with the packing of its weight, as in a program whose images lie
    channels-last already (the copies that bring the border of a program into that order are left out, as PyTorch's side
    begins from tensors in the order that it likes best)."""
    rng = np.random.default_rng(0)
    inputs, outputs = (case.filters, case.channels) if case.transposed else (case.channels, case.filters)
    x = rng.standard_normal((case.batch, case.channels, case.size, case.size)).astype(np.float32)
    w = rng.standard_normal((outputs, inputs // case.groups, case.kernel, case.kernel)).astype(np.float32)

    def forward(image: cr.Tensor, weight: cr.Tensor) -> cr.Tensor:
        if case.transposed:
            return F.conv_transpose2d(image, weight, None, case.stride, case.padding, groups=case.groups)
        return F.conv2d(image, weight, None, case.stride, case.padding, case.dilation, case.groups)

    u = rng.standard_normal(cr.trace(forward, cr.tensor(x), cr.tensor(w)).outputs[0].shape).astype(np.float32)
    image, weight = cr.tensor(x, requires_grad=True), cr.tensor(w, requires_grad=True)

    def input_gradient(image: cr.Tensor, weight: cr.Tensor, upstream: cr.Tensor) -> cr.Tensor | None:
        return cr.grad(forward(image, weight), [image], upstream)[0]

    def weight_gradient(image: cr.Tensor, weight: cr.Tensor, upstream: cr.Tensor) -> cr.Tensor | None:
        return cr.grad(forward(image, weight), [weight], upstream)[0]

    upstream = cr.tensor(u)
    return {
        "forward": seconds(cr.compile(forward), cr.tensor(x), cr.tensor(w)),
        "input": seconds(cr.compile(input_gradient), image, cr.tensor(w), upstream),
        "weight": seconds(cr.compile(weight_gradient), cr.tensor(x), weight, upstream),
    }


def seconds(run: CompiledFunction[Any, Any], *inputs: cr.Tensor) -> float:
    """The fastest of a few profiles, each the median of several runs."""
    run(*inputs)
    best = float("inf")
    for _ in range(4):
        rows = run.program.profile(7, LIMITS).kernels
        best = min(best, sum(row.seconds for row in rows if row.family != "loops"))
    return best


def main() -> None:
    found = {}
    for place, case in enumerate(CASES):
        found |= {f"{place} {name}": value for name, value in passes(case).items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
