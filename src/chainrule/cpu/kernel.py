"""The interface between kernels and the code that plans, loads and runs them.

A kernel is a native function over numbered units of work. Every kernel is compiled to one function

    void NAME(ptr args, i64 begin, i64 end, ptr scratch)

``args`` points to the addresses of the operands, in the order that the kernel's family states. Before them lie the kernel's
*parameters*: numbers, such as the number of images, that the code reads when it is called, so that kernels which differ in
nothing else share their code. The first parameter lies right before the first operand, the second before that, and so on. The
call computes the *units* from ``begin`` to ``end`` (excluded). ``scratch`` is memory that belongs to the calling thread:
``scratch_bytes`` bytes, aligned to 64, with undefined contents. Units may run in any order, on any thread, at the same time:
each writes its own part of the output, and its bits do not depend on which units run together. So results are the same with any
number of threads.

An operation that needs several kernels (pack the weight, then multiply) is a list of steps over named operands. The
planner gives each temporary a place in the arena.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chainrule.recent import Recent

if TYPE_CHECKING:
    from chainrule.cpu.codegen.emit import Module
    from chainrule.cpu.codegen.target import Target

LLVM_TYPES = {"float32": "float", "float64": "double", "int64": "i64", "int32": "i32", "uint8": "i8", "bool": "i8"}
"""The LLVM type in which values of each dtype are stored in memory. A bool is stored as a byte, 0 or 1."""


@dataclass(frozen=True)
class Kernel:
    """A native function over units of work: how its code is generated, and how much work it does.

    Attributes:
        family: the kind of kernel, such as "matmul"; it says what the operands are and in which order.
        signature: everything besides the target that code and parameters depend on.
        generate: ``generate(target, name)`` returns the module that defines the function ``name``. None for a kernel that was
            read from disk, whose machine code is kept there.
        units: the number of units of work.
        scratch_bytes: the memory in bytes that each thread needs to work in.
        operations: arithmetic operations of all units together, as the kernel's algorithm needs them; a multiply-add counts
            as two. Used by the profile.
        bytes: bytes of all operands together, each read or written once: the least traffic possible. Used by the profile.
        direct_operations: the operations that the definition of the result takes, where the algorithm (Winograd's, for
            example) takes another number; else 0.
        name: the name of the native function: the family, and a checksum of the code. "" until ``named`` has seen the code.
        parameters: the numbers that the function reads when it is called (see above); known together with the name.
    """

    family: str
    signature: str
    generate: Callable[[Target, str], Module] | None = field(repr=False, compare=False)
    units: int
    scratch_bytes: int = 0
    operations: int = 0
    bytes: int = 0
    direct_operations: int = 0
    name: str = ""
    parameters: tuple[int, ...] = ()

    def named(self, target: Target) -> Kernel:
        """Return the kernel for ``target`` with its name and its parameters; itself if it has them.

        The name follows from the code, so kernels with the same code have the same name, whatever their parameters.
        """
        if self.name:
            return self
        assert self.generate is not None, f"a kernel of family {self.family} has neither a name nor a generator"
        key = self.family, self.signature, target
        known = _names.get(key)
        if known is None:
            module = self.generate(target, UNNAMED)
            known = f"{self.family}_{hashlib.sha256(module.text().encode()).hexdigest()[:24]}", tuple(module.parameters)
            module.functions.clear()  # which refer to the module, too: so the text is freed now, without the collector
            _names.keep(key, known)
        name, parameters = known
        return Kernel(
            self.family, self.signature, self.generate, self.units, self.scratch_bytes, self.operations, self.bytes,
            self.direct_operations, name, parameters,
        )  # fmt: skip

    def text(self, target: Target) -> str:
        """Generate the code of a named kernel for ``target``, as LLVM IR; only where ``generate`` is set."""
        assert self.name, f"a kernel of family {self.family} has no name yet"
        assert self.generate is not None, f"{self.name} was kept without its generator"
        return self.generate(target, self.name).text()


UNNAMED = "unnamed"
"""The name of a function whose code is generated to learn what it is."""

_names: Recent[tuple[str, str, Target], tuple[str, tuple[int, ...]]] = Recent(1024)
"""Names and parameters of kernels whose code was generated lately, by family, signature and target."""


@dataclass(frozen=True)
class KernelStep:
    """A kernel, and the names of the operands that it is applied to, in the kernel's order.

    ``rows`` is set where unit u writes exactly the rows u * rows to (u + 1) * rows (excluded; the last unit may have fewer) of
    the output, seen as a dense matrix of rows: in an image (N, H, W, C) a row is one pixel with all its channels. A kernel
    that works on the same rows can then share the stage and process each unit while it is still in the cache.
    """

    kernel: Kernel
    operands: tuple[str, ...]
    rows: int | None = None


@dataclass(frozen=True)
class KernelSteps:
    """The kernels that compute one value, in order, and the size in bytes of each temporary between them, by name."""

    steps: Sequence[KernelStep]
    temporaries: Mapping[str, int] = field(default_factory=dict)
