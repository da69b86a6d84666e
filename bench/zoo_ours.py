"""chainrule's side of the table of all models: one model, one process, one JSON line.

    python -m bench.zoo_ours MODEL [--batch 16] [--seconds 5] [--second-batch 7]

A step is zero_grad, forward, mean cross-entropy, backward, SGD with momentum, compiled, on random images of the model's usual
size. ``--second-batch`` also compiles the step for a batch of another size, as the last one of an epoch is.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from chainrule.cpu.runtime.threads import thread_count
from chainrule.models import MODELS, build

_WARM, _LEAST = 2, 3
"""Steps before the timed ones, and the fewest that are timed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--second-batch", type=int, default=0)
    a = parser.parse_args()
    entry = MODELS[a.model]
    channels, *size = entry.image
    cr.manual_seed(0)
    model = build(a.model, channels, entry.classes, (size[0], size[1])).train()
    optimizer = optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.001, momentum=0.9)

    @cr.compile
    def step(images: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    def batch(count: int) -> tuple[cr.Tensor, cr.Tensor]:
        rng = np.random.default_rng(0)
        images = rng.standard_normal((count, *entry.image)).astype(np.float32)
        return cr.tensor(images), cr.tensor(rng.integers(0, entry.classes, count))

    given, times = batch(a.batch), []
    begin = time.perf_counter()
    step.prepare(*given)
    compile_s = time.perf_counter() - begin
    first = time.perf_counter()
    while len(times) < _WARM + _LEAST or time.perf_counter() - first < a.seconds:
        begin = time.perf_counter()
        step(*given).item()
        times.append(time.perf_counter() - begin)
    second_s = 0.0
    if a.second_batch:
        other = batch(a.second_batch)
        begin = time.perf_counter()
        step.prepare(*other)
        second_s = time.perf_counter() - begin
    measured = sorted(times[_WARM:])
    found = {
        "model": a.model,
        "threads": thread_count(),
        "median_ms": 1e3 * measured[len(measured) // 2],
        "compile_s": compile_s,
        "first_step_s": compile_s + times[0],
        "second_batch_s": second_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
