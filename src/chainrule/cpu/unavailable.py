"""The entry points of this backend where native code is not available (see ``codegen.availability``).

Nothing here needs LLVM. Callers ask ``obstacle`` first and let NumPy compute where it names a reason. Functions that have
nothing to do with machine code (memory, the number of threads) work as in ``interface``.
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
    """Stand in for the functions that need native code.

    Raises:
        InternalError: always, as the caller should have asked ``obstacle`` first.
    """
    raise InternalError(f"a program was asked for, although {obstacle()}")


compile_graph = lent_program = stand_in = run_single = _cannot


def check_environment() -> None:
    """Check ``CHAINRULE_THREADS``, the one environment variable that is obeyed here.

    Raises:
        UserError: it is no whole number from 1 to ``threads.most_threads``.
    """
    thread_count()
