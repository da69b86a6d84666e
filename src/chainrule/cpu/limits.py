"""What this machine can do at most: multiply-adds per second, and bytes copied per second, on all threads.

Measured with own kernels, run as any program is, so a profile can say what share of the limit a kernel reaches. The clock of a
processor drifts, so figures are worth comparing with what is measured in the same minute only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from chainrule.cpu import threads
from chainrule.cpu.emit import Function, Module, Value, suffix, vector
from chainrule.cpu.executable import Call, Executable, Stage
from chainrule.cpu.kernel import LLVM_TYPES, Kernel
from chainrule.cpu.memory import aligned_memory
from chainrule.cpu.target import Target, host_target

_UNITS_PER_THREAD = 4
_FMA_ROUNDS = 20_000
_COPY_BYTES = 64 << 20  # more than the last cache of most machines
_COPY_UNIT_BYTES = 64 << 10
_SECONDS = 0.06
"""How long each limit is measured for."""


@dataclass(frozen=True)
class Limits:
    """Of ``threads`` threads together.

    ``fma_gflops``: 10^9 operations per second by dtype, a multiply-add counted as two. ``copy_gb_per_s``: 10^9 bytes per
    second of a copy that no cache holds, bytes read and bytes written both counted.
    """

    fma_gflops: dict[str, float]
    copy_gb_per_s: float
    threads: int


def measure_limits(target: Target | None = None) -> Limits:
    """Takes about a third of a second."""
    target = target or host_target()
    count = threads.thread_count()
    fma = {dtype: _fma_gflops(dtype, count, target) for dtype in ("float32", "float64")}
    return Limits(fma, _copy_gb_per_s(target), count)


def _fma_gflops(dtype: str, count: int, target: Target) -> float:
    kernel = fma_kernel(dtype, _UNITS_PER_THREAD * count, target)
    result = aligned_memory(kernel.units * _LINE)
    result[:] = 0
    executable = Executable([Stage((Call(kernel, (0,)),))], 1, target)
    executable.bind(0, result.ctypes.data)
    return kernel.operations / _fastest(executable) / 1e9


def _copy_gb_per_s(target: Target) -> float:
    source, copied = aligned_memory(_COPY_BYTES), aligned_memory(_COPY_BYTES)
    source[:] = 1  # else its pages would all be one page of zeros
    kernel = copy_kernel(_COPY_BYTES, target)
    executable = Executable([Stage((Call(kernel, (0, 1)),))], 2, target)
    executable.bind(0, source.ctypes.data)
    executable.bind(1, copied.ctypes.data)
    return kernel.bytes / _fastest(executable) / 1e9


def _fastest(executable: Executable) -> float:
    """Seconds of the fastest run, the first excluded."""
    executable.run()
    end = time.perf_counter() + _SECONDS
    fastest = float("inf")
    while True:
        began = time.perf_counter()
        executable.run()
        now = time.perf_counter()
        fastest = min(fastest, now - began)
        if now > end:
            return fastest


# ---- kernels

_LINE = 64


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


def copy_kernel(nbytes: int, target: Target) -> Kernel:
    """Copies operand 0 to operand 1, ``nbytes`` of each, whole units of 64 KiB, past the caches. Both begin at a page."""
    units = nbytes // _COPY_UNIT_BYTES

    def generate(target: Target, name: str) -> Module:
        f = _begin(target, name)
        width, at_once = target.vector_bytes, 4
        type_ = vector(width // 4, "float")
        source, copied = f.load(f["args"], "ptr"), f.load(f.at(f["args"], 1, "ptr"), "ptr")
        with f.loop(f["begin"] * _COPY_UNIT_BYTES, f["end"] * _COPY_UNIT_BYTES, width * at_once) as first:
            places = [first + width * number for number in range(at_once)]
            loaded = [f.load(f.at(source, place, "i8"), type_, align=width) for place in places]
            for place, value in zip(places, loaded, strict=True):
                f.store(value, f.at(copied, place, "i8"), align=width, streaming=True)
        return f.module

    return Kernel("limit_copy", str(_COPY_UNIT_BYTES), generate, units, 0, 0, 2 * nbytes)
