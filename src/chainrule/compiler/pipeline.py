"""The compiler, top to bottom: a list of passes from a graph to tasks over buffers.

    simplify > widen > layout > fuse > lower > schedule        then, with kernels at hand: stages > memory (cpu.planner)

Each pass is a row of ``PASSES``: what it does to the ``Compilation``, and how what it left is shown (see ``listing``).
``check_between`` holds the graph against its rules after every pass that changes it; tests switch it on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from chainrule.compiler import listing
from chainrule.compiler.fuse import Fusion, fuse
from chainrule.compiler.layout import Layout, choose_layout
from chainrule.compiler.lower import lower
from chainrule.compiler.report import SHOW, PassReport
from chainrule.compiler.schedule import Schedule, schedule
from chainrule.compiler.simplify import simplify
from chainrule.compiler.tasks import Buffer, Lowered, Place
from chainrule.compiler.values import dense_strides, natural
from chainrule.compiler.widening import in_supported_dtypes
from chainrule.errors import unknown_value
from chainrule.graph import Graph, Node, check

check_between = False


@dataclass
class Compilation:
    """What the passes work on, and what each of them leaves for those after it.

    ``state``: per assigned cell the leaf of its old value, and which output is the new one.
    """

    graph: Graph
    state: Sequence[tuple[Node, int]]
    layout: Layout = field(init=False)
    fusion: Fusion = field(init=False)
    lowered: Lowered = field(init=False)
    schedule: Schedule = field(init=False)
    reports: list[PassReport] = field(default_factory=list)

    @property
    def outputs(self) -> tuple[Node, ...]:
        """The outputs, as the passes over the graph left them."""
        return self.graph.outputs


@dataclass(frozen=True)
class Pass:
    """``run`` does its work and says in words what changed; ``shown`` gives what it left as text."""

    name: str
    run: Callable[[Any], str]
    shown: Callable[[Any], str]


def compiled(compilation: Compilation, passes: Sequence[Pass], shown: Collection[str] = ()) -> None:
    """Run ``passes`` one after the other; print what those among ``shown`` leave to the standard error output."""
    for one in passes:
        before, begin = compilation.graph, time.perf_counter()
        change = one.run(compilation)
        compilation.reports.append(PassReport(one.name, change, time.perf_counter() - begin))
        if check_between and compilation.graph is not before:
            check(compilation.graph, one.name)
        if one.name in shown:
            print(f"---- after {one.name}: {change}\n{one.shown(compilation)}\n", file=sys.stderr)


def plan(graph: Graph, state: Sequence[tuple[Node, int]]) -> Compilation:
    """``graph`` after all passes that need to know no processor."""
    compilation = Compilation(graph, state)
    compiled(compilation, PASSES)
    return compilation


def passes_to_show(asked: str | None, known: Sequence[Pass]) -> list[str]:
    """The names of passes in ``asked``, such as "fuse,lower" or "all", or else in the environment variable CHAINRULE_SHOW."""
    what = "pass" if asked is not None else f"pass ({SHOW})"
    names = [one.strip() for one in (os.environ.get(SHOW, "") if asked is None else asked).split(",") if one.strip()]
    rows = [one.name for one in known]
    for name in names:
        if name not in (*rows, "all"):
            raise unknown_value(what, name, [*rows, "all"])
    return rows if "all" in names else names


# ---- the passes


def _over_graph(name: str, graph_pass: Callable[[Graph], tuple[Graph, int]]) -> Pass:
    def run(one: Compilation) -> str:
        before = len(one.graph)
        one.graph, changed = graph_pass(one.graph)
        return f"{changed} changes, {before} nodes > {len(one.graph)}"

    return Pass(name, run, lambda one: listing.graph(one.graph))


def _layout(one: Compilation) -> str:
    one.layout = choose_layout(one.graph, {one.graph.outputs[place] for _, place in one.state})
    one.graph = one.layout.graph
    return f"{one.layout.copies} copies inserted"


def _fuse(one: Compilation) -> str:
    one.fusion = fuse(one.layout)
    operations = sum(1 for node in one.graph.nodes if not node.is_leaf)
    return f"{operations} operations in {len(one.fusion.clusters)} clusters"


def _lower(one: Compilation) -> str:
    one.lowered = lower(one.fusion)
    return f"{len(one.lowered.tasks)} tasks over {len(one.lowered.buffers)} buffers"


def _schedule(one: Compilation) -> str:
    outputs = one.graph.outputs
    pairs = [(_memory_of(old, one.lowered), one.lowered.places[outputs[place]].buffer) for old, place in one.state]
    one.schedule = schedule(one.lowered, pairs)
    return f"{len(one.schedule.takes_over)} of {len(pairs)} cells updated in place"


def _memory_of(old: Node, lowered: Lowered) -> Buffer:
    """The buffer of a cell's old value; a cell that is assigned without being read has one too."""
    if old not in lowered.places:
        strides = dense_strides(old.shape, natural(old.ndim))
        lowered.places[old] = Place(Buffer(old.dtype, old.size, old.label, old), 0, strides)
    return lowered.places[old].buffer


PASSES: list[Pass] = [
    _over_graph("simplify", simplify),
    _over_graph("widen", in_supported_dtypes),
    Pass("layout", _layout, lambda one: listing.layout(one.layout)),
    Pass("fuse", _fuse, lambda one: listing.clusters(one.fusion)),
    Pass("lower", _lower, lambda one: listing.tasks(one.lowered.tasks)),
    Pass("schedule", _schedule, lambda one: listing.tasks(one.schedule.tasks, one.schedule.takes_over)),
]
