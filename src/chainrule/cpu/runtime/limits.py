"""Measures the limits of this machine: multiply-adds per second, and bytes read and written per second, on all threads.

The kernels that measure them run as any program does, so a profile can say what share of a limit a kernel reaches. Memory is
faster the nearer it is to the processor, so its speed is measured for amounts from the first cache's to the main memory's. The
clock of a processor drifts, so compare these figures only with times that are measured within the same minute.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from chainrule.cpu.codegen.emit import Function, Module, Value, suffix, vector
from chainrule.cpu.codegen.target import Target, host_target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel
from chainrule.cpu.runtime import threads
from chainrule.cpu.runtime.executable import Call, Executable, Stage
from chainrule.cpu.runtime.memory import aligned_memory
from chainrule.graph import Array
from chainrule.graph.tables import Contents, Table

_UNITS_PER_THREAD = 4
_FMA_ROUNDS = 20_000
_FMA_SECONDS, _TRAFFIC_SECONDS = 0.06, 0.008
"""For how long the multiply-adds of each dtype, and each amount of memory in each way, are measured."""
_NEAR_BYTES = (8 << 10, 32 << 10, 128 << 10, 512 << 10)
"""The amounts for which the caches of a core are measured, in bytes per thread."""
_FAR_BYTES = tuple(1 << power for power in range(20, 28))
"""The amounts for which shared caches and memory are measured, in bytes of all threads together. The largest, 128 MiB, is more
than the last cache of most machines holds."""
_ROUND_BYTES = 8 << 20
"""The least number of bytes that each thread reads and writes in a measurement. With fewer, the time to wake the threads would
dominate."""
_LINE = 64


@dataclass(frozen=True, repr=False)
class Limits(Table):
    """The limits of the machine for ``threads`` threads together. Prints as a table.

    Attributes:
        fma_gflops: by dtype, 10^9 operations per second, where a multiply-add counts as two.
        traffic: pairs (bytes, speed), ascending in bytes. The speed, in 10^9 bytes per second, is the highest at which all
            threads together read and wrote that amount of memory over and over; bytes read and bytes written both count. The
            last amount fits into no cache.
        threads: the number of threads.
    """

    fma_gflops: dict[str, float]
    traffic: tuple[tuple[int, float], ...]
    threads: int

    def contents(self) -> Contents:
        """Return the table: a line with the multiply-adds, and a row for each amount of memory."""
        speeds = ", ".join(f"{speed:.0f} Gflop/s {dtype}" for dtype, speed in self.fma_gflops.items())
        rows = [(f"{size >> 10:,}", f"{speed:.1f}") for size, speed in self.traffic]
        return Contents(f"{speeds} on {self.threads} threads", ("KiB gone over again>", "GB/s read and written>"), rows)

    @property
    def memory_gb_per_s(self) -> float:
        """The speed of main memory: of the largest amount, which fits into no cache."""
        return self.traffic[-1][1]

    @property
    def cache_gb_per_s(self) -> float:
        """The speed of the smallest amount, which fits into the nearest cache."""
        return self.traffic[0][1]

    def least_seconds(self, operations: int, nbytes: int, dtype: str = "float32", pieces: int = 1) -> float:
        """Return a lower bound of the time, in seconds, that a kernel takes.

        It is the larger of the time for its ``operations`` at the peak for ``dtype`` and the time for its ``nbytes`` bytes. The
        latter assumes that as many bytes as fit come from the nearest cache, as many as fit of the others from the next one,
        and so on. Where the bytes are used in ``pieces``, each as soon as it has been made, only one piece at a time needs to
        fit.
        """
        begins = [(0, self.cache_gb_per_s), *self.traffic[1:]]
        ends = [*(size for size, _ in self.traffic[1:]), nbytes]
        piece = nbytes / pieces
        moved = sum(max(0, min(piece, end) - begin) / speed for (begin, speed), end in zip(begins, ends, strict=True))
        return max(operations / self.fma_gflops[dtype], pieces * moved) / 1e9

    def or_better(self, other: Limits) -> Limits:
        """Return the higher figures of two measurements, as other work on the machine can only lower them."""
        fma = {dtype: max(speed, other.fma_gflops[dtype]) for dtype, speed in self.fma_gflops.items()}
        pairs = zip(self.traffic, other.traffic, strict=True)
        return Limits(fma, tuple((size, max(speed, again)) for (size, speed), (_, again) in pairs), self.threads)


def measure_limits(target: Target | None = None) -> Limits:
    """Measure the limits of ``target`` (by default this machine's processor) with the current number of threads.

    Takes about half a second.
    """
    target = target or host_target()
    count = threads.thread_count()
    fma = {dtype: _fma_gflops(dtype, count, target) for dtype in ("float32", "float64")}
    return Limits(fma, _traffic(count, target), count)


def _fma_gflops(dtype: str, count: int, target: Target) -> float:
    kernel = fma_kernel(dtype, _UNITS_PER_THREAD * count, target)
    result = aligned_memory(kernel.units * _LINE)
    result[:] = 0
    executable = Executable([Stage((Call(kernel, (0,)),))], 1, target)
    executable.bind(0, result.ctypes.data)
    return kernel.operations / _fastest(executable, _FMA_SECONDS) / 1e9


def _traffic(count: int, target: Target) -> tuple[tuple[int, float], ...]:
    """Return ``Limits.traffic``.

    No larger amount can be faster than a smaller one. Where it is measured so, the measurement of the smaller one was
    disturbed, and gets the speed of the larger one.
    """
    near = [size * count for size in _NEAR_BYTES]
    sizes = [*near, *(size for size in _FAR_BYTES if size > near[-1])]
    memory = aligned_memory(2 * sizes[-1])
    memory[:] = 1  # pages never written would all be the system's single page of zeros
    speeds: list[float] = []
    for size in reversed(sizes):
        measured = max(_gb_per_s(way, size, memory, count, target) for way in WAYS)
        speeds.append(max([measured, *speeds[-1:]]))
    return tuple(zip(sizes, reversed(speeds), strict=True))


@dataclass(frozen=True)
class Way:
    """How a measurement goes over memory: it adds up the elements of ``reads`` arrays.

    If it ``writes``, the sums go to another array, past the caches if ``streaming``.
    """

    reads: int
    writes: bool
    streaming: bool = False

    @property
    def arrays(self) -> int:
        """The number of arrays, read and written."""
        return self.reads + self.writes


WAYS = (Way(1, True), Way(1, True, streaming=True), Way(2, True), Way(2, False))


def _gb_per_s(way: Way, nbytes: int, memory: Array, count: int, target: Target) -> float:
    step = target.vector_bytes * _AT_ONCE
    unit = max(step, nbytes // way.arrays // count // step * step)
    rounds = max(1, _ROUND_BYTES // (unit * way.arrays))
    table = aligned_memory((count + 1) * _LINE)  # bytes of a unit in each array, rounds; the units' sums
    table.view(np.int64)[:2] = unit, rounds
    kernel = traffic_kernel(way, count, target)
    executable = Executable([Stage((Call(kernel, tuple(range(way.arrays + 1))),))], way.arrays + 1, target)
    executable.bind(0, table.ctypes.data)
    for number in range(way.arrays):
        executable.bind(number + 1, memory.ctypes.data + number * unit * count)
    return unit * way.arrays * count * rounds / _fastest(executable, _TRAFFIC_SECONDS) / 1e9


def _fastest(executable: Executable, seconds: float) -> float:
    """Run for ``seconds`` and return the time in seconds of the fastest run; the first run does not count."""
    executable.run()
    end = time.perf_counter() + seconds
    fastest = float("inf")
    while True:
        began = time.perf_counter()
        executable.run()
        now = time.perf_counter()
        fastest = min(fastest, now - began)
        if now > end:
            return fastest


# ---- kernels

_AT_ONCE = 4
"""Vectors of each array per round of the inner loop."""


def _begin(target: Target, name: str) -> Function:
    module = Module(target.vector_bits)
    return module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])


def fma_kernel(dtype: str, units: int, target: Target) -> Kernel:
    """Return a kernel that does nothing but multiply-adds, from registers to registers.

    It runs as many independent chains of them as hide their latency. Its only operand has 64 bytes per unit, of which it reads
    and writes one vector per unit.
    """
    lanes = target.lanes(4 if dtype == "float32" else 8)
    chains = target.registers - 4

    def generate(target: Target, name: str) -> Module:
        f = _begin(target, name)
        type_ = vector(lanes, LLVM_TYPES[dtype])
        with f.loop(f["begin"], f["end"]) as unit:
            place = f.at(f.load(f["args"], "ptr"), unit * _LINE, "i8")
            factor = f.load(place, type_)
            sums = [f.variable(type_, f.number(chain, type_)) for chain in range(chains)]
            with f.loop(0, _FMA_ROUNDS):
                for one in sums:
                    # fmuladd is fused only where the processor can do that; fma would call a slow function elsewhere.
                    one.set(f.call(f"llvm.fmuladd.{suffix(type_)}", type_, one.get(), factor, factor))
            total: Value = sums[0].get()
            for one in sums[1:]:
                total = total + one.get()
            f.store(total, place)
        return f.module

    operations = 2 * lanes * chains * _FMA_ROUNDS * units
    return Kernel("limit_fma", f"{dtype} {_FMA_ROUNDS}", generate, units, 0, operations, 2 * _LINE * units)


def traffic_kernel(way: Way, units: int, target: Target) -> Kernel:
    """Return a kernel that goes over the arrays of ``way`` again and again.

    Its operands are a table, then the arrays, the written one last. The table holds two int64, the bytes of a unit in each
    array and the number of rounds, then from byte 64 on a cache line per unit. Loop order: units, rounds, the unit's part of
    the arrays. Each unit stores its sums in its line of the table, as LLVM would remove loads whose values are not used.
    """

    def generate(target: Target, name: str) -> Module:
        f = _begin(target, name)
        width, type_ = target.vector_bytes, vector(target.vector_bytes // 4, "float")
        table = f.load(f["args"], "ptr")
        nbytes, rounds = (f.load(f.at(table, number, "i64"), "i64") for number in (0, 1))
        arrays = [f.load(f.at(f["args"], number + 1, "ptr"), "ptr") for number in range(way.arrays)]
        with f.loop(f["begin"], f["end"]) as unit:
            first = f.index(unit * nbytes)
            sums = [f.variable(type_, f.zero(type_)) for _ in range(_AT_ONCE)]
            with f.loop(0, rounds), f.loop(first, first + nbytes, width * _AT_ONCE) as place:
                for number, total in enumerate(sums):
                    at = [f.at(array, place + width * number, "i8") for array in arrays]
                    value = f.load(at[0], type_)
                    for other in at[1 : way.reads]:
                        value = value + f.load(other, type_)
                    if way.writes:
                        f.store(value, at[-1], align=width if way.streaming else None, streaming=way.streaming)
                    else:
                        total.set(total.get() + value)
            for total in sums:
                f.store(total.get(), f.at(table, unit * _LINE + _LINE, "i8"))
        return f.module

    return Kernel("limit_traffic", repr(way), generate, units)
