"""The threads that run programs: their number, and the pool that holds them.

The caller's thread is number 0. The others are daemon threads that stay in native code (see ``runner``), so handing them work
takes a couple of microseconds while they spin, or waking them up when they sleep. One program runs at a time.
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
"""For how many seconds a thread spins before it sleeps, when it waits for the next program and when it waits at a barrier."""
_SHORT_SPIN = 1e-6
"""The same where there are more threads than cores, and for the next few waits after spinning in vain."""
_STACK_BYTES = 4 << 20
_MOST_ANYWHERE = 256
"""The limit for ``set_threads`` on machines with few cores."""
_MOST_DIGITS = 30
"""Digits of a number that an error message shows."""

# ---- the number of threads


_chosen: int | None = None
"""The number that ``set_threads`` was given."""
_decided: int | None = None
"""The number in use, once ``thread_count`` was asked."""


@explained
def set_threads(count: int | None) -> None:
    """Let programs run on ``count`` threads from now on; None for the number that ``thread_count`` describes.

    Raises:
        UserError: ``count`` is no whole number from 1 to ``most_threads``.
    """
    global _chosen, _decided
    _chosen = None if count is None else _checked("set_threads: the number of threads", count)
    _decided = None


def most_threads() -> int:
    """Return the largest number of threads allowed. More would only wait for each other, and take long to start."""
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
    """Return the number of threads that programs run on.

    It is the number given to ``set_threads``, or else the environment variable ``CHAINRULE_THREADS``, or else the number of
    cores that this process may use.

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
    if len(digits) > _MOST_DIGITS:  # Python refuses to convert thousands of digits
        raise _too_many(what, digits)
    return _checked(what, int(digits))


# ---- native code


class Runner:
    """The compiled functions of ``runner``, and the speed of its spinning and of its clock.

    ``polls``: see ``runner_module``.
    """

    def __init__(self, polls: bool = False) -> None:
        # Imported here, as the number of threads can be asked for and chosen where there is no LLVM, too.
        from chainrule.cpu.codegen.code_cache import object_codes
        from chainrule.cpu.codegen.machine_code import Library
        from chainrule.cpu.codegen.target import host_target

        target = host_target()
        kernel = Kernel("runner", f"polls {polls}", lambda target, name: runner_module(target, polls), units=1)
        kernel = kernel.named(target)
        names = ("launch", "worker", "stop", "spin")
        self._library = Library(object_codes([kernel], target), names, target)
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.launch = ctypes.CFUNCTYPE(None, pointer, pointer)(self._library.address("launch"))
        self.worker = ctypes.CFUNCTYPE(None, pointer, number)(self._library.address("worker"))
        self.stop = ctypes.CFUNCTYPE(None, pointer)(self._library.address("stop"))
        self.spin = ctypes.CFUNCTYPE(number, number)(self._library.address("spin"))

    @functools.cached_property
    def rounds_per_second(self) -> float:
        """Rounds of spinning per second: the fastest of three measurements."""
        return max(1000 / self._timed_spin(1000)[0] for _ in range(3))

    @functools.cached_property
    def ticks_per_second(self) -> float:
        """Ticks per second of the counter with which the runner measures times."""
        seconds, ticks = self._timed_spin(int(self.rounds_per_second * 5e-3))
        return ticks / seconds

    def _timed_spin(self, rounds: int) -> tuple[float, int]:
        """Spin for ``rounds`` rounds; returns the seconds and the ticks that it took."""
        began = time.perf_counter()
        ticks = self.spin(rounds)
        return max(time.perf_counter() - began, 1e-9), ticks


@functools.cache
def runner() -> Runner:
    """Return the runner of this process, compiled or loaded at the first call."""
    return Runner()


# ---- the pool


