"""The main job, measured: `chainrule train` without options but the seed, for several seeds, each a process of its own.

    python bench/mnist.py [SEED ...]        (by default 0 1 2)

Prints a table: accuracy on the 10,000 test images, seconds of training, seconds of the whole process. It fails, with exit
status 1, if a seed ends below 99.0% or takes 5 minutes or more.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LEAST_ACCURACY = 0.99
MOST_SECONDS = 300


def measure(seed: int, parent: Path) -> tuple[float, float, float]:
    """Accuracy, seconds of training, seconds of the whole process."""
    folder = parent / f"seed-{seed}"
    begin = time.perf_counter()
    command = [sys.executable, "-m", "chainrule", "train", "--seed", str(seed), "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    whole = time.perf_counter() - begin
    result = json.loads((folder / "result.json").read_text())
    return result["accuracy"], result["training_seconds"], whole


def main() -> int:
    seeds = [int(word) for word in sys.argv[1:]] or [0, 1, 2]
    print("seed  accuracy  training s  whole s")
    good = True
    with tempfile.TemporaryDirectory() as parent:
        for seed in seeds:
            accuracy, training, whole = measure(seed, Path(parent))
            good &= accuracy >= LEAST_ACCURACY and whole < MOST_SECONDS
            print(f"{seed:4}  {100 * accuracy:7.2f}%  {training:10.1f}  {whole:7.1f}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
