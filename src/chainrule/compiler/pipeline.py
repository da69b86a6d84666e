"""The compiler from top to bottom: the list of passes that turn a graph into tasks over buffers.

    simplify > widen > layout > fuse > lower > schedule        then, where kernels are known: stages > memory (cpu.planner)

Each row of ``PASSES`` has the function that runs a pass, and the one that shows its result as text (see ``listing``).
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
"""Whether to check the graph after every pass that changes it (see ``graph.check``). Tests set it."""


@dataclass
class Compilation:
    """What the passes work on: a graph, and the result of each pass for those after it.

    ``state`` has for each assigned cell the leaf of its old value, and the number of the output that is its new value.
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
        """The outputs of the graph as the passes have rewritten it."""
        return self.graph.outputs


@dataclass(frozen=True)
class Pass:
    """``run`` does the work of a pass and returns a description of what changed; ``shown`` gives the result as text."""

    name: str
    run: Callable[[Any], str]
    shown: Callable[[Any], str]


def compiled(compilation: Compilation, passes: Sequence[Pass], shown: Collection[str] = ()) -> None:
    """Run ``passes`` one after the other. The results of those named in ``shown`` are printed to standard error."""
    for each in passes:
        before, begin = compilation.graph, time.perf_counter()
        change = each.run(compilation)
        compilation.reports.append(PassReport(each.name, change, time.perf_counter() - begin))
        if check_between and compilation.graph is not before:
            check(compilation.graph, each.name)
        if each.name in shown:
            print(f"---- after {each.name}: {change}\n{each.shown(compilation)}\n", file=sys.stderr)


def plan(graph: Graph, state: Sequence[tuple[Node, int]]) -> Compilation:
    """The result of all passes of ``PASSES``, which do not depend on the processor, for ``graph``."""
    compilation = Compilation(graph, state)
    compiled(compilation, PASSES)
    return compilation


def passes_to_show(asked: str | None, known: Sequence[Pass]) -> list[str]:
    """The names of passes in ``asked``, such as "fuse,lower" or "all"; if that is None, in the variable CHAINRULE_SHOW.

    Raises:
        UserError: a name is none of the ``known`` passes.
    """
    kind = "pass" if asked is not None else f"pass ({SHOW})"
    names = [name.strip() for name in (os.environ.get(SHOW, "") if asked is None else asked).split(",") if name.strip()]
    rows = [each.name for each in known]
    for name in names:
        if name not in (*rows, "all"):
            raise unknown_value(kind, name, [*rows, "all"])
    return rows if "all" in names else names


# ---- the passes


def _over_graph(name: str, graph_pass: Callable[[Graph], tuple[Graph, int]]) -> Pass:
    """A pass from a graph to another graph. ``graph_pass`` returns that graph and the number of changes."""

    def run(compilation: Compilation) -> str:
        before = len(compilation.graph)
        compilation.graph, changed = graph_pass(compilation.graph)
        return f"{changed} changes, {before} nodes > {len(compilation.graph)}"

    return Pass(name, run, lambda compilation: listing.graph(compilation.graph))


def _layout(compilation: Compilation) -> str:
    compilation.layout = choose_layout(compilation.graph, {compilation.graph.outputs[place] for _, place in compilation.state})
    compilation.graph = compilation.layout.graph
    return f"{compilation.layout.copies} copies inserted"


def _fuse(compilation: Compilation) -> str:
    compilation.fusion = fuse(compilation.layout)
    operations = sum(1 for node in compilation.graph.nodes if not node.is_leaf)
    clusters = len(compilation.fusion.clusters) + len(compilation.fusion.observing)
    return f"{operations} operations in {clusters} clusters"


def _lower(compilation: Compilation) -> str:
    compilation.lowered = lower(compilation.fusion)
    lowered = compilation.lowered
    return f"{len(lowered.tasks) + len(lowered.observing)} tasks over {len(lowered.buffers)} buffers"


def _schedule(compilation: Compilation) -> str:
    outputs = compilation.graph.outputs
    pairs = [
        (_memory_of(old, compilation.lowered), compilation.lowered.places[outputs[place]].buffer)
        for old, place in compilation.state
    ]
    compilation.schedule = schedule(compilation.lowered, pairs)
    return f"{len(compilation.schedule.takes_over)} of {len(pairs)} cells updated in place"


def _memory_of(old: Node, lowered: Lowered) -> Buffer:
    """The buffer of a cell's old value, which is made here for a cell that is assigned without being read."""
    if old not in lowered.places:
        strides = dense_strides(old.shape, natural(old.ndim))
        lowered.places[old] = Place(Buffer(old.dtype, old.size, old.label, old), 0, strides)
    return lowered.places[old].buffer


PASSES: list[Pass] = [
    _over_graph("simplify", simplify),
    _over_graph("widen", in_supported_dtypes),
    Pass("layout", _layout, lambda each: listing.layout(each.layout)),
    Pass("fuse", _fuse, lambda each: listing.clusters(each.fusion)),
    Pass("lower", _lower, lambda each: listing.tasks([*each.lowered.tasks, *each.lowered.observing])),
    Pass("schedule", _schedule, lambda each: listing.tasks(each.schedule.tasks, each.schedule.takes_over)),
]