class ThreadPool:
    """The workers, which are started when they are first needed, and scratch memory for them and for thread 0.

    Args:
        threads: the number of threads, the caller's included.
        native: the compiled functions that they run.
    """

    def __init__(self, threads: int, native: Runner) -> None:
        self.threads, self._native = threads, native
        self._workers: list[threading.Thread] = []
        self._started = threads == 1
        self._control = self._new_control()
        self.scratch_stride = 0
        self.reserve(1)

    def _new_control(self) -> Array:
        """Return a new control block (see ``runner.Control``), and remember its address."""
        control = aligned_memory(Control.CLAIMS + Control.CLAIM_SIZE * self.threads)
        words = control.view(np.int64)
        crowded = self.threads > available_cores()
        for meeting, seconds in ((Control.TICKET, _IDLE_SPIN), (Control.BARRIER, _BARRIER_SPIN)):
            for place, time_ in ((Meeting.SPINS, _SHORT_SPIN if crowded else seconds), (Meeting.SHORT_SPINS, _SHORT_SPIN)):
                words[(meeting + place) // 8] = int(time_ * self._native.rounds_per_second)
        self._address = int(control.ctypes.data)
        return control

    def reserve(self, nbytes: int) -> None:
        """Make sure that each thread has at least ``nbytes`` bytes of scratch memory.

        That of thread 0 begins at the address ``scratch``, that of each other thread ``scratch_stride`` bytes after the
        previous thread's.
        """
        if nbytes > self.scratch_stride:
            self.scratch_stride = whole_pages(nbytes)
            self._memory = aligned_memory(self.scratch_stride * self.threads)
            self.scratch = int(self._memory.ctypes.data)

    def start(self) -> None:
        """Start the workers, unless they are running.

        Raises:
            UserError: the system does not let this process start so many threads.
        """
        if self._started:
            return
        self._control = self._new_control()  # workers that an interrupted start left behind keep the old one
        usual = threading.stack_size(_STACK_BYTES)
        try:
            for number in range(1, self.threads):
                arguments = (self._native, self._control, number)
                self._workers.append(threading.Thread(target=_work, args=arguments, name=f"chainrule-{number}", daemon=True))
                self._workers[-1].start()
            self._started = True
        except BaseException as error:  # an interrupt, for example: start all workers or none
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
        """Run the job whose block (see ``runner.Job``) is at address ``job``; returns when it is done."""
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
    """Run worker ``number`` until the pool is closed. The arguments keep the code and memory alive that it uses."""
    native.worker(control.ctypes.data, number)


class Work:
    """Work for a pool.

    Args:
        job: the block (see ``runner.Job``) that says what to run.
        scratch_bytes: the scratch memory in bytes that its kernels need in each thread.
        alone: whether to run on the caller's thread only.
    """

    def __init__(self, job: Array, scratch_bytes: int, alone: bool) -> None:
        self.job, self.scratch_bytes, self.alone = job, scratch_bytes, alone
        self.address = int(job.ctypes.data)
        self.filled_in = (0, 0, 0)

    def fill_in(self, pool: ThreadPool) -> int:
        """Fill in the fields of the block that depend on the pool; returns the number of threads."""
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
    """Run ``work`` to its end.

    ``prepare`` is called with the number of threads before the run. If several Python threads call this, they run one after
    the other.

    Raises:
        UserError: the system does not let this process start so many threads, or ``CHAINRULE_THREADS`` has a value without
            a meaning.
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
    """Return the pool of this process, replaced by a new one if it has another number of threads."""
    global _pool
    if _exiting:
        threads = 1  # Python starts no threads at exit
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
    # Do not wait for ever, as a daemon thread may be in a run; that ends with the process.
    if _lock.acquire(timeout=1):
        _exiting = True
        _close()
        _lock.release()


def _before_fork() -> None:
    """Wait for the current run, then stop the workers. Parent and child start new ones when they need them."""
    _lock.acquire()
    if not _busy:  # if busy, this is a signal handler in the middle of ``run`` on this thread
        _close()


def _after_fork() -> None:
    _lock.release()


def _after_fork_in_child() -> None:
    global _pool
    _pool = None
    _lock.release()


forks.around(_before_fork, _after_fork_in_child, _after_fork)
