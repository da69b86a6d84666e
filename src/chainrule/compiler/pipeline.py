"""The compiler, top to bottom: a list of passes from a graph to tasks over buffers.

    simplify > precision > layout > fuse > lower > schedule        then, with kernels at hand: stages > memory (cpu.program)

``check_between`` holds the graph against its rules after every pass that gives one; tests switch it on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chainrule.compiler.fuse import Fusion, fuse
from chainrule.compiler.layout import Layout, choose_layout
from chainrule.compiler.lower import Buffer, Lowered, Place, lower
from chainrule.compiler.precision import in_supported_dtypes
from chainrule.compiler.schedule import Schedule, schedule
from chainrule.compiler.simplify import simplify
from chainrule.compiler.values import dense_strides, natural
from chainrule.graph import Graph, Node, check

check_between = False


@dataclass(frozen=True)
class PassReport:
    """What one pass did: its name, what it changed in words, and how long it took."""

    name: str
    change: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}: {self.change}"


@dataclass
class Plan:
    """What the passes made: everything that the native side needs."""

    outputs: tuple[Node, ...]
    layout: Layout
    lowered: Lowered
    schedule: Schedule
    reports: list[PassReport] = field(default_factory=list)


def plan(graph: Graph, state: Sequence[tuple[Node, int]]) -> Plan:
    """The plan of ``graph``. ``state`` names cells that are assigned: the leaf of the old value, and which output is the new."""
    reports: list[PassReport] = []

    def run(name: str, of: Callable[[], object], change: Callable[[object], str]) -> object:
        begin = time.perf_counter()
        found = of()
        reports.append(PassReport(name, change(found), time.perf_counter() - begin))
        return found

    for name, graph_pass in GRAPH_PASSES:
        before = len(graph)
        begin = time.perf_counter()
        graph, changed = graph_pass(graph)
        reports.append(PassReport(name, f"{changed} changes, {before} nodes > {len(graph)}", time.perf_counter() - begin))
        if check_between:
            check(graph, name)
    outputs = graph.outputs
    naturally = {outputs[place] for _, place in state}
    layout = run("layout", lambda: choose_layout(graph, naturally), lambda one: f"{one.copies} copies inserted")  # type: ignore[attr-defined]
    assert isinstance(layout, Layout)
    fusion = run("fuse", lambda: fuse(layout), lambda one: f"{_computed(layout)} operations in {len(one.clusters)} clusters")  # type: ignore[attr-defined]
    assert isinstance(fusion, Fusion)
    lowered = run("lower", lambda: lower(fusion), lambda one: f"{len(one.tasks)} tasks over {len(one.buffers)} buffers")  # type: ignore[attr-defined]
    assert isinstance(lowered, Lowered)
    for old, _ in state:  # a cell that is assigned without being read has memory too
        if old not in lowered.places:
            strides = dense_strides(old.shape, natural(old.ndim))
            lowered.places[old] = Place(Buffer(old.dtype, old.size, old.label, old), 0, strides)
    pairs = [(lowered.places[old].buffer, lowered.places[layout.graph.outputs[place]].buffer) for old, place in state]
    scheduled = run(
        "schedule",
        lambda: schedule(lowered, pairs),
        lambda one: f"{len(one.takes_over)} of {len(pairs)} cells updated in place",
    )  # type: ignore[attr-defined]
    assert isinstance(scheduled, Schedule)
    return Plan(layout.graph.outputs, layout, lowered, scheduled, reports)


GRAPH_PASSES: list[tuple[str, Callable[[Graph], tuple[Graph, int]]]] = [
    ("simplify", simplify),
    ("precision", in_supported_dtypes),
]


def _computed(layout: Layout) -> int:
    return sum(1 for node in layout.graph.nodes if not node.is_leaf)
