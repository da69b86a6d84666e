"""The recipes of docs/recipes.md for CIFAR-10 as a folder of JPEG files: their options, and PyTorch on the same, in turn."""

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
COMMON = (
    "--model fastnet --batch-size 512 --lr 1.0 --momentum 0.85 --weight-decay 0.00133 --label-smoothing 0.2 --schedule linear "
    "--warm-up 0.23 --flip-test"
)
"""What both recipes share."""
RECIPES = {"quick": "--epochs 7 --augment flip,crop=2", "long": "--epochs 20 --augment flip,crop=4"}
"""The other options of each."""


def ours(data: Path, options: str, seed: int, folder: Path) -> dict[str, Any]:
    """What a training with the options ended with."""
    command = [sys.executable, "-m", "chainrule", "train", "--data", str(data), *COMMON.split(), *options.split()]
    command += ["--seed", str(seed), "--out", str(folder)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command[2:])} failed:\n{done.stderr.strip()}")
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def measure(torch_python: str, pairs: int, data: Path | None, epochs: int) -> str:
    """A table, a row a seed: so many epochs of the long recipe on both sides, in turn."""
    from chainrule.cpu.runtime.threads import thread_count

    if data is None or not (data / "train").is_dir():
        raise BenchError(f"--data is {data}: give the folder of CIFAR-10 that has train/<class>/*.jpg and test/<class>/*.jpg")
    theirs = [
        torch_python,
        str(_HERE / "recipe_torch.py"),
        str(data),
        "--epochs",
        str(epochs),
        "--threads",
        str(thread_count()),
    ]
    trials = {mode: run_json([*theirs, "--mode", mode])["training_seconds"] for mode in ("eager", "channels_last")}
    mode = min(trials, key=trials.__getitem__)
    lines = [
        f"{epochs} epoch(s), PyTorch in its mode {mode}, the faster of both.",
        "",
        "| seed | ours | training s | waiting for images | PyTorch | training s | faster by |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    ratios = []
    for seed in range(pairs):
        with tempfile.TemporaryDirectory() as parent:
            a = ours(data, f"--epochs {epochs} --augment flip,crop=4", seed, Path(parent) / "run")
        b = run_json([*theirs, "--mode", mode, "--seed", str(seed)])
        ratios.append(b["training_seconds"] / a["training_seconds"])
        lines.append(
            f"| {seed} | {100 * a['accuracy']:.2f}% | {a['training_seconds']:.1f} "
            f"| {100 * a['waiting_seconds'] / a['training_seconds']:.1f}% "
            f"| {100 * b['accuracy']:.2f}% | {b['training_seconds']:.1f} | {ratios[-1]:.2f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join([*lines, "", f"Median: {statistics.median(ratios):.2f} times as fast."]) + "\n"
