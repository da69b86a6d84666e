"""What a kernel is to those who plan, load and run it: a native function over numbered units of work.

Every kernel is compiled to one function

    void NAME(ptr args, i64 begin, i64 end, ptr scratch)

``args`` is an array of addresses, one for each operand in the order that the kernel's family states; ``begin`` to ``end``
(excluded) are the *units* it shall do now; ``scratch`` is memory of the calling thread alone, ``scratch_bytes`` of it,
aligned to 64 bytes, with undefined contents. Units may run in any order, on any thread, at the same time: each writes its
own part of the output, and its bits do not depend on which units run together. So results are the same with any number
of threads.

An operation that needs several kernels (pack the weight, then multiply) is a list of steps over named operands; the
planner gives each temporary a place in the arena.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chainrule.cpu.codegen.emit import Module
    from chainrule.cpu.codegen.target import Target

LLVM_TYPES = {"float32": "float", "float64": "double", "int64": "i64", "int32": "i32", "uint8": "i8", "bool": "i8"}
"""How values of a dtype lie in memory; a bool is a byte, 0 or 1."""


@dataclass(frozen=True)
class Kernel:
    """One loop nest.

    ``signature`` says everything that the code depends on besides the target: kernels of one signature share their code.
    ``generate(target, name)`` gives the module that defines the function ``name``; None where only the code itself was kept.
    ``operations`` (multiply-adds count two) and ``bytes`` (read and written once) are of all units together, for the profile:
    no less than this can be done. ``direct_operations``: those that the definition takes, where the algorithm takes others.
    """

    family: str
    signature: str
    generate: Callable[[Target, str], Module] | None = field(repr=False, compare=False)
    units: int
    scratch_bytes: int = 0
    operations: int = 0
    bytes: int = 0
    direct_operations: int = 0
    kept_name: str = ""
    """The name, where only that was kept."""

    @functools.cached_property
    def name(self) -> str:
        """Of its function."""
        digest = hashlib.sha256(f"{self.family} {self.signature}".encode()).hexdigest()[:24]
        return self.kept_name or f"{self.family}_{digest}"

    def module(self, target: Target) -> Module:
        """The code for ``target``."""
        assert self.generate is not None, f"{self.name} was kept without its generator"
        return self.generate(target, self.name)


@dataclass(frozen=True)
class KernelStep:
    """One kernel applied to operands by name.

    ``rows`` is set where unit u writes just the rows u * rows to (u + 1) * rows (excluded; the last unit may have fewer) of
    the output, seen as a dense matrix of rows: for an image (N, H, W, C) a row is one pixel with all its channels. Then a
    kernel that works on the same rows may follow at once, unit by unit, while they are in the cache.
    """

    kernel: Kernel
    operands: tuple[str, ...]
    rows: int | None = None


@dataclass(frozen=True)
class KernelSteps:
    """What computes one value: kernels in order, and the bytes of each temporary that they hand to each other."""

    steps: Sequence[KernelStep]
    temporaries: Mapping[str, int] = field(default_factory=dict)
