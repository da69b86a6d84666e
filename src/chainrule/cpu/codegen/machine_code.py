"""Assembles the text of LLVM IR to machine code, and loads machine code into this process."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence

import llvmlite.binding as llvm

from chainrule.cpu.codegen.object_code import object_code, optimised
from chainrule.cpu.codegen.target import Target
from chainrule.errors import InternalError


def assemble(text: str, target: Target, name: str) -> bytes:
    """Return the object file of the module with this ``text``; errors refer to it as kernel ``name``.

    Raises:
        InternalError: LLVM refuses the text; the message says in which file the text was left.
    """
    try:
        return object_code(text, target.machine)
    except RuntimeError as error:
        raise refused(text, name, str(error)) from error


def assembly(text: str, target: Target, name: str) -> str:
    """Return the module with this ``text`` in assembly language, for people to read.

    Raises:
        InternalError: as for ``assemble``.
    """
    try:
        return str(target.machine.emit_assembly(optimised(text, target.machine)))
    except RuntimeError as error:
        raise refused(text, name, str(error)) from error


def refused(text: str, name: str, reason: str) -> InternalError:
    """Return the error to raise where LLVM cannot assemble ``text``. Leaves the text in a temporary file, to be reported."""
    handle, path = tempfile.mkstemp(prefix=f"chainrule-{name}-"[:80], suffix=".ll")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return InternalError(
        f"kernel {name}: LLVM refuses the code: {reason.strip()}. "
        f"This is a bug of chainrule: please report it and attach {path}"
    )


class Library:
    """Machine code that is loaded into this process, and unloaded when this object is freed.

    Args:
        codes: object files.
        functions: the names of the functions whose addresses will be asked for, each defined in exactly one object file.
        target: the processor that the code is for.

    Raises:
        InternalError: LLVM cannot link the object files.
    """

    def __init__(self, codes: Iterable[bytes], functions: Sequence[str], target: Target) -> None:
        builder = llvm.JITLibraryBuilder()
        for code in codes:
            builder.add_object_img(code)
        for function in functions:
            builder.export_symbol(function)
        builder.add_current_process()
        try:
            # JITLink loads each object file in one piece, as code with relative addresses (see ``target_machine``) needs it.
            # Each library has a linker of its own, as a shared one would keep some memory of every library it ever linked.
            self._linker = llvm.create_lljit_compiler(target.new_machine(jit=True), use_jit_link=True, suppress_errors=True)
            self._loaded = builder.link(self._linker, "library")
        except RuntimeError as error:
            raise InternalError(f"machine code of {', '.join(functions[:3])} cannot be loaded: {error}") from error

    def address(self, function: str) -> int:
        """Return the address of ``function``, valid for as long as this object lives."""
        return int(self._loaded[function])

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # Closing frees the code, and has to be done in this order. When the process ends, the code stays, as threads may
        # still run it.
        if not is_finalizing() and hasattr(self, "_loaded"):
            self._loaded.close()
            self._linker.close()
