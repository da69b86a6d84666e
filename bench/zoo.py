"""Every model that chainrule has, a training step of 16 images of its usual size, against PyTorch: pairs in turn."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.pairs import BenchError, Pairs, Run, geometric_mean, run_json

_HERE = Path(__file__).parent
_BATCH, _SECOND_BATCH = 16, 7
_TRIAL_SECONDS = "2"


def measure(torch_python: str, names: Sequence[str], pairs: int, modes: Sequence[str], out: Path) -> str:
    """A table, a row a model. What is measured is kept in ``models.json`` at once, and not measured again by another call."""
    kept = out / "models.json"
    found: dict[str, dict[str, object]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name in names:
        if name not in found:
            found[name] = _compare(torch_python, name, pairs, modes)
            kept.write_text(json.dumps(found, indent=1))
    return _table({name: found[name] for name in names})


def ours(name: str, *options: str, cache: str) -> Run:
    path = os.pathsep.join([str(_HERE.parent), os.environ.get("PYTHONPATH", "")])
    line = [sys.executable, "-m", "bench.zoo_ours", name, "--batch", str(_BATCH), *options]
    return run_json(line, {"CHAINRULE_CACHE": cache, "PYTHONPATH": path})


def theirs(python: str, name: str, mode: str, *options: str) -> Run:
    from chainrule.models import MODELS

    entry = MODELS[name]
    image = "x".join(map(str, entry.image))
    line = [python, str(_HERE / "zoo_torch.py"), name, mode, image, str(entry.classes), "--batch", str(_BATCH), *options]
    return run_json(line)


def _compare(python: str, name: str, pairs: int, modes: Sequence[str]) -> dict[str, object]:
    trials: dict[str, float] = {}
    for mode in modes:
        try:
            trials[mode] = theirs(python, name, mode, "--seconds", _TRIAL_SECONDS)["median_ms"]
        except BenchError as error:
            print(f"  {name}: PyTorch's mode {mode} fails here: {str(error).splitlines()[-1]}", file=sys.stderr)
    if not trials:
        raise BenchError(f"{name}: no mode of PyTorch runs")
    best = min(trials, key=trials.__getitem__)
    run = Pairs()
    with tempfile.TemporaryDirectory() as cache:
        cold = ours(name, "--seconds", "0", "--second-batch", str(_SECOND_BATCH), cache=cache)
        cached = ours(name, "--seconds", "0", cache=cache)
        for number in range(pairs):
            run.ours.append(ours(name, cache=cache))
            run.theirs.append(theirs(python, name, best, "--threads", str(run.ours[-1]["threads"])))
            print(f"  {name} pair {number + 1}: {run.ratios[-1]:.2f}", file=sys.stderr, flush=True)
    return {"mode": best, "trials": trials, "cold": cold, "cached": cached, "ours": run.ours, "theirs": run.theirs}


def _table(found: dict[str, dict[str, object]]) -> str:
    head = [
        "model",
        "faster by",
        "least",
        "most",
        "ours ms",
        "PyTorch ms",
        "its mode",
        "first step s",
        "cached s",
        "its first s",
    ]
    head += ["second batch size s", "share of the first", "memory MB", "its MB"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    ratios = {}
    for name, row in found.items():
        run = Pairs(row["ours"], row["theirs"])  # type: ignore[arg-type]
        cold, cached = row["cold"], row["cached"]
        assert isinstance(cold, dict)
        assert isinstance(cached, dict)
        ratios[name] = run.ratio
        cells = [
            name,
            f"{run.ratio:.2f}",
            *(f"{one:.2f}" for one in run.spread),
            f"{run.median('ours', 'median_ms'):.1f}",
            f"{run.median('theirs', 'median_ms'):.1f}",
            str(row["mode"]),
            f"{cold['first_step_s']:.2f}",
            f"{cached['first_step_s']:.2f}",
            f"{statistics.median(one['first_step_s'] for one in run.theirs):.2f}",
            f"{cold['second_batch_s']:.2f}",
            f"{100 * cold['second_batch_s'] / cold['compile_s']:.0f}%",
            f"{run.median('ours', 'peak_rss_mb'):.0f}",
            f"{run.median('theirs', 'peak_rss_mb'):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    slower = [f"{name} ({ratio:.2f})" for name, ratio in ratios.items() if ratio < 1]
    mean = geometric_mean(list(ratios.values()))
    return "\n".join([*lines, "", f"Geometric mean: {mean:.2f}. Slower on: {', '.join(slower) or 'none'}."]) + "\n"
