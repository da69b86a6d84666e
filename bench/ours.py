"""chainrule's side of the comparison: one workload, one process, one JSON line.

    python -m bench.ours WORKLOAD [--plain] [--steps N] [--start FILE]

Every step is zero_grad, forward, mean cross-entropy, backward, SGD with momentum 0.9 and learning rate 0.01 on one fixed
random batch, as in ``bench/peer_torch.py``; ``--start`` begins from the numbers that it saved. ``--plain`` runs the step node
by node instead of compiled.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

_BEGIN = time.perf_counter()

import numpy as np  # noqa: E402

import chainrule as cr  # noqa: E402
from bench.workloads import WORKLOADS  # noqa: E402
from chainrule import nn, optim  # noqa: E402
from chainrule.cpu.runtime.threads import thread_count  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--start")
    parser.add_argument("--profile", action="store_true")
    a = parser.parse_args()
    workload = WORKLOADS[a.workload]
    steps = a.steps or workload.steps
    cr.manual_seed(0)
    model = workload.model()
    rng = np.random.default_rng(0)
    images = rng.standard_normal((workload.batch, *workload.image)).astype(np.float32)
    labels = rng.integers(0, workload.classes, workload.batch)
    if a.start:
        from safetensors.numpy import load_file

        start = load_file(a.start)
        images, labels = start.pop("batch.images"), start.pop("batch.labels")
        start.pop("losses")
        model.load_state_dict(start)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def plain(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = plain if a.plain else cr.compile(plain)
    given = (cr.tensor(images), cr.tensor(labels))
    ready = time.perf_counter()
    losses, times = [], []
    begin = time.perf_counter()
    if not a.plain:
        step.prepare(*given)  # type: ignore[attr-defined]
    compile_s = time.perf_counter() - begin
    for _ in range(steps + 3):
        begin = time.perf_counter()
        losses.append(step(*given).item())
        times.append(time.perf_counter() - begin)
    measured = sorted(times[3:])
    found = {
        "library": f"chainrule {cr.__version__}",
        "workload": a.workload,
        "mode": "plain" if a.plain else "compiled",
        "batch": workload.batch,
        "threads": thread_count(),
        "median_ms": 1e3 * measured[len(measured) // 2],
        "min_ms": 1e3 * measured[0],
        "compile_s": compile_s,
        "first_step_s": compile_s + times[0],
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "setup_s": ready - _BEGIN,
        "losses": losses[:5],
    }
    print(json.dumps(found), flush=True)
    if a.profile and not a.plain:
        print(step.program.profile())  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
