"""Running the command in tests, and small data sets to run it on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image
from safetensors import safe_open

import chainrule
from chainrule import cli
from chainrule.data import write_idx

WIDE = {"COLUMNS": "1000", "LINES": "100"}  # so that no message is broken into lines; what happens on less is test_widths
ENVIRONMENT = {**os.environ, **WIDE, "PYTHONPATH": str(Path(chainrule.__file__).parents[1])}
COMMAND = [sys.executable, "-W", "error", "-m", "chainrule"]
TYPED = f"{sys.executable} -m chainrule"  # how a process of these tests names itself in what it suggests


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it wrote."""

    status: int
    out: str
    err: str


def command(*arguments: object) -> Ended:
    """Run the command in this process. What it does not catch reaches the test."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["chainrule", *map(str, arguments)]),
        mock.patch.dict(os.environ, WIDE),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
            status: Any = 0
        except SystemExit as ended:
            status = ended.code or 0
    return Ended(status, out.getvalue(), err.getvalue())


def done(*arguments: object) -> str:
    """Run the command in this process, expect success, and return what it printed."""
    ended = command(*arguments)
    assert (ended.status, ended.err) == (0, "")
    return ended.out


def noted(*arguments: object) -> tuple[str, str]:
    """Run the command in this process, expect success, and return what it printed, and what it said of its data beside that."""
    ended = command(*arguments)
    assert ended.status == 0, ended
    assert ended.err, "nothing is said"
    return ended.out, ended.err


def refused(*arguments: object) -> str:
    """Run the command in this process, expect that it complains about what it was given, and return the message."""
    ended = command(*arguments)
    assert ended.status == 2, ended
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.out + ended.err
    return ended.err.removeprefix("error: ").rstrip("\n")


def process(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start the command as a process of its own, in which a warning is an error."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*COMMAND, *map(str, arguments)], env=ENVIRONMENT, text=True, **streams)


def pictures(count: int, classes: int, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images and their labels: each class has a pattern of its own, under noise. Every class occurs."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).integers(0, 2, (classes, *shape)) * 150
    labels = np.arange(count) % classes
    return np.clip(patterns[labels] + rng.integers(0, 100, (count, *shape)), 0, 255).astype(np.uint8), labels.astype(np.uint8)


def idx_folder(folder: Path, training: int = 48, test: int = 20, classes: int = 4, shape: tuple[int, int] = (12, 12)) -> Path:
    """Four IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", training), ("t10k", test)):
        images, labels = pictures(count, classes, shape, seed=count)
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels)
    return folder


def image_folder(
    folder: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 10, shape: tuple[int, ...] = (12, 12)
) -> Path:
    """folder/class/number.png."""
    images, labels = pictures(each * len(classes), len(classes), shape)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / classes[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    """dtype and bytes of every tensor of a safetensors file."""
    with safe_open(str(path), framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return {name: (str(array.dtype), array.tobytes()) for name, array in arrays.items()}


def metrics(run: Path) -> list[dict[str, Any]]:
    """Rows of the metrics file, without what depends on the clock."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("images_per_second", "seconds")} for row in rows]


def outcome(run: Path) -> dict[str, Any]:
    """All that a finished run left behind, without what depends on the clock: equal for equal runs."""
    result = json.loads((run / "result.json").read_text())
    del result["training_seconds"], result["waiting_seconds"]
    return {
        "files": sorted(path.name for path in run.iterdir()),
        "checkpoint": tensors(run / "checkpoint.safetensors"),
        "model": tensors(run / "model.safetensors"),
        "metrics": metrics(run),
        "curves": (run / "curves.svg").read_text(),
        "result": result,
    }


FILES = [
    "checkpoint.safetensors",
    "config.json",
    "curves.svg",
    "health.bin",
    "metrics.jsonl",
    "model.safetensors",
    "result.json",
    "snapshots",
]
"""What a finished run consists of."""
