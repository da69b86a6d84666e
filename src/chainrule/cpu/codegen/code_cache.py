"""Machine code of kernels, kept: in this process while it is in use or was lately, and on disk between processes.

On disk (see ``disk_cache``) each kernel's object file is a file of its own.
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
"""Functions that stay loaded though nothing uses them."""


# ---- in this process


class Function:
    """A native function at ``address``, as long as this lives."""

    __slots__ = ("__weakref__", "_library", "address")

    def __init__(self, library: Library, address: int) -> None:
        self._library, self.address = library, address


_lock = threading.RLock()
_alive: WeakValueDictionary[tuple[str, Target], Function] = WeakValueDictionary()
_recent: Recent[tuple[str, Target], Function] = Recent(_MOST_RECENT)


def load(kernels: Iterable[Kernel], target: Target) -> dict[str, Function]:
    """The function of each kernel, by ``Kernel.name``; what is not loaded comes from disk or is compiled."""
    wanted = {kernel.name: kernel for kernel in kernels}
    with _lock:
        found = {name: function for name in wanted if (function := _alive.get((name, target)))}
        missing = [kernel for name, kernel in wanted.items() if name not in found]
        if missing:
            names = [kernel.name for kernel in missing]
            library = Library(object_codes(missing, target), names, target)
            found |= {name: Function(library, library.address(name)) for name in names}
        for name, function in found.items():
            _alive[name, target] = function
            _recent.keep((name, target), function)
    return found


def forget() -> None:
    """Let go of all loaded functions that nothing uses."""
    _recent.clear()


# ---- on disk


class MissingCodeError(Exception):
    """A kernel of a recipe is not kept any more."""


def object_codes(kernels: Sequence[Kernel], target: Target) -> list[bytes]:
    """The object file of each kernel, from disk or compiled.

    Raises:
        MissingCodeError: a kernel is neither on disk nor does it know how it is generated.
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
    """The code of a kernel as text, for people."""
    return str(target.machine.emit_assembly(optimised(kernel.module(target).text(), target.machine)))


def _compile(kernels: Sequence[Kernel], target: Target) -> list[bytes]:
    from chainrule.cpu.codegen.assembler import assemble_all

    modules = ((kernel.name, kernel.module(target).text()) for kernel in kernels)
    return assemble_all(modules, len(kernels), target, available_cores())


def _facts(kernel: Kernel, target: Target) -> tuple[str, ...]:
    """Everything that the code depends on."""
    return (kernel.name, *target.parts(), *versions())


def _key(facts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def versions() -> tuple[str, str, str]:
    """Of llvmlite, of LLVM, and of what generates the code."""
    return llvmlite.__version__, ".".join(map(str, llvm.llvm_version_info)), disk_cache.sources("cpu", "compiler/nest.py")


forks.around(_lock.acquire, _lock.release, _lock.release)  # no kernel is half loaded in the copy
