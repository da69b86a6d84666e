"""What a processor offers to the code generator: vector width, registers, features. Chosen by features, never by vendor."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import llvmlite.binding as llvm


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

    @functools.cached_property
    def machine(self) -> llvm.TargetMachine:
        _initialise()
        return llvm.Target.from_triple(self.triple).create_target_machine(
            cpu=self.cpu, features=self.features, opt=3, reloc="pic", codemodel="jitdefault" if self.is_host else "default"
        )

    @property
    def is_host(self) -> bool:
        return self.triple == llvm.get_process_triple()


@functools.cache
def _initialise() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


_WIDTHS = {"avx512": (64, 32), "avx2": (32, 16), "sse2": (16, 16), "neon": (16, 32)}


def _x86(name: str, features: dict[str, bool], triple: str, cpu: str) -> Target:
    flags = ",".join(f"{'+' if on else '-'}{feature}" for feature, on in sorted(features.items()))
    return Target(name, triple, cpu, flags, *_WIDTHS[name])


@functools.cache
def host_target(limit: str = "") -> Target:
    """The processor this runs on, with its widest vectors; ``limit`` ("avx2", "sse2") holds back to narrower ones."""
    triple, cpu = llvm.get_process_triple(), llvm.get_host_cpu_name()
    features = dict(llvm.get_host_cpu_features())
    if triple.startswith(("aarch64", "arm64")):
        flags = ",".join(f"{'+' if on else '-'}{feature}" for feature, on in sorted(features.items()))
        return Target("neon", triple, cpu, flags, *_WIDTHS["neon"])
    has_512 = all(features.get(one) for one in ("avx512f", "avx512vl", "avx512dq", "avx512bw"))
    has_256 = all(features.get(one) for one in ("avx2", "fma"))
    if has_512 and limit not in ("avx2", "sse2"):
        return _x86("avx512", features, triple, cpu)
    narrowed = {name: on and not name.startswith("avx512") for name, on in features.items()}
    if has_256 and limit != "sse2":
        return _x86("avx2", narrowed, triple, cpu)
    return _x86(
        "sse2", {name: on and not name.startswith(("avx", "fma", "f16c")) for name, on in narrowed.items()}, triple, cpu
    )


NEON = Target("neon", "aarch64-unknown-linux-gnu", "neoverse-n1", "+neon,+fp-armv8", *_WIDTHS["neon"])
AVX512 = Target("avx512", "x86_64-unknown-linux-gnu", "skylake-avx512", "", *_WIDTHS["avx512"])
