"""Machine code: assembled from LLVM IR as text, and loaded into this process."""

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
    """The object file of a module.

    Raises:
        InternalError: LLVM refuses the text; the message says where the text was left.
    """
    try:
        return object_code(text, target.machine)
    except RuntimeError as error:
        raise refused(text, name, str(error)) from error


def assembly(text: str, target: Target, name: str) -> str:
    """The same as assembly text, to look at."""
    try:
        return str(target.machine.emit_assembly(optimised(text, target.machine)))
    except RuntimeError as error:
        raise refused(text, name, str(error)) from error


def refused(text: str, name: str, reason: str) -> InternalError:
    """What to raise where LLVM cannot assemble ``text``, which is left in a file to report."""
    handle, path = tempfile.mkstemp(prefix=f"chainrule-{name}-"[:80], suffix=".ll")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return InternalError(
        f"kernel {name}: LLVM refuses the code: {reason.strip()}. "
        f"This is a bug of chainrule: please report it and attach {path}"
    )


class Library:
    """Machine code that is loaded into this process, for as long as this lives.

    ``codes`` are object files and ``functions`` the names to find in them, each in one only.
    """

    def __init__(self, codes: Iterable[bytes], functions: Sequence[str], target: Target) -> None:
        builder = llvm.JITLibraryBuilder()
        for code in codes:
            builder.add_object_img(code)
        for function in functions:
            builder.export_symbol(function)
        builder.add_current_process()
        try:
            # JITLink loads each object in one piece, which code that is relative to itself needs. A linker of its own
            # for each library: a shared one would keep some memory of every library that it ever had.
            self._linker = llvm.create_lljit_compiler(target.new_machine(jit=True), use_jit_link=True, suppress_errors=True)
            self._loaded = builder.link(self._linker, "library")
        except RuntimeError as error:
            raise InternalError(f"machine code of {', '.join(functions[:3])} cannot be loaded: {error}") from error

    def address(self, function: str) -> int:
        return int(self._loaded[function])

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # In this order; closing is what frees the code. At the end of the process it stays: threads may still be in it.
        if not is_finalizing() and hasattr(self, "_loaded"):
            self._loaded.close()
            self._linker.close()
