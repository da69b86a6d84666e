"""From LLVM IR as text to an object file. Also what a helper process of ``assembler`` runs, as a script.

It imports nothing of chainrule, so that a helper is at work as soon as LLVM is loaded.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import struct
import sys
from typing import IO

if __name__ == "__main__":  # a helper: find LLVM where the process that asks found it
    sys.path[:] = json.loads(sys.stdin.buffer.readline())

import llvmlite
import llvmlite.binding as llvm

_PASSES = (
    llvm.ModulePassManager.add_sroa_pass,
    llvm.ModulePassManager.add_ipsccp_pass,
    llvm.ModulePassManager.add_instruction_combine_pass,
    llvm.ModulePassManager.add_loop_rotate_pass,
    llvm.ModulePassManager.add_new_gvn_pass,
    llvm.ModulePassManager.add_instruction_combine_pass,
    llvm.ModulePassManager.add_simplify_cfg_pass,
)
"""What is left to LLVM before it selects instructions: variables into registers, constants through calls, loops with their test
at the end, equal values once. All else, above all unrolling and vectors, the generators do where it pays; LLVM's own level 2
takes three times as long for code that runs no faster."""


@functools.cache
def _initialise() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def target_machine(triple: str, cpu: str, features: str, *, jit: bool) -> llvm.TargetMachine:
    """Generates code that may lie anywhere: relative to itself, so each object has to be loaded in one piece."""
    _initialise()
    # MCJIT reads ELF objects only on Windows.
    triple = f"{triple}-elf" if "windows" in triple else triple
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default", jit=jit
    )


def optimised(text: str, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    """The module as it goes to instruction selection.

    Raises:
        RuntimeError: LLVM refuses the text.
    """
    module = llvm.parse_assembly(text)
    module.verify()
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    manager = llvm.create_new_module_pass_manager()
    for add in _PASSES:
        add(manager)
    manager.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    return module


def object_code(text: str, machine: llvm.TargetMachine) -> bytes:
    """The object file of a module.

    Raises:
        RuntimeError: LLVM refuses the text.
    """
    return bytes(machine.emit_object(optimised(text, machine)))


# ---- between processes: a message is its length and then its bytes


_LENGTH = struct.Struct("<q")


def send(to: IO[bytes], data: bytes | str) -> None:
    """Bytes, or the text of an error, whose length goes as a negative number."""
    sent = data.encode() if isinstance(data, str) else data
    to.write(_LENGTH.pack(-len(sent) if isinstance(data, str) else len(sent)) + sent)
    to.flush()


def receive(source: IO[bytes]) -> bytes | str:
    """What the other side sent.

    Raises:
        struct.error: it has closed its end.
    """
    (length,) = _LENGTH.unpack(source.read(_LENGTH.size))
    sent = source.read(abs(length))
    if len(sent) < abs(length):
        raise struct.error("the message ends too early")
    return sent.decode() if length < 0 else sent


def greeting() -> bytes:
    """What a helper says when it is ready."""
    return f"chainrule runs llvmlite {llvmlite.__version__} from {os.path.dirname(llvmlite.__file__)}\n".encode()


def serve() -> None:
    """What a helper runs: modules in, object files out, until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # also where there are no sessions, Ctrl-C is for the process that asked
    source, to = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody else writes between the answers
    with contextlib.suppress(struct.error, BrokenPipeError):
        to.write(greeting())
        to.flush()
        machine = target_machine(*json.loads(receive(source)), jit=False)
        while True:
            text = receive(source)
            assert isinstance(text, bytes)
            try:
                send(to, object_code(text.decode(), machine))
            except RuntimeError as error:
                send(to, str(error) or "no reason given")


if __name__ == "__main__":
    serve()
