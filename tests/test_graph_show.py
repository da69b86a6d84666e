"""Text and drawings of graphs: everything is shown, nothing overlaps, and nothing of the user's machine leaks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.errors import InternalError, UserError
from chainrule.graph.arrangement import Edge, Layout, arrange, room_for_ports
from chainrule.graph.graph import Graph
from chainrule.graph.node import BUFFER, CONSTANT, INPUT, PARAMETER, Node, Role, TensorType, leaf
from chainrule.graph.origin import Origin, originating_from
from chainrule.graph.show import svg, text

FLOAT = np.dtype(np.float32)
SVG = "{http://www.w3.org/2000/svg}"
HAIR = 0.11  # coordinates are written with one decimal


@dataclass(frozen=True)
class Operation:
    """A stand-in for a primitive."""

    name: str
    role: Role = Role.DISTRIBUTOR

    @property
    def shape(self) -> Callable[..., TensorType]:
        return lambda *types, **_: types[0]


MATMUL, ADD, RELU = Operation("matmul", Role.SWITCHER), Operation("add"), Operation("relu", Role.ROUTER)
SQUARE, FLATTEN = Operation("square", Role.SCALER), Operation("reshape", Role.MOVER)


def apply(operation: Operation, *inputs: Node, module: str = "", label: str = "", line: int = 7) -> Node:
    origin = Origin(module, "/home/someone/secret/model.py", line)
    return Node(operation, inputs, TensorType((2,), FLOAT), {}, label=label, origin=origin)


def given_leaf(kind: object, label: str = "", shape: tuple[int, ...] = (2,)) -> Node:
    with originating_from(Origin("", "C:\\Users\\someone\\main.py", 3)):
        return leaf(TensorType(shape, FLOAT), kind, label=label)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Box:
    nodes: tuple[int, ...]
    x: float
    y: float
    width: float
    height: float
    look: str
    words: str
    tooltip: str

    def overlaps(self, other: Box) -> bool:
        return (
            self.x + self.width > other.x + HAIR
            and other.x + other.width > self.x + HAIR
            and self.y + self.height > other.y + HAIR
            and other.y + other.height > self.y + HAIR
        )


@dataclass(frozen=True)
class Arrow:
    starts: tuple[float, float]
    ends: tuple[float, float]
    come_from: tuple[int, ...]
    go_to: tuple[int, ...]
    words: str


@dataclass(frozen=True)
class Drawing:
    boxes: list[Box]
    arrows: list[Arrow]
    words: str

    def box_of(self, node: int) -> Box:
        return next(box for box in self.boxes if node in box.nodes)


def drawing(document: str) -> Drawing:
    """What the document shows, read back from its XML."""
    root = ElementTree.fromstring(document)
    boxes, arrows = [], []
    for group in root.iter(f"{SVG}g"):
        words = " ".join("".join(one.itertext()) for one in group.iter(f"{SVG}text"))
        if "data-nodes" in group.attrib:
            rect, tooltip = group.find(f"{SVG}rect"), group.find(f"{SVG}title")
            assert rect is not None
            assert tooltip is not None
            assert tooltip.text is not None
            x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
            boxes.append(
                Box(indices(group.attrib["data-nodes"]), x, y, width, height, group.attrib["class"], words, tooltip.text)
            )
        elif "data-from" in group.attrib:
            path = group.find(f"{SVG}path")
            assert path is not None
            numbers = [float(one) for one in re.findall(r"-?[\d.]+", path.attrib["d"])]
            come_from, go_to = indices(group.attrib["data-from"]), indices(group.attrib["data-to"])
            arrows.append(Arrow((numbers[0], numbers[1]), (numbers[-2], numbers[-1]), come_from, go_to, words))
    return Drawing(boxes, arrows, " ".join("".join(one.itertext()) for one in root.iter(f"{SVG}text")))


def indices(listed: str) -> tuple[int, ...]:
    return tuple(int(one) for one in listed.split())


def is_acyclic(shown: Drawing) -> bool:
    waits_for: dict[Box, set[Box]] = {box: set() for box in shown.boxes}
    for arrow in shown.arrows:
        waits_for[shown.box_of(arrow.go_to[0])].add(shown.box_of(arrow.come_from[0]))
    while waits_for:
        ready = [box for box, others in waits_for.items() if not others]
        if not ready:
            return False
        waits_for = {box: others - set(ready) for box, others in waits_for.items() if others}
    return True


def lecture() -> Graph:
    w, x, y = given_leaf(PARAMETER, "w"), given_leaf(INPUT, "x"), given_leaf(INPUT, "y")
    h = apply(MATMUL, w, x, label="h1", module="fc")
    return Graph(apply(SQUARE, apply(Operation("subtract"), h, y, line=123), label="e"))


def perceptron() -> Graph:
    h = given_leaf(INPUT, "x")
    y = given_leaf(INPUT, "y")
    for number in range(2):
        path = f"layers.{2 * number}"
        product = apply(MATMUL, h, given_leaf(PARAMETER, f"{path}.weight", (3, 2)), module=path)
        h = apply(ADD, product, given_leaf(PARAMETER, f"{path}.bias"), module=path)
        if number == 0:
            h = apply(RELU, h, module="layers.1")
    return Graph(apply(MATMUL, apply(SQUARE, h, module="loss"), y, module="loss", label="e"))


# Text


def test_text_has_a_line_per_node_in_aligned_columns() -> None:
    assert text(lecture()) == (
        "0  w   parameter  float32[2]            main.py:3\n"
        "1  x   input      float32[2]            main.py:3\n"
        "2  h1  matmul     float32[2]  0, 1  fc  model.py:7\n"
        "3  y   input      float32[2]            main.py:3\n"
        "4      subtract   float32[2]  2, 3      model.py:123\n"
        "5  e   square     float32[2]  4         model.py:7"
    )


def test_text_names_a_constant_by_its_number_and_leaves_out_empty_columns() -> None:
    with originating_from(Origin("", "", 0)):
        half = leaf(np.array(0.5, FLOAT))
    assert text(Graph(half)) == "0  0.5  constant  float32[]"
    assert text(Graph()) == ""


def test_text_keeps_a_line_per_node_whatever_is_in_a_label() -> None:
    odd = given_leaf(INPUT, "a\nb\tc\x00")
    assert text(Graph(odd)) == "0  a b c\ufffd  input  float32[2]  main.py:3"
    wide = Graph(apply(ADD, given_leaf(INPUT, "图"), given_leaf(INPUT, "ab")))
    columns = [line.index("input") + line.count("图") for line in text(wide).splitlines()[:2]]
    assert columns[0] == columns[1]


# Drawings of any graph

operations = st.sampled_from([MATMUL, ADD, RELU, SQUARE, FLATTEN, Operation("greater", Role.BLOCKER)])
leaves = st.sampled_from([INPUT, PARAMETER, CONSTANT, BUFFER])
labels = st.one_of(st.just(""), st.text(max_size=30))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    nodes: list[Node] = []
    for _ in range(draw(st.integers(1, 40))):
        back = draw(st.lists(st.integers(1, min(len(nodes), 12)), max_size=3)) if nodes else []
        if back:
            module = draw(st.sampled_from(["", "", "a", "b", "a.b"]))
            inputs = [nodes[-one] for one in back]
            nodes.append(apply(draw(operations), *inputs, module=module, label=draw(labels)))
        else:
            nodes.append(given_leaf(draw(leaves), draw(labels)))
    consumed = {one for node in nodes for one in node.inputs}
    return Graph(*(node for node in nodes if node not in consumed))


@settings(max_examples=60, deadline=None)
@given(
    graph=graphs(),
    detail=st.sampled_from(["node", "module"]),
    direction=st.sampled_from(["right", "down"]),
    note=st.sampled_from(["", "12", "[1.5, -2, 3] and so on, and on"]),
)
def test_every_drawing_shows_all_and_overlaps_nothing(graph: Graph, detail: str, direction: str, note: str) -> None:
    document = svg(
        graph,
        detail=detail,  # type: ignore[arg-type]
        direction=direction,  # type: ignore[arg-type]
        notes=lambda node: [note] * (len(node.inputs) % 3),
        edge_notes=lambda node, position: note if position else "",
        title=note,
    )
    shown = drawing(document)
    assert sorted(node for box in shown.boxes for node in box.nodes) == list(range(len(graph)))
    assert not any(one.overlaps(other) for one, other in combinations(shown.boxes, 2))
    assert is_acyclic(shown)
    wanted = sorted((graph.index[one], graph.index[node]) for node in graph for one in node.inputs)
    between = [pair for pair in wanted if shown.box_of(pair[0]) != shown.box_of(pair[1])]
    if detail == "node":
        assert sorted((arrow.come_from[0], arrow.go_to[0]) for arrow in shown.arrows) == wanted
    else:
        drawn = {(arrow.come_from, arrow.go_to) for arrow in shown.arrows}
        assert len(drawn) == len(shown.arrows)
        assert all(any(a in come and b in go for come, go in drawn) for a, b in between)
    for arrow in shown.arrows:
        assert_ends_at_its_boxes(shown, arrow, direction)
    assert "someone" not in document


def assert_ends_at_its_boxes(shown: Drawing, arrow: Arrow, direction: str) -> None:
    source, target = shown.box_of(arrow.come_from[0]), shown.box_of(arrow.go_to[0])
    if direction == "right":
        assert arrow.starts == pytest.approx((source.x + source.width, source.y + source.height / 2), abs=HAIR)
        assert arrow.ends[0] == pytest.approx(target.x, abs=HAIR)
        assert target.y <= arrow.ends[1] <= target.y + target.height
    else:
        assert arrow.starts == pytest.approx((source.x + source.width / 2, source.y + source.height), abs=HAIR)
        assert arrow.ends[1] == pytest.approx(target.y, abs=HAIR)
        assert target.x <= arrow.ends[0] <= target.x + target.width


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    count=st.integers(1, 30),
    direction=st.sampled_from(["right", "down"]),
)
def test_no_edge_runs_through_a_box_or_a_label(data: st.DataObject, count: int, direction: str) -> None:
    label_sizes = st.sampled_from([(0.0, 0.0), (40.0, 24.0), (120.0, 30.0)])
    edges = []
    for target in range(1, count):
        for source in data.draw(st.lists(st.integers(max(0, target - 10), target - 1), max_size=3)):
            edges.append(Edge(source, target, data.draw(label_sizes)))
    sizes = []
    for box in range(count):
        room = room_for_ports([edge.label for edge in edges if edge.target == box], direction)  # type: ignore[arg-type]
        width, height = data.draw(st.sampled_from([(20.0, 20.0), (160.0, 50.0), (60.0, 120.0)]))
        sizes.append((width, max(height, room)) if direction == "right" else (max(width, room), height))
    layout = arrange(sizes, edges, direction)  # type: ignore[arg-type]
    taken = [
        Box((box,), *corner, *size, "", "", "") for box, (corner, size) in enumerate(zip(layout.corners, sizes, strict=True))
    ]
    taken += [label_box(layout, number, edge, direction) for number, edge in enumerate(edges) if edge.label[0]]
    assert not any(one.overlaps(other) for one, other in combinations(taken, 2))
    for edge, route in zip(edges, layout.routes, strict=True):
        for box in taken:
            if box.nodes and box.nodes[0] in (edge.source, edge.target):
                continue
            for a, b in pairwise(route):
                low, high = (min(a[0], b[0]), min(a[1], b[1])), (max(a[0], b[0]), max(a[1], b[1]))
                stretch = Box((), *low, high[0] - low[0], high[1] - low[1], "", "", "")
                assert not stretch.overlaps(box)
    assert all(0 <= x <= layout.width and 0 <= y <= layout.height for route in layout.routes for x, y in route)


def label_box(layout: Layout, number: int, edge: Edge, direction: str) -> Box:
    (x, y), (width, height) = layout.routes[number][-1], edge.label
    return (
        Box((), x - width, y, width, height, "", "", "")
        if direction == "right"
        else Box((), x, y - height, width, height, "", "", "")
    )


# Particular drawings


def test_the_lecture_flows_from_left_to_right_with_gradients_written_beneath() -> None:
    graph = lecture()
    w, x, h, y, difference, e = graph.nodes
    notes = {h: ["value 11", "upstream 12"], e: ["value 36"]}
    gradients = {(h, 0): "[36, 48]", (difference, 1): "-12"}
    shown = drawing(svg(graph, notes=lambda n: notes.get(n, []), edge_notes=lambda n, i: gradients.get((n, i), ""), title="e"))
    assert "value 11" in shown.box_of(2).words
    assert [arrow.words for arrow in shown.arrows if arrow.words] == ["[36, 48]", "-12"]
    assert "downstream gradient" in shown.words
    across = [shown.box_of(graph.index[node]).x for node in (w, h, difference, e)]
    assert across == sorted(across)
    # A leaf stands right before its user, not in the first layer.
    assert shown.box_of(graph.index[x]).x < shown.box_of(graph.index[h]).x <= shown.box_of(graph.index[y]).x + 60


def test_the_legend_names_only_the_roles_that_occur() -> None:
    words = drawing(svg(Graph(apply(RELU, given_leaf(INPUT, "x"))))).words
    assert "router" in words
    assert "leaf" in words
    assert "switcher" not in words
    assert "downstream" not in words


def test_kinds_of_leaves_look_different() -> None:
    graph = Graph(*(given_leaf(kind) for kind in (CONSTANT, PARAMETER, BUFFER, INPUT)))
    assert [box.look for box in drawing(svg(graph)).boxes] == [
        f"box leaf {kind} output" for kind in ("constant", "parameter", "buffer", "input")
    ]


def test_a_single_leaf_and_no_node_at_all_can_be_drawn() -> None:
    assert len(drawing(svg(Graph(given_leaf(INPUT, "x")))).boxes) == 1
    assert drawing(svg(Graph(), title="nothing", detail="module")).boxes == []


def test_labels_and_notes_are_escaped() -> None:
    nasty = "</text><script>\"&'\x00\ud800]]>"
    node = apply(ADD, given_leaf(INPUT, nasty), label=nasty, module=nasty)
    for detail in ("node", "module"):
        document = svg(
            Graph(node),
            detail=detail,
            notes=lambda _: [nasty],
            edge_notes=lambda *_: nasty,
            title=nasty,  # type: ignore[arg-type]
        )
        assert "<script" not in document
        assert drawing(document).words.count("</text><script>\"&'\ufffd\ufffd]]>") >= 3
        document.encode()


def test_what_is_too_long_is_shortened_and_whole_in_the_tooltip() -> None:
    long = "value " + "0.123456789 " * 20
    graph = Graph(apply(ADD, given_leaf(INPUT, "x")))
    document = svg(graph, notes=lambda _: [long])
    box = drawing(document).box_of(1)
    assert "…" in box.words
    assert long in box.tooltip
    assert box.width < 400


def test_the_tooltip_names_layer_and_source_line_without_the_folder() -> None:
    assert "fc at model.py:7" in drawing(svg(lecture())).box_of(2).tooltip


def test_a_residual_block_goes_straight_down_with_the_skip_beside_it() -> None:
    x = given_leaf(INPUT, "x")
    stem = apply(SQUARE, x)
    first = apply(RELU, stem)
    second = apply(SQUARE, first)
    graph = Graph(apply(ADD, second, stem))
    shown = drawing(svg(graph, direction="down"))
    centres = [shown.box_of(graph.index[node]).x + shown.box_of(graph.index[node]).width / 2 for node in graph]
    assert centres == pytest.approx([centres[0]] * 5, abs=2 * HAIR)
    assert len(shown.arrows) == 5


def test_a_value_taken_twice_has_two_edges() -> None:
    shown = drawing(svg(Graph(apply(MATMUL, *[given_leaf(INPUT, "x")] * 2))))
    assert len({arrow.ends for arrow in shown.arrows}) == 2


def test_l8_a_perceptron_is_drawn_as_in_a_textbook() -> None:
    shown = drawing(svg(perceptron(), detail="module"))
    titles = {box.words.split()[0]: box for box in shown.boxes}
    assert set(titles) == {"x", "layers.0", "layers.1", "layers.2", "loss", "y"}
    assert "matmul, add" in titles["layers.0"].words
    assert "weight float32[3, 2]" in titles["layers.0"].words
    assert len(shown.arrows) == 5
    middles = [titles[name].y + titles[name].height / 2 for name in ("x", "layers.0", "layers.1", "layers.2", "loss")]
    assert middles == pytest.approx([middles[0]] * 5, abs=2 * HAIR)


def test_a_layer_called_twice_gives_two_boxes_and_no_cycle() -> None:
    weight = given_leaf(PARAMETER, "fc.weight")
    h = given_leaf(INPUT, "x")
    for _ in range(2):
        h = apply(RELU, apply(MATMUL, h, weight, module="fc"), module="act")
    shown = drawing(svg(Graph(h), detail="module"))
    assert [box.words.split(" ")[:2] for box in shown.boxes if "module" in box.look] == [
        ["fc", "#1"], ["act", "#1"], ["fc", "#2"], ["act", "#2"]
    ]  # fmt: skip
    assert any(box.words.startswith("fc.weight parameter") for box in shown.boxes)  # shared, so on its own
    assert is_acyclic(shown)


def test_a_layer_that_a_path_leaves_and_comes_back_to_is_split() -> None:
    x = given_leaf(INPUT, "x")
    inner = apply(SQUARE, x, module="block")
    outside = apply(RELU, inner, module="act")
    graph = Graph(apply(ADD, inner, outside, module="block"))
    shown = drawing(svg(graph, detail="module"))
    assert len(shown.boxes) == 4
    assert is_acyclic(shown)


def test_a_shared_parameter_or_an_input_stays_outside_of_the_layers() -> None:
    shown = drawing(svg(perceptron(), detail="module"))
    assert [box.look for box in shown.boxes if "leaf" in box.look] == ["box leaf input"] * 2


def test_the_same_graph_gives_the_same_drawing() -> None:
    assert svg(perceptron()) == svg(perceptron())


def test_three_hundred_nodes_take_well_under_two_seconds() -> None:
    h = given_leaf(INPUT, "x")
    early = []
    for number in range(140):
        h = apply(RELU if number % 2 else MATMUL, h, *([] if number % 2 else [given_leaf(PARAMETER, "w")]))
        early.append(h)
    for number in range(45):
        h = apply(ADD, h, early[-3 * number - 1])
    graph = Graph(apply(ADD, h, *(given_leaf(CONSTANT) for _ in range(43))))
    assert len(graph) == 300
    start = time.perf_counter()
    document = svg(graph)
    assert time.perf_counter() - start < 2
    assert len(drawing(document).boxes) == 300


def test_a_deep_chain_of_one_layer_collapses_without_recursion() -> None:
    h = given_leaf(INPUT, "x")
    for _ in range(5000):
        h = apply(ADD, h, module="deep")
    shown = drawing(svg(Graph(h), detail="module"))
    assert len(shown.boxes) == 2
    assert "add ×5000" in shown.boxes[1].words


# Refusals


def test_unknown_words_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"unknown detail 'modul': did you mean 'module'\?"):
        svg(lecture(), detail="modul")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"unknown direction 'up'.*Known: down, right"):
        svg(lecture(), direction="up")  # type: ignore[arg-type]


def test_a_drawing_too_large_for_anybody_is_refused() -> None:
    h = given_leaf(INPUT, "x")
    for _ in range(2000):
        h = apply(ADD, h)
    with pytest.raises(UserError, match=r"2001 boxes; at most 2000 are drawn: draw it with detail='module', or as text"):
        svg(Graph(h))


def test_a_cycle_is_our_bug() -> None:
    with pytest.raises(InternalError, match="2 boxes wait for each other"):
        arrange([(10, 10)] * 3, [Edge(0, 1), Edge(1, 2), Edge(2, 1)])
