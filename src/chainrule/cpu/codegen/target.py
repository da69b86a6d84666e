"""What a processor offers to the code generator: vector width, registers, features. Chosen by features, never by vendor."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass

import llvmlite.binding as llvm

from chainrule.cpu.codegen.availability import architecture, obstacle
from chainrule.cpu.codegen.object_code import target_machine
from chainrule.errors import UserError, unknown_value


@dataclass(frozen=True)
class Target:
    """One kind of processor. ``vector_bytes`` is the width of a vector register, ``registers`` how many there are."""

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int

    def lanes(self, itemsize: int) -> int:
        """Elements of so many bytes in one vector register."""
        return self.vector_bytes // itemsize

    @property
    def vector_bits(self) -> int:
        return 8 * self.vector_bytes

    @property
    def has_fma(self) -> bool:
        """Whether a multiply-add is one instruction; elsewhere LLVM would call the C library for each lane."""
        return self.name != "sse2"

    def parts(self) -> tuple[str, ...]:
        """All that tells it from other targets, as text."""
        return self.name, self.triple, self.cpu, self.features, str(self.vector_bytes), str(self.registers)

    @functools.cached_property
    def machine(self) -> llvm.TargetMachine:
        return self.new_machine(jit=False)

    def new_machine(self, *, jit: bool) -> llvm.TargetMachine:
        return target_machine(self.triple, self.cpu, self.features, jit=jit)

    @property
    def is_host(self) -> bool:
        return bool(self.triple == llvm.get_process_triple())


_WIDTHS = {"avx512": (64, 32), "avx2": (32, 16), "sse2": (16, 16), "neon": (16, 32)}
_X86_FROM_WIDEST = ("avx512", "avx2", "sse2")
_AVX512 = ("avx512f", "avx512vl", "avx512dq", "avx512bw")


def host_target(limit: str = "") -> Target:
    """The processor this runs on, with its widest vectors.

    ``limit`` ("avx512", "avx2", "sse2", "neon") holds back to narrower ones than there are, and so does the environment
    variable ``CHAINRULE_TARGET``; of the two, the narrower.

    Raises:
        UserError: a limit is none of these names, or of another kind of processor; or there is no native code for this one.
    """
    limits = [one for one in (limit, os.environ.get("CHAINRULE_TARGET", "").strip().lower()) if one]
    for one in limits:
        if one not in _WIDTHS:
            raise unknown_value("target (CHAINRULE_TARGET)", one, _WIDTHS)
    widest = _widest()
    foreign = [one for one in limits if (one == "neon") != (widest.name == "neon")]
    if foreign:
        raise UserError(f"target {foreign[0]!r} (CHAINRULE_TARGET) is not of this processor, which has {widest.name}")
    if widest.name == "neon":
        return widest
    return _x86(_X86_FROM_WIDEST[max(_X86_FROM_WIDEST.index(one) for one in (*limits, widest.name))])


@functools.cache
def _widest() -> Target:
    triple, features = llvm.get_process_triple(), dict(llvm.get_host_cpu_features())
    if architecture(triple) is None:
        raise UserError(f"{obstacle()}: set CHAINRULE_ENGINE=reference, and NumPy computes everything")
    if architecture(triple) == "aarch64":
        return Target("neon", triple, llvm.get_host_cpu_name(), _flags(features), *_WIDTHS["neon"])
    if all(features.get(one) for one in _AVX512):
        return _x86("avx512")
    return _x86("avx2" if features.get("avx2") and features.get("fma") else "sse2")


@functools.cache
def _x86(name: str) -> Target:
    """This processor with no wider vectors than those of ``name``."""
    beyond = {"avx512": (), "avx2": ("avx512", "avx10", "amx"), "sse2": ("avx", "amx", "fma", "f16c", "xop", "vaes", "vpclmul")}
    features = {one: on and not one.startswith(beyond[name]) for one, on in llvm.get_host_cpu_features().items()}
    return Target(name, llvm.get_process_triple(), llvm.get_host_cpu_name(), _flags(features), *_WIDTHS[name])


def _flags(features: Mapping[str, bool]) -> str:
    return ",".join(f"{'+' if on else '-'}{feature}" for feature, on in sorted(features.items()))


NEON = Target("neon", "aarch64-unknown-linux-gnu", "neoverse-n1", "+neon,+fp-armv8", *_WIDTHS["neon"])
AVX512 = Target("avx512", "x86_64-unknown-linux-gnu", "skylake-avx512", "", *_WIDTHS["avx512"])
