"""The door of this backend where there is no native code (see ``codegen.availability``): nothing here needs LLVM.

Whoever asks ``obstacle`` first lets NumPy compute. What has nothing to do with machine code works as elsewhere.
"""

from __future__ import annotations

from typing import Any, NoReturn

from chainrule.cpu.codegen.availability import obstacle
from chainrule.cpu.runtime.memory import apart_zeros as zeros
from chainrule.cpu.runtime.memory import return_idle
from chainrule.cpu.runtime.threads import set_threads, thread_count
from chainrule.errors import InternalError

__all__ = [
    "check_environment",
    "compile_graph",
    "lent_program",
    "obstacle",
    "return_idle",
    "run_single",
    "set_threads",
    "stand_in",
    "thread_count",
    "zeros",
]


def _cannot(*_: Any, **options: Any) -> NoReturn:
    """Raise an InternalError, as ``obstacle`` was not asked first.

    Raises:
        InternalError: always.
    """
    raise InternalError(f"a program was asked for, although {obstacle()}")


compile_graph = lent_program = stand_in = run_single = _cannot


def check_environment() -> None:
    """UserError if an environment variable that is obeyed here has a value that means nothing."""
    thread_count()
