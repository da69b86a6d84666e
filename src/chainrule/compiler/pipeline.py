"""The compiler, top to bottom: a list of passes from a graph to tasks over buffers.

    simplify > precision > layout > fuse > lower > schedule        then, with kernels at hand: stages > memory (cpu.planner)

``check_between`` holds the graph against its rules after every pass that gives one; tests switch it on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chainrule.compiler.fuse import fuse
from chainrule.compiler.layout import Layout, choose_layout
from chainrule.compiler.lower import Buffer, Lowered, Place, lower
from chainrule.compiler.precision import in_supported_dtypes
from chainrule.compiler.report import PassReport
from chainrule.compiler.schedule import Schedule, schedule
from chainrule.compiler.simplify import simplify
from chainrule.compiler.values import dense_strides, natural
from chainrule.graph import Graph, Node, check

check_between = False


@dataclass
class Plan:
    """What the passes made: everything that the native side needs."""

    outputs: tuple[Node, ...]
    layout: Layout
    lowered: Lowered
    schedule: Schedule
    reports: list[PassReport] = field(default_factory=list)


def plan(graph: Graph, state: Sequence[tuple[Node, int]]) -> Plan:
    """The plan of ``graph``. ``state``: per assigned cell the leaf of its old value, and which output is the new one."""
    reports: list[PassReport] = []
    for name, graph_pass in GRAPH_PASSES:
        before, begin = len(graph), time.perf_counter()
        graph, changed = graph_pass(graph)
        _report(reports, name, f"{changed} changes, {before} nodes > {len(graph)}", begin)
        if check_between:
            check(graph, name)

    begin = time.perf_counter()
    layout = choose_layout(graph, {graph.outputs[place] for _, place in state})
    _report(reports, "layout", f"{layout.copies} copies inserted", begin)

    begin = time.perf_counter()
    fusion = fuse(layout)
    operations = sum(1 for node in layout.graph.nodes if not node.is_leaf)
    _report(reports, "fuse", f"{operations} operations in {len(fusion.clusters)} clusters", begin)

    begin = time.perf_counter()
    lowered = lower(fusion)
    _report(reports, "lower", f"{len(lowered.tasks)} tasks over {len(lowered.buffers)} buffers", begin)

    begin = time.perf_counter()
    pairs = [(_memory_of(old, lowered), lowered.places[layout.graph.outputs[place]].buffer) for old, place in state]
    scheduled = schedule(lowered, pairs)
    _report(reports, "schedule", f"{len(scheduled.takes_over)} of {len(pairs)} cells updated in place", begin)
    return Plan(layout.graph.outputs, layout, lowered, scheduled, reports)


def _report(reports: list[PassReport], name: str, change: str, begin: float) -> None:
    reports.append(PassReport(name, change, time.perf_counter() - begin))


def _memory_of(old: Node, lowered: Lowered) -> Buffer:
    """The buffer of a cell's old value; a cell that is assigned without being read has one too."""
    if old not in lowered.places:
        strides = dense_strides(old.shape, natural(old.ndim))
        lowered.places[old] = Place(Buffer(old.dtype, old.size, old.label, old), 0, strides)
    return lowered.places[old].buffer


GRAPH_PASSES: list[tuple[str, Callable[[Graph], tuple[Graph, int]]]] = [
    ("simplify", simplify),
    ("precision", in_supported_dtypes),
]
