"""From a graph to its recipe: the passes of the compiler, then stages and memory, which need to know the kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chainrule.compiler.lower import Buffer
from chainrule.compiler.memory import Span, plan_memory
from chainrule.compiler.pipeline import plan
from chainrule.cpu.recipe import CallRow, InputRow, OutputRow, Recipe, Region, leaves_in_order, names_of
from chainrule.cpu.stages import PlannedStage, Staging
from chainrule.cpu.target import Target
from chainrule.graph import Graph, Node
from chainrule.graph.dtypes import int64
from chainrule.graph.node import Role


def make_recipe(graph: Graph, state: Sequence[tuple[Node, int]], target: Target, lent_memory: bool) -> Recipe:
    made = plan(graph, state)
    takes_over, places = made.schedule.takes_over, made.lowered.places
    status = Buffer(int64, 4, "status")
    stages = [one for one in Staging(target, takes_over, status).staged(made.schedule.tasks) if one.units]
    leaves = {node: place.buffer for node, place in places.items() if node.is_leaf and node.operation.role is Role.LEAF}
    outputs = [places[one] for one in made.outputs]
    outside = {status, *leaves.values()}
    if lent_memory:
        assigned = {number for _, number in state}
        outside |= {place.buffer for number, place in enumerate(outputs) if number not in assigned}
    ends = [takes_over.get(place.buffer, place.buffer) for place in outputs]
    spans = _needed(stages, ends, outside)
    arena = plan_memory(spans)
    numbers: dict[Buffer, int] = {}

    def number(buffer: Buffer) -> int:
        return numbers.setdefault(buffer, len(numbers))

    rows = [
        tuple(
            CallRow(call.make(), tuple((number(buffer), offset) for buffer, offset in call.operands), call.origin)
            for call in stage.calls
        )
        for stage in stages
    ]
    used = set(numbers)
    given = leaves_in_order(graph, state)
    input_names, output_names = names_of(given, graph.outputs, state)
    index = set(given)
    recipe = Recipe(
        [],
        rows,
        [
            InputRow(name, node.dtype.name, node.shape, number(leaves[node]) if leaves.get(node) in used else -1)
            for name, node in zip(input_names, given, strict=True)
        ],
        [
            OutputRow(name, node.dtype.name, node.shape, number(end), place.start, place.strides)
            for name, node, end, place in zip(output_names, graph.outputs, ends, outputs, strict=True)
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
        return Region(buffer.label, buffer.dtype.name, buffer.nbytes)
    span = spans[buffer]
    return Region(buffer.label, buffer.dtype.name, buffer.nbytes, offsets[buffer], span.first, span.last)


def _needed(stages: Sequence[PlannedStage], ends: Sequence[Buffer], outside: set[Buffer]) -> dict[Buffer, Span]:
    """From which stage to which each buffer of the arena is needed; outputs to the end."""
    spans: dict[Buffer, Span] = {}
    for number, stage in enumerate(stages):
        for buffer in stage.buffers - outside:
            first = spans[buffer].first if buffer in spans else number
            spans[buffer] = Span(first, number)
    for buffer in ends:
        if buffer not in outside:
            spans[buffer] = Span(spans[buffer].first if buffer in spans else 0, len(stages))
    return spans
