"""Assembling many kernels at once, on all cores: LLVM keeps a lock of its own, so each further core is a process of its own.

    queue of modules ──> this process            ──> object files, in the order of the modules
                    └──> helper, one per core ──┘

A helper is a Python that reads texts of LLVM modules from its standard input and answers with object files. What a helper
cannot do, because it cannot start or fails on the way, is done here.
"""

from __future__ import annotations

import contextlib
import json
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence

from chainrule.cpu import object_code
from chainrule.cpu.machine_code import assemble
from chainrule.cpu.target import Target

_WORTH_A_HELPER = 12
"""Modules from which on a helper, which takes a sixth of a second to start, saves time."""
_MOST_HELPERS = 7


def assemble_all(texts: Sequence[tuple[str, str]], target: Target, cores: int) -> list[bytes]:
    """The object files of modules, given as (name, text).

    Raises:
        InternalError: LLVM refuses a text.
    """
    found: list[bytes | None] = [None] * len(texts)
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(texts)):
        waiting.put(number)
    helpers = []
    if len(texts) >= _WORTH_A_HELPER:
        helpers = [_Helper(texts, target, waiting, found) for _ in range(min(cores - 1, _MOST_HELPERS, len(texts) // 6))]
    try:
        while (mine := _next(waiting)) is not None:
            found[mine] = assemble(texts[mine][1], target, texts[mine][0])
    finally:
        for helper in helpers:
            helper.finish()
    return [code if code is not None else assemble(text, target, name) for code, (name, text) in zip(found, texts, strict=True)]


def _next(waiting: queue.SimpleQueue[int]) -> int | None:
    try:
        return waiting.get_nowait()
    except queue.Empty:
        return None


class _Helper:
    """One further process, and the thread that feeds it from the queue."""

    def __init__(
        self,
        texts: Sequence[tuple[str, str]],
        target: Target,
        waiting: queue.SimpleQueue[int],
        found: list[bytes | None],
    ) -> None:
        self._texts, self._target, self._waiting, self._found = texts, target, waiting, found
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._feed, name="chainrule-assembler", daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        command = [sys.executable, "-P", str(object_code.__file__)]
        with contextlib.suppress(OSError, ValueError, struct.error):  # then the others do its share
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )  # fmt: skip
            to, back = self._process.stdin, self._process.stdout
            assert to is not None
            assert back is not None
            target = self._target
            object_code.send(to, json.dumps([target.triple, target.cpu, target.features]).encode())
            while (number := _next(self._waiting)) is not None:
                object_code.send(to, self._texts[number][1].encode())
                self._found[number] = object_code.receive(back)

    def finish(self) -> None:
        """Nothing is left in the queue, or the caller gives up: let it end what it has begun, and close it."""
        if sys.exc_info()[0] is not None and self._process is not None:
            self._process.kill()
        self._thread.join()
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
            self._process.wait()
