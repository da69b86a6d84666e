"""What this machine can do at most: multiply-adds per second, and bytes read and written per second, on all threads.

Measured with own kernels, run as any program is, so a profile can say what share of the limit a kernel reaches. Bytes come the
faster the nearer they lie, so they are measured from the first cache to memory. The clock of a processor drifts, so figures are
worth comparing with what is measured in the same minute only.
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
"""How long each limit is measured for."""
_NEAR_BYTES = (8 << 10, 32 << 10, 128 << 10, 512 << 10)
"""Of each thread: what its own caches hold."""
_FAR_BYTES = tuple(1 << power for power in range(20, 28))
"""Of all threads together: up to 128 MiB, more than the last cache of most machines."""
_ROUND_BYTES = 8 << 20
"""Of each thread, that a measurement goes over at least: else it would be waking the threads that is measured."""
_LINE = 64


@dataclass(frozen=True, repr=False)
class Limits(Table):
    """Of ``threads`` threads together. Prints as a table.

    ``fma_gflops``: 10^9 operations per second by dtype, a multiply-add counted as two. ``traffic``: (bytes, 10^9 bytes per
    second), the fastest that so many bytes, gone over again and again, were read and written, both counted: ascending in bytes,
    the last in memory.
    """

    fma_gflops: dict[str, float]
    traffic: tuple[tuple[int, float], ...]
    threads: int

    def contents(self) -> Contents:
        speeds = ", ".join(f"{speed:.0f} Gflop/s {dtype}" for dtype, speed in self.fma_gflops.items())
        rows = [(f"{size >> 10:,}", f"{speed:.1f}") for size, speed in self.traffic]
        return Contents(f"{speeds} on {self.threads} threads", ("KiB gone over again>", "GB/s read and written>"), rows)

    @property
    def memory_gb_per_s(self) -> float:
        """Of what no cache holds."""
        return self.traffic[-1][1]

    @property
    def cache_gb_per_s(self) -> float:
        """Of what the nearest cache holds."""
        return self.traffic[0][1]

    def least_seconds(self, operations: int, nbytes: int, dtype: str = "float32", pieces: int = 1) -> float:
        """No less time than this: the operations at their peak, or the bytes, as near as they can lie.

        As much as a cache holds may come from there, the rest from the next. Bytes that are used in ``pieces``, each when it
        has just been made, are as near as one piece of them.
        """
        begins = [(0, self.cache_gb_per_s), *self.traffic[1:]]
        ends = [*(size for size, _ in self.traffic[1:]), nbytes]
        piece = nbytes / pieces
        moved = sum(max(0, min(piece, end) - begin) / speed for (begin, speed), end in zip(begins, ends, strict=True))
        return max(operations / self.fma_gflops[dtype], pieces * moved) / 1e9

    def or_better(self, other: Limits) -> Limits:
        """The higher of each: what else ran on the machine can only lower what is measured."""
        fma = {dtype: max(speed, other.fma_gflops[dtype]) for dtype, speed in self.fma_gflops.items()}
        pairs = zip(self.traffic, other.traffic, strict=True)
        return Limits(fma, tuple((size, max(speed, again)) for (size, speed), (_, again) in pairs), self.threads)


def measure_limits(target: Target | None = None) -> Limits:
    """Takes about half a second."""
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
    """A larger amount is nowhere faster: where it is measured so, the smaller one was disturbed."""
    near = [size * count for size in _NEAR_BYTES]
    sizes = [*near, *(size for size in _FAR_BYTES if size > near[-1])]
    memory = aligned_memory(2 * sizes[-1])
    memory[:] = 1  # else its pages would all be one page of zeros
    speeds: list[float] = []
    for size in reversed(sizes):
        measured = max(_gb_per_s(way, size, memory, count, target) for way in WAYS)
        speeds.append(max([measured, *speeds[-1:]]))
    return tuple(zip(sizes, reversed(speeds), strict=True))


@dataclass(frozen=True)
class Way:
    """To go over memory: so many arrays are read, and their sum is written to another one, if it is, past the caches or not."""

    reads: int
    writes: bool
    streaming: bool = False

    @property
    def arrays(self) -> int:
        return self.reads + self.writes


WAYS = (Way(1, True), Way(1, True, streaming=True), Way(2, True), Way(2, False))


def _gb_per_s(way: Way, nbytes: int, memory: Array, count: int, target: Target) -> float:
    step = target.vector_bytes * _AT_ONCE
    unit = max(step, nbytes // way.arrays // count // step * step)
    rounds = max(1, _ROUND_BYTES // (unit * way.arrays))
    table = aligned_memory((count + 1) * _LINE)  # the bytes of a unit in each array, rounds; what units add up
    table.view(np.int64)[:2] = unit, rounds
    kernel = traffic_kernel(way, count, target)
    executable = Executable([Stage((Call(kernel, tuple(range(way.arrays + 1))),))], way.arrays + 1, target)
    executable.bind(0, table.ctypes.data)
    for number in range(way.arrays):
        executable.bind(number + 1, memory.ctypes.data + number * unit * count)
    return unit * way.arrays * count * rounds / _fastest(executable, _TRAFFIC_SECONDS) / 1e9


def _fastest(executable: Executable, seconds: float) -> float:
    """Seconds of the fastest run, the first excluded."""
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
"""Vectors of each array in one round of the inner loop."""


def _begin(target: Target, name: str) -> Function:
    module = Module(target.vector_bits)
    return module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])


def fma_kernel(dtype: str, units: int, target: Target) -> Kernel:
    """Multiply-adds from register to register, in as many independent chains as hide their latency.

    Reads and writes one vector per unit, of its only operand (units, 64 bytes).
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
                    # Fused where the processor can; a processor that cannot would call a slow function for fma.
                    one.set(f.call(f"llvm.fmuladd.{suffix(type_)}", type_, one.get(), factor, factor))
            total: Value = sums[0].get()
            for one in sums[1:]:
                total = total + one.get()
            f.store(total, place)
        return f.module

    operations = 2 * lanes * chains * _FMA_ROUNDS * units
    return Kernel("limit_fma", f"{dtype} {_FMA_ROUNDS}", generate, units, 0, operations, 2 * _LINE * units)


def traffic_kernel(way: Way, units: int, target: Target) -> Kernel:
    """Goes over the arrays of ``way``, again and again. Operands: the table, then the arrays, the written one last.

    Loop order: units, rounds, the unit's part of the arrays. What is only read is added up, and the sum stored behind the
    table, a line for each unit, so that it is not left out.
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
