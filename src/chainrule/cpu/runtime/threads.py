"""The threads that run programs: how many there are, and a pool of them that lasts.

The caller's thread is number 0. The others are daemon threads that stay in native code (see ``runner``), so handing them work
costs a couple of microseconds while they spin, and a wake-up once they sleep. One program runs at a time.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import forks
from chainrule.arguments import explained, whole_number
from chainrule.cpu.codegen.cores import available_cores
from chainrule.cpu.kernel import Kernel
from chainrule.cpu.runtime.memory import aligned_memory, whole_pages
from chainrule.cpu.runtime.runner import Control, Job, Meeting, runner_module
from chainrule.errors import UserError
from chainrule.graph import Array
from chainrule.graph.names import shortened

_IDLE_SPIN, _BARRIER_SPIN = 3e-3, 100e-6
"""Seconds that a thread spins for the next program, and at a barrier, before it sleeps."""
_SHORT_SPIN = 1e-6
"""The same where there are more threads than cores, and for a while after spinning in vain."""
_STACK_BYTES = 4 << 20
_MOST_ANYWHERE = 256
_MOST_DIGITS = 30

# ---- how many


_chosen: int | None = None
_decided: int | None = None


@explained
def set_threads(count: int | None) -> None:
    """Let programs run on ``count`` threads from now on; None: on as many as the environment or the machine says.

    Raises:
        UserError: ``count`` is no whole number from 1 to ``most_threads``.
    """
    global _chosen, _decided
    _chosen = None if count is None else _checked("set_threads: the number of threads", count)
    _decided = None


def most_threads() -> int:
    """More than these would only wait for each other, and starting them takes long."""
    return max(_MOST_ANYWHERE, 4 * available_cores())


def _checked(what: str, count: Any) -> int:
    number = whole_number(what, count, 1)
    if number > most_threads():
        raise _too_many(what, number)
    return number


def _too_many(what: str, count: object) -> UserError:
    cores = available_cores()
    return UserError(
        f"{what} must be at most {most_threads()}, got {shortened(str(count), _MOST_DIGITS)}: this process may use "
        f"{cores} {'core' if cores == 1 else 'cores'}, and one thread for each is fastest"
    )


@explained
def thread_count() -> int:
    """On how many threads programs run: as ``set_threads`` said, else the environment variable ``CHAINRULE_THREADS``, else one
    per core that this process may use.

    Raises:
        UserError: ``CHAINRULE_THREADS`` is no whole number from 1 to ``most_threads``.
    """
    global _decided
    if _decided is None:
        _decided = _chosen or _count_in_environment() or available_cores()
    return _decided


def _count_in_environment() -> int | None:
    written = os.environ.get("CHAINRULE_THREADS", "").strip()
    if not written:
        return None
    what = "the environment variable CHAINRULE_THREADS"
    digits = written.lstrip("0")
    if not written.isascii() or not written.isdigit() or not digits:
        raise UserError(f"{what} must be a whole number of 1 or more, got {shortened(repr(written), _MOST_DIGITS)}")
    if len(digits) > _MOST_DIGITS:  # Python makes no number of thousands
        raise _too_many(what, digits)
    return _checked(what, int(digits))


# ---- native code


class Runner:
    """The native functions of ``runner``, and how fast time passes for them."""

    def __init__(self, polls: bool = False) -> None:
        # Here, as how many threads there are can be asked and chosen where there is no LLVM too.
        from chainrule.cpu.codegen.code_cache import object_codes
        from chainrule.cpu.codegen.machine_code import Library
        from chainrule.cpu.codegen.target import host_target

        target = host_target()
        kernel = Kernel("runner", f"polls {polls}", lambda target, name: runner_module(target, polls), units=1)
        names = ("launch", "worker", "stop", "spin")
        self._library = Library(object_codes([kernel], target), names, target)
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.launch = ctypes.CFUNCTYPE(None, pointer, pointer)(self._library.address("launch"))
        self.worker = ctypes.CFUNCTYPE(None, pointer, number)(self._library.address("worker"))
        self.stop = ctypes.CFUNCTYPE(None, pointer)(self._library.address("stop"))
        self.spin = ctypes.CFUNCTYPE(number, number)(self._library.address("spin"))

    @functools.cached_property
    def rounds_per_second(self) -> float:
        """How many rounds of spinning."""
        return max(1000 / self._timed_spin(1000)[0] for _ in range(3))

    @functools.cached_property
    def ticks_per_second(self) -> float:
        seconds, ticks = self._timed_spin(int(self.rounds_per_second * 5e-3))
        return ticks / seconds

    def _timed_spin(self, rounds: int) -> tuple[float, int]:
        began = time.perf_counter()
        ticks = self.spin(rounds)
        return max(time.perf_counter() - began, 1e-9), ticks


@functools.cache
def runner() -> Runner:
    return Runner()


# ---- the pool


class ThreadPool:
    """Thread 0 and its workers, which are started when they are first needed, and memory for each of them to work in."""

    def __init__(self, threads: int, native: Runner) -> None:
        self.threads, self._native = threads, native
        self._workers: list[threading.Thread] = []
        self._started = threads == 1
        self._control = self._new_control()
        self.scratch_stride = 0
        self.reserve(1)

    def _new_control(self) -> Array:
        control = aligned_memory(Control.CLAIMS + Control.CLAIM_SIZE * self.threads)
        words = control.view(np.int64)
        crowded = self.threads > available_cores()
        for meeting, seconds in ((Control.TICKET, _IDLE_SPIN), (Control.BARRIER, _BARRIER_SPIN)):
            for place, time_ in ((Meeting.SPINS, _SHORT_SPIN if crowded else seconds), (Meeting.SHORT_SPINS, _SHORT_SPIN)):
                words[(meeting + place) // 8] = int(time_ * self._native.rounds_per_second)
        self._address = int(control.ctypes.data)
        return control

    def reserve(self, nbytes: int) -> None:
        """See to it that each thread has at least ``nbytes`` to work in: ``scratch_stride``, the first at ``scratch``."""
        if nbytes > self.scratch_stride:
            self.scratch_stride = whole_pages(nbytes)
            self._memory = aligned_memory(self.scratch_stride * self.threads)
            self.scratch = int(self._memory.ctypes.data)

    def start(self) -> None:
        """Start the workers, if they are not there yet."""
        if self._started:
            return
        self._control = self._new_control()  # whatever an interrupted start left behind keeps the old one
        usual = threading.stack_size(_STACK_BYTES)
        try:
            for number in range(1, self.threads):
                arguments = (self._native, self._control, number)
                self._workers.append(threading.Thread(target=_work, args=arguments, name=f"chainrule-{number}", daemon=True))
                self._workers[-1].start()
            self._started = True
        except BaseException as error:  # an interrupt, for example: all workers or none
            self.close()
            if isinstance(error, RuntimeError):
                raise UserError(
                    f"the system does not let this process start {self.threads - 1} threads ({error}): "
                    "choose fewer with set_threads or CHAINRULE_THREADS"
                ) from error
            raise
        finally:
            threading.stack_size(usual)

    def launch(self, job: int) -> None:
        self._native.launch(self._address, job)

    def close(self) -> None:
        """Stop the workers, which must be idle, and wait until they are gone."""
        self._started = self.threads == 1
        workers, self._workers = self._workers, []
        if workers:
            self._native.stop(self._address)
            for worker in workers:
                if worker.ident is not None:
                    worker.join()


def _work(native: Runner, control: Array, number: int) -> None:
    """The life of worker ``number``; its arguments keep the code and the memory that it uses."""
    native.worker(control.ctypes.data, number)


class Work:
    """What to run: the block ``job`` (see ``runner.Job``), and the memory that its kernels need in each thread.

    ``alone``: on the caller's thread only.
    """

    def __init__(self, job: Array, scratch_bytes: int, alone: bool) -> None:
        self.job, self.scratch_bytes, self.alone = job, scratch_bytes, alone
        self.address = int(job.ctypes.data)
        self.filled_in = (0, 0, 0)

    def fill_in(self, pool: ThreadPool) -> int:
        """Write into the block what depends on the pool; returns the number of threads."""
        pool.reserve(self.scratch_bytes)
        threads = 1 if self.alone else pool.threads
        needed = (threads, pool.scratch, pool.scratch_stride)
        if needed != self.filled_in:
            self.filled_in = (0, 0, 0)  # an interrupt may leave the block half written
            self.job[Job.THREADS], self.job[Job.SCRATCH], self.job[Job.SCRATCH_BYTES] = needed
            self.filled_in = needed
        return threads


_lock = threading.RLock()
_pool: ThreadPool | None = None
_busy = False
_exiting = False


def run(work: Work, prepare: Callable[[int], None] | None = None) -> None:
    """Run ``work`` to its end. ``prepare`` is called before, with the number of threads.

    Runs of different threads of Python wait for each other.
    """
    global _busy
    with _lock:
        _busy = True
        try:
            pool = _pool_of(thread_count())
            threads = work.fill_in(pool)
            if threads > 1:
                pool.start()
            if prepare is not None:
                prepare(threads)
            pool.launch(work.address)
        finally:
            _busy = False


def _pool_of(threads: int) -> ThreadPool:
    global _pool
    if _exiting:
        threads = 1  # Python starts no more threads
    if _pool is None or _pool.threads != threads:
        _close()
        _pool = ThreadPool(threads, runner())
    return _pool


def _close() -> None:
    global _pool
    closing, _pool = _pool, None
    if closing is not None:
        closing.close()


# ---- the end of the process, and copies of it


@atexit.register
def _at_exit() -> None:
    global _exiting
    # A daemon thread may still be in a run: it ends with the process.
    if _lock.acquire(timeout=1):
        _exiting = True
        _close()
        _lock.release()


def _before_fork() -> None:
    """No run may be under way while the process is copied. Both copies start new workers when they need some."""
    _lock.acquire()
    if not _busy:  # else this is a signal handler in the middle of ``run``
        _close()


def _after_fork() -> None:
    _lock.release()


def _after_fork_in_child() -> None:
    global _pool
    _pool = None
    _lock.release()


forks.around(_before_fork, _after_fork_in_child, _after_fork)
