"""Translates the text of LLVM IR to an object file. Run as a script, it is the helper process of ``assembler``.

It imports nothing of chainrule, so that a helper can start its work as soon as LLVM is loaded.
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

if __name__ == "__main__":  # in a helper: look for LLVM where the parent process does
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
"""The passes that LLVM runs before it selects instructions. They put variables into registers, propagate constants through
calls, move the tests of loops to the end, and compute equal values only once. The generators do everything else, above all
unrolling and vectorising, where it pays. LLVM's own optimisation level 2 takes three times as long, and the code is not
faster."""


@functools.cache
def _initialise() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def target_machine(triple: str, cpu: str, features: str, *, jit: bool) -> llvm.TargetMachine:
    """Return LLVM's code generator for a processor (see ``Target`` for the arguments).

    The code it makes can be loaded at any address, but refers to its parts by relative addresses, so each object file has to
    be loaded in one piece. ``jit``: whether the code is for loading into this process.
    """
    _initialise()
    # On Windows, MCJIT reads no object files but ELF.
    triple = f"{triple}-elf" if "windows" in triple else triple
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default", jit=jit
    )


def optimised(text: str, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    """Return the module with this ``text`` after all passes, ready for instruction selection by ``machine``.

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
    """Return the object file of the module with this ``text``.

    Raises:
        RuntimeError: LLVM refuses the text.
    """
    return bytes(machine.emit_object(optimised(text, machine)))


# ---- between processes: a message is the length of its data, then the data


_LENGTH = struct.Struct("<q")


def send(to: IO[bytes], data: bytes | str) -> None:
    """Send a message: bytes, or the text of an error, which is marked by a negative length."""
    sent = data.encode() if isinstance(data, str) else data
    to.write(_LENGTH.pack(-len(sent) if isinstance(data, str) else len(sent)) + sent)
    to.flush()


def receive(source: IO[bytes]) -> bytes | str:
    """Return the next message that the other side sent: bytes, or the text of an error.

    Raises:
        struct.error: the other side has closed its end.
    """
    (length,) = _LENGTH.unpack(source.read(_LENGTH.size))
    sent = source.read(abs(length))
    if len(sent) < abs(length):
        raise struct.error("the message ends too early")
    return sent.decode() if length < 0 else sent


def greeting() -> bytes:
    """Return the line that a helper writes when it is ready. It tells the parent process which LLVM the helper found."""
    return f"chainrule runs llvmlite {llvmlite.__version__} from {os.path.dirname(llvmlite.__file__)}\n".encode()


def serve() -> None:
    """Run as a helper: read modules from standard input and write object files to standard output until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the parent, also on systems without sessions
    source, to = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # so that nothing else gets between the answers
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
