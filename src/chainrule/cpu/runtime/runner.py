"""Generates the native code that runs programs: it walks a table of stages and calls on every thread of a pool.

The code is the same for every program, so it is compiled once per processor and kept in the code cache. Its functions:

    void launch(ptr control, ptr job)      starts a run, does the part of thread 0 on the caller's thread, returns at the end
    void worker(ptr control, i64 thread)   the loop of every other thread: wait for a job, do this thread's part, repeat
    void stop(ptr control)                 makes the workers return
    i64  spin(i64 rounds)                  spins for some rounds and returns the ticks that it took, for calibration

``control`` belongs to the pool and ``job`` to the executable; ``Control`` and ``Job`` describe their layouts.

All waiting is for a counter to reach a value. A thread spins for a while, then sleeps, and the thread that advances the
counter wakes the sleepers. On Linux, sleeping uses a futex; elsewhere a thread takes short naps and polls. If a thread spins
in vain, the thread that it waits for may need this very core, so the next few waits spin for a shorter time.

Every thread owns a slice of a stage's units, the same one in every run, so that data of the previous run may still be in the
core's cache. It claims units of its slice a part at a time, and when none are left, units of the other slices. So if a thread
starts late, or another process takes its core, the others wait at most for the part that it has begun. Results do not depend
on which thread computes a unit.

Subnormal numbers count as zero while kernels run, on every thread alike, as they can slow arithmetic down a hundredfold. The
processor has a flag that says whether a result was subnormal; when times are measured, it is read after every part of the work.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING

from chainrule.cpu.codegen.availability import architecture
from chainrule.cpu.codegen.emit import Function, Module, Value, Variable

if TYPE_CHECKING:
    from chainrule.cpu.codegen.target import Target


class Meeting(enum.IntEnum):
    """The layout of a meeting, that is, a counter with all that threads need to wait for it: offsets in bytes.

    Each field that threads write has a cache line of its own.
    """

    COUNTER = 0  # i32, may wrap around
    SLEEPERS = 64  # i32: threads that sleep until the counter moves
    HASTY = 128  # i32: how many of the next waits shall spin only for a short time
    SPINS = 192  # i64: rounds to spin before going to sleep
    SHORT_SPINS = 200  # i64: the same for waits that shall spin only for a short time
    SIZE = 256


class Control(enum.IntEnum):
    """The layout of a pool's control block: offsets in bytes."""

    TICKET = 0  # a meeting; its counter is the number of jobs handed out so far
    BARRIER = Meeting.SIZE  # a meeting; its counter is the number of arrivals at barriers so far
    JOB = 2 * Meeting.SIZE  # ptr: the job that was handed out last; workers only read this field and the next ones
    ARRIVED_BEFORE = JOB + 8  # i32: the barrier's counter when the job was handed out
    STOP = JOB + 12  # i32: 1 asks workers to return
    EPOCH = JOB + 16  # i32: the number of the job's first stage; stages are numbered throughout all runs of the pool
    STAGES = JOB + 20  # i32: the number of stages of the job
    CLAIMS = JOB + 64  # a cache line per thread, with an i64: upper half, number of a stage; lower half, units claimed there
    CLAIM_SIZE = 64


class Job(enum.IntEnum):
    """The layout of an executable's job block: indices of i64 fields."""

    THREADS = 0
    STAGES = 1  # the number of stages
    STAGE_TABLE = 2  # address; a row is a ``StageRow``
    CALL_TABLE = 3  # address; a row is (function, address of its operands' addresses)
    SCRATCH = 4  # address of the scratch memory of thread 0
    SCRATCH_BYTES = 5  # bytes from the scratch memory of a thread to that of the next thread
    TIMES = 6  # 0 to measure nothing, or the address of thread 0's row of i64: ticks of each call, ticks of the barrier after
    # each stage; then, in the same order, in how many parts of the work a subnormal result was set to zero
    TIMES_BYTES = 7  # bytes from the row of a thread to that of the next thread
    CALLS = 8  # the number of calls in all stages
    SIZE = 9


class StageRow(enum.IntEnum):
    """The layout of a row of the table of stages: indices of i64 fields."""

    UNITS = 0
    FIRST_CALL = 1
    CALLS = 2
    BARRIER = 3  # 0 if the next stage may begin without a barrier, else 1
    SIZE = 4


_FUTEX_CALL = {"x86_64": 202, "aarch64": 98}
"""The number of the system call futex in Linux, by architecture."""
_FUTEX_WAIT, _FUTEX_WAKE = 128, 129  # FUTEX_WAIT and FUTEX_WAKE with FUTEX_PRIVATE_FLAG: among threads of this process only
_NAP_MICROSECONDS = 50
_HASTY_WAITS = 16
_SHARES = 4  # a claim takes this fraction of what remains of a slice
_MXCSR = 0x9FC0  # exceptions masked, to nearest, subnormals zero in operands and results
_FPCR = 1 << 24  # the same on AArch64 (FZ)
_READ_REGISTER = "llvm.read_volatile_register.i64"
_MXCSR_UNDERFLOW, _FPSR_UNDERFLOW = 4, 3  # the number of the underflow bit


def runner_module(target: Target, polls: bool = False) -> Module:
    """Return the module with the runner's functions for ``target``.

    ``polls`` makes threads poll instead of using a futex even on Linux, so that tests there cover it.
    """
    module = Module(target.vector_bits)
    sleeping = "futex" if "linux" in target.triple and not polls else "windows" if "windows" in target.triple else "naps"
    machine = _Machine(architecture(target.triple) or "", sleeping)
    _wait(module, machine)
    _wake(module, machine)
    for measured in (False, True):
        _execute(module, machine, measured)
    _launch(module)
    _worker(module)
    _stop(module)
    _spin(module, machine)
    return module


class _Machine:
    """Emits the code that differs between processors and systems.

    Args:
        architecture: "x86_64" or "aarch64".
        sleeping: how threads sleep: "futex", "windows" (Sleep) or "naps" (usleep).
    """

    def __init__(self, architecture: str, sleeping: str) -> None:
        self.is_x86 = architecture == "x86_64"
        self.sleeping = sleeping
        self.futex_call = _FUTEX_CALL.get(architecture, 0)

    def pause(self, f: Function) -> None:
        """Pause for a moment while spinning, so that another hardware thread of this core can use it."""
        if self.is_x86:
            f.call("llvm.x86.sse2.pause", "void")
        else:
            f.call("llvm.aarch64.isb", "void", f.number(15, "i32"))

    def ticks(self, f: Function) -> Value:
        """Read a counter that runs at the same steady rate on all cores, as an i64."""
        if self.is_x86:
            return f.call("llvm.readcyclecounter", "i64")
        # On AArch64, llvm.readsteadycounter is always 0, and llvm.readcyclecounter reads a register that user processes may
        # not read.
        f.module.declarations.setdefault(_READ_REGISTER, f"declare i64 @{_READ_REGISTER}(metadata)")
        return f.op(f'call i64 @{_READ_REGISTER}(metadata !{{!"cntvct_el0"}})', "i64")

    def flush_subnormals(self, f: Function) -> Value:
        """Make subnormal numbers count as zero from here on; returns the mode before, for ``restore``."""
        if self.is_x86:
            before, now = f.variable("i32"), f.variable("i32", f.number(_MXCSR, "i32"))
            f.call("llvm.x86.sse.stmxcsr", "void", before.place)
            f.call("llvm.x86.sse.ldmxcsr", "void", now.place)
            return before.place
        mode = f.call("llvm.aarch64.get.fpcr", "i64")
        f.call("llvm.aarch64.set.fpcr", "void", f.number(_FPCR, "i64"))
        return mode

    def take_underflow(self, f: Function) -> Value:
        """Read and clear the underflow flag: an i64, 1 if a result was subnormal since the last time, else 0."""
        if self.is_x86:
            now, clear = f.variable("i32"), f.variable("i32", f.number(_MXCSR, "i32"))
            f.call("llvm.x86.sse.stmxcsr", "void", now.place)
            f.call("llvm.x86.sse.ldmxcsr", "void", clear.place)
            return f.convert("zext", (now.get() >> _MXCSR_UNDERFLOW) & 1, "i64")
        seen = f.call("llvm.aarch64.get.fpsr", "i64")
        f.call("llvm.aarch64.set.fpsr", "void", f.number(0, "i64"))
        return (seen >> _FPSR_UNDERFLOW) & 1

    def restore(self, f: Function, before: Value) -> None:
        """Set the mode of arithmetic that ``flush_subnormals`` returned."""
        f.call("llvm.x86.sse.ldmxcsr" if self.is_x86 else "llvm.aarch64.set.fpcr", "void", before)

    def sleep_while_equal(self, f: Function, word: Value, value: Value) -> None:
        """Sleep until woken if the i32 at ``word`` is still ``value``. May also return early, so callers check again."""
        if self.sleeping == "futex":
            self._futex(f, word, _FUTEX_WAIT, value.text)
        elif self.sleeping == "windows":
            f.call("Sleep", "void", f.number(1, "i32"))
        else:
            f.call("usleep", "i32", f.number(_NAP_MICROSECONDS, "i32"))

    def wake_all(self, f: Function, word: Value) -> None:
        """Wake all threads that sleep at ``word``. Threads that poll need no waking."""
        if self.sleeping == "futex":
            self._futex(f, word, _FUTEX_WAKE, str(2**31 - 1))

    def _futex(self, f: Function, word: Value, operation: int, argument: str) -> None:
        f.module.declarations.setdefault("syscall", "declare i64 @syscall(i64, ...)")
        f.op(
            f"call i64 (i64, ...) @syscall(i64 {self.futex_call}, ptr {word.text}, i32 {operation}, i32 {argument}, "
            "ptr null, ptr null, i32 0)",
            "i64",
        )


# ---- waiting


def _wait(module: Module, machine: _Machine) -> None:
    """Define wait(meeting, goal), which returns once the meeting's counter has reached ``goal``."""
    f = module.function("wait", [("ptr", "meeting"), ("i32", "goal")], internal=True, inline=False)
    meeting, goal = f["meeting"], f["goal"]
    counter, sleepers, hasty = (_byte(f, meeting, place) for place in (Meeting.COUNTER, Meeting.SLEEPERS, Meeting.HASTY))
    haste = _relaxed(f, hasty)
    is_hasty = f.compare("sgt", haste, 0)
    with f.when(is_hasty):
        _set_relaxed(f, hasty, haste - 1)
    long, short = (f.load(_byte(f, meeting, place), "i64") for place in (Meeting.SPINS, Meeting.SHORT_SPINS))
    rounds = f.variable("i64", f.select(is_hasty, short, long))
    with f.repeat_while() as spinning:
        spinning.leave_unless(_before(f, _counter(f, counter), goal))
        spinning.leave_unless(f.compare("sgt", rounds.get(), 0))
        machine.pause(f)
        rounds.set(rounds.get() - 1)
    with f.when(_before(f, _counter(f, counter), goal) & _not(f, is_hasty)):
        _set_relaxed(f, hasty, f.number(_HASTY_WAITS, "i32"))
    with f.repeat_while() as sleeping:
        sleeping.leave_unless(_before(f, _counter(f, counter), goal))
        # Counted as a sleeper before the counter is read again, so that a thread which advances the counter after that
        # reading sees a sleeper to wake.
        _add(f, sleepers, 1)
        seen = _counter(f, counter)
        with f.when(_before(f, seen, goal)):
            machine.sleep_while_equal(f, counter, seen)
        _add(f, sleepers, -1)


def _wake(module: Module, machine: _Machine) -> None:
    """Define wake(meeting), to be called after the counter was advanced: wakes the threads that sleep until then."""
    f = module.function("wake", [("ptr", "meeting")], internal=True)
    with f.when(f.compare("ne", _counter(f, _byte(f, f["meeting"], Meeting.SLEEPERS)), 0)):
        machine.wake_all(f, _byte(f, f["meeting"], Meeting.COUNTER))


def _advance(f: Function, meeting: Value) -> Value:
    """Add 1 to a meeting's counter; returns the new value."""
    return _add(f, _byte(f, meeting, Meeting.COUNTER), 1)


def _counter(f: Function, word: Value) -> Value:
    return f.op(f"load atomic i32, ptr {word.text} seq_cst, align 4", "i32")


def _add(f: Function, word: Value, number: int) -> Value:
    """Add ``number`` to an i32 atomically; returns the sum."""
    before = f.op(f"atomicrmw add ptr {word.text}, i32 {number} seq_cst", "i32")
    return before + number


def _relaxed(f: Function, word: Value) -> Value:
    return f.op(f"load atomic i32, ptr {word.text} monotonic, align 4", "i32")


def _set_relaxed(f: Function, word: Value, value: Value) -> None:
    f.do(f"store atomic i32 {value.text}, ptr {word.text} monotonic, align 4")


def _not(f: Function, condition: Value) -> Value:
    return f.op(f"xor i1 {condition.text}, true", "i1")


def _before(f: Function, counter: Value, goal: Value) -> Value:
    """Whether a counter has not yet reached ``goal``. The difference has the right sign even after they wrap around."""
    return f.compare("slt", counter - goal, 0)


# ---- running


Note = Callable[[Value], None]
"""Emits code to measure: adds the ticks since the last measurement, and whether a result was subnormal meanwhile, to the
thread's counts of the call or barrier with the given number."""


def _execute(module: Module, machine: _Machine, measured: bool) -> None:
    """Define execute(control, job, thread), or execute_measured: a thread's part of all stages."""
    parameters = [("ptr", "control"), ("ptr", "job"), ("i64", "thread")]
    f = module.function("execute_measured" if measured else "execute", parameters, internal=True, inline=False)
    job = f["job"]
    mode = machine.flush_subnormals(f)
    note = _noted(f, machine) if measured else _unnoted
    stage_table, stages, calls = _pointer(f, job, Job.STAGE_TABLE), _number(f, job, Job.STAGES), _number(f, job, Job.CALLS)
    several = f.compare("sgt", _number(f, job, Job.THREADS), 1)
    epoch = f.load(_byte(f, f["control"], Control.EPOCH), "i32")
    goal = f.variable("i32", f.load(_byte(f, f["control"], Control.ARRIVED_BEFORE), "i32"))
    with f.loop(0, stages) as number:
        row = f.at(stage_table, number * int(StageRow.SIZE), "i64")
        shared = several & f.compare("sgt", _number(f, row, StageRow.UNITS), 1)
        with f.when(shared):
            _shared_stage(f, row, epoch + f.convert("trunc", number, "i32"), note)
        with f.when(_not(f, shared) & f.compare("eq", f["thread"], 0)):
            _do_units(f, row, f.number(0, "i64"), _number(f, row, StageRow.UNITS), note)
        with f.when(several & f.compare("ne", _number(f, row, StageRow.BARRIER), 0)):
            _barrier(f, goal, is_last=f.compare("eq", number, stages - 1))
        note(calls + number)
    machine.restore(f, mode)


def _noted(f: Function, machine: _Machine) -> Note:
    """Emit code that starts the measurement; the result emits code that adds to the row of times of this thread."""
    job = f["job"]
    times = f.at(_pointer(f, job, Job.TIMES), f["thread"] * _number(f, job, Job.TIMES_BYTES), "i8")
    rows = _number(f, job, Job.CALLS) + _number(f, job, Job.STAGES)
    last = f.variable("i64", machine.ticks(f))

    def add(amount: Value, number: Value) -> None:
        place = f.at(times, number, "i64")
        f.store(f.load(place, "i64") + amount, place)

    def note(number: Value) -> None:
        now = machine.ticks(f)
        add(now - last.get(), number)
        last.set(now)
        add(machine.take_underflow(f), rows + number)

    return note


def _unnoted(number: Value) -> None:
    """Measure nothing."""


def _shared_stage(f: Function, row: Value, epoch: Value, note: Note) -> None:
    """Do units of this thread's slice, then of the other threads' slices, until all units are claimed.

    A word per slice holds the stage's number (``epoch``) in its upper half and the number of claimed units in its lower half.
    """
    job, thread = f["job"], f["thread"]
    threads, units = _number(f, job, Job.THREADS), _number(f, row, StageRow.UNITS)
    mark = f.convert("zext", epoch, "i64") << 32
    with f.loop(0, threads) as further:
        owner = f.index((thread + further) % threads)
        begin = f.index(owner * units) // threads
        length = f.index((owner + 1) * units) // threads - begin
        word = f.at(_byte(f, f["control"], Control.CLAIMS), owner * int(Control.CLAIM_SIZE), "i8")
        with f.repeat_while() as claiming:
            seen = f.op(f"load atomic i64, ptr {word.text} monotonic, align 8", "i64")
            # Another number in the upper half is that of an earlier stage, so no unit of this stage is claimed yet.
            is_now = f.compare("eq", seen & f.number(-1 << 32, "i64"), mark)
            claimed = f.select(is_now, seen & 0xFFFFFFFF, f.number(0, "i64"))
            remaining = length - claimed
            claiming.leave_unless(f.compare("sgt", remaining, 0))
            share = (remaining + (_SHARES - 1)) // _SHARES
            new = mark | (claimed + share)
            swapped = f.op(
                f"cmpxchg ptr {word.text}, i64 {seen.text}, i64 {new.text} monotonic monotonic", "{ i64, i1 }"
            )  # fmt: skip
            with f.when(f.op(f"extractvalue {{ i64, i1 }} {swapped.text}, 1", "i1")):
                first = f.index(begin + claimed)
                _do_units(f, row, first, f.index(first + share), note)


def _do_units(f: Function, row: Value, begin: Value, end: Value, note: Note) -> None:
    """Do the units from ``begin`` to ``end`` (excluded) of the stage in ``row``.

    If the stage has a single call, it is called once for all of these units; several calls are called unit by unit, in turn.
    """
    job, thread = f["job"], f["thread"]
    calls, first = _number(f, row, StageRow.CALLS), _number(f, row, StageRow.FIRST_CALL)
    at_once = f.select(f.compare("eq", calls, 1), end - begin, f.number(1, "i64"))
    scratch = f.at(_pointer(f, job, Job.SCRATCH), thread * _number(f, job, Job.SCRATCH_BYTES), "i8")
    table = _pointer(f, job, Job.CALL_TABLE)
    with f.loop(begin, end, at_once) as unit:
        upto = f.index(f.least(unit + at_once, end))
        with f.loop(first, first + calls) as number:
            call = f.at(table, number * 2, "i64")
            kernel, operands = f.load(call, "ptr"), f.load(f.at(call, 1, "i64"), "ptr")
            f.do(f"call void {kernel.text}(ptr {operands.text}, i64 {unit.text}, i64 {upto.text}, ptr {scratch.text})")
            note(number)


def _barrier(f: Function, goal: Variable, is_last: Value) -> None:
    """Wait until every thread has arrived. After the last stage only thread 0 waits, as it alone returns to the caller."""
    meeting = _byte(f, f["control"], Control.BARRIER)
    goal.set(goal.get() + f.convert("trunc", _number(f, f["job"], Job.THREADS), "i32"))
    arrived = _advance(f, meeting)
    with f.when(f.compare("eq", arrived, goal.get())):
        f.call("wake", "void", meeting)
    with f.when(_not(f, is_last) | f.compare("eq", f["thread"], 0)):
        f.call("wait", "void", meeting, goal.get())


def _perform(f: Function, job: Value, thread: Value) -> None:
    """Call execute_measured if times are wanted, else execute."""
    measured = f.compare("ne", _number(f, job, Job.TIMES), 0)
    with f.when(measured):
        f.call("execute_measured", "void", f["control"], job, thread)
    with f.when(_not(f, measured)):
        f.call("execute", "void", f["control"], job, thread)


def _launch(module: Module) -> None:
    f = module.function("launch", [("ptr", "control"), ("ptr", "job")])
    control, job = f["control"], f["job"]
    with f.when(f.compare("sgt", _number(f, job, Job.THREADS), 1)):
        f.store(job, _byte(f, control, Control.JOB))
        arrived = _counter(f, _byte(f, control, Control.BARRIER + Meeting.COUNTER))
        f.store(arrived, _byte(f, control, Control.ARRIVED_BEFORE))
        epoch = _byte(f, control, Control.EPOCH)
        stages = f.convert("trunc", _number(f, job, Job.STAGES), "i32")
        f.store(f.load(epoch, "i32") + f.load(_byte(f, control, Control.STAGES), "i32"), epoch)
        f.store(stages, _byte(f, control, Control.STAGES))
        _hand_out(f)
    _perform(f, job, f.number(0, "i64"))


def _worker(module: Module) -> None:
    f = module.function("worker", [("ptr", "control"), ("i64", "thread")])
    control = f["control"]
    ticket = f.variable("i32", f.number(0, "i32"))
    with f.repeat_while() as living:
        ticket.set(ticket.get() + 1)
        f.call("wait", "void", _byte(f, control, Control.TICKET), ticket.get())
        living.leave_unless(f.compare("eq", f.load(_byte(f, control, Control.STOP), "i32"), 0))
        _perform(f, f.load(_byte(f, control, Control.JOB), "ptr"), f["thread"])


def _stop(module: Module) -> None:
    f = module.function("stop", [("ptr", "control")])
    f.store(f.number(1, "i32"), _byte(f, f["control"], Control.STOP))
    _hand_out(f)


def _hand_out(f: Function) -> None:
    """Advance the ticket, so that workers act on the fields of the control block that were just written."""
    meeting = _byte(f, f["control"], Control.TICKET)
    _advance(f, meeting)
    f.call("wake", "void", meeting)


def _spin(module: Module, machine: _Machine) -> None:
    f = module.function("spin", [("i64", "rounds")], result="i64")
    began = machine.ticks(f)
    word = f.variable("i32", f.number(0, "i32"))
    with f.loop(0, f["rounds"]):
        _counter(f, word.place)
        machine.pause(f)
    f.give(machine.ticks(f) - began)


# ---- reading the blocks


def _byte(f: Function, block: Value, offset: int) -> Value:
    return f.at(block, int(offset), "i8")


def _number(f: Function, block: Value, place: int) -> Value:
    return f.load(f.at(block, int(place), "i64"), "i64")


def _pointer(f: Function, block: Value, place: int) -> Value:
    return f.load(f.at(block, int(place), "i64"), "ptr")
