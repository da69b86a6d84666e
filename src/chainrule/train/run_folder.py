"""The folder of one run: what is in it, and how it stays whole.

    config.json             the options
    metrics.jsonl           one JSON object a line: "train" rows every so many steps, a "test" row after each epoch; every
                            loss in it is the mean cross-entropy, without the label smoothing that training may add
    health.bin              how gradients flow and which units are alive, sampled: see ``health_record``
    snapshots/              weights at about twenty steps, to look back at: see ``snapshots``
    checkpoint.safetensors  everything that resuming needs
    model.safetensors       the weights after the latest epoch, for evaluate, predict and other programs
    curves.svg              loss and accuracy as a picture
    result.json             written at the end: the final figures and the confusion matrix
    capsule.safetensors     a step whose numbers were not finite: see ``capsule``
    notes.txt               what a person should know of the images of a folder, with every file that is left out
    evaluation/             what `chainrule evaluate` leaves: see ``evaluation_files``
    .lock                   held by the process that trains

The folder appears with its configuration in it, by renaming, so a run that was killed at any moment can be resumed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

from chainrule.arguments import explained, explained_methods
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import cannot_write, leftovers, temporary_name, write_atomically
from chainrule.formats.locks import FileLock
from chainrule.models.own import is_own
from chainrule.train.command_line import command_line
from chainrule.train.config import Config

NOTES = "notes.txt"

_NUMBERS = {
    "train": ("step", "epoch", "images", "loss", "accuracy", "lr", "images_per_second"),
    "test": ("step", "epoch", "loss", "accuracy", "train_loss", "train_accuracy", "seconds"),
}
"""The fields of a row of each kind."""


@explained_methods
class RunFolder:
    """Paths and files of one run."""

    @explained
    def __init__(self, path: str | os.PathLike[str], config: Config) -> None:
        self.config = config
        self._numbered_in: Path | None = None
        self._made = False
        self._place(Path(path))

    def _place(self, path: Path) -> None:
        self.path = path
        self.lock = FileLock(path / ".lock", f"the run {displayed(path)}")
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.capsule = self.path / "capsule.safetensors"
        self.model = self.path / "model.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        self.health = self.path / "health.bin"
        self.snapshots = self.path / "snapshots"
        self.curves = self.path / "curves.svg"
        self.result = self.path / "result.json"
        self.notes = self.path / NOTES

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @classmethod
    def new(cls, path: str | os.PathLike[str], config: Config) -> RunFolder:
        """A run whose folder ``make`` will make; a UserError if something of that name exists."""
        run = cls(path, config)
        if run.path.exists() or run.path.is_symlink():
            raise run._taken()
        return run

    @classmethod
    def numbered(cls, config: Config, parent: str | os.PathLike[str] = "runs") -> RunFolder:
        """A run whose folder is ``runs/<model>-<data>-<n>``, with the first n that is free when it is made."""
        run = cls(next_folder(config, parent), config)
        run._numbered_in = Path(parent)
        return run

    def _taken(self) -> UserError:
        hint = f"continue it with --resume {displayed(self.path)}, or " if (self.path / "config.json").is_file() else ""
        return UserError(f"the output folder {displayed(self.path)} exists already: {hint}choose another name with --out")

    def make(self) -> None:
        """Make the folder, with the configuration in it, and lock it."""
        while True:
            temporary = temporary_name(self.path)
            try:
                temporary.mkdir(parents=True, exist_ok=True)
                write_atomically(temporary / "config.json", self.config.to_json(self.path))
                os.rename(temporary, self.path)
                break
            except (OSError, UserError) as error:
                cause = error if isinstance(error, OSError) else error.__cause__
                if not isinstance(cause, OSError):
                    raise
                if cause.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise cannot_write(self.path, cause) from cause
                if self._numbered_in is None:  # another process was quicker
                    raise self._taken() from error
                self._place(next_folder(self.config, self._numbered_in))
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        self._made = True
        self.lock.take()
        for old in leftovers(self.path.parent):
            if old.name.startswith(f".{self.path.name}."):
                shutil.rmtree(old, ignore_errors=True)

    def rewrite_config(self, config: Config) -> None:
        """Note options with which the run goes on, such as where its data are now."""
        write_atomically(self.path / "config.json", config.to_json(self.path))

    def discard(self) -> None:
        """Remove the folder, if it is this object that made it: what was begun in it is not wanted."""
        if not self._made:
            return
        self.lock.take()
        shutil.rmtree(self.path, ignore_errors=True)
        self.lock.release()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The run in a folder that exists; a UserError if it is no run."""
        target = Path(path)
        if not target.is_dir():
            raise UserError(
                f"there is no run folder {displayed(target)}: give the folder that `{command_line('train')}` printed"
            )
        config = target / "config.json"
        if not config.is_file():
            raise UserError(f"{displayed(target)} is no run folder: it holds no config.json")
        try:
            text = config.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{displayed(config)} cannot be read ({displayed(error)})") from None
        run = cls(target, Config.from_json(text, config, target))
        file = Path(run.config.model.rpartition(":")[0])
        if is_own(run.config.model) and file.resolve().is_relative_to(target.resolve()):
            raise UserError(
                f"{displayed(target)} names {displayed(file)} as the code of its model, which lies in the folder "
                "itself: nothing in a run folder is run, as whoever sent it to you could run code here"
            )
        return run

    # ---- metrics

    @property
    def is_training(self) -> bool:
        """Whether a process trains in it now, as far as its files tell; nothing is locked to find out."""
        return not self.result.exists() and self.lock.owner_lives

    def flush_metrics(self) -> tuple[int, str]:
        """Write the rows so far to the disk for good; returns their size in bytes, and their checksum."""
        if not self.metrics.exists():
            return 0, ""
        try:
            with open(self.metrics, "a+b") as file:
                os.fsync(file.fileno())
                file.seek(0)
                rows = file.read()
                return len(rows), _checksum(rows)
        except OSError as error:
            raise cannot_write(self.metrics, error) from error

    def rewind(self, metrics_size: int, checksum: str) -> None:
        """Forget what was written after the checkpoint that a run resumes from: rows of metrics, unfinished files.

        Raises:
            UserError: earlier rows are damaged or missing. Without the file, the run goes on with the rows to come.
        """
        for old in leftovers(self.path):
            old.unlink(missing_ok=True)
        if not self.metrics.exists():
            return
        remedy = "put the file back, or delete it to continue without its rows"
        try:
            with open(self.metrics, "r+b") as file:
                kept = file.read(metrics_size)
                if len(kept) < metrics_size:
                    raise UserError(
                        f"{displayed(self.metrics)} holds {len(kept):,} bytes, the checkpoint knows of {metrics_size:,}: "
                        f"rows are missing; {remedy}"
                    )
                for number, line in enumerate(kept.splitlines(), 1):
                    if metrics_row(line) is None:
                        start = line[:40].decode(errors="replace")
                        raise UserError(f"{displayed(self.metrics)}, line {number}, is no row of metrics ({start!r}): {remedy}")
                if metrics_size and _checksum(kept) != checksum:
                    raise UserError(f"{displayed(self.metrics)} is not what the checkpoint knows: rows were changed; {remedy}")
                file.truncate(metrics_size)
        except OSError as error:
            raise cannot_write(self.metrics, error) from error

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add a row to the metrics file. A UserError if it cannot be written."""
        try:
            with open(self.metrics, "a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise cannot_write(self.metrics, error) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The rows so far; a last line that was cut off by a kill is left out."""
        if not self.metrics.exists():
            return []
        rows = map(metrics_row, self.metrics.read_bytes().splitlines())
        return [row for row in rows if row is not None]


def _checksum(rows: bytes) -> str:
    return f"{zlib.crc32(rows):08x}"


def metrics_row(line: bytes) -> dict[str, Any] | None:
    """The row in a line of the metrics file; None if there is none."""
    try:
        row = json.loads(line)
        whole = all(row[key] + 0 >= 0 for key in _NUMBERS[row["kind"]])
    except (ValueError, KeyError, TypeError):
        return None
    return row if whole else None


@explained
def next_folder(config: Config, parent: str | os.PathLike[str] = "runs") -> Path:
    """``runs/<model>-<data>-<n>`` with the first n that is free."""
    name = Path(config.data).name or "data"
    data = "".join(one if displayed(one) == one else "_" for one in name)  # a name that can be typed
    number = 1
    while (Path(parent) / f"{config.model_name}-{data}-{number}").exists():
        number += 1
    return Path(parent) / f"{config.model_name}-{data}-{number}"
