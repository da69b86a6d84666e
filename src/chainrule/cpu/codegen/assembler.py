"""Assembles kernels in helper processes, on all cores.

    modules, as they are generated ──> queue ──> helpers, one per core ──> object files, in the order of the modules

LLVM holds a lock of its own while it works, so several cores need several processes. And where LLVM cannot translate a module,
it ends the process that it runs in. That must not be this process: only a helper is lost, and an error names the kernel. One
helper stays for later modules. Where no helper can be started, this process does the work.
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
"""There is one helper for so many modules, as a helper takes a sixth of a second to start."""
_MOST_HELPERS = 8
_SECONDS_TO_DIE = 10.0
"""How long to wait for a failed helper to end by itself, before it is killed."""
_TRIES = 2
"""How often a module is given to a helper, as a helper may end for reasons that have nothing to do with the module."""


def assemble_all(modules: Iterable[tuple[str, str]], count: int, target: Target, cores: int) -> list[bytes]:
    """Return the object files of ``count`` modules, in their order.

    Args:
        modules: pairs (name of the kernel, text of the module), generated while helpers assemble the earlier ones.
        count: the number of modules.
        target: the processor to assemble for.
        cores: the largest number of helpers to use.

    Raises:
        InternalError: LLVM refuses a module.
    """
    batch = _Batch(modules, count, target)
    feeders = []
    try:
        with contextlib.suppress(RuntimeError):  # no more threads can be started: those that run do the work
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
    """The modules of a call of ``assemble_all``: those that wait, and the results so far."""

    def __init__(self, modules: Iterable[tuple[str, str]], count: int, target: Target) -> None:
        self._modules, self._target = modules, target
        self._texts: list[tuple[str, str]] = []
        self._found: list[bytes | str | None] = [None] * count  # an object file, or the text of an error
        self._waiting: queue.Queue[int | None] = queue.Queue()
        self._helpers: set[_Helper] = set()
        self._given_up = False

    def generate(self) -> None:
        """Generate the modules and put each in the queue at once."""
        for module in self._modules:
            self._texts.append(module)
            self._waiting.put(len(self._texts) - 1)
        self._waiting.put(None)

    def feed(self) -> None:
        """Hand modules to a helper, one after the other, until there are none left; run by a thread for each helper."""
        helper = None
        try:
            while (number := self._waiting.get()) is not None and not self._given_up:
                helper = self._assemble(number, helper)
        finally:
            self._waiting.put(None)  # the end of the queue, for the next thread
            if helper is not None:
                self._helpers.discard(helper)
                if self._given_up:
                    helper.end(kill=True)
                else:
                    helper.rest()

    def _assemble(self, number: int, helper: _Helper | None) -> _Helper | None:
        """Have module ``number`` assembled, by ``helper`` if there is one; returns the helper for the next module.

        If no helper can be started, nothing is done here, and ``results`` assembles the module.
        """
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
        """Make the threads and their helpers end as soon as possible, whatever is left to do."""
        self._given_up = True
        self._waiting.put(None)
        for helper in list(self._helpers):
            helper.kill()

    def results(self) -> list[bytes]:
        """Return the object files, in order. Modules that no helper took are assembled in this process.

        Raises:
            InternalError: LLVM could not assemble a module.
        """
        codes = []
        for (name, text), result in zip(self._texts, self._found, strict=True):
            if isinstance(result, str):
                raise refused(text, name, result)
            codes.append(assemble(text, self._target, name) if result is None else result)
        return codes


class _CannotStartError(Exception):
    """The process that was started is not a Python that finds the same LLVM."""


class _Helper:
    """A process that runs ``object_code``: reads LLVM modules from its standard input and answers with object files.

    It counts as started when it has reported that it found the same LLVM as this process.

    Raises:
        OSError, ValueError, _CannotStartError: no such process can be started.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in ``end``
        command = [sys.executable, "-I", str(object_code.__file__)]
        try:
            # In a session of its own, as signals that a terminal sends to its foreground processes are meant for this one.
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
        """Return the resting helper if there is one for ``target``, else a new one; None if no helper can be started."""
        global _resting, _can_start
        with _lock:
            resting, _resting = _resting, None
        if resting is not None:
            if resting.target == target and resting._process.poll() is None:
                return resting
            resting.end()
        if _can_start and sys.executable and not getattr(sys, "frozen", False):  # frozen: the executable is no Python
            try:
                return _Helper(target)
            except (OSError, ValueError, _CannotStartError):
                _can_start = False
        return None

    def rest(self) -> None:
        """Keep this helper for later modules if no other helper is kept; else end it."""
        global _resting
        with _lock:
            if _resting is None and not _exiting:
                _resting = self
                return
        self.end()

    def assemble(self, text: str) -> bytes | str:
        """Return the object file of the module with this ``text``, or LLVM's error message.

        Raises:
            OSError, struct.error: the helper has ended.
        """
        object_code.send(self._to, text.encode())
        return object_code.receive(self._back)

    def last_words(self) -> str:
        """Return the last error message of a helper that has failed. Waits for its end, or kills it if that takes too long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_DIE)
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        self.end(kill=True)
        said = next((line for line in lines if "LLVM ERROR" in line), lines[-1] if lines else "")
        return said or f"the process that runs LLVM ended with status {self._process.returncode}"

    def kill(self) -> None:
        """Kill the process, from any thread. The thread that uses the helper notices, and calls ``end``."""
        self._process.kill()

    def end(self, kill: bool = False) -> None:
        """Close the connection and wait for the process, which then ends by itself; ``kill`` kills it before."""
        if kill:
            self._process.kill()
        self._close()
        self._process.wait()

    def forget(self) -> None:
        """Close this end of the connection only; in a copy of this process, where the helper belongs to the original."""
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
