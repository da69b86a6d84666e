"""The main job against PyTorch: `chainrule train`, only the seed given, and the same three epochs in PyTorch, in turn."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.pairs import BenchError, run_json

_HERE = Path(__file__).parent
_LEAST_ACCURACY = 0.99


def measure(torch_python: str, pairs: int) -> str:
    """A table, a row a seed: accuracy and seconds of training on both sides."""
    import chainrule
    from chainrule.cpu.runtime.threads import thread_count

    data = Path(chainrule.__file__).parent / "data" / "mnist"
    lines = [
        "| seed | ours | training s | PyTorch | training s | faster by |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    ratios = []
    for seed in range(pairs):
        ours = _ours(seed)
        command = [torch_python, str(_HERE / "peer_torch_mnist.py"), str(data), "--seed", str(seed)]
        theirs = run_json([*command, "--threads", str(thread_count())])
        ratios.append(theirs["training_seconds"] / ours["training_seconds"])
        lines.append(
            f"| {seed} | {100 * ours['accuracy']:.2f}% | {ours['training_seconds']:.1f} | {100 * theirs['accuracy']:.2f}% "
            f"| {theirs['training_seconds']:.1f} | {ratios[-1]:.2f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
        if ours["accuracy"] < _LEAST_ACCURACY:
            raise BenchError(f"seed {seed} ends at {100 * ours['accuracy']:.2f}%, below {100 * _LEAST_ACCURACY:.0f}%")
    return "\n".join([*lines, "", f"Median: {statistics.median(ratios):.2f} times as fast."]) + "\n"


def _ours(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        command = [sys.executable, "-m", "chainrule", "train", "--seed", str(seed), "--out", str(folder)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{' '.join(command[2:])} failed:\n{done.stderr.strip()}")
        found: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return found
