"""Draws boxes and arrows that have been laid out as an SVG document: sizes, colours, shapes, the legend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from xml.sax.saxutils import escape

from chainrule.graph.arrangement import Direction, Layout, Point, room_for_ports
from chainrule.graph.boxes import Arrow, Box
from chainrule.graph.graph import Graph
from chainrule.graph.names import display_width, shortened
from chainrule.graph.node import Role

TITLE, SMALL, NOTE = 13.0, 11.0, 12.0  # font sizes
LEADING = 1.36
WIDE = 0.61  # width of a character by font size, a little more than in the widest usual fixed-width font
PADDING_ACROSS, PADDING_DOWN = 13.0, 9.0
RULE = 9.0  # height of the line that separates the notes from the text above them
MOST_COLUMNS = 40
MOST_LABEL_COLUMNS = 26
LABEL_BESIDE, LABEL_ALONG = 24.0, 30.0


def measure(boxes: list[Box], arrows: list[Arrow], direction: Direction) -> None:
    """Give each box the size of its text, and sides long enough for the edges that enter."""
    entering: dict[int, list[tuple[float, float]]] = {}
    for arrow in arrows:
        entering.setdefault(arrow.target, []).append(label_room(arrow.label, direction))
    for number, box in enumerate(boxes):
        box.title = shortened(box.title, MOST_COLUMNS - 8)
        box.aside = shortened(box.aside, max(8, MOST_COLUMNS - 1 - display_width(box.title)))
        box.under = [shortened(line, MOST_COLUMNS) for line in box.under]
        box.notes = [shortened(line, MOST_COLUMNS) for line in box.notes]
        title = f"{box.title} {box.aside}".strip()
        lines = [(title, TITLE), *((line, SMALL) for line in box.under), *((line, NOTE) for line in box.notes)]
        box.width = 2 * PADDING_ACROSS + max(display_width(line) * size * WIDE for line, size in lines)
        box.height = 2 * PADDING_DOWN + sum(size * LEADING for _, size in lines) + (RULE if box.notes else 0.0)
        room = room_for_ports(entering.get(number, []), direction)
        if direction == "right":
            box.height = max(box.height, room)
        else:
            box.width = max(box.width, room)


def label_room(label: str, direction: Direction) -> tuple[float, float]:
    """Width and height, in pixels, to keep free for an arrow's label; (0, 0) without one."""
    if not label:
        return 0.0, 0.0
    width = display_width(shortened(label, MOST_LABEL_COLUMNS)) * NOTE * WIDE
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
    Role.NORMALISER: (("#d55e00", "#fbe4d5"), ("#f0803c", "#3a1c08")),
    Role.BLOCKER: (("#1f2328", "#d8dce0"), ("#e6edf3", "#3a4048")),
    Role.CUSTOM: (("#6639ba", "#ece4fb"), ("#a98bf0", "#251a40")),
    Role.LEAF: (("#8c959f", "#f6f8fa"), ("#7d8590", "#161b22")),
}
_FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"


def _style() -> str:
    """The style sheet: plain rules for light surroundings, then the same for dark, in a media query.

    The plain rules come first and use no variables because some viewers support neither variables nor media queries.
    """
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


def document(
    graph: Graph,
    boxes: list[Box],
    arrows: list[Arrow],
    layout: Layout,
    parts_of_routes: Sequence[Sequence[list[Point]]],
    direction: Direction,
    title: str,
) -> str:
    """The SVG document: the title, boxes and arrows where ``layout`` puts them, and a legend of the roles that occur.

    ``parts_of_routes`` has the route of each arrow, in several parts where it goes on in another strip.
    """
    above = MARGIN + (TITLE * LEADING + 12 if title else 0.0)
    title_line = shortened(title, max(60, int(layout.width / (TITLE * WIDE))))
    used = {role for box in boxes for role in box.roles}
    legend, legend_width, legend_height = _legend(
        [role for role in Role if role in used], any(arrow.label for arrow in arrows), max(layout.width, 520.0)
    )
    width = max(layout.width, legend_width, display_width(title_line) * TITLE * WIDE) + 2 * MARGIN
    below = above + layout.height + 16
    height = below + legend_height + MARGIN

    parts = _opening(graph, width, height, direction, title)
    if title:
        parts.append(_line(title_line, width / 2, MARGIN + TITLE, "title"))
    parts.append(f'<g transform="translate({_number((width - layout.width) / 2)} {_number(above)})">')
    parts += [_draw_arrow(graph, arrow, route, direction) for arrow, route in zip(arrows, parts_of_routes, strict=True)]
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


def _draw_box(graph: Graph, box: Box, corner: Point) -> str:
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


def _written(box: Box, x: float, y: float) -> Iterator[str]:
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


def _draw_arrow(graph: Graph, arrow: Arrow, route: Sequence[list[Point]], direction: Direction) -> str:
    x, y = route[-1][-1]
    right = direction == "right"
    came_from = " ".join(dict.fromkeys(str(graph.index[node.inputs[position]]) for node, position in arrow.takes))
    goes_to = " ".join(dict.fromkeys(str(graph.index[node]) for node, _ in arrow.takes))
    parts = [
        f'<g class="edge" data-from="{came_from}" data-to="{goes_to}">',
        f"<title>{escape(f'{came_from} → {goes_to}' + (chr(10) + arrow.label if arrow.label else ''))}</title>",
        f'<path d="{"".join(_curve(part, right) for part in route)}"/>',
        _tip(x, y, -8.0, right),
    ]
    if arrow.label:
        label = shortened(arrow.label, MOST_LABEL_COLUMNS)
        length = max(display_width(label) * NOTE * WIDE, LABEL_ALONG) if right else LABEL_ALONG - 6
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
    """The SVG path of ``route``: straight between points that share a coordinate, else bends with both ends along the flow."""
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
    """The legend of the colours, in rows of at most ``most_width``: its SVG elements, its width and its height."""
    parts: list[str] = []
    x, y, widest = 0.0, 0.0, 0.0
    for role in [*roles, None] if gradients else roles:
        name = role.value if role else "downstream gradient"
        width = 20 + display_width(name) * SMALL * WIDE
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
