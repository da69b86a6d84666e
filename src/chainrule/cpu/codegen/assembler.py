"""Assembling kernels in processes of their own, on all cores.

    modules, as they are generated ──> queue ──> helper, one per core ──> object files, in the order of the modules

LLVM keeps a lock of its own, so each further core is a process. And where it meets what it cannot translate it ends the process
that asked, which must not be this one: then a helper is lost, and an error names the kernel. One helper stays for what comes
later. Where none can be started, all is done here.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import queue
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from typing import IO

from chainrule import forks
from chainrule.cpu.codegen import object_code
from chainrule.cpu.codegen.machine_code import assemble, refused
from chainrule.cpu.codegen.target import Target

_MODULES_PER_HELPER = 8
"""A helper takes a sixth of a second to start."""
_MOST_HELPERS = 8
_SECONDS_TO_DIE = 10.0
_TRIES = 2
"""How often a module is given to a helper: one may have been ended by something else."""


def assemble_all(modules: Iterable[tuple[str, str]], count: int, target: Target, cores: int) -> list[bytes]:
    """The object files of ``count`` modules, given as (name, text), one after the other as they are needed.

    Raises:
        InternalError: LLVM refuses a module.
    """
    batch = _Batch(modules, count, target)
    feeders = []
    try:
        with contextlib.suppress(RuntimeError):  # no more threads: those that there are do it
            for _ in range(min(cores, _MOST_HELPERS, -(-count // _MODULES_PER_HELPER))):
                feeder = threading.Thread(target=batch.feed, name="chainrule-assembler", daemon=True)
                feeder.start()
                feeders.append(feeder)
        batch.generate()
        for feeder in feeders:
            feeder.join()
    except BaseException:  # an interrupt, for example
        batch.give_up()
        raise
    return batch.results()


class _Batch:
    """Modules that wait, and what became of each."""

    def __init__(self, modules: Iterable[tuple[str, str]], count: int, target: Target) -> None:
        self._modules, self._target = modules, target
        self._texts: list[tuple[str, str]] = []
        self._found: list[bytes | str | None] = [None] * count  # an object file, or how LLVM failed
        self._waiting: queue.Queue[int | None] = queue.Queue()
        self._helpers: set[_Helper] = set()
        self._given_up = False

    def generate(self) -> None:
        """Hand out the modules, each as soon as its text is there."""
        for module in self._modules:
            self._texts.append(module)
            self._waiting.put(len(self._texts) - 1)
        self._waiting.put(None)

    def feed(self) -> None:
        """The work of one thread: a helper gets a module after the other until there are no more."""
        helper = None
        try:
            while (number := self._waiting.get()) is not None and not self._given_up:
                helper = self._assemble(number, helper)
        finally:
            self._waiting.put(None)  # for the next thread
            if helper is not None:
                self._helpers.discard(helper)
                if self._given_up:
                    helper.end(kill=True)
                else:
                    helper.rest()

    def _assemble(self, number: int, helper: _Helper | None) -> _Helper | None:
        """Have a module assembled; returns the helper for the next one. If none can be started, ``results`` does it."""
        for _ in range(_TRIES):
            if self._given_up:
                break
            if helper is None:
                helper = _Helper.for_target(self._target)
                if helper is None:
                    break
                self._helpers.add(helper)
            try:
                self._found[number] = helper.assemble(self._texts[number][1])
                break
            except (OSError, struct.error):
                self._helpers.discard(helper)
                self._found[number] = helper.last_words()
                helper = None
        return helper

    def give_up(self) -> None:
        """Have the threads end, and their helpers with them."""
        self._given_up = True
        self._waiting.put(None)
        for helper in list(self._helpers):
            helper.kill()

    def results(self) -> list[bytes]:
        """The object files; what no helper took is done here, and what LLVM could not do is refused."""
        codes = []
        for (name, text), found in zip(self._texts, self._found, strict=True):
            if isinstance(found, str):
                raise refused(text, name, found)
            codes.append(assemble(text, self._target, name) if found is None else found)
        return codes


class _CannotStartError(Exception):
    """What was started is no Python with this LLVM."""


class _Helper:
    """A Python that reads texts of LLVM modules from its standard input and answers with object files.

    It finds LLVM where this process did, and says so before it counts as started."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in ``end``
        command = [sys.executable, "-I", str(object_code.__file__)]
        try:
            # in a session of its own: what the terminal sends its foreground processes is for the one that asked
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, start_new_session=True
            )
        except BaseException:
            self._words.close()
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._back = self._process.stdin, self._process.stdout
        try:
            self._to.write(json.dumps(sys.path).encode() + b"\n")
            self._to.flush()
            if self._back.readline() != object_code.greeting():
                raise _CannotStartError
            object_code.send(self._to, json.dumps([target.triple, target.cpu, target.features]).encode())
        except BaseException:
            self.end(kill=True)
            raise

    @staticmethod
    def for_target(target: Target) -> _Helper | None:
        """The one that rests, if it is for this target, or a new one; None where none can be started."""
        global _resting, _can_start
        with _lock:
            resting, _resting = _resting, None
        if resting is not None:
            if resting.target == target and resting._process.poll() is None:
                return resting
            resting.end()
        if _can_start and sys.executable and not getattr(sys, "frozen", False):  # else the executable is no Python
            try:
                return _Helper(target)
            except (OSError, ValueError, _CannotStartError):
                _can_start = False
        return None

    def rest(self) -> None:
        """Wait for the next batch; one helper does, the others end."""
        global _resting
        with _lock:
            if _resting is None and not _exiting:
                _resting = self
                return
        self.end()

    def assemble(self, text: str) -> bytes | str:
        """The object file, or what LLVM says against the text.

        Raises:
            OSError, struct.error: the helper has ended.
        """
        object_code.send(self._to, text.encode())
        return object_code.receive(self._back)

    def last_words(self) -> str:
        """What it said before it ended, which it does now if it has not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_DIE)
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        self.end(kill=True)
        said = next((line for line in lines if "LLVM ERROR" in line), lines[-1] if lines else "")
        return said or f"the process that runs LLVM ended with status {self._process.returncode}"

    def kill(self) -> None:
        """From another thread; its own one then ends it."""
        self._process.kill()

    def end(self, kill: bool = False) -> None:
        """Close it; it ends when its input does."""
        if kill:
            self._process.kill()
        self._close()
        self._process.wait()

    def forget(self) -> None:
        """In a copy of the process: it belongs to the original."""
        self._close()
        self._process.returncode = 0

    def _close(self) -> None:
        for file in (self._to, self._back, self._words):
            with contextlib.suppress(OSError):
                file.close()


_lock = forks.renewed(threading.Lock())
_resting: _Helper | None = None
_exiting = False
_can_start = True


@atexit.register
def _at_exit() -> None:
    global _resting, _exiting
    with _lock:
        _exiting = True
        resting, _resting = _resting, None
    if resting is not None:
        resting.end()


def _forget_resting() -> None:
    global _resting
    resting, _resting = _resting, None
    if resting is not None:
        resting.forget()


forks.in_child(_forget_resting)
