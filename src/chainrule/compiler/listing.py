"""The results of passes as text for people: graphs, clusters, loop nests, tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chainrule.compiler.fuse import Fusion
from chainrule.compiler.layout import Layout
from chainrule.compiler.nest import Access, Instruction, Nest
from chainrule.compiler.tasks import Buffer, HeavyTask, LoopTask, Place, Task
from chainrule.graph import Graph, Node
from chainrule.graph.show import text

_LOOPS = "ijklmnpq"


def graph(graph: Graph) -> str:
    """One line per node."""
    return text(graph)


def layout(layout: Layout) -> str:
    """One line per node; below these, one for each value whose axes are not in row-major order in memory."""
    nodes = [node for node in layout.graph.nodes if layout.orders.get(node, ()) != tuple(range(node.ndim))]
    orders = [f"{_value(layout.graph, node)}: axes lie as {layout.orders[node]}" for node in nodes if node in layout.orders]
    return "\n".join([text(layout.graph), *orders])


def clusters(fusion: Fusion) -> str:
    """One line per cluster: its space, the values that it computes, and the stored values that it reads."""
    graph = fusion.layout.graph
    lines = []
    for number, cluster in enumerate([*fusion.clusters, *fusion.observing]):
        roots = ", ".join(_value(graph, node) for node in cluster.roots)
        reads = ", ".join(_value(graph, node) for node in cluster.reads) or "nothing"
        if cluster.space is None:
            reads = ", ".join(_value(graph, node) for node in cluster.roots[0].inputs)
        space = "heavy" if cluster.space is None else f"loops over {_sizes(cluster.space)}"
        lines.append(f"cluster {number}, {space}: {roots} from {reads}")
    return "\n".join(lines)


def _value(graph: Graph, node: Node) -> str:
    name = node.label or node.operation.name
    return f"{graph.index[node]} {name}" if node in graph.index else name


def tasks(tasks: Sequence[Task], takes_over: Mapping[Buffer, Buffer] | None = None) -> str:
    """Each task with its buffers and loops; below these, which new values are written over which old ones."""
    names = Names()
    lines = []
    for number, listed in enumerate(tasks):
        at = f", at {listed.origin}" if listed.origin else ""
        lines.append(f"task {number}{at}")
        lines += [f"  {line}" for line in task(listed, names)]
    lines += [f"{names[new]} lies over {names[old]}" for new, old in (takes_over or {}).items()]
    return "\n".join(lines)


class Names(dict[Buffer, str]):
    """A name for each buffer: its label, with a number if an earlier buffer has the same label."""

    def __missing__(self, buffer: Buffer) -> str:
        taken = set(self.values())
        name = label = buffer.label or "unnamed"
        number = 1
        while name in taken:
            number += 1
            name = f"{label} {number}"
        self[buffer] = name
        return name


def task(task: Task, names: Names) -> list[str]:
    """One line for a heavy operation; for a nest, one for each loop, load, value, store and reduction."""
    if isinstance(task, HeavyTask):
        inputs = ", ".join(_place(place, names) for place in task.inputs)
        return [f"{_place(task.output, names)} = {task.node.operation.name}({inputs}){_attributes(task.node.attributes)}"]
    assert isinstance(task, LoopTask)
    return nest(task.nest, [names[buffer] for buffer in task.buffers])


def nest(nest: Nest, operands: Sequence[str] | None = None) -> list[str]:
    """The loops of a nest, outermost first, and what is done at each point. ``operands`` are the names of its operands."""
    called = operands or [f"operand {number}" for number in range(nest.operands)]
    lines = []
    for depth, size in enumerate(nest.sizes):
        units = f", {nest.units} units of {nest.rows}" if depth == 0 else ""
        lines.append(f"{'  ' * depth}for {_LOOPS[depth]} < {size:,}{units}")
    inner = "  " * len(nest.sizes)
    lines += [f"{inner}v{number} = {_instruction(instruction, called)}" for number, instruction in enumerate(nest.body)]
    lines += [f"{inner}{_access(store.access, called)} = v{store.value}" for store in nest.stores]
    lines += [
        f"{inner}{_access(reduction.access, called)} gathers the {reduction.kind} of v{reduction.value}"
        for reduction in nest.reductions
    ]
    return lines


def _instruction(instruction: Instruction, operands: Sequence[str]) -> str:
    if instruction.access is not None:
        return f"{_access(instruction.access, operands)}  ({instruction.dtype})"
    inputs = ", ".join(f"v{number}" for number in instruction.inputs)
    return f"{instruction.name}({inputs}){_attributes(dict(instruction.attributes))}  ({instruction.dtype})"


def _access(access: Access, operands: Sequence[str]) -> str:
    terms = [
        f"{stride} {_LOOPS[axis]}" if stride != 1 else _LOOPS[axis] for axis, stride in enumerate(access.strides) if stride
    ]
    terms += [f"{access.unit_stride} unit"] if access.unit_stride else []
    terms += [str(access.start)] if access.start or not terms else []
    return f"{operands[access.operand]}[{' + '.join(terms)}]"


def _place(place: Place, names: Names) -> str:
    start = f", from {place.start}" if place.start else ""
    return f"{names[place.buffer]}[strides {_sizes(place.strides)}{start}]"


def _attributes(attributes: Mapping[str, object]) -> str:
    return f" with {', '.join(f'{name}={value}' for name, value in attributes.items())}" if attributes else ""


def _sizes(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes)) or "one point"
