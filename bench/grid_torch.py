"""PyTorch's side of the grid: one JSON line, seconds by case and pass. Needs torch, and of ours only ``grid.py``'s cases."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

import torch

_HERE = Path(__file__).parent


def load_cases():
    """The cases without installing anything of ours where PyTorch lives."""
    sys.path.insert(0, str(_HERE.parent))
    spec = importlib.util.spec_from_file_location("bench.grid", _HERE / "grid.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench.grid"] = module
    spec.loader.exec_module(module)
    return module.CASES


def fastest(run) -> float:
    run()
    begin = time.perf_counter()
    run()
    count = max(1, int(0.03 / max(time.perf_counter() - begin, 1e-6)))
    best = float("inf")
    for _ in range(4):
        begin = time.perf_counter()
        for _ in range(count):
            run()
        best = min(best, (time.perf_counter() - begin) / count)
    return best


def passes(case, memory_format) -> dict[str, float]:
    inputs, outputs = (case.filters, case.channels) if case.transposed else (case.channels, case.filters)
    x = torch.randn(case.batch, case.channels, case.size, case.size).contiguous(memory_format=memory_format)
    w = torch.randn(outputs, inputs // case.groups, case.kernel, case.kernel).contiguous(memory_format=memory_format)
    pair = lambda n: [n, n]  # noqa: E731
    arguments = (pair(case.stride), pair(case.padding), pair(case.dilation), case.transposed, [0, 0], case.groups)
    with torch.no_grad():
        u = torch.randn_like(torch.convolution(x, w, None, *arguments))

        def backward(mask):
            return torch.ops.aten.convolution_backward(u, x, w, None, *arguments, mask)

        return {
            "forward": fastest(lambda: torch.convolution(x, w, None, *arguments)),
            "input": fastest(lambda: backward([True, False, False])),
            "weight": fastest(lambda: backward([False, True, False])),
        }


def main() -> None:
    found = {}
    for place, case in enumerate(load_cases()):
        both = [passes(case, one) for one in (torch.contiguous_format, torch.channels_last)]
        for name in both[0]:
            found[f"{place} {name}"] = min(one[name] for one in both)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
