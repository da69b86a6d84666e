"""Runs the steps of a kernel family for tests: operands in guarded memory, units in any order, scratch full of rubbish."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence

import numpy as np

from chainrule.cpu.codegen.code_cache import load
from chainrule.cpu.codegen.target import Target, host_target
from chainrule.cpu.kernel import Kernel, KernelSteps

HOST = host_target()
NARROW = HOST if HOST.name == "neon" else host_target("sse2")
"""This processor with the narrowest vectors that it has: on AArch64 there is one width only."""

_GUARD = 256
_CANARY = 0xA5


def guarded(nbytes: int, fill: int = 0xFF, align: int = 64) -> np.ndarray:
    """``nbytes`` of memory, filled, between guards; a view that begins at a multiple of ``align``, as a cache line does."""
    raw = np.full(nbytes + 2 * _GUARD + align, _CANARY, np.uint8)
    begin = _GUARD + -(raw.ctypes.data + _GUARD) % align
    view = raw[begin : begin + nbytes]
    view[:] = fill
    return view


def assert_guards_hold(view: np.ndarray, name: str) -> None:
    raw = view.base
    assert raw is not None
    begin = view.ctypes.data - raw.ctypes.data
    assert (raw[:begin] == _CANARY).all(), f"{name}: something was written before it"
    assert (raw[begin + view.nbytes :] == _CANARY).all(), f"{name}: something was written behind it"


def arguments_of(kernel: Kernel, target: Target, addresses: Sequence[int]) -> tuple[np.ndarray, int]:
    """What a kernel is called with: a table of its parameters and the addresses of its operands, and where these begin."""
    parameters = kernel.named(target).parameters
    table = np.array([*reversed(parameters), *addresses], np.int64)
    return table, table.ctypes.data + 8 * len(parameters)


def run_steps(
    steps: KernelSteps,
    operands: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
    dtype: str,
    target: Target,
    *,
    backwards: bool = True,
) -> np.ndarray:
    """The value of "out". Units are done one by one, the last first: they must not depend on each other."""
    memory = {name: guarded(size) for name, size in steps.temporaries.items()}
    memory["out"] = guarded(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    for name, value in operands.items():
        memory[name] = guarded(value.nbytes)
        memory[name][:] = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    functions = load([step.kernel.named(target) for step in steps.steps], target)
    for step in steps.steps:
        table, arguments = arguments_of(step.kernel, target, [memory[name].ctypes.data for name in step.operands])
        scratch = guarded(step.kernel.scratch_bytes)
        call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(
            functions[step.kernel.named(target).name].address
        )
        units = range(step.kernel.units)
        for unit in reversed(units) if backwards else units:
            call(arguments, unit, unit + 1, scratch.ctypes.data)
        assert list(table[: len(table) - len(step.operands)]) == list(reversed(step.kernel.named(target).parameters))
        assert_guards_hold(scratch, f"scratch of {step.kernel.family}")
    for name, view in memory.items():
        assert_guards_hold(view, name)
        if name in operands:
            assert (view == np.ascontiguousarray(operands[name]).reshape(-1).view(np.uint8)).all(), f"{name} was changed"
    return memory["out"].view(dtype).reshape(shape).copy()
