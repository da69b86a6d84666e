"""The parts of a drawing of a graph: boxes with texts, and arrows between boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from chainrule.graph.graph import Graph
from chainrule.graph.groups import Group
from chainrule.graph.names import clean, name_of, source_line
from chainrule.graph.node import BUFFER, CONSTANT, INPUT, PARAMETER, Node, Role

Notes = Callable[[Node], list[str]]
EdgeNotes = Callable[[Node, int], str]


@dataclass
class Box:
    """A rectangle of the drawing, with its texts and its size in pixels."""

    nodes: list[Node]
    look: str  # op, module, or the kind of a leaf: constant, parameter, buffer, input
    title: str
    aside: str  # after the title, in a paler colour
    under: list[str]  # below the title: the type, the operations
    notes: list[str]
    is_output: bool
    tooltip: list[str]
    width: float = 0.0
    height: float = 0.0

    @property
    def roles(self) -> list[Role]:
        """The roles of its operations, each once, in the order of the nodes; ``[Role.LEAF]`` for a box of leaves only."""
        roles = dict.fromkeys(node.operation.role for node in self.nodes)
        return [role for role in roles if role is not Role.LEAF] or [Role.LEAF]


def make_boxes(graph: Graph, groups: list[Group], notes: Notes | None) -> list[Box]:
    """One box per group, with its texts; sizes come later, from ``drawing.measure``.

    A layer that is called several times has its calls numbered (#1, #2). ``notes`` is asked about a node on its own, and about
    those nodes of a layer that something outside of the layer reads.
    """
    consumers = graph.consumers()
    calls = Counter(group.path for group in groups)
    drawn: Counter[str] = Counter()
    boxes = []
    for group in groups:
        if not group.path:
            boxes.append(_box_of_node(graph, group.nodes[0], notes))
            continue
        drawn[group.path] += 1
        call = f"#{drawn[group.path]}" if calls[group.path] > 1 else ""
        members = set(group.nodes)
        read_outside = [
            node for node in group.nodes if node in graph.outputs or any(user not in members for user in consumers[node])
        ]
        boxes.append(_box_of_module(graph, group, call, read_outside, notes))
    return boxes


def _box_of_node(graph: Graph, node: Node, notes: Notes | None) -> Box:
    kind, name = node.operation.name, name_of(node)
    is_leaf = node.operation in (CONSTANT, PARAMETER, BUFFER, INPUT)
    noted = [clean(line) for line in notes(node)] if notes else []
    return Box(
        nodes=[node],
        look=kind if is_leaf else "op",
        title=name if is_leaf and name else kind,
        aside=name if not is_leaf else kind if name else "",
        under=[str(node.type)],
        notes=noted,
        is_output=node in graph.outputs,
        tooltip=[_about(graph, node), *_place(node), *noted],
    )


def _box_of_module(graph: Graph, group: Group, call: str, read_outside: list[Node], notes: Notes | None) -> Box:
    operations = Counter(node.operation.name for node in group.nodes if not node.is_leaf)
    under = [", ".join(name if count == 1 else f"{name} ×{count}" for name, count in operations.items())]
    under += [f"→ {node.type}" for node in read_outside[:2]]
    owned = [node for node in group.nodes if node.operation in (PARAMETER, BUFFER)]
    under += [f"{clean(node.label).removeprefix(group.path + '.') or node.operation.name} {node.type}" for node in owned]
    noted = []
    for node in read_outside if notes else ():
        which = f"{node.operation.name}: " if len(read_outside) > 1 else ""
        noted += [which + clean(line) for line in notes(node)] if notes else []
    last = next(node for node in reversed(group.nodes) if not node.is_leaf)
    kind = clean(last.origin.kind) if last.origin.kind != group.path else ""
    return Box(
        nodes=group.nodes,
        look="module",
        title=clean(group.path),
        aside=f"{kind} {call}".strip(),
        under=under,
        notes=noted,
        is_output=any(node in graph.outputs for node in group.nodes),
        tooltip=[
            " ".join(filter(None, (clean(group.path), kind, call))),
            *(_about(graph, node) for node in group.nodes),
            *_place(last),
            *noted,
        ],
    )


def _about(graph: Graph, node: Node) -> str:
    name, takes = name_of(node), ", ".join(str(graph.index[input_node]) for input_node in node.inputs)
    operation = node.operation.name + (f" {name}" if name else "") + (f" of {takes}" if takes else "")
    return f"{graph.index[node]}: {operation}: {node.type}, {node.operation.role.value}"


def _place(node: Node) -> list[str]:
    place = " at ".join(part for part in (clean(node.origin.module), source_line(node)) if part)
    return [place] if place else []


@dataclass
class Arrow:
    """From the box of an input to the box of the node that reads it. ``notes`` describe the gradient that comes back."""

    source: int
    target: int
    takes: list[tuple[Node, int]]  # the nodes that read along this arrow, each with the position of that input
    notes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The notes in one line; empty if there are none."""
        return ", ".join(self.notes)


def make_arrows(groups: list[Group], edge_notes: EdgeNotes | None, merge: bool) -> list[Arrow]:
    """One arrow per input of each node; with ``merge``, one per pair of boxes."""
    box_of = {node: number for number, group in enumerate(groups) for node in group.nodes}
    arrows: dict[tuple[int, ...], Arrow] = {}
    for target, group in enumerate(groups):
        for member, node in enumerate(group.nodes):
            for position, input_node in enumerate(node.inputs):
                source = box_of[input_node]
                if source == target:
                    continue
                key = (source, target) if merge else (source, target, member, position)
                arrow = arrows.setdefault(key, Arrow(source, target, []))
                arrow.takes.append((node, position))
                note = clean(edge_notes(node, position)) if edge_notes else ""
                if note and note not in arrow.notes:
                    arrow.notes.append(note)
    return list(arrows.values())
