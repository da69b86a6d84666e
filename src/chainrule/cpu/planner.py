"""Makes the recipe of a graph: runs the compiler's passes, then the passes over stages and memory.

The last two are here and not in ``compiler``, as they need to know the kernels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from chainrule.compiler import listing
from chainrule.compiler.arena import Arena, Span, plan_memory
from chainrule.compiler.pipeline import PASSES, Compilation, Pass, compiled
from chainrule.compiler.tasks import Buffer
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.observing import with_observations
from chainrule.cpu.recipe import CallRow, InputRow, OutputRow, Recipe, Region, leaves_in_order, names_of
from chainrule.cpu.stages import PlannedStage, Staging
from chainrule.graph import Graph, Node
from chainrule.graph.dtypes import int64, name_of
from chainrule.graph.node import Role


@dataclass(kw_only=True)
class Planning(Compilation):
    """The state of all passes: that of the compiler's, extended by what the passes over stages and memory need and leave.

    Attributes:
        target: the processor to compile for.
        lent_memory: whether outputs lie in memory that the caller lends (see ``Program``).
        status: the buffer in which kernels report an index that is out of range.
        stages: the kernels, by stage; left by the pass "stages".
        lost: the buffers of observed values that cannot be computed; left by the pass "stages".
        spans: the stages between which each buffer of the arena is needed; left by the pass "memory".
        arena: where each of these buffers lies; left by the pass "memory".
    """

    target: Target
    lent_memory: bool
    status: Buffer = field(default_factory=lambda: Buffer(int64, 4, "status"))
    stages: list[PlannedStage] = field(init=False)
    lost: set[Buffer] = field(default_factory=set)
    spans: dict[Buffer, Span] = field(init=False)
    arena: Arena = field(init=False)

    @property
    def leaves(self) -> dict[Node, Buffer]:
        """The buffer of each leaf, constants among them."""
        places = self.lowered.places
        return {node: place.buffer for node, place in places.items() if node.is_leaf and node.operation.role is Role.LEAF}

    @property
    def ends(self) -> list[Buffer]:
        """The buffer that holds each output, and each observed value, when the program has run: a cell's own where an output
        is its new value."""
        takes_over = self.schedule.takes_over
        buffers = [self.lowered.places[one].buffer for one in self.graph.ends]
        return [takes_over.get(one, one) for one in buffers]


def _stages(planning: Planning) -> str:
    """Pass: divide the tasks into stages; returns a summary for people."""
    staging = Staging(planning.target, planning.schedule.takes_over, planning.status)
    stages = staging.staged(planning.schedule.tasks)
    if planning.lowered.observing:
        stages, planning.lost = with_observations(staging, planning.lowered.observing, set(planning.leaves.values()))
    planning.lost |= {planning.lowered.buffers[node] for node in planning.fusion.lost}
    planning.stages = [stage for stage in stages if stage.units]
    return f"{sum(len(stage.calls) for stage in planning.stages)} kernels in {len(planning.stages)} stages"


def _memory(planning: Planning) -> str:
    """Pass: give every buffer that is not provided from outside a place in the arena; returns a summary for people."""
    outside = {planning.status, *planning.leaves.values()}
    if planning.lent_memory:
        assigned = {number for _, number in planning.state}
        places = [planning.lowered.places[node].buffer for node in planning.outputs]
        outside |= {buffer for number, buffer in enumerate(places) if number not in assigned}
    planning.spans = _needed(planning.stages, planning.ends, outside)
    planning.arena = plan_memory(planning.spans)
    nbytes = sum(buffer.nbytes for buffer in planning.spans)
    return f"{len(planning.spans)} buffers of {nbytes:,} bytes in {planning.arena.nbytes:,}"


def _shown_stages(planning: Planning) -> str:
    names = listing.Names()
    lines = []
    for number, stage in enumerate(planning.stages):
        lines.append(f"stage {number}: {stage.units} units")
        for call in stage.calls:
            operands = ", ".join(f"{names[buffer]}{f' + {offset}' if offset else ''}" for buffer, offset in call.operands)
            lines.append(f"  {call.make().named(planning.target).name} of {operands}, at {call.origin}")
    return "\n".join(lines)


def _shown_memory(planning: Planning) -> str:
    names = listing.Names()
    offsets = planning.arena.offsets
    rows = sorted(planning.spans.items(), key=lambda row: (row[1].first, offsets[row[0]]))
    return "\n".join(
        f"bytes {offsets[buffer]:,} to {offsets[buffer] + buffer.nbytes:,}, stages {span.first} to {span.last}: {names[buffer]}"
        for buffer, span in rows
    )


ALL_PASSES: list[Pass] = [
    *PASSES,
    Pass("stages", _stages, _shown_stages),
    Pass("memory", _memory, _shown_memory),
]
"""All passes in order, from a graph to stages of kernels and places in memory."""


def make_recipe(
    graph: Graph, state: Sequence[tuple[Node, int]], target: Target, lent_memory: bool, shown: Collection[str] = ()
) -> Recipe:
    """Run all passes over ``graph`` and return its recipe.

    Args:
        graph: the graph to compile.
        state: for each assigned cell, the leaf of its old value and the number of the output that is the new value.
        target: the processor to compile for.
        lent_memory: whether outputs lie in memory that the caller lends (see ``Program``).
        shown: names of passes whose results are printed to standard error.
    """
    made = Planning(graph=graph, state=state, target=target, lent_memory=lent_memory)
    compiled(made, ALL_PASSES, shown)
    leaves, ends, spans, arena, status = made.leaves, made.ends, made.spans, made.arena, made.status
    outputs = [made.lowered.places[one] for one in made.graph.ends]
    numbers: dict[Buffer, int] = {}

    def number(buffer: Buffer) -> int:
        return numbers.setdefault(buffer, len(numbers))

    rows = [
        tuple(
            CallRow(
                call.make().named(target),
                tuple((number(buffer), offset) for buffer, offset in call.operands),
                call.origin,
                call.detail,
            )
            for call in stage.calls
        )
        for stage in made.stages
    ]
    used = set(numbers)
    given = leaves_in_order(graph, state)
    input_names, output_names = names_of(given, made.graph.ends, state)
    index = set(given)
    recipe = Recipe(
        [],
        rows,
        [
            InputRow(name, name_of(node.dtype), node.shape, number(leaves[node]) if leaves.get(node) in used else -1)
            for name, node in zip(input_names, given, strict=True)
        ],
        [
            OutputRow(
                name, name_of(node.dtype), node.shape, -1 if end in made.lost else number(end), place.start, place.strides
            )
            for name, node, end, place in zip(output_names, made.graph.ends, ends, outputs, strict=True)
        ],
        {
            number(buffer): node.value
            for node, buffer in leaves.items()
            if node not in index and node.value is not None and buffer in used
        },
        number(status),
        arena.nbytes,
        made.reports,
    )
    recipe.regions = [_region(buffer, spans, arena.offsets) for buffer in numbers]
    return recipe


def _region(buffer: Buffer, spans: Mapping[Buffer, Span], offsets: Mapping[Buffer, int]) -> Region:
    if buffer not in spans:
        return Region(buffer.label, name_of(buffer.dtype), buffer.nbytes)
    span = spans[buffer]
    return Region(buffer.label, name_of(buffer.dtype), buffer.nbytes, offsets[buffer], span.first, span.last)


def _needed(stages: Sequence[PlannedStage], ends: Sequence[Buffer], outside: set[Buffer]) -> dict[Buffer, Span]:
    """Return the first and last stage that use each buffer of the arena.

    ``ends`` (outputs) are needed until after the last stage; buffers ``outside`` of the arena are left out.
    """
    spans: dict[Buffer, Span] = {}
    for number, stage in enumerate(stages):
        for buffer, _ in (operand for call in stage.calls for operand in call.operands):
            if buffer not in outside:
                first = spans[buffer].first if buffer in spans else number
                spans[buffer] = Span(first, number)
    for buffer in ends:
        if buffer not in outside:
            spans[buffer] = Span(spans[buffer].first if buffer in spans else 0, len(stages))
    return spans
