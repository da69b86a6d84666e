"""From LLVM IR as text to machine code: optimise, assemble, load."""

from __future__ import annotations

import llvmlite.binding as llvm

from chainrule.cpu.target import Target
from chainrule.errors import InternalError


def assemble(text: str, target: Target, name: str) -> bytes:
    """The object file of a module. Loops are unrolled by the generators, where it pays, and nowhere else."""
    return bytes(target.machine.emit_object(_optimised(text, target, name)))


def assembly(text: str, target: Target, name: str) -> str:
    """The same as assembly text, to look at."""
    return str(target.machine.emit_assembly(_optimised(text, target, name)))


def _optimised(text: str, target: Target, name: str) -> llvm.ModuleRef:
    try:
        module = llvm.parse_assembly(text)
        module.triple, module.data_layout = target.triple, str(target.machine.target_data)
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
        builder = llvm.create_pass_builder(target.machine, options)
        builder.getModulePassManager().run(module, builder)
    except RuntimeError as error:
        raise InternalError(f"kernel {name}: LLVM refuses the code: {error}") from error
    return module


class Library:
    """Object files that are loaded into this process. Their code lives as long as this does."""

    def __init__(self, target: Target) -> None:
        empty = llvm.parse_assembly("")
        empty.triple = target.triple
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=3, jit=True
        )
        self._engine = llvm.create_mcjit_compiler(empty, machine)

    def load(self, code: bytes) -> None:
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, function: str) -> int:
        found = int(self._engine.get_function_address(function))
        if not found:
            raise InternalError(f"function {function} is not in the code that was loaded")
        return found
