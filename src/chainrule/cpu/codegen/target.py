"""Describes a processor to the code generators: width and number of its vector registers, and its features.

The description is chosen by the features that the processor has, never by its vendor.
"""

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
    """A kind of processor.

    Attributes:
        name: the instructions that kernels are made of: "avx512", "avx2", "sse2" or "neon".
        triple: the processor and operating system, as LLVM names them, such as "x86_64-unknown-linux-gnu".
        cpu: the model of the processor, as LLVM names it, such as "skylake-avx512".
        features: what LLVM may (+) and may not (-) use of it, such as "+avx2,-avx512f".
        vector_bytes: the bytes of a vector register.
        registers: the number of vector registers.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int

    def lanes(self, itemsize: int) -> int:
        """Return how many elements of ``itemsize`` bytes a vector register holds."""
        return self.vector_bytes // itemsize

    @property
    def vector_bits(self) -> int:
        """The bits of a vector register."""
        return 8 * self.vector_bytes

    @property
    def has_fma(self) -> bool:
        """Whether a multiply-add is a single instruction. Where it is not, LLVM would call the C library for each lane."""
        return self.name != "sse2"

    def parts(self) -> tuple[str, ...]:
        """Return all attributes as text, for checksums: two targets differ if their parts do."""
        return self.name, self.triple, self.cpu, self.features, str(self.vector_bytes), str(self.registers)

    @functools.cached_property
    def machine(self) -> llvm.TargetMachine:
        """LLVM's code generator for this target, to make object files. Made when it is first used."""
        return self.new_machine(jit=False)

    def new_machine(self, *, jit: bool) -> llvm.TargetMachine:
        """Return a new code generator of LLVM for this target; ``jit``: for code that is loaded into this process."""
        return target_machine(self.triple, self.cpu, self.features, jit=jit)

    @property
    def is_host(self) -> bool:
        """Whether code for this target can be loaded into this process: whether the triples are the same."""
        return bool(self.triple == llvm.get_process_triple())


_WIDTHS = {"avx512": (64, 32), "avx2": (32, 16), "sse2": (16, 16), "neon": (16, 32)}
"""For each target the bytes of a vector register, and the number of vector registers."""
_X86_FROM_WIDEST = ("avx512", "avx2", "sse2")
_AVX512 = ("avx512f", "avx512vl", "avx512dq", "avx512bw")
"""The features that a processor needs for the target "avx512"."""


def host_target(limit: str = "") -> Target:
    """Return the target that describes the processor this runs on, with its widest vectors.

    ``limit`` ("avx512", "avx2", "sse2" or "neon") and the environment variable ``CHAINRULE_TARGET`` allow nothing wider than
    that target; if both are given, the narrower holds.

    Raises:
        UserError: a limit is none of these names, or belongs to another kind of processor; or there is no native code for
            this one.
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
    """Return the target of this processor with its widest vectors."""
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
    """Return the target of this x86-64 processor with no features beyond those of ``name``, "avx512", "avx2" or "sse2"."""
    beyond = {"avx512": (), "avx2": ("avx512", "avx10", "amx"), "sse2": ("avx", "amx", "fma", "f16c", "xop", "vaes", "vpclmul")}
    features = {one: on and not one.startswith(beyond[name]) for one, on in llvm.get_host_cpu_features().items()}
    return Target(name, llvm.get_process_triple(), llvm.get_host_cpu_name(), _flags(features), *_WIDTHS[name])


def _flags(features: Mapping[str, bool]) -> str:
    """Return features as LLVM's list of them, such as "+avx2,-avx512f"."""
    return ",".join(f"{'+' if on else '-'}{feature}" for feature, on in sorted(features.items()))


NEON = Target("neon", "aarch64-unknown-linux-gnu", "neoverse-n1", "+neon,+fp-armv8", *_WIDTHS["neon"])
AVX512 = Target("avx512", "x86_64-unknown-linux-gnu", "skylake-avx512", "", *_WIDTHS["avx512"])
