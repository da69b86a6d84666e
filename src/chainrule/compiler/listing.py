"""What passes leave, as text for people: graphs, clusters, loop nests, tasks."""

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
    """One line per node; below, the values whose axes do not lie in their own order."""
    nodes = [node for node in layout.graph.nodes if layout.orders.get(node, ()) != tuple(range(node.ndim))]
    orders = [f"{_value(layout.graph, node)}: axes lie as {layout.orders[node]}" for node in nodes if node in layout.orders]
    return "\n".join([text(layout.graph), *orders])


def clusters(fusion: Fusion) -> str:
    """One line per cluster: what it stores, over which space, from which stored values."""
    graph = fusion.layout.graph
    lines = []
    for number, one in enumerate(fusion.clusters):
        roots = ", ".join(_value(graph, node) for node in one.roots)
        reads = ", ".join(_value(graph, node) for node in one.reads) or "nothing"
        if one.space is None:
            reads = ", ".join(_value(graph, node) for node in one.roots[0].inputs)
        space = "heavy" if one.space is None else f"loops over {_sizes(one.space)}"
        lines.append(f"cluster {number}, {space}: {roots} from {reads}")
    return "\n".join(lines)


def _value(graph: Graph, node: Node) -> str:
    name = node.label or node.operation.name
    return f"{graph.index[node]} {name}" if node in graph.index else name


def tasks(tasks: Sequence[Task], takes_over: Mapping[Buffer, Buffer] | None = None) -> str:
    """Each task with its buffers and its loops; below, which new values lie over which old ones."""
    names = Names()
    lines = []
    for number, one in enumerate(tasks):
        at = f", at {one.origin}" if one.origin else ""
        lines.append(f"task {number}{at}")
        lines += [f"  {line}" for line in task(one, names)]
    lines += [f"{names[new]} lies over {names[old]}" for new, old in (takes_over or {}).items()]
    return "\n".join(lines)


class Names(dict[Buffer, str]):
    """A name for each buffer: its label, and a number where several have that."""

    def __missing__(self, buffer: Buffer) -> str:
        taken = set(self.values())
        name = label = buffer.label or "unnamed"
        number = 1
        while name in taken:
            number += 1
            name = f"{label} {number}"
        self[buffer] = name
        return name


def task(one: Task, names: Names) -> list[str]:
    """A heavy operation in one line; a nest in one for each loop, load, value and store."""
    if isinstance(one, HeavyTask):
        inputs = ", ".join(_place(place, names) for place in one.inputs)
        return [f"{_place(one.output, names)} = {one.node.operation.name}({inputs}){_attributes(one.node.attributes)}"]
    assert isinstance(one, LoopTask)
    return nest(one.nest, [names[buffer] for buffer in one.buffers])


def nest(nest: Nest, operands: Sequence[str] | None = None) -> list[str]:
    """The loops of a nest, outermost first, and what is done at each point. ``operands``: their names."""
    called = operands or [f"operand {number}" for number in range(nest.operands)]
    lines = []
    for depth, size in enumerate(nest.sizes):
        units = f", {nest.units} units of {nest.rows}" if depth == 0 else ""
        lines.append(f"{'  ' * depth}for {_LOOPS[depth]} < {size:,}{units}")
    inner = "  " * len(nest.sizes)
    lines += [f"{inner}v{number} = {_instruction(one, called)}" for number, one in enumerate(nest.body)]
    lines += [f"{inner}{_access(one.access, called)} = v{one.value}" for one in nest.stores]
    lines += [f"{inner}{_access(one.access, called)} gathers the {one.kind} of v{one.value}" for one in nest.reductions]
    return lines


def _instruction(one: Instruction, operands: Sequence[str]) -> str:
    if one.access is not None:
        return f"{_access(one.access, operands)}  ({one.dtype})"
    inputs = ", ".join(f"v{number}" for number in one.inputs)
    return f"{one.name}({inputs}){_attributes(dict(one.attributes))}  ({one.dtype})"


def _access(one: Access, operands: Sequence[str]) -> str:
    terms = [f"{stride} {_LOOPS[axis]}" if stride != 1 else _LOOPS[axis] for axis, stride in enumerate(one.strides) if stride]
    terms += [f"{one.unit_stride} unit"] if one.unit_stride else []
    terms += [str(one.start)] if one.start or not terms else []
    return f"{operands[one.operand]}[{' + '.join(terms)}]"


def _place(place: Place, names: Names) -> str:
    start = f", from {place.start}" if place.start else ""
    return f"{names[place.buffer]}[strides {_sizes(place.strides)}{start}]"


def _attributes(attributes: Mapping[str, object]) -> str:
    return f" with {', '.join(f'{name}={value}' for name, value in attributes.items())}" if attributes else ""


def _sizes(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes)) or "one point"
