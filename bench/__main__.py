"""Measures chainrule against PyTorch.

python -m bench --torch-python PATH          the five training steps, 7 pairs each
python -m bench mlp lenet --pairs 9
python -m bench grid --torch-python PATH     single convolutions, forward and both gradients
python -m bench plain --torch-python PATH    plain steps, node by node, against PyTorch's eager mode
python -m bench models --torch-python PATH   every model, or those named after it; torchvision is needed, too
python -m bench mnist --torch-python PATH    `chainrule train` against the same three epochs in PyTorch
python -m bench recipe --data FOLDER --torch-python PATH    an epoch of the recipe for CIFAR-10 (docs/recipes.md), likewise
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench import grid, mnist, recipe, zoo
from bench.pairs import BenchError, Pairs, run_json
from bench.report import Row, picture, table
from bench.workloads import WORKLOADS
from chainrule.models import MODELS

MODES = ("eager", "channels_last", "compile")
_HERE = Path(__file__).parent
_TRIALS, _TRIAL_SECONDS = 3, 60
"""Runs of each mode of PyTorch to choose one by; no more are begun after so long."""
_MULTIPLY_ADDS = {  # of one training step; the first layer needs no gradient of its input
    "mlp": 77.2e6,
    "lenet": 78.8e6,
    "resnet18": 106.6e9,
    "resnet50": 197.0e9,
    "mobilenet_v2": 14.4e9,
}


def ours(name: str, *options: str, cache: str | None = None) -> dict[str, object]:
    environment = {} if cache is None else {"CHAINRULE_CACHE": cache}
    path = os.pathsep.join([str(_HERE.parent), os.environ.get("PYTHONPATH", "")])
    return run_json([sys.executable, "-m", "bench.ours", name, *options], {**environment, "PYTHONPATH": path})


def theirs(python: str, name: str, mode: str, *options: str) -> dict[str, object]:
    return run_json([python, str(_HERE / "peer_torch.py"), name, mode, *options])


def check_torch(python: str) -> str:
    try:
        return str(run_json([python, "-c", "import json, torch; print(json.dumps({'version': torch.__version__}))"])["version"])
    except (BenchError, OSError) as error:
        raise BenchError(
            f"{python} has no PyTorch ({str(error).splitlines()[-1]}): make an environment for it with\n"
            "  python3 -m venv .torch && .torch/bin/pip install torch==2.13.0 numpy safetensors\n"
            "and pass --torch-python .torch/bin/python"
        ) from None


def best_mode(python: str, name: str, modes: tuple[str, ...]) -> str:
    """The mode of PyTorch with the lowest median over trial runs in turn; a mode that fails does not count."""
    found: dict[str, list[float]] = {}
    failed: set[str] = set()
    begin = time.monotonic()
    for trial in range(_TRIALS):
        if trial and time.monotonic() - begin > _TRIAL_SECONDS:
            break
        for mode in modes:
            if mode in failed:
                continue
            try:
                found.setdefault(mode, []).append(float(theirs(python, name, mode)["median_ms"]))  # type: ignore[arg-type]
            except BenchError as error:
                failed.add(mode)
                print(f"  {name}: PyTorch's mode {mode} fails here: {str(error).splitlines()[-1]}", file=sys.stderr)
    whole = {mode: statistics.median(times) for mode, times in found.items() if mode not in failed}
    if not whole:
        raise BenchError(f"{name}: no mode of PyTorch runs")
    return min(whole, key=whole.__getitem__)


def compare(name: str, a: argparse.Namespace) -> Row:
    from chainrule.cpu.runtime.limits import measure_limits

    mode = best_mode(a.torch_python, name, ("eager",) if a.what == "plain" else tuple(a.modes))
    options = ["--plain"] if a.what == "plain" else []
    with tempfile.TemporaryDirectory() as cache:
        cold = ours(name, *options, "--steps", "1", cache=cache)
        cached = ours(name, *options, "--steps", "1", cache=cache)
        pairs = Pairs()
        for number in range(a.pairs):
            pairs.ours.append(ours(name, *options, cache=cache))
            pairs.theirs.append(theirs(a.torch_python, name, mode, "--threads", str(pairs.ours[-1]["threads"])))
            print(f"  {name} pair {number + 1}: {pairs.ratios[-1]:.2f}", file=sys.stderr, flush=True)
    peak = max(measure_limits().fma_gflops["float32"] for _ in range(5)) * 1e9  # a neighbour may have one of the cores
    share = 2 * _MULTIPLY_ADDS[name] / (pairs.median("ours", "median_ms") / 1e3) / peak
    return Row(name, mode, pairs, cold, cached, share)


def installed_facts() -> list[str]:
    from chainrule.cpu.runtime.limits import measure_limits

    code = "import time, json; a = time.perf_counter(); import chainrule; print(json.dumps({'s': time.perf_counter() - a}))"
    seconds = min(float(run_json([sys.executable, "-c", code])["s"]) for _ in range(5))
    limits = measure_limits()
    return [
        f"Import of chainrule: {1e3 * seconds:.0f} ms.",
        f"This machine at the end: {limits.fma_gflops['float32']:.0f} Gflop/s of float32 multiply-adds, "
        f"{limits.copy_gb_per_s:.1f} GB/s copied (read and written), {limits.threads} threads.",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "what",
        nargs="*",
        default=[],
        help=f"workloads ({', '.join(WORKLOADS)}), or grid, plain, mnist, recipe, or models with names",
    )
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that has PyTorch")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--data", type=Path, help="for recipe: the folder of CIFAR-10 as JPEG files")
    parser.add_argument("--epochs", type=int, default=1, help="for recipe: how many epochs")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the table and the picture")
    a = parser.parse_args()
    words = a.what
    kinds = ("grid", "plain", "mnist", "models", "recipe")
    a.what = next((word for word in kinds if word in words), "steps")
    known = list(MODELS if a.what == "models" else WORKLOADS)
    names = [word for word in words if word not in kinds] or known
    try:
        unknown = [name for name in names if name not in known]
        if unknown:
            raise BenchError(f"unknown workload {unknown[0]!r}: known are {', '.join([*known, *kinds[:-1]])} and {kinds[-1]}")
        if a.pairs < 1:
            raise BenchError(f"--pairs must be at least 1, got {a.pairs}")
        version = check_torch(a.torch_python)
        a.out.mkdir(parents=True, exist_ok=True)
        if a.what in ("grid", "mnist"):
            text = (grid if a.what == "grid" else mnist).measure(a.torch_python, a.pairs)
            (a.out / f"{a.what}.md").write_text(text)
        elif a.what == "recipe":
            text = recipe.measure(a.torch_python, a.pairs, a.data, a.epochs)
            (a.out / "recipe.md").write_text(text)
        elif a.what == "models":
            text = zoo.measure(a.torch_python, names, a.pairs, a.modes, a.out)
            (a.out / "models.md").write_text(text)
        else:
            rows = [compare(name, a) for name in names]
            text = table(rows, [f"Against PyTorch {version}, {a.pairs} pairs.", *installed_facts()])
            (a.out / f"{a.what}.md").write_text(text)
            (a.out / f"{a.what}.svg").write_text(picture(rows))
            raw = {row.name: {"ours": row.pairs.ours, "theirs": row.pairs.theirs} for row in rows}
            (a.out / f"{a.what}.json").write_text(json.dumps(raw, indent=1))
        print(text)
        print(f"written to {a.out}/")
        return 0
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
