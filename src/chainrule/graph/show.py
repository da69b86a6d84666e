"""Shows a graph: as aligned lines of text, or as a drawing (SVG) that needs nothing but itself."""

from __future__ import annotations

import ntpath
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal
from xml.sax.saxutils import escape

from chainrule.errors import UserError, unknown_value
from chainrule.graph.graph import Graph
from chainrule.graph.layout import Direction, Edge, Layout, Point, arrange, room_for_ports
from chainrule.graph.node import BUFFER, CONSTANT, INPUT, PARAMETER, Node, Role

Detail = Literal["node", "module"]
Notes = Callable[[Node], list[str]]
EdgeNotes = Callable[[Node, int], str]

MOST_BOXES = 2000

# Text


def text(graph: Graph) -> str:
    """One line per node: index, name, primitive, type, inputs by index, module path, source line; columns aligned.

    A column that is empty on every line is left out.
    """
    rows = [
        (
            str(position),
            _name(node),
            node.operation.name,
            str(node.type),
            ", ".join(str(graph.index[one]) for one in node.inputs),
            _clean(node.origin.module),
            _source_line(node),
        )
        for position, node in enumerate(graph.nodes)
    ]
    if not rows:
        return ""
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    widths = [max(map(_columns, column)) for column in columns]
    lines = []
    for row in zip(*columns, strict=True):
        index, *rest = row
        cells = [index.rjust(widths[0])]
        cells += [cell + " " * (width - _columns(cell)) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _name(node: Node) -> str:
    """The node's label, or the number that it is."""
    if node.label:
        return _clean(node.label)
    if node.operation is CONSTANT and node.value is not None and node.size == 1:
        number = node.value.item()
        return str(number) if isinstance(number, bool | int) else f"{float(number):g}"
    return ""


def _source_line(node: Node) -> str:
    """``model.py:12``: never the folder, which belongs to the user's machine."""
    return f"{_clean(ntpath.basename(node.origin.file))}:{node.origin.line}" if node.origin.line else ""


def _clean(line: str) -> str:
    """One line of characters that XML allows: white space as spaces, control characters and surrogates replaced."""
    return "".join(
        " " if one.isspace() else "\ufffd" if unicodedata.category(one) in ("Cc", "Cs") or one in "\ufffe\uffff" else one
        for one in line
    )


def _columns(line: str) -> int:
    """How many characters wide a line is in a fixed-width font."""
    return len(line) + sum(unicodedata.east_asian_width(one) in "WF" for one in line)


def _shortened(line: str, most: int) -> str:
    if _columns(line) <= most:
        return line
    line = line[:most]
    while _columns(line) > most - 1:
        line = line[:-1]
    return line.rstrip() + "…"


# What is drawn: groups of nodes, their boxes, and arrows between these


def svg(
    graph: Graph,
    *,
    detail: Detail = "node",
    notes: Notes | None = None,
    edge_notes: EdgeNotes | None = None,
    direction: Direction = "right",
    title: str = "",
) -> str:
    """The graph as a drawing: an SVG document that needs no other file, for light and dark surroundings.

    - ``detail``: ``"node"`` draws each node; ``"module"`` draws each layer of the model as one box, with its
      operations and parameters named inside; a layer that is called several times gives several boxes.
    - ``notes(node)``: more lines for the node's box, such as ``value 11``. With ``detail="module"``, the nodes of a
      layer are only asked if something outside of it reads them.
    - ``edge_notes(node, position)``: what to write on the edge from that input into the node, such as the downstream
      gradient; drawn with an arrow that points backwards. Empty for nothing.
    - ``direction``: where the computation flows, ``"right"`` or ``"down"``.

    A drawing of more than 2,000 boxes is refused with a UserError. In the document, each box carries the indices of its
    nodes as ``data-nodes``, each edge those of its ends as ``data-from`` and ``data-to``.
    """
    if detail not in ("node", "module"):
        raise unknown_value("detail", detail, ("node", "module"))
    if direction not in ("right", "down"):
        raise unknown_value("direction", direction, ("right", "down"))
    groups = _modules(graph) if detail == "module" else [_Group("", [node]) for node in graph.nodes]
    if len(groups) > MOST_BOXES:
        remedy = "draw it with detail='module', or as text" if detail == "node" else "draw a part of it, or as text"
        raise UserError(f"this graph would be a drawing of {len(groups)} boxes; at most {MOST_BOXES} are drawn: {remedy}")
    boxes = _boxes(graph, groups, notes)
    arrows = _arrows(groups, edge_notes, merge=detail == "module")
    _measure(boxes, arrows, direction)
    edges = [Edge(arrow.source, arrow.target, _label_room(arrow.label, direction)) for arrow in arrows]
    layout = arrange([(box.width, box.height) for box in boxes], edges, direction)
    return _document(graph, boxes, arrows, layout, direction, _clean(title))


@dataclass
class _Group:
    """Nodes that share a box; ``path`` is that of their layer, empty for a node on its own."""

    path: str
    nodes: list[Node]


def _modules(graph: Graph) -> list[_Group]:
    """One group per call of a layer, with the leaves that only it reads; any other node on its own.

    A layer's nodes that are linked to each other share a group, unless a path leads out of it and back in: then what
    comes back starts a group of its own, so that the groups again form a graph without cycles.
    """
    runs = _linked_in_module(graph)
    parts: dict[Node, list[_Group]] = {}  # of each run
    group_of: dict[Node, _Group] = {}
    users: dict[int, list[_Group]] = {}  # of each group, by its id
    groups: list[_Group] = []
    for node in graph.nodes:
        if node.is_leaf:
            continue
        path = node.origin.module
        reads = [group_of[one] for one in node.inputs if one in group_of]
        mine = parts.setdefault(runs[node], [])
        if path and mine and not _leads_to(mine[-1], reads, users):
            group = mine[-1]
            group.nodes.append(node)
        else:
            group = _Group(path, [node])
            mine.append(group)
            groups.append(group)
        group_of[node] = group
        for read in reads:
            if read is not group:
                users.setdefault(id(read), []).append(group)
    for leaf, consumers in graph.consumers().items():
        if leaf.is_leaf:
            readers = {id(group_of[user]): group_of[user] for user in consumers}
            reader = next(iter(readers.values()), None)
            if reader and reader.path and len(readers) == 1 and leaf not in graph.outputs and _joins(leaf, reader):
                reader.nodes.append(leaf)
            else:
                groups.append(_Group("", [leaf]))
    for group in groups:
        group.nodes.sort(key=graph.index.__getitem__)
    return sorted(groups, key=lambda group: graph.index[group.nodes[0]])


def _linked_in_module(graph: Graph) -> dict[Node, Node]:
    """For each node that is not a leaf, one node that stands for all that are linked to it within its layer."""
    parent = {node: node for node in graph.nodes if not node.is_leaf}

    def find(node: Node) -> Node:
        while parent[node] is not node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for node in parent:
        for one in node.inputs:
            if one in parent and one.origin.module == node.origin.module:
                parent[find(one)] = find(node)
    return {node: find(node) for node in parent}


def _leads_to(group: _Group, reads: list[_Group], users: dict[int, list[_Group]]) -> bool:
    """Whether a path leads out of ``group`` and to one of ``reads``: whoever reads these cannot be in the group."""
    wanted = {id(read) for read in reads if read is not group}
    seen: set[int] = set()
    stack = list(users.get(id(group), ())) if wanted else []
    while stack:
        at = stack.pop()
        if id(at) in wanted:
            return True
        if id(at) not in seen:
            seen.add(id(at))
            stack += users.get(id(at), ())
    return False


def _joins(leaf: Node, reader: _Group) -> bool:
    """Whether a leaf is part of the layer that alone reads it; what comes from outside (an image, a target) is not."""
    if leaf.operation is CONSTANT:
        return not leaf.label and (leaf.size == 1 or leaf.origin.module == reader.path)
    return leaf.operation is not INPUT


@dataclass
class _Box:
    """A rectangle of the drawing, with what is written in it."""

    nodes: list[Node]
    look: str  # op, module, or the kind of a leaf: constant, parameter, buffer, input
    title: str
    aside: str  # after the title, less loud
    under: list[str]  # below the title: the type, the operations
    notes: list[str]
    is_output: bool
    tooltip: list[str]
    width: float = 0.0
    height: float = 0.0

    @property
    def roles(self) -> list[Role]:
        found = dict.fromkeys(node.operation.role for node in self.nodes)
        return [role for role in found if role is not Role.LEAF] or [Role.LEAF]


def _boxes(graph: Graph, groups: list[_Group], notes: Notes | None) -> list[_Box]:
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


def _box_of_node(graph: Graph, node: Node, notes: Notes | None) -> _Box:
    kind, name = node.operation.name, _name(node)
    is_leaf = node.operation in (CONSTANT, PARAMETER, BUFFER, INPUT)
    noted = [_clean(line) for line in notes(node)] if notes else []
    return _Box(
        nodes=[node],
        look=kind if is_leaf else "op",
        title=name if is_leaf and name else kind,
        aside=name if not is_leaf else kind if name else "",
        under=[str(node.type)],
        notes=noted,
        is_output=node in graph.outputs,
        tooltip=[_about(graph, node), *_place(node), *noted],
    )


def _box_of_module(graph: Graph, group: _Group, call: str, read_outside: list[Node], notes: Notes | None) -> _Box:
    operations = Counter(node.operation.name for node in group.nodes if not node.is_leaf)
    under = [", ".join(name if count == 1 else f"{name} ×{count}" for name, count in operations.items())]
    under += [f"→ {node.type}" for node in read_outside[:2]]
    owned = [node for node in group.nodes if node.operation in (PARAMETER, BUFFER)]
    under += [f"{_clean(node.label).removeprefix(group.path + '.') or node.operation.name} {node.type}" for node in owned]
    noted = []
    for node in read_outside if notes else ():
        which = f"{node.operation.name}: " if len(read_outside) > 1 else ""
        noted += [which + _clean(line) for line in notes(node)] if notes else []
    last = next(node for node in reversed(group.nodes) if not node.is_leaf)
    return _Box(
        nodes=group.nodes,
        look="module",
        title=_clean(group.path),
        aside=call,
        under=under,
        notes=noted,
        is_output=any(node in graph.outputs for node in group.nodes),
        tooltip=[
            f"{_clean(group.path)} {call}".strip(),
            *(_about(graph, node) for node in group.nodes),
            *_place(last),
            *noted,
        ],
    )


def _about(graph: Graph, node: Node) -> str:
    name, takes = _name(node), ", ".join(str(graph.index[one]) for one in node.inputs)
    what = node.operation.name + (f" {name}" if name else "") + (f" of {takes}" if takes else "")
    return f"{graph.index[node]}: {what}: {node.type}, {node.operation.role.value}"


def _place(node: Node) -> list[str]:
    place = " at ".join(one for one in (_clean(node.origin.module), _source_line(node)) if one)
    return [place] if place else []


@dataclass
class _Arrow:
    """From the box of an input into the box of its user; ``notes`` are about the gradient that comes back along it."""

    source: int
    target: int
    takes: list[tuple[Node, int]]  # the nodes, and which of their inputs
    notes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        return ", ".join(self.notes)


def _arrows(groups: list[_Group], edge_notes: EdgeNotes | None, merge: bool) -> list[_Arrow]:
    """One arrow per input of each node; with ``merge``, one per pair of boxes."""
    box_of = {node: number for number, group in enumerate(groups) for node in group.nodes}
    arrows: dict[tuple[int, ...], _Arrow] = {}
    for target, group in enumerate(groups):
        for member, node in enumerate(group.nodes):
            for position, one in enumerate(node.inputs):
                source = box_of[one]
                if source == target:
                    continue
                key = (source, target) if merge else (source, target, member, position)
                arrow = arrows.setdefault(key, _Arrow(source, target, []))
                arrow.takes.append((node, position))
                note = _clean(edge_notes(node, position)) if edge_notes else ""
                if note and note not in arrow.notes:
                    arrow.notes.append(note)
    return list(arrows.values())


# How large it is

TITLE, SMALL, NOTE = 13.0, 11.0, 12.0  # font sizes
LEADING = 1.36
WIDE = 0.61  # of the font size: a little more than one character of the widest usual fixed-width font
PADDING_ACROSS, PADDING_DOWN = 13.0, 9.0
RULE = 9.0  # height of the line between the notes and what is above them
MOST_COLUMNS = 40
MOST_LABEL_COLUMNS = 26
LABEL_BESIDE, LABEL_ALONG = 24.0, 30.0


def _measure(boxes: list[_Box], arrows: list[_Arrow], direction: Direction) -> None:
    """Give each box the size of its text, and sides long enough for the edges that enter."""
    entering: dict[int, list[tuple[float, float]]] = {}
    for arrow in arrows:
        entering.setdefault(arrow.target, []).append(_label_room(arrow.label, direction))
    for number, box in enumerate(boxes):
        box.title = _shortened(box.title, MOST_COLUMNS - 8)
        box.aside = _shortened(box.aside, max(8, MOST_COLUMNS - 1 - _columns(box.title)))
        box.under = [_shortened(line, MOST_COLUMNS) for line in box.under]
        box.notes = [_shortened(line, MOST_COLUMNS) for line in box.notes]
        title = f"{box.title} {box.aside}".strip()
        lines = [(title, TITLE), *((line, SMALL) for line in box.under), *((line, NOTE) for line in box.notes)]
        box.width = 2 * PADDING_ACROSS + max(_columns(line) * size * WIDE for line, size in lines)
        box.height = 2 * PADDING_DOWN + sum(size * LEADING for _, size in lines) + (RULE if box.notes else 0.0)
        room = room_for_ports(entering.get(number, []), direction)
        if direction == "right":
            box.height = max(box.height, room)
        else:
            box.width = max(box.width, room)


def _label_room(label: str, direction: Direction) -> tuple[float, float]:
    if not label:
        return 0.0, 0.0
    width = _columns(_shortened(label, MOST_LABEL_COLUMNS)) * NOTE * WIDE
    return (max(width, LABEL_ALONG) + 14, LABEL_BESIDE) if direction == "right" else (width + 16, LABEL_ALONG)


# The document

MARGIN = 20.0
_PALETTES = {  # light, dark; the roles after Okabe and Ito, whose colours colour-blind people tell apart
    "paper": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "dim": ("#59636e", "#9da7b1"),
    "line": ("#6e7781", "#8b949e"),
    "gradient": ("#c2410c", "#ff9a62"),
}
_ROLE_COLOURS = {  # edge and fill, light and dark
    Role.DISTRIBUTOR: (("#0072b2", "#dcecf8"), ("#4ba3dc", "#0e2a40")),
    Role.SWITCHER: (("#d98e00", "#fdf0d3"), ("#e69f00", "#3a2a08")),
    Role.ROUTER: (("#009e73", "#d9f3ea"), ("#2dbb92", "#0b3328")),
    Role.MOVER: (("#56b4e9", "#f0f9fe"), ("#8fd0f5", "#1a2833")),
    Role.SCALER: (("#b8578f", "#f9e6f0"), ("#d98ab8", "#3a1d2e")),
    Role.BLOCKER: (("#1f2328", "#d8dce0"), ("#e6edf3", "#3a4048")),
    Role.LEAF: (("#8c959f", "#f6f8fa"), ("#7d8590", "#161b22")),
}
_FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"


def _style() -> str:
    """Plain rules for light, and the same again for dark: some viewers know neither variables nor media queries."""
    fixed = (
        f".chainrule text{{font:{NOTE:g}px {_FONT};white-space:pre}}"
        f".chainrule .title{{font-size:{TITLE:g}px;font-weight:600}}.chainrule .small{{font-size:{SMALL:g}px}}"
        ".chainrule .box>rect,.chainrule .key>rect{stroke-width:1.5}.chainrule .output>rect{stroke-width:3}"
        ".chainrule .blocker>rect{stroke-dasharray:5 3}.chainrule .constant>rect{stroke-dasharray:2 3}"
        ".chainrule .buffer>rect{stroke-dasharray:7 3}.chainrule .band{stroke:none}"
        ".chainrule .edge path{fill:none;stroke-width:1.5}.chainrule .edge .back{stroke-width:1.2}"
    )
    light, dark = (_colours(dark) for dark in (False, True))
    return f"{fixed}{light}@media (prefers-color-scheme:dark){{{dark}}}"


def _colours(dark: bool) -> str:
    paper, ink, dim, line, gradient = (_PALETTES[name][dark] for name in ("paper", "ink", "dim", "line", "gradient"))
    rules = (
        f".chainrule .paper{{fill:{paper}}}.chainrule text{{fill:{ink}}}.chainrule .dim{{fill:{dim}}}"
        f".chainrule .edge path{{stroke:{line}}}.chainrule .edge polygon{{fill:{line}}}"
        f".chainrule .edge .back{{stroke:{gradient}}}.chainrule .edge .tip{{fill:{gradient}}}"
        f".chainrule .gradient{{fill:{gradient}}}"
        f".chainrule .module>rect{{fill:{_ROLE_COLOURS[Role.LEAF][dark][1]};stroke:{dim}}}"
        f".chainrule .rule{{stroke:{line};stroke-opacity:.5}}"
    )
    for role, colours in _ROLE_COLOURS.items():
        edge, fill = colours[dark]
        rules += f".chainrule .{role.value}>rect{{stroke:{edge};fill:{fill}}}.chainrule .band.{role.value}{{fill:{edge}}}"
    return f"{rules}.chainrule .parameter>rect{{stroke:{ink}}}.chainrule .input>rect{{fill:{paper}}}"


def _document(graph: Graph, boxes: list[_Box], arrows: list[_Arrow], layout: Layout, direction: Direction, title: str) -> str:
    above = MARGIN + (TITLE * LEADING + 12 if title else 0.0)
    title_line = _shortened(title, max(60, int(layout.width / (TITLE * WIDE))))
    used = {role for box in boxes for role in box.roles}
    legend, legend_width, legend_height = _legend(
        [role for role in Role if role in used], any(arrow.label for arrow in arrows), max(layout.width, 520.0)
    )
    width = max(layout.width, legend_width, _columns(title_line) * TITLE * WIDE) + 2 * MARGIN
    below = above + layout.height + 16
    height = below + legend_height + MARGIN

    parts = _opening(graph, width, height, direction, title)
    if title:
        parts.append(_line(title_line, width / 2, MARGIN + TITLE, "title"))
    parts.append(f'<g transform="translate({_number((width - layout.width) / 2)} {_number(above)})">')
    parts += [_draw_arrow(graph, one, route, direction) for one, route in zip(arrows, layout.routes, strict=True)]
    parts += [_draw_box(graph, box, corner) for box, corner in zip(boxes, layout.corners, strict=True)]
    parts.append(f'</g><g transform="translate({_number((width - legend_width) / 2)} {_number(below)})">')
    return "\n".join([*parts, *legend, "</g></svg>", ""])


def _opening(graph: Graph, width: float, height: float, direction: Direction, title: str) -> list[str]:
    counts = Counter(node.operation.name for node in graph.nodes)
    nodes = ", ".join(f"{count} {name}" for name, count in counts.most_common(8)) or "no nodes"
    return [
        '<svg xmlns="http://www.w3.org/2000/svg" class="chainrule" role="img" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {_number(width)} {_number(height)}">',
        f"<title>{escape(title or 'computation graph')}</title>",
        f"<desc>{escape(f'A computation graph that flows {direction}: {nodes}')}</desc>",
        f"<style>{_style()}</style>",
        '<rect class="paper" width="100%" height="100%" rx="6"/>',
    ]


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _line(content: str, x: float, y: float, look: str = "", anchor: str = "middle") -> str:
    look = f' class="{look}"' if look else ""
    return f'<text x="{_number(x)}" y="{_number(y)}" text-anchor="{anchor}"{look}>{escape(content)}</text>'


def _draw_box(graph: Graph, box: _Box, corner: Point) -> str:
    x, y = corner
    roles, is_pill = box.roles, box.look not in ("op", "module")
    look = "module" if box.look == "module" else f"{roles[0].value} {box.look}"
    indices = " ".join(str(graph.index[node]) for node in box.nodes)
    size = f'x="{_number(x)}" y="{_number(y)}" width="{_number(box.width)}" height="{_number(box.height)}"'
    radius = min(box.height / 2, 20.0) if is_pill else 5.0
    parts = [
        f'<g class="box {look}{" output" if box.is_output else ""}" data-nodes="{indices}">',
        f"<title>{escape(_tooltip(box.tooltip))}</title>",
        f'<rect {size} rx="{_number(radius)}"/>',
    ]
    if box.look == "module":  # the roles of its operations, side by side
        each = (box.width - 10) / len(roles)
        for place, role in enumerate(roles):
            band = f"M{_number(x + 5 + place * each)} {_number(y + 4)}h{_number(each)}v4h-{_number(each)}z"
            parts.append(f'<path class="band {role.value}" d="{band}"/>')
    parts += [*_written(box, x, y), "</g>"]
    return "".join(parts)


def _tooltip(lines: Sequence[str]) -> str:
    return "\n".join(lines if len(lines) <= 30 else [*lines[:30], f"and {len(lines) - 30} more lines"])


def _written(box: _Box, x: float, y: float) -> Iterator[str]:
    lines = TITLE * LEADING + len(box.under) * SMALL * LEADING + len(box.notes) * NOTE * LEADING
    top = y + (box.height - lines - (RULE if box.notes else 0.0)) / 2
    middle = x + box.width / 2
    aside = f'<tspan class="dim" font-weight="400"> {escape(box.aside)}</tspan>' if box.aside else ""
    top += TITLE * LEADING
    yield (
        f'<text x="{_number(middle)}" y="{_number(top - 4)}" text-anchor="middle" class="title">'
        f"{escape(box.title)}{aside}</text>"
    )
    for line in box.under:
        top += SMALL * LEADING
        yield _line(line, middle, top - 3.5, "small dim")
    if box.notes:
        yield f'<path class="rule" d="M{_number(x + 6)} {_number(top + RULE / 2)}H{_number(x + box.width - 6)}"/>'
        top += RULE
    for line in box.notes:
        top += NOTE * LEADING
        yield _line(line, x + PADDING_ACROSS, top - 4, anchor="start")


def _draw_arrow(graph: Graph, arrow: _Arrow, route: list[Point], direction: Direction) -> str:
    x, y = route[-1]
    right = direction == "right"
    came_from = " ".join(dict.fromkeys(str(graph.index[node.inputs[position]]) for node, position in arrow.takes))
    goes_to = " ".join(dict.fromkeys(str(graph.index[node]) for node, _ in arrow.takes))
    parts = [
        f'<g class="edge" data-from="{came_from}" data-to="{goes_to}">',
        f"<title>{escape(f'{came_from} → {goes_to}' + (chr(10) + arrow.label if arrow.label else ''))}</title>",
        f'<path d="{_curve(route, right)}"/>',
        _tip(x, y, -8.0, right),
    ]
    if arrow.label:
        label = _shortened(arrow.label, MOST_LABEL_COLUMNS)
        length = max(_columns(label) * NOTE * WIDE, LABEL_ALONG) if right else LABEL_ALONG - 6
        if right:
            parts.append(f'<path class="back" d="M{_number(x - 6)} {_number(y + 7)}h-{_number(length)}"/>')
            parts.append(_tip(x - 6 - length, y + 7, 7.0, right, "tip"))
            parts.append(_line(label, x - 6 - length / 2, y + 20, "gradient"))
        else:
            parts.append(f'<path class="back" d="M{_number(x + 7)} {_number(y - 5)}v-{_number(length)}"/>')
            parts.append(_tip(x + 7, y - 5 - length, 7.0, right, "tip"))
            parts.append(_line(label, x + 13, y - 5 - length / 2 + 4, "gradient", "start"))
    return "".join([*parts, "</g>"])


def _curve(route: list[Point], right: bool) -> str:
    """Straight where two points agree in one coordinate, else a bend that starts and ends along the flow."""
    drawn = f"M{_number(route[0][0])} {_number(route[0][1])}"
    for (x0, y0), (x1, y1) in pairwise(route):
        end = f"{_number(x1)} {_number(y1)}"
        if abs(x1 - x0) < 0.05 or abs(y1 - y0) < 0.05:
            drawn += f"L{end}"
        elif right:
            middle = _number((x0 + x1) / 2)
            drawn += f"C{middle} {_number(y0)} {middle} {_number(y1)} {end}"
        else:
            middle = _number((y0 + y1) / 2)
            drawn += f"C{_number(x0)} {middle} {_number(x1)} {middle} {end}"
    return drawn


def _tip(x: float, y: float, length: float, right: bool, look: str = "") -> str:
    """An arrowhead with its point at (x, y); a negative length points along the flow, a positive one against it."""
    half = abs(length) * 0.45
    corners = [(x, y)]
    corners += [(x + length, y - half), (x + length, y + half)] if right else [(x - half, y + length), (x + half, y + length)]
    look = f' class="{look}"' if look else ""
    return f'<polygon{look} points="{" ".join(f"{_number(a)},{_number(b)}" for a, b in corners)}"/>'


def _legend(roles: list[Role], gradients: bool, most_width: float) -> tuple[list[str], float, float]:
    """What the colours mean, in rows of at most ``most_width``: the parts, and their width and height."""
    parts: list[str] = []
    x, y, widest = 0.0, 0.0, 0.0
    for role in [*roles, None] if gradients else roles:
        name = role.value if role else "downstream gradient"
        width = 20 + _columns(name) * SMALL * WIDE
        if x and x + width > most_width:
            x, y = 0.0, y + 20
        if role:
            swatch = f'<rect x="{_number(x)}" y="{_number(y + 3)}" width="14" height="12" rx="3"/>'
            parts.append(f'<g class="key {role.value}">{swatch}</g>')
        else:
            line = f'<path class="back" d="M{_number(x + 14)} {_number(y + 9)}h-12"/>'
            parts.append(f'<g class="edge">{line}{_tip(x, y + 9, 7.0, True, "tip")}</g>')
        parts.append(_line(name, x + 20, y + 13, "small dim", "start"))
        widest = max(widest, x + width)
        x += width + 18
    return parts, widest, y + 20 if parts else 0.0
