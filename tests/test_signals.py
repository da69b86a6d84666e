"""Signals at every moment of the command: never a traceback, the status that shells know, one sentence, and nothing is lost."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import striking
from chainrule.formats import load_safetensors
from running import COMMAND, ENVIRONMENT, TYPED, command, done, idx_folder, metrics, outcome
from systems import needs, whole_file_needs

whole_file_needs("signals")

SIGNALS = {
    "SIGINT": [signal.SIGINT],
    "SIGINT twice": [signal.SIGINT, signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
    "SIGHUP": [signal.SIGHUP],
}
OUTPUTS = ("terminal", "pipe", "closed pipe", "terminal that goes away")
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


def training(folder: Path, out: str, epochs: int = 3) -> list[object]:
    options = ["--model", "mlp", "--epochs", epochs, "--batch-size", 16, "--lr", "0.05", "--augment", "shift=1"]
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
    import pty  # Windows does not have it

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
@needs("terminals", "links and pipes")
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


# ---- the first moment


STRUCK_AT_EACH_IMPORT = """
import os, sys

class Finder:
    # At each import that is made for the package, up to NumPy, a copy of the process is struck by Ctrl-C.
    begun = False

    def find_spec(self, name, *_):
        self.begun = self.begun or name.startswith("chainrule.")
        if self.begun:
            read, write = os.pipe()
            copy = os.fork()
            if copy == 0:
                sys.meta_path.remove(self)  # what the answer to Ctrl-C imports is no further moment
                os.dup2(write, 2)
                os.kill(os.getpid(), 2)
                os._exit(0)
            os.close(write)
            status = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
            print((name, status, os.read(read, 10000).decode()), flush=True)
            os.close(read)
        if name == "numpy":
            os._exit(0)

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("way", ["as a script", "as a module"])
@needs("fork")
def test_ctrl_c_while_the_first_modules_are_loaded_leaves_no_traceback(way: str, tmp_path: Path) -> None:
    """Silence until there are words to say it with, and then these words."""
    (tmp_path / "sitecustomize.py").write_text(STRUCK_AT_EACH_IMPORT)
    (tmp_path / "chainrule").write_text("from chainrule.cli import main\nmain()\n")
    started = [sys.executable, *([str(tmp_path / "chainrule")] if way == "as a script" else ["-m", "chainrule"]), "summary"]
    path = os.pathsep.join([str(tmp_path), ENVIRONMENT["PYTHONPATH"]])
    ran = subprocess.run(
        started, env={**ENVIRONMENT, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    struck_at = [ast.literal_eval(line) for line in ran.stdout.splitlines()]
    names = [name for name, _, _ in struck_at]
    assert names[0] == "chainrule.signals", "the very first import of the package that is not there already"
    assert names[-1] == "numpy"
    assert {status for _, status, _ in struck_at} == {-signal.SIGINT}
    loaded = names.index("chainrule.errors")
    assert {said for _, _, said in struck_at[:loaded]} <= {"", "Stopped before it was done.\n"}
    assert {said for _, _, said in struck_at[loaded:]} == {"Stopped before it was done.\n"}


# ---- how soon, and what the shell sees


@needs("terminals")
def test_it_is_heard_at_once_while_native_code_runs(place: Path, tmp_path: Path) -> None:
    """Python's own handlers would wait for the end of the step, here for a second and a half."""
    runs = {
        times: struck("native code", [signal.SIGINT] * times, "pipe", training(place, str(tmp_path / str(times))))
        for times in (1, 2)
    }
    for times, (status, _, err) in {times: one.ended() for times, one in runs.items()}.items():
        assert status == -signal.SIGINT
        begin, heard, end, *_ = err.splitlines()
        assert begin.startswith("struck at ")
        assert heard == "Stopping after this step ... Ctrl-C again stops at once."
        if times == 1:
            assert end.startswith("native code ended at ")
            assert float(end.split()[-1]) - float(begin.split()[-1]) > 1
        else:
            assert end.startswith("Stopped at once; ")


@contextlib.contextmanager
def on_terminal(script: str, *arguments: object, cwd: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A shell script on a terminal, with the command and its arguments as $@. Gives it and the terminal's other end."""
    import pty

    control, terminal = pty.openpty()
    opened = os.ttyname(terminal)
    with subprocess.Popen(  # the leader of a session that opens a terminal gets it for its own
        ["bash", "-c", f"exec < {opened} > {opened} 2>&1; {script}", "bash", *COMMAND, *map(str, arguments)],
        env={**ENVIRONMENT, "TERM": "xterm-256color", **variables},
        cwd=cwd,
        start_new_session=True,
    ) as running:
        try:
            yield running, control
        finally:
            os.close(terminal)
            running.kill()


def read_until(control: int, wanted: str) -> str:
    """What is written to a terminal until there is a match of the regular expression ``wanted``."""
    seen = b""
    while not re.search(wanted, seen.decode(errors="ignore")):
        assert select.select([control], [], [], 30)[0], f"no {wanted!r} in {seen.decode(errors='ignore')!r}"
        seen += os.read(control, 65536)
    return seen.decode()


@needs("shell", "terminals")
def test_ctrl_c_on_the_keyboard_ends_compiling_at_once(tmp_path: Path) -> None:
    """With nothing in the code cache, so that LLVM is at work in other processes; none of them complains."""
    idx_folder(tmp_path / "patterns")
    (tmp_path / "cache").mkdir(mode=0o700)
    arguments = ["train", "--data", "patterns", "--out", "run"]
    with on_terminal('exec "$@"', *arguments, cwd=tmp_path, CHAINRULE_CACHE=str(tmp_path / "cache")) as (running, control):
        seen = read_until(control, "run folder:")
        time.sleep(0.3)
        begin = time.monotonic()
        os.write(control, b"\x03")
        seen += read_until(control, "Resume with: .*\n")
        assert running.wait(timeout=30) == -signal.SIGINT
        assert time.monotonic() - begin < 2, "seconds to go, as there were"
        os.close(control)
    again = f"Resume with: {TYPED} train --resume run"
    assert visible(seen)[-2:] == ["Stopped; nothing had been trained yet.", again]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock", "config.json"}, "the lock is nobody's any more"


@pytest.mark.parametrize(("name", "status"), [("INT", 130), ("TERM", 143), ("HUP", 129)])
@needs("shell")
def test_a_shell_sees_the_signal(name: str, status: int) -> None:
    number = getattr(signal, f"SIG{name}")
    struck_command = [sys.executable, striking.__file__, "import", str(int(number)), "-1", "summary"]
    shell = subprocess.run(
        ["sh", "-c", '"$@"; echo $?', "sh", *struck_command],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert shell.stdout == f"{status}\n"
    assert "Traceback" not in shell.stderr


# ---- outputs that have gone, signals that are ignored


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-", "2>&-", ">&- 2>&-", "> /dev/full 2>&1", "2> /dev/full"])
@needs("full device", "shell")
def test_a_run_is_trained_and_stopped_whatever_can_be_written(
    redirection: str, place: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    shell = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, striking.__file__, "step", "1", "-1"]
        + [str(word) for word in training(place, str(tmp_path / "run"))],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert shell.returncode == -signal.SIGHUP
    assert "Traceback" not in shell.stdout + shell.stderr
    if "2>" not in redirection:
        *warned, heard, stopped, _ = shell.stderr.splitlines()
        full = "warning: standard output cannot be written (No space left on device): the training goes on without it"
        assert warned == ([full] if "full" in redirection else [])
        assert (heard, stopped) == ("Stopping after this step ...", "Stopped after step 5 of 9; everything is saved.")
    done("train", "--resume", tmp_path / "run")
    assert outcome(tmp_path / "run") == uninterrupted


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-", "2>&-"])
@needs("full device", "shell")
def test_a_run_comes_to_its_end_whatever_can_be_written(
    redirection: str, place: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    words = [str(word) for word in training(place, str(tmp_path / "run"))]
    shell = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *words],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    full = [
        "warning: standard output cannot be written (No space left on device): the training goes on without it",
        f"The training is complete, and everything is saved in {tmp_path / 'run'}.",
    ]
    assert (shell.returncode, shell.stderr.splitlines()) == (0, full if "full" in redirection else [])
    assert outcome(tmp_path / "run") == uninterrupted


@needs("shell", "terminals")
def test_a_terminal_that_is_closed(place: Path, tmp_path: Path) -> None:
    """The system sends SIGHUP, and nothing can be written any more: the run is saved."""
    arguments = training(place, str(tmp_path / "run"), epochs=2000)
    with on_terminal('exec "$@"', *arguments, cwd=tmp_path) as (running, control):
        read_until(control, "images/s")
        os.close(control)
        assert running.wait(timeout=60) == -signal.SIGHUP
    rows = [row["step"] for row in metrics(tmp_path / "run") if row["kind"] == "train"]
    assert rows == list(range(1, rows[-1] + 1))
    assert 0 < rows[-1] < 6000
    facts = json.loads(load_safetensors(tmp_path / "run" / "checkpoint.safetensors")[1]["chainrule"])
    assert facts["step"] == rows[-1]


@needs("shell", "terminals")
def test_a_terminal_that_is_closed_after_nohup(place: Path, tmp_path: Path) -> None:
    """Then the run goes on without it, to its end."""
    arguments = training(place, str(tmp_path / "run"), epochs=60)
    with on_terminal('trap "" HUP; exec "$@"', *arguments, cwd=tmp_path) as (running, control):
        read_until(control, "images/s")
        os.close(control)
        assert running.wait(timeout=60) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 180


def test_nobody_is_waited_for_who_does_not_read(place: Path, tmp_path: Path) -> None:
    """Standard error is a pipe that is full."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    words = [str(word) for word in training(place, str(tmp_path / "run"))]
    with subprocess.Popen(
        [sys.executable, striking.__file__, "step", "15", "-1", *words],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=write,
    ) as running:
        try:
            assert running.wait(timeout=30) == -signal.SIGTERM
        finally:
            running.kill()
            os.close(read)
            os.close(write)
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


@needs("shell")
def test_a_signal_that_was_ignored_stays_ignored(place: Path, uninterrupted: dict[str, Any], tmp_path: Path) -> None:
    """As after nohup."""
    shell = subprocess.run(
        ["sh", "-c", 'trap "" HUP INT; exec "$@"', "sh", sys.executable, striking.__file__, "ignored", "1,2", "-1"]
        + [str(word) for word in training(place, str(tmp_path / "run"))],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (shell.returncode, shell.stderr) == (0, "")
    assert outcome(tmp_path / "run") == uninterrupted


def test_other_programs_keep_their_handlers() -> None:
    """Also those that run the command within themselves."""
    code = (
        "import contextlib, io, signal, sys\n"
        "def mine(*_): print('mine')\n"
        "signal.signal(signal.SIGTERM, mine)\n"
        "before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]\n"
        "import chainrule\n"
        "assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]\n"
        "from chainrule.cli import main\n"
        "sys.argv = ['chainrule', 'summary', 'mlp']\n"
        "for _ in range(2):\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\n"
        "assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]\n"
        "assert signal.set_wakeup_fd(-1) == -1\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "import threading\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    thread = threading.Thread(target=main); thread.start(); thread.join()\n"
        "try: signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "mine\ninterrupted\n", "")


# ---- the other subcommands


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@needs("terminals")
def test_a_signal_ends_the_other_subcommands(number: signal.Signals, place: Path) -> None:
    run = place / "whole"
    picture = place / "picture.png"
    if not picture.exists():
        Image.fromarray(np.zeros((12, 12), np.uint8)).save(picture)
    before = outcome(run)
    commands: list[tuple[str, list[object]]] = [
        ("loading a model", ["evaluate", run, "--json"]),
        ("judging", ["evaluate", run]),
        ("loading a model", ["predict", run, picture]),
        ("import", ["predict", run, picture]),
        ("summing up", ["summary", "mlp"]),
        ("explaining", ["explain", "w * 2", "w=1"]),
    ]
    running = [struck(moment, [number], "pipe", arguments) for moment, arguments in commands]
    for status, out, err in [one.ended() for one in running]:
        assert (status, out, err) == (-number, "", "Stopped before it was done.\n")
    assert outcome(run) == before


@needs("shell")
def test_the_tests_do_not_mind_that_ctrl_c_is_ignored() -> None:
    """As in a shell script's background job, whose children ignore it too unless they are told not to."""
    test = f"{__file__}::{test_a_shell_sees_the_signal.__name__}"
    ran = subprocess.run(
        ["sh", "-c", 'trap "" INT HUP TERM; exec "$@"', "sh", sys.executable, "-m", "pytest", "-n", "0", test],
        cwd=Path(__file__).parents[1],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout
