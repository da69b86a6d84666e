"""Running native programs: stages, threads, barriers, the mode of arithmetic, profiles, forks, the end of the process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chainrule.cpu.codegen import cores
from chainrule.cpu.codegen.emit import Function, Module
from chainrule.cpu.codegen.machine_code import assembly
from chainrule.cpu.codegen.target import AVX512, NEON, Target, host_target
from chainrule.cpu.kernel import Kernel
from chainrule.cpu.runtime import threads
from chainrule.cpu.runtime.executable import Call, Executable, Stage
from chainrule.cpu.runtime.limits import WAYS, Limits, Way, measure_limits, traffic_kernel
from chainrule.cpu.runtime.memory import aligned_memory
from chainrule.cpu.runtime.runner import runner_module
from chainrule.errors import InternalError, UserError
from chainrule.graph import Array
from systems import needs

COUNTS = [1, 2, 3, 5]


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    yield
    threads.set_threads(None)


# ---- kernels: every unit is one float


def begun(target: Target, name: str) -> Function:
    parameters = [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")]
    return Module(target.vector_bits).function(name, parameters)


def fill(units: int, number: float) -> Kernel:
    """y[u] = number."""

    def generate(target: Target, name: str) -> Module:
        f = begun(target, name)
        y = f.load(f["args"], "ptr")
        with f.loop(f["begin"], f["end"]) as u:
            f.store(f.number(number, "float"), f.at(y, u, "float"))
        return f.module

    return Kernel("test_fill", f"{number}", generate, units)


def affine(units: int, scale: float, shift: float, reverse: bool = False) -> Kernel:
    """y[u] = x[u] * scale + shift, with x read from the far end if ``reverse``; by way of the scratch memory."""

    def generate(target: Target, name: str) -> Module:
        f = begun(target, name)
        x, y = f.load(f["args"], "ptr"), f.load(f.at(f["args"], 1, "ptr"), "ptr")
        with f.loop(f["begin"], f["end"]) as u:
            read = f.number(units - 1, "i64") - u if reverse else u
            f.store(f.load(f.at(x, read, "float"), "float"), f["scratch"])
            value = f.load(f["scratch"], "float") * f.number(scale, "float") + f.number(shift, "float")
            f.store(value, f.at(y, u, "float"))
        return f.module

    signature = f"{scale} {shift} {units if reverse else ''}"
    return Kernel("test_affine", signature, generate, units, scratch_bytes=64, operations=2 * units, bytes=8 * units)


def units_of_threads(units: int) -> Kernel:
    """y[u] = first unit of the slice that u was done in."""

    def generate(target: Target, name: str) -> Module:
        f = begun(target, name)
        y = f.load(f["args"], "ptr")
        with f.loop(f["begin"], f["end"]) as u:
            f.store(f["begin"], f.at(y, u, "i64"))
        return f.module

    return Kernel("test_slices", "", generate, units)


def bound(stages: list[Stage], *arrays: Array) -> Executable:
    made = Executable(stages, len(arrays))
    for slot, array in enumerate(arrays):
        made.bind(slot, array.ctypes.data)
    return made


def back_and_forth(stages: int, units: int) -> tuple[Executable, Array]:
    """Each stage turns the array around and adds 1, so a thread that runs ahead of another reads what is not there yet."""
    pair = np.zeros((2, units), np.float32)  # the one that is returned keeps the memory of both
    kernel = affine(units, 1, 1, reverse=True)
    made = bound([Stage((Call(kernel, (number % 2, 1 - number % 2)),)) for number in range(stages)], *pair)
    return made, pair[stages % 2]


# ---- stages


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("units", [1, 2, 7, 64])
def test_stages_see_what_earlier_ones_wrote(count: int, units: int) -> None:
    threads.set_threads(count)
    program, result = back_and_forth(200, units)
    for run in range(1, 4):
        program.run()
        np.testing.assert_array_equal(result, 200 * run)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("units", [1, 3, 10, 13])
def test_units_are_done_in_parts_of_slices(count: int, units: int) -> None:
    threads.set_threads(count)
    begins = np.full(units, -1, np.int64)
    other = np.zeros(2, np.float32)
    bound([Stage((Call(units_of_threads(units), (0,)),)), Stage((Call(fill(2, 0), (1,)),))], begins, other).run()
    slices = [range(units * t // count, units * (t + 1) // count) for t in range(count)]
    owner = {unit: t for t, one in enumerate(slices) for unit in one} if units > 1 else {0: 0}
    assert all(begin <= unit and owner[begin] == owner[unit] for unit, begin in enumerate(begins.tolist()))
    assert all(begins[one.start] == one.start for one in slices if one), "a slice is begun at its beginning"


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("units", [1, 2, 7, 64, 1000])
def test_each_unit_is_done_once(count: int, units: int) -> None:
    threads.set_threads(count)
    numbers = np.zeros(units, np.float32)
    program = bound([Stage((Call(affine(units, 1, 1), (0, 0)),))] * 20, numbers)
    for run in range(1, 51):
        program.run()
        np.testing.assert_array_equal(numbers, 20 * run)


def test_a_thread_that_is_done_does_what_others_have_not_begun() -> None:
    """Unit 0 waits for all the others, half of which are in the slice of the thread that waits."""
    threads.set_threads(2)
    units = 8

    def generate(target: Target, name: str) -> Module:
        f = begun(target, name)
        y = f.load(f["args"], "ptr")
        with f.loop(f["begin"], f["end"]) as u:
            found = f.variable("i64", f.number(1, "i64"))
            with f.when(f.compare("eq", u, 0)):
                rounds = f.variable("i64", f.number(0, "i64"))
                with f.repeat_while() as waiting:
                    rounds.set(rounds.get() + 1)
                    waiting.leave_unless(f.compare("slt", rounds.get(), 1 << 28))
                    done = f.variable("i64", f.number(0, "i64"))
                    with f.loop(1, units) as other:
                        place = f.at(y, other, "i64")
                        done.set(done.get() + f.op(f"load atomic i64, ptr {place.text} seq_cst, align 8", "i64"))
                    waiting.leave_unless(f.compare("slt", done.get(), units - 1))
                found.set(rounds.get())
            place = f.at(y, u, "i64")
            f.do(f"store atomic i64 {found.get().text}, ptr {place.text} seq_cst, align 8")
        return f.module

    rounds = np.zeros(units, np.int64)
    bound([Stage((Call(Kernel("test_waits", "", generate, units), (0,)),))], rounds).run()
    assert rounds[0] < 1 << 28, "nobody did the others"


def test_calls_of_a_stage_are_done_unit_by_unit() -> None:
    """The second call reads the unit before, which is done, and the unit after, which is not begun."""
    threads.set_threads(1)
    units = 5

    def generate(target: Target, name: str) -> Module:
        f = begun(target, name)
        x, y = f.load(f["args"], "ptr"), f.load(f.at(f["args"], 1, "ptr"), "ptr")
        with f.loop(f["begin"], f["end"]) as u:
            f.store(f.load(f.at(x, u, "float"), "float"), f.at(y, u * 2, "float"))
            f.store(f.load(f.at(x, u + 1, "float"), "float"), f.at(y, f.index(u * 2) + 1, "float"))
        return f.module

    values, seen = np.zeros(units + 1, np.float32), np.zeros((units, 2), np.float32)
    looks = Kernel("test_looks", "", generate, units)
    bound([Stage((Call(fill(units, 7), (0,)), Call(looks, (0, 1))))], values, seen).run()
    assert seen.tolist() == [[7, 0]] * units


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    results = []
    for count in COUNTS:
        threads.set_threads(count)
        program, result = back_and_forth(7, 101)
        program.run()
        results.append(result.tobytes())
    assert len(set(results)) == 1


def test_a_program_of_nothing_runs() -> None:
    program = Executable([Stage(()), Stage((Call(fill(0, 1), (0,)),))], 1)
    program.run()
    assert program.profile().calls == ()


def test_binding_again_moves_a_buffer() -> None:
    first, second = np.zeros(4, np.float32), np.zeros(4, np.float32)
    program = bound([Stage((Call(fill(4, 3), (0,)),))], first)
    program.run()
    program.bind(0, second.ctypes.data)
    first[:] = 0
    program.run()
    assert (first.tolist(), second.tolist()) == ([0] * 4, [3] * 4)


def test_wrong_programs_are_refused() -> None:
    program = Executable([Stage((Call(affine(4, 1, 1), (0, 1)),))], 2)
    program.bind(0, np.zeros(4, np.float32).ctypes.data)
    with pytest.raises(InternalError, match=r"buffers \[1\] of the program are not bound"):
        program.run()
    with pytest.raises(InternalError, match="kernels of one stage have 3 and 4 units"):
        Executable([Stage((Call(fill(3, 0), (0,)), Call(fill(4, 0), (0,))))], 1)
    with pytest.raises(InternalError, match="names slots"):
        Executable([Stage((Call(fill(3, 0), (1,)),))], 1)


# ---- threads


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_of_threads_is_refused(wrong: int) -> None:
    with pytest.raises(UserError, match="must be a whole number of at least 1"):
        threads.set_threads(wrong)


def test_the_number_of_threads_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_THREADS", "3")
    threads.set_threads(None)
    assert threads.thread_count() == 3
    threads.set_threads(2)
    assert threads.thread_count() == 2
    for wrong in ("0", "two", "-1"):
        monkeypatch.setenv("CHAINRULE_THREADS", wrong)
        threads.set_threads(None)
        with pytest.raises(UserError, match="CHAINRULE_THREADS must be"):
            threads.thread_count()
    monkeypatch.delenv("CHAINRULE_THREADS")
    threads.set_threads(None)
    assert threads.thread_count() == cores.available_cores() >= 1


def test_a_containers_quota_counts(tmp_path: Path) -> None:
    membership, root = tmp_path / "cgroup", tmp_path / "fs"
    (root / "a/b").mkdir(parents=True)
    membership.write_text("0::/a/b\n")
    assert cores.cgroup_quota(membership, root) is None
    (root / "a/b/cpu.max").write_text("max 100000\n")
    assert cores.cgroup_quota(membership, root) is None
    (root / "a/cpu.max").write_text("150000 100000\n")
    assert cores.cgroup_quota(membership, root) == 1.5
    membership.write_text("5:cpu,cpuacct:/docker/x\n4:memory:/\n")
    (root / "a/cpu.max").unlink()
    (root / "cpu").mkdir()  # a container sees its own group at the root
    (root / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (root / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cores.cgroup_quota(membership, root) is None
    (root / "cpu/cpu.cfs_quota_us").write_text("250000\n")
    assert cores.cgroup_quota(membership, root) == 2.5
    assert cores.cgroup_quota(tmp_path / "none", root) is None


def test_two_threads_of_python_take_turns() -> None:
    threads.set_threads(2)
    programs = [back_and_forth(100, 16) for _ in range(2)]

    def work(program: Executable) -> None:
        for _ in range(50):
            program.run()

    workers = [threading.Thread(target=work, args=(program,)) for program, _ in programs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for _, result in programs:
        np.testing.assert_array_equal(result, 100 * 50)


def native_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("chainrule-")]


def test_one_thread_needs_no_workers_and_others_are_replaced() -> None:
    program, _ = back_and_forth(2, 8)
    for count in (3, 1, 2):
        threads.set_threads(count)
        program.run()
        assert len(native_threads()) == count - 1
    threads.set_threads(3)
    one = np.zeros(1, np.float32)
    single = bound([Stage((Call(fill(1, 1), (0,)),))] * 2, one)
    single.run()  # nothing to share
    assert not native_threads()


def test_idle_workers_sleep() -> None:
    threads.set_threads(3)
    program, result = back_and_forth(10, 8)
    program.run()
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.2, "two workers that spun would take a second"
    program.run()
    np.testing.assert_array_equal(result, 20)


def test_waiting_by_polling_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems without a futex; the workers are left asleep before each run."""
    native = threads.Runner(polls=True)
    monkeypatch.setattr(threads, "runner", lambda: native)
    threads.set_threads(4)
    program, result = back_and_forth(20, 8)
    for run in range(1, 4):
        program.run()
        time.sleep(0.002)
        np.testing.assert_array_equal(result, 20 * run)
    threads.set_threads(1)
    program.run()


def test_more_threads_than_the_system_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    program, result = back_and_forth(2, 8)
    threads.set_threads(4)
    start, started = threading.Thread.start, []

    def refuse_third(self: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refuse_third)
    with pytest.raises(UserError, match="does not let this process start 3 threads"):
        program.run()
    monkeypatch.undo()
    assert not native_threads()
    threads.set_threads(2)
    program.run()
    np.testing.assert_array_equal(result, 2)


@needs("fork")
def test_both_sides_of_a_fork_go_on() -> None:
    threads.set_threads(3)
    program, result = back_and_forth(10, 8)
    program.run()
    child = os.fork()
    if child == 0:
        try:
            program.run()
            os._exit(0 if (result == 20).all() and len(native_threads()) == 2 else 1)
        finally:
            os._exit(2)
    program.run()
    np.testing.assert_array_equal(result, 20)
    assert os.waitpid(child, 0)[1] == 0


BEGINNING = """
import sys
sys.path[:0] = {path!r}
from test_cpu_runtime import *
threads.set_threads(3)
program, result = back_and_forth(300, 64)
program.run()
"""
ENDINGS = {
    "of itself": "",
    "with a daemon thread in the middle of a run": """
def work():
    while True:
        program.run()
threading.Thread(target=work, daemon=True).start()
time.sleep(0.02)
""",
    "with a thread that goes on": """
def work():
    for _ in range(20):
        program.run()
        time.sleep(0.001)
    print("went on")
threading.Thread(target=work).start()
""",
    "by an error": "raise SystemExit(0)",
    "with a run at the very end": """
import atexit
atexit._run_exitfuncs()
program.run()
assert (result == 600).all()
""",
}


@pytest.mark.parametrize("how", ENDINGS)
def test_the_process_ends(how: str) -> None:
    code = BEGINNING.format(path=[str(Path(__file__).parent)]) + ENDINGS[how]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("went on" in done.stdout) == ("goes on" in how)


INTERRUPTED = """
import signal
for delay in (1e-5, 1e-4, 3e-4, 1e-3, 3e-3) * 4:
    threads.set_threads(3)
    program.run()
    threads.set_threads(2)  # new workers are started about when the signal comes
    timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
    try:
        timer.start()
        while True:
            program.run()
    except KeyboardInterrupt:
        timer.join()
        print("heard")
result[:] = 0
program.run()
assert len(set(result.tolist())) == 1
"""


def test_an_interrupt_is_heard_after_the_step() -> None:
    code = BEGINNING.format(path=[str(Path(__file__).parent)]) + INTERRUPTED
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr, done.stdout.count("heard")) == (0, "", 20)


# ---- the mode of arithmetic


@pytest.mark.parametrize("count", [1, 3])
def test_subnormals_are_zero_in_every_thread(count: int) -> None:
    threads.set_threads(count)
    units = 12
    smallest = np.full(units, 2.0**-126, np.float32)
    halves, subnormals, doubled = np.ones(units, np.float32), np.full(units, 1e-40, np.float32), np.ones(units, np.float32)
    bound(
        [Stage((Call(affine(units, 0.5, 0), (0, 1)),)), Stage((Call(affine(units, 2**60, 0), (2, 3)),))],
        smallest,
        halves,
        subnormals,
        doubled,
    ).run()
    assert halves.tolist() == [0] * units  # a result
    assert doubled.tolist() == [0] * units  # an operand
    assert np.float32(2.0**-126) * np.float32(0.5) > 0  # here as before


# ---- profiles and limits


@pytest.mark.parametrize("count", [1, 2])
def test_a_profile_adds_up(count: int) -> None:
    threads.set_threads(count)
    units = 50_000
    x, y = np.zeros(units, np.float32), np.zeros(units, np.float32)
    long, short = affine(units, 1, 1), affine(64, 1, 1)
    program = bound([Stage((Call(long, (0, 1)), Call(fill(units, 2), (0,)))), Stage((Call(short, (0, 1)),))], x, y)
    assert program.profile(runs=3).runs == 3
    began = time.perf_counter()
    profile = program.profile(runs=1)  # medians of several runs need not add up
    elapsed = time.perf_counter() - began
    assert (profile.threads, profile.runs) == (count, 1)
    assert [call.kernel for call in profile.calls] == [long, fill(units, 2), short]
    assert [call.stage for call in profile.calls] == [0, 0, 1]
    assert all(len(call.thread_seconds) == count for call in profile.calls)
    assert 0 < profile.seconds <= elapsed
    assert sum(stage.seconds for stage in profile.stages) == pytest.approx(profile.seconds, rel=0.01, abs=1e-6)
    assert profile.calls[0].gb_per_s == pytest.approx(4 * profile.calls[0].gflops)
    assert y[0] == 3
    with pytest.raises(UserError, match="runs must be 1 or more"):
        program.profile(0)
    program.run()  # measures nothing any more


def test_limits_are_plausible() -> None:
    threads.set_threads(1)
    limits = measure_limits()
    assert 1 < limits.fma_gflops["float64"] < limits.fma_gflops["float32"] < 1000
    assert limits.threads == 1
    sizes, speeds = zip(*limits.traffic, strict=True)
    assert sizes[0] == 8 << 10
    assert sizes[-1] == 128 << 20
    assert list(sizes) == sorted(sizes)
    assert list(speeds) == sorted(speeds, reverse=True)
    assert 0.5 < limits.memory_gb_per_s == speeds[-1] <= speeds[0] == limits.cache_gb_per_s < 10_000


@pytest.mark.parametrize("way", WAYS, ids=repr)
def test_a_kernel_that_measures_traffic_reads_and_writes_all_that_it_is_counted_for(way: Way) -> None:
    target, nbytes, units = host_target(), 1024, 2
    kernel = traffic_kernel(way, units, target)
    table = aligned_memory((units + 1) * 64)
    table.view(np.int64)[:2] = nbytes, 3
    arrays = [aligned_memory(units * nbytes) for _ in range(way.arrays)]
    for number, array in enumerate(arrays, 1):
        array.view(np.float32)[:] = number
    program = Executable([Stage((Call(kernel, tuple(range(way.arrays + 1))),))], way.arrays + 1, target)
    for slot, array in enumerate([table, *arrays]):
        program.bind(slot, array.ctypes.data)
    program.run()
    added = sum(range(1, way.reads + 1))
    if way.writes:
        assert (arrays[-1].view(np.float32) == added).all()
    else:  # in each of the four sums of a unit one round in four, three times; the last sum is what stays behind the table
        lanes = target.vector_bytes // 4
        sums = table.view(np.float32)[16:].reshape(units, 16)[:, :lanes]
        assert (sums == 3 * added * nbytes / 4 / lanes / 4).all()


def test_the_least_time_is_that_of_operations_at_their_peak_or_of_bytes_as_near_as_they_can_lie() -> None:
    limits = Limits({"float32": 100.0, "float64": 50.0}, ((1_000, 100.0), (10_000, 20.0), (100_000, 10.0)), 1)
    assert limits.least_seconds(1_000_000, 0) == pytest.approx(1e-5)
    assert limits.least_seconds(1_000_000, 0, "float64") == pytest.approx(2e-5)
    # 10,000 bytes at 100 GB/s, 90,000 at 20 and 50,000 at 10: 100 + 4,500 + 5,000 ns
    assert limits.least_seconds(0, 500) == pytest.approx(5e-9)
    assert limits.least_seconds(0, 20_000) == pytest.approx(600e-9)
    assert limits.least_seconds(0, 150_000) == pytest.approx(9_600e-9)
    assert limits.least_seconds(0, 150_000, pieces=15) == pytest.approx(1_500e-9)  # all of them near
    assert limits.least_seconds(1_000_000, 150_000) == pytest.approx(1e-5)
    better = limits.or_better(Limits({"float32": 90.0, "float64": 60.0}, ((1_000, 90.0), (10_000, 30.0), (100_000, 9.0)), 1))
    assert better.fma_gflops == {"float32": 100.0, "float64": 60.0}
    assert better.traffic == ((1_000, 100.0), (10_000, 30.0), (100_000, 10.0))


# ---- targets


def test_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHAINRULE_TARGET", raising=False)
    widest = host_target()
    narrow = "neon" if widest.name == "neon" else "sse2"
    assert host_target(narrow).name == narrow
    monkeypatch.setenv("CHAINRULE_TARGET", narrow)
    assert host_target().name == host_target(widest.name).name == narrow
    monkeypatch.setenv("CHAINRULE_TARGET", "avx3")
    with pytest.raises(UserError, match=r"unknown target \(CHAINRULE_TARGET\) 'avx3'.*Known: avx2, avx512, neon, sse2"):
        host_target()
    foreign = "sse2" if widest.name == "neon" else "neon"
    monkeypatch.setenv("CHAINRULE_TARGET", foreign)
    with pytest.raises(UserError, match=f"'{foreign}'.*is not of this processor, which has {widest.name}"):
        host_target()


@pytest.mark.parametrize("polls", [False, True])
@pytest.mark.parametrize("target", [NEON, AVX512], ids=["neon", "avx512"])
def test_the_runner_compiles_for_other_processors(target: Target, polls: bool) -> None:
    text = assembly(runner_module(target, polls).text(), target, "runner").lower()
    assert ("usleep" in text) == polls
    assert ("fpcr" if target is NEON else "ldmxcsr") in text
    assert ("cntvct_el0" if target is NEON else "rdtsc") in text, "a clock that stands still measures nothing"
