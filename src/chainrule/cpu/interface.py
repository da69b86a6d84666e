"""The entry points of this backend: the functions that ``tensor.backend.Backend`` asks for.

Each is implemented in one of the modules of this package; nothing outside of ``chainrule.cpu`` imports those.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from chainrule.cpu.codegen.availability import obstacle
from chainrule.cpu.codegen.target import host_target
from chainrule.cpu.runtime.lent import LentProgram, stand_in
from chainrule.cpu.runtime.memory import apart_zeros as zeros
from chainrule.cpu.runtime.memory import return_idle
from chainrule.cpu.runtime.program import Program
from chainrule.cpu.runtime.single import run as run_single
from chainrule.cpu.runtime.threads import set_threads, thread_count
from chainrule.graph import Graph, Node

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

lent_program = LentProgram


def compile_graph(graph: Graph, state: Sequence[tuple[Node, int]], max_memory: int | None, show: str | None) -> Program:
    """Compile ``graph`` to a program for the processor of this machine.

    Args:
        graph: the graph to compile.
        state: for each cell that the program assigns, the leaf of its old value and the number of the output that is the
            new value.
        max_memory: the largest arena in bytes that the program may need; None for no limit.
        show: names of passes whose results are printed, such as "fuse,lower" or "all"; None for those that the environment
            variable ``CHAINRULE_SHOW`` names.

    Raises:
        UserError: the program needs more than ``max_memory``, or ``show`` names a pass that does not exist.
    """
    return Program(graph, state, max_memory=max_memory, show=show)


def check_environment() -> None:
    """Check the environment variables that programs obey, before the first program is made.

    Raises:
        UserError: one of them has a value without a meaning, such as "many" for ``CHAINRULE_THREADS``.
    """
    from chainrule.compiler.pipeline import passes_to_show
    from chainrule.compiler.report import SHOW

    thread_count()
    host_target()
    if os.environ.get(SHOW):
        from chainrule.cpu.planner import ALL_PASSES

        passes_to_show(None, ALL_PASSES)
