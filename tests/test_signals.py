"""Signals at every moment of the command: never a traceback, the status that shells know, one sentence, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import striking
from running import ENVIRONMENT, command, done, idx_folder, outcome

SIGNALS = {
    "SIGINT": [signal.SIGINT],
    "SIGINT twice": [signal.SIGINT, signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
    "SIGHUP": [signal.SIGHUP],
}
OUTPUTS = ("terminal", "pipe", "closed pipe", "terminal that goes away")
GENTLE = ("step", "checkpoint", "evaluation")
STEPS = 9  # three epochs of three


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set, and the run that is never interrupted."""
    folder = tmp_path_factory.mktemp("signals")
    idx_folder(folder / "patterns")
    done(*training(folder, "whole"))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(place: Path) -> dict[str, Any]:
    return outcome(place / "whole")


def training(folder: Path, out: str) -> list[object]:
    options = ["--model", "mlp", "--epochs", 3, "--batch-size", 16, "--lr", "0.05", "--augment", "shift=1"]
    return ["train", "--data", folder / "patterns", *options, "--checkpoint-every", 2, "--out", folder / out]


@dataclass
class Struck:
    """A command that is being struck; ``shown`` is the terminal that it writes to, or -1."""

    running: subprocess.Popen[str]
    shown: int = -1

    def ended(self) -> tuple[int, str, str]:
        """Status, and what was written to standard output and standard error."""
        seen = b""
        if self.shown >= 0:
            with contextlib.suppress(OSError):  # how Linux says that the last writer has gone
                while part := os.read(self.shown, 65536):
                    seen += part
            os.close(self.shown)
        out, err = self.running.communicate(timeout=60)
        return self.running.returncode, seen.decode() + (out or ""), err or ""


def struck(moment: str, numbers: list[signal.Signals], output: str, arguments: list[object], **options: Any) -> Struck:
    """Start the command, which is to be struck at that moment."""
    ours, theirs = pty.openpty() if "terminal" in output else os.pipe()
    gone = output in ("closed pipe", "terminal that goes away")
    shared = {"terminal": theirs, "pipe": subprocess.PIPE}.get(output, theirs)
    running = subprocess.Popen(
        [
            sys.executable,
            striking.__file__,
            moment,
            ",".join(str(int(number)) for number in numbers),
            str(ours if gone else -1),
            *map(str, arguments),
        ],
        env={**ENVIRONMENT, "TERM": "xterm-256color"},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=shared,
        stderr=theirs if output == "terminal" else subprocess.PIPE,
        pass_fds=[ours] if gone else [],
        start_new_session=True,
        **options,
    )
    os.close(theirs)
    if output == "terminal":
        return Struck(running, ours)
    os.close(ours)
    return Struck(running)


def visible(text: str) -> list[str]:
    """The lines that stay on a terminal that was sent this: what is taken away or written over is left out."""
    rows, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if piece == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif piece == "\r":
            column = 0
        elif piece == "\x1b[1A":
            row -= 1
        elif piece == "\x1b[2K":
            rows[row] = ""
        elif piece[0] != "\x1b":
            rows[row] = rows[row][:column].ljust(column) + piece + rows[row][column + len(piece) :]
            column += len(piece)
        if piece == "\n" and "\x1b" not in text:
            column = 0
    return [line.rstrip() for line in rows if line.strip()]


def words(moment: str, numbers: list[signal.Signals], run: Path) -> list[str]:
    """The lines in which it ends."""
    again = f"Resume with: chainrule train --resume {shlex.quote(str(run))}"
    if moment == "import":
        return ["Stopped before it was done."]
    if moment in ("options", "loading"):
        return ["Stopped; nothing had been trained yet."]
    if moment == "compiling":
        return ["Stopped; nothing had been trained yet.", again]
    if moment == "end":
        return [f"Stopped at the end: the training is complete, and everything is saved in {run}."]
    heard = "Stopping after this step ..." + (" Ctrl-C again stops at once." if numbers[0] == signal.SIGINT else "")
    if len(numbers) == 2:
        return [heard, "Stopped at once; the steps since the last checkpoint will be repeated.", again]
    step = {"step": 5, "checkpoint": 2, "evaluation": 3}[moment]
    return [heard, f"Stopped after step {step} of {STEPS}; everything is saved.", again]


@pytest.mark.parametrize("numbers", SIGNALS.values(), ids=list(SIGNALS))
@pytest.mark.parametrize("moment", striking.MOMENTS)
def test_a_signal_at_any_moment(
    moment: str, numbers: list[signal.Signals], place: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    """On a terminal, into a pipe, and where the output goes away at that moment, as with Ctrl-C on ``train | tee log``."""
    (tmp_path / "patterns").symlink_to(place / "patterns")
    running = {output: struck(moment, numbers, output, training(tmp_path, output)) for output in OUTPUTS}
    for output, (status, out, err) in {output: one.ended() for output, one in running.items()}.items():
        run = tmp_path / output
        assert status == -numbers[0], (output, out, err)
        assert not re.search("Traceback|Exception|Error", out + err), (output, out, err)
        said = visible(out if output == "terminal" else err)
        expected = words(moment, numbers, run)
        assert said[-len(expected) :] == expected, (output, said)
        assert output == "terminal" or len(said) == len(expected), said
        if output == "terminal":
            assert out.rfind("\x1b[?25l") <= out.rfind("\x1b[?25h"), "the cursor is back"
        assert run.exists() == (moment not in ("import", "options", "loading"))
        if not run.exists():
            assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
        elif len(numbers) == 2 or moment == "end" or output == "pipe":  # the others are at the same step as that one
            ended = command("train", "--resume", run)
            assert (ended.status, ended.err) == (0, "")
            assert outcome(run) == uninterrupted
