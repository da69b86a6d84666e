"""Keeps the machine code of kernels: loaded in this process while it is in use or was lately, and on disk for other processes.

On disk (see ``disk_cache``), the object file of each kernel is a file of its own.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from weakref import WeakValueDictionary

import llvmlite
import llvmlite.binding as llvm

from chainrule import forks
from chainrule.cpu.codegen import disk_cache
from chainrule.cpu.codegen.cores import available_cores
from chainrule.cpu.codegen.machine_code import Library
from chainrule.cpu.codegen.object_code import optimised
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import Kernel
from chainrule.recent import Recent

_MOST_RECENT = 128
"""How many functions stay loaded although nothing uses them."""


# ---- in this process


class Function:
    """A native function, which stays loaded at ``address`` for as long as this object lives."""

    __slots__ = ("__weakref__", "_library", "address")

    def __init__(self, library: Library, address: int) -> None:
        self._library, self.address = library, address


_lock = threading.RLock()
_alive: WeakValueDictionary[tuple[str, Target], Function] = WeakValueDictionary()
_recent: Recent[tuple[str, Target], Function] = Recent(_MOST_RECENT)


def load(kernels: Iterable[Kernel], target: Target) -> dict[str, Function]:
    """Return the function of each kernel, by name; the kernels are named (see ``Kernel.named``).

    Functions that are not loaded yet come from disk, or are compiled.

    Raises:
        MissingCodeError: a kernel is neither loaded nor on disk, and has no generator.
        InternalError: LLVM refuses the code of a kernel.
    """
    wanted = {kernel.name: kernel for kernel in kernels}
    with _lock:
        functions = {name: function for name in wanted if (function := _alive.get((name, target)))}
        missing = [kernel for name, kernel in wanted.items() if name not in functions]
        if missing:
            names = [kernel.name for kernel in missing]
            library = Library(object_codes(missing, target), names, target)
            functions |= {name: Function(library, library.address(name)) for name in names}
        for name, function in functions.items():
            _alive[name, target] = function
            _recent.keep((name, target), function)
    return functions


def forget() -> None:
    """Unload all functions that nothing uses."""
    _recent.clear()


# ---- on disk


class MissingCodeError(Exception):
    """The machine code of a kernel in a kept recipe is no longer on disk, and without its generator it cannot be made again."""


def object_codes(kernels: Sequence[Kernel], target: Target) -> list[bytes]:
    """Return the object file of each kernel, from disk or compiled; those that are compiled are written to disk.

    Raises:
        MissingCodeError: a kernel is not on disk, and has no generator.
        InternalError: LLVM refuses the code of a kernel.
    """
    facts = [_facts(kernel, target) for kernel in kernels]
    names = [f"{kernel.family}-{_key(about)}.o" for kernel, about in zip(kernels, facts, strict=True)]
    codes = [disk_cache.read(name, about) for name, about in zip(names, facts, strict=True)]
    missing = [number for number, code in enumerate(codes) if code is None]
    if any(kernels[number].generate is None for number in missing):
        raise MissingCodeError
    compiled = _compile([kernels[number] for number in missing], target) if missing else []
    for number, code in zip(missing, compiled, strict=True):
        codes[number] = code
        disk_cache.write(names[number], facts[number], code)
    return [code for code in codes if code is not None]


def assembly_of(kernel: Kernel, target: Target) -> str:
    """Return the code of a kernel, which has a generator, in assembly language, for people to read."""
    return str(target.machine.emit_assembly(optimised(kernel.text(target), target.machine)))


def _compile(kernels: Sequence[Kernel], target: Target) -> list[bytes]:
    from chainrule.cpu.codegen.assembler import assemble_all

    modules = ((kernel.name, kernel.text(target)) for kernel in kernels)
    return assemble_all(modules, len(kernels), target, available_cores())


def _facts(kernel: Kernel, target: Target) -> tuple[str, ...]:
    """Return everything that the machine code of a kernel depends on, as text."""
    return (kernel.name, *target.parts(), *versions())


def _key(facts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def versions() -> tuple[str, str, str]:
    """Return the versions of llvmlite and of LLVM, and a checksum of the sources that generate code."""
    return llvmlite.__version__, ".".join(map(str, llvm.llvm_version_info)), disk_cache.sources("cpu", "compiler/nest.py")


forks.around(_lock.acquire, _lock.release, _lock.release)  # so that no kernel is half loaded in a copy of this process
