"""The door of this backend: what ``tensor.backend.Backend`` asks for, and where in here it is done."""

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
    """``graph`` as a program for this machine: see ``Program``."""
    return Program(graph, state, max_memory=max_memory, show=show)


def check_environment() -> None:
    """UserError if an environment variable that programs obey has a value that means nothing."""
    from chainrule.compiler.pipeline import passes_to_show
    from chainrule.compiler.report import SHOW

    thread_count()
    host_target()
    if os.environ.get(SHOW):
        from chainrule.cpu.planner import ALL_PASSES

        passes_to_show(None, ALL_PASSES)
