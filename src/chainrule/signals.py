"""How the command reacts to Ctrl-C (SIGINT), a kill (SIGTERM) and the loss of its terminal (SIGHUP), from start to end.

    starting, loading, compiling, other commands ── signal ──> one sentence, end
    training, from its first step on ── signal ──> the step is finished and saved, one sentence, end; Ctrl-C again ends at once
    over ── signal ──> nothing

The end is that of the signal itself, so a shell sees status 130 (SIGINT), 143 (SIGTERM) or 129 (SIGHUP), and a loop around the
command ends too. A signal that was ignored when the command began, as ``nohup`` has it, stays ignored.

Python calls a handler between two instructions of its main thread, which may be within LLVM or a native step for seconds. So a
thread of its own waits for signals (``signal.set_wakeup_fd``) and answers at once, whatever the main thread does. Nothing is
raised anywhere: an exception in the middle of an import or of a callback leaves a traceback, however it is caught.

``import chainrule`` loads this module first, and it loads little: where the process is the command, the listener listens from
then on, long before NumPy is there. In the milliseconds until then Ctrl-C ends the command without a word (see
``chainrule/__init__.py``). Any other program that imports the package keeps its own handlers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from chainrule import forks

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a command to end, as far as the system has them."""

AT_ONCE = "Stopped before it was done."
_SECONDS_TO_WRITE = 0.5
_BARE_LINE, _CURSOR = "\r\x1b[2K", "\x1b[?25h"  # a live line is taken away, the cursor is shown again


class Listener:
    """Receives signals and reacts as the present part of the command wants; each process has a single one, ``listener``.

    Attributes:
        asked: the signal that asked the run to end after its step; 0 as long as none did.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._last_words = AT_ONCE
        self._after_step = self._over = self._by_thread = False
        self._answering = forks.renewed(threading.RLock())  # a handler may come while the same thread holds it
        self._before: dict[int, signal._HANDLER] = {}
        self._thread: threading.Thread
        self._write: int  # the end of the pipe into which the system writes signals for the thread
        self._wakeup_before: int

    # ---- what a signal does from now on

    def at_once(self, last_words: str = AT_ONCE) -> None:
        """From now on a signal prints ``last_words`` and ends the process."""
        self._become(last_words, after_step=False, over=False)

    def after_step(self, last_words: str) -> None:
        """From now on a signal is recorded in ``asked`` and announced; Ctrl-C after that prints ``last_words`` and ends."""
        self._become(last_words, after_step=True, over=False)

    def over(self) -> None:
        """From now on a signal does nothing: the process is about to end, or to say how it ended."""
        self._become("", after_step=False, over=True)

    def _become(self, last_words: str, after_step: bool, over: bool) -> None:
        with self._answering:  # a message that is being written is written to its end
            self._last_words, self._after_step, self._over = last_words, after_step, over

    def hear(self, number: int) -> None:
        """React to the signal ``number``."""
        with self._answering:
            if self._over:
                return
            if not self._after_step or (self.asked and number == signal.SIGINT):
                tell(self._last_words)
                die(number)
            if not self.asked:  # a terminal that goes away may say so more than once: only Ctrl-C is impatience
                self.asked = number
                tell("Stopping after this step ..." + (" Ctrl-C again stops at once." if number == signal.SIGINT else ""))

    # ---- hearing

    def listen(self) -> None:
        """Install the handlers; signals that are ignored stay ignored. In another thread than the main one nothing happens."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in NUMBERS:
            if number not in self._before and signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._by_thread:
            self.hear(number)

    def __enter__(self) -> Listener:
        """Listen by a thread of its own while the command runs; outside the main thread, install no handlers."""
        self.asked = 0
        self.at_once()
        self._was_listening, self._started = bool(self._before), False
        if threading.current_thread() is threading.main_thread():
            self.listen()
            if self._before:
                self._start_thread()
        return self

    def __exit__(self, *_: object) -> None:
        """Ignore signals if the process is the command, which is about to end; elsewhere restore the handlers from before."""
        self.over()
        if self._was_listening:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._started:
            self._by_thread = self._started = False
            signal.set_wakeup_fd(self._wakeup_before)
            os.close(self._write)
            self._thread.join()

    def _start_thread(self) -> None:
        if sys.platform == "win32":  # where no thread can wait for a pipe and a signal alike: the handlers answer
            return
        read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._thread = threading.Thread(target=self._wait, args=(read,), name="chainrule-signals", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system gives no more threads: the handlers answer
            os.close(read)
            os.close(self._write)
            return
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._by_thread = self._started = True

    def _wait(self, read: int) -> None:
        """The life of the thread: each signal is a byte. It ends when the other end is closed."""
        while data := os.read(read, 64):
            for number in data:
                if number in NUMBERS:
                    self.hear(number)
        os.close(read)


def tell(message: str) -> None:
    """Write ``message`` to standard error, past all buffers and locks, as the main thread may be in the middle of writing.

    On a terminal it replaces the live line, if there is one. Where the message cannot be written, nothing happens.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is None:  # it was closed when the process began
            continue
        try:
            handle = stream.fileno()
            redraws = os.isatty(handle) and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
            said = _fitted(message, handle) + "\n" if stream is sys.__stderr__ else ""
            text = (_BARE_LINE + _CURSOR if redraws else "") + said
            if text and _takes_more(handle):
                os.write(handle, text.encode(stream.encoding or "utf-8", "backslashreplace"))
        except (OSError, ValueError):  # closed, or its terminal has gone
            continue


def _takes_more(handle: int) -> bool:
    """Whether a short text can be written without waiting: a reader may be slow, a terminal stopped by Ctrl-S."""
    if sys.platform == "win32":
        return True
    import select

    return bool(select.select([], [handle], [], _SECONDS_TO_WRITE)[1])


def _fitted(message: str, handle: int) -> str:
    """``message`` broken between words where it goes to a terminal; the command to resume with stays whole, to be copied."""
    given = os.environ.get("COLUMNS", "")
    try:
        terminal_columns = os.get_terminal_size(handle).columns
    except OSError:  # no terminal
        return message
    columns = (int(given) if given.isdecimal() and len(given) < 10 else terminal_columns) or 80
    lines: list[str] = []
    for line in message.split("\n"):
        lines.append("")
        for word in [line] if "esume with: " in line else line.split(" "):
            if lines[-1] and len(lines[-1]) + 1 + len(word) > columns:
                lines.append(word)
            else:
                lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def die(number: int) -> None:
    """End the process by the signal ``number``, whatever it is doing, as a kill would; files are safe against that."""
    if sys.platform != "win32":
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, signal.SIG_DFL)
        else:  # Python lets only its main thread do that
            import ctypes

            default = ctypes.pythonapi.PyOS_setsig
            default.argtypes, default.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
            default(number, None)
        signal.raise_signal(number)  # to this thread: what goes to the process may come after the line below
    os._exit(128 + number)  # as the first process of a container, which no signal of its own ends


listener = Listener()
