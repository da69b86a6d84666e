"""The folder of one run: what is in it, and how it stays whole.

    config.json             the options
    metrics.jsonl           one JSON object a line: "train" rows every so many steps, a "test" row after each epoch
    checkpoint.safetensors  everything that resuming needs
    model.safetensors       the weights after the latest epoch, for evaluate, predict and other programs
    curves.svg              loss and accuracy as a picture
    result.json             written at the end: the final figures and the confusion matrix

The folder appears with its configuration in it, by renaming, so a run that was killed at any moment can be resumed.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from chainrule.errors import UserError
from chainrule.formats import write_atomically
from chainrule.formats.atomic import cannot_write
from chainrule.train.config import Config


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: str | os.PathLike[str], config: Config) -> None:
        self.path = Path(path)
        self.config = config
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.model = self.path / "model.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        self.curves = self.path / "curves.svg"
        self.result = self.path / "result.json"

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: Config) -> RunFolder:
        """A new folder; a UserError if there is one of that name already."""
        target = Path(path)
        if target.exists() or target.is_symlink():
            hint = f"continue it with --resume {target}, or " if (target / "config.json").is_file() else ""
            raise UserError(f"the output folder {target} exists already: {hint}choose another name with --out")
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            temporary.mkdir(parents=True)
            write_atomically(temporary / "config.json", config.to_json())
            os.rename(temporary, target)
        except OSError as error:
            raise cannot_write(target, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls(target, config)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """A folder that is there; a UserError if it is no run."""
        target = Path(path)
        if not target.is_dir():
            raise UserError(f"there is no run folder {target}: give the folder that `chainrule train` printed")
        config = target / "config.json"
        if not config.is_file():
            raise UserError(f"{target} is no run folder: it holds no config.json")
        try:
            text = config.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{config} cannot be read ({error})") from None
        return cls(target, Config.from_json(text, config))

    # ---- metrics

    def metrics_size(self) -> int:
        return self.metrics.stat().st_size if self.metrics.exists() else 0

    def truncate_metrics(self, size: int) -> None:
        """Forget the rows that were written after the checkpoint that a run resumes from."""
        if self.metrics_size() > size:
            os.truncate(self.metrics, size)

    def append_metrics(self, row: dict[str, Any]) -> None:
        try:
            with open(self.metrics, "a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise cannot_write(self.metrics, error) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows so far; a last line that was cut off by a kill is left out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows


def next_folder(config: Config, parent: str | os.PathLike[str] = "runs") -> Path:
    """``runs/<model>-<data>-<n>`` with the first n that is free."""
    data = Path(config.data).name or "data"
    number = 1
    while (Path(parent) / f"{config.model}-{data}-{number}").exists():
        number += 1
    return Path(parent) / f"{config.model}-{data}-{number}"
