"""Shows a graph: as aligned lines of text, or as a drawing, an SVG document that needs no other file."""

from __future__ import annotations

from typing import Literal

from chainrule.errors import UserError, unknown_value
from chainrule.graph.arrangement import Direction, Edge, arrange
from chainrule.graph.boxes import EdgeNotes, Notes, make_arrows, make_boxes
from chainrule.graph.drawing import document, label_room, measure
from chainrule.graph.graph import Graph
from chainrule.graph.groups import Group, module_groups
from chainrule.graph.names import clean, display_width, name_of, source_line
from chainrule.graph.strips import in_strips

Detail = Literal["node", "module"]

MOST_BOXES = 2000


def text(graph: Graph) -> str:
    """One line per node: index, name, primitive, type, inputs by index, module path, source line; columns aligned.

    A column that is empty on every line is left out.
    """
    rows = [
        (
            str(position),
            name_of(node),
            node.operation.name,
            str(node.type),
            ", ".join(str(graph.index[input_node]) for input_node in node.inputs),
            clean(node.origin.module),
            source_line(node),
        )
        for position, node in enumerate(graph.nodes)
    ]
    if not rows:
        return ""
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    widths = [max(map(display_width, column)) for column in columns]
    lines = []
    for row in zip(*columns, strict=True):
        index, *rest = row
        cells = [index.rjust(widths[0])]
        cells += [cell + " " * (width - display_width(cell)) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def svg(
    graph: Graph,
    *,
    detail: Detail = "node",
    notes: Notes | None = None,
    edge_notes: EdgeNotes | None = None,
    direction: Direction = "right",
    most_width: float | None = None,
    title: str = "",
) -> str:
    """The graph as a drawing: an SVG document that needs no other file, for light and dark surroundings.

    - ``detail``: ``"node"`` draws each node; ``"module"`` draws each layer of the model as one box, with its
      operations and parameters named inside; a layer that is called several times gives several boxes.
    - ``notes(node)``: more lines for the node's box, such as ``value 11``. With ``detail="module"``, it is called only for
      those nodes of a layer that something outside of the layer reads.
    - ``edge_notes(node, position)``: the label of the edge from that input to the node, such as the downstream gradient,
      drawn with an arrow that points backwards; an empty string for none.
    - ``direction``: where the computation flows, ``"right"`` or ``"down"``.
    - ``most_width``: a drawing that flows to the right and is wider than so many pixels is cut into strips, one below the
      other; an edge that leaves a strip at the right goes on at the left of the next one, at the same height.

    A drawing of more than 2,000 boxes is refused with a UserError. In the document, each box carries the indices of its
    nodes as ``data-nodes``, each edge the indices of the nodes at its ends as ``data-from`` and ``data-to``.
    """
    if detail not in ("node", "module"):
        raise unknown_value("detail", detail, ("node", "module"))
    if direction not in ("right", "down"):
        raise unknown_value("direction", direction, ("right", "down"))
    groups = module_groups(graph) if detail == "module" else [Group("", [node]) for node in graph.nodes]
    if len(groups) > MOST_BOXES:
        remedy = "draw it with detail='module', or as text" if detail == "node" else "draw a part of it, or as text"
        raise UserError(f"this graph would be a drawing of {len(groups)} boxes; at most {MOST_BOXES} are drawn: {remedy}")
    boxes = make_boxes(graph, groups, notes)
    arrows = make_arrows(groups, edge_notes, merge=detail == "module")
    measure(boxes, arrows, direction)
    edges = [Edge(arrow.source, arrow.target, label_room(arrow.label, direction)) for arrow in arrows]
    sizes = [(box.width, box.height) for box in boxes]
    layout = arrange(sizes, edges, direction)
    parts = [[route] for route in layout.routes]
    if most_width is not None and direction == "right":
        layout, parts = in_strips(layout, sizes, most_width)
    return document(graph, boxes, arrows, layout, parts, direction, clean(title))
